use super::*;
use crate::domain::attempt::AssignmentState::{Assigned, Ready, Running};
use crate::domain::attempt::Scarce;
use crate::domain::retry::{Category, RetryRule};

fn lost() -> Part {
    over(End::Lost { why: "the supervisor is gone".into() })
}

fn stopped() -> Part {
    over(End::Stopped)
}

/// What one attempt of which all parts ended comes to.
fn ends(parts: &[Part]) -> Vec<String> {
    cluster(u32::try_from(parts.len()).expect("few")).running(parts, |_, _| {}).decides()
}

fn ends_after(stop: Stop, parts: &[Part]) -> Vec<String> {
    cluster(u32::try_from(parts.len()).expect("few")).stopping(stop, parts).decides()
}

#[test]
fn the_command_s_exit_code_decides() {
    assert_eq!(ends(&[exited(0)]), ["end: exited", "job 1 Succeeded 0"]);
    assert_eq!(ends(&[exited(127)]), ["end: exited", "job 1 Failed 127 JobFailed"]);
    let setup = End::SetupFailed { error: EntityError::new("AZFMountError", "Unable to mount Azure File") };
    assert_eq!(ends(&[over(setup)]), ["end: setup_failed", "job 1 Failed AZFMountError"]);
    assert_eq!(
        ends(&[over(End::PreparationFailed { code: 1 })]),
        ["end: preparation_failed", "job 1 Failed 1 JobPreparationFailed"]
    );
}

#[test]
fn a_gang_is_released_when_all_parts_are_ready() {
    let placed = |parts: &[Part]| {
        cluster(2).running(parts, |attempt, _| (attempt.state, attempt.released_at) = (AttemptState::Placed, None)).decides()
    };
    assert_eq!(placed(&[part(Ready), part(Ready)]), ["release"]);
    assert!(placed(&[part(Ready), part(Assigned)]).is_empty());
    assert_eq!(placed(&[part(Ready), over(End::PreparationFailed { code: 2 })]), ["stop: Gang"]);
}

#[test]
fn when_one_part_ended_the_others_have_nothing_left_to_do() {
    assert_eq!(ends(&[exited(0), part(Running)]), ["stop: Gang"]);
    assert_eq!(ends_after(Stop::Gang, &[exited(0), stopped()]), ["end: exited", "job 1 Succeeded 0"]);
    assert_eq!(ends_after(Stop::Gang, &[exited(3), stopped()]), ["end: exited", "job 1 Failed 3 JobFailed"]);
    assert_eq!(
        ends_after(Stop::Gang, &[stopped(), over(End::PreparationFailed { code: 2 })]),
        ["end: preparation_failed", "job 1 Failed 2 JobPreparationFailed"]
    );
}

#[test]
fn what_the_platform_lost_goes_back_to_the_queue_and_is_counted() {
    let scene = cluster(1).running(&[lost()], |_, _| {});
    let plan = scene.plan();
    assert_eq!(scene.words(&plan), ["end: node_lost", "job 1 Queued"]);
    let Some(Change::JobStatus { status, .. }) = plan.changes().pop() else { panic!("a status") };
    assert_eq!(status.lost, [scene.snapshot.machines[0].uid]);
    assert_eq!(status.started_at, Some(ago(30)), "it keeps its most recent start");
    assert_eq!(
        ends_after(Stop::Gang, &[exited(1), lost()]),
        ["end: node_lost", "job 1 Queued"],
        "the neighbour's loss is the cause"
    );
    assert_eq!(
        ends_after(Stop::Gang, &[exited(0), lost()]),
        ["end: exited", "job 1 Succeeded 0"],
        "what succeeded has succeeded"
    );
}

#[test]
fn retries_end_with_a_code_of_their_own() {
    let tried = |_: &mut Attempt, job: &mut JobRow| job.status.lost = vec![MachineUid(Uuid::nil()); 3];
    assert_eq!(cluster(1).running(&[lost()], tried).decides(), ["end: node_lost", "job 1 Failed JobNodesLost"]);
}

