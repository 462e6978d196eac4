//! When a picture was taken and how long it may wait to be shown (abs-capture-time, playout-delay) reaches subscribers whose ids
//! of header extensions are others than the publisher's.

use super::super::super::control::*;
use super::super::super::rtcp;
use super::super::super::simulation::*;

/// The ids of [`IDS`] with other meanings.
pub(super) const OTHER_IDS: ExtensionIds = ExtensionIds {
    mid: 1,
    rid: 11,
    repaired_rid: 10,
    audio_level: 4,
    twcc: 6,
    abs_capture_time: 3,
    playout_delay: 5,
    ..IDS
};

/// When the picture of a packet was taken, milliseconds, if that and the delay are told by the other ids and by none else.
pub(super) fn taken(got: &Got) -> Option<u64> {
    let find = |id: u8| got.elements.iter().filter(move |(known, _)| *known == id).map(|(_, value)| &value[..]);
    let (mut times, mut delays) = (find(OTHER_IDS.abs_capture_time), find(OTHER_IDS.playout_delay));
    let (time, delay) = (times.next()?, delays.next()?);
    let once = times.next().is_none() && delays.next().is_none();
    (once && delay == PLAYOUT_DELAY).then(|| u64::from_be_bytes(time.try_into().unwrap()))
}

#[test]
fn a_subscriber_with_other_ids_learns_both() {
    let mut world = World::new();
    let mut publisher = Client::connect(&mut world, "127.0.0.1:1001");
    let mut camera = Camera::new(&["q", "h", "f"]);
    camera.timed = true;
    publisher.negotiate(&mut world, vec![camera.section("7")], vec![]);
    let leg = leg(camera.track, Kind::Video, "3");
    let mut same = Client::connect(&mut world, "127.0.0.1:1002");
    same.negotiate(&mut world, vec![], vec![leg.clone()]);
    let mut other = Client::connect(&mut world, "127.0.0.1:1003");
    let its = SendSection { leg: LegId::next(), ..leg.clone() };
    other.negotiate_as(&mut world, OTHER_IDS, vec![], vec![its]);
    let mut none = Client::connect(&mut world, "127.0.0.1:1004");
    let without = ExtensionIds { abs_capture_time: 0, playout_delay: 0, ..OTHER_IDS };
    none.negotiate_as(&mut world, without, vec![], vec![SendSection { leg: LegId::next(), ..leg.clone() }]);
    for frame in 0..3u32 {
        for packet in camera.frame(&mut publisher, "7", 2, 40 * frame, frame == 0, 2) {
            world.send(publisher.address, packet);
        }
        world.pass(40 * MS);
    }
    let (packets, _) = other.receive(&mut world);
    let mid = |got: &Got| got.elements.iter().any(|(id, value)| *id == OTHER_IDS.mid && value == b"3");
    assert!(packets.iter().all(mid));
    assert_eq!(packets.iter().map(taken).collect::<Vec<_>>(), [0, 0, 40, 40, 80, 80].map(Some));
    // Asked for again, it is the same.
    let mut writer = rtcp::Writer::default();
    writer.nack(leg.ssrc, &[packets[3].header.sequence]);
    other.rtcp(&mut world, writer.bytes());
    let (repairs, _) = other.receive(&mut world);
    assert_eq!(repairs.iter().map(|got| (got.header.ssrc, taken(got))).collect::<Vec<_>>(), [(leg.rtx_ssrc, Some(40))]);
    let (packets, _) = same.receive(&mut world);
    let as_sent = |got: &Got| {
        let time = (IDS.abs_capture_time, 0u64.to_be_bytes().to_vec());
        got.elements.contains(&time) && got.elements.contains(&(IDS.playout_delay, PLAYOUT_DELAY.to_vec()))
    };
    assert!(packets[..2].iter().all(as_sent));
    let (packets, _) = none.receive(&mut world);
    assert!(packets.len() == 6 && packets.iter().all(|got| got.elements.iter().all(|(id, _)| *id == OTHER_IDS.mid)));
}
