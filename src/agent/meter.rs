//! What the node uses, as the kernel and the vendor's library count it.
//!
//! In: the control groups of jobs where there are any (of either version), the node's processes, its network, its GPUs. Out: rates since the
//! look before. What cannot be told is left out; nothing here fails. Refuses to know when it is looked and who is told.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::agent::process;
use crate::clock::{Clock, SystemClock};
use crate::domain::bootstrap::{AgentBootstrap, NODE_VARIABLE};
use crate::domain::gpu::Gpu;
use crate::domain::sample::{Sample, Used, whole_second};
use crate::gpu::{self, Gpus};
use crate::id::AttemptUid;

/// Shortest time between two looks that a rate is made of.
const SHORTEST: Duration = Duration::from_millis(500);

/// Counters at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    /// Time of processors. Unit: microseconds.
    cpu_us: Option<u64>,
    memory: Option<u64>,
    disk: Option<(u64, u64)>,
    net: Option<(u64, u64)>,
}

/// Looks at one node.
pub(super) struct Meter {
    groups: Vec<PathBuf>,
    /// What the environment of the node's processes has, where others are in sight.
    mark: Option<String>,
    /// Whether the network is the node's alone.
    own_network: bool,
    gpus: Vec<Gpu>,
    gpu_library: Option<PathBuf>,
    library: Option<Box<dyn Gpus>>,
    before: Option<(Instant, Counted)>,
}

impl Meter {
    /// The meter of the node that `bootstrap` describes, whose processes carry `mark`.
    pub(super) fn new(bootstrap: &AgentBootstrap, mark: Option<&str>) -> Meter {
        let has_root = bootstrap.isolation.has_root();
        Meter {
            groups: bootstrap.job_groups.clone(),
            mark: mark.filter(|_| !has_root).map(|mark| format!("{NODE_VARIABLE}={mark}")),
            own_network: has_root && bootstrap.names.is_none(),
            gpus: bootstrap.gpus.iter().filter(|gpu| !gpu.simulated).cloned().collect(),
            gpu_library: bootstrap.gpu_library.clone(),
            library: None,
            before: None,
        }
    }

    /// One of a node that has nothing.
    #[cfg(test)]
    pub(super) fn of_nothing() -> Meter {
        Meter {
            groups: Vec::new(),
            mark: Some("NOBODY=".to_owned()),
            own_network: false,
            gpus: Vec::new(),
            gpu_library: None,
            library: None,
            before: None,
        }
    }

    /// Another attempt begins: what was counted before is not its own.
    pub(super) fn begin(&mut self) {
        self.before = None;
    }

    /// Looks. `None` for the first look at an attempt, which others are measured from. The server's clock is so far before the node's.
    pub(super) fn look(&mut self, attempt_uid: AttemptUid, server_ahead: time::Duration) -> Option<Sample> {
        let (now, counted) = (Instant::now(), self.count());
        let before = self.before.replace((now, counted));
        let (then, before) = before.filter(|(then, _)| now - *then >= SHORTEST)?;
        let (gpu_milli, gpu_memory) = self.look_at_gpus().unzip();
        let used = Used { gpu_milli, gpu_memory, ..rates(&before, &counted, now - then) };
        Some(Sample { attempt_uid, at: whole_second(SystemClock.now() + server_ahead), used })
    }

    fn count(&self) -> Counted {
        let mut counted = self.count_processes();
        for group in &self.groups {
            let file = |name: &str| std::fs::read_to_string(group.join(name)).ok();
            counted.cpu_us = of_v2_cpu(file("cpu.stat")).or_else(|| of_v1_cpu(file("cpuacct.usage"))).or(counted.cpu_us);
            let memory = without_cache(file("memory.current"), file("memory.stat"), "inactive_file")
                .or_else(|| without_cache(file("memory.usage_in_bytes"), file("memory.stat"), "total_inactive_file"));
            counted.memory = memory.or(counted.memory);
        }
        if self.own_network {
            counted.net = std::fs::read_to_string("/proc/self/net/dev").ok().and_then(|text| of_devices(&text));
        }
        counted
    }

