//! Clusters and their nodes.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::account::Account;
use super::document::{Document, object};
use super::node::{self, NodeVerb};
use super::output::Answer;
use super::progress::Progress;
use super::scope::{InWorkspace, ThisCluster};
use super::session::Session;
use super::storage::Storage;
use super::verbs::{self, Deleted, IfExists, Listed};
use super::views::{self, at};
use crate::client::{BATCH_AI, Environment, Failure, Kind, OWN, Place, Result};

/// What `cluster` does.
#[derive(Subcommand, Clone, Debug)]
pub enum ClusterVerb {
    /// Makes a cluster.
    Create(Box<Create>),
    /// Checks a cluster against the server, and makes nothing.
    Validate(Box<Create>),
    /// Shows a cluster.
    Show(ThisCluster),
    /// Lists the clusters of a workspace.
    List(Listed),
    /// Deletes a cluster and its nodes.
    Delete(Deleted<ThisCluster>),
    /// Gives a cluster another number of nodes.
    Resize {
        #[command(flatten)]
        this: ThisCluster,
        /// How many nodes.
        #[arg(short, long)]
        target: u32,
        /// What becomes of jobs on nodes that go.
        #[arg(long, value_enum, default_value = "requeue")]
        deallocation: Deallocation,
        /// Waits until the cluster is steady.
        #[arg(long)]
        wait: bool,
        /// Longest wait. Unit: seconds.
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// Lets a cluster grow and shrink with its jobs.
    AutoScale {
        #[command(flatten)]
        this: ThisCluster,
        /// Fewest nodes.
        #[arg(long)]
        min: u32,
        /// Most nodes.
        #[arg(long)]
        max: u32,
    },
    /// Waits until a cluster is steady, or deleted.
    Wait {
        #[command(flatten)]
        this: ThisCluster,
        /// Waits for its deletion.
        #[arg(long)]
        deleted: bool,
        /// Waits until no node is being prepared either, and so many are ready.
        #[arg(long, value_name = "COUNT")]
        nodes: Option<u64>,
        /// Longest wait. Unit: seconds.
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
        /// Taken and not used: nothing is polled.
        #[arg(long, value_name = "SECONDS", hide = true)]
        interval: Option<u64>,
    },
    /// Tells why a cluster does not have the nodes that it is to have.
    Why(ThisCluster),
    /// Shows a cluster as it changes.
    Watch {
        #[command(flatten)]
        this: ThisCluster,
        /// Shows it once.
        #[arg(long)]
        once: bool,
        /// Time between two looks at its jobs. Unit: seconds.
        #[arg(long, default_value = "2", value_name = "SECONDS")]
        interval: u64,
    },
    /// Its nodes.
    #[command(subcommand)]
    Node(NodeVerb<ThisClusterOfNodes>),
}

/// The cluster whose nodes are meant.
#[derive(Args, Clone, Debug, Default)]
pub struct ThisClusterOfNodes {
    /// Where it is.
    #[command(flatten)]
    pub within: InWorkspace,
    /// The cluster, or its id.
    #[arg(short = 'c', long = "cluster", alias = "cluster-name", value_name = "NAME")]
    pub name: Option<String>,
}

/// What becomes of jobs on nodes that go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Deallocation {
    /// They wait for nodes again.
    Requeue,
    /// They end.
    Terminate,
    /// The nodes go when they ended.
    Wait,
}

impl Deallocation {
    fn word(self) -> &'static str {
        match self {
            Deallocation::Requeue => "requeue",
            Deallocation::Terminate => "terminate",
            Deallocation::Wait => "waitforjobcompletion",
        }
    }
}

/// How a cluster is made.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:\n  batchyard cluster create -g lab -w vision -n cpu2 -s STANDARD_D1 -t 2\n  \
                        batchyard cluster create -n cpu2 -f cluster.json\n\nPUT .../workspaces/{w}/clusters/{n}")]
