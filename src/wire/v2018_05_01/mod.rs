//! The frozen contract of the retired service: exactly what it published and was seen to answer.

pub mod account;
pub mod cluster;
pub mod container;
pub mod experiment;
pub mod file_server;
pub mod files;
pub mod framework;
pub mod job;
pub mod login;
pub mod mounts;
pub mod node_setup;
pub mod operation;
pub mod operations_list;
pub mod paths;
pub mod scale;
pub mod secrets;
pub mod usages;
pub mod variables;
pub mod workspace;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::domain::older::Older;
use crate::domain::resource::{Envelope, Resource};

/// A kind that this version shows.
pub trait Encode: Resource + Sized {
    /// The document, borrowing from what was stored.
    type Body<'a>: Serialize + Send;

    /// What only older versions know of what was asked for.
    fn older(spec: &Self::Spec) -> Option<&Older> {
        let _ = spec;
        None
    }

    /// Properties that our own version alone shows.
    fn own(stored: &Envelope<Self>) -> Vec<(&'static str, serde_json::Value)> {
        let _ = stored;
        Vec::new()
    }

    /// The document of a stored resource.
    fn encode(stored: &Envelope<Self>) -> Self::Body<'_>;
}

/// What workspaces and experiments tell of themselves.
///
/// Source: recorded member order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerProperties {
    provisioning_state: &'static str,
    provisioning_state_transition_time: String,
    creation_time: String,
}

impl ContainerProperties {
    fn of<K: Resource>(stored: &Envelope<K>) -> ContainerProperties {
        ContainerProperties {
            provisioning_state: stored.provisioning.as_str(),
            provisioning_state_transition_time: crate::wire::times::moment(stored.provisioned_at),
            creation_time: crate::wire::times::moment(stored.created_at),
        }
    }
}

/// The wire's word of a value.
pub(crate) fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}