    /// All processes of the node. One that ended counts in the process that waited for it.
    fn count_processes(&self) -> Counted {
        let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let (mut cpu_us, mut memory, mut disk) = (0, 0, None);
        for pid in process::list().unwrap_or_default() {
            let folder = Path::new("/proc").join(pid.to_string());
            if self.mark.as_deref().is_some_and(|mark| !carries(&folder, mark)) {
                continue;
            }
            let text = |name| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            cpu_us += of_stat(&text("stat")).unwrap_or(0) * tick_us;
            memory += of_statm(&text("statm")).unwrap_or(0) * page;
            if let Some((read, written)) = of_io(&text("io")) {
                let (all_read, all_written) = disk.unwrap_or_default();
                disk = Some((all_read + read, all_written + written));
            }
        }
        Counted { cpu_us: Some(cpu_us), memory: Some(memory), disk, net: None }
    }

    /// Thousandths of time and bytes in use.
    fn look_at_gpus(&mut self) -> Option<(u64, u64)> {
        if self.gpus.is_empty() {
            return None;
        }
        if self.library.is_none() {
            self.library = gpu::open(0, self.gpu_library.as_deref()).ok();
        }
        self.library.as_ref()?.use_of(&self.gpus)
    }
}

/// What was used between two looks. A counter that went back, as when a group was made anew, tells nothing.
fn rates(before: &Counted, now: &Counted, time: Duration) -> Used {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let each_second = |before: u64, now: u64| Some(now.checked_sub(before)?.saturating_mul(1000) / millis);
    let pair = |before: Option<(u64, u64)>, now: Option<(u64, u64)>| match (before, now) {
        (Some(before), Some(now)) => (each_second(before.0, now.0), each_second(before.1, now.1)),
        _ => (None, None),
    };
    let (disk_read, disk_written) = pair(before.disk, now.disk);
    let (net_in, net_out) = pair(before.net, now.net);
    let cpu = before.cpu_us.zip(now.cpu_us).and_then(|(before, now)| now.checked_sub(before));
    Used { cpu_milli: cpu.map(|us| us / millis), memory: now.memory, disk_read, disk_written, net_in, net_out, ..Used::default() }
}

