//! File servers, and who may mount them.

use std::collections::BTreeMap;

use super::create::{Begun, Making, Wanted};
use super::missing::{absent, deleting};
use super::{Checked, NewFileServer, Put, Service};
use crate::auth::Caller;
use crate::domain::file_server::{FileServer, FileServerSpec, FileServerStatus};
use crate::domain::mount::MountVolumes;
use crate::domain::resource::{EntityError, Provisioning};
use crate::error::{Error, ErrorCode, Violation, Violations};
use crate::id::{Kind, ResourceId};
use crate::store::resource::{self, KnownServer};

impl Service {
    /// Makes a file server; one that exists stays as it is. Where nodes of this installation cannot be file servers, the operation
    /// fails at once, and the file server stays to be seen and deleted.
    ///
    /// # Errors
    /// `InvalidPropertyValue` for a VM size that is not offered, `FileServerQuotaReached`, `Conflict` where another of this name exists
    /// or it or its parent is being deleted, its parents' `NotFound` codes, `ServiceUnavailable`.
    pub async fn put_file_server(&self, caller: &Caller, id: &ResourceId, new: NewFileServer) -> Result<Put<FileServer>, Error> {
        if let Some(found) = resource::find::<FileServer>(self.pool(), &id.key()).await? {
            return existing(id, found, &new.spec);
        }
        self.admit_size(&new.spec.vm_size, "FileServer", |_| true)?;
        let most = self.inner.limits.file_servers;
        let begun = if self.inner.file_servers { Begun::Promised } else { Begun::Failed(not_offered()) };
        let wanted = Wanted::<FileServer> {
            id,
            location: None,
            tags: None,
            spec: new.spec.clone(),
            status: FileServerStatus { subnet: new.spec.subnet.clone().unwrap_or_else(|| own_subnet(id)), mount: None },
            secrets: &new.secrets,
            servers: &[],
            begun,
            most: Some(most),
            at: self.now(),
        };
        match self.make(caller, wanted).await? {
            Making::Made(envelope, operation) => Ok(Put::Created(*envelope, operation)),
            Making::Full(count) => Err(full(ErrorCode::FileServerQuotaReached, "fileservers", most, count)),
            Making::Refused => existing(id, self.existing::<FileServer>(id).await?, &new.spec),
        }
    }

    /// Says what a PUT of this file server would do, and does nothing. How many there may be is looked at when one is made.
    ///
    /// # Errors
    /// As of [`put_file_server`](Service::put_file_server), but for the quota.
    pub async fn check_file_server(&self, id: &ResourceId, new: NewFileServer) -> Result<Checked, Error> {
        if let Some(found) = resource::find::<FileServer>(self.pool(), &id.key()).await? {
            return existing(id, found, &new.spec).map(|_| Checked::Unchanged);
        }
        self.admit_size(&new.spec.vm_size, "FileServer", |_| true)?;
        self.check_parent(id).await
    }

    /// Checks the file servers that `mounts` of `id` names and gives them the names that they were made with. `member` is where the
    /// mounts are in the request.
    ///
    /// # Errors
    /// `FileServerNotFound` for one that is not in the subscription, `InvalidPropertyValue` for one in another region or that cannot be
    /// mounted; `ServiceUnavailable`.
    pub(super) async fn admit_servers(
        &self,
        id: &ResourceId,
        mounts: Option<&mut MountVolumes>,
        member: &str,
    ) -> Result<Vec<KnownServer>, Error> {
        let Some(mounts) = mounts.and_then(|mounts| mounts.file_servers.as_mut()).filter(|mounts| !mounts.is_empty()) else {
            return Ok(Vec::new());
        };
        let wanted = mounts
            .iter()
            .map(|mount| ResourceId::parse(&mount.file_server).map_err(Error::internal))
            .collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<String> = wanted.iter().map(ResourceId::key).collect();
        let known = resource::servers(self.pool(), &keys).await?;
        let workspace = id.ancestor(Kind::Workspace).ok_or_else(|| Error::internal("an id without a workspace"))?;
        let home = resource::known(self.pool(), &[workspace.key()]).await?.into_iter().next();
        let mut found = Violations::new();
        let mut servers: BTreeMap<String, KnownServer> = BTreeMap::new();
        for (index, (mount, wanted)) in mounts.iter_mut().zip(&wanted).enumerate() {
            let target = format!("{member}.fileServers[{index}].fileServer.id");
            let server = known.iter().find(|known| known.key == wanted.key());
            let Some(server) = server.filter(|_| wanted.subscription() == id.subscription()) else {
                let Error { code, message, .. } = absent(wanted);
                found.push(Violation { code, target, message });
                continue;
            };
            let name = wanted.name();
            if let Some(home) = &home
                && home.location != server.location
            {
                found.invalid(
                    &target,
                    format!(
                        "The file server '{name}' is in '{}', and can be mounted in that region only, not in '{}'.",
                        server.location, home.location
                    ),
                );
            } else if server.provisioning != Provisioning::Succeeded {
                let state = server.provisioning.as_str();
                found.invalid(
                    &target,
                    format!("The file server '{name}' cannot be mounted, as its provisioningState is '{state}'."),
                );
            }
            mount.file_server.clone_from(&server.path);
            servers.insert(server.key.clone(), server.clone());
        }
        found.into_result()?;
        Ok(servers.into_values().collect())
    }

