//! What bounds the decisions, and what they need to know of the driver.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::machine::Size;
use crate::domain::quota::CoreQuotas;
use crate::driver::LONGEST_BOOT;
use crate::id::MachineUid;

/// Bounds of one pass and patience with what does not happen.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Queued jobs that are read of each cluster.
    pub queue: u32,
    /// Changes written in one commit; the rest follows in the next pass.
    pub changes: usize,
    /// Machines asked for in one pass of each cluster.
    pub ask: u32,
    /// Driver calls under way at once.
    pub effects: usize,
    /// Attempts of one job that the platform may lose before the job fails. User's own requeues do not count.
    pub platform_retries: usize,
    /// Time within which a machine that is there must have come home, as its driver says.
    pub boot_deadline: Duration,
    /// Time within which parts that were told to stop must say so, before their node is made to go.
    pub stop_patience: Duration,
    /// A node that was not heard for so long gets no job.
    pub silence: Duration,
    /// A node without a job that was not heard for so long is replaced.
    pub deaf_patience: Duration,
    /// Where nodes end themselves: one that was not heard for so long has surely done so, whether or not its end is seen. `None` where
    /// the driver sees all ends.
    pub fenced_after: Option<Duration>,
    /// A cluster that scales by its queue shrinks once its jobs needed fewer nodes for so long.
    ///
    /// Source: recorded times between a job's end and the node's leaving.
    pub scale_down_after: Duration,
    /// A node that cannot be used stays so long, to be looked at.
    pub unusable_for: Duration,
    /// Pause before another node is tried where as many could not be used as there are to be; doubles with each.
    pub repair_pause: Duration,
    /// Most cores of a subscription's clusters in a region.
    pub cores: CoreQuotas,
    /// Time between the two listings that make a machine without a row a stranger.
    pub stranger_grace: Duration,
    /// Pause after the first failure to make a machine; doubles with each.
    pub retry_first: Duration,
    /// Longest pause after failures.
    pub retry_most: Duration,
    /// Pause after the driver had no capacity.
    pub quota_retry: Duration,
    /// A driver call is given up after this; what it left behind is unknown.
    pub effect_deadline: Duration,
    /// A read or write of rows is given up after this; what a write did is unknown.
    pub rows_deadline: Duration,
    /// How long a lease lasts by the database's clock.
    pub lease_ttl: Duration,
    /// How often a held lease is renewed.
    pub lease_renew: Duration,
    /// How often one that another holds is asked for.
    pub lease_poll: Duration,
    /// Longest pause after a pass where something else is to be looked at at once; the shorter the pass was, the shorter it is.
    pub rest: Duration,
    /// How often the rows are read without any wake-up.
    pub tick: Duration,
    /// How often the driver's machines are listed without any hint.
    pub list_every: Duration,
    /// Shortest time between two listings.
    pub list_gap: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            queue: 128,
            changes: 512,
            ask: 100,
            effects: 16,
            platform_retries: 3,
            boot_deadline: LONGEST_BOOT,
            stop_patience: Duration::from_secs(120),
            silence: Duration::from_secs(90),
            deaf_patience: Duration::from_secs(600),
            fenced_after: None,
            scale_down_after: Duration::from_secs(300),
            unusable_for: Duration::from_secs(60),
            repair_pause: Duration::from_secs(30),
            cores: CoreQuotas::default(),
            stranger_grace: Duration::from_secs(10),
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(300),
            quota_retry: Duration::from_secs(15),
            effect_deadline: Duration::from_secs(120),
            rows_deadline: Duration::from_secs(10),
            lease_ttl: Duration::from_millis(2_000),
            lease_renew: Duration::from_millis(600),
            lease_poll: Duration::from_millis(200),
            rest: Duration::from_millis(50),
            tick: Duration::from_secs(1),
            list_every: Duration::from_secs(2),
            list_gap: Duration::from_millis(100),
        }
    }
}

impl Limits {
    /// The same limits where agents give processes `grace` between the polite signal and the last one: patience with a stop begins
    /// after that.
    pub fn with_stop_grace(mut self, grace: Duration) -> Limits {
        self.stop_patience = self.stop_patience.max(grace.saturating_add(Duration::from_secs(90)));
        self
    }

    /// When a node that ends itself after `fence` has surely done so, from when it was last recorded to be heard: that is up to a minute behind
    /// the truth, clocks go up to a hundredth apart, and another minute is for what takes a moment.
    pub fn surely_fenced_after(fence: Duration) -> Duration {
        fence + fence / 100 + Duration::from_secs(120)
    }

    /// Pause before another node is tried, `beyond` one for each that the cluster is to have.
    pub fn repair_pause(&self, beyond: u32) -> Duration {
        match beyond.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => self.repair_pause.saturating_mul(1 << doublings.min(16)).min(self.retry_most),
        }
    }

    /// Longest pause before a machine that was not made is asked for again.
    pub fn longest_retry(&self) -> Duration {
        self.retry_most.max(self.quota_retry).max(self.retry_first)
    }

    /// Pause after `failures` failures in a row: doubling, capped.
    pub fn back_off(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        self.retry_first.saturating_mul(1 << doublings).min(self.retry_most)
    }
}

/// What decisions need to know of the driver: its sizes, and how machines of this installation are named.
#[derive(Clone, Debug)]
pub struct Catalog {
    prefix: String,
    sizes: BTreeMap<String, Size>,
}

impl Catalog {
    /// A catalog of a driver's sizes. `prefix` begins the name of each machine of this installation.
    pub fn new(prefix: impl Into<String>, sizes: &[Size]) -> Catalog {
        Catalog {
            prefix: prefix.into(),
            sizes: sizes.iter().map(|size| (size.name.to_ascii_uppercase(), size.clone())).collect(),
        }
    }

    /// The size of that name, without regard to case.
    pub fn find_size(&self, name: &str) -> Option<&Size> {
        self.sizes.get(&name.to_ascii_uppercase())
    }

    /// The name of a machine: used once, as its identity is.
    pub fn machine_name(&self, uid: MachineUid) -> String {
        format!("{}-{}", self.prefix, uid.0.simple())
    }

    /// Whether a name is one that this installation would give.
    pub fn is_ours(&self, name: &str) -> bool {
        machine_of(name).is_some_and(|uid| self.machine_name(uid) == name)
    }
}

/// The machine that a name is of, whatever prefix it was made under.
pub(super) fn machine_of(name: &str) -> Option<MachineUid> {
    let (_, hex) = name.rsplit_once('-')?;
    if hex.len() != 32 {
        return None;
    }
    Uuid::try_parse(hex).ok().map(MachineUid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_dies_is_followed_well_within_three_seconds() {
        let limits = Limits::default();
        // The lease was renewed just before; another asked for it just before it ended.
        assert!(limits.lease_ttl + limits.lease_poll <= Duration::from_millis(2_500));
        assert!(limits.lease_renew * 3 <= limits.lease_ttl, "a renewal may fail, and the next one too");
    }
}
