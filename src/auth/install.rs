//! The first start: a tenant, a subscription and someone who owns it.

use std::path::{Path, PathBuf};

use crate::auth::keys::{Keys, KeysError};
use crate::clock::Clock;
use crate::id::{SubscriptionId, TenantId};
use crate::secret::SecretText;
use crate::store::{Store, StoreError};

/// Who owns what in this installation.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The directory.
    pub tenant: TenantId,
    /// The subscription that was made first.
    pub subscription: SubscriptionId,
    /// The name that its first owner signs in with.
    pub client_id: String,
    /// That owner's secret; `None` where another host made it and this one was not told.
    pub client_secret: Option<SecretText>,
    /// The file that keeps them, mode 0600.
    pub file: PathBuf,
}

/// Why an installation cannot be ensured.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The database.
    #[error("the installation cannot be recorded")]
    Store(#[from] StoreError),
    /// The file of the first owner.
    #[error(transparent)]
    File(#[from] KeysError),
    /// Secrets in the database are sealed with a key that the key folder does not have.
    #[error("the database holds secrets sealed with the key {0}, which is not in the key folder: bring that key file back")]
    KeyMissing(String),
}

#[allow(unused_variables, clippy::unimplemented)]
impl Installation {
    /// Ensures tenant, subscription and first owner, once for a database: later calls, of any host, answer the same. The owner's
    /// secret is random; it is kept in a file of `dir` alone.
    ///
    /// # Errors
    /// [`InstallError`].
    pub async fn ensure(store: &Store, keys: &Keys, dir: &Path, clock: &dyn Clock) -> Result<Installation, InstallError> {
        unimplemented!()
    }
}
