//! What of a job's output goes to the server, and in which pieces.
//!
//! In: the output directories of one attempt that are on no storage the server reads by itself. Out: pieces in order and without holes.
//! A file is read as far as it is written. One that was truncated, replaced, or changed where it was read already begins anew with the
//! next generation. Nothing but regular files below the directory is ever opened.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Dir, FileType};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::agent::beneath::{open_file, open_folder, open_trusted};
use crate::agent::layout::{Home, Place, STANDARD};
use crate::agent::protocol::{Chunk, MAX_INLINE_OUTPUT, MAX_OUTPUT_BODY, OutputQuery};
use crate::agent::record::Folder;
use crate::agent::watch::{Change, Watch, Watched};
use crate::domain::output::check_path;
use crate::id::AttemptUid;

/// Most files of one attempt.
const MAX_FILES: usize = 10_000;

/// Most bytes of one attempt, counted as they are sent: 64 GiB.
const MAX_BYTES: u64 = 64 << 30;

/// Most bytes of one file of the standard output: 1 GiB.
const MAX_STANDARD: u64 = 1 << 30;

/// Most folders that are watched; files in others are found when the job has ended.
const MAX_FOLDERS: usize = 4_096;

/// Folders within folders that are looked into.
const MAX_DEPTH: usize = 32;

/// A file with more than this to send sends it as the body of a request of its own.
const MAX_SMALL: u64 = 64 * 1024;

/// Most bytes of such a body: two of them are in memory at a time.
const MAX_BODY: u64 = 1 << 20;
const _: () = assert!(MAX_BODY as usize <= MAX_OUTPUT_BODY);

/// A file up to this size is read again as a whole whenever it changes: small files are rewritten, large ones are added to.
const REREAD: u64 = 1 << 20;

/// In the attempt's folder: pieces that may be with the server.
const JOURNAL: &str = "shipped";

/// Lines of the journal after which it is written anew.
const JOURNAL_LINES: usize = 10_000;

/// A directory that is shipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shipped {
    /// Its id.
    pub(super) id: String,
    /// Where it is.
    pub(super) place: Place,
}

type Key = (usize, String);

/// What is known of a file.
#[derive(Clone, Debug)]
struct Known {
    /// Device and number; `None` where an earlier agent read it.
    identity: Option<(u64, u64)>,
    generation: u32,
    /// Bytes that the server has, or that are on their way.
    sent: u64,
    /// The hash of those bytes.
    hash: Sha256,
    /// Whether the server knows that there is such a file.
    announced: bool,
    /// As it was when it was last looked at.
    size: u64,
    modified: (i64, i64),
    /// Whether bytes that were read may have changed since: it was written to after some were.
    suspect: bool,
    /// The length of the next piece, where an earlier agent may have sent it.
    resend: Option<u64>,
}

impl Known {
    fn new() -> Known {
        Known {
            identity: None,
            generation: 1,
            sent: 0,
            hash: Sha256::new(),
            announced: false,
            size: 0,
            modified: (0, 0),
            suspect: false,
            resend: None,
        }
    }

    fn begin_anew(&mut self) {
        *self = Known { generation: self.generation.saturating_add(1), identity: self.identity, ..Known::new() };
    }

    fn is_pending(&self) -> bool {
        !self.announced || self.size > self.sent
    }
}

/// A piece as the journal has it.
#[derive(Serialize, Deserialize)]
struct Line {
    directory: String,
    path: String,
    generation: u32,
    offset: u64,
    length: u64,
}

/// What goes to the server next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing that is known of.
    Nothing,
    /// Pieces to go within a report.
    Inline(Vec<Chunk>),
    /// A piece to go by itself.
    Body(Chunk),
}

