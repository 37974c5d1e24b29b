//! Storage that nodes mount, at cluster and at job level.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::domain::mount::{
    AzureBlobFileSystem, AzureFileShare, DEFAULT_MODE, FileServerMount, MountVolumes, UnmanagedFileSystem, blob_key_field,
    share_key_field,
};
use crate::domain::secret::SecretValue;
use crate::error::Violations;
use crate::id::{Kind, ResourceId};
use crate::wire::Secrets;
use crate::wire::fields::{Fields, LONG_TEXT, SHORT_TEXT};
use crate::wire::shapes::ResourceIdBody;
use crate::wire::v2018_05_01::paths::leaves_its_folder;
use crate::wire::v2018_05_01::secrets::{SecretMembers, VaultReferenceBody, decode_secret, is_url};

/// Reads `mountVolumes`; `None` where the member is absent.
pub fn decode_mounts(parent: &Fields<'_>, secrets: &mut Secrets, found: &mut Violations) -> Option<MountVolumes> {
    let fields = parent.object("mountVolumes", found)?;
    let mut places = Places::default();
    Some(MountVolumes {
        azure_file_shares: decode_list(&fields, "azureFileShares", found, |entry, index, found| {
            decode_share(entry, index, &mut places, secrets, found)
        }),
        azure_blob_file_systems: decode_list(&fields, "azureBlobFileSystems", found, |entry, index, found| {
            decode_blob(entry, index, &mut places, secrets, found)
        }),
        file_servers: decode_list(&fields, "fileServers", found, |entry, _, found| decode_server(entry, &mut places, found)),
        unmanaged_file_systems: decode_list(&fields, "unmanagedFileSystems", found, |entry, _, found| {
            decode_unmanaged(entry, &mut places, found)
        }),
    })
}

fn decode_list<T>(
    fields: &Fields<'_>,
    name: &str,
    found: &mut Violations,
    mut decode: impl FnMut(&Fields<'_>, usize, &mut Violations) -> Option<T>,
) -> Option<Vec<T>> {
    let entries = fields.objects(name, found)?;
    Some(entries.iter().enumerate().filter_map(|(index, entry)| decode(entry, index, found)).collect())
}

/// Places below the mount root that are taken.
#[derive(Default)]
struct Places(BTreeSet<String>);

impl Places {
    /// Reads the place of a mount: below the root, and nobody else's.
    fn decode(&mut self, entry: &Fields<'_>, found: &mut Violations) -> Option<String> {
        let place = entry.required_text("relativeMountPath", MAX_PLACE, found)?;
        let path = entry.path_of("relativeMountPath");
        if leaves_its_folder(place) {
            found.invalid(
                &path,
                format!("The property '{path}' must be a relative path without empty segments, '.' and '..', as it is a place below the mount root."),
            );
            return None;
        }
        if !self.0.insert(place.to_owned()) {
            found.invalid(
                &path,
                format!(
                    "The property '{path}' is a place that another volume is mounted at. Give each volume a place of its own."
                ),
            );
            return None;
        }
        Some(place.to_owned())
    }
}

/// Longest place of a mount. Unit: bytes; well below what a path may have, as output paths follow it.
const MAX_PLACE: usize = 1024;

/// Longest name of a storage account or container. Unit: bytes.
const MAX_ACCOUNT: usize = 128;

fn decode_share(
    entry: &Fields<'_>,
    index: usize,
    places: &mut Places,
    secrets: &mut Secrets,
    found: &mut Violations,
) -> Option<AzureFileShare> {
    let account = decode_storage_name(entry, "accountName", found);
    let url = entry.required_text("azureFileUrl", SHORT_TEXT, found);
    let has_share =
        |url: &str| url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).is_some_and(|(_, s)| !s.is_empty());
    if url.is_some_and(|url| !is_url(url, &["https://", "http://"]) || !has_share(url)) {
        let path = entry.path_of("azureFileUrl");
        found.invalid(
            &path,
            format!(
                "The property '{path}' must be the URL of a file share, such as 'https://account.file.core.windows.net/share'."
            ),
        );
        return None;
    }
    let credentials = decode_credentials(entry, &share_key_field(index), secrets, found);
    let relative_path = places.decode(entry, found);
    let file_mode = decode_mode(entry, "fileMode", found);
    let directory_mode = decode_mode(entry, "directoryMode", found);
    Some(AzureFileShare {
        account: account?,
        url: url?.to_owned(),
        credentials: credentials?,
        relative_path: relative_path?,
        file_mode: file_mode?,
        directory_mode: directory_mode?,
    })
}

