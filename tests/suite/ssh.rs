//! Machines of a pool: real ssh servers, on machines that are namespaces, and clusters of them through the API.

mod fence;
mod join;
mod pool;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use batchyard::domain::bootstrap::ServerAddress;
use batchyard::domain::machine::{Bootstrap, Disk, MachineSpec, Presence, Role, Size};
use batchyard::driver::ssh::{Settings as SshSettings, SshDriver};
use batchyard::driver::{Driver, DriverError, conformance};
use batchyard::id::{MachineUid, ResourceUid};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::database::Database;
use crate::harness::guard::Guard;
use crate::harness::{Server, Settings, Site, until, until_within};
use pool::{Host, SERVER, is_within, make_key};

/// Longest time until a machine has the program, is a node and takes work.
const START: Duration = Duration::from_secs(120);

/// Some machines, and the key to them.
struct Pool {
    guard: Arc<Guard>,
    hosts: Vec<Host>,
}

impl Pool {
    fn start(count: u8) -> Pool {
        let guard = Arc::new(Guard::new());
        let key = guard.dir().join("key");
        make_key(&key);
        let hosts = (1..=count).map(|number| Host::start(guard.dir(), number, &key)).collect();
        Pool { guard, hosts }
    }

    /// One machine that no server reaches.
    fn start_behind_router() -> Pool {
        let guard = Arc::new(Guard::new());
        let key = guard.dir().join("key");
        make_key(&key);
        let hosts = vec![Host::start_behind(guard.dir(), 1, &key)];
        Pool { guard, hosts }
    }

    fn owner() -> String {
        format!("t{}", &Uuid::now_v7().simple().to_string()[20..])
    }

    fn driver(&self, owner: &str) -> SshDriver {
        self.driver_with(owner, Duration::from_secs(900))
    }

    fn driver_with(&self, owner: &str, fence: Duration) -> SshDriver {
        let ca = "there is no server".to_owned();
        let settings = SshSettings {
            owner: owner.to_owned(),
            server: ServerAddress::Https { url: format!("https://{SERVER}:8443"), ca },
            fence,
            machines: self.hosts.iter().map(|host| host.machine.clone()).collect(),
            binary: Some(env!("CARGO_BIN_EXE_batchyard").into()),
            calls: Default::default(),
        };
        SshDriver::new(settings).expect("built")
    }

    /// A server of a new installation with this pool.
    fn server(&self) -> Server {
        self.server_with("")
    }

    /// The same with other settings of the driver.
    fn server_with(&self, more: &str) -> Server {
        Server::start_in(Arc::clone(&self.guard), "1", self.settings(8443, more))
    }

    /// One of several servers on a database, which machines reach at one address.
    fn server_of(&self, database: &Database, name: &str, port: u16) -> Server {
        let authority = self.guard.dir().join("data/keys/ca.pem");
        let more = format!("server_url = \"https://{SERVER}:8443\"\nserver_authority = {authority:?}\n");
        let settings = Settings { database: Some(database.url()), ..self.settings(port, &more) };
        Server::start_in(Arc::clone(&self.guard), name, settings)
    }

    fn settings(&self, port: u16, more: &str) -> Settings {
        let mut config = format!("[listen]\nhttps = [\"{SERVER}:{port}\"]\n[driver]\nkind = \"ssh\"\n{more}");
        for Host { machine, .. } in &self.hosts {
            let way = match &machine.login {
                Some(login) => format!("host = {:?}\nkey = {:?}\nhost_key = {:?}", login.host, login.key, login.host_key),
                None => format!("calls = true\naddress = \"{}\"", machine.address),
            };
            config.push_str(&format!(
                "[[driver.machine]]\nname = {:?}\n{way}\ncores = {}\nmemory = \"{}MiB\"\n",
                machine.name, machine.cores, machine.memory_mib
            ));
        }
        let binary = self.guard.dir().join("program");
        if !binary.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_batchyard"), &binary).expect("copied");
        }
        Settings { config, without_share: true, keeps_https: true, binary: Some(binary), ..Settings::default() }
    }

    /// Makes the server's program another one, for its next start; answers its size.
    fn change_program(&self) -> u64 {
        let program = self.guard.dir().join("program");
        let mut other = std::fs::read(&program).expect("read");
        other.extend(b"another version");
        std::fs::remove_file(&program).expect("removed");
        std::fs::write(&program, &other).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
        other.len() as u64
    }

    fn remains(&self) -> Vec<String> {
        self.hosts.iter().flat_map(Host::remains).collect()
    }
}

