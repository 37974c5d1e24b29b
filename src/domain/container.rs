//! The container that a job runs in.

use serde::{Deserialize, Serialize};

use crate::domain::secret::SecretValue;

/// The container that a job and its preparation run in, one on each node.
///
/// Source: `ContainerSettings`, openapi 2018-05-01.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSettings {
    /// The image's name in its registry.
    pub image: String,
    /// The registry's address; `None` for the public one that bare names mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Who may pull it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<RegistryCredentials>,
    /// Size of `/dev/shm`, in Docker's notation (`16gb`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<String>,
}

/// Who may pull an image. The password is sealed under [`REGISTRY_PASSWORD`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryCredentials {
    /// The user.
    pub username: String,
    /// Where the password is.
    pub password: SecretValue,
}

/// The field under which the registry's password is sealed.
pub const REGISTRY_PASSWORD: &str = "container.registry_password";
