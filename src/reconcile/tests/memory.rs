use super::*;
use crate::domain::machine::MachineState::*;
use crate::driver::Listing;
use crate::reconcile::memory::{Failure, FailureKind};
use crate::reconcile::{Answer, DeleteWhy, Sight};

fn one(state: MachineState) -> Scene {
    cluster(1).machine(state, Seen::Nothing, |_| {})
}

fn present(scene: &Scene) -> Observed {
    Observed::new(scene.snapshot.machines[0].name.clone(), Presence::Present, None)
}

#[test]
fn a_listing_says_nothing_of_what_happened_after_it_began() {
    let scene = one(Asked);
    let (machine, limits) = (&scene.snapshot.machines[0], &scene.limits);
    let mut memory = Memory::new(ago(60));
    let began = memory.listing_begins();
    memory.call_begins(machine.uid);
    assert_eq!(memory.sight(machine), Sight::Unknown, "a call is under way");
    memory.call_ended(machine.uid, Answer::Made(present(&scene)), NOW, limits);
    memory.listed(began, vec![], NOW, limits);
    assert_eq!(memory.sight(machine), Sight::Present(None));
    let began = memory.listing_begins();
    memory.listed(began, vec![], NOW, limits);
    assert_eq!(memory.sight(machine), Sight::Absent, "a newer one does");
}

#[test]
fn only_a_listing_that_began_after_the_row_was_read_as_made_proves_its_death() {
    let scene = one(Ready);
    let (machine, limits) = (&scene.snapshot.machines[0], &scene.limits);
    let mut memory = Memory::new(ago(60));
    let began = memory.listing_begins();
    memory.read(&scene.snapshot, NOW);
    memory.listed(began, vec![], NOW, limits);
    assert_eq!(memory.sight(machine), Sight::Unknown, "another server may have made it meanwhile");
    let began = memory.listing_begins();
    memory.listed(began, vec![], NOW, limits);
    assert_eq!(memory.sight(machine), Sight::Absent);
}

#[test]
fn what_a_partial_listing_does_not_show_is_not_gone() {
    let mut scene = one(Ready);
    let machine = scene.snapshot.machines[0].clone();
    let mut memory = Memory::new(ago(60));
    memory.read(&scene.snapshot, NOW);
    let began = memory.listing_begins();
    memory.listed(began, Listing { machines: vec![], is_partial: true }, NOW, &scene.limits);
    assert_eq!(memory.sight(&machine), Sight::Unknown);
    // One that was never made is not waited for: at the worst two are made, of which one may join.
    scene.snapshot.machines[0].state = Asked;
    assert_eq!(memory.sight(&scene.snapshot.machines[0]), Sight::Absent);
}

#[test]
fn after_an_error_nothing_is_known_until_the_next_listing() {
    let scene = one(Asked);
    let (machine, limits) = (&scene.snapshot.machines[0], &scene.limits);
    let mut memory = scene.memory();
    assert_eq!(memory.sight(machine), Sight::Absent);
    memory.call_begins(machine.uid);
    let failure = Failure { kind: FailureKind::Passing, text: "x".into() };
    memory.call_ended(machine.uid, Answer::NotMade(failure), NOW, limits);
    assert_eq!(memory.sight(machine), Sight::Unknown);
    let began = memory.listing_begins();
    memory.listed(began, vec![present(&scene)], NOW, limits);
    assert_eq!(memory.sight(machine), Sight::Present(None));
}

