//! The account that users have on nodes and file servers.

use serde::{Deserialize, Serialize};

/// The account made on each machine. Its password is sealed under [`PASSWORD`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserAccount {
    /// Its name.
    pub name: String,
    /// Its public key, as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_public_key: Option<String>,
}

/// The field under which the account's password is sealed.
pub const PASSWORD: &str = "user_account.password";
