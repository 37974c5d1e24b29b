//! Key vaults that the operator named: where they are, who may name them, and what is read from them.
//!
//! In: a reference as a user gave it, and the resource that needs it. Out: the secret's value, kept in memory for a few minutes. Only what
//! the settings name is ever asked, and only below the scopes that they give: a user's URL is compared, and never followed.

mod rest;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::secret::{SecretText, VaultReference};
use crate::service::{VaultError, Vaults};
use rest::Rest;

/// How long a value is kept: a gang's nodes ask once together, and a secret that was changed is soon the new one.
const KEPT: Duration = Duration::from_secs(300);

/// Longest value. Source: the limit of Key Vault, 25 KB.
const MAX_VALUE: usize = 25 * 1024;

/// Longest name of a secret or of its version. Source: names of objects in Key Vault.
const MAX_NAME: usize = 127;

/// A vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vault {
    /// Its resource id, as references name it.
    pub id: String,
    /// What the URLs of its secrets begin with: `https://NAME.vault.azure.net`.
    pub url: String,
    /// The resources that may name it: those at or below these paths.
    pub used_by: Vec<String>,
    /// Where its secrets are.
    pub source: Source,
}

/// Where a vault's secrets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Files of this host, each named after its secret. The value is the file's content less the line's end.
    Folder(PathBuf),
    /// A service that speaks the REST API of Azure Key Vault.
    Rest(Login),
}

/// How this server signs in to a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Where the vault is reached; without a path.
    pub endpoint: String,
    /// Where tokens are had for client credentials.
    pub token_url: String,
    /// Of what tokens are asked for.
    pub scope: String,
    /// Who this server is there.
    pub client_id: String,
    /// The file of its secret, less the line's end. Read when a token is asked for.
    pub client_secret_file: PathBuf,
    /// A PEM file of the authorities that certificates may be of; `None` for those of the host.
    pub authority: Option<PathBuf>,
}

/// Every vault of the settings.
pub struct Known {
    vaults: Vec<(Vault, Option<Rest>)>,
    kept: moka::future::Cache<(usize, String), SecretText>,
}

/// A vault's secret, as its URL names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named<'a> {
    name: &'a str,
    version: Option<&'a str>,
}

impl Known {
    /// Nothing is asked before a secret is needed. Blocks for files of authorities.
    ///
    /// # Errors
    /// A file of authorities cannot be read, or holds none.
    pub fn new(vaults: Vec<Vault>) -> std::io::Result<Known> {
        let with_client = |vault: Vault| {
            let rest = match &vault.source {
                Source::Folder(_) => None,
                Source::Rest(login) => Some(Rest::new(login.clone())?),
            };
            Ok((vault, rest))
        };
        Ok(Known {
            vaults: vaults.into_iter().map(with_client).collect::<std::io::Result<_>>()?,
            kept: moka::future::Cache::builder().max_capacity(1_000).time_to_live(KEPT).build(),
        })
    }
}

#[async_trait::async_trait]
impl Vaults for Known {
    async fn read(&self, reference: &VaultReference, asker: &str) -> Result<SecretText, VaultError> {
        let is_it = |(vault, _): &&(Vault, Option<Rest>)| vault.id.eq_ignore_ascii_case(reference.vault.trim_end_matches('/'));
        let found = self.vaults.iter().position(|entry| is_it(&entry));
        let (index, (vault, rest)) = found.and_then(|at| Some((at, self.vaults.get(at)?))).ok_or(VaultError::Unknown)?;
        if !vault.used_by.iter().any(|scope| is_within(asker, scope)) {
            return Err(VaultError::Unknown);
        }
        let named = find_name(&reference.url, &vault.url).ok_or(VaultError::Url)?;
        let key = (index, format!("{}/{}", named.name, named.version.unwrap_or_default()));
        let read = async {
            match (&vault.source, rest) {
                (Source::Folder(folder), _) => read_file(folder, named).await,
                (Source::Rest(_), Some(rest)) => rest.read(named).await,
                (Source::Rest(_), None) => Err(VaultError::Unknown),
            }
        };
        self.kept.try_get_with(key, read).await.map_err(|error| (*error).clone())
    }
}

