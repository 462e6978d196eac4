use std::collections::VecDeque;

use super::*;
use crate::media::control::PayloadType;

/// Two bridges' ends of one room, and the messages between them.
struct Two {
    ends: [Exchange; 2],
    wires: [VecDeque<Message>; 2],
    /// What each end did besides sending.
    done: [Vec<Action>; 2],
    /// The codecs that each end was asked for.
    asked: [Vec<(TrackSid, Codec)>; 2],
}

fn addresses(port: u16) -> Vec<SocketAddr> {
    vec![([192, 0, 2, 1], port).into()]
}

fn track(publisher: &str, codec: Codec, rids: &[&str]) -> LocalTrack {
    LocalTrack {
        media: TrackId::next(),
        payload_types: vec![PayloadType { number: 120, codec, rtx: None, profile: 0 }],
        rids: rids.iter().map(|rid| (*rid).to_owned()).collect(),
        publisher: publisher.into(),
        relay: None,
        borrowed: false,
        backups: Vec::new(),
    }
}

impl Two {
    fn new() -> Self {
        let ends = [("a", "b", 1), ("b", "a", 2)]
            .map(|(me, peer, port)| Exchange::new(RoomId::next(), &addresses(port), peer, me, None));
        Self { ends, wires: Default::default(), done: Default::default(), asked: Default::default() }
    }

    fn link(&mut self) {
        self.wires = Default::default();
        for end in 0..2 {
            self.ends[end].linked(None);
            self.work(end);
        }
        self.run();
    }

    /// Carries out what an end has to do.
    fn work(&mut self, end: usize) {
        for action in self.ends[end].actions() {
            match action {
                Action::Send(message) => self.wires[1 - end].push_back(message),
                other => self.done[end].push(other),
            }
        }
    }

