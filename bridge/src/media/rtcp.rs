//! RTCP (RFC 3550 §6, RFC 4585): reading compound packets sub-packet by sub-packet, so that a bad one does not cost the
//! others, and writing our own reports and requests.

use bytes::BytesMut;
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use rtc::shared::marshal::{Marshal, Unmarshal};

use super::bandwidth::read_remb;
use super::receiver::Report;

/// A compound packet stays below this, bytes (SRTCP's trailer comes on top).
pub(crate) const MAX_COMPOUND: usize = 1100;

/// What the peer says that matters here.
#[derive(Debug)]
pub(crate) enum Feedback<'a> {
    /// A sender report, with its report blocks.
    Sender(SenderReport),
    /// Report blocks.
    Receiver(ReceiverReport),
    /// Packets are asked for again.
    Nack(TransportLayerNack),
    /// A key frame of this SSRC is asked for (PLI or FIR).
    KeyFrame(u32),
    /// Transport-wide feedback, the whole sub-packet: what it says is read where it is understood.
    TransportWide(&'a [u8]),
    /// Bits per second that the receiver thinks its way carries, unbounded.
    Remb(u64),
}

/// The sub-packets of a compound packet; what is malformed or unknown is passed over.
pub(crate) fn read(mut compound: &[u8]) -> impl Iterator<Item = Feedback<'_>> {
    std::iter::from_fn(move || {
        loop {
            let head: &[u8; 4] = compound.first_chunk()?;
            let len = 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
            let (packet, rest) = compound.split_at_checked(len)?;
            compound = rest;
            let mut bytes = packet;
            let feedback = match (head[1], head[0] & 0x1f) {
                (200, _) => SenderReport::unmarshal(&mut bytes).ok().map(Feedback::Sender),
                (201, _) => ReceiverReport::unmarshal(&mut bytes).ok().map(Feedback::Receiver),
                (205, 1) => TransportLayerNack::unmarshal(&mut bytes).ok().map(Feedback::Nack),
                (206, 1) => PictureLossIndication::unmarshal(&mut bytes).ok().map(|p| Feedback::KeyFrame(p.media_ssrc)),
                (206, 4) => FullIntraRequest::unmarshal(&mut bytes)
                    .ok()
                    .and_then(|request| request.fir.first().map(|entry| Feedback::KeyFrame(entry.ssrc))),
                (205, 15) => Some(Feedback::TransportWide(packet)),
                (206, 15) => read_remb(packet).map(Feedback::Remb),
                _ => None,
            };
            if feedback.is_some() {
                return feedback;
            }
        }
    })
}

/// Collects sub-packets into compound packets of bounded size.
#[derive(Default, Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    scratch: BytesMut,
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

    fn append(&mut self, packet: &impl Marshal) {
        self.scratch.resize(packet.marshal_size(), 0);
        if packet.marshal_to(&mut self.scratch).is_ok() {
            self.bytes.extend_from_slice(&self.scratch);
        }
    }

    /// A receiver report with the given blocks, at most 31.
    pub(crate) fn receiver_report(&mut self, blocks: &[(u32, Report)]) {
        let reports = blocks.iter().take(31).map(|(ssrc, report)| ReceptionReport {
            ssrc: *ssrc,
            fraction_lost: report.fraction_lost,
            total_lost: report.total_lost,
            last_sequence_number: report.highest,
            jitter: report.jitter,
            last_sender_report: report.last_sr,
            delay: report.delay,
        });
        self.append(&ReceiverReport { ssrc: OUR_SSRC, reports: reports.collect(), ..Default::default() });
    }

    /// A sender report without blocks.
    pub(crate) fn sender_report(
        &mut self,
        ssrc: u32,
        (ntp_time, rtp_time, packet_count, octet_count): (u64, u32, u32, u32),
    ) {
        self.append(&SenderReport { ssrc, ntp_time, rtp_time, packet_count, octet_count, ..Default::default() });
    }

    /// Asks for packets again.
    pub(crate) fn nack(&mut self, media_ssrc: u32, sequences: &[u16]) {
        let nacks = nack_pairs_from_sequence_numbers(sequences);
        self.append(&TransportLayerNack { sender_ssrc: OUR_SSRC, media_ssrc, nacks });
    }

    /// Asks for a key frame.
    pub(crate) fn picture_loss(&mut self, media_ssrc: u32) {
        self.append(&PictureLossIndication { sender_ssrc: OUR_SSRC, media_ssrc });
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

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 200u8..208) {
            if bytes.len() > 3 {
                bytes[1] = kind;
                bytes[2] = 0;
            }
            let _ = read(&bytes).count();
        }
    }
}
