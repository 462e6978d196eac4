//! ICE-lite against connectivity checks made by `rtc::stun`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rtc::crypto::providers::RingCrypto;
use rtc::stun::attributes::{
    ATTR_ERROR_CODE, ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_UNKNOWN_ATTRIBUTES,
    ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType, RawAttribute,
};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, Setter, TransactionId};
use rtc::stun::xoraddr::XorMappedAddress;

use super::*;

fn parameters(n: u8) -> IceParameters {
    IceParameters {
        local_ufrag: format!("ours{n}"),
        local_pwd: format!("our-password-{n}-of-24-chars"),
        remote_ufrag: format!("theirs{n}"),
        remote_pwd: format!("their-password-{n}-of-24-ch"),
    }
}

fn attribute(typ: AttrType, value: &[u8]) -> Box<dyn Setter> {
    Box::new(RawAttribute { typ, length: 0, value: value.to_vec() })
}

/// A check as a browser sends it, with more attributes before (and after) MESSAGE-INTEGRITY.
fn check_with(p: &IceParameters, more: Vec<Box<dyn Setter>>, after: Vec<Box<dyn Setter>>) -> Vec<u8> {
    let username = format!("{}:{}", p.local_ufrag, p.remote_ufrag);
    let mut setters: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        attribute(ATTR_USERNAME, username.as_bytes()),
        attribute(AttrType(0xC057), &[0, 0, 3, 231]),
        attribute(ATTR_PRIORITY, &[110, 127, 30, 255]),
    ];
    setters.extend(more);
    setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(p.local_pwd.clone(), &RingCrypto)));
    setters.extend(after);
    setters.push(Box::new(FINGERPRINT));
    let mut message = Message::new();
    message.build(&setters).unwrap();
    message.raw
}

fn check(p: &IceParameters, nominate: bool) -> Vec<u8> {
    let mut more = vec![attribute(ATTR_ICE_CONTROLLING, &[1; 8])];
    if nominate {
        more.push(attribute(ATTR_USE_CANDIDATE, &[]));
    }
    check_with(p, more, Vec::new())
}

fn address(n: u8) -> FiveTuple {
    pair(SocketAddr::from(([192, 0, 2, n], 40_000 + u16::from(n))))
}

/// From there to the one address of ours.
fn pair(remote: SocketAddr) -> FiveTuple {
    FiveTuple::udp(SocketAddr::from(([198, 51, 100, 1], 20_000)), remote)
}

/// Decodes a reply as the peer does: integrity and fingerprint included.
fn decode(reply: &[u8], pwd: &str) -> Message {
    let mut message = Message { raw: reply.to_vec(), ..Message::default() };
    message.decode().unwrap();
    FINGERPRINT.check(&message).unwrap();
    MessageIntegrity::check(&mut message, pwd.as_bytes(), &RingCrypto).unwrap();
    message
}

struct Peer {
    now: Instant,
    ice: IceLite,
    reply: Vec<u8>,
}

impl Peer {
    fn new() -> Self {
        let now = Instant::now();
        Self { now, ice: IceLite::new(now, &parameters(1)), reply: Vec::new() }
    }

    fn send(&mut self, datagram: &[u8], on: FiveTuple) -> Result<Outcome, IceRefusal> {
        self.now += Duration::from_millis(20);
        self.ice.handle(self.now, datagram, on, &mut self.reply)
    }
}

#[test]
fn a_check_is_answered_with_the_address_it_came_from() {
    for from in ["192.0.2.7:40007", "[2001:db8::7]:40007", "[::ffff:192.0.2.7]:40007"] {
        let from: SocketAddr = from.parse().unwrap();
        let mut peer = Peer::new();
        let request = check(&parameters(1), false);
        let outcome = peer.send(&request, pair(from)).unwrap();
        assert_eq!(outcome, Outcome { selected_changed: true, new_pair: true, ..Outcome::default() });
        let reply = decode(&peer.reply, &parameters(1).local_pwd);
        assert_eq!(reply.typ, BINDING_SUCCESS);
        assert_eq!(reply.transaction_id.0, request[8..20]);
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&reply).unwrap();
        assert_eq!((mapped.ip, mapped.port), (from.ip().to_canonical(), from.port()));
        assert!(peer.ice.is_valid(pair(from)));
        assert!(!peer.ice.is_valid(address(9)));
    }
}

