//! The supervisor: one process for each thing that is run. It outlives the agent, and nothing of what it runs outlives it.
//!
//! In: a folder (see `record`), and the work in memory as standard input. Out: the record, kept current. It starts fast and holds
//! little: no runtime, no log but the job's own. With namespaces it is the first process of one, so that its end is the end of all.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::agent::beneath::{Owner, make_file};
use crate::agent::container::{Carrier, Container, Failed, Input, Name, Order};
use crate::agent::engine::with_containers;
use crate::agent::exec::start_shell;
use crate::agent::gang::Door;
use crate::agent::isolate;
use crate::agent::layout::{SETUP_FAILED, Variables};
use crate::agent::prepare::{Failure, make_job_folders, make_place, open_views};
use crate::agent::process;
use crate::agent::record::{Folder, Pipes, Record, Told, take_over};
use crate::agent::scarce::{Counters, Disks};
use crate::agent::work::{Process, Work};
use crate::clock::{Clock, SystemClock};
use crate::domain::attempt::{AssignmentState, End, Scarce};
use crate::domain::bootstrap::Isolation;
use crate::domain::process::Role;
use crate::domain::resource::EntityError;

/// Time between two rounds of ending by force, where the kernel takes its time.
const FORCE_AGAIN: Duration = Duration::from_millis(50);

/// Time between two looks at what is left on disks: nothing tells of it.
const LOOK_AT_DISKS: Duration = Duration::from_secs(1);

/// Where everyone on a node with a root of its own may write.
const OPEN_FOLDERS: [&str; 2] = ["/tmp", "/var/tmp"];

/// Most bytes that are written into a log: what repeats without end is left out.
const MAX_LOG: usize = 1 << 20;

/// Runs what is handed over as standard input, with its record in `folder`. Returns when nothing of it runs any more.
///
/// # Errors
/// It did not get so far as to keep a record: nothing was run.
pub fn supervise(folder: &Path) -> io::Result<()> {
    isolate::keep_memory_private()?;
    // Not of the agent's session: what is sent to that is not meant. A first process of a namespace may lead one already.
    let _ = rustix::process::setsid();
    let work: Work = take_over()?;
    if work.isolation.has_root() && std::process::id() != 1 {
        return Err(io::Error::other("not the first process of a namespace: mounts and signals would reach too far"));
    }
    let folder = Folder::open(folder)?;
    if !folder.take_ticket()? {
        // A later agent decided that this one never began.
        return Ok(());
    }
    let ends = SigSet::from(Signal::SIGCHLD);
    ends.thread_block()?;
    let mut supervisor = Supervisor {
        pipes: Pipes::open(&folder)?,
        signals: SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?,
        owner: work.user.as_ref().map(|user| (user.uid, user.gid)),
        work,
        folder,
        record: Record::new(),
        log: None,
        logged: 0,
        counters: None,
        disks: None,
        looked_at: None,
        container: None,
        is_raised: false,
        door: None,
        released: false,
        stop: None,
    };
    supervisor.run()
}

/// A process that runs.
struct Child {
    pid: i32,
    name: String,
    role: Role,
    /// What it carries out, where it stands for a process in a container.
    carrier: Option<Carrier>,
}

impl Child {
    /// How the part ends where this ended badly and it was not the command's own doing.
    fn find_failure(&self) -> Option<End> {
        Some(match self.carrier.as_ref().and_then(Carrier::find_failure)? {
            Failed::Error(error) => End::SetupFailed { error },
            Failed::Engine(why) => End::Lost { why: format!("The node's container engine does not do what it is asked: {why}.") },
        })
    }
}

/// What ended: number and exit code, in the order in which the kernel tells.
struct Reaped {
    all: Vec<(i32, i32)>,
    /// Whether there is no child any more.
    none_left: bool,
}

struct Supervisor {
    work: Work,
    folder: Folder,
    pipes: Pipes,
    signals: SignalFd,
    owner: Owner,
    record: Record,
    log: Option<File>,
    /// Bytes of it.
    logged: usize,
    /// What tells that the node's limits were reached.
    counters: Option<Counters>,
    /// Disks that it may fill.
    disks: Option<Disks>,
    /// When it looked at them last.
    looked_at: Option<Instant>,
    /// The container, from when it may be there until it is gone.
    container: Option<Name>,
    /// Whether it has started.
    is_raised: bool,
    /// Where other nodes of the gang come in.
    door: Option<Door>,
    released: bool,
    /// When all ends by force.
    stop: Option<Instant>,
}

