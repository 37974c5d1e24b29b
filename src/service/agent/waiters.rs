//! Agents that wait: one query for all of them, and only those whose number moved are woken.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::id::MachineUid;

/// Who waits for another number of what its node should be.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<HashMap<MachineUid, watch::Sender<i64>>>);

impl Waiters {
    /// Numbers of `machine` from now on. Forgotten when the last receiver is dropped and [`publish`](Self::publish) comes by.
    pub(super) fn wait(&self, machine: MachineUid) -> watch::Receiver<i64> {
        self.lock().entry(machine).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Tells those who wait what the numbers are. A machine that is not listed is gone: its agent is told that too, by a number that
    /// no machine has.
    pub(crate) fn publish(&self, numbers: &[(MachineUid, i64)]) {
        let numbers: HashMap<MachineUid, i64> = numbers.iter().copied().collect();
        self.lock().retain(|machine, sender| {
            let number = numbers.get(machine).copied().unwrap_or(i64::MAX);
            sender.send_if_modified(|known| std::mem::replace(known, number) != number);
            sender.receiver_count() > 0
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MachineUid, watch::Sender<i64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_another_number_is_woken() {
        let waiters = Waiters::default();
        let (a, b) = (MachineUid(uuid::Uuid::from_u128(1)), MachineUid(uuid::Uuid::from_u128(2)));
        let (mut at_a, mut at_b) = (waiters.wait(a), waiters.wait(b));
        waiters.publish(&[(a, 3), (b, 7)]);
        assert_eq!((*at_a.borrow_and_update(), *at_b.borrow_and_update()), (3, 7));
        waiters.publish(&[(a, 3), (b, 8)]);
        assert!(!at_a.has_changed().expect("open") && at_b.has_changed().expect("open"));
        waiters.publish(&[(b, 8)]);
        assert!(at_a.has_changed().expect("open"), "it is gone");
        drop((at_a, at_b));
        waiters.publish(&[]);
        assert!(waiters.is_empty());
    }
}
