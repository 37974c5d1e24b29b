//! The agent's own log, where that is a file: it has a longest size, so that nothing that jobs do fills a disk with it.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, ftruncate};

/// Most bytes of it. Afterwards it begins anew.
const MOST: u64 = 16 << 20;

/// Begins the log that `descriptor` is written to anew where it has grown too long. What is no file that is added to stays as it is.
pub(super) fn keep_short(descriptor: BorrowedFd<'_>) {
    cut_beyond(descriptor, MOST);
}

fn cut_beyond(descriptor: BorrowedFd<'_>, most: u64) {
    let Ok(stat) = fstat(descriptor) else { return };
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let is_added_to = fcntl_getfl(descriptor).is_ok_and(|flags| flags.contains(OFlags::APPEND));
    if is_file && is_added_to && u64::try_from(stat.st_size).unwrap_or(0) > most && ftruncate(descriptor, 0).is_ok() {
        tracing::warn!(bytes = stat.st_size, "this log had grown too long: what was before is cut off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_log_that_is_added_to_is_cut_and_nothing_else_is() {
        let path = std::env::temp_dir().join(format!("log-{}", uuid::Uuid::new_v4()));
        let mut log = std::fs::File::options().create(true).append(true).open(&path).expect("made");
        log.write_all(&[b'x'; 100]).expect("written");
        cut_beyond(log.as_fd(), 100);
        assert_eq!(log.metadata().expect("there").len(), 100);
        let plain = std::fs::File::options().write(true).open(&path).expect("there");
        cut_beyond(plain.as_fd(), 10);
        assert_eq!(log.metadata().expect("there").len(), 100, "its writer would go on behind a hole");
        cut_beyond(log.as_fd(), 10);
        log.write_all(b"on").expect("written");
        assert_eq!(std::fs::read(&path).expect("there"), b"on");
        std::fs::remove_file(&path).expect("removed");
    }
}
