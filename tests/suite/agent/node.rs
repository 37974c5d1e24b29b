//! A node's folders and its agent, as a process.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use batchyard::agent::protocol::{Assignment, Desired, Host, OutputDirectory, Step, Task, TaskNames};
use batchyard::domain::attempt::Stop;
use batchyard::domain::bootstrap::{AgentBootstrap, Isolation, JobUser, ServerAddress};
use batchyard::domain::machine::Size;
use batchyard::domain::process::{Process, Role};
use batchyard::domain::resource::NameValue;
use batchyard::id::AttemptUid;
use uuid::Uuid;

use super::server::{DEADLINE, Server};

/// Jobs run as this one, which is nobody on the host.
const JOB: u32 = 79_000;

pub(super) struct Node {
    pub(super) dir: PathBuf,
    pub(super) server: Server,
    agent: Option<Child>,
}

impl Node {
    /// A node whose agent runs. None where this process may not make namespaces, and need not.
    pub(super) fn namespaces() -> Option<Node> {
        let is_root = rustix::process::geteuid().is_root();
        let may =
            is_root && Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).status().is_ok_and(|s| s.success());
        if !may {
            let required = std::env::var("BATCHYARD_TEST_PRIVILEGE").is_ok_and(|v| v == "required");
            assert!(!required, "namespaces are demanded here");
            eprintln!("skipped: needs root and namespaces");
            return None;
        }
        Some(Node::new(Isolation::Namespaces))
    }

    /// A node whose agent runs.
    pub(super) fn new(isolation: Isolation) -> Node {
        let dir = std::env::temp_dir().join(format!("batchyard-agent-{}", Uuid::now_v7().simple()));
        for name in [
            "private/state",
            "private/sockets",
            "tasks/shared/LS_root/mounts/shared",
            "tasks/shared/LS_root/jobs",
            "tasks/startup",
        ] {
            std::fs::create_dir_all(dir.join(name)).expect("made");
        }
        std::fs::set_permissions(dir.join("private"), std::fs::Permissions::from_mode(0o700)).expect("set");
        let server = Server::start(&dir.join("private/sockets"));
        let bootstrap = AgentBootstrap {
            login: None,
            store: None,
            machine: "machine-1".into(),
            node_id: "tvm-1".into(),
            join_token: "token-canary-4711".into(),
            server: ServerAddress::Sockets(dir.join("private/sockets")),
            isolation,
            state_dir: dir.join("private/state"),
            tasks_root: dir.join("tasks"),
            shares: vec!["shared".into()],
            job_user: (isolation == Isolation::Namespaces).then(|| JobUser { name: "batch".into(), uid: JOB, gid: JOB }),
            job_groups: vec![],
            gangs: None,
            names: None,
            fence: None,
            engine: None,
            gate: None,
            mount_commands: false,
            gpus: Vec::new(),
            gpu_library: None,
        };
        std::fs::write(dir.join("private/bootstrap.json"), serde_json::to_vec(&bootstrap).expect("a document")).expect("written");
        let mut node = Node { dir, server, agent: None };
        node.start_agent();
        node
    }

    pub(super) fn start_agent(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("agent.log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_batchyard"))
            .arg("agent")
            .arg(self.dir.join("private/bootstrap.json"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the agent starts");
        self.agent = Some(child);
    }

    /// Ends the agent as a power cut would, and it alone.
    pub(super) fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().expect("killed");
            agent.wait().expect("waited for");
        }
    }

    /// A path below the share.
    pub(super) fn share(&self) -> PathBuf {
        self.dir.join("tasks/shared/LS_root/mounts/shared")
    }

    /// A path below the folder of jobs.
    pub(super) fn temp(&self) -> PathBuf {
        self.dir.join("tasks/shared/LS_root/jobs/w/e/j")
    }

    /// The folder of an attempt's record.
    pub(super) fn record(&self, attempt: AttemptUid) -> PathBuf {
        let all = std::fs::read_dir(self.dir.join("private/state/assignments")).into_iter().flatten().flatten();
        let name = format!("{attempt}.");
        let own =
            all.map(|entry| entry.path()).find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&name)));
        own.unwrap_or_else(|| self.dir.join("absent"))
    }

    /// The supervisors that run.
    pub(super) fn supervisors(&self) -> Vec<i32> {
        let mark = format!("supervise\0{}", self.dir.display());
        processes().into_iter().filter(|pid| cmdline(*pid).contains(&mark)).collect()
    }

    /// Makes the node run this.
    pub(super) fn want(&self, assignments: impl IntoIterator<Item = Assignment>) {
        self.server.want(Desired {
            export: None,
            unmet: None,
            account: None,
            mounts: vec![],
            setup: None,
            assignments: assignments.into_iter().collect(),
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default());
        }
        self.kill_agent();
        for pid in self.supervisors() {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid).expect("a number"),
                rustix::process::Signal::KILL,
            );
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A job with its output where the agent ships it from.
pub(super) fn job(command: &str) -> Assignment {
    let attempt = AttemptUid(Uuid::now_v7());
    Assignment {
        attempt,
        number: 1,
        rank: 0,
        step: Step::Run,
        task: Task {
            unmet: None,
            names: TaskNames { workspace: "w".into(), experiment: "e".into(), job: "j".into(), cluster: "c".into() },
            output_segment: format!("sub/rg/workspaces/w/experiments/e/jobs/j/{attempt}"),
            hosts: vec![Host { node_id: "tvm-1".into(), address: "10.0.0.4".into() }],
            size: Size { name: "LOCAL".into(), cores: 1, memory_mib: 512, gpus: 0 },
            processes: vec![process("", command)],
            host_file: "10.0.0.4 slots=1\n".into(),
            mounts: vec![],
            preparation: None,
            container: None,
            std_out_err_path_prefix: "$AZ_BATCHAI_MOUNT_ROOT".into(),
            input_directories: vec![],
            output_directories: vec![OutputDirectory {
                id: "MODEL".into(),
                path_prefix: "$AZ_BATCHAI_MOUNT_ROOT".into(),
                path_suffix: Some("m".into()),
            }],
            environment: vec![],
            session: None,
        },
    }
}

/// A process that leads.
pub(super) fn process(name: &str, command: &str) -> Process {
    Process { name: name.into(), command_line: command.into(), environment: vec![], role: Role::Leader }
}

/// No process.
pub(super) const NOTHING: [i32; 0] = [];

pub(super) fn variable(name: &str, value: &str) -> NameValue {
    NameValue { name: name.into(), value: value.into() }
}

/// The same part, to stop.
pub(super) fn stopping(assignment: &Assignment, grace_ms: u32) -> Assignment {
    Assignment { step: Step::Stop { why: Stop::Terminate, grace_ms }, ..assignment.clone() }
}

pub(super) fn processes() -> Vec<i32> {
    std::fs::read_dir("/proc").expect("there").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

pub(super) fn cmdline(pid: i32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

/// Processes whose arguments hold `mark`, but this one's children that look for it.
pub(super) fn running(mark: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).expect("a number");
    processes().into_iter().filter(|pid| *pid != own && cmdline(*pid).contains(mark)).collect()
}

/// Waits until `found` finds something that no event tells of.
pub(super) async fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < until, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every file below `path`.
pub(super) fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}
