//! Processes that find each other by themselves: PyTorch and Caffe2, one process a rank.

use crate::domain::framework::{Backend, Script};
use crate::domain::process::{Process, Role, deal};
use crate::domain::resource::NameValue;
use crate::launch::{Gang, line};

/// Where ranks that meet over TCP do so: a port of the first node.
const MEETING_PORT: u16 = 23456;

/// `process_count` ranks over all nodes, each with its number.
///
/// With Gloo, and where nothing is said, ranks meet in a file below the job's shared folder; with PyTorch's own TCP at an address.
pub(super) fn py_torch(script: &Script, process_count: u32, backend: Option<Backend>, gang: &Gang<'_>) -> Vec<Vec<Process>> {
    let meeting = match (backend, gang.addresses.first()) {
        (Some(Backend::Tcp), Some(first)) => format!("tcp://{first}:{MEETING_PORT}"),
        _ => "file://$AZ_BATCHAI_SHARED_JOB_TEMP/init".to_owned(),
    };
    let mut own = vec![("AZ_BATCHAI_PYTORCH_INIT_METHOD", meeting)];
    own.extend(backend.map(|backend| ("AZ_BATCHAI_PYTORCH_BACKEND", word(backend).to_owned())));
    dealt(script, process_count, &own, gang)
}

/// One process a node.
pub(super) fn caffe2(script: &Script, gang: &Gang<'_>) -> Vec<Vec<Process>> {
    dealt(script, gang.len(), &[], gang)
}

fn dealt(script: &Script, count: u32, own: &[(&str, String)], gang: &Gang<'_>) -> Vec<Vec<Process>> {
    let mut indices = 0..count;
    let process = |index: u32| {
        let own = own.iter().map(|(name, value)| NameValue { name: (*name).to_owned(), value: value.clone() });
        let index_of = NameValue { name: "AZ_BATCHAI_TASK_INDEX".to_owned(), value: index.to_string() };
        Process {
            name: index.to_string(),
            command_line: line::script(script, script.arguments.as_deref()),
            environment: std::iter::once(index_of).chain(own).collect(),
            role: Role::Leader,
        }
    };
    deal(count, gang.len()).map(|here| indices.by_ref().take(here as usize).map(process).collect()).collect()
}

fn word(backend: Backend) -> &'static str {
    match backend {
        Backend::Tcp => "tcp",
        Backend::Gloo => "gloo",
        Backend::Mpi => "mpi",
    }
}
