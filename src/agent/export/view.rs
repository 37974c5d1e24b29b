//! A view of files that has a disk and nothing else, for the program that exports it.
//!
//! NFS-Ganesha gives the kernel a name of version 3 as it came: `../x` is then a file beside the disk, and `link/x` one where the link leads.
//! And it exports what its disk is mounted in along with it, which it finds at its start by `..`, so that handles of all files of that file
//! system could be guessed. In this view there is an empty folder around the disk, and nothing around that. What the program needs of the
//! node it has opened by the time that it serves; until then it sees the node's files too, and nobody may be let in.
//!
//! Source: `check_filesystem` in NFS-Ganesha 4.3, `src/FSAL/FSAL_VFS/handle.c`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_move, mount_remount, unmount};

const BARE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Where the disk that is mounted at `disk` is in a view at `place`.
pub(super) fn shown(disk: &Path, place: &Path) -> PathBuf {
    place.join(disk.strip_prefix("/").unwrap_or(disk))
}

/// Starts a program by `start`, to which `disk` is in an empty folder at `place`.
///
/// # Errors
/// The kernel refuses, or as `start` fails.
pub(super) fn start(disk: &Path, place: &Path, start: impl FnOnce() -> io::Result<Child> + Send) -> io::Result<Child> {
    std::fs::create_dir_all(place)?;
    apart(|| {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mount("none", place, "tmpfs", BARE, Some(c"mode=755,size=4k"))?;
        let shown = shown(disk, place);
        std::fs::create_dir_all(&shown)?;
        mount_move(disk, &shown)?;
        // Where the program knows it, it is found when `place` is all that there is.
        let again = place.join(place.strip_prefix("/").unwrap_or(place));
        std::fs::create_dir_all(again.parent().unwrap_or(place))?;
        std::os::unix::fs::symlink("/", &again)?;
        mount_remount(place, BARE | MountFlags::RDONLY, c"")?;
        start()
    })
}

/// Takes everything but `place` away from such a program.
///
/// # Errors
/// The kernel refuses: nobody may be let in.
pub(super) fn shut(program: &Child, place: &Path) -> io::Result<()> {
    let view = File::open(format!("/proc/{}/ns/mnt", program.id()))?;
    apart(|| {
        unshare(CloneFlags::CLONE_FS)?;
        setns(&view, CloneFlags::CLONE_NEWNS)?;
        std::env::set_current_dir(place)?;
        // The program's root goes along, as it was the view's.
        rustix::process::pivot_root(".", ".")?;
        Ok(unmount(".", UnmountFlags::DETACH)?)
    })
}

/// Acts in a thread of its own, whose view of files may become another one than the process's.
fn apart<T: Send>(act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let ended = std::thread::scope(|scope| scope.spawn(act).join());
    ended.unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
}
