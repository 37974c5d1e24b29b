//! Waiting for a state, never for an interval.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

/// Longest wait for anything that is not itself under test. Generous: a machine may be busy with other work.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two looks at something that tells nobody when it changes, as a client of the API sees it.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `wanted` holds, and answers what was seen then.
pub async fn until<T, L, F>(what: &str, look: L, wanted: impl FnMut(&T) -> bool) -> T
where
    T: Debug,
    L: FnMut() -> F,
    F: Future<Output = T>,
{
    until_within(PATIENCE, what, look, wanted).await
}

/// The same with a deadline of its own.
pub async fn until_within<T, L, F>(deadline: Duration, what: &str, mut look: L, mut wanted: impl FnMut(&T) -> bool) -> T
where
    T: Debug,
    L: FnMut() -> F,
    F: Future<Output = T>,
{
    let began = Instant::now();
    loop {
        let seen = look().await;
        if wanted(&seen) {
            return seen;
        }
        assert!(began.elapsed() < deadline, "{what}: not within {deadline:?}; last seen: {seen:#?}");
        tokio::time::sleep(LOOK).await;
    }
}
