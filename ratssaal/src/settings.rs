//! Every setting of `serve`, `allocator` and `operator`: key, flag and explanation, in one table for help, documentation and tests.

/// A setting with its flag.
pub(crate) struct Setting {
    /// Section and key: `bind` under `[http]` is `http.bind`.
    pub(crate) key: &'static str,
    /// Long flag without the dashes.
    pub(crate) flag: &'static str,
    /// What stands for the value in help.
    pub(crate) value: &'static str,
    /// The default as people read it.
    pub(crate) default: &'static str,
    /// What it does, with units.
    pub(crate) help: &'static str,
    /// Whether the flag may stand alone.
    pub(crate) kind: Kind,
}

/// How a flag is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `--flag VALUE`
    Value,
    /// `--flag`, `--flag=true` or `--flag=false`
    Switch,
}

impl Setting {
    /// The heading that the flag stands under in help.
    pub(crate) fn heading(&self) -> &'static str {
        match self.key.split('.').next() {
            Some("http") => "HTTP",
            Some("media") => "Media",
            Some("room") => "Rooms",
            Some("site" | "brand" | "webhook") => "This server",
            Some("cluster") => "Cluster",
            Some("operator") => "Operator",
            _ => "Logs and traces",
        }
    }
}

const fn value(
    key: &'static str,
    flag: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { key, flag, value, default, help, kind: Kind::Value }
}

const fn switch(key: &'static str, flag: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, flag, value: "true|false", default, help, kind: Kind::Switch }
}

/// What `serve` takes.
pub(crate) fn serve_settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| setting.key != "cluster.listen" && !setting.key.starts_with("operator."))
}

/// What `allocator` takes.
pub(crate) fn allocator_settings() -> impl Iterator<Item = &'static Setting> {
    let own = |setting: &&Setting| {
        let section = setting.key.split('.').next().unwrap_or_default();
        matches!(section, "http" | "cluster" | "log" | "otlp")
            && !["cluster.peer_", "cluster.drain_"].iter().any(|prefix| setting.key.starts_with(prefix))
            && !matches!(setting.key, "cluster.allocator" | "cluster.bridge" | "http.public_url")
    };
    SETTINGS.iter().filter(own)
}

/// What `operator` takes.
pub(crate) fn operator_settings() -> impl Iterator<Item = &'static Setting> {
    let own = |setting: &&Setting| {
        let section = setting.key.split('.').next().unwrap_or_default();
        matches!(section, "http" | "operator" | "log" | "otlp") && setting.key != "http.public_url"
    };
    SETTINGS.iter().filter(own)
}

/// What commands that ask the allocators take.
pub(crate) fn client_settings() -> impl Iterator<Item = &'static Setting> {
    let own = |setting: &&Setting| {
        setting.key.starts_with("cluster.")
            && !["cluster.peer_", "cluster.drain_"].iter().any(|prefix| setting.key.starts_with(prefix))
            && !matches!(setting.key, "cluster.bridge" | "cluster.listen")
    };
    SETTINGS.iter().filter(own)
}

