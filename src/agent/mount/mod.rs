//! What the node mounts, and what its jobs do: storage below the documented roots.
//!
//! In: mounts that should be there. Out: a keeper for each ([`keep_mount`]), and how far they are. A cluster's mounts are at their places
//! in the node's own view; a job's are in a folder that jobs do not see, from where its supervisor shows them to it alone. Keepers and
//! mounts outlive the agent; the next one finds them, and takes away what nobody keeps any more.

mod cache;
mod keep;
mod plan;
mod program;
mod relay;
mod table;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::agent::beneath::{open_trusted, remove_tree};
use crate::agent::layout::Roots;
use crate::agent::node::Heard;
use crate::agent::part::{Happening, Kind, Running, find_running};
use crate::agent::protocol::Mount;
use crate::agent::record::{Folder, Record, Told, find_private, write_private};
use crate::domain::attempt::{AssignmentState, End};
use crate::domain::bootstrap::{AgentBootstrap, Isolation};
use crate::domain::resource::EntityError;
use crate::id::AttemptUid;
use crate::task::Tasks;
use keep::Hold;

pub use keep::keep_mount;

/// Folders of keepers, in the agent's own folder.
const FOLDER: &str = "mounts";

/// In a keeper's folder: where its mount is, and how many there are without it.
const PLACE: &str = "place.json";

/// In a keeper's folder: what its program keeps.
const CACHE: &str = "cache";

/// In a keeper's folder: where a job's mount is.
const VIEW: &str = "view";

/// Longest time until what jobs wrote is with the storage once they have ended.
const WRITE: Duration = Duration::from_secs(120);

/// A keeper that has not ended this long after that is ended by force.
const OVERDUE: Duration = Duration::from_secs(15);

/// Time until a mount that broke is made again.
const AGAIN: Duration = Duration::from_secs(5);

/// The code of an error where a node has no mounts of its own.
const NOT_HERE: &str = "MountNotSupported";

/// Whose mounts they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// Of the node.
    Node,
    /// Of a part of an attempt.
    Part(AttemptUid),
}

/// One of the mounts of an owner.
pub(super) type Name = (Owner, usize);

fn folder_name((owner, index): Name) -> String {
    match owner {
        Owner::Node => format!("node-{index}"),
        Owner::Part(attempt) => format!("{attempt}-{index}"),
    }
}

fn name_of(path: &Path) -> Option<Name> {
    let (owner, index) = path.file_name()?.to_str()?.rsplit_once('-')?;
    let owner = match owner {
        "node" => Owner::Node,
        attempt => Owner::Part(AttemptUid(uuid::Uuid::try_parse(attempt).ok()?)),
    };
    Some((owner, index.parse().ok()?))
}

/// How far the mounts of an owner are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Some are not there yet.
    Pending,
    /// All are there.
    Ready,
    /// One cannot be.
    Failed(EntityError),
}

/// Where a mount is.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Place {
    target: PathBuf,
    below: usize,
}

/// A keeper, or what is left of one.
struct Held {
    path: PathBuf,
    place: Place,
    running: Option<Running>,
    record: Record,
    /// Whether it was told to end, and when it is ended by force.
    kill_at: Option<Instant>,
    /// Whether it was there once.
    was_there: bool,
    /// Not made again before this.
    again_at: Option<Instant>,
}

/// All mounts of the node.
pub(super) struct Mounts {
    folder: PathBuf,
    isolation: Isolation,
    held: BTreeMap<Name, Held>,
    tasks: Tasks,
    heard: UnboundedSender<Heard>,
}

impl Mounts {
    /// Mounts as an earlier agent left them: kept ones go on, others are taken away.
    ///
    /// # Errors
    /// The agent's own folder cannot be read or written.
    pub(super) fn recover(bootstrap: &AgentBootstrap, tasks: Tasks, heard: UnboundedSender<Heard>) -> io::Result<Mounts> {
        let folder = bootstrap.state_dir.join(FOLDER);
        let isolation = bootstrap.isolation;
        let mut mounts = Mounts { folder, isolation, held: BTreeMap::new(), tasks, heard };
        if !isolation.has_root() {
            return Ok(mounts);
        }
        std::fs::create_dir_all(&mounts.folder)?;
        let mut running: BTreeMap<PathBuf, Running> =
            find_running(Kind::Keeper, &mounts.folder, isolation)?.into_iter().collect();
        for entry in std::fs::read_dir(&mounts.folder)? {
            let path = entry?.path();
            let place: Option<Place> = find_private(&path.join(PLACE));
            match (name_of(&path), place, running.remove(&path)) {
                (Some(name), Some(place), Some(keeper)) => {
                    let record = Folder::open(&path)?.find_record().unwrap_or_else(Record::new);
                    let was_there = record.state >= AssignmentState::Running;
                    let held = Held { path, place, running: None, record, kill_at: None, was_there, again_at: None };
                    mounts.adopt(name, held, keeper)?;
                }
                (Some(name), Some(place), None) => {
                    tracing::warn!(place = %place.target.display(), "a mount that nobody keeps is taken away");
                    table::detach(&place.target, place.below)?;
                    let record = Record { end: Some(End::Lost { why: "Nobody kept it.".into() }), ..Record::new() };
                    // What its program had not written yet is there for the next one.
                    let held = Held { path, place, running: None, record, kill_at: None, was_there: true, again_at: None };
                    mounts.held.insert(name, held);
                }
                (_, _, keeper) => {
                    if let Some(keeper) = keeper {
                        keeper.kill()?;
                    }
                    mounts.remove_folder(&path)?;
                }
            }
        }
        Ok(mounts)
    }

