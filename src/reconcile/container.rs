//! Deletion, bottom-up: what is being deleted goes once nothing of it is left.
//!
//! The request that deletes a resource marks all below it, so children go by the same rule. A job goes once no attempt of it
//! lives; a container once it has no children; a cluster once its machines are gone and the jobs that waited for it were told.

use std::collections::BTreeSet;

use crate::domain::snapshot::{Change, JobRow};
use crate::id::{Kind, ResourceUid};
use crate::reconcile::draft::Draft;
use crate::reconcile::world::World;

/// Removes what has nothing left.
pub(super) fn decide(world: &World<'_>, draft: &mut Draft) {
    for row in &world.snapshot.deleting {
        let empty = match row.kind {
            Kind::Job => !row.active || draft.ended_jobs.contains(&row.uid),
            Kind::Group | Kind::Workspace | Kind::Experiment => row.children == 0,
            Kind::Cluster | Kind::FileServer => false,
        };
        if empty && !world.is_aside(row.uid) {
            draft.group(row.uid, vec![Change::Remove { uid: row.uid, revision: row.revision, at: world.now }]);
        }
    }
    // A job that cannot be written holds up nobody: it is told later that its cluster is gone.
    let waits = |job: &&JobRow| !job.deleting && !world.is_aside(job.uid);
    let waited_for: BTreeSet<ResourceUid> = world.snapshot.jobs.iter().filter(waits).filter_map(|job| job.cluster).collect();
    let unreadable: BTreeSet<ResourceUid> = world.snapshot.unreadable.iter().map(|machine| machine.cluster).collect();
    for cluster in world.clusters.values().filter(|cluster| cluster.deleting) {
        let empty =
            world.nodes(cluster.uid).is_empty() && !waited_for.contains(&cluster.uid) && !unreadable.contains(&cluster.uid);
        if empty && !world.is_aside(cluster.uid) {
            draft.group(cluster.uid, vec![Change::Remove { uid: cluster.uid, revision: cluster.revision, at: world.now }]);
        }
    }
}
