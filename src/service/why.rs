//! Why jobs, nodes and clusters are not further.

use std::sync::Arc;

use crate::domain::cluster::Cluster;
use crate::domain::job::Job;
use crate::domain::resource::Envelope;
use crate::domain::why::Answer;
use crate::error::{Error, ErrorCode};
use crate::id::ResourceId;
use crate::service::Service;

/// Tells why something is not further, by the same decisions that place jobs. Implemented by `app` over the reconcilers' own.
#[async_trait::async_trait]
pub trait Reasons: Send + Sync {
    /// Why a job does not run.
    ///
    /// # Errors
    /// `ServiceUnavailable` where the rows are away.
    async fn job(&self, job: &Envelope<Job>) -> Result<Answer, Error>;

    /// Why a cluster does not have the nodes that it is to have.
    ///
    /// # Errors
    /// As of [`job`](Reasons::job).
    async fn cluster(&self, cluster: &Envelope<Cluster>) -> Result<Answer, Error>;

    /// Why a node of a cluster takes no job; `None` where the cluster has no such node.
    ///
    /// # Errors
    /// As of [`job`](Reasons::job).
    async fn node(&self, cluster: &Envelope<Cluster>, node_id: &str) -> Result<Option<Answer>, Error>;
}

impl Service {
    /// Has `reasons` tell why things wait, from now on. Once.
    pub fn tell_reasons(&self, reasons: Arc<dyn Reasons>) {
        let _ = self.inner.reasons.set(reasons);
    }

    fn reasons(&self) -> Result<&dyn Reasons, Error> {
        let absent = || Error::new(ErrorCode::NotFound, "There is nothing at this address.");
        self.inner.reasons.get().map(AsRef::as_ref).ok_or_else(absent)
    }

    /// Why a job does not run.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub async fn why_job(&self, id: &ResourceId) -> Result<Answer, Error> {
        let job = self.get::<Job>(id).await?;
        self.reasons()?.job(&job).await
    }

    /// Why a cluster does not have the nodes that it is to have.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub async fn why_cluster(&self, id: &ResourceId) -> Result<Answer, Error> {
        let cluster = self.get::<Cluster>(id).await?;
        self.reasons()?.cluster(&cluster).await
    }

    /// Why a node takes no job.
    ///
    /// # Errors
    /// `NodeNotFound`; as of [`get`](Self::get).
    pub async fn why_node(&self, id: &ResourceId, node_id: &str) -> Result<Answer, Error> {
        let cluster = self.get::<Cluster>(id).await?;
        let told = self.reasons()?.node(&cluster, node_id).await?;
        let message = || format!("The cluster '{}' has no node '{node_id}'.", id.name());
        told.ok_or_else(|| Error::new(ErrorCode::NodeNotFound, message()))
    }
}
