//! RTCP (RFC 3550 §6, RFC 4585): reading compound packets sub-packet by sub-packet, so that a bad one does not cost the
//! others, and writing our own reports and requests. Nothing is allocated either way: what a subscriber asks for must not
//! cost more than the answer.

use super::bandwidth::read_remb;
use super::receiver::Report;

/// A compound packet stays below this, bytes (SRTCP's trailer comes on top).
pub(crate) const MAX_COMPOUND: usize = 1100;

/// Bytes of a report block, and the most of them in a report.
const BLOCK: usize = 24;
pub(crate) const MAX_BLOCKS: usize = 31;

/// What the peer says that matters here.
#[derive(Clone, Debug)]
pub(crate) enum Feedback<'a> {
    /// A sender report, with its report blocks.
    Sender(SenderReport<'a>),
    /// Report blocks.
    Receiver(Blocks<'a>),
    /// Packets are asked for again.
    Nack(Nack<'a>),
    /// A key frame of this SSRC is asked for (PLI or FIR).
    KeyFrame(u32),
    /// Transport-wide feedback, the whole sub-packet: what it says is read where it is understood.
    TransportWide(&'a [u8]),
    /// Bits per second that the receiver thinks its way carries, unbounded.
    Remb(u64),
}

/// A sender report (RFC 3550 §6.4.1).
#[derive(Clone, Debug)]
pub(crate) struct SenderReport<'a> {
    pub(crate) ssrc: u32,
    pub(crate) ntp_time: u64,
    pub(crate) rtp_time: u32,
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests of what we send"))]
    pub(crate) packet_count: u32,
    pub(crate) reports: Blocks<'a>,
}

/// The report blocks of a report.
#[derive(Clone, Debug)]
pub(crate) struct Blocks<'a>(&'a [u8]);

/// What of a report block matters here (RFC 3550 §6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    pub(crate) ssrc: u32,
    pub(crate) fraction_lost: u8,
    pub(crate) jitter: u32,
    pub(crate) last_sender_report: u32,
    pub(crate) delay: u32,
}

impl<'a> Blocks<'a> {
    /// So many blocks at the beginning of `bytes`; `None` if they are not all there.
    fn read(bytes: &'a [u8], count: u8) -> Option<Self> {
        bytes.get(..BLOCK * usize::from(count)).map(Self)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Block> + 'a {
        self.0.as_chunks::<BLOCK>().0.iter().map(|block| Block {
            ssrc: word(block, 0),
            fraction_lost: block[4],
            jitter: word(block, 12),
            last_sender_report: word(block, 16),
            delay: word(block, 20),
        })
    }
}

/// Packets of an SSRC that are asked for again (RFC 4585 §6.2.1).
#[derive(Clone, Debug)]
pub(crate) struct Nack<'a> {
    pub(crate) media_ssrc: u32,
    pairs: &'a [u8],
}

impl<'a> Nack<'a> {
    /// Their sequence numbers, as they stand there: of each pair the first, and what its mask says of the sixteen behind it.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = u16> + 'a {
        self.pairs.as_chunks::<4>().0.iter().flat_map(|pair| {
            let (first, mask) = (u16::from_be_bytes([pair[0], pair[1]]), u16::from_be_bytes([pair[2], pair[3]]));
            let masked = (0..16).filter(move |bit| mask >> bit & 1 == 1);
            std::iter::once(first).chain(masked.map(move |bit| first.wrapping_add(bit + 1)))
        })
    }
}

/// The 32 bits at `at` of bytes that are known to be there; 0 where they are not.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_be_bytes(*word))
}

/// The sub-packets of a compound packet; what is malformed or unknown is passed over.
pub(crate) fn read(mut compound: &[u8]) -> impl Iterator<Item = Feedback<'_>> {
    std::iter::from_fn(move || {
        loop {
            let head: &[u8; 4] = compound.first_chunk()?;
            let len = 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
            let (packet, rest) = compound.split_at_checked(len)?;
            compound = rest;
            if let Some(feedback) = read_one(head[1], head[0] & 0x1f, packet) {
                return Some(feedback);
            }
        }
    })
}

