//! Where outputs are found: on the share that local nodes mount, on storage accounts, or in the archive that the server keeps.
//!
//! In: a place, a path and a range. Out: listings, sizes and streams of bytes, a bounded piece at a time. Names come from jobs and are
//! hostile. Refuses to know who asks and how a link is made.

mod archive;
mod azure;
mod save;
mod share;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::ObjectStore;
use tokio::sync::Semaphore;

use crate::clock::Timestamp;
use crate::domain::output::{OutputEntry, OutputFile, OutputPlace, check_path};
use crate::error::{Error, ErrorCode};
use crate::files::archive::Archive;
use crate::files::azure::Azure;
use crate::files::share::{Failure, Opened};
use crate::service::OutputStore;
use crate::store::Store;
use crate::task::Tasks;

pub use archive::{ArchiveError, archive};

/// Bytes that are read from a file of the share at once.
const PIECE: usize = 256 * 1024;

/// Calls to the share under way at once. One that hangs, on a dead network share, keeps its place and its thread.
const AT_ONCE: usize = 32;

/// Longest time that a call to the share, or the wait for a place, may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Time between two searches for objects that nothing refers to.
const SWEEP: Duration = Duration::from_secs(1800);

/// Reads and keeps outputs.
#[derive(Clone)]
pub struct Files {
    share: Option<Share>,
    archive: Archive,
    azure: Azure,
}

#[derive(Clone)]
struct Share {
    folder: Arc<PathBuf>,
    places: Arc<Semaphore>,
}

impl Files {
    /// Over the rows of `store`, the objects of `archive` and the host folder of the share, where there is one.
    pub fn new(store: Store, share: Option<PathBuf>, archive: Arc<dyn ObjectStore>) -> Files {
        let share = share.map(|folder| Share { folder: Arc::new(folder), places: Arc::new(Semaphore::new(AT_ONCE)) });
        Files { share, archive: Archive::new(store, archive), azure: Azure::default() }
    }

    /// Starts what removes objects of the archive that nothing refers to: those of deleted jobs, of contents that were replaced, and of
    /// pieces that were never recorded.
    pub fn run(&self, tasks: &Tasks) {
        let archive = self.archive.clone();
        tasks.spawn_cancellable("archive sweep", async move {
            let mut tick = tokio::time::interval(SWEEP);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                if let Err(error) = archive.sweep().await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the archive could not be searched for unneeded objects"
                    );
                }
            }
        });
    }

    /// Removes those objects now. Answers how many.
    ///
    /// # Errors
    /// `ServiceUnavailable` where the store or the archive is away.
    pub async fn sweep(&self) -> Result<usize, Error> {
        self.archive.sweep().await
    }

    fn share(&self) -> Result<&Share, Error> {
        self.share.as_ref().ok_or_else(|| Error::internal("an output is on a share, but this server has none"))
    }
}

#[async_trait::async_trait]
impl OutputStore for Files {
    async fn keep(&self, name: &str, data: Bytes) -> Result<(), Error> {
        self.archive.keep(name, data).await
    }

    async fn discard(&self, names: Vec<String>) {
        self.archive.discard(names).await;
    }

    async fn list(&self, place: &OutputPlace, directory: &str) -> Result<Vec<OutputEntry>, Error> {
        if !directory.is_empty() && check_path(directory).is_err() {
            return Ok(Vec::new());
        }
        match place {
            OutputPlace::Archive { attempt, directory: id } => self.archive.list(*attempt, id, directory).await,
            OutputPlace::Storage(place) => self.azure.list(place, directory).await,
            OutputPlace::Share { path } => {
                let path = joined(path, directory);
                let listed = self.share()?.call(move |share| share::list(share, &path)).await?;
                match listed {
                    Err(Failure::Absent) => Ok(Vec::new()),
                    listed => listed.map_err(|failure| told(failure, directory)),
                }
            }
        }
    }

