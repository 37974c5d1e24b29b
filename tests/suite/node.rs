//! The local driver with real nodes, in which a small program stands in for the agent: it runs what a test asks for.
//!
//! Needs the right to make namespaces. Without it these tests say so and pass, but where `BATCHYARD_TEST_PRIVILEGE` is
//! `required`, as in continuous integration, they fail.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use batchyard::domain::machine::{Bootstrap, Disk, MachineSpec, Observed, Presence, Role, Size};
use batchyard::driver::local::{LocalDriver, NodeNetwork, Privilege, Settings};
use batchyard::driver::{Driver, DriverError, conformance};
use batchyard::id::{MachineUid, ResourceUid};
use uuid::Uuid;

/// Longest time that anything here may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Stands in for the agent: reads names of scripts from a pipe in the share and runs each beside the others.
const DOUBLE: &str = r#"
box=$1/.double/$(basename "$BATCHYARD_NODE")
mkdir -p "$box"
rm -f "$box/in"
mkfifo "$box/in"
exec 3<>"$box/in"
echo run >>"$box/runs"
while read -r -u 3 id; do
  ( bash "$box/$id.sh" >"$box/$id.out" 2>&1 </dev/null 3>&-; echo $? >"$box/$id.new"; mv "$box/$id.new" "$box/$id.rc" ) &
done
"#;

/// Where the share is in a node.
const SHARE: &str = "/mnt/batch/tasks/shared/LS_root/mounts/shared";

/// An installation of its own: folders, a driver, and what is left when the test ends.
struct Yard {
    dir: PathBuf,
    owner: String,
    driver: LocalDriver,
    privilege: Privilege,
    fresh: bool,
}

/// Who runs something in a node.
#[derive(Clone, Copy)]
enum As {
    /// What the agent has.
    Agent,
    /// What a setup task has: root with the capabilities that containers have.
    Root,
    /// What a job has.
    Job,
}

impl Yard {
    /// None where this process may not make namespaces, and need not.
    fn namespaces() -> Option<Yard> {
        match Yard::new(Privilege::Namespaces) {
            Ok(yard) => Some(yard),
            Err(error) => {
                #[allow(clippy::disallowed_methods)] // of the test, not of the program
                let required = std::env::var("BATCHYARD_TEST_PRIVILEGE").is_ok_and(|v| v == "required");
                assert!(!required, "nodes in namespaces are demanded here: {}", error.chain());
                eprintln!("skipped: {}", error.chain());
                None
            }
        }
    }

    fn new(privilege: Privilege) -> Result<Yard, DriverError> {
        Yard::below(&std::env::temp_dir(), privilege)
    }

    fn below(parent: &Path, privilege: Privilege) -> Result<Yard, DriverError> {
        let id = Uuid::now_v7().simple().to_string();
        let dir = parent.join(format!("batchyard-node-{id}"));
        std::fs::create_dir_all(dir.join("data")).expect("made");
        let owner = format!("t{}", &id[20..]);
        let driver = LocalDriver::new(Yard::settings(&dir, &owner, privilege))?;
        Ok(Yard { dir, owner, driver, privilege, fresh: true })
    }

    fn settings(dir: &Path, owner: &str, privilege: Privilege) -> Settings {
        let share = match privilege {
            Privilege::ProcessGroup => dir.join("share").display().to_string(),
            _ => SHARE.to_owned(),
        };
        Settings {
            dir: dir.join("data/local"),
            sockets: dir.join("data/sockets"),
            share: Some(dir.join("share")),
            storage: Default::default(),
            mount_commands: false,
            owner: owner.to_owned(),
            privilege,
            hidden: vec![dir.join("data")],
            binary: Some(PathBuf::from(env!("CARGO_BIN_EXE_batchyard"))),
            login: None,
            engine: None,
            gpus: Default::default(),
            machine_files: Vec::new(),
            network: NodeNetwork::OfCluster,
            server: None,
            fence: None,
            registries: None,
            program: Some(["/bin/bash", "-c", DOUBLE, "double", &share].map(str::to_owned).to_vec()),
        }
    }

    /// A second server of the same installation.
    fn second(&self) -> Yard {
        let driver = LocalDriver::new(Yard::settings(&self.dir, &self.owner, self.privilege)).expect("built");
        Yard { dir: self.dir.clone(), owner: self.owner.clone(), driver, privilege: self.privilege, fresh: false }
    }

    async fn ensure(&self, spec: &MachineSpec) -> Observed {
        self.driver.ensure(spec).await.unwrap_or_else(|e| panic!("{}: {}\n{}", spec.name, e.chain(), self.log(&spec.name)))
    }

    async fn delete(&self, spec: &MachineSpec) {
        self.driver.delete(&spec.name).await.unwrap_or_else(|e| panic!("{}: {}", spec.name, e.chain()));
    }

