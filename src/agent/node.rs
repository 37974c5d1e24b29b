//! What is on the node: its setup, the parts of attempts that it has, and what happens to them.
//!
//! In: the desired state, and what supervisors and the kernel say. Out: processes that run or end, and what is known of each part.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use crate::agent::beneath::{open_folder, open_trusted, remove_contents, remove_tree};
use crate::agent::container::{self, Name};
use crate::agent::decide::{Action, Local, Said, decide};
use crate::agent::engine::Engines;
use crate::agent::export::{self, Exports};
use crate::agent::layout::{self, Home, Layout, MOUNTS, Place, Rank, STANDARD};
use crate::agent::meter::Meter;
use crate::agent::mount::{self, Mounts, Owner, Progress};
use crate::agent::part::{Happening, Kind, Running, find_running};
use crate::agent::process;
use crate::agent::protocol::{Assignment, Desired, Mount, Step};
use crate::agent::record::{Folder, Record, Told, name_once};
use crate::agent::sampler::Sampler;
use crate::agent::setup::Setup;
use crate::agent::ship::{Shipped, Shipper, add_to_log};
use crate::agent::start::{Starter, belongs_to};
use crate::agent::watch::Watch;
use crate::clock::{Clock, SystemClock};
use crate::domain::attempt::{AssignmentState, End};
use crate::domain::bootstrap::Isolation;
use crate::domain::health::Probe;
use crate::domain::machine::Setup as SetupState;
use crate::domain::resource::EntityError;
use crate::domain::sample::Sample;
use crate::id::AttemptUid;
use crate::task::Tasks;

/// Folders of parts, in the agent's own folder.
const PARTS: &str = "assignments";

/// In a part's folder: [`Plan`].
const PLAN: &str = "plan.json";

/// Begins the name of a part's folder that is being removed.
const REMOVED: &str = "removed-";

/// A supervisor that has not ended this long after its grace is ended by force.
const OVERDUE: Duration = Duration::from_secs(10);

/// Time until an engine is asked again that did not do what it was asked.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// More to read again than this is read beside the loop.
const LONG: u64 = 4 << 20;

/// Time between two looks at output on storage.
const LOOKS: Duration = Duration::from_secs(1);

/// Something that the loop is told.
pub(super) enum Heard {
    /// Of the supervisor of a part.
    Part(AttemptUid, Happening),
    /// Of the supervisor of the setup task.
    Setup(Happening),
    /// Nothing is left of a part that its supervisor left behind.
    Swept(AttemptUid),
    /// Of the keeper of a mount.
    Mount(mount::Name, Happening),
    /// What a part wrote to the node's mounts is with their storage, or so many files are not.
    Written(AttemptUid, Result<(), usize>),
    /// The output of a part was looked at, which took so long.
    Looked(AttemptUid, Box<Shipper>, Duration),
    /// All output of a part is known.
    Finished(AttemptUid, Box<Shipper>),
    /// Temporary folders are removed.
    Removed,
    /// It was looked what the node uses.
    Measured(Box<Meter>, Option<Sample>),
    /// The node is of no use any more.
    Broken(EntityError),
}

/// Where a part's files are. Holds no secret.
#[derive(Clone, Serialize, Deserialize)]
struct Plan {
    shipped: Vec<Shipped>,
    log: (Place, String),
    /// The job's own folders on this node's disk: what is in them is with the server in the end.
    local: Vec<Place>,
    /// The folder that it shares with the other nodes of its gang.
    #[serde(default)]
    shared: Option<PathBuf>,
    /// The container that it runs in.
    #[serde(default)]
    container: Option<Name>,
}

/// One part.
pub(super) struct Part {
    path: PathBuf,
    record: Record,
    running: Option<Running>,
    said: Said,
    kill_at: Option<Instant>,
    /// `None` while it is looked through beside the loop.
    shipper: Option<Shipper>,
    /// Whether its folders are there: its supervisor has said something.
    prepared: bool,
    /// Whether they are watched.
    watched: bool,
    log: Option<(Place, String)>,
    /// Folders that go with it.
    local: Vec<Place>,
    /// As in [`Plan`].
    shared: Option<PathBuf>,
    /// As in [`Plan`]. Until it is gone the part has not ended, whatever its supervisor said.
    container: Option<Name>,
    /// When its output is looked at next, where that is done beside the loop.
    look_at: Option<Instant>,
    /// Whether its end came while that was being done.
    ended_meanwhile: bool,
    /// What it wrote to the node's mounts.
    written: Written,
    /// How it ended, once nothing of it runs.
    end: Option<End>,
    /// Whether all its output is known.
    finished: bool,
    /// When it was heard to run.
    pub(super) running_since: Option<Instant>,
}

