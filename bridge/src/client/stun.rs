//! The client's STUN messages (RFC 8489): connectivity checks written, their answers recognised.

use std::net::SocketAddr;

use ring::hmac;

use crate::transport::stun::{
    BINDING_REQUEST, BINDING_SUCCESS, COOKIE, FINGERPRINT, FINGERPRINT_LEN, HEADER, INTEGRITY_LEN, MESSAGE_INTEGRITY,
    PRIORITY, USE_CANDIDATE, USERNAME, attribute, attributes, fingerprint_of, is_stun, set_length, u16_at,
};

const ICE_CONTROLLING: u16 = 0x802A;

/// Priority of a peer-reflexive candidate of component 1 (RFC 8445 §7.1.1, §5.1.2.1).
const PEER_REFLEXIVE: u32 = 110 << 24 | 65_535 << 8 | 255;

/// Identifies a check and its answer.
pub(super) type Transaction = [u8; 12];

/// Writes a check that nominates (USE-CANDIDATE): the first pair that works is used.
pub(super) fn write_check(transaction: &Transaction, username: &str, key: &hmac::Key, tie: u64, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&BINDING_REQUEST.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&COOKIE.to_be_bytes());
    out.extend_from_slice(transaction);
    attribute(out, USERNAME, username.as_bytes());
    attribute(out, PRIORITY, &PEER_REFLEXIVE.to_be_bytes());
    attribute(out, ICE_CONTROLLING, &tie.to_be_bytes());
    attribute(out, USE_CANDIDATE, &[]);
    set_length(out, INTEGRITY_LEN);
    let mac = hmac::sign(key, out);
    attribute(out, MESSAGE_INTEGRITY, mac.as_ref());
    set_length(out, FINGERPRINT_LEN);
    let crc = fingerprint_of(out);
    attribute(out, FINGERPRINT, &crc);
}

/// The transaction of a success response made with `key`; `None` for everything else.
pub(super) fn read_success(datagram: &[u8], key: &hmac::Key) -> Option<Transaction> {
    if !is_stun(datagram) || u16_at(datagram, 0) != Some(BINDING_SUCCESS) {
        return None;
    }
    let (_, at, mac) = attributes(datagram).find(|(kind, ..)| *kind == MESSAGE_INTEGRITY)?;
    let mut covered = datagram[..at].to_vec();
    set_length(&mut covered, INTEGRITY_LEN);
    hmac::verify(key, &covered, mac).ok()?;
    datagram.get(8..HEADER)?.try_into().ok()
}

/// Whether a datagram is STUN by its first byte (RFC 7983).
pub(super) fn is_ours(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4)
}

/// A `candidate:` line's UDP address (RFC 8839 §5.1), if it is written in numbers.
pub(super) fn candidate(line: &str) -> Option<SocketAddr> {
    let mut words = line.strip_prefix("candidate:")?.split_ascii_whitespace();
    let udp = words.nth(2)?.eq_ignore_ascii_case("udp");
    let ip: std::net::IpAddr = words.nth(1)?.parse().ok()?;
    let port = words.next()?.parse().ok()?;
    udp.then_some(SocketAddr::new(ip, port))
}
