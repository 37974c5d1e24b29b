//! File servers on a real Postgres, where a driver can hold them: who may mount which, and what that keeps from being deleted.

use std::collections::BTreeMap;

use batchyard::domain::account::UserAccount;
use batchyard::domain::file_server::{Caching, DataDisks, FileServer, FileServerSpec, Storage};
use batchyard::domain::mount::{FileServerMount, MountVolumes};
use batchyard::domain::node_setup::NodeSetup;
use batchyard::domain::operation::State;
use batchyard::domain::resource::Provisioning;
use batchyard::error::ErrorCode;
use batchyard::id::{Kind, ResourceId};
use batchyard::service::{NewCluster, NewFileServer, Put};

use crate::bed::{Bed, new_cluster};

fn new_file_server() -> NewFileServer {
    NewFileServer {
        spec: FileServerSpec {
            vm_size: "STANDARD_D1".into(),
            user_account: UserAccount { name: "ops".into(), ssh_public_key: None },
            allowed_ranges: None,
            disks: DataDisks { size_gb: 10, count: 1, caching: Caching::None, storage: Storage::Standard },
            subnet: None,
        },
        secrets: BTreeMap::new(),
    }
}

fn mounts(server: &str) -> Option<MountVolumes> {
    let mount = FileServerMount {
        file_server: server.to_owned(),
        source_directory: None,
        relative_path: "nfs".into(),
        mount_options: None,
    };
    Some(MountVolumes { file_servers: Some(vec![mount]), ..MountVolumes::default() })
}

fn mounting(server: &str) -> NewCluster {
    let mut new = new_cluster(0);
    new.spec.node_setup = Some(NodeSetup { mount_volumes: mounts(server), ..NodeSetup::default() });
    new
}

async fn made(bed: &Bed, id: &ResourceId) {
    let update = "update batchyard.resource set provisioning = 'succeeded' where key = $1";
    sqlx::query(update).bind(id.key()).execute(&bed.pool).await.expect("updates");
}

#[tokio::test]
async fn a_file_server_is_promised_where_nodes_can_hold_it() {
    let bed = Bed::new().await;
    let id = bed.id(Kind::FileServer, &["ws", "NFS"]);
    let put = bed.service.put_file_server(&bed.caller, &id, new_file_server()).await.expect("made");
    let Put::Created(server, operation) = put else { panic!("existed") };
    assert_eq!((server.provisioning, operation.state), (Provisioning::Creating, State::Running));
    let refused = bed.service.put_cluster(&bed.caller, &bed.cluster(), mounting(&id.path())).await.expect_err("too early");
    assert_eq!(refused.code, ErrorCode::InvalidPropertyValue);
    assert!(refused.message.contains("'creating'"), "{}", refused.message);
    // A file server that is not made yet can be deleted.
    assert!(bed.service.delete(&bed.caller, &id).await.expect("deletes").is_some());
}

#[tokio::test]
async fn what_mounts_a_file_server_keeps_it() {
    let bed = Bed::new().await;
    let id = bed.id(Kind::FileServer, &["ws", "NFS"]);
    bed.service.put_file_server(&bed.caller, &id, new_file_server()).await.expect("made");
    made(&bed, &id).await;
    // The server is named as it was made, and its subnet is the cluster's.
    let odd = id.path().replace("NFS", "nfs");
    let put = bed.service.put_cluster(&bed.caller, &bed.cluster(), mounting(&odd)).await.expect("made");
    let Put::Created(cluster, _) = put else { panic!("existed") };
    let server = bed.service.get::<FileServer>(&id).await.expect("there");
    assert_eq!(cluster.status.subnet, Some(server.status.subnet));
    assert_eq!(cluster.spec.node_setup.expect("a setup").mount_volumes, mounts(&id.path()));
    let again = bed.service.put_cluster(&bed.caller, &bed.cluster(), mounting(&odd)).await.expect("there");
    assert!(matches!(again, Put::Existing(_)));

    let mut job = bed.new_job();
    job.spec.mount_volumes = mounts(&odd);
    let put = bed.service.put_job(&bed.caller, &bed.job("j"), job.clone()).await.expect("made");
    assert!(matches!(put, Put::Created(..)));
    let refused = bed.service.delete(&bed.caller, &id).await.expect_err("in use");
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("the cluster 'Cluster', the job 'j'"), "{}", refused.message);

    // What has ended, and what is being deleted, mounts nothing any more.
    bed.service.terminate(&bed.caller, &bed.job("j")).await.expect("ends");
    bed.service.delete(&bed.caller, &bed.cluster()).await.expect("deletes");
    assert!(bed.service.delete(&bed.caller, &id).await.expect("deletes").is_some());
    // A job that exists is not admitted again.
    let again = bed.service.put_job(&bed.caller, &bed.job("j"), job).await.expect("there");
    assert!(matches!(again, Put::Existing(_)));
}

#[tokio::test]
async fn a_file_server_of_another_region_is_not_mounted() {
    let bed = Bed::new().await;
    let far = bed.id(Kind::Workspace, &["far"]);
    bed.service.put_workspace(&bed.caller, &far, "westus".into(), None).await.expect("made");
    let id = bed.id(Kind::FileServer, &["far", "nfs"]);
    bed.service.put_file_server(&bed.caller, &id, new_file_server()).await.expect("made");
    made(&bed, &id).await;
    let refused = bed.service.put_cluster(&bed.caller, &bed.cluster(), mounting(&id.path())).await.expect_err("too far");
    assert_eq!(refused.code, ErrorCode::InvalidPropertyValue);
    assert!(refused.message.contains("'westus'") && refused.message.contains("'eastus'"), "{}", refused.message);
    // One of another workspace in the same region is.
    let near = bed.id(Kind::Cluster, &["far", "c"]);
    assert!(bed.service.put_cluster(&bed.caller, &near, mounting(&id.path())).await.is_ok());
}

#[tokio::test]
async fn quotas_are_a_regions_own() {
    let bed = Bed::new().await;
    let far = bed.id(Kind::Workspace, &["far"]);
    bed.service.put_workspace(&bed.caller, &far, "westus".into(), None).await.expect("made");
    let put = async |workspace: &str, name: &str| {
        let id = bed.id(Kind::FileServer, &[workspace, name]);
        bed.service.put_file_server(&bed.caller, &id, new_file_server()).await.map(|_| ()).map_err(|error| error.code)
    };
    assert_eq!(put("ws", "a").await, Ok(()));
    assert_eq!(put("ws", "b").await, Ok(()));
    assert_eq!(put("ws", "c").await, Err(ErrorCode::FileServerQuotaReached));
    assert_eq!(put("ws", "a").await, Ok(()), "one that exists is none more");
    assert_eq!(put("far", "c").await, Ok(()));
}
