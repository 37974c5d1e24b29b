//! What a file server exports, and the process that keeps it exported.
//!
//! In: the file server's disk, mounted, and the key of its passes. Out: the disk over NFS, by the kernel where it is the file server's own
//! and can, else by the NFS-Ganesha of the node's programs; and, where the node's network leads nowhere, a door: a socket at which connections to it are handed to
//! whoever shows a pass. The keeper outlives the agent, starts again what ends, and ends with the node.

mod door;
mod ganesha;
mod kernel;
mod view;

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::agent::isolate;
use crate::agent::protocol::Export;
use crate::agent::record::{find_private, hand_over, take_over, write_private};
use crate::domain::bootstrap::Store;
use crate::domain::resource::EntityError;

/// The hidden subcommand of this binary that keeps the disk exported.
const SUBCOMMAND: &str = "keep-export";

/// In its folder: held by the keeper.
const LOCK: &str = "lock";

/// In its folder: how far it is, [`State`].
const STATE: &str = "state.json";

/// Time between two looks at how far it is.
const LOOKS: Duration = Duration::from_millis(50);

/// Time between two looks whether the keeper is there, once it exports.
const WATCH: Duration = Duration::from_secs(5);

/// The code of a file server's error where nothing is exported.
const FAILED: &str = "FileServerExportFailed";

/// What the keeper is told. Holds a secret.
#[derive(Clone, Serialize, Deserialize)]
struct Order {
    store: Store,
    key: String,
}

/// How far the keeper is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It exports.
    Ready,
    /// It cannot, for this reason.
    Failed(String),
}

/// How far the export is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is begun.
    Pending,
    /// It is there.
    Ready,
    /// It cannot be.
    Failed(EntityError),
}

/// What the file server exports, from the agent's side.
pub(super) struct Exports {
    store: Option<Store>,
    keeper: Option<Child>,
    look_at: Option<Instant>,
}

impl Exports {
    /// The export of the node that has this disk, if it has one; as yet unlooked at.
    pub(super) fn new(store: Option<Store>) -> Exports {
        Exports { store, keeper: None, look_at: None }
    }

    /// Has the disk exported. Answers how far that is.
    pub(super) fn want(&mut self, export: &Export, now: Instant) -> Progress {
        let Some(store) = self.store.clone() else {
            return failed("This machine has no disk to export.");
        };
        self.look_at = Some(now + LOOKS);
        if let Err(error) = self.ensure_kept(&store, &export.key) {
            return failed(&format!("What keeps the disk exported cannot be started: {error}."));
        }
        match find_private(&store.run.join(STATE)) {
            None => Progress::Pending,
            Some(State::Ready) => {
                self.look_at = Some(now + WATCH);
                Progress::Ready
            }
            Some(State::Failed(why)) => failed(&why),
        }
    }

    /// When it is looked at again, if it is.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Starts a keeper unless there is one, ours or of an earlier agent.
    fn ensure_kept(&mut self, store: &Store, key: &str) -> io::Result<()> {
        if let Some(keeper) = &mut self.keeper {
            if keeper.try_wait()?.is_none() {
                return Ok(());
            }
            self.keeper = None;
        }
        std::fs::create_dir_all(&store.run)?;
        std::fs::set_permissions(&store.run, std::fs::Permissions::from_mode(0o700))?;
        if hold(&store.run)?.is_none() {
            return Ok(());
        }
        let _ = std::fs::remove_file(store.run.join(STATE));
        let log = File::options().create(true).append(true).open(store.run.join("log"))?;
        let keeper = Command::new("/proc/self/exe")
            .arg(SUBCOMMAND)
            .current_dir("/")
            .stdin(Stdio::from(hand_over(&Order { store: store.clone(), key: key.to_owned() })?))
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        self.keeper = Some(keeper);
        Ok(())
    }
}

fn failed(why: &str) -> Progress {
    Progress::Failed(EntityError::new(FAILED, why))
}

/// The keeper's lock, where nobody has it.
fn hold(run: &Path) -> io::Result<Option<File>> {
    let lock = File::create(run.join(LOCK))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Keeps exported what is handed over as standard input, until the node ends. Returns at once where another process does.
///
/// # Errors
/// There is nothing handed over, or the door cannot be made.
pub fn keep() -> io::Result<()> {
    isolate::keep_memory_private()?;
    let _ = rustix::process::setsid();
    let order: Order = take_over()?;
    let run: PathBuf = order.store.run.clone();
    let Some(_held) = hold(&run)? else { return Ok(()) };
    let serves = Arc::new(AtomicBool::new(order.store.own_kernel));
    if let Some(folder) = &order.store.door {
        door::open(folder, order.store.address, order.key, Arc::clone(&serves))?;
    }
    let state = run.join(STATE);
    let say = |how| {
        let how = match how {
            Ok(()) => State::Ready,
            Err(why) => State::Failed(why),
        };
        let _ = write_private(&state, &how);
    };
    if order.store.own_kernel { kernel::keep(&order.store, say) } else { ganesha::keep(&order.store, &serves, say) }
}
