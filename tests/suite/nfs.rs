//! File servers on real nodes: a real disk, a real NFS server, the client of this binary as nodes mount by it.
//!
//! They need nodes in namespaces, NFS-Ganesha and `/dev/fuse`.

#[path = "nfs/behaviour.rs"]
mod behaviour;
#[path = "nfs/failing.rs"]
mod failing;
#[path = "nfs/life.rs"]
mod life;
#[path = "nfs/raw.rs"]
mod raw;
#[path = "nfs/walls.rs"]
mod walls;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, Site, descends, until_within};

/// Whether file servers can be had here. Where they cannot and are not demanded, says so; the test then ends.
fn may_serve() -> bool {
    let demanded = std::env::var("BATCHYARD_TEST_PRIVILEGE").is_ok_and(|value| value == "required");
    let needed = ["/usr/bin/ganesha.nfsd", "/usr/sbin/mkfs.ext4", "/usr/bin/python3", "/dev/fuse", "/dev/loop-control"];
    let rpcbind = ["/usr/sbin/rpcbind", "/sbin/rpcbind"].iter().any(|path| Path::new(path).exists());
    let missing: Vec<&str> = needed.into_iter().filter(|path| !Path::new(path).exists()).collect();
    if rustix::process::geteuid().is_root() && missing.is_empty() && rpcbind {
        return true;
    }
    assert!(!demanded, "root, rpcbind and {missing:?} are demanded here");
    eprintln!("skipped: needs root, rpcbind and {missing:?}");
    false
}

fn server_path(site: &Site, name: &str) -> String {
    format!("{}/fileServers/{name}", site.workspace())
}

fn server_body(disks: u32) -> Value {
    json!({ "properties": {
        "vmSize": "STANDARD_D1",
        "sshConfiguration": { "userAccountSettings": { "adminUserName": "ops", "adminUserPassword": "Not-a-secret-1" } },
        "dataDisks": { "diskSizeInGB": 1, "diskCount": disks, "storageAccountType": "Standard_LRS" } } })
}

/// Makes a file server, and answers its properties once it is made.
async fn put_server(site: &Site, name: &str) -> Value {
    let accepted = site.api.put(&server_path(site, name), &server_body(1)).await.expect(202);
    let ended = site.api.finish(accepted).await;
    assert_eq!(ended["status"], "Succeeded", "{ended}");
    site.api.get(&server_path(site, name)).await.expect(200).body["properties"].take()
}

/// A mount of a file server at `nfs`.
fn mount(site: &Site, name: &str, options: &str) -> Value {
    json!({ "fileServers": [{
        "fileServer": { "id": format!("{}/{}", site.api.scope(), server_path(site, name)) },
        "relativeMountPath": "nfs", "mountOptions": options }] })
}

/// A cluster whose nodes mount a file server.
async fn put_cluster(site: &Site, cluster: &str, server: &str, options: &str) {
    let mut body = Site::cluster_body(1);
    body["properties"]["nodeSetup"] = json!({ "mountVolumes": mount(site, server, options) });
    site.put_cluster(cluster, &body).await;
    until_within(
        Duration::from_secs(60),
        &format!("an idle node of {cluster}"),
        || site.get_cluster(cluster),
        |seen| {
            assert_eq!(seen["errors"].as_array().map_or(0, Vec::len), 0, "{}", seen["errors"]);
            seen["nodeStateCounts"]["idleNodeCount"] == 1
        },
    )
    .await;
}

/// Runs a job on the mount of its cluster, and answers what it printed.
async fn run(site: &Site, job: &str, cluster: &str, command: &str) -> String {
    let ended = site.run(job, cluster, &format!("cd $AZ_BATCHAI_MOUNT_ROOT/nfs; {command}"), json!({})).await;
    let said = site.stdout(job).await;
    assert_eq!(ended["executionState"], "succeeded", "{ended}\n{said}");
    said
}

/// Devices of this host that are files of the server's.
fn devices(server: &Server) -> Vec<String> {
    // Told from a root that the file server's node had, of which only what is below the file system's own root is sure.
    let dir = format!("/{}/", server.dir().file_name().expect("named").display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/block").expect("readable").flatten() {
        let file = std::fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if file.contains(&dir) {
            found.push(file.trim().to_owned());
        }
    }
    found
}

/// What is in one of the driver's folders.
fn entries(server: &Server, name: &str) -> Vec<String> {
    let folder = server.dir().join("data/nodes").join(name);
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    listed.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Processes of a server's nodes that are called so.
fn processes(server: &Server, name: &str) -> Vec<u32> {
    let nodes = server.node_processes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("readable").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let called = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if called.trim() == name && descends(pid, &nodes) {
            found.push(pid);
        }
    }
    found
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("is there");
}