pub struct Create {
    #[command(flatten)]
    this: ThisCluster,
    /// A file with the cluster, as JSON or YAML of ClusterCreateParameters; flags go before it. `-` is standard input.
    #[arg(short = 'f', long, alias = "file", value_name = "FILE")]
    config_file: Option<String>,
    /// The size of each node.
    #[arg(short = 's', long, value_name = "SIZE")]
    vm_size: Option<String>,
    /// How many nodes; with --min and --max, how many at first.
    #[arg(short, long, value_name = "COUNT")]
    target: Option<u32>,
    /// Fewest nodes of a cluster that scales by itself.
    #[arg(long, value_name = "COUNT", requires = "max")]
    min: Option<u32>,
    /// Most nodes of a cluster that scales by itself.
    #[arg(long, value_name = "COUNT", requires = "min")]
    max: Option<u32>,
    /// dedicated or lowpriority.
    #[arg(long, value_name = "PRIORITY")]
    vm_priority: Option<String>,
    /// UbuntuLTS, UbuntuDSVM, or publisher:offer:sku:version.
    #[arg(short, long)]
    image: Option<String>,
    /// The id of an image of one's own; --image says what it is made of.
    #[arg(long, value_name = "ID", requires = "image")]
    custom_image: Option<String>,
    #[command(flatten)]
    account: Account,
    /// The id of a subnet.
    #[arg(long, value_name = "ID")]
    subnet: Option<String>,
    /// A command that prepares each node.
    #[arg(long, value_name = "COMMAND", requires = "setup_task_output")]
    setup_task: Option<String>,
    /// Where its output goes.
    #[arg(long, value_name = "PATH")]
    setup_task_output: Option<String>,
    #[command(flatten)]
    storage: Storage,
    /// Sets a member of the file: properties.vmSize=STANDARD_D1.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// What to do where a cluster of this name exists.
    #[arg(long, value_enum, default_value = "keep")]
    if_exists: IfExists,
    /// Waits until its nodes are there.
    #[arg(long)]
    wait: bool,
    /// Longest wait. Unit: seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Taken and not used: the server answers at once.
    #[arg(long, hide = true)]
    no_wait: bool,
}

/// `cluster`.
///
/// # Errors
/// As of the verbs.
pub(super) async fn run(session: &Session, verb: &ClusterVerb) -> Result<Answer> {
    let place = |this: &ThisCluster| session.scoped().this(Kind::Cluster, &this.within, &this.name);
    match verb {
        ClusterVerb::Create(create) => create.make(session).await,
        ClusterVerb::Validate(create) => {
            let (place, document) = create.describe(session).await?;
            super::validate::check(session, &place, &document).await
        }
        ClusterVerb::Show(this) => verbs::show(session, &place(this)?).await,
        ClusterVerb::List(listed) => verbs::list_in_workspace(session, Kind::Cluster, listed).await,
        ClusterVerb::Delete(gone) => verbs::delete(session, &place(&gone.this)?, &gone.deletion).await,
        ClusterVerb::Resize { this, target, deallocation, wait, timeout } => {
            let place = place(this)?;
            let scale = json!({ "manual": { "targetNodeCount": target, "nodeDeallocationOption": deallocation.word() } });
            rescale(session, &place, scale).await?;
            if *wait {
                wait_steady(session, &place, *timeout).await?;
            }
            verbs::show(session, &place).await
        }
        ClusterVerb::AutoScale { this, min, max } => {
            let place = place(this)?;
            if min > max {
                return Err(Failure::usage(format!("--min {min} is more than --max {max}")));
            }
            rescale(
                session,
                &place,
                json!({ "autoScale": { "minimumNodeCount": min, "maximumNodeCount": max, "initialNodeCount": min } }),
            )
            .await?;
            verbs::show(session, &place).await
        }
        ClusterVerb::Wait { this, deleted, nodes, timeout, .. } => {
            let place = place(this)?;
            if *deleted {
                return match verbs::wait(session, &place, *timeout, |_| {}, |_| false).await {
                    Err(failure) if failure.is_absence() => Ok(Answer::Nothing),
                    other => other.map(|_| Answer::Nothing),
                };
            }
            match nodes {
                None => wait_steady(session, &place, *timeout).await?,
                Some(count) => {
                    wait_nodes(session, &place, *timeout, |cluster| is_steady(cluster) && ready(cluster) >= *count).await?
                }
            }
            Ok(Answer::Nothing)
        }
        ClusterVerb::Why(this) => verbs::why(session, &place(this)?.path()).await,
        ClusterVerb::Watch { this, once, interval } => super::watch::cluster(session, &place(this)?, *once, *interval).await,
        ClusterVerb::Node(verb) => {
            let this = verb.this();
            let place = session.scoped().this(Kind::Cluster, &this.within, &this.name)?;
            node::run(session, verb, &place, &place).await
        }
    }
}

