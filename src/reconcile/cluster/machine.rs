//! One machine: what became of it since its row was written, and what the driver is asked for it.

use crate::clock::Timestamp;
use crate::domain::attempt::{AssignmentState, Attempt, Stop};
use crate::domain::cluster::Deallocation;
use crate::domain::machine::{Machine, MachineSpec, MachineState, Role, Setup};
use crate::domain::resource::EntityError;
use crate::domain::snapshot::{Change, ClusterRow};
use crate::id::AttemptUid;
use crate::reconcile::cluster::problems;
use crate::reconcile::draft::Draft;
use crate::reconcile::memory::Sight;
use crate::reconcile::plan::{DeleteWhy, Effect, Reason};
use crate::reconcile::world::World;

/// Whose machine it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::reconcile) struct Owner<'a> {
    /// The account made on it.
    pub(in crate::reconcile) admin_user: &'a str,
    /// What it is for.
    pub(in crate::reconcile) role: &'a Role,
    /// What happens to jobs on it when it leaves now.
    pub(in crate::reconcile) wish: Deallocation,
}

impl<'a> Owner<'a> {
    /// A cluster.
    pub(super) fn cluster(cluster: &'a ClusterRow) -> Owner<'a> {
        Owner { admin_user: &cluster.spec.user_account.name, role: &Role::Node, wish: wish(cluster) }
    }
}

/// What a machine is after this pass, as far as its owner counts it.
#[derive(Clone, Debug)]
pub(in crate::reconcile) struct Fate {
    /// The state from now on.
    pub(in crate::reconcile) state: MachineState,
    /// The problem from now on.
    pub(in crate::reconcile) problem: Option<EntityError>,
    /// Times that the driver was asked in vain.
    pub(in crate::reconcile) failures: i32,
    /// The change that makes it so, if something changed.
    pub(in crate::reconcile) change: Option<Change>,
    /// What the driver is asked, if anything.
    pub(in crate::reconcile) effect: Option<Effect>,
    /// Whether it was lost although nobody had asked it to go.
    pub(in crate::reconcile) lost: bool,
    /// Why it is given up, where it could not be used.
    pub(in crate::reconcile) broken: Option<EntityError>,
}

/// Decides about one machine of an owner.
pub(in crate::reconcile) fn decide(world: &World<'_>, owner: &Owner<'_>, machine: &Machine, draft: &mut Draft) -> Fate {
    let mut fate = Fate {
        state: machine.state,
        problem: machine.problem.clone(),
        failures: machine.ensure_failures,
        change: None,
        effect: None,
        lost: false,
        broken: None,
    };
    match machine.state {
        MachineState::Asked => asked(world, owner, machine, draft, &mut fate),
        MachineState::Preparing | MachineState::Ready | MachineState::Unusable => made(world, machine, draft, &mut fate),
        MachineState::Leaving => leaving(world, owner, machine, draft, &mut fate),
        MachineState::Gone => {}
    }
    fate
}

fn asked(world: &World<'_>, owner: &Owner<'_>, machine: &Machine, draft: &mut Draft, fate: &mut Fate) {
    let (uid, revision, now) = (machine.uid, machine.revision, world.now);
    if world.memory.is_in_flight(uid) {
        return;
    }
    if let Some(failure) = world.memory.failure(uid) {
        let (problem, pause) = problems::not_made(machine, failure, world.limits);
        fate.problem = Some(problem.clone());
        fate.failures = machine.ensure_failures.saturating_add(1);
        fate.change = Some(Change::MachineNotMade { uid, revision, problem, retry_at: problems::retry_at(now, pause) });
        return;
    }
    match world.memory.sight(machine) {
        Sight::Present(address) => {
            fate.state = MachineState::Preparing;
            fate.problem = None;
            fate.change = Some(Change::MachinePresent { uid, revision, address: address.map(str::to_owned), at: now });
        }
        Sight::Remains => leave(world, machine, Deallocation::Requeue, fate),
        Sight::Absent => match &machine.bootstrap {
            Some(bootstrap) => match machine.retry_at.filter(|at| world.waits_until(*at, world.limits.longest_retry())) {
                Some(at) => draft.look_again(at),
                None => {
                    fate.effect = Some(Effect::Ensure(Box::new(MachineSpec {
                        uid,
                        name: machine.name.clone(),
                        node_id: machine.node_id.clone(),
                        size: machine.size.clone(),
                        cluster: machine.cluster,
                        admin_user: owner.admin_user.to_owned(),
                        role: owner.role.clone(),
                        bootstrap: bootstrap.clone(),
                    })));
                }
            },
            // Its token was spent, so it was there once; it cannot come home a second time.
            None => gone(world, machine, fate),
        },
        Sight::Unknown => {}
    }
}

fn made(world: &World<'_>, machine: &Machine, draft: &mut Draft, fate: &mut Fate) {
    let (uid, revision, at) = (machine.uid, machine.revision, world.now);
    match world.memory.sight(machine) {
        Sight::Absent => return gone(world, machine, fate),
        Sight::Remains if !world.is_evicted(uid) => return leave(world, machine, Deallocation::Requeue, fate),
        Sight::Remains => {}
        Sight::Present(_) | Sight::Unknown => {}
    }
    if let Some(at) = world.evicted_at(machine) {
        return evict(world, machine, at, fate);
    }
    if machine.quarantined {
        return leave(world, machine, Deallocation::Requeue, fate);
    }
    let unusable = |problem: EntityError| Change::MachineUnusable { uid, revision, problem, at };
    match (machine.state, &machine.setup) {
        (MachineState::Preparing | MachineState::Unusable, Setup::Done) if machine.joined => {
            fate.state = MachineState::Ready;
            fate.problem = None;
            fate.change = Some(Change::MachineReady { uid, revision, at });
        }
        (MachineState::Preparing | MachineState::Ready, Setup::Failed(error)) => {
            let problem = problems::setup_failed(machine, error);
            fate.state = MachineState::Unusable;
            fate.problem = Some(problem.clone());
            fate.change = Some(unusable(problem));
        }
        (MachineState::Preparing, _) if !machine.joined => {
            let deadline = world.limits.boot_deadline;
            if world.has_lasted(world.memory.in_state_since(machine), deadline) {
                // First what it wrote last: with the machine that is gone.
                let Some(evidence) = world.memory.evidence(uid) else {
                    fate.effect = Some(Effect::Explain { uid, name: machine.name.clone() });
                    return;
                };
                let problem = problems::boot_timed_out(machine, deadline, evidence);
                fate.state = MachineState::Unusable;
                fate.problem = Some(problem.clone());
                fate.change = Some(unusable(problem));
            }
        }
        // It came home and fell silent before it was of use: made anew under its name, perhaps, and refused since.
        (MachineState::Preparing, _) if is_deaf(world, machine) => leave(world, machine, Deallocation::Requeue, fate),
        (MachineState::Ready, _) => ready(world, machine, draft, fate),
        (MachineState::Unusable, _) if machine.attempt.is_none() => unusable_for(world, machine, draft, fate),
        _ => {}
    }
}

/// A node that cannot be used, and has no job that began before that, stays for a while, to be looked at. Then it goes, so that it
/// costs no more.
fn unusable_for(world: &World<'_>, machine: &Machine, draft: &mut Draft, fate: &mut Fate) {
    let patience = world.limits.unusable_for;
    let since = world.memory.in_state_since(machine);
    if !world.has_lasted(since, patience) {
        return draft.look_again(since + patience + std::time::Duration::from_millis(1));
    }
    leave(world, machine, Deallocation::Requeue, fate);
    fate.lost = false;
    fate.broken = Some(machine.problem.clone().unwrap_or_else(|| problems::unusable(machine)));
}

fn ready(world: &World<'_>, machine: &Machine, draft: &mut Draft, fate: &mut Fate) {
    match machine.attempt {
        // Nothing of a job can be harmed: a node that nobody hears is of no use.
        None if is_deaf(world, machine) => leave(world, machine, Deallocation::Requeue, fate),
        // It was given a job and has not even taken it: the job goes elsewhere once the node is surely gone.
        Some(attempt) if is_deaf(world, machine) && has_not_begun(world, attempt, machine) => {
            leave(world, machine, Deallocation::Requeue, fate);
        }
        // The job is over but for its node, which does not say so. Unmaking the node is the only proof to be had.
        Some(attempt) if will_not_stop(world, world.attempts.get(&attempt).copied(), machine, draft) => {
            leave(world, machine, Deallocation::Terminate, fate);
        }
        _ => {}
    }
}

/// Whether the node's part of an attempt is as it was when it was placed.
fn has_not_begun(world: &World<'_>, attempt: AttemptUid, machine: &Machine) -> bool {
    let parts = world.attempts.get(&attempt).map(|attempt| attempt.assignments.as_slice()).unwrap_or_default();
    parts.iter().any(|part| part.machine == machine.uid && part.state == AssignmentState::Assigned && part.end.is_none())
}

/// Whether nobody has heard a node for so long that it is of no use.
fn is_deaf(world: &World<'_>, machine: &Machine) -> bool {
    world.is_unheard_for(machine, world.limits.deaf_patience)
}

fn leaving(world: &World<'_>, owner: &Owner<'_>, machine: &Machine, draft: &mut Draft, fate: &mut Fate) {
    let (uid, revision, at) = (machine.uid, machine.revision, world.now);
    let there = match world.memory.sight(machine) {
        Sight::Absent => {
            fate.state = MachineState::Gone;
            fate.change = Some(Change::MachineGone { uid, revision, at });
            return;
        }
        Sight::Remains | Sight::Present(_) => true,
        Sight::Unknown => false,
    };
    let why = match machine.attempt {
        None => DeleteWhy::Leaving,
        Some(attempt) => {
            let attempt = world.attempts.get(&attempt).copied();
            if machine.evict_at.is_some_and(|evict_at| evict_at <= at) {
                DeleteWhy::Evicted
            // Nobody hears its agent any more, so nobody will hear that it stopped.
            } else if machine.quarantined || will_not_stop(world, attempt, machine, draft) {
                DeleteWhy::WouldNotStop
            } else {
                // A newer wish replaces the one under which it was told to go.
                let wish = owner.wish;
                let evict_at = world.evicted_at(machine);
                if machine.evict_at.is_none() && evict_at.is_some() {
                    fate.change =
                        Some(Change::MachineLeaving { uid, revision, deallocation: Deallocation::Requeue, evict_at, at });
                } else if attempt.is_some()
                    && machine.deallocation == Some(Deallocation::WaitForJobCompletion)
                    && wish != Deallocation::WaitForJobCompletion
                {
                    fate.change = Some(Change::MachineLeaving { uid, revision, deallocation: wish, evict_at, at });
                }
                if let Some(evict_at) = evict_at {
                    draft.look_again(evict_at);
                }
                draft.reason(Reason::LeavesAfterJob { machine: uid });
                return;
            }
        }
    };
    if there {
        match world.memory.delete_paused_until(uid, at) {
            Some(until) => draft.look_again(until),
            None => fate.effect = Some(Effect::Delete { uid, name: machine.name.clone(), why }),
        }
    }
}

/// What happens to jobs on nodes of this cluster that leave now.
pub(super) fn wish(cluster: &ClusterRow) -> Deallocation {
    if cluster.deleting {
        return Deallocation::Terminate;
    }
    cluster.spec.scale.deallocation()
}

/// Whether this node's part was told to stop and has not said within patience that it did.
fn will_not_stop(world: &World<'_>, attempt: Option<&Attempt>, machine: &Machine, draft: &mut Draft) -> bool {
    let Some(attempt) = attempt else { return false };
    let Some(since) = world.memory.stopping_since(attempt.uid) else { return false };
    let mine = attempt.assignments.iter().find(|part| part.machine == machine.uid);
    if mine.is_none_or(|part| part.end.is_some()) {
        return false;
    }
    // Until its node is taken away, an attempt has the notice.
    let taken = attempt.assignments.iter().filter_map(|part| world.machines.get(&part.machine)?.evict_at);
    let since = match attempt.stop {
        Some(Stop::Preempted) => taken.min().map_or(since, |at| since.max(at)),
        _ => since,
    };
    if world.now - since > world.limits.stop_patience {
        return true;
    }
    draft.look_again(since + world.limits.stop_patience + std::time::Duration::from_millis(1));
    false
}

fn gone(world: &World<'_>, machine: &Machine, fate: &mut Fate) {
    fate.state = MachineState::Gone;
    fate.lost = true;
    fate.change = Some(Change::MachineGone { uid: machine.uid, revision: machine.revision, at: world.now });
}

fn leave(world: &World<'_>, machine: &Machine, deallocation: Deallocation, fate: &mut Fate) {
    fate.state = MachineState::Leaving;
    fate.lost = true;
    let (uid, revision, at) = (machine.uid, machine.revision, world.now);
    fate.change = Some(Change::MachineLeaving { uid, revision, deallocation, evict_at: None, at });
}

/// The cloud takes it away: it leaves, and another one takes its place at once. That is nobody's fault, and no repair.
fn evict(world: &World<'_>, machine: &Machine, evict_at: Timestamp, fate: &mut Fate) {
    let (uid, revision, at) = (machine.uid, machine.revision, world.now);
    fate.state = MachineState::Leaving;
    fate.change =
        Some(Change::MachineLeaving { uid, revision, deallocation: Deallocation::Requeue, evict_at: Some(evict_at), at });
}
