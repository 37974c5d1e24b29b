//! The disks of file servers: each a file with a file system in it, in a folder of its own, that takes no more of the host's disk than
//! is written to it.
//!
//! A disk is made with the first machine that has it and outlives machines; it is listed and deleted by its name as they are. A file
//! server's first process mounts it in the view that ends with it, and holds it, so that two never have one disk. Several data disks are
//! one file of their size together: all would be on the host's one disk anyhow, so that striping gains nothing.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::domain::machine::Disk;
use crate::driver::local::layout::{at, is_machine_name};
use crate::driver::local::lock::FolderLock;
use crate::driver::local::remove::remove_tree;

/// The file system, in its folder.
pub(super) const IMAGE: &str = "disk";

/// Locked by the first process of the file server that has the disk.
const HOLD: &str = "held";

/// Programs that make, mend and mount disks, where Debian has them.
const PROGRAMS: [&str; 3] = ["mkfs.ext4", "e2fsck", "mount"];

/// Where they are.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Longest time until the kernel lets go of a disk whose file server has ended.
const LET_GO: Duration = Duration::from_secs(10);

/// What is free of the host's disk where a new one is made. Disks take no more of it than is written to them, so that how much of it they
/// may become together is not counted. Unit: bytes.
const KEPT_FREE: u64 = 1 << 30;

/// How a file system is made: what is empty is not written, so that it takes no room.
const MADE: [&str; 6] = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"];

/// Whether this host can make and mount disks.
pub(super) fn is_possible() -> bool {
    let kernel = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let ext4 = kernel.lines().any(|line| line.trim() == "ext4");
    ext4 && Path::new("/dev/loop-control").exists() && PROGRAMS.iter().all(|name| find_program(name).is_some())
}

fn find_program(name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

fn size_bytes(disk: &Disk) -> u64 {
    disk.size_gb.saturating_mul(1 << 30)
}

/// All disks of this installation.
pub(super) struct Disks {
    folder: PathBuf,
}

impl Disks {
    pub(super) fn new(folder: PathBuf) -> Disks {
        Disks { folder }
    }

    /// The folder of a disk.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes a disk where there is none of that name.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] where the host's disk is full; [`io::ErrorKind::InvalidInput`] where the disk is larger than that; that
    /// it cannot be made.
    pub(super) fn ensure(&self, disk: &Disk) -> io::Result<()> {
        if !is_machine_name(&disk.name) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the disk's name is not one"));
        }
        let folder = self.folder(&disk.name);
        let image = folder.join(IMAGE);
        if !image.exists() {
            self.check_room(disk)?;
        }
        let _held = FolderLock::make(&folder)?;
        if image.exists() {
            return Ok(());
        }
        // Whole under its name, or not there.
        let beside = folder.join("new");
        let made = File::create(&beside).and_then(|file| file.set_len(size_bytes(disk))).map_err(at("make", &beside));
        let made = made.and_then(|()| run(Command::new("mkfs.ext4").args(MADE).arg(&beside), &[0]).map(drop));
        made.and_then(|()| std::fs::rename(&beside, &image).map_err(at("make", &image))).inspect_err(|_| {
            // What is listed would be one.
            let _ = remove_tree(&folder);
        })
    }

    fn check_room(&self, disk: &Disk) -> io::Result<()> {
        let size = size_bytes(disk);
        let room = rustix::fs::statvfs(&self.folder).map_err(at("look at", &self.folder))?;
        let whole = room.f_blocks.saturating_mul(room.f_frsize);
        if whole < size {
            let why = format!("the disk of {} GiB is larger than the host's, which has {} GiB", disk.size_gb, whole >> 30);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        if room.f_bavail.saturating_mul(room.f_frsize) < KEPT_FREE {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the host's disk is full"));
        }
        Ok(())
    }

    /// Deletes a disk with all that is on it. None of that name is no error.
    ///
    /// # Errors
    /// A file server has it, or the kernel does not let go of it.
    pub(super) fn delete(&self, name: &str) -> io::Result<()> {
        let folder = self.folder(name);
        let Some(_held) = FolderLock::find(&folder)? else { return Ok(()) };
        hold(&folder)?;
        let until = Instant::now() + LET_GO;
        while is_attached(&folder.join(IMAGE))? {
            if Instant::now() > until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not let go of the disk"));
            }
            // The kernel takes apart the view of an ended process after its end, and says nothing.
            std::thread::sleep(Duration::from_millis(10));
        }
        remove_tree(&folder)
    }

    /// The names of all disks.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn list(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.folder).map_err(at("read", &self.folder))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| is_machine_name(name)).collect())
    }
}

/// Mounts the disk of `folder` at `target`, in the view of the calling process. It is this process's until what is answered is dropped.
///
/// # Errors
/// Another process has it; it is damaged beyond what can be mended without loss; it cannot be mounted.
pub(super) fn mount(folder: &Path, target: &Path) -> io::Result<File> {
    let held = take(folder)?;
    let image = folder.join(IMAGE);
    // What is deleted is given back to the host.
    let options = "loop,discard,nosuid,nodev,noexec,errors=remount-ro";
    run(Command::new("mount").args(["-t", "ext4", "-o", options]).arg(&image).arg(target), &[0])?;
    Ok(held)
}

/// Takes the disk of `folder`, mended where it was not left as it should be. It is this process's until what is answered is dropped.
///
/// # Errors
/// Another process has it; it is damaged beyond what can be mended without loss.
pub(super) fn take(folder: &Path) -> io::Result<File> {
    let held = hold(folder)?;
    // 1: something was mended, without loss.
    run(Command::new("e2fsck").arg("-p").arg(folder.join(IMAGE)), &[0, 1])?;
    Ok(held)
}

fn hold(folder: &Path) -> io::Result<File> {
    let path = folder.join(HOLD);
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(at("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "the disk is another file server's, which has not ended"))
        }
        Err(error) => Err(at("lock", &path)(error)),
    }
}

/// Whether the kernel has a file as a device. Told by the file itself: its path is as the node had it that attached it, and may be of no
/// root that is left.
fn is_attached(image: &Path) -> io::Result<bool> {
    if !image.try_exists()? {
        return Ok(false);
    }
    Ok(!run(Command::new("losetup").arg("--associated").arg(image), &[0])?.is_empty())
}

/// Runs a program to its end; answers what it said.
fn run(command: &mut Command, good: &[i32]) -> io::Result<Vec<u8>> {
    let path = FOLDERS.join(":");
    let done = command.env_clear().env("PATH", path).env("LANG", "C.UTF-8").current_dir("/").stdin(Stdio::null()).output();
    let name = command.get_program().to_string_lossy().into_owned();
    let done = done.map_err(|error| io::Error::new(error.kind(), format!("cannot start {name}: {error}")))?;
    if done.status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(done.stdout);
    }
    let said = [done.stderr, done.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    Err(io::Error::other(format!("{name} failed ({}): {}", done.status, said.trim().replace('\n', "; "))))
}
