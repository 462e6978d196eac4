use std::{collections::BTreeMap, net::SocketAddr};

use serde::Deserialize;

use super::*;
use crate::{http::HttpConfig, logs::LogConfig};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Everything {
    http: HttpConfig,
    log: LogConfig,
    keys: BTreeMap<String, String>,
    media: Media,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Media {
    workers: u16,
    #[serde(deserialize_with = "crate::units::list")]
    advertise: Vec<std::net::IpAddr>,
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn sources() -> Sources {
    Sources::new().secrets("keys")
}

fn complaint(sources: &Sources) -> String {
    sources.load::<Everything>().unwrap_err().to_string()
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let folder = Folder::new();
    let file =
        folder.write("ratssaal.toml", "[http]\nbind = \"127.0.0.1:1\"\nmax_connections = 5\n[media]\nworkers = 1\n");
    let file = sources().file(file);
    let bind = |sources: &Sources| sources.load::<Everything>().unwrap().http.bind.port();

    assert_eq!(bind(&sources()), 7880);
    assert_eq!(bind(&file), 1);
    let with_environment = file.environment(environment(&[("RATSSAAL_HTTP__BIND", "127.0.0.1:2")]));
    assert_eq!(bind(&with_environment), 2);
    let with_flag = with_environment.flag("--bind", "http.bind", "127.0.0.1:3");
    assert_eq!(bind(&with_flag), 3);
    let all: Everything = with_flag.load().unwrap();
    assert_eq!((all.http.max_connections, all.media.workers), (5, 1), "neighbouring keys stay as the file says");
}

#[test]
fn yaml_says_the_same_as_toml() {
    let folder = Folder::new();
    let toml =
        folder.write("a.toml", "[media]\nworkers = 2\nadvertise = [\"192.0.2.1\"]\n[keys]\n\"My.Key\" = \"s\"\n");
    let yaml = folder.write("a.yaml", "media:\n  workers: 2\n  advertise: [192.0.2.1]\nkeys:\n  My.Key: s\n");
    for file in [toml, yaml] {
        let all: Everything = sources().file(&file).load().unwrap();
        assert_eq!((all.media.workers, all.media.advertise.len()), (2, 1), "{file:?}");
        assert_eq!(all.keys.keys().collect::<Vec<_>>(), ["My.Key"], "names of keys keep their case and dots");
    }
}

#[test]
fn environment_gives_numbers_lists_names_in_their_case_and_the_log_level() {
    let all: Everything = sources()
        .environment(environment(&[
            ("RATSSAAL_MEDIA__WORKERS", "3"),
            ("RATSSAAL_MEDIA__ADVERTISE", "192.0.2.1,2001:db8::1"),
            ("RATSSAAL_KEYS__APIxYz", "secret"),
            ("RATSSAAL_LOG", "debug"),
            ("RATSSAAL_SERVICE_HOST", "10.0.0.1"),
            ("RATSSAAL_PORT", "tcp://10.0.0.1:7880"),
            ("PATH", "/usr/bin"),
        ]))
        .load()
        .unwrap();
    assert_eq!((all.media.workers, all.media.advertise.len()), (3, 2));
    assert_eq!(all.keys["APIxYz"], "secret");
    assert_eq!(all.log.level, "debug");
}

#[test]
fn an_unknown_key_is_named_with_its_source_and_its_neighbour() {
    let folder = Folder::new();
    let file = folder.write("ratssaal.toml", "[http]\nbnd = \"127.0.0.1:1\"\n");
    assert_eq!(
        complaint(&sources().file(&file)),
        format!("unknown setting http.bnd in the file {}; did you mean bind?", file.display())
    );
    assert_eq!(
        complaint(&sources().environment(environment(&[("RATSSAAL_LOG__VOLUME", "11")]))),
        "unknown setting log.volume in the environment variable RATSSAAL_LOG__VOLUME; known here are level, format"
    );
    assert_eq!(
        complaint(&sources().environment(environment(&[("RATSSAAL_HTP__BIND", "x")]))),
        "unknown setting htp in the environment variable RATSSAAL_HTP__BIND; did you mean http?"
    );
    assert_eq!(
        complaint(&sources().environment(environment(&[("RATSSAAL___BIND", "x")]))),
        "the environment variable RATSSAAL___BIND names no setting; write RATSSAAL_SECTION__KEY, e.g. RATSSAAL_HTTP__BIND"
    );
}

#[test]
fn a_bad_value_is_named_with_the_source_that_gave_it() {
    let folder = Folder::new();
    let file = folder.write("ratssaal.toml", "[media]\nworkers = 1\nadvertise = [\"192.0.2.1\", \"house\"]\n");
    let complaint_of_file = complaint(&sources().file(&file));
    assert!(complaint_of_file.starts_with("media.advertise[1] in the file "), "{complaint_of_file}");

    let flag = sources().flag("--bind", "http.bind", "localhost");
    assert_eq!(
        complaint(&flag),
        "http.bind in the flag --bind: \"localhost\" is not address:port; write 127.0.0.1:7880 or [::]:7880"
    );
    let variable = sources().environment(environment(&[("RATSSAAL_MEDIA__WORKERS", "many")]));
    let complaint = complaint(&variable);
    assert!(
        complaint.starts_with("media.workers in the environment variable RATSSAAL_MEDIA__WORKERS: "),
        "{complaint}"
    );
    assert!(complaint.contains("\"many\""), "{complaint}");
}

#[test]
fn broken_files_are_refused_without_showing_their_text() {
    let folder = Folder::new();
    for (name, text) in [
        ("a.toml", "[keys]\nfirst = \"hush-hush\nsecond = 1"),
        ("b.toml", "[keys]\nfirst = hush-hush"),
        ("c.yaml", "keys:\n  first: \"hush-hush\n second"),
    ] {
        let path = folder.write(name, text);
        let complaint = complaint(&sources().file(&path));
        assert!(
            complaint.starts_with(&format!("the configuration file {} is not valid: ", path.display())),
            "{complaint}"
        );
        assert!(complaint.contains("line"), "{complaint}");
        assert!(!complaint.contains("hush"), "{complaint}");
        assert!(!complaint.contains('\n'), "{complaint}");
    }
    let missing = complaint(&sources().file("nowhere/ratssaal.toml"));
    assert!(missing.contains("nowhere/ratssaal.toml") && missing.ends_with("with --config"), "{missing}");
}

#[test]
fn a_secret_of_the_wrong_kind_is_not_shown() {
    let folder = Folder::new();
    let file = folder.write("ratssaal.toml", "[keys]\nfirst = [\"hush\"]\n");
    let complaint = complaint(&sources().file(file));
    assert!(complaint.starts_with("keys.first in the file "), "{complaint}");
    assert!(!complaint.contains("hush"), "{complaint}");
}

#[test]
fn a_file_beyond_the_limit_is_not_read() {
    let folder = Folder::new();
    let file = folder.write("large.toml", &"#".repeat((1 << 20) + 1));
    assert!(complaint(&sources().file(file)).contains("larger than 1 MiB"));
}

#[test]
fn defaults_listen_on_loopback() {
    let all: Everything = sources().load().unwrap();
    assert_eq!(all.http.bind, "127.0.0.1:7880".parse::<SocketAddr>().unwrap());
    assert!(all.http.check().is_ok());
}

#[test]
fn what_a_newer_operator_says_is_left_out_and_told() {
    let newer = [
        ("RATSSAAL_HTTP__BIND", "127.0.0.1:2"),
        ("RATSSAAL_HTTP__GZIP", "true"),
        ("RATSSAAL_CHAIRS__COUNT", "4"),
        ("RATSSAAL_CHAIRS__COLOUR", "red"),
    ];
    let strict = sources().environment(environment(&newer));
    assert!(matches!(strict.load_known::<Everything>(), Err(ConfigError::Unknown { .. })));

    let lenient = strict.environment(environment(&[("RATSSAAL_UNKNOWN_SETTINGS", "warn")]));
    let (all, left_out) = lenient.load_known::<Everything>().unwrap();
    assert_eq!(all.http.bind.port(), 2);
    let mut told: Vec<String> = left_out.iter().map(ToString::to_string).collect();
    told.sort_unstable();
    for (told, variable) in told.iter().zip(["CHAIRS__COLOUR", "CHAIRS__COUNT", "HTTP__GZIP"]) {
        assert!(told.contains(&format!("in the environment variable RATSSAAL_{variable}")), "{told}");
    }
    assert_eq!(told.len(), 3);

    // What is known has to be right, and flags and files come from whoever starts this very program.
    let wrong =
        sources().environment(environment(&[("RATSSAAL_UNKNOWN_SETTINGS", "warn"), ("RATSSAAL_HTTP__BIND", "x")]));
    assert!(matches!(wrong.load_known::<Everything>(), Err(ConfigError::Value { .. })));
    let flag = lenient.flag("--gzip", "http.gzip", "true");
    assert!(matches!(flag.load_known::<Everything>(), Err(ConfigError::Unknown { .. })));
}
