//! `batchyard keys …`: the keys that sign tokens, by those who run the installation.
//!
//! In: arguments. Out: JSON on standard output. Works on the key folder alone; servers that run notice within a minute.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Options, settings};
use crate::auth::Keys;
use crate::config::Environment;

/// What can be done.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Prints the keys that verify tokens, the oldest first.
    List {
        /// Which installation.
        #[command(flatten)]
        place: KeyFolder,
    },
    /// Adds a key that signs from a minute later on; those before it still verify.
    Rotate {
        /// Which installation.
        #[command(flatten)]
        place: KeyFolder,
    },
    /// Removes a key: what it signed is refused.
    Retire {
        /// Which installation.
        #[command(flatten)]
        place: KeyFolder,
        /// Its id.
        id: String,
    },
}

/// Which key folder.
#[derive(Clone, Debug, clap::Args)]
pub struct KeyFolder {
    /// The file of settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// `batchyard keys`.
///
/// # Errors
/// One sentence with the remedy.
pub fn keys(command: KeysCommand) -> Result<Value> {
    let (KeysCommand::List { place } | KeysCommand::Rotate { place } | KeysCommand::Retire { place, .. }) = &command;
    let options = Options { config: place.config.clone(), data: place.data.clone(), ..Options::default() };
    let folder = settings(&options, &Environment::read())?.folders.keys;
    if !folder.join("master.key").exists() {
        anyhow::bail!("{} is no key folder: name that of the servers with --data or --config", folder.display());
    }
    let keys = Keys::load_or_create(&folder)?;
    match command {
        KeysCommand::List { .. } => {}
        KeysCommand::Rotate { .. } => drop(keys.rotate_token_key()?),
        KeysCommand::Retire { id, .. } => keys.retire_token_key(&id)?,
    }
    let listed = keys.token_keys().into_iter().map(|(id, made_at)| {
        let made_at = made_at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
        json!({ "id": id, "madeAt": made_at })
    });
    Ok(listed.collect())
}
