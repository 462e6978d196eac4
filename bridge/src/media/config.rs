//! Configuration of the media workers, and the addresses they announce.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ratssaal_process::units;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::audio::{Hearing, LOUDEST, SMALL_ROOM};

/// Host candidates announced at the most.
const MAX_CANDIDATES: usize = 8;
/// The longest [`MediaConfig::gather`]: what a conversation does not notice.
const MAX_GATHER: Duration = Duration::from_millis(5);

/// The most [`MediaConfig::loudest`]: more voices at a time nobody can follow, and each packet is compared with all of them.
const MAX_LOUDEST: u16 = 100;

/// `[media]`: the UDP ports and addresses of the media workers.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MediaConfig {
    /// UDP ports, one per worker, e.g. `7882-7897` or `7882`; workers take the first ones that are free.
    pub ports: PortRange,
    /// Media worker threads; 0 is one per processor core, at most as many as there are ports.
    pub workers: u16,
    /// The address the sockets bind to. `::` is every IPv6 and IPv4 address of the machine.
    pub bind: IpAddr,
    /// IP addresses announced to clients as host candidates, instead of those found on the machine's interfaces: for
    /// machines behind a one-to-one NAT.
    #[serde(deserialize_with = "units::list")]
    pub advertise: Vec<IpAddr>,
    /// Send and receive buffer of each socket, bytes; the kernel's limit (`net.core.rmem_max`) may cut it.
    #[serde(deserialize_with = "units::bytes")]
    pub socket_buffer: u32,
    /// How long a worker with much to forward lets datagrams gather before it forwards them: a frame then leaves towards each
    /// subscriber in one run (GSO) instead of packet by packet. Less from a quarter of a core on, and not at all from half of one
    /// on: enough come while it works. Up to 5 ms; 0 forwards each at once.
    #[serde(deserialize_with = "gather")]
    pub gather: Duration,
    /// What the network carries each way, bits per second; 0: what the network cards say.
    #[serde(deserialize_with = "units::bit_rate")]
    pub link: u64,
    /// Participants of one room on one worker before the next ones are seated on another; 0 keeps rooms on one. With 40 who
    /// all publish and see nine others, a room takes a quarter of a core; a second worker costs the way to it, which is an
    /// eighth of all where 40 watch one.
    pub spread: u16,
    /// Voices forwarded at the same time in a room with more than `small_room` open microphones: the loudest so many, and as
    /// many who spoke in the last two seconds. Up to 100; 0 forwards everybody. The same on all servers of a cluster.
    #[serde(deserialize_with = "loudest")]
    pub loudest: u16,
    /// Open microphones in a room up to which everybody is forwarded.
    pub small_room: u16,
    /// Keeps each worker on a processor core of its own, for machines that do nothing else.
    pub pin: bool,
}

fn gather<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let gather = units::duration(deserializer)?;
    if gather > MAX_GATHER {
        return Err(serde::de::Error::custom(format!("{gather:?} is too long: write 0 to 5ms")));
    }
    Ok(gather)
}

fn loudest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let loudest = u16::deserialize(deserializer)?;
    if loudest > MAX_LOUDEST {
        return Err(serde::de::Error::custom(format!("{loudest} is too many: write 1 to {MAX_LOUDEST}, or 0 for all")));
    }
    Ok(loudest)
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            ports: PortRange { first: 7882, last: 7897 },
            workers: 0,
            bind: Ipv6Addr::UNSPECIFIED.into(),
            advertise: Vec::new(),
            socket_buffer: 4 << 20,
            gather: Duration::from_millis(1),
            link: 0,
            spread: 48,
            loudest: LOUDEST,
            small_room: SMALL_ROOM,
            pin: false,
        }
    }
}

impl MediaConfig {
    /// Who is heard in which rooms.
    pub(crate) fn hearing(&self) -> Hearing {
        Hearing { loudest: self.loudest, small_room: self.small_room }
    }

    /// How many workers to start.
    pub(crate) fn worker_count(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = if self.workers == 0 { cores } else { usize::from(self.workers) };
        wanted.clamp(1, self.ports.range().count())
    }

    /// The addresses to announce, best first: as configured, else the bound one, else those of the interfaces (IPv4
    /// first; loopback only where there is nothing else, since browsers do not take it from a page of another host).
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        if !self.advertise.is_empty() {
            return self.advertise.clone();
        }
        if !self.bind.is_unspecified() {
            return vec![self.bind];
        }
        let found = if_addrs::get_if_addrs().unwrap_or_default();
        let mut found: Vec<IpAddr> = found.iter().map(if_addrs::Interface::ip).filter(reachable).collect();
        found.sort_by_key(IpAddr::is_ipv6); // stable: the interfaces' order stays
        found.dedup();
        found.truncate(MAX_CANDIDATES);
        if found.is_empty() {
            found.push(Ipv4Addr::LOCALHOST.into());
        }
        found
    }
}

/// Not loopback, not link-local, no multicast.
fn reachable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    }
}

/// A range of UDP ports, written `7882-7897` or `7882`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Ports", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The ports.
    #[must_use]
    pub fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

/// A port range that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`{0}` is not a range of UDP ports: write it as 7882-7897, or as one port, from 1 to 65535")]
pub struct PortRangeError(String);

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, PortRangeError> {
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(PortRangeError(text.to_owned())),
        }
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

/// One port may stand in a file as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ports {
    Number(u16),
    Text(String),
}

impl TryFrom<Ports> for PortRange {
    type Error = PortRangeError;

    fn try_from(ports: Ports) -> Result<Self, PortRangeError> {
        match ports {
            Ports::Number(port) => port.to_string().parse(),
            Ports::Text(text) => text.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        for (text, expected) in
            [("7882-7897", Some((7882, 7897))), ("7882", Some((7882, 7882))), (" 1 - 2 ", Some((1, 2)))]
        {
            assert_eq!(text.parse::<PortRange>().ok().map(|r| (r.first, r.last)), expected, "{text}");
        }
        for text in ["", "0", "7897-7882", "1-70000", "a", "1-2-3"] {
            let error = text.parse::<PortRange>().unwrap_err().to_string();
            assert!(error.contains("7882-7897"), "{error}");
        }
        assert_eq!(MediaConfig::default().ports.to_string(), "7882-7897");
    }

    #[test]
    fn more_voices_than_anybody_can_follow_are_refused() {
        use serde::de::value::{Error, MapDeserializer};
        let read = |loudest: u16| {
            let section = MapDeserializer::<_, Error>::new([("loudest", loudest)].into_iter());
            MediaConfig::deserialize(section).map(|config| config.loudest).map_err(|error| error.to_string())
        };
        assert_eq!([0, 4, 100].map(read), [Ok(0), Ok(4), Ok(100)]);
        let error = read(101).unwrap_err();
        assert!(error.contains("1 to 100"), "{error}");
        let hearing = MediaConfig { loudest: 6, small_room: 20, ..MediaConfig::default() }.hearing();
        assert_eq!((hearing.places(20), hearing.places(21)), (None, Some(12)));
    }

    #[test]
    fn the_advertised_address_may_differ_from_the_bound_one() {
        let advertise: Vec<IpAddr> = vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let config = MediaConfig { advertise: advertise.clone(), ..MediaConfig::default() };
        assert_eq!(config.addresses(), advertise);
        let bound = MediaConfig { bind: "192.0.2.9".parse().unwrap(), ..MediaConfig::default() };
        assert_eq!(bound.addresses(), [bound.bind]);
        assert!(!MediaConfig::default().addresses().is_empty());
    }
}
