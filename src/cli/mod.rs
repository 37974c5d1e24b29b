//! The command line: `az`-style commands for people and pipelines, over the public API alone.
//!
//! In: arguments, the environment and profiles. Out: an answer on standard output and nothing else there, all the rest on standard
//! error, and an exit code that says what happened. Refuses to know the server's insides: it is one client among others.

mod account;
mod cluster;
mod document;
mod file_server;
mod global;
mod holders;
mod job;
mod node;
mod output;
mod progress;
mod query;
mod scope;
mod session;
mod sign_in;
mod storage;
mod terminal;
mod tools;
mod validate;
mod verbs;
mod views;
mod watch;

use clap::{Args, Subcommand};
use serde_json::Value;

use cluster::ClusterVerb;
use file_server::FileServerVerb;
use global::{Format, Global, Noun, With};
use holders::{ExperimentVerb, GroupVerb, WorkspaceVerb};
use job::JobVerb;
use output::Answer;
use session::Session;
use terminal::visible;

use crate::client::{Environment, Exit, Failure, Result};

/// What the client does.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Signs in to a server, and keeps it as a profile.
    Login(With<sign_in::Login>),
    /// Forgets the profile in use.
    Logout(With<Logout>),
    /// Profiles: the servers that this account signs in to.
    Profile(Noun<sign_in::ProfileVerb>),
    /// Subscriptions and tokens.
    Account(Noun<sign_in::AccountVerb>),
    /// Names that are taken where a command gives none.
    Config(Noun<sign_in::ConfigVerb>),
    /// Whether the server answers, who asks, and what is taken by default.
    Status(With<Nothing>),
    /// The provider's registration, which a subscription needs once.
    Provider(Noun<sign_in::ProviderVerb>),
    /// Resource groups.
    Group(Noun<GroupVerb>),
    /// What Batch AI has.
    #[command(flatten)]
    BatchAi(BatchAi),
    /// The same commands, for scripts that say `az batchai`.
    #[command(subcommand, hide = true)]
    Batchai(BatchAi),
    /// Changes of a subscription, group, workspace, experiment, cluster or job, as they happen.
    Events(With<EventScope>),
    /// Any request to the server, signed in.
    Rest(With<tools::Rest>),
    /// Prints a shell's completions.
    Completion(With<tools::Completion>),
    /// Prints or writes pages of the manual.
    Man(With<tools::Man>),
}

/// What Batch AI has.
#[derive(Subcommand, Clone, Debug)]
pub enum BatchAi {
    /// Workspaces.
    Workspace(Noun<WorkspaceVerb>),
    /// Clusters and their nodes.
    Cluster(Noun<ClusterVerb>),
    /// File servers.
    FileServer(Noun<FileServerVerb>),
    /// Experiments.
    Experiment(Noun<ExperimentVerb>),
    /// Jobs, their output and files.
    Job(Noun<JobVerb>),
    /// What is used of what may be used.
    ListUsages(With<tools::Region>),
}

/// Nothing of its own.
#[derive(Args, Clone, Debug, Default)]
pub struct Nothing {}

/// Which profiles are forgotten.
#[derive(Args, Clone, Debug, Default)]
pub struct Logout {
    /// All of them.
    #[arg(long)]
    all: bool,
}

/// Of what changes are shown.
#[derive(Args, Clone, Debug, Default)]
pub struct EventScope {
    #[command(flatten)]
    within: scope::InExperiment,
    /// A cluster.
    #[arg(short, long, value_name = "NAME", conflicts_with_all = ["job", "experiment"])]
    cluster: Option<String>,
    /// A job.
    #[arg(short, long, value_name = "NAME")]
    job: Option<String>,
}

impl EventScope {
    /// The narrowest scope that flags name; defaults fill only what lies above it.
    fn path(&self, session: &Session) -> Result<String> {
        use crate::client::Kind;
        let scoped = session.scoped();
        if let Some(job) = &self.job {
            let this = scope::ThisJob { within: self.within.clone(), name: Some(job.clone()) };
            return Ok(scoped.job(&this)?.path());
        }
        if self.cluster.is_some() {
            return Ok(scoped.this(Kind::Cluster, &self.within.within, &self.cluster)?.path());
        }
        if self.within.experiment.is_some() {
            return Ok(scoped.experiment(&self.within)?.path());
        }
        if self.within.within.workspace.is_some() {
            return Ok(scoped.workspace(&self.within.within)?.path());
        }
        if self.within.within.within.group.is_some() {
            return Ok(scoped.group(&self.within.within.within)?.path());
        }
        Ok(format!("/subscriptions/{}/providers/Microsoft.BatchAI", session.subscription))
    }
}

