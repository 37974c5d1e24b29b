//! A client of NFS version 3 behind FUSE: what mounts a file server where the kernel has no client that leads there.
//!
//! In: which directory of which file server, where to, and how to get there ([`Order`]). Out: a file system that behaves as the kernel's
//! would: what is closed is with the server, what is opened is looked at anew, `fsync` means the server's disk, an open file that is
//! removed stays readable, and a server that is away is waited for so long and not longer. Calls run side by side on one connection, which
//! is made again when it breaks. Locks are not known here, and refused rather than granted to one node alone.
//!
//! Whoever may do what is checked by the node's kernel, which knows all groups of a process; the server is spoken to as root, and what is
//! made belongs to whoever made it.

mod attributes;
mod calls;
mod dial;
mod folders;
mod inodes;
mod link;
mod options;
mod system;
mod unstable;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::agent::isolate;
use calls::Calls;
use link::Link;

pub(super) use dial::Way;
pub(super) use options::Options;

/// The hidden subcommand of this binary that is the client.
pub(super) const SUBCOMMAND: &str = "mount-nfs";

/// The variable in which it finds its [`Order`].
pub(super) const VARIABLE: &str = "BATCHYARD_NFS";

/// The type by which the kernel's table of mounts shows it.
const TYPE: &str = "batchyard-nfs";

/// What to mount. Holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// How the file server is reached.
    pub(super) way: Way,
    /// The server's name, for people.
    pub(super) name: String,
    /// The directory.
    pub(super) directory: String,
    /// Where it is to be.
    pub(super) target: PathBuf,
    /// How.
    pub(super) options: Options,
}

/// Mounts what the order in [`VARIABLE`] says, and serves it until it is unmounted.
///
/// # Errors
/// The directory cannot be had, or not be mounted.
pub fn mount() -> io::Result<()> {
    isolate::keep_memory_private()?;
    #[allow(clippy::disallowed_methods)] // not a setting: it is how a secret is handed over that no argument may hold
    let order = std::env::var(VARIABLE).map_err(io::Error::other)?;
    let order: Order = serde_json::from_str(&order)?;
    let name = format!("{}:{}", order.name, order.directory);
    let calls = Calls::new(Link::new(order.way.clone(), order.options.patience(), name.clone()));
    let root = calls::find_directory(&order.way, &calls, &order.directory, order.options.patience())?;
    let system = system::System::open(calls, root, &order.options)?;
    let mut config = fuser::Config::default();
    config.mount_options = vec![
        fuser::MountOption::FSName(name),
        fuser::MountOption::Subtype(TYPE.into()),
        fuser::MountOption::DefaultPermissions,
        fuser::MountOption::NoDev,
        fuser::MountOption::NoSuid,
        if order.options.read_only { fuser::MountOption::RO } else { fuser::MountOption::RW },
    ];
    config.acl = fuser::SessionACL::All;
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    fuser::mount(system, &order.target, &config)
}

/// Calls that are under way at once.
const THREADS: usize = 16;
