//! The GPUs of this machine: which there are, and when one of them broke.
//!
//! In: the vendor's library, which is loaded when it is asked for, or a number that the operator declared. Out: an inventory, and faults with
//! their evidence. Refuses to know nodes and jobs. A machine without the library has no GPUs, and the reason is told.

mod nvml;
mod simulated;

use std::path::Path;

use crate::domain::gpu::Gpu;
use crate::domain::resource::EntityError;

pub use nvml::Nvml;
pub use simulated::Simulated;

/// The code of a node's error where one of its GPUs is of no use any more.
pub const BROKEN: &str = "NodeGpuFailed";

/// Where GPUs are looked for.
pub trait Gpus: Send {
    /// Every GPU that this process may use.
    ///
    /// # Errors
    /// In the library's words why they cannot be told.
    fn list(&self) -> Result<Vec<Gpu>, String>;

    /// How much `mine` are in use: thousandths of the time that they computed in lately, their mean, and bytes of memory, their sum. `None`
    /// where that cannot be told.
    fn use_of(&self, mine: &[Gpu]) -> Option<(u64, u64)>;

    /// Waits until one of `mine` is broken, however long that takes; `None` once `is_over` says so, which is asked every few seconds.
    fn wait_fault(&self, mine: &[Gpu], is_over: &dyn Fn() -> bool) -> Option<Fault>;
}

/// What is wrong with a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The GPU.
    pub uuid: String,
    /// What it is.
    pub cause: Cause,
    /// What was seen, in the library's words or numbers.
    pub evidence: String,
}

/// Why a GPU is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It cannot be found any more.
    Lost,
    /// Its driver reported a critical error that is not a program's own.
    Xid,
    /// Its memory has errors that could not be corrected.
    Memory,
}

impl Fault {
    /// The fault as an error of the node that has the GPU.
    pub fn error(&self) -> EntityError {
        let (word, what) = match self.cause {
            Cause::Lost => ("lost", "is lost"),
            Cause::Xid => ("xid", "reported a critical error"),
            Cause::Memory => ("ecc", "has memory errors that cannot be corrected"),
        };
        EntityError::new(BROKEN, format!("The GPU {} of the node {what}.", self.uuid))
            .with_detail("gpu", self.uuid.clone())
            .with_detail("cause", word)
            .with_detail("evidence", self.evidence.clone())
    }
}

/// The GPUs of this machine: those declared where any are, else those that the library knows. Without the library, why.
///
/// # Errors
/// In the library's words.
pub fn open(simulated: u32, library: Option<&Path>) -> Result<Box<dyn Gpus>, String> {
    if simulated > 0 {
        return Ok(Box::new(Simulated::new(simulated)));
    }
    Ok(Box::new(Nvml::load(library)?))
}
