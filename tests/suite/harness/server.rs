//! Servers of the real binary.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use crate::harness::api::Api;
use crate::harness::guard::Guard;
use crate::harness::wait::PATIENCE;

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Lines of its configuration file beside those that every test has.
    pub config: String,
    /// The same, of the section `[limits]`.
    pub limits: String,
    /// The database of `serve`; `None` starts `up`.
    pub database: Option<String>,
    /// The program; `None` for the one that was built.
    pub binary: Option<PathBuf>,
    /// Variables, for what is secret.
    pub environment: Vec<(String, String)>,
    /// Whether its nodes have no share.
    pub without_share: bool,
    /// Whether it listens for https where its configuration says, and not at a free port of loopback.
    pub keeps_https: bool,
}

/// A server and its folder. All that it started ends with it.
pub struct Server {
    child: Child,
    name: String,
    settings: Settings,
    guard: Arc<Guard>,
    env: BTreeMap<String, String>,
}

impl Server {
    /// A new installation by `batchyard up`.
    pub fn up() -> Server {
        Server::start(Settings::default())
    }

    /// A new installation.
    pub fn start(settings: Settings) -> Server {
        Server::start_in(Arc::new(Guard::new()), "1", settings)
    }

    /// Another server of the installation in the folder of `guard`.
    pub fn start_in(guard: Arc<Guard>, name: &str, settings: Settings) -> Server {
        let child = spawn(guard.dir(), name, &settings);
        let mut server = Server { child, name: name.to_owned(), settings, guard, env: BTreeMap::new() };
        server.wait_for_env();
        server
    }