impl Supervisor {
    fn run(&mut self) -> io::Result<()> {
        self.released = self.work.released;
        let end = match self.prepare().and_then(|standard| self.run_all(&standard)) {
            Ok(end) => end,
            Err(failure) => self.failed(&failure),
        };
        self.record.ended_at = Some(SystemClock.now());
        let stays = self.work.job.is_none() && matches!(end, End::Exited { .. });
        if !stays {
            self.end_all();
        }
        self.say_limits();
        self.say(&match &end {
            End::Exited { code } => format!("ended with exit code {code}"),
            End::PreparationFailed { code } => {
                format!("the job preparation ended with exit code {code}; the command is not started")
            }
            End::OutOf { what, code } => format!("ended with exit code {code}: there was no more {}", what.as_str()),
            End::Stopped => "stopped".to_owned(),
            End::SetupFailed { error } => error.message.clone(),
            End::Lost { why } => why.clone(),
        });
        self.record.state = AssignmentState::Ended;
        self.record.end = Some(end);
        self.tell()?;
        if stays {
            // What a setup task started in the background goes on, and needs someone to reap it.
            self.log = None;
            self.reap_until_none();
        }
        Ok(())
    }

    /// All that comes before the first command. Afterwards this process can do no more than it must.
    fn prepare(&mut self) -> Result<OwnedFd, Failure> {
        let doing = |what: &'static str| move |error| Failure { doing: what.into(), error };
        for group in &self.work.groups {
            std::fs::write(group.join("cgroup.procs"), "0").map_err(doing("enter the control group of jobs"))?;
        }
        self.counters = Some(Counters::open(&self.work.groups));
        // What nodes have in common is not in sight afterwards.
        let shared = match &self.work.gang {
            Some(gang) => gang.make_folder(self.owner).map_err(doing("make the folder of the job's nodes"))?,
            None => None,
        };
        let views = match &self.work.job {
            Some(job) => open_views(job)?,
            None => Vec::new(),
        };
        match self.work.isolation {
            Isolation::Namespaces | Isolation::VirtualMachine => {
                isolate::narrow_view(&self.work.hidden).map_err(doing("hide the node's own files"))?
            }
            Isolation::ProcessGroup => rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(|error| doing("become the parent of orphans")(error.into()))?,
        }
        if let Some(job) = &self.work.job {
            make_job_folders(job, &views, self.owner)?;
            if let (Some(gang), Some(shared)) = (&self.work.gang, &shared) {
                gang.show_folder(shared, &job.temp, self.work.isolation).map_err(doing("share a folder with the other nodes"))?;
            }
        }
        let standard = make_place(&self.work.standard, self.owner)
            .map_err(|error| Failure { doing: format!("make the directory '{}'", self.work.standard.path().display()), error })?;
        if let Some(job) = &self.work.job {
            let open: &[&str] = if self.work.isolation.has_root() { &OPEN_FOLDERS } else { &[] };
            self.disks = Some(Disks::open([&job.temp, &self.work.standard].into_iter().chain(&job.outputs), open));
        }
        self.log = Some(make_file(standard.as_fd(), &self.work.files.log, None).map_err(doing("make the log"))?);
        self.say(&format!("{} on {}", self.work.title, self.work.node_id));
        self.say(&format!("output goes to {}", self.work.standard.path().display()));
        // Without a network of its own a node has no port of its own either.
        if self.work.isolation.has_root()
            && let Some(gang) = &self.work.gang
            && let Some(user) = &gang.user
        {
            gang.tell_names().map_err(doing("tell the names of the job's nodes"))?;
            let door = Door::open(gang, user, &self.work.environment).map_err(doing("let in the job's other nodes"))?;
            self.door = Some(door);
        }
        if self.work.gang.is_some() && self.work.isolation == Isolation::ProcessGroup {
            self.say("nodes here have no network of their own: there is no ssh between the job's nodes");
        }
        isolate::shed(self.work.rights).map_err(doing("give up rights"))?;
        Ok(standard)
    }

