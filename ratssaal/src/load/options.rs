//! The options of `ratssaal load`, read and checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use ratssaal_process::{exit::Usage, tls::client_config, units::parse_duration};
use rustls::ClientConfig;
use secrecy::SecretString;

use super::camera::LayerSpec;
use super::impairment::Impairment;

const AFTER: &str = "\
Example: ratssaal serve --dev & ratssaal load --dev --publishers 1 --subscribers 40 --server-pid $!

Everybody publishes simulated VP8 simulcast and Opus as told, and receives what the others publish; nobody decodes.
Loss is counted by the sequence numbers the server gives; a freeze is a gap of more than 200 ms in a video that is wanted.
With --tiles each participant sees so many others and tells the server so, as clients with tiles on a page do.
Bad lines are applied in this process, in both directions; those who only subscribe get them first.
Signalling is /rtc/v1, the protocol with one PeerConnection; older servers that have /rtc only are not supported.

Exit status: 0 all joined, 1 something failed, 64 wrong command line.";

/// What is measured how.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) url: String,
    /// Where those go who only subscribe.
    pub(super) subscriber_url: String,
    /// For https:// and wss://.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) key: String,
    pub(super) secret: SecretString,
    pub(super) room: String,
    pub(super) rooms: u32,
    pub(super) publishers: u32,
    pub(super) subscribers: u32,
    pub(super) layers: Vec<LayerSpec>,
    pub(super) fps: f64,
    /// Share of the time with speech; none: no audio.
    pub(super) talk: Option<f64>,
    pub(super) tiles: Option<usize>,
    pub(super) tile: (u32, u32),
    pub(super) dynacast: bool,
    pub(super) duration: Duration,
    /// How long a participant stays on average, before another comes in its place; none: to the end.
    pub(super) stay: Option<Duration>,
    pub(super) settle: Duration,
    /// Joins a second.
    pub(super) ramp: f64,
    pub(super) threads: usize,
    pub(super) seed: u64,
    pub(super) impairment: Impairment,
    /// Share of the participants that are impaired.
    pub(super) impaired: f64,
    pub(super) server_pid: Option<u32>,
    /// Whoever loses its connection comes back.
    pub(super) rejoin: bool,
    pub(super) json: Option<PathBuf>,
}

/// Sizes of the layers by how many there are; the bitrates come from `--bitrate`.
const SIZES: [(&str, u16, u16); 3] = [("q", 320, 180), ("h", 640, 360), ("f", 1280, 720)];
/// The usual bitrates of three layers, kbit/s.
const BITRATES: [u32; 3] = [150, 500, 1700];
/// People in a run, at most.
const MAX_PARTICIPANTS: u64 = 10_000;

