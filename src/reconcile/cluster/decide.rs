//! A cluster: whether machines are asked for or leave, and what it shows of itself.

use std::cmp::Reverse;

use crate::clock::Timestamp;
use crate::domain::cluster::{Allocation, AutoTarget, Repairs};
use crate::domain::machine::{Bootstrap, Machine, MachineSpec, MachineState, Role, Size};
use crate::domain::resource::EntityError;
use crate::domain::snapshot::{Change, ClusterRow};
use crate::id::{AttemptUid, MachineUid};
use crate::reconcile::cluster::machine::{self, Fate, Owner};
use crate::reconcile::cluster::node_id::node_id;
use crate::reconcile::cluster::{problems, scale};
use crate::reconcile::draft::Draft;
use crate::reconcile::mint::Mint;
use crate::reconcile::plan::Reason;
use crate::reconcile::world::World;

/// Decides about a cluster and each of its machines.
pub(in crate::reconcile) fn decide(world: &World<'_>, cluster: &ClusterRow, mint: &mut Mint<'_>, draft: &mut Draft) {
    let owner = Owner::cluster(cluster);
    let mut members: Vec<(&Machine, Fate)> =
        world.nodes(cluster.uid).iter().map(|machine| (*machine, machine::decide(world, &owner, machine, draft))).collect();
    let staying = members.iter().filter(|(_, fate)| stays(fate)).count();
    let (target, auto) = scale::target(world, cluster, staying, draft);
    let repairs = repairs(world, cluster, &members);
    let mut asks = Vec::new();
    let mut wanted = Wanted::Enough;
    if staying > target {
        shrink(world, cluster, &mut members, staying - target);
    } else if staying < target {
        let missing = target - staying;
        wanted = match may_repair(world, cluster, repairs.as_ref(), target, &members, draft) {
            Err(wanted) => wanted,
            Ok(most) => grow(world, cluster, target, missing.min(most), mint, draft, &mut asks),
        };
    }
    // What is counted goes with the count.
    let mut changes = Vec::new();
    for (machine, fate) in &mut members {
        if fate.broken.is_some()
            && let Some(change) = fate.change.take()
        {
            draft.touched.insert(machine.uid);
            changes.push(change);
        }
        if let Some(change) = fate.change.take() {
            draft.touched.insert(machine.uid);
            // A group of its own: agents that come home move their machines' rows, and one that did must not hold up the others.
            draft.group(cluster.uid, vec![change]);
        }
        if let Some(effect) = fate.effect.take() {
            draft.effect(effect);
        }
        if fate.lost {
            draft.plan.losses.push(cluster.uid);
        }
    }
    // Those that are gone or leave made room for these.
    let asks_any = !asks.is_empty();
    changes.extend(asks);
    if !cluster.deleting {
        let next = Next { target, auto, repairs };
        changes.extend(status(world, cluster, next, &members, &wanted, asks_any));
    }
    draft.group(cluster.uid, changes);
}

fn stays(fate: &Fate) -> bool {
    !matches!(fate.state, MachineState::Leaving | MachineState::Gone)
}

/// Nodes in a row that could not be used, with those that are given up now. One that is of use ends the row.
fn repairs(world: &World<'_>, cluster: &ClusterRow, members: &[(&Machine, Fate)]) -> Option<Repairs> {
    let is_new = |fate: &Fate| matches!(fate.change, Some(Change::MachineReady { .. }));
    let before = cluster.status.repairs.clone().filter(|_| !members.iter().any(|(_, fate)| is_new(fate)));
    let broken = members.iter().filter_map(|(_, fate)| fate.broken.clone());
    broken.fold(before, |repairs, problem| Some(Repairs::with(repairs, problem, world.now)))
}

