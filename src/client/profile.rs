//! Profiles: servers that this account signs in to, in one file that nobody else can read.
//!
//! Secrets are in that file, mode 0600 in a folder of mode 0700, and not in a keyring: a keyring needs a session's message bus, which
//! the machines that jobs are sent from mostly do not have. The environment goes before the file, so that a pipeline needs none.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Environment, Exit, Failure, Result};

/// The file's name.
const FILE: &str = "profiles.toml";

/// The name of the profile that `login` makes where none is given.
pub const DEFAULT: &str = "default";

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Names that are taken where a command gives none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// The resource group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// The experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    /// The cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// A server, and who signs in to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its address, without a final `/`.
    pub endpoint: String,
    /// Its certificate authority, in PEM; that of the system where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    /// The tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The name to sign in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// A token, where there is no secret to get one with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Names that are taken where a command gives none.
    #[serde(default)]
    pub defaults: Defaults,
}

/// All profiles of this account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// The one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All, by name.
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
}

impl Profiles {
    /// The file.
    ///
    /// # Errors
    /// This account has no folder for settings.
    pub fn file(environment: &Environment) -> Result<PathBuf> {
        let none = || Failure::usage("there is no folder for profiles: set HOME or BATCHYARD_CONFIG_DIR");
        Ok(environment.folder().ok_or_else(none)?.join(FILE))
    }

    /// What the file says; none where there is no file.
    ///
    /// # Errors
    /// It cannot be read, others can read it, or it says what is no profile.
    pub fn read(environment: &Environment) -> Result<Profiles> {
        let Ok(path) = Profiles::file(environment) else { return Ok(Profiles::default()) };
        let mode = match fs::metadata(&path) {
            Ok(metadata) => metadata.permissions().mode(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Profiles::default()),
            Err(error) => return Err(Failure::local(&format!("the profiles in {} cannot be read", path.display()), error)),
        };
        if mode & 0o077 != 0 {
            let message = format!("{} holds secrets and others can read it (mode {:o})", path.display(), mode & 0o777);
            return Err(Failure::new(Exit::Usage, "ProfilesReadable", message).or_try(format!("chmod 600 {}", path.display())));
        }
        let broken = |error: String| Failure::local(&format!("the profiles in {} cannot be read", path.display()), error);
        let text = fs::read_to_string(&path).map_err(|error| broken(error.to_string()))?;
        // The message of the parser alone: the line that it would show may hold a secret.
        toml::from_str(&text).map_err(|error: toml::de::Error| broken(error.message().to_owned()))
    }

    /// Writes the file: whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, environment: &Environment) -> Result<()> {
        let path = Profiles::file(environment)?;
        let text = toml::to_string_pretty(self).map_err(|error| Failure::local("the profiles cannot be written", error))?;
        write_private(&path, text.as_bytes()).map_err(|error| Failure::local(&format!("cannot write {}", path.display()), error))
    }

    /// The profile of this name, or the one in use.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn find(&self, name: Option<&str>) -> Result<Option<(&str, &Profile)>> {
        let Some(name) = name.or(self.current.as_deref()) else { return Ok(None) };
        match self.profiles.get_key_value(name) {
            Some((name, profile)) => Ok(Some((name, profile))),
            None => {
                let known: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
                let message = format!("there is no profile '{name}'; there are: {}", known.join(", "));
                Err(Failure::new(Exit::Usage, "ProfileNotFound", message).or_try("batchyard profile list"))
            }
        }
    }
}

impl Profile {
    /// The profile that applies: the environment's variables, each before what the file says.
    ///
    /// # Errors
    /// There is neither, or the certificate authority cannot be read.
    pub fn resolve(
        environment: &Environment,
        profiles: &Profiles,
        name: Option<&str>,
        endpoint: Option<&str>,
    ) -> Result<(String, Profile)> {
        let stored = profiles.find(name.or_else(|| environment.get("BATCHYARD_PROFILE")))?;
        let (shown, mut profile) = match stored {
            Some((name, profile)) => (name.to_owned(), profile.clone()),
            None => ("environment".to_owned(), Profile::default()),
        };
        // A profile that was named is meant, whatever the environment says.
        if name.is_none() {
            profile.overlay(environment)?;
        }
        if let Some(endpoint) = endpoint {
            endpoint.trim_end_matches('/').clone_into(&mut profile.endpoint);
        }
        if profile.endpoint.is_empty() {
            return Err(Failure::new(
                Exit::Forbidden,
                "NotSignedIn",
                "no server is known: there is no profile, and BATCHYARD_ENDPOINT is not set",
            )
            .or_try("batchyard login --env-file FILE       with the file that `batchyard up --env-file FILE` wrote")
            .or_try("batchyard login --server URL --service-principal -u ID --password-stdin -t TENANT --ca-file FILE")
            .or_try("export BATCHYARD_ENDPOINT=URL BATCHYARD_CLIENT_ID=… BATCHYARD_CLIENT_SECRET=… BATCHYARD_TENANT=…"));
        }
        Ok((shown, profile))
    }

