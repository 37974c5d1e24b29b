//! What a supervisor is handed for a job and for a setup task.

use std::path::PathBuf;

use crate::agent::gang::Gang;
use crate::agent::isolate::Rights;
use crate::agent::layout::{self, FileNames, Layout, Place, Roots, Variables};
use crate::agent::protocol::{Assignment, SetupTask, Step};
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

    /// The work of one part of a job.
    pub(super) fn job_work(&self, assignment: &Assignment, layout: Layout, variables: &Variables) -> Work {
        let task = &assignment.task;
        let user = self.bootstrap.job_user.as_ref();
        let temp = layout.temp.path();
        // The home goes with the job: what it leaves there is not the next one's.
        let base = self.base(temp.to_string_lossy().into_owned(), user.map_or("root", |user| user.name.as_str()));
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
            hidden: self.hidden.clone(),
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
                host_file: task.host_file.clone(),
            }),
            preparation: task.preparation.clone(),
            processes: processes.collect(),
            gang: task.session.as_ref().map(|session| Gang {
                hosts: task.hosts.clone(),
                rank: assignment.rank,
                session: session.clone(),
                folder: self.bootstrap.gangs.as_ref().map(|gangs| gangs.join(assignment.attempt.to_string())),
            }),
            released: assignment.step == Step::Run,
        }
    }

    /// The work of a setup task.
    pub(super) fn setup_work(&self, task: &SetupTask, place: Place, files: FileNames, variables: &Variables) -> Work {
        let home = match self.bootstrap.isolation {
            Isolation::Namespaces => "/root".to_owned(),
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

/// Whether a process with this environment belongs to `attempt`.
pub(super) fn belongs_to(environment: &[u8], attempt: AttemptUid) -> bool {
    let mark = format!("{ATTEMPT_VARIABLE}={attempt}");
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}
