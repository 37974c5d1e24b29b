//! Outputs that the server keeps: small pieces in rows, large ones as objects of the archive.
//!
//! Objects are named `{tenant}/{attempt}/{file}/{piece}`: several installations may share an archive, and what belongs to an attempt
//! that no longer exists is found by its name alone.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::clock::{Clock, SystemClock};
use crate::domain::output::{OutputEntry, OutputFile, object_start};
use crate::error::Error;
use crate::files::{absent, too_many};
use crate::id::AttemptUid;
use crate::store::{Store, StoredContent, StoredPiece};

/// Longest time that one object may take to be written or read.
const DEADLINE: Duration = Duration::from_secs(30);

/// Most entries of one directory.
const MAX_ENTRIES: u32 = 100_000;

/// Pieces that are read from the store at once. They hold at most 128 KiB each.
const PIECES: u32 = 16;

/// Bytes that are read from an object at once.
const OBJECT_PIECE: u64 = 1024 * 1024;

/// Objects that are judged at once when unneeded ones are searched.
const SWEPT_AT_ONCE: usize = 1000;

/// An object may be this much older than the row that refers to it. Unit: seconds.
const UNDER_WAY: i64 = 3600;

/// Schemes of cloud archives.
const CLOUDS: &[&str] = &["s3", "s3a", "az", "azure", "abfs", "abfss", "adl", "gs"];

/// Why an archive cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the archive {url} cannot be opened")]
pub struct ArchiveError {
    url: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Opens the archive at `url`: an absolute path (or `file://` URL) of a local folder, which is made where it is absent, or `s3://`,
/// `az://`, `gs://` with a bucket and a prefix. `options` are those of the cloud: `aws_access_key_id`, `aws_endpoint`, and so on.
/// Blocks.
///
/// # Errors
/// The folder cannot be made, the scheme is unknown, or an option does not fit.
pub fn archive(url: &str, options: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, ArchiveError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ArchiveError { url: url.to_owned(), source };
    if let Some(folder) = url.strip_prefix("file://").or_else(|| url.starts_with('/').then_some(url)) {
        return local(FilePath::new(folder)).map_err(failed);
    }
    let url = reqwest::Url::parse(url).map_err(|error| failed(error.into()))?;
    if !CLOUDS.contains(&url.scheme()) {
        return Err(failed("it is neither an absolute path nor a URL of s3, az or gs".into()));
    }
    // The TLS of this process, wherever it was not chosen yet; an error says that it was.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let (store, prefix) = object_store::parse_url_opts(&url, options).map_err(|error| failed(error.into()))?;
    Ok(Arc::new(PrefixStore::new(store, prefix)))
}

fn local(folder: &FilePath) -> Result<Arc<dyn ObjectStore>, Box<dyn std::error::Error + Send + Sync>> {
    use std::os::unix::fs::DirBuilderExt;
    if !folder.is_absolute() {
        return Err("a local folder must be given by its absolute path".into());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // An acknowledged piece outlives a power cut, as rows do.
    Ok(Arc::new(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true).with_automatic_cleanup(true)))
}

/// The rows and objects of kept outputs.
#[derive(Clone)]
pub(super) struct Archive {
    store: Store,
    objects: Arc<dyn ObjectStore>,
    /// The installation's own prefix.
    prefix: Arc<OnceCell<String>>,
}

impl Archive {
    pub(super) fn new(store: Store, objects: Arc<dyn ObjectStore>) -> Archive {
        Archive { store, objects, prefix: Arc::new(OnceCell::new()) }
    }

    async fn prefix(&self) -> Result<&str, Error> {
        let prefix = self.prefix.get_or_try_init(async || match self.store.find_installation().await? {
            Some(ids) => Ok(ids.tenant.to_string()),
            None => Err(Error::internal("the installation is not recorded yet")),
        });
        Ok(prefix.await?)
    }

    async fn path(&self, name: &str) -> Result<Path, Error> {
        let prefix = self.prefix().await?;
        Path::parse(format!("{prefix}/{name}")).map_err(Error::internal)
    }

    pub(super) async fn keep(&self, name: &str, data: Bytes) -> Result<(), Error> {
        let path = self.path(name).await?;
        let put = async { self.objects.put(&path, data.into()).await };
        within(put).await.map_err(|error| {
            if is_full(&error) {
                tracing::error!(object = name, "the archive is full: no output can be kept until there is room");
            }
            Error::unavailable(error)
        })?;
        Ok(())
    }

    /// Removes objects that nothing refers to. What stays behind on a failure is found by the next sweep.
    pub(super) async fn discard(&self, names: Vec<String>) {
        for name in names {
            let removed = async {
                let path = self.path(&name).await?;
                match within(async { self.objects.delete(&path).await }).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(Error::unavailable(error)),
                }
            };
            if let Err(error) = removed.await {
                tracing::warn!(
                    object = name,
                    error = &error as &dyn std::error::Error,
                    "an object that is not needed could not be removed"
                );
            }
        }
    }

    pub(super) async fn list(&self, attempt: AttemptUid, directory: &str, below: &str) -> Result<Vec<OutputEntry>, Error> {
        let entries = self.store.list_output(attempt, directory, below, MAX_ENTRIES + 1).await?;
        if entries.len() > MAX_ENTRIES as usize { Err(too_many(MAX_ENTRIES as usize)) } else { Ok(entries) }
    }

