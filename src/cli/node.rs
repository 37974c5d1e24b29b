//! Nodes: which there are, and a shell or a command on one, by the machine's own ssh.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::cluster::admin;
use super::output::Answer;
use super::session::Session;
use super::verbs;
use super::views::{self, at};
use crate::client::{BATCH_AI, Exit, Failure, Kind, OWN, Place, Result};

/// What is done with nodes.
#[derive(Subcommand, Clone, Debug)]
pub enum NodeVerb<T: Args> {
    /// Lists the nodes and how one logs in to them.
    List {
        #[command(flatten)]
        this: T,
    },
    /// Tells why a node takes no job.
    Why {
        #[command(flatten)]
        this: T,
        /// The node's id, or n1, n2, … by its place in the list; the only one where it is left out.
        #[arg(short, long, value_name = "ID")]
        node_id: Option<String>,
    },
    /// Runs a command on a node; its exit code is the command's.
    Exec {
        #[command(flatten)]
        this: T,
        #[command(flatten)]
        at: At,
        /// The command; a shell where it is left out.
        #[arg(long, value_name = "COMMAND")]
        exec: Option<String>,
    },
    /// Logs in to a node.
    Ssh {
        #[command(flatten)]
        this: T,
        #[command(flatten)]
        at: At,
    },
}

/// Which node, and how one logs in.
#[derive(Args, Clone, Debug, Default)]
pub struct At {
    /// The node's id, or n1, n2, … by its place in the list; the only one where it is left out.
    #[arg(short, long, value_name = "ID")]
    node_id: Option<String>,
    /// Forwards a port: [bind:]port:host:port, as of ssh.
    #[arg(short = 'L', long, value_name = "ADDRESS")]
    address: Option<String>,
    /// The private key, where ssh's own choice is not right.
    #[arg(short = 'k', long, value_name = "FILE")]
    ssh_private_key: Option<PathBuf>,
}

impl<T: Args> NodeVerb<T> {
    /// Whose nodes.
    pub fn this(&self) -> &T {
        match self {
            NodeVerb::List { this } | NodeVerb::Why { this, .. } | NodeVerb::Exec { this, .. } | NodeVerb::Ssh { this, .. } => {
                this
            }
        }
    }
}

/// Nodes of `owner`, a job or a cluster. `cluster` is where they are.
///
/// # Errors
/// There is no such node, or none; ssh cannot be run; as of the client.
pub(super) async fn run<T: Args>(session: &Session, verb: &NodeVerb<T>, owner: &Place, cluster: &Place) -> Result<Answer> {
    if let NodeVerb::Why { node_id, .. } = verb {
        let nodes = match owner.kind {
            // Nodes that nobody can log in to yet are told of too, those that are gone are not.
            Kind::Cluster => {
                let mut known = session.client.list(&format!("{}/nodes", owner.path()), OWN).await?;
                known.retain(|node| at(node, "/state") != "Gone");
                known
            }
            _ => logins(session, owner).await?,
        };
        let node = at(choose(&nodes, node_id.as_deref(), owner)?, "/nodeId");
        return verbs::why(session, &format!("{}/nodes/{node}", cluster.path())).await;
    }
    let nodes = logins(session, owner).await?;
    let (at_node, command) = match verb {
        NodeVerb::List { .. } if owner.kind == Kind::Cluster => {
            let known = session.client.list(&format!("{}/nodes", owner.path()), OWN).await?;
            return Ok(Answer::Many(nodes.into_iter().map(|node| told(node, &known)).collect(), &views::NODE));
        }
        NodeVerb::List { .. } | NodeVerb::Why { .. } => return Ok(Answer::Many(nodes, &views::NODE)),
        NodeVerb::Exec { at, exec, .. } => (at, exec.as_deref()),
        NodeVerb::Ssh { at, .. } => (at, None),
    };
    let node = choose(&nodes, at_node.node_id.as_deref(), owner)?;
    let user = admin(&session.client.get(&cluster.path(), BATCH_AI).await?.body);
    let (address, port) = (at(node, "/ipAddress"), at(node, "/port"));
    // What is handed to ssh is never one of its options.
    if !address.chars().all(|c| c.is_ascii_alphanumeric() || ".:-".contains(c))
        || address.starts_with('-')
        || user.starts_with('-')
    {
        return Err(Failure::new(Exit::Refused, "BadAddress", "the server gave no address that ssh can be given"));
    }
    let mut ssh = Command::new("ssh");
    ssh.args(["-p", port.split('.').next().unwrap_or("22"), "-o", "StrictHostKeyChecking=accept-new"]);
    if let Some(folder) = session.environment.folder() {
        // Nodes come and go under the same addresses: their keys are kept apart from those of machines that stay.
        let _ = std::fs::create_dir_all(&folder);
        ssh.arg("-o")
            .arg(format!("UserKnownHostsFile={}", folder.join(format!("known_hosts-{}", known(&at(node, "/nodeId")))).display()));
    }
    if let Some(key) = &at_node.ssh_private_key {
        ssh.arg("-i").arg(key);
    }
    if let Some(forward) = &at_node.address {
        ssh.arg("-L").arg(forward);
    }
    ssh.arg(format!("{user}@{address}"));
    if let Some(command) = command {
        ssh.arg("--").arg(command);
    }
    // Becomes ssh: its terminal, its signals, its exit code.
    Err(Failure::local("ssh cannot be run", ssh.exec()).or_try("apt-get install openssh-client"))
}

