//! Runs a program that mounts, within a time, and keeps the last that it said.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::agent::mount::plan::{Program, SELF, SHELL};

/// Lines of a program's errors that are kept, and the length of each. Unit of the length: bytes.
const KEPT: (usize, usize) = (10, 400);

/// Where programs are found.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Time between looks at something that no descriptor tells.
const LOOK: Duration = Duration::from_millis(20);

/// How long a program that has ended is listened to.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a program says on its standard error: the last of it.
#[derive(Clone, Default)]
pub(super) struct Said(Arc<Mutex<VecDeque<String>>>);

impl Said {
    fn add(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT.0 {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last lines, without `secrets`.
    pub(super) fn without(&self, secrets: &[String]) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
        secrets.iter().filter(|secret| !secret.is_empty()).fold(text, |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// How a program went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// It did what was wanted of it.
    Well,
    /// It ended otherwise. A signal shows as 128 + its number.
    Badly(i32),
    /// It was ended at the end of the time.
    Late,
}

/// What is heard of a program.
enum Heard {
    Output,
    Closed,
}

/// A program that runs.
pub(super) struct Running {
    /// It.
    pub(super) child: Child,
    /// What it said.
    pub(super) said: Said,
    heard: Receiver<Heard>,
    /// Pipes of it that are not at their end.
    open: usize,
}

/// Whether a program is here.
pub(super) fn is_here(name: &str) -> bool {
    [SELF, SHELL].contains(&name) || PATH.split(':').any(|folder| Path::new(folder).join(name).exists())
}

/// Starts a program. Its home is `home`; nothing of this process's environment is its.
///
/// # Errors
/// It cannot be started.
pub(super) fn start(program: &Program, home: &Path) -> io::Result<Running> {
    let mut command = match program.name {
        SHELL => {
            let mut shell = Command::new("/bin/bash");
            shell.arg("-c");
            shell
        }
        SELF => Command::new("/proc/self/exe"),
        name => Command::new(name),
    };
    command
        .args(&program.arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", home)
        .env("LANG", "C.UTF-8")
        .envs(program.variables.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    // Handed down by its number; it goes with the last process that has it.
    let memory = program.settings.as_deref().map(in_memory).transpose()?;
    if let Some(memory) = &memory {
        command.env("RCLONE_CONFIG", format!("/proc/self/fd/{}", memory.as_raw_fd()));
    }
    let mut child =
        command.spawn().map_err(|error| io::Error::new(error.kind(), format!("cannot start {}: {error}", program.name)))?;
    let (sender, heard) = channel();
    let said = Said::default();
    if let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) {
        listen_to_output(output, sender.clone())?;
        listen_to_errors(errors, said.clone(), sender)?;
    }
    Ok(Running { child, said, heard, open: 2 })
}

/// A file that is nowhere but in memory, and that what is started has as well.
fn in_memory(text: &str) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("settings", rustix::fs::MemfdFlags::empty())?);
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn listen_to_output(mut output: impl Read + Send + 'static, heard: Sender<Heard>) -> io::Result<()> {
    std::thread::Builder::new().name("output".into()).stack_size(64 * 1024).spawn(move || {
        let mut buffer = [0; 4096];
        while matches!(output.read(&mut buffer), Ok(1..)) {
            let _ = heard.send(Heard::Output);
        }
        let _ = heard.send(Heard::Closed);
    })?;
    Ok(())
}

fn listen_to_errors(errors: impl Read + Send + 'static, said: Said, heard: Sender<Heard>) -> io::Result<()> {
    std::thread::Builder::new().name("errors".into()).stack_size(64 * 1024).spawn(move || {
        let mut errors = BufReader::new(errors);
        let mut line = Vec::new();
        // A line without an end is taken in pieces.
        while matches!((&mut errors).take(4096).read_until(b'\n', &mut line), Ok(1..)) {
            let mut text = String::from_utf8_lossy(&line).trim_end().to_owned();
            while text.len() > KEPT.1 {
                text.pop();
            }
            said.add(text);
            line.clear();
        }
        let _ = heard.send(Heard::Closed);
    })?;
    Ok(())
}

impl Running {
    /// Waits until it has ended, has written something where that is `enough`, or the time is over: then it is ended.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub(super) fn wait(&mut self, until: Instant, enough: Enough) -> io::Result<Went> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.hear_out();
                return Ok(went(status));
            }
            if Instant::now() >= until {
                self.end();
                return Ok(Went::Late);
            }
            match self.heard.recv_timeout(LOOK) {
                Ok(Heard::Output) if enough == Enough::Output => {
                    self.end();
                    return Ok(Went::Well);
                }
                Ok(Heard::Closed) => self.open = self.open.saturating_sub(1),
                Ok(Heard::Output) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
            }
        }
    }

    /// What it said last may still be on its way; what it started may hold the pipes for longer, and is not waited for.
    fn hear_out(&mut self) {
        let until = Instant::now() + LAST_WORDS;
        while self.open > 0 {
            match self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Heard::Closed) => self.open -= 1,
                Ok(Heard::Output) => {}
                Err(_) => return,
            }
        }
    }

    /// Ends it and its group by force.
    pub(super) fn end(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        // It may be in the kernel's hands for longer: then it is left to it.
        let until = Instant::now() + Duration::from_secs(2);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
    }
}

/// What is enough of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enough {
    /// Its end.
    End,
    /// A byte of output.
    Output,
}

fn went(status: ExitStatus) -> Went {
    match status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()) {
        0 => Went::Well,
        code => Went::Badly(code),
    }
}

/// A password in the form that rclone takes; it goes and comes through pipes.
///
/// # Errors
/// rclone is not here or refuses.
pub(super) fn obscure(password: &str) -> io::Result<String> {
    let mut child = Command::new("rclone")
        .args(["obscure", "-"])
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(password.as_bytes())?;
    }
    let done = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    if done.status.success() && !text.is_empty() {
        Ok(text)
    } else {
        Err(io::Error::other("rclone does not take the account's key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Running {
        let program = Program {
            name: SHELL,
            arguments: vec![line.into()],
            variables: vec![("KEY".into(), "canary".into())],
            settings: None,
        };
        start(&program, Path::new("/")).expect("started")
    }

    #[test]
    fn a_program_goes_well_badly_or_late_and_says_no_secret() {
        let soon = || Instant::now() + Duration::from_secs(20);
        assert_eq!(shell("exit 0").wait(soon(), Enough::End).expect("waited"), Went::Well);
        let mut bad = shell("for i in $(seq 20); do echo line $i of $KEY >&2; done; exit 3");
        assert_eq!(bad.wait(soon(), Enough::End).expect("waited"), Went::Badly(3));
        let said = bad.said.without(&["canary".to_owned()]);
        assert!(said.lines().count() <= 10 && said.ends_with("line 20 of ***"), "{said}");
        let began = Instant::now();
        let mut late = shell("sleep 100 & sleep 100");
        assert_eq!(late.wait(Instant::now() + Duration::from_millis(100), Enough::End).expect("waited"), Went::Late);
        assert_eq!(shell("echo x; sleep 100").wait(soon(), Enough::Output).expect("waited"), Went::Well);
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
