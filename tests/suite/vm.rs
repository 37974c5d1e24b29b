//! Virtual machines: one is a file server by its kernel, others mount it by theirs and run a job that reads and writes there, through the
//! API from the first PUT to the last DELETE.
//!
//! They need an image (`BATCHYARD_TEST_IMAGE` names the folder that `script/images` filled) and QEMU. By translation, as here, a machine
//! starts in a minute or two.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use batchyard::domain::machine::{Bootstrap, Disk, MachineSpec, Role, Size};
use batchyard::driver::qemu::{Accelerator, Image, QemuDriver, Settings as QemuSettings};
use batchyard::driver::{Driver, conformance};
use batchyard::id::{MachineUid, ResourceUid};
use serde_json::json;
use uuid::Uuid;

use crate::harness::guard::Guard;
use crate::harness::{Server, Settings, Site, until_within};

/// Longest time until a machine takes work.
const BOOT: Duration = Duration::from_secs(480);

/// The folder of the image; `None` where it is not demanded, which is said.
fn image() -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods)] // of the test, not of the program
    let folder = std::env::var("BATCHYARD_TEST_IMAGE").ok().map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: BATCHYARD_TEST_IMAGE names no folder with an image of script/images");
    }
    folder
}

fn start(image: &Path, more: &str) -> Server {
    let file = |name: &str| image.join(name).display().to_string();
    let config = format!(
        "[driver]\nkind = \"qemu\"\nimage = {:?}\nkernel = {:?}\ninitrd = {:?}\naccelerator = \"tcg\"\nboot_deadline = \"8m\"\n{more}",
        file("debian.img"),
        file("vmlinuz"),
        file("initrd.img")
    );
    Server::start(Settings { config, without_share: true, ..Settings::default() })
}

/// Waits for nodes, and says what is in the way of them.
async fn wait_idle(site: &Site, cluster: &str, nodes: u32) {
    let get = || site.get_cluster(cluster);
    until_within(BOOT, &format!("{nodes} idle nodes of {cluster}"), get, |seen| {
        assert_eq!(seen["errors"].as_array().map_or(0, Vec::len), 0, "{}", seen["errors"]);
        seen["nodeStateCounts"]["idleNodeCount"] == nodes
    })
    .await;
}

