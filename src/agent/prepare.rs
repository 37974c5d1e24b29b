//! Makes a job's folders: what an earlier job left goes, what an earlier attempt wrote is put aside, and nothing is made through a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat, renameat};
use rustix::io::Errno;

use crate::agent::beneath::{Owner, find_kind, make_file, make_folders, open_trusted, remove_contents};
use crate::agent::isolate;
use crate::agent::layout::{HOST_FILE, MOUNTS, Place, STANDARD};
use crate::agent::work::JobFolders;

/// Folders in a job's own folder that hold what an attempt wrote.
const WRITTEN: [&str; 2] = [STANDARD, "outputs"];

/// In a job's own folder: which attempt it belongs to, locked while that changes. All nodes of a gang see it where it is shared.
const ATTEMPT: &str = ".attempt";

/// How long the nodes of a gang wait for each other here.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);

/// What was being done when something failed.
pub(super) struct Failure {
    /// For people: completes "The job could not be set up: ".
    pub(super) doing: String,
    /// The system's words.
    pub(super) error: io::Error,
}

fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure { doing: what.into(), error }
}

/// A mount of the job as the node sees it, and its place below the job's own mount root.
pub(super) type View<'j> = (OwnedFd, &'j Path);

/// Opens the job's mounts, which are in a folder of the node's own.
///
/// # Errors
/// One is not there.
pub(super) fn open_views(job: &JobFolders) -> Result<Vec<View<'_>>, Failure> {
    let open = |(view, place): &'_ (PathBuf, PathBuf)| {
        open_trusted(view).map_err(doing(format!("open the mount '{}'", place.display())))
    };
    job.mounts.iter().map(|mount| Ok((open(mount)?, mount.1.as_path()))).collect()
}

