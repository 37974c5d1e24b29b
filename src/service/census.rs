//! How much there is of everything.

use super::Service;
use crate::domain::census::Census;
use crate::error::Error;
use crate::store::census;

impl Service {
    /// Counts all that has not ended, whoever owns it.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn census(&self) -> Result<Census, Error> {
        Ok(census::take(self.pool()).await?)
    }
}
