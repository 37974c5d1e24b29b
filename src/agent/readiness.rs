//! Waiting for a descriptor of the kernel's that is no socket.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for `descriptor` to be readable. Within a runtime.
///
/// # Errors
/// It cannot be waited for, as a regular file.
// The replacement is unsafe and leaves to the caller what this type promises: that the descriptor is owned and stays what it is.
#[allow(deprecated)]
pub(super) fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}
