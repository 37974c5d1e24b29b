//! Signing in: profiles, subscriptions, defaults, and whether all is well.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::global::Global;
use super::output::Answer;
use super::session::{Session, output, subscriptions, trace};
use super::views;
use crate::client::{Client, DEFAULT, Environment, Exit, Failure, Profile, Profiles, Result, Secret, read_authority};

/// How one signs in.
#[derive(Args, Clone, Debug, Default)]
pub struct Login {
    /// The file that `batchyard up --env-file FILE` wrote: address, authority and credentials at once.
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Signs in as a program; always so, for scripts that say it.
    #[arg(long)]
    pub service_principal: bool,
    /// The name of the principal.
    #[arg(short, long, value_name = "ID")]
    pub username: Option<String>,
    /// Its secret. Other users of this machine can see it: prefer --password-stdin.
    #[arg(short, long, value_name = "SECRET", conflicts_with = "password_stdin")]
    pub password: Option<String>,
    /// Reads its secret from standard input.
    #[arg(long)]
    pub password_stdin: bool,
    /// Reads a token from standard input, in place of a name and secret.
    #[arg(long, conflicts_with_all = ["password", "password_stdin"])]
    pub token_stdin: bool,
    /// The tenant.
    #[arg(short, long, value_name = "ID")]
    pub tenant: Option<String>,
    /// The server's certificate authority, where it has one of its own.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// What `profile` does.
#[derive(Subcommand, Clone, Debug)]
pub enum ProfileVerb {
    /// Lists the profiles.
    List,
    /// Uses another profile from now on.
    Use {
        /// Its name.
        name: String,
    },
    /// Shows the profile in use, without secrets.
    Show,
    /// Removes a profile.
    Delete {
        /// Its name.
        name: String,
    },
}

/// What `account` does.
#[derive(Subcommand, Clone, Debug)]
pub enum AccountVerb {
    /// Shows the subscription in use.
    Show,
    /// Lists the subscriptions that the caller sees.
    List,
    /// Uses another subscription from now on.
    Set {
        /// Its id or name.
        #[arg(short = 's', long = "name", value_name = "ID")]
        name: String,
    },
    /// Prints a token, for other programs.
    GetAccessToken,
}

/// What `config` does.
#[derive(Subcommand, Clone, Debug)]
pub enum ConfigVerb {
    /// Shows what is set.
    List,
    /// Shows one.
    Get {
        /// defaults.group, defaults.workspace, defaults.experiment or defaults.cluster.
        key: String,
    },
    /// Sets: defaults.group=NAME …
    Set {
        /// KEY=VALUE
        #[arg(required = true)]
        pairs: Vec<String>,
    },
    /// Takes a setting away.
    Unset {
        /// Its key.
        key: String,
    },
}

/// What `provider` does.
#[derive(Subcommand, Clone, Debug)]
pub enum ProviderVerb {
    /// Registers Microsoft.BatchAI for the subscription, which is needed once.
    Register,
}

/// Signs in and keeps the profile.
///
/// # Errors
/// What is given is not enough, or the server does not let it in; nothing is kept then.
pub(super) async fn login(login: &Login, global: &Global) -> Result<Answer> {
    let environment = Environment::read();
    let mut profiles = Profiles::read(&environment)?;
    let name = global.profile.clone().unwrap_or_else(|| DEFAULT.to_owned());
    let mut profile = match &login.env_file {
        Some(file) => from_env_file(file)?,
        None => {
            let mut known = profiles.profiles.get(&name).cloned().unwrap_or_default();
            known.overlay(&environment)?;
            known
        }
    };
    if let Some(server) = &global.server {
        server.trim_end_matches('/').clone_into(&mut profile.endpoint);
    }
    if let Some(file) = &login.ca_file {
        profile.ca = Some(read_authority(file)?);
    }
    if login.tenant.is_some() {
        profile.tenant.clone_from(&login.tenant);
    }
    if login.username.is_some() {
        profile.client_id.clone_from(&login.username);
    }
    if login.password.is_some() {
        eprintln!("warning: other users of this machine can see --password while the command runs; --password-stdin is not seen");
    }
    if login.token_stdin {
        profile.token = Some(Secret(read_secret()?));
        profile.client_secret = None;
    } else if let Some(secret) = login.password.clone().or(if login.password_stdin { Some(read_secret()?) } else { None }) {
        profile.client_secret = Some(Secret(secret));
        profile.token = None;
    }
    let missing: Vec<&str> = [
        (profile.endpoint.is_empty(), "--server URL"),
        (profile.client_secret.is_none() && profile.token.is_none(), "--password-stdin"),
        (profile.client_id.is_none() && profile.token.is_none(), "-u ID"),
        (profile.tenant.is_none() && profile.token.is_none(), "-t TENANT"),
    ]
    .iter()
    .filter_map(|(missing, flag)| missing.then_some(*flag))
    .collect();
    if !missing.is_empty() {
        return Err(Failure::usage(format!("to sign in, give also {}", missing.join(", ")))
            .or_try("batchyard login --env-file FILE       with the file that `batchyard up --env-file FILE` wrote"));
    }
    let out = output(global, &environment)?;
    let client = Client::new(profile.clone(), None, trace(global))?;
    client.token(true).await?;
    let seen = subscriptions(&client).await?;
    let id = |entry: &serde_json::Value| entry.get("subscriptionId").and_then(|id| id.as_str()).map(str::to_owned);
    let wanted = global.subscription.clone().or(profile.subscription.clone());
    profile.subscription = match wanted {
        Some(wanted) if seen.iter().any(|entry| id(entry).as_ref() == Some(&wanted)) => Some(wanted),
        Some(wanted) if global.subscription.is_some() => {
            return Err(Failure::new(
                Exit::Forbidden,
                "SubscriptionNotFound",
                format!("the caller sees no subscription {wanted}"),
            ));
        }
        _ => seen.first().and_then(id),
    };
    if profile.subscription.is_none() {
        out.terminal.say("signed in, with no role in any subscription: ask an owner for one");
    }
    out.terminal.say(&format!("signed in to {} as {}, profile {name}", profile.endpoint, user(&profile)));
    profiles.profiles.insert(name.clone(), profile);
    profiles.current = Some(name);
    profiles.write(&environment)?;
    Ok(Answer::Many(seen, &views::ACCOUNT))
}

/// Forgets the profile in use, or all.
///
/// # Errors
/// There is none.
pub(super) fn logout(all: bool, global: &Global) -> Result<Answer> {
    let environment = Environment::read();
    let mut profiles = Profiles::read(&environment)?;
    let names: Vec<String> = match (all, profiles.find(global.profile.as_deref())?) {
        (true, _) => profiles.profiles.keys().cloned().collect(),
        (false, Some((name, _))) => vec![name.to_owned()],
        (false, None) => Vec::new(),
    };
    for name in names {
        remove(&mut profiles, &name, &environment, global);
    }
    profiles.write(&environment)?;
    Ok(Answer::Nothing)
}

fn remove(profiles: &mut Profiles, name: &str, environment: &Environment, global: &Global) {
    if let Some(profile) = profiles.profiles.remove(name) {
        let tokens = environment.folder().map(|folder| folder.join("tokens.json"));
        if let Ok(client) = Client::new(profile, tokens, trace(global)) {
            client.forget_token();
        }
    }
    if profiles.current.as_deref() == Some(name) {
        profiles.current = None;
    }
}

/// Profiles.
///
/// # Errors
/// There is none of that name; the file cannot be read or written.
pub(super) fn profile(verb: &ProfileVerb, global: &Global) -> Result<Answer> {
    let environment = Environment::read();
    let mut profiles = Profiles::read(&environment)?;
    let shown = |name: &str, profile: &Profile, current: bool| {
        json!({
            "name": name, "server": profile.endpoint, "user": user(profile), "tenant": profile.tenant,
            "subscription": profile.subscription, "current": current, "defaults": profile.defaults,
        })
    };
    match verb {
        ProfileVerb::List => {
            let current = profiles.current.as_deref();
            let all = profiles.profiles.iter().map(|(name, profile)| shown(name, profile, current == Some(name))).collect();
            Ok(Answer::Many(all, &views::PROFILE))
        }
        ProfileVerb::Show => {
            let (name, profile) = Profile::resolve(&environment, &profiles, global.profile.as_deref(), global.server.as_deref())?;
            Ok(Answer::One(shown(&name, &profile, true), &views::PROFILE))
        }
        ProfileVerb::Use { name } => {
            profiles.find(Some(name))?;
            profiles.current = Some(name.clone());
            profiles.write(&environment)?;
            Ok(Answer::Nothing)
        }
        ProfileVerb::Delete { name } => {
            profiles.find(Some(name))?;
            remove(&mut profiles, name, &environment, global);
            profiles.write(&environment)?;
            Ok(Answer::Nothing)
        }
    }
}

/// Subscriptions and tokens.
///
/// # Errors
/// As of [`Session::open`].
pub(super) async fn account(verb: &AccountVerb, global: &Global) -> Result<Answer> {
    let session = Session::open(global).await?;
    let seen = subscriptions(&session.client).await?;
    let id = |entry: &serde_json::Value| views::at(entry, "/subscriptionId");
    match verb {
        AccountVerb::List => Ok(Answer::Many(seen, &views::ACCOUNT)),
        AccountVerb::Show => {
            let found = seen.into_iter().find(|entry| id(entry) == session.subscription);
            let absent = || {
                Failure::new(
                    Exit::Absent,
                    "SubscriptionNotFound",
                    format!("the caller sees no subscription {}", session.subscription),
                )
            };
            Ok(Answer::One(found.ok_or_else(absent)?, &views::ACCOUNT))
        }
        AccountVerb::Set { name } => {
            let found = seen.iter().find(|entry| id(entry) == *name || views::at(entry, "/displayName") == *name);
            let absent = || {
                Failure::new(Exit::Absent, "SubscriptionNotFound", format!("the caller sees no subscription {name}"))
                    .or_try("batchyard account list")
            };
            let chosen = id(found.ok_or_else(absent)?);
            change_profile(&session.environment, global, |profile| profile.subscription = Some(chosen))?;
            Ok(Answer::Nothing)
        }
        AccountVerb::GetAccessToken => {
            let token = session.client.token(false).await?;
            let document = json!({
                "accessToken": token.token.0, "tokenType": "Bearer", "subscription": session.subscription,
                "tenant": session.client.profile().tenant,
                "expires_on": if token.expires_at == i64::MAX { serde_json::Value::Null } else { json!(token.expires_at) },
            });
            Ok(Answer::One(document, &views::PLAIN))
        }
    }
}

/// Names that are taken where a command gives none.
///
/// # Errors
/// The key is none; there is no profile to keep it in.
pub(super) fn config(verb: &ConfigVerb, global: &Global) -> Result<Answer> {
    let environment = Environment::read();
    let profiles = Profiles::read(&environment)?;
    let resolved = || -> Result<Profile> {
        let mut profile = profiles.find(global.profile.as_deref())?.map(|(_, profile)| profile.clone()).unwrap_or_default();
        profile.overlay(&environment)?;
        Ok(profile)
    };
    let setting = |key: &str| -> Result<serde_json::Value> {
        let value = default_of(&mut resolved()?, key)?.clone();
        let variable = format!("BATCHYARD_DEFAULTS_{}", key.trim_start_matches("defaults.").to_ascii_uppercase());
        let from = if environment.get(&variable).is_some() { "environment" } else { "profile" };
        Ok(json!({ "key": key, "value": value, "from": from }))
    };
    match verb {
        ConfigVerb::Get { key } => Ok(Answer::One(setting(key)?, &views::SETTING)),
        ConfigVerb::List => {
            let all = KEYS.iter().map(|key| setting(key)).collect::<Result<Vec<_>>>()?;
            Ok(Answer::Many(all.into_iter().filter(|setting| !setting["value"].is_null()).collect(), &views::SETTING))
        }
        ConfigVerb::Set { pairs } => {
            for pair in pairs {
                let (key, value) = pair.split_once('=').ok_or_else(|| Failure::usage(format!("'{pair}' is no KEY=VALUE")))?;
                default_of(&mut Profile::default(), key)?;
                change_profile(&environment, global, |profile| {
                    if let Ok(place) = default_of(profile, key) {
                        *place = Some(value.to_owned());
                    }
                })?;
            }
            Ok(Answer::Nothing)
        }
        ConfigVerb::Unset { key } => {
            default_of(&mut Profile::default(), key)?;
            change_profile(&environment, global, |profile| {
                if let Ok(place) = default_of(profile, key) {
                    *place = None;
                }
            })?;
            Ok(Answer::Nothing)
        }
    }
}

/// Settings that there are.
const KEYS: [&str; 4] = ["defaults.group", "defaults.workspace", "defaults.experiment", "defaults.cluster"];

fn default_of<'p>(profile: &'p mut Profile, key: &str) -> Result<&'p mut Option<String>> {
    match key {
        "defaults.group" => Ok(&mut profile.defaults.group),
        "defaults.workspace" => Ok(&mut profile.defaults.workspace),
        "defaults.experiment" => Ok(&mut profile.defaults.experiment),
        "defaults.cluster" => Ok(&mut profile.defaults.cluster),
        _ => Err(Failure::usage(format!("there is no setting '{key}'; there are {}", KEYS.join(", ")))),
    }
}