fn decode_blob(
    entry: &Fields<'_>,
    index: usize,
    places: &mut Places,
    secrets: &mut Secrets,
    found: &mut Violations,
) -> Option<AzureBlobFileSystem> {
    let account = decode_storage_name(entry, "accountName", found);
    let container = decode_storage_name(entry, "containerName", found);
    let credentials = decode_credentials(entry, &blob_key_field(index), secrets, found);
    let relative_path = places.decode(entry, found);
    let mount_options = decode_options(entry, found);
    Some(AzureBlobFileSystem {
        account: account?,
        container: container?,
        credentials: credentials?,
        relative_path: relative_path?,
        mount_options,
    })
}

fn decode_server(entry: &Fields<'_>, places: &mut Places, found: &mut Violations) -> Option<FileServerMount> {
    let server = entry.required_object("fileServer", found).and_then(|server| decode_server_id(&server, found));
    let source = entry.text("sourceDirectory", SHORT_TEXT, found).filter(|source| !source.is_empty());
    if source.is_some_and(|source| source.split('/').any(|s| s == "..") || source.chars().any(char::is_control)) {
        let path = entry.path_of("sourceDirectory");
        found.invalid(&path, format!("The property '{path}' must be a directory of the file server, without '..'."));
    }
    let relative_path = places.decode(entry, found);
    let mount_options = decode_options(entry, found);
    Some(FileServerMount {
        file_server: server?,
        source_directory: source.map(str::to_owned),
        relative_path: relative_path?,
        mount_options,
    })
}

fn decode_server_id(fields: &Fields<'_>, found: &mut Violations) -> Option<String> {
    let text = fields.required_text("id", SHORT_TEXT, found)?;
    let path = fields.path_of("id");
    match ResourceId::parse(text) {
        Ok(id) if id.kind() == Kind::FileServer => Some(id.path()),
        Ok(id) => {
            let noun = id.kind().noun();
            found.invalid(&path, format!("The property '{path}' is the id of a {noun}. Give the id of a file server."));
            None
        }
        Err(error) => {
            found.invalid(&path, format!("The property '{path}' is not a resource id: it {}.", error.rule));
            None
        }
    }
}

fn decode_unmanaged(entry: &Fields<'_>, places: &mut Places, found: &mut Violations) -> Option<UnmanagedFileSystem> {
    let command = entry.required_text("mountCommand", LONG_TEXT, found);
    let relative_path = places.decode(entry, found);
    Some(UnmanagedFileSystem { mount_command: command?.to_owned(), relative_path: relative_path? })
}

fn decode_storage_name(entry: &Fields<'_>, name: &str, found: &mut Violations) -> Option<String> {
    let text = entry.required_text(name, MAX_ACCOUNT, found)?;
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || "-_$".contains(c)) {
        let path = entry.path_of(name);
        found.invalid(&path, format!("The property '{path}' may hold ASCII letters, digits, '-', '_' and '$' only."));
        return None;
    }
    Some(text.to_owned())
}

fn decode_credentials(entry: &Fields<'_>, field: &str, secrets: &mut Secrets, found: &mut Violations) -> Option<SecretValue> {
    let credentials = entry.required_object("credentials", found)?;
    let members = SecretMembers { value: "accountKey", reference: "accountKeySecretReference", limit: SHORT_TEXT, field };
    decode_secret(&credentials, &members, secrets, found)
}