async fn rescale(session: &Session, place: &Place, scale: Value) -> Result<Value> {
    let body = json!({ "properties": { "scaleSettings": scale } });
    Ok(session.client.patch(&place.path(), BATCH_AI, &body).await?.body)
}

/// Nodes by state, as one line says it.
pub(super) fn counts(cluster: &Value) -> String {
    let count = |state: &str| {
        cluster.pointer(&format!("/properties/nodeStateCounts/{state}NodeCount")).and_then(Value::as_u64).unwrap_or(0)
    };
    let states = ["idle", "running", "preparing", "leaving", "unusable"];
    let parts: Vec<String> = states
        .iter()
        .map(|state| (state, count(state)))
        .filter(|(_, n)| *n > 0)
        .map(|(state, n)| format!("{n} {state}"))
        .collect();
    let all = cluster.pointer("/properties/currentNodeCount").and_then(Value::as_u64).unwrap_or(0);
    let of = format!("{all} of {} nodes", views::target(cluster));
    if parts.is_empty() { of } else { format!("{of}: {}", parts.join(", ")) }
}

fn ready(cluster: &Value) -> u64 {
    let count = |state: &str| {
        cluster.pointer(&format!("/properties/nodeStateCounts/{state}NodeCount")).and_then(Value::as_u64).unwrap_or(0)
    };
    count("idle") + count("running")
}

fn is_steady(cluster: &Value) -> bool {
    views::state(cluster, "allocationState") == "steady"
}

fn preparing(cluster: &Value) -> u64 {
    cluster.pointer("/properties/nodeStateCounts/preparingNodeCount").and_then(Value::as_u64).unwrap_or(0)
}

/// Waits until a cluster is steady and none of its nodes is being prepared any more, and says how it fills.
async fn wait_steady(session: &Session, place: &Place, timeout: Option<u64>) -> Result<()> {
    wait_nodes(session, place, timeout, |cluster| is_steady(cluster) && preparing(cluster) == 0).await
}

async fn wait_nodes(session: &Session, place: &Place, timeout: Option<u64>, is_reached: impl Fn(&Value) -> bool) -> Result<()> {
    let mut progress = Progress::new(session.terminal());
    let seen = |cluster: &Value| {
        progress.now(&format!("{} {}, {}", place.name(), views::state(cluster, "allocationState"), counts(cluster)))
    };
    let cluster = verbs::wait(session, place, timeout, seen, is_reached).await?;
    progress.done(&format!("{} {}, {}", place.name(), views::state(&cluster, "allocationState"), counts(&cluster)));
    Ok(())
}

impl Create {
    /// Where it goes, and what it is.
    async fn describe(&self, session: &Session) -> Result<(Place, Document)> {
        let place = session.scoped().this(Kind::Cluster, &self.this.within, &self.this.name)?;
        let mut document = match &self.config_file {
            Some(file) => Document::read(file)?,
            None => Document::new("the cluster"),
        };
        self.lay_over(&session.environment, document.properties())?;
        let workspace = place.above(Kind::Workspace);
        self.storage.lay_over(session, &mut document, &workspace, Some("nodeSetup")).await?;
        for assignment in &self.set {
            document.set(assignment)?;
        }
        Ok((place, document))
    }

