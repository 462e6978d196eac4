//! AEAD_AES_128_GCM and AEAD_AES_256_GCM for SRTP and SRTCP (RFC 7714), in place, with ring.

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};

use super::ENCRYPTED;
use super::kdf::{Label, derive};

/// The authentication tag, bytes.
pub(crate) const TAG: usize = 16;

/// One direction's keys.
pub(super) struct Gcm {
    rtp: Session,
    rtcp: Session,
}

struct Session {
    key: LessSafeKey,
    /// 96 bits.
    salt: u128,
}

impl Gcm {
    /// From a master key (16 or 32 bytes) and salt (12 bytes); `None` for other sizes.
    pub(super) fn new(key: &[u8], salt: &[u8]) -> Option<Self> {
        let rtp = Session::new(key, salt, Label::RtpKey, Label::RtpSalt)?;
        Some(Self { rtp, rtcp: Session::new(key, salt, Label::RtcpKey, Label::RtcpSalt)? })
    }

    /// Decrypts an RTP packet in place; the new length, or `None` if it is not authentic.
    pub(super) fn open_rtp(&self, packet: &mut [u8], header: usize, ssrc: u32, index: u64) -> Option<usize> {
        let len = packet.len().checked_sub(TAG).filter(|&len| len >= header)?;
        let (head, body) = packet.split_at_mut(header);
        self.rtp.open(ssrc, index, head, body)?;
        Some(len)
    }

    /// Encrypts the packet that begins at `start` of `buffer` and appends the tag.
    pub(super) fn seal_rtp(&self, buffer: &mut Vec<u8>, start: usize, header: usize, ssrc: u32, index: u64) -> bool {
        let Some(tag) = buffer.get_mut(start..).and_then(|packet| {
            let (head, body) = packet.split_at_mut_checked(header)?;
            self.rtp.seal(ssrc, index, head, body)
        }) else {
            return false;
        };
        buffer.extend_from_slice(tag.as_ref());
        true
    }

    /// Decrypts a compound RTCP packet in place: (new length, SRTCP index), or `None` if it is not authentic.
    pub(super) fn open_rtcp(&self, packet: &mut [u8], ssrc: u32, index: u32) -> Option<usize> {
        let end = packet.len().checked_sub(4).filter(|&end| end >= 8 + TAG)?;
        let aad = rtcp_aad(packet, index)?;
        self.rtcp.open(ssrc, u64::from(index), &aad, &mut packet[8..end])?;
        Some(end - TAG)
    }

    /// Encrypts the compound RTCP packet that begins at `start` of `buffer`, appends tag and index.
    pub(super) fn seal_rtcp(&self, buffer: &mut Vec<u8>, start: usize, ssrc: u32, index: u32) -> bool {
        let Some(tag) = buffer.get_mut(start..).and_then(|packet| {
            let aad = rtcp_aad(packet, index)?;
            self.rtcp.seal(ssrc, u64::from(index), &aad, packet.get_mut(8..)?)
        }) else {
            return false;
        };
        buffer.extend_from_slice(tag.as_ref());
        buffer.extend_from_slice(&(index | ENCRYPTED).to_be_bytes());
        true
    }
}

/// RFC 7714 §9.2: the first eight bytes, then E flag and index.
fn rtcp_aad(packet: &[u8], index: u32) -> Option<[u8; 12]> {
    let mut aad = [0; 12];
    aad[..8].copy_from_slice(packet.get(..8)?);
    aad[8..].copy_from_slice(&(index | ENCRYPTED).to_be_bytes());
    Some(aad)
}

impl Session {
    fn new(key: &[u8], salt: &[u8], key_label: Label, salt_label: Label) -> Option<Self> {
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            _ => return None,
        };
        let session_key: [u8; 32] = derive(key, salt, key_label)?;
        let session_key = UnboundKey::new(algorithm, &session_key[..key.len()]).ok()?;
        let mut wide = [0; 16];
        wide[4..].copy_from_slice(&derive::<12>(key, salt, salt_label)?);
        Some(Self { key: LessSafeKey::new(session_key), salt: u128::from_be_bytes(wide) })
    }

    /// RFC 7714 §8.1, §9.1. For RTP `index` is ROC and sequence number, for RTCP the 31-bit index: in both layouts the
    /// last six bytes are one 48-bit number.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let value = (u128::from(ssrc) << 48 | u128::from(index & 0xffff_ffff_ffff)) ^ self.salt;
        // Written in two pieces, as ring reads them: read in others, the processor has to wait for them.
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&((value >> 32) as u64).to_be_bytes());
        nonce[8..].copy_from_slice(&(value as u32).to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn open(&self, ssrc: u32, index: u64, aad: &[u8], body: &mut [u8]) -> Option<()> {
        self.key.open_in_place(self.nonce(ssrc, index), Aad::from(aad), body).ok().map(|_| ())
    }

    fn seal(&self, ssrc: u32, index: u64, aad: &[u8], body: &mut [u8]) -> Option<Tag> {
        self.key.seal_in_place_separate_tag(self.nonce(ssrc, index), Aad::from(aad), body).ok()
    }
}
