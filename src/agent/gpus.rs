//! The GPUs of the node: what the agent finds of those that are the node's own, and the watch over them.
//!
//! The watch is a thread that waits in the vendor's library, and ends with the agent. One fault is enough: the node is of no use from then on.

use std::path::Path;

use tokio::sync::mpsc::UnboundedSender;

use crate::agent::node::Heard;
use crate::domain::bootstrap::AgentBootstrap;
use crate::domain::gpu::Gpu;
use crate::domain::resource::EntityError;
use crate::gpu::{self, Cause, Fault};

/// Finds the node's GPUs, says which there are, and watches them. Answers those that were found.
pub(super) fn start(bootstrap: &AgentBootstrap, heard: &UnboundedSender<Heard>) -> Vec<Gpu> {
    let mine = bootstrap.gpus.clone();
    if mine.is_empty() {
        tracing::info!(gpus = 0, "this node has no GPUs");
        return Vec::new();
    }
    let simulated = mine.iter().filter(|gpu| gpu.simulated).count();
    let (found, fault) = match find(&mine, bootstrap.gpu_library.as_deref()) {
        Ok(found) => found,
        Err(why) => (Vec::new(), Some(lost(&mine, &why))),
    };
    let visible = Gpu::visible(&found);
    if simulated > 0 {
        tracing::info!(gpus = found.len(), simulated, visible, "the GPUs of this node are simulated: nothing computes on them");
    } else {
        tracing::info!(gpus = found.len(), visible, "this node has GPUs");
    }
    match fault {
        Some(fault) => tell(heard, &bootstrap.node_id, &fault),
        None => watch(bootstrap, mine, heard.clone()),
    }
    found
}

/// Those of `mine` that are there, and the first that is not.
fn find(mine: &[Gpu], library: Option<&Path>) -> Result<(Vec<Gpu>, Option<Fault>), String> {
    if mine.iter().all(|gpu| gpu.simulated) {
        return Ok((mine.to_vec(), None));
    }
    let there = gpu::open(0, library)?.list()?;
    let found: Vec<Gpu> = there.into_iter().filter(|gpu| mine.iter().any(|own| own.uuid == gpu.uuid)).collect();
    let missing: Vec<Gpu> = mine.iter().filter(|own| !found.iter().any(|gpu| gpu.uuid == own.uuid)).cloned().collect();
    let fault = (!missing.is_empty()).then(|| lost(&missing, "the node does not see it"));
    Ok((found, fault))
}

fn lost(gpus: &[Gpu], why: &str) -> Fault {
    Fault { uuid: Gpu::visible(gpus), cause: Cause::Lost, evidence: why.to_owned() }
}

fn watch(bootstrap: &AgentBootstrap, mine: Vec<Gpu>, heard: UnboundedSender<Heard>) {
    if mine.iter().all(|gpu| gpu.simulated) {
        return;
    }
    let (library, node_id) = (bootstrap.gpu_library.clone(), bootstrap.node_id.clone());
    let watching = std::thread::Builder::new().name("gpus".into()).spawn(move || {
        let fault = match gpu::open(0, library.as_deref()) {
            Ok(gpus) => gpus.wait_fault(&mine, &|| heard.is_closed()),
            Err(why) => Some(lost(&mine, &why)),
        };
        if let Some(fault) = fault {
            tell(&heard, &node_id, &fault);
        }
    });
    if let Err(error) = watching {
        tracing::error!(%error, "the node's GPUs are not watched");
    }
}

fn tell(heard: &UnboundedSender<Heard>, node_id: &str, fault: &Fault) {
    let error: EntityError = fault.error().with_detail("nodeId", node_id);
    tracing::error!(error.message, fault.evidence, "a GPU of this node is of no use any more");
    let _ = heard.send(Heard::Broken(error));
}
