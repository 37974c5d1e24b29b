//! Who made and changed resources.

use std::collections::HashMap;

use super::Service;
use crate::domain::event::Authors;
use crate::error::Error;
use crate::id::ResourceUid;
use crate::store::event;

impl Service {
    /// Who made and last changed each of these resources, as far as the record tells.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn authors(&self, resources: &[ResourceUid]) -> Result<HashMap<ResourceUid, Authors>, Error> {
        if resources.is_empty() {
            return Ok(HashMap::new());
        }
        Ok(event::authors(self.pool(), resources).await?.into_iter().collect())
    }
}
