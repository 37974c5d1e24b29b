//! The nodes of a cluster, as our own version writes them.

use serde::Serialize;

use super::title;
use crate::domain::gpu::Gpu;
use crate::domain::health::Probe;
use crate::domain::machine::{MachineState, Node};
use crate::wire::shapes::EntityErrorBody;
use crate::wire::times::moment;

/// One node.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeBody<'a> {
    node_id: &'a str,
    state: String,
    state_transition_time: String,
    creation_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heard_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eviction_time: Option<String>,
    vm_size: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    gpus: Vec<GpuBody<'a>>,
    health: Vec<ProbeBody<'a>>,
    errors: Vec<EntityErrorBody<'a>>,
}

/// One of its GPUs.
#[derive(Serialize)]
struct GpuBody<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(rename = "memoryInMiB")]
    memory_mib: u64,
    /// Whether it is declared alone, and does not exist.
    simulated: bool,
}

/// One thing that it proved of itself.
#[derive(Serialize)]
struct ProbeBody<'a> {
    name: &'a str,
    result: &'static str,
    found: &'a str,
}

impl<'a> NodeBody<'a> {
    /// A node in an answer.
    pub fn of(node: &'a Node) -> NodeBody<'a> {
        let state = match node.state {
            MachineState::Asked => MachineState::Preparing.as_str(),
            MachineState::Ready if node.is_busy => "running",
            MachineState::Ready => "idle",
            state => state.as_str(),
        };
        NodeBody {
            node_id: &node.node_id,
            state: title(state),
            state_transition_time: moment(node.state_changed_at),
            creation_time: moment(node.created_at),
            last_heard_time: node.heard_at.map(moment),
            eviction_time: node.evict_at.map(moment),
            vm_size: &node.size,
            ip_address: node.address.as_deref(),
            job: node.job.as_deref(),
            gpus: node.gpus.iter().map(GpuBody::of).collect(),
            health: node.health.iter().map(ProbeBody::of).collect(),
            errors: node.problem.iter().map(EntityErrorBody::of).collect(),
        }
    }
}

impl<'a> ProbeBody<'a> {
    fn of(probe: &'a Probe) -> ProbeBody<'a> {
        ProbeBody { name: &probe.name, result: if probe.passed { "Passed" } else { "Failed" }, found: &probe.found }
    }
}

impl<'a> GpuBody<'a> {
    fn of(gpu: &'a Gpu) -> GpuBody<'a> {
        GpuBody { id: &gpu.uuid, name: &gpu.name, memory_mib: gpu.memory_mib, simulated: gpu.simulated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::resource::EntityError;
    use serde_json::json;

    #[test]
    fn a_node_tells_its_gpus_and_what_is_wrong_with_it() {
        let node = Node {
            node_id: "tvm-1".into(),
            state: MachineState::Ready,
            state_changed_at: Timestamp::from_unix_timestamp(1_700_000_000).expect("a time"),
            created_at: Timestamp::from_unix_timestamp(1_700_000_000).expect("a time"),
            is_busy: true,
            evict_at: None,
            heard_at: None,
            job: Some("/jobs/j".into()),
            health: vec![Probe { name: "disk".into(), passed: true, found: "700 MiB are free".into() }],
            address: Some("10.96.0.4".into()),
            size: "STANDARD_NC6".into(),
            gpus: vec![Gpu {
                uuid: "SIMULATED-0".into(),
                name: "simulated GPU".into(),
                memory_mib: 0,
                minor: None,
                simulated: true,
            }],
            problem: Some(EntityError::new("NodeGpuFailed", "It is lost.").with_detail("cause", "lost")),
        };
        assert_eq!(
            serde_json::to_value(NodeBody::of(&node)).expect("writes"),
            json!({
                "nodeId": "tvm-1", "state": "Running", "stateTransitionTime": "2023-11-14T22:13:20Z",
                "creationTime": "2023-11-14T22:13:20Z", "job": "/jobs/j",
                "health": [{"name": "disk", "result": "Passed", "found": "700 MiB are free"}],
                "vmSize": "STANDARD_NC6", "ipAddress": "10.96.0.4",
                "gpus": [{"id": "SIMULATED-0", "name": "simulated GPU", "memoryInMiB": 0, "simulated": true}],
                "errors": [{"code": "NodeGpuFailed", "message": "It is lost.", "details": [{"name": "cause", "value": "lost"}]}],
            })
        );
    }
}
