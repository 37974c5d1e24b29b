use super::*;
use crate::reconcile::Reason;

#[test]
fn one_node_is_released_at_once_and_a_gang_when_it_is_ready() {
    assert_eq!(cluster(1).idle(1).queued(1, |_| {}).decides(), ["place 1 on 1 Released"]);
    let scene = cluster(3).idle(3).queued(2, |_| {});
    let plan = scene.plan();
    assert_eq!(scene.words(&plan), ["place 1 on 1,2 Placed"]);
    let Some(Change::Place { attempt, status, .. }) = plan.changes().pop() else { panic!("a place") };
    assert_eq!((attempt.number, status.phase, status.started_at), (1, Phase::Running, Some(NOW)));
}

#[test]
fn priority_goes_before_age_and_age_before_nothing() {
    let scene = cluster(3)
        .idle(3)
        .queued(1, |job| job.created_at = ago(10))
        .queued(1, |job| job.created_at = ago(20))
        .queued(1, |job| (job.rank, job.created_at) = (1, ago(5)));
    assert_eq!(scene.decides(), ["place 3 on 1 Released", "place 2 on 2 Released", "place 1 on 3 Released"]);
}

#[test]
fn a_large_job_is_not_overtaken() {
    let scene = cluster(2).idle(2).queued(3, |job| job.created_at = ago(60)).queued(1, |_| {});
    let plan = scene.plan();
    assert!(plan.is_empty());
    let first = scene.snapshot.jobs[0].uid;
    assert_eq!(plan.reasons, [Reason::NodesWanted { job: first, needed: 3, free: 2, target: 2 }]);
}

#[test]
fn a_node_that_is_freed_is_given_away_in_the_same_plan() {
    let scene = cluster(1).running(&[exited(0)], |_, _| {}).queued(1, |_| {});
    assert_eq!(scene.decides(), ["end: exited", "job 1 Succeeded 0", "place 2 on 1 Released"]);
}

#[test]
fn a_requeued_job_waits_for_the_next_plan() {
    let scene = cluster(1).running(&[over(End::Lost { why: "gone".into() })], |_, _| {});
    assert_eq!(scene.decides(), ["end: node_lost", "job 1 Queued"]);
}

#[test]
fn nodes_that_took_the_job_with_them_come_last() {
    let mut scene = cluster(3).idle(3).queued(2, |_| {});
    scene.snapshot.jobs[0].status.lost = vec![scene.snapshot.machines[0].uid];
    assert_eq!(scene.decides(), ["place 1 on 2,3 Placed"]);
    scene.snapshot.jobs[0].node_count = 3;
    assert_eq!(scene.decides(), ["place 1 on 1,2,3 Placed"], "better there than nowhere");
}

#[test]
fn nodes_that_leave_are_dead_or_silent_get_no_job() {
    let with = |edit: fn(&mut Machine), seen| cluster(1).machine(MachineState::Ready, seen, edit).queued(1, |_| {}).decides();
    assert!(with(|machine| machine.heard_at = Some(ago(200)), Seen::Present).is_empty());
    assert!(!with(|_| {}, Seen::Nothing).iter().any(|word| word.starts_with("place")));
    let leaving = cluster(0).resizing().machine(MachineState::Leaving, Seen::Unclear, |_| {}).queued(1, |_| {});
    assert!(leaving.plan().is_empty());
    let shrinking = cluster(0).idle(1).queued(1, |_| {});
    assert_eq!(shrinking.decides(), ["leave 1: Requeue", "cluster Resizing"]);
}

#[test]
fn jobs_that_end_or_go_are_not_placed() {
    assert!(cluster(1).idle(1).queued(1, |job| job.deleting = true).plan().is_empty());
    let mut scene = cluster(1).idle(1).queued(1, |_| {});
    scene.snapshot.jobs[0].status.phase = Phase::Terminating;
    assert_eq!(scene.decides(), ["job 1 Failed JobTerminated", "finish Terminate"]);
}

/// All that 2,000 machines and 2,000 jobs need is decided in one pass. How long a pass takes is for the benchmark to say.
#[test]
fn a_large_installation_is_decided_in_one_pass() {
    let mut large = Snapshot::default();
    let mut listed = Vec::new();
    for index in 0..100u128 {
        let mut scene = cluster(20);
        scene.next = 0x10_0000 * (index + 1);
        let mut scene = scene.idle(10);
        for _ in 0..10 {
            scene = scene.running(&[part(AssignmentState::Running)], |_, _| {}).queued(1, |_| {});
        }
        let uid = ResourceUid(Uuid::from_u128(0xc000 + index));
        scene.row().uid = uid;
        scene.snapshot.machines.iter_mut().for_each(|machine| machine.cluster = uid);
        scene.snapshot.jobs.iter_mut().for_each(|job| job.cluster = Some(uid));
        listed.extend(scene.listed.take().unwrap_or_default());
        large.clusters.append(&mut scene.snapshot.clusters);
        large.machines.append(&mut scene.snapshot.machines);
        large.attempts.append(&mut scene.snapshot.attempts);
        large.jobs.append(&mut scene.snapshot.jobs);
    }
    assert_eq!((large.machines.len(), large.jobs.len()), (2_000, 2_000));
    let (limits, catalog) = (Limits::default(), catalog());
    let mut memory = Memory::new(ago(100_000));
    let began = memory.listing_begins();
    memory.listed(began, listed, NOW, &limits);
    memory.read(&large, NOW);
    let plan = decide(&World::new(&large, &memory, NOW, &limits, &catalog), &Counting::default());
    assert_eq!(plan.groups.len(), 1_000, "each waiting job is placed");
}
