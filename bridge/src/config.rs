//! The bridge's configuration: the sections `[keys]`, `[room]`, `[site]`, `[brand]` and `[webhook]` (and `[media]`, see `media`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ratssaal_process::units;
use secrecy::SecretString;
use serde::Deserialize;

/// Everything a bridge is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This bridge's name in the cluster.
    pub bridge: String,
    /// API key → secret of at least 32 bytes. The first in alphabetical order signs what this server issues itself.
    pub keys: BTreeMap<String, SecretString>,
    /// Defaults for rooms.
    pub room: RoomConfig,
    /// Where this bridge stands.
    pub site: SiteConfig,
    /// Whose server this is.
    pub brand: BrandConfig,
    /// How participants are handed over to other bridges when this one stops; `None`: there are no others.
    pub drain: Option<DrainConfig>,
    /// Who is told what happens in rooms.
    pub webhook: WebhookConfig,
    /// Origin under which browsers reach this server (`https://konferenz.example.de`), if a proxy in front makes it another
    /// than the one in the request.
    pub public_url: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bridge: "local".to_owned(),
            keys: BTreeMap::new(),
            room: RoomConfig::default(),
            site: SiteConfig::default(),
            brand: BrandConfig::default(),
            drain: None,
            webhook: WebhookConfig::default(),
            public_url: None,
        }
    }
}

/// Defaults for rooms.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoomConfig {
    /// How long a room that nobody has entered stays open.
    #[serde(deserialize_with = "units::duration")]
    pub empty_timeout: Duration,
    /// How long a room stays open after the last participant has left, so that a reload of the page finds it again.
    #[serde(deserialize_with = "units::duration")]
    pub departure_timeout: Duration,
    /// Participants per room; 0 is no limit.
    pub max_participants: u32,
    /// Participants on this server, all rooms together; 0 learns it from what packets cost here.
    pub seats: u32,
    /// Whether joining opens a room that is not open; otherwise only the server API and moderators do.
    pub auto_create: bool,
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self {
            empty_timeout: Duration::from_secs(300),
            departure_timeout: Duration::from_secs(20),
            max_participants: 0,
            seats: 0,
            auto_create: true,
        }
    }
}

/// Where this bridge stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SiteConfig {
    /// Name of the site; empty in a cluster without sites.
    pub name: String,
    /// At most so many bits per second of one room are sent to each bridge of another site; 0 is no limit.
    #[serde(deserialize_with = "units::bit_rate")]
    pub relay_limit: u64,
}

/// How participants are moved to other bridges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainConfig {
    /// How many at once.
    pub batch: usize,
    /// How long a process that ends may take for it.
    #[serde(deserialize_with = "units::duration")]
    pub within: Duration,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { batch: 10, within: Duration::from_secs(60) }
    }
}

/// Who is told what happens in rooms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where each event is posted.
    #[serde(deserialize_with = "units::list")]
    pub urls: Vec<String>,
    /// The API key that signs; the first one unless given.
    pub key: Option<String>,
    /// PEM file with the authorities of these servers; the system's unless given.
    pub ca: Option<PathBuf>,
}

/// Whose server this is, for the web client.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrandConfig {
    /// Shown in the page's title and header.
    pub name: String,
    /// Address of the imprint (Impressum).
    pub imprint: Option<String>,
    /// Address of the privacy notice (Datenschutz).
    pub privacy: Option<String>,
    /// Address of the accessibility statement (Barrierefreiheit).
    pub accessibility: Option<String>,
    /// Accent colour, `#rrggbb`.
    pub accent: Option<String>,
}

impl Default for BrandConfig {
    fn default() -> Self {
        Self { name: "Ratssaal".to_owned(), imprint: None, privacy: None, accessibility: None, accent: None }
    }
}
