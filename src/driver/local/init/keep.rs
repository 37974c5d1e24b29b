//! Keeping the agent running, and reaping whatever ends in the node.
//!
//! Two threads: this one starts the agent and waits for its end, another reaps all children, the agent among them, as the first
//! process of a namespace must.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};

use crate::driver::local::layout::{self, NodeSpec, at};
use crate::driver::local::start::Parent;
use crate::fence;

/// Time between an end of the agent and its next start: the first, and the longest as ends repeat.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// An agent that ran this long did not fail at its start.
const SETTLED: Duration = Duration::from_secs(30);

/// Runs the agent again and again. Says to the server that all is made once it was started for the first time.
///
/// # Errors
/// It cannot be started the first time, or nothing can be reaped.
pub(super) fn keep_running(spec: &NodeSpec, parent: &mut Parent) -> io::Result<()> {
    let (ended, ends) = channel();
    let (started, starts) = channel();
    std::thread::Builder::new().name("reap".into()).spawn(move || reap(&ended, &starts))?;
    if let Some(within) = spec.fence {
        std::thread::Builder::new().name("fence".into()).spawn(move || {
            fence::wait_over(&Path::new(layout::STATE).join(layout::HEARD), within);
            eprintln!("no server answered for {within:?}: the node ends");
            // All else in it goes with this process.
            std::process::exit(1);
        })?;
    }

    let mut pause = BACK_OFF.0;
    let mut first = true;
    loop {
        let began = Instant::now();
        match start_agent(spec, parent.login.as_ref()) {
            Ok(pid) => {
                if std::mem::take(&mut first) {
                    parent.say_ready();
                }
                let _ = started.send(());
                let status = wait_for(pid, &ends)?;
                eprintln!("the agent ended ({status:?}) after {:?}", began.elapsed());
            }
            Err(error) if first => {
                parent.say_failed(&error);
                return Err(error);
            }
            Err(error) => eprintln!("{error}"),
        }
        pause = if began.elapsed() > SETTLED { BACK_OFF.0 } else { pause };
        rest(pause, &ends)?;
        pause = (pause * 2).min(BACK_OFF.1);
    }
}

/// The agent finds the way in for users as its standard input.
fn start_agent(spec: &NodeSpec, login: Option<&OwnedFd>) -> io::Result<i32> {
    let input = match login {
        Some(listener) => Stdio::from(listener.try_clone()?),
        None => Stdio::null(),
    };
    let (program, arguments) = spec.program.split_first().ok_or_else(|| io::Error::other("there is nothing to run"))?;
    let environment: HashMap<_, _> = spec.environment.iter().map(|(name, value)| (name, value)).collect();
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .stdin(input)
        .spawn()
        .map_err(at("start", program.as_ref()))?;
    // Reaped by number: the handle is of no use.
    i32::try_from(child.id()).map_err(io::Error::other)
}

/// Waits for the end of one child. Ends of others are only reaped.
fn wait_for(pid: i32, ends: &Receiver<WaitStatus>) -> io::Result<WaitStatus> {
    loop {
        let status = ends.recv().map_err(io::Error::other)?;
        if status.pid().is_some_and(|ended| ended.as_raw() == pid) {
            return Ok(status);
        }
    }
}

/// Lets time pass without leaving ends unheard.
fn rest(pause: Duration, ends: &Receiver<WaitStatus>) -> io::Result<()> {
    let until = Instant::now() + pause;
    loop {
        match ends.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// Reaps children until nobody listens. Where there are none it sleeps until the agent is started again.
fn reap(ended: &Sender<WaitStatus>, starts: &Receiver<()>) {
    loop {
        match waitpid(None, None) {
            Ok(status) => {
                if ended.send(status).is_err() {
                    return;
                }
            }
            Err(Errno::ECHILD) => {
                if starts.recv().is_err() {
                    return;
                }
            }
            Err(_) => {}
        }
    }
}
