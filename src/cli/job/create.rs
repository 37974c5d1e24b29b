//! Submitting a job: from a file, from flags, or both.

use clap::Args;
use serde_json::{Value, json};

use std::path::PathBuf;

use super::follow::{Follow, OnInterrupt, outcome};
use super::upload;
use crate::cli::document::{Document, object};
use crate::cli::output::Answer;
use crate::cli::scope::ThisJob;
use crate::cli::session::Session;
use crate::cli::storage::Storage;
use crate::cli::validate;
use crate::cli::verbs::{self, IfExists};
use crate::client::{BATCH_AI, Environment, Failure, Kind, OWN, Place, Result};

/// Where standard output goes of a job that says nothing of it: the server keeps what is written there.
const KEPT_BY_THE_SERVER: &str = "$AZ_BATCHAI_JOB_TEMP";

/// How a job is submitted.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:\n  batchyard job create -e sweep -n one -c cpu2 --command 'echo hello' --follow\n  \
                        batchyard job create -e sweep -n two -c cpu2 -f job.yaml --set properties.nodeCount=2 --wait\n  \
                        batchyard job create -e sweep -n three -c cpu2 --upload train/ --command 'python3 $AZ_BATCHAI_INPUT_CODE/train.py' --follow\n\n\
                        PUT .../experiments/{e}/jobs/{n}")]
pub struct Create {
    #[command(flatten)]
    this: ThisJob,
    /// Begins a name that is made up, where none is given.
    #[arg(long, value_name = "TEXT", conflicts_with = "name")]
    name_prefix: Option<String>,
    /// The cluster to run on, or its id.
    #[arg(short, long, value_name = "NAME")]
    cluster: Option<String>,
    /// A file with the job, as JSON or YAML of JobCreateParameters; flags go before it. `-` is standard input.
    #[arg(short = 'f', long, alias = "file", value_name = "FILE")]
    config_file: Option<String>,
    /// A command line to run, for a job without a file.
    #[arg(long, value_name = "LINE")]
    command: Option<String>,
    /// How many nodes it runs on; the file's number, or 1.
    #[arg(long, value_name = "COUNT")]
    nodes: Option<u32>,
    /// Sets an environment variable.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Sets a secret environment variable to the value that it has here.
    #[arg(long, value_name = "NAME")]
    secret_env: Vec<String>,
    /// Sets a member of the file: properties.nodeCount=2.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// A script or folder for the job, sent to the share that nodes mount: the job finds it at $AZ_BATCHAI_INPUT_CODE.
    #[arg(long, value_name = "PATH")]
    upload: Option<PathBuf>,
    #[command(flatten)]
    storage: Storage,
    /// What to do where a job of this name exists.
    #[arg(long, value_enum, default_value = "keep")]
    if_exists: IfExists,
    /// Prints its output until it ends; the exit code is the job's.
    #[arg(long)]
    follow: bool,
    /// Waits for its end; the exit code is the job's.
    #[arg(long)]
    wait: bool,
    /// Longest wait. Unit: seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// What Ctrl-C does while one waits.
    #[arg(long, value_enum, default_value = "detach")]
    on_interrupt: OnInterrupt,
    /// Writes output as it is, also what drives a terminal.
    #[arg(long)]
    raw: bool,
    /// Taken and not used: the server answers at once.
    #[arg(long, hide = true)]
    no_wait: bool,
}

impl Create {
    /// Where it goes, and what it is.
    ///
    /// # Errors
    /// A file, a flag or a variable is not as it must be.
    pub(super) async fn describe(&self, session: &Session) -> Result<(Place, Document)> {
        let mut this = self.this.clone();
        if let (None, Some(prefix)) = (&this.name, &self.name_prefix) {
            // Fixed before the first byte is sent: a request that is sent again makes no second job.
            let random = uuid::Uuid::new_v4().simple().to_string();
            this.name = Some(format!("{prefix}{}", random.get(..8).unwrap_or_default()));
        }
        let place = session.scoped().job(&this)?;
        let mut document = match &self.config_file {
            Some(file) => Document::read(file)?,
            None => Document::new("the job"),
        };
        let workspace = place.above(Kind::Workspace);
        let cluster = self.cluster.as_ref().or(session
            .defaults
            .cluster
            .as_ref()
            .filter(|_| document.properties().get("cluster").is_none()));
        if let Some(cluster) = cluster {
            let cluster = Place::parse(cluster, Kind::Cluster).unwrap_or_else(|| workspace.below(Kind::Cluster, cluster));
            document.properties().insert("cluster".into(), json!({ "id": cluster.path() }));
        }
        self.lay_over(document.properties())?;
        self.storage.lay_over(session, &mut document, &workspace, None).await?;
        for assignment in &self.set {
            document.set(assignment)?;
        }
        Ok((place, document))
    }