    /// Checks that nothing mounts the file server.
    ///
    /// # Errors
    /// `Conflict` naming who does; `ServiceUnavailable`.
    pub(super) async fn check_unused(&self, id: &ResourceId) -> Result<(), Error> {
        let users = resource::users(self.pool(), &id.key()).await?;
        if users.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = users.iter().filter_map(|path| ResourceId::parse(path).ok()).map(|user| named(&user)).collect();
        Err(Error::new(
            ErrorCode::Conflict,
            format!("The file server '{}' is mounted by {}. Delete what mounts it first.", id.name(), names.join(", ")),
        ))
    }
}

fn named(id: &ResourceId) -> String {
    format!("the {} '{}'", id.kind().noun(), id.name())
}

fn existing(
    id: &ResourceId,
    found: crate::domain::resource::Envelope<FileServer>,
    spec: &FileServerSpec,
) -> Result<Put<FileServer>, Error> {
    if found.provisioning == Provisioning::Deleting {
        return Err(deleting(id));
    }
    if found.spec == *spec {
        return Ok(Put::Existing(found));
    }
    Err(Error::new(
        ErrorCode::Conflict,
        format!(
            "The file server '{}' exists with other properties, and file servers cannot be changed. Delete it first, or use another name.",
            id.name()
        ),
    ))
}

/// Source: the code and the beginning of the message are recorded ones.
fn not_offered() -> EntityError {
    EntityError::new(
        "FileServerProvisioningFailed",
        "File Server provisioning has failed: the nodes of this server cannot hold file servers. Delete it, and mount a share or an \
         unmanaged file system instead.",
    )
}

/// The id of the subnet that a file server is in where none was asked for: a new one for each.
///
/// Source: recorded answers, whose ids have this form.
fn own_subnet(id: &ResourceId) -> String {
    let (subscription, uuid) = (id.subscription(), uuid::Uuid::new_v4());
    format!(
        "/subscriptions/{subscription}/resourceGroups/fileserverrg-{uuid}/providers/Microsoft.Network/virtualNetworks/{uuid}vnet/subnets/\
         Subnet-1"
    )
}

/// The refusal of one more where there are as many as may be.
///
/// Source: a public report of the original's answer about clusters.
pub(super) fn full(code: ErrorCode, what: &str, most: u32, count: i64) -> Error {
    Error::new(
        code,
        format!(
            "Operation results in exceeding quota limits of Microsoft.BatchAI/{what}. Maximum allowed: {most}, Current in use: {count}. \
             Please contact support to increase the quota for resource type Microsoft.BatchAI/{what}"
        ),
    )
}

/// Names file servers as `stored` does, where they are the same but for case.
pub(super) fn name_alike(mounts: &mut MountVolumes, stored: &MountVolumes) {
    for (mount, stored) in mounts.file_servers.iter_mut().flatten().zip(stored.file_servers()) {
        if mount.file_server.eq_ignore_ascii_case(&stored.file_server) {
            mount.file_server.clone_from(&stored.file_server);
        }
    }
}
