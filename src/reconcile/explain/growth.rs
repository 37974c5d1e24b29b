//! Why a cluster does not have as many nodes of use as are needed.

use crate::clock::Timestamp;
use crate::domain::cluster::Scale;
use crate::domain::machine::{Machine, MachineState};
use crate::domain::snapshot::ClusterRow;
use crate::domain::why::{Gate, Held, Holder, Lack, Unit, Why};
use crate::id::ResourceUid;
use crate::reconcile::draft::Draft;
use crate::reconcile::explain::{by_node, gate_of, some, whole};
use crate::reconcile::placement::{is_usable, wanted};
use crate::reconcile::plan::Reason;
use crate::reconcile::world::World;

/// What stands between the nodes of use that a cluster has, `ready`, and those that are `needed`, which are more.
pub(super) fn explain(world: &World<'_>, cluster: &ClusterRow, needed: u32, ready: u32, draft: &Draft) -> Why {
    let lack = Lack::nodes(needed, ready);
    let nodes = world.nodes(cluster.uid);
    let target = wanted(cluster);
    if target < needed && matches!(cluster.spec.scale, Scale::Manual { .. }) {
        return Why {
            gate: Gate::ScaleLimit,
            message: format!("{needed} nodes are needed, and the cluster is to have {target}."),
            lack: Some(Lack::nodes(needed, target)),
            held_by: vec![Holder { what: Held::Resource(cluster.path.clone()), count: target, until: None }],
            clears: "The cluster's target is raised.",
            clears_by: None,
        };
    }
    let coming: Vec<&Machine> = nodes.iter().copied().filter(|machine| is_coming(machine)).collect();
    if ready.saturating_add(whole(coming.len())) >= needed {
        return why(Gate::Capacity, "Nodes are being made and prepared.", lack, &coming, "Its nodes are ready.", None);
    }
    let paused = repairs(cluster, draft);
    if let Some((message, clears, until)) = paused {
        let problem = cluster.status.repairs.as_ref().and_then(|repairs| repairs.problems.last());
        let broken: Vec<&Machine> = nodes.iter().copied().filter(|machine| machine.state == MachineState::Unusable).collect();
        return why(gate_of(problem), message, lack, &broken, clears, until);
    }
    for reason in draft.plan.reasons.iter() {
        match reason {
            Reason::OverQuota { cluster: about, quota, limit, left, missing } if *about == cluster.uid => {
                return over_quota(world, cluster, (quota, *limit), *left, *missing);
            }
            Reason::SizeUnknown { cluster: about, size } if *about == cluster.uid => {
                let message = format!("No node of the VM size {size} can be made here.");
                return why(Gate::Driver, message, lack, &[], "The cluster is made anew with a size that is offered.", None);
            }
            _ => {}
        }
    }
    let refused: Vec<&Machine> = nodes.iter().copied().filter(|machine| is_refused(machine)).collect();
    if let Some(problem) = refused.iter().find_map(|machine| machine.problem.as_ref()) {
        let until = refused.iter().filter_map(|machine| machine.retry_at).min();
        let message = format!("Nodes cannot be made now: {}", problem.message);
        return why(Gate::Driver, message, lack, &refused, "The driver makes the nodes; it is asked again.", until);
    }
    let broken = |machine: &&Machine| {
        machine.state == MachineState::Unusable || machine.state == MachineState::Ready && !is_usable(world, machine, draft)
    };
    let broken: Vec<&Machine> = nodes.iter().copied().filter(broken).collect();
    if !broken.is_empty() {
        let gate = gate_of(broken.iter().find_map(|machine| machine.problem.as_ref()));
        return why(
            gate,
            "Nodes cannot be used or are not heard.",
            lack,
            &broken,
            "They are heard again, or others take their place.",
            None,
        );
    }
    let leaving: Vec<&Machine> = nodes.iter().copied().filter(|machine| machine.state == MachineState::Leaving).collect();
    why(Gate::Capacity, "Nodes are asked for next.", lack, &leaving, "Its nodes are made and ready.", None)
}

fn why(
    gate: Gate,
    message: impl Into<String>,
    lack: Lack,
    holders: &[&Machine],
    clears: &'static str,
    clears_by: Option<Timestamp>,
) -> Why {
    let held_by = some(holders.iter().map(|machine| by_node(machine)).collect());
    Why { gate, message: message.into(), lack: Some(lack), held_by, clears, clears_by }
}

/// Whether a node is on its way.
fn is_coming(machine: &Machine) -> bool {
    match machine.state {
        MachineState::Asked => machine.problem.is_none(),
        state => state == MachineState::Preparing,
    }
}

fn is_refused(machine: &Machine) -> bool {
    machine.state == MachineState::Asked && machine.problem.is_some()
}

/// Whether others are made in place of nodes that could not be used, and when.
fn repairs(cluster: &ClusterRow, draft: &Draft) -> Option<(String, &'static str, Option<Timestamp>)> {
    draft.plan.reasons.iter().find_map(|reason| match reason {
        Reason::RepairStopped { cluster: about, count } if *about == cluster.uid => Some((
            format!("{count} nodes in a row could not be used, so that no other is made."),
            "What their errors say is mended and the cluster's scale is changed, to the same number if need be.",
            None,
        )),
        Reason::RepairPaused { cluster: about, until } if *about == cluster.uid => {
            Some(("Nodes could not be used; others are made after a pause.".into(), "Another node is tried.", Some(*until)))
        }
        _ => None,
    })
}

/// A quota of cores that the nodes which are missing do not fit into.
fn over_quota(world: &World<'_>, cluster: &ClusterRow, (quota, limit): (&str, u32), left: u32, missing: u32) -> Why {
    let cores = world.catalog.find_size(&cluster.spec.vm_size).map_or(1, |size| size.cores);
    Why {
        gate: Gate::Quota,
        message: format!("The quota of {limit} cores of {quota} leaves {left}; {missing} nodes of {cores} cores are missing."),
        lack: Some(Lack { unit: Unit::Cores, needed: u64::from(cores) * u64::from(missing), available: left.into() }),
        held_by: users(world, cluster),
        clears: "Nodes of clusters that the quota counts go, or the quota is raised.",
        clears_by: None,
    }
}

/// The clusters that a cluster shares its quotas with, and itself, by the cores that their machines have; the largest first.
fn users(world: &World<'_>, cluster: &ClusterRow) -> Vec<Holder> {
    let shares = |row: &&&ClusterRow| row.account() == cluster.account() && row.spec.vm_priority == cluster.spec.vm_priority;
    let cores = |uid: ResourceUid| world.nodes(uid).iter().map(|machine| machine.size.cores).sum::<u32>();
    let mut holders: Vec<Holder> = world
        .clusters
        .values()
        .filter(shares)
        .map(|row| Holder { what: Held::Resource(row.path.clone()), count: cores(row.uid), until: None })
        .filter(|holder| holder.count > 0)
        .collect();
    holders.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.what.cmp(&b.what)));
    some(holders)
}
