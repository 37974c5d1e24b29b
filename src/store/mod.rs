//! All SQL and only SQL.
//!
//! In: typed values to write and keys to read by. Out: rows as domain types. Refuses to know HTTP, the wire and drivers.

use std::time::Duration;

use crate::domain::snapshot::{Change, Snapshot};
use crate::error::Error;

/// The database, as all parts of one server share it.
#[derive(Clone, Debug)]
pub struct Store {}

/// The right to act as reconciler. Every commit of its holder checks the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is held.
    pub name: String,
    /// The server process that holds it.
    pub holder: uuid::Uuid,
    /// Counts the grants: a greater one makes this one stale.
    pub token: i64,
}

/// What became of a list of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// All were written, in one commit.
    All,
    /// A row had moved on since it was read; nothing was written. The next pass reads anew.
    Stale,
    /// The lease is not held any more; nothing was written.
    LeaseLost,
}

/// The rows that reconcilers read and write: Postgres, or the model of the simulation.
#[async_trait::async_trait]
pub trait Rows: Send + Sync {
    /// Takes the lease `name` where it is free, expired or already of `holder`; the time runs by the database's clock.
    /// `None` while another holds it. A grant after a gap has a greater token than any before.
    ///
    /// # Errors
    /// `ServiceUnavailable` where the database is away.
    async fn take_lease(&self, name: &str, holder: uuid::Uuid, ttl: Duration) -> Result<Option<Lease>, Error>;

    /// Gives a lease back at once, so that another server need not wait for its end.
    ///
    /// # Errors
    /// As of `take_lease`; then the lease ends by itself.
    async fn release_lease(&self, lease: &Lease) -> Result<(), Error>;

    /// Everything that is not quiet, as of one moment. `queue` bounds the queued jobs of each cluster.
    ///
    /// # Errors
    /// As of `take_lease`.
    async fn snapshot(&self, queue: u32) -> Result<Snapshot, Error>;

    /// Writes all of `changes` or none, in one transaction, if the lease is still held and every revision still stands.
    ///
    /// # Errors
    /// As of `take_lease`. After an error the outcome is unknown: the next pass reads.
    async fn apply(&self, lease: &Lease, changes: &[Change]) -> Result<Applied, Error>;
}
