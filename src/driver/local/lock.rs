//! Locks that other server processes respect: a folder is held by whoever has it locked, and locks end with their holders.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::driver::local::layout::at;

/// Longest time that a folder is waited for. Whoever holds one has deadlines of their own, shorter than this together.
const DEADLINE: Duration = Duration::from_secs(40);

/// A folder that nobody else has, until this is dropped.
#[derive(Debug)]
pub(in crate::driver) struct FolderLock {
    _folder: File,
}

impl FolderLock {
    /// Makes the folder with mode 0700 where it is missing, and waits until it is nobody else's.
    ///
    /// # Errors
    /// It cannot be made or opened, or is not free in time.
    pub(in crate::driver) fn make(path: &Path) -> io::Result<FolderLock> {
        loop {
            make_folder(path, 0o700)?;
            if let Some(lock) = FolderLock::find(path)? {
                return Ok(lock);
            }
        }
    }

    /// Waits until the folder is nobody else's; none where there is no such folder.
    ///
    /// # Errors
    /// It cannot be opened, or is not free in time.
    pub(super) fn find(path: &Path) -> io::Result<Option<FolderLock>> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let folder = match File::open(path) {
                Ok(folder) => folder,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(at("open", path)(error)),
            };
            // The kernel offers no lock with a deadline, and a holder in another process no other event.
            while let Err(error) = rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                if error != rustix::io::Errno::WOULDBLOCK && error != rustix::io::Errno::INTR {
                    return Err(at("lock", path)(error));
                }
                if Instant::now() > deadline {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("{} is held by another process", path.display()),
                    ));
                }
                std::thread::sleep(Duration::from_millis(3));
            }
            // The former holder may have removed it, and someone made it anew: then this is the lock of nothing.
            let held = folder.metadata().map_err(at("read", path))?;
            if std::fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (held.dev(), held.ino())) {
                return Ok(Some(FolderLock { _folder: folder }));
            }
        }
    }
}

/// Whether someone holds this file or folder right now; also when that cannot be told.
pub(super) fn is_held(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Makes a folder with exactly this mode, and its parents; one that is there is left as it is.
pub(in crate::driver) fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(at("make", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_until_the_lock_is_dropped() {
        let path = std::env::temp_dir().join(format!("batchyard-lock-{}", uuid::Uuid::now_v7()));
        assert!(FolderLock::find(&path).expect("readable").is_none());
        let lock = FolderLock::make(&path).expect("made");
        assert!(is_held(&path));
        drop(lock);
        assert!(!is_held(&path));
        std::fs::remove_dir(&path).expect("empty");
    }

    #[test]
    fn whoever_waited_for_a_folder_that_was_removed_gets_the_new_one() {
        let path = std::env::temp_dir().join(format!("batchyard-lock-{}", uuid::Uuid::now_v7()));
        let lock = FolderLock::make(&path).expect("made");
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || FolderLock::make(&path).map(drop)
        });
        std::fs::remove_dir(&path).expect("empty");
        drop(lock);
        waiter.join().expect("no panic").expect("made anew");
        assert!(path.is_dir());
        std::fs::remove_dir(&path).expect("empty");
    }
}
