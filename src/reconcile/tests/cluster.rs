use super::*;
use crate::domain::cluster::{AutoTarget, Repairs};
use crate::domain::machine::MachineState::*;
use crate::domain::quota::CoreQuota;
use crate::reconcile::Answer;
use crate::reconcile::memory::{Failure, FailureKind};

#[test]
fn asks_for_what_is_missing_and_shows_that_it_resizes() {
    assert_eq!(cluster(3).idle(1).decides(), ["ask 2", "ask 3", "cluster Resizing"]);
}

#[test]
fn a_steady_cluster_is_left_alone() {
    assert!(cluster(2).idle(2).plan().is_empty());
    assert!(cluster(0).plan().is_empty());
}

#[test]
fn becomes_steady_when_the_last_machine_is_there_though_it_prepares() {
    let scene = cluster(2).resizing().idle(1).machine(Asked, Seen::Present, |_| {});
    assert_eq!(scene.decides(), ["present 2", "cluster Steady"]);
}

#[test]
fn ensures_committed_rows_alone_and_only_once_it_has_looked() {
    let asked = || cluster(1).resizing().machine(Asked, Seen::Nothing, |_| {});
    assert_eq!(asked().decides(), ["ensure 1"]);
    assert!(asked().unlisted().plan().is_empty());
    assert!(cluster(1).resizing().machine(Asked, Seen::Unclear, |_| {}).plan().is_empty());
}

#[test]
fn does_not_ask_again_before_the_pause_is_over() {
    let scene =
        cluster(1).resizing().machine(Asked, Seen::Nothing, |machine| machine.retry_at = Some(NOW + Duration::from_secs(3)));
    let plan = scene.plan();
    assert!(plan.is_empty());
    assert_eq!(plan.look_again, Some(NOW + Duration::from_secs(3)));
}

#[test]
fn does_not_make_a_machine_whose_token_is_spent() {
    let scene = cluster(1).resizing().machine(Asked, Seen::Nothing, |machine| machine.bootstrap = None);
    assert_eq!(scene.decides(), ["gone 1", "ask 2"]);
}

#[test]
fn a_machine_is_ready_when_its_agent_is_home_and_its_setup_is_done() {
    let preparing = |joined, setup: Setup| {
        cluster(1).machine(Preparing, Seen::Present, |machine| (machine.joined, machine.setup) = (joined, setup))
    };
    assert_eq!(preparing(true, Setup::Done).decides(), ["ready 1"]);
    assert!(preparing(true, Setup::Pending).plan().is_empty());
    assert!(preparing(false, Setup::Pending).plan().is_empty());
}

#[test]
fn a_failed_setup_makes_a_node_unusable_and_shows_with_the_node_named() {
    let failed = Setup::Failed(EntityError::new("NodeSetupTaskFailed", "it failed"));
    let scene = cluster(1).machine(Preparing, Seen::Present, |machine| (machine.joined, machine.setup) = (true, failed));
    let plan = scene.plan();
    assert_eq!(scene.words(&plan), ["unusable 1: NodeSetupTaskFailed", "cluster Steady NodeSetupTaskFailed"]);
    let Some(Change::ClusterStatus { errors, .. }) = plan.changes().pop() else { panic!("a status") };
    assert_eq!(errors[0].details[0].value, "tvm-1");
}

/// It could not be used `seconds` ago.
fn broke(machine: &mut Machine, seconds: u64) {
    machine.problem = Some(EntityError::new("NodeSetupTaskFailed", "x"));
    machine.state_changed_at = ago(seconds);
}

fn repairs(count: u32, seconds: u64) -> Option<Repairs> {
    Some(Repairs { count, last_at: ago(seconds), problems: vec![EntityError::new("NodeSetupTaskFailed", "x")] })
}

fn next_repairs(plan: &Plan) -> Option<u32> {
    plan.changes().into_iter().find_map(|change| match change {
        Change::ClusterStatus { repairs, .. } => repairs.map(|repairs| repairs.count),
        _ => None,
    })
}

#[test]
fn an_unusable_node_is_replaced_after_a_while_and_counted_in_the_same_commit() {
    let scene = cluster(1).machine(Unusable, Seen::Present, |machine| broke(machine, 90));
    let plan = scene.plan();
    assert_eq!(scene.words(&plan), ["leave 1: Requeue", "ask 2", "cluster Resizing NodeSetupTaskFailed"]);
    assert_eq!(plan.groups.len(), 1);
    assert_eq!(next_repairs(&plan), Some(1));
    assert!(plan.losses.is_empty());
    let early = cluster(1).machine(Unusable, Seen::Present, |machine| broke(machine, 30));
    assert_eq!(early.plan().look_again, Some(NOW + Duration::from_secs(30) + Duration::from_millis(1)));
}

