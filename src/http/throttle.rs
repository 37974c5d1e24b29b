//! How many requests a caller may send: a bucket for each caller, subscription and kind of request.
//!
//! A bucket holds what may be sent in a row and is filled again at a steady rate. In memory: each server counts for itself. Polls of
//! operations are not counted: clients cannot send fewer of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode};
use crate::http::headers::RequestKind;
use crate::id::{PrincipalId, SubscriptionId};

/// Most buckets that are remembered; the longest unused are forgotten, and full again.
const REMEMBERED: u64 = 100_000;

/// A bucket that nobody used for so long is full again at any rate that can be set.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// The size of a bucket and how fast it is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests in a row. Range: at least 1.
    pub burst: u32,
    /// Requests that are given back each second. Range: at least 1.
    pub per_second: u32,
}

/// The rates of each kind of request, of one caller in one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// What changes nothing.
    pub reads: Rate,
    /// What makes, changes or acts.
    pub writes: Rate,
    /// What deletes.
    pub deletes: Rate,
}

impl Rates {
    fn of(&self, kind: RequestKind) -> Rate {
        match kind {
            RequestKind::Read => self.reads,
            RequestKind::Write => self.writes,
            RequestKind::Delete => self.deletes,
        }
    }
}

/// Whose bucket: a caller, in a subscription or outside of all.
type Owner = (PrincipalId, Option<SubscriptionId>, RequestKind);

/// The buckets of this server.
#[derive(Clone)]
pub struct Throttle {
    rates: Option<Rates>,
    buckets: Cache<Owner, Arc<Mutex<Bucket>>>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Timestamp,
}

impl Throttle {
    /// Buckets of these rates; `None` lets everything pass.
    pub fn new(rates: Option<Rates>) -> Throttle {
        Throttle { rates, buckets: Cache::builder().max_capacity(REMEMBERED).time_to_idle(FORGOTTEN).build() }
    }

    /// Counts one request. Answers how many are left; `None` where nothing is counted.
    ///
    /// # Errors
    /// `SubscriptionRequestsThrottled` or `TenantRequestsThrottled` with the time after which another one is let through.
    pub(crate) fn take(&self, owner: Owner, now: Timestamp) -> Result<Option<u32>, Error> {
        self.count(owner, now, 1.0)
    }

    /// How many are left, without counting one.
    pub(crate) fn left(&self, owner: Owner, now: Timestamp) -> Option<u32> {
        self.count(owner, now, 0.0).ok().flatten()
    }

    fn count(&self, owner: Owner, now: Timestamp, cost: f64) -> Result<Option<u32>, Error> {
        let Some(rates) = &self.rates else { return Ok(None) };
        let rate = rates.of(owner.2);
        let (most, speed) = (f64::from(rate.burst), f64::from(rate.per_second));
        let bucket = self.buckets.get_with(owner, || Arc::new(Mutex::new(Bucket { left: most, at: now })));
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that goes back gives nothing and takes nothing.
        let passed = (now - bucket.at).as_seconds_f64().max(0.0);
        bucket.left = (bucket.left + passed * speed).min(most);
        bucket.at = now;
        if bucket.left < cost {
            let wait = ((cost - bucket.left) / speed).ceil().max(1.0);
            return Err(refused(&owner, Duration::from_secs_f64(wait)));
        }
        bucket.left -= cost;
        // The fraction of one is none.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let left = bucket.left as u32;
        Ok(Some(left))
    }
}

/// Source of the text: answers of Azure Resource Manager.
fn refused(owner: &Owner, wait: Duration) -> Error {
    let (principal, subscription, kind) = owner;
    let kind = match kind {
        RequestKind::Read => "read",
        RequestKind::Write => "write",
        RequestKind::Delete => "delete",
    };
    let seconds = wait.as_secs();
    let tail = format!(
        "actor '{principal}' exceeded. Please try again after '{seconds}' seconds after additional tokens are available."
    );
    let mut error = match subscription {
        Some(subscription) => Error::new(
            ErrorCode::SubscriptionRequestsThrottled,
            format!("Number of '{kind}' requests for subscription '{subscription}' {tail}"),
        ),
        None => Error::new(ErrorCode::TenantRequestsThrottled, format!("Number of '{kind}' requests for tenant {tail}")),
    };
    error.retry_after = Some(wait);
    error
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let rate = |burst, per_second| Rate { burst, per_second };
        let throttle = Throttle::new(Some(Rates { reads: rate(3, 1), writes: rate(1, 1), deletes: rate(1, 1) }));
        let owner = |who, kind| (PrincipalId(Uuid::from_u128(who)), Some(SubscriptionId(Uuid::nil())), kind);
        let now = datetime!(2026-01-01 00:00 UTC);
        let reader = owner(1, RequestKind::Read);
        assert_eq!(throttle.left(reader, now), Some(3));
        for left in [2, 1, 0] {
            assert_eq!(throttle.take(reader, now).expect("passes"), Some(left));
        }
        let refused = throttle.take(reader, now).expect_err("too many");
        assert_eq!((refused.code, refused.retry_after), (ErrorCode::SubscriptionRequestsThrottled, Some(Duration::from_secs(1))));
        assert!(refused.message.starts_with("Number of 'read' requests for subscription '"), "{}", refused.message);
        assert!(throttle.take(reader, now + Duration::from_millis(500)).is_err(), "too early: another wait");
        throttle.take(reader, now + Duration::from_secs(2)).expect("later");
        throttle.take(owner(2, RequestKind::Read), now).expect("another caller has a bucket of its own");
        throttle.take(owner(1, RequestKind::Write), now).expect("so has another kind");
        assert!(throttle.take(reader, now - Duration::from_secs(9)).is_ok(), "a clock that went back takes nothing");
    }

    #[test]
    fn off_lets_everything_pass() {
        let throttle = Throttle::new(None);
        let owner = (PrincipalId(Uuid::nil()), None, RequestKind::Read);
        for _ in 0..1000 {
            assert_eq!(throttle.take(owner, datetime!(2026-01-01 00:00 UTC)).expect("passes"), None);
        }
    }
}
