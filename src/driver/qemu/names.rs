//! The names of a cluster's nodes, from the shell's folder of what all nodes know to the machine's `/etc/hosts`, as they change.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::inotify;

use crate::driver::local::layout::{CLUSTER, HOSTS};

/// Longest list of names. Unit: bytes.
const MAX: usize = 1 << 20;

/// Tells a machine the names, and again whenever they change: each time their length as a line, then they.
///
/// # Errors
/// The machine listens no more, or changes cannot be seen.
pub(super) fn tell(mut machine: TcpStream) -> io::Result<()> {
    let folder = Path::new(CLUSTER);
    let changes = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    // Whole under its name: written beside it and renamed.
    inotify::add_watch(&changes, folder, inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE)?;
    let mut events = [0; 4096];
    loop {
        let names = std::fs::read(folder.join(HOSTS))?;
        writeln!(machine, "{}", names.len())?;
        machine.write_all(&names)?;
        rustix::io::read(changes.as_fd(), &mut events)?;
    }
}

/// Writes what the shell tells to `/etc/hosts`, for as long as it tells.
///
/// # Errors
/// The shell has ended, or the file cannot be written.
pub(super) fn learn(shell: TcpStream) -> io::Result<()> {
    let mut shell = BufReader::new(shell);
    loop {
        let mut length = String::new();
        if shell.read_line(&mut length)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = length.trim_end().parse().ok().filter(|length| *length <= MAX);
        let mut names = vec![0; length.ok_or_else(|| io::Error::other("the names have no length"))?];
        shell.read_exact(&mut names)?;
        let beside = Path::new("/etc").join(format!("{HOSTS}.new"));
        std::fs::write(&beside, &names)?;
        std::fs::rename(beside, Path::new("/etc").join(HOSTS))?;
    }
}
