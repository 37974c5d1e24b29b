//! Why a cluster does not have the nodes that it is to have.

use crate::domain::machine::{Machine, MachineState};
use crate::domain::why::{Gate, Why};
use crate::id::ResourceUid;
use crate::reconcile::explain::{by_node, draft, growth, some, whole};
use crate::reconcile::placement::{is_usable, wanted};
use crate::reconcile::world::World;

/// What a cluster waits for; `None` where it has the nodes that it is to have, and all can be used.
pub fn explain(world: &World<'_>, uid: ResourceUid) -> Option<Why> {
    let cluster = world.clusters.get(&uid)?;
    let draft = draft(world);
    let nodes = world.nodes(uid);
    let ready = whole(nodes.iter().filter(|machine| is_usable(world, machine, &draft)).count());
    let target = wanted(cluster);
    if !cluster.deleting && ready < target {
        return Some(growth::explain(world, cluster, target, ready, &draft));
    }
    let leaving = |machine: &&Machine| cluster.deleting || machine.state == MachineState::Leaving;
    let leaving: Vec<&Machine> = nodes.iter().copied().filter(leaving).collect();
    (!leaving.is_empty()).then(|| Why {
        gate: Gate::Stopping,
        message: format!("{} nodes are to go.", leaving.len()),
        lack: None,
        held_by: some(leaving.into_iter().map(by_node).collect()),
        clears: "Their jobs have ended on them, and the driver says that they are gone.",
        clears_by: None,
    })
}
