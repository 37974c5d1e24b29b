//! Who waits for a change, and who follows all of them.
//!
//! One query for all of them reads what was recorded since the last one, whenever a hint says that there is something, and now and then
//! without one. It runs only while somebody waits. Those who wait are woken by the path of what changed and read the rows themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::Service;
use super::follow::Recorded;
use crate::auth::Caller;
use crate::domain::event::Place;
use crate::error::{Error, ErrorCode};
use crate::id::{PrincipalId, ResourceId};
use crate::store::{StoreError, event};
use crate::wake::Topic;

/// Most requests of one principal that wait for a change, or follow, at once.
const EACH: u32 = 100;

/// Most such requests at once.
const ALL: u32 = 4_000;

/// Readings that a follower may be behind before it is cut off.
const BEHIND: usize = 256;

/// How often the record is read without any hint.
const TICK: Duration = Duration::from_secs(2);

/// Shortest time between two readings: what comes meanwhile goes into one. It grows with each event that was told, so that a few are told
/// at once and a thousand a second cost no thousand readings, up to the second.
const GATHER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

/// What each event that is told adds to that.
const GATHER_MORE: Duration = Duration::from_millis(1);

/// Time until the record is read again while a transaction is under way: nothing tells when it ends.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// Pause after the record could not be read.
const AGAIN: Duration = Duration::from_secs(1);

/// Events of one reading.
const PAGE: i64 = 500;

/// What followers are told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// The next events: all of one reading, so that who follows wakes once for them.
    Events(Arc<[Arc<Recorded>]>),
    /// Events may be missing here: the record has them.
    Gap,
}

/// Who waits and who follows.
pub(super) struct Changes {
    waiting: Mutex<HashMap<String, watch::Sender<u64>>>,
    followers: broadcast::Sender<Told>,
    /// Something was recorded here, or somebody began to wait.
    hints: watch::Sender<u64>,
    places: Arc<Mutex<HashMap<PrincipalId, u32>>>,
}

impl Default for Changes {
    fn default() -> Changes {
        Changes {
            waiting: Mutex::default(),
            followers: broadcast::Sender::new(BEHIND),
            hints: watch::Sender::new(0),
            places: Arc::default(),
        }
    }
}

impl Changes {
    /// Changes of what has this key from now on.
    fn wait(&self, key: String) -> watch::Receiver<u64> {
        let receiver = lock(&self.waiting).entry(key).or_insert_with(|| watch::Sender::new(0)).subscribe();
        self.hint();
        receiver
    }

    /// All events from now on.
    pub(super) fn follow(&self) -> broadcast::Receiver<Told> {
        let receiver = self.followers.subscribe();
        self.hint();
        receiver
    }

    /// Says that something was recorded.
    pub(super) fn hint(&self) {
        self.hints.send_modify(|n| *n += 1);
    }

    /// Whether nobody waits or follows. Forgets those who went away.
    fn is_idle(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        waiting.is_empty() && self.followers.receiver_count() == 0
    }

    fn tell_waiting<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        let waiting = lock(&self.waiting);
        for key in keys {
            if let Some(sender) = waiting.get(key) {
                sender.send_modify(|n| *n += 1);
            }
        }
    }

    /// Something may have been missed: everyone looks for himself.
    fn tell_all(&self) {
        for sender in lock(&self.waiting).values() {
            sender.send_modify(|n| *n += 1);
        }
        let _ = self.followers.send(Told::Gap);
    }

    fn take_place(&self, principal: PrincipalId) -> Option<WaitingPlace> {
        let mut places = lock(&self.places);
        if places.values().sum::<u32>() >= ALL {
            return None;
        }
        let taken = places.entry(principal).or_default();
        if *taken >= EACH {
            return None;
        }
        *taken += 1;
        Some(WaitingPlace { places: Arc::clone(&self.places), principal })
    }
}

