//! Stored resources with every optional member set, for tests.

use time::macros::datetime;
use uuid::Uuid;

use crate::domain::cluster::{
    Allocation, Cluster, ClusterSpec, ClusterStatus, Deallocation, ImageReference, NodeCounts, NodeSetup, Scale, SetupTask,
    UserAccount, VmPriority,
};
use crate::domain::container::{ContainerSettings, RegistryCredentials};
use crate::domain::experiment::{Experiment, ExperimentSpec};
use crate::domain::file_server::{Caching, DataDisks, FileServer, FileServerSpec, FileServerStatus, MountSettings, Storage};
use crate::domain::group::{Group, GroupSpec};
use crate::domain::job::{Framework, InputDirectory, Job, JobSpec, JobStatus, OutputDirectory, Phase, Priority};
use crate::domain::mount::{AzureBlobFileSystem, AzureFileShare, FileServerMount, MountVolumes, UnmanagedFileSystem};
use crate::domain::node_setup::PerformanceCounters;
use crate::domain::resource::{EntityError, Envelope, NameValue, NoStatus, Provisioning, Resource};
use crate::domain::secret::{SecretValue, SecretVariable, VaultReference};
use crate::domain::workspace::{Workspace, WorkspaceSpec};
use crate::id::{Kind, ResourceId, ResourceUid, SubscriptionId};

pub(crate) const SUBSCRIPTION: SubscriptionId = SubscriptionId(Uuid::from_u128(0x11111111_2222_3333_4444_555555555555));

fn envelope<K: Resource>(names: &[&str], spec: K::Spec, status: K::Status) -> Envelope<K> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let id = match K::KIND {
        Kind::Group => ResourceId::group(SUBSCRIPTION, "ML-rg"),
        kind => ResourceId::below_group(SUBSCRIPTION, "ML-rg", kind, names).expect("an id"),
    };
    Envelope {
        uid: ResourceUid(Uuid::from_u128(0x7b1f6f0e_3b0c_4f6e_9b0a_1d2c3b4a5f60)),
        subscription: SUBSCRIPTION,
        path: id.path(),
        name: id.name().to_owned(),
        location: "eastus".into(),
        tags: Some([("team".to_owned(), "Vision".to_owned())].into()),
        spec,
        status,
        provisioning: Provisioning::Succeeded,
        provisioned_at: datetime!(2018-06-14 09:13:01.3 UTC),
        created_at: datetime!(2018-06-14 09:13:00.25 UTC),
        updated_at: datetime!(2018-06-14 09:13:00.25 UTC),
        generation: 1,
        revision: 1,
    }
}

fn pair(name: &str, value: &str) -> NameValue {
    NameValue { name: name.into(), value: value.into() }
}

pub(crate) fn group() -> Envelope<Group> {
    envelope(&[], GroupSpec { managed_by: Some("/subscriptions/x".into()) }, NoStatus {})
}

pub(crate) fn workspace() -> Envelope<Workspace> {
    envelope(&["vision"], WorkspaceSpec {}, NoStatus {})
}

pub(crate) fn experiment() -> Envelope<Experiment> {
    envelope(&["vision", "sweep"], ExperimentSpec {}, NoStatus {})
}

fn vault() -> VaultReference {
    VaultReference { vault: "/subscriptions/x/vaults/v".into(), url: "https://v.example/secrets/s".into() }
}

pub(crate) fn mounts() -> MountVolumes {
    MountVolumes {
        azure_file_shares: Some(vec![AzureFileShare {
            account: "acct01".into(),
            url: "https://acct01.file.core.windows.net/logs".into(),
            credentials: SecretValue::Sealed,
            relative_path: "afs".into(),
            file_mode: "0777".into(),
            directory_mode: "0700".into(),
        }]),
        azure_blob_file_systems: Some(vec![AzureBlobFileSystem {
            account: "acct01".into(),
            container: "data".into(),
            credentials: SecretValue::Vault(vault()),
            relative_path: "bfs".into(),
            mount_options: Some("-o ro".into()),
        }]),
        file_servers: Some(vec![FileServerMount {
            file_server: "/subscriptions/x/fileservers/nfs".into(),
            source_directory: Some("data".into()),
            relative_path: "nfs".into(),
            mount_options: Some("rw".into()),
        }]),
        unmanaged_file_systems: Some(vec![UnmanagedFileSystem {
            mount_command: "mount -t glusterfs 10.0.0.4:/gv0".into(),
            relative_path: "gluster".into(),
        }]),
    }
}

