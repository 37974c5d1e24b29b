//! A conversation with one machine by the system's ssh client.
//!
//! The machine's key is the one that was written down, or nothing is said. What is run there is one fixed line, which is what the key may
//! be allowed to run and nothing else ([`authorized_key`]): it takes this program in, where it is not there yet, and becomes it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use sha2::{Digest, Sha256};

use crate::driver::ssh::words::{Ask, FOLDER, Hello, SUBCOMMAND, Told};
use crate::driver::ssh::{Login, Machine};

/// The client.
const SSH: &str = "/usr/bin/ssh";

/// Tells the client the machine's key, in place of a file of them.
const ECHO: &str = "/bin/echo";

/// Longest time from the start of the client to the machine's first word, but for the time that the program takes to get there.
const GREETING: Duration = Duration::from_secs(20);

/// Longest time that the program may take to get there.
const COPYING: Duration = Duration::from_secs(90);

/// Longest answer. Unit: bytes.
const MAX_LINE: usize = 1 << 20;

/// Most of what the client says of a failure. Unit: bytes.
const MAX_WORDS: u64 = 1_024;

/// What the client says where the machine's key is another one.
///
/// Source: OpenSSH, `sshconnect.c`.
const OTHER_KEY: &str = "Host key verification failed";

/// Why a machine does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// In the client's words, or the machine's.
    pub(super) why: String,
    /// Whether it is not to be asked again: someone else may be in its place.
    pub(super) is_lasting: bool,
}

impl Trouble {
    pub(super) fn passing(why: impl Into<String>) -> Trouble {
        Trouble { why: why.into(), is_lasting: false }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::passing(error.to_string())
    }
}

/// The line of `authorized_keys` by which a machine lets a server in to be a machine of the pool, and to nothing else: no terminal, no
/// forwarding, no other command.
pub fn authorized_key(public_key: &str) -> String {
    format!("restrict,command=\"{}\" {}", script(), public_key.trim())
}

/// What is run on a machine. It has no double quotes: `authorized_keys` puts it between some.
fn script() -> String {
    format!(
        "set -eu; umask 077; s=; [ $(id -u) -eq 0 ] || s='sudo -n'; d={FOLDER}/bin; read -r h n; f=$d/$h; \
         if $s test -x $f; then echo have; else echo want; $s mkdir -p $d; t=$f.$$; head -c $n | $s tee $t >/dev/null; \
         printf '%s  %s\\n' $h $t | $s sha256sum -c --status; $s chmod 700 $t; $s mv $t $f; fi; exec $s $f {SUBCOMMAND}"
    )
}

/// This program, as machines are given it.
pub(super) struct Program {
    pub(super) file: std::path::PathBuf,
    pub(super) digest: String,
    size: u64,
}

impl Program {
    /// Reads it once.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(file: std::path::PathBuf) -> io::Result<Program> {
        let (mut content, mut hash, mut size) = (File::open(&file)?, Sha256::new(), 0);
        let mut piece = vec![0; 1 << 20];
        loop {
            match content.read(&mut piece)? {
                0 => break,
                length => {
                    hash.update(piece.get(..length).unwrap_or_default());
                    size += u64::try_from(length).map_err(io::Error::other)?;
                }
            }
        }
        let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Program { file, digest, size })
    }
}

/// A conversation.
pub(super) struct Session {
    client: Child,
    input: ChildStdin,
    output: ChildStdout,
    heard: Vec<u8>,
    errors: File,
}