/// Whether what a part wrote is with the storage that the node has mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// Nobody asked.
    Unknown,
    /// It is waited for.
    Awaited,
    /// It is, or the wait is over.
    Known,
}

impl Part {
    fn new(path: PathBuf) -> Part {
        Part {
            path,
            record: Record::new(),
            running: None,
            said: Said::Nothing,
            kill_at: None,
            shipper: None,
            prepared: false,
            watched: false,
            log: None,
            local: Vec::new(),
            shared: None,
            container: None,
            look_at: None,
            ended_meanwhile: false,
            written: Written::Unknown,
            end: None,
            finished: false,
            running_since: None,
        }
    }

    /// A part of which nothing ever ran here.
    fn ended_at_once(path: PathBuf, end: End) -> Part {
        Part { end: Some(end), finished: true, ..Part::new(path) }
    }

    /// How far it is while it has not ended.
    pub(super) fn state(&self) -> AssignmentState {
        self.record.state.min(AssignmentState::Running)
    }

    /// When its command started.
    pub(super) fn started_at(&self) -> Option<crate::clock::Timestamp> {
        self.record.started_at
    }

    /// When it was known how it ends.
    pub(super) fn ended_at(&self) -> Option<crate::clock::Timestamp> {
        self.record.ended_at
    }

    /// How it ended, once nothing of it runs and all its output is known.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref().filter(|_| self.finished)
    }

    /// What ships its output.
    pub(super) fn shipper(&self) -> Option<&Shipper> {
        self.shipper.as_ref()
    }

    /// What ships its output.
    pub(super) fn shipper_mut(&mut self) -> Option<&mut Shipper> {
        self.shipper.as_mut()
    }

    fn local(&self) -> Local {
        Local { alive: self.end.is_none(), said: self.said }
    }

    fn heard(&mut self, record: Record) {
        self.prepared = true;
        if record.state == AssignmentState::Running && self.running_since.is_none() {
            self.running_since = Some(Instant::now());
        }
        if record.state >= self.record.state {
            self.record = record;
        }
    }
}

/// The node.
pub(super) struct Node {
    pub(super) starter: Starter,
    pub(super) parts: BTreeMap<AttemptUid, Part>,
    pub(super) watch: Watch,
    pub(super) sampler: Sampler,
    setup: Setup,
    engines: Engines,
    exports: Exports,
    mounts: Mounts,
    desired: Option<Desired>,
    state_dir: PathBuf,
    tasks: Tasks,
    heard: UnboundedSender<Heard>,
    removing: usize,
    /// What broke: from then on what fails here is the node's failure, and no job's.
    broken: Option<SetupState>,
}

