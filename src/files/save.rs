//! Saving a file on the share, without trust in what is there: jobs write beside it, and swap names while the server looks.
//!
//! Each folder on the way is made and opened beneath the share by the kernel, across no link and no mount. The file is written beside its
//! name and then put in its place, so that no job reads a part of it.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::share::{Failure, beneath, root};

/// What jobs may do with folders and files: read and enter them, and run what is a program.
const READABLE: u32 = 0o755;

/// Saves `data` at `path` (segments joined by `/`) beneath `share`.
pub(super) fn save(share: &Path, path: &str, data: &[u8]) -> Result<(), Failure> {
    let (share, _) = root(share)?;
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mode = Mode::from_raw_mode(READABLE);
    let mut folder: OwnedFd = share;
    for segment in folders.split('/').filter(|segment| !segment.is_empty()) {
        match rustix::fs::mkdirat(&folder, segment, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        folder = beneath(&folder, segment, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
    }
    let making = format!(".{}.making", uuid::Uuid::new_v4().simple());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&folder, &making, flags, mode)?);
    let saved = file
        .write_all(data)
        .map_err(Failure::Broken)
        // Whatever this process takes away from modes.
        .and_then(|()| rustix::fs::fchmod(&file, mode).map_err(Failure::from))
        .and_then(|()| file.sync_all().map_err(Failure::Broken))
        .and_then(|()| {
            rustix::fs::renameat(&folder, &making, &folder, name).map_err(|error| match error {
                Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => Failure::Absent,
                error => error.into(),
            })
        });
    if saved.is_err() {
        let _ = rustix::fs::unlinkat(&folder, &making, AtFlags::empty());
    }
    saved
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_is_saved_in_folders_that_jobs_can_read() {
        let share = tempfile::tempdir().expect("a folder");
        save(share.path(), "inputs/a/run.sh", b"one").expect("saves");
        save(share.path(), "inputs/a/run.sh", b"two").expect("replaces");
        let file = share.path().join("inputs/a/run.sh");
        assert_eq!(std::fs::read(&file).expect("reads"), b"two");
        assert_eq!(std::fs::metadata(&file).expect("is there").permissions().mode() & 0o777, READABLE);
        assert_eq!(std::fs::read_dir(share.path().join("inputs/a")).expect("lists").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn nothing_is_saved_across_a_link_or_over_a_folder() {
        let (share, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        symlink(outside.path(), share.path().join("inputs")).expect("links");
        assert!(matches!(save(share.path(), "inputs/a", b"x"), Err(Failure::Absent)));
        assert_eq!(std::fs::read_dir(outside.path()).expect("lists").count(), 0);
        std::fs::create_dir_all(share.path().join("good/name")).expect("makes");
        assert!(matches!(save(share.path(), "good/name", b"x"), Err(Failure::Absent)));
        symlink(outside.path().join("target"), share.path().join("good/link")).expect("links");
        save(share.path(), "good/link", b"x").expect("the link itself is replaced");
        assert!(!outside.path().join("target").exists());
        assert_eq!(std::fs::read_dir(share.path().join("good")).expect("lists").count(), 2);
    }
}
