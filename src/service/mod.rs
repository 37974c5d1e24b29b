//! Use cases: read the context, validate, admit, write in one transaction, wake.
//!
//! In: decoded requests of an authorised caller, and reports of agents. Out: stored resources and operations. Refuses to know
//! HTTP, the wire's shapes and machines.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::agent::protocol::{Join, Joined, OutputQuery, Sync, Synced};
use crate::auth::Caller;
use crate::clock::{Clock, Timestamp};
use crate::domain::cluster::{Cluster, ClusterSpec, Scale};
use crate::domain::experiment::Experiment;
use crate::domain::group::Group;
use crate::domain::job::{Job, JobSpec};
use crate::domain::machine::Size;
use crate::domain::operation::Operation;
use crate::domain::output::{OutputEntry, OutputFile, OutputPlace};
use crate::domain::resource::{Envelope, Resource};
use crate::domain::workspace::Workspace;
use crate::error::Error;
use crate::id::{MachineUid, OperationId, ResourceId, SubscriptionId, TenantId};
use crate::secret::Sealer;
pub use crate::secret::SecretText;
use crate::sign::Signer;
use crate::store::Store;
use crate::task::Tasks;
use crate::wake::Wake;

/// The use cases, shared by all requests.
#[derive(Clone)]
pub struct Service {
    /// Where outputs are kept and read.
    pub output: Arc<dyn OutputStore>,
    #[allow(dead_code)]
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
    /// Mount points below `AZ_BATCHAI_MOUNT_ROOT` whose files the server reads by itself.
    pub shares: Vec<String>,
    /// What may be asked for.
    pub limits: Limits,
}

/// What may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most clusters of one subscription.
    pub clusters: u32,
    /// Time between the polite signal and the last one when a job is stopped.
    pub stop_grace: Duration,
}

#[allow(dead_code)]
struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    wake: Wake,
    sealer: Sealer,
    signer: Signer,
    sizes: Vec<Size>,
    shares: Vec<String>,
    limits: Limits,
}

/// What a PUT did.
#[derive(Clone, Debug)]
pub enum Put<K: Resource> {
    /// The resource was made; the operation is the one that answers point to.
    Created(Envelope<K>, Box<Operation>),
    /// It was there; this is what is stored now.
    Existing(Envelope<K>),
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
pub trait OutputStore: Send + std::marker::Sync {
    /// Keeps a large piece of output as the object `name` of the archive; the same name again replaces it.
    ///
    /// # Errors
    /// `ServiceUnavailable` where the archive does not take it, a full disk among the causes.
    async fn keep(&self, name: &str, data: Bytes) -> Result<(), Error>;

    /// Removes objects that nothing refers to any more, once the commit that made them so has happened. A failure is logged alone: what
    /// stays behind goes with its attempt.
    async fn discard(&self, names: Vec<String>);

    /// What is in `directory` (`""` for the root of `place`), files and directories, sorted by name, files before directories of the
    /// same name. Empty where the directory does not exist.
    ///
    /// # Errors
    /// The store or share cannot be read.
    async fn list(&self, place: &OutputPlace, directory: &str) -> Result<Vec<OutputEntry>, Error>;

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
        let Parts { store, clock, wake, sealer, signer, output, sizes, shares, limits } = parts;
        Service { output, inner: Arc::new(Inner { store, clock, wake, sealer, signer, sizes, shares, limits }) }
    }

    /// VM sizes that a cluster may have.
    pub fn sizes(&self) -> &[Size] {
        &self.inner.sizes
    }

    /// What may be asked for.
    pub fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// Starts what the use cases need in the background: telling waiting agents and other servers of changes.
    pub fn run(&self, tasks: &Tasks) {
        let _ = tasks;
    }
}

#[allow(unused_variables, clippy::unimplemented, missing_docs)]
impl Service {
    pub async fn get<K: Resource>(&self, id: &ResourceId) -> Result<Envelope<K>, Error> {
        unimplemented!()
    }

    pub async fn list<K: Resource>(&self, scope: &ListScope, page: &PageRequest) -> Result<Page<Envelope<K>>, Error> {
        unimplemented!()
    }

    pub async fn put_group(
        &self,
        caller: &Caller,
        id: &ResourceId,
        location: String,
        tags: Option<BTreeMap<String, String>>,
        managed_by: Option<String>,
    ) -> Result<Put<Group>, Error> {
        unimplemented!()
    }