#[test]
fn what_is_never_of_use_is_tried_with_pauses_and_then_no_more() {
    let tried = |count, seconds, wait: bool| {
        let mut scene = cluster(1).resizing();
        scene.row().status.repairs = repairs(count, seconds);
        scene.row().status.errors = vec![EntityError::new("NodeSetupTaskFailed", "x")];
        let plan = scene.plan();
        let words = scene.words(&plan);
        assert_eq!(plan.look_again.is_some(), wait, "{count} {seconds}");
        words
    };
    assert_eq!(tried(1, 0, false), ["ask 1"], "the first is replaced at once");
    assert_eq!(tried(2, 29, true), Vec::<String>::new());
    assert_eq!(tried(2, 30, false), ["ask 1"]);
    assert_eq!(tried(3, 59, true), Vec::<String>::new());
    assert_eq!(tried(3, 60, false), ["ask 1"]);
    assert_eq!(tried(4, 100_000, false), ["cluster Steady NodeSetupTaskFailed,NodeRepairStopped"], "never again by itself");
}

#[test]
fn while_none_is_of_use_they_are_tried_one_at_a_time() {
    let tried = |edit: fn(Scene) -> Scene| {
        let mut scene = edit(cluster(5).resizing());
        scene.row().status.repairs = repairs(2, 500);
        scene.row().status.errors = vec![EntityError::new("NodeSetupTaskFailed", "x")];
        scene.decides()
    };
    assert_eq!(tried(|scene| scene), ["ask 1"]);
    assert_eq!(tried(|scene| scene.machine(Preparing, Seen::Present, |_| {})), Vec::<String>::new());
    assert_eq!(
        tried(|scene| scene.machine(Unusable, Seen::Present, |machine| broke(machine, 30))).len(),
        1,
        "its own error alone"
    );
    assert_eq!(tried(|scene| scene.idle(1)), ["ask 2", "ask 3", "ask 4", "ask 5"], "one is: the others may be too");
}

#[test]
fn one_that_is_of_use_ends_the_row() {
    let mut scene = cluster(1).machine(Preparing, Seen::Present, |machine| (machine.joined, machine.setup) = (true, Setup::Done));
    scene.row().status.repairs = repairs(2, 500);
    scene.row().status.errors = vec![EntityError::new("NodeSetupTaskFailed", "x")];
    let plan = scene.plan();
    assert_eq!(scene.words(&plan), ["ready 1", "cluster Steady"]);
    assert_eq!(next_repairs(&plan), None);
}

#[test]
fn an_unusable_node_stays_to_be_looked_at() {
    let broken = |scene: Scene| scene.machine(Unusable, Seen::Present, |machine| broke(machine, 30));
    let mut scene = broken(cluster(1));
    scene.row().status.errors = vec![EntityError::new("NodeSetupTaskFailed", "x")];
    assert!(scene.plan().is_empty());
    let scene = broken(cluster(1).idle(1));
    assert_eq!(scene.decides(), ["leave 2: Requeue", "cluster Resizing"], "it leaves before a good one");
}

#[test]
fn a_machine_that_does_not_come_home_is_unusable_but_own_downtime_is_not_its_silence() {
    let mut scene = cluster(1).machine(Preparing, Seen::Present, |machine| machine.state_changed_at = ago(5_000));
    assert_eq!(scene.decides(), ["explain 1"]);
    let explained = |evidence: Option<&str>| {
        let mut memory = scene.memory();
        memory.call_ended(scene.snapshot.machines[0].uid, Answer::Explained(evidence.map(str::to_owned)), NOW, &scene.limits);
        let plan = scene.plan_with(&memory);
        assert_eq!(scene.words(&plan), ["unusable 1: NodeStartTimedOut", "cluster Steady NodeStartTimedOut"]);
        let Some(Change::ClusterStatus { errors, .. }) = plan.changes().pop() else { panic!("a status") };
        errors[0].details.last().map(|detail| (detail.name.clone(), detail.value.clone()))
    };
    assert_eq!(explained(Some("no route to the server")), Some(("log".into(), "no route to the server".into())));
    assert_eq!(explained(None), Some(("nodeId".into(), "tvm-1".into())));
    scene.since = ago(10);
    assert!(scene.plan().is_empty());
}

