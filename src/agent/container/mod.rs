//! The container that a part of a job runs in: one for its preparation and all of its processes, made for the attempt and removed with it.
//!
//! The supervisor does not speak to the engine itself: for each thing that it wants it starts a process of its own ([`carry`]) with an
//! [`Order`], whose exit code is that of the command that ran in the container. So a process in a container is to a supervisor what any
//! other process is, and whatever becomes of the engine wedges a process that can be ended.
//!
//! What is secret is in no container's description, which engines keep on disk: variables are given to each command as it starts.

mod carry;
mod pull;
mod settings;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::agent::layout::Variables;
use crate::agent::protocol::RegistryLogin;
use crate::agent::record::{hand_over, read_handed_over};
use crate::domain::container::PullLimits;
use crate::domain::resource::EntityError;
use crate::id::AttemptUid;

pub use carry::carry;
pub(super) use carry::remove;

/// The hidden subcommand of this binary that carries out an order.
const SUBCOMMAND: &str = "contain";

/// The code of a job's error where its image cannot be had.
const NO_IMAGE: &str = "FailedPullingImage";

/// The code of a job's error where its container does not start, and how its message begins.
///
/// Source: an error that users of the original service reported.
const NOT_STARTED: (&str, &str) = ("FailedStartingContainer", "unable to start docker container");

/// Which container of which engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Name {
    /// The engine's socket.
    pub(super) socket: PathBuf,
    /// The container's name.
    pub(super) name: String,
}

impl Name {
    /// The container of an attempt: the node's only one of that name, and known by it after anything crashed.
    pub(super) fn of(socket: PathBuf, attempt: AttemptUid) -> Name {
        Name { socket, name: format!("batchyard-{attempt}") }
    }
}

/// A container as it is to be. Holds secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Container {
    /// Which one it is.
    pub(super) name: Name,
    /// Whether the engine is the node's own, whose containers are in the node's network by themselves.
    pub(super) own_engine: bool,
    /// The node's id.
    pub(super) node_id: String,
    /// The image's whole name.
    pub(super) image: String,
    /// Who may pull it.
    pub(super) login: Option<RegistryLogin>,
    /// What the pull may take.
    #[serde(default)]
    pub(super) limits: PullLimits,
    /// Size of `/dev/shm`. Unit: bytes.
    pub(super) shm_size: Option<u64>,
    /// Most memory; `None` for what the node has. Unit: bytes.
    pub(super) memory: Option<u64>,
    /// What of the node it sees.
    pub(super) binds: Vec<Bind>,
    /// Files that let it reach the job's other nodes, by name. They are in memory, and there before anything is run.
    pub(super) keys: Vec<(String, String)>,
    /// The GPUs that it is given: all of the node's.
    pub(super) gpus: Vec<String>,
}

/// A folder or file of the node that a container sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bind {
    /// On the node.
    pub(super) source: PathBuf,
    /// In the container.
    pub(super) target: PathBuf,
    /// What the container may do there.
    pub(super) access: Access,
}

/// What a container may do with something of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Access {
    /// Read it.
    Read,
    /// Read and write it.
    Write,
    /// The same, and see what is mounted below it meanwhile, where the engine is the node's own.
    Follow,
}

/// Something that is wanted of the engine. Holds secrets.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Pulls the image, makes the container and starts it. What is done is logged to standard error.
    Raise(Container),
    /// Runs a command line in the container, with this process's streams, and ends with its exit code.
    Run {
        /// Where.
        name: Name,
        /// Run by the container's shell.
        line: String,
        /// Beside the image's own.
        environment: Variables,
        /// Where it runs.
        directory: PathBuf,
        /// What it reads.
        input: Input,
    },
    /// Sends SIGTERM to all that runs in the container.
    Terminate(Name),
    /// Ends all that runs in the container and removes it.
    Remove(Name),
}

/// What a command reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Input {
    /// Nothing.
    Nothing,
    /// Standard input of the process that carries the order out.
    Own,
}

/// An order that is carried out.
pub(super) struct Carrier {
    /// The number of the process.
    pub(super) pid: i32,
    order: File,
}

impl Order {
    /// Starts the process that carries it out. Its process group is its own.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(&self, input: Stdio, output: (Stdio, Stdio)) -> io::Result<Carrier> {
        use std::os::unix::process::CommandExt;
        let order = hand_over(self)?;
        // It is found by its number, as the only one that is left open.
        let theirs = rustix::io::dup(&order)?;
        let child = Command::new("/proc/self/exe")
            .arg0("batchyard")
            .arg(SUBCOMMAND)
            .arg(theirs.as_raw_fd().to_string())
            .current_dir("/")
            .env_clear()
            .stdin(input)
            .stdout(output.0)
            .stderr(output.1)
            .process_group(0)
            .spawn()?;
        // Reaped by number, with all others: the handle is of no use.
        Ok(Carrier { pid: i32::try_from(child.id()).map_err(io::Error::other)?, order: order.into() })
    }
}

impl Carrier {
    /// What kept the order from being carried out, once its process has ended; `None` where it said nothing.
    pub(super) fn find_failure(&self) -> Option<Failed> {
        read_handed_over(&self.order).ok()
    }
}

/// What kept an order from being carried out: written over the order, in the memory that both sides hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failed {
    /// Something that the user, or whoever runs the node, can mend.
    Error(EntityError),
    /// The engine went away.
    Engine(String),
}
