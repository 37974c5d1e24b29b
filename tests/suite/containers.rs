//! Jobs in containers: a real engine in each node, and a real registry in its network.
//!
//! Each test has a cluster of its own; most share one installation. Images are made here and pushed to the registry as any client does.

#[path = "containers/ends.rs"]
mod ends;
#[path = "containers/full.rs"]
mod full;
#[path = "containers/gang.rs"]
mod gang;
#[path = "containers/hostile.rs"]
mod hostile;
#[path = "containers/image.rs"]
mod image;
#[path = "containers/life.rs"]
mod life;
#[path = "containers/mounted.rs"]
mod mounted;
#[path = "containers/registry.rs"]
mod registry;
#[path = "containers/walls.rs"]
mod walls;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::{Server, Site, until};
use registry::Registry;

/// Programs that these tests need.
const NEEDED: [&str; 4] = ["/usr/sbin/dockerd", "/usr/sbin/runc", "/usr/bin/docker-registry", "/bin/busybox"];

/// Whether containers can be run here. Where they cannot and are not demanded, says so; the test then ends.
fn able() -> bool {
    let missing: Vec<&str> = NEEDED.into_iter().filter(|path| !Path::new(path).exists()).collect();
    let demanded = std::env::var("BATCHYARD_TEST_PRIVILEGE").is_ok_and(|value| value == "required");
    if !crate::harness::privileged() {
        return false;
    }
    assert!(missing.is_empty() || !demanded, "{missing:?} are demanded here");
    if !missing.is_empty() {
        eprintln!("skipped: needs {missing:?}");
    }
    missing.is_empty()
}

/// A site with a cluster `c`, mostly of one node, and a registry in the network of each.
struct Ground {
    site: Site,
    /// The first.
    node: Node,
    _registries: Vec<Registry>,
}

/// A node, from outside.
struct Node {
    /// Its first process.
    pid: u32,
}

impl Ground {
    /// None where containers cannot be run.
    async fn new(server: &Server) -> Option<Ground> {
        Ground::with_nodes(server, 1).await
    }

    async fn with_nodes(server: &Server, count: u32) -> Option<Ground> {
        if !able() {
            return None;
        }
        let site = Site::new(server.api()).await;
        site.cluster("c", count).await;
        let mut nodes = Node::find_all(server, &site, count as usize).await;
        let registries = nodes.iter().map(|node| Registry::start(node.pid)).collect();
        Some(Ground { site, node: nodes.remove(0), _registries: registries })
    }

    /// Runs a job in a container of the public registry's image.
    async fn run(&self, name: &str, command: &str, over: Value) -> Value {
        self.submit(name, command, over).await;
        self.site.ended(name).await
    }

    async fn submit(&self, name: &str, command: &str, over: Value) {
        let mut body = json!({ "containerSettings": { "imageSourceRegistry": { "image": image::PUBLIC } } });
        if let (Some(body), Value::Object(over)) = (body.as_object_mut(), over) {
            body.extend(over);
        }
        self.site.submit(name, "c", command, body).await;
    }

    /// All that a job wrote, for a test that fails.
    async fn everything(&self, job: &str) -> String {
        let mut text = format!("{}\n", self.site.get_job(job).await);
        for name in self.site.names(job, "stdouterr").await {
            text.push_str(&format!("--- {name}\n{}\n", self.site.read(job, "stdouterr", &name).await));
        }
        text
    }

    async fn assert_succeeded(&self, name: &str, job: &Value) {
        if job["executionState"] != "succeeded" {
            panic!("{}", self.everything(name).await);
        }
    }
}

impl Node {
    /// The nodes of the site's cluster.
    async fn find_all(server: &Server, site: &Site, count: usize) -> Vec<Node> {
        let path = format!("{}/listRemoteLoginInformation", site.cluster_path("c"));
        let logins = until(
            "the nodes' logins",
            || async { site.api.post(&path).await.expect(200).body["value"].as_array().cloned().unwrap_or_default() },
            |logins| logins.len() == count,
        )
        .await;
        let ids: Vec<&str> = logins.iter().map(|login| login["nodeId"].as_str().expect("named")).collect();
        let is_ours = |pid: &u32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let path = command.split(|b| *b == 0).nth(2).map(|path| String::from_utf8_lossy(path).into_owned());
            let spec = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
            ids.iter().any(|id| spec.contains(id))
        };
        let nodes: Vec<Node> = server.node_processes().into_iter().filter(is_ours).map(|pid| Node { pid }).collect();
        assert_eq!(nodes.len(), count);
        nodes
    }

    /// Runs a program of the host in some of the node's namespaces, as the host's root.
    fn within(&self, namespaces: &[&str], program: &[&str]) -> Output {
        let target = self.pid.to_string();
        Command::new("nsenter").args(namespaces).args(["-t", &target]).args(program).output().expect("nsenter runs")
    }

    /// What the node's engine says to the engine's own client.
    fn docker(&self, arguments: &[&str]) -> String {
        let mut program = vec!["docker", "-H", "unix:///run/batchyard/engine/socket"];
        program.extend(arguments);
        let output = self.within(&["-m", "-n", "-p"], &program);
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Names of all containers, also of those that do not run.
    fn containers(&self) -> Vec<String> {
        self.docker(&["ps", "-a", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect()
    }
}

fn error(job: &Value) -> &Value {
    &job["executionInfo"]["errors"][0]
}
