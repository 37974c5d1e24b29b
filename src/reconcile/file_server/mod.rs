//! A file server: one machine that holds its disk, as long as it is wanted. The machine may be lost and is made anew; the disk stays until
//! the file server is deleted, and goes after the last machine.

use crate::domain::cluster::{Deallocation, VmPriority};
use crate::domain::file_server::MountSettings;
use crate::domain::machine::{Bootstrap, Disk, Machine, MachineSpec, MachineState, Role};
use crate::domain::resource::{EntityError, Provisioning};
use crate::domain::snapshot::{Change, FileServerRow};
use crate::id::MachineUid;
use crate::reconcile::cluster::{Fate, Owner, decide_machine, node_id, problems};
use crate::reconcile::draft::Draft;
use crate::reconcile::memory::Sight;
use crate::reconcile::mint::Mint;
use crate::reconcile::plan::{DeleteWhy, Effect, Reason};
use crate::reconcile::world::World;

/// The directory that holds the data.
///
/// Source: `mountPoint` of recorded 2018-05-01 answers.
const MOUNT_POINT: &str = "/data";

/// The code of a making that failed, and the beginning of its message.
///
/// Source: a recorded answer.
const FAILED: (&str, &str) = ("FileServerProvisioningFailed", "File Server provisioning has failed");

/// Decides about a file server, its machine and its disk.
pub(in crate::reconcile) fn decide(world: &World<'_>, server: &FileServerRow, mint: &mut Mint<'_>, draft: &mut Draft) {
    let disk = world.catalog.machine_name(MachineUid(server.uid.0));
    let size_gb = u64::from(server.spec.disks.size_gb) * u64::from(server.spec.disks.count);
    let role = Role::FileServer(Disk { name: disk.clone(), size_gb });
    let owner = Owner { admin_user: &server.spec.user_account.name, role: &role, wish: Deallocation::Terminate };
    let members = world.nodes(server.uid);
    let mut fates: Vec<(&Machine, Fate)> =
        members.iter().map(|machine| (*machine, decide_machine(world, &owner, machine, draft))).collect();
    let wanted = match server.provisioning {
        Provisioning::Creating | Provisioning::Succeeded => 1,
        Provisioning::Deleting | Provisioning::Failed => 0,
    };
    let mut staying = 0;
    for (machine, fate) in &mut fates {
        // One that served once is made anew, with pauses as it fails again.
        let broken = server.provisioning == Provisioning::Succeeded && fate.state == MachineState::Unusable;
        fate.lost |= broken;
        if stays(fate) && (staying == wanted || broken) {
            *fate = Fate { state: MachineState::Leaving, problem: None, effect: None, ..fate.clone() };
            let (uid, revision) = (machine.uid, machine.revision);
            fate.change = Some(Change::MachineLeaving { uid, revision, deallocation: owner.wish, evict_at: None, at: world.now });
        }
        staying += usize::from(stays(fate));
    }
    let made = status(world, server, &fates);
    for (machine, fate) in fates {
        if let Some(change) = fate.change {
            draft.touched.insert(machine.uid);
            draft.group(server.uid, vec![change]);
        }
        draft.plan.effects.extend(fate.effect);
        if fate.lost {
            draft.plan.losses.push(server.uid);
        }
    }
    if let Some(made) = made {
        let change = Change::FileServerStatus { uid: server.uid, revision: server.revision, made, at: world.now };
        return draft.group(server.uid, vec![change]);
    }
    // One has a disk at a time: its successor is asked for once it is gone.
    if members.is_empty() && wanted == 1 {
        ask(world, server, &role, mint, draft);
    }
    if server.provisioning == Provisioning::Deleting {
        remove(world, server, &disk, draft);
    }
}

fn stays(fate: &Fate) -> bool {
    !matches!(fate.state, MachineState::Leaving | MachineState::Gone)
}

