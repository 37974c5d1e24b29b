//! `batchyard pool …`: the machines of `driver.kind = "ssh"`, by those who run the installation.
//!
//! In: arguments and the settings. Out: JSON for standard output, or a line for a file or for a machine. Machines that servers go to are
//! asked themselves, and no server need run; of those that call, the database tells, as servers leave it there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::principal::{Place, at};
use super::server::{Home, pool_server};
use super::{Options, settings};
use crate::auth::new_secret;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{Config, Driver, Environment, Span, Ssh};
use crate::domain::bootstrap::ServerAddress;
use crate::domain::pool::PROGRAM_PATH;
use crate::driver::DriverError;
use crate::driver::ssh::{self, Machine, SshDriver};
use crate::store::MemberRow;

/// Who asks: nobody who could have a machine.
const OPERATOR: &str = "operator";

/// A machine that has not called for longer is out of reach: one that is about to be a node calls when that is done.
const SILENCE: Duration = Duration::from_secs(150);

/// Largest authority that is put into a line. Unit: bytes.
const MAX_AUTHORITY: usize = 16 << 10;

/// Longest time that a machine may take to join.
const LONGEST_OFFER: Duration = Duration::from_secs(7 * 86_400);

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
    /// Prints the one line that makes a machine, of those with `calls = true`, one of the pool. Whoever has the line may do that, once.
    Token {
        /// Which pool.
        #[command(flatten)]
        place: PoolFile,
        /// Its name in the settings.
        name: String,
        /// How long the line is good for, such as 30m.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
        expires: Duration,
    },
    /// Takes a machine that joined out of the pool for good: it ends its node, and calls no more.
    Remove {
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
    /// The data folder of `up`. Default: the database that DATABASE_URL names, or else the usual folder.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

fn span(text: &str) -> Result<Duration, String> {
    let span = Span::parse(text).map(|span| span.0).filter(|span| !span.is_zero() && *span <= LONGEST_OFFER);
    span.ok_or_else(|| "it is a time such as 30m, up to 7d".to_owned())
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
        PoolCommand::List { place }
        | PoolCommand::Quarantine { place, .. }
        | PoolCommand::Release { place, .. }
        | PoolCommand::Token { place, .. }
        | PoolCommand::Remove { place, .. } => place,
    };
    let options = Options { config: Some(place.config.clone()), data: place.data.clone(), ..Options::default() };
    let config = settings(&options, &Environment::read())?;
    let Driver::Ssh(pool) = config.driver.clone() else {
        bail!("driver.kind is not \"ssh\" in {}: there is no pool", place.config.display());
    };
    let rows = Place { config: Some(place.config.clone()), data: place.data.clone() };
    let calls = |name: &str| pool.machines.iter().any(|machine| machine.name == name && machine.login.is_none());
    let tell = |name: &str, word: &str| {
        let told = at(&rows, async |desk| Ok(desk.store.tell_member(name, word).await?))?;
        if told { Ok(()) } else { bail!("{name} has not joined") }
    };
    match &command {
        PoolCommand::Token { name, expires, .. } if calls(name) => return offer(&config, &pool, &rows, name, *expires),
        PoolCommand::Token { name, .. } => bail!(
            "{} has no machine '{name}' with calls = true: add it, so that the server knows what it has, and start that again",
            place.config.display()
        ),
        PoolCommand::Remove { name, .. } => {
            let now = SystemClock.now();
            if !at(&rows, async |desk| Ok(desk.store.remove_member(name, now).await?))? {
                bail!("no machine '{name}' has joined or has a token");
            }
            return Ok(format!("{:#}", json!({ "name": name, "state": "removed" })));
        }
        PoolCommand::Quarantine { name, reason, .. } if calls(name) => match reason.trim() {
            "" => bail!("a quarantine has a reason"),
            reason => tell(name, reason)?,
        },
        PoolCommand::Release { name, .. } if calls(name) => tell(name, "")?,
        _ => {}
    }
    let members = match pool.machines.iter().any(|machine| machine.login.is_none()) {
        true => at(&rows, async |desk| Ok(desk.store.members().await?))?,
        false => Vec::new(),
    };
    let said = |error: DriverError| anyhow::anyhow!("{}", error.chain());
    let driver = SshDriver::new(ssh::Settings {
        owner: OPERATOR.to_owned(),
        // No node is made.
        server: ServerAddress::Https { url: String::new(), ca: String::new() },
        fence: pool.fence.0,
        machines: pool.machines.iter().filter(|machine| machine.login.is_some()).cloned().collect(),
        binary: None,
        calls: ssh::Calls::default(),
    });
    let driver = driver.map_err(said)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        match &command {
            PoolCommand::Quarantine { name, reason, .. } if !calls(name) => {
                driver.quarantine(name, reason).await.map_err(said)?
            }
            PoolCommand::Release { name, .. } if !calls(name) => driver.release(name).await.map_err(said)?,
            _ => {}
        }
        let mut asked = driver.pool().await.into_iter().map(|machine| machine.state);
        let now = SystemClock.now();
        let state = |Machine { name, login, .. }: &Machine| {
            let called = || member_state(members.iter().find(|member| member.name == *name), now);
            json!({ "name": name, "state": if login.is_some() { asked.next().unwrap_or_default() } else { called() } })
        };
        let mut all: Vec<Value> = pool.machines.iter().map(state).collect();
        let others = members.iter().filter(|member| !calls(&member.name));
        all.extend(others.map(|member| json!({ "name": member.name, "state": "not in the settings" })));
        Ok(format!("{:#}", Value::Array(all)))
    })
}

