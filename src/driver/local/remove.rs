//! Removing a node's folder, which was full of what strangers wrote.
//!
//! By descriptors, never by paths: no link is followed, no other file system entered, nothing outside touched, however deep the
//! folder is and whatever is renamed meanwhile.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::driver::local::layout::at;

/// Folders are entered to this depth; deeper ones are first moved up, so that no tree uses up the descriptors.
const DEPTH: usize = 60;

/// Removes `path` and all below it. Nothing there is no error.
///
/// # Errors
/// Something is of another file system, or cannot be removed; the rest may be gone.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    remove_contents(path, &[])?;
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes all below `path` but for the names in `keep`.
///
/// # Errors
/// As [`remove_tree`].
pub(super) fn remove_contents(path: &Path, keep: &[&str]) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(at("open", path)(error)),
    };
    let device = rustix::fs::fstat(&top)?.st_dev;
    let mut sweep = Sweep { top, device, moved: 0 };
    loop {
        let before = sweep.moved;
        let folder = sweep.top.try_clone()?;
        sweep.empty(&folder, keep, 0).map_err(at("clear", path))?;
        if sweep.moved == before {
            return Ok(());
        }
    }
}

struct Sweep {
    top: OwnedFd,
    device: u64,
    /// Folders that were moved up, for their names.
    moved: u64,
}

impl Sweep {
    fn empty(&mut self, folder: &OwnedFd, keep: &[&str], depth: usize) -> io::Result<()> {
        // Read whole before anything is removed: a folder that changes under its reader may skip entries.
        let mut names = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_owned();
            let kept = depth == 0 && keep.iter().any(|k| k.as_bytes() == name.as_bytes());
            if !matches!(name.as_bytes(), b"." | b"..") && !kept {
                names.push((name, entry.file_type()));
            }
        }
        for (name, kind) in names {
            self.remove(folder, &name, kind, depth)?;
        }
        Ok(())
    }

    fn remove(&mut self, folder: &OwnedFd, name: &CString, kind: FileType, depth: usize) -> io::Result<()> {
        if kind != FileType::Directory {
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) if kind == FileType::Unknown => {}
                Err(Errno::NOENT) | Ok(()) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        // An empty folder, or none any more: most are.
        match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(Errno::NOENT) | Ok(()) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if depth >= DEPTH {
            self.moved += 1;
            let to = format!(".moved-{}-{}", std::process::id(), self.moved);
            return Ok(rustix::fs::renameat(folder, name, self.top.as_fd(), to)?);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(inner) => inner,
            // Without the right to read it: not when we are root, and then it is our own.
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(folder, name, Mode::RWXU, AtFlags::empty())?;
                rustix::fs::openat(folder, name, flags, Mode::empty())?
            }
            Err(error) => return Err(error.into()),
        };
        if rustix::fs::fstat(&inner)?.st_dev != self.device {
            return Err(io::Error::other(format!("{} is of another file system", name.to_string_lossy())));
        }
        self.empty(&inner, &[], depth + 1)?;
        match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("batchyard-remove-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&path).expect("made");
        path
    }

    #[test]
    fn cleanup_stays_home() {
        let (home, outside) = (folder(), folder());
        std::fs::write(outside.join("canary"), "alive").expect("written");
        std::os::unix::fs::symlink(&outside, home.join("link")).expect("linked");
        std::fs::create_dir(home.join("inner")).expect("made");
        std::os::unix::fs::symlink("../..", home.join("inner/up")).expect("linked");
        std::fs::hard_link(outside.join("canary"), home.join("inner/hard")).expect("linked");
        remove_tree(&home).expect("removed");
        assert!(!home.exists());
        assert_eq!(std::fs::read_to_string(outside.join("canary")).expect("still there"), "alive");
        remove_tree(&home).expect("nothing to remove");
        remove_tree(&outside).expect("removed");
    }

    #[test]
    fn a_tree_deeper_than_paths_may_be_is_removed() {
        let home = folder();
        let mut at = rustix::fs::open(&home, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open");
        for _ in 0..2_000 {
            rustix::fs::mkdirat(&at, "deeper-and-deeper", Mode::RWXU).expect("made");
            at = rustix::fs::openat(&at, "deeper-and-deeper", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open");
        }
        drop(at);
        remove_tree(&home).expect("removed");
        assert!(!home.exists());
    }

    #[test]
    fn what_is_to_stay_stays() {
        let home = folder();
        std::fs::write(home.join("stay"), "").expect("written");
        std::fs::write(home.join("go"), "").expect("written");
        remove_contents(&home, &["stay"]).expect("cleared");
        assert!(home.join("stay").exists() && !home.join("go").exists());
        remove_tree(&home).expect("removed");
    }
}
