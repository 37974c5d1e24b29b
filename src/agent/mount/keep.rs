//! The keeper of one mount: a process that makes it, holds the program that serves it, and takes it away. It outlives the agent.
//!
//! In: a folder (see `record`), and what to mount in memory as standard input. Out: the record: running once it is mounted, ended once
//! it is not. As the first process of a namespace of processes its end is the end of all that it started; the mount itself is in the
//! node's own view, for all that starts later to see. What it leaves there when it is killed, the next agent takes away.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::agent::isolate;
use crate::agent::mount::plan::{Life, Named, Plan, Program, Site, named, plan, secrets, way};
use crate::agent::mount::program::{Enough, Running, Said, Went, is_here, obscure, start};
use crate::agent::mount::{cache, relay, table};
use crate::agent::process::Handle;
use crate::agent::protocol::{Mount, Source};
use crate::agent::record::{Folder, Pipes, Record, Told, take_over};
use crate::clock::{Clock, SystemClock};
use crate::domain::attempt::{AssignmentState, End};
use crate::domain::bootstrap::JobUser;
use crate::domain::resource::EntityError;

/// Time between two looks whether something is mounted.
const LOOK: Duration = Duration::from_millis(10);

/// Longest time until a program whose mount is gone has ended.
const LEAVE: Duration = Duration::from_secs(5);

/// Time between two rounds of reaping what daemons left.
const REAP: Duration = Duration::from_secs(30);

/// What a keeper is handed. Holds secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Hold {
    /// What to mount.
    pub(super) mount: Mount,
    /// Where.
    pub(super) target: PathBuf,
    /// Mounts that are at that place without it.
    pub(super) below: usize,
    /// Where a program keeps what it needs.
    pub(super) cache: PathBuf,
    /// The account that jobs run as.
    pub(super) user: Option<JobUser>,
    /// The node's gate.
    pub(super) gate: Option<PathBuf>,
    /// Whether mount commands of users may run.
    pub(super) commands: bool,
    /// The node's id.
    pub(super) node_id: String,
}

/// Keeps what is handed over as standard input, with its record in `folder`. Returns when nothing is mounted any more.
///
/// # Errors
/// It did not get so far as to keep a record: nothing was mounted.
pub fn keep_mount(folder: &Path) -> io::Result<()> {
    isolate::keep_memory_private()?;
    let _ = rustix::process::setsid();
    let hold: Hold = take_over()?;
    let folder = Folder::open(folder)?;
    if !folder.take_ticket()? {
        return Ok(());
    }
    let mut keeper = Keeper { pipes: Pipes::open(&folder)?, folder, record: Record::new(), hold };
    keeper.run()
}

struct Keeper {
    hold: Hold,
    folder: Folder,
    pipes: Pipes,
    record: Record,
}

impl Keeper {
    fn run(&mut self) -> io::Result<()> {
        let end = match self.mount() {
            Err(error) => End::SetupFailed { error },
            Ok(program) => {
                self.record.state = AssignmentState::Running;
                self.record.started_at = Some(SystemClock.now());
                self.tell()?;
                self.hold(program)
            }
        };
        if let Err(error) = table::detach(&self.hold.target, self.hold.below) {
            eprintln!("what is mounted at {} cannot be taken away: {error}", self.hold.target.display());
        }
        self.record.state = AssignmentState::Ended;
        self.record.ended_at = Some(SystemClock.now());
        self.record.end = Some(end);
        self.tell()
    }

    /// Mounts it. Answers the program that serves it, if one does.
    fn mount(&self) -> Result<Option<Running>, EntityError> {
        let until = Instant::now() + Duration::from_millis(self.hold.mount.deadline_ms.into());
        let Hold { mount, target, below, .. } = &self.hold;
        let name = named(&mount.source);
        let mut hidden = secrets(&mount.source);
        let refuse = |why: &str| self.refused(&name, why);
        // Whatever a keeper before this one left here.
        table::detach(target, *below).map_err(|error| refuse(&error.to_string()))?;
        std::fs::create_dir_all(target).map_err(|error| refuse(&format!("{} cannot be made: {error}", target.display())))?;
        std::fs::create_dir_all(&self.hold.cache).map_err(|error| refuse(&error.to_string()))?;
        let planned = self.plan(&mut hidden).map_err(|why| refuse(&why))?;
        for program in planned.check.iter().chain([&planned.mount]) {
            if !is_here(program.name) {
                return Err(refuse(&format!("the program {} is not installed on this node", program.name)));
            }
        }
        let failed = |program: &Program, went: Went, said: &Said| self.failed(&name, program, went, &said.without(&hidden));
        if let Some(check) = &planned.check {
            let mut checking = start(check, &self.hold.cache).map_err(|error| refuse(&error.to_string()))?;
            match checking.wait(until, Enough::Output).map_err(|error| refuse(&error.to_string()))? {
                Went::Well => {}
                went => return Err(failed(check, went, &checking.said)),
            }
        }
        let mut mounting = start(&planned.mount, &self.hold.cache).map_err(|error| refuse(&error.to_string()))?;
        match planned.life {
            Life::Program => loop {
                if table::count(target) > *below {
                    return Ok(Some(mounting));
                }
                if let Ok(Some(_)) = mounting.child.try_wait() {
                    let went = mounting.wait(until, Enough::End).unwrap_or(Went::Badly(1));
                    return Err(failed(&planned.mount, if went == Went::Well { Went::Badly(0) } else { went }, &mounting.said));
                }
                if Instant::now() >= until {
                    mounting.end();
                    return Err(failed(&planned.mount, Went::Late, &mounting.said));
                }
                std::thread::sleep(LOOK);
            },
            Life::Kernel => match mounting.wait(until, Enough::End).map_err(|error| refuse(&error.to_string()))? {
                Went::Well if table::count(target) > *below => {
                    table::disarm(target).map_err(|error| refuse(&error.to_string()))?;
                    Ok(None)
                }
                Went::Well => Err(failed(&planned.mount, Went::Badly(0), &mounting.said)
                    .with_detail("Reason", format!("the command ended well, but nothing is mounted at {}", target.display()))),
                went => Err(failed(&planned.mount, went, &mounting.said)),
            },
        }
    }

