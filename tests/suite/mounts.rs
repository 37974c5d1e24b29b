//! Storage that nodes mount: a real emulator of containers, a real SMB server, real nodes, real programs that mount.
//!
//! The tests of this process share one installation, whose settings name an account `team` at servers of the test's own, and work each
//! in a resource group, shares and containers of its own. They need nodes in namespaces.

#[path = "mounts/archive.rs"]
mod archive;
#[path = "mounts/cluster.rs"]
mod cluster;
#[path = "mounts/failing.rs"]
mod failing;
#[path = "mounts/job.rs"]
mod job;
#[path = "mounts/kills.rs"]
mod kills;
#[path = "mounts/storage.rs"]
pub(crate) mod storage;

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::harness::guard::Guard;
use crate::harness::{Server, Settings, Site};
use storage::Storage;

/// One installation, and the storage of all.
pub(crate) struct Yard {
    pub(crate) server: Server,
    pub(crate) storage: &'static Storage,
}

impl Yard {
    fn start() -> Yard {
        static STORAGE: OnceLock<Storage> = OnceLock::new();
        let storage = STORAGE.get_or_init(|| Storage::start(&Arc::new(Guard::new())));
        Yard { server: Server::start(Settings { config: storage.settings(), ..Settings::default() }), storage }
    }
}

/// The installation that tests share, and a site on it. None where nodes cannot mount here, or a program that is needed is not here.
pub(crate) async fn shared() -> Option<(&'static Yard, Site)> {
    static SHARED: OnceLock<Yard> = OnceLock::new();
    if !may_mount() {
        return None;
    }
    let yard = SHARED.get_or_init(Yard::start);
    Some((yard, Site::new(yard.server.api()).await))
}

fn may_mount() -> bool {
    let demanded = std::env::var("BATCHYARD_TEST_PRIVILEGE").is_ok_and(|value| value == "required");
    let needed = ["/usr/bin/rclone", "/usr/sbin/smbd", "/usr/bin/fusermount3", "/dev/fuse"];
    let missing: Vec<&str> = needed.into_iter().filter(|path| !std::path::Path::new(path).exists()).collect();
    if rustix::process::geteuid().is_root() && missing.is_empty() && storage::emulator().is_some() {
        return true;
    }
    assert!(!demanded, "root, {missing:?} and the emulator are demanded here");
    eprintln!("skipped: needs root, {missing:?} and the emulator");
    false
}

/// A mount of a share.
pub(crate) fn share(storage: &Storage, name: &str, place: &str) -> Value {
    json!({
        "accountName": "team", "azureFileUrl": format!("https://team.file.core.windows.net/{name}"),
        "credentials": { "accountKey": storage.key }, "relativeMountPath": place,
    })
}

/// A mount of a container.
pub(crate) fn container(storage: &Storage, name: &str, place: &str) -> Value {
    json!({
        "accountName": "team", "containerName": name,
        "credentials": { "accountKey": storage.key }, "relativeMountPath": place,
    })
}

/// Asks for a cluster `c` whose nodes mount.
pub(crate) async fn put_cluster(site: &Site, nodes: u32, mounts: Value) {
    let mut body = Site::cluster_body(nodes);
    body["properties"]["nodeSetup"] = json!({ "mountVolumes": mounts });
    site.put_cluster("c", &body).await;
}
