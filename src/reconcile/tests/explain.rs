use proptest::prelude::*;

use super::*;
use crate::domain::cluster::Repairs;
use crate::domain::quota::{CoreQuota, CoreQuotas};
use crate::domain::why::{Gate, Held, Lack, Unit, Why};
use crate::reconcile::{Ahead, explain_cluster, explain_job, explain_node};

impl Scene {
    fn ask<T>(&self, memory: &Memory, question: impl FnOnce(&World<'_>) -> T) -> T {
        let catalog = catalog();
        question(&World::new(&self.snapshot, memory, NOW, &self.limits, &catalog))
    }

    /// Why the job at that place, from 1, waits.
    fn why(&self, nth: usize) -> Option<Why> {
        self.ask(&self.memory(), |world| explain_job(world, self.snapshot.jobs[nth - 1].uid, Ahead::Read))
    }

    fn gate(&self, nth: usize) -> Option<Gate> {
        self.why(nth).map(|why| why.gate)
    }

    fn why_cluster(&self) -> Option<Why> {
        self.ask(&self.memory(), |world| explain_cluster(world, CLUSTER))
    }

    fn why_node(&self, nth: usize) -> Option<Why> {
        self.ask(&self.memory(), |world| explain_node(world, self.snapshot.machines[nth - 1].uid))
    }

    fn auto(mut self, minimum: u32, maximum: u32) -> Scene {
        self.row().spec.scale = Scale::Auto { minimum, maximum, initial: 0 };
        self.row().status.auto = self.row().spec.scale.first_auto();
        self
    }

    fn cores(mut self, total: u32) -> Scene {
        self.limits.cores =
            CoreQuotas { dedicated: CoreQuota { total: Some(total), families: Default::default() }, ..CoreQuotas::default() };
        self
    }
}

fn broken(code: &str) -> impl FnOnce(&mut Machine) + use<> {
    let problem = EntityError::new(code, "It is broken.");
    move |machine| machine.problem = Some(problem)
}

#[test]
fn a_job_that_is_given_its_nodes_or_runs_waits_for_nothing() {
    let scene = cluster(3).idle(2).running(&[part(AssignmentState::Running)], |_, _| {}).queued(2, |_| {});
    assert_eq!((scene.why(1), scene.why(2)), (None, None));
}

#[test]
fn taken_nodes_are_a_lack_of_capacity_and_those_who_have_them_are_named() {
    let scene = cluster(1).running(&[part(AssignmentState::Running)], |_, job| job.path = "/jobs/first".into()).queued(1, |_| {});
    let why = scene.why(2).expect("it waits");
    assert_eq!((why.gate, why.lack), (Gate::Capacity, Some(Lack::nodes(1, 0))));
    let [holder] = why.held_by.as_slice() else { panic!("one holds it: {why:?}") };
    let until = ago(30) + Duration::from_secs(600);
    assert_eq!((&holder.what, holder.count, holder.until), (&Held::Resource("/jobs/first".into()), 1, Some(until)));
    assert_eq!(why.clears_by, Some(until), "the job ends by then, whatever it does");
}

#[test]
fn a_gang_waits_while_some_of_its_nodes_are_free() {
    let scene = cluster(2).idle(1).running(&[part(AssignmentState::Running)], |_, _| {}).queued(2, |_| {});
    let why = scene.why(2).expect("it waits");
    assert_eq!((why.gate, why.lack), (Gate::Gang, Some(Lack::nodes(2, 1))));
    assert_eq!(why.lack.map(|lack| lack.missing()), Some(1));
}

#[test]
fn a_gang_that_has_its_nodes_waits_for_those_that_prepare() {
    let parts = [part(AssignmentState::Ready), part(AssignmentState::Assigned)];
    let why = cluster(2).running(&parts, |attempt, _| attempt.state = AttemptState::Placed).why(1).expect("it waits");
    assert_eq!((why.gate, why.lack), (Gate::Gang, Some(Lack::nodes(2, 1))));
    assert_eq!(why.held_by.iter().map(|holder| &holder.what).collect::<Vec<_>>(), [&Held::Node("tvm-2".into())]);
}

#[test]
fn whoever_is_behind_one_that_waits_is_told_how_many_go_first() {
    let scene = cluster(2)
        .idle(2)
        .queued(3, |job| (job.rank, job.path) = (1, "/jobs/high".into()))
        .queued(1, |job| job.created_at = ago(40))
        .queued(1, |_| {});
    assert_eq!(scene.gate(1), Some(Gate::ScaleLimit));
    let why = scene.why(2).expect("it waits");
    assert_eq!(why.lack, Some(Lack { unit: Unit::Jobs, needed: 2, available: 0 }));
    assert_eq!((why.gate, &why.held_by[0].what), (Gate::Priority, &Held::Resource("/jobs/high".into())));
}

#[test]
fn jobs_between_that_were_not_read_go_first() {
    let scene = cluster(1).idle(1).queued(1, |_| {});
    let counted = scene.ask(&scene.memory(), |world| explain_job(world, scene.snapshot.jobs[0].uid, Ahead::Counted(300)));
    let why = counted.expect("it waits");
    assert_eq!((why.gate, why.lack.map(|lack| lack.missing())), (Gate::Priority, Some(300)));
    let none = scene.ask(&scene.memory(), |world| explain_job(world, scene.snapshot.jobs[0].uid, Ahead::Counted(0)));
    assert_eq!(none, None);
}

#[test]
fn a_cluster_that_is_to_have_fewer_nodes_is_a_limit_of_its_scale() {
    let why = cluster(1).idle(1).queued(2, |_| {}).why(1).expect("it waits");
    assert_eq!((why.gate, why.lack), (Gate::ScaleLimit, Some(Lack::nodes(2, 1))));
    let why = cluster(0).auto(0, 3).queued(4, |_| {}).why(1).expect("it waits");
    assert_eq!((why.gate, why.lack), (Gate::ScaleLimit, Some(Lack::nodes(4, 3))));
}

#[test]
fn a_quota_is_told_from_the_clusters_own_limit() {
    let never = cluster(0).auto(0, 9).cores(2).queued(4, |_| {}).why(1).expect("it waits");
    assert_eq!((never.gate, never.lack), (Gate::Quota, Some(Lack::nodes(4, 2))));
    // Two nodes of one core there are, a third has no room.
    let now = cluster(3).cores(2).idle(2).queued(3, |_| {});
    let why = now.why(1).expect("it waits");
    assert_eq!((why.gate, why.lack), (Gate::Quota, Some(Lack { unit: Unit::Cores, needed: 1, available: 0 })));
    assert_eq!((&why.held_by[0].what, why.held_by[0].count), (&Held::Resource("/clusters/c".into()), 2));
    assert_eq!(now.why_cluster().map(|why| why.gate), Some(Gate::Quota));
}

#[test]
fn nodes_that_come_are_waited_for() {
    let scene = cluster(1).resizing().machine(MachineState::Preparing, Seen::Present, |_| {}).queued(1, |_| {});
    assert_eq!(scene.gate(1), Some(Gate::Capacity));
    assert_eq!(scene.why_cluster().map(|why| (why.gate, why.lack)), Some((Gate::Capacity, Some(Lack::nodes(1, 0)))));
    assert_eq!(scene.why_node(1).map(|why| (why.gate, why.clears_by.is_some())), Some((Gate::NodeHealth, true)));
}

#[test]
fn broken_nodes_and_their_mounts_are_told_apart() {
    let with = |code: &str| cluster(1).machine(MachineState::Unusable, Seen::Present, broken(code)).queued(1, |_| {});
    for (code, gate) in [("NodeSetupFailed", Gate::NodeHealth), ("AZFMountError", Gate::Mount)] {
        let scene = with(code);
        assert_eq!(scene.why_node(1).map(|why| why.gate), Some(gate), "{code}");
    }
    let mut silent = cluster(1).machine(MachineState::Ready, Seen::Present, |machine| machine.heard_at = Some(ago(200)));
    silent = silent.queued(1, |_| {});
    assert_eq!((silent.gate(1), silent.why_node(1).map(|why| why.gate)), (Some(Gate::NodeHealth), Some(Gate::NodeHealth)));
}

#[test]
fn where_no_other_node_is_made_the_job_is_told() {
    let mut scene = cluster(1).queued(1, |_| {});
    let problem = EntityError::new("NFSMountError", "It is broken.");
    scene.row().status.repairs = Some(Repairs { count: 9, last_at: ago(5), problems: vec![problem] });
    assert_eq!(scene.gate(1), Some(Gate::Mount));
    scene.row().status.repairs = Some(Repairs { count: 2, last_at: NOW, problems: Vec::new() });
    let why = scene.why(1).expect("it waits");
    assert_eq!((why.gate, why.clears_by), (Gate::NodeHealth, Some(NOW + scene.limits.repair_pause)));
}

#[test]
fn what_the_driver_does_not_make_is_told() {
    let refused = |machine: &mut Machine| {
        machine.problem = Some(EntityError::new("NodeAllocationFailed", "A node cannot be made."));
        machine.retry_at = Some(NOW + Duration::from_secs(15));
    };
    let scene = cluster(1).machine(MachineState::Asked, Seen::Nothing, refused).queued(1, |_| {});
    let why = scene.why(1).expect("it waits");
    assert_eq!((why.gate, why.clears_by), (Gate::Driver, Some(NOW + Duration::from_secs(15))));
    assert_eq!(scene.why_node(1).map(|why| why.gate), Some(Gate::Driver));
    let mut odd = cluster(1).queued(1, |_| {});
    odd.row().spec.vm_size = "STANDARD_X".into();
    assert_eq!(odd.gate(1), Some(Gate::Driver));
}

#[test]
fn a_time_is_told_where_there_is_one() {
    let until = NOW + Duration::from_secs(40);
    let later = cluster(1).idle(1).queued(1, |job| backs_off(job, until));
    let why = later.why(1).expect("it waits");
    assert_eq!((why.gate, why.lack, why.clears_by), (Gate::BackOff, None, Some(until)));
}

#[test]
fn what_was_told_to_stop_names_the_nodes_that_it_is_on() {
    let why = cluster(1).stopping(Stop::Terminate, &[part(AssignmentState::Running)]).why(1).expect("it waits");
    assert_eq!((why.gate, why.held_by.len()), (Gate::Stopping, 1));
    let leaving = cluster(0).resizing().machine(MachineState::Leaving, Seen::Present, |_| {});
    assert_eq!(leaving.why_cluster().map(|why| why.gate), Some(Gate::Stopping));
    assert_eq!(leaving.why_node(1).map(|why| why.gate), Some(Gate::Stopping));
    assert_eq!(cluster(1).idle(1).why_cluster(), None);
}

/// A node of a generated world.
#[derive(Clone, Debug)]
enum Kind {
    Idle,
    Silent,
    Off,
    Busy,
    Preparing,
    Refused,
    Unusable,
    Leaving,
}

fn add(scene: Scene, node: &Kind) -> Scene {
    match node {
        Kind::Idle => scene.idle(1),
        Kind::Silent => scene.machine(MachineState::Ready, Seen::Present, |machine| machine.heard_at = Some(ago(200))),
        Kind::Off => scene.machine(MachineState::Ready, Seen::Off, |_| {}),
        Kind::Busy => scene.running(&[part(AssignmentState::Running)], |_, _| {}),
        Kind::Preparing => scene.machine(MachineState::Preparing, Seen::Present, |_| {}),
        Kind::Refused => scene.machine(MachineState::Asked, Seen::Nothing, broken("NodeAllocationFailed")),
        Kind::Unusable => scene.machine(MachineState::Unusable, Seen::Present, broken("NFSMountError")),
        Kind::Leaving => scene.machine(MachineState::Leaving, Seen::Present, |_| {}),
    }
}

fn node() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Idle),
        1 => Just(Kind::Silent),
        1 => Just(Kind::Off),
        2 => Just(Kind::Busy),
        1 => Just(Kind::Preparing),
        1 => Just(Kind::Refused),
        1 => Just(Kind::Unusable),
        1 => Just(Kind::Leaving),
    ]
}

