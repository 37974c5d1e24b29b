//! Machines for a pool: each a root, processes and a network of its own, with a real ssh server in it. They are ended with the test.
//!
//! A test of them runs in a network namespace of its own, where a bridge joins them and the server.

use std::fs::Permissions;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use batchyard::driver::ssh::{Login, Machine, authorized_key};

use crate::harness::privileged;

/// What the outer of the two runs of a test tells the inner one.
const WITHIN: &str = "BATCHYARD_TEST_WITHIN";

/// The address of the server on the bridge.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The address of a router among the machines behind it.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 9, 1);

/// The folder of ours on a machine.
const OURS: &str = "var/lib/batchyard-machine";

/// Longest time that anything of a machine may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Makes a machine's root of its folder and becomes its ssh server, once there is a network.
const SCRIPT: &str = r#"
set -eu
cd "$1"; address=$2
mount --make-rprivate /
mount --bind root root
for name in usr opt; do mkdir -p root/$name; mount --rbind /$name root/$name; done
for name in bin sbin lib lib32 lib64; do [ ! -e /$name ] || cp -a /$name root/$name; done
cp -a /etc root/etc
echo 'ops:x:47000:47000::/:/bin/sh' >>root/etc/passwd
echo 'ops:*:19000:0:99999:7:::' >>root/etc/shadow
echo 'ops ALL=(ALL) NOPASSWD: ALL' >root/etc/sudoers.d/ops
mkdir -p root/dev root/proc root/sys root/run root/tmp root/home root/mnt root/var/lib root/var/log root/var/tmp
chmod 1777 root/tmp root/var/tmp
mount --rbind /dev root/dev
mount -t proc proc root/proc
mount -t sysfs sysfs root/sys
mount --rbind /sys/fs/cgroup root/sys/fs/cgroup
mount -t tmpfs run root/run
mkdir -p root/run/sshd
hostname "${1##*/}"
ip link set lo up
for round in $(seq 600); do ip link show eth0 >/dev/null 2>&1 && break; sleep 0.05; done
ip address add $address/24 dev eth0
ip link set eth0 up
cd root
pivot_root . .
umount -l .
exec /usr/sbin/sshd -D -e -f /ssh/sshd_config
"#;

/// Whether this is the run in a network namespace of the test's own; makes that run, and the bridge in it.
pub(super) fn is_within(test: &str) -> bool {
    if !privileged() {
        return false;
    }
    if std::env::var(WITHIN).is_err() {
        let mut within = Command::new("unshare");
        within.arg("--net").arg(std::env::current_exe().expect("this program"));
        within.args(["--nocapture", "--include-ignored", "--exact", test]).env(WITHIN, "1");
        assert!(within.status().expect("runs").success());
        return false;
    }
    ip("link set lo up");
    ip("link add pool0 type bridge");
    ip(&format!("address add {SERVER}/24 dev pool0"));
    ip("link set pool0 up");
    true
}

fn ip(line: &str) {
    assert!(Command::new("ip").args(line.split(' ')).status().expect("ip runs").success(), "ip {line}");
}

/// Makes a key pair of ssh; answers the public key.
pub(super) fn make_key(path: &Path) -> String {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen runs").success());
    std::fs::read_to_string(path.with_extension("pub")).expect("made").trim().to_owned()
}

/// A machine that runs.
pub(super) struct Host {
    pub(super) machine: Machine,
    folder: PathBuf,
    first: Child,
    port: String,
    router: Option<Router>,
}

/// A router that translates addresses: what is behind it calls out, and nothing comes in.
struct Router {
    process: Child,
}