    fn run_all(&mut self, standard: &OwnedFd) -> Result<End, Failure> {
        if let Some(container) = self.work.container.take()
            && let Some(end) = self.raise(container)?
        {
            return Ok(end);
        }
        if let Some(line) = self.work.preparation.take() {
            self.say("job preparation starts");
            // The folders are there: what is written into them can be seen.
            let _ = self.tell();
            let files = self.work.files.preparation.clone();
            let environment = Variables::default();
            let child = self.start(&Process { name: String::new(), line, environment, files, role: Role::Leader }, standard)?;
            match self.run_to_end(vec![child]) {
                End::Exited { code: 0 } => self.say("job preparation ended with exit code 0"),
                End::Exited { code } => return Ok(End::PreparationFailed { code }),
                end => return Ok(end),
            }
        }
        if !self.released {
            self.record.state = AssignmentState::Ready;
            self.say("ready");
            // Nobody hears of it: it is told again by the record when the agent comes back.
            let _ = self.tell();
        }
        while !self.released && self.stop.is_none() {
            self.wait(None);
        }
        if self.stop.is_some() {
            return Ok(End::Stopped);
        }
        if let (Some(gang), Some(_)) = (&self.work.gang, &self.door) {
            if let Err(error) = gang.meet() {
                return Ok(End::SetupFailed { error });
            }
            self.say("all nodes of the job reach each other from here");
        }
        self.folder.mark_started().map_err(|error| Failure { doing: "write down that the command starts".into(), error })?;
        let processes = std::mem::take(&mut self.work.processes);
        let mut children = Vec::with_capacity(processes.len());
        for process in &processes {
            // The first is on its way before anything else is done.
            children.push(self.start(process, standard)?);
        }
        self.begin();
        if processes.is_empty() {
            self.say("released; the command runs on another node");
        }
        Ok(self.run_to_end(children))
    }

    fn begin(&mut self) {
        self.record.state = AssignmentState::Running;
        self.record.started_at = Some(SystemClock.now());
        let _ = self.tell();
    }

    fn start(&mut self, process: &Process, standard: &OwnedFd) -> Result<Child, Failure> {
        let open = |name: &str| {
            make_file(standard.as_fd(), name, self.owner)
                .map_err(|error| Failure { doing: format!("make the file '{name}'"), error })
        };
        let output = (open(&process.files.0)?, open(&process.files.1)?);
        let work = &self.work;
        let started = match &self.container {
            None => {
                let environment = [&work.environment, &process.environment];
                with_plain_signals(|| start_shell(&process.line, &work.directory, environment, work.user.as_ref(), output))
                    .map(|pid| (pid, None))
            }
            Some(name) => {
                let mut environment = work.environment.clone();
                process.environment.iter().for_each(|(name, value)| environment.set(name, value));
                let (name, line, directory) = (name.clone(), process.line.clone(), work.directory.clone());
                let order = Order::Run { name, line, environment, directory, input: Input::Nothing };
                with_plain_signals(|| order.start(Stdio::null(), (output.0.into(), output.1.into())))
                    .map(|carrier| (carrier.pid, Some(carrier)))
            }
        };
        let (pid, carrier) = started.map_err(|error| Failure { doing: "start the shell".into(), error })?;
        let name = if process.name.is_empty() { format!("process {pid}") } else { format!("{} (process {pid})", process.name) };
        self.say(&format!("{name} started"));
        Ok(Child { pid, name, role: process.role, carrier })
    }

    /// Makes the container and starts it. Answers how the part ends, where it ends with that.
    fn raise(&mut self, container: Container) -> Result<Option<End>, Failure> {
        let failed = |error| Failure { doing: "start a container".into(), error };
        // The folders are there: what is written into them can be seen.
        let _ = self.tell();
        self.container = Some(container.name.clone());
        let log = self.log.as_ref().map_or(Ok(Stdio::null()), |log| log.try_clone().map(Stdio::from)).map_err(failed)?;
        let order = Order::Raise(container);
        let carrier = with_plain_signals(|| order.start(Stdio::null(), (Stdio::null(), log))).map_err(failed)?;
        let child = Child { pid: carrier.pid, name: "the container's start".into(), role: Role::Leader, carrier: Some(carrier) };
        match self.run_to_end(vec![child]) {
            End::Exited { code: 0 } => {
                self.is_raised = true;
                // What its processes run out of is counted by groups of its own.
                self.counters = Some(Counters::open(&with_containers(&self.work.groups)));
                Ok(None)
            }
            // It said nothing.
            End::Exited { code } => Err(failed(io::Error::other(format!("exit code {code}")))),
            end => Ok(Some(end)),
        }
    }

