//! Frameworks over two nodes, each with its own network and address: real MPI, PyTorch and TensorFlow, and a recorder in place of what is not
//! here.
//!
//! The tests of this process share one installation and work each in a resource group of its own. They need nodes in namespaces.

#[path = "frameworks/gang.rs"]
mod gang;
#[path = "frameworks/mpi.rs"]
mod mpi;
#[path = "frameworks/recorded.rs"]
mod recorded;
#[path = "frameworks/tensorflow.rs"]
mod tensorflow;
#[path = "frameworks/torch.rs"]
mod torch;

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Server, Site};

/// A site with a cluster `c` of two nodes. None where nodes have no network of their own, or a program that is needed is not here.
async fn two_nodes(needed: &[&str]) -> Option<Site> {
    let demanded = std::env::var("BATCHYARD_TEST_PRIVILEGE").is_ok_and(|value| value == "required");
    let missing: Vec<&&str> = needed.iter().filter(|path| !Path::new(path).exists()).collect();
    if !rustix::process::geteuid().is_root() || !missing.is_empty() {
        assert!(!demanded, "root and {missing:?} are demanded here");
        eprintln!("skipped: needs root and {missing:?}");
        return None;
    }
    let site = Site::new(Server::shared().api()).await;
    site.cluster("c", 2).await;
    Some(site)
}

/// Puts a script on the share. Answers its path as job bodies name it.
fn script(site: &Site, name: &str, text: &str) -> String {
    let name = format!("{}-{name}", site.group);
    std::fs::write(Server::shared().share().join(&name), text).expect("writes to the share");
    format!("$AZ_BATCHAI_MOUNT_ROOT/shared/{name}")
}

/// Runs a job on both nodes with the settings of a framework.
async fn run(site: &Site, name: &str, member: &str, settings: Value) -> Value {
    submit(site, name, member, settings, json!({})).await;
    site.ended(name).await
}

async fn submit(site: &Site, name: &str, member: &str, settings: Value, over: Value) {
    let mut body = site.job_body("c", "");
    let properties = body["properties"].as_object_mut().expect("an object");
    properties.remove("customToolkitSettings");
    properties.insert("nodeCount".into(), json!(2));
    properties.insert(member.into(), settings);
    if let Value::Object(over) = over {
        properties.extend(over);
    }
    site.put_job(name, &body).await;
}

/// All that a job wrote, for a test that fails.
async fn everything(site: &Site, job: &str) -> String {
    let mut text = String::new();
    for name in site.names(job, "stdouterr").await {
        text.push_str(&format!("--- {name}\n{}\n", site.read(job, "stdouterr", &name).await));
    }
    text
}

/// Waits for nothing: fails with all that the job wrote where it did not succeed.
async fn assert_succeeded(site: &Site, name: &str, job: &Value) {
    if job["executionState"] != "succeeded" {
        panic!("{job}\n{}", everything(site, name).await);
    }
}