/// One sub-packet of this type, with its count or format.
fn read_one(kind: u8, count: u8, packet: &[u8]) -> Option<Feedback<'_>> {
    match (kind, count) {
        (200, _) => {
            let blocks = packet.get(28..)?;
            Some(Feedback::Sender(SenderReport {
                ssrc: word(packet, 4),
                ntp_time: u64::from(word(packet, 8)) << 32 | u64::from(word(packet, 12)),
                rtp_time: word(packet, 16),
                packet_count: word(packet, 20),
                reports: Blocks::read(blocks, count)?,
            }))
        }
        (201, _) => Blocks::read(packet.get(8..)?, count).map(Feedback::Receiver),
        (205, 1) => {
            let pairs = packet.get(12..)?;
            Some(Feedback::Nack(Nack { media_ssrc: word(packet, 8), pairs }))
        }
        (205, 15) => Some(Feedback::TransportWide(packet)),
        (206, 1) => packet.get(..12).map(|packet| Feedback::KeyFrame(word(packet, 8))),
        // RFC 5104 §4.3.1: of a full intra request the entries count.
        (206, 4) => packet.get(..20).map(|packet| Feedback::KeyFrame(word(packet, 12))),
        (206, 15) => read_remb(packet).map(Feedback::Remb),
        _ => None,
    }
}

/// Collects sub-packets into compound packets of bounded size.
#[derive(Default, Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What has been written.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The buffer, for packets written elsewhere.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The head of a sub-packet that says who sends it; its length is filled in by [`Self::end`].
    fn begin(&mut self, kind: u8, count: u8, ssrc: u32) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0x80 | count, kind, 0, 0]);
        self.word(ssrc);
        start
    }

    fn word(&mut self, word: u32) {
        self.bytes.extend_from_slice(&word.to_be_bytes());
    }

    /// The sub-packet that began at `start` is complete.
    fn end(&mut self, start: usize) {
        let words = u16::try_from((self.bytes.len() - start) / 4 - 1).unwrap_or(u16::MAX);
        if let Some(len) = self.bytes.get_mut(start + 2..start + 4) {
            len.copy_from_slice(&words.to_be_bytes());
        }
    }

    /// A receiver report with the given blocks, at most [`MAX_BLOCKS`].
    pub(crate) fn receiver_report(&mut self, blocks: &[(u32, Report)]) {
        let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
        let start = self.begin(201, blocks.len() as u8, OUR_SSRC);
        for (ssrc, report) in blocks {
            self.word(*ssrc);
            self.word(u32::from(report.fraction_lost) << 24 | report.total_lost & 0x00ff_ffff);
            self.word(report.highest);
            self.word(report.jitter);
            self.word(report.last_sr);
            self.word(report.delay);
        }
        self.end(start);
    }

    /// A sender report without blocks.
    pub(crate) fn sender_report(
        &mut self,
        ssrc: u32,
        (ntp_time, rtp_time, packet_count, octet_count): (u64, u32, u32, u32),
    ) {
        let start = self.begin(200, 0, ssrc);
        self.bytes.extend_from_slice(&ntp_time.to_be_bytes());
        for word in [rtp_time, packet_count, octet_count] {
            self.word(word);
        }
        self.end(start);
    }

    /// Asks for packets again.
    pub(crate) fn nack(&mut self, media_ssrc: u32, sequences: &[u16]) {
        let start = self.begin(205, 1, OUR_SSRC);
        self.word(media_ssrc);
        let mut pair: Option<(u16, u16)> = None;
        for &sequence in sequences {
            pair = match pair {
                Some((first, mask)) if (1..=16).contains(&sequence.wrapping_sub(first)) => {
                    Some((first, mask | 1 << (sequence.wrapping_sub(first) - 1)))
                }
                before => {
                    before.into_iter().for_each(|pair| self.pair(pair));
                    Some((sequence, 0))
                }
            };
        }
        pair.into_iter().for_each(|pair| self.pair(pair));
        self.end(start);
    }

    fn pair(&mut self, (first, mask): (u16, u16)) {
        self.word(u32::from(first) << 16 | u32::from(mask));
    }

    /// Asks for a key frame.
    pub(crate) fn picture_loss(&mut self, media_ssrc: u32) {
        let start = self.begin(206, 1, OUR_SSRC);
        self.word(media_ssrc);
        self.end(start);
    }
}

