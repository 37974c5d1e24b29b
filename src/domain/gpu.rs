//! A GPU as a host and a node know it.

use serde::{Deserialize, Serialize};

/// One whole GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// What tells it from every other: as its vendor gave it, which `CUDA_VISIBLE_DEVICES` takes too. One that is simulated has a name that
    /// no vendor gives.
    pub uuid: String,
    /// Its model, for people.
    pub name: String,
    /// Its memory in mebibytes.
    pub memory_mib: u64,
    /// The number of its device file; `None` where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<u32>,
    /// Whether the operator declared it and no such thing exists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub simulated: bool,
}

/// Most GPUs of one machine.
const MOST: usize = 64;

/// Longest text about one. Unit: characters.
const LONGEST: usize = 96;

impl Gpu {
    /// What a node said of its GPUs, cut to what can be.
    pub fn sane(gpus: Vec<Gpu>) -> Vec<Gpu> {
        let clean = |text: &str| text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(LONGEST).collect::<String>();
        let sane = |gpu: Gpu| Gpu {
            uuid: clean(&gpu.uuid),
            name: clean(&gpu.name),
            memory_mib: gpu.memory_mib.min(i64::MAX.cast_unsigned()),
            ..gpu
        };
        gpus.into_iter().take(MOST).map(sane).collect()
    }

    /// The value of `CUDA_VISIBLE_DEVICES` that shows these and no others.
    ///
    /// Source: the CUDA programming guide takes UUIDs there, and an empty list for none.
    pub fn visible(gpus: &[Gpu]) -> String {
        gpus.iter().map(|gpu| gpu.uuid.as_str()).collect::<Vec<_>>().join(",")
    }
}
