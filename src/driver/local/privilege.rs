//! Whether nodes can be separated by namespaces here, found out by doing it.

use std::io;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::domain::bootstrap::Isolation;
use crate::driver::local::netlink::Netlink;

/// How nodes are to be separated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privilege {
    /// By namespaces where this process may make them, else by process groups.
    #[default]
    Auto,
    /// By namespaces; refuses to start where this process may not make them.
    Namespaces,
    /// By process groups alone.
    ProcessGroup,
    /// By kernels of their own, in namespaces; refuses to start as `Namespaces` does.
    VirtualMachines,
}

/// Decides how nodes are separated here.
///
/// # Errors
/// Namespaces are demanded and cannot be had; the reason is the first step that failed.
pub(super) fn decide(wanted: Privilege) -> io::Result<Isolation> {
    match wanted {
        Privilege::ProcessGroup => Ok(Isolation::ProcessGroup),
        Privilege::Namespaces => attempt().map(|()| Isolation::Namespaces),
        Privilege::VirtualMachines => attempt().map(|()| Isolation::VirtualMachine),
        Privilege::Auto => Ok(match attempt() {
            Ok(()) => Isolation::Namespaces,
            Err(error) => {
                tracing::warn!(error = %error, "nodes are plain processes: this process may not separate them");
                Isolation::ProcessGroup
            }
        }),
    }
}

/// Makes one of each kind of thing that a node needs, in a thread whose namespaces end with it. Being root proves nothing, and
/// not being root neither.
fn attempt() -> io::Result<()> {
    let step = |doing: &'static str| move |error: io::Error| io::Error::new(error.kind(), format!("cannot {doing}: {error}"));
    let thread = std::thread::Builder::new().name("privilege".into()).spawn(move || {
        let namespaces = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID;
        // Only root keeps its rights in the programs that it starts.
        if !rustix::process::geteuid().is_root() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "cannot make namespaces: not root"));
        }
        unshare(namespaces).map_err(|e| step("make namespaces")(e.into()))?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(|e| step("keep mounts to a namespace")(e.into()))?;
        // Inside containers these two may be what is not allowed.
        mount("proc", "/proc", "proc", MountFlags::empty(), None).map_err(|e| step("mount proc")(e.into()))?;
        mount("sysfs", "/sys", "sysfs", MountFlags::RDONLY, None).map_err(|e| step("mount sysfs")(e.into()))?;
        mount("tmpfs", "/proc", "tmpfs", MountFlags::empty(), None).map_err(|e| step("mount tmpfs")(e.into()))?;
        let mut network = Netlink::open()?;
        network.add_bridge("probe").map_err(step("make a bridge"))
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the attempt broke off")))
}
