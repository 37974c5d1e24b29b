//! File servers as 2018-05-01 writes them.

use serde::Serialize;
use serde_json::Value;

use crate::domain::address_range::AddressRange;
use crate::domain::file_server::{Caching, DataDisks, FileServer, FileServerSpec, MAX_RANGES, Storage, has_premium_storage};
use crate::domain::resource::Envelope;
use crate::error::{Error, Violations};
use crate::id::Kind;
use crate::wire::fields::Fields;
use crate::wire::shapes::ResourceIdBody;
use crate::wire::times::moment;
use crate::wire::v2018_05_01::account::{UserAccountSettings, decode_account};
use crate::wire::v2018_05_01::cluster::decode_vm_size;
use crate::wire::v2018_05_01::secrets::decode_resource_id;
use crate::wire::v2018_05_01::{Encode, word_of};
use crate::wire::{Decoded, Secrets};

const CACHINGS: [(&str, Caching); 3] =
    [("none", Caching::None), ("readonly", Caching::ReadOnly), ("readwrite", Caching::ReadWrite)];

const STORAGES: [(&str, Storage); 2] = [("Standard_LRS", Storage::Standard), ("Premium_LRS", Storage::Premium)];

/// Largest data disk. Unit: GiB. Source: the published limits of Azure's disks.
const MAX_DISK_GB: u32 = 32_767;

/// Most data disks. Source: the published limits of Azure's largest machines.
const MAX_DISKS: u32 = 64;

/// Reads the body of a PUT.
///
/// # Errors
/// Every violation.
pub fn decode_create(document: &Value) -> Result<Decoded<FileServerSpec>, Error> {
    let mut found = Violations::new();
    let mut secrets = Secrets::new();
    let spec = Fields::root(document, &mut found)
        .and_then(|root| root.required_object("properties", &mut found))
        .and_then(|properties| decode_spec(&properties, &mut secrets, &mut found));
    found.into_result()?;
    let spec = spec.ok_or_else(|| Error::internal("a body without violations was not read"))?;
    Ok(Decoded { spec, secrets })
}

/// Reads the members of `properties`.
pub fn decode_spec(fields: &Fields<'_>, secrets: &mut Secrets, found: &mut Violations) -> Option<FileServerSpec> {
    let vm_size = decode_vm_size(fields, found);
    let ssh = fields.required_object("sshConfiguration", found);
    let allowed_ranges = ssh.as_ref().and_then(|ssh| decode_ranges(ssh, found));
    let user_account = ssh
        .and_then(|ssh| ssh.required_object("userAccountSettings", found))
        .and_then(|account| decode_account(&account, secrets, found));
    let disks = fields
        .required_object("dataDisks", found)
        .and_then(|disks| decode_disks(&disks, vm_size.as_deref().unwrap_or_default(), found));
    let subnet = fields.object("subnet", found).and_then(|subnet| decode_resource_id(&subnet, found));
    Some(FileServerSpec { vm_size: vm_size?, user_account: user_account?, allowed_ranges, disks: disks?, subnet })
}

/// Addresses, ranges of them with the length of their common prefix, or `*` for all.
fn decode_ranges(fields: &Fields<'_>, found: &mut Violations) -> Option<Vec<String>> {
    let ranges = fields.strings("publicIPsToAllow", MAX_RANGES, found)?;
    for (path, range) in &ranges {
        if AddressRange::parse(range).is_none() {
            found.invalid(path, format!("The property '{path}' must be an IP address or a range such as '203.0.113.0/24'."));
        }
    }
    Some(ranges.into_iter().map(|(_, range)| range.to_owned()).collect())
}

fn decode_disks(fields: &Fields<'_>, vm_size: &str, found: &mut Violations) -> Option<DataDisks> {
    let size_gb = fields.required_number("diskSizeInGB", 1..=MAX_DISK_GB, found);
    let caching = fields.word("cachingType", &CACHINGS, found).unwrap_or_default();
    let count = fields.required_number("diskCount", 1..=MAX_DISKS, found);
    if !fields.has("storageAccountType") {
        found.missing(fields.path_of("storageAccountType"));
    }
    let storage = fields.word("storageAccountType", &STORAGES, found);
    let asks = [("cachingType", caching != Caching::None), ("storageAccountType", storage == Some(Storage::Premium))];
    for (name, _) in asks.into_iter().filter(|(_, asks)| *asks && !has_premium_storage(vm_size)) {
        let path = fields.path_of(name);
        found.invalid(
            &path,
            format!(
                "The property '{path}' needs a VM size that supports premium storage, such as Standard_DS1. Change one of them."
            ),
        );
    }
    Some(DataDisks { size_gb: size_gb?, count: count?, caching, storage: storage? })
}

/// A file server in an answer.
#[derive(Serialize)]
pub struct FileServerBody<'a> {
    id: &'a str,
    name: &'a str,
    r#type: &'static str,
    properties: FileServerProperties<'a>,
}

/// Source: recorded member order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileServerProperties<'a> {
    provisioning_state: &'static str,
    creation_time: String,
    provisioning_state_transition_time: String,
    vm_size: &'a str,
    ssh_configuration: SshConfiguration<'a>,
    data_disks: DataDisksBody,
    subnet: ResourceIdBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount_settings: Option<MountSettingsBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SshConfiguration<'a> {
    #[serde(rename = "publicIPsToAllow", skip_serializing_if = "Option::is_none")]
    public_ips_to_allow: Option<&'a [String]>,
    user_account_settings: UserAccountSettings<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DataDisksBody {
    #[serde(rename = "diskSizeInGB")]
    disk_size_in_gb: u32,
    caching_type: &'static str,
    disk_count: u32,
    storage_account_type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MountSettingsBody<'a> {
    mount_point: &'a str,
    #[serde(rename = "fileServerPublicIP")]
    file_server_public_ip: &'a str,
    #[serde(rename = "fileServerInternalIP")]
    file_server_internal_ip: &'a str,
}

impl Encode for FileServer {
    type Body<'a> = FileServerBody<'a>;

    fn encode(stored: &Envelope<FileServer>) -> FileServerBody<'_> {
        let (spec, status) = (&stored.spec, &stored.status);
        FileServerBody {
            id: &stored.path,
            name: &stored.name,
            r#type: Kind::FileServer.resource_type(),
            properties: FileServerProperties {
                provisioning_state: stored.provisioning.as_str(),
                creation_time: moment(stored.created_at),
                provisioning_state_transition_time: moment(stored.provisioned_at),
                vm_size: &spec.vm_size,
                ssh_configuration: SshConfiguration {
                    public_ips_to_allow: spec.allowed_ranges.as_deref(),
                    user_account_settings: UserAccountSettings::of(&spec.user_account),
                },
                data_disks: DataDisksBody {
                    disk_size_in_gb: spec.disks.size_gb,
                    caching_type: word_of(&CACHINGS, spec.disks.caching),
                    disk_count: spec.disks.count,
                    storage_account_type: word_of(&STORAGES, spec.disks.storage),
                },
                subnet: ResourceIdBody { id: &status.subnet },
                mount_settings: status.mount.as_ref().map(|mount| MountSettingsBody {
                    mount_point: &mount.mount_point,
                    file_server_public_ip: &mount.public_address,
                    file_server_internal_ip: &mount.internal_address,
                }),
            },
        }
    }
}
