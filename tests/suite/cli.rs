//! The command line against a real server with real nodes, run as people and pipelines run it.
//!
//! Each test has its own resource group and its own folder of profiles. Live views run on a pseudo-terminal that `script` makes, and are
//! read back as a screen.

#[path = "cli/help.rs"]
mod help;
#[path = "cli/jobs.rs"]
mod jobs;
#[path = "cli/resources.rs"]
mod resources;
#[path = "cli/sign_in.rs"]
mod sign_in;
#[path = "cli/terminal.rs"]
mod terminal;

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::Server;

/// An account at a terminal: a folder of its own, and the environment that it has.
struct Shell {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// What a command did.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

impl Shell {
    /// Somebody who never used this program.
    fn new() -> Shell {
        Shell { folder: TempDir::new().expect("a folder"), variables: Vec::new() }
    }

    /// A pipeline: all that it knows is in the environment.
    fn pipeline(server: &Server) -> Shell {
        let mut shell = Shell::new();
        for name in [
            "BATCHYARD_ENDPOINT",
            "BATCHYARD_CA",
            "BATCHYARD_SUBSCRIPTION",
            "BATCHYARD_TENANT",
            "BATCHYARD_CLIENT_ID",
            "BATCHYARD_CLIENT_SECRET",
            "BATCHYARD_TOKEN",
        ] {
            shell.set(name, server.value(name));
        }
        shell
    }

    /// A pipeline in a group, workspace and experiment of its own, which it makes by commands.
    fn at_work() -> Shell {
        let mut shell = Shell::pipeline(Server::shared());
        let group = format!("c{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        for (name, value) in [("GROUP", group.as_str()), ("WORKSPACE", "w"), ("EXPERIMENT", "e"), ("CLUSTER", "c")] {
            shell.set(&format!("BATCHYARD_DEFAULTS_{name}"), value);
        }
        shell.run("group create").expect(0);
        shell.run("workspace create").expect(0);
        shell.run("experiment create").expect(0);
        shell
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.folder.path())
            .env("LANG", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path());
        command
    }

    /// Runs a command; words are separated by blanks, and quoted as a shell quotes them.
    fn run(&self, words: &str) -> Ran {
        self.run_with(words, "")
    }

    /// The same with standard input.
    fn run_with(&self, words: &str, input: &str) -> Ran {
        let line = format!("exec {} {words}", env!("CARGO_BIN_EXE_batchyard"));
        let mut child = self
            .command("bash")
            .args(["-c", &line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        // It may end without reading.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("ends");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Writes a file in the folder that commands run in.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("writes");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}