impl Router {
    fn start() -> Router {
        let own = std::fs::read_link("/proc/self/ns/net").expect("told");
        let mut process = Command::new("unshare");
        process.args(["--net", "sleep", "infinity"]).env_remove(WITHIN).stdin(Stdio::null());
        let router = Router { process: process.spawn().expect("unshare runs") };
        let pid = router.process.id();
        wait("a network of the router's own", || {
            std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|network| network != own)
        });
        ip(&format!("link add nat0 type veth peer name out0 netns {pid}"));
        ip("link set nat0 master pool0 up");
        router.run("ip link set lo up; ip address add 10.77.0.50/24 dev out0; ip link set out0 up");
        router.run("echo 1 >/proc/sys/net/ipv4/ip_forward; iptables -t nat -A POSTROUTING -o out0 -j MASQUERADE");
        router
    }

    fn run(&self, script: &str) {
        let mut enter = Command::new("nsenter");
        enter.args(["--net", "--target", &self.process.id().to_string(), "sh", "-euc", script]);
        assert!(enter.status().expect("nsenter runs").success(), "{script}");
    }

    /// Joins a machine to it.
    fn plug(&self, pid: u32) {
        ip(&format!("link add in0 netns {} type veth peer name eth0 netns {pid}", self.process.id()));
        self.run(&format!("ip address add {GATEWAY}/24 dev in0; ip link set in0 up"));
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Host {
    /// Starts the machine with that number, which lets in whoever has `key`.
    pub(super) fn start(dir: &Path, number: u8, key: &Path) -> Host {
        let mut host = Host::make(dir, number, key, Ipv4Addr::new(10, 77, 0, 10 + number));
        host.plug();
        host
    }

    /// Starts one behind a router of its own, which no server reaches.
    pub(super) fn start_behind(dir: &Path, number: u8, key: &Path) -> Host {
        let mut host = Host::make(dir, number, key, Ipv4Addr::new(192, 168, 9, 10 + number));
        host.machine.login = None;
        host.router = Some(Router::start());
        host.plug();
        host.run(&format!("ip route add default via {GATEWAY}"));
        host
    }

    fn make(dir: &Path, number: u8, key: &Path, address: Ipv4Addr) -> Host {
        let name = format!("m{number}");
        let folder = dir.join(&name);
        let ssh = folder.join("root/ssh");
        std::fs::create_dir_all(&ssh).expect("made");
        let host_key = make_key(&ssh.join("host"));
        let public_key = std::fs::read_to_string(key.with_extension("pub")).expect("made");
        std::fs::write(ssh.join("authorized_keys"), format!("{}\n", authorized_key(&public_key))).expect("written");
        let config = format!(
            "ListenAddress {address}\nHostKey /ssh/host\nAuthorizedKeysFile /ssh/authorized_keys\nPermitRootLogin prohibit-password\n\
             PasswordAuthentication no\nStrictModes no\nUsePAM no\nPidFile none\nLogLevel VERBOSE\n"
        );
        std::fs::write(ssh.join("sshd_config"), config).expect("written");
        let machine = Machine {
            name: name.clone(),
            login: Some(Login { host: address.to_string(), port: 22, user: "root".into(), key: key.to_owned(), host_key }),
            address,
            labels: vec![],
            cores: 2,
            memory_mib: 2_048,
            gpus: 0,
        };
        let first = spawn(&folder, address);
        Host { machine, folder, first, port: format!("port-{name}"), router: None }
    }

    /// Runs a script on it as root, told as standard input, as a line that someone types is; answers whether it went well, and what was
    /// said.
    pub(super) fn run(&self, script: &str) -> (bool, String) {
        let pid = self.first.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("told");
        let first = children.split_whitespace().next().expect("its first process");
        let mut enter = Command::new("nsenter");
        // With its root: in a chroot, that of the namespace is the host's.
        enter.args(["--target", first, "--mount", "--root", "--net", "--uts", "--ipc", "--pid", "sh"]).env_remove(WITHIN);
        let mut shell = enter.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nsenter runs");
        shell.stdin.take().expect("piped").write_all(script.as_bytes()).expect("read");
        let done = shell.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        (done.status.success(), said)
    }

    /// Leads every other connection of the machine to its server to another port there, as a balancer of two servers would.
    pub(super) fn balance(&self, port: u16) {
        let router = self.router.as_ref().expect("behind a router");
        router.run(&format!(
            "iptables -t nat -A PREROUTING -i in0 -p tcp -d {SERVER} --dport 8443 -m statistic --mode nth --every 2 --packet 0 \
             -j DNAT --to-destination {SERVER}:{port}"
        ));
    }

    /// Leads what the machine sends to the server to another port there, as whoever is in the middle would, or no more.
    pub(super) fn mislead(&self, port: Option<u16>) {
        let router = self.router.as_ref().expect("behind a router");
        match port {
            Some(port) => router.run(&format!(
                "iptables -t nat -A PREROUTING -i in0 -p tcp -d {SERVER} --dport 8443 -j DNAT --to-destination {SERVER}:{port}"
            )),
            None => router.run("iptables -t nat -F PREROUTING"),
        }
    }

    /// How servers go to it.
    pub(super) fn login(&mut self) -> &mut Login {
        self.machine.login.as_mut().expect("by ssh")
    }

    fn plug(&mut self) {
        let (own, pid) = (std::fs::read_link("/proc/self/ns/net").expect("told"), self.first.id());
        wait("a network of the machine's own", || {
            std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|network| network != own)
        });
        match &self.router {
            Some(router) => router.plug(pid),
            None => {
                // A machine that starts again has the hardware address that others know it by.
                let [.., number] = self.machine.address.octets();
                let end = format!("peer name eth0 address 02:00:00:00:77:{number:02x} netns {pid}");
                ip(&format!("link add {} type veth {end}", self.port));
                ip(&format!("link set {} master pool0 up", self.port));
            }
        }
        wait("the machine's ssh server", || self.log().contains("Server listening"));
    }

    /// Ends all that runs on it, as the loss of power would, and starts it again.
    pub(super) fn restart(&mut self) {
        self.end();
        let _ = std::fs::remove_file(self.folder.join("log"));
        for name in ["etc", "bin", "sbin", "lib", "lib32", "lib64"] {
            let path = self.folder.join("root").join(name);
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
        self.first = spawn(&self.folder, self.machine.address);
        self.plug();
    }

    fn end(&mut self) {
        let _ = self.first.kill();
        let _ = self.first.wait();
        // Its end of the pair goes with its network, which takes the kernel a moment. `/sys` would tell of the host's network, not of
        // the test's.
        wait("the machine's network is gone", || self.unplugged());
    }

    fn unplugged(&self) -> bool {
        Command::new("ip")
            .args(["link", "show", &self.port])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| !s.success())
    }

    /// Cuts its network, or mends it.
    pub(super) fn set_network(&self, state: &str) {
        ip(&format!("link set {} {state}", self.port));
    }

    /// What its ssh server said.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// A path on it.
    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.folder.join("root").join(below)
    }

    /// What is on it of nodes, and of whoever has it.
    pub(super) fn remains(&self) -> Vec<String> {
        let ours = self.path(OURS);
        let mut found: Vec<String> = ["nodes/nodes", "nodes/clusters"]
            .iter()
            .flat_map(|name| std::fs::read_dir(ours.join(name)).into_iter().flatten().flatten())
            .map(|entry| entry.path().display().to_string())
            .collect();
        found.extend(ours.join("holder").exists().then(|| "a holder".to_owned()));
        let is_ours = |line: &str| ["node-init", "batchyard agent", "supervise"].iter().any(|word| line.contains(word));
        let left = self.commands().into_iter().filter(|(_, line)| is_ours(line));
        found.extend(left.map(|(pid, line)| format!("process {pid}: {line}")));
        found
    }

    /// Whether a process with that command line runs on it.
    pub(super) fn runs(&self, command: &str) -> bool {
        self.commands().iter().any(|(_, line)| line.trim_end() == command)
    }

    /// Whether a process with that in its command line runs on it.
    pub(super) fn runs_with(&self, part: &str) -> bool {
        self.commands().iter().any(|(_, line)| line.contains(part))
    }

    /// Sizes of the programs that its nodes' agents are.
    pub(super) fn agents(&self) -> Vec<u64> {
        let is_agent = |line: &str| line.starts_with("/run/batchyard/batchyard agent ");
        let agents = self.commands().into_iter().filter(|(_, line)| is_agent(line));
        agents.filter_map(|(pid, _)| std::fs::metadata(format!("/proc/{pid}/exe")).ok()).map(|program| program.len()).collect()
    }

    /// All processes in its network, with their command lines.
    fn commands(&self) -> Vec<(String, String)> {
        let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let own = network(&self.first.id().to_string());
        let entries = std::fs::read_dir("/proc").expect("readable").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.parse::<u32>().is_ok());
        let line = |pid: String| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&words).replace('\0', " "))
        };
        pids.filter(|pid| network(pid) == own).map(line).collect()
    }

    /// Whether anything of ours was ever there.
    pub(super) fn is_untouched(&self) -> bool {
        !self.path(OURS).exists()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("machine {}: {}", self.machine.name, self.log());
        }
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

fn spawn(folder: &Path, address: Ipv4Addr) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).expect("opens");
    std::fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("set");
    Command::new("unshare")
        .args(["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "bash", "-c", SCRIPT, "machine"])
        .arg(folder)
        .arg(address.to_string())
        .env_remove(WITHIN)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .process_group(0)
        .spawn()
        .expect("unshare runs")
}

/// Waits for something that nothing tells.
pub(super) fn wait(what: &str, is_so: impl FnMut() -> bool) {
    wait_within(DEADLINE, what, is_so);
}

/// The same with a deadline of its own.
pub(super) fn wait_within(deadline: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + deadline;
    while !is_so() {
        assert!(Instant::now() < until, "not within {deadline:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
