//! Workspaces and experiments: what holds the rest.

use std::collections::BTreeMap;

use super::activity::{carried_out, is_recorded};
use super::create::{Begun, Wanted};
use super::expect::{expected, moved};
use super::missing::deleting;
use super::{Put, Service};
use crate::auth::Caller;
use crate::domain::experiment::{Experiment, ExperimentSpec};
use crate::domain::resource::{Envelope, NoStatus, Provisioning, Resource};
use crate::domain::workspace::{Workspace, WorkspaceSpec};
use crate::error::{Error, ErrorCode};
use crate::id::ResourceId;
use crate::store::Document;
use crate::store::resource::{self, Change, Patched};

impl Service {
    /// Makes a workspace; one that exists in the same region stays as it is, but for its tags where some are given.
    ///
    /// # Errors
    /// `InvalidResourceLocation`, `ResourceGroupNotFound`, `ResourceGroupBeingDeleted`, `Conflict` while it is being deleted,
    /// `ServiceUnavailable`.
    pub async fn put_workspace(
        &self,
        caller: &Caller,
        id: &ResourceId,
        location: String,
        tags: Option<BTreeMap<String, String>>,
    ) -> Result<Put<Workspace>, Error> {
        let wanted = Wanted::<Workspace> {
            id,
            location: Some(&location),
            tags: tags.clone(),
            spec: WorkspaceSpec {},
            status: NoStatus {},
            secrets: &BTreeMap::new(),
            servers: &[],
            begun: Begun::Done,
            most: None,
            at: self.now(),
        };
        match self.make(caller, wanted).await?.made() {
            Some(made) => Ok(made),
            None => {
                let found = self.existing::<Workspace>(id).await?;
                if found.location != location {
                    return Err(elsewhere(id, &found.location, &location));
                }
                if tags.is_some() && tags != found.tags {
                    return self.patch_workspace(caller, id, tags).await.map(Put::Existing);
                }
                Ok(Put::Existing(found))
            }
        }
    }

    /// Replaces a workspace's tags; `None` leaves them.
    ///
    /// # Errors
    /// `WorkspaceNotFound` and its parent's code, `Conflict` while it is being deleted, `ServiceUnavailable`.
    pub async fn patch_workspace(
        &self,
        caller: &Caller,
        id: &ResourceId,
        tags: Option<BTreeMap<String, String>>,
    ) -> Result<Envelope<Workspace>, Error> {
        let at = self.now();
        let activity = carried_out(caller, at, 200, None);
        let change = Change { tags: Document::maybe(tags.as_ref())?, activity, expected: expected(caller), ..Change::default() };
        match self.change::<Workspace>(caller, id, &change, at).await? {
            Patched::Done(workspace) => {
                self.inner.changes.hint();
                is_recorded(caller);
                Ok(workspace)
            }
            Patched::Moved => Err(moved(id)),
            Patched::Deleting => Err(deleting(id)),
            Patched::Absent => Err(self.explain_absence(id).await),
        }
    }

    /// Makes an experiment; one that exists stays as it is.
    ///
    /// # Errors
    /// `WorkspaceNotFound` and its parent's code, `Conflict` while it or its parent is being deleted, `ServiceUnavailable`.
    pub async fn put_experiment(&self, caller: &Caller, id: &ResourceId) -> Result<Put<Experiment>, Error> {
        let wanted = Wanted::<Experiment> {
            id,
            location: None,
            tags: None,
            spec: ExperimentSpec {},
            status: NoStatus {},
            secrets: &BTreeMap::new(),
            servers: &[],
            begun: Begun::Done,
            most: None,
            at: self.now(),
        };
        match self.make(caller, wanted).await?.made() {
            Some(made) => Ok(made),
            None => Ok(Put::Existing(self.existing::<Experiment>(id).await?)),
        }
    }

    /// What a PUT that made nothing found: the resource, or why it could not be made.
    pub(super) async fn existing<K: Resource>(&self, id: &ResourceId) -> Result<Envelope<K>, Error> {
        match resource::find::<K>(self.pool(), &id.key()).await? {
            Some(found) if found.provisioning == Provisioning::Deleting => Err(deleting(id)),
            Some(found) => Ok(found),
            None => {
                let parent = id.parent().unwrap_or_else(|| id.clone());
                match self.find_obstacle(&parent).await? {
                    Some(error) => Err(error),
                    None => Err(came_and_went(id)),
                }
            }
        }
    }
}

/// What a request says that met another one about the same name.
pub(super) fn came_and_went(id: &ResourceId) -> Error {
    Error::new(
        ErrorCode::Conflict,
        format!("Another request changed the {} '{}' at the same time. Please try again.", id.kind().noun(), id.name()),
    )
}

fn elsewhere(id: &ResourceId, old: &str, new: &str) -> Error {
    let (name, group) = (id.name(), id.group_name());
    Error::new(
        ErrorCode::InvalidResourceLocation,
        format!(
            "The resource '{name}' already exists in location '{old}' in resource group '{group}'. A resource with the same name \
             cannot be created in location '{new}'. Please select a new resource name."
        ),
    )
}
