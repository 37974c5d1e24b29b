//! Use cases: read the context, validate, admit, write in one transaction, wake.
//!
//! In: decoded requests of an authorised caller, and reports of agents. Out: stored resources and operations. Refuses to know
//! HTTP, the wire's shapes and machines.

mod activity;
mod agent;
mod authors;
mod background;
mod census;
mod change;
mod changes;
mod cluster;
mod create;
mod delete;
mod expect;
mod file_server;
mod flat;
mod follow;
mod group;
mod input;
mod job;
mod lock;
mod missing;
mod node;
mod operation;
mod output;
mod pool;
mod read;
mod role;
mod sample;
mod search;
mod submit;
mod subscription;
mod tag;
mod vault;
mod why;
mod workspace;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use moka::sync::Cache;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::domain::cluster::ClusterSpec;
use crate::domain::container::PullLimits;
use crate::domain::file_server::FileServerSpec;
use crate::domain::job::JobSpec;
use crate::domain::machine::Size;
use crate::domain::operation::Operation;
use crate::domain::output::{OutputEntry, OutputFile, OutputPlace};
use crate::domain::quota::CoreQuotas;
use crate::domain::resource::{Envelope, Resource};
use crate::domain::storage::Storages;
use crate::error::{Error, ErrorCode};
use crate::id::{MachineUid, ResourceId, SubscriptionId, TenantId};
use crate::secret::Sealer;
pub use crate::secret::SecretText;
use crate::sign::Signer;
use crate::store::Store;
use crate::wake::Wake;
pub use changes::{WaitingPlace, Watch, Woken};
pub use follow::{Followed, Follower, Recorded};
pub use pool::Calls;
pub(crate) use role::is_assignable;
pub use sample::Asked as AskedSamples;
pub use tag::{TagCount, TagUsed};
pub use vault::{NoVaults, VaultError, Vaults};
pub use why::Reasons;

/// The use cases, shared by all requests.
#[derive(Clone)]
pub struct Service {
    /// Where outputs are kept and read.
    pub output: Arc<dyn OutputStore>,
    inner: Arc<Inner>,
}

/// What a service is made of.
pub struct Parts {
    /// The rows.
    pub store: Store,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Who is told of changes.
    pub wake: Wake,
    /// Seals secrets of resources and opens them for the nodes that need them.
    pub sealer: Sealer,
    /// Makes and checks agents' credentials.
    pub signer: Signer,
    /// Keeps and reads outputs.
    pub output: Arc<dyn OutputStore>,
    /// VM sizes that a cluster may have: those of the driver.
    pub sizes: Vec<Size>,
    /// Whether the driver can hold file servers.
    pub file_servers: bool,
    /// Mount points below `AZ_BATCHAI_MOUNT_ROOT` whose files the server reads by itself.
    pub shares: Vec<String>,
    /// Where storage is that nodes mount.
    pub storages: Storages,
    /// Longest time that mounting may take.
    pub mount_deadline: Duration,
    /// Key vaults that requests may name.
    pub vaults: Arc<dyn Vaults>,
    /// What may be asked for.
    pub limits: Limits,
}

/// What may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most clusters of one subscription in one region.
    pub clusters: u32,
    /// Most file servers of one subscription in one region.
    pub file_servers: u32,
    /// Most cores of a subscription's clusters in a region. Reconcilers keep to them; here they are shown.
    pub cores: CoreQuotas,
    /// Time between the polite signal and the last one when a job is stopped.
    pub stop_grace: Duration,
    /// What the pull of an image may take of a node.
    pub pull: PullLimits,
    /// How long the record of what was asked for is kept.
    pub record_for: Duration,
    /// How long it is kept what nodes used.
    pub samples_for: Duration,
}

struct Inner {
    /// This server among others on the same database.
    server: uuid::Uuid,
    store: Store,
    clock: Arc<dyn Clock>,
    wake: Wake,
    sealer: Sealer,
    signer: Signer,
    sizes: Vec<Size>,
    file_servers: bool,
    shares: Vec<String>,
    storages: Storages,
    mount_deadline: Duration,
    vaults: Arc<dyn Vaults>,
    /// Machines of a pool that call; unset where there is none.
    calls: std::sync::OnceLock<Arc<dyn Calls>>,
    /// Who tells why something waits; unset where nobody does.
    reasons: std::sync::OnceLock<Arc<dyn Reasons>>,
    limits: Limits,
    subscriptions: Cache<SubscriptionId, Arc<Subscription>>,
    groups: Cache<String, ()>,
    locks: lock::Locks,
    record: activity::Record,
    samples: sample::Waiting,
    tasks: agent::CachedTasks,
    mounts: agent::CachedMounts,
    /// Machines whose agents got a credential lately.
    issued: Cache<MachineUid, ()>,
    waiters: agent::Waiters,
    /// Agents' turns at the database.
    turns: agent::Turns,
    changes: changes::Changes,
    line: submit::Line,
    stopping: CancellationToken,
    /// Clients that wait are to be answered.
    leaving: CancellationToken,
}

/// How long an answer about a subscription or group may be out of date.
const CACHED: Duration = Duration::from_secs(3);

/// How long a task is kept that no agent asks for: it holds opened secrets.
const TASK_CACHED: Duration = Duration::from_secs(120);

/// What a PUT did.
#[derive(Clone, Debug)]
pub enum Put<K: Resource> {
    /// The resource was made; the operation is the one that answers point to.
    Created(Envelope<K>, Box<Operation>),
    /// It was there; this is what is stored now.
    Existing(Envelope<K>),
}

/// What a PUT would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It would make the resource.
    Create,
    /// The resource is as it says already.
    Unchanged,
    /// It would change what may be changed of the resource.
    Update,
}

