//! What a supervisor is handed: everything that it needs to know, so that it asks nobody.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::agent::container::Container;
use crate::agent::gang::Gang;
use crate::agent::isolate::Rights;
use crate::agent::layout::{FileNames, Place, Variables};
use crate::domain::bootstrap::{Isolation, JobUser};
use crate::domain::process::Role;

/// One thing to run, from folders to end. Holds secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Work {
    /// What it is called in the log.
    pub(super) title: String,
    /// The node's id.
    pub(super) node_id: String,
    /// What separates this node from others: whether the supervisor is the first process of a namespace.
    pub(super) isolation: Isolation,
    /// What it runs with.
    pub(super) rights: Rights,
    /// Whom it runs as; `None` for whoever the supervisor is.
    pub(super) user: Option<JobUser>,
    /// Folders and files that are not there for what is run.
    pub(super) hidden: Vec<PathBuf>,
    /// Control groups to be in.
    pub(super) groups: Vec<PathBuf>,
    /// Where it runs.
    pub(super) directory: PathBuf,
    /// Its environment, whole.
    pub(super) environment: Variables,
    /// Where its output goes.
    pub(super) standard: Place,
    /// Files there.
    pub(super) files: FileNames,
    /// Folders of a job; `None` for a setup task.
    pub(super) job: Option<JobFolders>,
    /// Run first, on every node.
    pub(super) preparation: Option<String>,
    /// Run then, side by side.
    pub(super) processes: Vec<Process>,
    /// The container that all of it runs in; `None` for the node itself.
    pub(super) container: Option<Container>,
    /// The nodes that it runs on together; `None` where it is one.
    pub(super) gang: Option<Gang>,
    /// Whether they may start without being told.
    pub(super) released: bool,
}

/// One process.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Process {
    /// What it is called in the log; empty where there is one.
    pub(super) name: String,
    /// Run by a shell.
    pub(super) line: String,
    /// What it sees beside or above the environment of all.
    pub(super) environment: Variables,
    /// The files of its output and its errors.
    pub(super) files: (String, String),
    /// What its end means.
    pub(super) role: Role,
}

/// Folders that are made for a job.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct JobFolders {
    /// Counts the attempts of the job, from 1.
    pub(super) number: i32,
    /// The job's temporary folder. All else below its root goes.
    pub(super) temp: Place,
    /// Output directories.
    pub(super) outputs: Vec<Place>,
    /// The job's own folders, which hold them: what an earlier attempt left in them is put aside.
    pub(super) own: Vec<Place>,
    /// What is mounted for it: where each is in the node's view, and its place below the job's own mount root.
    pub(super) mounts: Vec<(PathBuf, PathBuf)>,
    /// The content of the host file.
    pub(super) host_file: String,
}
