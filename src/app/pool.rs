//! `batchyard pool …`: the machines of `driver.kind = "ssh"`, by those who run the installation.
//!
//! In: arguments and the settings. Out: JSON for standard output, or a line for a file. Asks the machines themselves, as servers do; one need not run.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Options, settings};
use crate::config::{Driver, Environment};
use crate::domain::bootstrap::ServerAddress;
use crate::driver::DriverError;
use crate::driver::ssh::{self, SshDriver};

/// Who asks: nobody who could have a machine.
const OPERATOR: &str = "operator";

/// What can be done.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum PoolCommand {
    /// Prints each machine's state: free, or why it cannot be had.
    List {
        /// Which pool.
        #[command(flatten)]
        place: PoolFile,
    },
    /// Takes a machine out of use; a node that it is stays until its cluster lets go of it.
    Quarantine {
        /// Which pool.
        #[command(flatten)]
        place: PoolFile,
        /// Its name.
        name: String,
        /// Why, for whoever wonders.
        reason: String,
    },
    /// Puts a machine to use again.
    Release {
        /// Which pool.
        #[command(flatten)]
        place: PoolFile,
        /// Its name.
        name: String,
    },
    /// Prints the line of authorized_keys that lets a server make a machine a node, and do nothing else by ssh.
    Authorize {
        /// The file of the server's public key.
        public_key: PathBuf,
    },
}

/// Which settings.
#[derive(Clone, Debug, clap::Args)]
pub struct PoolFile {
    /// The file of settings.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// `batchyard pool`.
///
/// # Errors
/// One sentence with the remedy.
pub fn pool(command: PoolCommand) -> Result<String> {
    let place = match &command {
        PoolCommand::Authorize { public_key } => {
            let key = std::fs::read_to_string(public_key).with_context(|| format!("cannot read {}", public_key.display()))?;
            // What the line allows is said once: a second key below it would be allowed everything.
            if key.trim().lines().count() != 1 {
                bail!("{} does not hold one public key", public_key.display());
            }
            return Ok(ssh::authorized_key(&key));
        }
        PoolCommand::List { place } | PoolCommand::Quarantine { place, .. } | PoolCommand::Release { place, .. } => place,
    };
    let options = Options { config: Some(place.config.clone()), ..Options::default() };
    let Driver::Ssh(pool) = settings(&options, &Environment::read())?.driver else {
        bail!("driver.kind is not \"ssh\" in {}: there is no pool", place.config.display());
    };
    let said = |error: DriverError| anyhow::anyhow!("{}", error.chain());
    let driver = SshDriver::new(ssh::Settings {
        owner: OPERATOR.to_owned(),
        // No node is made.
        server: ServerAddress::Https { url: String::new(), ca: String::new() },
        fence: pool.fence.0,
        machines: pool.machines,
        binary: None,
    });
    let driver = driver.map_err(said)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        match command {
            PoolCommand::Quarantine { name, reason, .. } => driver.quarantine(&name, &reason).await.map_err(said)?,
            PoolCommand::Release { name, .. } => driver.release(&name).await.map_err(said)?,
            PoolCommand::List { .. } | PoolCommand::Authorize { .. } => {}
        }
        let pool = driver.pool().await.into_iter().map(|machine| json!({ "name": machine.name, "state": machine.state }));
        Ok(format!("{:#}", pool.collect::<Value>()))
    })
}
