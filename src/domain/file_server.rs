//! File servers: a machine with data disks that nodes mount.

use serde::{Deserialize, Serialize};

use crate::domain::account::UserAccount;
use crate::domain::resource::Resource;
use crate::id::Kind;

/// A file server.
#[derive(Clone, Copy, Debug)]
pub struct FileServer;

impl Resource for FileServer {
    const KIND: Kind = Kind::FileServer;
    type Spec = FileServerSpec;
    type Status = FileServerStatus;
}

/// Most ranges of addresses that may reach a file server by ssh.
///
/// Source: `publicIPsToAllow`, openapi 2018-05-01.
pub const MAX_RANGES: usize = 400;

/// What a user asks of a file server. The account's password is sealed in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileServerSpec {
    /// The VM size, in upper case as the service returns it.
    pub vm_size: String,
    /// The account made on it.
    pub user_account: UserAccount,
    /// Ranges of addresses that may reach it by ssh, as given; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_ranges: Option<Vec<String>>,
    /// Its data disks.
    pub disks: DataDisks,
    /// A subnet's id as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
}

/// The data disks of a file server; several become one, striped.
///
/// Source: `DataDisks`, openapi 2018-05-01.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDisks {
    /// Size of each. Unit: GiB.
    pub size_gb: u32,
    /// How many, at least 1.
    pub count: u32,
    /// How the host caches them.
    pub caching: Caching,
    /// What they are made of.
    pub storage: Storage,
}

/// How the host caches disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Caching {
    /// Not at all.
    #[default]
    None,
    /// What is read.
    ReadOnly,
    /// What is read and written.
    ReadWrite,
}

/// What disks are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// Disks that turn.
    Standard,
    /// Disks that do not.
    Premium,
}

/// What the service recorded about a file server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileServerStatus {
    /// The subnet that it is in: the one asked for, or one of its own. Clusters that mount it are in the same.
    pub subnet: String,
    /// How it is mounted, once it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<MountSettings>,
}

/// How a file server is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSettings {
    /// The directory on it that holds the data.
    pub mount_point: String,
    /// Its address for people.
    pub public_address: String,
    /// Its address for nodes.
    pub internal_address: String,
}

/// Whether a VM size may have premium storage, by its published name.
///
/// Source: the published tables of sizes: an `S` after the family's letters or the number. Names that are none of Azure's are this
/// server's own, which leave the disks to the host.
pub fn has_premium_storage(vm_size: &str) -> bool {
    let Some(name) = vm_size.strip_prefix("STANDARD_") else { return true };
    let letters: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
    let number = name.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let after = number.trim_start_matches(|c: char| c.is_ascii_digit()).split('_').next().unwrap_or_default();
    ["DS", "GS", "ES", "FS", "LS"].contains(&letters.as_str()) || after.ends_with('S')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn premium_storage_is_read_off_the_name() {
        for with in ["STANDARD_DS14", "STANDARD_DS2_V2", "STANDARD_D2S_V3", "STANDARD_NC24RS_V3", "STANDARD_F2S", "LOCAL"] {
            assert!(has_premium_storage(with), "{with}");
        }
        for without in ["STANDARD_D1", "STANDARD_D2_V2", "STANDARD_NC6", "STANDARD_NC24R", "STANDARD_A2M_V2"] {
            assert!(!has_premium_storage(without), "{without}");
        }
    }
}