prop_compose! {
    fn world()(
        target in 0u32..7,
        auto in proptest::option::of(0u32..6),
        quota in proptest::option::of(0u32..8),
        nodes in proptest::collection::vec(node(), 0..7),
        jobs in proptest::collection::vec((1u32..5, -1i16..2, 1u64..99, proptest::bool::weighted(0.2)), 1..7),
    ) -> Scene {
        let mut scene = nodes.iter().fold(cluster(target), add);
        if let Some(maximum) = auto {
            scene = scene.auto(0, maximum);
        }
        if let Some(cores) = quota {
            scene = scene.cores(cores);
        }
        for (count, rank, age, later) in jobs {
            scene = scene.queued(count, |job| {
                (job.rank, job.created_at) = (rank, ago(age));
                if later {
                    backs_off(job, NOW + Duration::from_secs(9));
                }
            });
        }
        scene
    }
}

impl std::fmt::Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.snapshot.fmt(f)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// A job that the next pass places waits for nothing, and every other job that is queued waits for one thing.
    #[test]
    fn what_is_told_is_what_is_decided(scene in world()) {
        let memory = scene.memory();
        let changes = scene.plan_with(&memory).changes();
        let is_placed = |job: &JobRow| {
            changes.iter().any(|change| matches!(change, Change::Place { attempt, .. } if attempt.job == job.uid))
        };
        let mut queued: Vec<&JobRow> = scene.snapshot.jobs.iter().filter(|job| job.status.phase == Phase::Queued).collect();
        queued.sort_by_key(|job| (std::cmp::Reverse(job.rank), job.created_at, job.uid));
        let mut first = None;
        for job in queued {
            let why = scene.ask(&memory, |world| explain_job(world, job.uid, Ahead::Read));
            prop_assert_eq!(why.is_none(), is_placed(job), "{:?}", why);
            let Some(why) = why else { continue };
            if let Some(lack) = why.lack {
                prop_assert!(lack.missing() > 0, "{:?}", why);
            }
            // Those that hold up nobody aside, one waits for nodes, and all behind it wait for it.
            if why.gate == Gate::Priority {
                prop_assert!(first.is_some(), "{:?}", why);
            } else if why.gate != Gate::BackOff && !is_too_large(&scene, job) {
                prop_assert_eq!(first.replace(job.uid), None, "{:?}", why);
            }
        }
    }
}

/// Whether a job needs more nodes than its cluster can ever have.
fn is_too_large(scene: &Scene, job: &JobRow) -> bool {
    let Scale::Auto { maximum, .. } = scene.snapshot.clusters[0].spec.scale else { return false };
    job.node_count > maximum.min(scene.limits.cores.dedicated.total.unwrap_or(u32::MAX))
}
