//! What is said about what is not there or is on its way out.

use super::Service;
use crate::domain::resource::Provisioning;
use crate::error::{Error, ErrorCode};
use crate::id::{Kind, ResourceId};
use crate::store::resource;

/// The failure of a request for `id`, which does not exist.
///
/// Source: recorded 2018-05-01 answers; the platform's own for groups.
pub(super) fn absent(id: &ResourceId) -> Error {
    let name = id.name();
    match id.kind() {
        Kind::Group => Error::new(ErrorCode::ResourceGroupNotFound, format!("Resource group '{name}' could not be found.")),
        Kind::Workspace => not_found(ErrorCode::WorkspaceNotFound, id),
        Kind::Cluster => not_found(ErrorCode::ClusterNotFound, id),
        Kind::FileServer => not_found(ErrorCode::FileServerNotFound, id),
        Kind::Experiment => not_found(ErrorCode::ExperimentNotFound, id),
        Kind::Job => not_found(ErrorCode::JobNotFound, id),
    }
}

fn not_found(code: ErrorCode, id: &ResourceId) -> Error {
    Error::new(code, format!("The specified {} {} is not found", id.kind().noun(), id.name()))
}

/// The failure of a request that needs `id` to stay.
pub(super) fn deleting(id: &ResourceId) -> Error {
    match id.kind() {
        Kind::Group => Error::new(
            ErrorCode::ResourceGroupBeingDeleted,
            format!("The resource group '{}' is in deprovisioning state and cannot perform this operation.", id.name()),
        ),
        kind => Error::new(
            ErrorCode::Conflict,
            format!("The {} '{}' is being deleted. Wait until it is gone, then try again.", kind.noun(), id.name()),
        ),
    }
}

impl Service {
    /// Why a request for `id` failed: the outermost of its parents and itself that is absent; else the outermost that is being deleted.
    /// `None` where all are there to stay.
    pub(super) async fn find_obstacle(&self, id: &ResourceId) -> Result<Option<Error>, Error> {
        let mut chain: Vec<ResourceId> = std::iter::successors(Some(id.clone()), ResourceId::parent).collect();
        chain.reverse();
        let keys: Vec<String> = chain.iter().map(ResourceId::key).collect();
        let known = resource::known(self.pool(), &keys).await?;
        let find = |id: &ResourceId| known.iter().find(|known| known.key == id.key());
        if let Some(missing) = chain.iter().find(|id| find(id).is_none()) {
            return Ok(Some(absent(missing)));
        }
        let leaving = chain.iter().find(|id| find(id).is_some_and(|known| known.provisioning == Provisioning::Deleting));
        Ok(leaving.map(deleting))
    }

    /// The failure of a read of `id`, which found nothing.
    pub(super) async fn explain_absence(&self, id: &ResourceId) -> Error {
        match self.find_obstacle(id).await {
            Ok(Some(error)) if error.code != ErrorCode::Conflict && error.code != ErrorCode::ResourceGroupBeingDeleted => error,
            // It came, or was of another kind; for the request it was absent.
            Ok(_) => absent(id),
            Err(error) => error,
        }
    }
}
