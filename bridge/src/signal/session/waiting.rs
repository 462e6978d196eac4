//! Data for a client that came from another bridge and whose data channel does not go on yet.

use std::collections::HashMap;

use bytes::Bytes;
use livekit_protocol::{DataChannelReceiveState, DataPacket};
use prost::Message as _;

/// Bytes that wait at most.
const MAX_WAITING: usize = 1 << 20;
/// Senders whose data a client says to have.
const MAX_SENDERS: usize = 4096;

/// What is said to a client that came and whose data channel does not go on yet.
#[derive(Default, Debug)]
pub(super) struct Waiting {
    /// By sender, the sequence of the last reliable packet that the client has.
    has: HashMap<String, u32>,
    /// In their order, encoded.
    packets: Vec<Bytes>,
}

impl Waiting {
    /// What the client says to have.
    pub(super) fn client_has(&mut self, states: &[DataChannelReceiveState]) {
        let states = states.iter().take(MAX_SENDERS);
        self.has = states.map(|sender| (sender.publisher_sid.clone(), sender.last_seq)).collect();
    }

    /// One packet more.
    pub(super) fn push(&mut self, packet: Bytes) {
        let waiting: usize = self.packets.iter().map(Bytes::len).sum();
        if waiting + packet.len() <= MAX_WAITING {
            self.packets.push(packet);
        }
    }

    /// What the client lacks of `said` before and of what came since, each packet once. Who does not number its packets
    /// cannot be asked what the client has: of that, what came since.
    pub(super) fn missing(self, said: Vec<Bytes>) -> Vec<Bytes> {
        let Self { mut has, packets } = self;
        let said =
            said.into_iter().map(|packet| (packet, false)).chain(packets.into_iter().map(|packet| (packet, true)));
        let lacks = said.filter(|(packet, since)| {
            let Ok(DataPacket { participant_sid, sequence, .. }) = DataPacket::decode(packet.clone()) else {
                return false;
            };
            if sequence == 0 || participant_sid.is_empty() {
                return *since;
            }
            let last = has.entry(participant_sid).or_default();
            let new = sequence > *last;
            *last = sequence.max(*last);
            new
        });
        lacks.map(|(packet, _)| packet).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_came_gets_each_packet_that_it_lacks_once() {
        let packet = |sender: &str, sequence, text: &str| {
            let value = livekit_protocol::UserPacket { payload: text.into(), ..Default::default() };
            let value = Some(livekit_protocol::data_packet::Value::User(value));
            let packet = DataPacket { participant_sid: sender.into(), sequence, value, ..Default::default() };
            Bytes::from(packet.encode_to_vec())
        };
        let (one, two, three, four) =
            (packet("PA_a", 7, "1"), packet("PA_a", 8, "2"), packet("PA_b", 1, "3"), packet("PA_a", 9, "4"));
        let (before, since) = (packet("PA_c", 0, "5"), packet("", 0, "6"));
        let mut waiting = Waiting::default();
        waiting.client_has(&[DataChannelReceiveState { publisher_sid: "PA_a".into(), last_seq: 7 }]);
        [&two, &since, &four].into_iter().for_each(|packet| waiting.push(packet.clone()));
        let said = vec![one, two.clone(), before, three.clone()];
        assert_eq!(waiting.missing(said), [two, three, since, four]);
        let mut waiting = Waiting::default();
        (0..100).for_each(|_| waiting.push(vec![0; 60_000].into()));
        assert_eq!(waiting.packets.len(), MAX_WAITING / 60_000);
    }
}
