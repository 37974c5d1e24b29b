//! The account that is made on machines, by whose key or password users log in to them.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::document::object;
use crate::client::{Environment, Failure, Result};

/// The account on machines.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Account {
    /// The account on each machine; your own name where it is left out.
    #[arg(short, long, value_name = "NAME")]
    user_name: Option<String>,
    /// A public key, or its file; the first of ~/.ssh/id_*.pub where it is left out.
    #[arg(short = 'k', long, value_name = "KEY")]
    ssh_key: Option<String>,
    /// The account's password. Other users of this machine can see it.
    #[arg(short, long)]
    password: Option<String>,
    /// Makes a key pair in ~/.ssh where there is none.
    #[arg(long)]
    generate_ssh_keys: bool,
}

impl Account {
    /// Adds the account of the flags to `properties`, or this user's where they have none.
    ///
    /// # Errors
    /// A key cannot be read or made.
    pub(super) fn lay_over(&self, environment: &Environment, properties: &mut Map<String, Value>) -> Result<()> {
        let own = environment.get("USER").filter(|user| *user != "root").unwrap_or("batchyard").to_owned();
        let settings = object(properties.entry("userAccountSettings").or_insert(Value::Null));
        match &self.user_name {
            Some(user) => settings.insert("adminUserName".into(), json!(user)),
            None if settings.contains_key("adminUserName") => None,
            None => settings.insert("adminUserName".into(), json!(own)),
        };
        if let Some(password) = &self.password {
            settings.insert("adminUserPassword".into(), json!(password));
        }
        let key = match &self.ssh_key {
            Some(key) if key.starts_with("ssh-") || key.starts_with("ecdsa-") => Some(key.clone()),
            Some(file) => Some(
                std::fs::read_to_string(file).map_err(|error| Failure::local(&format!("cannot read the key {file}"), error))?,
            ),
            None if settings.contains_key("adminUserSshPublicKey") || settings.contains_key("adminUserPassword") => None,
            None => own_key(environment, self.generate_ssh_keys)?,
        };
        if let Some(key) = key {
            settings.insert("adminUserSshPublicKey".into(), json!(key.trim()));
        }
        Ok(())
    }
}

/// The first public key of this account, made where that is wanted and there is none.
fn own_key(environment: &Environment, generate: bool) -> Result<Option<String>> {
    let Some(folder) = environment.get("HOME").map(|home| PathBuf::from(home).join(".ssh")) else { return Ok(None) };
    let is_key = |name: &str| name.starts_with("id_") && name.ends_with(".pub");
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.filter(|entry| entry.file_name().to_str().is_some_and(is_key)).map(|entry| entry.path()).collect();
    found.sort();
    if found.is_empty() && generate {
        let file = folder.join("id_rsa");
        std::fs::create_dir_all(&folder).map_err(|error| Failure::local("cannot make ~/.ssh", error))?;
        let made =
            std::process::Command::new("ssh-keygen").args(["-q", "-t", "rsa", "-b", "3072", "-N", "", "-f"]).arg(&file).status();
        match made {
            Ok(status) if status.success() => found.push(file.with_extension("pub")),
            Ok(status) => return Err(Failure::local("ssh-keygen failed", status)),
            Err(error) => return Err(Failure::local("ssh-keygen cannot be run", error)),
        }
    }
    let Some(file) = found.first() else { return Ok(None) };
    std::fs::read_to_string(file).map(Some).map_err(|error| Failure::local(&format!("cannot read {}", file.display()), error))
}