/// One of the requests that may wait at once; given back when it is dropped.
pub struct WaitingPlace {
    places: Arc<Mutex<HashMap<PrincipalId, u32>>>,
    principal: PrincipalId,
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        let mut places = lock(&self.places);
        if let Some(taken) = places.get_mut(&self.principal) {
            *taken -= 1;
            if *taken == 0 {
                places.remove(&self.principal);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for changes of one resource.
pub struct Watch {
    changes: watch::Receiver<u64>,
    leaving: tokio_util::sync::CancellationToken,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The resource may have changed.
    Changed,
    /// The time is over, or this server stops.
    Over,
}

impl Watch {
    /// Waits until the resource may have changed, but not after `until`.
    pub async fn changed(&mut self, until: Instant) -> Woken {
        tokio::select! {
            changed = self.changes.changed() => if changed.is_ok() { Woken::Changed } else { Woken::Over },
            () = sleep_until(until) => Woken::Over,
            () = self.leaving.cancelled() => Woken::Over,
        }
    }
}

impl Service {
    /// Changes of a resource from now on. What is read afterwards and changes later is told.
    pub fn watch(&self, id: &ResourceId) -> Watch {
        Watch { changes: self.inner.changes.wait(id.key()), leaving: self.inner.leaving.clone() }
    }

    /// A place among the requests that wait.
    ///
    /// # Errors
    /// `TooManyRequests` where the caller, or all callers, have as many as may be.
    pub fn take_waiting_place(&self, caller: &Caller) -> Result<WaitingPlace, Error> {
        self.inner.changes.take_place(caller.principal).ok_or_else(|| {
            let mut error = Error::new(
                ErrorCode::TooManyRequests,
                format!("Too many requests wait for a change. At most {EACH} of one caller may wait at once; ask again without waiting."),
            );
            error.retry_after = Some(Duration::from_secs(1));
            error
        })
    }

    /// Reads what was recorded, for all who wait.
    pub(super) async fn tell_changes(&self) {
        let changes = &self.inner.changes;
        let mut here = changes.hints.subscribe();
        let mut asked = self.inner.wake.subscribe(Topic::Reconcile);
        let mut submitted = self.inner.wake.subscribe(Topic::Submission);
        let mut decided = self.inner.wake.subscribe(Topic::Desired);
        let mut place = None;
        loop {
            let begun = Instant::now();
            here.borrow_and_update();
            asked.borrow_and_update();
            submitted.borrow_and_update();
            decided.borrow_and_update();
            if changes.is_idle() {
                place = None;
                // The sender lives as long as this service does.
                let _ = here.changed().await;
                continue;
            }
            let (told, pause) = match self.tell_recorded(&mut place).await {
                Ok((told, true)) => (told, UNDER_WAY),
                Ok((told, false)) => (told, TICK),
                Err(error) => {
                    tracing::debug!(%error, "what was recorded cannot be read");
                    sleep(AGAIN).await;
                    continue;
                }
            };
            tokio::select! {
                _ = here.changed() => {}
                _ = asked.changed() => {}
                _ = submitted.changed() => {}
                _ = decided.changed() => {}
                () = sleep(pause) => {}
            }
            let (shortest, longest) = GATHER;
            sleep_until(begun + longest.min(shortest + GATHER_MORE * told)).await;
        }
    }

    /// Tells everything after `place`. Answers how many events that were, and whether more wait for a transaction that is under way.
    async fn tell_recorded(&self, place: &mut Option<Place>) -> Result<(u32, bool), StoreError> {
        let changes = &self.inner.changes;
        let mut from = match *place {
            Some(place) => place,
            None => {
                let horizon = event::horizon(self.pool()).await?;
                *place = Some(horizon);
                changes.tell_all();
                horizon
            }
        };
        let mut told = 0;
        loop {
            let read = event::after(self.pool(), from, "", PAGE).await?;
            let settled: Vec<Arc<Recorded>> = read.settled.into_iter().map(Recorded::new).collect();
            changes.tell_waiting(settled.iter().map(|recorded| recorded.key()));
            let early: Vec<String> = read.early.iter().map(|event| event.path.to_ascii_lowercase()).collect();
            changes.tell_waiting(early.iter().map(String::as_str));
            told += u32::try_from(settled.len()).unwrap_or(u32::MAX);
            if !settled.is_empty() {
                let _ = changes.followers.send(Told::Events(settled.into()));
            }
            from = read.to;
            *place = Some(from);
            if !read.is_full {
                return Ok((told, !early.is_empty()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let changes = Changes::default();
        let one = PrincipalId(uuid::Uuid::from_u128(1));
        let mut held: Vec<WaitingPlace> = (0..EACH).map(|_| changes.take_place(one).expect("free")).collect();
        assert!(changes.take_place(one).is_none());
        assert!(changes.take_place(PrincipalId(uuid::Uuid::from_u128(2))).is_some(), "others have their own");
        held.pop();
        assert!(changes.take_place(one).is_some());
        drop(held);
        assert!(lock(&changes.places).is_empty());
    }

    #[test]
    fn who_went_away_is_forgotten() {
        let changes = Changes::default();
        assert!(changes.is_idle());
        let waiting = changes.wait("/a".into());
        assert!(!changes.is_idle());
        drop(waiting);
        assert!(changes.is_idle());
        let following = changes.follow();
        assert!(!changes.is_idle());
        drop(following);
        assert!(changes.is_idle());
    }
}
