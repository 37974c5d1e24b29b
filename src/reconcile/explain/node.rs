//! Why a node takes no job.

use crate::clock::Timestamp;
use crate::domain::machine::{Machine, MachineState};
use crate::domain::why::{Gate, Held, Holder, Why};
use crate::id::MachineUid;
use crate::reconcile::explain::gate_of;
use crate::reconcile::world::World;

/// What a node waits for before it takes jobs, or goes; `None` where it takes jobs, or is gone.
pub fn explain(world: &World<'_>, uid: MachineUid) -> Option<Why> {
    let machine = world.machines.get(&uid)?;
    match machine.state {
        MachineState::Asked => Some(asked(machine)),
        MachineState::Preparing => Some(preparing(world, machine)),
        MachineState::Ready => unheard(world, machine),
        MachineState::Unusable => Some(unusable(world, machine)),
        MachineState::Leaving => Some(leaving(world, machine)),
        MachineState::Gone => None,
    }
}

fn why(gate: Gate, message: impl Into<String>, clears: &'static str, clears_by: Option<Timestamp>) -> Why {
    Why { gate, message: message.into(), lack: None, held_by: Vec::new(), clears, clears_by }
}

fn asked(machine: &Machine) -> Why {
    match &machine.problem {
        Some(problem) => {
            let message = format!("It cannot be made now: {}", problem.message);
            why(Gate::Driver, message, "The driver makes it; it is asked again.", machine.retry_at)
        }
        None => why(Gate::Driver, "It is being made.", "The driver says that it is there.", None),
    }
}

fn preparing(world: &World<'_>, machine: &Machine) -> Why {
    if machine.joined {
        return why(Gate::NodeHealth, "It mounts, is set up and checks itself.", "Its agent says that its setup is done.", None);
    }
    let by = world.memory.in_state_since(machine) + world.limits.boot_deadline;
    why(Gate::NodeHealth, "It starts, and was not heard yet.", "Its agent comes home.", Some(by))
}

/// A node that is ready and was not heard lately.
fn unheard(world: &World<'_>, machine: &Machine) -> Option<Why> {
    let heard_at = machine.heard_at.filter(|_| world.is_unheard_for(machine, world.limits.silence))?;
    let since = (world.now - heard_at).whole_seconds();
    let message = format!("It takes no job, as it was not heard for {since} s.");
    Some(why(Gate::NodeHealth, message, "It is heard again, or another takes its place.", None))
}

fn unusable(world: &World<'_>, machine: &Machine) -> Why {
    let message = machine.problem.as_ref().map_or("It cannot be used.", |problem| problem.message.as_str());
    let until = machine.state_changed_at + world.limits.unusable_for;
    why(gate_of(machine.problem.as_ref()), message, "It was looked at long enough, and leaves for another one.", Some(until))
}

fn leaving(world: &World<'_>, machine: &Machine) -> Why {
    let job = machine.attempt.and_then(|attempt| world.attempts.get(&attempt)).and_then(|attempt| world.jobs.get(&attempt.job));
    let held_by: Vec<Holder> =
        job.iter().map(|job| Holder { what: Held::Resource(job.path.clone()), count: 1, until: None }).collect();
    let (message, clears) = if held_by.is_empty() {
        ("It is being deleted.", "The driver says that it is gone.")
    } else {
        ("It is to go, and has a job.", "Its job has ended on it.")
    };
    Why { held_by, ..why(Gate::Stopping, message, clears, machine.evict_at) }
}
