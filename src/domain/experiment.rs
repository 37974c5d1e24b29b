//! Experiments: groups of jobs.

use serde::{Deserialize, Serialize};

use crate::domain::resource::{NoStatus, Resource};
use crate::id::Kind;

/// An experiment.
#[derive(Clone, Copy, Debug)]
pub struct Experiment;

/// What a user asks of an experiment: its name alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExperimentSpec {}

impl Resource for Experiment {
    const KIND: Kind = Kind::Experiment;
    type Spec = ExperimentSpec;
    type Status = NoStatus;
}
