//! What a job starts on its nodes: one pure function a framework, settings and nodes in, processes and files out.
//!
//! Refuses to know how processes are started, where folders are, and that there are containers: paths and arguments name variables,
//! which the node knows.

mod line;
mod mpi;
mod ranks;
mod tensor_flow;

#[cfg(test)]
mod tests;

use crate::domain::framework::{Backend, Framework, MpiProgram, Source};
use crate::domain::process::{Process, Role};

/// The nodes that a job has.
#[derive(Clone, Debug)]
pub struct Gang<'a> {
    /// Their addresses, by rank.
    pub addresses: Vec<&'a str>,
    /// GPUs of each node.
    pub gpus: u32,
}

impl Gang<'_> {
    fn len(&self) -> u32 {
        u32::try_from(self.addresses.len()).unwrap_or(u32::MAX)
    }
}

/// What a job starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The processes of each node, by rank. Nodes without any wait, and others reach them.
    pub parts: Vec<Vec<Process>>,
    /// The content of `AZ_BATCHAI_MPI_HOST_FILE`.
    pub host_file: String,
}

/// What `framework` starts on the nodes of `gang`.
pub fn plan(framework: &Framework, gang: &Gang<'_>) -> Plan {
    let parts = match framework {
        Framework::Cntk(program) => {
            program_of(program, gang, |path| format!("cntk {}", line::word(&format!("configFile={path}"))))
        }
        Framework::Caffe(program) => {
            program_of(program, gang, |path| format!("caffe train {}", line::word(&format!("--solver={path}"))))
        }
        Framework::PyTorch { script, process_count, backend: Some(Backend::Mpi) }
        | Framework::Chainer { script, process_count }
        | Framework::Horovod { script, process_count } => {
            on_first(mpi::run(&line::script(script, script.arguments.as_deref()), *process_count, gang), gang)
        }
        Framework::PyTorch { script, process_count, backend } => ranks::py_torch(script, *process_count, *backend, gang),
        Framework::TensorFlow(job) => tensor_flow::processes(job, gang),
        Framework::Caffe2(script) => ranks::caffe2(script, gang),
        Framework::CustomMpi { command_line, process_count } => on_first(mpi::run(command_line, *process_count, gang), gang),
        Framework::Custom { command_line } => on_first(command_line.clone().unwrap_or_else(|| ":".to_owned()), gang),
    };
    Plan { parts, host_file: mpi::host_file(framework, gang) }
}

/// A command on the first node. What it starts on the others is its own affair.
fn on_first(command_line: String, gang: &Gang<'_>) -> Vec<Vec<Process>> {
    let mut parts = vec![Vec::new(); gang.addresses.len()];
    if let Some(first) = parts.first_mut() {
        first.push(Process { name: String::new(), command_line, environment: Vec::new(), role: Role::Leader });
    }
    parts
}

/// A framework's own executable with a configuration, or a script; under MPI where there are several processes.
fn program_of(program: &MpiProgram, gang: &Gang<'_>, executable: impl Fn(&str) -> String) -> Vec<Vec<Process>> {
    let one = match &program.source {
        Source::Config { path, arguments } => line::with_arguments(executable(path), arguments.as_deref()),
        Source::Script(script) => line::script(script, script.arguments.as_deref()),
    };
    match program.process_count {
        1 => on_first(one, gang),
        count => on_first(mpi::run(&one, count, gang), gang),
    }
}
