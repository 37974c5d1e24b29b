//! GPUs by NVIDIA's management library, which comes with the driver and is loaded when it is asked for.

use std::path::Path;
use std::time::Duration;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError};
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::event::EventData;
use nvml_wrapper::{Device, EventSet};

use crate::domain::gpu::Gpu;
use crate::gpu::{Cause, Fault, Gpus};

/// Time between two looks at what no event tells: whether a GPU is there, and its count of memory errors.
const LOOKS: Duration = Duration::from_secs(2);

/// Errors that the driver calls critical and that a program makes by its own mistake: the GPU is as good as before.
///
/// Source: NVIDIA's list of Xid errors, "user application": 13 graphics engine exception, 31 memory page fault, 43 stopped processing,
/// 45 preemptive cleanup, 68 video processor exception, 109 context switch timeout. NVIDIA's own health check for clusters leaves the same out.
const OF_PROGRAMS: [u64; 6] = [13, 31, 43, 45, 68, 109];

/// The library, loaded.
pub struct Nvml {
    library: nvml_wrapper::Nvml,
}

impl Nvml {
    /// Loads the library: `path`, or the one that the driver installed.
    ///
    /// # Errors
    /// It is not there, or there is no driver: in its own words.
    pub fn load(path: Option<&Path>) -> Result<Nvml, String> {
        let library = match path {
            Some(path) => nvml_wrapper::Nvml::builder().lib_path(path.as_os_str()).init(),
            None => nvml_wrapper::Nvml::init(),
        };
        Ok(Nvml { library: library.map_err(|error| told(&error))? })
    }

    fn describe(device: &Device<'_>) -> Result<Gpu, NvmlError> {
        Ok(Gpu {
            uuid: device.uuid()?,
            name: device.name()?,
            // Neither keeps a GPU from being of use.
            memory_mib: device.memory_info().map_or(0, |memory| memory.total >> 20),
            minor: device.minor_number().ok(),
            simulated: false,
        })
    }

    /// What is wrong with a GPU right now.
    fn look(&self, gpu: &Gpu) -> Option<Fault> {
        let fault = |cause, evidence| Some(Fault { uuid: gpu.uuid.clone(), cause, evidence });
        let counted = self
            .library
            .device_by_uuid(gpu.uuid.as_str())
            .and_then(|device| device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile));
        match counted {
            Ok(0) => None,
            Ok(errors) => fault(Cause::Memory, format!("{errors} uncorrected memory errors since the driver was loaded")),
            Err(error @ (NvmlError::GpuLost | NvmlError::NotFound | NvmlError::NoPermission)) => fault(Cause::Lost, told(&error)),
            // Most say that they have no such memory. What else is odd is no proof that a GPU is broken.
            Err(_) => None,
        }
    }

    /// A set of the events of these GPUs; none where they have no events.
    fn events<'a>(&'a self, mine: &[Gpu]) -> Option<EventSet<'a>> {
        let mut set = self.library.create_event_set().ok()?;
        let mut any = false;
        for gpu in mine {
            let Ok(device) = self.library.device_by_uuid(gpu.uuid.as_str()) else { continue };
            let wanted = EventTypes::CRITICAL_XID_ERROR | EventTypes::DOUBLE_BIT_ECC_ERROR;
            let wanted = device.supported_event_types().map_or(EventTypes::CRITICAL_XID_ERROR, |can| can & wanted);
            if wanted.is_empty() {
                continue;
            }
            match device.register_events(wanted, set) {
                Ok(whole) => (set, any) = (whole, true),
                Err(error) => {
                    // The set went with the failure; what no event tells is looked for all the same.
                    tracing::warn!(gpu.uuid, error = told(&error.error), "errors of the driver of GPUs are not heard");
                    return None;
                }
            }
        }
        any.then_some(set)
    }
}

impl Gpus for Nvml {
    fn list(&self) -> Result<Vec<Gpu>, String> {
        let count = self.library.device_count().map_err(|error| told(&error))?;
        let mut gpus = Vec::new();
        for index in 0..count {
            match self.library.device_by_index(index).and_then(|device| Nvml::describe(&device)) {
                Ok(gpu) => gpus.push(gpu),
                Err(error) => tracing::warn!(gpu.index = index, error = told(&error), "a GPU cannot be used"),
            }
        }
        Ok(gpus)
    }

    fn use_of(&self, mine: &[Gpu]) -> Option<(u64, u64)> {
        let (mut percent, mut memory) = (0, 0);
        for gpu in mine {
            let device = self.library.device_by_uuid(gpu.uuid.as_str()).ok()?;
            percent += u64::from(device.utilization_rates().ok()?.gpu);
            memory += device.memory_info().ok()?.used;
        }
        Some((percent * 10 / u64::try_from(mine.len()).ok().filter(|count| *count > 0)?, memory))
    }

    fn wait_fault(&self, mine: &[Gpu], is_over: &dyn Fn() -> bool) -> Option<Fault> {
        let events = self.events(mine);
        while !is_over() {
            if let Some(fault) = mine.iter().find_map(|gpu| self.look(gpu)) {
                return Some(fault);
            }
            match events.as_ref().map(|events| events.wait(u32::try_from(LOOKS.as_millis()).unwrap_or(u32::MAX))) {
                Some(Ok(event)) => {
                    if let Some(fault) = judge(&event, mine) {
                        return Some(fault);
                    }
                }
                Some(Err(NvmlError::Timeout)) => {}
                // A lost GPU ends the wait at once, and says so above.
                Some(Err(_)) | None => std::thread::park_timeout(LOOKS),
            }
        }
        None
    }
}

/// What an event says of one of these GPUs, if it is that the GPU is broken.
fn judge(event: &EventData<'_>, mine: &[Gpu]) -> Option<Fault> {
    // One that does not say who it is any more is lost, which the next look tells.
    let uuid = event.device.uuid().ok()?;
    let gpu = mine.iter().find(|gpu| gpu.uuid == uuid)?;
    let fault = |cause, evidence| Some(Fault { uuid: gpu.uuid.clone(), cause, evidence });
    match event.event_data {
        Some(XidError::Value(number)) if OF_PROGRAMS.contains(&number) => None,
        Some(XidError::Value(number)) => fault(Cause::Xid, format!("Xid {number}")),
        Some(XidError::Unknown) => fault(Cause::Xid, "an Xid without a number".to_owned()),
        None if event.event_type.contains(EventTypes::DOUBLE_BIT_ECC_ERROR) => {
            fault(Cause::Memory, "a double bit memory error".to_owned())
        }
        None => None,
    }
}

/// The library's words with their cause.
fn told(error: &NvmlError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