impl BatchAi {
    fn global(&self) -> &Global {
        match self {
            BatchAi::Workspace(noun) => &noun.global,
            BatchAi::Cluster(noun) => &noun.global,
            BatchAi::FileServer(noun) => &noun.global,
            BatchAi::Experiment(noun) => &noun.global,
            BatchAi::Job(noun) => &noun.global,
            BatchAi::ListUsages(with) => &with.global,
        }
    }

    async fn run(&self, session: &Session) -> Result<Answer> {
        match self {
            BatchAi::Workspace(noun) => holders::workspace(session, &noun.verb).await,
            BatchAi::Cluster(noun) => cluster::run(session, &noun.verb).await,
            BatchAi::FileServer(noun) => file_server::run(session, &noun.verb).await,
            BatchAi::Experiment(noun) => holders::experiment(session, &noun.verb).await,
            BatchAi::Job(noun) => job::run(session, &noun.verb).await,
            BatchAi::ListUsages(with) => tools::usages(session, &with.args).await,
        }
    }
}

impl Command {
    fn global(&self) -> &Global {
        match self {
            Command::Login(with) => &with.global,
            Command::Logout(with) => &with.global,
            Command::Profile(noun) => &noun.global,
            Command::Account(noun) => &noun.global,
            Command::Config(noun) => &noun.global,
            Command::Status(with) => &with.global,
            Command::Provider(noun) => &noun.global,
            Command::Group(noun) => &noun.global,
            Command::BatchAi(noun) | Command::Batchai(noun) => noun.global(),
            Command::Events(with) => &with.global,
            Command::Rest(with) => &with.global,
            Command::Completion(with) => &with.global,
            Command::Man(with) => &with.global,
        }
    }

    async fn run(&self, program: impl FnOnce() -> clap::Command) -> Result<Answer> {
        let global = self.global();
        match self {
            Command::Login(with) => sign_in::login(&with.args, global).await,
            Command::Logout(with) => sign_in::logout(with.args.all, global),
            Command::Profile(noun) => sign_in::profile(&noun.verb, global),
            Command::Account(noun) => sign_in::account(&noun.verb, global).await,
            Command::Config(noun) => sign_in::config(&noun.verb, global),
            Command::Status(_) => sign_in::status(global).await,
            Command::Completion(with) => tools::completion(&with.args, program()),
            Command::Man(with) => tools::man(&with.args, program()),
            Command::Provider(Noun { verb: sign_in::ProviderVerb::Register, .. }) => {
                tools::register(&Session::open(global).await?).await
            }
            Command::Group(noun) => holders::group(&Session::open(global).await?, &noun.verb).await,
            Command::BatchAi(noun) | Command::Batchai(noun) => noun.run(&Session::open(global).await?).await,
            Command::Events(with) => {
                let session = Session::open(global).await?;
                tools::events(&session, &with.args.path(&session)?).await
            }
            Command::Rest(with) => tools::rest(&Session::open(global).await?, &with.args).await,
        }
    }
}

/// Carries a command out, and answers with which code the process ends. `program` describes all commands, for completions.
pub fn run(command: &Command, program: impl FnOnce() -> clap::Command) -> u8 {
    let global = command.global();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return told(&Failure::local("threads cannot be started", error), global),
    };
    let ended = runtime.block_on(async {
        let answer = Box::pin(command.run(program)).await?;
        session::output(global, &Environment::read())?.end(answer)
    });
    // What resolves names may still be at it.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(failure) => told(&failure, global),
    }
}

/// Says a failure on standard error: for people, or as one line of JSON where answers are JSON by wish.
fn told(failure: &Failure, global: &Global) -> u8 {
    if failure.exit == Exit::Unread {
        return failure.exit.code();
    }
    if matches!(global.output, Some(Format::Json | Format::Jsonc)) {
        eprintln!("{}", Value::to_string(&failure.document()));
        return failure.exit.code();
    }
    let word = if failure.exit == Exit::Interrupted { "interrupted" } else { "error" };
    eprintln!("{word}: {} ({})", visible(&failure.message), visible(&failure.code));
    let width = failure.violations.iter().map(|violation| violation.target.len()).max().unwrap_or(0);
    for violation in &failure.violations {
        eprintln!("  {:<width$}  {}", visible(&violation.target), visible(&violation.message));
    }
    for remedy in &failure.remedies {
        eprintln!("  {}", visible(remedy));
    }
    if !failure.request_id.is_empty() {
        eprintln!("  request {}", visible(&failure.request_id));
    }
    failure.exit.code()
}
