//! Reading resources: one of them, or a page of them.

use super::{ListScope, Page, PageRequest, RemoteLogin, Service};
use crate::domain::attempt::History;
use crate::domain::cluster::Cluster;
use crate::domain::job::Job;
use crate::domain::resource::{Envelope, Resource};
use crate::error::Error;
use crate::id::ResourceId;
use crate::store::resource::{self, Children};

/// The port of a node's ssh server, where it is reached at the node's own address.
const SSH_PORT: u16 = 22;

/// Most attempts that are shown of a job. More than any rules give that are of use.
const MAX_ATTEMPTS: u32 = 100;

impl Service {
    /// A resource as it is stored now.
    ///
    /// # Errors
    /// The `NotFound` code of the outermost of its parents and itself that does not exist; `ServiceUnavailable`.
    pub async fn get<K: Resource>(&self, id: &ResourceId) -> Result<Envelope<K>, Error> {
        match resource::find(self.pool(), &id.key()).await? {
            Some(found) => Ok(found),
            None => Err(self.explain_absence(id).await),
        }
    }

    /// A page of resources by key: those of a subscription, or the children of a resource.
    ///
    /// # Errors
    /// As of [`get`](Self::get) for the parent.
    pub async fn list<K: Resource>(&self, scope: &ListScope, page: &PageRequest) -> Result<Page<Envelope<K>>, Error> {
        let limit = page.limit.clamp(1, 1000);
        let after = page.after.as_deref().unwrap_or_default();
        let parent_key;
        let children = match scope {
            ListScope::Subscription(subscription) => Children::Of(*subscription),
            ListScope::Parent(parent) => {
                parent_key = parent.key();
                Children::Below(&parent_key)
            }
        };
        // One more than asked for tells whether another page follows.
        let mut rows = resource::list::<K>(self.pool(), children, after, i64::from(limit) + 1).await?;
        if rows.is_empty()
            && let ListScope::Parent(parent) = scope
        {
            self.check_exists(parent).await?;
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(|(key, _)| key.clone()) } else { None };
        Ok(Page { items: rows.into_iter().map(|(_, item)| item).collect(), next })
    }

    /// Checks that a resource exists, of whatever kind its id says.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub async fn check_exists(&self, id: &ResourceId) -> Result<(), Error> {
        let known = resource::known(self.pool(), &[id.key()]).await?;
        if known.is_empty() { Err(self.explain_absence(id).await) } else { Ok(()) }
    }

    /// How to reach the nodes of a cluster, in their order.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub async fn cluster_logins(&self, id: &ResourceId) -> Result<Vec<RemoteLogin>, Error> {
        let cluster = self.get::<Cluster>(id).await?;
        Ok(logins(resource::cluster_logins(self.pool(), cluster.uid).await?))
    }

    /// What became of a job's latest attempts, the latest first.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub async fn attempts(&self, id: &ResourceId) -> Result<Vec<History>, Error> {
        let job = self.get::<Job>(id).await?;
        Ok(resource::attempts(self.pool(), job.uid, MAX_ATTEMPTS).await?)
    }

    /// How to reach the nodes of a job's latest attempt that still exist, by rank.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub async fn job_logins(&self, id: &ResourceId) -> Result<Vec<RemoteLogin>, Error> {
        let job = self.get::<Job>(id).await?;
        Ok(logins(resource::job_logins(self.pool(), job.uid).await?))
    }
}

fn logins(nodes: Vec<resource::Login>) -> Vec<RemoteLogin> {
    let login = |(node_id, address, port): resource::Login| RemoteLogin { node_id, address, port: port.unwrap_or(SSH_PORT) };
    nodes.into_iter().map(login).collect()
}
