//! Programs under MPI: one `mpirun` on the first node, which reaches the others by ssh.
//!
//! Which MPI a node or image has is known there alone, so that the line asks. Ranks find the job's variables on each node by
//! themselves: sessions between the nodes of a job have them.

use crate::domain::framework::{Backend, Framework};
use crate::domain::process::deal;
use crate::launch::Gang;
use crate::launch::line::quoted;

/// The line that runs `command` in `count` processes, the first nodes full first.
pub(super) fn run(command: &str, count: u32, gang: &Gang<'_>) -> String {
    let dealt: Vec<(&str, u32)> = gang.addresses.iter().copied().zip(deal(count, gang.len())).filter(|(_, n)| *n > 0).collect();
    let slots: Vec<String> = dealt.iter().map(|(address, slots)| format!("{address}:{slots}")).collect();
    let hosts: Vec<&str> = dealt.iter().map(|(address, _)| *address).collect();
    let per_node = dealt.first().map_or(1, |(_, slots)| *slots);
    // Nodes may share a host, where each would bind to the same first cores; what leads to no other node is no way to one.
    format!(
        "set -- \"$(command -v /bin/bash || echo /bin/sh)\" -c {}\n\
         case \"$(mpirun --version 2>&1)\" in\n\
         *'Open MPI'* | *OpenRTE*)\n    \
             exec mpirun --allow-run-as-root -np {count} --host {} --bind-to none \
             --mca btl_tcp_if_exclude docker0,lo --mca oob_tcp_if_exclude docker0,lo \"$@\" ;;\n\
         *)\n    \
             exec mpirun -n {count} -ppn {per_node} -hosts {} \"$@\" ;;\n\
         esac",
        quoted(command),
        slots.join(","),
        hosts.join(","),
    )
}

/// One line a node: as many slots as it has GPUs, at least one, and at least what the job's own processes need.
pub(super) fn host_file(framework: &Framework, gang: &Gang<'_>) -> String {
    let processes = match framework {
        Framework::Cntk(program) | Framework::Caffe(program) => program.process_count,
        Framework::PyTorch { process_count, backend: Some(Backend::Mpi), .. }
        | Framework::Chainer { process_count, .. }
        | Framework::Horovod { process_count, .. }
        | Framework::CustomMpi { process_count, .. } => *process_count,
        _ => 0,
    };
    let slots = gang.gpus.max(processes.div_ceil(gang.len().max(1))).max(1);
    gang.addresses.iter().map(|address| format!("{address} slots={slots}\n")).collect()
}
