//! Values that users give and that are never shown again.

use serde::{Deserialize, Serialize};

/// Text that is never shown, and wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct SecretText(pub String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// Where a secret value is: here, sealed, or in a key vault that is asked when the value is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretValue {
    /// In the store, sealed, under the field's name.
    Sealed,
    /// In a key vault. The reference itself is no secret.
    Vault(VaultReference),
}

/// A secret in a key vault.
///
/// Source: `KeyVaultSecretReference`, openapi 2018-05-01.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultReference {
    /// The vault's resource id, as given.
    pub vault: String,
    /// The URL of the secret, as given.
    pub url: String,
}

/// An environment variable whose value is secret. Its value is sealed under a prefix and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SecretVariable {
    /// Its name; the value is in the store.
    Sealed(String),
    /// The value is in a key vault.
    Vault {
        /// Its name.
        name: String,
        /// Where its value is.
        reference: VaultReference,
    },
}

impl SecretVariable {
    /// The variable's name.
    pub fn name(&self) -> &str {
        match self {
            SecretVariable::Sealed(name) | SecretVariable::Vault { name, .. } => name,
        }
    }

    /// Where its value is, if that is a key vault.
    pub fn reference(&self) -> Option<&VaultReference> {
        match self {
            SecretVariable::Sealed(_) => None,
            SecretVariable::Vault { reference, .. } => Some(reference),
        }
    }
}

impl From<&str> for SecretVariable {
    fn from(name: &str) -> SecretVariable {
        SecretVariable::Sealed(name.to_owned())
    }
}
