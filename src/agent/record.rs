//! What is on disk about one thing that a supervisor runs: a folder in the agent's own folder, of a name that is used once. A supervisor
//! that is late, because the agent that started it died, finds nothing under its name, whatever was started in its place.
//!
//! - `ticket`: made by the agent before it starts the supervisor, taken by exactly one: by the supervisor, which may then begin, or by
//!   a later agent, which may then start another. So nothing begins twice.
//! - `started`: there, and safe against loss of power, before the command starts.
//! - `state.json`: how far it is, written whole by the supervisor.
//! - `control`, `events`: pipes; what the agent tells, and that the state has changed.
//! - `plan.json`: where its output is, written by the agent, for the agent after it.
//! - `shipped`: pieces of output on their way to the server.
//!
//! What is run, and with which secrets, is on no disk: the supervisor reads it from its standard input, which is memory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, mknodat, openat, renameat, statat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::attempt::{AssignmentState, End};

/// How far something is, as its supervisor wrote it down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// How far. [`AssignmentState::Assigned`] until all is prepared.
    pub(super) state: AssignmentState,
    /// When the command started.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(super) started_at: Option<Timestamp>,
    /// How it ended.
    pub(super) end: Option<End>,
    /// When it was known how: what ended first tells why others did.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(super) ended_at: Option<Timestamp>,
}

impl Record {
    /// Nothing has happened.
    pub(super) fn new() -> Record {
        Record { state: AssignmentState::Assigned, started_at: None, end: None, ended_at: None }
    }
}

const TICKET: &str = "ticket";
const TAKEN: &str = "taken";
const STARTED: &str = "started";
const STATE: &str = "state.json";
const CONTROL: &str = "control";
const EVENTS: &str = "events";

/// A name for a folder of `what` that no other ever has.
pub(super) fn name_once(what: &str) -> String {
    format!("{what}.{}", uuid::Uuid::new_v4().simple())
}

