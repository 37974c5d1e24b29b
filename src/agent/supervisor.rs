//! The supervisor: one process for each thing that is run. It outlives the agent, and nothing of what it runs outlives it.
//!
//! In: a folder (see `record`), and the work in memory as standard input. Out: the record, kept current. It starts fast and holds
//! little: no runtime, no log but the job's own. With namespaces it is the first process of one, so that its end is the end of all.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::agent::beneath::{Owner, make_file};
use crate::agent::exec::start_shell;
use crate::agent::isolate;
use crate::agent::layout::SETUP_FAILED;
use crate::agent::prepare::{Failure, make_job_folders, make_place};
use crate::agent::process;
use crate::agent::record::{Folder, Record, Told};
use crate::agent::work::Work;
use crate::clock::{Clock, SystemClock};
use crate::domain::attempt::{AssignmentState, End};
use crate::domain::bootstrap::Isolation;
use crate::domain::resource::EntityError;

/// Time between two rounds of ending by force, where the kernel takes its time.
const FORCE_AGAIN: Duration = Duration::from_millis(50);

/// Runs what is handed over as standard input, with its record in `folder`. Returns when nothing of it runs any more.
///
/// # Errors
/// It did not get so far as to keep a record: nothing was run.
pub fn supervise(folder: &Path) -> io::Result<()> {
    isolate::keep_memory_private()?;
    // Not of the agent's session: what is sent to that is not meant. A first process of a namespace may lead one already.
    let _ = rustix::process::setsid();
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    // What is run may not find it there.
    rustix::fs::ftruncate(io::stdin(), 0)?;
    let work: Work = serde_json::from_str(&text)?;
    if work.isolation == Isolation::Namespaces && std::process::id() != 1 {
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
        control: folder.control()?,
        events: folder.events()?,
        signals: SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?,
        owner: work.user.as_ref().map(|user| (user.uid, user.gid)),
        work,
        folder,
        record: Record::new(),
        log: None,
        heard: String::new(),
        released: false,
        stop: None,
    };
    supervisor.run()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Preparation,
    Command,
}

struct Supervisor {
    work: Work,
    folder: Folder,
    control: File,
    events: File,
    signals: SignalFd,
    owner: Owner,
    record: Record,
    log: Option<File>,
    /// The beginning of a line of `control`.
    heard: String,
    released: bool,
    /// When all ends by force.
    stop: Option<Instant>,
}