    /// `None` leaves a part as it is.
    pub async fn patch_group(
        &self,
        caller: &Caller,
        id: &ResourceId,
        tags: Option<BTreeMap<String, String>>,
        managed_by: Option<String>,
    ) -> Result<Envelope<Group>, Error> {
        unimplemented!()
    }

    pub async fn put_workspace(
        &self,
        caller: &Caller,
        id: &ResourceId,
        location: String,
        tags: Option<BTreeMap<String, String>>,
    ) -> Result<Put<Workspace>, Error> {
        unimplemented!()
    }

    pub async fn patch_workspace(
        &self,
        caller: &Caller,
        id: &ResourceId,
        tags: Option<BTreeMap<String, String>>,
    ) -> Result<Envelope<Workspace>, Error> {
        unimplemented!()
    }

    pub async fn put_experiment(&self, caller: &Caller, id: &ResourceId) -> Result<Put<Experiment>, Error> {
        unimplemented!()
    }

    pub async fn put_cluster(&self, caller: &Caller, id: &ResourceId, new: NewCluster) -> Result<Put<Cluster>, Error> {
        unimplemented!()
    }

    pub async fn patch_cluster(&self, caller: &Caller, id: &ResourceId, scale: Scale) -> Result<Envelope<Cluster>, Error> {
        unimplemented!()
    }

    pub async fn put_job(&self, caller: &Caller, id: &ResourceId, new: NewJob) -> Result<Put<Job>, Error> {
        unimplemented!()
    }

    /// `None` where the resource (or a parent of it) did not exist.
    pub async fn delete(&self, caller: &Caller, id: &ResourceId) -> Result<Option<Operation>, Error> {
        unimplemented!()
    }

    /// `None` where the job had ended.
    pub async fn terminate(&self, caller: &Caller, id: &ResourceId) -> Result<Option<Operation>, Error> {
        unimplemented!()
    }

    pub async fn operation(&self, subscription: SubscriptionId, id: OperationId) -> Result<Operation, Error> {
        unimplemented!()
    }

    /// All nodes of a cluster.
    pub async fn cluster_logins(&self, id: &ResourceId) -> Result<Vec<RemoteLogin>, Error> {
        unimplemented!()
    }

    /// Nodes that still exist of a job's latest attempt.
    pub async fn job_logins(&self, id: &ResourceId) -> Result<Vec<RemoteLogin>, Error> {
        unimplemented!()
    }

    /// Where a job's directory is kept; `None` while the job has no attempt yet.
    ///
    /// # Errors
    /// `InvalidQueryParameterValue` where the job has no such directory; `JobNotFound` and its parents' codes.
    pub async fn output_place(&self, id: &ResourceId, directory: &str) -> Result<Option<OutputPlace>, Error> {
        unimplemented!()
    }

    /// The subscription, from a cache of a few seconds.
    ///
    /// # Errors
    /// `SubscriptionNotFound`.
    pub async fn subscription(&self, id: SubscriptionId) -> Result<Arc<Subscription>, Error> {
        unimplemented!()
    }

    pub async fn subscriptions(&self, tenant: TenantId) -> Result<Vec<Subscription>, Error> {
        unimplemented!()
    }

    pub async fn register_provider(&self, caller: &Caller, subscription: SubscriptionId) -> Result<Subscription, Error> {
        unimplemented!()
    }

    /// A resource group that exists, for requests below it.
    ///
    /// # Errors
    /// `ResourceGroupNotFound`.
    pub async fn check_group(&self, id: &ResourceId) -> Result<(), Error> {
        unimplemented!()
    }

    /// # Errors
    /// `AuthenticationFailed` where token, key or machine do not fit.
    pub async fn join(&self, join: Join) -> Result<Joined, Error> {
        unimplemented!()
    }

    /// The machine that an agent's credential opens.
    ///
    /// # Errors
    /// `AuthenticationFailed`.
    pub fn agent(&self, credential: &str) -> Result<MachineUid, Error> {
        unimplemented!()
    }

    pub async fn sync(&self, machine: MachineUid, sync: Sync) -> Result<Synced, Error> {
        unimplemented!()
    }

    pub async fn put_output(&self, machine: MachineUid, at: OutputQuery, data: Bytes) -> Result<(), Error> {
        unimplemented!()
    }
}
