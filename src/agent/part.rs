//! A process that outlives the agent, from the agent's side: starting it, finding it again, telling it, and noticing its end.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use rustix::process::Signal;
use serde::Serialize;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;

use crate::agent::process::{self, Handle};
use crate::agent::readiness::readable;
use crate::agent::record::{Folder, Record, Told, hand_over};
use crate::domain::bootstrap::Isolation;
use crate::task::Tasks;

/// What a process is that outlives the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Supervises what is run, in a view of its own.
    Supervisor,
    /// Keeps a mount, in the node's view.
    Keeper,
}

impl Kind {
    /// The hidden subcommand of this binary that is one.
    fn subcommand(self) -> &'static str {
        match self {
            Kind::Supervisor => "supervise",
            Kind::Keeper => "keep-mount",
        }
    }

    /// Namespaces of its own, where the node has any.
    fn namespaces(self) -> CloneFlags {
        match self {
            Kind::Supervisor => CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS,
            Kind::Keeper => CloneFlags::CLONE_NEWPID,
        }
    }
}

/// What happened to a supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// It wrote this down.
    Record(Record),
    /// It is gone, and with namespaces all that it ran.
    Gone,
}

/// A supervisor that runs.
#[derive(Debug)]
pub(super) struct Running {
    process: Handle,
    control: File,
    child: Option<Child>,
    pid: i32,
}

impl Running {
    /// Starts a supervisor on a folder that was made for it.
    ///
    /// # Errors
    /// It was not started.
    pub(super) fn start<W: Serialize>(kind: Kind, isolation: Isolation, path: &Path, work: &W) -> io::Result<Running> {
        let folder = Folder::open(path)?;
        let control = folder.control()?;
        let input = hand_over(work)?;
        let child = spawn(kind, isolation, path.as_os_str().to_owned(), input)?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        // Its number is its own until it is waited for, which only we do.
        let process = Handle::open(pid, || true).ok_or_else(|| io::Error::other("the supervisor cannot be watched"))?;
        Ok(Running { process, control, child: Some(child), pid })
    }

    /// Takes hold of a supervisor that an earlier agent started.
    fn adopt(kind: Kind, path: &Path, pid: i32) -> Option<Running> {
        let process = Handle::open(pid, || find_folder(kind, pid).as_deref() == Some(path))?;
        // Without its folder nothing can be told to it.
        let control = Folder::open(path).and_then(|folder| folder.control()).or_else(|_| File::open("/dev/null")).ok()?;
        Some(Running { process, control, child: None, pid })
    }

    /// Tells it something.
    ///
    /// # Errors
    /// It does not listen.
    pub(super) fn tell(&mut self, told: Told) -> io::Result<()> {
        self.control.write_all(told.line().as_bytes())
    }

    /// Ends it by force, and with namespaces all that it runs.
    ///
    /// # Errors
    /// It may not be signalled.
    pub(super) fn kill(&self) -> io::Result<()> {
        self.process.signal(Signal::KILL)
    }

    /// Its number.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Forgets one that is gone, so that the kernel can, too.
    pub(super) fn reap(mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }

    /// Sends what happens to it to `heard`, in the words of `name`, until it is gone.
    ///
    /// # Errors
    /// It cannot be watched.
    pub(super) fn watch<H: Send + 'static>(
        &self,
        tasks: &Tasks,
        path: &Path,
        heard: UnboundedSender<H>,
        name: impl Fn(Happening) -> H + Send + Sync + 'static,
    ) -> io::Result<()> {
        let ended = readable(self.process.descriptor.try_clone()?)?;
        let events = Folder::open(path).and_then(|folder| folder.events());
        let events = events.and_then(|events| readable(events.into())).ok();
        tasks.spawn_cancellable("supervisor", async move {
            let mut line = Vec::new();
            loop {
                tokio::select! {
                    biased;
                    record = next_record(events.as_ref(), &mut line) => {
                        let _ = heard.send(name(Happening::Record(record)));
                    }
                    _ = ended.readable() => {
                        let _ = heard.send(name(Happening::Gone));
                        return;
                    }
                }
            }
        });
        Ok(())
    }
}

/// The last record that was written into the pipe. Never, where there is no pipe.
async fn next_record(events: Option<&AsyncFd<OwnedFd>>, line: &mut Vec<u8>) -> Record {
    let Some(events) = events else { return std::future::pending().await };
    loop {
        let Ok(mut ready) = events.readable().await else { return std::future::pending().await };
        let mut buffer = [0; 4096];
        match ready.try_io(|events| Ok(rustix::io::read(events.get_ref(), &mut buffer)?)) {
            Ok(Ok(count)) => line.extend(buffer.iter().take(count)),
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => continue,
        }
        let mut last = None;
        while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let whole: Vec<u8> = line.drain(..=end).collect();
            last = serde_json::from_slice(&whole).ok().or(last);
        }
        if let Some(record) = last {
            return record;
        }
    }
}

/// Starts the process. With namespaces from a thread of its own: what that gives up is gone for it alone.
fn spawn(kind: Kind, isolation: Isolation, path: OsString, input: OwnedFd) -> io::Result<Child> {
    let spawn = move || {
        Command::new("/proc/self/exe")
            .arg0("batchyard")
            .arg(kind.subcommand())
            .arg(path)
            .current_dir("/")
            .stdin(Stdio::from(input))
            .stdout(Stdio::null())
            .spawn()
    };
    match isolation {
        Isolation::ProcessGroup => spawn(),
        Isolation::Namespaces | Isolation::VirtualMachine => std::thread::Builder::new()
            .name("spawn".into())
            .stack_size(256 * 1024)
            .spawn(move || {
                unshare(kind.namespaces())?;
                spawn()
            })?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that starts supervisors broke down"))),
    }
}

/// The folder of the process of a kind that `pid` is, if it is one of ours.
fn find_folder(kind: Kind, pid: i32) -> Option<PathBuf> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let [_, subcommand, path, ..] = words.as_slice() else { return None };
    if *subcommand != kind.subcommand().as_bytes() {
        return None;
    }
    // What a job calls itself does not count: it has another user, or is no first process.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let user = field("Uid:")?.split_whitespace().next()?.parse::<u32>().ok()?;
    let path = std::str::from_utf8(path).ok()?;
    (user == rustix::process::getuid().as_raw()).then(|| PathBuf::from(path))
}

/// What an agent finds when it starts: processes of a kind that run, by their folder.
///
/// # Errors
/// There is no `/proc`.
pub(super) fn find_running(kind: Kind, state_dir: &Path, isolation: Isolation) -> io::Result<Vec<(PathBuf, Running)>> {
    let ours = |pid: &i32| match isolation {
        Isolation::Namespaces | Isolation::VirtualMachine => is_first_of_namespace(*pid),
        Isolation::ProcessGroup => true,
    };
    let found = process::list()?.into_iter().filter_map(|pid| {
        let path = find_folder(kind, pid).filter(|path| path.starts_with(state_dir))?;
        let running = ours(&pid).then(|| Running::adopt(kind, &path, pid))??;
        Some((path, running))
    });
    Ok(found.collect())
}

fn is_first_of_namespace(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1")
}