/// The subcommand.
pub(crate) fn command() -> Command {
    let value = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        value(name, "N", help).default_value(default).value_parser(value_parser!(u32))
    };
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("load")
        .about("Put a server of the LiveKit protocol under load and measure it")
        .after_help(AFTER)
        .next_help_heading("Server")
        .arg(value("url", "URL", "Where it listens").env("LIVEKIT_URL").default_value("http://localhost:7880"))
        .arg(value(
            "subscriber-url",
            "URL",
            "Where those go who only subscribe: another server of the same cluster [default: --url]",
        ))
        .arg(
            value("ca", "FILE", "Trust these certificate authorities (PEM) and not those of the system")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(value("api-key", "KEY", "Signs the participants' tokens").env("LIVEKIT_API_KEY"))
        .arg(
            value("api-secret", "SECRET", "The key's secret; better in the environment, where others cannot see it")
                .env("LIVEKIT_API_SECRET")
                .hide_env_values(true),
        )
        .arg(flag("dev", "Use the key pair of `serve --dev`"))
        .arg(
            value("server-pid", "PID", "The server's process on this machine: measure its CPU and memory")
                .value_parser(value_parser!(u32)),
        )
        .next_help_heading("Participants")
        .arg(value("room", "NAME", "The rooms' names, before their numbers").default_value("load"))
        .arg(number("rooms", "1", "Rooms"))
        .arg(number("publishers", "1", "In each room, who publish and subscribe"))
        .arg(number("subscribers", "4", "In each room, who only subscribe"))
        .arg(value("tiles", "N", "Others whose video each sees; the rest is switched off [default: all]"))
        .arg(value("tile", "WxH", "Pixels of a tile [default: 1280x720 for one, 640x360 up to 9, else 320x180]"))
        .arg(value("ramp", "N", "Joins a second").default_value("10"))
        .arg(flag(
            "rejoin",
            "Whoever is sent away or loses its server comes back at once; measures how long media is away",
        ))
        .next_help_heading("Media")
        .arg(number("layers", "3", "Simulcast layers: 180p, 360p, 720p; 1 is 720p only, 0 no video"))
        .arg(value("bitrate", "KBIT/S", "Of each layer, lowest first [default: 150,500,1700; one layer: 1700]"))
        .arg(value("fps", "N", "Frames a second").default_value("30"))
        .arg(value("talk", "SHARE", "How much of the time each speaks, 0 to 1").default_value("0.2"))
        .arg(flag("no-audio", "Publish no audio"))
        .arg(flag("no-dynacast", "Send layers that nobody watches, too"))
        .next_help_heading("Bad lines")
        .arg(value("impaired", "SHARE", "Share of the participants that have one, 0 to 1").default_value("1"))
        .arg(value("loss", "PERCENT", "Datagrams lost in each direction").default_value("0"))
        .arg(value("delay", "DURATION", "Added in each direction").default_value("0s"))
        .arg(value("jitter", "DURATION", "Up to so much is added to the delay").default_value("0s"))
        .arg(value("bandwidth", "KBIT/S", "In each direction, with a queue of 300 ms before it"))
        .next_help_heading("Run")
        .arg(value("duration", "DURATION", "What is measured, after all have joined").default_value("30s"))
        .arg(value(
            "stay",
            "DURATION",
            "How long each stays on average before it leaves and another comes [default: to the end]",
        ))
        .arg(value("settle", "DURATION", "Pause between the last join and the measurement").default_value("3s"))
        .arg(number("threads", "1", "Threads for media"))
        .arg(value("seed", "N", "Same seed, same media").default_value("1").value_parser(value_parser!(u64)))
        .arg(value("json", "FILE", "Write the results there, too").value_parser(value_parser!(PathBuf)))
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

fn count(matches: &ArgMatches, name: &str) -> u32 {
    matches.get_one::<u32>(name).copied().unwrap_or_default()
}

/// A number between two bounds.
fn number(matches: &ArgMatches, name: &str, (least, most): (f64, f64)) -> Result<f64, Usage> {
    let read = text(matches, name).and_then(|text| text.parse::<f64>().ok());
    let bad = || Usage(format!("--{name} is not a number from {least} to {most}"));
    read.filter(|value| (least..=most).contains(value)).ok_or_else(bad)
}

fn duration(matches: &ArgMatches, name: &str, most: Duration) -> Result<Duration, Usage> {
    let read = text(matches, name).and_then(parse_duration);
    let bad = || Usage(format!("--{name} is not a duration of at most {most:?}; write 500ms, 20s or 5m"));
    read.filter(|duration| *duration <= most).ok_or_else(bad)
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// Something on it makes no sense; the text says what to write.
    pub(super) fn read(matches: &ArgMatches) -> Result<Self, Usage> {
        let url = text(matches, "url").unwrap_or_default().to_owned();
        let subscriber_url = text(matches, "subscriber-url").unwrap_or(&url).to_owned();
        let tls = tls([&url, &subscriber_url], matches.get_one::<PathBuf>("ca").map(PathBuf::as_path))?;
        let (key, secret) = match (matches.get_flag("dev"), text(matches, "api-key"), text(matches, "api-secret")) {
            (true, None, None) => (crate::config::DEV.0, crate::config::DEV.1),
            (false, Some(key), Some(secret)) => (key, secret),
            (true, ..) => return Err(Usage("give either --dev or --api-key and --api-secret, not both".into())),
            _ => return Err(Usage("no API key; give --api-key and --api-secret, or --dev for `serve --dev`".into())),
        };
        let tiles = match text(matches, "tiles").map(str::parse) {
            None => None,
            Some(Ok(tiles)) => Some(tiles),
            Some(Err(_)) => return Err(Usage("--tiles is not a number".into())),
        };
        let options = Self {
            url,
            subscriber_url,
            tls,
            key: key.to_owned(),
            secret: secret.into(),
            room: text(matches, "room").unwrap_or_default().to_owned(),
            rooms: count(matches, "rooms"),
            publishers: count(matches, "publishers"),
            subscribers: count(matches, "subscribers"),
            layers: layers(count(matches, "layers"), text(matches, "bitrate"))?,
            fps: number(matches, "fps", (1.0, 240.0))?,
            talk: if matches.get_flag("no-audio") { None } else { Some(number(matches, "talk", (0.0, 1.0))?) },
            tiles,
            tile: tile(text(matches, "tile"), tiles)?,
            dynacast: !matches.get_flag("no-dynacast"),
            duration: duration(matches, "duration", Duration::from_secs(86_400))?.max(Duration::from_secs(1)),
            settle: duration(matches, "settle", Duration::from_secs(3600))?,
            stay: match text(matches, "stay") {
                Some(_) => Some(duration(matches, "stay", Duration::from_secs(86_400))?.max(Duration::from_secs(1))),
                None => None,
            },
            ramp: number(matches, "ramp", (0.01, 10_000.0))?,
            threads: (count(matches, "threads") as usize).clamp(1, 64),
            seed: matches.get_one::<u64>("seed").copied().unwrap_or_default(),
            impairment: Impairment {
                loss: number(matches, "loss", (0.0, 100.0))? / 100.0,
                delay: duration(matches, "delay", Duration::from_secs(10))?,
                jitter: duration(matches, "jitter", Duration::from_secs(10))?,
                bandwidth: match text(matches, "bandwidth") {
                    Some(_) => Some((number(matches, "bandwidth", (1.0, 1e7))? * 1000.0) as u64),
                    None => None,
                },
            },
            impaired: number(matches, "impaired", (0.0, 1.0))?,
            server_pid: matches.get_one::<u32>("server-pid").copied(),
            rejoin: matches.get_flag("rejoin"),
            json: matches.get_one::<PathBuf>("json").cloned(),
        };
        match u64::from(options.rooms) * (u64::from(options.publishers) + u64::from(options.subscribers)) {
            0 => Err(Usage("nobody would join; give --rooms, --publishers or --subscribers".into())),
            1..=MAX_PARTICIPANTS => Ok(options),
            all => Err(Usage(format!("{all} participants are too many for one process; at most {MAX_PARTICIPANTS}"))),
        }
    }

    /// People in each room.
    pub(super) fn per_room(&self) -> u32 {
        self.publishers + self.subscribers
    }

    /// People in all.
    pub(super) fn participants(&self) -> u32 {
        self.rooms * self.per_room()
    }
}

/// How to reach the addresses with TLS, if they say so.
fn tls(urls: [&str; 2], authorities: Option<&Path>) -> Result<Option<Arc<ClientConfig>>, Usage> {
    match urls.map(|url| url.split_once("://").map(|(scheme, _)| scheme)) {
        [Some("https" | "wss"), Some("https" | "wss")] => {
            let config = client_config(authorities).map_err(|error| Usage(format!("--ca: {error}")))?;
            Ok(Some(Arc::new(config)))
        }
        [Some("http" | "ws"), Some("http" | "ws")] => match authorities {
            None => Ok(None),
            Some(_) => Err(Usage("--ca is for https:// and wss://; leave it out, or correct --url".into())),
        },
        _ => Err(Usage(
            "--url has to begin with http://, https://, ws:// or wss://, and --subscriber-url with the same".into(),
        )),
    }
}

fn layers(count: u32, bitrates: Option<&str>) -> Result<Vec<LayerSpec>, Usage> {
    let sizes = match count {
        1 => &SIZES[2..],
        0..=3 => &SIZES[..count as usize],
        _ => return Err(Usage("--layers is 0, 1, 2 or 3".into())),
    };
    let rates: Option<Vec<u32>> = match bitrates {
        None if count == 1 => Some(vec![BITRATES[2]]),
        None => Some(BITRATES.to_vec()),
        Some(list) => {
            list.split(',').map(|rate| rate.trim().parse().ok().filter(|r| (10..=100_000).contains(r))).collect()
        }
    };
    let rates = rates.filter(|rates| rates.len() >= sizes.len());
    let rates = rates.ok_or_else(|| {
        Usage(format!(
            "--bitrate needs a number of kbit/s from 10 to 100000 for each of the {count} layers, with commas"
        ))
    })?;
    let layer = |(&(rid, width, height), rate): (&(&'static str, u16, u16), &u32)| LayerSpec {
        rid,
        width,
        height,
        bitrate: rate * 1000,
    };
    Ok(sizes.iter().zip(&rates).map(layer).collect())
}

fn tile(size: Option<&str>, tiles: Option<usize>) -> Result<(u32, u32), Usage> {
    let Some(size) = size else {
        return Ok(match tiles {
            None | Some(0 | 1) => (1280, 720),
            Some(2..=9) => (640, 360),
            Some(_) => (320, 180),
        });
    };
    let parts = size.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    parts.ok_or_else(|| Usage("--tile is width and height in pixels, as 640x360".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Options, Usage> {
        let matches = command().try_get_matches_from([&["load"], args].concat()).unwrap();
        Options::read(&matches)
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn defaults_make_sense() {
        let options = read(&["--dev"]).unwrap();
        assert_eq!((options.participants(), options.layers.len(), options.tile), (5, 3, (1280, 720)));
        assert_eq!(options.layers.iter().map(|layer| layer.bitrate).collect::<Vec<_>>(), [150_000, 500_000, 1_700_000]);
        assert!(!options.impairment.is_some());
        let options = read(&["--dev", "--layers", "1", "--bitrate", "4000", "--tiles", "9"]).unwrap();
        assert_eq!((options.layers[0].bitrate, options.layers[0].height, options.tile), (4_000_000, 720, (640, 360)));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (args, part) in [
            (&[][..], "--api-key"),
            (&["--api-key", "k"], "--api-secret"),
            (&["--dev", "--api-key", "k", "--api-secret", "s"], "not both"),
            (&["--dev", "--url", "ftp://x"], "https://"),
            (&["--dev", "--url", "https://x", "--subscriber-url", "http://y"], "with the same"),
            (&["--dev", "--url", "http://x", "--ca", "ca.pem"], "correct --url"),
            (&["--dev", "--url", "https://x", "--ca", "/nowhere"], "/nowhere"),
            (&["--dev", "--layers", "4"], "0, 1, 2 or 3"),
            (&["--dev", "--bitrate", "100,200"], "each of the 3 layers"),
            (&["--dev", "--loss", "101"], "from 0 to 100"),
            (&["--dev", "--delay", "5"], "500ms"),
            (&["--dev", "--tile", "640"], "640x360"),
            (&["--dev", "--publishers", "0", "--subscribers", "0"], "nobody"),
            (&["--dev", "--publishers", "90000"], "at most 10000"),
            (&["--dev", "--tiles", "many"], "--tiles"),
        ] {
            let error = read(args).unwrap_err().to_string();
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }
}
