//! What of a job or a cluster is in key vaults: each member that names one, and the field that its value would be sealed under.

use crate::domain::cluster::ClusterSpec;
use crate::domain::container::REGISTRY_PASSWORD;
use crate::domain::job::{JobSpec, SECRETS};
use crate::domain::mount::{MountVolumes, blob_key_field, share_key_field};
use crate::domain::node_setup::SETUP_SECRETS;
use crate::domain::secret::{SecretValue, SecretVariable, VaultReference};

/// A member whose value is in a key vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultMember<'a> {
    /// The member below `properties`, as the wire names it.
    pub member: String,
    /// The field that the value would be sealed under.
    pub field: String,
    /// Where the value is.
    pub reference: &'a VaultReference,
}

/// What of a job is in key vaults.
pub fn of_job(spec: &JobSpec) -> Vec<VaultMember<'_>> {
    let mut found = of_mounts("mountVolumes", spec.mount_volumes.as_ref());
    let credentials = spec.container.as_ref().and_then(|container| container.credentials.as_ref());
    if let Some(SecretValue::Vault(reference)) = credentials.map(|credentials| &credentials.password) {
        let member = "containerSettings.imageSourceRegistry.credentials.passwordSecretReference".to_owned();
        found.push(VaultMember { member, field: REGISTRY_PASSWORD.to_owned(), reference });
    }
    found.extend(variables("secrets", SECRETS, spec.secrets.as_deref().unwrap_or_default()));
    found
}

/// What of a cluster's nodes is in key vaults.
pub fn of_cluster(spec: &ClusterSpec) -> Vec<VaultMember<'_>> {
    let Some(setup) = &spec.node_setup else { return Vec::new() };
    let mut found = of_mounts("nodeSetup.mountVolumes", setup.mount_volumes.as_ref());
    let secrets = setup.setup_task.as_ref().map(|task| task.secrets.as_slice()).unwrap_or_default();
    found.extend(variables("nodeSetup.setupTask.secrets", SETUP_SECRETS, secrets));
    found
}

/// What of mounts is in key vaults; `member` names them.
pub fn of_mounts<'a>(member: &str, mounts: Option<&'a MountVolumes>) -> Vec<VaultMember<'a>> {
    let shares = mounts.into_iter().flat_map(|mounts| mounts.azure_file_shares.iter().flatten()).map(|share| &share.credentials);
    let blobs =
        mounts.into_iter().flat_map(|mounts| mounts.azure_blob_file_systems.iter().flatten()).map(|blob| &blob.credentials);
    let named = |kind: &str, index: usize, field: String, value: &'a SecretValue| match value {
        SecretValue::Sealed => None,
        SecretValue::Vault(reference) => {
            let member = format!("{member}.{kind}[{index}].credentials.accountKeySecretReference");
            Some(VaultMember { member, field, reference })
        }
    };
    let shares = shares.enumerate().filter_map(|(at, value)| named("azureFileShares", at, share_key_field(at), value));
    let blobs = blobs.enumerate().filter_map(|(at, value)| named("azureBlobFileSystems", at, blob_key_field(at), value));
    shares.chain(blobs).collect()
}

fn variables<'a>(member: &str, prefix: &str, secrets: &'a [SecretVariable]) -> Vec<VaultMember<'a>> {
    let named = |(index, secret): (usize, &'a SecretVariable)| {
        let member = format!("{member}[{index}].valueSecretReference");
        Some(VaultMember { member, field: format!("{prefix}{}", secret.name()), reference: secret.reference()? })
    };
    secrets.iter().enumerate().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v2018_05_01::samples;

    #[test]
    fn each_member_in_a_vault_is_named_with_its_field() {
        let named = |found: Vec<VaultMember<'_>>| found.into_iter().map(|one| (one.member, one.field)).collect::<Vec<_>>();
        let own = |(member, field): (&str, &str)| (member.to_owned(), field.to_owned());
        let job = [
            (
                "mountVolumes.azureBlobFileSystems[0].credentials.accountKeySecretReference",
                "mount_volumes.azure_blob_file_systems[0].account_key",
            ),
            ("containerSettings.imageSourceRegistry.credentials.passwordSecretReference", "container.registry_password"),
            ("secrets[1].valueSecretReference", "secrets.KEY"),
        ];
        assert_eq!(named(of_job(&samples::job().spec)), job.map(own));
        let cluster = [
            (
                "nodeSetup.mountVolumes.azureBlobFileSystems[0].credentials.accountKeySecretReference",
                "mount_volumes.azure_blob_file_systems[0].account_key",
            ),
            ("nodeSetup.setupTask.secrets[1].valueSecretReference", "setup_task.secrets.KEY"),
        ];
        assert_eq!(named(of_cluster(&samples::cluster().spec)), cluster.map(own));
    }
}