    fn adopt(&mut self, name: Name, mut held: Held, keeper: Running) -> io::Result<()> {
        keeper.watch(&self.tasks, &held.path, self.heard.clone(), move |happening| Heard::Mount(name, happening))?;
        held.running = Some(keeper);
        self.held.insert(name, held);
        Ok(())
    }

    /// Makes what is not there of what an owner should have. Answers how far it is.
    pub(super) fn want(
        &mut self,
        owner: Owner,
        wanted: &[Mount],
        roots: &Roots,
        bootstrap: &AgentBootstrap,
        now: Instant,
    ) -> Progress {
        if wanted.is_empty() {
            return Progress::Ready;
        }
        if !self.isolation.has_root() {
            let places: Vec<&str> = wanted.iter().map(|mount| mount.place.as_str()).collect();
            let message = format!(
                "This node is a process group without mounts of its own, so that it cannot mount {}. Nodes that are separated by namespaces \
                 can: the server needs the rights to make them.",
                places.join(", ")
            );
            return Progress::Failed(EntityError::new(NOT_HERE, message).with_detail("nodeId", bootstrap.node_id.clone()));
        }
        for (index, mount) in wanted.iter().enumerate() {
            let name = (owner, index);
            let is_due = match self.held.get(&name) {
                None => true,
                Some(held) => held.running.is_none() && held.was_there && held.again_at.is_none_or(|at| at <= now),
            };
            if is_due && let Err(error) = self.start(name, mount, roots, bootstrap) {
                let message = format!("The node's agent cannot start what keeps the mount {}: {error}.", mount.place);
                return Progress::Failed(EntityError::new(NOT_HERE, message));
            }
        }
        let mut progress = Progress::Ready;
        for index in 0..wanted.len() {
            match self.held.get(&(owner, index)).map(|held| (&held.record.end, held.record.state)) {
                Some((Some(End::SetupFailed { error }), _)) => return Progress::Failed(error.clone()),
                Some((None, AssignmentState::Running)) => {}
                _ => progress = Progress::Pending,
            }
        }
        progress
    }

    fn start(&mut self, name: Name, mount: &Mount, roots: &Roots, bootstrap: &AgentBootstrap) -> io::Result<()> {
        let path = self.folder.join(folder_name(name));
        let before = self.held.remove(&name);
        if let Some(held) = &before {
            table::detach(&held.place.target, held.place.below)?;
        }
        // What a program before this one had not written yet is written by this one.
        let cache = path.join(CACHE);
        let kept = self.folder.join(format!(".{}", folder_name(name)));
        if cache.exists() {
            std::fs::rename(&cache, &kept)?;
        }
        self.remove_folder(&path)?;
        let folder = Folder::create(&path)?;
        if kept.exists() {
            std::fs::rename(&kept, &cache)?;
        }
        let (target, below) = match name.0 {
            Owner::Node => (roots.mounts.join(&mount.place), usize::from(roots.shares.contains(&mount.place))),
            Owner::Part(_) => (path.join(VIEW), 0),
        };
        let place = Place { target: target.clone(), below };
        write_private(&path.join(PLACE), &place)?;
        let hold = Hold {
            mount: mount.clone(),
            target,
            below,
            cache,
            user: bootstrap.job_user.clone(),
            gate: bootstrap.gate.clone(),
            commands: bootstrap.mount_commands,
            node_id: bootstrap.node_id.clone(),
        };
        let keeper = Running::start(Kind::Keeper, self.isolation, &path, &hold)?;
        drop(folder);
        let was_there = before.is_some_and(|held| held.was_there);
        let held = Held { path, place, running: None, record: Record::new(), kill_at: None, was_there, again_at: None };
        self.adopt(name, held, keeper)
    }

    /// Where the mounts of an owner are, for the agent and for a supervisor that starts now.
    pub(super) fn views(&self, owner: Owner) -> Vec<PathBuf> {
        self.held.range((owner, 0)..=(owner, usize::MAX)).map(|(_, held)| held.place.target.clone()).collect()
    }

