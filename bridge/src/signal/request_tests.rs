//! Queries as the clients write them, and the ways they can be wrong.

use std::io::Write;

use flate2::{Compression as Level, write::GzEncoder};
use http::HeaderValue;
use livekit_protocol::ConnectionSettings;
use secrecy::SecretString;
use std::time::Duration;

use super::*;
use crate::token::VideoGrants;

fn keys() -> Keys {
    Keys::new([("key", &SecretString::from("a-secret-of-at-least-thirty-two-bytes"))]).unwrap()
}

fn token(grants: VideoGrants) -> String {
    keys().mint(&Claims { identity: "anna".into(), grants, ..Claims::default() }, Duration::from_secs(60))
}

fn member() -> VideoGrants {
    VideoGrants { room_join: true, room: "rat".into(), ..VideoGrants::default() }
}

fn query(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn wrap(request: &JoinRequest, compression: Compression) -> String {
    let inner = request.encode_to_vec();
    let join_request = match compression {
        Compression::None => inner,
        Compression::Gzip => {
            let mut zip = GzEncoder::new(Vec::new(), Level::fast());
            zip.write_all(&inner).unwrap();
            zip.finish().unwrap()
        }
    };
    BASE64.encode(WrappedJoinRequest { compression: compression.into(), join_request }.encode_to_vec())
}

#[test]
fn v0_reads_plain_parameters() {
    let token = token(member());
    let query = query(&[
        ("access_token", &token),
        ("sdk", "js"),
        ("version", "2.23.0"),
        ("protocol", "16"),
        ("auto_subscribe", "0"),
        ("adaptive_stream", "1"),
        ("browser", "firefox"),
        ("reconnect", "1"),
        ("sid", "PA_x"),
    ]);
    let opening = parse(Path::V0, &query, &HeaderMap::new(), &keys()).unwrap();
    assert_eq!(opening.claims.identity, "anna");
    assert_eq!((opening.client.sdk(), opening.client.protocol), (client_info::Sdk::Js, 16));
    assert!(!opening.auto_subscribe && opening.adaptive_stream);
    assert_eq!(opening.resume, Some(ParticipantSid::from("PA_x")));
    assert!(!opening.takes_streams(), "Firefox calls the tracks it receives by names of its own");
}

#[test]
fn v0_subscribes_to_everything_unless_told() {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", token(member()))).unwrap());
    let opening = parse(Path::V0, &HashMap::new(), &headers, &keys()).unwrap();
    assert!(opening.auto_subscribe && opening.resume.is_none(), "the token may come as a bearer token");
}

#[test]
fn v1_reads_the_wrapped_request_zipped_or_not() {
    let request = JoinRequest {
        client_info: Some(ClientInfo { protocol: 16, ..Default::default() }),
        connection_settings: Some(ConnectionSettings { auto_subscribe: true, ..Default::default() }),
        publisher_offer: Some(SessionDescription { sdp: "v=0".into(), id: 1, ..Default::default() }),
        add_track_requests: vec![AddTrackRequest { cid: "c".into(), ..Default::default() }],
        ..Default::default()
    };
    let token = token(member());
    for compression in [Compression::None, Compression::Gzip] {
        let wrapped = wrap(&request, compression);
        for text in [wrapped.trim_end_matches('='), &wrapped] {
            let query = query(&[("access_token", &token), ("join_request", text)]);
            let opening = parse(Path::V1, &query, &HeaderMap::new(), &keys()).unwrap();
            assert_eq!(opening.offer.as_ref().map(|offer| offer.id), Some(1));
            assert_eq!(opening.tracks[0].cid, "c");
            assert!(opening.auto_subscribe);
        }
    }
}

#[test]
fn refusals() {
    let good = token(member());
    let bomb = {
        let mut zip = GzEncoder::new(Vec::new(), Level::best());
        zip.write_all(&vec![0; 64 * 1024 * 1024]).unwrap();
        let zipped = WrappedJoinRequest { compression: 1, join_request: zip.finish().unwrap() };
        BASE64.encode(zipped.encode_to_vec())
    };
    let about_me = JoinRequest { metadata: "mayor".into(), ..Default::default() };
    let nobody = JoinRequest { reconnect: true, ..Default::default() };
    let broken = WrappedJoinRequest { compression: 1, join_request: b"no gzip".to_vec() };
    let broken = BASE64.encode(broken.encode_to_vec());
    let cases = [
        ("no token", Vec::new(), BadRequest::NoToken, 401),
        ("empty token", vec![("access_token", String::new())], BadRequest::NoToken, 401),
        ("no grant", vec![("access_token", token(VideoGrants::default()))], BadRequest::NoJoin, 401),
        (
            "no room",
            vec![("access_token", token(VideoGrants { room_join: true, ..Default::default() }))],
            BadRequest::NoRoom,
            400,
        ),
        ("no join request", vec![("access_token", good.clone())], BadRequest::NoJoinRequest, 400),
        ("no base64", vec![("access_token", good.clone()), ("join_request", "§".into())], BadRequest::Wrapper, 400),
        (
            "no protobuf",
            vec![("access_token", good.clone()), ("join_request", "_____w".into())],
            BadRequest::Wrapper,
            400,
        ),
        ("broken zip", vec![("access_token", good.clone()), ("join_request", broken)], BadRequest::Inner, 400),
        ("zip bomb", vec![("access_token", good.clone()), ("join_request", bomb)], BadRequest::TooLarge, 400),
        (
            "metadata",
            vec![("access_token", good.clone()), ("join_request", wrap(&about_me, Compression::None))],
            BadRequest::NoMetadata,
            401,
        ),
        (
            "resume without sid",
            vec![("access_token", good), ("join_request", wrap(&nobody, Compression::None))],
            BadRequest::NoSid,
            400,
        ),
    ];
    for (name, pairs, expected, status) in cases {
        let query = pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let error = parse(Path::V1, &query, &HeaderMap::new(), &keys()).unwrap_err();
        assert_eq!(error.status().as_u16(), status, "{name}");
        assert_eq!(error, expected, "{name}");
    }
}

#[test]
fn own_metadata_is_taken_where_the_token_allows_it() {
    let grants = VideoGrants { can_update_own_metadata: Some(true), ..member() };
    let request = JoinRequest {
        metadata: "mayor".into(),
        participant_attributes: HashMap::from([("a".into(), "1".into()), ("b".into(), String::new())]),
        ..Default::default()
    };
    let wrapped = wrap(&request, Compression::Gzip);
    let query = query(&[("access_token", &token(grants)), ("join_request", &wrapped)]);
    let claims = parse(Path::V1, &query, &HeaderMap::new(), &keys()).unwrap().claims;
    assert_eq!(claims.metadata, "mayor");
    assert_eq!(claims.attributes, HashMap::from([("a".into(), "1".into())]));
}

#[test]
fn the_browser_is_seen_where_the_client_does_not_tell() {
    let edge = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0";
    let headless =
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/142.0.0.0 Safari/537.36";
    let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    let phone = "Mozilla/5.0 (iPhone) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/142.0 Mobile/15E148 Safari/604.1";
    let cases = [
        ("", edge, "chrome", true),
        ("", headless, "chrome", true),
        ("", firefox, "firefox", false),
        ("", phone, "", true),
        ("firefox", edge, "firefox", false),
    ];
    let token = token(member());
    for (told, agent, expected, in_sync) in cases {
        let headers = HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_static(agent))]);
        let query = query(&[("access_token", &token), ("sdk", "js"), ("protocol", "16"), ("browser", told)]);
        let opening = parse(Path::V0, &query, &headers, &keys()).unwrap();
        assert_eq!((opening.client.browser.as_str(), opening.takes_streams()), (expected, in_sync), "{agent}");
    }
}
