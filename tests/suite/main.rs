//! Tests of the whole: layering, HTTP cases, store, real processes.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

mod access;
mod agent;
mod agents;
mod attacks;
mod auth;
mod bed;
mod cases;
mod changes;
mod cli;
mod commits;
mod conditions;
mod containers;
mod contract;
mod e2e;
mod edge;
mod embedded;
mod file_servers;
mod files;
mod frameworks;
mod fuzz;
mod gpus;
mod harness;
mod issuer;
mod jobs;
mod layering;
mod login;
mod metrics;
mod mounts;
mod nfs;
mod node;
#[path = "../support/postgres.rs"]
mod postgres;
mod proxy;
mod service;
mod ssh;
mod start;
mod store;
mod survive;
mod traces;
mod trust;
mod vaults;
mod vm;