#[test]
fn idle_nodes_leave_first_and_of_them_the_newest() {
    let scene = cluster(2).idle(2).running(&[part(AssignmentState::Running)], |_, _| {}).idle(1);
    assert_eq!(scene.decides(), ["leave 2: Requeue", "leave 4: Requeue", "cluster Resizing"]);
}

#[test]
fn few_jobs_are_hit_when_busy_nodes_must_leave() {
    let running = || part(AssignmentState::Running);
    let older = |attempt: &mut Attempt, _: &mut JobRow| attempt.created_at = ago(300);
    let scene = cluster(2).running(&[running(), running()], older).running(&[running(), running()], |_, _| {});
    assert_eq!(scene.decides(), ["leave 3: Requeue", "leave 4: Requeue", "cluster Resizing"], "both of the younger gang");
}

#[test]
fn a_leaving_machine_without_a_job_is_deleted_and_with_one_is_not() {
    assert_eq!(cluster(0).resizing().machine(Leaving, Seen::Present, |_| {}).decides(), ["delete 1: Leaving"]);
    let waits = cluster(0)
        .resizing()
        .deallocation(Deallocation::WaitForJobCompletion)
        .running(&[part(AssignmentState::Running)], |_, _| {});
    let mut waits = waits;
    waits.snapshot.machines[0].state = Leaving;
    waits.snapshot.machines[0].deallocation = Some(Deallocation::WaitForJobCompletion);
    assert!(waits.plan().is_empty());
    let hurried = waits.deallocation(Deallocation::Requeue);
    assert_eq!(hurried.decides(), ["leave 1: Requeue"], "a newer wish hurries it");
}

#[test]
fn never_deletes_a_machine_it_cannot_see() {
    assert!(cluster(0).resizing().machine(Leaving, Seen::Unclear, |_| {}).plan().is_empty());
    assert!(cluster(0).resizing().machine(Leaving, Seen::Present, |_| {}).unlisted().plan().is_empty());
}

#[test]
fn a_machine_that_surely_is_gone_is_recorded_and_replaced() {
    assert_eq!(cluster(1).machine(Ready, Seen::Nothing, |_| {}).decides(), ["gone 1", "ask 2", "cluster Resizing"]);
    assert_eq!(cluster(1).machine(Ready, Seen::Off, |_| {}).decides(), ["leave 1: Requeue", "ask 2", "cluster Resizing"]);
    assert_eq!(cluster(0).resizing().machine(Leaving, Seen::Nothing, |_| {}).decides(), ["gone 1", "cluster Steady"]);
}

#[test]
fn repairs_pause_when_machines_are_lost_again_and_again() {
    let scene = cluster(1).resizing();
    let mut memory = scene.memory();
    memory.lost(CLUSTER, NOW);
    assert_eq!(scene.words(&scene.plan_with(&memory)), ["ask 1"], "the first loss is made good at once");
    memory.lost(CLUSTER, NOW);
    memory.lost(CLUSTER, NOW);
    let plan = scene.plan_with(&memory);
    assert!(plan.is_empty());
    assert_eq!(plan.look_again, Some(NOW + Duration::from_secs(2)));
}

#[test]
fn a_full_cloud_shows_once_and_the_cluster_is_as_large_as_it_gets() {
    let scene = cluster(3).resizing().idle(1).machine(Asked, Seen::Nothing, |_| {}).machine(Asked, Seen::Nothing, |_| {});
    let mut memory = scene.memory();
    for machine in &scene.snapshot.machines[1..] {
        memory.call_begins(machine.uid);
        let failure = Failure { kind: FailureKind::Quota, text: "full".into() };
        memory.call_ended(machine.uid, Answer::NotMade(failure), NOW, &scene.limits);
    }
    let words = scene.words(&scene.plan_with(&memory));
    assert_eq!(
        words,
        [
            "not made 2: NodeAllocationQuotaReached",
            "not made 3: NodeAllocationQuotaReached",
            "cluster Steady NodeAllocationQuotaReached"
        ]
    );
}

#[test]
fn an_unknown_size_is_said_and_nothing_is_asked() {
    let mut scene = cluster(1);
    scene.row().spec.vm_size = "STANDARD_X".into();
    assert_eq!(scene.decides(), ["cluster Steady VmSizeNotAvailable"]);
}

