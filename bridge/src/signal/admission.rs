//! How many connections may be in the making: in all and per network, so that a flood of clients that never finish
//! joining costs a bounded amount and leaves room for others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Sessions that are not connected yet, on this bridge.
const MAX_IN_ALL: usize = 4096;
/// Sessions that are not connected yet, from one IPv4 address or IPv6 /64. A town hall behind one address joins at once.
const MAX_PER_NETWORK: usize = 512;

/// Counts the connections in the making. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub(crate) struct Admission {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place among the connections in the making; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Admission,
    network: IpAddr,
}

impl Admission {
    /// Takes a place, if there is one.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.get(&network).copied().unwrap_or_default();
        if own >= MAX_PER_NETWORK || open.values().sum::<usize>() >= MAX_IN_ALL {
            return None;
        }
        open.insert(network, own + 1);
        Some(Place { admission: self.clone(), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.network) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.network);
            }
        }
    }
}

/// What one customer has: an IPv4 address, or an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_network_cannot_take_all_places() {
        let admission = Admission::default();
        let places: Vec<_> = (0..MAX_PER_NETWORK).map(|_| admission.enter(address("203.0.113.1")).unwrap()).collect();
        assert!(admission.enter(address("203.0.113.1")).is_none());
        assert!(admission.enter(address("::ffff:203.0.113.1")).is_none(), "the same address, mapped");
        assert!(admission.enter(address("203.0.113.2")).is_some());
        drop(places);
        assert!(admission.enter(address("203.0.113.1")).is_some());
        assert!(admission.open.lock().unwrap().is_empty(), "nothing is left behind");
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let admission = Admission::default();
        let places: Vec<_> =
            (0..MAX_PER_NETWORK).map(|n| admission.enter(address(&format!("2001:db8::{n:x}"))).unwrap()).collect();
        assert!(admission.enter(address("2001:db8::ffff:1")).is_none());
        assert!(admission.enter(address("2001:db8:0:1::1")).is_some());
        drop(places);
    }

    #[test]
    fn all_networks_together_are_bounded() {
        let admission = Admission::default();
        let enter = |n: usize| admission.enter(address(&format!("10.0.{}.{}", n / 256, n % 256)));
        let places: Vec<_> = (0..MAX_IN_ALL).map(|n| enter(n).unwrap()).collect();
        assert!(enter(MAX_IN_ALL).is_none());
        drop(places);
    }
}