    fn lay_over(&self, environment: &Environment, properties: &mut serde_json::Map<String, Value>) -> Result<()> {
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                properties.insert(name.to_owned(), value);
            }
        };
        put("vmSize", self.vm_size.as_ref().map(|size| json!(size)));
        put("vmPriority", self.vm_priority.as_ref().map(|priority| json!(priority)));
        put("scaleSettings", self.scale()?);
        put("subnet", self.subnet.as_ref().map(|id| json!({ "id": id })));
        if let Some(image) = &self.image {
            let mut reference = image_reference(image)?;
            if let (Some(id), Some(members)) = (&self.custom_image, reference.as_object_mut()) {
                members.insert("virtualMachineImageId".into(), json!(id));
            }
            put("virtualMachineConfiguration", Some(json!({ "imageReference": reference })));
        }
        if let (Some(command), Some(output)) = (&self.setup_task, &self.setup_task_output) {
            let setup = object(properties.entry("nodeSetup").or_insert(Value::Null));
            setup.insert("setupTask".into(), json!({ "commandLine": command, "stdOutErrPathPrefix": output }));
        }
        self.account.lay_over(environment, properties)
    }

    /// Source: reference of the Azure CLI's command: equal bounds are a fixed number.
    fn scale(&self) -> Result<Option<Value>> {
        let manual = |count: u32| json!({ "manual": { "targetNodeCount": count } });
        Ok(match (self.min, self.max, self.target, &self.config_file) {
            (Some(min), Some(max), _, _) if min > max => {
                return Err(Failure::usage(format!("--min {min} is more than --max {max}")));
            }
            (Some(min), Some(max), target, _) if min == max && target.is_none_or(|target| target == min) => Some(manual(min)),
            (Some(min), Some(max), target, _) => Some(
                json!({ "autoScale": { "minimumNodeCount": min, "maximumNodeCount": max, "initialNodeCount": target.unwrap_or(0) } }),
            ),
            (_, _, Some(target), _) => Some(manual(target)),
            (_, _, None, Some(_)) => None,
            (_, _, None, None) => Some(manual(0)),
        })
    }

    async fn make(&self, session: &Session) -> Result<Answer> {
        let (place, document) = self.describe(session).await?;
        verbs::make(session, &place, &document, OWN, self.if_exists).await?;
        if self.wait {
            wait_steady(session, &place, self.timeout).await?;
        }
        verbs::show(session, &place).await
    }
}

/// An image by its alias or its four parts. Source: the Azure CLI's aliases.
fn image_reference(image: &str) -> Result<Value> {
    let parts = match image.to_ascii_lowercase().as_str() {
        "ubuntults" => "Canonical:UbuntuServer:16.04-LTS:".to_owned(),
        "ubuntudsvm" => "microsoft-ads:linux-data-science-vm-ubuntu:linuxdsvmubuntu:".to_owned(),
        _ => image.to_owned(),
    };
    let parts: Vec<&str> = parts.split(':').collect();
    let [publisher, offer, sku, version] = parts.as_slice() else {
        return Err(Failure::usage(format!("'{image}' is no image: UbuntuLTS, UbuntuDSVM or publisher:offer:sku:version")));
    };
    let mut reference = json!({ "publisher": publisher, "offer": offer, "sku": sku });
    if !version.is_empty()
        && let Some(members) = reference.as_object_mut()
    {
        members.insert("version".into(), json!(version));
    }
    Ok(reference)
}

/// The account on the nodes of a cluster.
pub(super) fn admin(cluster: &Value) -> String {
    at(cluster, "/properties/userAccountSettings/adminUserName")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(create: &Create) -> Value {
        create.scale().expect("a scale").unwrap_or_default()
    }

    #[test]
    fn scales_are_read_as_the_azure_cli_reads_them() {
        let create = |target, min, max| Create { target, min, max, ..Create::default() };
        assert_eq!(scale(&create(Some(2), None, None)), json!({"manual": {"targetNodeCount": 2}}));
        assert_eq!(scale(&create(None, Some(1), Some(1))), json!({"manual": {"targetNodeCount": 1}}));
        assert_eq!(scale(&create(None, None, None)), json!({"manual": {"targetNodeCount": 0}}));
        let auto = json!({"autoScale": {"minimumNodeCount": 1, "maximumNodeCount": 3, "initialNodeCount": 2}});
        assert_eq!(scale(&create(Some(2), Some(1), Some(3))), auto);
        assert!(create(None, Some(3), Some(1)).scale().is_err());
        assert_eq!(scale(&Create { config_file: Some("f".into()), ..Create::default() }), Value::Null, "the file's stays");
    }

    #[test]
    fn images_have_aliases() {
        assert_eq!(image_reference("ubuntults").expect("known")["sku"], "16.04-LTS");
        assert_eq!(
            image_reference("a:b:c:d").expect("four parts"),
            json!({"publisher": "a", "offer": "b", "sku": "c", "version": "d"})
        );
        assert!(image_reference("ubuntu").is_err());
    }
}
