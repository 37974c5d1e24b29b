//! Keeping a node's own engine running: a process of its own, which outlives the agent and ends with the node.
//!
//! It has a view of its own of the node's files, in which there are control groups to make containers' in, below those of jobs, and the
//! sockets of the engine's helpers. Neither is there for anything else in the node.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FlockOperation;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::Signal;

use crate::agent::engine::{CONTAINERS, KEEPER, Order, RUNTIME, find_program, passage, socket};
use crate::agent::process::Handle;
use crate::own_file::own_file;

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

/// Memory above which the engine gives back at once what it needs no more: a registry may make it hold much for a moment, for which the
/// next job has no room. Source: the Go runtime's soft limit of memory.
const MEMORY: &str = "256MiB";

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
    let path = order.run.join(KEEPER);
    let _ = std::fs::remove_file(&path);
    let wishes = UnixListener::bind(path)?;
    wishes.set_nonblocking(true)?;
    let mut pause = BACK_OFF.0;
    loop {
        let began = Instant::now();
        let (status, is_wished) = await_end(start(&order, proxy.as_deref())?, &wishes)?;
        if is_wished {
            continue;
        }
        eprintln!("the engine ended ({status}) after {:?}", began.elapsed());
        pause = if began.elapsed() > SETTLED { BACK_OFF.0 } else { pause };
        std::thread::sleep(pause);
        pause = (pause * 2).min(BACK_OFF.1);
    }
}

/// Waits until the engine has ended, by itself or because somebody wishes it, and answers whether somebody did.
fn await_end(mut engine: Child, wishes: &UnixListener) -> io::Result<(ExitStatus, bool)> {
    let pid = i32::try_from(engine.id()).map_err(io::Error::other)?;
    // A child that nobody else waits for keeps its number.
    let process = Handle::open(pid, || true).ok_or_else(|| io::Error::other("the engine cannot be watched"))?;
    poll(&mut [PollFd::new(&process.descriptor, PollFlags::IN), PollFd::new(wishes, PollFlags::IN)], None)?;
    let mut wished = Vec::from_iter(wishes.accept());
    if !wished.is_empty() {
        // Its own way would take it seconds, to end containers of which there are none.
        process.signal(Signal::KILL)?;
    }
    let status = engine.wait()?;
    // Whoever wished it meanwhile has it.
    wished.extend(std::iter::from_fn(|| wishes.accept().ok()));
    Ok((status, !wished.is_empty()))
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
        "runtimes": { "node": { "path": own_file()?, "runtimeArgs": [RUNTIME] } },
    });
    std::fs::write(order.run.join("daemon.json"), serde_json::to_vec_pretty(&settings)?)
}

fn start(order: &Order, proxy: Option<&str>) -> io::Result<std::process::Child> {
    let program = find_program("dockerd").ok_or_else(|| io::Error::other("the program 'dockerd' is gone"))?;
    let passing = order.run.join("passing");
    std::fs::create_dir_all(&passing)?;
    // One that was killed leaves its number, which means another process by now.
    let _ = std::fs::remove_file(order.run.join("pid"));
    // Parts of images, of one that was ended: it clears only a folder that it chose itself.
    let parts = order.data.join("tmp");
    let _ = std::fs::remove_dir_all(&parts);
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
        .env("DOCKER_TMPDIR", parts)
        .env("HOME", "/root")
        .env("GOMEMLIMIT", MEMORY)
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
}