/// Ships the output of one attempt.
pub(super) struct Shipper {
    attempt: AttemptUid,
    directories: Vec<Shipped>,
    /// Opened once they are there.
    roots: Vec<Option<OwnedFd>>,
    files: BTreeMap<Key, Known>,
    pending: BTreeSet<Key>,
    in_flight: Next,
    folders: usize,
    bytes: u64,
    /// What is not kept, for the log.
    notices: Vec<&'static str>,
    noticed: BTreeSet<&'static str>,
    journal: Option<(File, usize)>,
    /// Whether nothing writes any more.
    finished: bool,
    /// Whether its files are where looking at them may take long: then that is for whoever may wait.
    slow: bool,
}

impl Shipper {
    /// Ships `directories`, and goes on where an earlier agent left off.
    pub(super) fn new(attempt: AttemptUid, directories: Vec<Shipped>, folder: Option<&Folder>) -> Shipper {
        let mut shipper = Shipper {
            attempt,
            roots: directories.iter().map(|_| None).collect(),
            slow: directories.iter().any(|shipped| shipped.place.home == Home::Storage),
            directories,
            files: BTreeMap::new(),
            pending: BTreeSet::new(),
            in_flight: Next::Nothing,
            folders: 0,
            bytes: 0,
            notices: Vec::new(),
            noticed: BTreeSet::new(),
            journal: None,
            finished: false,
        };
        if let Some(folder) = folder.filter(|_| !shipper.directories.is_empty()) {
            shipper.restore(folder);
        }
        shipper
    }

    fn restore(&mut self, folder: &Folder) {
        // Without a journal an agent after this one begins at the start of each file: the server ignores what it has.
        let Ok(file) = folder.append(JOURNAL) else { return };
        let mut lines = 0;
        for line in BufReader::new(&file).lines().map_while(Result::ok) {
            lines += 1;
            let Ok(line) = serde_json::from_str::<Line>(&line) else { continue };
            let Some(directory) = self.directories.iter().position(|shipped| shipped.id == line.directory) else { continue };
            let known = Known { generation: line.generation, sent: line.offset, resend: Some(line.length), ..Known::new() };
            self.bytes += line.length;
            self.files.insert((directory, line.path), known);
        }
        self.journal = Some((file, lines));
    }

    /// Looks at all there is. `watch` learns of the folders, where given.
    pub(super) fn look_at_all(&mut self, watch: Option<&mut Watch>) {
        let mut watch = watch;
        for directory in 0..self.directories.len() {
            // A job may have removed its directory and made another.
            if let Some(root) = self.roots.get_mut(directory) {
                *root = None;
            }
            self.look_at_folder(directory, "", watch.as_deref_mut());
        }
    }

    /// Looks at what changed.
    pub(super) fn look_at(&mut self, change: Change, watch: &mut Watch) {
        match change {
            Change::File { directory, path } => self.look_at_file(directory, path),
            Change::Folder { directory, path } => self.look_at_folder(directory, &path, Some(watch)),
            Change::Anything => self.look_at_all(Some(watch)),
        }
    }

    /// Looks at one file.
    pub(super) fn look_at_name(&mut self, id: &str, name: &str) {
        if let Some(directory) = self.directories.iter().position(|shipped| shipped.id == id) {
            self.look_at_file(directory, name.to_owned());
        }
    }

    /// Whether there is anything to ship.
    pub(super) fn has_directories(&self) -> bool {
        !self.directories.is_empty()
    }

