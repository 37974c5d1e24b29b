//! What is done to a resource beyond the verbs: one file an action.

pub(crate) mod attempts;
pub(crate) mod evict;
pub(crate) mod files;
pub(crate) mod inputs;
pub(crate) mod jobs;
pub(crate) mod login;
pub(crate) mod nodes;
pub(crate) mod samples;
pub(crate) mod terminate;
pub(crate) mod usages;
pub(crate) mod validate;
pub(crate) mod why;
