//! GPUs that the operator declared and that do not exist: for trying what is done with them, never for computing.

use crate::domain::gpu::Gpu;
use crate::gpu::{Fault, Gpus};

/// Time between two questions whether the wait is over.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// So many GPUs that never break.
#[derive(Clone, Debug)]
pub struct Simulated {
    count: u32,
}

impl Simulated {
    /// `count` of them.
    pub fn new(count: u32) -> Simulated {
        Simulated { count }
    }
}

impl Gpus for Simulated {
    fn list(&self) -> Result<Vec<Gpu>, String> {
        let gpu = |index| Gpu {
            uuid: format!("SIMULATED-{index}"),
            name: "simulated GPU".to_owned(),
            memory_mib: 0,
            minor: None,
            simulated: true,
        };
        Ok((0..self.count).map(gpu).collect())
    }

    fn use_of(&self, _mine: &[Gpu]) -> Option<(u64, u64)> {
        None
    }

    fn wait_fault(&self, _mine: &[Gpu], is_over: &dyn Fn() -> bool) -> Option<Fault> {
        while !is_over() {
            std::thread::park_timeout(PATIENCE);
        }
        None
    }
}