    fn root(&mut self, directory: usize) -> Option<BorrowedFd<'_>> {
        let slot = self.roots.get_mut(directory)?;
        if slot.is_none() {
            let place = &self.directories.get(directory)?.place;
            *slot = open_trusted(&place.root).and_then(|root| open_folder(root.as_fd(), &place.below)).ok();
        }
        slot.as_ref().map(AsFd::as_fd)
    }

    fn look_at_folder(&mut self, directory: usize, path: &str, mut watch: Option<&mut Watch>) {
        let mut todo = vec![path.to_owned()];
        while let Some(path) = todo.pop() {
            if path.split('/').count() > MAX_DEPTH {
                self.not_kept("Folders within folders beyond 32 are not kept.");
                continue;
            }
            let Some(root) = self.root(directory) else { return };
            let Ok(folder) = open_folder(root, Path::new(&path)) else { continue };
            // Watched before it is read: what comes in between is seen twice rather than never.
            if let Some(watch) = watch.as_deref_mut().filter(|_| self.folders < MAX_FOLDERS) {
                self.folders += 1;
                let named = Watched { attempt: self.attempt, directory, path: path.clone() };
                if let Err(error) = watch.add(folder.as_fd(), named) {
                    tracing::warn!(attempt = %self.attempt, %error, "a folder of outputs cannot be watched: its files are found at the end");
                }
            }
            let Ok(entries) = Dir::read_from(&folder) else { continue };
            for entry in entries.map_while(Result::ok) {
                let Ok(name) = entry.file_name().to_str() else {
                    self.not_kept("Files whose names are no UTF-8 are not kept.");
                    continue;
                };
                if name == "." || name == ".." {
                    continue;
                }
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                match entry.file_type() {
                    FileType::Directory => todo.push(path),
                    FileType::RegularFile => self.look_at_file(directory, path),
                    // Some file systems do not say; links, pipes and devices are never opened.
                    FileType::Unknown => {
                        todo.push(path.clone());
                        self.look_at_file(directory, path);
                    }
                    _ => {}
                }
            }
        }
    }

    fn look_at_file(&mut self, directory: usize, path: String) {
        let Some(root) = self.root(directory) else { return };
        let Ok(file) = open_file(root, Path::new(&path)) else { return };
        let Ok(meta) = file.metadata() else { return };
        if check_path(&path).is_err() {
            self.not_kept("Files with paths longer than 1024 bytes are not kept.");
            return;
        }
        let is_standard = self.is_standard(directory);
        let key = (directory, path);
        let is_new = !self.files.contains_key(&key);
        if is_new && self.files.len() >= MAX_FILES {
            self.not_kept("More than 10000 files are not kept.");
            return;
        }
        let known = self.files.entry(key.clone()).or_insert_with(Known::new);
        // Storage gives files other numbers from one look to the next.
        let slow = self.slow;
        let (identity, size) = (if slow { (0, 0) } else { (meta.dev(), meta.ino()) }, meta.len());
        let modified = (meta.mtime(), meta.mtime_nsec());
        match known.identity {
            // What an earlier agent read is taken for what is there now, as far as it goes.
            None if known.sent > 0 => match hash_of(&file, known.sent) {
                Ok(Some(hash)) => known.hash = hash,
                _ => known.begin_anew(),
            },
            Some(before) if before != identity => known.begin_anew(),
            _ => {}
        }
        known.identity = Some(identity);
        let expected = known.sent + known.resend.unwrap_or(0);
        if size < expected {
            known.begin_anew();
        }
        let kept = if is_standard { size.min(MAX_STANDARD) } else { size };
        let written = modified != known.modified || kept != known.size;
        if known.sent > 0 && written {
            known.suspect = true;
            if size <= REREAD && !matches!(same_hash(&file, known), Ok(true)) {
                known.begin_anew();
            }
        }
        known.size = kept;
        known.modified = modified;
        if known.is_pending() {
            self.pending.insert(key);
        }
        if kept < size {
            self.not_kept("More than 1 GiB of a file of the standard output is not kept.");
        }
    }

    /// Bytes that [`finish`](Self::finish) will read again.
    pub(super) fn to_verify(&self) -> u64 {
        self.files.iter().filter(|(key, known)| self.is_to_verify(key, known)).map(|(_, known)| known.sent).sum()
    }

    /// Standard output and the log are only added to: their descriptors are ours.
    fn is_to_verify(&self, key: &Key, known: &Known) -> bool {
        known.suspect && known.sent > 0 && !(self.is_standard(key.0) && known.size > REREAD)
    }

    fn is_standard(&self, directory: usize) -> bool {
        self.directories.get(directory).is_some_and(|directory| directory.id == STANDARD)
    }

    /// Nothing writes any more: looks at all once again, and at bytes that may have changed after they were sent.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.look_at_all(None);
        let suspects: Vec<Key> =
            self.files.iter().filter(|(key, known)| self.is_to_verify(key, known)).map(|(key, _)| key.clone()).collect();
        for key in suspects {
            let Some(root) = self.root(key.0) else { continue };
            let Ok(file) = open_file(root, Path::new(&key.1)) else { continue };
            let Some(known) = self.files.get_mut(&key) else { continue };
            if !matches!(same_hash(&file, known), Ok(true)) {
                let (size, modified) = (known.size, known.modified);
                known.begin_anew();
                (known.size, known.modified) = (size, modified);
                self.pending.insert(key);
            }
        }
    }

    /// Whether the server has all that is known of.
    pub(super) fn is_drained(&self) -> bool {
        self.in_flight == Next::Nothing && self.pending.is_empty()
    }

    /// What is on its way: the same again until [`acknowledged`](Self::acknowledged), then what comes next. For one that is slow that is
    /// what was [read](Self::read_next).
    pub(super) fn next(&mut self) -> &Next {
        if !self.slow {
            self.read_next();
        }
        &self.in_flight
    }

    /// Reads what comes next, where nothing is on its way.
    pub(super) fn read_next(&mut self) {
        if self.in_flight == Next::Nothing {
            self.in_flight = self.gather();
        }
    }

    /// Whether it is to be looked at and read beside the loop, as that may take long.
    pub(super) fn is_slow(&self) -> bool {
        self.slow
    }

    /// Whether nothing is on its way.
    pub(super) fn is_at_rest(&self) -> bool {
        self.in_flight == Next::Nothing
    }

    /// Whether something is known of that is to be read.
    pub(super) fn is_to_read(&self) -> bool {
        self.in_flight == Next::Nothing && !self.pending.is_empty()
    }

    /// Whether all that is not yet with the server goes within one report.
    pub(super) fn is_last(&self) -> bool {
        self.pending.is_empty() && !matches!(self.in_flight, Next::Body(_))
    }

    /// The server has what was on its way.
    pub(super) fn acknowledged(&mut self) {
        self.in_flight = Next::Nothing;
    }

    fn gather(&mut self) -> Next {
        let mut chunks = Vec::new();
        let mut room = MAX_INLINE_OUTPUT as u64;
        for key in self.pending.clone() {
            let Some(known) = self.files.get(&key) else { continue };
            let most = known.resend.unwrap_or(known.size.saturating_sub(known.sent));
            if most > MAX_SMALL {
                if !chunks.is_empty() {
                    continue;
                }
                match self.read(&key, most.min(MAX_BODY)) {
                    Some(chunk) => {
                        self.note(std::slice::from_ref(&chunk));
                        return Next::Body(chunk);
                    }
                    None => continue,
                }
            }
            // Names and numbers take room, too.
            let room_needed = most + key.1.len() as u64 + 256;
            if room_needed > room {
                continue;
            }
            if let Some(chunk) = self.read(&key, most) {
                room -= room_needed;
                chunks.push(chunk);
            }
        }
        if chunks.is_empty() {
            return Next::Nothing;
        }
        self.note(&chunks);
        Next::Inline(chunks)
    }

    /// Reads the next piece of a file and counts it as sent.
    fn read(&mut self, key: &Key, most: u64) -> Option<Chunk> {
        self.pending.remove(key);
        let allowed = MAX_BYTES.saturating_sub(self.bytes);
        if allowed < most && !key.1.starts_with("execution") {
            self.not_kept("More than 64 GiB of output is not kept.");
            return None;
        }
        let id = self.directories.get(key.0)?.id.clone();
        let root = self.root(key.0)?;
        // What is gone meanwhile is not kept.
        let file = open_file(root, Path::new(&key.1)).ok()?;
        let known = self.files.get_mut(key)?;
        let mut data = vec![0; usize::try_from(most).ok()?];
        let count = read_at(&file, &mut data, known.sent).ok()?;
        if (count as u64) < most {
            // It was cut: looked at again it begins anew.
            known.size = count as u64;
            self.look_at_file(key.0, key.1.clone());
            return None;
        }
        let at = OutputQuery {
            attempt: self.attempt,
            directory: id,
            path: key.1.clone(),
            generation: known.generation,
            offset: known.sent,
            modified_at: known.modified.0,
        };
        known.hash.update(&data);
        known.sent += most;
        known.announced = true;
        known.resend = None;
        // Bytes that were read while someone may write are looked at again in the end.
        known.suspect |= !self.finished;
        if known.is_pending() {
            self.pending.insert(key.clone());
        }
        self.bytes += most;
        Some(Chunk { at, data })
    }

    /// Writes down which pieces are about to go, so that a later agent sends the same ones. Once nothing is written any more the same
    /// pieces come of the same files.
    fn note(&mut self, chunks: &[Chunk]) {
        if self.finished && self.journal.as_ref().is_none_or(|(_, lines)| *lines == 0) {
            return;
        }
        let mut text = Vec::new();
        for Chunk { at, data } in chunks {
            let line = Line {
                directory: at.directory.clone(),
                path: at.path.clone(),
                generation: at.generation,
                offset: at.offset,
                length: data.len() as u64,
            };
            text.extend(serde_json::to_vec(&line).unwrap_or_default());
            text.push(b'\n');
        }
        let Some((file, lines)) = &mut self.journal else { return };
        *lines += chunks.len();
        if *lines > JOURNAL_LINES {
            *lines = chunks.len();
            let _ = file.set_len(0);
            for (key, known) in &self.files {
                let Some(directory) = self.directories.get(key.0) else { continue };
                let on_its_way = chunks.iter().any(|chunk| chunk.at.path == key.1 && chunk.at.directory == directory.id);
                if known.announced && !on_its_way {
                    let (directory, path) = (directory.id.clone(), key.1.clone());
                    let line = Line { directory, path, generation: known.generation, offset: known.sent, length: 0 };
                    text.extend(serde_json::to_vec(&line).unwrap_or_default());
                    text.push(b'\n');
                    *lines += 1;
                }
            }
        }
        if let Err(error) = file.write_all(&text) {
            tracing::warn!(attempt = %self.attempt, %error, "pieces of output on their way cannot be written down");
        }
    }

    fn not_kept(&mut self, notice: &'static str) {
        if self.noticed.insert(notice) {
            self.notices.push(notice);
        }
    }

    /// What is not kept, each once.
    pub(super) fn take_notices(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.notices)
    }
}