    /// Takes in what happened to a keeper.
    pub(super) fn heard(&mut self, name: Name, happening: Happening, now: Instant) {
        let Some(held) = self.held.get_mut(&name) else { return };
        match happening {
            Happening::Record(record) => {
                held.was_there |= record.state == AssignmentState::Running;
                held.record = record;
            }
            Happening::Gone => {
                if let Some(keeper) = held.running.take() {
                    keeper.reap();
                }
                if let Some(record) = Folder::open(&held.path).ok().and_then(|folder| folder.find_record()) {
                    held.was_there |= record.state >= AssignmentState::Running;
                    held.record = record;
                }
                if let Err(error) = table::detach(&held.place.target, held.place.below) {
                    tracing::error!(place = %held.place.target.display(), %error, "a mount cannot be taken away");
                }
                if held.kill_at.take().is_some() {
                    if let Some(End::Lost { why }) = &held.record.end {
                        tracing::warn!(place = %held.place.target.display(), why, "a mount did not end well");
                    }
                    self.forget(name);
                    return;
                }
                let end = held.record.end.get_or_insert_with(|| End::Lost { why: "Its keeper was ended from outside.".into() });
                if held.was_there {
                    tracing::warn!(place = %held.place.target.display(), ?end, "a mount broke");
                    held.again_at = Some(now + AGAIN);
                }
            }
        }
    }

    fn forget(&mut self, name: Name) {
        if let Some(held) = self.held.remove(&name)
            && let Err(error) = self.remove_folder(&held.path)
        {
            tracing::warn!(path = %held.path.display(), %error, "the folder of a mount cannot be removed");
        }
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let Some(name) = path.file_name() else { return Ok(()) };
        remove_tree(open_trusted(&self.folder)?.as_fd(), name)
    }

    /// Ends the mounts of all parts but those that `stay`.
    pub(super) fn keep_only(&mut self, stay: impl Fn(AttemptUid) -> bool, now: Instant) {
        let gone: Vec<Name> =
            self.held.keys().filter(|(owner, _)| matches!(owner, Owner::Part(attempt) if !stay(*attempt))).copied().collect();
        for name in gone {
            self.end(name, now);
        }
    }

    fn end(&mut self, name: Name, now: Instant) {
        let Some(held) = self.held.get_mut(&name) else { return };
        match &mut held.running {
            None => self.forget(name),
            Some(_) if held.kill_at.is_some() => {}
            Some(keeper) => {
                // One that is not there yet has nothing to write.
                let time = if held.record.state == AssignmentState::Running { WRITE } else { Duration::ZERO };
                let told = Told::Stop { grace_ms: u32::try_from(time.as_millis()).unwrap_or(u32::MAX) };
                held.kill_at = Some(now + time + OVERDUE);
                if let Err(error) = keeper.tell(told) {
                    tracing::warn!(%error, "a keeper does not listen");
                }
            }
        }
    }

    /// Whether a part has no mounts, or none any more.
    pub(super) fn is_free(&self, attempt: AttemptUid) -> bool {
        self.held.range((Owner::Part(attempt), 0)..=(Owner::Part(attempt), usize::MAX)).next().is_none()
    }

    /// Ends by force what is overdue. Answers when there is something to do next.
    pub(super) fn end_overdue(&mut self, now: Instant) -> Option<Instant> {
        for held in self.held.values_mut() {
            if let Some(keeper) = held.running.as_ref().filter(|_| held.kill_at.is_some_and(|at| at <= now)) {
                tracing::warn!(place = %held.place.target.display(), "a keeper does not stop in time: it is ended by force");
                held.kill_at = Some(now + OVERDUE);
                if let Err(error) = keeper.kill() {
                    tracing::error!(%error, "a keeper cannot be ended");
                }
            }
        }
        self.held.values().flat_map(|held| [held.kill_at, held.again_at.filter(|at| *at > now)]).flatten().min()
    }

    /// Whether one of the node's own broke and is to be made again now.
    pub(super) fn is_to_mend(&self, now: Instant) -> bool {
        let mut own = self.held.range((Owner::Node, 0)..=(Owner::Node, usize::MAX));
        own.any(|(_, held)| held.running.is_none() && held.again_at.is_some_and(|at| at <= now))
    }

    /// Whether anything is mounted, or was to be.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Caches of the node's own mounts, which outlive a job that wrote to them.
    pub(super) fn caches(&self) -> Vec<PathBuf> {
        let own = self.held.range((Owner::Node, 0)..=(Owner::Node, usize::MAX));
        own.filter(|(_, held)| held.running.is_some())
            .map(|(_, held)| held.path.join(CACHE))
            .filter(|path| path.exists())
            .collect()
    }
}

/// Waits until all that is in `caches` is with its storage. Blocks.
///
/// # Errors
/// How many files are not, at the end of the time.
pub(super) fn wait_written(caches: &[PathBuf]) -> Result<(), usize> {
    let until = Instant::now() + WRITE;
    let mut left = 0;
    for cache in caches {
        left += cache::wait_written(cache, until.saturating_duration_since(Instant::now())).err().unwrap_or(0);
    }
    if left == 0 { Ok(()) } else { Err(left) }
}
