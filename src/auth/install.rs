//! The first start: a tenant, a subscription and someone who owns it.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::auth::keys::{Keys, KeysError, new_private_file, private_file};
use crate::auth::password;
use crate::auth::principal::{next_second, whole_seconds};
use crate::clock::{Clock, Timestamp};
use crate::domain::principal::{InstallationIds, Principal};
use crate::id::{PrincipalId, SubscriptionId, TenantId};
use crate::secret::SecretText;
use crate::store::{Store, StoreError};

/// The file in the data folder.
const FILE: &str = "owner.json";

/// Who owns what in this installation.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The directory.
    pub tenant: TenantId,
    /// The subscription that was made first.
    pub subscription: SubscriptionId,
    /// The object id of its first owner.
    pub owner: PrincipalId,
    /// The name that this owner signs in with.
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

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    tenant_id: TenantId,
    subscription_id: SubscriptionId,
    object_id: PrincipalId,
    client_id: String,
    client_secret: String,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.client_secret.zeroize();
    }
}

impl Installation {
    /// Ensures tenant, subscription and first owner, once for a database: later calls, of any host, answer the same. The owner's
    /// secret is random and kept in a file of `dir` alone, which several hosts may share. The file is written before the database is
    /// told, so that a start that is cut off anywhere is taken up by the next.
    ///
    /// # Errors
    /// [`InstallError`].
    pub async fn ensure(store: &Store, keys: &Keys, dir: &Path, clock: &dyn Clock) -> Result<Installation, InstallError> {
        if let Some(missing) = store.sealing_keys_in_use().await?.into_iter().find(|id| !keys.has_sealing_key(id)) {
            return Err(InstallError::KeyMissing(missing));
        }
        let file = dir.join(FILE);
        // The database before the file: the file is written first, so that whoever finds the row finds the file too.
        let recorded = store.find_installation().await?;
        let known = read(&file)?;
        if let Some(ids) = recorded {
            return Ok(Installation::of(ids, known, file));
        }
        let owner = match known {
            Some(owner) => owner,
            None => write_new(&file)?,
        };
        let now = clock.now();
        let ids = owner.ids();
        let hash = password::hash_generated(&owner.client_secret);
        let recorded = store.ensure_installation(&ids, &owner.principal(now), &hash, now).await?;
        Ok(Installation::of(recorded, Some(owner), file))
    }

    /// Gives the first owner another secret, for whoever lost the file: it is written anew in `dir`. Tokens that the owner has are
    /// refused from then on.
    ///
    /// # Errors
    /// [`InstallError`]. Where the database is away the file may hold a secret that does not count: call again.
    pub async fn renew_secret(store: &Store, dir: &Path, clock: &dyn Clock) -> Result<Installation, InstallError> {
        let ids = store.find_installation().await?.ok_or(StoreError::SchemaAbsent)?;
        let secret = password::new_secret();
        let file = dir.join(FILE);
        let owner = Owner {
            tenant_id: ids.tenant,
            subscription_id: ids.subscription,
            object_id: ids.owner,
            client_id: ids.client_id.clone(),
            client_secret: secret.0.clone(),
        };
        write(&file, &owner)?;
        store.replace_secret(ids.owner, &password::hash_generated(&secret.0), next_second(clock.now())).await?;
        Ok(Installation::of(ids, Some(owner), file))
    }

    fn of(ids: InstallationIds, known: Option<Owner>, file: PathBuf) -> Installation {
        let known = known.filter(|owner| owner.client_id == ids.client_id && owner.tenant_id == ids.tenant);
        Installation {
            tenant: ids.tenant,
            subscription: ids.subscription,
            owner: ids.owner,
            client_id: ids.client_id,
            client_secret: known.map(|owner| SecretText(owner.client_secret.clone())),
            file,
        }
    }
}

impl Owner {
    fn random() -> Owner {
        Owner {
            tenant_id: TenantId(Uuid::new_v4()),
            subscription_id: SubscriptionId(Uuid::new_v4()),
            object_id: PrincipalId(Uuid::new_v4()),
            client_id: Uuid::new_v4().to_string(),
            client_secret: password::new_secret().0.clone(),
        }
    }

    fn ids(&self) -> InstallationIds {
        InstallationIds {
            tenant: self.tenant_id,
            subscription: self.subscription_id,
            owner: self.object_id,
            client_id: self.client_id.clone(),
        }
    }

    fn principal(&self, now: Timestamp) -> Principal {
        Principal {
            id: self.object_id,
            tenant: self.tenant_id,
            client_id: self.client_id.clone(),
            display_name: "first owner".into(),
            valid_after: whole_seconds(now),
            created_at: now,
        }
    }
}

fn read(file: &Path) -> Result<Option<Owner>, KeysError> {
    let failed = |source| KeysError::Io { path: file.to_owned(), source };
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = Zeroizing::new(String::new());
    opened.take(64 * 1024).read_to_string(&mut text).map_err(failed)?;
    let owner = serde_json::from_str(&text).map_err(|error| failed(std::io::Error::other(error)))?;
    Ok(Some(owner))
}

fn text(owner: &Owner) -> std::io::Result<Zeroizing<Vec<u8>>> {
    Ok(Zeroizing::new(serde_json::to_vec_pretty(owner)?))
}

/// Replaces the file.
fn write(file: &Path, owner: &Owner) -> Result<(), KeysError> {
    text(owner).and_then(|text| private_file(file, &text)).map_err(|source| KeysError::Io { path: file.to_owned(), source })
}

/// A new owner in a new file; where another host that shares the folder was faster, the owner that it wrote.
fn write_new(file: &Path) -> Result<Owner, KeysError> {
    let owner = Owner::random();
    match text(&owner).and_then(|text| new_private_file(file, &text)) {
        Ok(()) => Ok(owner),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let gone = || KeysError::Io { path: file.to_owned(), source: std::io::ErrorKind::NotFound.into() };
            read(file)?.ok_or_else(gone)
        }
        Err(source) => Err(KeysError::Io { path: file.to_owned(), source }),
    }
}
