//! Secrets that are in key vaults: fetched when a node needs them, and sealed in memory as if they had been given.

use super::Service;
use crate::domain::resource::EntityError;
use crate::domain::secret::{SecretText, VaultReference};
use crate::domain::vault::VaultMember;
use crate::error::Error;
use crate::id::ResourceUid;
use crate::store::SecretRow;

/// The code of a job's and a node's error where a secret cannot be had.
const FAILED: &str = "KeyVaultSecretFailed";

/// Reads secrets of vaults that the operator named.
#[async_trait::async_trait]
pub trait Vaults: Send + Sync {
    /// The value of a secret for the resource at `asker`.
    ///
    /// # Errors
    /// Why it cannot be had. Says nothing of the vault's answer but its status.
    async fn read(&self, reference: &VaultReference, asker: &str) -> Result<SecretText, VaultError>;
}

/// Why a secret of a vault cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The operator named no such vault, or not for this resource: the two look alike.
    #[error("the vault is not one that this server may read for it: the operator names vaults in [[vault]]")]
    Unknown,
    /// The URL is not one of a secret in that vault.
    #[error("secretUrl is not 'https://VAULT/secrets/NAME' or 'https://VAULT/secrets/NAME/VERSION' of that vault")]
    Url,
    /// There is no such secret.
    #[error("the vault has no such secret")]
    Missing,
    /// The vault, or who gives tokens for it, does not let this server in.
    #[error("the vault does not let this server read it (status {0})")]
    Refused(u16),
    /// The vault, or who gives tokens for it, did not answer as one.
    #[error("the vault cannot be read now: {0}")]
    Away(&'static str),
}

/// No vault at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoVaults;

#[async_trait::async_trait]
impl Vaults for NoVaults {
    async fn read(&self, _: &VaultReference, _: &str) -> Result<SecretText, VaultError> {
        Err(VaultError::Unknown)
    }
}

impl Service {
    /// Adds the values of `members` of the resource `owner` at `path` to its sealed secrets. The inner error is for its user.
    pub(super) async fn fetch_vaulted(
        &self,
        (owner, path): (ResourceUid, &str),
        members: Vec<VaultMember<'_>>,
        secrets: &mut Vec<SecretRow>,
    ) -> Result<Result<(), EntityError>, Error> {
        for VaultMember { member, field, reference } in members {
            match self.inner.vaults.read(reference, path).await {
                Ok(value) => {
                    let sealed = self.inner.sealer.seal(owner.0, &field, value.0.as_bytes()).map_err(Error::internal)?;
                    secrets.push(SecretRow { field, sealed });
                }
                Err(error) => {
                    tracing::warn!(resource.path = path, member, %error, "a secret of a key vault cannot be had");
                    let message = format!("The secret that '{member}' names cannot be had: {error}.");
                    let error = EntityError::new(FAILED, message).with_detail("property", member);
                    return Ok(Err(error.with_detail("secretUrl", reference.url.clone())));
                }
            }
        }
        Ok(Ok(()))
    }
}