/// How a machine that calls is, for people.
fn member_state(row: Option<&MemberRow>, now: Timestamp) -> String {
    let Some(row) = row else { return "not joined".to_owned() };
    match (row.offered_until, row.heard_at, &row.state) {
        (Some(until), ..) if until > now => format!("not joined: its token is good until {until}"),
        (Some(until), ..) => format!("not joined: its token ended at {until}"),
        (None, Some(heard), Some(state)) if now - heard > SILENCE => format!("not reached since {heard}; it was {state}"),
        (None, Some(_), Some(state)) => state.clone(),
        _ => "joined; it has not called yet".to_owned(),
    }
}

/// Makes a token, and the line that spends it.
fn offer(config: &Config, pool: &Ssh, rows: &Place, name: &str, expires: Duration) -> Result<String> {
    let listens = config.listen.https.iter().find(|address| !address.ip().is_unspecified() && address.port() != 0);
    let own = config.listen.certificate.is_none().then(|| config.folders.keys.join("ca.pem"));
    let (url, ca) =
        pool_server(config, pool, &Home { url: listens.map(|address| format!("https://{address}")), authority: own })?;
    if ca.len() > MAX_AUTHORITY {
        bail!(
            "driver.server_authority holds more than one line can: name a file of the one authority that signed the certificate"
        );
    }
    let token = new_secret();
    let until = SystemClock.now() + expires;
    if !at(rows, async |desk| Ok(desk.store.offer_member(name, &token.0, until).await?))? {
        bail!("{name} has joined already: `batchyard pool remove {name}` takes it out first");
    }
    Ok(line(&url, &ca, &token.0))
}

/// What a machine runs: nothing comes to it but from a server whose certificate that authority signed, and the token is no argument of any
/// program. An empty folder in place of the system's authorities, which curl would believe beside the one.
fn line(url: &str, ca: &str, token: &str) -> String {
    let folder = ssh::FOLDER;
    let ca = STANDARD.encode(ca.trim());
    format!(
        "(set -eu; umask 077; mkdir -p {folder}; d=$(mktemp -d {folder}/join.XXXXXX); trap 'rm -rf \"$d\"' EXIT; mkdir \"$d/none\"; \
         t={token}; echo {ca} | base64 -d >\"$d/ca\"; printf 'Authorization: Bearer %s\\n' \"$t\" | curl -q -fsS --proto =https \
         --cacert \"$d/ca\" --capath \"$d/none\" -X POST -H @- -o \"$d/batchyard\" {url}{PROGRAM_PATH}; chmod 700 \"$d/batchyard\"; \
         printf %s \"$t\" | \"$d/batchyard\" agent join {url} \"$d/ca\")"
    )
}
