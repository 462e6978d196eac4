//! The cryptography of DTLS handshakes: ring where a handshake spends its time (key exchange, signing, verifying), so that
//! a worker that forwards media is held up as shortly as can be; RustCrypto, as dimpl brings it, for the rest.

use dimpl::crypto::{
    ActiveKeyExchange, Buf, CryptoProvider, HashAlgorithm, KeyProvider, NamedGroup, SignatureAlgorithm,
    SignatureVerifier, SigningKey, SupportedKxGroup, rust_crypto,
};
use dimpl::{CryptoError, CryptoOperation};
use ring::agreement::{Algorithm, ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::CertificateDer;
use webpki::{EndEntityCert, ring::ECDSA_P256_SHA256};

/// dimpl's provider with ring's key exchange and signatures.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: &[&Group { name: NamedGroup::X25519 }, &Group { name: NamedGroup::Secp256r1 }],
        signature_verification: &Verifier,
        key_provider: &Keys,
        ..rust_crypto::default_provider()
    }
}

/// An elliptic-curve group for key exchange (RFC 8422, RFC 7748).
#[derive(Debug)]
struct Group {
    name: NamedGroup,
}

impl Group {
    fn algorithm(&self) -> &'static Algorithm {
        match self.name {
            NamedGroup::X25519 => &X25519,
            _ => &ECDH_P256,
        }
    }
}

impl SupportedKxGroup for Group {
    fn name(&self) -> NamedGroup {
        self.name
    }

    fn start_exchange(&self, mut public: Buf) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let failed = |operation| move |_| CryptoError::OperationFailed(operation);
        let secret = EphemeralPrivateKey::generate(self.algorithm(), &SystemRandom::new())
            .map_err(failed(CryptoOperation::GenerateEphemeralKey))?;
        let own = secret.compute_public_key().map_err(failed(CryptoOperation::ComputePublicKey))?;
        public.clear();
        public.extend_from_slice(own.as_ref());
        Ok(Box::new(Exchange { group: self.name, algorithm: self.algorithm(), secret, public }))
    }
}

/// One handshake's key exchange.
struct Exchange {
    group: NamedGroup,
    algorithm: &'static Algorithm,
    secret: EphemeralPrivateKey,
    public: Buf,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exchange({:?}, secret)", self.group)
    }
}

impl ActiveKeyExchange for Exchange {
    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    /// ring refuses points off the curve and shared secrets of zeros (RFC 7748 §6.1).
    fn complete(self: Box<Self>, peer: &[u8], out: &mut Buf) -> Result<(), CryptoError> {
        agree_ephemeral(self.secret, &UnparsedPublicKey::new(self.algorithm, peer), |shared| {
            out.clear();
            out.extend_from_slice(shared);
        })
        .map_err(|_| CryptoError::InvalidPublicKey(self.group))
    }

    fn group(&self) -> NamedGroup {
        self.group
    }
}

/// Reads our own key, which is P-256 in PKCS#8.
#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random);
        Ok(Box::new(Key(key.map_err(|_| CryptoError::InvalidPrivateKey)?)))
    }
}

struct Key(EcdsaKeyPair);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(P-256, secret)")
    }
}

impl SigningKey for Key {
    fn sign(&mut self, data: &[u8], hash: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        if hash != HashAlgorithm::SHA256 {
            return Err(CryptoError::SigningKeyUnsupportedHash { group: NamedGroup::Secp256r1, hash });
        }
        let signature = self.0.sign(&SystemRandom::new(), data);
        let signature = signature.map_err(|_| CryptoError::OperationFailed(CryptoOperation::Sign))?;
        out.clear();
        out.extend_from_slice(signature.as_ref());
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}

/// Checks that the peer holds its certificate's key.
#[derive(Debug)]
struct Verifier;

impl SignatureVerifier for Verifier {
    fn verify_signature(
        &self,
        certificate: &[u8],
        data: &[u8],
        signature: &[u8],
        hash: HashAlgorithm,
        algorithm: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        // What browsers have: ECDSA on P-256. Certificates that webpki does not read (of version 1), other curves and
        // hashes take dimpl's slower way, which also words the refusal.
        if (algorithm, hash) == (SignatureAlgorithm::ECDSA, HashAlgorithm::SHA256)
            && let Ok(read) = EndEntityCert::try_from(&CertificateDer::from(certificate))
            && read.verify_signature(ECDSA_P256_SHA256, data, signature).is_ok()
        {
            return Ok(());
        }
        let slower = rust_crypto::default_provider().signature_verification;
        slower.verify_signature(certificate, data, signature, hash, algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};

    /// A certificate and its key, DER.
    fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let made = CertificateParams::new(vec!["test".to_owned()]).unwrap().self_signed(&key).unwrap();
        (made.der().to_vec(), key.serialize_der())
    }

