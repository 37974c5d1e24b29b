//! Experiments as 2018-05-01 writes them. A PUT has no body.

use serde::Serialize;

use crate::domain::experiment::Experiment;
use crate::domain::resource::Envelope;
use crate::id::Kind;
use crate::wire::v2018_05_01::{ContainerProperties, Encode};

/// An experiment in an answer.
#[derive(Serialize)]
pub struct ExperimentBody<'a> {
    id: &'a str,
    name: &'a str,
    r#type: &'static str,
    properties: ContainerProperties,
}

impl Encode for Experiment {
    type Body<'a> = ExperimentBody<'a>;

    fn encode(stored: &Envelope<Experiment>) -> ExperimentBody<'_> {
        ExperimentBody {
            id: &stored.path,
            name: &stored.name,
            r#type: Kind::Experiment.resource_type(),
            properties: ContainerProperties::of(stored),
        }
    }
}
