//! What things are and may become. Pure: no I/O, no clock, no names of the wire.

pub mod account;
pub mod activity;
pub mod attempt;
pub mod bootstrap;
pub mod cluster;
pub mod container;
pub mod event;
pub mod experiment;
pub mod file_server;
pub mod framework;
pub mod group;
pub mod job;
pub mod lock;
pub mod machine;
pub mod mount;
pub mod node_setup;
pub mod operation;
pub mod output;
pub mod principal;
pub mod report;
pub mod resource;
pub mod role;
pub mod scope;
pub mod secret;
pub mod snapshot;
pub mod workspace;