/// A cluster as a request describes it: the spec, and apart from it what must be sealed, by field name.
#[derive(Clone, Debug)]
pub struct NewCluster {
    /// What is asked for.
    pub spec: ClusterSpec,
    /// Values to seal: `user_account.password`, `setup_task.secrets.{name}`.
    pub secrets: BTreeMap<String, SecretText>,
}

/// A job as a request describes it.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// What is asked for. `cluster` holds the id as sent; admission makes it canonical.
    pub spec: JobSpec,
    /// Values to seal: `secrets.{name}`.
    pub secrets: BTreeMap<String, SecretText>,
}

/// A file server as a request describes it.
#[derive(Clone, Debug)]
pub struct NewFileServer {
    /// What is asked for.
    pub spec: FileServerSpec,
    /// Values to seal: `user_account.password`.
    pub secrets: BTreeMap<String, SecretText>,
}

/// What a list is of.
#[derive(Clone, Debug)]
pub enum ListScope {
    /// All of a subscription.
    Subscription(SubscriptionId),
    /// The direct children of a resource.
    Parent(ResourceId),
}

/// Which page of a list.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Most items of the page. Range: 1 to 1000.
    pub limit: u32,
    /// The key after which the page begins.
    pub after: Option<String>,
}

/// A page of a list, by key.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// The key after which the next page begins; `None` on the last.
    pub next: Option<String>,
}

/// A subscription as lists show it.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its GUID.
    pub id: SubscriptionId,
    /// Its tenant.
    pub tenant: TenantId,
    /// What lists show.
    pub display_name: String,
    /// When Microsoft.BatchAI was registered.
    pub registered_at: Option<Timestamp>,
}

/// How to reach a node by ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteLogin {
    /// The node.
    pub node_id: String,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
}

/// Keeps and reads what jobs wrote. Implemented by `files`.
#[async_trait::async_trait]
pub trait OutputStore: Send + Sync {
    /// Keeps a large piece of output as the object `name` of the archive; the same name again replaces it.
    ///
    /// # Errors
    /// `ServiceUnavailable` where the archive does not take it, a full disk among the causes.
    async fn keep(&self, name: &str, data: Bytes) -> Result<(), Error>;

    /// Removes objects that nothing refers to any more, once the commit that made them so has happened. What stays behind,
    /// on a failure or where nobody calls, is found and removed later.
    async fn discard(&self, names: Vec<String>);

    /// What is in `directory` (`""` for the root of `place`), files and directories, sorted by name, files before directories of the
    /// same name. Empty where the directory does not exist.
    ///
    /// # Errors
    /// The store or share cannot be read.
    async fn list(&self, place: &OutputPlace, directory: &str) -> Result<Vec<OutputEntry>, Error>;

    /// Saves a file on the share that nodes mount, at `path` below its root; one that is there is replaced.
    ///
    /// # Errors
    /// `Conflict` where there is no share, or something else is in the way; `ServiceUnavailable` where it cannot be written.
    async fn save(&self, _path: &str, _data: Bytes) -> Result<(), Error> {
        Err(Error::new(
            ErrorCode::Conflict,
            "This server has no share that nodes mount. Mount storage instead, or start it with --share.",
        ))
    }

    /// The link of the storage's own to a file, where it has such links.
    fn link(&self, place: &OutputPlace, path: &str, expires: Timestamp) -> Option<String>;

    /// A file's size and time.
    ///
    /// # Errors
    /// [`crate::error::ErrorCode::NotFound`] where there is no regular file of that path.
    async fn stat(&self, place: &OutputPlace, path: &str) -> Result<OutputFile, Error>;

    /// The bytes of a file in `range`, which lies within the size that [`stat`](OutputStore::stat) told.
    ///
    /// # Errors
    /// As of `stat`; an error in the stream ends it.
    async fn read(
        &self,
        place: &OutputPlace,
        path: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error>;
}

impl Service {
    /// The use cases over these parts.
    pub fn new(parts: Parts) -> Service {
        let Parts {
            store,
            clock,
            wake,
            sealer,
            signer,
            output,
            sizes,
            file_servers,
            shares,
            storages,
            mount_deadline,
            vaults,
            limits,
        } = parts;
        let inner = Inner {
            server: uuid::Uuid::new_v4(),
            turns: agent::Turns::new(store.pool().options().get_max_connections()),
            store,
            clock,
            wake,
            sealer,
            signer,
            sizes,
            file_servers,
            shares,
            storages,
            mount_deadline,
            vaults,
            calls: std::sync::OnceLock::new(),
            reasons: std::sync::OnceLock::new(),
            limits,
            subscriptions: Cache::builder().max_capacity(10_000).time_to_live(CACHED).build(),
            groups: Cache::builder().max_capacity(10_000).time_to_live(CACHED).build(),
            locks: lock::Locks::default(),
            record: activity::Record::default(),
            samples: sample::Waiting::default(),
            tasks: Cache::builder().max_capacity(10_000).time_to_idle(TASK_CACHED).build(),
            mounts: Cache::builder().max_capacity(10_000).time_to_idle(TASK_CACHED).build(),
            issued: Cache::builder().max_capacity(100_000).time_to_live(agent::RENEW).build(),
            waiters: agent::Waiters::default(),
            changes: changes::Changes::default(),
            leaving: CancellationToken::new(),
            line: submit::Line::default(),
            stopping: CancellationToken::new(),
        };
        Service { output, inner: Arc::new(inner) }
    }

    /// VM sizes that a cluster may have.
    pub fn sizes(&self) -> &[Size] {
        &self.inner.sizes
    }

    /// What may be asked for.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    fn pool(&self) -> &PgPool {
        self.inner.store.pool()
    }
}
