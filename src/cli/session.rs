//! What a command works with: who asks whom, which names are taken where none are given, and how the answer is written.

use serde_json::Value;

use super::global::Global;
use super::output::Output;
use super::query::Query;
use super::scope::Scoped;
use super::terminal::Terminal;
use crate::client::{Client, Defaults, Environment, Exit, Failure, Patience, Profile, Profiles, Reply, Result, Trace};

/// The version that subscriptions are asked for with.
const SUBSCRIPTIONS: &str = "2022-12-01";

/// A command's surroundings.
pub(super) struct Session {
    /// The environment.
    pub environment: Environment,
    /// How answers are written.
    pub output: Output,
    /// The client.
    pub client: Client,
    /// The subscription.
    pub subscription: String,
    /// Names that are taken where a command gives none.
    pub defaults: Defaults,
    /// The profile in use, or `environment`.
    pub profile: String,
}

/// How answers are written, for commands that ask no server.
///
/// # Errors
/// `Usage` where the query is none.
pub(super) fn output(global: &Global, environment: &Environment) -> Result<Output> {
    let query = global.query.as_deref().map(Query::parse).transpose()?;
    Ok(Output { format: global.output, query, terminal: Terminal::of(global, environment) })
}

/// Who is told of requests.
pub(super) fn trace(global: &Global) -> Trace {
    let level = match (global.debug, global.verbose) {
        (true, _) => 2,
        (false, verbose) => u8::from(verbose),
    };
    Trace { level, write: |line| eprintln!("{line}") }
}

impl Session {
    /// Signs in by profile or environment.
    ///
    /// # Errors
    /// No server is known, it is not reached, or it does not let the caller in.
    pub(super) async fn open(global: &Global) -> Result<Session> {
        let environment = Environment::read();
        let output = output(global, &environment)?;
        let profiles = Profiles::read(&environment)?;
        let (name, mut profile) = Profile::resolve(&environment, &profiles, global.profile.as_deref(), global.server.as_deref())?;
        if let Some(subscription) = &global.subscription {
            profile.subscription = Some(subscription.clone());
        }
        let (subscription, defaults) = (profile.subscription.clone(), profile.defaults.clone());
        let tokens = environment.folder().filter(|_| name != "environment").map(|folder| folder.join("tokens.json"));
        let client = Client::new(profile, tokens, trace(global))?;
        let subscription = match subscription {
            Some(subscription) => subscription,
            None => first_subscription(&client).await?,
        };
        Ok(Session { environment, output, client, subscription, defaults, profile: name })
    }

    /// Makes places of flags.
    pub(super) fn scoped(&self) -> Scoped<'_> {
        Scoped { subscription: &self.subscription, defaults: &self.defaults }
    }

    /// The terminal.
    pub(super) fn terminal(&self) -> &Terminal {
        &self.output.terminal
    }

    /// Waits for what a request began, unless it is not wanted: then says what to ask for.
    ///
    /// # Errors
    /// As of [`Client::finish`].
    pub(super) async fn finish(&self, reply: &Reply, no_wait: bool) -> Result<()> {
        match (no_wait, reply.header("azure-asyncoperation").or(reply.header("location"))) {
            (false, _) => self.client.finish(reply, Patience::of(None)).await,
            (true, Some(url)) => {
                let id = url.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
                self.terminal().say(&format!("accepted, operation {id}"));
                Ok(())
            }
            (true, None) => Ok(()),
        }
    }

    /// The only region, or the first.
    ///
    /// # Errors
    /// As of [`Client::get`].
    pub(super) async fn location(&self) -> Result<String> {
        let path = format!("/subscriptions/{}/locations", self.subscription);
        let locations = self.client.list(&path, SUBSCRIPTIONS).await?;
        let first = locations.first().and_then(|location| location.get("name")).and_then(Value::as_str);
        first.map(str::to_owned).ok_or_else(|| Failure::new(Exit::Refused, "NoLocation", "the server offers no region"))
    }

    /// Registers the provider, which every subscription needs once.
    ///
    /// # Errors
    /// As of [`Client::post`].
    pub(super) async fn register(&self) -> Result<Value> {
        let path = format!("/subscriptions/{}/providers/Microsoft.BatchAI/register", self.subscription);
        Ok(self.client.post(&path, SUBSCRIPTIONS, None).await?.body)
    }
}

/// All subscriptions that the caller sees.
///
/// # Errors
/// As of [`Client::get`].
pub(super) async fn subscriptions(client: &Client) -> Result<Vec<Value>> {
    client.list("/subscriptions", SUBSCRIPTIONS).await
}

async fn first_subscription(client: &Client) -> Result<String> {
    let all = subscriptions(client).await?;
    let first = all.first().and_then(|subscription| subscription.get("subscriptionId")).and_then(Value::as_str);
    first.map(str::to_owned).ok_or_else(|| {
        Failure::new(Exit::Forbidden, "NoSubscription", "the caller sees no subscription: it has no role in any")
            .or_try("ask an owner for a role: az role assignment create --assignee-object-id ID --role Contributor --scope SCOPE")
    })
}
