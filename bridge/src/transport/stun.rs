//! The STUN messages that ICE needs (RFC 8489): reading binding requests and writing their answers, without allocation.
//!
//! Only what is covered by MESSAGE-INTEGRITY is believed: attributes after it are ignored, except FINGERPRINT.

use std::net::{IpAddr, SocketAddr};

use ring::hmac;
use smallvec::SmallVec;

pub(crate) const HEADER: usize = 20;
pub(crate) const COOKIE: u32 = 0x2112_A442;
/// A browser sends seven to ten.
const MAX_ATTRIBUTES: usize = 32;
/// RFC 8489 §14.3: fewer than 509 bytes. ICE: two ufrags of at most 256 characters.
const MAX_USERNAME: usize = 513;

pub(crate) const BINDING_REQUEST: u16 = 0x0001;
pub(crate) const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

pub(crate) const USERNAME: u16 = 0x0006;
pub(crate) const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
pub(crate) const PRIORITY: u16 = 0x0024;
pub(crate) const USE_CANDIDATE: u16 = 0x0025;
pub(crate) const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;

/// Length of a MESSAGE-INTEGRITY attribute with its header.
pub(crate) const INTEGRITY_LEN: usize = 4 + 20;
/// Length of a FINGERPRINT attribute with its header.
pub(crate) const FINGERPRINT_LEN: usize = 4 + 4;

/// Why a datagram is no binding request that can be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Malformed {
    /// Not STUN, or lengths that contradict each other.
    Syntax,
    /// A response, an indication or another method.
    NotRequest,
    /// No USERNAME, MESSAGE-INTEGRITY or FINGERPRINT, or these of a wrong size.
    Missing,
    /// The CRC of FINGERPRINT is wrong.
    Fingerprint,
}

/// A binding request, syntactically sound and with a correct FINGERPRINT; not yet authenticated.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    datagram: &'a [u8],
    /// Where MESSAGE-INTEGRITY begins.
    integrity: usize,
    /// `our ufrag:their ufrag`
    pub(crate) username: &'a str,
    /// USE-CANDIDATE is there.
    pub(crate) nominated: bool,
    /// ICE-CONTROLLED is there: the peer believes that we are in charge.
    pub(crate) controlled: bool,
    /// An attribute that must be understood (below 0x8000) and is not.
    pub(crate) unknown: Option<u16>,
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Whether the header says STUN (RFC 7983: first byte 0–3) and its length is the datagram's.
pub(crate) fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|b| *b < 4)
        && datagram.get(4..8) == Some(&COOKIE.to_be_bytes())
        && u16_at(datagram, 2).is_some_and(|n| n % 4 == 0 && usize::from(n) + HEADER == datagram.len())
}

/// The attributes of a STUN message: (type, offset of its header, value); ends early when they do not fit.
pub(crate) fn attributes(datagram: &[u8]) -> impl Iterator<Item = (u16, usize, &[u8])> {
    let mut at = HEADER;
    std::iter::from_fn(move || {
        let start = at;
        let kind = u16_at(datagram, start)?;
        let len = usize::from(u16_at(datagram, start + 2)?);
        let value = datagram.get(start + 4..start + 4 + len)?;
        at = start + 4 + len.next_multiple_of(4);
        Some((kind, start, value))
    })
    .take(MAX_ATTRIBUTES)
}

/// USERNAME of a binding request, unauthenticated.
pub(crate) fn username(datagram: &[u8]) -> Option<&str> {
    if !is_stun(datagram) || u16_at(datagram, 0) != Some(BINDING_REQUEST) {
        return None;
    }
    let (.., value) = attributes(datagram).find(|(kind, ..)| *kind == USERNAME)?;
    std::str::from_utf8(value).ok().filter(|name| name.len() <= MAX_USERNAME)
}