    /// Both sides' shared secrets and whether either refused.
    fn exchange(ours: &dyn SupportedKxGroup, theirs: &dyn SupportedKxGroup) -> (Vec<u8>, Vec<u8>) {
        let (a, b) = (ours.start_exchange(Buf::new()).unwrap(), theirs.start_exchange(Buf::new()).unwrap());
        let (public_a, public_b) = (a.pub_key().to_vec(), b.pub_key().to_vec());
        let (mut secret_a, mut secret_b) = (Buf::new(), Buf::new());
        a.complete(&public_b, &mut secret_a).unwrap();
        b.complete(&public_a, &mut secret_b).unwrap();
        (secret_a.to_vec(), secret_b.to_vec())
    }

    #[test]
    fn an_exchange_agrees_with_another_implementation() {
        let theirs = rust_crypto::default_provider().kx_groups;
        for ours in provider().kx_groups {
            let other = theirs.iter().find(|other| other.name() == ours.name()).unwrap();
            let (a, b) = exchange(*ours, *other);
            assert_eq!(a, b);
            assert_eq!(a.len(), 32);
        }
    }

    #[test]
    fn an_exchange_refuses_points_of_no_use() {
        for (group, peer) in provider().kx_groups.iter().zip([vec![0; 32], vec![4; 65]]) {
            for peer in [peer, vec![], vec![1; 31]] {
                let exchange = group.start_exchange(Buf::new()).unwrap();
                let outcome = exchange.complete(&peer, &mut Buf::new());
                assert_eq!(outcome, Err(CryptoError::InvalidPublicKey(group.name())));
            }
        }
    }

    #[test]
    fn signatures_of_either_implementation_are_verified_by_the_other() {
        let (ours, theirs) = (provider(), rust_crypto::default_provider());
        let (der, key) = certificate(&PKCS_ECDSA_P256_SHA256);
        let (sha256, ecdsa) = (HashAlgorithm::SHA256, SignatureAlgorithm::ECDSA);
        for (signs, verifies) in [(&ours, &theirs), (&theirs, &ours), (&ours, &ours)] {
            let mut signature = Buf::new();
            signs.key_provider.load_private_key(&key).unwrap().sign(b"hello", sha256, &mut signature).unwrap();
            let verifier = verifies.signature_verification;
            verifier.verify_signature(&der, b"hello", &signature, sha256, ecdsa).unwrap();
            assert!(verifier.verify_signature(&der, b"hallo", &signature, sha256, ecdsa).is_err());
            let (other, _) = certificate(&PKCS_ECDSA_P256_SHA256);
            assert!(verifier.verify_signature(&other, b"hello", &signature, sha256, ecdsa).is_err());
            assert!(verifier.verify_signature(b"no certificate", b"hello", &signature, sha256, ecdsa).is_err());
        }
    }

    #[test]
    fn other_curves_are_verified_too() {
        let (der, key) = certificate(&PKCS_ECDSA_P384_SHA384);
        let (sha384, ecdsa) = (HashAlgorithm::SHA384, SignatureAlgorithm::ECDSA);
        let mut signature = Buf::new();
        let theirs = rust_crypto::default_provider();
        theirs.key_provider.load_private_key(&key).unwrap().sign(b"hello", sha384, &mut signature).unwrap();
        Verifier.verify_signature(&der, b"hello", &signature, sha384, ecdsa).unwrap();
        assert!(Verifier.verify_signature(&der, b"hallo", &signature, sha384, ecdsa).is_err());
    }
}