    /// Removes the container, if there may be one. The agent does it again once this process is gone: what does not work here is late,
    /// not forgotten.
    fn lower(&mut self) {
        let Some(name) = self.container.take() else { return };
        let output = (Stdio::null(), Stdio::null());
        let order = Order::Remove(name);
        let ended = with_plain_signals(|| order.start(Stdio::null(), output)).and_then(|carrier| {
            loop {
                if let Some((_, code)) = self.reap().all.into_iter().find(|(pid, _)| *pid == carrier.pid) {
                    break Ok(code);
                }
                self.wait(None);
            }
        });
        match ended {
            Ok(0) => self.say("the container is removed"),
            Ok(code) => self.say(&format!("the container is not removed yet: exit code {code}")),
            Err(error) => self.say(&format!("the container is not removed yet: {error}")),
        }
    }

    /// Asks all to stop.
    fn ask_to_stop(&mut self) {
        let order = self.container.as_ref().filter(|_| self.is_raised).map(|name| Order::Terminate(name.clone()));
        match order.map(|order| with_plain_signals(|| order.start(Stdio::null(), (Stdio::null(), Stdio::null())))) {
            None => self.signal_all(Signal::SIGTERM),
            Some(Ok(_)) => {}
            Some(Err(error)) => self.say(&format!("the container cannot be told to stop: {error}")),
        }
    }

    /// Runs processes until all leaders among them have ended well, one has ended badly, or all were made to stop. Without a leader
    /// it is the last that ends it.
    fn run_to_end(&mut self, mut running: Vec<Child>) -> End {
        let has_leader = running.iter().any(|child| child.role == Role::Leader);
        let has_any = !running.is_empty();
        let (mut forced, mut asked) = (false, false);
        loop {
            let ended = self.reap();
            for (pid, code) in ended.all {
                let Some(place) = running.iter().position(|child| child.pid == pid) else {
                    if let Some(sessions) = self.door.as_mut().and_then(Door::sessions_mut) {
                        sessions.ended(pid, code);
                    }
                    continue;
                };
                let child = running.remove(place);
                self.say(&format!("{} ended with exit code {code}", child.name));
                if code != 0 && !asked {
                    return child.find_failure().unwrap_or_else(|| self.bad_end(code));
                }
            }
            if !asked && self.is_time_to_look() && self.disks.as_ref().is_some_and(Disks::is_filled) {
                self.say("a disk is nearly full, and much of it is the job's: it is ended");
                return End::OutOf { what: Scarce::Disk, code: 128 + Signal::SIGKILL as i32 };
            }
            if asked && if has_any { running.is_empty() } else { ended.none_left } {
                return End::Stopped;
            }
            if !asked && has_leader && running.iter().all(|child| child.role != Role::Leader) {
                return End::Exited { code: 0 };
            }
            if let Some(force_at) = self.stop {
                if !asked {
                    asked = true;
                    self.say("told to stop: SIGTERM");
                    self.ask_to_stop();
                    // There may be nothing to wait for.
                    continue;
                }
                if !forced && Instant::now() >= force_at {
                    forced = true;
                    self.say("did not stop in time: SIGKILL");
                }
                if forced {
                    self.signal_all(Signal::SIGKILL);
                }
            }
            self.wait(match (self.stop, forced) {
                (None, _) => self.disks.as_ref().map(|_| LOOK_AT_DISKS),
                (Some(_), true) => Some(FORCE_AGAIN),
                (Some(force_at), false) => Some(force_at.saturating_duration_since(Instant::now())),
            });
        }
    }

