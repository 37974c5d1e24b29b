//! Input of a job that is yet to be made: files on the share that nodes mount, so that a first job needs no storage of its own.

use bytes::Bytes;

use super::Service;
use crate::domain::job::Job;
use crate::domain::output::check_path;
use crate::error::{Error, ErrorCode};
use crate::id::ResourceId;
use crate::store::resource;

/// The folder on the share that holds all input.
const FOLDER: &str = "inputs";

impl Service {
    /// Saves one file of a job's input, and answers where jobs find it. What is there of an earlier try is replaced.
    ///
    /// Files stay when the job is deleted, as its output on the share does: the share is the installation's own.
    ///
    /// # Errors
    /// `InvalidResourceName` for a path that is none; `Conflict` where the job exists, as its input is what it ran with, or where there is
    /// no share; its parents' `NotFound` codes; `ServiceUnavailable`.
    pub async fn put_input(&self, id: &ResourceId, path: &str, data: Bytes) -> Result<String, Error> {
        check_path(path).map_err(|problem| {
            Error::new(ErrorCode::InvalidResourceName, format!("The path of the file {problem}.")).with_target("path")
        })?;
        if resource::find::<Job>(self.pool(), &id.key()).await?.is_some() {
            let message = format!("The job '{}' exists, and its input cannot be changed. Use another name.", id.name());
            return Err(Error::new(ErrorCode::Conflict, message));
        }
        self.check_parent(id).await?;
        let below = format!("{FOLDER}/{}", id.whole_segment());
        self.output.save(&format!("{below}/{path}"), data).await?;
        let share = self.inner.shares.first().map_or("shared", String::as_str);
        Ok(format!("$AZ_BATCHAI_MOUNT_ROOT/{share}/{below}"))
    }
}