/// Whether the resource at `path` is `scope` or below it.
fn is_within(path: &str, scope: &str) -> bool {
    let (path, scope) = (path.to_ascii_lowercase(), scope.trim_end_matches('/').to_ascii_lowercase());
    path.strip_prefix(&scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The secret that `url` names in the vault at `base`.
fn find_name<'a>(url: &'a str, base: &str) -> Option<Named<'a>> {
    let (start, rest) = url.split_at_checked(base.len())?;
    if !start.eq_ignore_ascii_case(base) {
        return None;
    }
    let plain =
        |text: &&str| (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let mut segments = rest.trim_end_matches('/').strip_prefix("/secrets/")?.split('/');
    let name = segments.next().filter(plain)?;
    let version = match segments.next() {
        None => None,
        Some(version) => Some(Some(version).filter(plain)?),
    };
    segments.next().is_none().then_some(Named { name, version })
}

async fn read_file(folder: &Path, named: Named<'_>) -> Result<SecretText, VaultError> {
    // A folder keeps what is current.
    if named.version.is_some() {
        return Err(VaultError::Missing);
    }
    match tokio::fs::read_to_string(folder.join(named.name)).await {
        Ok(text) if text.len() > MAX_VALUE => Err(VaultError::Away("the secret is too long")),
        Ok(text) => Ok(SecretText(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(VaultError::Missing),
        Err(_) => Err(VaultError::Away("its file cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_compared_and_never_followed() {
        let base = "https://team.vault.azure.net";
        let name = |url: &'static str| find_name(url, base).map(|named| (named.name, named.version));
        assert_eq!(name("https://team.vault.azure.net/secrets/acr"), Some(("acr", None)));
        assert_eq!(name("https://Team.vault.azure.net/secrets/acr/0a1b"), Some(("acr", Some("0a1b"))));
        assert_eq!(name("https://team.vault.azure.net/secrets/acr/"), Some(("acr", None)));
        for odd in [
            "https://team.vault.azure.net.evil.example/secrets/acr",
            "https://team.vault.azure.net@evil.example/secrets/acr",
            "https://team.vault.azure.net/keys/acr",
            "https://team.vault.azure.net/secrets/",
            "https://team.vault.azure.net/secrets/../keys",
            "https://team.vault.azure.net/secrets/a?x=1",
            "https://team.vault.azure.net/secrets/a/b/c",
            "https://team.vault.azure.net/secrets/a%2fb",
            "https://other.vault.azure.net/secrets/acr",
        ] {
            assert_eq!(name(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_vault_is_for_what_is_below_its_scopes() {
        assert!(is_within("/subscriptions/A/resourceGroups/g/x", "/subscriptions/a"));
        assert!(is_within("/subscriptions/a", "/Subscriptions/A/"));
        assert!(!is_within("/subscriptions/ab/resourceGroups/g", "/subscriptions/a"));
    }

    #[tokio::test]
    async fn a_folder_is_a_vault_for_those_who_may_name_it() {
        let folder = std::env::temp_dir().join(format!("batchyard-vault-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(folder.join("acr"), "s3cret\n").expect("written");
        let id = "/subscriptions/a/resourceGroups/g/providers/Microsoft.KeyVault/vaults/team";
        let known = Known::new(vec![Vault {
            id: id.into(),
            url: "https://team.vault.azure.net".into(),
            used_by: vec!["/subscriptions/a".into()],
            source: Source::Folder(folder.clone()),
        }])
        .expect("made");
        let read = async |vault: &str, secret: &str, asker: &str| {
            let url = format!("https://team.vault.azure.net/secrets/{secret}");
            known.read(&VaultReference { vault: vault.into(), url }, asker).await.map(|text| text.0.clone())
        };
        assert_eq!(read(&id.to_uppercase(), "acr", "/subscriptions/a/x").await, Ok("s3cret".into()));
        assert_eq!(read(id, "none", "/subscriptions/a/x").await, Err(VaultError::Missing));
        assert_eq!(read(id, "acr/1", "/subscriptions/a/x").await, Err(VaultError::Missing));
        assert_eq!(read(id, "acr", "/subscriptions/b/x").await, Err(VaultError::Unknown), "another tenant's");
        assert_eq!(read("/subscriptions/a/v", "acr", "/subscriptions/a/x").await, Err(VaultError::Unknown));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
