//! batchyard speaks the Azure Batch AI API on machines of your own.
//!
//! A request walks in at the front and does not turn back: `http` matches the route and asks `auth` who it is, `wire` decodes the
//! published shape into `domain` types, `service` validates, admits and writes one transaction through `store`, and the answer is
//! encoded from what was stored. Later, and without the client, `reconcile` reads the rows, decides (purely) what should be, and
//! asks a `driver` for machines; the `agent` on each machine pulls what it should be and reports what it sees through the same
//! front door.

pub mod agent;
pub mod app;
pub mod auth;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
mod descriptors;
pub mod domain;
pub mod driver;
pub mod edge;
pub mod error;
mod fence;
pub mod files;
pub mod gpu;
pub mod http;
pub mod id;
pub mod launch;
mod own_file;
pub mod passage;
pub mod reconcile;
pub mod secret;
mod server_sockets;
pub mod service;
pub mod sign;
mod splice;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod vault;
pub mod wake;
pub mod wire;
