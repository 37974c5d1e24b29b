//! Limits of nodes, as control groups: of the second version, of the first, or of both at once as hybrid hosts have them.
//!
//! A node has one group in each hierarchy, below `batchyard-{owner}`, with two groups in it: `init` for its first process and the
//! agent, `jobs` for what they run, so that what jobs use up is not missing where they are ended. A hierarchy or controller that
//! is missing is said once and done without.

mod limits;
mod member;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::domain::machine::Size;
use crate::driver::local::layout::{Device, at};

pub(super) use member::NodeGroup;

/// Controllers of the first version that are used, where they are mounted. `freezer` has no limit; it is for ending.
const CONTROLLERS: [&str; 5] = ["memory", "pids", "cpu", "devices", "freezer"];

/// The hierarchies of this host.
#[derive(Clone, Debug)]
pub(super) struct Cgroups {
    /// Name of our group below each hierarchy.
    base: String,
    hierarchies: Vec<Hierarchy>,
    /// Controllers that limit nodes here.
    limited: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    /// Controllers of the first version; none for the second.
    v1: Vec<String>,
}

impl Hierarchy {
    fn is_v2(&self) -> bool {
        self.v1.is_empty()
    }

    /// A name for people and for the node's own view.
    fn name(&self) -> String {
        if self.is_v2() { "unified".to_owned() } else { self.v1.join(",") }
    }
}

impl Cgroups {
    /// Finds the hierarchies of this host and makes our group in each.
    pub(super) fn detect(owner: &str) -> Cgroups {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut groups = Cgroups { base: format!("batchyard-{owner}"), hierarchies: Vec::new(), limited: Vec::new() };
        for hierarchy in list_hierarchies(&mounts) {
            let base = hierarchy.mount.join(&groups.base);
            if let Err(error) = prepare(&hierarchy, &base) {
                tracing::warn!(cgroup.hierarchy = hierarchy.name(), error = %error, "nodes have no limits of this hierarchy");
                continue;
            }
            for controller in ["memory", "pids", "cpu"] {
                let here =
                    if hierarchy.is_v2() { enabled(&base, controller) } else { hierarchy.v1.iter().any(|c| c == controller) };
                if here {
                    groups.limited.push(controller);
                }
            }
            let _ = std::fs::remove_dir(base);
            groups.hierarchies.push(hierarchy);
        }
        for wanted in ["memory", "pids", "cpu"] {
            if !groups.limits(wanted) {
                tracing::warn!(cgroup.controller = wanted, "nodes are not limited: this host has no such controller for us");
            }
        }
        groups
    }

    /// None at all: for nodes that are plain processes.
    pub(super) fn none() -> Cgroups {
        Cgroups { base: String::new(), hierarchies: Vec::new(), limited: Vec::new() }
    }

    /// Whether nodes are limited by this controller.
    pub(super) fn limits(&self, controller: &str) -> bool {
        self.limited.contains(&controller)
    }

    /// Makes a node's groups with the limits of its size and these devices beside those of every node. Those of its jobs take hold once its first process has
    /// [settled](NodeGroup::settle).
    ///
    /// # Errors
    /// A group cannot be made. A limit that cannot be set is logged.
    pub(super) fn make(&self, machine: &str, size: &Size, devices: &[Device]) -> io::Result<Vec<NodeGroup>> {
        let mut groups = Vec::new();
        for hierarchy in &self.hierarchies {
            let node = hierarchy.mount.join(&self.base).join(machine);
            self.make_node_group(hierarchy, &node)?;
            let limits = limits::of_size(&hierarchy.v1, size, devices);
            // Before there are groups below: devices cannot be taken away afterwards.
            for (file, error) in limits::set(&node, &limits.node) {
                tracing::warn!(machine.name = machine, limit = file, error = %error, "a limit of a node is not set");
            }
            make_group(&node.join("init"))?;
            make_group(&node.join("jobs"))?;
            groups.push(NodeGroup { name: hierarchy.name(), node, is_v2: hierarchy.is_v2(), job_limits: limits.jobs });
        }
        Ok(groups)
    }