#[test]
fn a_deleted_cluster_lets_its_nodes_go_tells_its_jobs_and_then_goes() {
    let scene = cluster(2).deleting().idle(1).running(&[part(AssignmentState::Running)], |_, _| {}).queued(1, |_| {});
    assert_eq!(
        scene.decides(),
        ["leave 1: Terminate", "leave 2: Terminate", "stop: ClusterDeleted", "job 2 Failed JobClusterDeleted"]
    );
    assert_eq!(cluster(2).deleting().decides(), ["remove"]);
}

#[test]
fn a_cluster_with_a_machine_that_cannot_be_read_stays() {
    let mut scene = cluster(0).deleting();
    let name = catalog().machine_name(MachineUid(Uuid::from_u128(1)));
    scene.snapshot.unreadable.push(crate::domain::snapshot::UnreadableMachine { name, cluster: CLUSTER });
    assert!(scene.plan().is_empty());
}

#[test]
fn a_quarantined_node_leaves_and_is_unmade_though_its_job_does_not_answer() {
    let mut scene = cluster(1).running(&[part(AssignmentState::Running)], |_, _| {});
    scene.snapshot.machines[0].quarantined = true;
    scene.snapshot.machines[0].state = Unusable;
    assert_eq!(scene.decides(), ["leave 1: Requeue", "ask 2", "cluster Resizing"]);
    scene.snapshot.machines[0].state = Leaving;
    scene.row().spec.scale = Scale::Manual { target: 0, deallocation: Deallocation::Requeue };
    assert_eq!(scene.resizing().decides(), ["stop: Requeue", "delete 1: WouldNotStop"]);
}

#[test]
fn a_deaf_node_without_a_job_is_replaced_and_with_a_running_one_is_not() {
    let deaf = |machine: &mut Machine| machine.heard_at = Some(ago(5_000));
    assert_eq!(cluster(1).machine(Ready, Seen::Present, deaf).decides(), ["leave 1: Requeue", "ask 2", "cluster Resizing"]);
    let mut scene = cluster(1).running(&[part(AssignmentState::Running)], |_, _| {});
    deaf(&mut scene.snapshot.machines[0]);
    assert!(scene.plan().is_empty(), "silence proves nothing");
}

#[test]
fn a_node_that_does_not_stop_its_job_in_time_goes_with_it() {
    let mut scene = cluster(1).stopping(Stop::Terminate, &[part(AssignmentState::Running)]);
    scene.snapshot.jobs[0].status.phase = Phase::Terminating;
    assert_eq!(scene.decides(), ["leave 1: Terminate", "ask 2", "cluster Resizing"]);
    scene.since = ago(5);
    assert!(scene.plan().is_empty(), "patience counts from when somebody watched");
}

/// A cluster that scales by its queue within bounds and is to have `target` nodes now.
fn scaled(minimum: u32, maximum: u32, target: u32) -> Scene {
    let mut scene = cluster(0);
    scene.row().spec.scale = Scale::Auto { minimum, maximum, initial: 0 };
    scene.row().status.auto = Some(AutoTarget { target, surplus_since: None });
    scene
}

fn auto(plan: &Plan) -> Option<AutoTarget> {
    plan.changes().into_iter().find_map(|change| match change {
        Change::ClusterStatus { auto, .. } => auto,
        _ => None,
    })
}

#[test]
fn a_cluster_grows_with_its_queue_up_to_its_bound() {
    let scene = scaled(0, 3, 0).queued(2, |_| {});
    let plan = scene.plan();
    assert_eq!(scene.words(&plan), ["ask 1", "ask 2", "cluster Resizing"]);
    assert_eq!(auto(&plan), Some(AutoTarget { target: 2, surplus_since: None }));
    assert_eq!(scaled(0, 3, 0).queued(2, |_| {}).queued(2, |_| {}).decides(), ["ask 1", "ask 2", "ask 3", "cluster Resizing"]);
    // What it could never run does not make it grow.
    assert_eq!(scaled(0, 3, 0).queued(4, |_| {}).decides(), ["cluster Steady JobNeedsTooManyNodes"]);
    assert_eq!(scaled(1, 3, 0).decides(), ["ask 1", "cluster Resizing"]);
}

#[test]
fn nodes_that_have_a_job_are_needed_too() {
    let scene = scaled(0, 3, 1).running(&[part(AssignmentState::Running)], |_, _| {}).queued(1, |_| {});
    assert_eq!(scene.decides(), ["ask 2", "cluster Resizing"]);
}

