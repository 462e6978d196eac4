//! What the kernel says of this process: CPU time of threads, dropped datagrams, open files, the network card's speed.
//!
//! All of it is read from `/proc` and `/sys` (proc(5)); what cannot be read is unknown, not zero.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// CPU time of a thread, given its folder in `/proc` (`self/task/<tid>`): the first figure of `schedstat`, nanoseconds.
pub(super) fn cpu_time(task: &Path) -> Option<Duration> {
    let text = fs::read_to_string(Path::new("/proc").join(task).join("schedstat")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Datagrams that the kernel dropped so far because the sockets on these UDP ports were full.
pub(super) fn overflown(ports: &[u16]) -> u64 {
    let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"].map(fs::read_to_string);
    tables.iter().flatten().flat_map(|table| table.lines().skip(1)).filter_map(|line| drops_of(line, ports)).sum()
}

/// A line of the table: the second field is the local address (`00000000:1ECA`), the last one the drops.
fn drops_of(line: &str, ports: &[u16]) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let port = fields.nth(1)?.rsplit_once(':')?.1;
    let port = u16::from_str_radix(port, 16).ok()?;
    if ports.contains(&port) { fields.next_back()?.parse().ok() } else { None }
}

/// Open files of this process, sockets among them.
pub(super) fn open_files() -> Option<u32> {
    u32::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

/// How many it may have.
pub(super) fn open_files_limit() -> Option<u32> {
    limit_in(&fs::read_to_string("/proc/self/limits").ok()?)
}

fn limit_in(limits: &str) -> Option<u32> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Slower than this (Mbit/s) is no server's card but a virtual one's made-up figure: tunnels say 10.
const SLOWEST: u64 = 100;

/// What the network cards with these addresses carry each way together, bits per second; 0 if they do not tell (virtual ones
/// often do not, or nonsense).
pub(crate) fn link_bps(addresses: &[IpAddr]) -> u64 {
    let cards = if_addrs::get_if_addrs().unwrap_or_default();
    let mut names: Vec<String> =
        cards.into_iter().filter(|card| addresses.contains(&card.ip())).map(|card| card.name).collect();
    names.sort_unstable();
    names.dedup();
    let megabits = |name: &String| -> Option<u64> {
        let text = fs::read_to_string(Path::new("/sys/class/net").join(name).join("speed")).ok()?;
        // Unknown speeds are written as -1.
        text.trim().parse().ok().filter(|speed| *speed >= SLOWEST)
    };
    names.iter().filter_map(megabits).map(|speed| speed.saturating_mul(1_000_000)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_those_of_our_ports() {
        let line = "  1234: 00000000:1ECA 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 42";
        assert_eq!(drops_of(line, &[7882]), Some(42));
        assert_eq!(drops_of(line, &[7883]), None);
        for odd in ["", "1: x", "1: 00:zz a b c", "  sl  local_address rem_address"] {
            assert_eq!(drops_of(odd, &[7882]), None, "{odd}");
        }
    }

    #[test]
    fn limits() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            20000                30000                files\n";
        assert_eq!(limit_in(limits), Some(20_000));
        assert_eq!(limit_in("Max open files  unlimited unlimited files"), None);
    }

    #[test]
    fn this_thread_is_measured() {
        let task = fs::read_link("/proc/thread-self").unwrap();
        let before = cpu_time(&task).unwrap();
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(20) {
            std::hint::black_box(began);
        }
        assert!(cpu_time(&task).unwrap() > before);
        assert_eq!(cpu_time(Path::new("self/task/0")), None);
    }

    #[test]
    fn a_card_that_does_not_tell_is_unknown() {
        assert_eq!(link_bps(&[IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1])]), 0);
    }
}