/// Gives a compound packet of ours that begins with our own SSRC another one: a bridge tells rooms apart by it.
pub(crate) fn rename(compound: &mut [u8], ssrc: u32) {
    if let Some(own) = compound.get_mut(4..8).filter(|own| **own == OUR_SSRC.to_be_bytes()) {
        own.copy_from_slice(&ssrc.to_be_bytes());
    }
}

/// The SSRC our own reports bear; no media has it.
pub(crate) const OUR_SSRC: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc::rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
    use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
    use rtc::rtcp::receiver_report::ReceiverReport;
    use rtc::rtcp::reception_report::ReceptionReport;
    use rtc::rtcp::sender_report;
    use rtc::rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
    use rtc::shared::marshal::{Marshal, Unmarshal};

    #[test]
    fn a_bad_sub_packet_does_not_cost_the_others() {
        let mut writer = Writer::default();
        writer.picture_loss(7);
        // A receiver report that announces more blocks than it has.
        writer.buffer().extend_from_slice(&[0x9f, 201, 0, 1, 0, 0, 0, 9]);
        writer.nack(8, &[1, 2, 65_535]);
        let read: Vec<_> = read(writer.bytes()).collect();
        assert!(matches!(&read[..], [Feedback::KeyFrame(7), Feedback::Nack(n)] if n.media_ssrc == 8), "{read:?}");
    }

    fn report() -> impl Strategy<Value = Report> {
        (any::<u8>(), 0u32..1 << 24, any::<[u32; 4]>()).prop_map(|(fraction_lost, total_lost, words)| {
            let [highest, jitter, last_sr, delay] = words;
            Report { fraction_lost, total_lost, highest, jitter, last_sr, delay }
        })
    }

    /// The same block as an independent implementation has it.
    fn block((ssrc, report): &(u32, Report)) -> ReceptionReport {
        ReceptionReport {
            ssrc: *ssrc,
            fraction_lost: report.fraction_lost,
            total_lost: report.total_lost,
            last_sequence_number: report.highest,
            jitter: report.jitter,
            last_sender_report: report.last_sr,
            delay: report.delay,
        }
    }

    fn is_of(block: &Block, (ssrc, report): &(u32, Report)) -> bool {
        let Report { fraction_lost, jitter, last_sr: last_sender_report, delay, .. } = *report;
        *block == Block { ssrc: *ssrc, fraction_lost, jitter, last_sender_report, delay }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 200u8..208) {
            if bytes.len() > 3 {
                bytes[1] = kind;
                bytes[2] = 0;
            }
            for feedback in read(&bytes) {
                match feedback {
                    Feedback::Sender(report) => prop_assert!(report.reports.iter().count() <= MAX_BLOCKS),
                    Feedback::Receiver(blocks) => prop_assert!(blocks.iter().count() <= MAX_BLOCKS),
                    Feedback::Nack(nack) => prop_assert!(nack.sequences().count() <= 17 * bytes.len() / 4),
                    _ => {}
                }
            }
        }

        #[test]
        fn another_implementation_reads_what_is_written(
            blocks in proptest::collection::vec((any::<u32>(), report()), 0..32),
            sequences in proptest::collection::vec(any::<u16>(), 1..100),
            sender: (u32, u64, [u32; 3]),
        ) {
            let (ssrc, ntp_time, [rtp_time, packet_count, octet_count]) = sender;
            let mut writer = Writer::default();
            writer.receiver_report(&blocks);
            let theirs = ReceiverReport::unmarshal(&mut writer.bytes()).unwrap();
            prop_assert_eq!((theirs.ssrc, theirs.reports), (OUR_SSRC, blocks.iter().map(block).collect::<Vec<_>>()));
            writer.clear();
            writer.sender_report(ssrc, (ntp_time, rtp_time, packet_count, octet_count));
            let theirs = sender_report::SenderReport::unmarshal(&mut writer.bytes()).unwrap();
            prop_assert_eq!((theirs.ssrc, theirs.ntp_time, theirs.rtp_time), (ssrc, ntp_time, rtp_time));
            prop_assert_eq!((theirs.packet_count, theirs.octet_count), (packet_count, octet_count));
            writer.clear();
            writer.nack(ssrc, &sequences);
            let theirs = TransportLayerNack::unmarshal(&mut writer.bytes()).unwrap();
            prop_assert_eq!((theirs.sender_ssrc, theirs.media_ssrc), (OUR_SSRC, ssrc));
            let mut asked: Vec<u16> = theirs.nacks.into_iter().flatten().collect();
            let mut all = sequences.clone();
            for list in [&mut asked, &mut all] {
                list.sort_unstable();
                list.dedup();
            }
            prop_assert_eq!(asked, all);
            writer.clear();
            writer.picture_loss(ssrc);
            let theirs = PictureLossIndication::unmarshal(&mut writer.bytes()).unwrap();
            prop_assert_eq!((theirs.sender_ssrc, theirs.media_ssrc), (OUR_SSRC, ssrc));
        }

        #[test]
        fn what_another_implementation_writes_is_read(
            blocks in proptest::collection::vec((any::<u32>(), report()), 0..32),
            sequences in proptest::collection::vec(any::<u16>(), 1..100),
            sender: (u32, u64, [u32; 3]),
        ) {
            let (ssrc, ntp_time, [rtp_time, packet_count, octet_count]) = sender;
            let reports: Vec<_> = blocks.iter().map(block).collect();
            let nacks = nack_pairs_from_sequence_numbers(&sequences);
            let asked: Vec<u16> = nacks.clone().into_iter().flatten().collect();
            let sent = sender_report::SenderReport {
                ssrc, ntp_time, rtp_time, packet_count, octet_count, reports: reports.clone(), ..Default::default()
            };
            let entry = FirEntry { ssrc, sequence_number: 9 };
            let compound = [
                sent.marshal().unwrap(),
                ReceiverReport { ssrc, reports, ..Default::default() }.marshal().unwrap(),
                TransportLayerNack { sender_ssrc: 5, media_ssrc: ssrc, nacks }.marshal().unwrap(),
                FullIntraRequest { sender_ssrc: 5, media_ssrc: 0, fir: vec![entry] }.marshal().unwrap(),
            ].concat();
            let read: Vec<_> = read(&compound).collect();
            let [Feedback::Sender(sent), Feedback::Receiver(received), Feedback::Nack(nack), Feedback::KeyFrame(key)] =
                &read[..]
            else {
                panic!("{read:?}")
            };
            prop_assert_eq!((sent.ssrc, sent.ntp_time, sent.rtp_time), (ssrc, ntp_time, rtp_time));
            prop_assert_eq!(sent.packet_count, packet_count);
            for list in [&sent.reports, received] {
                prop_assert!(list.iter().count() == blocks.len() && list.iter().zip(&blocks).all(|(a, b)| is_of(&a, b)));
            }
            prop_assert_eq!((nack.media_ssrc, nack.sequences().collect::<Vec<_>>(), *key), (ssrc, asked, ssrc));
        }
    }
}