#[test]
fn a_cluster_shrinks_after_it_was_too_large_for_a_while() {
    let mut scene = scaled(1, 3, 3).idle(3);
    let after = scene.limits.scale_down_after;
    let plan = scene.plan();
    assert_eq!(auto(&plan), Some(AutoTarget { target: 3, surplus_since: Some(NOW) }));
    assert_eq!(plan.look_again, Some(NOW + after));
    // Noticed before, and not for long enough.
    scene.row().status.auto = auto(&plan);
    assert!(scene.plan().is_empty());
    scene.row().status.auto = Some(AutoTarget { target: 3, surplus_since: Some(NOW - after) });
    let plan = scene.plan();
    assert_eq!(scene.words(&plan)[..2], ["leave 2: WaitForJobCompletion", "leave 3: WaitForJobCompletion"]);
    assert_eq!(auto(&plan), Some(AutoTarget { target: 1, surplus_since: None }));
}

#[test]
fn nothing_waits_for_what_a_clock_that_was_ahead_wrote() {
    let late = NOW + Duration::from_secs(3_600);
    let scene = cluster(1).resizing().machine(Asked, Seen::Nothing, |machine| machine.retry_at = Some(late));
    assert_eq!(scene.decides(), ["ensure 1"]);

    let mut scene = cluster(1).resizing();
    scene.row().status.repairs = Some(Repairs { last_at: late, ..repairs(2, 0).expect("some") });
    scene.row().status.errors = vec![EntityError::new("NodeSetupTaskFailed", "x")];
    assert_eq!(scene.decides(), ["ask 1"]);

    let mut scene = scaled(1, 3, 3).idle(3);
    scene.row().status.auto = Some(AutoTarget { target: 3, surplus_since: Some(late) });
    assert_eq!(auto(&scene.plan()), Some(AutoTarget { target: 3, surplus_since: Some(NOW) }));
}

#[test]
fn work_in_between_makes_the_while_begin_anew() {
    let mut scene = scaled(0, 3, 1).running(&[part(AssignmentState::Running)], |_, _| {});
    scene.row().status.auto = Some(AutoTarget { target: 1, surplus_since: Some(ago(1)) });
    assert_eq!(auto(&scene.plan()), Some(AutoTarget { target: 1, surplus_since: None }));
}

#[test]
fn scaling_by_the_queue_begins_with_the_nodes_that_are_there() {
    let mut scene = scaled(0, 5, 0).idle(2);
    scene.row().status.auto = None;
    assert_eq!(auto(&scene.plan()), Some(AutoTarget { target: 2, surplus_since: Some(NOW) }));
}

fn with_quota(mut scene: Scene, total: Option<u32>, family: Option<u32>) -> Scene {
    let families = family.map(|most| ("Standard D", most)).into_iter().collect();
    scene.limits.cores.dedicated = CoreQuota { total, families };
    scene
}

#[test]
fn a_quota_of_cores_gives_fewer_nodes_and_an_error() {
    let cores = catalog().find_size("STANDARD_D1").expect("a size").cores;
    for (total, family) in [(Some(2 * cores), None), (None, Some(2 * cores)), (Some(100), Some(2 * cores))] {
        let scene = with_quota(cluster(4).idle(1), total, family);
        assert_eq!(scene.decides(), ["ask 2", "cluster Resizing NodeAllocationQuotaReached"]);
        let mut scene = with_quota(cluster(4).idle(2), total, family);
        let plan = scene.plan();
        assert_eq!(scene.words(&plan), ["cluster Steady NodeAllocationQuotaReached"], "as many as there may be");
        let Some(Change::ClusterStatus { errors, .. }) = plan.changes().pop() else { panic!("a status") };
        scene.row().status.errors = errors;
        assert!(scene.plan().is_empty());
    }
    assert_eq!(with_quota(cluster(1), Some(0), None).decides(), ["cluster Steady NodeAllocationQuotaReached"]);
    assert_eq!(with_quota(cluster(1), Some(cores), None).decides(), ["ask 1", "cluster Resizing"]);
}

#[test]
fn quotas_are_those_of_a_priority() {
    let mut scene = with_quota(cluster(1), Some(0), Some(0));
    scene.row().spec.vm_priority = VmPriority::LowPriority;
    assert_eq!(scene.decides(), ["ask 1", "cluster Resizing"]);
}

