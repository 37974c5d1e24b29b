//! `batchyard principal …`: who may sign in, by those who run the installation.
//!
//! In: arguments. Out: JSON on standard output, with a new secret once. Works through the database of `serve`, or through the data folder
//! of `up`, whether or not that runs.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::folder::{self, DataFolder, Hold};
use super::{Options, database_url, postgres_settings, prepare, server, settings};
use crate::auth::{Directory, Installation, NewPrincipal, Secret};
use crate::clock::SystemClock;
use crate::config::{Config, Environment, LogFormat, Migrations};
use crate::domain::principal::{Grant, InstallationIds, Listed, Origin, Principal, Role};
use crate::error::Error;
use crate::id::SubscriptionId;
use crate::secret::SecretText;
use crate::store::Store;
use crate::store::embedded::{self, Embedded};

/// Longest secret file that is read. Unit: bytes.
const MAX_SECRET: u64 = 4096;

/// What can be done.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum PrincipalCommand {
    /// Makes a principal and prints it with its secret, which nothing tells again.
    Create {
        /// Which installation.
        #[command(flatten)]
        place: Place,
        /// The name that it signs in with. Default: a GUID.
        client_id: Option<String>,
        /// What lists show. Default: the client id.
        #[arg(long, value_name = "TEXT")]
        display_name: Option<String>,
        /// What it may do: owner, contributor or reader. Default: nothing.
        #[arg(long, value_parser = role)]
        role: Option<Role>,
        /// Where: a path that begins with /subscriptions/, or one below the first subscription. Default: that subscription.
        #[arg(long, value_name = "PATH", requires = "role")]
        scope: Option<String>,
        /// Takes the secret from this file, or from standard input for `-`. Default: 256 random bits.
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// Gives it no secret: it signs in through an issuer elsewhere.
        #[arg(long, conflicts_with = "secret_file")]
        no_secret: bool,
    },
    /// Prints all principals and their roles.
    List {
        /// Which installation.
        #[command(flatten)]
        place: Place,
    },
    /// Gives a principal another secret and prints it; its tokens are refused from then on.
    Reset {
        /// Which installation.
        #[command(flatten)]
        place: Place,
        /// The name that it signs in with.
        client_id: String,
        /// Takes the secret from this file, or from standard input for `-`. Default: 256 random bits.
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
    /// Removes a principal with its roles; its tokens are refused from then on.
    Delete {
        /// Which installation.
        #[command(flatten)]
        place: Place,
        /// The name that it signs in with.
        client_id: String,
    },
}

/// Which installation.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// The file of settings.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The data folder of `up`. Default: the database that DATABASE_URL names, or else the usual folder.
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
}

fn role(text: &str) -> Result<Role, String> {
    Role::find(&text.to_ascii_lowercase()).ok_or_else(|| "it is owner, contributor or reader".to_owned())
}

/// `batchyard principal`.
///
/// # Errors
/// One sentence with the remedy.
pub fn principal(command: PrincipalCommand) -> Result<Value> {
    match command {
        PrincipalCommand::Create { place, client_id, display_name, role, scope, secret_file, no_secret } => {
            let secret = if no_secret { Secret::Absent } else { secret(secret_file.as_deref())? };
            at(&place, async |desk| {
                let grants = role.map(|role| Grant {
                    role,
                    scope: absolute_scope(scope.as_deref().unwrap_or_default(), desk.ids.subscription),
                });
                let display_name = display_name.or_else(|| client_id.clone()).unwrap_or_else(|| "principal".into());
                let tenant = desk.ids.tenant;
                let new = NewPrincipal { tenant, client_id, display_name, secret, grants: grants.into_iter().collect() };
                let (principal, told) = desk.directory.create(new).await.map_err(sentence)?;
                Ok(shown(&principal, told.as_ref()))
            })
        }
        PrincipalCommand::List { place } => at(&place, async |desk| {
            let listed = desk.directory.list(desk.ids.tenant).await.map_err(sentence)?;
            Ok(listed.iter().map(listing).collect())
        }),
        PrincipalCommand::Reset { place, client_id, secret_file } => {
            let secret = secret(secret_file.as_deref())?;
            at(&place, async |desk| {
                let principal = desk.made_by_command(&client_id).await?;
                if principal.id == desk.ids.owner {
                    if !matches!(secret, Secret::Generated) {
                        bail!("the first owner's secret is always random: leave out --secret-file");
                    }
                    let renewed = Installation::renew_secret(&desk.store, &desk.keys, &SystemClock).await?;
                    return Ok(shown(&principal, renewed.client_secret.as_ref()));
                }
                let told = desk.directory.replace_secret(principal.id, secret).await.map_err(sentence)?;
                Ok(shown(&principal, told.as_ref()))
            })
        }
        PrincipalCommand::Delete { place, client_id } => at(&place, async |desk| {
            let principal = desk.made_by_command(&client_id).await?;
            if principal.id == desk.ids.owner {
                bail!(
                    "'{client_id}' is the first owner, who stays: `batchyard principal reset` takes its secret and tokens away"
                );
            }
            desk.directory.delete(principal.id).await.map_err(sentence)?;
            Ok(shown(&principal, None))
        }),
    }
}

