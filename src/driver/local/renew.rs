//! Agents are of the version of the server that looks after them: one that is of another program is started anew, of the server's own.
//!
//! In: a node that lives. Out: the same node, its jobs and their supervisors as they were, with the server's program in the place of the
//! other, and an agent of that. The agent finds again what runs, as after any of its ends.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_remount, move_mount, open_tree, unmount};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::driver::local::layout::{NodeSpec, PRIVATE, at};
use crate::driver::local::process::{Identity, list_children};
use crate::own_file::own_file;

/// Makes `binary` the node's program, where it is another. The caller holds a descriptor of the first process, so that its number is not
/// another's. What runs no agent is left alone.
///
/// # Errors
/// The node goes on as it was.
pub(super) fn ensure_program(binary: &Path, first: &Identity, spec: &NodeSpec) -> io::Result<()> {
    let place = Path::new(PRIVATE).join("batchyard");
    let runs_agent = spec.program.first().is_some_and(|program| Path::new(program) == place)
        && spec.program.get(1).is_some_and(|word| word == AGENT);
    if !runs_agent {
        return Ok(());
    }
    let own = binary.metadata().map_err(at("read", binary))?;
    let is_own = |there: Metadata| (there.dev(), there.ino()) == (own.dev(), own.ino());
    let seen = Path::new("/proc").join(first.pid().to_string()).join("root").join(place.strip_prefix("/").unwrap_or(&place));
    if !is_own(seen.metadata().map_err(at("read", &seen))?) {
        // One that was replaced since this server started is of no version that runs.
        let source = if binary == Path::new("/proc/self/exe") { own_file()? } else { binary.to_owned() };
        show(&source, first, &place)?;
        tracing::info!(machine.name = spec.machine, "a node has another program: it gets this server's");
    }
    for pid in list_children(first.pid()) {
        let Some(process) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { continue };
        let about = Path::new("/proc").join(pid.to_string());
        let command = std::fs::read(about.join("cmdline")).unwrap_or_default();
        // What a job left behind may call itself so, but is not root's.
        let is_agent = command.split(|byte| *byte == 0).nth(1) == Some(AGENT.as_bytes())
            && about.metadata().is_ok_and(|process| process.uid() == 0);
        let is_other = about.join("exe").metadata().is_ok_and(|program| !is_own(program));
        if is_agent && is_other {
            pidfd_send_signal(process, Signal::TERM)?;
        }
    }
    Ok(())
}

/// The word by which this program becomes an agent.
const AGENT: &str = "agent";

/// Puts a file of the host in a place of the node, instead of what is shown there.
fn show(source: &Path, first: &Identity, place: &Path) -> io::Result<()> {
    let tree =
        open_tree(CWD, source, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC).map_err(at("show", source))?;
    let namespace = format!("/proc/{}/ns/mnt", first.pid());
    let namespace = File::open(&namespace).map_err(at("open", namespace.as_ref()))?;
    let place = place.to_owned();
    // A thread that sees what the node sees, and ends.
    let entering = std::thread::Builder::new().name("renew".into()).spawn(move || -> io::Result<()> {
        unshare(CloneFlags::CLONE_FS)?;
        setns(namespace, CloneFlags::CLONE_NEWNS)?;
        // Not over it: a file that was removed from the host since carries no mount. A start in between fails, and is tried again.
        unmount(&place, UnmountFlags::DETACH)?;
        move_mount(&tree, "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(mount_remount(&place, MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY, c"")?)
    })?;
    entering.join().unwrap_or_else(|_| Err(io::Error::other("it broke off")))
}