impl Node {
    /// The node as an earlier agent left it. What runs goes on; what cannot be known to run never runs again.
    ///
    /// # Errors
    /// The agent's own folder cannot be read or written.
    pub(super) fn recover(starter: Starter, tasks: Tasks, heard: UnboundedSender<Heard>) -> io::Result<Node> {
        let state_dir = starter.bootstrap.state_dir.clone();
        let parts_dir = state_dir.join(PARTS);
        std::fs::create_dir_all(&parts_dir)?;
        // First, so that nothing can begin that is not seen to run below.
        let (mut folders, mut unbegun) = (Vec::new(), BTreeSet::new());
        for entry in std::fs::read_dir(&parts_dir)? {
            let path = entry?.path();
            let Some(attempt) = attempt_of(&path) else {
                remove_tree(open_trusted(&parts_dir)?.as_fd(), path.file_name().unwrap_or_default())?;
                continue;
            };
            if Folder::open(&path)?.take_ticket()? {
                tracing::info!(%attempt, "an earlier agent did not get so far as to start it");
                remove_tree(open_trusted(&parts_dir)?.as_fd(), path.file_name().unwrap_or_default())?;
                unbegun.insert(path);
            } else {
                folders.push((attempt, path));
            }
        }
        let mut running: BTreeMap<PathBuf, Running> =
            find_running(Kind::Supervisor, &state_dir, starter.bootstrap.isolation)?.into_iter().collect();
        let setup = Setup::recover(&state_dir, &starter.boot_id, &mut running)?;
        let mounts = Mounts::recover(&starter.bootstrap, tasks.clone(), heard.clone())?;
        let mut node = Node {
            mounts,
            watch: Watch::new()?,
            sampler: Sampler::new(Meter::new(&starter.bootstrap, starter.mark.as_deref())),
            parts: BTreeMap::new(),
            setup,
            engines: Engines::new(&starter.bootstrap),
            exports: Exports::new(starter.bootstrap.store.clone()),
            desired: None,
            state_dir,
            tasks,
            heard,
            removing: 0,
            broken: None,
            starter,
        };
        node.watch_setup()?;
        for (attempt, path) in folders {
            let found = running.remove(&path);
            node.recover_part(attempt, path, found)?;
        }
        for (path, supervisor) in running {
            supervisor.kill()?;
            let Some(attempt) = attempt_of(&path) else { continue };
            // One without a ticket only looks for it: it never begins, and another one was started or will be.
            if unbegun.contains(&path) || node.parts.contains_key(&attempt) {
                continue;
            }
            // Without a folder it is not known what it may have done: the attempt is never started again.
            tracing::warn!(%attempt, "a supervisor runs whose record is gone: it is ended");
            node.adopt(attempt, Part::new(path), supervisor)?;
        }
        Ok(node)
    }

    fn recover_part(&mut self, attempt: AttemptUid, path: PathBuf, found: Option<Running>) -> io::Result<()> {
        let folder = Folder::open(&path)?;
        let plan: Option<Plan> = folder.find_json(PLAN);
        let mut part = Part::new(path);
        part.shipper = Some(Shipper::new(attempt, plan.iter().flat_map(|plan| plan.shipped.clone()).collect(), Some(&folder)));
        if let Some(plan) = plan {
            (part.log, part.local, part.shared) = (Some(plan.log), plan.local, plan.shared);
            part.container = plan.container;
        }
        match folder.find_record() {
            Some(record) => part.heard(record),
            // Torn or gone. It runs, or it ran: it may have begun, and that is all that counts.
            None if folder.is_started() => {
                part.record.state = AssignmentState::Running;
                part.prepared = true;
            }
            None => {}
        }
        match found {
            Some(running) => {
                tracing::info!(%attempt, supervisor.pid = running.pid(), "found again");
                self.adopt(attempt, part, running)
            }
            None => {
                self.parts.insert(attempt, part);
                self.gone(attempt, "The job's supervisor was gone when the node's agent came back.");
                Ok(())
            }
        }
    }

    fn adopt(&mut self, attempt: AttemptUid, mut part: Part, running: Running) -> io::Result<()> {
        running.watch(&self.tasks, &part.path, self.heard.clone(), move |happening| Heard::Part(attempt, happening))?;
        part.running = Some(running);
        self.parts.insert(attempt, part);
        Ok(())
    }

    fn watch_setup(&self) -> io::Result<()> {
        match self.setup.running() {
            Some(running) => running.watch(&self.tasks, self.setup.path(), self.heard.clone(), Heard::Setup),
            None => Ok(()),
        }
    }

    /// How far the node's setup is; that it failed, too, where the node broke afterwards.
    pub(super) fn setup(&self) -> &SetupState {
        self.broken.as_ref().unwrap_or_else(|| self.setup.state())
    }

    /// What the node proved of itself, once it is set up or could not be.
    pub(super) fn health(&self) -> &[Probe] {
        self.setup.health()
    }

    /// Looks whether what is exported is. Answers when that is done again.
    pub(super) fn look_at_export(&mut self, now: Instant) -> Option<Instant> {
        let at = self.exports.look_at()?;
        if at <= now {
            self.act();
        }
        self.exports.look_at()
    }

    /// Takes in what the node should be.
    pub(super) fn want(&mut self, desired: Desired) {
        self.desired = Some(desired);
        self.act();
    }