    async fn save(&self, path: &str, data: Bytes) -> Result<(), Error> {
        let Some(share) = &self.share else {
            let message = "This server has no share that nodes mount. Mount storage instead, or start it with --share.";
            return Err(Error::new(ErrorCode::Conflict, message));
        };
        let beneath = path.to_owned();
        let saved = share.call(move |folder| save::save(folder, &beneath, &data)).await?;
        saved.map_err(|failure| match failure {
            Failure::Absent | Failure::TooMany => Error::new(
                ErrorCode::Conflict,
                format!("Something else than a folder or file is in the way of '{path}' on the share."),
            ),
            Failure::Broken(error) => Error::unavailable(error),
        })
    }

    fn link(&self, place: &OutputPlace, path: &str, expires: Timestamp) -> Option<String> {
        match place {
            OutputPlace::Storage(place) => azure::link(place, path, expires),
            OutputPlace::Share { .. } | OutputPlace::Archive { .. } => None,
        }
    }

    async fn stat(&self, place: &OutputPlace, path: &str) -> Result<OutputFile, Error> {
        check_path(path).map_err(|_| absent(path))?;
        match place {
            OutputPlace::Archive { attempt, directory } => self.archive.stat(*attempt, directory, path).await,
            // It is read by links of the storage's own.
            OutputPlace::Storage(_) => Err(absent(path)),
            OutputPlace::Share { path: above } => Ok(self.share()?.open(joined(above, path), path).await?.known),
        }
    }

    async fn read(
        &self,
        place: &OutputPlace,
        path: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        check_path(path).map_err(|_| absent(path))?;
        match place {
            OutputPlace::Archive { attempt, directory } => self.archive.read(*attempt, directory, path, range).await,
            OutputPlace::Storage(_) => Err(absent(path)),
            OutputPlace::Share { path: above } => {
                let share = self.share()?.clone();
                let opened = Arc::new(share.open(joined(above, path), path).await?);
                Ok(stream::try_unfold((share, opened, range), read_on).boxed())
            }
        }
    }
}

/// The next piece of a file of the share.
async fn read_on(state: (Share, Arc<Opened>, Range<u64>)) -> Result<Option<(Bytes, (Share, Arc<Opened>, Range<u64>))>, Error> {
    let (share, opened, mut range) = state;
    let length = range.end.saturating_sub(range.start).min(PIECE as u64);
    if length == 0 {
        return Ok(None);
    }
    let (start, file) = (range.start, Arc::clone(&opened));
    let read = share.call(move |_| file.read(start, usize::try_from(length).unwrap_or(PIECE))).await?;
    let bytes = read.map_err(Error::internal)?;
    range.start += length;
    Ok(Some((bytes, (share, opened, range))))
}

impl Share {
    async fn open(&self, path: String, shown: &str) -> Result<Opened, Error> {
        self.call(move |share| share::open(share, &path)).await?.map_err(|failure| told(failure, shown))
    }

    /// Runs what blocks beside the threads that serve requests.
    async fn call<T: Send + 'static>(&self, action: impl FnOnce(&std::path::Path) -> T + Send + 'static) -> Result<T, Error> {
        let folder = Arc::clone(&self.folder);
        let places = Arc::clone(&self.places);
        let call = async move {
            let place = places.acquire_owned().await.map_err(Error::internal)?;
            let called = tokio::task::spawn_blocking(move || {
                let result = action(&folder);
                drop(place);
                result
            });
            called.await.map_err(Error::internal)
        };
        tokio::time::timeout(DEADLINE, call).await.unwrap_or_else(|late| Err(Error::unavailable(late)))
    }
}

fn joined(above: &str, below: &str) -> String {
    match (above, below) {
        ("", path) | (path, "") => path.to_owned(),
        (above, below) => format!("{above}/{below}"),
    }
}

fn told(failure: Failure, shown: &str) -> Error {
    match failure {
        Failure::Absent => absent(shown),
        Failure::TooMany => too_many(share::MAX_ENTRIES),
        Failure::Broken(error) => Error::unavailable(error),
    }
}

fn absent(path: &str) -> Error {
    Error::new(ErrorCode::NotFound, format!("The file '{path}' could not be found."))
}

fn too_many(most: usize) -> Error {
    let message = format!("The directory has more than {most} entries, which is more than can be listed.");
    Error::new(ErrorCode::InvalidQueryParameterValue, message).with_target("directory")
}
