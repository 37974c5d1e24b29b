//! Whom Postgres runs as: it refuses root.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Uid, User};

use super::error::EmbeddedError;

/// Accounts that Postgres may run as where the caller is root, the best first: the one that the system made for it, then the one that
/// owns nothing.
const ACCOUNTS: &[&str] = &["postgres", "nobody"];

/// Ids of the account that Postgres runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// The owner of an existing database; for a new one the caller itself, or where that is root, an account that owns little.
    ///
    /// # Errors
    /// `NotOurs`, `NoAccount`.
    pub(super) fn choose(folder: &Path) -> Result<Account, EmbeddedError> {
        let me = Uid::effective();
        if let Ok(metadata) = folder.metadata() {
            let (uid, gid) = (metadata.uid(), metadata.gid());
            return match (me.is_root(), uid == 0) {
                (true, true) => Account::unprivileged(),
                (true, false) => Ok(Account { uid, gid }),
                (false, _) if uid == me.as_raw() => Ok(Account { uid, gid }),
                (false, _) => Err(EmbeddedError::NotOurs { folder: folder.to_owned(), owner: uid }),
            };
        }
        if me.is_root() {
            Account::unprivileged()
        } else {
            Ok(Account { uid: me.as_raw(), gid: nix::unistd::getegid().as_raw() })
        }
    }

    fn unprivileged() -> Result<Account, EmbeddedError> {
        let user = ACCOUNTS.iter().find_map(|name| User::from_name(name).ok().flatten()).ok_or(EmbeddedError::NoAccount)?;
        Ok(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }
}

/// The name of the account that this process runs as.
///
/// # Errors
/// `NoName`.
pub(super) fn own_name() -> Result<String, EmbeddedError> {
    let me = Uid::effective();
    User::from_uid(me).ok().flatten().map(|user| user.name).ok_or(EmbeddedError::NoName(me.as_raw()))
}
