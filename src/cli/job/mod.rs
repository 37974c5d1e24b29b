//! Jobs.

mod create;
mod files;
mod follow;
mod upload;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::node::{self, NodeVerb};
use super::output::Answer;
use super::scope::{InExperiment, ThisJob};
use super::session::Session;
use super::verbs::{self, Deletion, Paging};
use super::views::{self, at};
use crate::client::{BATCH_AI, Failure, Kind, OWN, Place, Result};
use create::Create;
use files::FileVerb;
use follow::{Follow, OnInterrupt};

pub(super) use follow::outcome;

/// What `job` does.
#[derive(Subcommand, Clone, Debug)]
pub enum JobVerb {
    /// Submits a job.
    Create(Box<Create>),
    /// Checks a job against the server, and submits nothing.
    Validate(Box<Create>),
    /// Shows a job.
    Show {
        #[command(flatten)]
        this: ThisJob,
    },
    /// Lists the jobs of an experiment.
    List {
        #[command(flatten)]
        within: InExperiment,
        /// Only those in this state: queued, running, terminating, succeeded or failed.
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Only those of this cluster.
        #[arg(short, long, value_name = "NAME")]
        cluster: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Deletes a job; one that runs is stopped.
    Delete {
        #[command(flatten)]
        this: ThisJob,
        #[command(flatten)]
        deletion: Deletion,
    },
    /// Stops a job.
    Terminate {
        #[command(flatten)]
        this: ThisJob,
        #[command(flatten)]
        deletion: Deletion,
    },
    /// Waits for a job's end; the exit code is the job's.
    Wait {
        #[command(flatten)]
        this: ThisJob,
        /// `done`, or a state that is enough: running, terminating …
        #[arg(long = "for", default_value = "done", value_name = "STATE")]
        until: String,
        /// Longest wait. Unit: seconds.
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
        /// What the exit code says: the job's own, or only whether it succeeded (0 or 9).
        #[arg(long, value_enum, default_value = "job")]
        exit_code: ExitCodeOf,
        /// Taken and not used: nothing is polled.
        #[arg(long, value_name = "SECONDS", hide = true)]
        interval: Option<u64>,
    },
    /// Tells what a job waits for.
    Why {
        #[command(flatten)]
        this: ThisJob,
    },
    /// Lists the attempts of a job, the latest first.
    Attempts {
        #[command(flatten)]
        this: ThisJob,
    },
    /// Prints what a job writes.
    Logs {
        #[command(flatten)]
        this: ThisJob,
        #[command(flatten)]
        logs: Reading,
    },
    /// Shows a job's nodes and output as they change.
    Top {
        #[command(flatten)]
        this: ThisJob,
        /// Shows it once.
        #[arg(long)]
        once: bool,
        /// Time between two looks. Unit: seconds.
        #[arg(long, default_value = "2", value_name = "SECONDS")]
        interval: u64,
    },
    /// Its files.
    #[command(subcommand)]
    File(FileVerb),
    /// Its nodes.
    #[command(subcommand)]
    Node(NodeVerb<ThisJobOfNodes>),
}

/// The job whose nodes are meant.
#[derive(Args, Clone, Debug, Default)]
pub struct ThisJobOfNodes {
    /// Where it is.
    #[command(flatten)]
    within: InExperiment,
    /// The job, or its id.
    #[arg(short = 'j', long = "job", value_name = "NAME")]
    name: Option<String>,
}

/// What of a job's output is printed.
#[derive(Args, Clone, Debug, Default)]
pub struct Reading {
    /// The file.
    #[arg(long, default_value = "stdout.txt", value_name = "NAME")]
    file: String,
    /// Goes on until the job ends.
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines from the end.
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
    /// Ends with the job's exit code.
    #[arg(long)]
    exit_status: bool,
    /// Writes bytes as they are, also those that drive a terminal.
    #[arg(long)]
    raw: bool,
    /// The output directory that the file is in.
    #[arg(short = 'd', long = "output-directory-id", default_value = "stdouterr", value_name = "ID", hide = true)]
    directory: String,
}

/// What an exit code says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ExitCodeOf {
    /// The job's own.
    #[default]
    Job,
    /// 0 where it succeeded, else 9.
    Class,
}