/// How many nodes may be asked for where others could not be used; else what became of that wish. While none is of use, they are
/// tried one at a time.
fn may_repair(
    world: &World<'_>,
    cluster: &ClusterRow,
    repairs: Option<&Repairs>,
    target: usize,
    members: &[(&Machine, Fate)],
    draft: &mut Draft,
) -> Result<usize, Wanted> {
    let Some(repairs) = repairs else { return Ok(usize::MAX) };
    let target = u32::try_from(target).unwrap_or(u32::MAX);
    if repairs.is_spent(target) {
        draft.reason(Reason::RepairStopped { cluster: cluster.uid, count: repairs.count });
        return Err(Wanted::Stopped(problems::repair_stopped(repairs.count)));
    }
    let pause = world.limits.repair_pause(repairs.beyond(target));
    let until = repairs.last_at + pause;
    if world.waits_until(until, pause) {
        draft.look_again(until);
        draft.reason(Reason::RepairPaused { cluster: cluster.uid, until });
        return Err(Wanted::More);
    }
    let is = |state: MachineState| members.iter().any(|(_, fate)| fate.state == state);
    // One that cannot be used and is still looked at was tried, and is not counted yet.
    let is_tried = [MachineState::Asked, MachineState::Preparing, MachineState::Unusable].into_iter().any(is);
    match (is(MachineState::Ready), is_tried) {
        (true, _) => Ok(usize::MAX),
        (false, false) => Ok(1),
        (false, true) => Err(Wanted::More),
    }
}

/// What became of the wish for more machines.
enum Wanted {
    /// There are as many as are to be.
    Enough,
    /// Some were asked for, or will be.
    More,
    /// They cannot be had: the driver does not know the size.
    SizeUnknown,
    /// Not all of them can be had: a quota of cores is reached. What is shown of that.
    OverQuota(EntityError),
    /// No other is made, as too many could not be used. What is shown of that.
    Stopped(EntityError),
}

/// What is recorded of a cluster from now on.
struct Next {
    target: usize,
    auto: Option<AutoTarget>,
    repairs: Option<Repairs>,
}

/// Who leaves first. The order of the fields is the policy; the newest leave first among equals, as nodes are used in the order
/// of their ordinals.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct LeaveScore {
    /// A node without a job before one with a job; of those, nodes of the youngest attempt, so that few jobs are hit.
    busy: Option<Reverse<(Timestamp, AttemptUid)>>,
    /// Broken, not made, preparing, then ready.
    use_: u8,
    newest_first: Reverse<i32>,
    uid: MachineUid,
}

fn leave_score(world: &World<'_>, machine: &Machine) -> LeaveScore {
    let since = |attempt: AttemptUid| world.attempts.get(&attempt).map_or(Timestamp::UNIX_EPOCH, |row| row.created_at);
    LeaveScore {
        busy: machine.attempt.map(|attempt| Reverse((since(attempt), attempt))),
        use_: match machine.state {
            MachineState::Unusable => 0,
            MachineState::Asked => 1,
            MachineState::Preparing => 2,
            _ => 3,
        },
        newest_first: Reverse(machine.ordinal),
        uid: machine.uid,
    }
}

fn shrink(world: &World<'_>, cluster: &ClusterRow, members: &mut [(&Machine, Fate)], surplus: usize) {
    let deallocation = machine::wish(cluster);
    let mut candidates: Vec<&mut (&Machine, Fate)> = members.iter_mut().filter(|(_, fate)| stays(fate)).collect();
    candidates.sort_by_cached_key(|(machine, _)| leave_score(world, machine));
    for (machine, fate) in candidates.into_iter().take(surplus) {
        // Whatever else was to be written of it is less: one change a row.
        fate.state = MachineState::Leaving;
        fate.problem = None;
        fate.effect = None;
        let (uid, revision, at) = (machine.uid, machine.revision, world.now);
        fate.change = Some(Change::MachineLeaving { uid, revision, deallocation, evict_at: None, at });
    }
}

