//! Where a request comes from: the other end of its connection, or what trusted proxies say of it in `X-Forwarded-For`.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use ipnet::IpNet;

/// The header in which each proxy adds whom it has the request from, at the end.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Proxies that a request may have come through.
const MOST: usize = 16;

/// The proxies whose word is taken. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies(Arc<[IpNet]>);

impl Proxies {
    /// Those of these networks.
    pub(super) fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whom a request comes from that this address has sent: of the addresses in the header the last that is no trusted
    /// proxy's. What stands before it was written by somebody whose word is not taken.
    pub(super) fn origin(&self, sender: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut origin = sender.to_canonical();
        let lines = headers.get_all(FORWARDED_FOR).iter().rev().filter_map(|line| line.to_str().ok());
        let mut told = lines.flat_map(|line| line.rsplit(',')).map(str::trim).take(MOST);
        while self.trust(origin)
            && let Some(Ok(before)) = told.next().map(str::parse::<IpAddr>)
        {
            origin = before.to_canonical();
        }
        origin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (http::HeaderName::from_static(FORWARDED_FOR), line.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_word_of_trusted_proxies_is_taken() {
        let proxies = Proxies::new(&["10.0.0.0/8".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()]);
        let cases: [(&str, &[&str], &str); 11] = [
            ("203.0.113.9", &[], "203.0.113.9"),
            // Not a proxy: whatever it says of itself.
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            // The client wrote the first one itself.
            ("10.0.0.1", &["192.0.2.66, 198.51.100.1"], "198.51.100.1"),
            // Through two proxies, in one line or two.
            ("10.0.0.1", &["198.51.100.1, 10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1", &["192.0.2.66,198.51.100.1", "10.9.9.9"], "198.51.100.1"),
            ("2001:db8:1::1", &["2001:db8:ffff::2"], "2001:db8:ffff::2"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            // Nonsense: the proxy itself.
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, , 10.9.9.9"], "10.9.9.9"),
            ("10.0.0.1", &[""], "10.0.0.1"),
        ];
        for (sender, lines, expected) in cases {
            assert_eq!(proxies.origin(ip(sender), &headers(lines)), ip(expected), "{sender} {lines:?}");
        }
        assert_eq!(Proxies::default().origin(ip("10.0.0.1"), &headers(&["198.51.100.1"])), ip("10.0.0.1"));
    }

    #[test]
    fn a_long_chain_ends() {
        let proxies = Proxies::new(&["10.0.0.0/8".parse().unwrap()]);
        let chain = vec!["10.0.0.2"; 10_000].join(",");
        assert_eq!(proxies.origin(ip("10.0.0.1"), &headers(&[&chain])), ip("10.0.0.2"));
    }
}