impl Supervisor {
    fn run(&mut self) -> io::Result<()> {
        self.released = self.work.released;
        let end = match self.prepare() {
            Ok(standard) => self.run_commands(&standard),
            Err(failure) => self.failed(&failure),
        };
        let stays = self.work.job.is_none() && matches!(end, End::Exited { .. });
        if !stays {
            self.end_all();
        }
        self.say(&match &end {
            End::Exited { code } => format!("ended with exit code {code}"),
            End::PreparationFailed { code } => {
                format!("the job preparation ended with exit code {code}; the command is not started")
            }
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
        match self.work.isolation {
            Isolation::Namespaces => isolate::narrow_view(&self.work.hidden).map_err(doing("hide the node's own files"))?,
            Isolation::ProcessGroup => rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(|error| doing("become the parent of orphans")(error.into()))?,
        }
        if let Some(job) = &self.work.job {
            make_job_folders(job, self.owner)?;
        }
        let standard = make_place(&self.work.standard, self.owner)
            .map_err(|error| Failure { doing: format!("make the directory '{}'", self.work.standard.path().display()), error })?;
        self.log = Some(make_file(standard.as_fd(), &self.work.files.log, None).map_err(doing("make the log"))?);
        self.say(&format!("{} on {}", self.work.title, self.work.node_id));
        self.say(&format!("output goes to {}", self.work.standard.path().display()));
        isolate::shed(self.work.rights).map_err(doing("give up rights"))?;
        Ok(standard)
    }

    fn run_commands(&mut self, standard: &OwnedFd) -> End {
        if let Some(preparation) = self.work.preparation.take() {
            self.say("job preparation starts");
            // The folders are there: what is written into them can be seen.
            let _ = self.tell();
            let names = self.work.files.preparation.clone();
            match self.run_command(&preparation, standard, &names, What::Preparation) {
                Ok(Some(0)) => self.say("job preparation ended with exit code 0"),
                Ok(Some(code)) => return End::PreparationFailed { code },
                Ok(None) => return End::Stopped,
                Err(failure) => return self.failed(&failure),
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
            return End::Stopped;
        }
        let command = self.work.command.take();
        if let Err(error) = self.folder.mark_started() {
            return self.failed(&Failure { doing: "write down that the command starts".into(), error });
        }
        let (Some(command), Some(names)) = (command, self.work.files.command.clone()) else {
            self.begin();
            self.say("released; the command runs on another node");
            while self.stop.is_none() {
                self.wait(None);
            }
            return End::Stopped;
        };
        match self.run_command(&command, standard, &names, What::Command) {
            Ok(Some(code)) => End::Exited { code },
            Ok(None) => End::Stopped,
            Err(failure) => self.failed(&failure),
        }
    }

    fn begin(&mut self) {
        self.record.state = AssignmentState::Running;
        self.record.started_at = Some(SystemClock.now());
        let _ = self.tell();
    }

    /// Runs one command to its end. Answers its exit code, or `None` where it was made to stop before.
    fn run_command(
        &mut self,
        line: &str,
        standard: &OwnedFd,
        names: &(String, String),
        what: What,
    ) -> Result<Option<i32>, Failure> {
        let open = |name: &str| {
            make_file(standard.as_fd(), name, self.owner)
                .map_err(|error| Failure { doing: format!("make the file '{name}'"), error })
        };
        let output = (open(&names.0)?, open(&names.1)?);
        let work = &self.work;
        // What is started begins with the signals that are held back here. One that is missed meanwhile is of a child that is reaped
        // below, before anything is waited for.
        let ends = SigSet::from(Signal::SIGCHLD);
        let started = ends
            .thread_unblock()
            .map_err(io::Error::from)
            .and_then(|()| start_shell(line, &work.directory, &work.environment, work.user.as_ref(), output));
        let blocked = ends.thread_block().map_err(io::Error::from);
        let main = blocked.and(started).map_err(|error| Failure { doing: "start the shell".into(), error })?;
        if what == What::Command {
            self.begin();
        }
        self.say(&format!("process {main} started"));
        let mut forced = false;
        let mut asked = false;
        loop {
            if let Some(code) = self.reap(Some(main)) {
                return Ok((!asked).then_some(code));
            }
            if let Some(force_at) = self.stop {
                if !asked {
                    asked = true;
                    self.say("told to stop: SIGTERM");
                    self.signal_all(Signal::SIGTERM);
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
                (None, _) => None,
                (Some(_), true) => Some(FORCE_AGAIN),
                (Some(force_at), false) => Some(force_at.saturating_duration_since(Instant::now())),
            });
        }
    }

    /// Reaps what has ended. Answers the exit code of `main`, if it is among them. A signal is 128 and its number, as shells say it.
    fn reap(&self, main: Option<i32>) -> Option<i32> {
        let mut code = None;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, exit)) if Some(pid.as_raw()) == main => code = Some(exit),
                Ok(WaitStatus::Signaled(pid, signal, _)) if Some(pid.as_raw()) == main => code = Some(128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return code,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return code,
            }
        }
    }

    /// Waits until a child ended, the agent tells something, or the time is up.
    fn wait(&mut self, time: Option<Duration>) {
        let mut on = [PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.control, PollFlags::IN)];
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        let _ = poll(&mut on, time.as_ref());
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.listen();
    }

    fn listen(&mut self) {
        let mut buffer = [0; 256];
        while let Ok(count @ 1..) = self.control.read(&mut buffer) {
            self.heard.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
        }
        while let Some((line, rest)) = self.heard.split_once('\n') {
            let told = Told::parse(line);
            self.heard = rest.to_owned();
            match told {
                Some(Told::Run) => self.released = true,
                Some(Told::Stop { grace_ms }) => {
                    let until = Instant::now() + Duration::from_millis(grace_ms.into());
                    // A shorter grace counts, a longer one comes too late.
                    self.stop = Some(self.stop.map_or(until, |before| before.min(until)));
                }
                None => {}
            }
        }
    }

    fn signal_all(&self, signal: Signal) {
        match self.work.isolation {
            // All in this namespace but its first process, which this must be: elsewhere it would be all that there is.
            Isolation::Namespaces => {
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
                return;
            }
            self.wait(Some(FORCE_AGAIN));
        }
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
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => return true,
                Ok(WaitStatus::StillAlive) | Err(_) => return false,
                Ok(_) => {}
            }
        }
    }

    fn failed(&self, failure: &Failure) -> End {
        let message =
            format!("The job could not be set up on node {}: cannot {}: {}.", self.work.node_id, failure.doing, failure.error);
        End::SetupFailed { error: EntityError::new(SETUP_FAILED, message).with_detail("nodeId", self.work.node_id.clone()) }
    }

    /// Keeps the record current and says so.
    ///
    /// # Errors
    /// It is neither written nor said.
    fn tell(&mut self) -> io::Result<()> {
        let written = self.folder.write_record(&self.record);
        let mut line = serde_json::to_vec(&self.record)?;
        line.push(b'\n');
        // On a full disk the agent still hears it.
        written.or(self.events.write_all(&line))
    }

    fn say(&mut self, text: &str) {
        if let Some(log) = &mut self.log {
            let now = SystemClock.now().format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
            // What cannot be logged does not keep a job from running.
            let _ = log.write_all(format!("{now} {text}\n").as_bytes());
        }
    }
}
