//! TensorFlow: a master, which is worker 0, more workers, and parameter servers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::framework::TensorFlow;
use crate::domain::process::{Process, Role, deal};
use crate::domain::resource::NameValue;
use crate::launch::{Gang, line};

/// The first port of each node; each further process of the node has the next. Parameter servers come first.
///
/// Source: documented values of `AZ_BATCHAI_PS_HOSTS` and `AZ_BATCHAI_WORKER_HOSTS`.
const FIRST_PORT: u32 = 2222;

/// One task of the cluster of tasks.
struct Task {
    kind: &'static str,
    index: u32,
    node: usize,
    host: String,
}

/// `TF_CONFIG`, as documented.
#[derive(Serialize)]
struct Config<'a> {
    cluster: BTreeMap<&'a str, Vec<&'a str>>,
    task: TaskOf<'a>,
    environment: &'a str,
}

#[derive(Serialize)]
struct TaskOf<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    index: u32,
}

/// The processes of each node. The job ends when its master does.
pub(super) fn processes(job: &TensorFlow, gang: &Gang<'_>) -> Vec<Vec<Process>> {
    let mut parts: Vec<Vec<Process>> = vec![Vec::new(); gang.addresses.len()];
    let is_distributed = job.worker_count.is_some() || job.parameter_server_count.is_some();
    let tasks = tasks(job.worker_count.unwrap_or(1).max(1), job.parameter_server_count.unwrap_or(0), gang);
    let hosts = |kind: &str| tasks.iter().filter(|task| task.kind == kind).map(|task| task.host.as_str()).collect::<Vec<_>>();
    let (servers, workers) = (hosts("ps"), hosts("worker"));
    for task in &tasks {
        let is_master = (task.kind, task.index) == ("worker", 0);
        let mut environment = vec![variable("AZ_BATCHAI_TASK_INDEX", task.index.to_string())];
        if is_distributed {
            let config = Config {
                cluster: BTreeMap::from([("ps", servers.clone()), ("worker", workers.clone())]),
                task: TaskOf { kind: if is_master { "master" } else { task.kind }, index: task.index },
                environment: "cloud",
            };
            environment.push(variable("AZ_BATCHAI_PS_HOSTS", servers.join(",")));
            environment.push(variable("AZ_BATCHAI_WORKER_HOSTS", workers.join(",")));
            environment.push(variable("TF_CONFIG", serde_json::to_string(&config).unwrap_or_default()));
        }
        let (short, arguments, role) = match task.kind {
            "ps" => ("ps", &job.parameter_server_arguments, Role::Follower),
            _ if is_master => ("wk", &job.script.arguments, Role::Leader),
            _ => ("wk", &job.worker_arguments, Role::Follower),
        };
        if let Some(part) = parts.get_mut(task.node) {
            part.push(Process {
                name: format!("{short}-{}", task.index),
                command_line: line::script(&job.script, arguments.as_deref()),
                environment,
                role,
            });
        }
    }
    parts
}

/// Parameter servers, one a node from the first on, then workers, dealt out evenly.
fn tasks(workers: u32, servers: u32, gang: &Gang<'_>) -> Vec<Task> {
    let mut ports = vec![FIRST_PORT; gang.addresses.len()];
    let mut place = |kind: &'static str, index: u32, node: usize| {
        let port = ports.get_mut(node)?;
        let host = format!("{}:{port}", gang.addresses.get(node)?);
        *port += 1;
        Some(Task { kind, index, node, host })
    };
    let mut tasks: Vec<Task> = (0..servers).filter_map(|index| place("ps", index, index as usize)).collect();
    let mut indices = 0..workers;
    for (node, here) in deal(workers, gang.len()).enumerate() {
        tasks.extend(indices.by_ref().take(here as usize).filter_map(|index| place("worker", index, node)));
    }
    tasks
}

fn variable(name: &str, value: String) -> NameValue {
    NameValue { name: name.to_owned(), value }
}