/// What a command works with.
pub(super) struct Desk {
    pub(super) store: Store,
    directory: Directory,
    ids: InstallationIds,
    keys: PathBuf,
}

impl Desk {
    async fn open(config: &Config, url: String) -> Result<Desk> {
        let store = server::connect(config, url).await?;
        let ids = store.find_installation().await?;
        let ids = ids.context("nothing is installed in this database yet: start a server first")?;
        let directory = Directory::new(store.clone(), Arc::new(SystemClock));
        Ok(Desk { store, directory, ids, keys: config.folders.keys.clone() })
    }

    /// A principal that the settings do not keep as it is.
    async fn made_by_command(&self, client_id: &str) -> Result<Principal> {
        let listed = self.directory.list(self.ids.tenant).await.map_err(sentence)?;
        let found = listed.into_iter().find(|listed| listed.principal.client_id == client_id);
        let found = found.with_context(|| format!("there is no principal '{client_id}'"))?;
        if found.origin == Origin::Settings {
            bail!("'{client_id}' is in the settings of a server: change it there, and start that again");
        }
        Ok(found.principal)
    }
}

/// Does something with the rows of an installation.
pub(super) fn at<T>(place: &Place, work: impl AsyncFnOnce(Desk) -> Result<T>) -> Result<T> {
    let environment = Environment::read();
    let options = Options { config: place.config.clone(), data: place.data.clone(), ..Options::default() };
    let mut config = settings(&options, &environment)?;
    // A command says what it has to say; what servers tell is for their logs.
    config.log.filter = "warn".into();
    config.log.format = LogFormat::Text;
    config.database.migrations = Migrations::Check;
    config.database.connections = 2;
    let runtime = prepare(&config)?;
    runtime.block_on(async {
        if place.data.is_none() && config.database.url.is_some() {
            return work(Desk::open(&config, database_url(&config)?).await?).await;
        }
        let data = &config.folders.data;
        if !data.join("postgres").is_dir() {
            bail!(
                "nothing is installed in {}: run `batchyard up` first, or set DATABASE_URL, or name a folder with --data",
                data.display()
            );
        }
        let run = folder::run_folder(&config.folders.run, &environment);
        match DataFolder::hold(data, Hold::Alone) {
            // Nobody runs its database: it runs for as long as this takes.
            Ok(_held) => {
                folder::make_private(&run)?;
                let postgres = Embedded::start(postgres_settings(&config, &run, &environment)?).await?;
                let done = async { work(Desk::open(&config, postgres.url()).await?).await }.await;
                postgres.stop().await;
                done
            }
            // A server has it, and its database takes this account.
            Err(_) if run.join("db").join(".s.PGSQL.5432").exists() => {
                work(Desk::open(&config, embedded::url(&run.join("db"))).await?).await
            }
            Err(error) => Err(error),
        }
    })
}

/// The key of a scope as people write it.
pub(super) fn absolute_scope(scope: &str, subscription: SubscriptionId) -> String {
    let scope = scope.trim_end_matches('/');
    let whole = match scope {
        "" => format!("/subscriptions/{subscription}"),
        whole if whole.starts_with('/') => whole.to_owned(),
        below => format!("/subscriptions/{subscription}/{below}"),
    };
    whole.to_lowercase()
}

/// A secret of a file, less the line's end. Never of an argument, which everyone on the machine can read.
fn secret(file: Option<&Path>) -> Result<Secret> {
    let Some(file) = file else { return Ok(Secret::Generated) };
    let reader: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?)
    };
    read_secret(reader).with_context(|| format!("cannot read a secret from {}", file.display())).map(Secret::Chosen)
}

pub(super) fn read_secret(reader: impl Read) -> Result<SecretText> {
    let mut text = String::new();
    reader.take(MAX_SECRET).read_to_string(&mut text)?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(SecretText(text))
}

/// As `az ad sp create-for-rbac` names things.
fn shown(principal: &Principal, told: Option<&SecretText>) -> Value {
    let mut shown = json!({
        "appId": principal.client_id,
        "displayName": principal.display_name,
        "objectId": principal.id,
        "tenant": principal.tenant,
    });
    if let (Some(told), Some(members)) = (told, shown.as_object_mut()) {
        members.insert("password".into(), told.0.clone().into());
    }
    shown
}

fn listing(listed: &Listed) -> Value {
    let mut shown = shown(&listed.principal, None);
    if let Some(members) = shown.as_object_mut() {
        let role = |(role, scope): &(String, String)| json!({ "role": role, "scope": scope });
        members.insert(
            "origin".into(),
            match listed.origin {
                Origin::Command => "command",
                Origin::Settings => "settings",
            }
            .into(),
        );
        members.insert("roles".into(), listed.roles.iter().map(role).collect());
    }
    shown
}

fn sentence(error: Error) -> anyhow::Error {
    anyhow::anyhow!("{}", error.message)
}
