//! What is mounted, as the kernel tells it, and taking it away.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};

/// Mounts on one place that are taken away, at most: each may have another below.
const STACKED: usize = 16;

/// Places that something is mounted at, in the order of mounting.
///
/// # Errors
/// There is no `/proc`.
pub(super) fn places() -> io::Result<Vec<PathBuf>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

fn parse(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(|place| PathBuf::from(unescape(place))).collect()
}

/// Blanks and the like are written as `\` and three octal digits.
fn unescape(text: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (byte, digits) {
            (b'\\', Some(code)) => {
                plain.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(plain)
}

/// How many mounts there are at `place`, one over the other.
pub(super) fn count(place: &Path) -> usize {
    places().unwrap_or_default().iter().filter(|known| *known == place).count()
}

/// Takes away what is mounted at `place` beyond `below` mounts, also where whoever served it is dead and it is in use. Nothing waits.
///
/// # Errors
/// The kernel refuses.
pub(super) fn detach(place: &Path, below: usize) -> io::Result<()> {
    for _ in 0..STACKED {
        if count(place) <= below {
            return Ok(());
        }
        match unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other(format!("too much is mounted at {}", place.display())))
}

/// Sees to it that nothing at `place` raises anybody's rights.
///
/// # Errors
/// The kernel refuses.
pub(super) fn disarm(place: &Path) -> io::Result<()> {
    Ok(mount_remount(place, MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV, c"")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_with_their_blanks() {
        let table =
            b"36 35 98:0 / /mnt/a\\040b\\134c rw,noatime - ext3 /dev/root rw\n37 36 0:1 / /mnt/a rw - fuse.rclone store: rw\n";
        assert_eq!(parse(table), [PathBuf::from("/mnt/a b\\c"), PathBuf::from("/mnt/a")]);
        assert!(places().expect("readable").contains(&PathBuf::from("/proc")));
    }

    #[test]
    fn what_is_not_mounted_is_away() {
        detach(Path::new("/nowhere/at/all"), 0).expect("nothing to do");
    }
}
