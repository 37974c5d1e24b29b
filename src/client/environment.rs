//! The environment as a client reads it, once.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Variables beside those that begin with [`PREFIX`].
const READ: [&str; 15] = [
    "HOME",
    "XDG_CONFIG_HOME",
    "USER",
    "NO_COLOR",
    "CLICOLOR_FORCE",
    "TERM",
    "ACCESSIBLE",
    "COLUMNS",
    "LC_ALL",
    "LC_CTYPE",
    "LANG",
    "EDITOR",
    "AZURE_BATCHAI_STORAGE_ACCOUNT",
    "AZURE_BATCHAI_STORAGE_KEY",
    "CI",
];

/// Begins the names of variables of ours.
const PREFIX: &str = "BATCHYARD_";

/// Variables that are not empty. Some are secrets, so that they cannot be printed.
#[derive(Clone, Default)]
pub struct Environment {
    values: BTreeMap<String, String>,
}

impl Environment {
    /// That of this process.
    pub fn read() -> Environment {
        let wanted = |name: &str| name.starts_with(PREFIX) || READ.contains(&name);
        let text =
            |(name, value): (std::ffi::OsString, std::ffi::OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let values = std::env::vars_os().filter_map(text).filter(|(name, value)| wanted(name) && !value.is_empty()).collect();
        Environment { values }
    }

    /// One that a test makes, or a file of shell assignments.
    pub fn of(values: impl IntoIterator<Item = (String, String)>) -> Environment {
        Environment { values: values.into_iter().collect() }
    }

    /// A variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value of a variable that a user names, such as that of `--secret-env`.
    #[allow(clippy::disallowed_methods)] // the one place of the client that reads it
    pub fn named(name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    /// The folder of this client's files: `BATCHYARD_CONFIG_DIR`, or `batchyard` where this account keeps settings.
    pub fn folder(&self) -> Option<PathBuf> {
        let absolute = |name: &str| self.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("BATCHYARD_CONFIG_DIR")
            .or_else(|| Some(absolute("XDG_CONFIG_HOME")?.join("batchyard")))
            .or_else(|| Some(absolute("HOME")?.join(".config/batchyard")))
    }
}