    fn lay_over(&self, properties: &mut serde_json::Map<String, Value>) -> Result<()> {
        if let Some(command) = &self.command {
            object(properties.entry("customToolkitSettings").or_insert(Value::Null)).insert("commandLine".into(), json!(command));
        }
        if let Some(nodes) = self.nodes {
            properties.insert("nodeCount".into(), json!(nodes));
        }
        if self.config_file.is_none() {
            properties.entry("nodeCount").or_insert(json!(1));
            properties.entry("stdOutErrPathPrefix").or_insert(json!(KEPT_BY_THE_SERVER));
        }
        for pair in &self.env {
            let (name, value) = pair.split_once('=').ok_or_else(|| Failure::usage(format!("--env {pair}: NAME=VALUE")))?;
            add(properties, "environmentVariables", name, value);
        }
        for name in &self.secret_env {
            let value =
                Environment::named(name).ok_or_else(|| Failure::usage(format!("--secret-env {name}: it is not set here")))?;
            add(properties, "secrets", name, &value);
        }
        Ok(())
    }

    /// Submits it, and goes along as far as is wanted.
    ///
    /// # Errors
    /// As of [`describe`](Create::describe) and the client.
    pub(super) async fn make(&self, session: &Session) -> Result<Answer> {
        let (place, mut document) = self.describe(session).await?;
        if let Some(path) = &self.upload {
            // The input of a job that exists is what it ran with.
            if session.client.find(&place.path(), BATCH_AI).await?.is_none() {
                // What the server would refuse is told before anything is sent.
                validate::ask(session, &place, &document).await?;
                upload::send(session, &place, path).await?;
            }
            upload::name(&place, document.properties());
        }
        if verbs::make(session, &place, &document, OWN, self.if_exists).await?.is_some() {
            session.terminal().say(&format!("accepted {}", place.name()));
        }
        if !self.follow && !self.wait {
            return verbs::show(session, &place).await;
        }
        let raw = self.raw || !session.terminal().out;
        let follow = Follow {
            place: &place,
            logs: self.follow,
            raw,
            timeout: self.timeout,
            until: "done",
            on_interrupt: self.on_interrupt,
        };
        let job = follow.run(session).await?;
        let (line, code) = outcome(place.name(), &job);
        session.terminal().say(&format!("{} {line}", session.terminal().sign(&crate::cli::views::state(&job, "executionState"))));
        if self.follow {
            // Standard output was the job's.
            return Ok(Answer::Exit(code));
        }
        let shown = session.client.get(&place.path(), BATCH_AI).await?.body;
        Ok(Answer::Ended(shown, verbs::view(Kind::Job), code))
    }
}

/// Adds a variable to a list of them, in place of one of the same name.
fn add(properties: &mut serde_json::Map<String, Value>, list: &str, name: &str, value: &str) {
    let entry = json!({ "name": name, "value": value });
    match properties.entry(list).or_insert_with(|| json!([])) {
        Value::Array(entries) => {
            entries.retain(|entry| entry.get("name").and_then(Value::as_str) != Some(name));
            entries.push(entry);
        }
        other => *other = json!([entry]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_make_a_whole_job() {
        let create = Create { command: Some("echo hi".into()), env: vec!["A=b=c".into(), "A=d".into()], ..Create::default() };
        let mut properties = serde_json::Map::new();
        create.lay_over(&mut properties).expect("lays over");
        assert_eq!(
            Value::Object(properties),
            json!({
                "customToolkitSettings": {"commandLine": "echo hi"}, "nodeCount": 1, "stdOutErrPathPrefix": "$AZ_BATCHAI_JOB_TEMP",
                "environmentVariables": [{"name": "A", "value": "d"}],
            })
        );
    }

    #[test]
    fn a_file_is_kept_but_for_what_flags_say() {
        let create = Create { config_file: Some("f".into()), nodes: Some(2), ..Create::default() };
        let mut properties = serde_json::Map::from_iter([("nodeCount".to_owned(), json!(1)), ("x".to_owned(), json!("y"))]);
        create.lay_over(&mut properties).expect("lays over");
        assert_eq!(Value::Object(properties), json!({"nodeCount": 2, "x": "y"}));
    }
}
