//! The messages that open data channels (RFC 8832), in terms of the protocol's channels.

use bytes::Bytes;
use rtc::datachannel::data_channel::DataChannel;
use rtc::datachannel::message::Message;
use rtc::datachannel::message::message_channel_ack::DataChannelAck;
use rtc::datachannel::message::message_channel_open::{ChannelType, DataChannelOpen};
use rtc::sctp::Stream;
use rtc::shared::marshal::{Marshal, Unmarshal};

use crate::media::control::Channel;

/// "normal" (RFC 8831 §6.4).
const PRIORITY: u16 = 256;

/// A message of the peer.
pub(super) enum Dcep {
    /// It opens a channel; `None` is one that the protocol does not know.
    Open(Option<Channel>, Reliability),
    /// It has accepted ours.
    Ack,
}

/// How messages of a channel are sent, in both directions.
#[derive(Clone, Copy)]
pub(super) struct Reliability {
    channel_type: ChannelType,
    parameter: u32,
}

impl Reliability {
    fn of(channel: Channel) -> Self {
        let channel_type = match channel {
            Channel::Reliable => ChannelType::Reliable,
            Channel::Lossy => ChannelType::PartialReliableRexmitUnordered,
        };
        Self { channel_type, parameter: 0 }
    }

    /// Makes our direction of a stream like this; the library leaves it ordered and reliable otherwise.
    pub(super) fn apply(self, stream: &mut Stream<'_>) {
        let (unordered, reliability) = DataChannel::get_reliability_params(self.channel_type);
        // Fails only for a stream that was closed meanwhile.
        let _ = stream.set_reliability_params(unordered, reliability, self.parameter);
    }
}

/// Reads a message; `None` if it is malformed.
pub(super) fn read(payload: &[u8]) -> Option<Dcep> {
    match Message::unmarshal(&mut &*payload).ok()? {
        Message::DataChannelOpen(open) => {
            let channels = [Channel::Reliable, Channel::Lossy];
            let channel = channels.into_iter().find(|channel| channel.label().as_bytes() == open.label);
            let parameter = open.reliability_parameter;
            Some(Dcep::Open(channel, Reliability { channel_type: open.channel_type, parameter }))
        }
        Message::DataChannelAck(_) => Some(Dcep::Ack),
        _ => None,
    }
}

/// OPEN for one of the protocol's channels, and what it says.
pub(super) fn open(channel: Channel) -> Option<(Bytes, Reliability)> {
    let reliability = Reliability::of(channel);
    let open = Message::DataChannelOpen(DataChannelOpen {
        channel_type: reliability.channel_type,
        priority: PRIORITY,
        reliability_parameter: reliability.parameter,
        label: channel.label().as_bytes().to_vec(),
        protocol: Vec::new(),
    });
    Some((open.marshal().ok()?.freeze(), reliability))
}

/// The answer to OPEN.
pub(super) fn ack() -> Option<Bytes> {
    Message::DataChannelAck(DataChannelAck {}).marshal().ok().map(bytes::BytesMut::freeze)
}
