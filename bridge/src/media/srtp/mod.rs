//! SRTP and SRTCP of one transport (RFC 3711): [`Inbound`] opens what the peer sends, [`Outbound`] seals what we send,
//! both in place.
//!
//! Nonce safety is by type: a packet is sealed through an [`OutStream`], of which there is one per SSRC, and which takes
//! each packet index once.

mod cm;
mod gcm;
mod kdf;
mod window;

use std::collections::HashMap;

use dimpl::SrtpProfile;

use super::control::RelayKey;

use cm::Cm;
use gcm::Gcm;
use window::Window;

/// SSRCs a peer may use at once unless said otherwise; beyond that the one unheard of longest is forgotten.
const MAX_STREAMS: usize = 64;

/// The E flag before the SRTCP index (RFC 3711 §3.4). A packet without it is refused: we never negotiate plain SRTCP.
const ENCRYPTED: u32 = 1 << 31;

/// What one direction encrypts with.
enum Cipher {
    Gcm(Box<Gcm>),
    Cm(Box<Cm>),
}

/// Both directions from the master keys and salts that DTLS exported: the peer's, then ours. `None` when their sizes do
/// not fit the profile.
pub(crate) fn contexts(
    profile: SrtpProfile,
    remote: (&[u8], &[u8]),
    local: (&[u8], &[u8]),
) -> Option<(Inbound, Outbound)> {
    let cipher = |(key, salt): (&[u8], &[u8])| match profile {
        SrtpProfile::AEAD_AES_256_GCM | SrtpProfile::AEAD_AES_128_GCM => {
            Gcm::new(key, salt).map(|gcm| Cipher::Gcm(Box::new(gcm)))
        }
        _ => Cm::new(key, salt).map(|cm| Cipher::Cm(Box::new(cm))),
    };
    let inbound = Inbound { cipher: cipher(remote)?, streams: Vec::new(), most: MAX_STREAMS, clock: 0 };
    let outbound = Outbound { cipher: cipher(local)?, rtcp_index: 0, retired: HashMap::new() };
    Some((inbound, outbound))
}

/// Both directions between two bridges: what the other one seals with and what we do, AES-GCM of 128 or 256 bits. `None`
/// when the sizes do not fit.
pub(crate) fn relay_contexts(open: &RelayKey, seal: &RelayKey) -> Option<(Inbound, Outbound)> {
    let profile = |key: &RelayKey| match key.key.len() {
        16 => Some(SrtpProfile::AEAD_AES_128_GCM),
        32 => Some(SrtpProfile::AEAD_AES_256_GCM),
        _ => None,
    };
    let profile = profile(open).filter(|of_open| Some(of_open) == profile(seal).as_ref())?;
    contexts(profile, (&open.key, &open.salt), (&seal.key, &seal.salt))
}

/// What the peer sends.
pub(crate) struct Inbound {
    cipher: Cipher,
    streams: Vec<Stream>,
    /// The most streams at once.
    most: usize,
    /// Counts packets, to find the stream unheard of longest.
    clock: u64,
}

struct Stream {
    ssrc: u32,
    rtp: Window,
    rtcp: Window,
    heard: u64,
}

/// An RTP packet that was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opened {
    /// The plain packet's length, bytes.
    pub(crate) len: usize,
    /// Its 48-bit index: rollover counter and sequence number.
    pub(crate) index: u64,
}

