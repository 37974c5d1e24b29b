//! How many nodes a cluster is to have now: as asked by hand, or as its jobs need.
//!
//! A cluster that scales by its queue grows at once and shrinks after it was too large for a while. What it is to have is a part of
//! its status, so that a new leader goes on where the last one was.

use crate::domain::cluster::{AutoTarget, Deallocation, Scale};
use crate::domain::machine::{Machine, MachineState};
use crate::domain::snapshot::{ClusterRow, JobRow};
use crate::reconcile::draft::Draft;
use crate::reconcile::world::World;

/// Nodes that a cluster is to have, and what is recorded of it where its jobs decide. `staying` are the nodes that it has now.
pub(super) fn target(world: &World<'_>, cluster: &ClusterRow, staying: usize, draft: &mut Draft) -> (usize, Option<AutoTarget>) {
    if cluster.deleting {
        return (0, cluster.status.auto);
    }
    let (minimum, maximum) = match cluster.spec.scale {
        Scale::Manual { target, .. } => return (whole(target), None),
        Scale::Auto { minimum, maximum, .. } => (minimum, maximum.max(minimum)),
    };
    let most = bound(world, cluster).unwrap_or(maximum);
    let needed = needed(world, cluster, most).clamp(minimum, maximum);
    // A cluster that was scaled by hand until now begins with the nodes that it has.
    let current = cluster.status.auto.map_or_else(|| u32::try_from(staying).unwrap_or(u32::MAX), |auto| auto.target);
    let current = current.clamp(minimum, maximum);
    let auto = if needed >= current {
        AutoTarget { target: needed, surplus_since: None }
    } else {
        let since = cluster.status.auto.and_then(|auto| auto.surplus_since).unwrap_or(world.now);
        // By a clock that was ahead it begins later.
        let since = since.min(world.now);
        let until = since + world.limits.scale_down_after;
        if until <= world.now {
            AutoTarget { target: needed, surplus_since: None }
        } else {
            draft.look_again(until);
            AutoTarget { target: current, surplus_since: Some(since) }
        }
    };
    draft.plan.takes_jobs |= auto.target < maximum;
    (whole(auto.target), Some(auto))
}

/// Most nodes that a cluster that scales by its queue can ever have: by its own bound, and by the quota of cores for its size. `None`
/// for one that is scaled by hand, as whoever does that may choose any number.
pub(in crate::reconcile) fn bound(world: &World<'_>, cluster: &ClusterRow) -> Option<u32> {
    let Scale::Auto { minimum, maximum, .. } = cluster.spec.scale else { return None };
    let maximum = maximum.max(minimum);
    let size = world.catalog.find_size(&cluster.spec.vm_size);
    let quota = size.and_then(|size| world.limits.cores.of(cluster.spec.vm_priority).machines(&size.name, size.cores));
    Some(quota.map_or(maximum, |quota| maximum.min(quota)))
}

/// The first waiting job that needs more nodes than the cluster can ever have, and that number: nothing grows for such jobs, and they
/// hold up nobody.
pub(super) fn too_large<'a>(world: &World<'a>, cluster: &ClusterRow) -> Option<(&'a JobRow, u32)> {
    let most = bound(world, cluster)?;
    let job = world.queue(cluster.uid).iter().find(|job| job.node_count > most)?;
    Some((job, most))
}

/// Nodes that the cluster's jobs have and wait for. A job that needs more than `most` is not waited for.
///
/// Source: `AutoScaleSettings`, openapi 2018-05-01.
fn needed(world: &World<'_>, cluster: &ClusterRow, most: u32) -> u32 {
    let busy = world.nodes(cluster.uid).iter().filter(|machine| is_needed(machine)).count();
    let waiting = world.queue(cluster.uid).iter().filter(|job| !world.has_attempt(job.uid));
    let waiting: u64 = waiting.map(|job| job.node_count).filter(|count| *count <= most).map(u64::from).sum();
    u32::try_from(waiting.saturating_add(busy as u64)).unwrap_or(u32::MAX)
}

/// Whether a node's job needs a node of the cluster. One that leaves once its job ends does not have to be replaced for that job.
fn is_needed(machine: &Machine) -> bool {
    let leaves_after = machine.state == MachineState::Leaving && machine.deallocation != Some(Deallocation::Requeue);
    machine.attempt.is_some() && !leaves_after
}

fn whole(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
