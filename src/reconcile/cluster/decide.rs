//! A cluster: whether machines are asked for or leave, and what it shows of itself.

use std::cmp::Reverse;

use crate::clock::Timestamp;
use crate::domain::cluster::{Allocation, AutoTarget};
use crate::domain::machine::{Bootstrap, Machine, MachineSpec, MachineState, Size};
use crate::domain::resource::EntityError;
use crate::domain::snapshot::{Change, ClusterRow};
use crate::id::{AttemptUid, MachineUid};
use crate::reconcile::cluster::machine::{self, Fate};
use crate::reconcile::cluster::node_id::node_id;
use crate::reconcile::cluster::{problems, scale};
use crate::reconcile::draft::Draft;
use crate::reconcile::mint::Mint;
use crate::reconcile::plan::Reason;
use crate::reconcile::world::World;

/// Decides about a cluster and each of its machines.
pub(in crate::reconcile) fn decide(world: &World<'_>, cluster: &ClusterRow, mint: &mut Mint<'_>, draft: &mut Draft) {
    let mut members: Vec<(&Machine, Fate)> =
        world.nodes(cluster.uid).iter().map(|machine| (*machine, machine::decide(world, cluster, machine, draft))).collect();
    let staying = members.iter().filter(|(_, fate)| stays(fate)).count();
    let (target, auto) = scale::target(world, cluster, staying, draft);
    let mut asks = Vec::new();
    let mut wanted = Wanted::Enough;
    if staying > target {
        shrink(world, cluster, &mut members, staying - target);
    } else if staying < target {
        wanted = grow(world, cluster, target, target - staying, mint, draft, &mut asks);
    }
    for (machine, fate) in &mut members {
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
    let mut changes = asks;
    if !cluster.deleting {
        changes.extend(status(world, cluster, target, auto, &members, &wanted, asks_any));
    }
    draft.group(cluster.uid, changes);
}

fn stays(fate: &Fate) -> bool {
    !matches!(fate.state, MachineState::Leaving | MachineState::Gone)
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
        fate.change = Some(Change::MachineLeaving { uid: machine.uid, revision: machine.revision, deallocation, at: world.now });
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
        Some((_, name, limit)) if allowed < missing => Wanted::OverQuota(problems::over_quota(name, limit)),
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
    target: usize,
    auto: Option<AutoTarget>,
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
        Wanted::OverQuota(_) => !asks_any && there + held == members.iter().filter(|(_, fate)| stays(fate)).count(),
    };
    let allocation = if settled && leaving == 0 { Allocation::Steady } else { Allocation::Resizing };
    let shown = members.iter().filter(|(_, fate)| stays(fate));
    let mut errors =
        problems::errors(shown.filter_map(|(_, fate)| fate.problem.as_ref().map(|problem| (problem, fate.failures))));
    if matches!(wanted, Wanted::SizeUnknown) {
        errors.push(problems::size_unknown(&cluster.spec.vm_size));
    }
    if let Wanted::OverQuota(problem) = wanted {
        errors.push(problem.clone());
    }
    let same = allocation == cluster.status.allocation;
    if same && errors == cluster.status.errors && auto == cluster.status.auto {
        return None;
    }
    let changed_at = if same { cluster.status.allocation_changed_at } else { world.now };
    Some(Change::ClusterStatus { uid: cluster.uid, revision: cluster.revision, allocation, changed_at, errors, auto })
}