impl Inbound {
    /// Allows so many SSRCs at once: a server sends more than a client.
    pub(crate) fn with_streams(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Decrypts an RTP packet in place; `None` if it is forged, damaged or a replay.
    pub(crate) fn open_rtp(&mut self, packet: &mut [u8], header: usize, ssrc: u32, sequence: u16) -> Option<Opened> {
        // A forged packet must leave nothing behind: look up now, insert after the tag is good.
        let known = self.streams.iter().position(|s| s.ssrc == ssrc);
        let index = known.map_or(u64::from(sequence), |at| self.streams[at].rtp.index(sequence));
        if known.is_some_and(|at| !self.streams[at].rtp.is_new(index)) {
            return None;
        }
        let len = match &self.cipher {
            Cipher::Gcm(gcm) => gcm.open_rtp(packet, header, ssrc, index)?,
            Cipher::Cm(cm) => cm.open_rtp(packet, header, ssrc, index)?,
        };
        self.stream(known, ssrc).rtp.take(index);
        Some(Opened { len, index })
    }

    /// Decrypts a compound RTCP packet in place; its plain length, or `None` if it is forged, damaged or a replay.
    pub(crate) fn open_rtcp(&mut self, packet: &mut [u8]) -> Option<usize> {
        let ssrc = u32::from_be_bytes(*packet.get(4..)?.first_chunk()?);
        let word = match &self.cipher {
            Cipher::Gcm(_) => u32::from_be_bytes(*packet.last_chunk()?),
            Cipher::Cm(_) => Cm::word(packet)?,
        };
        let index = word & !ENCRYPTED;
        let known = self.streams.iter().position(|s| s.ssrc == ssrc);
        if word == index || known.is_some_and(|at| !self.streams[at].rtcp.is_new(u64::from(index))) {
            return None;
        }
        let len = match &self.cipher {
            Cipher::Gcm(gcm) => gcm.open_rtcp(packet, ssrc, index)?,
            Cipher::Cm(cm) => cm.open_rtcp(packet, ssrc, word)?,
        };
        self.stream(known, ssrc).rtcp.take(u64::from(index));
        Some(len)
    }

    fn stream(&mut self, known: Option<usize>, ssrc: u32) -> &mut Stream {
        self.clock += 1;
        let at = known.unwrap_or_else(|| {
            if self.streams.len() >= self.most
                && let Some(oldest) = (0..self.streams.len()).min_by_key(|&i| self.streams[i].heard)
            {
                self.streams.swap_remove(oldest);
            }
            self.streams.push(Stream { ssrc, rtp: Window::default(), rtcp: Window::default(), heard: 0 });
            self.streams.len() - 1
        });
        let stream = &mut self.streams[at];
        stream.heard = self.clock;
        stream
    }
}

/// What we send.
pub(crate) struct Outbound {
    cipher: Cipher,
    rtcp_index: u32,
    /// SSRCs in use or used before, with where their indices stand.
    retired: HashMap<u32, Option<Window>>,
}

/// The one writer of an SSRC on one transport.
#[derive(Debug)]
pub(crate) struct OutStream {
    ssrc: u32,
    used: Window,
}

impl OutStream {
    /// Our SSRC.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The index that follows all used ones, at least `floor`.
    pub(crate) fn next_index(&self, floor: u64) -> u64 {
        self.used.next().max(floor)
    }
}

impl Outbound {
    /// The writer for an SSRC; `None` while there is one already. An SSRC used before goes on with its indices.
    pub(crate) fn stream(&mut self, ssrc: u32) -> Option<OutStream> {
        let used = match self.retired.insert(ssrc, None) {
            None => Window::default(),
            Some(Some(used)) => used,
            Some(None) => return None,
        };
        Some(OutStream { ssrc, used })
    }

    /// Takes a writer back.
    pub(crate) fn retire(&mut self, stream: OutStream) {
        self.retired.insert(stream.ssrc, Some(stream.used));
    }

    /// Encrypts the RTP packet that begins at `start` of `buffer`, whose header is `header` bytes long and bears
    /// `stream`'s SSRC and the lower 16 bits of `index`; appends the tag. False, and nothing to send, if the index was
    /// used before.
    pub(crate) fn seal_rtp(
        &mut self,
        stream: &mut OutStream,
        index: u64,
        buffer: &mut Vec<u8>,
        start: usize,
        header: usize,
    ) -> bool {
        if !stream.used.take(index) {
            return false;
        }
        match &self.cipher {
            Cipher::Gcm(gcm) => gcm.seal_rtp(buffer, start, header, stream.ssrc, index),
            Cipher::Cm(cm) => cm.seal_rtp(buffer, start, header, stream.ssrc, index),
        }
    }