#[test]
fn a_dead_node_ends_its_part_with_proof_and_silence_does_not() {
    let running = part(Running);
    assert_eq!(
        cluster(1).running(&[running.clone().seen(Seen::Nothing)], |_, _| {}).decides(),
        ["gone 1", "ask 2", "cluster Resizing", "lose 0: lost", "end: node_lost", "job 1 Queued"]
    );
    assert_eq!(
        cluster(2).running(&[running.clone(), running.clone().seen(Seen::Off)], |_, _| {}).decides(),
        ["leave 2: Requeue", "ask 3", "cluster Resizing", "lose 1: lost", "stop: Gang"]
    );
    assert!(cluster(1).running(&[running.clone().seen(Seen::Unclear)], |_, _| {}).plan().is_empty());
    assert!(cluster(1).running(&[running.seen(Seen::Nothing)], |_, _| {}).unlisted().plan().is_empty());
}

#[test]
fn a_node_that_is_not_seen_is_dead_once_it_has_surely_ended_itself() {
    let fenced = |heard: u64, seen: Seen| {
        let mut scene = cluster(1).running(&[part(Running).seen(seen)], |_, _| {});
        scene.limits.fenced_after = Some(Limits::surely_fenced_after(Duration::from_secs(900)));
        scene.snapshot.machines[0].heard_at = Some(ago(heard));
        scene
    };
    let words = |scene: Scene| scene.decides();
    // A quarter of an hour, a hundredth of it, and two minutes.
    assert!(words(fenced(1_028, Seen::Unclear)).iter().all(|word| !word.starts_with("lose")));
    assert_eq!(words(fenced(1_030, Seen::Unclear)), ["lose 0: lost", "end: node_lost", "job 1 Queued"]);
    assert!(words(fenced(5_000, Seen::Present)).iter().all(|word| !word.starts_with("lose")), "what is seen is not dead");
    let mut never = fenced(5_000, Seen::Unclear);
    never.snapshot.machines[0].heard_at = None;
    assert!(never.decides().is_empty());
    // A leader that has only just begun to watch has heard nobody's silence.
    let mut fresh = fenced(5_000, Seen::Unclear);
    fresh.since = ago(1_000);
    assert!(fresh.decides().iter().all(|word| !word.starts_with("lose")));
}

#[test]
fn a_node_that_dies_while_its_part_is_to_stop_is_not_why_the_attempt_ends() {
    let scene = cluster(1).stopping(Stop::Timeout, &[part(Running).seen(Seen::Nothing)]);
    assert_eq!(scene.decides()[3..], ["lose 0: stopped", "end: timeout", "job 1 Failed JobMaxWallClockTimeReached"]);
}

#[test]
fn users_stop_jobs() {
    let terminating = |_: &mut Attempt, job: &mut JobRow| job.status.phase = Phase::Terminating;
    assert_eq!(cluster(1).running(&[part(Running)], terminating).decides(), ["stop: Terminate"]);
    assert_eq!(
        cluster(1).running(&[stopped()], terminating).decides(),
        ["end: terminated", "job 1 Failed JobTerminated", "finish Terminate"]
    );
    assert_eq!(
        cluster(1).running(&[exited(0)], terminating).decides(),
        ["end: terminated", "job 1 Failed JobTerminated", "finish Terminate"],
        "a terminating job only ever ends as terminated"
    );
    let deleting = |_: &mut Attempt, job: &mut JobRow| job.deleting = true;
    assert_eq!(cluster(1).running(&[part(Running)], deleting).decides(), ["stop: Delete"]);
    assert_eq!(cluster(1).running(&[stopped()], deleting).decides(), ["end: deleted"]);
}

#[test]
fn a_job_that_was_terminated_in_the_queue_started_when_that_began() {
    let scene = cluster(0).queued(1, |job| (job.status.phase, job.status.phase_changed_at) = (Phase::Terminating, ago(2)));
    let plan = scene.plan();
    assert_eq!(scene.words(&plan), ["job 1 Failed JobTerminated", "finish Terminate"]);
    let Some(Change::JobStatus { status, .. }) = plan.changes().into_iter().next() else { panic!("a status") };
    assert_eq!((status.started_at, status.ended_at, status.exit_code), (Some(ago(2)), Some(NOW), None));
}

#[test]
fn a_job_stops_when_it_ran_for_as_long_as_it_may() {
    let started = |seconds| move |_: &mut Attempt, job: &mut JobRow| job.status.started_at = Some(ago(seconds));
    assert_eq!(cluster(1).running(&[part(Running)], started(600)).decides(), ["stop: Timeout"]);
    let plan = cluster(1).running(&[part(Running)], started(599)).plan();
    assert!(plan.is_empty());
    assert_eq!(plan.look_again, Some(NOW + Duration::from_secs(1)));
    assert_eq!(ends_after(Stop::Timeout, &[exited(0)]), ["end: exited", "job 1 Succeeded 0"], "it ended just in time");
}

