//! The kernel's own server of NFS, on a machine whose kernel is nobody else's: version 4 alone, which is one port.
//!
//! Source: rpc.nfsd(8), exportfs(8), rpc.mountd(8).

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::domain::bootstrap::Store;
use crate::domain::door::Service;

/// Where the kernel is told of exports.
const CONTROL: &str = "/proc/fs/nfsd";

/// Threads that serve.
const THREADS: &str = "8";

/// How long clients of before a start may claim what they held, in which others wait; and how long one that is silent holds it. Unit: s.
const GRACE: &str = "10";

/// What is exported: to this machine itself, from where the door connects, with root as root, as on the file servers of the original;
/// what is told to be written is on the disk.
const OPTIONS: &str = "rw,sync,no_subtree_check,no_root_squash,insecure,sec=sys";

/// Longest time until it serves.
const BEGIN: Duration = Duration::from_secs(60);

/// Time between two looks whether it does.
const LOOK: Duration = Duration::from_millis(50);

/// Time between an end of the program that knows the exports and its next start.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the disk exported for ever. `say` hears when it serves for the first time, and why it does not.
///
/// # Errors
/// Never: what is wrong is said.
pub(super) fn keep(store: &Store, mut say: impl FnMut(Result<(), String>)) -> io::Result<()> {
    if let Err(why) = begin(store) {
        say(Err(why));
        return Ok(());
    }
    let mut said = false;
    loop {
        // It answers the kernel's questions who may have what, and ends only by force.
        let mut command = Command::new("rpc.mountd");
        let started = command.args(["--foreground", "--no-nfs-version", "3", "--no-udp"]).stdin(Stdio::null()).spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                say(Err(format!("cannot start rpc.mountd: {error}; install nfs-kernel-server in the machine's image")));
                return Ok(());
            }
        };
        if !said {
            say(serve(store));
            said = true;
        }
        let _ = child.wait();
        std::thread::sleep(PAUSE);
    }
}

fn begin(store: &Store) -> Result<(), String> {
    if !Path::new(CONTROL).join("threads").exists() {
        run(Command::new("mount").args(["-t", "nfsd", "nfsd", CONTROL]))?;
    }
    let export = format!("{}:{}", store.address, store.data.display());
    run(Command::new("exportfs").args(["-o", OPTIONS, &export]))
}

/// Starts the kernel's threads, and waits until they serve.
fn serve(store: &Store) -> Result<(), String> {
    let at = SocketAddr::new(store.address, Service::Files.port());
    let serves = || TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_ok();
    // They outlive the keeper.
    if serves() {
        return Ok(());
    }
    let address = store.address.to_string();
    let fixed = ["--no-nfs-version", "3", "--no-udp", "--grace-time", GRACE, "--lease-time", GRACE, "--host", &address, THREADS];
    run(Command::new("rpc.nfsd").args(fixed))?;
    let until = Instant::now() + BEGIN;
    while !serves() {
        if Instant::now() > until {
            return Err(format!("the kernel does not serve NFS within {} s", BEGIN.as_secs()));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot start {name}: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{name}: {}", String::from_utf8_lossy(&done.stderr).trim())),
    }
}
