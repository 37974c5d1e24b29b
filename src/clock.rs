//! What time it is. The one home of wall-clock and monotonic reads: everything that decides receives a time.

use std::sync::Mutex;
use std::time::Duration;

use time::OffsetDateTime;

/// An instant of wall time in UTC.
pub type Timestamp = OffsetDateTime;

/// A source of wall time.
pub trait Clock: Send + Sync {
    /// The present moment, cut to whole milliseconds: the resolution that the wire shows, so that what was answered and what
    /// was stored are equal.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that reads it
    fn now(&self) -> Timestamp {
        whole_milliseconds(OffsetDateTime::now_utc())
    }
}

/// The present moment as finely as the machine tells it: for spans, which nothing is decided by.
#[allow(clippy::disallowed_methods)] // the one place that reads it
pub fn moment() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// A clock that stands still until it is moved: for tests and the simulation.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> ManualClock {
        ManualClock(Mutex::new(whole_milliseconds(start)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now += by;
    }

    /// Sets the clock back.
    pub fn set_back(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now -= by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// `at` without what is finer than a millisecond.
pub fn whole_milliseconds(at: Timestamp) -> Timestamp {
    let millisecond = at.millisecond();
    at.replace_millisecond(millisecond).unwrap_or(at)
}
