//! What a part runs out of: memory and processes by the counters of its control groups, disks by what is left on them.
//!
//! In: the groups, while they are in sight, and the folders that the part may write to. Out: whether a bad end has one of them as its
//! cause, and whether the part has to end before a disk that others need too is full. The kernel bounds memory and processes by itself;
//! a disk has no such bound where nodes share it.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, fstatvfs, openat, statat};

use crate::agent::beneath::{open_folder, open_trusted};
use crate::agent::layout::Place;

/// Files of control groups that count, with the word before the number: of the second version and of the first.
const COUNTERS: [(&str, &str, Counts); 3] = [
    ("memory.events", "oom_kill", Counts::Killed),
    ("memory.oom_control", "oom_kill", Counts::Killed),
    ("pids.events", "max", Counts::Refused),
];

/// Most of a disk that is kept free of what jobs write. Unit: bytes.
const MOST_KEPT: u64 = 1 << 30;

/// Least that is kept, where that is not a tenth of the disk. Unit: bytes.
const LEAST_KEPT: u64 = 32 << 20;

/// A part that wrote less than this has not filled the disk, and is spared as long as there is a rest. Unit: bytes.
const SMALL: u64 = 64 << 20;

/// Files that are looked at to tell how much a part wrote; one with more counts as if it had written very much.
const MOST_FILES: u32 = 100_000;

/// Folders within folders that are looked into.
const DEPTH: u32 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    /// Processes that were ended for want of memory.
    Killed,
    /// Processes that could not be started because there were too many.
    Refused,
}

struct Counter {
    file: File,
    word: &'static str,
    counts: Counts,
    before: u64,
}

impl Counter {
    fn read(&self) -> u64 {
        let mut text = [0; 512];
        let count = self.file.read_at(&mut text, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(text.get(..count).unwrap_or_default()).into_owned();
        find_number(&text, self.word).unwrap_or(0)
    }
}

/// The number after `word` at the beginning of a line.
fn find_number(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The counters of a part's control groups, from when it began.
pub(super) struct Counters(Vec<Counter>);

impl Counters {
    /// Begins to count. What is not there is not counted.
    pub(super) fn open(groups: &[PathBuf]) -> Counters {
        let found = groups.iter().flat_map(|group| {
            COUNTERS.into_iter().filter_map(|(name, word, counts)| {
                let counter = Counter { file: File::open(group.join(name)).ok()?, word, counts, before: 0 };
                Some(Counter { before: counter.read(), ..counter })
            })
        });
        Counters(found.collect())
    }

    fn since(&self, counts: Counts) -> u64 {
        self.0.iter().filter(|counter| counter.counts == counts).map(|c| c.read().saturating_sub(c.before)).max().unwrap_or(0)
    }

    /// Processes that the kernel ended for want of memory.
    pub(super) fn killed(&self) -> u64 {
        self.since(Counts::Killed)
    }

    /// Times that a process could not be started because there were too many.
    pub(super) fn refused(&self) -> u64 {
        self.since(Counts::Refused)
    }
}

/// A disk that a part writes to.
struct Disk {
    folder: OwnedFd,
    device: u64,
    /// What is kept free of it. Unit: bytes.
    kept: u64,
    /// Whether it was nearly full before the part began.
    was_full: bool,
}

impl Disk {
    fn open(path: &Path) -> Option<Disk> {
        let folder = open_trusted(path).ok()?;
        let device = fstat(&folder).ok()?.st_dev;
        let all = fstatvfs(&folder).ok()?;
        let kept = kept_of(all.f_blocks.saturating_mul(all.f_frsize));
        let disk = Disk { folder, device, kept, was_full: false };
        Some(Disk { was_full: disk.left() < kept / 4, ..disk })
    }

    fn left(&self) -> u64 {
        fstatvfs(&self.folder).map_or(u64::MAX, |all| all.f_bavail.saturating_mul(all.f_frsize))
    }
}

fn kept_of(size: u64) -> u64 {
    (size / 50).clamp(LEAST_KEPT.min(size / 10), MOST_KEPT)
}

/// The disks that a part writes to, and its folders on them.
pub(super) struct Disks {
    disks: Vec<Disk>,
    own: Vec<OwnedFd>,
}

impl Disks {
    /// The disks below the roots of `places`, which are the part's own folders, and below `open`, where everyone may write.
    pub(super) fn open<'a>(places: impl Iterator<Item = &'a Place> + Clone, open: &[&str]) -> Disks {
        let mut disks: Vec<Disk> = Vec::new();
        let roots = places.clone().map(|place| place.root.as_path()).chain(open.iter().map(Path::new));
        for disk in roots.filter_map(Disk::open) {
            if !disks.iter().any(|known| known.device == disk.device) {
                disks.push(disk);
            }
        }
        let below = |place: &Place| open_folder(open_trusted(&place.root).ok()?.as_fd(), &place.below).ok();
        let own = places.filter_map(below).chain(open.iter().filter_map(|path| open_trusted(Path::new(path)).ok())).collect();
        Disks { disks, own }
    }

    /// Whether this part has filled a disk: little is left, and much of what is gone is its own; or next to nothing is left, which was
    /// not so when it began.
    pub(super) fn is_filled(&self) -> bool {
        self.disks.iter().any(|disk| {
            let left = disk.left();
            left < disk.kept && (left < disk.kept / 4 && !disk.was_full || self.wrote_much(disk))
        })
    }

    fn wrote_much(&self, disk: &Disk) -> bool {
        let (mut used, mut files, mut seen) = (0, 0, BTreeSet::new());
        for folder in &self.own {
            add_below(folder.as_fd(), disk.device, 0, &mut Used { bytes: &mut used, files: &mut files, seen: &mut seen });
        }
        used >= SMALL.min(disk.kept) || files >= MOST_FILES
    }
}

struct Used<'a> {
    bytes: &'a mut u64,
    files: &'a mut u32,
    /// Folders that were counted: one may be below another.
    seen: &'a mut BTreeSet<u64>,
}

