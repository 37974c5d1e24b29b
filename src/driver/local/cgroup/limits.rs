//! What a VM size means to the kernel, as files of control groups and what is written to them.

use std::io;
use std::path::Path;

use crate::domain::machine::Size;
use crate::driver::local::layout::Device;

/// Unit: microseconds. Source: default of the kernel's CPU bandwidth control.
const CPU_PERIOD: u64 = 100_000;

/// What jobs may not use of their node, so that its agent lives on. Unit: mebibytes.
const MEMORY_RESERVE_MIB: u64 = 64;

/// As [`MEMORY_RESERVE_MIB`]. Unit: processes and threads.
const PIDS_RESERVE: u64 = 64;

/// What a node has beyond its size for the programs that hold its mounts. Unit: mebibytes.
const MOUNTS_MIB: u64 = 512;

/// As [`MOUNTS_MIB`]. Unit: processes and threads.
const MOUNTS_PIDS: u64 = 512;

/// Devices that a node may open: null, zero, full, random, urandom, tty, ptmx, terminals and FUSE. Any may be made, which opens none, and
/// tunnels may be opened, of which there are none without a right over the network: container runtimes demand both for their containers,
/// and no group may have more than the one above it.
const DEVICES: [&str; 12] = [
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
    "c 10:200 rwm",
    "c 10:229 rwm",
    "c *:* m",
    "b *:* m",
];

/// Processes and threads that a node may have.
fn pids(size: &Size) -> u64 {
    2_048 + 1_024 * u64::from(size.cores)
}

fn memory(size: &Size) -> u64 {
    (size.memory_mib + MOUNTS_MIB) << 20
}

fn jobs_memory(size: &Size) -> u64 {
    size.memory_mib.saturating_sub(MEMORY_RESERVE_MIB).max(MEMORY_RESERVE_MIB) << 20
}

/// A file of a group, and what is written to it.
pub(super) type Limit = (String, String);

/// What is set on a node's group and on that of its jobs.
pub(super) struct Limits {
    pub(super) node: Vec<Limit>,
    pub(super) jobs: Vec<Limit>,
}

/// The limits of a size in a hierarchy with these controllers of the first version; none stands for the second version.
pub(super) fn of_size(v1: &[String], size: &Size, devices: &[Device]) -> Limits {
    let all = if v1.is_empty() { v2_limits(size) } else { v1_limits(v1, size, devices) };
    let (jobs, node): (Vec<_>, Vec<_>) = all.into_iter().partition(|(of_jobs, ..)| *of_jobs);
    let plain = |limits: Vec<(bool, &str, String)>| limits.into_iter().map(|(_, file, value)| (file.to_owned(), value)).collect();
    Limits { node: plain(node), jobs: plain(jobs) }
}

/// Sets limits on a group. Answers those that could not be set, with the reason.
pub(super) fn set(group: &Path, limits: &[Limit]) -> Vec<(String, io::Error)> {
    let mut failed = Vec::new();
    for (file, value) in limits {
        let path = group.join(file);
        // Missing files are controllers that could not be turned on, which was said at the start, or swap that is not counted.
        if path.exists()
            && let Err(error) = std::fs::write(&path, value)
        {
            failed.push((file.clone(), error));
        }
    }
    failed
}

/// Whether it is set on the jobs' group alone; the file; its value.
type Row = (bool, &'static str, String);

fn v2_limits(size: &Size) -> Vec<Row> {
    let cores = u64::from(size.cores);
    vec![
        (false, "memory.max", memory(size).to_string()),
        (false, "memory.swap.max", "0".to_owned()),
        (true, "memory.max", jobs_memory(size).to_string()),
        (false, "pids.max", (pids(size) + MOUNTS_PIDS).to_string()),
        (true, "pids.max", (pids(size) - PIDS_RESERVE).to_string()),
        (false, "cpu.max", format!("{} {CPU_PERIOD}", cores * CPU_PERIOD)),
        (false, "cpu.weight", (100 * cores).clamp(1, 10_000).to_string()),
    ]
}

fn v1_limits(controllers: &[String], size: &Size, more: &[Device]) -> Vec<Row> {
    let cores = u64::from(size.cores);
    let mut limits = Vec::new();
    for controller in controllers {
        match controller.as_str() {
            "memory" => limits.extend([
                (false, "memory.use_hierarchy", "1".to_owned()),
                (false, "memory.limit_in_bytes", memory(size).to_string()),
                (false, "memory.memsw.limit_in_bytes", memory(size).to_string()),
                (true, "memory.limit_in_bytes", jobs_memory(size).to_string()),
            ]),
            "pids" => limits.extend([
                (false, "pids.max", (pids(size) + MOUNTS_PIDS).to_string()),
                (true, "pids.max", (pids(size) - PIDS_RESERVE).to_string()),
            ]),
            "cpu" => limits.extend([
                (false, "cpu.cfs_period_us", CPU_PERIOD.to_string()),
                (false, "cpu.cfs_quota_us", (cores * CPU_PERIOD).to_string()),
                (false, "cpu.shares", (1_024 * cores).to_string()),
            ]),
            "devices" => {
                limits.push((false, "devices.deny", "a".to_owned()));
                limits.extend(DEVICES.map(|device| (false, "devices.allow", device.to_owned())));
                let own = more.iter().map(|device| format!("c {}:{} rwm", device.major, device.minor));
                limits.extend(own.map(|device| (false, "devices.allow", device)));
            }
            _ => {}
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_keeps_what_jobs_may_not_use() {
        let size = Size { name: "X".into(), cores: 2, memory_mib: 4_096, gpus: 0 };
        let value = |limits: Vec<Row>, jobs, file| limits.into_iter().find(|l| l.0 == jobs && l.1 == file).expect("set").2;
        assert_eq!(value(v2_limits(&size), false, "memory.max"), (4_608u64 << 20).to_string());
        assert_eq!(value(v2_limits(&size), true, "memory.max"), (4_032u64 << 20).to_string());
        assert_eq!(value(v2_limits(&size), false, "cpu.max"), "200000 100000");
        let v1 = v1_limits(&["cpu".into()], &size, &[]);
        assert_eq!(value(v1, false, "cpu.cfs_quota_us"), "200000");
    }

    #[test]
    fn a_node_opens_its_own_gpus_and_no_others() {
        let size = Size { name: "X".into(), cores: 2, memory_mib: 4_096, gpus: 1 };
        let gpu = Device { name: "nvidia3".into(), major: 195, minor: 3 };
        let allowed: Vec<_> = v1_limits(&["devices".into()], &size, &[gpu]).into_iter().map(|(_, _, value)| value).collect();
        assert!(allowed.contains(&"c 195:3 rwm".to_owned()));
        assert_eq!(allowed.iter().filter(|value| value.contains(" 195:")).count(), 1);
    }
}