/// What a file server shows from now on, if that is something else.
fn status(world: &World<'_>, server: &FileServerRow, fates: &[(&Machine, Fate)]) -> Option<Result<MountSettings, EntityError>> {
    let creating = server.provisioning == Provisioning::Creating;
    if !creating && server.provisioning != Provisioning::Succeeded {
        return None;
    }
    if creating && world.catalog.find_size(&server.spec.vm_size).is_none() {
        return Some(Err(failed(&problems::size_unknown(&server.spec.vm_size))));
    }
    let (machine, fate) = fates.iter().find(|(_, fate)| stays(fate))?;
    match fate.state {
        MachineState::Ready => {
            let address = machine.address.clone()?;
            let public_address = machine.login_address.clone().unwrap_or_else(|| address.clone());
            let mount = MountSettings { mount_point: MOUNT_POINT.into(), public_address, internal_address: address };
            (creating || server.status.mount.as_ref() != Some(&mount)).then_some(Ok(mount))
        }
        // One that held its data once is waited for: what is wrong with its machine may be mended.
        MachineState::Unusable if creating => fate.problem.as_ref().map(|problem| Err(failed(problem))),
        MachineState::Asked if creating && world.has_lasted(server.created_at, world.limits.boot_deadline) => {
            fate.problem.as_ref().map(|problem| Err(failed(problem)))
        }
        MachineState::Asked if creating => {
            fate.problem.as_ref().filter(|problem| problems::is_lasting(problem)).map(|problem| Err(failed(problem)))
        }
        _ => None,
    }
}

/// Why a file server could not be made, with what is known of it.
fn failed(problem: &EntityError) -> EntityError {
    let (code, message) = FAILED;
    let why = problem.details.iter().find(|detail| detail.name == "Info").map_or("", |detail| detail.value.as_str());
    let message = [message, &problem.message, why].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    problem
        .details
        .iter()
        .fold(EntityError::new(code, message), |error, detail| error.with_detail(detail.name.clone(), detail.value.clone()))
}

fn ask(world: &World<'_>, server: &FileServerRow, role: &Role, mint: &mut Mint<'_>, draft: &mut Draft) {
    if world.snapshot.unreadable.iter().any(|machine| machine.cluster == server.uid) {
        return;
    }
    if let Some(until) = world.memory.repair_paused_until(server.uid, 1, world.now, world.limits) {
        draft.look_again(until);
        draft.reason(Reason::RepairPaused { cluster: server.uid, until });
        return;
    }
    let Some(size) = world.catalog.find_size(&server.spec.vm_size) else {
        draft.reason(Reason::SizeUnknown { cluster: server.uid, size: server.spec.vm_size.clone() });
        return;
    };
    let uid = MachineUid(mint.uuid());
    let ordinal = server.last_ordinal.saturating_add(1);
    let spec = MachineSpec {
        uid,
        name: world.catalog.machine_name(uid),
        node_id: node_id(server.uid, ordinal, world.now, VmPriority::Dedicated),
        size: size.clone(),
        cluster: server.uid,
        admin_user: server.spec.user_account.name.clone(),
        role: role.clone(),
        bootstrap: Bootstrap { join_token: mint.join_token() },
    };
    draft.group(server.uid, vec![Change::AskMachine { cluster_revision: server.revision, spec, ordinal, at: world.now }]);
}

/// Removes one that is being deleted once it has no machine, and then no disk.
fn remove(world: &World<'_>, server: &FileServerRow, disk: &str, draft: &mut Draft) {
    let unreadable = world.snapshot.unreadable.iter().any(|machine| machine.cluster == server.uid);
    if unreadable || !world.nodes(server.uid).is_empty() {
        return;
    }
    let uid = MachineUid(server.uid.0);
    match world.memory.sight_of_disk(server.uid) {
        Sight::Absent => {
            draft.group(server.uid, vec![Change::Remove { uid: server.uid, revision: server.revision, at: world.now }]);
        }
        _ if world.memory.is_in_flight(uid) => {}
        _ => match world.memory.delete_paused_until(uid, world.now) {
            Some(until) => draft.look_again(until),
            None => draft.effect(Effect::Delete { uid, name: disk.to_owned(), why: DeleteWhy::Disk }),
        },
    }
}
