//! What a supervisor gives up, and hides from what it runs, before it runs anything.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, setrlimit};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount};
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};
use serde::{Deserialize, Serialize};

use crate::agent::seccomp;

/// Who runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rights {
    /// A job: nothing beyond what any account may.
    None,
    /// A setup task: root of the node, as root of a container.
    Root,
}

/// What container runtimes leave to root of a container by default.
///
/// Source: the default capability set of Docker and containerd.
const ROOT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// What of `/proc` tells of more than the node.
///
/// Source: the default masked paths of container runtimes.
const MASKED: [&str; 10] =
    ["acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats"];

/// What of `/proc` reaches more than the node when it is written.
///
/// Source: the default read-only paths of container runtimes.
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

const CLOSED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Keeps this process, which holds secrets of others, from being read by what it runs, and all from leaving memory on disk.
///
/// # Errors
/// The kernel refuses.
pub(super) fn keep_memory_private() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// Gives this process a view of its own, in the mount namespace that it was started in: a `/proc` of its own processes, and nothing at
/// `hidden`. It must be the first process of its process namespace.
///
/// # Errors
/// The kernel refuses: nothing may be run.
pub(super) fn narrow_view(hidden: &[PathBuf]) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    match mount("proc", "/proc", "proc", CLOSED, Some(c"hidepid=2")) {
        Ok(()) => {}
        // Kernels before 5.8 take the option for all mounts or none.
        Err(Errno::INVAL) => mount("proc", "/proc", "proc", CLOSED, None).map_err(at("/proc"))?,
        Err(error) => return Err(at("/proc")(error)),
    }
    for name in READ_ONLY {
        let path = Path::new("/proc").join(name);
        if path.exists() {
            mount_bind(&path, &path).map_err(at(&path))?;
            mount_remount(&path, MountFlags::BIND | MountFlags::RDONLY | CLOSED, c"").map_err(at(&path))?;
        }
    }
    for name in MASKED {
        hide(&Path::new("/proc").join(name))?;
    }
    for path in hidden {
        hide(path)?;
    }
    Ok(())
}

/// Gives this process a view of its own in which there is nothing at `hidden`.
///
/// # Errors
/// The kernel refuses: nothing may be run.
pub(super) fn hide_all(hidden: &[PathBuf]) -> io::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    hidden.iter().try_for_each(|path| hide(path))
}

/// Shows the folder `shown` at `target` as well, where nothing in it raises anybody's rights. By descriptor: whatever stands at their
/// paths.
///
/// # Errors
/// The kernel refuses.
pub(super) fn show(shown: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    mount_bind(by_descriptor(shown), by_descriptor(target))?;
    Ok(())
}

/// A path that leads to what is open.
pub(super) fn by_descriptor(open: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()))
}

/// Puts nothing over `path`, if it is there.
fn hide(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(meta) if meta.is_dir() => {
            mount("none", path, "tmpfs", CLOSED | MountFlags::RDONLY, Some(c"mode=000,size=4k")).map_err(at(path))
        }
        Ok(_) => mount_bind("/dev/null", path).map_err(at(path)),
        Err(_) => Ok(()),
    }
}

fn at<P: AsRef<Path>>(path: P) -> impl FnOnce(Errno) -> io::Error {
    move |error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("cannot mount {}: {error}", path.as_ref().display()))
    }
}

/// Takes from all that this process will start whatever `rights` do not include, for good. What this process itself needs to become
/// another user, to signal and to own files stays with it.
///
/// # Errors
/// The kernel refuses: nothing may be run.
pub(super) fn shed(rights: Rights) -> io::Result<()> {
    let kept = match rights {
        Rights::None => CapabilitySet::empty(),
        Rights::Root => ROOT,
    };
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // This kernel has no more than these.
            Err(Errno::INVAL) => break,
            // Without the right to give up there is none to give up either: what is started gets nothing more than it has now.
            Err(Errno::PERM) if !has_any()? => break,
            Err(error) => return Err(error.into()),
        }
    }
    let now = rustix::thread::capabilities(None)?;
    let own = now.permitted.intersection(ROOT);
    set_capabilities(None, CapabilitySets { effective: own, permitted: own, inheritable: CapabilitySet::empty() })?;
    rustix::thread::set_no_new_privs(true)?;
    seccomp::forbid().map_err(io::Error::other)
}

fn has_any() -> io::Result<bool> {
    Ok(!rustix::thread::capabilities(None)?.permitted.is_empty())
}