    /// One installation for all tests of this process that can share it.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Server::up)
    }

    /// A client of this server with the first owner's token, for one test: connections belong to the test's runtime.
    pub fn api(&self) -> Api {
        Api::new(self.value("BATCHYARD_ENDPOINT"), self.value("BATCHYARD_SUBSCRIPTION"), self.value("BATCHYARD_TOKEN"))
    }

    /// One of the assignments of the env file.
    pub fn value(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("{name} is in the env file"))
    }

    /// The installation's folder.
    pub fn dir(&self) -> &Path {
        self.guard.dir()
    }

    /// What keeps the folder.
    pub fn guard(&self) -> Arc<Guard> {
        Arc::clone(&self.guard)
    }

    /// The host folder that nodes see as the share.
    pub fn share(&self) -> PathBuf {
        self.dir().join("share")
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first processes of the installation's nodes: those that `batchyard node-init` became.
    pub fn node_processes(&self) -> Vec<u32> {
        let nodes = self.dir().join("data/nodes").display().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("readable").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<_> = command.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
            if words.get(1).is_some_and(|word| word == "node-init") && words.get(2).is_some_and(|word| word.contains(&nodes)) {
                found.push(pid);
            }
        }
        found
    }

    /// What an installation has on its host beside the server and its database.
    pub fn remains(&self) -> Vec<String> {
        let nodes = self.dir().join("data/nodes").display().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("readable").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let command =
                String::from_utf8_lossy(&std::fs::read(entry.path().join("cmdline")).unwrap_or_default()).replace('\0', " ");
            if command.contains(&nodes) {
                found.push(format!("process {pid}: {command}"));
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
        found.extend(mounts.lines().filter(|line| line.contains(&nodes)).map(|line| format!("mount {line}")));
        for folder in ["nodes", "clusters"] {
            let path = self.dir().join("data/nodes").join(folder);
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                found.push(format!("folder {}", entry.path().display()));
            }
        }
        let owner = format!("batchyard-by{}", &self.value("BATCHYARD_TENANT")[..8]);
        let groups = std::process::Command::new("find")
            .args(["/sys/fs/cgroup", "-type", "d", "-path", &format!("*/{owner}/?*")])
            .output()
            .expect("find runs");
        found.extend(String::from_utf8_lossy(&groups.stdout).lines().map(|line| format!("control group {line}")));
        found
    }

    /// Kills one process by its id.
    pub fn kill_process(&self, pid: u32) {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("is there");
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_file(self.dir(), &self.name)).unwrap_or_default()
    }

    /// The same installation, started again with these secrets in a key vault that is a folder. Answers what names one of them.
    pub fn with_vault(mut self, secrets: &[(&str, &str)]) -> (Server, impl Fn(&str) -> serde_json::Value + use<>) {
        // The subscription's id is made by the first start.
        let subscription = self.value("BATCHYARD_SUBSCRIPTION").to_owned();
        self.terminate();
        let folder = self.dir().join("vault");
        std::fs::create_dir(&folder).expect("made");
        for (name, value) in secrets {
            std::fs::write(folder.join(name), format!("{value}\n")).expect("written");
        }
        let id = format!("/subscriptions/{subscription}/resourceGroups/keys/providers/Microsoft.KeyVault/vaults/files");
        let vault = format!("[[vault]]\nid = {id:?}\nurl = \"https://files.vault.azure.net\"\nfolder = {folder:?}\n");
        let settings = Settings { config: format!("{}\n{vault}", self.settings.config), ..self.settings.clone() };
        let server = Server::start_in(self.guard(), "2", settings);
        let reference = move |name: &str| {
            let url = format!("https://files.vault.azure.net/secrets/{name}");
            serde_json::json!({ "sourceVault": { "id": id }, "secretUrl": url })
        };
        (server, reference)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("ends");
    }

    /// Ends it as an operator would, and waits for that.
    pub fn terminate(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("is there");
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the server did not end: {}", self.tail());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as an error of its own would, and would leave a core behind.
    pub fn abort(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::ABORT).expect("is there");
        self.child.wait().expect("ends")
    }

    /// Starts it again on the same folder, after it ended.
    pub fn restart(&mut self) {
        self.child = spawn(self.guard.dir(), &self.name, &self.settings);
        self.wait_for_env();
    }

    /// Waits for the env file, which the server writes once its API answers.
    fn wait_for_env(&mut self) {
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).expect("watches");
        inotify::add_watch(&watch, self.guard.dir(), inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO)
            .expect("watches");
        let file = env_file(self.guard.dir(), &self.name);
        let began = Instant::now();
        while !file.exists() {
            if let Some(status) = self.child.try_wait().expect("waits") {
                panic!("the server ended with {status} (signal {:?}) before it was ready: {}", status.signal(), self.tail());
            }
            assert!(began.elapsed() < PATIENCE, "the server is not ready: {}", self.tail());
            // Until a file appears; now and then, to see whether the server is still there.
            let _ = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 }));
            let _ = rustix::io::read(&watch, &mut [0; 4096]);
        }
        self.env = std::fs::read_to_string(&file)
            .expect("reads")
            .lines()
            .filter_map(|line| line.trim_start_matches("export ").split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
            .collect();
    }

    /// The end of its log, for a panic's text.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("the end of its log:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("server {}: {}", self.name, self.tail());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn env_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("env{name}"))
}

fn log_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("log{name}"))
}

fn spawn(dir: &Path, name: &str, settings: &Settings) -> Child {
    let _ = std::fs::remove_file(env_file(dir, name));
    let config = dir.join(format!("config{name}.toml"));
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log_file(dir, name)).expect("opens");
    std::fs::write(
        &config,
        format!(
            "[limits]\nclusters = 1000\n{}\n[log]\nfilter = \"info,batchyard=debug\"\nformat = \"text\"\n{}",
            settings.limits, settings.config
        ),
    )
    .expect("writes");
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_batchyard"));
    let mut command = Command::new(settings.binary.clone().unwrap_or_else(built));
    match &settings.database {
        None => command.arg("up"),
        Some(url) => command.arg("serve").env("DATABASE_URL", url),
    };
    command.envs(settings.environment.iter().cloned());
    if !settings.without_share {
        command.arg("--share").arg(dir.join("share"));
    }
    if !settings.keeps_https {
        command.args(["--tls-port", "0"]);
    }
    command
        .args(["--port", "0", "--config"])
        .arg(&config)
        .arg("--data")
        .arg(dir.join("data"))
        .arg("--env-file")
        .arg(env_file(dir, name))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the binary runs")
}
