//! Machines and disks with our tag and a name of our pattern that no row knows: what a driver made late, for a row that is gone by then.
//!
//! Names are used once and rows are committed before their machine is made, so a machine that is listed while no row that is not
//! gone has its name will never have one again. It is deleted after two complete listings, a grace apart, said so.

use crate::id::{MachineUid, ResourceUid};
use crate::reconcile::draft::Draft;
use crate::reconcile::plan::{DeleteWhy, Effect};
use crate::reconcile::world::World;

/// Whether a row knows the machine or, by the name of its file server, the disk.
fn is_known(world: &World<'_>, uid: MachineUid) -> bool {
    let server = ResourceUid(uid.0);
    world.machines.contains_key(&uid)
        || world.file_servers.contains_key(&server)
        || world.snapshot.unreadable_servers.contains(&server)
}

/// Sweeps strangers.
pub(super) fn decide(world: &World<'_>, draft: &mut Draft) {
    for (uid, name) in world.memory.strangers() {
        if !world.catalog.is_ours(name) || is_known(world, uid) || world.memory.is_in_flight(uid) {
            continue;
        }
        match world.memory.delete_paused_until(uid, world.now) {
            Some(until) => draft.look_again(until),
            None => draft.effect(Effect::Delete { uid, name: name.to_owned(), why: DeleteWhy::Stranger }),
        }
    }
}
