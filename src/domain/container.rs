//! The container that a job runs in.

use std::time::Duration;

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

/// What the pull of an image may take of a node, whatever its registry sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullLimits {
    /// Most room on the node's disk, of what is downloaded and of what it unpacks to. Unit: bytes.
    pub most_bytes: u64,
    /// Longest time in all.
    pub time: Duration,
    /// Longest time in which nothing comes.
    pub silence: Duration,
}

impl Default for PullLimits {
    fn default() -> PullLimits {
        PullLimits { most_bytes: 64 << 30, time: Duration::from_secs(6 * 3600), silence: Duration::from_secs(300) }
    }
}

/// The field under which the registry's password is sealed.
pub const REGISTRY_PASSWORD: &str = "container.registry_password";

impl ContainerSettings {
    /// The image's whole name: with its registry where one is given beside it, and with the tag `latest` where it names none.
    ///
    /// Source: documented use: `serverUrl` is the registry of a bare name, and names that have one already are given with it too.
    pub fn reference(&self) -> String {
        let image = match self.registry.as_deref().map(host_of) {
            Some(host) if !is_public(host) && !has_registry(&self.image) => format!("{host}/{}", self.image),
            _ => self.image.clone(),
        };
        let last = image.rsplit('/').next().unwrap_or_default();
        if image.contains('@') || last.contains(':') { image } else { format!("{image}:latest") }
    }

    /// Size of `/dev/shm`; more than any machine has is the largest number that engines take. Unit: bytes.
    ///
    /// Source: Docker's notation, whose units are powers of 1024.
    pub fn shm_bytes(&self) -> Option<u64> {
        let text = self.shm_size.as_deref()?.to_ascii_lowercase();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match text.get(digits.len()..)? {
            "" | "b" => 0,
            "k" | "kb" => 10,
            "m" | "mb" => 20,
            "g" | "gb" => 30,
            _ => return None,
        };
        let most = i64::MAX.unsigned_abs();
        if digits.is_empty() {
            return None;
        }
        Some(digits.parse::<u64>().map_or(most, |count| count.saturating_mul(1 << shift).min(most)))
    }
}

/// The host of a registry's address, which may be a URL.
fn host_of(address: &str) -> &str {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    host.split('/').next().unwrap_or(host)
}

/// Whether it is the registry that bare names mean.
fn is_public(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io" | "hub.docker.com" | "")
}

/// Whether an image's name begins with a registry.
///
/// Source: Docker's rule: a first part with a dot or a port, or `localhost`.
fn has_registry(image: &str) -> bool {
    image.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(image: &str, registry: Option<&str>) -> ContainerSettings {
        ContainerSettings { image: image.into(), registry: registry.map(Into::into), credentials: None, shm_size: None }
    }

    #[test]
    fn a_name_is_whole() {
        for (image, registry, whole) in [
            ("ubuntu", None, "ubuntu:latest"),
            ("tensorflow/tensorflow:1.8.0-gpu", None, "tensorflow/tensorflow:1.8.0-gpu"),
            ("ubuntu", Some("https://index.docker.io/v1/"), "ubuntu:latest"),
            ("demo.azurecr.io/my/image", Some("demo.azurecr.io"), "demo.azurecr.io/my/image:latest"),
            ("my/image:2", Some("https://demo.azurecr.io/"), "demo.azurecr.io/my/image:2"),
            ("image", Some("127.0.0.1:5000"), "127.0.0.1:5000/image:latest"),
            ("127.0.0.1:5000/image", None, "127.0.0.1:5000/image:latest"),
            ("image@sha256:00", Some("a.b"), "a.b/image@sha256:00"),
            ("nvcr.io/nvidia/x:1", Some("nvcr.io"), "nvcr.io/nvidia/x:1"),
        ] {
            assert_eq!(settings(image, registry).reference(), whole, "{image} of {registry:?}");
        }
    }

    #[test]
    fn sizes_are_dockers() {
        for (text, bytes) in [
            ("64m", Some(64 << 20)),
            ("16gb", Some(16 << 30)),
            ("2G", Some(2 << 30)),
            ("1024", Some(1024)),
            ("8KB", Some(8192)),
            ("99999999999999999999g", Some(i64::MAX as u64)),
            ("99999999999gb", Some(i64::MAX as u64)),
            ("gb", None),
        ] {
            assert_eq!(ContainerSettings { shm_size: Some(text.into()), ..settings("x", None) }.shm_bytes(), bytes, "{text}");
        }
        assert_eq!(settings("x", None).shm_bytes(), None);
    }
}
