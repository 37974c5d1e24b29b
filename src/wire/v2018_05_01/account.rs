//! The account that users have on nodes and file servers.

use serde::Serialize;

use crate::domain::account::{PASSWORD, UserAccount};
use crate::domain::secret::SecretText;
use crate::error::Violations;
use crate::wire::Secrets;
use crate::wire::fields::{Fields, SHORT_TEXT};

/// Longest public key. Unit: bytes; an RSA key of 16,384 bits has less.
const MAX_KEY: usize = 8 * 1024;

/// Reads the members of `userAccountSettings`. Neither password nor key is asked for: the published examples send neither.
pub fn decode_account(fields: &Fields<'_>, secrets: &mut Secrets, found: &mut Violations) -> Option<UserAccount> {
    let name = fields.required_text("adminUserName", SHORT_TEXT, found);
    let key = fields.text("adminUserSshPublicKey", MAX_KEY, found).filter(|key| !key.is_empty());
    let password = fields.text("adminUserPassword", SHORT_TEXT, found).filter(|password| !password.is_empty());
    if key.is_some_and(|key| !is_public_key(key)) {
        let path = fields.path_of("adminUserSshPublicKey");
        found.invalid(
            &path,
            format!("The property '{path}' must be an OpenSSH public key on one line, such as 'ssh-rsa AAAA... me'."),
        );
    }
    if let Some(password) = password {
        if password.chars().any(|c| c == '\n' || c == '\r' || c == '\0') {
            let path = fields.path_of("adminUserPassword");
            found.invalid(&path, format!("The property '{path}' may not hold line breaks."));
        }
        secrets.insert(PASSWORD.to_owned(), SecretText(password.to_owned()));
    }
    if let Some(rule) = name.and_then(broken_account_rule) {
        let path = fields.path_of("adminUserName");
        found.invalid(&path, format!("The property '{path}' {rule}."));
        return None;
    }
    Some(UserAccount { name: name?.to_owned(), ssh_public_key: key.map(str::to_owned) })
}

/// The rule that the name of an account on a Linux node breaks, if any.
fn broken_account_rule(name: &str) -> Option<&'static str> {
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Some("must begin with a letter or '_' and hold ASCII letters, digits, '-' and '_' only");
    }
    if name.len() > 32 {
        return Some("must have at most 32 characters");
    }
    name.eq_ignore_ascii_case("root").then_some("must not be 'root', which every node has already")
}

/// Whether a text reads as one public key of OpenSSH: the type, the key, and what its owner calls it. Every key begins with the
/// length of its type, whose first three bytes are 0: `AAAA` in base64.
fn is_public_key(text: &str) -> bool {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let (Some(kind), Some(key)) = (words.next(), words.next()) else { return false };
    let is_kind = ["ssh-", "ecdsa-", "sk-"].iter().any(|start| kind.starts_with(start));
    is_kind && key.starts_with("AAAA") && !text.chars().any(char::is_control)
}

/// `userAccountSettings` as answers show it: never with the password.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserAccountSettings<'a> {
    admin_user_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_user_ssh_public_key: Option<&'a str>,
}

impl<'a> UserAccountSettings<'a> {
    /// As the wire writes them.
    pub fn of(account: &'a UserAccount) -> UserAccountSettings<'a> {
        UserAccountSettings { admin_user_name: &account.name, admin_user_ssh_public_key: account.ssh_public_key.as_deref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_told_from_what_only_looks_like_one() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@host";
        for right in [key.to_owned(), format!("{key}\n"), key.replace(" me@host", "")] {
            assert!(is_public_key(&right), "{right}");
        }
        for wrong in ["", "ssh-rsa", "ssh-rsa !!!", "rsa AAAA", &format!("{key}\n{key}"), "-----BEGIN PUBLIC KEY-----"] {
            assert!(!is_public_key(wrong), "{wrong}");
        }
    }
}