fn change_profile(environment: &Environment, global: &Global, change: impl FnOnce(&mut Profile)) -> Result<()> {
    let mut profiles = Profiles::read(environment)?;
    let name = profiles.find(global.profile.as_deref())?.map(|(name, _)| name.to_owned());
    let name = name.ok_or_else(|| {
        Failure::new(Exit::Usage, "NoProfile", "there is no profile to keep it in")
            .or_try("batchyard login …")
            .or_try("or, without a profile: export BATCHYARD_DEFAULTS_GROUP=NAME BATCHYARD_SUBSCRIPTION=ID")
    })?;
    if let Some(profile) = profiles.profiles.get_mut(&name) {
        change(profile);
    }
    profiles.write(environment)
}

/// Who signs in, as people are told.
fn user(profile: &Profile) -> String {
    profile.client_id.clone().unwrap_or_else(|| "the holder of a token".to_owned())
}

/// What `batchyard up` wrote for scripts. https is taken where there is both.
fn from_env_file(path: &Path) -> Result<Profile> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::local(&format!("cannot read {}", path.display()), error))?;
    let assignment = |line: &str| {
        let (name, value) = line.trim().trim_start_matches("export ").split_once('=')?;
        let value = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value);
        Some((name.to_owned(), value.replace(r"'\''", "'")))
    };
    let mut values: std::collections::BTreeMap<String, String> = text.lines().filter_map(assignment).collect();
    if let Some(secure) = values.get("BATCHYARD_TLS_ENDPOINT").filter(|endpoint| !endpoint.is_empty()).cloned() {
        values.insert("BATCHYARD_ENDPOINT".into(), secure);
    }
    values.retain(|_, value| !value.is_empty());
    let mut profile = Profile::default();
    profile.overlay(&Environment::of(values))?;
    if profile.endpoint.is_empty() {
        return Err(Failure::usage(format!("{} names no server: is it what `batchyard up --env-file` wrote?", path.display())));
    }
    Ok(profile)
}

