//! Resource groups.

use std::collections::BTreeMap;

use super::activity::{carried_out, is_recorded};
use super::expect::{expected, makes_nothing, moved};
use super::missing::{absent, deleting};
use super::operation::{asked_by, begin};
use super::{Put, Service};
use crate::auth::Caller;
use crate::domain::group::{Group, GroupSpec};
use crate::domain::operation::{State, Verb};
use crate::domain::resource::{Envelope, Provisioning};
use crate::error::{Error, ErrorCode};
use crate::id::{ResourceId, ResourceUid};
use crate::store::Document;
use crate::store::resource::{self, Change, GroupChange, Patched};

impl Service {
    /// Makes a group, or replaces tags and manager of one that exists.
    ///
    /// # Errors
    /// `InvalidResourceGroupLocation`, `ResourceGroupBeingDeleted`, `SubscriptionNotFound`, `ServiceUnavailable`.
    pub async fn put_group(
        &self,
        caller: &Caller,
        id: &ResourceId,
        location: String,
        tags: Option<BTreeMap<String, String>>,
        managed_by: Option<String>,
    ) -> Result<Put<Group>, Error> {
        let at = self.now();
        let uid = ResourceUid(uuid::Uuid::now_v7());
        let mut operation = begin(caller, id, uid, Verb::Create, State::Succeeded, at);
        operation.location.clone_from(&location);
        let change = GroupChange {
            id,
            uid,
            location: &location,
            tags: Document::maybe(tags.as_ref())?,
            spec: Document::of(&GroupSpec { managed_by })?,
            operation: &operation,
            at,
            why: &asked_by(caller),
            activity: carried_out(caller, at, 200, None),
            expected: expected(caller),
        };
        let put = match resource::upsert_group(self.pool(), &change).await {
            Ok(put) => put,
            Err(error) if error.is_unavailable() => match resource::find_by_uid(self.pool(), uid).await {
                Ok(Some(found)) => Some((true, found)),
                _ => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        self.inner.changes.hint();
        match put {
            Some((made, envelope)) => {
                is_recorded(caller);
                Ok(if made { Put::Created(envelope, Box::new(operation)) } else { Put::Existing(envelope) })
            }
            None => Err(self.explain_refused_group(caller, id, &location).await),
        }
    }

    async fn explain_refused_group(&self, caller: &Caller, id: &ResourceId, location: &str) -> Error {
        match resource::find::<Group>(self.pool(), &id.key()).await {
            Ok(Some(group)) if group.provisioning == Provisioning::Deleting => deleting(id),
            Ok(Some(group)) if group.location == location => moved(id),
            Ok(Some(group)) => Error::new(
                ErrorCode::InvalidResourceGroupLocation,
                format!(
                    "Invalid resource group location '{location}'. The Resource group already exists in location '{}'.",
                    group.location
                ),
            ),
            Ok(None) if makes_nothing(caller) => moved(id),
            Ok(None) => match self.subscription(id.subscription()).await {
                Ok(_) => Error::new(ErrorCode::Conflict, "The resource group was deleted meanwhile. Please try again."),
                Err(error) => error,
            },
            Err(error) => error.into(),
        }
    }

    /// Changes tags and manager of a group; `None` leaves a part as it is.
    ///
    /// # Errors
    /// `ResourceGroupNotFound`, `ResourceGroupBeingDeleted`, `ServiceUnavailable`.
    pub async fn patch_group(
        &self,
        caller: &Caller,
        id: &ResourceId,
        tags: Option<BTreeMap<String, String>>,
        managed_by: Option<String>,
    ) -> Result<Envelope<Group>, Error> {
        let at = self.now();
        let change = Change {
            tags: Document::maybe(tags.as_ref())?,
            spec: Some(Document::of(&GroupSpec { managed_by })?),
            resizing: None,
            activity: carried_out(caller, at, 200, None),
            expected: expected(caller),
        };
        match self.change::<Group>(caller, id, &change, at).await? {
            Patched::Done(group) => {
                self.inner.changes.hint();
                is_recorded(caller);
                Ok(group)
            }
            Patched::Moved => Err(moved(id)),
            Patched::Deleting => Err(deleting(id)),
            Patched::Absent => Err(absent(id)),
        }
    }

    /// A resource group that exists, for requests below it; from a cache of a few seconds.
    ///
    /// # Errors
    /// `ResourceGroupNotFound`, `ServiceUnavailable`.
    pub async fn check_group(&self, id: &ResourceId) -> Result<(), Error> {
        let group = ResourceId::group(id.subscription(), id.group_name());
        let key = group.key();
        if self.inner.groups.contains_key(&key) {
            return Ok(());
        }
        if resource::known(self.pool(), std::slice::from_ref(&key)).await?.is_empty() {
            return Err(absent(&group));
        }
        self.inner.groups.insert(key, ());
        Ok(())
    }
}
