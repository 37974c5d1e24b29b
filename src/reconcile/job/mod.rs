//! Jobs: what their attempts do next and what the end of one means.

mod decide;
mod outcome;

pub(super) use decide::{decide_attempt, decide_without_nodes, wall_clock};
