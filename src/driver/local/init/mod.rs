//! The first process of a node.
//!
//! In: the path of its spec as argument, and as standard input the server that starts it. It writes itself down, makes the node's
//! root, gives up what it does not need, and from then on keeps the agent running and reaps what is left behind. The node ends
//! with it. It outlives the server, and asks nobody for anything.

mod account;
mod gate;
mod keep;
mod root;
mod shed;

use std::fs::File;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::process::{Resource, Rlimit};
use rustix::thread::CapabilitySet;

use crate::domain::bootstrap::Isolation;
use crate::driver::local::cgroup::NodeGroup;
use crate::driver::local::disk;
use crate::driver::local::init::gate::Beyond;
use crate::driver::local::layout::{self, NodeFolder, NodeSpec, Running, at};
use crate::driver::local::process::Identity;
use crate::driver::local::start::Parent;

/// How much sooner the kernel takes memory from a node than from the server and its database when the host runs out of it.
/// Range: -1000 to 1000; children inherit it.
const OOM_SCORE: &str = "200";

/// Is a node's first process until the node ends.
///
/// # Errors
/// The node could not be made; the server has heard why.
pub fn node_init(spec_path: &Path) -> io::Result<()> {
    let mut parent = Parent::receive()?;
    let made = make_node(spec_path, &mut parent);
    match made {
        // What is held is held as long as this process lives.
        Ok((spec, _held)) => keep::keep_running(&spec, &mut parent),
        Err(error) => {
            parent.say_failed(&error);
            Err(error)
        }
    }
}

fn make_node(spec_path: &Path, parent: &mut Parent) -> io::Result<(NodeSpec, Option<File>)> {
    let spec: NodeSpec = serde_json::from_slice(&std::fs::read(spec_path).map_err(at("read", spec_path))?)?;
    let folder = NodeFolder::new(spec_path.parent().unwrap_or(Path::new("/")).to_owned());
    // Signals to the server's terminal are not for nodes.
    let _ = rustix::process::setsid();
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));

    use std::os::fd::AsRawFd;
    let running = Running { identity: Identity::of_self()?, fabric_fd: parent.fabric.as_ref().map(AsRawFd::as_raw_fd) };
    layout::write_json(&folder.running(), &running)?;
    parent.say_written();

    // While this process sees the host: one thread of it stays there.
    let gate = parent
        .outside
        .take()
        .filter(|_| !spec.in_host_network)
        .map(|outside| gate::start(outside, Beyond::of(&spec)))
        .transpose()?;
    let held = match spec.isolation {
        Isolation::Namespaces | Isolation::VirtualMachine => {
            // Before it is in groups that may open no devices.
            let held = match (spec.disk.as_deref(), &spec.shell) {
                (Some(disk), None) => Some(root::mount_disk(disk, &folder)?),
                (Some(disk), Some(_)) => Some(disk::take(disk)?),
                (None, _) => None,
            };
            spec.groups.iter().try_for_each(NodeGroup::join)?;
            // What it is in now are the roots that the node sees.
            let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWCGROUP;
            unshare(own)?;
            for group in &spec.groups {
                for (limit, error) in group.settle()? {
                    eprintln!("{limit} of jobs is not set: {error}");
                }
            }
            rustix::system::sethostname(layout::host_name(&spec.node_id).as_bytes())?;
            root::enter_root(&spec, &folder)?;
            if let Some(gate) = gate {
                let path = Path::new(layout::PRIVATE).join(layout::GATE);
                let _ = gate.send(UnixListener::bind(&path).map_err(at("make", &path))?);
            }
            let handles = if spec.disk.is_some() && spec.shell.is_none() { shed::BY_HANDLE } else { CapabilitySet::empty() };
            shed::shed_capabilities(handles)?;
            // Nothing of this process is for others in the node to see: its descriptors lead outside.
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
            held
        }
        Isolation::ProcessGroup => {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
            root::make_plain_folders(&spec, &folder)?;
            None
        }
    };
    Ok((spec, held))
}
