//! Processes of a job on one node: what is started, and what an end of one means for the others.

use serde::{Deserialize, Serialize};

use crate::domain::resource::NameValue;

/// One process of a part.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Tells it from the part's others: its output is in `stdout-{name}.txt`, or in `stdout.txt` where it is empty.
    pub name: String,
    /// Run by a shell.
    pub command_line: String,
    /// Variables of this process beside those of the job; values unexpanded. They stand above the job's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<NameValue>,
    /// What its end means.
    pub role: Role,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

/// What the end of a process means for its part. One that ends badly ends the part whatever its role is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The part ends well once all of its leaders did.
    Leader,
    /// Nobody waits for it: it ends with the part.
    Follower,
}

impl Process {
    /// The names of the files that its output and its errors go to.
    pub fn files(&self) -> (String, String) {
        match self.name.as_str() {
            "" => ("stdout.txt".to_owned(), "stderr.txt".to_owned()),
            name => (format!("stdout-{name}.txt"), format!("stderr-{name}.txt")),
        }
    }
}

/// Deals `count` processes out to `nodes` nodes as evenly as it goes, the first ones getting more. A node may get none.
pub fn deal(count: u32, nodes: u32) -> impl Iterator<Item = u32> {
    let nodes = nodes.max(1);
    (0..nodes).map(move |node| count / nodes + u32::from(node < count % nodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_nodes_get_more() {
        assert_eq!(deal(8, 2).collect::<Vec<_>>(), [4, 4]);
        assert_eq!(deal(5, 3).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(deal(1, 3).collect::<Vec<_>>(), [1, 0, 0]);
    }
}
