//! Looking for jobs, and counting them.

use super::Service;
use super::read::{cut, limits};
use crate::domain::job::Job;
use crate::domain::resource::Envelope;
use crate::domain::search::{JobCounts, JobPlace, JobSearch, MAX_COUNTED};
use crate::error::Error;
use crate::id::ResourceId;
use crate::store::resource;

impl Service {
    /// A page of the jobs of a workspace or experiment that fit, and the place of its last where there are more.
    ///
    /// # Errors
    /// The `NotFound` code of the outermost of the scope's parents and itself that does not exist; `ServiceUnavailable`.
    pub async fn search_jobs(
        &self,
        scope: &ResourceId,
        search: &JobSearch,
        after: Option<&JobPlace>,
        limit: u32,
    ) -> Result<(Vec<Envelope<Job>>, Option<JobPlace>), Error> {
        let (limit, asked) = limits(limit);
        let rows = resource::search_jobs(self.pool(), &scope.key(), search, after, asked).await?;
        if rows.is_empty() {
            self.check_exists(scope).await?;
        }
        Ok(cut(rows, limit))
    }

    /// How many jobs of a workspace or experiment are in each phase, up to [`MAX_COUNTED`] of each.
    ///
    /// # Errors
    /// As of [`search_jobs`](Self::search_jobs).
    pub async fn count_jobs(&self, scope: &ResourceId) -> Result<JobCounts, Error> {
        let counts = resource::count_jobs(self.pool(), &scope.key(), i64::try_from(MAX_COUNTED).unwrap_or(i64::MAX)).await?;
        if counts == JobCounts::default() {
            self.check_exists(scope).await?;
        }
        Ok(counts)
    }
}