    fn run(&mut self) {
        for round in 0.. {
            assert!(round < 100, "they never agree");
            let mut quiet = true;
            for end in 0..2 {
                while let Some(message) = self.wires[end].pop_front() {
                    quiet = false;
                    let exchange = &mut self.ends[end];
                    match message {
                        Message::Open(open) => exchange.open(open),
                        Message::Close(_) => exchange.closed(),
                        Message::Tracks(tracks) => exchange.remote_tracks(tracks),
                        Message::Pull(pull) => exchange.pulled(&pull),
                        Message::Codec(want) => self.asked[end].push(wire::read_want(&want).unwrap()),
                        _ => unreachable!(),
                    }
                    self.work(end);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn parameters(&mut self, end: usize) -> Vec<RelayParameters> {
        let opened = self.done[end].iter().filter_map(|action| match action {
            Action::Media(Command::OpenRelay { parameters, .. }) => Some((**parameters).clone()),
            _ => None,
        });
        opened.collect()
    }

    /// The last negotiation of an end.
    fn negotiated(&self, end: usize) -> (Vec<ReceiveSection>, Vec<SendSection>) {
        let last = self.done[end].iter().rev().find_map(|action| match action {
            Action::Media(Command::Negotiated { receive, send, .. }) => Some((receive.clone(), send.clone())),
            _ => None,
        });
        last.unwrap()
    }

    fn published(&self, end: usize) -> Vec<(TrackSid, LocalTrack)> {
        let published = self.done[end].iter().filter_map(|action| match action {
            Action::Publish(sid, track) => Some((sid.clone(), track.clone())),
            _ => None,
        });
        published.collect()
    }

    fn withdrawn(&self, end: usize) -> usize {
        self.done[end].iter().filter(|action| matches!(action, Action::Withdraw(..))).count()
    }
}

/// Keys and SSRCs of both ends fit each other.
fn assert_fit(a: &RelayParameters, b: &RelayParameters) {
    assert_eq!((&a.seal, &a.open), (&b.open, &b.seal));
    assert_ne!(a.seal, a.open);
    assert_eq!((a.listen_ssrc, a.report_ssrc), (b.report_ssrc, b.listen_ssrc));
    assert_eq!((&a.remote, &b.remote), (&addresses(2), &addresses(1)));
}

#[test]
fn two_bridges_agree_and_pull_what_is_needed() {
    let mut two = Two::new();
    let camera = track("PA_a", Codec::Vp8, &["q", "h", "f"]);
    let microphone = track("PA_a", Codec::Opus, &[]);
    let own = vec![("TR_cam".into(), camera.clone()), ("TR_mic".into(), microphone.clone())];
    two.ends[0].own_tracks(own);
    two.link();
    let (a, b) = (two.parameters(0), two.parameters(1));
    assert_eq!((a.len(), b.len()), (1, 1), "one session, not several");
    assert_fit(&a[0], &b[0]);

    let published = two.published(1);
    assert_eq!(published.len(), 2);
    let (sid, theirs) = &published[0];
    assert_eq!((sid.as_str(), &theirs.rids, theirs.publisher.as_str()), ("TR_cam", &camera.rids, "PA_a"));
    assert_eq!(theirs.relay.as_deref(), Some("a"));
    let (receive, _) = two.negotiated(1);
    let expected: Vec<_> = receive.iter().map(|section| section.ssrcs.len()).collect();
    assert_eq!(expected, [3, 1]);
    assert_eq!(two.negotiated(0).1, [], "nothing flows that nobody needs");

    two.ends[1].needed(theirs.media, 0b101);
    two.work(1);
    two.run();
    let (_, send) = two.negotiated(0);
    let sent: Vec<_> = send.iter().map(|s| (s.track, s.wanted.layer, s.ssrc, Some(s.rtx_ssrc))).collect();
    let [(q, q_rtx), _, (f, f_rtx)] = receive[0].ssrcs[..] else { panic!() };
    assert_eq!(sent, [(camera.media, Some(0), q, q_rtx), (camera.media, Some(2), f, f_rtx)]);
    assert_eq!(send[0].payload_types, receive[0].payload_types, "called the same at both ends");
    let told = |action: &Action| *action == Action::Subscribed("PA_a".into(), "TR_cam".into());
    assert_eq!(two.done[0].iter().filter(|action| told(action)).count(), 1);

    let legs: Vec<_> = send.iter().map(|section| section.leg).collect();
    two.ends[1].needed(theirs.media, 0b111);
    two.work(1);
    two.run();
    let (_, send) = two.negotiated(0);
    assert_eq!([send[0].leg, send[2].leg], legs[..], "what flows goes on");
    assert_eq!(send.len(), 3);
    two.ends[1].needed(theirs.media, 0);
    two.work(1);
    two.run();
    assert_eq!(two.negotiated(0).1, []);
}

#[test]
fn a_new_stream_brings_new_keys_and_everything_goes_on() {
    let mut two = Two::new();
    two.ends[0].own_tracks(vec![("TR_cam".into(), track("PA_a", Codec::Vp8, &["q", "h", "f"]))]);
    two.link();
    let media = two.published(1)[0].1.media;
    two.ends[1].needed(media, 1);
    two.work(1);
    two.run();
    let before = two.negotiated(0).1;
    for links in 2..5 {
        two.link();
        let (a, b) = (two.parameters(0), two.parameters(1));
        assert_eq!((a.len(), b.len()), (links, links));
        assert_fit(&a[links - 1], &b[links - 1]);
        for (older, newer) in a.iter().zip(&a[1..]) {
            assert_ne!(older.seal, newer.seal, "no key twice");
        }
        assert_eq!((two.published(1).len(), two.withdrawn(1)), (1, 0), "the track stays");
        let (receive, _) = two.negotiated(1);
        let (_, send) = two.negotiated(0);
        assert_eq!((send.len(), receive[0].track), (1, media), "and is pulled again");
        assert_eq!(send[0].ssrc, receive[0].ssrcs[0].0);
        assert_ne!(send[0].ssrc, before[0].ssrc);
    }
}

#[test]
fn one_that_comes_late_or_again_finds_the_other() {
    let mut two = Two::new();
    two.ends[0].own_tracks(vec![("TR_mic".into(), track("PA_a", Codec::Opus, &[]))]);
    // The first has the room earlier: what it says is lost.
    two.ends[0].linked(None);
    two.work(0);
    two.wires[1].clear();
    two.ends[1].linked(None);
    two.work(1);
    two.run();
    let (a, b) = (two.parameters(0), two.parameters(1));
    assert_fit(&a[0], &b[0]);
    assert_eq!(two.published(1).len(), 1);
    // It goes and comes back on the same stream: nothing of the earlier session is used again.
    two.ends[1].close();
    two.work(1);
    two.run();
    assert_eq!(two.withdrawn(1), 1);
    two.ends[1] = Exchange::new(RoomId::next(), &addresses(2), "a", "b", None);
    two.ends[1].linked(None);
    two.work(1);
    two.run();
    let (a, b) = (two.parameters(0), two.parameters(1));
    assert_fit(a.last().unwrap(), b.last().unwrap());
    assert!(a.windows(2).all(|pair| pair[0].seal != pair[1].seal));
    assert_eq!(two.published(1).len(), 2);
}

#[test]
fn tracks_come_and_go_and_begin_anew() {
    let mut two = Two::new();
    two.link();
    let first = track("PA_b", Codec::Vp8, &[]);
    two.ends[1].own_tracks(vec![("TR_cam".into(), first.clone())]);
    two.work(1);
    two.run();
    assert_eq!(two.published(0).len(), 1);
    two.ends[1].own_tracks(vec![("TR_cam".into(), first)]);
    two.work(1);
    assert!(two.wires[0].is_empty(), "no news");
    two.ends[1].own_tracks(vec![("TR_cam".into(), track("PA_b", Codec::Vp8, &[]))]);
    two.work(1);
    two.run();
    assert_eq!((two.published(0).len(), two.withdrawn(0)), (2, 1), "its media began anew");
    two.ends[1].own_tracks(Vec::new());
    two.work(1);
    two.run();
    assert_eq!(two.withdrawn(0), 2);
    assert_eq!(two.negotiated(0).0, []);
}

#[test]
fn another_codec_is_asked_for_and_pulled_by_itself() {
    let mut two = Two::new();
    let camera = track("PA_a", Codec::Vp9, &[]);
    two.ends[0].own_tracks(vec![("TR_cam".into(), camera.clone())]);
    let vp8 = ("TR_cam".into(), Codec::Vp8);
    two.ends[1].want(&vp8.0, Codec::Vp8);
    two.link();
    assert_eq!(two.asked[0], [], "nobody knew the track yet");
    for _ in 0..2 {
        two.ends[1].want(&vp8.0, Codec::Vp8);
        two.ends[1].want(&vp8.0, Codec::Vp9);
        two.work(1);
        two.run();
        assert_eq!(two.asked[0], std::slice::from_ref(&vp8), "once, and nothing that comes anyway");
    }
    two.link();
    assert_eq!(two.asked[0], [vp8.clone(), vp8.clone()], "in a new session again");

    let second = track("PA_a", Codec::Vp8, &["q", "h"]);
    let both = LocalTrack { backups: vec![second.first()], ..camera.clone() };
    two.ends[0].own_tracks(vec![("TR_cam".into(), both)]);
    two.work(0);
    two.run();
    let published = two.published(1);
    let [(_, before), (_, now)] = &published[..] else { panic!("{published:?}") };
    assert_eq!((before.media, two.withdrawn(1)), (now.media, 0), "the first goes on");
    assert_eq!((now.backups[0].codec(), &now.backups[0].rids), (Some(Codec::Vp8), &second.rids));
    two.ends[1].needed(now.backups[0].track, 0b10);
    two.work(1);
    two.run();
    let sent: Vec<_> = two.negotiated(0).1.iter().map(|section| (section.track, section.wanted.layer)).collect();
    assert_eq!(sent, [(second.media, Some(1))], "of the first nothing flows");
    two.ends[1].needed(now.media, 1);
    two.work(1);
    two.run();
    assert_eq!(two.negotiated(0).1.len(), 2);
    two.ends[1].needed(now.backups[0].track, 0);
    two.work(1);
    two.run();
    let sent: Vec<_> = two.negotiated(0).1.iter().map(|section| section.track).collect();
    assert_eq!(sent, [camera.media]);

    two.ends[0].own_tracks(vec![("TR_cam".into(), camera)]);
    two.work(0);
    two.run();
    let (_, last) = two.published(1).pop().unwrap();
    assert_eq!((last.media, last.backups.len(), two.withdrawn(1)), (before.media, 0, 0));
    two.ends[1].want(&vp8.0, Codec::Vp8);
    two.work(1);
    two.run();
    assert_eq!(two.asked[0].len(), 3, "it is needed still");
}
