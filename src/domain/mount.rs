//! Storage that nodes mount: for all jobs of a cluster, or for one job.

use serde::{Deserialize, Serialize};

use crate::domain::secret::SecretValue;

/// What is mounted, by kind of storage. A list that was not given is `None`.
///
/// Cluster level: below `$AZ_BATCHAI_MOUNT_ROOT`. Job level: below `$AZ_BATCHAI_JOB_MOUNT_ROOT`.
///
/// Source: `MountVolumes`, openapi 2018-05-01.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountVolumes {
    /// Azure file shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_file_shares: Option<Vec<AzureFileShare>>,
    /// Azure blob containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_blob_file_systems: Option<Vec<AzureBlobFileSystem>>,
    /// File servers of the service itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_servers: Option<Vec<FileServerMount>>,
    /// Whatever a command of the user mounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged_file_systems: Option<Vec<UnmanagedFileSystem>>,
}

impl MountVolumes {
    /// Whether nothing is mounted.
    pub fn is_empty(&self) -> bool {
        self.relative_paths().next().is_none()
    }

    /// The place of each mount below the mount root.
    pub fn relative_paths(&self) -> impl Iterator<Item = &str> {
        let shares = self.azure_file_shares.iter().flatten().map(|mount| mount.relative_path.as_str());
        let blobs = self.azure_blob_file_systems.iter().flatten().map(|mount| mount.relative_path.as_str());
        let servers = self.file_servers.iter().flatten().map(|mount| mount.relative_path.as_str());
        let others = self.unmanaged_file_systems.iter().flatten().map(|mount| mount.relative_path.as_str());
        shares.chain(blobs).chain(servers).chain(others)
    }

    /// The field under which the account key of the mount at a place is sealed, where it has one.
    pub fn key_field(&self, place: &str) -> Option<String> {
        let shares = self.azure_file_shares.iter().flatten().position(|mount| mount.relative_path == place).map(share_key_field);
        let blob =
            || self.azure_blob_file_systems.iter().flatten().position(|mount| mount.relative_path == place).map(blob_key_field);
        shares.or_else(blob)
    }

    /// The file servers that are mounted.
    pub fn file_servers(&self) -> &[FileServerMount] {
        self.file_servers.as_deref().unwrap_or_default()
    }
}

/// Code and message where a file share cannot be mounted.
///
/// Source: documented errors of jobs.
pub const SHARE_FAILED: (&str, &str) = ("AZFMountError", "Unable to mount Azure File");

/// Code and message where a container cannot be mounted.
///
/// Source: documented errors of jobs.
pub const CONTAINER_FAILED: (&str, &str) = ("BFSMountError", "unable to mount blob fuse file system");

/// Code and message where a file server cannot be mounted.
pub const SERVER_FAILED: (&str, &str) = ("NFSMountError", "Unable to mount file server");

/// Code and message where a user's mount command fails.
pub const COMMAND_FAILED: (&str, &str) = ("UnmanagedMountError", "Unable to mount unmanaged file system");

/// Code where the places of mounts do not go together.
pub const PLACE_FAILED: &str = "MountPathError";

/// The field under which the account key of the file share at `index` is sealed.
pub fn share_key_field(index: usize) -> String {
    format!("mount_volumes.azure_file_shares[{index}].account_key")
}

/// The field under which the account key of the blob container at `index` is sealed.
pub fn blob_key_field(index: usize) -> String {
    format!("mount_volumes.azure_blob_file_systems[{index}].account_key")
}

/// An Azure file share, mounted over SMB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AzureFileShare {
    /// The storage account.
    pub account: String,
    /// The share's URL, as given.
    pub url: String,
    /// Where the account's key is. (`mount_volumes.azure_file_shares[{index}].account_key`)
    pub credentials: SecretValue,
    /// Its place below the mount root.
    pub relative_path: String,
    /// Mode of its files, octal, as given.
    pub file_mode: String,
    /// Mode of its directories, octal, as given.
    pub directory_mode: String,
}

/// Mode of files and directories of a file share where none was given.
///
/// Source: `fileMode` and `directoryMode`, openapi 2018-05-01.
pub const DEFAULT_MODE: &str = "0777";

/// An Azure blob container, mounted through a FUSE client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AzureBlobFileSystem {
    /// The storage account.
    pub account: String,
    /// The container.
    pub container: String,
    /// Where the account's key is. (`mount_volumes.azure_blob_file_systems[{index}].account_key`)
    pub credentials: SecretValue,
    /// Its place below the mount root.
    pub relative_path: String,
    /// Options of the FUSE client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_options: Option<String>,
}

/// A file server of the service itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileServerMount {
    /// The file server's canonical id.
    pub file_server: String,
    /// The directory of the server that is mounted; `None` for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_directory: Option<String>,
    /// Its place below the mount root.
    pub relative_path: String,
    /// Options of the mount command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_options: Option<String>,
}

/// Whatever a command of the user mounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmanagedFileSystem {
    /// Run as the node's root; the place is appended as its last argument.
    pub mount_command: String,
    /// Its place below the mount root.
    pub relative_path: String,
}
