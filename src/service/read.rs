//! Reading resources: one of them, or a page of them.

use super::{ListScope, Page, PageRequest, RemoteLogin, Service};
use crate::domain::attempt::History;
use crate::domain::cluster::Cluster;
use crate::domain::job::Job;
use crate::domain::machine::Node;
use crate::domain::resource::{Envelope, Resource};
use crate::error::Error;
use crate::id::ResourceId;
use crate::store::machine;
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
        let (limit, asked) = limits(page.limit);
        let after = page.after.as_deref().unwrap_or_default();
        let parent_key;
        let children = match scope {
            ListScope::Subscription(subscription) => Children::Of(*subscription),
            ListScope::Parent(parent) => {
                parent_key = parent.key();
                Children::Below(&parent_key)
            }
        };
        let rows = resource::list::<K>(self.pool(), children, after, asked).await?;
        if rows.is_empty()
            && let ListScope::Parent(parent) = scope
        {
            self.check_exists(parent).await?;
        }
        let (items, next) = cut(rows, limit);
        Ok(Page { items, next })
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

    /// The nodes of a cluster, in their order.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub async fn nodes(&self, id: &ResourceId) -> Result<Vec<Node>, Error> {
        let cluster = self.get::<Cluster>(id).await?;
        Ok(machine::nodes(self.pool(), cluster.uid).await?)
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

/// How many items a page shows, and how many rows are asked for: one more tells whether another page follows.
pub(super) fn limits(wanted: u32) -> (usize, i64) {
    let limit = wanted.clamp(1, 1000);
    (usize::try_from(limit).unwrap_or(usize::MAX), i64::from(limit) + 1)
}

/// The items of a page, and the place of its last where more follow.
pub(super) fn cut<P, T>(mut rows: Vec<(P, T)>, limit: usize) -> (Vec<T>, Option<P>) {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let (mut places, items): (Vec<P>, Vec<T>) = rows.into_iter().unzip();
    (items, if more { places.pop() } else { None })
}

fn logins(nodes: Vec<resource::Login>) -> Vec<RemoteLogin> {
    let login = |(node_id, address, port): resource::Login| RemoteLogin { node_id, address, port: port.unwrap_or(SSH_PORT) };
    nodes.into_iter().map(login).collect()
}
