//! The options of `ratssaal doctor`, read and checked.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use http::Uri;
use ratssaal_process::exit::Usage;
use secrecy::SecretString;

const AFTER: &str = "\
Example: ratssaal doctor --url https://konferenz.landkreis.example

Run it where participants are, at least once from outside your network. It opens a room of its own with two participants, lets
one hear the other over UDP, and leaves. Without --api-key it comes as a guest, which needs rooms that guests may open.

Exit status: 0 all is well, 1 a check failed, 64 wrong command line.";

/// Where to look and how.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// Connect here instead of asking DNS.
    pub(super) address: Option<IpAddr>,
    /// Further certificate authorities, PEM.
    pub(super) authorities: Vec<PathBuf>,
    /// Signs the participants' tokens; else they are fetched as guests do.
    pub(super) key: Option<(String, SecretString)>,
}

/// The subcommand.
pub(crate) fn command() -> Command {
    let value = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("doctor")
        .about("Check a running installation as its participants see it")
        .after_help(AFTER)
        .arg(value("url", "URL", "What participants open").env("RATSSAAL_DOCTOR_URL").required(true))
        .arg(
            value("ca", "FILE", "Trust this certificate authority, too (PEM); may be given several times")
                .action(ArgAction::Append)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            value("address", "IP", "Connect there instead of asking DNS for the name")
                .value_parser(value_parser!(IpAddr)),
        )
        .arg(value("api-key", "KEY", "Sign tokens with it, where guests may not open rooms").env("LIVEKIT_API_KEY"))
        .arg(
            value("api-secret", "SECRET", "The key's secret; better in the environment, where others cannot see it")
                .env("LIVEKIT_API_SECRET")
                .hide_env_values(true),
        )
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// Something on it makes no sense; the text says what to write.
    pub(super) fn read(matches: &ArgMatches) -> Result<Self, Usage> {
        let text = |name| matches.get_one::<String>(name).cloned();
        let bad = || Usage("--url is what participants open, as https://konferenz.landkreis.example".into());
        let url: Uri = text("url").unwrap_or_default().parse().map_err(|_| bad())?;
        let https = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(Usage("--url must end after the host; Ratssaal has a host name of its own".into()));
        }
        let host = url.host().ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
        let key = match (text("api-key"), text("api-secret")) {
            (None, None) => None,
            (Some(key), Some(secret)) => Some((key, secret.into())),
            _ => return Err(Usage("give --api-key and --api-secret together, or neither".into())),
        };
        Ok(Self {
            https,
            host,
            port: url.port_u16().unwrap_or(if https { 443 } else { 80 }),
            address: matches.get_one::<IpAddr>("address").copied(),
            authorities: matches.get_many::<PathBuf>("ca").into_iter().flatten().cloned().collect(),
            key,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Options, Usage> {
        Options::read(&command().try_get_matches_from([&["doctor"], args].concat()).unwrap())
    }

    #[test]
    fn urls_name_a_host() {
        for (url, expected) in [
            ("https://a.example", (true, "a.example", 443)),
            ("https://a.example/", (true, "a.example", 443)),
            ("http://localhost:7880", (false, "localhost", 7880)),
            ("https://[2001:db8::1]:8443", (true, "2001:db8::1", 8443)),
        ] {
            let options = read(&["--url", url]).unwrap();
            assert_eq!((options.https, options.host.as_str(), options.port), expected, "{url}");
        }
        for url in ["a.example", "ftp://a.example", "https://a.example/meet", "https://a.example/?x", "", "https://"] {
            assert!(read(&["--url", url]).is_err(), "{url}");
        }
    }

    #[test]
    fn a_key_needs_its_secret() {
        let args = ["--url", "https://a.example", "--api-key", "k"];
        assert!(read(&args).is_err());
        assert!(read(&[&args[..], &["--api-secret", "s"]].concat()).unwrap().key.is_some());
    }
}
