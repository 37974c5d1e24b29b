//! What older versions of the contract see: clusters, jobs and file servers right below their group.

use super::read::{cut, limits};
use super::{Page, PageRequest, Service};
use crate::domain::resource::{Envelope, Resource};
use crate::error::Error;
use crate::id::{FlatId, ResourceId, SubscriptionId};
use crate::store::resource;

impl Service {
    /// Where what an older id names really is, if it is anywhere.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn find_flat(&self, id: &FlatId) -> Result<Option<ResourceId>, Error> {
        let name = id.name.to_ascii_lowercase();
        let path = resource::find_flat(self.pool(), id.kind, &id.group.key(), &name).await?;
        path.map(|path| ResourceId::parse(&path).map_err(Error::internal)).transpose()
    }

    /// A page of what a group (or, where it is `None`, a subscription) has of a kind, in whichever workspace.
    ///
    /// # Errors
    /// `ResourceGroupNotFound`; `ServiceUnavailable`.
    pub async fn list_flat<K: Resource>(
        &self,
        subscription: SubscriptionId,
        group: Option<&ResourceId>,
        page: &PageRequest,
    ) -> Result<Page<Envelope<K>>, Error> {
        let scope = match group {
            Some(group) => {
                self.check_exists(group).await?;
                group.key()
            }
            None => format!("/subscriptions/{subscription}/resourcegroups"),
        };
        let (limit, asked) = limits(page.limit);
        let after = page.after.as_deref().unwrap_or_default();
        let (items, next) = cut(resource::list_flat::<K>(self.pool(), &scope, after, asked).await?, limit);
        Ok(Page { items, next })
    }

    /// Jobs of a region that wait or run.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn active_jobs(&self, subscription: SubscriptionId, location: &str) -> Result<u64, Error> {
        let count = resource::active_jobs(self.pool(), subscription, location).await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }
}
