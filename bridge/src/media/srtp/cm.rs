//! AES_128_CM_HMAC_SHA1_80 for SRTP and SRTCP (RFC 3711 §4.1.1, §4.2), in place: for peers without GCM.

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use ring::hmac;

use super::kdf::{Label, derive};

/// The truncated authentication tag, bytes.
const TAG: usize = 10;

/// One direction's keys.
pub(super) struct Cm {
    rtp: Session,
    rtcp: Session,
}

struct Session {
    key: [u8; 16],
    salt: [u8; 14],
    authentication: hmac::Key,
}

impl Session {
    fn new(key: &[u8], salt: &[u8], labels: [Label; 3]) -> Option<Self> {
        let authentication: [u8; 20] = derive(key, salt, labels[1])?;
        Some(Self {
            key: derive(key, salt, labels[0])?,
            salt: derive(key, salt, labels[2])?,
            authentication: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &authentication),
        })
    }

    /// RFC 3711 §4.1.1: IV = (salt · 2^16) xor (SSRC · 2^64) xor (index · 2^16).
    fn apply(&self, ssrc: u32, index: u64, body: &mut [u8]) {
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(&self.salt);
        for (byte, ssrc) in iv[4..8].iter_mut().zip(ssrc.to_be_bytes()) {
            *byte ^= ssrc;
        }
        for (byte, index) in iv[8..14].iter_mut().zip(&index.to_be_bytes()[2..]) {
            *byte ^= index;
        }
        Ctr128BE::<Aes128>::new(&self.key.into(), &iv.into()).apply_keystream(body);
    }

    fn tag(&self, parts: [&[u8]; 2]) -> [u8; TAG] {
        let mut context = hmac::Context::with_key(&self.authentication);
        parts.iter().for_each(|part| context.update(part));
        let mut tag = [0; TAG];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG]);
        tag
    }
}

/// The rollover counter, which RTP's tag covers.
fn rollover(index: u64) -> [u8; 4] {
    let counter = (index >> 16) as u32;
    counter.to_be_bytes()
}

impl Cm {
    /// From a master key (16 bytes) and salt (14 bytes).
    pub(super) fn new(key: &[u8], salt: &[u8]) -> Option<Self> {
        let rtp = [Label::RtpKey, Label::RtpAuthentication, Label::RtpSalt];
        let rtcp = [Label::RtcpKey, Label::RtcpAuthentication, Label::RtcpSalt];
        Some(Self { rtp: Session::new(key, salt, rtp)?, rtcp: Session::new(key, salt, rtcp)? })
    }

    pub(super) fn open_rtp(&self, packet: &mut [u8], header: usize, ssrc: u32, index: u64) -> Option<usize> {
        let len = packet.len().checked_sub(TAG).filter(|&len| len >= header)?;
        let (packet, tag) = packet.split_at_mut(len);
        equal(&self.rtp.tag([packet, &rollover(index)]), tag)?;
        self.rtp.apply(ssrc, index, &mut packet[header..]);
        Some(len)
    }

    pub(super) fn seal_rtp(&self, buffer: &mut Vec<u8>, start: usize, header: usize, ssrc: u32, index: u64) -> bool {
        let Some(body) = buffer.get_mut(start + header..) else { return false };
        self.rtp.apply(ssrc, index, body);
        let tag = self.rtp.tag([&buffer[start..], &rollover(index)]);
        buffer.extend_from_slice(&tag);
        true
    }

    /// `word` is the E flag and index as they stand before the tag.
    pub(super) fn open_rtcp(&self, packet: &mut [u8], ssrc: u32, word: u32) -> Option<usize> {
        let len = packet.len().checked_sub(TAG + 4).filter(|&len| len >= 8)?;
        let (packet, tail) = packet.split_at_mut(len);
        equal(&self.rtcp.tag([packet, &tail[..4]]), &tail[4..])?;
        self.rtcp.apply(ssrc, u64::from(word & !super::ENCRYPTED), &mut packet[8..]);
        Some(len)
    }

    pub(super) fn seal_rtcp(&self, buffer: &mut Vec<u8>, start: usize, ssrc: u32, index: u32) -> bool {
        let Some(body) = buffer.get_mut(start + 8..) else { return false };
        self.rtcp.apply(ssrc, u64::from(index), body);
        buffer.extend_from_slice(&(index | super::ENCRYPTED).to_be_bytes());
        let tag = self.rtcp.tag([&buffer[start..], &[]]);
        buffer.extend_from_slice(&tag);
        true
    }

    /// E flag and index of a packet.
    pub(super) fn word(packet: &[u8]) -> Option<u32> {
        packet.get(..packet.len().checked_sub(TAG)?)?.last_chunk().map(|word| u32::from_be_bytes(*word))
    }
}

/// In constant time.
fn equal(a: &[u8; TAG], b: &[u8]) -> Option<()> {
    let different = a.iter().zip(b).fold(a.len() ^ b.len(), |different, (a, b)| different | usize::from(a ^ b));
    (different == 0).then_some(())
}
