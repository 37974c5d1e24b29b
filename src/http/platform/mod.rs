//! The part of the platform that clients touch around the provider: discovery, sign-in, tenants, subscriptions, providers,
//! groups and resources of any type, tags, locks, roles, the activity log.

pub(crate) mod activity;
pub(crate) mod deployments;
pub(crate) mod directory;
pub(crate) mod discovery;
pub(crate) mod locks;
pub(crate) mod providers;
pub(crate) mod resources;
pub(crate) mod roles;
pub(crate) mod subscriptions;
pub(crate) mod tags;
pub(crate) mod token;
