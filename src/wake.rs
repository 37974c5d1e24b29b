//! Hints that something may have changed. A wake-up carries no data and may be lost: whoever is woken reads the rows, and a slow
//! tick catches what no hint told.

use tokio::sync::watch;

/// What a hint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Reconcilers have something to look at: a request was accepted, an agent reported.
    Reconcile,
    /// Some machine's desired state changed.
    Desired,
}

/// Wakes the parts of this process, and through one notifier those of other servers.
#[derive(Clone, Debug)]
pub struct Wake {
    reconcile: watch::Sender<u64>,
    desired: watch::Sender<u64>,
    foreign: watch::Sender<(u64, u64)>,
}

impl Default for Wake {
    fn default() -> Self {
        Wake { reconcile: watch::Sender::new(0), desired: watch::Sender::new(0), foreign: watch::Sender::new((0, 0)) }
    }
}

impl Wake {
    /// A hint made here: wakes this process at once, and others through the notifier.
    pub fn changed(&self, topic: Topic) {
        self.local(topic);
        self.foreign.send_modify(|(reconcile, desired)| match topic {
            Topic::Reconcile => *reconcile += 1,
            Topic::Desired => *desired += 1,
        });
    }

    /// A hint that came from another server: wakes this process alone.
    pub fn local(&self, topic: Topic) {
        match topic {
            Topic::Reconcile => self.reconcile.send_modify(|n| *n += 1),
            Topic::Desired => self.desired.send_modify(|n| *n += 1),
        }
    }

    /// Hints about a topic from now on: `changed().await` on it, then read the rows.
    pub fn subscribe(&self, topic: Topic) -> watch::Receiver<u64> {
        match topic {
            Topic::Reconcile => self.reconcile.subscribe(),
            Topic::Desired => self.desired.subscribe(),
        }
    }

    /// What the notifier watches: counts of the hints made here, by topic.
    pub fn subscribe_foreign(&self) -> watch::Receiver<(u64, u64)> {
        self.foreign.subscribe()
    }
}
