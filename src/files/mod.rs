//! Where outputs are found: on the share that local nodes mount, or in the archive that the server keeps.
//!
//! In: a place, a path and a range. Out: listings, sizes and streams of bytes. Names come from jobs and are hostile. Refuses to know
//! who asks and how a link is made.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::ObjectStore;

use crate::domain::output::{OutputEntry, OutputFile, OutputPlace};
use crate::error::Error;
use crate::service::OutputStore;
use crate::store::Store;
use crate::task::Tasks;

/// Why an archive cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the archive {url} cannot be opened")]
pub struct ArchiveError {
    url: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Opens the archive at `url`: an absolute path of a local folder, which is made where it is absent, or `s3://`, `az://`, `gs://` with a
/// bucket and a prefix. `options` are those of the cloud: keys as `aws_access_key_id`, endpoints, and so on. Blocks.
///
/// # Errors
/// The folder cannot be made, the scheme is unknown, or an option does not fit.
#[allow(unused_variables, clippy::unimplemented)]
pub fn archive(url: &str, options: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, ArchiveError> {
    unimplemented!()
}

/// Reads and keeps outputs.
#[derive(Clone)]
pub struct Files {}

#[allow(unused_variables, clippy::unimplemented)]
impl Files {
    /// Over the rows of `store`, the objects of `archive` and the host folder of the share, where there is one.
    pub fn new(store: Store, share: Option<PathBuf>, archive: Arc<dyn ObjectStore>) -> Files {
        unimplemented!()
    }

    /// Starts what removes objects of attempts that no longer exist.
    pub fn run(&self, tasks: &Tasks) {
        unimplemented!()
    }
}

#[allow(unused_variables, clippy::unimplemented)]
#[async_trait::async_trait]
impl OutputStore for Files {
    async fn keep(&self, name: &str, data: Bytes) -> Result<(), Error> {
        unimplemented!()
    }

    async fn list(&self, place: &OutputPlace, directory: &str) -> Result<Vec<OutputEntry>, Error> {
        unimplemented!()
    }

    async fn stat(&self, place: &OutputPlace, path: &str) -> Result<OutputFile, Error> {
        unimplemented!()
    }

    async fn read(
        &self,
        place: &OutputPlace,
        path: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        unimplemented!()
    }
}
