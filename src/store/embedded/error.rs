//! Why the private Postgres does not start: each text says what to do about it.

use std::io;
use std::path::PathBuf;

/// Why the private Postgres is not there.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// None of the places has the programs.
    #[error(
        "no Postgres programs (initdb, postgres) were found in {looked}: install them (Debian, Ubuntu: `apt-get install postgresql`), \
         name their folder with `database.programs`, or use a Postgres of yours with `batchyard serve`"
    )]
    NoPrograms {
        /// Where they were looked for.
        looked: String,
    },
    /// The folder was made by a Postgres of another major version than those found.
    #[error(
        "{} was made by Postgres {needed}, but only {found} was found here: install that version (Debian, Ubuntu: \
         `apt-get install postgresql-{needed}`)",
        folder.display()
    )]
    WrongVersion {
        /// The database's folder.
        folder: PathBuf,
        /// The major version that made it.
        needed: String,
        /// The major versions found.
        found: String,
    },
    /// The folder is another account's, and this process may not become that account.
    #[error("{} belongs to user id {owner}: run batchyard as that user or as root, or name another folder with --data", folder.display())]
    NotOurs {
        /// The database's folder.
        folder: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Postgres refuses to run as root, and there is no other account.
    #[error(
        "Postgres cannot run as root and there is neither an account `postgres` nor `nobody`: make one, or run batchyard as a user"
    )]
    NoAccount,
    /// The account that the server runs as has no name.
    #[error("the user id {0} has no name on this machine, and Postgres needs one: add it to /etc/passwd")]
    NoName(u32),
    /// Postgres met a full disk.
    #[error("the disk of {} is full: free some space, or name another folder with --data", .0.display())]
    DiskFull(PathBuf),
    /// A process that this one may not end has the folder.
    #[error("process {pid} still uses the database in {} and does not stop: end it, then start again", folder.display())]
    InUse {
        /// The database's folder.
        folder: PathBuf,
        /// The process.
        pid: i32,
    },
    /// A program of Postgres ended badly.
    #[error("{program} failed; its last words: {words}")]
    Failed {
        /// Which.
        program: &'static str,
        /// The end of what it printed.
        words: String,
    },
    /// Postgres runs, but takes no connection in the time given.
    #[error("the private Postgres takes no connection after {seconds} s; see {}", log.display())]
    Silent {
        /// The time given.
        seconds: u64,
        /// Its log.
        log: PathBuf,
    },
    /// The file system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The verb.
        action: &'static str,
        /// Of what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database refused what every start does.
    #[error("the private Postgres refused to make its database: {0}")]
    Refused(#[source] sqlx::Error),
}

impl EmbeddedError {
    /// The file system refused `action` on `path`.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> EmbeddedError {
        let path = path.into();
        move |source| {
            if source.kind() == io::ErrorKind::StorageFull {
                EmbeddedError::DiskFull(path)
            } else {
                EmbeddedError::Io { action, path, source }
            }
        }
    }

    /// A program of Postgres ended badly, having printed `output`.
    pub(super) fn failed(program: &'static str, output: &str, folder: PathBuf) -> EmbeddedError {
        if output.contains("No space left on device") {
            return EmbeddedError::DiskFull(folder);
        }
        let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let words = lines.iter().skip(lines.len().saturating_sub(4)).copied().collect::<Vec<_>>().join(" / ");
        EmbeddedError::Failed { program, words: if words.is_empty() { "none".into() } else { words } }
    }
}
