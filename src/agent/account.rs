//! The account that users have on the node: its keys and its password, as the cluster's user asked for them.
//!
//! In: the account as the server sends it, until the node is set up. Out: files of the node. The driver made the account itself.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::User;
use rand::Rng;
use rustix::fs::{Mode, fchmod};
use sha_crypt::{PasswordHasher, ShaCrypt};

use crate::agent::beneath::{make_file, make_folders, open_trusted};
use crate::agent::protocol::Account;

const SHADOW: &str = "/etc/shadow";

/// Bytes of salt: as text they are the 16 characters that `crypt` looks at.
const SALT: usize = 12;

/// Lets the account in with the key and the password that it has, and with no others. Repeating it is harmless.
///
/// # Errors
/// The node has no such account, or its files cannot be written.
pub(super) fn ensure(account: &Account) -> io::Result<()> {
    let user = User::from_name(&account.name)?.ok_or_else(|| io::Error::other("the node has no such account"))?;
    let owner = Some((user.uid.as_raw(), user.gid.as_raw()));
    if let Some(key) = &account.ssh_public_key {
        let folder = make_folders(open_trusted(&user.dir)?.as_fd(), Path::new(".ssh"), owner)?;
        fchmod(&folder, Mode::RWXU)?;
        let mut file = make_file(folder.as_fd(), "authorized_keys", owner)?;
        fchmod(&file, Mode::RUSR | Mode::WUSR)?;
        file.write_all(format!("{}\n", key.trim_end()).as_bytes())?;
    }
    let hash = match &account.password {
        None => "*".to_owned(),
        Some(password) => hash_of(password)?,
    };
    let known = std::fs::read_to_string(SHADOW).unwrap_or_default();
    let beside = format!("{SHADOW}.new");
    std::fs::write(&beside, "")?;
    std::fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
    std::fs::write(&beside, with_password(&known, &account.name, &hash))?;
    std::fs::rename(beside, SHADOW)
}

/// The hash of a password as `crypt` of the system reads it.
fn hash_of(password: &str) -> io::Result<String> {
    let mut salt = [0; SALT];
    rand::rng().fill_bytes(&mut salt);
    let hash = ShaCrypt::SHA512.hash_password_with_salt(password.as_bytes(), &salt).map_err(io::Error::other)?;
    Ok(hash.as_str().to_owned())
}

/// The text of `shadow` in which `name` has this hash, and all others theirs.
fn with_password(shadow: &str, name: &str, hash: &str) -> String {
    let is_own = |line: &&str| line.split(':').next() == Some(name);
    let mut text: String = shadow.lines().filter(|line| !is_own(line)).map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("{name}:{hash}:17000:0:99999:7:::\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_one_line_and_others_keep_theirs() {
        let first = with_password("root:*:17000:0:99999:7:::\n", "ops", "*");
        assert_eq!(first, "root:*:17000:0:99999:7:::\nops:*:17000:0:99999:7:::\n");
        assert_eq!(with_password(&first, "ops", "$6$x$y"), "root:*:17000:0:99999:7:::\nops:$6$x$y:17000:0:99999:7:::\n");
    }

    #[test]
    fn passwords_are_hashed_as_the_system_reads_them() {
        let hash = hash_of("pass word%$").expect("hashed");
        let fields: Vec<&str> = hash.split('$').collect();
        let ["", "6", "rounds=5000", salt, sum] = fields.as_slice() else { panic!("{hash}") };
        assert_eq!((salt.len(), sum.len()), (16, 86), "{hash}");
        assert!(!hash.contains([':', '\n']));
    }
}
