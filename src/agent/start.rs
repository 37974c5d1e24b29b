//! What a supervisor is handed for a job and for a setup task.

use std::path::{Path, PathBuf};

use crate::agent::container::{Access, Bind, Container, Name};
use crate::agent::engine::Socket;
use crate::agent::gang::{Gang, SHARED};
use crate::agent::isolate::Rights;
use crate::agent::layout::{self, FileNames, Layout, Place, Roots, Variables};
use crate::agent::protocol::{self, Assignment, SetupTask, Step};
use crate::agent::work::{JobFolders, Process, Work};
use crate::domain::bootstrap::{AgentBootstrap, Isolation, NODE_VARIABLE};
use crate::domain::process::Role;
use crate::id::AttemptUid;

/// Where programs are found.
///
/// Source: the default of Debian for root, and for accounts with the administrators' folders in it.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Tells which attempt a process belongs to, where no namespace does.
pub(super) const ATTEMPT_VARIABLE: &str = "BATCHYARD_ATTEMPT";

/// What all that is started on this node has in common.
pub(super) struct Starter {
    pub(super) bootstrap: AgentBootstrap,
    pub(super) roots: Roots,
    pub(super) boot_id: String,
    /// Folders and files of ours that nothing may see.
    pub(super) hidden: Vec<PathBuf>,
    /// The variable that marks the node's processes, where there is one.
    pub(super) mark: Option<String>,
    /// By how much the server's clock is before the node's, once that is known.
    pub(super) server_ahead: Option<time::Duration>,
}

impl Starter {
    fn base(&self, home: String, user: &str) -> Variables {
        let mut base = Variables::default();
        for (name, value) in
            [("PATH", PATH), ("HOME", &home), ("USER", user), ("LOGNAME", user), ("SHELL", "/bin/bash"), ("LANG", "C.UTF-8")]
        {
            base.set(name, value);
        }
        base
    }

    fn finish(&self, mut all: Variables, own: &Variables) -> Variables {
        for (name, value) in own.iter() {
            all.set(name, value);
        }
        if let Some(mark) = &self.mark {
            all.set(NODE_VARIABLE, mark.as_str());
        }
        all
    }

    /// The work of one part of a job, in a container of `engine` where there is one. `views` is where its mounts are in the node's view.
    pub(super) fn job_work(
        &self,
        assignment: &Assignment,
        views: &[PathBuf],
        layout: Layout,
        variables: &Variables,
        engine: Option<Socket>,
    ) -> Work {
        let task = &assignment.task;
        let temp = layout.temp.path();
        let gang = task.session.as_ref().map(|session| Gang {
            hosts: task.hosts.clone(),
            rank: assignment.rank,
            session: session.clone(),
            folder: self.bootstrap.gangs.as_ref().map(|gangs| gangs.join(assignment.attempt.to_string())),
            user: self.bootstrap.job_user.clone(),
            in_container: task.container.is_some(),
            names: self.bootstrap.names.clone(),
        });
        let container = match (&task.container, engine) {
            (Some(container), Some(engine)) => Some(self.container(assignment, container, engine, (&temp, views), gang.as_ref())),
            _ => None,
        };
        // In a container the job is its root, and its image says where programs and home are.
        let user = self.bootstrap.job_user.as_ref().filter(|_| container.is_none());
        let base = match &container {
            Some(_) => Variables::default(),
            // The home goes with the job: what it leaves there is not the next one's.
            None => self.base(temp.to_string_lossy().into_owned(), user.map_or("root", |user| user.name.as_str())),
        };
        let mut environment = self.finish(base, variables);
        environment.set(ATTEMPT_VARIABLE, assignment.attempt.to_string());
        let processes = task.processes.iter().map(|process| Process {
            name: process.name.clone(),
            line: process.command_line.clone(),
            environment: layout::own_of(process, variables),
            files: process.files(),
            role: process.role,
        });
        Work {
            title: format!(
                "job {}, attempt {}, rank {} of {}",
                task.names.job,
                assignment.number,
                assignment.rank,
                task.hosts.len()
            ),
            node_id: self.bootstrap.node_id.clone(),
            isolation: self.bootstrap.isolation,
            rights: Rights::None,
            user: user.cloned(),
            // Nothing of the user's is run in sight of it, and the engine's socket is there.
            hidden: if container.is_some() { vec![self.bootstrap.state_dir.clone()] } else { self.hidden.clone() },
            groups: self.bootstrap.job_groups.clone(),
            directory: temp,
            environment,
            standard: layout.standard,
            files: layout.files,
            job: Some(JobFolders {
                number: assignment.number,
                temp: layout.temp,
                outputs: layout.outputs.into_iter().map(|(_, place)| place).collect(),
                own: layout.own,
                mounts: views.iter().cloned().zip(task.mounts.iter().map(|mount| PathBuf::from(&mount.place))).collect(),
                host_file: task.host_file.clone(),
            }),
            preparation: task.preparation.clone(),
            processes: processes.collect(),
            container,
            gang,
            released: assignment.step == Step::Run,
        }
    }