impl<'a> Request<'a> {
    pub(crate) fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        if !is_stun(datagram) {
            return Err(Malformed::Syntax);
        }
        if u16_at(datagram, 0) != Some(BINDING_REQUEST) {
            return Err(Malformed::NotRequest);
        }
        let (mut name, mut nominated, mut controlled, mut unknown) = (None, false, false, None);
        let (mut integrity, mut fingerprint, mut end) = (None, None, HEADER);
        for (kind, at, value) in attributes(datagram) {
            end = at + 4 + value.len().next_multiple_of(4);
            match kind {
                FINGERPRINT if value.len() == 4 => fingerprint = Some((at, value)),
                _ if integrity.is_some() => {}
                MESSAGE_INTEGRITY if value.len() == 20 => integrity = Some(at),
                USERNAME if value.len() <= MAX_USERNAME => name = name.or(std::str::from_utf8(value).ok()),
                USE_CANDIDATE => nominated = true,
                ICE_CONTROLLED => controlled = true,
                PRIORITY => {}
                0x8000.. => {}
                other => unknown = unknown.or(Some(other)),
            }
        }
        if end != datagram.len() {
            return Err(Malformed::Syntax);
        }
        let (Some(username), Some(integrity), Some((at, crc))) = (name, integrity, fingerprint) else {
            return Err(Malformed::Missing);
        };
        if at + FINGERPRINT_LEN != datagram.len() || crc != fingerprint_of(&datagram[..at]) {
            return Err(Malformed::Fingerprint);
        }
        Ok(Self { datagram, integrity, username, nominated, controlled, unknown })
    }

    /// Whether MESSAGE-INTEGRITY was made with this key.
    pub(crate) fn authentic(&self, key: &hmac::Key) -> bool {
        // The length counts up to and with MESSAGE-INTEGRITY (RFC 8489 §14.5).
        let mut covered: SmallVec<[u8; 256]> = SmallVec::from_slice(&self.datagram[..self.integrity]);
        set_length(&mut covered, INTEGRITY_LEN);
        let value = &self.datagram[self.integrity + 4..self.integrity + INTEGRITY_LEN];
        hmac::verify(key, &covered, value).is_ok()
    }

    /// Writes the success response, which tells the peer the address it is seen under.
    pub(crate) fn accept(&self, key: &hmac::Key, from: SocketAddr, out: &mut Vec<u8>) {
        self.respond(BINDING_SUCCESS, key, out, |out| {
            let port = from.port() ^ (COOKIE >> 16) as u16;
            let mut value = [0; 20];
            value[2..4].copy_from_slice(&port.to_be_bytes());
            let address = &mut value[4..];
            let len = match from.ip().to_canonical() {
                IpAddr::V4(ip) => {
                    address[..4].copy_from_slice(&ip.octets());
                    8
                }
                IpAddr::V6(ip) => {
                    address.copy_from_slice(&ip.octets());
                    20
                }
            };
            // XORed with the cookie and the transaction id, which follow each other in the header.
            address.iter_mut().zip(&self.datagram[4..HEADER]).for_each(|(byte, mask)| *byte ^= mask);
            value[1] = if len == 8 { 1 } else { 2 };
            attribute(out, XOR_MAPPED_ADDRESS, &value[..len]);
        });
    }

    /// 487: we are ICE-lite and therefore never in charge; the peer takes the other role (RFC 8445 §7.3.1.1).
    pub(crate) fn role_conflict(&self, key: &hmac::Key, out: &mut Vec<u8>) {
        self.respond(BINDING_ERROR, key, out, |out| attribute(out, ERROR_CODE, b"\0\0\x04\x57Role Conflict"));
    }

    /// 420 with the type that is not understood.
    pub(crate) fn unknown_attribute(&self, kind: u16, key: &hmac::Key, out: &mut Vec<u8>) {
        self.respond(BINDING_ERROR, key, out, |out| {
            attribute(out, ERROR_CODE, b"\0\0\x04\x14Unknown Attribute");
            attribute(out, UNKNOWN_ATTRIBUTES, &kind.to_be_bytes());
        });
    }

    fn respond(&self, kind: u16, key: &hmac::Key, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        out.clear();
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.datagram[4..HEADER]);
        body(out);
        set_length(out, INTEGRITY_LEN);
        let mac = hmac::sign(key, out);
        attribute(out, MESSAGE_INTEGRITY, mac.as_ref());
        set_length(out, FINGERPRINT_LEN);
        let crc = fingerprint_of(out);
        attribute(out, FINGERPRINT, &crc);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "we write at most five short attributes")]
pub(crate) fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Sets the header's length to what is there and `more` bytes to come.
#[expect(clippy::cast_possible_truncation, reason = "a datagram's length fits into 16 bits")]
pub(crate) fn set_length(out: &mut [u8], more: usize) {
    let len = (out.len() - HEADER + more) as u16;
    out[2..4].copy_from_slice(&len.to_be_bytes());
}

/// CRC-32 (ITU V.42), XORed with "STUN" (RFC 8489 §14.7), over what precedes the attribute. The header's length already
/// counts it.
pub(crate) fn fingerprint_of(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    (crc.sum() ^ 0x5354_554E).to_be_bytes()
}