#[test]
fn a_job_that_can_never_fit_makes_nothing_grow_holds_up_nobody_and_is_told() {
    let mut scene = scaled(0, 3, 0).queued(4, |_| {}).queued(2, |_| {});
    let plan = scene.plan();
    assert_eq!(scene.words(&plan), ["ask 1", "ask 2", "cluster Resizing JobNeedsTooManyNodes"]);
    let Some(Change::ClusterStatus { errors, .. }) = plan.changes().pop() else { panic!("a status") };
    assert!(errors[0].message.contains("needs 4 nodes, and this cluster can have 3 at most"), "{}", errors[0].message);
    assert!(plan.reasons.iter().any(|reason| reason.to_string().contains("can never have more than 3")), "{:?}", plan.reasons);
    scene = scene.idle(2);
    scene.row().status.auto = Some(AutoTarget { target: 2, surplus_since: None });
    scene.row().status.errors = errors;
    assert_eq!(scene.decides(), ["place 2 on 1,2 Placed"], "it goes past the one that waits for ever");
    // Who scales by hand may choose any number.
    assert_eq!(cluster(1).idle(1).queued(4, |_| {}).queued(1, |_| {}).decides(), Vec::<String>::new());
}

#[test]
fn what_the_quota_never_allows_makes_nothing_grow() {
    let cores = catalog().find_size("STANDARD_D1").expect("a size").cores;
    let scene = with_quota(scaled(0, 50, 0).queued(5, |_| {}).queued(2, |_| {}), Some(4 * cores), None);
    assert_eq!(scene.decides(), ["ask 1", "ask 2", "cluster Resizing JobNeedsTooManyNodes"]);
}

#[test]
fn a_node_that_leaves_once_its_job_ends_is_not_replaced_for_that_job() {
    let leaving = |deallocation| {
        let mut scene = scaled(0, 3, 0).running(&[part(AssignmentState::Running)], |_, _| {});
        scene.snapshot.machines[0].state = Leaving;
        scene.snapshot.machines[0].deallocation = Some(deallocation);
        scene.decides()
    };
    assert_eq!(leaving(Deallocation::WaitForJobCompletion), ["cluster Resizing"]);
    assert_eq!(leaving(Deallocation::Requeue), ["ask 2", "cluster Resizing", "stop: Requeue"], "the job will want one");
}

#[test]
fn a_machine_that_is_taken_away_leaves_and_is_replaced_at_once() {
    let soon = Some(NOW + Duration::from_secs(30));
    let scene = cluster(1).machine(Ready, Seen::Present, |machine| machine.evict_at = soon);
    let plan = scene.plan();
    assert_eq!(scene.words(&plan), ["leave 1: Requeue", "ask 2", "cluster Resizing"]);
    assert!(plan.losses.is_empty(), "that is no repair");
    let leaving = cluster(0).resizing().machine(Leaving, Seen::Present, |machine| machine.evict_at = soon);
    assert_eq!(leaving.decides(), ["delete 1: Leaving"], "nothing of a job is on it");
}

#[test]
fn what_a_driver_tells_of_an_eviction_is_written_down() {
    let scene = cluster(1).idle(1);
    let at = NOW + Duration::from_secs(30);
    let taken = |presence| {
        let mut memory = scene.memory();
        let began = memory.listing_begins();
        let name = scene.snapshot.machines[0].name.clone();
        let seen = Observed { evict_at: Some(at), ..Observed::new(name, presence, None) };
        memory.listed(began, vec![seen], NOW, &scene.limits);
        scene.plan_with(&memory)
    };
    for presence in [Presence::Present, Presence::Absent] {
        let plan = taken(presence);
        let told = plan.changes().iter().find_map(|change| match change {
            Change::MachineLeaving { evict_at, .. } => *evict_at,
            _ => None,
        });
        assert_eq!(told, Some(at), "{presence:?}");
        assert!(plan.losses.is_empty(), "{presence:?}");
    }
}

#[test]
fn a_job_has_the_notice_and_no_more() {
    let mut scene = cluster(0).resizing().stopping(Stop::Preempted, &[part(AssignmentState::Running)]);
    scene.snapshot.machines[0].state = Leaving;
    scene.snapshot.machines[0].deallocation = Some(Deallocation::Requeue);
    scene.snapshot.machines[0].evict_at = Some(NOW + Duration::from_secs(5));
    let plan = scene.plan();
    assert!(plan.is_empty(), "{:?}", scene.words(&plan));
    assert_eq!(plan.look_again.map(|at| at <= NOW + Duration::from_secs(5)), Some(true));
    scene.snapshot.machines[0].evict_at = Some(NOW);
    assert_eq!(scene.decides(), ["delete 1: Evicted"]);
}