fn decode_options(entry: &Fields<'_>, found: &mut Violations) -> Option<String> {
    entry.text("mountOptions", SHORT_TEXT, found).map(str::to_owned)
}

fn decode_mode(entry: &Fields<'_>, name: &str, found: &mut Violations) -> Option<String> {
    let Some(mode) = entry.text(name, 8, found) else {
        return Some(DEFAULT_MODE.to_owned());
    };
    if !(3..=4).contains(&mode.len()) || !mode.chars().all(|c| ('0'..='7').contains(&c)) {
        let path = entry.path_of(name);
        found.invalid(&path, format!("The property '{path}' must be an octal mode of three or four digits, such as '0777'."));
        return None;
    }
    Some(mode.to_owned())
}

/// `mountVolumes` as answers show it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MountVolumesBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    azure_file_shares: Option<Vec<AzureFileShareBody<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    azure_blob_file_systems: Option<Vec<AzureBlobFileSystemBody<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_servers: Option<Vec<FileServerReferenceBody<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unmanaged_file_systems: Option<Vec<UnmanagedFileSystemBody<'a>>>,
}

/// Source: recorded member order; `credentials` is written although it is empty.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AzureFileShareBody<'a> {
    account_name: &'a str,
    azure_file_url: &'a str,
    credentials: CredentialsBody<'a>,
    relative_mount_path: &'a str,
    file_mode: &'a str,
    directory_mode: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AzureBlobFileSystemBody<'a> {
    account_name: &'a str,
    container_name: &'a str,
    credentials: CredentialsBody<'a>,
    relative_mount_path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount_options: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CredentialsBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    account_key_secret_reference: Option<VaultReferenceBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileServerReferenceBody<'a> {
    file_server: ResourceIdBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_directory: Option<&'a str>,
    relative_mount_path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount_options: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UnmanagedFileSystemBody<'a> {
    mount_command: &'a str,
    relative_mount_path: &'a str,
}

fn list<'a, T, B>(entries: &'a Option<Vec<T>>, body: impl Fn(&'a T) -> B) -> Option<Vec<B>> {
    entries.as_ref().map(|entries| entries.iter().map(body).collect())
}

impl<'a> MountVolumesBody<'a> {
    /// As the wire writes them.
    pub fn of(mounts: &'a MountVolumes) -> MountVolumesBody<'a> {
        let credentials =
            |secret: &'a SecretValue| CredentialsBody { account_key_secret_reference: VaultReferenceBody::of(secret) };
        MountVolumesBody {
            azure_file_shares: list(&mounts.azure_file_shares, |share| AzureFileShareBody {
                account_name: &share.account,
                azure_file_url: &share.url,
                credentials: credentials(&share.credentials),
                relative_mount_path: &share.relative_path,
                file_mode: &share.file_mode,
                directory_mode: &share.directory_mode,
            }),
            azure_blob_file_systems: list(&mounts.azure_blob_file_systems, |blob| AzureBlobFileSystemBody {
                account_name: &blob.account,
                container_name: &blob.container,
                credentials: credentials(&blob.credentials),
                relative_mount_path: &blob.relative_path,
                mount_options: blob.mount_options.as_deref(),
            }),
            file_servers: list(&mounts.file_servers, |mount| FileServerReferenceBody {
                file_server: ResourceIdBody { id: &mount.file_server },
                source_directory: mount.source_directory.as_deref(),
                relative_mount_path: &mount.relative_path,
                mount_options: mount.mount_options.as_deref(),
            }),
            unmanaged_file_systems: list(&mounts.unmanaged_file_systems, |mount| UnmanagedFileSystemBody {
                mount_command: &mount.mount_command,
                relative_mount_path: &mount.relative_path,
            }),
        }
    }
}
