//! The last steps before a program of Postgres runs: open its folders, become its account, tie its life to the server's.
//!
//! In: a [`Launch`], as the arguments of the hidden command `postgres`. Out: the program in place of this process.
//!
//! The folders are opened while the process still is who the server is, and reach the program as `/proc/self/fd/N`. So the account
//! of Postgres needs no way through the folders above: the data folder can be closed to everyone but the server, wherever it is.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};

/// What stands for the opened data folder in the arguments.
pub(super) const DATA: &str = "{data}";

/// What stands for the opened folder of the socket in the arguments.
pub(super) const SOCKET: &str = "{socket}";

/// A program of Postgres and what it runs with.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Launch {
    /// The user id to become.
    #[arg(long)]
    pub uid: u32,
    /// The group id to become.
    #[arg(long)]
    pub gid: u32,
    /// The process whose end ends Postgres too.
    #[arg(long)]
    pub parent: i32,
    /// The folder of the database.
    #[arg(long)]
    pub data: PathBuf,
    /// The folder of the socket.
    #[arg(long)]
    pub socket: PathBuf,
    /// The program and its arguments; `{data}` and `{socket}` stand for the folders.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

impl Launch {
    /// The arguments that [`run`](Self::run) is called with, after the name of the hidden command.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        for (name, value) in
            [("--uid", self.uid.to_string()), ("--gid", self.gid.to_string()), ("--parent", self.parent.to_string())]
        {
            arguments.extend([name.into(), value.into()]);
        }
        for (name, value) in [("--data", &self.data), ("--socket", &self.socket)] {
            arguments.extend([name.into(), value.clone().into_os_string()]);
        }
        arguments.push("--".into());
        arguments.extend(self.command.iter().cloned());
        arguments
    }

    /// Becomes the program. Answers only where that fails.
    pub fn run(&self) -> io::Error {
        match self.prepare() {
            Ok(mut command) => command.exec(),
            Err(error) => error,
        }
    }

    fn prepare(&self) -> io::Result<Command> {
        let data = inheritable(&self.data)?;
        let socket = inheritable(&self.socket)?;
        rustix::process::fchdir(&data)?;
        rustix::process::umask(Mode::from_raw_mode(0o077));
        if Uid::effective().is_root() {
            nix::unistd::setgroups(&[])?;
            nix::unistd::setgid(Gid::from_raw(self.gid))?;
            nix::unistd::setuid(Uid::from_raw(self.uid))?;
        }
        // After the change of account, which clears it. SIGINT is Postgres's fast, clean stop.
        rustix::process::set_parent_process_death_signal(Some(Signal::INT))?;
        if rustix::process::getppid().map(Pid::as_raw_nonzero).map(i32::from) != Some(self.parent) {
            return Err(io::Error::other("the server ended meanwhile"));
        }
        let place = |fd: &rustix::fd::OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let (data_place, socket_place) = (place(&data), place(&socket));
        // Both stay open for the program and its children.
        std::mem::forget((data, socket));
        let mut words = self.command.iter().map(|word| match word.to_str() {
            Some(word) => OsString::from(word.replace(DATA, &data_place).replace(SOCKET, &socket_place)),
            None => word.clone(),
        });
        let program = words.next().ok_or_else(|| io::Error::other("no program"))?;
        let mut command = Command::new(program);
        command.args(words);
        Ok(command)
    }
}

/// A folder, open so that it stays open in the program: for passing through alone.
fn inheritable(path: &Path) -> io::Result<rustix::fd::OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?)
}