    /// Does what is to be done now.
    fn act(&mut self) {
        let Some(desired) = self.desired.take() else { return };
        let now = Instant::now();
        let had = self.setup.running().is_some();
        let exported = match &desired.export {
            Some(export) => self.exports.want(export, now),
            None => export::Progress::Ready,
        };
        let mounted = match &desired.unmet {
            Some(error) => {
                self.setup.fail(error.clone(), &self.starter);
                Progress::Pending
            }
            None => self.mounts.want(Owner::Node, &desired.mounts, &self.starter.roots, &self.starter.bootstrap, now),
        };
        let wanted = match (&mounted, &exported) {
            (Progress::Failed(error), _) | (_, export::Progress::Failed(error)) => {
                self.setup.fail(error.clone(), &self.starter);
                Ok(())
            }
            (Progress::Pending, _) | (_, export::Progress::Pending) => Ok(()),
            (Progress::Ready, export::Progress::Ready) => self.setup.want(desired.setup.as_ref(), &desired.mounts, &self.starter),
        };
        let watched = if had { Ok(()) } else { self.watch_setup() };
        if let Err(error) = wanted.and(watched) {
            tracing::error!(%error, "the setup task cannot be started");
        }
        // Each round does what the one before made possible; there are few.
        for _ in 0..4 {
            let local = self.parts.iter().map(|(attempt, part)| (*attempt, part.local())).collect();
            let is_set_up = match mounted {
                Progress::Ready => *self.setup.state() == SetupState::Done,
                Progress::Pending => false,
                // A job that comes to a node whose mounts broke is started, and fails at once.
                Progress::Failed(_) => true,
            };
            let actions = decide(&desired, is_set_up && self.removing == 0, &local);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.do_action(&desired, &mounted, action);
            }
        }
        let parts = &self.parts;
        let stays = |attempt: AttemptUid| {
            let listed = desired.assignments.iter().any(|assignment| assignment.attempt == attempt);
            listed && parts.get(&attempt).is_none_or(|part| !part.is_over())
        };
        self.mounts.keep_only(stays, now);
        self.desired = Some(desired);
    }

    fn do_action(&mut self, desired: &Desired, mounted: &Progress, action: Action) {
        let parts_dir = self.state_dir.join(PARTS);
        let path = |attempt: AttemptUid| parts_dir.join(name_once(&attempt.to_string()));
        match action {
            Action::Start(attempt) => {
                let Some(assignment) = desired.assignments.iter().find(|assignment| assignment.attempt == attempt) else {
                    return;
                };
                let own = match mounted {
                    Progress::Failed(error) => Progress::Failed(error.clone()),
                    _ => self.mount_for(assignment),
                };
                match own {
                    // Asked again when there is news of them.
                    Progress::Pending => {}
                    Progress::Failed(error) => {
                        let end = End::SetupFailed { error };
                        self.parts.insert(attempt, Part::ended_at_once(path(attempt), end));
                    }
                    Progress::Ready => self.start(assignment, &desired.mounts, path(attempt)),
                }
            }
            Action::EndUnstarted(attempt) => {
                self.parts.insert(attempt, Part::ended_at_once(path(attempt), End::Stopped));
            }
            Action::Run(attempt) => {
                self.tell(attempt, Told::Run);
                self.with(attempt, |part| part.said = Said::Run);
            }
            Action::Stop(attempt, grace_ms) => {
                self.tell(attempt, Told::Stop { grace_ms });
                self.with(attempt, |part| {
                    part.said = Said::Stop(grace_ms);
                    part.kill_at = Some(Instant::now() + Duration::from_millis(grace_ms.into()) + OVERDUE);
                });
            }
            Action::Forget(attempt) => self.forget(attempt, desired.assignments.is_empty()),
        }
    }

    fn with(&mut self, attempt: AttemptUid, change: impl FnOnce(&mut Part)) {
        if let Some(part) = self.parts.get_mut(&attempt) {
            change(part);
        }
    }

    fn tell(&mut self, attempt: AttemptUid, told: Told) {
        self.with(attempt, |part| {
            if let Some(running) = &mut part.running
                && let Err(error) = running.tell(told)
            {
                tracing::warn!(%attempt, %error, "a supervisor does not listen");
            }
        });
    }

    /// Mounts what a part has for itself.
    fn mount_for(&mut self, assignment: &Assignment) -> Progress {
        if assignment.task.unmet.is_some() {
            return Progress::Ready;
        }
        let owner = Owner::Part(assignment.attempt);
        self.mounts.want(owner, &assignment.task.mounts, &self.starter.roots, &self.starter.bootstrap, Instant::now())
    }

    fn start(&mut self, assignment: &Assignment, mounts: &[Mount], path: PathBuf) {
        let attempt = assignment.attempt;
        let rank = Rank { rank: assignment.rank, node_id: &self.starter.bootstrap.node_id };
        let laid_out = match &assignment.task.unmet {
            Some(error) => Err(error.clone()),
            None => layout::job(&self.starter.roots, mounts, &assignment.task, &rank),
        };
        let with_engine = laid_out.and_then(|(layout, variables)| {
            let engine = assignment.task.container.as_ref().map(|_| self.engines.ensure()).transpose()?;
            Ok((layout, variables, engine))
        });
        let (layout, variables, engine) = match with_engine {
            Ok(all) => all,
            Err(error) => {
                let error = error.with_detail("nodeId", self.starter.bootstrap.node_id.clone());
                self.parts.insert(attempt, Part::ended_at_once(path, End::SetupFailed { error }));
                return;
            }
        };
        let views = self.mounts.views(Owner::Part(attempt));
        let places = std::iter::once((STANDARD.to_owned(), &layout.standard))
            .chain(layout.outputs.iter().map(|(id, place)| (id.clone(), place)));
        let seen = |place: &Place| seen_here(place, &layout, &assignment.task.mounts, &views);
        let shipped =
            places.filter(|(_, place)| place.home != Home::Listed).map(|(id, place)| Shipped { id, place: seen(place) });
        let plan = Plan {
            shipped: shipped.collect(),
            log: (seen(&layout.standard), layout.files.log.clone()),
            local: layout.own.iter().filter(|place| place.home == Home::Node).cloned().collect(),
            shared: None,
            container: None,
        };
        let work = self.starter.job_work(assignment, &views, layout, &variables, engine);
        let plan = Plan {
            shared: work.gang.as_ref().and_then(|gang| gang.folder.clone()),
            container: work.container.as_ref().map(|container| container.name.clone()),
            ..plan
        };
        let started = Folder::create(&path).and_then(|folder| {
            folder.write_json(PLAN, &plan)?;
            Ok((Running::start(Kind::Supervisor, work.isolation, &path, &work)?, folder))
        });
        match started {
            Ok((running, folder)) => {
                let mut part = Part::new(path);
                part.said = if assignment.step == Step::Run { Said::Run } else { Said::Nothing };
                part.shipper = Some(Shipper::new(attempt, plan.shipped, Some(&folder)));
                (part.log, part.local, part.shared) = (Some(plan.log), plan.local, plan.shared);
                part.container = plan.container;
                if let Err(error) = self.adopt(attempt, part, running) {
                    tracing::error!(%attempt, %error, "a supervisor cannot be watched");
                }
            }
            Err(error) => {
                tracing::error!(%attempt, %error, "a supervisor cannot be started");
                // Whatever there is of it cannot begin any more.
                let _ = Folder::open(&path).and_then(|folder| folder.take_ticket());
                let why = format!("The node's agent cannot start the job's supervisor: {error}.");
                self.parts.insert(attempt, Part::ended_at_once(path, End::Lost { why }));
            }
        }
    }

    /// Takes in what was heard.
    pub(super) fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Part(attempt, Happening::Record(record)) => {
                self.with(attempt, |part| part.heard(record));
                return;
            }
            Heard::Part(attempt, Happening::Gone) => self.gone(attempt, "The job's supervisor was ended from outside."),
            Heard::Setup(happening) => {
                let task = self.desired.as_ref().and_then(|desired| desired.setup.as_ref());
                self.setup.happened(happening, task, &self.starter);
            }
            Heard::Mount(name, happening) => self.mounts.heard(name, happening, Instant::now()),
            Heard::Written(attempt, written) => self.written(attempt, written),
            Heard::Looked(attempt, shipper, took) => {
                self.with(attempt, |part| {
                    part.shipper = Some(*shipper);
                    part.look_at = Some(Instant::now() + LOOKS.max(took * 5));
                });
                if self.parts.get_mut(&attempt).is_some_and(|part| std::mem::take(&mut part.ended_meanwhile)) {
                    self.finish(attempt);
                }
            }
            Heard::Swept(attempt) => self.finish(attempt),
            Heard::Finished(attempt, shipper) => self.with(attempt, |part| {
                part.shipper = Some(*shipper);
                part.finished = true;
            }),
            Heard::Removed => self.removing = self.removing.saturating_sub(1),
            Heard::Measured(meter, sample) => {
                self.sampler.looked(meter, sample);
                return;
            }
            Heard::Broken(error) => {
                self.broken.get_or_insert(SetupState::Failed(error));
            }
        }
        self.act();
    }

    /// Its supervisor is gone. With namespaces the kernel has ended all else before.
    fn gone(&mut self, attempt: AttemptUid, why: &str) {
        let Some(part) = self.parts.get_mut(&attempt) else { return };
        if let Some(running) = part.running.take() {
            running.reap();
        }
        part.kill_at = None;
        if let Some(record) = Folder::open(&part.path).ok().and_then(|folder| folder.find_record()) {
            part.heard(record);
        }
        let told = part.record.end.clone().map(|end| blame(end, self.broken.as_ref()));
        let left_behind = told.is_none() && self.starter.bootstrap.isolation == Isolation::ProcessGroup;
        part.end = told.or_else(|| {
            Some(match part.said {
                Said::Stop(_) => End::Stopped,
                _ => End::Lost { why: why.to_owned() },
            })
        });
        let container = part.container.take();
        if let Some(container) = container {
            self.sweep_container(attempt, container, left_behind);
        } else if left_behind {
            self.sweep(attempt);
        } else {
            self.finish(attempt);
        }
    }

    /// Ends what a supervisor left behind, beside the loop. Until nothing is left the part has not ended.
    fn sweep(&mut self, attempt: AttemptUid) {
        let heard = self.heard.clone();
        tokio::task::spawn_blocking(move || {
            end_processes(attempt);
            let _ = heard.send(Heard::Swept(attempt));
        });
    }

    /// The same with a container, of which the kernel does not know that it belongs to the supervisor.
    fn sweep_container(&mut self, attempt: AttemptUid, container: Name, left_behind: bool) {
        // It may have ended with all its containers; then the next one says so.
        if let Err(error) = self.engines.ensure() {
            tracing::error!(%attempt, error.message, "the container of a part is looked for in vain");
        }
        let heard = self.heard.clone();
        self.tasks.spawn_cancellable("sweep", async move {
            if left_behind {
                let _ = tokio::task::spawn_blocking(move || end_processes(attempt)).await;
            }
            while let Err(error) = container::remove(&container).await {
                tracing::warn!(%attempt, %error, "the container of a part cannot be removed yet");
                tokio::time::sleep(SWEEP_AGAIN).await;
            }
            let _ = heard.send(Heard::Swept(attempt));
        });
    }

    /// Nothing of it runs any more: looks at all its output once again.
    fn finish(&mut self, attempt: AttemptUid) {
        self.watch.remove(attempt);
        let Some(part) = self.parts.get_mut(&attempt) else { return };
        let Some(mut shipper) = part.shipper.take() else {
            part.ended_meanwhile = part.is_slow();
            part.finished = !part.ended_meanwhile;
            return;
        };
        if shipper.is_slow() || shipper.to_verify() > LONG {
            let heard = self.heard.clone();
            tokio::task::spawn_blocking(move || {
                shipper.finish();
                shipper.read_next();
                let _ = heard.send(Heard::Finished(attempt, Box::new(shipper)));
            });
        } else {
            shipper.finish();
            part.shipper = Some(shipper);
            part.finished = true;
        }
        self.tell_notices();
    }

    fn forget(&mut self, attempt: AttemptUid, is_idle: bool) {
        self.watch.remove(attempt);
        let Some(part) = self.parts.remove(&attempt) else { return };
        if let Err(error) = remove_folder(&part.path) {
            tracing::warn!(%attempt, %error, "the folder of a part cannot be removed");
        }
        // Temporary folders: where another job comes at once, its supervisor removes them.
        let jobs = is_idle.then(|| self.starter.roots.jobs.clone());
        let local: Vec<Place> = part.local.into_iter().filter(|place| place.root != self.starter.roots.jobs).collect();
        let shared = part.shared;
        if jobs.is_none() && local.is_empty() && shared.is_none() {
            return;
        }
        self.removing += 1;
        let heard = self.heard.clone();
        tokio::task::spawn_blocking(move || {
            let temporary = jobs.map(|jobs| open_trusted(&jobs).and_then(|jobs| remove_contents(jobs.as_fd())));
            // Each node of the gang tries: one that is gone does not.
            let shared = shared.map(|folder| remove_shared(&folder));
            for removed in local.iter().map(remove_place).chain(temporary).chain(shared) {
                if let Err(error) = removed {
                    tracing::warn!(%attempt, %error, "folders of a job cannot be removed");
                }
            }
            let _ = heard.send(Heard::Removed);
        });
    }

    /// Looks beside the loop what the job uses of the node. Answers when to look next.
    pub(super) fn measure(&mut self, now: Instant) -> Option<Instant> {
        let running = self.parts.iter().find(|(_, part)| part.running.is_some()).map(|(attempt, _)| *attempt);
        match self.sampler.look(running, now) {
            Ok((attempt, mut meter)) => {
                let (heard, ahead) = (self.heard.clone(), self.starter.server_ahead.unwrap_or_default());
                tokio::task::spawn_blocking(move || {
                    let sample = meter.look(attempt, ahead);
                    let _ = heard.send(Heard::Measured(meter, sample));
                });
                None
            }
            Err(at) => at,
        }
    }

    /// Looks at what was written since it did so last.
    pub(super) fn look(&mut self) {
        for (attempt, change) in self.watch.drain() {
            let shipper = self.parts.get_mut(&attempt).and_then(|part| part.shipper.as_mut());
            if let Some(shipper) = shipper {
                shipper.look_at(change, &mut self.watch);
            }
        }
        // What is looked at beside the loop is not watched: storage changes without a word.
        for part in self.parts.values_mut().filter(|part| part.is_to_be_watched()) {
            if let Some(shipper) = &mut part.shipper {
                part.watched = true;
                shipper.look_at_all(Some(&mut self.watch));
            }
        }
        self.tell_notices();
    }

    /// Whether there are folders that are not watched yet.
    pub(super) fn is_to_look(&self) -> bool {
        self.parts.values().any(Part::is_to_be_watched)
    }

    fn tell_notices(&mut self) {
        for (attempt, part) in &mut self.parts {
            let notices = part.shipper.as_mut().map(Shipper::take_notices).unwrap_or_default();
            let Some((place, name)) = &part.log else { continue };
            for notice in notices {
                let now = SystemClock.now().format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
                let line = format!("{now} output: {notice}\n");
                if let Err(error) = add_to_log(place, name, &line) {
                    tracing::warn!(%attempt, %error, notice, "the job's log cannot be written");
                } else if let Some(shipper) = &mut part.shipper {
                    shipper.look_at_name(STANDARD, name);
                }
            }
        }
    }

    /// Looks at and reads, beside the loop, what may take long. Answers when to look next.
    pub(super) fn look_beside(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for (attempt, part) in &mut self.parts {
            if !part.prepared && part.end.is_none()
                || !part.shipper.as_ref().is_some_and(|shipper| shipper.is_slow() && shipper.is_at_rest())
            {
                continue;
            }
            let is_due = part.end.is_none() && part.look_at.is_none_or(|at| at <= now);
            let is_to_read = part.shipper.as_ref().is_some_and(Shipper::is_to_read);
            if !is_due && !is_to_read {
                next = [next, part.look_at.filter(|_| part.end.is_none())].into_iter().flatten().min();
                continue;
            }
            let (Some(mut shipper), heard, attempt) = (part.shipper.take(), self.heard.clone(), *attempt) else { continue };
            tokio::task::spawn_blocking(move || {
                let began = Instant::now();
                if is_due {
                    shipper.look_at_all(None);
                }
                shipper.read_next();
                let _ = heard.send(Heard::Looked(attempt, Box::new(shipper), began.elapsed()));
            });
        }
        next
    }

    /// Sees to it that what parts that are over wrote is with its storage. Answers when there is something to do next.
    pub(super) fn settle(&mut self, now: Instant) -> Option<Instant> {
        let over: Vec<AttemptUid> = self
            .parts
            .iter()
            .filter(|(_, part)| part.is_over() && part.written == Written::Unknown)
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in over {
            let caches =
                if self.parts.get(&attempt).is_some_and(|part| part.log.is_some()) { self.mounts.caches() } else { Vec::new() };
            self.with(attempt, |part| part.written = if caches.is_empty() { Written::Known } else { Written::Awaited });
            if !caches.is_empty() {
                let heard = self.heard.clone();
                tokio::task::spawn_blocking(move || {
                    let _ = heard.send(Heard::Written(attempt, mount::wait_written(&caches)));
                });
            }
            if !self.mounts.is_free(attempt) {
                self.act();
            }
        }
        if self.mounts.is_to_mend(now) {
            self.act();
        }
        self.mounts.end_overdue(now)
    }

    fn written(&mut self, attempt: AttemptUid, written: Result<(), usize>) {
        if let Err(count) = written {
            tracing::warn!(%attempt, count, "files of a job could not be written to the storage in time");
        }
        self.with(attempt, |part| part.written = Written::Known);
    }

    /// Whether all that a part wrote to storage is there, and its own mounts are gone.
    pub(super) fn is_settled(&self, attempt: AttemptUid, part: &Part) -> bool {
        self.mounts.is_empty() || part.written == Written::Known && self.mounts.is_free(attempt)
    }

    /// Ends by force what is overdue. Answers when the next is.
    pub(super) fn end_overdue(&mut self, now: Instant) -> Option<Instant> {
        for (attempt, part) in &mut self.parts {
            if let Some(running) = part.running.as_ref().filter(|_| part.kill_at.is_some_and(|at| at <= now)) {
                tracing::warn!(%attempt, "a supervisor does not stop in time: it is ended by force");
                part.kill_at = None;
                if let Err(error) = running.kill() {
                    tracing::error!(%attempt, %error, "a supervisor cannot be ended");
                }
            }
        }
        self.parts.values().filter_map(|part| part.kill_at).min()
    }
}

