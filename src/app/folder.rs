//! The data folder: made once, closed to others, held by one server.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;
use rustix::io::Errno;
use rustix::process::Pid;
use sha2::{Digest, Sha256};

use crate::config::Environment;

/// The file whose lock says who holds the folder.
const LOCK: &str = "lock";

/// Free space without which a start is refused: a new database and its log need about half of it.
const SPACE: u64 = 96 << 20;

/// Longest path of the folder of sockets: their own names take 25 bytes of the 107 that the kernel has room for.
const RUN_LIMIT: usize = 80;

/// Longest time until the folder of a server that is dead is let go of.
const LET_GO: Duration = Duration::from_secs(10);

/// How a folder is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// By this server alone, as its Postgres is.
    Alone,
    /// Beside other servers of the installation.
    Shared,
}

/// A data folder; it is held until this is dropped or the process ends, however it does.
#[derive(Debug)]
pub(super) struct DataFolder {
    _lock: File,
}

impl DataFolder {
    /// Makes the folder where it is absent, closes it to others and takes hold of it.
    pub(super) fn hold(path: &Path, hold: Hold) -> Result<DataFolder> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make the data folder {}", path.display()));
            }
            _ => {}
        }
        close(path)?;
        let space = rustix::fs::statvfs(path).with_context(|| format!("cannot look at {}", path.display()))?;
        if space.f_bavail.saturating_mul(space.f_frsize) < SPACE {
            bail!(
                "the disk of {} is full: {} MiB are needed; free some space, or name another folder with --data",
                path.display(),
                SPACE >> 20
            );
        }
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .with_context(|| format!("cannot open {}", file.display()))?;
        let until = Instant::now() + LET_GO;
        loop {
            let taken = match hold {
                Hold::Alone => lock.try_lock(),
                Hold::Shared => lock.try_lock_shared(),
            };
            match (taken, find_holder(&mut lock)) {
                (Ok(()), _) => break,
                // What a server that was killed was just starting has its files until it becomes another program. The kernel offers no
                // lock with a deadline, and no other event.
                (Err(TryLockError::WouldBlock), Some(gone)) if !is_there(gone) && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                (Err(TryLockError::WouldBlock), holder) => {
                    let holder = holder.map_or("another process".into(), |pid| format!("process {pid}"));
                    bail!(
                        "the data folder {} is held by {holder}: stop that server, or name another folder with --data",
                        path.display()
                    )
                }
                (Err(TryLockError::Error(error)), _) => {
                    return Err(error).with_context(|| format!("cannot lock {}", file.display()));
                }
            }
        }
        lock.rewind().with_context(|| format!("cannot write {}", file.display()))?;
        let named = lock.set_len(0).and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()));
        named.with_context(|| format!("cannot write {}", file.display()))?;
        Ok(DataFolder { _lock: lock })
    }
}

/// The process that wrote itself down as the holder last.
fn find_holder(lock: &mut File) -> Option<Pid> {
    let mut text = String::new();
    lock.rewind().and_then(|()| lock.read_to_string(&mut text)).ok()?;
    text.trim().parse().ok().and_then(Pid::from_raw)
}

fn is_there(process: Pid) -> bool {
    rustix::process::test_kill_process(process) != Err(Errno::SRCH)
}

/// Takes others' rights away from a folder of ours. A folder that is someone else's, or full of other things, was named by mistake.
fn close(path: &Path) -> Result<()> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    if !metadata.is_dir() {
        bail!("{} is not a folder: name another with --data", path.display());
    }
    let me = Uid::effective().as_raw();
    if metadata.uid() != me {
        bail!(
            "the data folder {} belongs to user id {}, and this is {me}: run batchyard as that user, or name another folder with --data",
            path.display(),
            metadata.uid()
        );
    }
    if metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    let mut entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    if entries.next().is_some() && !path.join(LOCK).exists() {
        bail!(
            "{} holds other files and is open to others, so that it is no data folder: name an empty or new one with --data",
            path.display()
        );
    }
    fs::set_permissions(path, Permissions::from_mode(0o700)).with_context(|| format!("cannot close {} to others", path.display()))
}

