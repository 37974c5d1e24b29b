//! How the GPUs of this host are divided among its nodes: whole ones, each with one node at a time, as many as the node's size says.
//!
//! Whose they are is written in nodes' own documents: a GPU is free again when the folder of its node is gone, whichever server made it.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::domain::gpu::Gpu;
use crate::driver::local::GpuChoice;
use crate::driver::local::layout::{Device, NodeFolder};
use crate::driver::local::lock::FolderLock;
use crate::gpu;

/// Device files that every node with a GPU needs, where the host has them.
///
/// Source: what NVIDIA's own container runtime gives to containers that compute.
const COMMON: [&str; 3] = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"];

/// The GPUs of this host.
pub(super) struct HostGpus {
    all: Vec<Gpu>,
    library: Option<PathBuf>,
    /// Held while GPUs are given away.
    folder: PathBuf,
}

/// GPUs that nobody else gets while this is held.
pub(super) struct Lease {
    pub(super) gpus: Vec<Gpu>,
    /// Their device files, and those that come with them.
    pub(super) devices: Vec<Device>,
    _held: Option<FolderLock>,
}

impl HostGpus {
    /// Finds out which GPUs there are, and says so. No way to tell is none.
    pub(super) fn find(choice: &GpuChoice, folder: PathBuf) -> HostGpus {
        let found = gpu::open(choice.simulated, choice.library.as_deref()).and_then(|gpus| gpus.list());
        let all = match found {
            Ok(all) => {
                for gpu in &all {
                    tracing::info!(
                        gpu.uuid,
                        gpu.name,
                        gpu.memory_mib,
                        gpu.simulated,
                        "this host has {}",
                        if gpu.simulated { "a simulated GPU, which computes nothing" } else { "a GPU" }
                    );
                }
                all
            }
            Err(error) => {
                tracing::info!(reason = error, "this host has no GPUs that can be told");
                Vec::new()
            }
        };
        HostGpus { all, library: choice.library.clone(), folder }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.all.len()).unwrap_or(u32::MAX)
    }

    /// The library that tells of them, where it is not in its usual place.
    pub(super) fn library(&self) -> Option<&Path> {
        self.library.as_deref()
    }

    /// Finds `wanted` GPUs that no node below `nodes` has. They are taken once a node's document names them, while the answer is held.
    ///
    /// # Errors
    /// [`io::ErrorKind::QuotaExceeded`]: not so many are free. Nobody's are taken away.
    pub(super) fn take(&self, nodes: &Path, wanted: u32) -> io::Result<Lease> {
        if wanted == 0 {
            return Ok(Lease { gpus: Vec::new(), devices: Vec::new(), _held: None });
        }
        let held = FolderLock::make(&self.folder)?;
        let taken: HashSet<String> = std::fs::read_dir(nodes)?
            .flatten()
            .filter_map(|entry| NodeFolder::new(entry.path()).find_spec())
            .flat_map(|spec| spec.gpus)
            .map(|gpu| gpu.uuid)
            .collect();
        let free = self.all.iter().filter(|gpu| !taken.contains(&gpu.uuid));
        let gpus: Vec<Gpu> = free.take(wanted as usize).cloned().collect();
        if gpus.len() < wanted as usize {
            let (has, free) = (self.all.len(), gpus.len());
            let why = format!("the node needs {wanted} GPUs: this host has {has}, and {free} of them are free");
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
        }
        let devices = devices(&gpus);
        Ok(Lease { gpus, devices, _held: Some(held) })
    }
}

/// The device files of these GPUs. Those that are simulated have none.
fn devices(gpus: &[Gpu]) -> Vec<Device> {
    let real: Vec<&Gpu> = gpus.iter().filter(|gpu| !gpu.simulated).collect();
    if real.is_empty() {
        return Vec::new();
    }
    let own = real.iter().filter_map(|gpu| Some(format!("nvidia{}", gpu.minor?)));
    let common = COMMON.into_iter().map(str::to_owned);
    own.chain(common).filter_map(|name| Device::find(&name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::local::layout::{self, NodeSpec};

    #[test]
    fn no_gpu_is_given_to_two_nodes() {
        let folder = std::env::temp_dir().join(format!("batchyard-gpus-{}", uuid::Uuid::now_v7()));
        let nodes = folder.join("nodes");
        std::fs::create_dir_all(nodes.join("by-1")).expect("made");
        let gpus = HostGpus::find(&GpuChoice { simulated: 3, ..GpuChoice::default() }, folder.join("gpus"));
        let lease = gpus.take(&nodes, 2).expect("free");
        let names = |lease: &Lease| Gpu::visible(&lease.gpus);
        assert_eq!((names(&lease).as_str(), lease.devices.len()), ("SIMULATED-0,SIMULATED-1", 0));
        let spec = NodeSpec { gpus: lease.gpus.clone(), ..layout::sample_spec() };
        layout::write_json(&NodeFolder::new(nodes.join("by-1")).spec(), &spec).expect("written");
        drop(lease);
        let refused = gpus.take(&nodes, 2).err().expect("one is left");
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded);
        assert_eq!(refused.to_string(), "the node needs 2 GPUs: this host has 3, and 1 of them are free");
        assert_eq!(names(&gpus.take(&nodes, 1).expect("free")), "SIMULATED-2");
        assert!(gpus.take(&nodes, 0).is_ok(), "most nodes need none");
        std::fs::remove_dir_all(nodes.join("by-1")).expect("removed");
        assert!(gpus.take(&nodes, 3).is_ok(), "they are free with their node");
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
