//! Descriptions that Chromium 156 and Firefox 153 ESR really wrote, for the tests of all of `sdp`.
//!
//! `v1_join`: data channels and one receiving section of each kind. `v1_publish`: the same PeerConnection with a microphone and
//! a camera in three layers. `v1_restart`: once more after `restartIce()`. `v0_answer*`: to the snapshots of our offers.

use super::write::LocalTransport;

macro_rules! fixture {
    ($name:ident) => {
        pub(super) const $name: &str = include_str!(concat!("fixtures/", stringify!($name), ".sdp"));
    };
}

fixture!(CHROMIUM_V1_JOIN);
fixture!(CHROMIUM_V1_PUBLISH);
fixture!(CHROMIUM_V1_RESTART);
fixture!(CHROMIUM_V0_ANSWER1);
fixture!(CHROMIUM_V0_ANSWER2);
fixture!(CHROMIUM_V0_ANSWER3);
fixture!(CHROMIUM_V0_ANSWER4);
fixture!(FIREFOX_V1_JOIN);
fixture!(FIREFOX_V1_PUBLISH);
fixture!(FIREFOX_V1_RESTART);
fixture!(FIREFOX_V0_ANSWER1);
fixture!(FIREFOX_V0_ANSWER2);
fixture!(FIREFOX_V0_ANSWER3);
fixture!(FIREFOX_V0_ANSWER4);

pub(super) fn local() -> LocalTransport {
    LocalTransport {
        ice_ufrag: "ourUfrag1234".to_owned(),
        ice_pwd: "ourPassword/of+24/chars1".to_owned(),
        fingerprint: vec!["AB"; 32].join(":"),
        candidates: vec!["192.0.2.1:7882".parse().unwrap(), "[2001:db8::1]:7882".parse().unwrap()],
    }
}
