//! The files of the private Postgres: its folders, who may connect, its log.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::account::Account;
use super::error::EmbeddedError;

/// A log beyond this size is put aside at the next start; one earlier log is kept.
const LOG_LIMIT: u64 = 16 * 1024 * 1024;

/// As much of the log's end as an error may need.
const TAIL: u64 = 4096;

/// The folder of the database.
pub(super) fn data(folder: &Path) -> PathBuf {
    folder.join("postgres")
}

/// The log of Postgres.
pub(super) fn log(folder: &Path) -> PathBuf {
    folder.join("postgres.log")
}

/// The major version that made the database; `None` where there is none.
pub(super) fn version(data: &Path) -> Option<String> {
    std::fs::read_to_string(data.join("PG_VERSION")).ok().map(|text| text.trim().to_owned())
}

/// Makes a folder that `account` alone may enter, beside root.
pub(super) fn make_folder(path: &Path, account: Account) -> Result<(), EmbeddedError> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(EmbeddedError::io("make", path)(error)),
        _ => {}
    }
    let metadata = std::fs::symlink_metadata(path).map_err(EmbeddedError::io("read", path))?;
    if !account.owns(&metadata) {
        std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid)).map_err(EmbeddedError::io("give away", path))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(EmbeddedError::io("close", path))
}

/// Writes who may connect: over the socket alone, the server's account alone, as the kernel tells it.
pub(super) fn write_access(data: &Path, account: Account, server: &str) -> Result<(), EmbeddedError> {
    let server = server.replace('"', "\"\"");
    write(&data.join("pg_hba.conf"), account, "# Written at each start.\nlocal all all peer map=server\n")?;
    let map = format!("# Written at each start.\nserver \"{server}\" postgres\nserver \"{server}\" batchyard\n");
    write(&data.join("pg_ident.conf"), account, &map)
}

/// Replaces a small file in one step. The folder is the account's: a link that it planted is not followed.
fn write(path: &Path, account: Account, text: &str) -> Result<(), EmbeddedError> {
    let new = path.with_extension("new");
    let written = || -> std::io::Result<()> {
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        std::os::unix::fs::fchown(&file, Some(account.uid), Some(account.gid))?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    written().map_err(EmbeddedError::io("write", path))
}

/// The log, open for Postgres's two outputs.
pub(super) fn open_log(folder: &Path) -> Result<(File, File), EmbeddedError> {
    let path = log(folder);
    let opened = || -> std::io::Result<(File, File)> {
        if path.metadata().is_ok_and(|metadata| metadata.len() > LOG_LIMIT) {
            std::fs::rename(&path, path.with_extension("log.1"))?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        Ok((file.try_clone()?, file))
    };
    opened().map_err(EmbeddedError::io("open", &path))
}

/// The end of the log.
pub(super) fn log_tail(folder: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log(folder))?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}
