//! Where the programs of Postgres are on this machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::EmbeddedError;

/// The programs of one Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    /// The folder that holds `initdb` and `postgres`.
    pub(super) bin: PathBuf,
    /// The major version, `15`.
    pub(super) major: String,
}

/// Folders that hold one folder a version, each with a `bin`: Debian's and Red Hat's.
const VERSIONED: &[(&str, &str)] = &[("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// The programs to use: those in `configured`, else the newest of the well-known folders, else those on `path`. Where `needed` is
/// given, only that major version will do.
///
/// # Errors
/// `NoPrograms`; `WrongVersion` where there are some, but none of the version needed.
pub(super) fn find(
    configured: Option<&Path>,
    path: Option<&OsStr>,
    needed: Option<&str>,
    folder: &Path,
) -> Result<Programs, EmbeddedError> {
    let places = match configured {
        Some(bin) => vec![bin.to_owned()],
        None => versioned().into_iter().chain(path.iter().flat_map(std::env::split_paths)).collect(),
    };
    let found: Vec<Programs> = places.iter().filter_map(|bin| look(bin)).collect();
    if found.is_empty() {
        let looked = match configured {
            Some(bin) => bin.display().to_string(),
            None => "/usr/lib/postgresql/*/bin, /usr/pgsql-*/bin and on the PATH".into(),
        };
        return Err(EmbeddedError::NoPrograms { looked });
    }
    let fitting = found.iter().find(|programs| needed.is_none_or(|major| major == programs.major));
    fitting.cloned().ok_or_else(|| EmbeddedError::WrongVersion {
        folder: folder.to_owned(),
        needed: needed.unwrap_or_default().to_owned(),
        found: found.iter().map(|programs| programs.major.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// `bin` folders of the well-known places, the newest version first.
fn versioned() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = VERSIONED
        .iter()
        .filter_map(|(parent, prefix)| Some((std::fs::read_dir(parent).ok()?, prefix)))
        .flat_map(|(entries, prefix)| entries.flatten().map(move |entry| (entry, prefix)))
        .filter_map(|(entry, prefix)| {
            let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, bin)| bin).collect()
}

fn look(bin: &Path) -> Option<Programs> {
    if !bin.join("initdb").is_file() {
        return None;
    }
    let answer = Command::new(bin.join("postgres")).arg("--version").env_clear().stdin(Stdio::null()).output().ok()?;
    let major = major(std::str::from_utf8(&answer.stdout).ok()?)?;
    // A link into the real folder still finds its share files; the folder itself is kept as it was named.
    Some(Programs { bin: bin.to_owned(), major })
}

/// The major version in `postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)`.
fn major(text: &str) -> Option<String> {
    let version = text.split_once("(PostgreSQL)")?.1.trim_start();
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_postgres_prints() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n").as_deref(), Some("15"));
        assert_eq!(major("postgres (PostgreSQL) 19devel").as_deref(), Some("19"));
        assert_eq!(major("sh: 1: not found"), None);
    }

    #[test]
    fn a_folder_without_programs_is_told_with_the_remedy() {
        let error = find(Some(Path::new("/nonexistent")), None, None, Path::new("/data")).expect_err("nothing there");
        assert!(error.to_string().contains("apt-get install postgresql"), "{error}");
    }
}