pub(crate) fn cluster() -> Envelope<Cluster> {
    let setup_task = SetupTask {
        command_line: "apt-get install -y unzip".into(),
        environment: vec![pair("MODE", "fast")],
        secrets: vec!["TOKEN".into(), SecretVariable::Vault { name: "KEY".into(), reference: vault() }],
        std_out_err_path_prefix: "$AZ_BATCHAI_MOUNT_ROOT/shared".into(),
    };
    let spec = ClusterSpec {
        vm_size: "STANDARD_NC6".into(),
        vm_priority: VmPriority::LowPriority,
        scale: Scale::Manual { target: 2, deallocation: Deallocation::WaitForJobCompletion },
        image: ImageReference { image_id: Some("/subscriptions/x/images/i".into()), ..ImageReference::default() },
        node_setup: Some(NodeSetup {
            setup_task: Some(setup_task),
            mount_volumes: Some(mounts()),
            performance_counters: Some(PerformanceCounters {
                component: "/subscriptions/x/components/c".into(),
                key: SecretValue::Sealed,
            }),
        }),
        user_account: UserAccount { name: "ops".into(), ssh_public_key: Some("ssh-rsa AAAA".into()) },
        subnet: Some("/subscriptions/x/subnets/s".into()),
        older: None,
    };
    let status = ClusterStatus {
        allocation: Allocation::Steady,
        allocation_changed_at: datetime!(2018-06-14 09:15:10.04 UTC),
        errors: vec![EntityError::new("NodeSetupTaskFailed", "The setup task failed").with_detail("exitCode", "1")],
        auto: None,
        repairs: None,
        subnet: None,
        output_uuid: Uuid::from_u128(0x0d6a4e0c_51b3_4a1e_8c5b_6f8f0a1b2c3d),
        nodes: NodeCounts { idle: 1, running: 2, preparing: 3, unusable: 4, leaving: 5 },
    };
    envelope(&["vision", "nc6"], spec, status)
}

pub(crate) fn file_server() -> Envelope<FileServer> {
    let spec = FileServerSpec {
        vm_size: "STANDARD_DS1".into(),
        user_account: UserAccount { name: "ops".into(), ssh_public_key: Some("ssh-rsa AAAA".into()) },
        allowed_ranges: Some(vec!["203.0.113.0/24".into()]),
        disks: DataDisks { size_gb: 10, count: 2, caching: Caching::ReadOnly, storage: Storage::Premium },
        subnet: None,
    };
    let status = FileServerStatus {
        subnet: "/subscriptions/x/subnets/own".into(),
        mount: Some(MountSettings {
            mount_point: "/data".into(),
            public_address: "203.0.113.7".into(),
            internal_address: "10.0.0.4".into(),
        }),
    };
    envelope(&["vision", "nfs01"], spec, status)
}

pub(crate) fn job() -> Envelope<Job> {
    let spec = JobSpec {
        priority: Priority::High,
        cluster: cluster().path,
        node_count: 1,
        mount_volumes: Some(mounts()),
        container: Some(ContainerSettings {
            image: "registry.example/trainer".into(),
            registry: Some("registry.example".into()),
            credentials: Some(RegistryCredentials { username: "puller".into(), password: SecretValue::Vault(vault()) }),
            shm_size: Some("16gb".into()),
        }),
        framework: Framework::Custom { command_line: Some("echo hi".into()) },
        preparation: Some("true".into()),
        std_out_err_path_prefix: "$AZ_BATCHAI_MOUNT_ROOT/shared".into(),
        input_directories: Some(vec![InputDirectory { id: "IN".into(), path: "$AZ_BATCHAI_MOUNT_ROOT/shared/in".into() }]),
        output_directories: Some(vec![OutputDirectory {
            id: "OUT".into(),
            path_prefix: "$AZ_BATCHAI_MOUNT_ROOT/shared".into(),
            path_suffix: Some("files".into()),
        }]),
        environment: Some(vec![pair("MODE", "fast")]),
        secrets: Some(vec!["API_KEY".into(), SecretVariable::Vault { name: "KEY".into(), reference: vault() }]),
        max_wall_clock_s: 604_800,
        retries: vec![],
        older: None,
    };
    let status = JobStatus {
        phase: Phase::Failed,
        phase_changed_at: datetime!(2018-06-14 09:20:31.4 UTC),
        started_at: Some(datetime!(2018-06-14 09:20:02.07 UTC)),
        ended_at: Some(datetime!(2018-06-14 09:20:31.4 UTC)),
        exit_code: Some(1),
        errors: vec![EntityError::new("JobFailed", "Job failed with non-zero exit code")],
        ..JobStatus::queued(datetime!(2018-06-14 09:20 UTC))
    };
    envelope(&["vision", "sweep", "train01"], spec, status)
}