#[test]
fn jobs_on_leaving_nodes_follow_the_option() {
    let leaving = |option| {
        let mut scene = cluster(0).resizing().running(&[part(Running)], |_, _| {}).deallocation(option);
        scene.snapshot.machines[0].state = MachineState::Leaving;
        scene.snapshot.machines[0].deallocation = Some(option);
        scene.decides()
    };
    assert_eq!(leaving(Deallocation::Requeue), ["stop: Requeue"]);
    assert_eq!(leaving(Deallocation::Terminate), ["stop: NodeRemoved"]);
    assert!(leaving(Deallocation::WaitForJobCompletion).is_empty());
    assert_eq!(ends_after(Stop::Requeue, &[stopped()]), ["end: requeued", "job 1 Queued"]);
    assert_eq!(ends_after(Stop::NodeRemoved, &[stopped()]), ["end: node_removed", "job 1 Failed JobNodeRemoved"]);
    assert_eq!(ends_after(Stop::ClusterDeleted, &[stopped()]), ["end: cluster_deleted", "job 1 Failed JobClusterDeleted"]);
}

#[test]
fn a_user_s_requeue_is_not_counted_as_the_platform_s() {
    let plan = cluster(1).stopping(Stop::Requeue, &[stopped()]).plan();
    let Some(Change::JobStatus { status, .. }) = plan.changes().pop() else { panic!("a status") };
    assert!(status.lost.is_empty());
}

#[test]
fn a_job_of_a_cluster_that_is_gone_fails() {
    let mut scene = cluster(0).queued(1, |job| job.cluster = None);
    assert_eq!(scene.decides(), ["job 1 Failed JobClusterDeleted"]);
    scene.snapshot.jobs[0].cluster = Some(ResourceUid(Uuid::from_u128(0xdead)));
    assert!(scene.plan().is_empty(), "a cluster that was not read is no cluster that is gone");
}

#[test]
fn parts_that_lead_are_all_waited_for() {
    let decides = |parts: &[Part]| cluster(2).running(parts, |_, job| job.leaders = 2).decides();
    assert!(decides(&[exited(0), part(Running)]).is_empty());
    assert!(decides(&[part(Running), exited(0)]).is_empty());
    assert_eq!(decides(&[part(Running), exited(1)]), ["stop: Gang"]);
    assert_eq!(decides(&[exited(0), exited(0)]), ["end: exited", "job 1 Succeeded 0"]);
    assert_eq!(decides(&[exited(0), exited(5)]), ["end: exited", "job 1 Failed 5 JobFailed"]);
}

#[test]
fn the_bad_end_that_came_first_is_what_the_job_shows() {
    let decides = |first: u64, second: u64| {
        let edit = |attempt: &mut Attempt, _: &mut JobRow| {
            attempt.assignments[0].ended_at = Some(ago(first));
            attempt.assignments[1].ended_at = Some(ago(second));
        };
        cluster(2).running(&[exited(1), exited(9)], edit).decides()
    };
    assert_eq!(decides(1, 2), ["end: exited", "job 1 Failed 9 JobFailed"]);
    assert_eq!(decides(2, 1), ["end: exited", "job 1 Failed 1 JobFailed"]);
}

fn codes(codes: &[i32], limit: u32) -> RetryRule {
    RetryRule { exit_codes: codes.to_vec(), limit, ..RetryRule::default() }
}

fn causes(categories: &[Category], limit: u32) -> RetryRule {
    RetryRule { categories: categories.to_vec(), limit, ..RetryRule::default() }
}

/// What an attempt that ended comes to for a job with rules.
fn ends_with(rules: &[RetryRule], parts: &[Part]) -> Vec<String> {
    cluster(u32::try_from(parts.len()).expect("few")).running(parts, |_, job| job.retries = rules.to_vec()).decides()
}

/// The same for one that was told to stop, and did.
fn stopping(stop: Stop, rules: &[RetryRule]) -> Vec<String> {
    let edit = |attempt: &mut Attempt, job: &mut JobRow| {
        attempt.stop = Some(stop);
        job.retries = rules.to_vec();
    };
    cluster(1).running(&[stopped()], edit).decides()
}

