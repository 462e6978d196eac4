//! What tokens are taken and which are refused, each refusal with its own reason.

use super::*;

const KEY: &str = "city";
const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes";
const NOW: u64 = 1_800_000_000;

fn keys() -> Keys {
    Keys::new([(KEY, &SecretString::from(SECRET))]).unwrap()
}

fn sign(header: &str, payload: &str, secret: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn hs256(payload: &str) -> String {
    sign(r#"{"alg":"HS256","typ":"JWT"}"#, payload, SECRET)
}

#[test]
fn refusals() {
    let good = r#"{"iss":"city","sub":"anna","exp":1800000600,"video":{"roomJoin":true,"room":"rat"}}"#;
    let cases = [
        ("expired", hs256(r#"{"iss":"city","sub":"a","exp":1799999940}"#), TokenError::Expired),
        ("no expiry", hs256(r#"{"iss":"city","sub":"a"}"#), TokenError::NoExpiry),
        ("too early", hs256(r#"{"iss":"city","sub":"a","nbf":1800000061,"exp":1800000600}"#), TokenError::NotYet),
        ("alg none", sign(r#"{"alg":"none"}"#, good, ""), TokenError::Algorithm("none".into())),
        ("alg HS512", sign(r#"{"alg":"HS512"}"#, good, SECRET), TokenError::Algorithm("HS512".into())),
        ("alg RS256", sign(r#"{"alg":"RS256"}"#, good, SECRET), TokenError::Algorithm("RS256".into())),
        ("no alg", sign("{}", good, SECRET), TokenError::Algorithm(String::new())),
        ("other secret", sign(r#"{"alg":"HS256"}"#, good, "x"), TokenError::Signature),
        ("no signature", hs256(good).rsplit_once('.').unwrap().0.to_owned() + ".", TokenError::Signature),
        ("other issuer", hs256(r#"{"iss":"else","exp":1800000600}"#), TokenError::UnknownKey("else".into())),
        ("no issuer", hs256(r#"{"exp":1800000600}"#), TokenError::UnknownKey(String::new())),
        (
            "nobody",
            hs256(r#"{"iss":"city","exp":1800000600,"video":{"roomJoin":true,"room":"r"}}"#),
            TokenError::NoIdentity,
        ),
        ("long", "x".repeat(MAX_TOKEN + 1), TokenError::TooLong(MAX_TOKEN + 1)),
        ("one part", "abc".into(), TokenError::Malformed("three parts expected")),
        ("two parts", "abc.def".into(), TokenError::Malformed("three parts expected")),
        ("not base64", "!.!.!".into(), TokenError::Malformed("header")),
        ("not json", hs256("anna"), TokenError::Malformed("payload")),
        ("odd types", hs256(r#"{"iss":"city","exp":1800000600,"video":7}"#), TokenError::Malformed("claims")),
        (
            "critical",
            sign(r#"{"alg":"HS256","crit":["x"]}"#, good, SECRET),
            TokenError::Malformed("critical header extensions are not supported"),
        ),
        (
            "moderator key",
            hs256(r#"{"iss":"city","exp":1800000600,"aud":["x","ratssaal/moderator"]}"#),
            TokenError::Audience,
        ),
    ];
    for (name, token, expected) in cases {
        assert_eq!(keys().verify_at(&token, NOW), Err(expected), "{name}");
    }
    let long = format!(r#"{{"iss":"city","exp":1800000600,"sub":"{}"}}"#, "a".repeat(MAX_IDENTITY + 1));
    assert_eq!(keys().verify_at(&hs256(&long), NOW), Err(TokenError::IdentityTooLong));
    assert!(keys().verify_at(&hs256(good), NOW).is_ok(), "the unspoilt token is taken");
}

#[test]
fn a_changed_payload_is_noticed() {
    let token = hs256(r#"{"iss":"city","sub":"anna","exp":1800000600}"#);
    let (head, rest) = token.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let forged = URL_SAFE_NO_PAD.encode(r#"{"iss":"city","sub":"berta","exp":1800000600}"#);
    assert_eq!(keys().verify_at(&format!("{head}.{forged}.{signature}"), NOW), Err(TokenError::Signature));
}

#[test]
fn the_leeway_counts_both_ways() {
    let late = hs256(r#"{"iss":"city","sub":"a","exp":1799999941}"#);
    assert!(keys().verify_at(&late, NOW).is_ok());
    let early = hs256(r#"{"iss":"city","sub":"a","nbf":1800000060,"exp":1800000600}"#);
    assert!(keys().verify_at(&early, NOW).is_ok());
}

#[test]
fn missing_grants_are_allowed_but_metadata_updates() {
    let claims = keys().verify_at(&hs256(r#"{"iss":"city","jti":"anna","exp":1800000600.5}"#), NOW).unwrap();
    assert_eq!(claims.identity, "anna", "jti stands in for sub");
    let permission = claims.permission();
    assert!(permission.can_publish && permission.can_subscribe && permission.can_publish_data);
    assert!(!permission.can_update_metadata && !permission.hidden);
}

#[test]
fn denied_grants_are_denied() {
    let token = hs256(
        r#"{"iss":"city","sub":"a","exp":1800000600,"kind":"agent","attributes":{"role":"mayor"},"video":{
        "canPublish":false,"canSubscribe":false,"canPublishSources":["camera","screen_share"],"hidden":true}}"#,
    );
    let claims = keys().verify_at(&token, NOW).unwrap();
    let permission = claims.permission();
    assert!(!permission.can_publish && !permission.can_subscribe && permission.hidden);
    assert!(!permission.can_publish_data, "data follows canPublish where it is not said");
    assert_eq!(permission.can_publish_sources, [TrackSource::Camera as i32, TrackSource::ScreenShare as i32]);
    assert_eq!(claims.kind, participant_info::Kind::Agent);
    assert_eq!(claims.attributes["role"], "mayor");
}

#[test]
fn own_tokens_come_back_whole() {
    let keys = keys();
    let claims = Claims {
        api_key: KEY.into(),
        identity: "anna".into(),
        name: "Anna Ä.".into(),
        metadata: "{}".into(),
        attributes: HashMap::from([("a".into(), "b".into())]),
        kind: participant_info::Kind::Sip,
        grants: VideoGrants { room_join: true, room: "rat".into(), can_publish: Some(false), ..Default::default() },
        room_config: Some(RoomConfiguration { max_participants: 7, ..Default::default() }),
        ..Default::default()
    };
    let back = keys.verify(&keys.mint(&claims, REFRESH_TTL)).unwrap();
    assert!(back.issued_at > 0);
    assert_eq!(back.expires_at - back.issued_at, REFRESH_TTL.as_secs());
    assert_eq!(Claims { expires_at: 0, issued_at: 0, ..back }, claims);
}

#[test]
fn tokens_of_the_sdk_are_taken() {
    let token = livekit_token::AccessToken::with_api_key(KEY, SECRET)
        .with_identity("anna")
        .with_grants(VideoGrants { room_join: true, room: "rat".into(), ..Default::default() })
        .to_jwt()
        .unwrap();
    let claims = keys().verify(&token).unwrap();
    assert_eq!((claims.identity.as_str(), claims.grants.room.as_str()), ("anna", "rat"));
}

#[test]
fn moderator_keys_open_their_room_only() {
    let keys = keys();
    let key = keys.moderator_key("rat", Duration::from_secs(60));
    assert_eq!(keys.verify_moderator_key(&key, "rat"), Ok(()));
    assert_eq!(keys.verify_moderator_key(&key, "other"), Err(TokenError::OtherRoom));
    assert_eq!(keys.verify(&key), Err(TokenError::Audience), "a moderator key is no access token");
    let access = hs256(r#"{"iss":"city","sub":"a","exp":99999999999,"video":{"room":"rat","roomAdmin":true}}"#);
    assert_eq!(keys.verify_moderator_key(&access, "rat"), Err(TokenError::Audience), "nor the other way round");
}

#[test]
fn keys_are_checked_and_not_printed() {
    assert_eq!(Keys::new([]).unwrap_err(), KeyError::None);
    let short = SecretString::from("short");
    assert_eq!(Keys::new([("k", &short)]).unwrap_err(), KeyError::Short { key: "k".into(), length: 5 });
    assert_eq!(Keys::new([("", &short)]).unwrap_err(), KeyError::Unnamed);
    assert!(!format!("{:?}", keys()).contains(SECRET));
}
