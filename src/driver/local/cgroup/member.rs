//! A node's group in one hierarchy, as its first process sees it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::driver::local::cgroup::{enable, limits};
use crate::driver::local::layout::at;

/// A node's group in one hierarchy, with the groups `init` and `jobs` in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::driver::local) struct NodeGroup {
    /// The hierarchy, for people and for the node's own view.
    pub(in crate::driver::local) name: String,
    /// The node's group.
    pub(in crate::driver::local) node: PathBuf,
    /// Whether the hierarchy is of the second version.
    pub(in crate::driver::local) is_v2: bool,
    /// What is set on `jobs`: file and value.
    pub(in crate::driver::local) job_limits: Vec<(String, String)>,
}

impl NodeGroup {
    /// The group of the node's jobs.
    pub(in crate::driver::local) fn jobs(&self) -> PathBuf {
        self.node.join("jobs")
    }

    /// Puts this process into the node's group: to be done before a namespace makes that group the root of all it sees.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(in crate::driver::local) fn join(&self) -> io::Result<()> {
        join(&self.node)
    }

    /// Moves this process on into `init`, and sets the limits of `jobs`: in the second version controllers reach groups below
    /// one only when no process is in it itself. Answers what could not be set.
    ///
    /// # Errors
    /// The kernel refuses to move it.
    pub(in crate::driver::local) fn settle(&self) -> io::Result<Vec<(String, io::Error)>> {
        join(&self.node.join("init"))?;
        if self.is_v2 {
            enable(&self.node);
        }
        Ok(limits::set(&self.jobs(), &self.job_limits))
    }
}

fn join(group: &Path) -> io::Result<()> {
    let file = group.join("cgroup.procs");
    std::fs::write(&file, "0").map_err(at("join", &file))
}
