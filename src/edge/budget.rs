//! How many connections there may be, in all and of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is told that there is no place.
const TELL: Duration = Duration::from_secs(60);

/// Counts connections. Clones count together.
#[derive(Clone, Debug)]
pub struct Budget {
    total: usize,
    per_address: usize,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    told: Option<Instant>,
}

impl Counts {
    /// Tells of a connection without a place: many agents behind one address look like one that takes too much.
    fn tell(&mut self, address: Option<IpAddr>, setting: &str, limit: usize) {
        if self.told.is_some_and(|told| told.elapsed() < TELL) {
            return;
        }
        self.told = Some(Instant::now());
        let peer = address.map(tracing::field::display);
        tracing::warn!(peer, limit, "connections are closed for want of a place: {setting} is used up");
    }
}

/// A counted connection; dropping it gives its place back.
#[derive(Debug)]
pub(super) struct Place {
    budget: Budget,
    address: Option<IpAddr>,
}

impl Budget {
    /// Room for `total` connections, of which one address may have `per_address`.
    pub fn new(total: usize, per_address: usize) -> Budget {
        Budget { total, per_address, counts: Arc::default() }
    }

    /// A place for a connection from `address`, if there is one.
    pub(super) fn take(&self, address: Option<IpAddr>) -> Option<Place> {
        let address = address.map(network);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= self.total {
            counts.tell(address, "listen.connections", self.total);
            return None;
        }
        if let Some(address) = address {
            let count = counts.by_address.entry(address).or_default();
            if *count >= self.per_address {
                counts.tell(Some(address), "listen.connections_per_address", self.per_address);
                return None;
            }
            *count += 1;
        }
        counts.total += 1;
        Some(Place { budget: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.budget.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(address) = self.address
            && let Some(count) = counts.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

/// What counts as one address: of IPv6 the first 64 bits, as one machine has all of the rest.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let budget = Budget::new(3, 2);
        let [a, b]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().expect("an address"));
        let first = budget.take(Some(a));
        let second = budget.take(Some(a));
        assert!(first.is_some() && second.is_some());
        assert!(budget.take(Some(a)).is_none(), "one address has its share");
        let third = budget.take(Some(b));
        assert!(third.is_some());
        assert!(budget.take(None).is_none(), "all places are taken");
        drop(first);
        assert!(budget.take(Some(a)).is_some());
        drop((second, third));
        let counts = budget.counts.lock().expect("not poisoned");
        assert_eq!((counts.total, counts.by_address.len()), (0, 0));
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let budget = Budget::new(9, 1);
        let _first = budget.take(Some("2001:db8::1".parse().expect("an address")));
        assert!(budget.take(Some("2001:db8::2".parse().expect("an address"))).is_none());
        assert!(budget.take(Some("2001:db8:0:1::2".parse().expect("an address"))).is_some());
    }
}