fn carries(folder: &Path, mark: &str) -> bool {
    let environment = std::fs::read(folder.join("environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

/// The number of a line `name number`, of a file of such lines.
fn line(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix([' ', ':'])?.trim().parse().ok())
}

/// Source: the kernel's cgroup-v2 document: `usage_usec` of `cpu.stat`. The first version's file of that name has no such line.
fn of_v2_cpu(stat: Option<String>) -> Option<u64> {
    line(&stat?, "usage_usec")
}

/// Source: the kernel's document of cpuacct: nanoseconds.
fn of_v1_cpu(usage: Option<String>) -> Option<u64> {
    Some(usage?.trim().parse::<u64>().ok()? / 1000)
}

fn without_cache(usage: Option<String>, stat: Option<String>, cache: &str) -> Option<u64> {
    let usage: u64 = usage?.trim().parse().ok()?;
    Some(usage.saturating_sub(line(&stat?, cache)?))
}

/// Ticks of a process and of those that it waited for.
///
/// Source: proc_pid_stat(5), fields 14 to 17: utime, stime, cutime, cstime.
fn of_stat(text: &str) -> Option<u64> {
    // The name is in parentheses and may hold anything.
    let fields = text.rsplit_once(") ")?.1.split(' ').skip(11).take(4);
    fields.map(|field| field.parse::<u64>().ok()).sum()
}

/// Pages that are a process's own: resident, without those of files and shared memory.
///
/// Source: proc_pid_statm(5), fields 2 and 3.
fn of_statm(text: &str) -> Option<u64> {
    let mut fields = text.split(' ').skip(1).map(|field| field.trim().parse::<u64>().ok());
    let (resident, shared) = (fields.next()??, fields.next()??);
    Some(resident.saturating_sub(shared))
}

/// Bytes that a process and those that it waited for caused to be read from and written to disks.
///
/// Source: proc_pid_io(5).
fn of_io(text: &str) -> Option<(u64, u64)> {
    Some((line(text, "read_bytes")?, line(text, "write_bytes")?))
}

/// Bytes in and out of all devices but the loop.
///
/// Source: proc_pid_net(5), `dev`: eight columns of what came and eight of what left, bytes first.
fn of_devices(text: &str) -> Option<(u64, u64)> {
    let mut sum = (0u64, 0u64);
    for line in text.lines().skip(2) {
        let (name, columns) = line.split_once(':')?;
        if name.trim() == "lo" {
            continue;
        }
        let mut columns = columns.split_whitespace().map(|column| column.parse::<u64>().ok());
        sum.0 = sum.0.saturating_add(columns.next()??);
        sum.1 = sum.1.saturating_add(columns.nth(7)??);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn control_groups_of_both_versions_tell_processors_and_memory() {
        assert_eq!(of_v2_cpu(text("usage_usec 1500000\nuser_usec 1200000\nsystem_usec 300000\nnr_periods 0\n")), Some(1_500_000));
        assert_eq!(of_v2_cpu(text("nr_periods 0\nnr_throttled 0\nthrottled_time 0\n")), None, "the first version's cpu.stat");
        assert_eq!(of_v1_cpu(text("1500000000\n")), Some(1_500_000));
        let v2 = "anon 200\nfile 90\ninactive_file 60\nactive_file 30\n";
        assert_eq!(without_cache(text("300\n"), text(v2), "inactive_file"), Some(240));
        let v1 = "cache 90\ninactive_file 1\ntotal_cache 90\ntotal_inactive_file 60\n";
        assert_eq!(without_cache(text("300\n"), text(v1), "total_inactive_file"), Some(240));
        assert_eq!(without_cache(None, text(v1), "total_inactive_file"), None);
    }

    #[test]
    fn processes_tell_what_they_and_their_children_used() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 5 0 0 0 7 3 20 10 20 0 1 0 99 0 0";
        assert_eq!(of_stat(stat), Some(40));
        assert_eq!(of_statm("2000 900 300 10 0 700 0\n"), Some(600));
        let io = "rchar: 9\nwchar: 9\nsyscr: 1\nsyscw: 1\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n";
        assert_eq!(of_io(io), Some((4096, 8192)));
        for broken in ["", "42 (x", "42 (x) S 1"] {
            assert_eq!((of_stat(broken).unwrap_or(0), of_statm(broken), of_io(broken)), (0, None, None));
        }
    }

    #[test]
    fn the_loop_is_no_network() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n\
            \x20   lo: 500 1 0 0 0 0 0 0 500 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 70 1 0 0 0 0 0 0\n  eth1:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(of_devices(text), Some((101, 72)));
    }

    #[test]
    fn rates_are_of_the_time_between_and_what_goes_back_tells_nothing() {
        let before = Counted { cpu_us: Some(1_000_000), memory: Some(5), disk: Some((0, 10)), net: None };
        let now = Counted { cpu_us: Some(4_000_000), memory: Some(7), disk: Some((4_000, 9)), net: Some((1, 1)) };
        let used = rates(&before, &now, Duration::from_secs(2));
        let expected = Used { cpu_milli: Some(1_500), memory: Some(7), disk_read: Some(2_000), ..Used::default() };
        assert_eq!(used, expected);
    }

    #[test]
    fn this_process_is_seen_to_compute() {
        let mut meter = Meter { mark: None, ..Meter::of_nothing() };
        assert_eq!(meter.look(AttemptUid(uuid::Uuid::nil()), time::Duration::ZERO), None, "others are measured from the first");
        let began = Instant::now();
        while began.elapsed() < SHORTEST + Duration::from_millis(200) {
            std::hint::black_box(began.elapsed());
        }
        let sample = meter.look(AttemptUid(uuid::Uuid::nil()), time::Duration::ZERO).expect("a sample");
        assert!(sample.used.cpu_milli > Some(0) && sample.used.memory > Some(0), "{sample:?}");
        assert_eq!(sample.used.net_in, None);
    }
}