#[test]
fn what_a_rule_is_about_is_tried_again() {
    let memory = || over(End::OutOf { what: Scarce::Memory, code: 137 });
    let mount = || over(End::SetupFailed { error: EntityError::new("AZFMountError", "Unable to mount Azure File") });
    let pull = || over(End::SetupFailed { error: EntityError::new("FailedPullingImage", "no") });
    assert_eq!(ends_with(&[codes(&[3], 1)], &[exited(3)]), ["end: exited", "job 1 Queued"]);
    assert_eq!(ends_with(&[codes(&[4], 1)], &[exited(3)]), ["end: exited", "job 1 Failed 3 JobFailed"]);
    assert_eq!(ends_with(&[codes(&[3], 1)], &[exited(0)]), ["end: exited", "job 1 Succeeded 0"]);
    assert_eq!(ends_with(&[causes(&[Category::OutOfMemory], 1)], &[memory()]), ["end: out_of_memory", "job 1 Queued"]);
    assert_eq!(
        ends_with(&[causes(&[Category::OutOfDisk], 1)], &[memory()]),
        ["end: out_of_memory", "job 1 Failed 137 JobOutOfMemory"]
    );
    assert_eq!(ends_with(&[causes(&[Category::Mount], 1)], &[mount()]), ["end: setup_failed", "job 1 Queued"]);
    assert_eq!(ends_with(&[causes(&[Category::Pull], 1)], &[mount()]), ["end: setup_failed", "job 1 Failed AZFMountError"]);
    assert_eq!(ends_with(&[causes(&[Category::Pull], 1)], &[pull()]), ["end: setup_failed", "job 1 Queued"]);
    let preparation = over(End::PreparationFailed { code: 100 });
    assert_eq!(ends_with(&[codes(&[100], 1)], &[preparation]), ["end: preparation_failed", "job 1 Queued"]);
    let time = [causes(&[Category::Time], 1)];
    assert_eq!(stopping(Stop::Timeout, &time), ["end: timeout", "job 1 Queued"]);
}

#[test]
fn what_the_platform_took_eats_no_retry_and_what_users_ended_gets_none() {
    let all = [codes(&(1..=255).collect::<Vec<_>>(), 9), causes(&[Category::NodeLost, Category::Time], 9)];
    let scene = cluster(1).running(&[lost()], |_, job| job.retries = all.to_vec());
    let plan = scene.plan();
    assert_eq!(scene.words(&plan), ["end: node_lost", "job 1 Queued"]);
    let Some(Change::JobStatus { status, .. }) = plan.changes().pop() else { panic!("a status") };
    assert!(status.retried.is_none() && status.lost.len() == 1, "{status:?}");
    for stop in [Stop::Terminate, Stop::NodeRemoved, Stop::ClusterDeleted] {
        let decided = stopping(stop, &all);
        assert!(decided.iter().any(|line| line.starts_with("job 1 Failed")), "{stop:?}: {decided:?}");
    }
    // Beyond what the platform makes up for, a rule may.
    let tried = |_: &mut Attempt, job: &mut JobRow| {
        job.status.lost = vec![MachineUid(Uuid::nil()); 3];
        job.retries = all.to_vec();
    };
    assert_eq!(cluster(1).running(&[lost()], tried).decides(), ["end: node_lost", "job 1 Queued"]);
}

#[test]
fn rules_are_used_up_pause_and_avoid_nodes() {
    let rule = RetryRule { backoff_s: 10, avoid_nodes: true, ..codes(&[3], 2) };
    let mut used = vec![];
    for wanted in [Some(10), Some(20), None] {
        let scene = cluster(1).running(&[exited(3)], |_, job| {
            job.retries = vec![rule.clone()];
            job.status.retried.used = used.clone();
        });
        let plan = scene.plan();
        let Some(Change::JobStatus { status, .. }) = plan.changes().pop() else { panic!("a status") };
        match wanted {
            Some(pause) => {
                assert_eq!(status.phase, Phase::Queued);
                assert_eq!(status.retried.not_before, Some(NOW + Duration::from_secs(pause)));
                assert_eq!(status.retried.avoided, [scene.snapshot.machines[0].uid]);
                used = status.retried.used.clone();
            }
            None => assert_eq!((status.phase, status.exit_code), (Phase::Failed, Some(3))),
        }
    }
    assert_eq!(used, [2]);
}