fn grow(
    world: &World<'_>,
    cluster: &ClusterRow,
    target: usize,
    missing: usize,
    mint: &mut Mint<'_>,
    draft: &mut Draft,
    asks: &mut Vec<Change>,
) -> Wanted {
    let target = u32::try_from(target).unwrap_or(u32::MAX);
    if let Some(until) = world.memory.repair_paused_until(cluster.uid, target, world.now, world.limits) {
        draft.look_again(until);
        draft.reason(Reason::RepairPaused { cluster: cluster.uid, until });
        return Wanted::More;
    }
    let Some(size) = world.catalog.find_size(&cluster.spec.vm_size) else {
        draft.reason(Reason::SizeUnknown { cluster: cluster.uid, size: cluster.spec.vm_size.clone() });
        return Wanted::SizeUnknown;
    };
    let most = usize::try_from(world.limits.ask).unwrap_or(usize::MAX);
    let quota = world.limits.cores.of(cluster.spec.vm_priority);
    let (subscription, region) = cluster.account();
    let key = (subscription.to_owned(), region.to_owned(), cluster.spec.vm_priority);
    let used = draft.cores.entry(key).or_default();
    let left = used.left(quota, &size.name);
    let allowed = left.map_or(usize::MAX, |(cores, ..)| usize::try_from(cores / size.cores.max(1)).unwrap_or(usize::MAX));
    let mut ordinal = cluster.last_ordinal;
    for _ in 0..missing.min(most).min(allowed) {
        ordinal = ordinal.saturating_add(1);
        used.add(&size.name, size.cores);
        asks.push(ask(world, cluster, size, ordinal, mint));
    }
    match left {
        Some((left, name, limit)) if allowed < missing => {
            let missing = u32::try_from(missing).unwrap_or(u32::MAX);
            draft.reason(Reason::OverQuota { cluster: cluster.uid, quota: name, limit, left, missing });
            Wanted::OverQuota(problems::over_quota(name, limit))
        }
        _ => Wanted::More,
    }
}

fn ask(world: &World<'_>, cluster: &ClusterRow, size: &Size, ordinal: i32, mint: &mut Mint<'_>) -> Change {
    let uid = MachineUid(mint.uuid());
    Change::AskMachine {
        cluster_revision: cluster.revision,
        spec: MachineSpec {
            uid,
            name: world.catalog.machine_name(uid),
            node_id: node_id(cluster.uid, ordinal, world.now, cluster.spec.vm_priority),
            size: size.clone(),
            cluster: cluster.uid,
            admin_user: cluster.spec.user_account.name.clone(),
            role: Role::Node,
            bootstrap: Bootstrap { join_token: mint.join_token() },
        },
        ordinal,
        at: world.now,
    }
}

/// The change of what a cluster shows, if it changes. `Steady` says that the number of nodes is right, or as near as it gets for
/// now: missing ones that nothing but more quota or a repair can bring show as errors.
fn status(
    world: &World<'_>,
    cluster: &ClusterRow,
    Next { target, auto, repairs }: Next,
    members: &[(&Machine, Fate)],
    wanted: &Wanted,
    asks_any: bool,
) -> Option<Change> {
    let count = |is: fn(&Fate) -> bool| members.iter().filter(|(_, fate)| is(fate)).count();
    let leaving = count(|fate| fate.state == MachineState::Leaving);
    let there = count(|fate| matches!(fate.state, MachineState::Preparing | MachineState::Ready | MachineState::Unusable));
    let held = count(|fate| fate.state == MachineState::Asked && fate.problem.as_ref().is_some_and(problems::is_held));
    let settled = match wanted {
        Wanted::Enough => there + held == target,
        Wanted::More => false,
        Wanted::SizeUnknown => true,
        // As many as there may be.
        Wanted::OverQuota(_) | Wanted::Stopped(_) => {
            !asks_any && there + held == members.iter().filter(|(_, fate)| stays(fate)).count()
        }
    };
    let allocation = if settled && leaving == 0 { Allocation::Steady } else { Allocation::Resizing };
    let shown = members.iter().filter(|(_, fate)| stays(fate));
    let mut errors =
        problems::errors(shown.filter_map(|(_, fate)| fate.problem.as_ref().map(|problem| (problem, fate.failures))));
    if matches!(wanted, Wanted::SizeUnknown) {
        errors.push(problems::size_unknown(&cluster.spec.vm_size));
    }
    errors.extend(repairs.iter().flat_map(|repairs| repairs.problems.iter().cloned()));
    if let Wanted::OverQuota(problem) | Wanted::Stopped(problem) = wanted {
        errors.push(problem.clone());
    }
    if let Some((job, most)) = scale::too_large(world, cluster) {
        errors.push(problems::too_large(job, most));
    }
    let same = allocation == cluster.status.allocation;
    if same && errors == cluster.status.errors && auto == cluster.status.auto && repairs == cluster.status.repairs {
        return None;
    }
    let changed_at = if same { cluster.status.allocation_changed_at } else { world.now };
    Some(Change::ClusterStatus { uid: cluster.uid, revision: cluster.revision, allocation, changed_at, errors, auto, repairs })
}
