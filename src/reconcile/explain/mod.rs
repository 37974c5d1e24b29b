//! Why a job, a node or a cluster is not further: what the deciding of a pass finds, told instead of done.
//!
//! In: the same [`World`] that [`decide`](super::decide) is given. Out: at most one gate for each. Nothing is written: what the
//! decisions would make is thrown away.

mod cluster;
mod growth;
mod job;
mod node;

pub use cluster::explain as explain_cluster;
pub use job::{Ahead, explain as explain_job};
pub use node::explain as explain_node;

use crate::domain::machine::Machine;
use crate::domain::resource::EntityError;
use crate::domain::retry::Category;
use crate::domain::why::{Gate, Held, Holder, Why};
use crate::id::ResourceUid;
use crate::reconcile::cluster::bound;
use crate::reconcile::decide::before_placement;
use crate::reconcile::draft::Draft;
use crate::reconcile::mint::{Entropy, Mint};
use crate::reconcile::world::World;

/// Most nodes that a cluster which scales by its queue can ever have.
pub fn most_nodes(world: &World<'_>, cluster: ResourceUid) -> Option<u32> {
    world.clusters.get(&cluster).and_then(|row| bound(world, row))
}

/// New identities are made for nothing here: any will do.
struct Nothing;

impl Entropy for Nothing {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// What a pass decides before it gives nodes to jobs.
fn draft(world: &World<'_>) -> Draft {
    before_placement(world, &mut Mint::new(&Nothing, world.now))
}

/// A node that holds something.
fn by_node(machine: &Machine) -> Holder {
    Holder { what: Held::Node(machine.node_id.clone()), count: 1, until: None }
}

/// At most so many holders as an answer names.
fn some(mut holders: Vec<Holder>) -> Vec<Holder> {
    holders.truncate(Why::HOLDERS);
    holders
}

/// Whether what is wrong with a node is its storage or itself.
fn gate_of(problem: Option<&EntityError>) -> Gate {
    match problem.and_then(|problem| Category::of_error(&problem.code)) {
        Some(Category::Mount) => Gate::Mount,
        _ => Gate::NodeHealth,
    }
}

fn whole(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
