use super::*;
use crate::domain::file_server::{Caching, DataDisks, FileServerSpec, FileServerStatus, MountSettings, Storage};
use crate::domain::machine::MachineState::*;
use crate::domain::resource::Provisioning;
use crate::domain::snapshot::FileServerRow;
use crate::reconcile::Answer;

const SERVER: ResourceUid = ResourceUid(Uuid::from_u128(0xf5));

fn server(provisioning: Provisioning) -> Scene {
    let mut scene = cluster(0);
    let mount =
        MountSettings { mount_point: "/data".into(), public_address: "10.0.0.4".into(), internal_address: "10.0.0.4".into() };
    scene.snapshot.file_servers = vec![FileServerRow {
        uid: SERVER,
        spec: FileServerSpec {
            vm_size: "STANDARD_D1".into(),
            user_account: UserAccount { name: "user".into(), ssh_public_key: None },
            allowed_ranges: None,
            disks: DataDisks { size_gb: 10, count: 2, caching: Caching::None, storage: Storage::Standard },
            subnet: None,
        },
        status: FileServerStatus { subnet: "s".into(), mount: (provisioning != Provisioning::Creating).then_some(mount) },
        provisioning,
        created_at: ago(60),
        last_ordinal: 0,
        revision: 2,
    }];
    scene
}

fn with(mut scene: Scene, state: MachineState, seen: Seen, edit: impl FnOnce(&mut Machine)) -> Scene {
    scene.snapshot.file_servers[0].last_ordinal += 1;
    scene.machine(state, seen, |machine| {
        machine.cluster = SERVER;
        machine.address = Some("10.0.0.4".into());
        edit(machine);
    })
}

fn disk() -> Observed {
    Observed { name: catalog().machine_name(MachineUid(SERVER.0)), presence: Presence::Present, address: None, evict_at: None }
}

#[test]
fn has_one_machine_with_its_disk_and_shows_where_it_serves_once_it_does() {
    let scene = server(Provisioning::Creating);
    assert_eq!(scene.decides(), ["ask 1"]);
    let changes = scene.plan().changes();
    let Some(Change::AskMachine { spec, .. }) = changes.first() else { panic!("asked for") };
    let wanted = crate::domain::machine::Disk { name: disk().name, size_gb: 20 };
    assert_eq!((&spec.role, spec.cluster), (&crate::domain::machine::Role::FileServer(wanted), SERVER));

    let asked = with(server(Provisioning::Creating), Asked, Seen::Nothing, |_| {});
    assert_eq!(asked.decides(), ["ensure 1"]);
    let exports = |machine: &mut Machine| (machine.joined, machine.setup) = (true, Setup::Done);
    let made = with(server(Provisioning::Creating), Preparing, Seen::Present, exports);
    assert_eq!(made.decides(), ["ready 1", "serves 10.0.0.4"]);
    assert!(with(server(Provisioning::Succeeded), Ready, Seen::Present, |_| {}).plan().is_empty());
    let moved = with(server(Provisioning::Succeeded), Ready, Seen::Present, |machine| machine.address = Some("10.0.0.5".into()));
    assert_eq!(moved.decides(), ["serves 10.0.0.5"]);
}

#[test]
fn fails_where_its_machine_cannot_be_and_not_once_it_served() {
    let problem = |machine: &mut Machine| machine.problem = Some(EntityError::new("NodeStartTimedOut", "it is late"));
    let failed = with(server(Provisioning::Creating), Unusable, Seen::Present, problem);
    assert_eq!(failed.decides(), ["failed File Server provisioning has failed: it is late"]);
    let mut unknown = server(Provisioning::Creating);
    unknown.snapshot.file_servers[0].spec.vm_size = "NONE".into();
    assert_eq!(unknown.decides(), ["failed File Server provisioning has failed: Nodes of the size NONE cannot be made here."]);
    assert_eq!(with(server(Provisioning::Succeeded), Unusable, Seen::Present, problem).decides(), ["leave 1: Terminate"]);
    assert_eq!(with(server(Provisioning::Failed), Unusable, Seen::Present, problem).decides(), ["leave 1: Terminate"]);
}

#[test]
fn a_lost_machine_is_asked_for_again_once_nothing_else_can_have_the_disk() {
    assert_eq!(with(server(Provisioning::Succeeded), Ready, Seen::Nothing, |_| {}).decides(), ["gone 1"]);
    let leaving = with(server(Provisioning::Succeeded), Leaving, Seen::Present, |_| {});
    assert_eq!(leaving.decides(), ["delete 1: Leaving"]);
    let mut gone = server(Provisioning::Succeeded);
    gone.snapshot.file_servers[0].last_ordinal = 1;
    assert_eq!(gone.decides(), ["ask 2"]);
}

#[test]
fn goes_after_its_machine_and_then_its_disk() {
    let with_machine = with(server(Provisioning::Deleting), Ready, Seen::Present, |_| {});
    assert_eq!(with_machine.decides(), ["leave 1: Terminate"]);
    let mut scene = server(Provisioning::Deleting);
    scene.listed = Some(vec![disk()]);
    assert_eq!(scene.decides(), ["delete new: Disk"]);
    let mut memory = scene.memory();
    memory.call_begins(MachineUid(SERVER.0));
    assert!(scene.plan_with(&memory).is_empty());
    memory.call_ended(MachineUid(SERVER.0), Answer::Deleted, NOW, &scene.limits);
    let plan = scene.plan_with(&memory);
    assert_eq!(scene.words(&plan), ["remove"]);
}

#[test]
fn a_disk_is_a_stranger_only_where_no_row_knows_its_file_server() {
    let sees = |scene: Scene| {
        let mut memory = Memory::new(scene.since);
        for at in [ago(100), ago(1)] {
            let began = memory.listing_begins();
            memory.listed(began, vec![disk()], at, &scene.limits);
            memory.read(&scene.snapshot, at);
        }
        let plan = scene.plan_with(&memory);
        scene.words(&plan)
    };
    assert_eq!(sees(server(Provisioning::Failed)), Vec::<String>::new());
    let mut unreadable = cluster(0);
    unreadable.snapshot.unreadable_servers = vec![SERVER];
    assert_eq!(sees(unreadable), Vec::<String>::new());
    let strange = cluster(0);
    assert_eq!(sees(strange), ["delete new: Stranger"]);
}
