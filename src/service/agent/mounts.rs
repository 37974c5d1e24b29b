//! What a node mounts, made from what a user asked for: addresses from the operator's settings, keys opened, file servers found.
//!
//! What cannot be is an error of the node or the job, with the code that a failing mount has: see [`crate::domain::mount`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::desired::open;
use crate::agent::protocol::{Mount, Source};
use crate::domain::door::{self, Pass};
use crate::domain::file_server::{FileServer, MountSettings};
use crate::domain::mount::{
    AzureBlobFileSystem, AzureFileShare, CONTAINER_FAILED, FileServerMount, MountVolumes, PLACE_FAILED, SERVER_FAILED,
    SHARE_FAILED, blob_key_field, share_key_field,
};
use crate::domain::resource::EntityError;
use crate::domain::sas::{Scope, StorageService, sign};
use crate::error::Error;
use crate::id::{ResourceId, ResourceUid};
use crate::service::Service;
use crate::sign::Purpose;
use crate::store::{SecretRow, resource};

/// How long nodes may use a container with what they get for it: longer than any node lives. A key that is changed ends it.
const ACCESS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Whose mounts they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Level {
    /// Of the cluster's nodes: the server's own shares are among their places.
    Cluster,
    /// Of one job.
    Job,
}

impl Service {
    /// What of `mounts` the nodes of `cluster` mount. The inner error is for the user who asked for it.
    pub(in crate::service) async fn mounts(
        &self,
        level: Level,
        owner: ResourceUid,
        cluster: ResourceUid,
        mounts: Option<&MountVolumes>,
        secrets: &[SecretRow],
    ) -> Result<Result<Vec<Mount>, EntityError>, Error> {
        let Some(mounts) = mounts.filter(|mounts| !mounts.is_empty()) else { return Ok(Ok(Vec::new())) };
        let shares = if level == Level::Cluster { self.inner.shares.as_slice() } else { &[] };
        if let Err(error) = check_places(mounts, shares) {
            return Ok(Err(error));
        }
        let mut servers = BTreeMap::new();
        for mount in mounts.file_servers() {
            servers.insert(mount.file_server.as_str(), self.find_server(&mount.file_server, cluster).await?);
        }
        let key = |field: String| self.open_secret(owner, &field, secrets);
        let mut found = Vec::new();
        let deadline_ms = u32::try_from(self.inner.mount_deadline.as_millis()).unwrap_or(u32::MAX);
        let mut add = |place: &str, made: Result<(Source, bool), EntityError>| {
            made.map(|(source, listed)| found.push(Mount { place: place.to_owned(), source, listed, deadline_ms }))
        };
        for (index, share) in mounts.azure_file_shares.iter().flatten().enumerate() {
            if let Err(error) = add(&share.relative_path, self.share(share, key(share_key_field(index))?)) {
                return Ok(Err(error));
            }
        }
        for (index, blob) in mounts.azure_blob_file_systems.iter().flatten().enumerate() {
            if let Err(error) = add(&blob.relative_path, self.container(blob, &key(blob_key_field(index))?)) {
                return Ok(Err(error));
            }
        }
        for mount in mounts.file_servers() {
            let found = servers.get(mount.file_server.as_str()).and_then(Option::as_ref);
            if let Err(error) = add(&mount.relative_path, server(mount, found)) {
                return Ok(Err(error));
            }
        }
        for mount in mounts.unmanaged_file_systems.iter().flatten() {
            let _ = add(&mount.relative_path, Ok((Source::Command { line: mount.mount_command.clone() }, false)));
        }
        Ok(Ok(found))
    }

    /// One of the sealed values of a resource.
    pub(in crate::service) fn open_secret(
        &self,
        owner: ResourceUid,
        field: &str,
        secrets: &[SecretRow],
    ) -> Result<String, Error> {
        match secrets.iter().find(|secret| secret.field == field) {
            Some(secret) => open(&self.inner.sealer, owner, secret),
            None => Err(Error::internal(format!("the secret {field} is not stored"))),
        }
    }

    fn share(&self, share: &AzureFileShare, key: String) -> Result<(Source, bool), EntityError> {
        let at = self.inner.storages.share(&share.account, &share.url).map_err(|why| {
            EntityError::new(SHARE_FAILED.0, format!("{}: {why}.", SHARE_FAILED.1)).with_detail("Info", share.url.clone())
        })?;
        let listed = at.rest.is_some();
        let (file_mode, directory_mode) = (share.file_mode.clone(), share.directory_mode.clone());
        Ok((Source::Share { at, account: share.account.clone(), key, file_mode, directory_mode }, listed))
    }

