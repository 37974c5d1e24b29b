//! Clusters: as many machines as asked for.

pub(super) mod act;
mod decide;
mod machine;
mod node_id;
pub(super) mod problems;
mod scale;

pub(super) use decide::decide;
pub(super) use machine::{Fate, Owner, decide as decide_machine};
pub(super) use node_id::node_id;
pub(super) use scale::bound;
