//! `ratssaal token`: access tokens signed with a configured key, for tests and integrations.

use std::io::{self, Write};

use anyhow::Context;
use clap::ArgMatches;
use livekit_token::{AccessToken, VideoGrants};
use ratssaal_process::{exit::Usage, units::parse_duration};
use secrecy::{ExposeSecret, SecretString};

use crate::config::{self, Config};

/// Prints the token to standard output.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let config = config::load_without_flags(matches)?;
    let (key, secret) = pair(&config, text(matches, "api-key"))?;
    let ttl = text(matches, "ttl").unwrap_or_default();
    let ttl = parse_duration(ttl).filter(|ttl| !ttl.is_zero());
    let ttl = ttl.ok_or_else(|| Usage("--ttl is not a duration; write 10m, 6h or 1d".into()))?;
    let token = AccessToken::with_api_key(key, secret.expose_secret())
        .with_ttl(ttl)
        .with_identity(text(matches, "identity").unwrap_or_default())
        .with_name(text(matches, "name").unwrap_or_default())
        .with_grants(grants(matches)?);
    writeln!(io::stdout(), "{}", token.to_jwt().context("the token cannot be signed")?)?;
    Ok(())
}

fn pair<'a>(config: &'a Config, wanted: Option<&str>) -> Result<(&'a str, &'a SecretString), Usage> {
    let found = match wanted {
        Some(name) => config.keys.get_key_value(name),
        None if config.keys.len() > 1 => {
            return Err(Usage("several API keys are configured; say which one with --api-key".into()));
        }
        None => config.keys.first_key_value(),
    };
    let (name, secret) = found.ok_or_else(|| match wanted {
        Some(name) => Usage(format!("there is no API key {name} in the configuration; give its file with --config")),
        None => Usage(config::NO_KEYS.into()),
    })?;
    Ok((name, secret))
}

fn grants(matches: &ArgMatches) -> Result<VideoGrants, Usage> {
    let flag = |name| matches.get_flag(name);
    let (room, identity) = (text(matches, "room"), text(matches, "identity"));
    if flag("admin") && room.is_none() {
        return Err(Usage("--admin needs the room it is for; give --room".into()));
    }
    if room.is_some() && identity.is_none() && !flag("admin") {
        return Err(Usage("--room needs to know who joins; give --identity".into()));
    }
    if room.is_none() && !flag("create") && !flag("list") {
        return Err(Usage("the token would allow nothing; give --room and --identity, --create or --list".into()));
    }
    let refused = |name| flag(name).then_some(false);
    Ok(VideoGrants {
        room_join: room.is_some() && identity.is_some(),
        room: room.unwrap_or_default().into(),
        room_admin: flag("admin"),
        room_create: flag("create"),
        room_list: flag("list"),
        hidden: flag("hidden"),
        recorder: flag("recorder"),
        can_publish: refused("no-publish"),
        can_subscribe: refused("no-subscribe"),
        can_publish_data: refused("no-data"),
        can_update_own_metadata: flag("own-metadata").then_some(true),
        ..VideoGrants::default()
    })
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}
