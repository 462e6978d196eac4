//! What a watch counts of packets that came, did not come, and came late.

use ratssaal_bridge::client::sdp::{OPUS, VP8};

use super::*;

const MS: Duration = Duration::from_millis(1);

struct Stage {
    start: Instant,
    watch: Watch,
}

impl Stage {
    fn new() -> Self {
        let start = Instant::now();
        let mut watch = Watch::new(Clock(start));
        watch.want(start, &[(7, false), (7, true)]);
        Self { start, watch }
    }

    /// A packet with a sequence number and a running number, sent at `sent` and received at `at` (ms).
    fn packet(
        &mut self,
        kind: u8,
        index: u64,
        number: u32,
        (sent, at): (u64, u32),
        (key, repaired): (bool, bool),
    ) -> bool {
        let mut payload = Vec::new();
        Stamp { publisher: 7, kind, key, number, sent: sent * 1000 }.write(&mut payload);
        let payload_type = if kind == AUDIO { OPUS } else { VP8 };
        let ssrc = u32::from(kind == AUDIO);
        let packet = Packet { ssrc, index, payload_type, timestamp: 0, marker: false, payload: &payload, repaired };
        self.watch.packet(self.start + at * MS, &packet)
    }

    fn video(&mut self, index: u64, number: u32, ms: u32) -> bool {
        self.packet(0, index, number, (ms.into(), ms), (false, false))
    }
}

#[test]
fn what_the_server_numbered_and_did_not_deliver_is_lost() {
    let mut stage = Stage::new();
    assert!(stage.video(10, 0, 0), "begins without a key frame");
    for index in [11, 12, 15, 16] {
        assert!(!stage.video(index, index as u32 - 10, 10));
    }
    let video = stage.watch.received().video;
    assert_eq!((video.expected, video.received, video.lost(), video.repaired), (7, 5, 2, 0));
    stage.packet(0, 13, 3, (10, 90), (false, true));
    let received = stage.watch.received();
    assert_eq!((received.video.lost(), received.video.repaired, received.video.skipped), (1, 1, 0));
    assert_eq!(received.latency.count(), 5, "a repair's delay is the line's, not the server's");
}

#[test]
fn what_the_server_left_out_silently_is_skipped_unless_it_switched() {
    let mut stage = Stage::new();
    stage.video(10, 0, 0);
    stage.video(11, 4, 10);
    assert_eq!(stage.watch.received().video.skipped, 3);
    stage.packet(2, 12, 900, (20, 20), (true, false));
    stage.packet(2, 13, 901, (20, 20), (false, false));
    stage.packet(0, 14, 90, (30, 30), (true, false));
    let video = stage.watch.received().video;
    assert_eq!((video.skipped, video.lost()), (3, 0));
    assert_eq!(video.layers, [3, 0, 2]);
}

#[test]
fn a_video_that_stands_still_is_frozen_and_a_pause_in_speech_is_not() {
    let mut stage = Stage::new();
    for (number, ms) in [(0u32, 0u32), (1, 200), (2, 401), (3, 410)] {
        stage.video(10 + u64::from(number), number, ms);
        stage.packet(AUDIO, 10 + u64::from(number), number, (u64::from(ms) * 10, ms * 10), (false, false));
    }
    let received = stage.watch.received();
    assert_eq!((received.video.freezes, received.video.frozen_ms), (1, 201));
    assert_eq!(received.audio.freezes, 0);
    stage.packet(AUDIO, 14, 4, (4200, 4500), (false, false));
    assert_eq!(stage.watch.received().audio.freezes, 1, "100 ms later sent, 400 ms later here");
    stage.watch.last_call(stage.start + 1000 * MS);
    assert_eq!(stage.watch.received().video.freezes, 2, "still frozen when the publishers stop");
}

#[test]
fn what_nobody_wants_does_not_freeze_and_what_never_comes_is_missing() {
    let mut stage = Stage::new();
    stage.video(10, 0, 0);
    stage.watch.want(stage.start, &[(8, false)]);
    stage.video(11, 1, 1000);
    stage.watch.want(stage.start + 1000 * MS, &[(7, false), (8, false)]);
    stage.video(12, 2, 1500);
    let video = stage.watch.received().video;
    assert_eq!((video.freezes, video.wanted, video.missing), (0, 2, 1));
}

#[test]
fn a_reset_forgets_what_was_and_keeps_what_is_under_way() {
    let mut stage = Stage::new();
    stage.video(10, 0, 0);
    stage.video(13, 3, 10);
    stage.watch.reset(stage.start + 20 * MS);
    stage.packet(0, 11, 1, (0, 30), (false, true));
    stage.video(14, 4, 40);
    let video = stage.watch.received().video;
    assert_eq!((video.expected, video.received, video.lost()), (1, 1, 0));
}

#[test]
fn an_index_of_zero_is_counted() {
    let mut stage = Stage::new();
    stage.video(0, 0, 0);
    stage.video(1, 1, 0);
    let video = stage.watch.received().video;
    assert_eq!((video.expected, video.received), (2, 2));
}