    /// Encrypts the compound RTCP packet that begins at `start` of `buffer`, appends what belongs behind it.
    pub(crate) fn seal_rtcp(&mut self, buffer: &mut Vec<u8>, start: usize) -> bool {
        let Some(ssrc) = buffer.get(start + 4..).and_then(<[u8]>::first_chunk) else { return false };
        let ssrc = u32::from_be_bytes(*ssrc);
        self.rtcp_index += 1; // one counter for all SSRCs is allowed, and simpler
        match &self.cipher {
            Cipher::Gcm(gcm) => gcm.seal_rtcp(buffer, start, ssrc, self.rtcp_index),
            Cipher::Cm(cm) => cm.seal_rtcp(buffer, start, ssrc, self.rtcp_index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::crypto::providers::RingCrypto;
    use rtc::srtp::context::Context;
    use rtc::srtp::protection_profile::ProtectionProfile;

    const PROFILES: [(SrtpProfile, ProtectionProfile, usize, usize); 3] = [
        (SrtpProfile::AEAD_AES_256_GCM, ProtectionProfile::AeadAes256Gcm, 32, 12),
        (SrtpProfile::AEAD_AES_128_GCM, ProtectionProfile::AeadAes128Gcm, 16, 12),
        (SrtpProfile::AES128_CM_SHA1_80, ProtectionProfile::Aes128CmHmacSha1_80, 16, 14),
    ];

    /// Master key and salt of the client (0) or the server (1).
    fn keys(key: usize, salt: usize, side: u8) -> (Vec<u8>, Vec<u8>) {
        let bytes = |len: usize, first: u8| (0..len as u8).map(|i| i.wrapping_mul(7) ^ first).collect();
        (bytes(key, side), bytes(salt, 0x80 | side))
    }

    /// Both ends of a transport: ours (the server's), and the client's as if it were built with this module too.
    fn both(profile: SrtpProfile, key: usize, salt: usize) -> [(Inbound, Outbound); 2] {
        let (client, server) = (keys(key, salt, 0), keys(key, salt, 1));
        let client = (&client.0[..], &client.1[..]);
        let server = (&server.0[..], &server.1[..]);
        [contexts(profile, client, server).unwrap(), contexts(profile, server, client).unwrap()]
    }

    fn rtp(sequence: u16, ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 9]);
        packet.extend_from_slice(&ssrc.to_be_bytes());
        packet.extend_from_slice(b"some payload of a packet");
        packet
    }

    /// The other side is `rtc::srtp`, written independently.
    #[test]
    fn agrees_with_an_independent_implementation() {
        for (profile, theirs, key, salt) in PROFILES {
            let [(mut inbound, mut outbound), _] = both(profile, key, salt);
            let context = |side: u8| {
                let (key, salt) = keys(key, salt, side);
                Context::new(&key, &salt, theirs, None, None, &RingCrypto).unwrap()
            };
            let (mut client, mut server) = (context(0), context(1));
            let mut stream = outbound.stream(77).unwrap();
            for index in [65_533u64, 65_534, 65_535, 65_536, 65_537] {
                let plain = rtp(index as u16, 77);
                let mut sealed = vec![0xff; 3];
                sealed.extend_from_slice(&plain);
                // Their rollover counter starts at 0 with the first packet, ours too.
                assert!(outbound.seal_rtp(&mut stream, index, &mut sealed, 3, 12));
                assert_eq!(server.decrypt_rtp(&sealed[3..]).unwrap(), plain, "{profile:?} {index}");

                let mut packet = client.encrypt_rtp(&rtp(index as u16, 5)).unwrap().to_vec();
                let opened = inbound.open_rtp(&mut packet, 12, 5, index as u16).unwrap();
                assert_eq!((&packet[..opened.len], opened.index), (&rtp(index as u16, 5)[..], index));
            }
            let plain = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9];
            let mut sealed = plain.to_vec();
            assert!(outbound.seal_rtcp(&mut sealed, 0));
            assert_eq!(server.decrypt_rtcp(&sealed).unwrap(), plain[..]);
            let mut packet = client.encrypt_rtcp(&plain).unwrap().to_vec();
            let len = inbound.open_rtcp(&mut packet).unwrap();
            assert_eq!(packet[..len], plain);
        }
    }

