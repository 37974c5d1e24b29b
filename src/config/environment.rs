//! The environment, read once at the start: secrets, and where this account keeps its data.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::secret::SecretText;

/// The data folder of root, who has no home for services.
const ROOT_DATA: &str = "/var/lib/batchyard";

/// Begins the names of variables that are options of the archive.
const ARCHIVE: &str = "BATCHYARD_ARCHIVE_";

/// Begins the names of variables that are secrets of configured principals.
pub(super) const PRINCIPAL: &str = "BATCHYARD_SECRET_";

/// What the settings need of the environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `DATABASE_URL`.
    pub database_url: Option<SecretText>,
    /// `BATCHYARD_ARCHIVE_…`: options of the archive by the rest of the name in lower case.
    pub archive: Vec<(String, SecretText)>,
    /// `BATCHYARD_SECRET_…`: secrets of configured principals by the whole name.
    pub principals: Vec<(String, SecretText)>,
    /// `XDG_DATA_HOME`, where it is an absolute path.
    pub data_home: Option<PathBuf>,
    /// `HOME`, where it is an absolute path.
    pub home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`, where it is an absolute path.
    pub runtime_dir: Option<PathBuf>,
    /// `PATH`.
    pub path: Option<OsString>,
    /// Whether this process is root.
    pub root: bool,
}

impl Environment {
    /// The environment of this process.
    #[allow(clippy::disallowed_methods)] // the one place that reads it
    pub fn read() -> Environment {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let all = || {
            let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
            std::env::vars_os().filter_map(text)
        };
        let mut archive: Vec<(String, SecretText)> = all()
            .filter_map(|(name, value)| Some((name.strip_prefix(ARCHIVE)?.to_ascii_lowercase(), SecretText(value))))
            .collect();
        archive.sort_by(|a, b| a.0.cmp(&b.0));
        let mut principals: Vec<(String, SecretText)> =
            all().filter(|(name, _)| name.starts_with(PRINCIPAL)).map(|(name, value)| (name, SecretText(value))).collect();
        principals.sort_by(|a, b| a.0.cmp(&b.0));
        Environment {
            database_url: text("DATABASE_URL").map(SecretText),
            archive,
            principals,
            data_home: folder("XDG_DATA_HOME"),
            home: folder("HOME"),
            runtime_dir: folder("XDG_RUNTIME_DIR"),
            path: std::env::var_os("PATH"),
            root: nix::unistd::Uid::effective().is_root(),
        }
    }

    /// Where data is kept unless the settings say otherwise.
    pub(super) fn data_folder(&self) -> PathBuf {
        if self.root {
            return ROOT_DATA.into();
        }
        let share = self.data_home.clone().or_else(|| Some(self.home.as_ref()?.join(".local/share")));
        share.map_or_else(|| ROOT_DATA.into(), |share| share.join("batchyard"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_where_the_account_keeps_it() {
        let mut environment = Environment { home: Some("/home/ada".into()), ..Environment::default() };
        assert_eq!(environment.data_folder(), PathBuf::from("/home/ada/.local/share/batchyard"));
        environment.data_home = Some("/data/ada".into());
        assert_eq!(environment.data_folder(), PathBuf::from("/data/ada/batchyard"));
        environment.root = true;
        assert_eq!(environment.data_folder(), PathBuf::from(ROOT_DATA));
    }
}