/// `job`.
///
/// # Errors
/// As of the verbs.
pub(super) async fn run(session: &Session, verb: &JobVerb) -> Result<Answer> {
    let place = |this: &ThisJob| session.scoped().job(this);
    match verb {
        JobVerb::Create(create) => create.make(session).await,
        JobVerb::Validate(create) => {
            let (place, document) = create.describe(session).await?;
            super::validate::check(session, &place, &document).await
        }
        JobVerb::Show { this } => verbs::show(session, &place(this)?).await,
        JobVerb::List { within, state, cluster, paging } => {
            let path = session.scoped().experiment(within)?.list(Kind::Job);
            let wanted = |job: &Value| {
                let in_state = state.as_ref().is_none_or(|state| views::state(job, "executionState").eq_ignore_ascii_case(state));
                let on = views::segment(&at(job, "/properties/cluster/id"), "clusters");
                in_state && cluster.as_ref().is_none_or(|cluster| on.eq_ignore_ascii_case(cluster))
            };
            verbs::list(session, &path, Kind::Job, paging, wanted).await
        }
        JobVerb::Delete { this, deletion } => verbs::delete(session, &place(this)?, deletion).await,
        JobVerb::Terminate { this, deletion } => terminate(session, &place(this)?, deletion).await,
        JobVerb::Wait { this, until, timeout, exit_code, .. } => wait(session, &place(this)?, until, *timeout, *exit_code).await,
        JobVerb::Why { this } => verbs::why(session, &place(this)?.path()).await,
        JobVerb::Attempts { this } => {
            let attempts = session.client.list(&format!("{}/attempts", place(this)?.path()), OWN).await?;
            Ok(Answer::Many(attempts, &views::ATTEMPT))
        }
        JobVerb::Logs { this, logs } => logs.print(session, &place(this)?).await,
        JobVerb::Top { this, once, interval } => super::watch::job(session, &place(this)?, *once, *interval).await,
        JobVerb::File(verb) => files::run(session, verb).await,
        JobVerb::Node(verb) => {
            let this = verb.this();
            let place = place(&ThisJob { within: this.within.clone(), name: this.name.clone() })?;
            let job = session.client.get(&place.path(), BATCH_AI).await?.body;
            let cluster = Place::parse(&at(&job, "/properties/cluster/id"), Kind::Cluster);
            let cluster = cluster.ok_or_else(|| Failure::usage("the job names no cluster"))?;
            node::run(session, verb, &place, &cluster).await
        }
    }
}

async fn terminate(session: &Session, place: &Place, deletion: &Deletion) -> Result<Answer> {
    if !deletion.yes {
        session.terminal().confirm(&format!("Terminate the job {}; what it wrote stays", place.name()))?;
    }
    let reply = session.client.post(&format!("{}/terminate", place.path()), OWN, None).await?;
    session.finish(&reply, deletion.no_wait).await?;
    Ok(Answer::Nothing)
}

async fn wait(session: &Session, place: &Place, until: &str, timeout: Option<u64>, exit_code: ExitCodeOf) -> Result<Answer> {
    const STATES: [&str; 6] = ["done", "queued", "running", "terminating", "succeeded", "failed"];
    let until = until.to_ascii_lowercase();
    if !STATES.contains(&until.as_str()) {
        return Err(Failure::usage(format!("--for {until}: one of {}", STATES.join(", "))));
    }
    let follow = Follow { place, logs: false, raw: false, timeout, until: &until, on_interrupt: OnInterrupt::Detach };
    let job = follow.run(session).await?;
    if !matches!(views::state(&job, "executionState").as_str(), "succeeded" | "failed") {
        return Ok(Answer::Nothing);
    }
    let (line, code) = outcome(place.name(), &job);
    session.terminal().say(&line);
    Ok(Answer::Exit(match exit_code {
        ExitCodeOf::Class if code != 0 => crate::client::Exit::JobEnded.code(),
        _ => code,
    }))
}