impl Part {
    fn is_to_be_watched(&self) -> bool {
        let watchable = |shipper: &Shipper| shipper.has_directories() && !shipper.is_slow();
        !self.watched && self.end.is_none() && self.prepared && self.shipper.as_ref().is_some_and(watchable)
    }

    /// Whether its output is looked at beside the loop, and is being looked at.
    fn is_slow(&self) -> bool {
        self.prepared && self.shipper.is_none() && !self.finished && !self.watched && self.log.is_some()
    }

    /// Whether nothing of it runs, and the server has all its output.
    fn is_over(&self) -> bool {
        self.end.is_some() && self.finished && self.shipper.as_ref().is_none_or(Shipper::is_drained)
    }
}

/// A place of a job as the agent sees it: where a mount of the job is, in the node's own view.
fn seen_here(place: &Place, layout: &Layout, mounts: &[Mount], views: &[PathBuf]) -> Place {
    let own = layout.temp.path().join(MOUNTS);
    let view = mounts.iter().zip(views).find(|(mount, _)| own.join(&mount.place) == place.root);
    Place { root: view.map_or_else(|| place.root.clone(), |(_, view)| view.clone()), ..place.clone() }
}

/// Ends all processes of an attempt that is marked by a variable.
fn end_processes(attempt: AttemptUid) {
    process::end_all(|pid| std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| belongs_to(&text, attempt)));
}

