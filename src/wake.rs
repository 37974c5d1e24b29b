//! Hints that something may have changed. A wake-up carries no data and may be lost: whoever is woken reads the rows, and a slow
//! tick catches what no hint told.

use tokio::sync::watch;

/// What a hint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Reconcilers have something to look at: a request was accepted, an agent reported.
    Reconcile,
    /// A job was put into a queue: there is something to look at where a node is free.
    Submission,
    /// Some machine's desired state changed.
    Desired,
    /// Roles or locks changed: what is remembered of them is read anew.
    Access,
}

impl Topic {
    /// All of them.
    pub const ALL: [Topic; 4] = [Topic::Reconcile, Topic::Submission, Topic::Desired, Topic::Access];
}

/// Wakes the parts of this process, and through one notifier those of other servers.
#[derive(Clone, Debug)]
pub struct Wake {
    reconcile: watch::Sender<u64>,
    submission: watch::Sender<u64>,
    desired: watch::Sender<u64>,
    access: watch::Sender<u64>,
    foreign: watch::Sender<Counts>,
}

/// How many hints about each topic were made here, in the order of [`Topic::ALL`].
pub type Counts = [u64; 4];

impl Default for Wake {
    fn default() -> Self {
        Wake {
            reconcile: watch::Sender::new(0),
            submission: watch::Sender::new(0),
            desired: watch::Sender::new(0),
            access: watch::Sender::new(0),
            foreign: watch::Sender::new([0; 4]),
        }
    }
}

impl Wake {
    /// A hint made here: wakes this process at once, and others through the notifier.
    pub fn changed(&self, topic: Topic) {
        self.local(topic);
        self.foreign.send_modify(|[reconcile, submission, desired, access]| match topic {
            Topic::Reconcile => *reconcile += 1,
            Topic::Submission => *submission += 1,
            Topic::Desired => *desired += 1,
            Topic::Access => *access += 1,
        });
    }

    /// A hint that came from another server: wakes this process alone.
    pub fn local(&self, topic: Topic) {
        match topic {
            Topic::Reconcile => self.reconcile.send_modify(|n| *n += 1),
            Topic::Submission => self.submission.send_modify(|n| *n += 1),
            Topic::Desired => self.desired.send_modify(|n| *n += 1),
            Topic::Access => self.access.send_modify(|n| *n += 1),
        }
    }

    /// Hints about a topic from now on: `changed().await` on it, then read the rows.
    pub fn subscribe(&self, topic: Topic) -> watch::Receiver<u64> {
        match topic {
            Topic::Reconcile => self.reconcile.subscribe(),
            Topic::Submission => self.submission.subscribe(),
            Topic::Desired => self.desired.subscribe(),
            Topic::Access => self.access.subscribe(),
        }
    }

    /// What the notifier watches: counts of the hints made here, by topic.
    pub fn subscribe_foreign(&self) -> watch::Receiver<Counts> {
        self.foreign.subscribe()
    }
}