    pub(super) async fn stat(&self, attempt: AttemptUid, directory: &str, path: &str) -> Result<OutputFile, Error> {
        Ok(self.store.find_output(attempt, directory, path).await?.ok_or_else(|| absent(path))?.0)
    }

    pub(super) async fn read(
        &self,
        attempt: AttemptUid,
        directory: &str,
        path: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let (file, generation) = self.store.find_output(attempt, directory, path).await?.ok_or_else(|| absent(path))?;
        if range.end > file.size {
            // It was replaced by something shorter since its size was told.
            return Err(absent(path));
        }
        let reader = Reader {
            archive: self.clone(),
            attempt,
            directory: directory.to_owned(),
            path: path.to_owned(),
            generation,
            range,
            pieces: VecDeque::new(),
        };
        Ok(stream::try_unfold(reader, Reader::next).boxed())
    }

    /// Removes objects that nothing refers to: at once where their attempt is gone, as its row is there before its first object; else
    /// once they are old enough that no row for them is under way any more. Answers how many.
    pub(super) async fn sweep(&self) -> Result<usize, Error> {
        let prefix = Path::from(self.prefix().await?);
        let young = SystemClock.now().unix_timestamp() - UNDER_WAY;
        let mut listed = self.objects.list(Some(&prefix)).chunks(SWEPT_AT_ONCE);
        let mut removed = 0;
        while let Some(objects) = listed.next().await {
            let mut found = Vec::new();
            for object in objects {
                let object = object.map_err(Error::unavailable)?;
                // What is not named as ours are is left alone.
                let name: Vec<String> = object.location.parts().skip(1).map(|part| part.as_ref().to_owned()).collect();
                if let Some(attempt) = name.first().and_then(|attempt| Uuid::try_parse(attempt).ok()) {
                    found.push((attempt, name.join("/"), object.last_modified.timestamp() < young));
                }
            }
            let attempts: Vec<Uuid> = found.iter().map(|(attempt, ..)| *attempt).collect::<HashSet<_>>().into_iter().collect();
            let names: Vec<String> = found.iter().map(|(_, name, _)| name.clone()).collect();
            let existing: HashSet<Uuid> = self.store.existing_attempts(&attempts).await?.into_iter().collect();
            let needed: HashSet<String> = self.store.referenced_objects(&attempts, &names).await?.into_iter().collect();
            let unneeded =
                found.into_iter().filter(|(attempt, name, old)| !existing.contains(attempt) || (*old && !needed.contains(name)));
            let unneeded: Vec<String> = unneeded.map(|(_, name, _)| name).collect();
            removed += unneeded.len();
            self.discard(unneeded).await;
        }
        Ok(removed)
    }
}

/// A file on its way out.
struct Reader {
    archive: Archive,
    attempt: AttemptUid,
    directory: String,
    path: String,
    generation: u32,
    /// What is still to come.
    range: Range<u64>,
    pieces: VecDeque<StoredPiece>,
}

impl Reader {
    async fn next(mut self) -> Result<Option<(Bytes, Reader)>, Error> {
        if self.range.is_empty() {
            return Ok(None);
        }
        let position = self.range.start;
        // Neighbours may overlap: what lies behind is left out.
        self.pieces.retain(|piece| piece.start + piece.length > position);
        if self.pieces.is_empty() {
            let Reader { attempt, directory, path, generation, range, .. } = &self;
            let pieces = self.archive.store.read_output(*attempt, directory, path, *generation, range.clone(), PIECES).await?;
            self.pieces = pieces.into();
        }
        let piece = self.pieces.front().filter(|piece| piece.start <= position && piece.start + piece.length > position);
        let piece =
            piece.ok_or_else(|| Error::internal("the output was replaced while it was read, or a piece of it is lost"))?;
        let end = self.range.end.min(piece.start + piece.length);
        let bytes = match &piece.content {
            StoredContent::Inline(data) => {
                let at = |offset: u64| usize::try_from(offset - piece.start).unwrap_or(usize::MAX);
                let bytes = data.get(at(position)..at(end)).ok_or_else(|| Error::internal("a piece is shorter than recorded"))?;
                Bytes::copy_from_slice(bytes)
            }
            StoredContent::Object(name) => {
                let start = object_start(name).filter(|start| *start <= piece.start);
                let start = start.ok_or_else(|| Error::internal("an object's name is not one of this version"))?;
                let wanted = position - start..end.min(position + OBJECT_PIECE) - start;
                let length = wanted.end - wanted.start;
                let path = self.archive.path(name).await?;
                let bytes =
                    within(async { self.archive.objects.get_range(&path, wanted).await }).await.map_err(Error::unavailable)?;
                if bytes.len() as u64 != length {
                    return Err(Error::internal("an object is shorter than recorded"));
                }
                bytes
            }
        };
        self.range.start += bytes.len() as u64;
        Ok(Some((bytes, self)))
    }
}

async fn within<T>(action: impl Future<Output = object_store::Result<T>>) -> object_store::Result<T> {
    tokio::time::timeout(DEADLINE, action)
        .await
        .unwrap_or_else(|late| Err(object_store::Error::Generic { store: "archive", source: Box::new(late) }))
}

/// Whether the cause of an error is a full disk or quota.
fn is_full(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        {
            return true;
        }
        cause = error.source();
    }
    false
}