fn add_below(folder: BorrowedFd<'_>, device: u64, depth: u32, used: &mut Used<'_>) {
    let Ok(stat) = fstat(folder) else { return };
    if stat.st_dev != device || depth > DEPTH || !used.seen.insert(stat.st_ino) {
        return;
    }
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.map_while(Result::ok) {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if *used.files >= MOST_FILES {
            return;
        }
        *used.files += 1;
        let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_dev != device {
            continue;
        }
        *used.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(inside) = openat(folder, name, flags, Mode::empty()) {
                add_below(inside.as_fd(), device, depth + 1, used);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_both_versions_are_read() {
        assert_eq!(find_number("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(find_number("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n", "oom_kill"), Some(1));
        assert_eq!(find_number("max 12\n", "max"), Some(12));
        assert_eq!(find_number("", "max"), None);
    }

    #[test]
    fn small_disks_keep_a_tenth_and_large_ones_a_gibibyte() {
        assert_eq!(kept_of(100 << 20), 10 << 20);
        assert_eq!(kept_of(1 << 30), 32 << 20);
        assert_eq!(kept_of(10 << 30), (10 << 30) / 50);
        assert_eq!(kept_of(1 << 40), 1 << 30);
        assert_eq!(kept_of(0), 0);
    }

    #[test]
    fn what_is_written_is_counted_once_and_links_lead_nowhere() {
        let path = std::env::temp_dir().join(format!("scarce-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(path.join("own/deep")).expect("made");
        std::fs::write(path.join("own/deep/file"), vec![1; 1 << 20]).expect("written");
        std::os::unix::fs::symlink("/usr", path.join("own/link")).expect("made");
        let (mut bytes, mut files, mut seen) = (0, 0, BTreeSet::new());
        let device = fstat(open_trusted(&path).expect("there")).expect("there").st_dev;
        for below in ["", "own", "own/deep"] {
            let folder = open_trusted(&path.join(below)).expect("there");
            add_below(folder.as_fd(), device, 0, &mut Used { bytes: &mut bytes, files: &mut files, seen: &mut seen });
        }
        assert_eq!(files, 4, "own, deep, file, link");
        assert!((1 << 20..(1 << 20) + 65_536).contains(&bytes), "{bytes}");
        std::fs::remove_dir_all(&path).expect("removed");
    }
}
