//! Keeping a node's own engine running: a process of its own, which outlives the agent and ends with the node.
//!
//! It has a view of its own of the node's files, in which there are control groups to make containers' in, below those of jobs, and the
//! sockets of the engine's helpers. Neither is there for anything else in the node.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::FlockOperation;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use crate::agent::engine::{CONTAINERS, Order, RUNTIME, find_program, passage, socket};

/// Where the engine looks for control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The name of the hierarchy of the second version among a node's control groups.
const UNIFIED: &str = "unified";

/// Where the engine's helpers have their sockets, whatever the engine is told.
///
/// Source: the default state folder of containerd, in which its shims listen.
const HELPERS: &str = "/run/containerd";

/// What the engine reaches by itself: the node, and those of its cluster.
///
/// Source: the range of which clusters of this host get theirs.
const DIRECT: &str = "127.0.0.0/8,10.96.0.0/12";

/// Time between an end of the engine and its next start: the first, and the longest as ends repeat.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// An engine that ran this long did not fail at its start.
const SETTLED: Duration = Duration::from_secs(30);

/// As sooner as the rest of the node is ended when memory runs out, and not later, as the engine would have it.
const OOM_SCORE: &str = "200";

/// Keeps the engine running that `order` describes, until the node ends. Returns at once where another process does.
///
/// # Errors
/// It cannot be started.
pub fn keep(order: &str) -> io::Result<()> {
    let order: Order = serde_json::from_str(order)?;
    // Not of the agent's session: what is sent to that is not meant.
    let _ = rustix::process::setsid();
    std::fs::create_dir_all(&order.run)?;
    std::fs::set_permissions(&order.run, std::fs::Permissions::from_mode(0o700))?;
    let lock = File::create(order.run.join("lock"))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
        other => other?,
    }
    for group in &order.groups {
        std::fs::write(group.join("cgroup.procs"), "0")?;
    }
    make_view(&order)?;
    write_settings(&order)?;
    let proxy = order.registries.as_deref().map(passage::open).transpose()?;
    let mut pause = BACK_OFF.0;
    loop {
        let began = Instant::now();
        let status = start(&order, proxy.as_deref())?.wait()?;
        eprintln!("the engine ended ({status}) after {:?}", began.elapsed());
        pause = if began.elapsed() > SETTLED { BACK_OFF.0 } else { pause };
        std::thread::sleep(pause);
        pause = (pause * 2).min(BACK_OFF.1);
    }
}

/// The view in which the engine runs. What is mounted in the node later is mounted here, too, and nothing the other way.
fn make_view(order: &Order) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    std::fs::create_dir_all(HELPERS)?;
    let closed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("helpers", HELPERS, "tmpfs", closed, Some(c"mode=700")).map_err(at(HELPERS.as_ref()))?;
    // With the second version alone the folder is the hierarchy itself.
    if let [group] = order.groups.as_slice()
        && group.ends_with(UNIFIED)
    {
        return mount_bind(group, CGROUPS).map_err(at(CGROUPS.as_ref()));
    }
    mount("cgroups", CGROUPS, "tmpfs", closed, Some(c"mode=755")).map_err(at(CGROUPS.as_ref()))?;
    for group in &order.groups {
        let target = Path::new(CGROUPS).join(group.file_name().unwrap_or_default());
        std::fs::create_dir(&target)?;
        mount_bind(group, &target).map_err(at(&target))?;
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(rustix::io::Errno) -> io::Error {
    move |error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("cannot mount {}: {error}", path.display()))
    }
}

/// The engine's settings: no network of its own, our runtime, and nothing that is read from elsewhere in the node.
fn write_settings(order: &Order) -> io::Result<()> {
    let settings = serde_json::json!({
        "data-root": order.data,
        "exec-root": order.run.join("state"),
        "pidfile": order.run.join("pid"),
        "hosts": [format!("unix://{}", socket(&order.run).display())],
        "group": "root",
        "bridge": "none",
        "iptables": false,
        "ip6tables": false,
        "ip-forward": false,
        "ip-masq": false,
        "log-level": "warn",
        // What containers print goes to nobody: commands have files of their own.
        "log-driver": "none",
        "cgroup-parent": format!("/{CONTAINERS}"),
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "default-runtime": "node",
        "runtimes": { "node": { "path": std::env::current_exe()?, "runtimeArgs": [RUNTIME] } },
    });
    std::fs::write(order.run.join("daemon.json"), serde_json::to_vec_pretty(&settings)?)
}

fn start(order: &Order, proxy: Option<&str>) -> io::Result<std::process::Child> {
    let program = find_program("dockerd").ok_or_else(|| io::Error::other("the program 'dockerd' is gone"))?;
    let passing = order.run.join("passing");
    std::fs::create_dir_all(&passing)?;
    // One that was killed leaves its number, which means another process by now.
    let _ = std::fs::remove_file(order.run.join("pid"));
    let mut command = Command::new(program);
    command.env_clear();
    if let Some(proxy) = proxy {
        command.env("HTTPS_PROXY", proxy).env("NO_PROXY", DIRECT);
    }
    command
        .arg("--config-file")
        .arg(order.run.join("daemon.json"))
        .arg("--oom-score-adjust")
        .arg(OOM_SCORE)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        // What holds variables of commands for a moment stays in memory.
        .env("XDG_RUNTIME_DIR", &passing)
        .env("TMPDIR", &passing)
        .env("DOCKER_TMPDIR", order.data.join("tmp"))
        .env("HOME", "/root")
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
}