/// Makes a folder of the server's own, closed to others, where it is absent.
pub(super) fn make_private(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))?;
    let metadata = fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    if !metadata.is_dir() || metadata.uid() != Uid::effective().as_raw() {
        bail!("{} is not a folder of this user: remove it, or name another in the settings", path.display());
    }
    fs::set_permissions(path, Permissions::from_mode(0o700)).with_context(|| format!("cannot close {} to others", path.display()))
}

/// The folder of sockets: the one of the settings, or where its path is too long for a socket, a short one that follows from it.
pub(super) fn run_folder(wanted: &Path, environment: &Environment) -> PathBuf {
    if wanted.as_os_str().len() <= RUN_LIMIT {
        return wanted.to_owned();
    }
    let digest = Sha256::digest(wanted.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let base = match (&environment.runtime_dir, environment.root) {
        (_, true) => PathBuf::from("/run/batchyard"),
        (Some(dir), false) => dir.join("batchyard"),
        (None, false) => PathBuf::from(format!("/tmp/batchyard-{}", Uid::effective())),
    };
    base.join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("batchyard-folder-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_held_folder_says_who_holds_it() {
        let path = scratch("held");
        let first = DataFolder::hold(&path, Hold::Alone).expect("takes hold");
        assert_eq!(fs::metadata(&path).expect("is there").mode() & 0o777, 0o700);
        let error = DataFolder::hold(&path, Hold::Shared).expect_err("held");
        assert!(error.to_string().contains(&format!("held by process {}", std::process::id())), "{error}");
        drop(first);
        let beside = [DataFolder::hold(&path, Hold::Shared), DataFolder::hold(&path, Hold::Shared)];
        assert!(beside.iter().all(Result::is_ok));
        assert!(DataFolder::hold(&path, Hold::Alone).is_err());
        drop(beside);
        fs::remove_dir_all(path).expect("removes");
    }

    #[test]
    fn what_a_dead_server_was_starting_is_waited_for() {
        let path = scratch("dead");
        drop(DataFolder::hold(&path, Hold::Alone).expect("takes hold"));
        let mut dead = std::process::Command::new("true").spawn().expect("starts");
        dead.wait().expect("ends");
        fs::write(path.join(LOCK), format!("{}\n", dead.id())).expect("writes");
        // Has what the dead one had: the lock, and for a moment still.
        let file = File::open(path.join(LOCK)).expect("opens");
        file.lock().expect("locks");
        let moment = std::process::Command::new("sleep").arg("0.2").stdin(file).spawn().expect("starts");
        let held = DataFolder::hold(&path, Hold::Alone).expect("let go of");
        assert_eq!(fs::read_to_string(path.join(LOCK)).expect("reads"), format!("{}\n", std::process::id()));
        drop((held, moment.wait_with_output()));
        fs::remove_dir_all(path).expect("removes");
    }

    #[test]
    fn a_folder_of_other_things_is_left_alone() {
        let path = scratch("foreign");
        fs::create_dir(&path).expect("makes");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("opens");
        fs::write(path.join("thesis.tex"), "").expect("writes");
        assert!(DataFolder::hold(&path, Hold::Alone).expect_err("foreign").to_string().contains("holds other files"));
        assert_eq!(fs::metadata(&path).expect("is there").mode() & 0o777, 0o755);
        fs::remove_dir_all(path).expect("removes");
    }

    #[test]
    fn sockets_have_short_paths() {
        let environment = Environment { root: true, ..Environment::default() };
        assert_eq!(run_folder(Path::new("/var/lib/batchyard/run"), &environment), Path::new("/var/lib/batchyard/run"));
        let long = PathBuf::from(format!("/{}", "x".repeat(100)));
        let short = run_folder(&long, &environment);
        assert!(short.as_os_str().len() <= RUN_LIMIT && short.starts_with("/run/batchyard"));
        assert_eq!(run_folder(&long, &environment), short, "the same at the next start");
    }
}
