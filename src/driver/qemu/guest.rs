//! The one service of a machine: it makes of the machine what a node of this host is to the agent, and keeps the agent running.
//!
//! In: what the seed left. Out: accounts, the disk of a file server mounted, sockets that lead across the link to servers and to the gate,
//! and the agent, which finds all of it where it is on any node.

use std::fs::Permissions;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::Builder;
use std::time::{Duration, Instant};

use nix::unistd::User;

use crate::driver::local::layout::{DATA, DOOR, DOOR_SOCKET, GATE, PRIVATE, job_user, read_json};
use crate::driver::qemu::command::DATA_DISK;
use crate::driver::qemu::seed::{BOOTSTRAP, FOLDER, GUEST, Guest};
use crate::driver::qemu::{link, names};

/// Parts of the kernel that mounts want; those that it has not are done without.
const MODULES: [&str; 4] = ["fuse", "nfs", "nfsd", "cifs"];

/// The name of the socket to servers, in its folder.
const SERVERS: &str = "shell.sock";

/// Time until names are asked for again, where the shell does not tell them.
const PAUSE: Duration = Duration::from_secs(1);

/// Time between an end of the agent and its next start: the first, and the longest as ends repeat.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// An agent that ran this long did not fail at its start.
const SETTLED: Duration = Duration::from_secs(30);

/// Runs the agent of this machine for ever.
///
/// # Errors
/// The machine cannot be made a node.
pub fn vm_guest() -> io::Result<()> {
    let folder = Path::new(FOLDER);
    let guest: Guest = read_json(&folder.join(GUEST)).ok_or_else(|| io::Error::other("this is no machine of ours"))?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    // Kernels say which file systems they have only once they are loaded.
    for module in MODULES {
        let _ = Command::new("modprobe").arg("-q").arg(module).status();
    }
    // The agent lets users in, and nodes of one job let each other in: at this port, by rules of ours.
    for unit in ["ssh.socket", "ssh.service"] {
        let _ = Command::new("systemctl").args(["--quiet", "mask", "--now", unit]).status();
    }
    let job = job_user();
    ensure_account(&job.name, Some(job.uid))?;
    if let Some(admin) = &guest.admin {
        ensure_account(admin, None)?;
        let rules = Path::new("/etc/sudoers.d/batchyard");
        if rules.parent().is_some_and(Path::is_dir) {
            std::fs::write(rules, format!("{admin} ALL=(ALL:ALL) NOPASSWD: ALL\n"))?;
            std::fs::set_permissions(rules, Permissions::from_mode(0o440))?;
        }
    }
    let mut private = vec![PathBuf::from("sockets"), "/var/lib/batchyard/agent".into()];
    if guest.data {
        mount_data()?;
        private.push(DOOR.into());
    }
    for name in private {
        let path = Path::new(PRIVATE).join(name);
        std::fs::create_dir_all(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))?;
    }
    std::fs::set_permissions(PRIVATE, Permissions::from_mode(0o700))?;
    for tasks in ["shared/LS_root/mounts", "shared/LS_root/jobs", "startup"] {
        std::fs::create_dir_all(Path::new("/mnt/batch/tasks").join(tasks))?;
    }
    answer(guest.data)?;
    let login: OwnedFd = TcpListener::bind(link::LOGIN)?.into();
    keep_agent(&folder.join(BOOTSTRAP), &login)
}

/// Makes an account with a home, where there is none of that name.
fn ensure_account(name: &str, id: Option<u32>) -> io::Result<()> {
    if User::from_name(name)?.is_some() {
        return Ok(());
    }
    let mut command = Command::new("useradd");
    command.args(["--user-group", "--create-home", "--shell", "/bin/bash"]);
    if let Some(id) = id {
        command.args(["--uid", &id.to_string()]);
    }
    run(command.arg("--").arg(name))
}

/// Mounts the disk of a file server. Its root is open to all jobs, each its own files.
fn mount_data() -> io::Result<()> {
    let (device, target) = (Path::new("/dev/disk/by-id").join(DATA_DISK), Path::new(DATA));
    std::fs::create_dir_all(target)?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    if !mounts.lines().any(|line| line.split(' ').nth(1) == Some(DATA)) {
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "discard,nosuid,nodev,noexec,errors=remount-ro"])
            .arg(device)
            .arg(target))?;
    }
    // Made again when something is found that belongs there.
    let _ = std::fs::remove_dir(target.join("lost+found"));
    std::fs::set_permissions(target, Permissions::from_mode(0o1777))
}

fn run(command: &mut Command) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{name}: {}", String::from_utf8_lossy(&done.stderr).trim()))),
    }
}

/// Makes the sockets that lead across the link, and what a knock from there leads to.
fn answer(has_door: bool) -> io::Result<()> {
    let private = Path::new(PRIVATE);
    link::serve(listen(private.join("sockets").join(SERVERS))?, |guest| {
        link::join(guest, link::connect_as_root(link::SERVERS)?)
    })?;
    link::serve(listen(private.join(GATE))?, |guest| link::ask_link(guest, || link::connect_as_root(link::GATE)))?;
    Builder::new().name("names".into()).spawn(|| {
        loop {
            let _ = link::connect_as_root(link::NAMES).and_then(names::learn);
            std::thread::sleep(PAUSE);
        }
    })?;
    if has_door {
        let door = private.join(DOOR).join(DOOR_SOCKET);
        link::serve(link::incoming(TcpListener::bind(link::DOOR)?), move |guest| link::ask_socket(guest, &door))?;
    }
    Ok(())
}

fn listen(path: PathBuf) -> io::Result<impl Iterator<Item = io::Result<UnixStream>> + Send + 'static> {
    // Of a service before this one.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(std::iter::from_fn(move || Some(listener.accept().map(|(guest, _)| guest))))
}

fn keep_agent(bootstrap: &Path, login: &OwnedFd) -> io::Result<()> {
    let mut pause = BACK_OFF.0;
    loop {
        let began = Instant::now();
        let mut agent = Command::new("/proc/self/exe");
        agent.arg("agent").arg(bootstrap).current_dir("/").stdin(Stdio::from(login.as_fd().try_clone_to_owned()?));
        match agent.status() {
            Ok(status) => eprintln!("the agent ended ({status}) after {:?}", began.elapsed()),
            Err(error) => eprintln!("the agent cannot be started: {error}"),
        }
        pause = if began.elapsed() > SETTLED { BACK_OFF.0 } else { pause };
        std::thread::sleep(pause);
        pause = (pause * 2).min(BACK_OFF.1);
    }
}