/// Makes all folders of a job, and shows its mounts in them.
///
/// # Errors
/// The first that could not be made.
pub(super) fn make_job_folders(job: &JobFolders, views: &[View<'_>], owner: Owner) -> Result<(), Failure> {
    let jobs = open_trusted(&job.temp.root).map_err(doing("open the folder of jobs"))?;
    remove_contents(jobs.as_fd()).map_err(doing("remove what earlier jobs left in their temporary folders"))?;
    let temp = make_folders(jobs.as_fd(), &job.temp.below, owner).map_err(doing("make the job's temporary folder"))?;
    for name in [MOUNTS, "shared"] {
        make_folders(temp.as_fd(), Path::new(name), owner).map_err(doing("make the job's temporary folders"))?;
    }
    for (view, place) in views {
        make_folders(temp.as_fd(), &Path::new(MOUNTS).join(place), None)
            .and_then(|target| isolate::show(view, &target))
            .map_err(doing(format!("show the mount '{}'", place.display())))?;
    }
    make_file(temp.as_fd(), HOST_FILE, None)
        .and_then(|mut file| file.write_all(job.host_file.as_bytes()))
        .map_err(doing("write the host file"))?;
    if job.number > 1 {
        for own in &job.own {
            put_aside(own, job.number, owner).map_err(doing(format!(
                "put aside what attempt {} wrote in '{}'",
                job.number - 1,
                own.path().display()
            )))?;
        }
    }
    for output in &job.outputs {
        make_place(output, owner).map_err(doing(format!("make the output directory '{}'", output.path().display())))?;
    }
    Ok(())
}

/// Makes the folder of a place.
///
/// # Errors
/// It cannot be made, or leads over a link.
pub(super) fn make_place(place: &Place, owner: Owner) -> io::Result<OwnedFd> {
    let root = open_trusted(&place.root)?;
    make_folders(root.as_fd(), &place.below, owner)
}

/// Renames what earlier attempts wrote, once for all nodes of the gang.
fn put_aside(own: &Place, number: i32, owner: Owner) -> io::Result<()> {
    let folder = make_place(own, owner)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mark = File::from(openat(&folder, ATTEMPT, flags, Mode::RUSR | Mode::WUSR)?);
    lock(&mark)?;
    let mut text = String::new();
    (&mark).take(16).read_to_string(&mut text)?;
    let current: i32 = text.trim().parse().unwrap_or(number - 1);
    if current >= number {
        return Ok(());
    }
    for name in WRITTEN {
        rename_free(folder.as_fd(), name, current)?;
    }
    rustix::fs::ftruncate(&mark, 0)?;
    rustix::io::pwrite(&mark, number.to_string().as_bytes(), 0)?;
    Ok(())
}

/// Waits for another node that does the same. A lock tells nobody that it is free, so that there is nothing to wait on with a deadline.
fn lock(file: &File) -> io::Result<()> {
    let deadline = Instant::now() + LOCK_DEADLINE;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Renames `name` to `name.attempt-N`, or the like where that is taken. What is not there is no error.
fn rename_free(folder: BorrowedFd<'_>, name: &str, attempt: i32) -> io::Result<()> {
    if find_kind(folder, OsStr::new(name)).is_none() {
        return Ok(());
    }
    let mut aside = format!("{name}.attempt-{attempt}");
    let mut count = 1;
    while find_kind(folder, OsStr::new(&aside)).is_some() {
        count += 1;
        aside = format!("{name}.attempt-{attempt}.{count}");
    }
    renameat(folder, name, folder, &*aside)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::layout::Home;
    use std::fs;

    struct Temp(PathBuf);

    impl Temp {
        fn new() -> Temp {
            let path = std::env::temp_dir().join(format!("prepare-{}", uuid::Uuid::new_v4()));
            fs::create_dir_all(path.join("jobs")).expect("made");
            fs::create_dir_all(path.join("share")).expect("made");
            Temp(path)
        }

        fn job(&self, number: i32) -> JobFolders {
            let place = |root: &str, below: &str| Place { root: self.0.join(root), below: below.into(), home: Home::Node };
            JobFolders {
                number,
                temp: place("jobs", "w/e/j"),
                outputs: vec![place("share", "s/uid/outputs/a")],
                own: vec![place("share", "s/uid")],
                mounts: vec![],
                host_file: "10.0.0.4 slots=1\n".into(),
            }
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn make(job: &JobFolders) {
        make_job_folders(job, &[], None).unwrap_or_else(|failure| panic!("{}: {}", failure.doing, failure.error));
    }

    #[test]
    fn what_an_earlier_job_left_goes() {
        let temp = Temp::new();
        fs::create_dir_all(temp.0.join("jobs/w/e/old/mounts")).expect("made");
        make(&temp.job(1));
        assert!(!temp.0.join("jobs/w/e/old").exists());
        assert!(temp.0.join("jobs/w/e/j/shared").is_dir());
        assert_eq!(fs::read_to_string(temp.0.join("jobs/w/e/j/hostfile")).expect("there"), "10.0.0.4 slots=1\n");
    }

    #[test]
    fn what_an_earlier_attempt_wrote_is_put_aside_once_for_all_nodes() {
        let temp = Temp::new();
        make(&temp.job(1));
        let outputs = temp.0.join("share/s/uid/outputs/a");
        fs::write(outputs.join("model"), "first").expect("written");
        make(&temp.job(2));
        assert_eq!(fs::read_dir(&outputs).expect("made anew").count(), 0);
        fs::write(outputs.join("model"), "second").expect("written");
        make(&temp.job(2));
        assert_eq!(fs::read_to_string(outputs.join("model")).expect("kept"), "second", "another node of the same attempt");
        let aside = temp.0.join("share/s/uid/outputs.attempt-1/a/model");
        assert_eq!(fs::read_to_string(aside).expect("put aside"), "first");
        make(&temp.job(3));
        assert!(temp.0.join("share/s/uid/outputs.attempt-2/a/model").exists());
    }
}
