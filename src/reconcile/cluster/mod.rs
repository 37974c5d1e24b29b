//! Clusters: as many machines as asked for.

pub(super) mod act;
mod decide;
mod machine;
mod node_id;
mod problems;
mod scale;

pub(super) use decide::decide;
