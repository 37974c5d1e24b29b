//! Which start of the node this is.

use std::io;

use crate::agent::process;
use crate::domain::bootstrap::Isolation;

/// The kernel's boot id joined with the start of the node's first process: differs after any restart of the machine.
///
/// # Errors
/// There is no `/proc`.
pub(super) fn boot_id(isolation: Isolation) -> io::Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let first = match isolation {
        Isolation::Namespaces | Isolation::VirtualMachine => 1,
        // Without a namespace it is what started the agent, and starts it again.
        Isolation::ProcessGroup => rustix::process::getppid().map_or(1, |pid| pid.as_raw_nonzero().get()),
    };
    let start = process::find(first).map_or(0, |stat| stat.start);
    Ok(format!("{}.{start}", kernel.trim()))
}
