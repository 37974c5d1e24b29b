//! Agents' turns at the database: when all of them come at once, after a server was away, they are heard one after the other, and
//! requests of users find connections all the while.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{Error, ErrorCode};

/// Of so many connections agents may have one.
const SHARE: u32 = 4;

/// Longest time until an agent's turn comes: less than it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who is heard, in the order in which they came.
pub(crate) struct Turns {
    free: Semaphore,
    patience: Duration,
}

impl Turns {
    /// Turns at a pool of so many connections.
    pub(crate) fn new(connections: u32) -> Turns {
        Turns { free: Semaphore::new(usize::try_from((connections / SHARE).max(1)).unwrap_or(1)), patience: PATIENCE }
    }

    /// Waits for a turn, which lasts until what is answered is dropped.
    ///
    /// # Errors
    /// `TooManyRequests` where too many came before: the agent comes again later.
    pub(super) async fn take(&self) -> Result<SemaphorePermit<'_>, Error> {
        let busy = || Error::new(ErrorCode::TooManyRequests, "Too many agents came at once. Come again in a moment.");
        match tokio::time::timeout(self.patience, self.free.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn who_came_first_is_heard_first_and_nobody_waits_for_ever() {
        let turns = Turns { patience: Duration::from_millis(200), ..Turns::new(7) };
        let first = turns.take().await.expect("a turn");
        let (mut second, mut third) = (Box::pin(turns.take()), Box::pin(turns.take()));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "the second came before");
        let held = second.await.expect("its turn");
        let refused = third.await.expect_err("for too long");
        assert_eq!(refused.code, ErrorCode::TooManyRequests);
        drop(held);
    }
}