    /// What is to be run, and over which way.
    fn plan(&self, hidden: &mut Vec<String>) -> Result<Plan, String> {
        let source: &Source = &self.hold.mount.source;
        let text = |error: io::Error| error.to_string();
        let kernel = std::fs::read_to_string("/proc/filesystems").map_err(text)?;
        let way = match (&self.hold.gate, way(source, &kernel)) {
            (Some(gate), Some(way)) => {
                // Said before any program tries, in words that name what is in the way.
                if let Some(why) = relay::refusal(gate, &way.to) {
                    return Err(why);
                }
                Some(relay::open(way, gate.clone()).map_err(text)?)
            }
            _ => None,
        };
        let site = Site {
            target: &self.hold.target,
            cache: &self.hold.cache,
            user: self.hold.user.as_ref(),
            kernel: &kernel,
            commands: self.hold.commands,
            gate: self.hold.gate.as_deref(),
        };
        let hide = |password: &str| {
            if !is_here("rclone") {
                return Err("the program rclone is not installed on this node".to_owned());
            }
            let obscured = obscure(password).map_err(text)?;
            hidden.push(obscured.clone());
            Ok(obscured)
        };
        plan(source, &site, way.as_ref(), hide)
    }

    fn refused(&self, name: &Named, why: &str) -> EntityError {
        let error = EntityError::new(name.code, format!("{}: {why}.", name.message));
        self.with_place(error, name)
    }

    fn failed(&self, name: &Named, program: &Program, went: Went, said: &str) -> EntityError {
        let (why, code) = match went {
            Went::Well => ("", None),
            Went::Badly(code) => ("", Some(code)),
            Went::Late => (": it was not mounted in time", None),
        };
        let mut error = self.with_place(EntityError::new(name.code, format!("{}{why}", name.message)), name);
        error = error.with_detail("Command", program.shown());
        if let Some(code) = code {
            error = error.with_detail("ExitCode", code.to_string());
        }
        if said.is_empty() { error } else { error.with_detail("StdErr", said) }
    }

    fn with_place(&self, error: EntityError, name: &Named) -> EntityError {
        let info = format!("Could not mount {} at {}", name.what, self.hold.mount.place);
        error.with_detail("Info", info).with_detail("nodeId", self.hold.node_id.clone())
    }

    /// Holds the mount until it is told to stop, or its program ends.
    fn hold(&mut self, mut program: Option<Running>) -> End {
        let handle = program.as_ref().and_then(|running| Handle::open(i32::try_from(running.child.id()).ok()?, || true));
        let time = Timespec::try_from(REAP).ok();
        loop {
            let mut on = vec![PollFd::new(self.pipes.control(), PollFlags::IN)];
            on.extend(handle.iter().map(|handle| PollFd::new(&handle.descriptor, PollFlags::IN)));
            let _ = poll(&mut on, time.as_ref());
            if let Some(grace) = self.listen() {
                return self.leave(program.as_mut(), handle.as_ref(), grace);
            }
            match &mut program {
                Some(running) => {
                    if let Ok(Some(status)) = running.child.try_wait() {
                        let said = running.said.without(&secrets(&self.hold.mount.source));
                        return End::Lost { why: format!("The program that serves the mount ended ({status}). {said}") };
                    }
                }
                // What a command left running has no other parent.
                None => {
                    while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {}
                }
            }
        }
    }

    /// Waits until all is written, takes the mount away, and lets its program end.
    fn leave(&self, program: Option<&mut Running>, handle: Option<&Handle>, grace: Duration) -> End {
        let written = match program {
            Some(_) => cache::wait_written(&self.hold.cache, grace),
            None => Ok(()),
        };
        let _ = table::detach(&self.hold.target, self.hold.below);
        if let (Some(program), Some(handle)) = (program, handle) {
            let until = Instant::now() + LEAVE;
            let mut asked = false;
            while matches!(program.child.try_wait(), Ok(None)) {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    program.end();
                    break;
                }
                let time = Timespec::try_from(if asked { left } else { left.min(Duration::from_secs(1)) }).ok();
                let _ = poll(&mut [PollFd::new(&handle.descriptor, PollFlags::IN)], time.as_ref());
                if !std::mem::replace(&mut asked, true) {
                    let _ = handle.signal(Signal::TERM);
                }
            }
        }
        match written {
            Ok(()) => End::Exited { code: 0 },
            Err(count) => End::Lost { why: format!("{count} files could not be written to the storage in time.") },
        }
    }

    /// The grace of the last word to stop, if there was one.
    fn listen(&mut self) -> Option<Duration> {
        let grace = |told| match told {
            Told::Stop { grace_ms } => Some(Duration::from_millis(grace_ms.into())),
            Told::Run => None,
        };
        self.pipes.told().into_iter().filter_map(grace).next_back()
    }

    fn tell(&mut self) -> io::Result<()> {
        self.pipes.tell(&self.folder, &self.record)
    }
}
