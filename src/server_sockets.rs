//! The folder in which each server of an installation has a socket, as those see it who look for a server.
//!
//! In: the folder. Out: the sockets in it, or a connection to one that answers. Refuses to know what is said there.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The sockets, the newest first: an old one may be of a server that is gone.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sockets: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(folder)?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let made = path.symlink_metadata().ok()?.modified().ok()?;
            path.extension().is_some_and(|extension| extension == "sock").then_some((made, path))
        })
        .collect();
    sockets.sort_by(|a, b| b.cmp(a));
    Ok(sockets.into_iter().map(|(_, path)| path).collect())
}

/// Connects to the newest server that answers.
///
/// # Errors
/// As of [`list`]; `NotFound` where no server has a socket; why the last one that was tried did not answer.
pub(crate) fn connect(folder: &Path) -> io::Result<UnixStream> {
    let mut last = absent();
    for socket in list(folder)? {
        match UnixStream::connect(&socket) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// No server has a socket.
pub(crate) fn absent() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "there is no socket of a server")
}
