//! 2018-03-01: what it asks and shows otherwise than 2018-05-01.
//!
//! It has no workspaces and experiments: clusters, jobs and file servers lie right below their group and have a location, and jobs a
//! priority in numbers. Bodies of requests are turned into those of 2018-05-01, which are then read as ever; answers are made of those of
//! 2018-05-01. What only this version knows is kept beside ([`Older`](crate::domain::older::Older)).

mod answer;
mod request;

pub use answer::{file, resource, usages};
pub(in crate::wire) use request::members;
pub use request::{Read, Reference, read};