/// How one logs in to the nodes of a job or a cluster.
///
/// # Errors
/// As of the client.
pub(super) async fn logins(session: &Session, owner: &Place) -> Result<Vec<Value>> {
    let mut nodes = Vec::new();
    let path = format!("{}/listRemoteLoginInformation", owner.path());
    session
        .client
        .pages(reqwest::Method::POST, &path, BATCH_AI, |items| {
            nodes.extend(items);
            true
        })
        .await?;
    Ok(nodes)
}

/// A way in, with what else is known of its node.
fn told(mut node: Value, known: &[Value]) -> Value {
    let id = at(&node, "/nodeId");
    let known = known.iter().find(|known| at(known, "/nodeId") == id).and_then(Value::as_object);
    if let (Some(members), Some(known)) = (node.as_object_mut(), known) {
        for (name, value) in known {
            members.entry(name).or_insert_with(|| value.clone());
        }
    }
    node
}

fn choose<'n>(nodes: &'n [Value], wanted: Option<&str>, owner: &Place) -> Result<&'n Value> {
    let noun = owner.kind.noun();
    let listed = || format!("batchyard {noun} node list -{} {}", if noun == "job" { 'j' } else { 'c' }, owner.name());
    let absent = |message: String| Failure::new(Exit::Absent, "NodeNotFound", message).or_try(listed());
    match (wanted, nodes) {
        (_, []) => Err(absent(format!("the {noun} {} has no nodes now", owner.name()))),
        (None, [only]) => Ok(only),
        (None, many) => {
            Err(Failure::usage(format!("the {noun} {} has {} nodes: which? Give -n ID", owner.name(), many.len()))
                .or_try(listed()))
        }
        (Some(wanted), nodes) => {
            let by_place = wanted
                .strip_prefix('n')
                .and_then(|place| place.parse::<usize>().ok())
                .and_then(|place| nodes.get(place.checked_sub(1)?));
            let found = nodes.iter().find(|node| at(node, "/nodeId").eq_ignore_ascii_case(wanted)).or(by_place);
            found.ok_or_else(|| absent(format!("the {noun} {} has no node {wanted}", owner.name())))
        }
    }
}

/// A node's id as part of a file's name.
fn known(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_are_chosen_by_id_or_place() {
        let owner = Place::new("s", Kind::Cluster, ["g", "w", "c"].map(str::to_owned).to_vec()).expect("a place");
        let nodes = [json!({"nodeId": "tvm-a"}), json!({"nodeId": "tvm-b"})];
        assert_eq!(choose(&nodes, Some("TVM-B"), &owner).expect("by id"), &nodes[1]);
        assert_eq!(choose(&nodes, Some("n1"), &owner).expect("by place"), &nodes[0]);
        assert_eq!(choose(&nodes[..1], None, &owner).expect("the only one"), &nodes[0]);
        assert_eq!(choose(&nodes, None, &owner).expect_err("which").exit.code(), 2);
        for (nodes, wanted) in [(&nodes[..], Some("n3")), (&nodes[..], Some("n0")), (&[][..], None)] {
            assert_eq!(choose(nodes, wanted, &owner).expect_err("none").exit.code(), 3);
        }
    }
}
