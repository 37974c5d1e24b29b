//! Which folders of running jobs are watched for new bytes: one queue of the kernel for all.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use tokio::io::unix::AsyncFd;

use crate::agent::readiness::readable;
use crate::id::AttemptUid;

/// What in a folder means that there may be something to read.
const WANTED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK);

/// A folder of an attempt: the number of the output directory and the path below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watched {
    pub(super) attempt: AttemptUid,
    pub(super) directory: usize,
    pub(super) path: String,
}

/// Something that happened in a watched folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A file was made or written.
    File { directory: usize, path: String },
    /// A folder appeared, with whatever was in it by then.
    Folder { directory: usize, path: String },
    /// More happened than the kernel remembers.
    Anything,
}

/// The queue.
pub(super) struct Watch {
    queue: AsyncFd<OwnedFd>,
    folders: HashMap<i32, Watched>,
}

impl Watch {
    /// A queue that watches nothing. Within a runtime.
    ///
    /// # Errors
    /// The kernel has no more of them.
    pub(super) fn new() -> io::Result<Watch> {
        let queue = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Watch { queue: readable(queue)?, folders: HashMap::new() })
    }

    /// Watches an open folder.
    ///
    /// # Errors
    /// The kernel watches no more.
    pub(super) fn add(&mut self, folder: BorrowedFd<'_>, named: Watched) -> io::Result<()> {
        // By descriptor: whatever its path leads to meanwhile.
        let number = add_watch(self.queue.get_ref(), format!("/proc/self/fd/{}", folder.as_raw_fd()), WANTED)?;
        self.folders.insert(number, named);
        Ok(())
    }

    /// Forgets all folders of an attempt.
    pub(super) fn remove(&mut self, attempt: AttemptUid) {
        let queue = self.queue.get_ref();
        self.folders.retain(|number, watched| {
            let stays = watched.attempt != attempt;
            if !stays {
                // One that is deleted is not watched any more.
                let _ = remove_watch(queue, *number);
            }
            stays
        });
    }

    /// Returns once something may have happened since [`drain`](Self::drain).
    pub(super) async fn changed(&self) {
        match self.queue.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        }
    }

    /// All that happened.
    pub(super) fn drain(&mut self) -> Vec<(AttemptUid, Change)> {
        let mut changes = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(self.queue.get_ref(), &mut buffer);
        while let Ok(event) = reader.next() {
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                let attempts = self.folders.values().map(|watched| watched.attempt);
                changes.extend(attempts.collect::<std::collections::HashSet<_>>().into_iter().map(|a| (a, Change::Anything)));
                continue;
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.folders.remove(&event.wd());
                continue;
            }
            let (Some(watched), Some(name)) = (self.folders.get(&event.wd()), event.file_name()) else { continue };
            // A name that is no text has no place in a listing.
            let Ok(name) = name.to_str() else { continue };
            let path = if watched.path.is_empty() { name.to_owned() } else { format!("{}/{name}", watched.path) };
            let directory = watched.directory;
            let change = match flags.contains(ReadFlags::ISDIR) {
                true if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) => Change::Folder { directory, path },
                true => continue,
                false => Change::File { directory, path },
            };
            let change = (watched.attempt, change);
            if changes.last() != Some(&change) {
                changes.push(change);
            }
        }
        changes
    }
}