#[test]
fn the_selected_address_follows_the_latest_nomination() {
    let p = parameters(1);
    let mut peer = Peer::new();
    peer.send(&check(&p, false), address(1)).unwrap();
    assert!(!peer.send(&check(&p, false), address(2)).unwrap().selected_changed, "a plain check moves nothing");
    assert_eq!(peer.ice.selected(), Some(address(1)));
    let outcome = peer.send(&check(&p, true), address(2)).unwrap();
    assert!(outcome.nominated && outcome.selected_changed && !outcome.new_pair);
    assert!(!peer.send(&check(&p, false), address(1)).unwrap().selected_changed);
    // Wi-Fi to mobile: a new address nominates.
    assert!(peer.send(&check(&p, true), address(3)).unwrap().selected_changed);
    assert_eq!(peer.ice.selected(), Some(address(3)));
}

#[test]
fn from_one_address_to_two_of_ours_are_two_pairs() {
    let p = parameters(1);
    let mut peer = Peer::new();
    let first = address(1);
    let second = FiveTuple::udp(SocketAddr::from(([198, 51, 100, 2], 20_000)), first.remote);
    peer.send(&check(&p, true), first).unwrap();
    assert!(!peer.ice.is_valid(second), "nothing came there yet");
    let outcome = peer.send(&check(&p, true), second).unwrap();
    assert!(outcome.new_pair && outcome.selected_changed);
    assert_eq!(peer.ice.selected(), Some(second), "what we send leaves from the address that was nominated");
    assert!(peer.ice.is_valid(first));
}

#[test]
fn wrong_credentials_are_refused_without_a_reply() {
    let good = parameters(1);
    let cases = [
        (IceParameters { local_pwd: "wrong".into(), ..good.clone() }, IceRefusal::Integrity),
        (IceParameters { local_ufrag: "other".into(), ..good.clone() }, IceRefusal::Username),
        (IceParameters { remote_ufrag: "other".into(), ..good.clone() }, IceRefusal::Username),
        (parameters(2), IceRefusal::Username),
    ];
    for (wrong, expected) in cases {
        let mut peer = Peer::new();
        assert_eq!(peer.send(&check(&wrong, true), address(1)), Err(expected));
        assert!(peer.reply.is_empty() && peer.ice.selected().is_none() && !peer.ice.is_valid(address(1)));
    }
}

#[test]
fn what_follows_the_integrity_is_not_believed() {
    let p = parameters(1);
    let after = vec![attribute(ATTR_USE_CANDIDATE, &[])];
    let forged = check_with(&p, vec![attribute(ATTR_ICE_CONTROLLING, &[1; 8])], after);
    let mut peer = Peer::new();
    assert!(!peer.send(&forged, address(1)).unwrap().nominated);
}

#[test]
fn malformed_messages_are_refused() {
    let p = parameters(1);
    let mut peer = Peer::new();
    let mut no_integrity = Message::new();
    no_integrity
        .build(&[Box::new(BINDING_REQUEST), attribute(ATTR_USERNAME, b"ours1:theirs1"), Box::new(FINGERPRINT)])
        .unwrap();
    assert_eq!(peer.send(&no_integrity.raw, address(1)), Err(IceRefusal::Unauthenticated));
    let mut indication = check(&p, true);
    indication[1] |= 0x10;
    assert_eq!(peer.send(&indication, address(1)), Err(IceRefusal::NotRequest));
    let mut flipped = check(&p, true);
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(peer.send(&flipped, address(1)), Err(IceRefusal::Fingerprint));
    let mut longer = check(&p, true);
    longer.extend([0; 4]);
    assert_eq!(peer.send(&longer, address(1)), Err(IceRefusal::Malformed));
    let whole = check(&p, true);
    for len in 0..whole.len() {
        assert!(peer.send(&whole[..len], address(1)).is_err(), "{len} bytes of {}", whole.len());
    }
    assert!(peer.ice.selected().is_none());
}

#[test]
fn a_controlled_peer_is_told_to_control() {
    let p = parameters(1);
    let mut peer = Peer::new();
    let conflict = check_with(&p, vec![attribute(ATTR_ICE_CONTROLLED, &[1; 8])], Vec::new());
    assert_eq!(peer.send(&conflict, address(1)), Err(IceRefusal::RoleConflict));
    let reply = decode(&peer.reply, &p.local_pwd);
    assert_eq!(reply.typ, BINDING_ERROR);
    assert_eq!(reply.get(ATTR_ERROR_CODE).unwrap()[..4], [0, 0, 4, 87]);
    assert!(!peer.ice.is_valid(address(1)));
}

