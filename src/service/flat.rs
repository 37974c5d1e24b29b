//! What older versions of the contract see: clusters, jobs and file servers right below their group.

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
        let limit = page.limit.clamp(1, 1000);
        let after = page.after.as_deref().unwrap_or_default();
        let mut rows = resource::list_flat::<K>(self.pool(), &scope, after, i64::from(limit) + 1).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(|(place, _)| place.clone()) } else { None };
        Ok(Page { items: rows.into_iter().map(|(_, item)| item).collect(), next })
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