fn read_secret() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(64 * 1024)
        .read_to_string(&mut text)
        .map_err(|error| Failure::local("standard input cannot be read", error))?;
    let secret = text.trim_end_matches(['\r', '\n']).to_owned();
    if secret.is_empty() { Err(Failure::usage("standard input holds no secret")) } else { Ok(secret) }
}

/// Whether the server answers, and who asks.
///
/// # Errors
/// As of [`Session::open`].
pub(super) async fn status(global: &Global) -> Result<Answer> {
    let session = Session::open(global).await?;
    let profile = session.client.profile();
    let path = format!("/subscriptions/{}/providers/Microsoft.BatchAI", session.subscription);
    let provider = session.client.get(&path, crate::client::RESOURCES).await?;
    let registered = views::at(&provider.body, "/registrationState");
    let line = |key: &str, value: &str, from: &str| json!({ "key": key, "value": value, "from": from });
    let mut lines = vec![
        line("server", &profile.endpoint, &session.profile),
        line("client", env!("CARGO_PKG_VERSION"), "this program"),
        line("user", &user(profile), &session.profile),
        line("subscription", &session.subscription, &session.profile),
        line("provider", &registered, "server"),
    ];
    for (key, value) in [
        ("group", &session.defaults.group),
        ("workspace", &session.defaults.workspace),
        ("experiment", &session.defaults.experiment),
        ("cluster", &session.defaults.cluster),
    ] {
        if let Some(value) = value {
            lines.push(line(&format!("defaults.{key}"), value, &session.profile));
        }
    }
    if registered != "Registered" {
        session.terminal().say("the subscription has not registered the provider: batchyard provider register");
    }
    Ok(Answer::Many(lines, &views::SETTING))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_up_is_a_profile() {
        let folder = tempfile::tempdir().expect("a folder");
        let (ca, file) = (folder.path().join("it's ca.pem"), folder.path().join("env"));
        std::fs::write(&ca, "PEM").expect("writes");
        let quoted = ca.display().to_string().replace('\'', r"'\''");
        let text = format!(
            "BATCHYARD_ENDPOINT=http://127.0.0.1:1\nBATCHYARD_TLS_ENDPOINT=https://localhost:2\nBATCHYARD_CA='{quoted}'\nBATCHYARD_SUBSCRIPTION=s\n\
             BATCHYARD_TENANT=t\nBATCHYARD_CLIENT_ID=c\nBATCHYARD_CLIENT_SECRET=x\nBATCHYARD_TOKEN=y\n"
        );
        std::fs::write(&file, text).expect("writes");
        let profile = from_env_file(&file).expect("reads");
        assert_eq!((profile.endpoint.as_str(), profile.ca.as_deref()), ("https://localhost:2", Some("PEM")));
        assert_eq!((profile.client_secret, profile.token), (Some(Secret("x".into())), None));
    }
}
