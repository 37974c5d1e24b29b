//! What is done to a resource beyond the verbs: one file an action.

pub(crate) mod attempts;
pub(crate) mod files;
pub(crate) mod login;
pub(crate) mod terminate;
pub(crate) mod usages;