    /// Lays the environment's variables over it.
    ///
    /// # Errors
    /// The file of `BATCHYARD_CA` cannot be read.
    pub fn overlay(&mut self, environment: &Environment) -> Result<()> {
        let text = |name: &str| environment.get(name).map(str::to_owned);
        if let Some(endpoint) = text("BATCHYARD_ENDPOINT") {
            let endpoint = endpoint.trim_end_matches('/').to_owned();
            if endpoint != self.endpoint {
                // Another server: what the profile knows of the former one is not sent there.
                *self = Profile { endpoint, defaults: self.defaults.clone(), ..Profile::default() };
            }
        }
        if let Some(file) = text("BATCHYARD_CA") {
            self.ca = Some(read_authority(Path::new(&file))?);
        }
        for (name, into) in [
            ("BATCHYARD_SUBSCRIPTION", &mut self.subscription),
            ("BATCHYARD_TENANT", &mut self.tenant),
            ("BATCHYARD_DEFAULTS_GROUP", &mut self.defaults.group),
            ("BATCHYARD_DEFAULTS_WORKSPACE", &mut self.defaults.workspace),
            ("BATCHYARD_DEFAULTS_EXPERIMENT", &mut self.defaults.experiment),
            ("BATCHYARD_DEFAULTS_CLUSTER", &mut self.defaults.cluster),
        ] {
            if let Some(value) = text(name) {
                *into = Some(value);
            }
        }
        if let (Some(id), Some(secret)) = (text("BATCHYARD_CLIENT_ID"), text("BATCHYARD_CLIENT_SECRET")) {
            self.client_id = Some(id);
            self.client_secret = Some(Secret(secret));
            self.token = None;
        } else if let Some(token) = text("BATCHYARD_TOKEN") {
            self.client_secret = None;
            self.token = Some(Secret(token));
        }
        Ok(())
    }
}

/// The certificates of a file, as they are.
///
/// # Errors
/// It cannot be read.
pub fn read_authority(path: &Path) -> Result<String> {
    fs::read_to_string(path)
        .map_err(|error| Failure::local(&format!("the certificate authority {} cannot be read", path.display()), error))
}

/// Writes a file that this account alone can read, in a folder that is so too.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let making = folder.join(format!(".{}.{}", path.file_name().unwrap_or_default().to_string_lossy(), std::process::id()));
    match fs::remove_file(&making) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&making)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&making, path));
    if written.is_err() {
        let _ = fs::remove_file(&making);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(folder: &Path, more: &[(&str, &str)]) -> Environment {
        let folder = [("BATCHYARD_CONFIG_DIR".to_owned(), folder.display().to_string())];
        Environment::of(folder.into_iter().chain(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))))
    }

    fn profiles() -> Profiles {
        let profile = Profile {
            endpoint: "https://yard.example".into(),
            client_id: Some("ana".into()),
            client_secret: Some(Secret("canary".into())),
            ..Profile::default()
        };
        Profiles { current: Some("yard".into()), profiles: BTreeMap::from([("yard".into(), profile)]) }
    }

    #[test]
    fn the_file_is_private_and_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let environment = environment(&folder.path().join("a/b"), &[]);
        profiles().write(&environment).expect("writes");
        let file = Profiles::file(&environment).expect("a file");
        assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(Profiles::read(&environment).expect("reads"), profiles());
        assert!(!format!("{:?}", profiles()).contains("canary"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("opens");
        assert_eq!(Profiles::read(&environment).expect_err("refused").code, "ProfilesReadable");
    }

    #[test]
    fn what_is_no_profile_is_told_without_the_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let environment = environment(folder.path(), &[]);
        write_private(&Profiles::file(&environment).expect("a file"), b"[profiles.a]\nclient_secret = canary\n").expect("writes");
        let told = Profiles::read(&environment).expect_err("refused").to_string();
        assert!(!told.contains("canary"), "{told}");
    }

    #[test]
    fn the_environment_goes_before_the_file_and_secrets_stay_with_their_server() {
        let folder = tempfile::tempdir().expect("a folder");
        let resolve = |more: &[(&str, &str)], name: Option<&str>| {
            Profile::resolve(&environment(folder.path(), more), &profiles(), name, None).expect("resolves").1
        };
        assert_eq!(resolve(&[], None).client_secret, Some(Secret("canary".into())));
        let elsewhere = resolve(&[("BATCHYARD_ENDPOINT", "https://other/"), ("BATCHYARD_TOKEN", "t")], None);
        assert_eq!(
            (elsewhere.endpoint.as_str(), elsewhere.client_secret, elsewhere.token),
            ("https://other", None, Some(Secret("t".into())))
        );
        let both = resolve(&[("BATCHYARD_CLIENT_ID", "b"), ("BATCHYARD_CLIENT_SECRET", "s"), ("BATCHYARD_TOKEN", "t")], None);
        assert_eq!((both.client_id.as_deref(), both.token), (Some("b"), None), "a secret gets tokens for as long as it takes");
        assert_eq!(resolve(&[("BATCHYARD_ENDPOINT", "https://other")], Some("yard")).endpoint, "https://yard.example");
        let none =
            Profile::resolve(&environment(folder.path(), &[]), &Profiles::default(), None, None).expect_err("nothing is known");
        assert_eq!((none.exit, none.remedies.len()), (Exit::Forbidden, 3));
    }
}