#[test]
fn an_attribute_that_must_be_understood_is_named() {
    let p = parameters(1);
    let mut peer = Peer::new();
    let strange = check_with(&p, vec![attribute(AttrType(0x7001), &[1; 3])], Vec::new());
    assert_eq!(peer.send(&strange, address(1)), Err(IceRefusal::UnknownAttribute(0x7001)));
    let reply = decode(&peer.reply, &p.local_pwd);
    assert_eq!(reply.get(ATTR_ERROR_CODE).unwrap()[..4], [0, 0, 4, 20]);
    assert_eq!(reply.get(ATTR_UNKNOWN_ATTRIBUTES).unwrap(), [0x70, 0x01]);
}

#[test]
fn a_restart_keeps_the_old_credentials_until_the_new_are_used() {
    let (old, unused, new) = (parameters(1), parameters(2), parameters(3));
    let mut peer = Peer::new();
    peer.send(&check(&old, true), address(1)).unwrap();
    assert_eq!(peer.ice.restart(&unused), None);
    assert_eq!(peer.ice.restart(&new), Some(unused.local_ufrag.clone()), "nobody has used it");
    assert_eq!(peer.ice.local_ufrags().collect::<Vec<_>>(), ["ours3", "ours1"]);
    peer.send(&check(&old, true), address(1)).unwrap();
    decode(&peer.reply, &old.local_pwd);
    assert_eq!(peer.send(&check(&unused, true), address(2)), Err(IceRefusal::Username));
    let outcome = peer.send(&check(&new, false), address(2)).unwrap();
    decode(&peer.reply, &new.local_pwd);
    assert_eq!(outcome.retired_ufrag.as_deref(), Some("ours1"));
    assert_eq!(peer.ice.selected(), Some(address(2)));
    assert_eq!(peer.send(&check(&old, true), address(1)), Err(IceRefusal::Username));
    assert!(peer.send(&check(&new, true), address(3)).unwrap().selected_changed);
}

#[test]
fn only_a_few_addresses_are_remembered_and_never_the_selected_forgotten() {
    let p = parameters(1);
    let mut peer = Peer::new();
    peer.send(&check(&p, true), address(0)).unwrap();
    for n in 1..=50 {
        let outcome = peer.send(&check(&p, false), address(n)).unwrap();
        let expected = (usize::from(n) >= MAX_PAIRS).then(|| address(n + 1 - u8::try_from(MAX_PAIRS).unwrap()));
        assert_eq!(outcome.forgotten, expected);
        assert!(peer.ice.is_valid(address(n)) && peer.ice.is_valid(address(0)));
        assert!(peer.ice.valid().count() <= MAX_PAIRS);
    }
    assert_eq!(peer.ice.selected(), Some(address(0)));
}

#[test]
fn consent_ends_30_seconds_after_the_last_sign_of_life() {
    let mut peer = Peer::new();
    let start = peer.now;
    assert!(!peer.ice.expired(start + CONSENT_TIMEOUT - Duration::from_millis(1)));
    assert!(peer.ice.expired(start + CONSENT_TIMEOUT));
    peer.send(&check(&parameters(1), false), address(1)).unwrap();
    assert_eq!(peer.ice.expires_at(), peer.now + CONSENT_TIMEOUT);
    let _ = peer.send(&check(&parameters(2), false), address(1));
    assert!(peer.ice.expires_at() < peer.now + CONSENT_TIMEOUT, "a refused check is no sign of life");
    let later = peer.now + Duration::from_secs(20);
    peer.ice.heard(later);
    assert_eq!(peer.ice.expires_at(), later + CONSENT_TIMEOUT);
}

#[test]
fn credentials_are_long_and_differ() {
    let (ufrag, pwd) = generate_credentials();
    assert_eq!((ufrag.len(), pwd.len()), (12, 24));
    assert_ne!(generate_credentials(), (ufrag, pwd));
}

#[test]
fn the_demultiplexer_finds_the_username() {
    assert_eq!(stun_username(&check(&parameters(1), true)), Some("ours1:theirs1"));
    assert_eq!(stun_username(b"\x16\xfe\xfd handshake"), None);
    assert_eq!(stun_username(&[]), None);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = stun_username(&bytes);
        prop_assert!(Peer::new().send(&bytes, address(1)).is_err());
    }

    #[test]
    fn a_changed_byte_is_noticed(at in 0usize..100, bit in 0u8..8) {
        let p = parameters(1);
        let mut datagram = check(&p, true);
        let at = at % datagram.len();
        datagram[at] ^= 1 << bit;
        prop_assert!(Peer::new().send(&datagram, address(1)).is_err());
    }
}