/// All settings but the API keys, which have no flag.
pub(crate) const SETTINGS: &[Setting] = &[
    value("http.bind", "bind", "ADDRESS:PORT", "127.0.0.1:7880", "Where to listen for browsers"),
    value(
        "http.certificate",
        "certificate",
        "FILE",
        "none",
        "PEM file with the certificate chain; turns HTTPS on, re-read when it changes",
    ),
    value("http.key", "key", "FILE", "none", "PEM file with the certificate's private key"),
    value(
        "http.public_url",
        "public-url",
        "URL",
        "none",
        "Where browsers reach this server, if a proxy in front makes it differ, e.g. https://meet.example.de",
    ),
    switch(
        "http.plain",
        "plain",
        "false",
        "Allow plain HTTP on other than loopback addresses, behind a proxy that does HTTPS",
    ),
    value(
        "http.max_connections",
        "max-connections",
        "NUMBER",
        "10000",
        "HTTP connections and WebSockets open at the same time; more wait",
    ),
    value(
        "http.trusted_proxies",
        "trusted-proxies",
        "NET,NET",
        "none",
        "Networks of proxies in front, e.g. 10.0.0.7/32: from them X-Forwarded-For tells whom a request comes from",
    ),
    value(
        "media.ports",
        "media-ports",
        "FIRST-LAST",
        "7882-7897",
        "UDP ports for audio and video; one per worker is used, from the first on",
    ),
    value("media.workers", "media-workers", "NUMBER", "0", "Threads that forward media; 0 is one per core"),
    value(
        "media.advertise",
        "advertise",
        "IP,IP",
        "found",
        "Addresses to tell browsers instead of this machine's own, e.g. the public one behind NAT",
    ),
    value(
        "media.bind",
        "media-bind",
        "IP",
        "::",
        "Address the UDP ports are bound to; :: is every address of this machine, IPv4 and IPv6",
    ),
    value("media.socket_buffer", "socket-buffer", "SIZE", "4MiB", "Receive and send buffer of each UDP socket"),
    value(
        "media.gather",
        "gather",
        "0-5ms",
        "1ms",
        "How long a busy worker lets packets gather, so that they leave together; 0 forwards each at once",
    ),
    value(
        "media.link",
        "link",
        "RATE",
        "found",
        "What the network carries each way, e.g. 1Gbit; unless given, what the network cards say",
    ),
    value(
        "media.spread",
        "spread",
        "NUMBER",
        "48",
        "Participants of one room on one media worker before the next ones are seated on another; 0 keeps rooms on one",
    ),
    value(
        "media.loudest",
        "loudest",
        "0-100",
        "4",
        "Voices forwarded at a time in a large room, the loudest ones, and as many who spoke just before; 0 forwards all",
    ),
    value(
        "media.small_room",
        "small-room",
        "NUMBER",
        "10",
        "Open microphones in a room up to which everybody is forwarded, however loud",
    ),
    switch("media.pin", "pin-workers", "false", "Keep each media worker on a core of its own"),
    value("room.empty_timeout", "empty-timeout", "DURATION", "5m", "A room nobody enters ends after this"),
    value(
        "room.departure_timeout",
        "departure-timeout",
        "DURATION",
        "20s",
        "A room everybody has left ends after this",
    ),
    value("room.max_participants", "max-participants", "NUMBER", "0", "Participants per room; 0 is no limit"),
    value(
        "room.seats",
        "seats",
        "NUMBER",
        "0",
        "Participants on this server, all rooms together; 0 learns it from what packets cost here",
    ),
    switch(
        "room.auto_create",
        "auto-create",
        "true",
        "Joining opens a room that is not open; if false, only the server API does",
    ),
    value("site.name", "site", "NAME", "none", "Where this server stands, to seat people near each other"),
    value(
        "site.relay_limit",
        "relay-limit",
        "RATE",
        "0",
        "At most so much of one room is sent to each server of another site, e.g. 20Mbit; 0 is no limit",
    ),
    value("cluster.bridge", "bridge", "NAME", "host name", "This server's name in the cluster, no other's"),
    value(
        "cluster.redis",
        "redis",
        "URL",
        "none",
        "Redis 7 or newer that several servers share: redis://, rediss://, redis-sentinel:// (with a password: not as a flag)",
    ),
    value(
        "cluster.redis_ca",
        "redis-ca",
        "FILE",
        "the system's",
        "PEM file with the authority that Redis' certificate is from",
    ),
    value("cluster.redis_prefix", "redis-prefix", "NAME", "ratssaal", "Name of this cluster in Redis"),
    value(
        "cluster.allocator",
        "allocator",
        "URL,URL",
        "none",
        "Allocators to use instead of an own one, https://host:port each",
    ),
    value(
        "cluster.listen",
        "listen",
        "ADDRESS:PORT",
        "127.0.0.1:7890",
        "Where an allocator listens for servers (gRPC)",
    ),
    value(
        "cluster.peer_listen",
        "peer-listen",
        "ADDRESS:PORT",
        "127.0.0.1:0, with cluster.certificate [::]:7891",
        "Where this server listens for the cluster's other servers (gRPC); port 0 is any",
    ),
    value(
        "cluster.peer_address",
        "peer-address",
        "URL",
        "found",
        "What the others are told of that, https://host:port; its certificate must name this host",
    ),
    value(
        "cluster.drain_batch",
        "drain-batch",
        "NUMBER",
        "10",
        "Participants moved to other servers at once when this one is drained",
    ),
    value(
        "cluster.drain_within",
        "drain-within",
        "DURATION",
        "60s",
        "How long a server that is stopped may take to move its participants to others",
    ),
    value("cluster.ca", "cluster-ca", "FILE", "none", "PEM file with the authority of the cluster's own certificates"),
    value(
        "cluster.certificate",
        "cluster-certificate",
        "FILE",
        "none",
        "PEM file with this process's certificate in the cluster, re-read when it changes",
    ),
    value("cluster.key", "cluster-key", "FILE", "none", "PEM file with that certificate's private key"),
    value("brand.name", "name", "TEXT", "Ratssaal", "What the web client calls itself"),
    value("brand.imprint", "imprint", "URL", "none", "Link to the imprint (Impressum)"),
    value("brand.privacy", "privacy", "URL", "none", "Link to the privacy notice (Datenschutz)"),
    value(
        "brand.accessibility",
        "accessibility",
        "URL",
        "none",
        "Link to the accessibility statement (Barrierefreiheit)",
    ),
    value("brand.accent", "accent", "#RRGGBB", "none", "Accent colour of the web client"),
    value(
        "webhook.urls",
        "webhook-urls",
        "URL,URL",
        "none",
        "Where to tell what happens in rooms, as LiveKit does: http:// or https:// each",
    ),
    value("webhook.key", "webhook-key", "NAME", "the first", "API key that signs what is told there"),
    value(
        "webhook.ca",
        "webhook-ca",
        "FILE",
        "the system's",
        "PEM file with the authority that the certificates of webhook.urls are from",
    ),
    value(
        "log.level",
        "log-level",
        "LEVEL",
        "info",
        "error, warn, info, debug, trace, or a list like info,ratssaal_bridge=debug; also RATSSAAL_LOG",
    ),
    value("log.format", "log-format", "FORMAT", "auto", "text, json, or auto: text on a terminal, else json"),
    value(
        "otlp.endpoint",
        "otlp-endpoint",
        "URL",
        "none",
        "OpenTelemetry collector for traces (OTLP over gRPC), e.g. http://localhost:4317",
    ),
    value(
        "operator.image",
        "operator-image",
        "IMAGE",
        "none",
        "What bridges and allocators run unless a VideoConference's spec.image says otherwise",
    ),
    value(
        "operator.namespaces",
        "namespaces",
        "NAME,NAME",
        "all",
        "Kubernetes namespaces whose VideoConferences the operator looks after",
    ),
    value("operator.namespace", "namespace", "NAME", "default", "The operator's own namespace, where its Lease is"),
    value(
        "operator.identity",
        "identity",
        "NAME",
        "host name and process",
        "This operator's name among several, of which one acts",
    ),
    value("operator.concurrency", "concurrency", "NUMBER", "8", "VideoConferences looked at at the same time"),
    value(
        "operator.allocator",
        "operator-allocator",
        "HOST:PORT",
        "{name}-allocator.{namespace}.svc:7890",
        "Where the operator reaches a VideoConference's allocators",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Config;
    use ratssaal_process::config::{ConfigError, Sources};

    /// A value each setting takes.
    fn sample(setting: &Setting) -> &'static str {
        match (setting.key, setting.kind) {
            (_, Kind::Switch) => "true",
            ("http.trusted_proxies", _) => "10.0.0.0/8,2001:db8::7/128",
            ("http.bind" | "cluster.listen" | "cluster.peer_listen", _) => "127.0.0.1:7880",
            ("media.ports", _) => "7882-7897",
            ("media.bind", _) => "127.0.0.1",
            ("media.advertise", _) => "192.0.2.1,2001:db8::1",
            ("media.gather", _) => "2ms",
            ("media.loudest", _) => "6",
            ("log.format", _) => "json",
            _ => match setting.value {
                "NUMBER" => "7",
                "SIZE" => "1MiB",
                "RATE" => "1Gbit",
                "DURATION" => "30s",
                _ => "text",
            },
        }
    }

    #[test]
    fn every_setting_in_the_table_exists() {
        for setting in SETTINGS {
            let sources = Sources::new().flag(setting.flag, setting.key, sample(setting));
            sources.load::<Config>().unwrap_or_else(|error| panic!("{}: {error}", setting.key));
        }
    }

    /// Asks each section what it knows, by giving it a key it cannot know.
    #[test]
    fn every_setting_that_exists_is_in_the_table() {
        let table: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
        let known = |key: &str| match Sources::new().flag("--x", key, "x").load::<Config>() {
            Err(ConfigError::Unknown { remedy, .. }) => {
                remedy.trim_start_matches("known here are ").split(", ").map(str::to_owned).collect::<Vec<_>>()
            }
            other => panic!("{key}: {other:?}"),
        };
        let sections = known("qqqqqqqqqqqqqqqq.x");
        assert!(sections.len() >= 8, "{sections:?}");
        for section in sections.iter().filter(|section| *section != "keys") {
            for key in known(&format!("{section}.qqqqqqqqqqqqqqqq")) {
                assert!(table.contains(format!("{section}.{key}").as_str()), "{section}.{key} is missing in SETTINGS");
            }
        }
    }

    #[test]
    fn the_operations_page_shows_the_same_table() {
        let mut expected = String::from("| setting | flag | default | meaning |\n|---|---|---|---|\n");
        for setting in SETTINGS {
            expected +=
                &format!("| `{}` | `--{}` | `{}` | {} |\n", setting.key, setting.flag, setting.default, setting.help);
        }
        let page = include_str!("../../docs/operations.md");
        assert!(page.contains(&expected), "docs/operations.md must hold exactly this table:\n{expected}");
    }
}