    #[test]
    fn replays_forgeries_and_stumps_are_refused() {
        for (profile, _, key, salt) in PROFILES {
            let [(mut inbound, _), (_, mut outbound)] = both(profile, key, salt);
            let mut stream = outbound.stream(5).unwrap();
            let mut sealed = rtp(1, 5);
            assert!(outbound.seal_rtp(&mut stream, 1, &mut sealed, 0, 12));
            for len in 0..sealed.len() {
                let mut stump = sealed[..len].to_vec();
                assert_eq!(inbound.open_rtp(&mut stump, 12.min(len), 5, 1), None, "{profile:?} {len}");
            }
            for at in 0..sealed.len() {
                let mut forged = sealed.clone();
                forged[at] ^= 1;
                let header = super::super::rtp::Header::read(&forged);
                let opened = header.and_then(|h| inbound.open_rtp(&mut forged, h.len, h.ssrc, h.sequence));
                assert_eq!(opened, None, "{profile:?} byte {at}");
            }
            assert!(inbound.streams.is_empty(), "forgeries leave nothing behind");
            assert!(inbound.open_rtp(&mut sealed.clone(), 12, 5, 1).is_some());
            assert_eq!(inbound.open_rtp(&mut sealed.clone(), 12, 5, 1), None, "replay");

            let mut sealed = vec![0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9];
            assert!(outbound.seal_rtcp(&mut sealed, 0));
            for len in 0..sealed.len() {
                assert_eq!(inbound.open_rtcp(&mut sealed[..len].to_vec()), None);
            }
            assert!(inbound.open_rtcp(&mut sealed.clone()).is_some());
            assert_eq!(inbound.open_rtcp(&mut sealed.clone()), None, "replay");
        }
    }

    #[test]
    fn a_nonce_is_never_used_twice() {
        let [(_, mut outbound), _] = both(SrtpProfile::AEAD_AES_128_GCM, 16, 12);
        let mut stream = outbound.stream(5).unwrap();
        assert!(outbound.stream(5).is_none(), "one writer per SSRC");
        assert!(outbound.seal_rtp(&mut stream, 9, &mut rtp(9, 5), 0, 12));
        assert!(!outbound.seal_rtp(&mut stream, 9, &mut rtp(9, 5), 0, 12));
        outbound.retire(stream);
        let mut again = outbound.stream(5).unwrap();
        assert!(!outbound.seal_rtp(&mut again, 9, &mut rtp(9, 5), 0, 12), "nor after a new start");
        assert_eq!(again.next_index(0), 10);
    }

    #[test]
    fn a_peer_that_changes_its_ssrc_all_the_time_stays_bounded() {
        let [(mut inbound, _), (_, mut outbound)] = both(SrtpProfile::AEAD_AES_128_GCM, 16, 12);
        for ssrc in 0..1000 {
            let mut stream = outbound.stream(ssrc).unwrap();
            let mut sealed = rtp(1, ssrc);
            assert!(outbound.seal_rtp(&mut stream, 1, &mut sealed, 0, 12));
            assert!(inbound.open_rtp(&mut sealed, 12, ssrc, 1).is_some());
        }
        assert_eq!(inbound.streams.len(), MAX_STREAMS);
    }
}