/// Removes the folder of a part: all of it, or it is there as it was for the next agent to see.
fn remove_folder(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let mut aside = OsString::from(REMOVED);
    aside.push(name);
    let parent = open_trusted(parent)?;
    match rustix::fs::renameat(&parent, name, &parent, &aside) {
        Ok(()) => remove_tree(parent.as_fd(), &aside),
        // A part of which nothing ever ran has none.
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes the folder that the nodes of a gang shared. Others may do the same at the same time.
fn remove_shared(folder: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(()) };
    match open_trusted(parent).and_then(|parent| remove_tree(parent.as_fd(), name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes the folder that a place is.
fn remove_place(place: &Place) -> io::Result<()> {
    let (Some(parent), Some(name)) = (place.below.parent(), place.below.file_name()) else { return Ok(()) };
    let root = open_trusted(&place.root)?;
    match open_folder(root.as_fd(), parent) {
        Ok(parent) => remove_tree(parent.as_fd(), name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// How a part ended that ran on a node which broke meanwhile: what failed there says nothing of the job.
fn blame(end: End, broken: Option<&SetupState>) -> End {
    match (end, broken) {
        (End::Exited { code }, Some(SetupState::Failed(error))) if code != 0 => End::Lost { why: error.message.clone() },
        (end, _) => end,
    }
}

fn attempt_of(path: &Path) -> Option<AttemptUid> {
    let (attempt, _) = path.file_name()?.to_str()?.split_once('.')?;
    uuid::Uuid::try_parse(attempt).ok().map(AttemptUid)
}
