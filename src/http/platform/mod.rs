//! The part of the platform that clients touch around the provider: discovery, sign-in, tenants, subscriptions, providers, groups.

pub(crate) mod discovery;
pub(crate) mod groups;
pub(crate) mod providers;
pub(crate) mod subscriptions;
pub(crate) mod token;
