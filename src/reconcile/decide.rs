//! The whole of one pass, in the order in which later decisions need earlier ones.

use std::collections::BTreeMap;

use crate::domain::cluster::VmPriority;
use crate::domain::machine::{Machine, MachineState};
use crate::domain::quota::{CoreQuotas, CoresUsed};
use crate::domain::snapshot::{Change, ClusterRow};
use crate::reconcile::draft::Draft;
use crate::reconcile::mint::{Entropy, Mint};
use crate::reconcile::plan::{Plan, Reason};
use crate::reconcile::world::World;
use crate::reconcile::{cluster, container, file_server, job, placement, stranger};

/// What is to be done about all that is not quiet. Pure but for new identities, which come from `entropy`.
///
/// Nodes that an attempt frees are given away in the same plan. After a plan was applied and its effects were seen, the next one
/// is empty until something else happens.
pub fn decide(world: &World<'_>, entropy: &dyn Entropy) -> Plan {
    let mut mint = Mint::new(entropy, world.now);
    let mut draft = before_placement(world, &mut mint);
    for cluster in world.clusters.values() {
        if !world.is_aside(cluster.uid) {
            draft.isolate(cluster.uid, |draft| placement::decide(world, cluster, &mut mint, draft));
        }
    }
    container::decide(world, &mut draft);
    stranger::decide(world, &mut draft);
    if let Some(until) = world.memory.aside_until(world.now) {
        draft.look_again(until);
    }
    draft.plan.goes_on = goes_on(world, &draft.plan);
    draft.plan
}

/// All that is decided before nodes are given to jobs: which nodes are free follows from it.
pub(super) fn before_placement(world: &World<'_>, mint: &mut Mint<'_>) -> Draft {
    let mut draft = Draft { cores: cores_used(world), ..Draft::default() };
    for cluster in world.clusters.values() {
        if world.is_aside(cluster.uid) {
            draft.reason(Reason::PutAside { about: cluster.uid });
            continue;
        }
        draft.isolate(cluster.uid, |draft| cluster::decide(world, cluster, mint, draft));
    }
    for server in world.file_servers.values() {
        if world.is_aside(server.uid) {
            draft.reason(Reason::PutAside { about: server.uid });
            continue;
        }
        draft.isolate(server.uid, |draft| file_server::decide(world, server, mint, draft));
    }
    for attempt in world.attempts.values() {
        let Some(row) = world.jobs.get(&attempt.job) else { continue };
        if world.is_aside(row.uid) {
            draft.reason(Reason::PutAside { about: row.uid });
            continue;
        }
        draft.isolate(row.uid, |draft| job::decide_attempt(world, attempt, row, draft));
    }
    for row in world.jobs.values() {
        if !world.is_aside(row.uid) {
            draft.isolate(row.uid, |draft| job::decide_without_nodes(world, row, draft));
        }
    }
    draft
}

/// Whether what a plan writes leads on without anybody else's doing. What jobs on an untroubled cluster do does not: then one
/// reading of the rows is spared for each.
fn goes_on(world: &World<'_>, plan: &Plan) -> bool {
    let queue = usize::try_from(world.limits.queue).unwrap_or(usize::MAX);
    // More may wait than was read.
    let is_cut = |cluster: &ClusterRow| world.queue(cluster.uid).len() >= queue;
    let leads_on = |change: &Change| match change {
        Change::Place { .. }
        | Change::Release { .. }
        | Change::StopAttempt { .. }
        | Change::MachineNotMade { .. }
        | Change::MachineUnusable { .. }
        | Change::ClusterStatus { .. }
        | Change::FileServerStatus { .. }
        | Change::FinishOperations { .. } => false,
        Change::JobStatus { status, .. } => !status.phase.is_final(),
        // A node that waited for it to end may go now.
        Change::EndAttempt { uid, .. } => world.attempts.get(uid).is_none_or(|attempt| {
            let stays = |machine: &&Machine| machine.state == MachineState::Ready;
            attempt.assignments.iter().any(|part| world.machines.get(&part.machine).copied().filter(stays).is_none())
        }),
        Change::AskMachine { .. }
        | Change::MachinePresent { .. }
        | Change::MachineReady { .. }
        | Change::MachineLeaving { .. }
        | Change::MachineGone { .. }
        | Change::LosePart { .. }
        | Change::Remove { .. } => true,
    };
    plan.groups.iter().flat_map(|group| &group.changes).any(leads_on) || world.clusters.values().any(|cluster| is_cut(cluster))
}

/// Cores of all machines that are not gone, by what quotas are counted for.
fn cores_used(world: &World<'_>) -> BTreeMap<(String, String, VmPriority), CoresUsed> {
    let mut used: BTreeMap<_, CoresUsed> = BTreeMap::new();
    if world.limits.cores == CoreQuotas::default() {
        return used;
    }
    for machine in world.machines.values() {
        if let Some(cluster) = world.clusters.get(&machine.cluster) {
            let (subscription, region) = cluster.account();
            let key = (subscription.to_owned(), region.to_owned(), cluster.spec.vm_priority);
            used.entry(key).or_default().add(&machine.size.name, machine.size.cores);
        }
    }
    used
}
