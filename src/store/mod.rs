//! All SQL and only SQL.
//!
//! In: typed values to write and keys to read by. Out: rows as domain types. Refuses to know HTTP, the wire and drivers.

pub(crate) mod activity;
mod apply;
pub(crate) mod census;
mod document;
pub mod embedded;
mod error;
pub(crate) mod event;
mod hint;
mod lease;
pub(crate) mod lock;
pub(crate) mod machine;
mod member;
pub(crate) mod operation;
mod output;
mod principal;
pub(crate) mod resource;
pub(crate) mod role;
pub(crate) mod sample;
mod secret;
mod snapshot;
pub(crate) mod subscription;
pub(crate) mod tag;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::watch;

use crate::domain::snapshot::{Change, JobRow, Snapshot};
use crate::error::Error;
use crate::secret::Sealer;

pub(crate) use document::Document;
pub use error::StoreError;
pub(crate) use hint::{Heard, Listener};
pub use member::MemberRow;
pub(crate) use output::append_output;
pub use output::{MAX_FILES, StoredContent, StoredPiece};
pub(crate) use secret::{SecretRow, list as secrets};

/// How the database is reached.
#[derive(Clone)]
pub struct Settings {
    /// `postgres://user:password@host:port/database`, or with `?host=/folder` a unix socket. Secret.
    pub url: String,
    /// Most connections of this process, but for the [`RECONCILER_CONNECTIONS`] of its reconciler. Range: at least 1.
    pub connections: u32,
    /// How long a start waits for the database.
    pub wait: Duration,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("connections", &self.connections).field("wait", &self.wait).finish_non_exhaustive()
    }
}

/// Most connections of one server where nothing else is set: enough for a few dozen requests in flight on a small machine, far below
/// the 100 that a stock Postgres takes.
pub const DEFAULT_CONNECTIONS: u32 = 20;

/// Connections that the reconciler has to itself, so that requests that hold all others keep it neither from its lease nor from its
/// passes. It does one thing at a time; the second is for what it does after it gave up waiting for the first.
pub const RECONCILER_CONNECTIONS: u32 = 2;

/// Longest time that a request waits for a free or new connection.
const ACQUIRE: Duration = Duration::from_secs(3);

/// Longest time that one statement may take, by the database's clock.
const STATEMENT: &str = "15s";

/// Longest time that a statement waits for a row that another transaction holds.
const LOCK: &str = "5s";

/// Longest time that an open transaction may do nothing before the database ends it.
const IDLE_TRANSACTION: &str = "15s";

/// A connection that rested longer is tried before it is used, so that a restart of the database costs nobody an answer.
const TRUSTED: Duration = Duration::from_secs(1);

/// Where the applied migrations are recorded.
const MIGRATIONS: &str = "batchyard._sqlx_migrations";

/// The database, as all parts of one server share it.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
    reconciler: PgPool,
    options: PgConnectOptions,
    /// Counts the commits of this process that took roles or locks away together with the resources that they hung on.
    revoked: watch::Sender<u64>,
}

impl Store {
    /// Connects, and keeps trying for as long as the settings say.
    ///
    /// # Errors
    /// `Unavailable` where no connection could be made in that time; `Unexpected` where the URL is not one, or the database refuses
    /// this user.
    pub async fn connect(settings: &Settings) -> Result<Store, StoreError> {
        let options: PgConnectOptions = settings.url.parse()?;
        let options = options
            .application_name("batchyard")
            .options([("search_path", "batchyard,pg_temp"), ("timezone", "UTC")])
            .disable_statement_logging();
        let limited = options.clone().options([
            ("statement_timeout", STATEMENT),
            ("lock_timeout", LOCK),
            ("idle_in_transaction_session_timeout", IDLE_TRANSACTION),
            // Every statement is prepared, and planning some takes longer than running them. Each has its index, which a plan that was
            // made while the tables were small must use when they are not. A statement that finds its rows by their keys and checks a
            // word of theirs too says `state || ''`, so that no index of all rows with that word is taken for a short one.
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
        ]);
        let pool = PgPoolOptions::new().acquire_timeout(ACQUIRE).max_lifetime(None).test_before_acquire(false).before_acquire(
            |connection, meta| Box::pin(async move { Ok(meta.idle_for < TRUSTED || connection.ping().await.is_ok()) }),
        );
        let reconciler = pool.clone().max_connections(RECONCILER_CONNECTIONS).connect_lazy_with(limited.clone());
        let pool = pool.max_connections(settings.connections.max(1)).connect_lazy_with(limited);
        let store = Store { pool, reconciler, options, revoked: watch::Sender::new(0) };
        store.wait(settings.wait).await?;
        Ok(store)
    }

