//! SRTP's key derivation (RFC 3711 §4.3, RFC 6188 for 256 bits): session keys from DTLS' master keys.

use aes::{Aes128, Aes256};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};

/// What is derived: the labels of RFC 3711 §4.3.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Label {
    RtpKey = 0,
    RtpAuthentication = 1,
    RtpSalt = 2,
    RtcpKey = 3,
    RtcpAuthentication = 4,
    RtcpSalt = 5,
}

/// Derives `N` bytes; `None` for a master key that is not 16 or 32 bytes or a salt over 14.
pub(super) fn derive<const N: usize>(key: &[u8], salt: &[u8], label: Label) -> Option<[u8; N]> {
    let mut iv = [0; 16];
    iv[..14].get_mut(..salt.len())?.copy_from_slice(salt);
    iv[7] ^= label as u8;
    let mut out = [0; N];
    match key.len() {
        16 => Ctr128BE::<Aes128>::new_from_slices(key, &iv).ok()?.apply_keystream(&mut out),
        32 => Ctr128BE::<Aes256>::new_from_slices(key, &iv).ok()?.apply_keystream(&mut out),
        _ => return None,
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    /// RFC 3711 appendix B.3.
    #[test]
    fn the_rfcs_own_vectors() {
        let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
        let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
        assert_eq!(derive::<16>(&key, &salt, Label::RtpKey).unwrap()[..], hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(derive::<14>(&key, &salt, Label::RtpSalt).unwrap()[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
        let authentication = derive::<94>(&key, &salt, Label::RtpAuthentication).unwrap();
        assert_eq!(authentication[..20], hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    #[test]
    fn odd_sizes_are_refused() {
        assert_eq!(derive::<16>(&[0; 24], &[0; 14], Label::RtpKey), None);
        assert_eq!(derive::<16>(&[0; 16], &[0; 15], Label::RtpKey), None);
    }
}