    fn container(
        &self,
        assignment: &Assignment,
        wanted: &protocol::Container,
        engine: Socket,
        (temp, views): (&Path, &[PathBuf]),
        gang: Option<&Gang>,
    ) -> Container {
        let same = |path: &Path, access| Bind { source: path.to_owned(), target: path.to_owned(), access };
        let mut binds = vec![same(&self.roots.base, Access::Follow)];
        binds.extend(gang.and_then(|gang| gang.folder.clone()).map(|source| Bind {
            source,
            target: temp.join(SHARED),
            access: Access::Write,
        }));
        let own = temp.join(layout::MOUNTS);
        binds.extend(views.iter().zip(&assignment.task.mounts).map(|(view, mount)| Bind {
            source: view.clone(),
            target: own.join(&mount.place),
            access: Access::Write,
        }));
        if engine.is_own {
            // Engines write these where they make the network.
            let files = ["/etc/hosts", "/etc/resolv.conf"].map(Path::new);
            binds.extend(files.into_iter().filter(|path| path.is_file()).map(|path| same(path, Access::Read)));
        }
        Container {
            name: Name::of(engine.path, assignment.attempt),
            own_engine: engine.is_own,
            node_id: self.bootstrap.node_id.clone(),
            image: wanted.image.clone(),
            login: wanted.login.clone(),
            limits: wanted.limits,
            shm_size: wanted.shm_size,
            memory: find_memory_limit(&self.bootstrap.job_groups),
            binds,
            keys: gang.filter(|gang| gang.user.is_some()).map(Gang::container_files).unwrap_or_default(),
            // There is nothing to pass through of one that does not exist.
            gpus: self.bootstrap.gpus.iter().filter(|gpu| !gpu.simulated).map(|gpu| gpu.uuid.clone()).collect(),
        }
    }

    /// The work of a setup task.
    pub(super) fn setup_work(&self, task: &SetupTask, place: Place, files: FileNames, variables: &Variables) -> Work {
        let home = match self.bootstrap.isolation {
            Isolation::Namespaces | Isolation::VirtualMachine => "/root".to_owned(),
            Isolation::ProcessGroup => self.roots.startup.to_string_lossy().into_owned(),
        };
        Work {
            title: "setup task".to_owned(),
            node_id: self.bootstrap.node_id.clone(),
            isolation: self.bootstrap.isolation,
            rights: Rights::Root,
            user: None,
            hidden: self.hidden.clone(),
            groups: self.bootstrap.job_groups.clone(),
            directory: self.roots.startup.clone(),
            environment: self.finish(self.base(home, "root"), variables),
            standard: place,
            files,
            job: None,
            preparation: None,
            container: None,
            processes: vec![Process {
                name: String::new(),
                line: task.command_line.clone(),
                environment: Variables::default(),
                files: layout::setup_output(&self.bootstrap.node_id),
                role: Role::Leader,
            }],
            gang: None,
            released: true,
        }
    }
}

/// The memory that what runs in these groups may use together: of a container of it, so that the kernel says whose end it was.
fn find_memory_limit(groups: &[PathBuf]) -> Option<u64> {
    let files = groups.iter().flat_map(|group| [group.join("memory.max"), group.join("memory.limit_in_bytes")]);
    let limits = files.filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    // The first version says no limit by a number that no machine has.
    limits.min().filter(|limit| *limit < 1 << 60)
}

/// Whether a process with this environment belongs to `attempt`.
pub(super) fn belongs_to(environment: &[u8], attempt: AttemptUid) -> bool {
    let mark = format!("{ATTEMPT_VARIABLE}={attempt}");
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}