    async fn find(&self, spec: &MachineSpec) -> Option<Presence> {
        let listed = self.driver.list().await.unwrap_or_else(|e| panic!("{}", e.chain())).machines;
        listed.into_iter().find(|o| o.name == spec.name).map(|o| o.presence)
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.node(name).join("log")).unwrap_or_default()
    }

    fn node(&self, name: &str) -> PathBuf {
        self.dir.join("data/local/nodes").join(name)
    }

    /// The first process of a node, as the host sees it.
    fn first_process(&self, spec: &MachineSpec) -> i32 {
        let text = std::fs::read(self.node(&spec.name).join("running.json")).expect("it wrote itself down");
        let value: serde_json::Value = serde_json::from_slice(&text).expect("a document");
        i32::try_from(value["identity"]["pid"].as_i64().expect("a number")).expect("a number")
    }

    /// Runs a script in a node; its exit code and what it printed.
    async fn run(&self, spec: &MachineSpec, who: As, script: &str) -> (i32, String) {
        let id = Uuid::now_v7().simple().to_string();
        let place = self.dir.join("share/.double").join(&spec.name);
        let join = "for g in /run/batchyard/cgroup/*/; do echo 0 > $g/cgroup.procs || exit 99; done\n";
        let quoted = script.replace('\'', r"'\''");
        let text = match who {
            As::Agent => script.to_owned(),
            As::Root => format!("{join}exec setpriv --bounding-set=-sys_admin bash -c '{quoted}'"),
            As::Job => format!(
                "{join}exec setpriv --reuid=61000 --regid=61000 --clear-groups --no-new-privs --bounding-set=-all env HOME=/home/batch bash -c '{quoted}'"
            ),
        };
        wait("the program in the node", || place.join("in").exists()).await;
        std::fs::write(place.join(format!("{id}.sh")), text).expect("written");
        std::fs::OpenOptions::new()
            .write(true)
            .open(place.join("in"))
            .and_then(|mut pipe| {
                use std::io::Write;
                pipe.write_all(format!("{id}\n").as_bytes())
            })
            .expect("heard");
        let result = place.join(format!("{id}.rc"));
        wait(script, || result.exists()).await;
        let code = std::fs::read_to_string(result).expect("there").trim().parse().expect("a number");
        (code, std::fs::read_to_string(place.join(format!("{id}.out"))).unwrap_or_default())
    }

    /// As [`run`](Self::run), for scripts that must do well.
    async fn output(&self, spec: &MachineSpec, who: As, script: &str) -> String {
        let (code, output) = self.run(spec, who, script).await;
        assert_eq!(code, 0, "{script}: {output}");
        output.trim().to_owned()
    }

    /// What of this installation's nodes is left on the host.
    fn remains(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["nodes", "clusters"] {
            for entry in std::fs::read_dir(self.dir.join("data/local").join(folder)).expect("there").flatten() {
                found.push(format!("folder {}", entry.path().display()));
            }
        }
        let needle = self.dir.display().to_string();
        for line in std::fs::read_to_string("/proc/self/mountinfo").expect("readable").lines() {
            if line.contains(&needle) {
                found.push(format!("mount {line}"));
            }
        }
        for (pid, command) in processes_of(&needle) {
            found.push(format!("process {pid} {command}"));
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let group = hierarchy.path().join(format!("batchyard-{}", self.owner));
            if group.exists() {
                found.push(format!("control group {}", group.display()));
            }
        }
        if Path::new("/sys/fs/cgroup").join(format!("batchyard-{}", self.owner)).exists() {
            found.push("control group".to_owned());
        }
        found
    }

    /// The end of a test: nothing of it may be left.
    fn close(self) {
        assert_eq!(self.remains(), Vec::<String>::new());
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        if !self.fresh {
            return;
        }
        // Only of use where a test failed: what it left goes with it.
        for name in std::fs::read_dir(self.dir.join("data/local/nodes")).into_iter().flatten().flatten() {
            if std::thread::panicking() {
                eprintln!("{}", self.log(&name.file_name().to_string_lossy()));
            }
        }
        let (dir, owner) = (self.dir.clone(), self.owner.clone());
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            if let Ok(driver) = LocalDriver::new(Yard::settings(&dir, &owner, Privilege::Auto)) {
                runtime.block_on(async {
                    for node in driver.list().await.unwrap_or_default().machines {
                        let _ = driver.delete(&node.name).await;
                    }
                });
            }
            let _ = std::fs::remove_dir_all(&dir);
        })
        .join();
    }
}

/// Processes that know a folder of this installation, by arguments or environment, but for this one.
fn processes_of(needle: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("there").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let read = |file: &str| String::from_utf8_lossy(&std::fs::read(entry.path().join(file)).unwrap_or_default()).into_owned();
        if pid != std::process::id() && (read("environ").contains(needle) || read("cmdline").contains(needle)) {
            found.push((pid, read("cmdline").replace('\0', " ")));
        }
    }
    found
}