#[tokio::test]
async fn a_machine_serves_files_and_another_runs_a_job_on_them() {
    let Some(image) = image() else { return };
    let began = Instant::now();
    let note = |what: &str| eprintln!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
    let mut server = start(&image, "");
    let site = Site::new(server.api()).await;
    let path = format!("{}/fileServers/nfs01", site.workspace());
    let body = json!({ "properties": {
        "vmSize": "STANDARD_D1",
        "sshConfiguration": { "userAccountSettings": { "adminUserName": "ops", "adminUserPassword": "Not-a-secret-1" } },
        "dataDisks": { "diskSizeInGB": 1, "diskCount": 1, "storageAccountType": "Standard_LRS" } } });
    site.api.put(&path, &body).await.expect(202);
    let mut cluster = Site::cluster_body(1);
    cluster["properties"]["userAccountSettings"] = json!({ "adminUserName": "ops", "adminUserPassword": "Not-a-secret-1" });
    cluster["properties"]["nodeSetup"] = json!({
        "mountVolumes": { "fileServers": [{
            "fileServer": { "id": format!("{}/{path}", site.api.scope()) }, "relativeMountPath": "nfs", "mountOptions": "rw" }] },
        "setupTask": {
            "commandLine": "id -u; uname -r; mkdir -p $AZ_BATCHAI_MOUNT_ROOT/nfs/data; echo from setup > $AZ_BATCHAI_MOUNT_ROOT/nfs/data/in; \
                            chmod 1777 $AZ_BATCHAI_MOUNT_ROOT/nfs/data",
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/nfs" } });
    let made = until_within(
        BOOT,
        "the file server",
        || site.api.get(&path),
        |answer| answer.body["properties"]["provisioningState"] == "succeeded",
    )
    .await;
    note("the file server serves");
    assert_eq!(made.body["properties"]["mountSettings"]["mountPoint"], "/data");
    site.put_cluster("c", &cluster).await;
    wait_idle(&site, "c", 1).await;
    note("the node is idle");

    let command = "findmnt -n -o FSTYPE,SOURCE -T $AZ_BATCHAI_MOUNT_ROOT/nfs/data; uname -r; id -un; cat $AZ_BATCHAI_MOUNT_ROOT/nfs/data/in; \
                   echo from the job > $AZ_BATCHAI_MOUNT_ROOT/nfs/data/out; stat -c '%U' $AZ_BATCHAI_MOUNT_ROOT/nfs/data/out; \
                   dd if=/dev/zero of=$AZ_BATCHAI_MOUNT_ROOT/nfs/data/big bs=1M count=16 conv=fsync 2>&1 | tail -1; \
                   mkdir $AZ_BATCHAI_OUTPUT_MODEL/deep; echo weights > $AZ_BATCHAI_OUTPUT_MODEL/deep/model";
    let over = json!({
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/nfs",
        "outputDirectories": [{ "id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/nfs" }] });
    site.submit("first", "c", command, over.clone()).await;
    let job = site.ended_within(BOOT, "first").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    let said = site.stdout("first").await;
    note("a job has run");
    eprintln!("{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("nfs4") && lines[0].contains("127.0.0.1:/"), "{said}");
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("readable");
    assert_ne!(lines[1], host.trim(), "it has a kernel of its own");
    assert_eq!((lines[2], lines[3], lines[4]), ("batch", "from setup", "batch"), "{said}");
    assert_eq!(site.read("first", "MODEL", "deep/model").await, "weights\n");

    // People log in.
    let logins = site.api.post(&format!("{}/listRemoteLoginInformation", site.cluster_path("c"))).await.expect(200);
    let at = &logins.body["value"][0];
    let port = at["port"].as_f64().expect("a number").to_string();
    let address = at["ipAddress"].as_str().expect("a text").to_owned();
    let mut ssh = Command::new("sshpass");
    ssh.args([
        "-p",
        "Not-a-secret-1",
        "ssh",
        "-F",
        "none",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]);
    ssh.args([
        "-o",
        "LogLevel=ERROR",
        "-o",
        "ConnectTimeout=60",
        "-p",
        &port,
        &format!("ops@{address}"),
        "id -un; sudo -n id -u",
    ]);
    let seen = ssh.output().expect("ssh runs");
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "ops\n0\n", "{}", String::from_utf8_lossy(&seen.stderr));
    note("ops has logged in");

    // The next server goes on with the machines that run.
    server.kill();
    server.restart();
    let site = Site { api: server.api(), group: site.group };
    let over = json!({ "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/nfs" });
    site.submit("second", "c", "cat $AZ_BATCHAI_MOUNT_ROOT/nfs/data/out", over).await;
    let job = site.ended_within(BOOT, "second").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("second").await, "from the job\n");
    note("another server has run another job on the same machines");

    site.delete().await;
    note("all is deleted");
    assert_eq!(server.remains(), Vec::<String>::new());
}

/// What the outer of the two runs of the test below tells the inner one.
const WITHIN: &str = "BATCHYARD_TEST_WITHIN";

/// On a bridge of the host's, where the host is a network namespace that this test makes and runs itself in.
#[tokio::test]
async fn machines_are_on_the_bridge_that_is_named() {
    let Some(image) = image() else { return };
    #[allow(clippy::disallowed_methods)] // of the test, not of the program
    if std::env::var(WITHIN).is_err() {
        let mut within = Command::new("unshare");
        within.arg("--net").arg(std::env::current_exe().expect("this program"));
        within.args(["--nocapture", "--exact", "vm::machines_are_on_the_bridge_that_is_named"]).env(WITHIN, "1");
        assert!(within.status().expect("runs").success());
        return;
    }
    let ip = |line: &str| assert!(Command::new("ip").args(line.split(' ')).status().expect("ip runs").success(), "{line}");
    ip("link set lo up");
    ip("link add yard0 type bridge");
    ip("address add 192.168.7.1/24 dev yard0");
    ip("link set yard0 up");
    let more = "bridge = \"yard0\"\nbridge_addresses = \"192.168.7.100-192.168.7.101/24\"\nbridge_gateway = \"192.168.7.1\"\n\
                bridge_nameservers = [\"192.168.7.1\"]\n";
    let server = start(&image, more);
    let site = Site::new(server.api()).await;
    site.put_cluster("c", &Site::cluster_body(1)).await;
    wait_idle(&site, "c", 1).await;
    // What the host serves on the bridge is reached from there.
    let listener = std::net::TcpListener::bind("192.168.7.1:0").expect("bound");
    let port = listener.local_addr().expect("bound").port();
    let guest = std::thread::spawn(move || listener.accept().map(|(_, from)| from.ip().to_string()));
    let command = format!("exec 3<>/dev/tcp/192.168.7.1/{port}; ip -4 route show default; cat /etc/hosts");
    site.submit("j", "c", &command, json!({ "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT" })).await;
    let job = site.ended_within(BOOT, "j").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(guest.join().expect("no panic").expect("someone came"), "192.168.7.100");
    let said = site.stdout("j").await;
    assert!(said.contains("default via 192.168.7.1 ") && said.contains("192.168.7.100 tvm-"), "{said}");
    site.delete().await;
    assert_eq!(server.remains(), Vec::<String>::new());
    let ports = Command::new("ip").args(["-o", "link", "show", "master", "yard0"]).output().expect("ip runs");
    assert!(ports.stdout.is_empty(), "{}", String::from_utf8_lossy(&ports.stdout));
}

fn machine(cluster: ResourceUid) -> MachineSpec {
    let uid = Uuid::now_v7();
    MachineSpec {
        uid: MachineUid(uid),
        name: format!("vm-{}", uid.simple()),
        node_id: format!("tvm-{}", uid.simple()),
        size: Size { name: "STANDARD_D1".into(), cores: 1, memory_mib: 384, gpus: 0 },
        cluster,
        admin_user: "ops".into(),
        role: Role::Node,
        bootstrap: Bootstrap { join_token: "token".into() },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_keep_what_every_driver_must_keep() {
    let Some(image) = image() else { return };
    let guard = Guard::new();
    let owner = format!("t{}", &Uuid::now_v7().simple().to_string()[20..]);
    let build = || {
        let settings = QemuSettings {
            dir: guard.dir().join("nodes"),
            sockets: guard.dir().join("sockets"),
            owner: owner.clone(),
            storage: Default::default(),
            hidden: vec![guard.dir().to_owned()],
            binary: Some(env!("CARGO_BIN_EXE_batchyard").into()),
            login: None,
            bridge: None,
            image: Image {
                disk: image.join("debian.img"),
                kernel: Some((image.join("vmlinuz"), Some(image.join("initrd.img")))),
            },
            accelerator: Accelerator::Tcg,
            boot_deadline: BOOT,
            kernel_line: "root=LABEL=batchyard rw console=ttyS0 quiet".into(),
        };
        QemuDriver::new(settings).expect("built")
    };
    let driver = build();
    assert_eq!((driver.capabilities().name, driver.capabilities().isolation.as_str()), ("qemu", "virtual machine"));
    assert_eq!(driver.capabilities().longest_boot, BOOT * 2, "one that is late is started again");
    let cluster = ResourceUid(Uuid::now_v7());
    let mut gpus = machine(cluster);
    gpus.size.gpus = 1;
    let mut disk = machine(cluster);
    disk.role = Role::FileServer(Disk { name: machine(cluster).name, size_gb: 1 << 20 });
    let trial = conformance::Trial {
        driver: &driver,
        successor: &build(),
        spec: &|| machine(cluster),
        beyond: vec![gpus, disk],
        deadline: Duration::from_secs(60),
    };
    conformance::check(&trial).await.expect("kept");
}

/// The tests of local nodes that are run in a machine: all but the one that is about time, which a translated processor has too little of.
fn tests_of_nodes() -> Vec<String> {
    let listed = Command::new(std::env::current_exe().expect("this program")).args(["--list", "node::"]).output().expect("lists");
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names = names.lines().filter_map(|line| line.strip_suffix(": test"));
    names.filter(|name| name.starts_with("node::") && !name.contains("twenty_nodes")).map(str::to_owned).collect()
}

/// A host whose control groups are of the second version alone is not to be had everywhere: a machine is one.
#[test]
fn local_nodes_are_what_they_are_under_control_groups_of_the_second_version_alone() {
    let Some(image) = image() else { return };
    let guard = Guard::new();
    let dir = guard.dir();
    let (disk, seed) = (dir.join("disk"), dir.join("seed"));
    for folder in [&disk, &seed] {
        std::fs::create_dir(folder).expect("made");
    }
    let program = env!("CARGO_BIN_EXE_batchyard");
    std::fs::copy(std::env::current_exe().expect("this program"), disk.join("suite")).expect("copied");
    std::fs::copy(program, disk.join("batchyard")).expect("copied");
    let script = format!(
        "exec >/dev/ttyS0 2>&1\nmkdir -p {folder}; cp /tests/batchyard {program}; cd /root\ngrep cgroup /proc/mounts\n\
         BATCHYARD_TEST_PRIVILEGE=required /tests/suite --color never --test-threads 2 --exact {tests}\necho over\nsync; poweroff -f\n",
        folder = Path::new(program).parent().expect("a folder").display(),
        tests = tests_of_nodes().join(" "),
    );
    std::fs::write(disk.join("run"), script).expect("written");
    let user = "#cloud-config\nruncmd:\n  - [sh, -c, \"mkdir /tests; mount -o ro /dev/disk/by-id/virtio-tests /tests; bash /tests/run\"]\n";
    for (name, content) in [("user-data", user), ("meta-data", "instance-id: v2\n"), ("network-config", "version: 2\n")] {
        std::fs::write(seed.join(name), content).expect("written");
    }
    let run = |command: &mut Command| {
        let done = command.output().expect("runs");
        assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let (tests, own, console) = (dir.join("tests.img"), dir.join("own.qcow2"), dir.join("console"));
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-F", "-d"]).arg(&disk).arg(&tests).arg("1500M"));
    run(Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(image.join("debian.img"))
        .arg(&own));
    let drive = |text: String| ["-drive".to_owned(), text];
    let mut machine = Command::new("qemu-system-x86_64")
        .args("-accel tcg,tb-size=256 -cpu max -machine q35 -smp 2 -m 4096M -display none -nodefaults -no-reboot".split(' '))
        .args(drive(format!("if=virtio,file={},format=qcow2,cache=unsafe", own.display())))
        .args(drive(format!("if=none,id=tests,file={},format=raw,readonly=on", tests.display())))
        .args(["-device", "virtio-blk-pci,drive=tests,serial=tests"])
        .args(drive(format!("if=virtio,format=raw,readonly=on,file.driver=vvfat,file.label=CIDATA,file.dir={}", seed.display())))
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-kernel")
        .arg(image.join("vmlinuz"))
        .arg("-initrd")
        .arg(image.join("initrd.img"))
        .args(["-append", "root=LABEL=batchyard rw console=ttyS0 quiet"])
        .spawn()
        .expect("QEMU runs");
    let until = Instant::now() + 2 * BOOT;
    while machine.try_wait().expect("a child").is_none() {
        if Instant::now() > until {
            let _ = machine.kill();
            let _ = machine.wait();
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let said = std::fs::read_to_string(&console).unwrap_or_default();
    let last: Vec<&str> = said.lines().rev().take(60).collect();
    let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
    assert!(said.contains("cgroup2") && !said.contains(" cgroup rw"), "one hierarchy: {last}");
    assert!(said.contains("test result: ok. ") && said.contains("over"), "{last}");
    eprintln!("{last}");
}