fn spec(cluster: ResourceUid) -> MachineSpec {
    let uid = Uuid::now_v7();
    MachineSpec {
        uid: MachineUid(uid),
        name: format!("ssh-{}", uid.simple()),
        node_id: format!("tvm-{}", uid.simple()),
        size: Size { name: "STANDARD_D1".into(), cores: 1, memory_mib: 512, gpus: 0 },
        cluster,
        admin_user: "ops".into(),
        role: Role::Node,
        bootstrap: Bootstrap { join_token: "token".into() },
    }
}

fn new_cluster() -> ResourceUid {
    ResourceUid(Uuid::now_v7())
}

async fn presence(driver: &SshDriver, spec: &MachineSpec) -> Option<Presence> {
    let listed = driver.list().await.expect("listed");
    listed.machines.into_iter().find(|seen| seen.name == spec.name).map(|seen| seen.presence)
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_keep_what_every_driver_must_keep() {
    if !is_within("ssh::machines_keep_what_every_driver_must_keep") {
        return;
    }
    let pool = Pool::start(3);
    let owner = Pool::owner();
    let (driver, cluster) = (pool.driver(&owner), new_cluster());
    let mut gpus = spec(cluster);
    gpus.size.gpus = 1;
    let mut disk = spec(cluster);
    disk.role = Role::FileServer(Disk { name: spec(cluster).name, size_gb: 1 });
    let trial = conformance::Trial {
        driver: &driver,
        successor: &pool.driver(&owner),
        spec: &|| spec(cluster),
        beyond: vec![gpus, disk],
        deadline: START,
    };
    conformance::check(&trial).await.expect("kept");
    assert_eq!(pool.remains(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_of_one_cluster_and_of_one_installation() {
    if !is_within("ssh::a_machine_is_of_one_cluster_and_of_one_installation") {
        return;
    }
    let pool = Pool::start(1);
    let (ours, theirs) = (pool.driver(&Pool::owner()), pool.driver(&Pool::owner()));
    let (first, second) = (spec(new_cluster()), spec(new_cluster()));
    let made = ours.ensure(&first).await.expect("free");
    assert_eq!(made.address.as_deref(), Some("10.77.0.11"));
    let refused = |refusal: Result<_, DriverError>, why: &str| match refusal {
        Err(error @ DriverError::Quota(_)) => assert!(error.chain().contains(why), "{}", error.chain()),
        other => panic!("not refused: {other:?}"),
    };
    refused(ours.ensure(&second).await, &format!("m1 is leased: it is {}", first.name));
    refused(theirs.ensure(&second).await, "m1 is leased by installation ");
    assert!(theirs.list().await.expect("listed").machines.is_empty(), "what is another's is not seen");
    theirs.delete(&first.name).await.expect("nothing of theirs");
    assert_eq!(presence(&ours, &first).await, Some(Presence::Present));

    // What it is taken out of use for is told, and ends when someone says so. The node that it is stays.
    ours.quarantine("m1", "a loose cable").await.expect("heard");
    assert_eq!(presence(&ours, &first).await, Some(Presence::Present));
    ours.delete(&first.name).await.expect("deleted");
    refused(theirs.ensure(&second).await, "m1 is in quarantine: a loose cable");
    assert_eq!(theirs.pool().await[0].state, "in quarantine: a loose cable");
    theirs.release("m1").await.expect("heard");
    theirs.ensure(&second).await.expect("free");
    theirs.delete(&second.name).await.expect("deleted");
    assert_eq!(ours.pool().await[0].state, "free");
    assert_eq!(pool.remains(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_not_reached_is_unknown_and_one_that_lost_power_is_absent() {
    if !is_within("ssh::a_machine_that_is_not_reached_is_unknown_and_one_that_lost_power_is_absent") {
        return;
    }
    let mut pool = Pool::start(2);
    let owner = Pool::owner();
    let driver = pool.driver(&owner);
    let node = spec(new_cluster());
    let made = driver.ensure(&node).await.expect("free");
    let at = if made.address.as_deref() == Some("10.77.0.11") { 0 } else { 1 };
    pool.hosts[at].set_network("down");
    let listing = driver.list().await.expect("listed");
    assert!(!listing.is_partial, "what it has is remembered");
    assert_eq!(presence(&driver, &node).await, Some(Presence::Unknown));
    // Nor by a server that never saw it, which cannot know that it is there.
    let successor = pool.driver(&owner);
    let listing = successor.list().await.expect("listed");
    assert!(listing.is_partial && listing.machines.is_empty(), "{listing:?}");
    assert!(matches!(successor.delete(&node.name).await, Err(DriverError::Transient(_))), "it may be there");
    assert!(matches!(driver.ensure(&node).await, Err(DriverError::Transient(_))), "no other takes its place");
    pool.hosts[at].set_network("up");
    for driver in [&driver, &successor] {
        until("it is seen again", || presence(driver, &node), |seen| *seen == Some(Presence::Present)).await;
    }
    pool.hosts[at].restart();
    for driver in [&driver, &successor] {
        until("its end is seen", || presence(driver, &node), |seen| *seen == Some(Presence::Absent)).await;
    }
    driver.delete(&node.name).await.expect("deleted");
    assert_eq!(pool.remains(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_host_key_stops_the_join() {
    if !is_within("ssh::changed_host_key_stops_the_join") {
        return;
    }
    let mut pool = Pool::start(1);
    // As if another machine answered in its place.
    pool.hosts[0].login().host_key = make_key(&pool.guard.dir().join("other"));
    let driver = pool.driver(&Pool::owner());
    for _ in 0..3 {
        match driver.ensure(&spec(new_cluster())).await {
            Err(error @ DriverError::Quota(_)) => {
                assert!(error.chain().contains("m1 is unusable: its host key"), "{}", error.chain())
            }
            other => panic!("{other:?}"),
        }
        assert!(driver.list().await.expect("listed").is_partial);
    }
    // Longer than any pause after a fault that passes.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(driver.list().await.expect("listed").is_partial);
    let log = pool.hosts[0].log();
    assert_eq!(log.matches("Connection from ").count(), 1, "it was asked again: {log}");
    for sign in ["Accepted", "Postponed", "Failed publickey"] {
        assert!(!log.contains(sign), "something was sent: {log}");
    }
    assert!(pool.hosts[0].is_untouched());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_pool_runs_nothing_else_and_forwards_nothing() {
    if !is_within("ssh::a_key_of_the_pool_runs_nothing_else_and_forwards_nothing") {
        return;
    }
    let mut pool = Pool::start(1);
    let machine = pool.hosts[0].login().clone();
    let told = std::process::Command::new(env!("CARGO_BIN_EXE_batchyard"))
        .args(["pool", "authorize"])
        .arg(machine.key.with_extension("pub"))
        .output()
        .expect("runs");
    let line = std::fs::read_to_string(pool.hosts[0].path("ssh/authorized_keys")).expect("there");
    assert_eq!(String::from_utf8_lossy(&told.stdout), line, "what operators are told is what lets the server in");
    let ssh = |more: &[&str]| {
        let known = format!("KnownHostsCommand=/bin/echo {} {}", machine.host, machine.host_key);
        let mut ssh = std::process::Command::new("ssh");
        ssh.args(["-F", "none", "-o", &known, "-o", "UserKnownHostsFile=none", "-o", "BatchMode=yes", "-i"]).arg(&machine.key);
        let done =
            ssh.args(more).arg(format!("root@{}", machine.host)).arg("touch /canary").stdin(std::process::Stdio::null()).output();
        String::from_utf8_lossy(&done.expect("ssh runs").stderr).into_owned()
    };
    let said = ssh(&[]);
    assert!(!pool.hosts[0].path("canary").exists(), "{said}");
    let said = ssh(&["-o", "ExitOnForwardFailure=yes", "-R", "10.77.0.11:7777:127.0.0.1:22"]);
    assert!(said.contains("remote port forwarding failed"), "{said}");
    assert!(!pool.hosts[0].path("canary").exists(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_may_become_root_is_enough() {
    if !is_within("ssh::an_account_that_may_become_root_is_enough") {
        return;
    }
    let mut pool = Pool::start(1);
    pool.hosts[0].login().user = "ops".into();
    let (driver, node) = (pool.driver(&Pool::owner()), spec(new_cluster()));
    driver.ensure(&node).await.expect("free");
    assert_eq!(presence(&driver, &node).await, Some(Presence::Present));
    driver.delete(&node.name).await.expect("deleted");
    assert_eq!(pool.remains(), Vec::<String>::new());
}

/// What a cluster's errors say.
fn errors(cluster: &Value) -> String {
    cluster["errors"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_are_made_of_a_pool_and_leave_nothing_on_it() {
    if !is_within("ssh::clusters_are_made_of_a_pool_and_leave_nothing_on_it") {
        return;
    }
    let pool = Pool::start(3);
    let mut server = pool.server();
    let site = Site::new(server.api()).await;
    site.put_cluster("c", &Site::cluster_body(2)).await;
    let idle = |cluster: &Value, nodes: u32| cluster["nodeStateCounts"]["idleNodeCount"] == nodes;
    until_within(START, "two idle nodes", || site.get_cluster("c"), |cluster| idle(cluster, 2)).await;

    // Both machines, as an account of no rights, by names that lead to each other.
    let command = "id -un; for host in ${AZ_BATCH_HOST_LIST//,/ }; do ssh $host 'id -un; hostname'; done";
    let over = json!({ "nodeCount": 2, "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT" });
    site.submit("both", "c", command, over.clone()).await;
    let job = site.ended_within(START, "both").await;
    let said = site.stdout("both").await;
    assert_eq!(job["executionState"], "succeeded", "{job}: {said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[1], lines[3]), (5, "batch", "batch", "batch"), "{said}");
    assert!(lines[2].starts_with("tvm-") && lines[4].starts_with("tvm-") && lines[2] != lines[4], "{said}");

    // Users log in at the machine's address.
    let logins = site.api.post(&format!("{}/listRemoteLoginInformation", site.cluster_path("c"))).await.expect(200);
    for login in logins.body["value"].as_array().expect("a list") {
        assert!(login["ipAddress"].as_str().is_some_and(|at| at.starts_with("10.77.0.1")), "{login}");
        assert_eq!(login["port"].as_f64(), Some(50_000.0), "{login}");
    }

    // Another cluster gets what is left, and is told so.
    site.put_cluster("d", &Site::cluster_body(2)).await;
    let seen = until_within(
        START,
        "one node, and why there is no other",
        || site.get_cluster("d"),
        |cluster| idle(cluster, 1) && errors(cluster).contains("NodeAllocationQuotaReached"),
    )
    .await;
    assert!(errors(&seen).contains("no machine of the pool that fits is free: m1 is leased"), "{}", errors(&seen));

    let listed = std::process::Command::new(env!("CARGO_BIN_EXE_batchyard"))
        .args(["pool", "list", "--config"])
        .arg(server.dir().join("config1.toml"))
        .output()
        .expect("runs");
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("a list");
    let owner = format!("leased by installation by{}", &server.value("BATCHYARD_TENANT")[..8]);
    let expected: Vec<Value> = ["m1", "m2", "m3"].iter().map(|name| json!({ "name": name, "state": owner })).collect();
    assert_eq!(listed, Value::Array(expected));

    // The next server goes on with nodes and jobs as they are, and with agents of its own version.
    let one = json!({ "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT" });
    let flag = "/var/tmp/go";
    site.submit("long", "d", &format!("until [ -e {flag} ]; do sleep 0.1; done; echo went on"), one).await;
    site.wait_state("long", "running").await;
    server.kill();
    let size = pool.change_program();
    server.restart();
    let renewed = || async { pool.hosts.iter().flat_map(Host::agents).filter(|other| *other == size).count() };
    until_within(START, "all agents are of that version", renewed, |count| *count == 3).await;
    let site = Site { api: server.api(), group: site.group };
    for host in &pool.hosts {
        for node in std::fs::read_dir(host.path("var/lib/batchyard-machine/nodes/nodes")).into_iter().flatten().flatten() {
            let _ = std::fs::write(node.path().join("root/var/tmp/go"), "");
        }
    }
    let job = site.ended_within(START, "long").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("long").await, "went on\n");

    // What one leaves another takes.
    site.resize("c", 0, "requeue").await;
    until_within(START, "another node", || site.get_cluster("d"), |cluster| idle(cluster, 2)).await;
    site.delete().await;
    assert_eq!(pool.remains(), Vec::<String>::new());
    assert_eq!(server.remains(), Vec::<String>::new());
    let program = |host: &Host| std::fs::read_dir(host.path("var/lib/batchyard-machine/bin")).into_iter().flatten().count();
    assert!(pool.hosts.iter().all(|host| program(host) <= 1), "one program, for the next");
}
