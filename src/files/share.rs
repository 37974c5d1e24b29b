//! The share's host folder, read without trust in what is in it: jobs write there, and swap names while the server looks.
//!
//! Every path is resolved by the kernel beneath the folder, across no link, mount or magic link, and what was opened is judged by its
//! descriptor, never by its name. Only regular files of one name on the share's own file system exist: a hard link may have been made to
//! a file that its maker cannot read. All functions block.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::clock::{Timestamp, whole_milliseconds};
use crate::domain::output::{OutputEntry, OutputFile};

/// Most entries of one directory that are looked at.
pub(super) const MAX_ENTRIES: usize = 100_000;

/// How often a resolution that the kernel could not settle, as names moved meanwhile, is tried again.
const TRIES: u32 = 32;

/// Why something cannot be read.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such thing, or it is nothing that is shown.
    Absent,
    /// The directory has more entries than are looked at.
    TooMany,
    /// The share itself, or the system, does not work.
    Broken(io::Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        match errno {
            // Absent, or a link, mount or other thing on the way that is not followed, or not readable by this server.
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NXIO
            | Errno::STALE => Failure::Absent,
            other => Failure::Broken(other.into()),
        }
    }
}

/// A regular file that is open for reading.
#[derive(Debug)]
pub(super) struct Opened {
    file: File,
    pub(super) known: OutputFile,
}

/// Opens the file at `path` (segments joined by `/`) beneath `share`.
pub(super) fn open(share: &Path, path: &str) -> Result<Opened, Failure> {
    let (root, device) = root(share)?;
    // Only looked at first: opening a device or a pipe may do something to it.
    let found = beneath(&root, path, OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = rustix::fs::fstat(&found)?;
    let known = shown_file(&stat, device).ok_or(Failure::Absent)?;
    // The same file, whatever its name stands for by now.
    let same = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(same, flags, Mode::empty())?);
    Ok(Opened { file, known })
}

impl Opened {
    /// Bytes from `start` on, `length` of them.
    ///
    /// # Errors
    /// As of reading; `UnexpectedEof` where the file has become shorter.
    pub(super) fn read(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(length);
        self.file.read_exact_at(&mut buffer, start)?;
        Ok(buffer.freeze())
    }
}

/// What is in the directory at `path` beneath `share`; empty for the share's root. Sorted by name as bytes, files before directories.
pub(super) fn list(share: &Path, path: &str) -> Result<Vec<OutputEntry>, Failure> {
    let (root, device) = root(share)?;
    let path = if path.is_empty() { "." } else { path };
    let directory = beneath(&root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK)?;
    if rustix::fs::fstat(&directory)?.st_dev != device {
        return Err(Failure::Absent);
    }
    let mut entries = Vec::new();
    let mut looked_at = 0;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        looked_at += 1;
        if looked_at > MAX_ENTRIES + 2 {
            return Err(Failure::TooMany);
        }
        // A name that is not UTF-8 cannot be asked for in a URL of ours, so that it is not shown either.
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let file = match shown_file(&stat, device) {
            Some(file) => Some(file),
            None if is_directory(&stat) && stat.st_dev == device => None,
            None => continue,
        };
        entries.push(OutputEntry { name: name.to_owned(), file });
    }
    entries.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    Ok(entries)
}

/// The share's folder and its device. The operator named it, so that links on the way to it are theirs.
pub(super) fn root(share: &Path) -> Result<(OwnedFd, u64), Failure> {
    let broken = |errno: Errno| Failure::Broken(errno.into());
    let root =
        rustix::fs::openat(CWD, share, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(broken)?;
    let device = rustix::fs::fstat(&root).map_err(broken)?.st_dev;
    Ok((root, device))
}

pub(super) fn beneath(root: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd, Failure> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    for _ in 0..TRIES {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
    Err(Failure::Absent)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// What is known of a file, if it is one that is shown.
fn shown_file(stat: &Stat, device: u64) -> Option<OutputFile> {
    let shown = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink <= 1 && stat.st_dev == device;
    let size = u64::try_from(stat.st_size).ok()?;
    let seconds = Timestamp::from_unix_timestamp(stat.st_mtime).unwrap_or(Timestamp::UNIX_EPOCH);
    let nanoseconds = std::time::Duration::from_nanos(stat.st_mtime_nsec);
    let modified_at = whole_milliseconds(seconds.checked_add(nanoseconds.try_into().ok()?).unwrap_or(seconds));
    shown.then_some(OutputFile { size, modified_at })
}