    /// Waits until the database answers. There is no event to wait for, so that it is tried again and again, ever more slowly.
    async fn wait(&self, deadline: Duration) -> Result<(), StoreError> {
        let tries = async {
            let mut pause = Duration::from_millis(20);
            loop {
                match self.pool.acquire().await.map_err(StoreError::from) {
                    Ok(_) => return Ok(()),
                    Err(error) if error.is_unavailable() => tracing::debug!(%error, "waiting for the database"),
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        };
        tokio::time::timeout(deadline, tries).await.unwrap_or(Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)))
    }

    /// Brings the schema to the version of this binary. Several processes may ask at once: one does it, the others find it done.
    ///
    /// # Errors
    /// `SchemaNewer` where the schema is of a later version; `Unavailable`; `Unexpected` where a migration that was applied differs.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        if let Some(found) = self.schema_version().await?
            && found > known_version()
        {
            return Err(StoreError::SchemaNewer { found, known: known_version() });
        }
        // A connection of its own without limits of time: a migration of a large table may take minutes.
        let mut connection = PgConnection::connect_with(&self.options).await?;
        migrator().run_direct(None, &mut connection, false).await?;
        connection.close().await?;
        Ok(())
    }

    /// Whether the schema is the one that this binary was built for.
    ///
    /// # Errors
    /// `SchemaAbsent`, `SchemaOlder`, `SchemaNewer`; `Unavailable`.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        let known = known_version();
        match self.schema_version().await? {
            None => Err(StoreError::SchemaAbsent),
            Some(found) if found < known => Err(StoreError::SchemaOlder { found, known }),
            Some(found) if found > known => Err(StoreError::SchemaNewer { found, known }),
            Some(_) => Ok(()),
        }
    }

    /// Built at run time, as the table is the migrator's own and not in the schema that queries are checked against.
    async fn schema_version(&self) -> Result<Option<i64>, StoreError> {
        let exists: bool =
            sqlx::query_scalar("select to_regclass($1) is not null").bind(MIGRATIONS).fetch_one(&self.pool).await?;
        if !exists {
            return Ok(None);
        }
        Ok(sqlx::query_scalar("select max(version) from batchyard._sqlx_migrations where success").fetch_one(&self.pool).await?)
    }

    /// Whether the database answers a query now.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let _: i32 = sqlx::query_scalar("select 1").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Closes all connections once their queries have ended.
    pub async fn close(&self) {
        self.reconciler.close().await;
        self.pool.close().await;
    }

    /// Changes whenever roles or locks went with the resources that they hung on.
    pub(crate) fn revocations(&self) -> watch::Receiver<u64> {
        self.revoked.subscribe()
    }

    /// The connections of requests, for the files of this folder: one a table.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }
}

/// The rows as reconcilers read and write them: the store, and the key under which join tokens are sealed until they are spent.
#[derive(Clone)]
pub struct SealedRows {
    store: Store,
    sealer: Sealer,
    /// One snapshot at a time, each from what the last one read.
    known: Arc<tokio::sync::Mutex<snapshot::Known>>,
}

impl Store {
    /// What reconcilers work on.
    pub fn rows(&self, sealer: Sealer) -> SealedRows {
        SealedRows { store: self.clone(), sealer, known: Arc::default() }
    }
}

impl Store {
    /// The same to be read for requests: by their connections, so that the reconciler keeps its own.
    pub fn rows_of_requests(&self, sealer: Sealer) -> SealedRows {
        Store { reconciler: self.pool.clone(), ..self.clone() }.rows(sealer)
    }

    /// Jobs that go before `job` in its cluster's queue and may hold it up; those that need more than `most` nodes do not.
    ///
    /// # Errors
    /// `ServiceUnavailable` where the database is away.
    pub async fn jobs_ahead(&self, job: &JobRow, most: Option<u32>) -> Result<u64, Error> {
        Ok(resource::ahead(&self.pool, job, most).await?)
    }
}

#[async_trait::async_trait]
impl Rows for SealedRows {
    async fn take_lease(&self, name: &str, holder: uuid::Uuid, ttl: Duration) -> Result<Option<Lease>, Error> {
        let lease = lease::take(&self.store.reconciler, name, holder, ttl).await?;
        if let Some(lease) = &lease {
            self.known.lock().await.granted(lease.token);
        }
        Ok(lease)
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), Error> {
        Ok(lease::release(&self.store.reconciler, lease).await?)
    }

    async fn snapshot(&self, queue: u32) -> Result<Snapshot, Error> {
        let mut known = self.known.lock().await;
        Ok(snapshot::read(&self.store.reconciler, &self.sealer, queue, &mut known).await?)
    }

    async fn apply(&self, lease: &Lease, changes: &[Change]) -> Result<Applied, Error> {
        Ok(apply::apply(&self.store.reconciler, &self.sealer, &self.store.revoked, lease, changes).await?)
    }
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    migrator.create_schema("batchyard");
    migrator.dangerous_set_table_name(MIGRATIONS);
    migrator
}

fn known_version() -> i64 {
    migrator().iter().map(|migration| migration.version).max().unwrap_or_default()
}

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