    /// Our own group may go at any moment with the last node of another call.
    fn make_node_group(&self, hierarchy: &Hierarchy, node: &Path) -> io::Result<()> {
        let base = hierarchy.mount.join(&self.base);
        let mut tries = 0;
        loop {
            make_group(&base)?;
            if hierarchy.is_v2() {
                enable(&base);
            }
            tries += 1;
            match make_group(node) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 10 => {}
                other => return other,
            }
        }
    }

    /// Whether nothing runs in a node's groups, as far as there are any.
    pub(super) fn is_empty(&self, machine: &str) -> bool {
        self.list_processes(machine).is_empty()
    }

    /// Ends everything in a node's groups and waits until nothing runs there.
    ///
    /// # Errors
    /// Something still runs at the deadline.
    pub(super) fn kill(&self, machine: &str, deadline: Instant) -> io::Result<()> {
        loop {
            if self.is_empty(machine) {
                return Ok(());
            }
            self.kill_once(machine);
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("processes of {machine} do not end")));
            }
            // Killed processes end soon, and the first version has no event that says so.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn kill_once(&self, machine: &str) {
        let node = |h: &Hierarchy| h.mount.join(&self.base).join(machine);
        if let Some(v2) = self.hierarchies.iter().find(|h| h.is_v2())
            && std::fs::write(node(v2).join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        // Frozen processes cannot start others while they are counted; the signal is delivered when they thaw.
        let freezer =
            self.hierarchies.iter().find(|h| h.v1.iter().any(|c| c == "freezer")).map(|h| node(h).join("freezer.state"));
        let freeze = |state: &str| freezer.as_ref().map(|file| std::fs::write(file, state));
        freeze("FROZEN");
        crate::driver::local::process::kill_all(&self.list_processes(machine));
        freeze("THAWED");
    }

    fn list_processes(&self, machine: &str) -> Vec<i32> {
        let mut pids: Vec<i32> = Vec::new();
        for hierarchy in &self.hierarchies {
            let node = hierarchy.mount.join(&self.base).join(machine);
            list_inside(&node, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Removes a node's groups. None there is no error.
    ///
    /// # Errors
    /// One is still in use at the deadline.
    pub(super) fn remove(&self, machine: &str, deadline: Instant) -> io::Result<()> {
        for hierarchy in &self.hierarchies {
            let node = hierarchy.mount.join(&self.base).join(machine);
            for group in [node.join("init"), node.join("jobs"), node] {
                remove_group(&group, deadline)?;
            }
            // Our own group goes with the last node; the next one makes it again.
            let _ = std::fs::remove_dir(hierarchy.mount.join(&self.base));
        }
        Ok(())
    }
}

/// The hierarchies in a `mountinfo` that are of use to us.
fn list_hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut fields = right.split(' ');
        let (kind, options) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
        let v1: Vec<String> = match kind {
            "cgroup2" => Vec::new(),
            "cgroup" => options.split(',').filter(|o| CONTROLLERS.contains(o)).map(str::to_owned).collect(),
            _ => continue,
        };
        if kind == "cgroup" && v1.is_empty() {
            continue;
        }
        if !found.iter().any(|h| h.v1 == v1) {
            found.push(Hierarchy { mount, v1 });
        }
    }
    found
}

/// Shows that groups may be made in a hierarchy, and turns its controllers on.
fn prepare(hierarchy: &Hierarchy, base: &Path) -> io::Result<()> {
    if hierarchy.is_v2() {
        enable(&hierarchy.mount);
    }
    make_group(base)?;
    if hierarchy.is_v2() {
        enable(base);
    }
    Ok(())
}

/// Turns the controllers that are used on for the groups below one of the second version. Those that are not there stay off.
fn enable(group: &Path) {
    for controller in ["memory", "pids", "cpu"] {
        if !enabled(group, controller) {
            let _ = std::fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

fn enabled(group: &Path, controller: &str) -> bool {
    let text = std::fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
    text.split_whitespace().any(|c| c == controller)
}

fn make_group(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at("make", path)(error)),
        _ => Ok(()),
    }
}

fn remove_group(path: &Path, deadline: Instant) -> io::Result<()> {
    loop {
        match std::fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(at("remove", path)(error)),
            // Busy for a moment after its last process ended, or because someone made groups of their own in it.
            Err(_) => remove_inner(path),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Processes in a group and in those below it: containers have groups of their own there.
fn list_inside(group: &Path, pids: &mut Vec<i32>) {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list_inside(&entry.path(), pids);
        }
    }
}

fn remove_inner(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_inner(&entry.path());
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_hosts_have_both_versions() {
        let mounts = "\
30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
35 30 0:28 / /mnt/again rw - cgroup cgroup rw,memory";
        let found = list_hierarchies(mounts);
        let names: Vec<_> = found.iter().map(Hierarchy::name).collect();
        assert_eq!(names, ["cpu", "memory", "unified"]);
        assert_eq!(found[0].mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
    }
}
