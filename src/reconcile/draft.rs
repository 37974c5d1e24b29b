//! A plan being made: what later decisions of the pass must know of earlier ones, and the wall between resources.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::clock::Timestamp;
use crate::domain::cluster::VmPriority;
use crate::domain::quota::CoresUsed;
use crate::domain::snapshot::Change;
use crate::id::{AttemptUid, MachineUid, ResourceUid};
use crate::reconcile::plan::{Effect, Group, Plan, Reason};

/// A plan being made.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) plan: Plan,
    /// Machines whose row is written in this pass: nothing else may check it.
    pub(super) touched: BTreeSet<MachineUid>,
    /// Attempts that end in this pass: their machines are free.
    pub(super) ended: BTreeSet<AttemptUid>,
    /// Jobs whose attempt ends in this pass.
    pub(super) ended_jobs: BTreeSet<ResourceUid>,
    /// Cores in use by the clusters of each subscription in each region, by priority, with what is asked for in this pass.
    pub(super) cores: BTreeMap<(String, String, VmPriority), CoresUsed>,
    /// Jobs whose row is written in this pass.
    pub(super) settled_jobs: BTreeSet<ResourceUid>,
}

impl Draft {
    /// Adds changes that belong together, if there are any.
    pub(super) fn group(&mut self, about: ResourceUid, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.plan.groups.push(Group { about, changes });
        }
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.plan.effects.push(effect);
    }

    pub(super) fn reason(&mut self, reason: Reason) {
        self.plan.reasons.push(reason);
    }

    /// Time alone will change something at `at`.
    pub(super) fn look_again(&mut self, at: Timestamp) {
        self.plan.look_again = Some(self.plan.look_again.map_or(at, |earlier| earlier.min(at)));
    }

    /// Decides about one resource. A panic fails that resource alone: what it had decided so far is dropped.
    pub(super) fn isolate(&mut self, about: ResourceUid, decide: impl FnOnce(&mut Draft)) {
        let (groups, effects, losses) = (self.plan.groups.len(), self.plan.effects.len(), self.plan.losses.len());
        if catch_unwind(AssertUnwindSafe(|| decide(self))).is_err() {
            self.plan.groups.truncate(groups);
            self.plan.effects.truncate(effects);
            self.plan.losses.truncate(losses);
            // `touched` and `ended` keep what was marked: that only holds others back until the next pass.
            self.ended.clear();
            self.ended_jobs.remove(&about);
            self.reason(Reason::Panicked { about });
        }
    }
}