    fn is_time_to_look(&mut self) -> bool {
        let now = Instant::now();
        let is_time = self.looked_at.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_AT_DISKS);
        if is_time {
            self.looked_at = Some(now);
        }
        is_time
    }

    /// The end that another exit code than 0 means.
    fn bad_end(&self, code: i32) -> End {
        if self.counters.as_ref().is_some_and(|counters| counters.killed() > 0) {
            End::OutOf { what: Scarce::Memory, code }
        } else if self.disks.as_ref().is_some_and(Disks::is_filled) {
            End::OutOf { what: Scarce::Disk, code }
        } else {
            End::Exited { code }
        }
    }

    /// Says which limits of the node were reached.
    fn say_limits(&mut self) {
        let (killed, refused) = self.counters.as_ref().map_or((0, 0), |counters| (counters.killed(), counters.refused()));
        if killed > 0 {
            self.say(&format!("for want of memory the kernel ended {killed} of its processes"));
        }
        if refused > 0 {
            self.say(&format!("{refused} times no process could be started: the node has no room for more of them"));
        }
    }

    /// Reaps what has ended. A signal is 128 and its number, as shells say it.
    fn reap(&self) -> Reaped {
        let mut all = Vec::new();
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => all.push((pid.as_raw(), code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => all.push((pid.as_raw(), 128 + signal as i32)),
                Ok(WaitStatus::StillAlive) => return Reaped { all, none_left: false },
                Err(Errno::ECHILD) => return Reaped { all, none_left: true },
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return Reaped { all, none_left: false },
            }
        }
    }

    /// Waits until a child ended, the agent tells something, or the time is up.
    fn wait(&mut self, time: Option<Duration>) {
        let mut on = vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(self.pipes.control(), PollFlags::IN)];
        on.extend(self.door.iter().flat_map(Door::descriptors).map(|guest| PollFd::from_borrowed_fd(guest, PollFlags::IN)));
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let _ = poll(&mut on, time.as_ref());
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.listen();
        self.let_in();
    }

    fn let_in(&mut self) {
        let Some(mut door) = self.door.take() else { return };
        let answered = with_plain_signals(|| door.answer()).and_then(|()| self.serve_sessions(&mut door));
        self.door = Some(door);
        if let Err(error) = answered {
            self.say(&format!("a session of another node cannot be started: {error}"));
        }
    }

    /// Runs in the container what guests of it want.
    fn serve_sessions(&self, door: &mut Door) -> io::Result<()> {
        let Some(sessions) = door.sessions_mut() else { return Ok(()) };
        while let Some(wanted) = sessions.next() {
            // One that comes before there is a container hears of nobody.
            let Some(name) = self.container.as_ref().filter(|_| self.is_raised) else { continue };
            let order = Order::Run {
                name: name.clone(),
                line: wanted.line.to_string_lossy().into_owned(),
                environment: self.work.environment.clone(),
                directory: self.work.directory.clone(),
                input: Input::Own,
            };
            let [input, output, errors] = &wanted.streams;
            let streams = (input.try_clone()?.into(), (output.try_clone()?.into(), errors.try_clone()?.into()));
            let carrier = with_plain_signals(|| order.start(streams.0, streams.1))?;
            sessions.started(carrier.pid, wanted);
        }
        Ok(())
    }

    fn listen(&mut self) {
        for told in self.pipes.told() {
            match told {
                Told::Run => self.released = true,
                Told::Stop { grace_ms } => {
                    let until = Instant::now() + Duration::from_millis(grace_ms.into());
                    // A shorter grace counts, a longer one comes too late.
                    self.stop = Some(self.stop.map_or(until, |before| before.min(until)));
                }
            }
        }
    }

    fn signal_all(&self, signal: Signal) {
        match self.work.isolation {
            // All in this namespace but its first process, which this must be: elsewhere it would be all that there is.
            Isolation::Namespaces | Isolation::VirtualMachine => {
                if std::process::id() == 1 {
                    let _ = kill(Pid::from_raw(-1), signal);
                }
            }
            Isolation::ProcessGroup => {
                let _ = process::signal_descendants(match signal {
                    Signal::SIGTERM => rustix::process::Signal::TERM,
                    _ => rustix::process::Signal::KILL,
                });
            }
        }
    }

    /// Ends all by force. Returns when there is none left.
    fn end_all(&mut self) {
        loop {
            self.signal_all(Signal::SIGKILL);
            if self.has_no_children() {
                break;
            }
            self.wait(Some(FORCE_AGAIN));
        }
        self.lower();
    }

    fn reap_until_none(&mut self) {
        while !self.has_no_children() {
            if self.stop.is_some() {
                self.end_all();
                return;
            }
            self.wait(None);
        }
    }

    fn has_no_children(&self) -> bool {
        self.reap().none_left
    }

    fn failed(&self, failure: &Failure) -> End {
        let message =
            format!("The job could not be set up on node {}: cannot {}: {}.", self.work.node_id, failure.doing, failure.error);
        End::SetupFailed { error: EntityError::new(SETUP_FAILED, message).with_detail("nodeId", self.work.node_id.clone()) }
    }

    fn tell(&mut self) -> io::Result<()> {
        self.pipes.tell(&self.folder, &self.record)
    }

    fn say(&mut self, text: &str) {
        if let Some(log) = self.log.as_mut().filter(|_| self.logged < MAX_LOG) {
            self.logged += text.len();
            let now = SystemClock.now().format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
            // What cannot be logged does not keep a job from running.
            let _ = log.write_all(format!("{now} {text}\n").as_bytes());
        }
    }
}

/// Starts something with the signals that are held back here. One that is missed meanwhile is of a child that is reaped before anything is
/// waited for.
fn with_plain_signals<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let ends = SigSet::from(Signal::SIGCHLD);
    ends.thread_unblock()?;
    let started = start();
    ends.thread_block()?;
    started
}