async fn wait(what: &str, ready: impl Fn() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !ready() {
        assert!(Instant::now() < until, "{what} takes longer than {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

fn cluster() -> ResourceUid {
    ResourceUid(Uuid::now_v7())
}

/// A machine with some limits.
fn machine(cluster: ResourceUid) -> MachineSpec {
    let uid = Uuid::now_v7();
    MachineSpec {
        uid: MachineUid(uid),
        name: format!("by-{}", uid.simple()),
        node_id: format!("tvm-{}", &uid.simple().to_string()[16..]),
        size: Size { name: "TEST".into(), cores: 1, memory_mib: 256, gpus: 0 },
        cluster,
        admin_user: "alice".into(),
        role: Default::default(),
        bootstrap: Bootstrap { join_token: "canary-join-token".into() },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_what_every_driver_must_keep() {
    let Some(yard) = Yard::namespaces() else { return };
    let stranger = machine(cluster());
    yard.ensure(&stranger).await;
    conforms(&yard, stranger.cluster).await;
    yard.delete(&stranger).await;
    yard.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn process_groups_keep_what_every_driver_must_keep() {
    let yard = Yard::new(Privilege::ProcessGroup).expect("needs no right");
    assert_eq!(yard.driver.capabilities().isolation, "process group");
    conforms(&yard, cluster()).await;
    yard.close();
}

async fn conforms(yard: &Yard, cluster: ResourceUid) {
    let mut gpus = machine(cluster);
    gpus.size.gpus = 10_000;
    let mut disk = machine(cluster);
    disk.role = Role::FileServer(Disk { name: machine(cluster).name, size_gb: 1 << 20 });
    let trial = conformance::Trial {
        driver: &yard.driver,
        successor: &yard.second().driver,
        spec: &|| machine(cluster),
        beyond: vec![gpus, disk],
        deadline: DEADLINE,
    };
    conformance::check(&trial).await.expect("kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_group_ends_with_its_first_process() {
    let yard = Yard::new(Privilege::ProcessGroup).expect("needs no right");
    let spec = machine(cluster());
    let made = yard.ensure(&spec).await;
    assert!(made.address.as_deref().is_some_and(|a| a.starts_with("127.96.")), "{made:?}");
    let mark = yard.node(&spec.name).display().to_string();
    yard.output(&spec, As::Agent, "setsid sleep 1000 >/dev/null 2>&1 & disown").await;
    wait("a process in a session of its own", || processes_of(&mark).iter().any(|(_, c)| c.starts_with("sleep"))).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(yard.first_process(&spec)), nix::sys::signal::SIGKILL).expect("killed");
    let until = Instant::now() + DEADLINE;
    while yard.find(&spec).await != Some(Presence::Absent) {
        assert!(Instant::now() < until, "the end is not seen");
    }
    assert!(processes_of(&mark).is_empty(), "absent is a proof: nothing runs");
    yard.delete(&spec).await;
    yard.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_first_process_is_seen_at_once_and_is_the_end_of_the_node() {
    let Some(yard) = Yard::namespaces() else { return };
    let spec = machine(cluster());
    yard.ensure(&spec).await;
    yard.output(&spec, As::Job, "setsid sleep 1000 >/dev/null 2>&1 & disown").await;
    let mark = yard.node(&spec.name).display().to_string();
    wait("a process in a session of its own", || processes_of(&mark).iter().any(|(_, c)| c.starts_with("sleep"))).await;
    let mut changes = yard.driver.changes().expect("told");
    changes.borrow_and_update();
    let began = Instant::now();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(yard.first_process(&spec)), nix::sys::signal::SIGKILL).expect("killed");
    tokio::time::timeout(DEADLINE, changes.changed()).await.expect("in time").expect("told");
    eprintln!("an end was told after {:?}", began.elapsed());
    assert_eq!(yard.find(&spec).await, Some(Presence::Absent));
    assert!(processes_of(&mark).is_empty(), "absent is a proof: nothing runs");
    yard.delete(&spec).await;
    yard.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_process_starts_the_agent_again() {
    let Some(yard) = Yard::namespaces() else { return };
    let spec = machine(cluster());
    yard.ensure(&spec).await;
    let runs = yard.dir.join("share/.double").join(&spec.name).join("runs");
    let count = || std::fs::read_to_string(&runs).unwrap_or_default().lines().count();
    let (before, _) = yard.run(&spec, As::Agent, "exit 3").await;
    assert_eq!(before, 3);
    yard.output(&spec, As::Agent, "setsid bash -c 'sleep 0.1; kill -9 $(pgrep -o -P 1 bash)' >/dev/null 2>&1 & disown").await;
    wait("a new run of the agent", || count() == 2).await;
    let after = yard.output(&spec, As::Agent, "ps -eo pid,ppid,args").await;
    assert!(!after.contains("defunct"), "what ends is reaped: {after}");
    yard.delete(&spec).await;
    yard.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_made_nodes_are_made_anew_and_unmade() {
    let Some(yard) = Yard::namespaces() else { return };
    let (cluster, spec) = (cluster(), machine(cluster()));
    // A folder without anything; a folder with a stale record; a node that died.
    for content in
        [None, Some(r#"{"identity":{"pid":1,"started":1,"boot":"00000000-0000-0000-0000-000000000000"},"fabric_fd":3}"#)]
    {
        let spec = machine(cluster);
        std::fs::create_dir_all(yard.node(&spec.name).join("layers/usr/work/work")).expect("made");
        if let Some(content) = content {
            std::fs::write(yard.node(&spec.name).join("running.json"), content).expect("written");
        }
        std::fs::write(yard.node(&spec.name).join("spec.json"), "{ half").expect("written");
        assert_eq!(yard.find(&spec).await, Some(Presence::Absent));
        yard.ensure(&spec).await;
        assert_eq!(yard.find(&spec).await, Some(Presence::Present));
        yard.delete(&spec).await;
        std::fs::create_dir_all(yard.node(&spec.name)).expect("made");
        yard.delete(&spec).await;
        assert_eq!(yard.find(&spec).await, None);
    }
    yard.ensure(&spec).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(yard.first_process(&spec)), nix::sys::signal::SIGKILL).expect("killed");
    yard.ensure(&spec).await;
    yard.delete(&spec).await;
    yard.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_be_made_says_why_and_leaves_nothing() {
    let Some(yard) = Yard::namespaces() else { return };
    let mut settings = Yard::settings(&yard.dir, &yard.owner, Privilege::Namespaces);
    settings.program = Some(vec!["/no/such/program".into()]);
    let driver = LocalDriver::new(settings).expect("built");
    let error = driver.ensure(&machine(cluster())).await.expect_err("nothing to run");
    assert!(matches!(error, DriverError::Transient(_)) && error.chain().contains("/no/such/program"), "{}", error.chain());
    let hostile = MachineSpec { name: "../../etc".into(), ..machine(cluster()) };
    assert!(matches!(yard.driver.ensure(&hostile).await, Err(DriverError::Permanent(_))));
    let hostile = MachineSpec { node_id: "a\n1.2.3.4 b".into(), ..machine(cluster()) };
    assert!(matches!(yard.driver.ensure(&hostile).await, Err(DriverError::Permanent(_))));
    yard.driver.delete("../../etc").await.expect("nothing of that name");
    yard.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_nodes_are_there_soon_and_gone_soon() {
    let Some(yard) = Yard::namespaces() else { return };
    let cluster = cluster();
    let specs: Vec<_> = (0..20).map(|_| machine(cluster)).collect();
    let began = Instant::now();
    let made = futures_util::future::join_all(specs.iter().map(|spec| yard.ensure(spec))).await;
    let up = began.elapsed();
    let addresses: HashSet<_> = made.iter().map(|o| o.address.clone().expect("has one")).collect();
    assert_eq!(addresses.len(), 20, "each has its own");
    let listing = Instant::now();
    assert_eq!(yard.driver.list().await.expect("listed").machines.len(), 20);
    let listed = listing.elapsed();
    let began = Instant::now();
    futures_util::future::join_all(specs.iter().map(|spec| yard.delete(spec))).await;
    eprintln!("20 nodes: up in {up:?}, listed in {listed:?}, down in {:?}", began.elapsed());
    assert!(up < Duration::from_secs(5), "up in {up:?}");
    yard.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_goes_on_with_what_one_made() {
    let Some(yard) = Yard::namespaces() else { return };
    let cluster = cluster();
    let (first, second, third) = (machine(cluster), machine(cluster), machine(cluster));
    let address = yard.ensure(&first).await.address.expect("has one");
    let other = yard.second();
    assert_eq!(other.find(&first).await, Some(Presence::Present));
    assert_eq!(other.ensure(&first).await.address.as_ref(), Some(&address), "asked again elsewhere");
    // Both at once make the same machine, and another one in the same network.
    let (a, b, _) = tokio::join!(yard.ensure(&second), other.ensure(&second), other.ensure(&third));
    assert_eq!(a.address, b.address);
    assert_ne!(a.address.as_ref(), Some(&address));
    reach(&yard, &third, &address, &first).await;
    other.delete(&first).await;
    assert_eq!(yard.find(&first).await, None);
    yard.delete(&second).await;
    other.delete(&third).await;
    drop(other);
    yard.close();
}

/// Asserts that one node hears another.
async fn reach(yard: &Yard, from: &MachineSpec, address: &str, to: &MachineSpec) {
    let listen = "import socket; s=socket.create_server((\"\",2222)); c,_=s.accept(); c.send(b\"hello\")";
    let listen = format!("timeout 20 python3 -c '{listen}'");
    let heard = yard.run(to, As::Job, &listen);
    let say = format!(
        "for i in $(seq 200); do {{ timeout 5 cat < /dev/tcp/{address}/2222; }} 2>/dev/null && exit 0; sleep 0.05; done; exit 1"
    );
    let (_, answer) = tokio::join!(heard, yard.output(from, As::Job, &say));
    assert_eq!(answer, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_are_alone_with_themselves() {
    let Some(yard) = Yard::namespaces() else { return };
    let (ours, theirs) = (cluster(), cluster());
    let (a, b, stranger) = (machine(ours), machine(ours), machine(theirs));
    let (seen_a, seen_b, seen_stranger) = tokio::join!(yard.ensure(&a), yard.ensure(&b), yard.ensure(&stranger));
    let address = |o: &Observed| o.address.clone().expect("has one");
    reach(&yard, &a, &address(&seen_b), &b).await;
    reach(&yard, &b, &a.node_id, &a).await;
    let _ = (seen_a, &stranger);

    // Listeners on the host: on all addresses, and on the loopback alone.
    let open = std::net::TcpListener::bind("0.0.0.0:0").expect("bound");
    let local = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let hosts = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut targets: Vec<(String, u16)> = vec![
        ("127.0.0.1".into(), local.local_addr().expect("has one").port()),
        (address(&seen_stranger), 2222),
        ("169.254.169.254".into(), 80),
        ("168.63.129.16".into(), 80),
        ("1.1.1.1".into(), 443),
    ];
    let own =
        hosts.lines().filter_map(|l| l.trim().strip_prefix("|-- ")).filter(|l| !l.starts_with("127.") && !l.ends_with(".0"));
    targets.extend(own.map(|l| (l.to_owned(), open.local_addr().expect("has one").port())));
    // The one that would answer, were there a way.
    let listen = "import socket; s=socket.create_server((\"\",2222)); s.settimeout(15); s.accept()";
    let listen = format!("timeout 20 python3 -c '{listen}' 2>/dev/null");
    let listening = yard.run(&stranger, As::Job, &listen);
    let trying = async {
        let mut answers = Vec::new();
        for (target, port) in targets {
            let (code, output) = yard.run(&a, As::Root, &format!("timeout 3 bash -c 'exec 3<>/dev/tcp/{target}/{port}'")).await;
            answers.push((target, port, code, output));
        }
        answers
    };
    let answers = tokio::select! {
        answers = trying => answers,
        broken = listening => panic!("someone was heard: {broken:?}"),
    };
    for (target, port, code, output) in answers {
        assert_ne!(code, 0, "{target}:{port} answered: {output}");
    }
    for spec in [&a, &b, &stranger] {
        yard.delete(spec).await;
    }
    yard.close();
}

/// Sends frames to everyone on the wire, under an address of its own making, until it is ended.
const FORGE: &str = r#"
import socket, struct, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); wire.bind(("eth0", 0))
data = b"forged-MARK"
ends = socket.inet_aton("FROM") + socket.inet_aton("TO")
head = struct.pack("!BBHHHBBH", 69, 0, 20 + 8 + len(data), 1, 0, 64, 17, 0) + ends
# Bridges may look at what they pass on: only a right sum comes through.
total = sum(struct.unpack("!10H", head)); total = (total & 0xffff) + (total >> 16); total = (total & 0xffff) + (total >> 16)
head = head[:10] + struct.pack("!H", ~total & 0xffff) + head[12:]
udp = struct.pack("!HHHH", 7, 7, 8 + len(data), 0)
print("sending", flush=True)
while True:
    for target in (b"\xff" * 6, b"\x02\x00\x00\x00\x00\x09"):
        wire.send(target + b"\x02\x00\x00\x00\x00\x01" + b"\x08\x00" + head + udp + data)
    time.sleep(0.02)
"#;

/// Tells whether such a frame came within some seconds.
const SNIFF: &str = r#"
import socket, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); wire.bind(("eth0", 0)); wire.settimeout(0.1)
end = time.monotonic() + 3
while time.monotonic() < end:
    try:
        if b"forged-MARK" in wire.recv(4096): print("heard"); break
    except TimeoutError: pass
else: print("silence")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn forged_packets_stay_in_their_cluster() {
    let Some(yard) = Yard::namespaces() else { return };
    let (ours, theirs) = (cluster(), cluster());
    let (a, b, stranger) = (machine(ours), machine(ours), machine(theirs));
    let (_, seen_b, seen_stranger) = tokio::join!(yard.ensure(&a), yard.ensure(&b), yard.ensure(&stranger));
    let address = |o: &Observed| o.address.clone().expect("has one");
    let mark = Uuid::now_v7().simple().to_string();
    let script =
        |text: &str| text.replace("MARK", &mark).replace("FROM", &address(&seen_b)).replace("TO", &address(&seen_stranger));
    let python = |text: &str| format!("timeout 20 python3 -c '{}'", script(text));
    let forge = python(FORGE);
    let sending = yard.run(&a, As::Root, &forge);
    let listening = async {
        let sniff = python(SNIFF);
        let near = yard.output(&b, As::Root, &sniff).await;
        let far = yard.output(&stranger, As::Root, &sniff).await;
        (near, far)
    };
    let (near, far) = tokio::select! {
        heard = listening => heard,
        ended = sending => panic!("root of a node may send what it likes to its own: {ended:?}"),
    };
    assert_eq!(near, "heard", "its own cluster is one wire");
    assert_eq!(far, "silence", "and no other is on it");
    for spec in [&a, &b, &stranger] {
        yard.delete(spec).await;
    }
    yard.close();
}

/// Files that must not be seen, for as long as a test runs.
struct Canaries(Vec<PathBuf>);

impl Drop for Canaries {
    fn drop(&mut self) {
        for place in &self.0 {
            let _ = std::fs::remove_file(place);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_canaries_are_invisible() {
    let Some(yard) = Yard::namespaces() else { return };
    let canary = format!("canary-{}", Uuid::now_v7().simple());
    let own = [yard.dir.join("data"), yard.dir.join("data/local")];
    let host = ["/root", "/home", "/run", "/var/lib", "/tmp", "/srv", "/mnt"].map(PathBuf::from);
    let places = Canaries(own.into_iter().chain(host).map(|folder| folder.join(&canary)).collect());
    for place in &places.0 {
        std::fs::write(place, "secret").expect("written");
    }
    let outside = std::os::unix::net::UnixListener::bind(yard.dir.join("data/outside.sock")).expect("bound");
    use std::os::linux::net::SocketAddrExt;
    let abstract_name = std::os::unix::net::SocketAddr::from_abstract_name(canary.as_bytes()).expect("a name");
    let abstract_socket = std::os::unix::net::UnixListener::bind_addr(&abstract_name).expect("bound");
    let spec = machine(cluster());
    yard.ensure(&spec).await;

    let mut tries: Vec<String> = places.0.iter().map(|p| format!("cat {}", p.display())).collect();
    tries.extend([
        format!("find / -xdev -name '{canary}' | grep ."),
        format!("find / -name '{canary}' 2>/dev/null | grep ."),
        format!("ls {}", yard.dir.join("data").display()),
        format!("cat /proc/1/root{}", places.0[0].display()),
        format!("cat /proc/1/cwd/{canary}"),
        "ls /proc/1/fd/ && cat /proc/1/fd/*".into(),
        "ls /var/run/postgresql/.s.PGSQL.5432 /run/docker.sock /var/run/docker.sock /run/postgresql".into(),
        format!(
            "python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('{}')\"",
            yard.dir.join("data/outside.sock").display()
        ),
        format!("python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('\\0{canary}')\""),
        "grep -v '^root:[*]' /etc/shadow".into(),
        "ls /etc/ssh /etc/ssl/private /etc/sudoers /etc/postgresql".into(),
    ]);
    for who in [As::Root, As::Job] {
        for attempt in &tries {
            let (code, output) = yard.run(&spec, who, attempt).await;
            assert!(code != 0 && !output.contains("secret"), "{attempt}: {code} {output}");
        }
    }
    // What is the agent's is not the job's.
    for private in ["/run/batchyard", "/run/batchyard/bootstrap.json", "/var/lib/batchyard", "/root"] {
        let (code, output) = yard.run(&spec, As::Job, &format!("ls {private} 2>&1; cat {private}")).await;
        assert!(code != 0 && !output.contains("canary"), "{private}: {output}");
    }
    let token = yard.output(&spec, As::Agent, "cat /run/batchyard/bootstrap.json").await;
    assert!(token.contains("canary-join-token"), "the agent has it: {token}");
    let on_disk = std::process::Command::new("grep")
        .args(["-rl", "--exclude-dir=.double", "canary-join-token"])
        .arg(yard.dir.join("data"))
        .output()
        .expect("ran");
    assert!(on_disk.stdout.is_empty(), "and no file of the host: {}", String::from_utf8_lossy(&on_disk.stdout));
    drop((outside, abstract_socket, places));
    yard.delete(&spec).await;
    yard.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_below_a_host_folder_that_nodes_see_is_hidden() {
    let Some(other) = Yard::namespaces() else { return };
    let yard = Yard::below(Path::new("/opt"), Privilege::Namespaces).expect("built");
    let spec = machine(cluster());
    yard.ensure(&spec).await;
    let folder = yard.dir.join("data");
    std::fs::write(folder.join("canary"), "secret").expect("written");
    for who in [As::Root, As::Job] {
        let (code, output) = yard.run(&spec, who, &format!("ls -A {0} | grep . || cat {0}/canary", folder.display())).await;
        assert!(code != 0 && !output.contains("secret"), "{output}");
        let (code, _) = yard.run(&spec, who, &format!("umount {}", folder.display())).await;
        assert_ne!(code, 0);
    }
    yard.output(&spec, As::Root, "touch /opt/written").await;
    yard.delete(&spec).await;
    assert!(!Path::new("/opt/written").exists());
    yard.close();
    other.close();
}

/// A mount of a test.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_is_layers_itself_holds_nodes() {
    let Some(other) = Yard::namespaces() else { return };
    let place = other.dir.join("layers");
    let merged = place.join("merged");
    for folder in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir_all(place.join(folder)).expect("made");
    }
    let options = format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", place.display());
    let options = std::ffi::CString::new(options).expect("plain");
    let flags = rustix::mount::MountFlags::empty();
    if let Err(error) = rustix::mount::mount("overlay", &merged, "overlay", flags, Some(options.as_c_str())) {
        eprintln!(
            "skipped: temporary files are on a file system that holds no layers, so that all tests here are this one: {error}"
        );
        return other.close();
    }
    let mounted = Mounted(merged.clone());
    let yard = Yard::below(&merged, Privilege::Namespaces).expect("built");
    let spec = machine(cluster());
    yard.ensure(&spec).await;
    assert_eq!(
        yard.output(&spec, As::Root, "touch /usr/bin/x /etc/x /opt/x && ls /etc/passwd && id -un").await,
        "/etc/passwd\nroot"
    );
    yard.delete(&spec).await;
    let nodes = std::fs::read_dir(yard.dir.join("data/local/nodes")).expect("there").count();
    assert_eq!(nodes, 0);
    drop(yard);
    drop(mounted);
    other.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_still_start_is_unknown() {
    let yard = Yard::new(Privilege::ProcessGroup).expect("needs no right");
    let spec = machine(cluster());
    std::fs::create_dir_all(yard.node(&spec.name)).expect("made");
    let lock = std::fs::File::create(yard.node(&spec.name).join("alive")).expect("made");
    lock.lock().expect("free");
    assert_eq!(yard.find(&spec).await, Some(Presence::Unknown), "someone holds its life");
    let held = std::fs::File::open(yard.node(&spec.name)).expect("there");
    drop(lock);
    held.lock().expect("free");
    assert_eq!(yard.find(&spec).await, Some(Presence::Unknown), "someone makes or unmakes it");
    drop(held);
    assert_eq!(yard.find(&spec).await, Some(Presence::Absent));
    yard.delete(&spec).await;
    yard.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_nodes_are_invisible() {
    let Some(yard) = Yard::namespaces() else { return };
    let cluster = cluster();
    let (a, b) = (machine(cluster), machine(cluster));
    tokio::join!(yard.ensure(&a), yard.ensure(&b));
    let mark = format!("{}", 1_000_000 + std::process::id());
    yard.output(&b, As::Job, &format!("SECRET=canary setsid sleep {mark} >/dev/null 2>&1 & disown")).await;
    for who in [As::Root, As::Job] {
        let seen = yard.output(&a, who, "cat /proc/*/cmdline | tr '\\0' ' '; true").await;
        assert!(!seen.contains(&mark) && !seen.contains("batchyard serve"), "{seen}");
        let ids = yard.output(&a, who, "ls -d /proc/[0-9]* | wc -l").await;
        assert!(ids.parse::<u32>().expect("a number") < 20, "{ids}");
    }
    let own = yard.output(&b, As::Job, "cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '").await;
    assert!(own.contains(&mark) && !own.contains("double"), "an account sees its own alone: {own}");
    // The environment of the agent is the agent's.
    let (code, output) = yard.run(&b, As::Job, "cat /proc/1/environ").await;
    assert!(code != 0 || output.is_empty(), "{output}");
    tokio::join!(yard.delete(&a), yard.delete(&b));
    yard.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_the_limits_of_their_size() {
    let Some(yard) = Yard::namespaces() else { return };
    let mut spec = machine(cluster());
    spec.size.memory_mib = 1024;
    yard.ensure(&spec).await;
    let (code, output) = yard
        .run(&spec, As::Job, "python3 -c 'x = bytearray(1200 << 20); x[::4096] = b\"x\" * len(x[::4096]); print(\"got it\")'")
        .await;
    assert!(code == 137 && !output.contains("got it"), "more memory than the node has: {code} {output}");
    let bomb = "f() { while :; do (sleep 5 &) ; (f &) ; done; }; timeout -s KILL 3 bash -c '$(declare -f f); f' 2>/dev/null; ls /proc | grep -c '^[0-9]'";
    let bomb = bomb.replace("'$(declare -f f); f'", "\"$(declare -f f); f\"");
    let began = Instant::now();
    let (_, alone) = tokio::join!(yard.run(&spec, As::Job, &bomb), async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let asked = Instant::now();
        let answer = yard.output(&spec, As::Agent, "ls /proc | grep -c '^[0-9]'").await;
        (answer, asked.elapsed())
    });
    eprintln!("a fork bomb had {} processes, and the agent answered in {:?}; {:?} in all", alone.0, alone.1, began.elapsed());
    assert!(alone.0.parse::<u32>().expect("a number") < 3_200, "bounded: {}", alone.0);
    assert!(alone.1 < Duration::from_secs(5), "the agent is not starved: {:?}", alone.1);
    assert_eq!(yard.find(&spec).await, Some(Presence::Present));
    assert_eq!(yard.output(&spec, As::Job, "ulimit -c").await, "0");
    yard.delete(&spec).await;
    yard.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn escape_battery() {
    let Some(yard) = Yard::namespaces() else { return };
    let spec = machine(cluster());
    yard.ensure(&spec).await;
    let tries = [
        "mount -t tmpfs x /mnt",
        "mount --bind / /mnt",
        "mount -o remount,rw /proc/sys",
        "umount /proc/sys",
        "umount /proc/kcore",
        "mkdir -p /tmp/cg && mount -t cgroup -o memory x /tmp/cg",
        "mkdir -p /tmp/cg && mount -t cgroup2 x /tmp/cg",
        "unshare -m true",
        "unshare -U -r true && unshare -Ur mount -t tmpfs x /mnt",
        "unshare -UrmC bash -c 'mount -t cgroup -o memory x /mnt && ls /mnt/release_agent'",
        "nsenter -t 1 -m true",
        "nsenter -t 1 -n true",
        "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern",
        "cat /proc/sys/kernel/modprobe > /proc/sys/kernel/modprobe",
        "echo h > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/vm/drop_caches",
        "head -c1 /proc/kcore | grep -q .",
        "cat /proc/keys | grep -q .",
        "cat /proc/timer_list | grep -q .",
        "ls /sys/kernel/debug /sys/kernel/security | grep -q .",
        "ls /sys/fs/cgroup/memory | grep -q .",
        "echo 0 > /sys/class/block/*/uevent",
        "mknod /tmp/disk b 254 0 && head -c1 /tmp/disk | grep -q .",
        "mknod /dev/disk b 254 0 && head -c1 /dev/disk",
        "mknod /tmp/mem c 1 1 && head -c1 /tmp/mem",
        "mknod /usr/kmsg c 1 11 && head -c1 /usr/kmsg",
        "mknod /dev/shm/mem c 1 1 && head -c1 /dev/shm/mem",
        "head -c1 /dev/mem || head -c1 /dev/kmsg || head -c1 /dev/vda || head -c1 /dev/sda",
        "insmod /tmp/x.ko || modprobe dummy",
        "ip link add x type dummy",
        "ip addr add 10.96.0.200/24 dev eth0",
        "ip link set eth0 address 02:00:00:00:00:01",
        "hostname changed",
        "date -s \"$(date)\"",
        "chroot /proc/1/root true && ls /proc/1/root/ | grep -q data",
        "readlink /proc/1/fd/0 /proc/1/fd/3 | grep -q .",
        "python3 -c 'import os; os.setpriority(os.PRIO_PROCESS, 0, -5)'",
        "ulimit -c unlimited",
        "find /run/batchyard/cgroup -name release_agent | grep -q .",
        "cat /run/batchyard/sockets/x; touch /run/batchyard/sockets/x",
        "touch /run/cluster/hosts",
        "echo x >> /run/batchyard/batchyard",
        "strace -p 1 -o /dev/null",
    ];
    let mut open = Vec::new();
    for who in [As::Root, As::Job] {
        for attempt in tries {
            let (code, output) = yard.run(&spec, who, &format!("timeout 10 bash -c '{}'", attempt.replace('\'', r"'\''"))).await;
            if code == 0 {
                open.push(format!("{attempt}: {output}"));
            }
        }
    }
    assert!(open.is_empty(), "{open:#?}");
    let held = yard.output(&spec, As::Root, "grep -E 'Cap(Eff|Bnd)' /proc/self/status").await;
    assert!(held.lines().all(|line| line.ends_with("a80425fb")), "the default of container runtimes: {held}");
    let agent = yard.output(&spec, As::Agent, "grep -E 'Cap(Eff|Bnd)' /proc/self/status").await;
    assert!(agent.lines().all(|line| line.ends_with("a82425fb")), "and the right to mount: {agent}");
    yard.delete(&spec).await;
    yard.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_a_machine_that_programs_run_on() {
    let Some(yard) = Yard::namespaces() else { return };
    let spec = machine(cluster());
    let made = yard.ensure(&spec).await;
    assert_eq!(
        yard.output(&spec, As::Job, "hostname; hostname -i; id -un; eval echo ~batch").await.lines().collect::<Vec<_>>(),
        [spec.node_id.as_str(), made.address.as_deref().expect("has one"), "batch", "/home/batch"]
    );
    assert_eq!(yard.output(&spec, As::Root, "id -un; id -un 1000; cd /root && pwd").await, "root\nalice\n/root");
    let python = "python3 -c 'import ssl, sqlite3, multiprocessing as m; p=m.Pool(2); print(sum(p.map(abs, [-1,-2])))'";
    assert_eq!(yard.output(&spec, As::Job, python).await, "3", "shared memory, semaphores, libraries");
    // The share is the host's; all else is the node's own.
    yard.output(&spec, As::Job, &format!("echo result > {SHARE}/result && echo x > /tmp/x && echo x > ~/x")).await;
    assert_eq!(std::fs::read_to_string(yard.dir.join("share/result")).expect("there"), "result\n");
    assert_eq!(yard.dir.join("share/result").metadata().expect("there").uid(), 61_000);
    let (code, _) = yard.run(&spec, As::Job, "echo x > /usr/bin/x").await;
    assert_ne!(code, 0, "jobs change no programs");
    yard.output(
        &spec,
        As::Root,
        "echo '#!/bin/sh' > /usr/bin/of-the-node; chmod +x /usr/bin/of-the-node; rm /usr/bin/yes; echo x >> /etc/profile",
    )
    .await;
    yard.output(&spec, As::Job, "of-the-node").await;
    assert!(!Path::new("/usr/bin/of-the-node").exists() && Path::new("/usr/bin/yes").exists(), "the host keeps its programs");
    let (code, output) =
        yard.run(&spec, As::Job, &format!("cp /bin/true {SHARE}/suid; chmod 4755 {SHARE}/suid; mount | grep '{SHARE}'")).await;
    assert!(code == 0 && output.contains("nosuid") && output.contains("nodev"), "{output}");
    yard.delete(&spec).await;
    yard.close();
}