#[test]
fn a_clock_that_is_set_makes_no_job_longer_or_shorter() {
    for (started, by) in [(ago(3_700), 3_600), (NOW + Duration::from_secs(3_500), -3_600)] {
        let scene = cluster(1).running(&[part(Running)], |_, job| {
            job.status.started_at = Some(started);
            job.max_wall_clock_s = 600;
        });
        // It began 100 s ago: that is known to whoever watched.
        let mut memory = scene.memory().anew(NOW, time::Duration::seconds(by));
        memory.read(&scene.snapshot, NOW);
        let plan = scene.plan_with(&memory);
        assert!(plan.is_empty(), "{:?}", scene.words(&plan));
        assert_eq!(plan.look_again, Some(NOW + Duration::from_secs(500)));
    }
}

#[test]
fn a_job_waits_no_longer_than_its_rules_say_whatever_a_clock_that_was_ahead_wrote() {
    let queued = |seconds| cluster(1).idle(1).queued(1, |job| backs_off(job, NOW + Duration::from_secs(seconds)));
    assert_eq!(queued(20).plan().look_again, Some(NOW + Duration::from_secs(20)));
    assert_eq!(queued(3_600).decides(), ["place 1 on 1 Released"]);
}

#[test]
fn a_job_that_waits_for_its_time_holds_up_nobody_and_comes_last_to_nodes_it_failed_on() {
    let until = NOW + Duration::from_secs(5);
    let waits = |job: &mut JobRow| backs_off(job, until);
    let scene = cluster(1).idle(1).queued(1, waits).queued(1, |_| {});
    let plan = scene.plan();
    assert_eq!(scene.words(&plan), ["place 2 on 1 Released"]);
    assert!(plan.look_again.is_some_and(|at| at <= until));
    let ready = |job: &mut JobRow| job.status.retried.not_before = Some(ago(0));
    assert_eq!(cluster(1).idle(1).queued(1, ready).decides(), ["place 1 on 1 Released"]);

    let scene = cluster(2).idle(2);
    let first = scene.snapshot.machines[0].uid;
    assert_eq!(scene.queued(1, |job| job.status.retried.avoided = vec![first]).decides(), ["place 1 on 2 Released"]);
    let scene = cluster(1).idle(1);
    let only = scene.snapshot.machines[0].uid;
    assert_eq!(
        scene.queued(1, |job| job.status.retried.avoided = vec![only]).decides(),
        ["place 1 on 1 Released"],
        "the only one"
    );
}

/// A job on machines of which the first is taken away.
fn on_a_taken_node(parts: &[Part], edit: impl FnOnce(&mut Attempt, &mut JobRow)) -> Scene {
    let mut scene = cluster(u32::try_from(parts.len()).expect("few")).running(parts, edit);
    scene.snapshot.machines[0].state = MachineState::Leaving;
    scene.snapshot.machines[0].deallocation = Some(Deallocation::Requeue);
    scene.snapshot.machines[0].evict_at = Some(ago(1));
    scene
}

fn of_job(scene: &Scene) -> Vec<String> {
    let words = scene.decides();
    words.into_iter().filter(|word| ["stop", "end", "job", "lose"].iter().any(|begin| word.starts_with(begin))).collect()
}

#[test]
fn a_job_whose_node_is_taken_away_is_told_to_stop_and_waits_again() {
    assert_eq!(of_job(&on_a_taken_node(&[part(Running), part(Running)], |_, _| {})), ["stop: Preempted"]);
    assert_eq!(ends_after(Stop::Preempted, &[stopped(), stopped()]), ["end: preempted", "job 1 Queued"]);
    assert_eq!(
        ends_after(Stop::Preempted, &[exited(143), stopped()]),
        ["end: preempted", "job 1 Queued"],
        "what ended badly meanwhile followed from it"
    );
    assert_eq!(ends_after(Stop::Preempted, &[exited(0), stopped()]), ["end: exited", "job 1 Succeeded 0"]);
}

#[test]
fn an_eviction_without_notice_is_no_lost_node_however_often() {
    let gone = || part(Running).seen(Seen::Off);
    let often = |_: &mut Attempt, job: &mut JobRow| job.status.lost = vec![MachineUid(Uuid::nil()); 3];
    assert_eq!(of_job(&on_a_taken_node(&[gone()], often)), ["lose 0: lost", "end: preempted", "job 1 Queued"]);
    assert_eq!(
        of_job(&on_a_taken_node(&[gone(), part(Running)], |_, _| {})),
        ["lose 0: lost", "stop: Preempted"],
        "its neighbours stop for the same reason"
    );
    let scene = on_a_taken_node(&[lost(), exited(1)], |attempt, _| attempt.stop = Some(Stop::Gang));
    assert_eq!(of_job(&scene), ["end: preempted", "job 1 Queued"], "its neighbour failed for want of it");
}
