//! What a node's first process, and so everything in the node, may not do.

use std::io;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};

/// What container runtimes leave to root of a container by default, and the right to make namespaces and mounts, which the agent
/// needs to separate what it runs. Nothing that reaches the kernel or the devices: no modules, raw I/O, clock, reboot, tracing of
/// others, network set-up, or raised limits.
///
/// Source: the default capability set of Docker and containerd.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
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
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SYS_ADMIN);

/// What a file server has besides: a client names a file by its handle, also after the server was started anew. No job runs there.
///
/// Source: open_by_handle_at(2).
pub(super) const BY_HANDLE: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// Gives up all capabilities but those and `more`, for this process and all that it starts, for good.
///
/// # Errors
/// The kernel refuses; then not all are given up.
pub(super) fn shed_capabilities(more: CapabilitySet) -> io::Result<()> {
    let kept = KEPT.union(more);
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // This kernel has no more than these.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // What this process itself never had it cannot keep either.
    let now = rustix::thread::capabilities(None)?;
    let kept = now.permitted.intersection(kept);
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })?;
    Ok(())
}
