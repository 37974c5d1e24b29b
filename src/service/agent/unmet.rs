//! What is stored and cannot be honoured by nodes yet: it is told where the job or the node shows its errors, naming the member.
//!
//! See the decision "Accepted is never ignored". Each rule here goes once nodes can do what it names.

use crate::domain::cluster::ClusterSpec;
use crate::domain::job::JobSpec;
use crate::domain::mount::MountVolumes;
use crate::domain::resource::EntityError;
use crate::domain::secret::{SecretValue, SecretVariable};

/// The code of a job's error.
const JOB: &str = "JobSettingsNotSupported";

/// The code of a node's error.
const NODE: &str = "NodeSettingsNotSupported";

/// What of a job cannot be done here.
pub(super) fn of_job(spec: &JobSpec) -> Option<EntityError> {
    let mut members = Vec::new();
    let credentials = spec.container.as_ref().and_then(|container| container.credentials.as_ref());
    if credentials.is_some_and(|credentials| matches!(credentials.password, SecretValue::Vault(_))) {
        members.push("containerSettings.imageSourceRegistry.credentials.passwordSecretReference".to_owned());
    }
    members.extend(mounted_by_vault("mountVolumes", spec.mount_volumes.as_ref()));
    if spec.secrets.as_deref().is_some_and(is_in_a_vault) {
        members.push("secrets.valueSecretReference".to_owned());
    }
    told(JOB, "The job", &members)
}

/// What of a cluster's nodes cannot be done here.
pub(super) fn of_cluster(spec: &ClusterSpec) -> Option<EntityError> {
    let mut members = Vec::new();
    if spec.image.image_id.is_some() {
        members.push("virtualMachineConfiguration.imageReference.virtualMachineImageId".to_owned());
    }
    if let Some(setup) = &spec.node_setup {
        members.extend(mounted_by_vault("nodeSetup.mountVolumes", setup.mount_volumes.as_ref()));
        if setup.setup_task.as_ref().is_some_and(|task| is_in_a_vault(&task.secrets)) {
            members.push("nodeSetup.setupTask.secrets.valueSecretReference".to_owned());
        }
        if let Some(counters) = &setup.performance_counters {
            let member = match counters.key {
                SecretValue::Sealed => "nodeSetup.performanceCountersSettings",
                SecretValue::Vault(_) => {
                    "nodeSetup.performanceCountersSettings.appInsightsReference.instrumentationKeySecretReference"
                }
            };
            members.push(member.to_owned());
        }
    }
    told(NODE, "The node", &members)
}

/// Whose keys are in a key vault.
fn mounted_by_vault(member: &str, mounts: Option<&MountVolumes>) -> Vec<String> {
    let in_vault = |key: &SecretValue| matches!(key, SecretValue::Vault(_));
    let shares = mounts.iter().flat_map(|mounts| mounts.azure_file_shares.iter().flatten());
    let blobs = mounts.iter().flat_map(|mounts| mounts.azure_blob_file_systems.iter().flatten());
    let kinds = [
        ("azureFileShares", shares.map(|share| &share.credentials).any(in_vault)),
        ("azureBlobFileSystems", blobs.map(|blob| &blob.credentials).any(in_vault)),
    ];
    let named = |(kind, _): (&str, bool)| format!("{member}.{kind}.credentials.accountKeySecretReference");
    kinds.into_iter().filter(|(_, found)| *found).map(named).collect()
}

fn is_in_a_vault(secrets: &[SecretVariable]) -> bool {
    secrets.iter().any(|secret| secret.reference().is_some())
}

fn told(code: &str, who: &str, members: &[String]) -> Option<EntityError> {
    if members.is_empty() {
        return None;
    }
    let list = members.join(", ");
    let message =
        format!("{who} needs what this server's nodes cannot do yet: {list}. Leave it out, or run where it is offered.");
    Some(members.iter().fold(EntityError::new(code, message), |error, member| error.with_detail("property", member.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::container::ContainerSettings;
    use crate::wire::v2018_05_01::samples;

    #[test]
    fn what_nodes_can_do_is_not_told() {
        let mut job = samples::job().spec;
        job.mount_volumes = Some(MountVolumes::default());
        job.container = Some(ContainerSettings { image: "ubuntu".into(), registry: None, credentials: None, shm_size: None });
        job.secrets = Some(vec!["A".into()]);
        assert_eq!(of_job(&job), None);
        let mut cluster = samples::cluster().spec;
        cluster.image.image_id = None;
        cluster.node_setup = None;
        assert_eq!(of_cluster(&cluster), None);
    }

    #[test]
    fn every_member_that_nodes_cannot_honour_is_named() {
        let members = |error: Option<EntityError>| -> Vec<String> {
            error.into_iter().flat_map(|error| error.details).map(|detail| detail.value).collect()
        };
        let job = samples::job().spec;
        let wanted = [
            "containerSettings.imageSourceRegistry.credentials.passwordSecretReference",
            "mountVolumes.azureBlobFileSystems.credentials.accountKeySecretReference",
            "secrets.valueSecretReference",
        ];
        assert_eq!(members(of_job(&job)), wanted);
        let wanted = [
            "virtualMachineConfiguration.imageReference.virtualMachineImageId",
            "nodeSetup.mountVolumes.azureBlobFileSystems.credentials.accountKeySecretReference",
            "nodeSetup.setupTask.secrets.valueSecretReference",
            "nodeSetup.performanceCountersSettings",
        ];
        assert_eq!(members(of_cluster(&samples::cluster().spec)), wanted);
    }
}
