//! `ratssaal token` and `ratssaal keys`: what they print is what the server takes.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{finish, ratssaal, run};
use ratssaal_bridge::token::{Claims, Keys};
use secrecy::SecretString;

const DEV: (&str, &str) = ("devkey", "secret-secret-secret-secret-secret");

fn verify(token: &str, (key, secret): (&str, &str)) -> Claims {
    let secret = SecretString::from(secret);
    Keys::new([(key, &secret)]).unwrap().verify(token.trim()).unwrap()
}

fn token(args: &[&str]) -> String {
    let (code, out, err) = run(&[&["token"], args].concat());
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out.lines().count(), 1, "{out}");
    out
}

#[test]
fn a_participant() {
    let claims = verify(&token(&["--dev", "--room", "rat", "--identity", "anna", "--name", "Anna Ä."]), DEV);
    assert_eq!(
        (claims.identity.as_str(), claims.name.as_str(), claims.grants.room.as_str()),
        ("anna", "Anna Ä.", "rat")
    );
    assert!(claims.grants.room_join && !claims.grants.room_admin && !claims.grants.room_create);
    assert!(claims.grants.can_publish() && claims.grants.can_subscribe() && claims.grants.can_publish_data());
    assert!(!claims.grants.can_update_own_metadata());
}

#[test]
fn a_listener_who_is_hidden() {
    let args = ["--dev", "--room", "rat", "--identity", "b", "--hidden", "--no-publish", "--no-data", "--own-metadata"];
    let grants = verify(&token(&args), DEV).grants;
    assert!(grants.hidden && !grants.can_publish() && !grants.can_publish_data() && grants.can_subscribe());
    assert!(grants.can_update_own_metadata());
}

#[test]
fn an_administrator_of_one_room_and_one_of_the_server() {
    let admin = verify(&token(&["--dev", "--admin", "--room", "rat"]), DEV).grants;
    assert!(admin.room_admin && !admin.room_join && admin.room == "rat");
    let server = verify(&token(&["--dev", "--create", "--list"]), DEV).grants;
    assert!(server.room_create && server.room_list && !server.room_join);
}

#[test]
fn it_expires_when_told() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = verify(&token(&["--dev", "--list", "--ttl", "10m"]), DEV);
    assert!((now + 595..=now + 660).contains(&claims.expires_at), "{} {now}", claims.expires_at);
}

#[test]
fn a_fresh_pair_signs_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ratssaal.toml");
    let (code, keys, _) = run(&["keys"]);
    assert_eq!(code, Some(0));
    std::fs::write(&path, &keys).unwrap();
    let pair: Vec<&str> = keys.lines().last().unwrap().split('"').collect();
    let out = token(&["--config", path.to_str().unwrap(), "--list"]);
    assert!(verify(&out, (pair[1], pair[3])).grants.room_list);
}

#[test]
fn of_several_keys_one_must_be_named() {
    let several = |args: &[&str]| {
        let mut command = ratssaal(&[&["token", "--list"], args].concat());
        command.env("RATSSAAL_KEYS__One", "1".repeat(32)).env("RATSSAAL_KEYS__Two", "2".repeat(32));
        finish(command.output().unwrap())
    };
    let (code, _, err) = several(&[]);
    assert!(code == Some(64) && err.contains("--api-key"), "{err}");
    let (code, out, _) = several(&["--api-key", "Two"]);
    assert_eq!(code, Some(0));
    assert!(verify(&out, ("Two", &"2".repeat(32))).grants.room_list);
    let (code, _, err) = several(&["--api-key", "Three"]);
    assert!(code == Some(64) && err.contains("Three"), "{err}");
}

#[test]
fn tokens_that_would_allow_nothing_or_too_little_are_refused() {
    for (args, part) in [
        (&["--dev"][..], "--room"),
        (&["--dev", "--room", "rat"], "--identity"),
        (&["--dev", "--admin"], "--room"),
        (&["--dev", "--list", "--ttl", "0s"], "--ttl"),
        (&["--dev", "--list", "--ttl", "soon"], "--ttl"),
    ] {
        let (code, out, err) = run(&[&["token"], args].concat());
        assert!(code == Some(64) && out.is_empty() && err.contains(part), "{args:?}: {err}");
    }
}