    fn container(&self, blob: &AzureBlobFileSystem, key: &str) -> Result<(Source, bool), EntityError> {
        let at = self.inner.storages.containers(&blob.account).map_err(|why| {
            EntityError::new(CONTAINER_FAILED.0, format!("{}: {why}.", CONTAINER_FAILED.1))
                .with_detail("Info", blob.container.clone())
        })?;
        let (account, container) = (blob.account.clone(), blob.container.clone());
        // The node gets no more than it needs: this container, not the account.
        let expires = self.now() + ACCESS;
        let access = sign(StorageService::Blob, &account, key, &container, Scope::Use, expires).ok_or_else(|| {
            let message = format!("{}: the accountKey is not the key of a storage account.", CONTAINER_FAILED.1);
            EntityError::new(CONTAINER_FAILED.0, message).with_detail("Info", blob.container.clone())
        })?;
        Ok((Source::Container { at, account, container, access, options: blob.mount_options.clone() }, true))
    }

    /// How a file server is mounted, and the pass of a cluster's nodes to it.
    async fn find_server(&self, server: &str, cluster: ResourceUid) -> Result<Option<(MountSettings, Pass)>, Error> {
        let id = ResourceId::parse(server).map_err(Error::internal)?;
        let found = resource::find::<FileServer>(self.pool(), &id.key()).await?;
        Ok(found.and_then(|server| {
            let proof = door::prove(&self.door_key(server.uid), cluster);
            Some((server.status.mount?, Pass { server: server.uid, proof }))
        }))
    }

    /// What passes to a file server are made with.
    pub(in crate::service) fn door_key(&self, server: ResourceUid) -> String {
        self.inner.signer.sign(Purpose::Door, &[server.0.as_bytes()])
    }
}

fn server(mount: &FileServerMount, found: Option<&(MountSettings, Pass)>) -> Result<(Source, bool), EntityError> {
    let Some((settings, pass)) = found else {
        let message = format!("{}: the file server is not there.", SERVER_FAILED.1);
        return Err(EntityError::new(SERVER_FAILED.0, message).with_detail("Info", mount.file_server.clone()));
    };
    let below = mount.source_directory.as_deref().unwrap_or_default().trim_matches('/');
    let root = settings.mount_point.trim_end_matches('/');
    let directory = if below.is_empty() { root.to_owned() } else { format!("{root}/{below}") };
    let (address, options) = (settings.internal_address.clone(), mount.mount_options.clone());
    Ok((Source::Server { address, directory, options, pass: Some(pass.clone()) }, false))
}

/// Each mount has a place that no other is in. One may be in the place of a share of the server's own, which is then not there; within it
/// there is no place, as that would be on the share of all.
fn check_places(mounts: &MountVolumes, shares: &[String]) -> Result<(), EntityError> {
    let within = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    let places: Vec<&str> = mounts.relative_paths().collect();
    for place in &places {
        if let Some(other) = places.iter().find(|other| within(place, other)) {
            let message = format!("The relativeMountPath '{place}' is within '{other}', where another volume is mounted.");
            return Err(EntityError::new(PLACE_FAILED, message));
        }
        if let Some(share) = shares.iter().find(|share| within(place, share)) {
            let message = format!("The relativeMountPath '{place}' is within '{share}', which is this server's own share.");
            return Err(EntityError::new(PLACE_FAILED, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mount::UnmanagedFileSystem;

    fn at(places: &[&str]) -> MountVolumes {
        let mount = |place: &&str| UnmanagedFileSystem { mount_command: "m".into(), relative_path: (*place).into() };
        MountVolumes { unmanaged_file_systems: Some(places.iter().map(mount).collect()), ..MountVolumes::default() }
    }

    #[test]
    fn places_hold_no_other_places() {
        let shares = ["shared".to_owned()];
        for good in [&["a", "ab", "b/a"][..], &["shared"], &["sharedx/y"]] {
            assert_eq!(check_places(&at(good), &shares), Ok(()), "{good:?}");
        }
        for bad in [&["a", "a/b"][..], &["a/b/c", "a"], &["shared/x"]] {
            assert_eq!(check_places(&at(bad), &shares).expect_err("one in another").code, PLACE_FAILED, "{bad:?}");
        }
        assert_eq!(check_places(&at(&["shared/x"]), &[]), Ok(()), "a job's places are its own");
    }
}