/// A descriptor of such a folder: it works also when its path leads nowhere any more.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Makes a folder and all that is in it at the beginning.
    ///
    /// # Errors
    /// It cannot be made, `AlreadyExists` where it is there.
    pub(super) fn create(path: &Path) -> io::Result<Folder> {
        mkdirat(CWD, path, Mode::RWXU)?;
        let folder = Folder::open(path)?;
        for pipe in [CONTROL, EVENTS] {
            mknodat(&folder.0, pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        }
        openat(&folder.0, TICKET, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
        Ok(folder)
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn open(path: &Path) -> io::Result<Folder> {
        Ok(Folder(openat(CWD, path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Takes the ticket. Answers whether it was there to take.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn take_ticket(&self) -> io::Result<bool> {
        match renameat(&self.0, TICKET, &self.0, TAKEN) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes down that the command is about to start. Returns once that is safe against loss of power.
    ///
    /// # Errors
    /// It is not safe: nothing may start.
    pub(super) fn mark_started(&self) -> io::Result<()> {
        let mark = openat(&self.0, STARTED, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::fsync(&mark)?;
        rustix::fs::fsync(&self.0)?;
        Ok(())
    }

    /// Whether the command may have started.
    pub(super) fn is_started(&self) -> bool {
        statat(&self.0, STARTED, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Writes how far it is, so that a reader sees this or what was before.
    ///
    /// # Errors
    /// It is as before.
    pub(super) fn write_record(&self, record: &Record) -> io::Result<()> {
        self.write_json(STATE, record)
    }

    /// How far it is; `None` where that is not there or cannot be read.
    pub(super) fn find_record(&self) -> Option<Record> {
        self.find_json(STATE)
    }

    /// Writes `value` to the file `name`, all or nothing.
    ///
    /// # Errors
    /// It is as before.
    pub(super) fn write_json<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let beside = format!("{name}.new");
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.0, &*beside, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(&serde_json::to_vec(value)?)?;
        renameat(&self.0, &*beside, &self.0, name)?;
        Ok(())
    }

    /// The value in the file `name`; `None` where it is not there or not whole.
    pub(super) fn find_json<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let file = openat(&self.0, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Opens the file `name` to read it and to add to it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn append(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::APPEND | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// What the agent tells. Both ends hold it for reading and writing, so that neither ever meets its end.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn control(&self) -> io::Result<File> {
        self.pipe(CONTROL)
    }

    /// Says that the state has changed.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn events(&self) -> io::Result<File> {
        self.pipe(EVENTS)
    }

    fn pipe(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.0, name, flags, Mode::empty())?))
    }
}

/// What the agent tells a supervisor: one line each. Repeating one is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The command may start.
    Run,
    /// Everything is to end; after this many milliseconds by force.
    Stop { grace_ms: u32 },
}

impl Told {
    pub(super) fn line(self) -> String {
        match self {
            Told::Run => "run\n".to_owned(),
            Told::Stop { grace_ms } => format!("stop {grace_ms}\n"),
        }
    }

    pub(super) fn parse(line: &str) -> Option<Told> {
        match line.split_once(' ') {
            None if line == "run" => Some(Told::Run),
            Some(("stop", grace)) => Some(Told::Stop { grace_ms: grace.parse().ok()? }),
            _ => None,
        }
    }
}

/// What a supervisor runs. It holds secrets: it is handed over in memory.
pub(super) fn hand_over<T: Serialize>(work: &T) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("work", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(&serde_json::to_vec(work)?)?;
    rustix::fs::seek(file.as_fd(), rustix::fs::SeekFrom::Start(0))?;
    Ok(OwnedFd::from(file))
}

/// What was handed over to this process as its standard input. Whatever it runs does not find it there.
///
/// # Errors
/// It is not there, or not readable as what is asked for.
pub(super) fn take_over<T: DeserializeOwned>() -> io::Result<T> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    rustix::fs::ftruncate(io::stdin(), 0)?;
    Ok(serde_json::from_str(&text)?)
}

/// The pipes between what has a folder and the agent, at the end that is not the agent's.
pub(super) struct Pipes {
    control: File,
    events: File,
    /// The beginning of a line of `control`.
    heard: String,
}

impl Pipes {
    /// Opens those of a folder.
    ///
    /// # Errors
    /// They are not there.
    pub(super) fn open(folder: &Folder) -> io::Result<Pipes> {
        Ok(Pipes { control: folder.control()?, events: folder.events()?, heard: String::new() })
    }

    /// Can be read when the agent has told something.
    pub(super) fn control(&self) -> &File {
        &self.control
    }

    /// What the agent has told since it was last asked.
    pub(super) fn told(&mut self) -> Vec<Told> {
        let mut buffer = [0; 256];
        while let Ok(count @ 1..) = self.control.read(&mut buffer) {
            self.heard.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
        }
        let mut all = Vec::new();
        while let Some((line, rest)) = self.heard.split_once('\n') {
            all.extend(Told::parse(line));
            self.heard = rest.to_owned();
        }
        all
    }

    /// Keeps the record of `folder` current and says so.
    ///
    /// # Errors
    /// It is neither written nor said.
    pub(super) fn tell(&mut self, folder: &Folder, record: &Record) -> io::Result<()> {
        let written = folder.write_record(record);
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        // On a full disk the agent still hears it.
        written.or(self.events.write_all(&line))
    }
}

/// What the other side wrote over what was handed over to it.
///
/// # Errors
/// It wrote nothing, or nothing whole.
pub(super) fn read_handed_over<T: DeserializeOwned>(memory: &File) -> io::Result<T> {
    use std::os::unix::fs::FileExt;
    let length = usize::try_from(memory.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    memory.read_exact_at(&mut bytes, 0)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Writes `value` to `path`, all or nothing, for root of the node alone, and safe against loss of power.
///
/// # Errors
/// It is as before.
pub(super) fn write_private<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let beside = PathBuf::from(format!("{}.new", path.display()));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

/// The value in `path`; `None` where it is not there or not whole.
pub(super) fn find_private<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_back() {
        for told in [Told::Run, Told::Stop { grace_ms: 30_000 }] {
            assert_eq!(Told::parse(told.line().trim_end()), Some(told));
        }
        assert_eq!(Told::parse("runs"), None);
        assert_eq!(Told::parse("stop x"), None);
    }

    #[test]
    fn a_ticket_is_taken_once_and_a_torn_state_is_none() {
        let path = std::env::temp_dir().join(format!("record-{}", uuid::Uuid::new_v4()));
        let folder = Folder::create(&path).expect("a folder");
        assert!(Folder::create(&path).is_err(), "an attempt has one folder");
        assert!(folder.take_ticket().expect("there"));
        assert!(!folder.take_ticket().expect("there"));
        assert_eq!(folder.find_record(), None);
        folder.write_record(&Record::new()).expect("written");
        assert_eq!(folder.find_record(), Some(Record::new()));
        std::fs::write(path.join(STATE), "{\"state\":").expect("torn");
        assert_eq!(folder.find_record(), None);
        std::fs::remove_dir_all(&path).expect("removed");
    }
}
