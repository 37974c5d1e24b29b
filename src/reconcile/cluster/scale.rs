//! How many nodes a cluster is to have now: as asked by hand, or as its jobs need.
//!
//! A cluster that scales by its queue grows at once and shrinks after it was too large for a while. What it is to have is a part of
//! its status, so that a new leader goes on where the last one was.

use crate::domain::cluster::{AutoTarget, Scale};
use crate::domain::snapshot::ClusterRow;
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
    let needed = needed(world, cluster, maximum).clamp(minimum, maximum);
    // A cluster that was scaled by hand until now begins with the nodes that it has.
    let current = cluster.status.auto.map_or_else(|| u32::try_from(staying).unwrap_or(u32::MAX), |auto| auto.target);
    let current = current.clamp(minimum, maximum);
    let auto = if needed >= current {
        AutoTarget { target: needed, surplus_since: None }
    } else {
        let since = cluster.status.auto.and_then(|auto| auto.surplus_since).unwrap_or(world.now);
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

/// Nodes that the cluster's jobs have and wait for. A job that needs more than it can ever have is not waited for.
///
/// Source: `AutoScaleSettings`, openapi 2018-05-01.
fn needed(world: &World<'_>, cluster: &ClusterRow, maximum: u32) -> u32 {
    let busy = world.nodes(cluster.uid).iter().filter(|machine| machine.attempt.is_some()).count();
    let waiting = world.queue(cluster.uid).iter().filter(|job| !world.has_attempt(job.uid));
    let waiting: u64 = waiting.map(|job| job.node_count).filter(|count| *count <= maximum).map(u64::from).sum();
    u32::try_from(waiting.saturating_add(busy as u64)).unwrap_or(u32::MAX)
}

fn whole(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
