//! Storage that a cluster or a job mounts, by flags: they add to what the file says.

use clap::Args;
use serde_json::{Value, json};

use super::document::{Document, account, members, object};
use super::session::Session;
use crate::client::{Failure, Kind, Place, Result};

/// Storage to mount.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Storage")]
pub(super) struct Storage {
    /// The storage account of shares and containers; AZURE_BATCHAI_STORAGE_ACCOUNT where it is left out.
    #[arg(long, value_name = "NAME")]
    pub storage_account_name: Option<String>,
    /// Its key; AZURE_BATCHAI_STORAGE_KEY where it is left out.
    #[arg(long, value_name = "KEY")]
    pub storage_account_key: Option<String>,
    /// An Azure file share to mount.
    #[arg(short = 'a', long, value_name = "SHARE")]
    pub afs_name: Option<String>,
    /// Where, below the mount root.
    #[arg(long, value_name = "PATH", default_value = "afs", hide_default_value = true)]
    pub afs_mount_path: String,
    /// A blob container to mount.
    #[arg(long, value_name = "CONTAINER")]
    pub bfs_name: Option<String>,
    /// Where, below the mount root.
    #[arg(long, value_name = "PATH", default_value = "bfs", hide_default_value = true)]
    pub bfs_mount_path: String,
    /// A file server of the workspace to mount, or its id.
    #[arg(long, value_name = "NAME")]
    pub nfs: Option<String>,
    /// Where, below the mount root.
    #[arg(long, value_name = "PATH", default_value = "nfs", hide_default_value = true)]
    pub nfs_mount_path: String,
}

impl Storage {
    /// Adds what the flags name to `mountVolumes` of `parent`, a member of `properties` or `properties` itself, and fills placeholders.
    ///
    /// # Errors
    /// `Usage` where an account is needed and not named; as of the client.
    pub(super) async fn lay_over(
        &self,
        session: &Session,
        document: &mut Document,
        workspace: &Place,
        parent: Option<&str>,
    ) -> Result<()> {
        let (name, key) = account(&session.environment, &self.storage_account_name, &self.storage_account_key);
        document.fill(name.as_deref(), key.as_deref());
        let mut lists: Vec<(&str, Value)> = Vec::new();
        if self.afs_name.is_some() || self.bfs_name.is_some() {
            let missing =
                |what: &str, flag: &str, variable: &str| Failure::usage(format!("which {what}? Give {flag} or set {variable}"));
            let name =
                name.ok_or_else(|| missing("storage account", "--storage-account-name", "AZURE_BATCHAI_STORAGE_ACCOUNT"))?;
            let key = key.ok_or_else(|| missing("account key", "--storage-account-key", "AZURE_BATCHAI_STORAGE_KEY"))?;
            let credentials = json!({ "accountKey": key });
            if let Some(share) = &self.afs_name {
                let suffix = storage_suffix(session).await?;
                lists.push((
                    "azureFileShares",
                    json!({
                        "accountName": name, "azureFileUrl": format!("https://{name}.file.{suffix}/{share}"),
                        "credentials": credentials, "relativeMountPath": self.afs_mount_path,
                    }),
                ));
            }
            if let Some(container) = &self.bfs_name {
                lists.push(("azureBlobFileSystems", json!({
                    "accountName": name, "containerName": container, "credentials": credentials, "relativeMountPath": self.bfs_mount_path,
                })));
            }
        }
        if let Some(server) = &self.nfs {
            let place = Place::parse(server, Kind::FileServer).unwrap_or_else(|| workspace.below(Kind::FileServer, server));
            lists
                .push(("fileServers", json!({ "fileServer": { "id": place.path() }, "relativeMountPath": self.nfs_mount_path })));
        }
        if lists.is_empty() {
            return Ok(());
        }
        let properties = members(&mut document.value, "properties");
        let parent = match parent {
            Some(name) => object(properties.entry(name).or_insert(Value::Null)),
            None => properties,
        };
        let volumes = object(parent.entry("mountVolumes").or_insert(Value::Null));
        for (list, entry) in lists {
            match volumes.entry(list).or_insert_with(|| json!([])) {
                Value::Array(entries) => entries.push(entry),
                other => *other = json!([entry]),
            }
        }
        Ok(())
    }
}

/// The end of host names of storage accounts, as the server's cloud has it.
async fn storage_suffix(session: &Session) -> Result<String> {
    let metadata = session.client.get("/metadata/endpoints", "2022-09-01").await?.body;
    let suffix = metadata.pointer("/suffixes/storage").and_then(Value::as_str);
    Ok(suffix.unwrap_or("core.windows.net").to_owned())
}