/// The hash of the first `length` bytes; `None` where there are fewer.
fn hash_of(file: &File, length: u64) -> io::Result<Option<Sha256>> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; usize::try_from(length.min(1 << 18)).unwrap_or(1)];
    let mut done = 0;
    while done < length {
        let most = usize::try_from((length - done).min(1 << 18)).unwrap_or(1);
        let part = buffer.get_mut(..most).unwrap_or_default();
        let count = file.read_at(part, done)?;
        if count == 0 {
            return Ok(None);
        }
        hash.update(part.get(..count).unwrap_or_default());
        done += count as u64;
    }
    Ok(Some(hash))
}

fn same_hash(file: &File, known: &Known) -> io::Result<bool> {
    Ok(hash_of(file, known.sent)?.is_some_and(|hash| hash.finalize() == known.hash.clone().finalize()))
}

/// Fills as much of `data` as there is.
fn read_at(file: &File, data: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes a line into a log that a supervisor made.
pub(super) fn add_to_log(place: &Place, name: &str, text: &str) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags, openat};
    let root = open_trusted(&place.root)?;
    let folder = open_folder(root.as_fd(), &place.below)?;
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut log = File::from(openat(&folder, OsString::from(name).as_os_str(), flags, Mode::empty())?);
    if log.metadata()?.is_file() { log.write_all(text.as_bytes()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}