impl Session {
    /// Begins one.
    ///
    /// # Errors
    /// The machine is not reached, is not the one that it was, or cannot be a node.
    pub(super) fn open(machine: &Machine, login: &Login, program: &Program, hello: &Hello) -> Result<Session, Trouble> {
        let errors = File::from(rustix::fs::memfd_create("ssh", MemfdFlags::CLOEXEC).map_err(io::Error::from)?);
        let mut client = client(machine, login)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone()?)
            .spawn()
            .map_err(|error| Trouble::passing(format!("{SSH}: {error}")))?;
        let (Some(input), Some(output)) = (client.stdin.take(), client.stdout.take()) else {
            return Err(Trouble::passing("the client has no pipes"));
        };
        let mut session = Session { client, input, output, heard: Vec::new(), errors };
        match session.greet(program, hello) {
            Ok(Told::Failed { why, .. }) => Err(Trouble::passing(why)),
            Ok(_) => Ok(session),
            Err(error) => Err(session.explain(&error)),
        }
    }

    fn greet(&mut self, program: &Program, hello: &Hello) -> io::Result<Told> {
        writeln!(self.input, "{} {}", program.digest, program.size)?;
        let copying = match self.hear(GREETING)?.as_slice() {
            b"have" => Duration::ZERO,
            b"want" => {
                io::copy(&mut File::open(&program.file)?, &mut self.input)?;
                COPYING
            }
            other => return Err(io::Error::other(format!("it says '{}'", String::from_utf8_lossy(other)))),
        };
        self.say(hello)?;
        Ok(serde_json::from_slice(&self.hear(GREETING + copying)?)?)
    }

    /// Asks, and waits for the answer. After an error the session is of no use.
    ///
    /// # Errors
    /// The machine does not answer: what was asked for may or may not be done.
    pub(super) fn ask(&mut self, ask: &Ask, within: Duration) -> Result<Told, Trouble> {
        let answer = self.say(ask).and_then(|()| Ok(serde_json::from_slice(&self.hear(within)?)?));
        answer.map_err(|error| self.explain(&error))
    }

    fn say(&mut self, word: &impl serde::Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(word)?;
        line.push(b'\n');
        self.input.write_all(&line)
    }

    /// The next line, without its end.
    fn hear(&mut self, within: Duration) -> io::Result<Vec<u8>> {
        let until = Instant::now() + within;
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let rest = self.heard.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.heard, rest);
                line.pop();
                return Ok(line);
            }
            if self.heard.len() > MAX_LINE {
                return Err(io::Error::other("its answer has no end"));
            }
            let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&left)) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it does not answer within {within:?}"))),
                Err(rustix::io::Errno::INTR) => continue,
                polled => polled?,
            };
            let mut piece = [0; 8_192];
            match self.output.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.heard.extend_from_slice(piece.get(..length).unwrap_or_default()),
            }
        }
    }

    /// What the client says of a failure, or else the failure itself.
    fn explain(&mut self, error: &io::Error) -> Trouble {
        // One that lost its machine says so when it ends.
        let _ = wait(&mut self.client);
        let mut words = String::new();
        let _ = self.errors.rewind().and_then(|()| Read::by_ref(&mut self.errors).take(MAX_WORDS).read_to_string(&mut words));
        let is_lasting = words.contains(OTHER_KEY);
        let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
        match (is_lasting, last.is_empty()) {
            (true, _) => {
                Trouble { why: "its host key is not the one in the settings: it may be another machine".into(), is_lasting }
            }
            (false, true) => Trouble::passing(error.to_string()),
            (false, false) => Trouble::passing(last),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// Gives a client whose machine is gone a moment to end by itself, and ends it.
fn wait(client: &mut Child) -> io::Result<()> {
    let process: OwnedFd =
        rustix::process::pidfd_open(rustix::process::Pid::from_child(client), rustix::process::PidfdFlags::empty())?;
    let moment = Timespec { tv_sec: 1, tv_nsec: 0 };
    let _ = poll(&mut [PollFd::new(&process.as_fd(), PollFlags::IN)], Some(&moment));
    client.kill()?;
    client.wait().map(drop)
}

/// The client, told everything that it is to know: no file of this host's settings, no agent, no forwarding, and one key to believe.
fn client(machine: &Machine, login: &Login) -> Command {
    let mut client = Command::new(SSH);
    client.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/").args(["-F", "none", "-T", "-a", "-x"]);
    let known = format!("KnownHostsCommand={ECHO} {} {}", machine.name, login.host_key);
    let alias = format!("HostKeyAlias={}", machine.name);
    let options = [
        known.as_str(),
        alias.as_str(),
        "UserKnownHostsFile=none",
        "GlobalKnownHostsFile=none",
        "StrictHostKeyChecking=yes",
        "UpdateHostKeys=no",
        "CheckHostIP=no",
        "VerifyHostKeyDNS=no",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "PreferredAuthentications=publickey",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "ControlPath=none",
        "ConnectTimeout=5",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
        "LogLevel=ERROR",
    ];
    for option in options {
        client.args(["-o", option]);
    }
    client.arg("-i").arg(&login.key).args(["-p", &login.port.to_string(), "-l", &login.user, "--", &login.host, &script()]);
    client
}
