//! The limit on guessing secrets. In memory: what a restart forgets, a guesser must find within the same few tries again.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;

/// Wrong secrets that one address may try for one name in a row.
const TRIES: f64 = 19.0;

/// One more try is given back in this time.
const TRY_AGAIN: Duration = Duration::from_secs(3);

/// Wrong secrets or names that one address may try for all names in a row.
const TRIES_OF_ADDRESS: f64 = 300.0;

/// One more of those is given back in this time.
const ADDRESS_AGAIN: Duration = Duration::from_secs(1);

/// Requests of one address for one name that may be under way at once: what a burst can try beyond its tries.
const AT_ONCE: u32 = 64;

/// Most names and addresses that are remembered; the longest unused are forgotten.
const REMEMBERED: u64 = 20_000;

/// Counts wrong secrets by name and address.
pub(super) struct Guesses {
    pairs: Cache<[u8; 32], Arc<Mutex<Bucket>>>,
    addresses: Cache<IpAddr, Arc<Mutex<Bucket>>>,
}

struct Bucket {
    tries: f64,
    at: Timestamp,
    under_way: u32,
}

/// One sign-in under way.
pub(super) struct Guess {
    pair: Arc<Mutex<Bucket>>,
    address: Arc<Mutex<Bucket>>,
}

impl Guesses {
    pub(super) fn new() -> Guesses {
        let idle = Duration::from_secs(600);
        Guesses {
            pairs: Cache::builder().max_capacity(REMEMBERED).time_to_idle(idle).build(),
            addresses: Cache::builder().max_capacity(REMEMBERED).time_to_idle(idle).build(),
        }
    }

    /// Lets a sign-in begin.
    ///
    /// # Errors
    /// How long to wait, where too many went wrong.
    pub(super) fn begin(&self, client_id: &str, peer: IpAddr, now: Timestamp) -> Result<Guess, Duration> {
        let peer = household(peer);
        let mut hash = Sha256::new();
        hash.update(peer.to_string().as_bytes());
        hash.update([0]);
        hash.update(client_id.as_bytes());
        let pair = self.pairs.get_with(hash.finalize().into(), || Bucket::full(TRIES, now));
        let address = self.addresses.get_with(peer, || Bucket::full(TRIES_OF_ADDRESS, now));
        locked(&address, |bucket| bucket.check(TRIES_OF_ADDRESS, ADDRESS_AGAIN, now))?;
        locked(&pair, |bucket| {
            bucket.check(TRIES, TRY_AGAIN, now)?;
            if bucket.under_way >= AT_ONCE {
                return Err(Duration::from_secs(1));
            }
            bucket.under_way += 1;
            Ok(())
        })?;
        Ok(Guess { pair, address })
    }
}

impl Guess {
    /// The secret or the name was wrong.
    pub(super) fn was_wrong(&self) {
        for bucket in [&self.pair, &self.address] {
            locked(bucket, |bucket| bucket.tries = (bucket.tries - 1.0).max(0.0));
        }
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        locked(&self.pair, |bucket| bucket.under_way = bucket.under_way.saturating_sub(1));
    }
}

impl Bucket {
    fn full(tries: f64, now: Timestamp) -> Arc<Mutex<Bucket>> {
        Arc::new(Mutex::new(Bucket { tries, at: now, under_way: 0 }))
    }

    fn check(&mut self, most: f64, again: Duration, now: Timestamp) -> Result<(), Duration> {
        let passed = (now - self.at).as_seconds_f64().max(0.0);
        self.tries = (self.tries + passed / again.as_secs_f64()).min(most);
        self.at = now;
        if self.tries < 1.0 { Err(again.mul_f64(1.0 - self.tries)) } else { Ok(()) }
    }
}

fn locked<T>(bucket: &Mutex<Bucket>, action: impl FnOnce(&mut Bucket) -> T) -> T {
    action(&mut bucket.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What one party can choose addresses from: a whole /64 of IPv6.
fn household(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twentieth_wrong_try_waits_and_others_do_not() {
        let guesses = Guesses::new();
        let now = Timestamp::UNIX_EPOCH;
        let peer: IpAddr = "2001:db8::1".parse().expect("parses");
        for _ in 0..19 {
            guesses.begin("a", peer, now).expect("may try").was_wrong();
        }
        let wait = guesses.begin("a", peer, now).err().expect("waits");
        assert!(wait <= TRY_AGAIN && wait > Duration::ZERO);
        let neighbour = "2001:db8::2".parse().expect("parses");
        assert!(guesses.begin("a", neighbour, now).is_err(), "the same household");
        assert!(guesses.begin("b", peer, now).is_ok(), "another name");
        assert!(guesses.begin("a", "10.0.0.1".parse().expect("parses"), now).is_ok(), "another address");
        assert!(guesses.begin("a", peer, now + TRY_AGAIN).is_ok(), "later");
    }

    #[test]
    fn names_at_random_are_limited_by_address() {
        let guesses = Guesses::new();
        let now = Timestamp::UNIX_EPOCH;
        let peer: IpAddr = "10.0.0.1".parse().expect("parses");
        let tried = (0..10_000).take_while(|n| guesses.begin(&n.to_string(), peer, now).map(|g| g.was_wrong()).is_ok()).count();
        assert_eq!(tried, 300);
    }

    #[test]
    fn a_burst_is_limited_before_it_is_judged() {
        let guesses = Guesses::new();
        let now = Timestamp::UNIX_EPOCH;
        let peer: IpAddr = "10.0.0.1".parse().expect("parses");
        let under_way: Vec<Guess> = std::iter::from_fn(|| guesses.begin("a", peer, now).ok()).take(1000).collect();
        assert_eq!(under_way.len(), 64);
        drop(under_way);
        assert!(guesses.begin("a", peer, now).is_ok(), "right secrets cost nothing");
    }
}