#[test]
fn strangers_are_swept_after_two_listings_a_grace_apart_and_only_ours() {
    let scene = cluster(0);
    let limits = &scene.limits;
    let mut memory = Memory::new(ago(60));
    let stranger = |name: String, presence| Observed::new(name, presence, None);
    let ours = catalog().machine_name(MachineUid(Uuid::from_u128(0x77)));
    let theirs = format!("other-{}", Uuid::from_u128(0x78).simple());
    let all = vec![
        stranger(ours.clone(), Presence::Present),
        stranger(theirs, Presence::Present),
        stranger("by-something".into(), Presence::Present),
        stranger(catalog().machine_name(MachineUid(Uuid::from_u128(0x79))), Presence::Unknown),
    ];
    let mut look = |at| {
        let began = memory.listing_begins();
        memory.listed(began, all.clone(), at, limits);
        memory.read(&scene.snapshot, at);
        scene.plan_with(&memory).effects
    };
    assert!(look(ago(12)).is_empty());
    assert!(look(ago(5)).is_empty(), "within the grace");
    let effects = look(NOW);
    let [Effect::Delete { name, why: DeleteWhy::Stranger, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(*name, ours);
}

#[test]
fn a_machine_with_a_row_that_cannot_be_read_is_no_stranger() {
    let mut scene = one(Ready);
    let row = scene.snapshot.machines.remove(0);
    scene.snapshot.unreadable.push(crate::domain::snapshot::UnreadableMachine { name: row.name.clone(), cluster: CLUSTER });
    let mut memory = Memory::new(ago(60));
    for at in [ago(30), NOW] {
        let began = memory.listing_begins();
        memory.listed(began, vec![Observed::new(row.name.clone(), Presence::Present, None)], at, &scene.limits);
        memory.read(&scene.snapshot, at);
    }
    assert!(scene.plan_with(&memory).effects.is_empty());
}

#[test]
fn a_panic_fails_its_own_resource_alone() {
    use crate::reconcile::draft::Draft;
    use crate::reconcile::plan::Reason;
    let mut draft = Draft::default();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    draft.isolate(CLUSTER, |draft| {
        draft.group(CLUSTER, vec![Change::Remove { uid: CLUSTER, revision: 1, at: NOW }]);
        panic!("a decision");
    });
    std::panic::set_hook(hook);
    assert!(draft.plan.groups.is_empty());
    assert_eq!(draft.plan.reasons, [Reason::Panicked { about: CLUSTER }]);
}

#[test]
fn many_refusals_of_one_pass_put_a_resource_aside_no_longer_than_one() {
    let scene = cluster(0);
    let (limits, mut memory) = (&scene.limits, Memory::new(ago(60)));
    // Passes that take no time are several all the same.
    for _ in 0..4 {
        memory.read(&scene.snapshot, NOW);
        for _ in 0..100 {
            assert_eq!(memory.put_aside(CLUSTER, NOW, limits), 0);
        }
        assert!(!memory.is_aside(CLUSTER, NOW));
    }
    memory.read(&scene.snapshot, NOW);
    assert_eq!(memory.put_aside(CLUSTER, NOW, limits), 1);
    assert_eq!(memory.put_aside(CLUSTER, NOW, limits), 1);
    assert_eq!(memory.aside_until(NOW), Some(NOW + limits.retry_first));
    memory.took(CLUSTER);
    assert!(!memory.is_aside(CLUSTER, NOW), "one that can be written is aside no more");
}

#[test]
fn what_another_clock_wrote_counts_from_when_it_was_noticed() {
    let mut scene = one(Ready);
    let mut memory = Memory::new(ago(600));
    let mut read = |heard_at: Timestamp, now: Timestamp| {
        (scene.snapshot.machines[0].heard_at, scene.snapshot.machines[0].state_changed_at) = (Some(heard_at), heard_at);
        memory.read(&scene.snapshot, now);
        let machine = &scene.snapshot.machines[0];
        (memory.heard_at(machine), memory.in_state_since(machine))
    };
    for (heard_at, noticed, why) in [
        (ago(500), ago(500), "by the same clock"),
        (NOW + Duration::from_secs(3600), ago(400), "by one that is ahead"),
        (ago(7200), ago(300), "by one that is behind"),
    ] {
        assert_eq!(read(heard_at, noticed), (Some(noticed), noticed), "{why}");
        assert_eq!(read(heard_at, noticed + Duration::from_secs(50)), (Some(noticed), noticed), "{why}, and not since");
    }
}
