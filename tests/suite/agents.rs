//! Agents on a real Postgres: joining, reporting once and in order, waiting for what their node should be.

use std::time::Duration;

use batchyard::agent::protocol::{Chunk, OutputQuery, Step, Sync, VERSION};
use batchyard::domain::attempt::{AssignmentState, End};
use batchyard::domain::cluster::{NodeSetup, SetupTask};
use batchyard::domain::machine::{Machine, MachineState, Setup};
use batchyard::domain::report::Seen;
use batchyard::domain::sample::{Sample, Spread, Used, whole_second};
use batchyard::domain::snapshot::Change;
use batchyard::error::ErrorCode;
use batchyard::id::{AttemptUid, MachineUid};
use batchyard::secret::SecretText;
use batchyard::service::AskedSamples;
use batchyard::store::Applied;
use batchyard::task::Tasks;
use batchyard::wake::Topic;
use bytes::Bytes;
use tokio::time::timeout;
use uuid::Uuid;

use crate::bed::{Bed, join, new_cluster};

fn sync(session: Uuid, seq: u64, have: u64) -> Sync {
    Sync {
        protocol: VERSION,
        session,
        boot_id: "boot".into(),
        seq,
        have,
        wait_ms: 0,
        setup: Setup::Done,
        health: vec![],
        assignments: vec![],
        output: vec![],
        samples: vec![],
    }
}

fn seen(attempt: AttemptUid, state: AssignmentState, end: Option<End>) -> Vec<Seen> {
    vec![Seen { attempt, state, started_at: None, end, ended_at: None }]
}

fn chunk(attempt: AttemptUid, offset: u64, text: &str) -> Chunk {
    let at = OutputQuery {
        attempt,
        directory: "stdouterr".into(),
        path: "stdout.txt".into(),
        generation: 1,
        offset,
        modified_at: 1_790_000_000,
    };
    Chunk { at, data: text.into() }
}

/// A job that runs on the only machine.
async fn running(bed: &Bed) -> (Machine, AttemptUid) {
    let machine = bed.ready(1).await.remove(0);
    bed.put_job("a").await;
    let row = bed.snapshot().await.jobs.remove(0);
    let (attempt, place) = bed.place(&row, &[&machine]);
    assert_eq!(bed.apply(&[place]).await, Applied::All);
    (machine, attempt)
}

async fn asked(bed: &Bed) -> (MachineUid, String) {
    let cluster = bed.put_cluster(1).await;
    let revision = bed.snapshot().await.clusters[0].revision;
    assert_eq!(bed.apply(&[bed.ask(cluster, revision, 1)]).await, Applied::All);
    let machine = bed.snapshot().await.machines.remove(0);
    (machine.uid, machine.name)
}

#[tokio::test]
async fn a_lost_reply_can_be_asked_again_and_a_second_key_quarantines() {
    let bed = Bed::new().await;
    let (uid, name) = asked(&bed).await;
    for wrong in [join(&name, "token-2", 1), join("m-none", "token-1", 1), join(&name, "", 1)] {
        assert_eq!(bed.service.join(wrong).await.map(|_| ()).expect_err("refused").code, ErrorCode::AuthenticationFailed);
    }
    let first = bed.service.join(join(&name, "token-1", 1)).await.expect("joins");
    assert_eq!((first.machine, bed.service.agent(&first.credential).expect("opens")), (uid, uid));
    assert!(bed.snapshot().await.machines[0].bootstrap.is_none(), "the token is spent");
    let again = bed.service.join(join(&name, "token-1", 1)).await.expect("the same key");
    assert_eq!(again.machine, uid);
    bed.service.sync(uid, sync(Uuid::new_v4(), 1, 0)).await.expect("is trusted");

    let second = bed.service.join(join(&name, "token-1", 2)).await.map(|_| ()).expect_err("another key");
    assert_eq!(second.code, ErrorCode::AuthenticationFailed);
    let machine = bed.snapshot().await.machines.remove(0);
    assert_eq!(machine.state, MachineState::Unusable);
    assert_eq!(machine.problem.expect("shown").code, "NodeQuarantined");
    for refused in [
        bed.service.join(join(&name, "token-1", 1)).await.map(|_| ()),
        bed.service.sync(uid, sync(Uuid::new_v4(), 1, 0)).await.map(|_| ()),
    ] {
        assert_eq!(refused.expect_err("both keys are refused").code, ErrorCode::AuthenticationFailed);
    }
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let bed = Bed::new().await;
    let (_, name) = asked(&bed).await;
    bed.clock.advance(Duration::from_secs(3601));
    assert!(bed.service.join(join(&name, "token-1", 1)).await.is_err());
    // Asked for again, it has its time again.
    let machine = bed.snapshot().await.machines.remove(0);
    let present = Change::MachinePresent { uid: machine.uid, revision: machine.revision, address: None, at: bed.now() };
    assert_eq!(bed.apply(&[present]).await, Applied::All);
    bed.service.join(join(&name, "token-1", 1)).await.expect("joins");
}

#[tokio::test]
async fn a_credential_dies_with_its_hour_and_its_row() {
    let bed = Bed::new().await;
    let (uid, name) = asked(&bed).await;
    let joined = bed.service.join(join(&name, "token-1", 1)).await.expect("joins");
    let session = Uuid::new_v4();
    bed.clock.advance(Duration::from_secs(joined.expires_in_s));
    assert!(bed.service.agent(&joined.credential).is_err());
    let machine = bed.snapshot().await.machines.remove(0);
    let gone = Change::MachineGone { uid, revision: machine.revision, at: bed.now() };
    assert_eq!(bed.apply(&[gone]).await, Applied::All);
    let refused = bed.service.sync(uid, sync(session, 1, 0)).await.expect_err("gone");
    assert_eq!(refused.code, ErrorCode::AuthenticationFailed);
}

#[tokio::test]
async fn reports_count_once_and_in_order_with_their_output() {
    let bed = Bed::new().await;
    let (machine, attempt) = running(&bed).await;
    let (uid, session) = (machine.uid, Uuid::new_v4());
    let revision = bed.snapshot().await.attempts[0].revision;
    let mut hints = bed.wake.subscribe(Topic::Reconcile);
    hints.borrow_and_update();

    let running = Sync {
        assignments: seen(attempt, AssignmentState::Running, None),
        output: vec![chunk(attempt, 0, "one\n"), chunk(attempt, 4, "two\n")],
        ..sync(session, 2, 0)
    };
    let desired = bed.service.sync(uid, running.clone()).await.expect("taken").desired.expect("told");
    assert!(hints.has_changed().expect("open"), "reconcilers are told");
    let [assignment] = desired.assignments.as_slice() else { panic!("one part") };
    assert_eq!((assignment.attempt, assignment.step, assignment.number, assignment.rank), (attempt, Step::Run, 1, 0));
    let secret = assignment.task.environment.iter().find(|variable| variable.name == "TOKEN").expect("opened");
    assert_eq!(secret.value, "canary-value");
    assert_eq!(assignment.task.hosts[0].address, "10.0.0.4");
    assert_eq!(desired.setup, None, "it is reported");
    let read = bed.snapshot().await.attempts.remove(0);
    assert_eq!((read.assignments[0].state, read.revision), (AssignmentState::Running, revision + 1));
    let bytes = "select coalesce(sum(length(data)), 0)::bigint from batchyard.output_chunk";
    assert_eq!(bed.count(bytes).await, 8);

    // The same again, an earlier one, and an earlier session after a later one: acknowledged, and nothing changes.
    let ended = |session, seq| Sync {
        assignments: seen(attempt, AssignmentState::Ended, Some(End::Exited { code: 9 })),
        output: vec![chunk(attempt, 8, "late\n")],
        ..sync(session, seq, 0)
    };
    bed.service.sync(uid, running).await.expect("acknowledged");
    bed.service.sync(uid, ended(session, 1)).await.expect("acknowledged");
    let next = Uuid::new_v4();
    bed.service
        .sync(uid, Sync { assignments: seen(attempt, AssignmentState::Running, None), ..sync(next, 1, 0) })
        .await
        .expect("taken");
    bed.service.sync(uid, ended(session, 3)).await.expect("acknowledged");
    let read = bed.snapshot().await.attempts.remove(0);
    assert_eq!((read.assignments[0].state, read.revision), (AssignmentState::Running, revision + 1));
    assert_eq!(bed.count(bytes).await, 8);

    // The end comes with the last bytes, and is final.
    let end = Sync { assignments: seen(attempt, AssignmentState::Ended, Some(End::Exited { code: 0 })), ..ended(next, 2) };
    bed.service.sync(uid, end).await.expect("taken");
    let read = bed.snapshot().await.attempts.remove(0);
    assert_eq!(read.assignments[0].end, Some(End::Exited { code: 0 }));
    assert_eq!(bed.count(bytes).await, 13);
    bed.service.sync(uid, ended(next, 3)).await.expect("acknowledged");
    let read = bed.snapshot().await.attempts.remove(0);
    assert_eq!(read.assignments[0].end, Some(End::Exited { code: 0 }));
    assert_eq!(bed.count(bytes).await, 13, "nothing is taken after the end");
}

#[tokio::test]
async fn a_node_reports_and_writes_its_own_alone() {
    let bed = Bed::new().await;
    let machines = bed.ready(2).await;
    bed.put_job("a").await;
    let row = bed.snapshot().await.jobs.remove(0);
    let (attempt, place) = bed.place(&row, &[&machines[0]]);
    assert_eq!(bed.apply(&[place]).await, Applied::All);
    let (stranger, session) = (machines[1].uid, Uuid::new_v4());
    let before = bed.snapshot().await.attempts;
    let lie = Sync {
        assignments: seen(attempt, AssignmentState::Ended, Some(End::Exited { code: 0 })),
        output: vec![chunk(attempt, 0, "forged")],
        ..sync(session, 1, 0)
    };
    let answer = bed.service.sync(stranger, lie).await.expect("acknowledged");
    assert!(answer.desired.expect("told").assignments.is_empty(), "it sees nothing of others");
    assert_eq!(bed.snapshot().await.attempts, before);
    assert_eq!(bed.count("select count(*) from batchyard.output_file").await, 0);
    let put = bed.service.put_output(stranger, chunk(attempt, 0, "").at, Bytes::from_static(b"forged")).await;
    assert_eq!(put.expect_err("not its own").code, ErrorCode::AuthenticationFailed);
    let own = bed.service.put_output(machines[0].uid, chunk(attempt, 0, "").at, Bytes::from(vec![b'x'; 200_000])).await;
    own.expect("kept");
    let objects = "select count(*) from batchyard.output_chunk where object is not null and length = 200000";
    assert_eq!(bed.count(objects).await, 1);
}

#[tokio::test]
async fn an_agent_that_waits_is_told_when_its_node_should_be_something_else() {
    let bed = Bed::new().await;
    let machines = bed.ready(2).await;
    let tasks = Tasks::new();
    bed.service.run(&tasks);
    let session = Uuid::new_v4();
    let first = bed.service.sync(machines[0].uid, sync(session, 1, 0)).await.expect("answers");
    let idle = bed.service.sync(machines[1].uid, sync(session, 1, 0)).await.expect("answers");
    bed.put_job("a").await;
    let row = bed.snapshot().await.jobs.remove(0);
    let (attempt, place) = bed.place(&row, &[&machines[0]]);

    let waits = |seq, have| Sync { wait_ms: 20_000, ..sync(session, seq, have) };
    let told = bed.service.sync(machines[0].uid, waits(2, first.revision));
    let quiet = bed.service.sync(machines[1].uid, Sync { wait_ms: 700, ..sync(session, 2, idle.revision) });
    let act = async {
        assert_eq!(bed.apply(&[place]).await, Applied::All);
        bed.wake.changed(Topic::Desired);
    };
    let (told, quiet, ()) = tokio::join!(timeout(Duration::from_secs(5), told), quiet, act);
    let told = told.expect("soon").expect("answers");
    assert!(told.revision > first.revision);
    assert_eq!(told.desired.expect("told").assignments[0].attempt, attempt);
    let quiet = quiet.expect("answers");
    assert_eq!((quiet.revision, quiet.desired), (idle.revision, None));

    // Without any hint the tick tells; and a server that stops answers those who wait.
    let revision = bed.snapshot().await.attempts[0].revision;
    let stop = Change::StopAttempt { uid: attempt, revision, why: batchyard::domain::attempt::Stop::Timeout };
    let told = bed.service.sync(machines[0].uid, waits(3, told.revision));
    let (told, applied) = tokio::join!(timeout(Duration::from_secs(10), told), bed.rows_apply(&stop));
    assert_eq!(applied, Applied::All);
    let told = told.expect("by the tick").expect("answers");
    let step = told.desired.expect("told").assignments[0].step;
    assert!(matches!(step, Step::Stop { grace_ms: 10_000, .. }), "{step:?}");
    let waiting = bed.service.sync(machines[1].uid, Sync { wait_ms: 25_000, ..sync(session, 3, idle.revision) });
    let (waiting, stopped) = tokio::join!(timeout(Duration::from_secs(5), waiting), tasks.stop(Duration::from_secs(5)));
    assert!(stopped);
    assert_eq!(waiting.expect("at once").expect("answers").desired, None);
}

#[tokio::test]
async fn a_quiet_agent_writes_nothing() {
    let bed = Bed::new().await;
    let machine = bed.ready(1).await.remove(0);
    let session = Uuid::new_v4();
    bed.service.sync(machine.uid, sync(session, 1, 0)).await.expect("answers");
    let version = "select xmin::text::bigint from batchyard.machine";
    let before = bed.count(version).await;
    for seq in 2..20 {
        bed.service.sync(machine.uid, sync(session, seq, 0)).await.expect("answers");
    }
    assert_eq!(bed.count(version).await, before, "its row is as it was");
    bed.clock.advance(Duration::from_secs(31));
    bed.service.sync(machine.uid, sync(session, 20, 0)).await.expect("answers");
    assert_eq!(bed.snapshot().await.machines[0].heard_at, Some(bed.now()), "now and then it is written that it was heard");
    bed.clock.set_back(Duration::from_secs(3600));
    bed.service.sync(machine.uid, sync(session, 21, 0)).await.expect("answers");
    assert_eq!(bed.snapshot().await.machines[0].heard_at, Some(bed.now()), "whatever another clock wrote");
}

#[tokio::test]
async fn the_setup_is_told_with_its_secrets_until_it_is_reported() {
    let bed = Bed::new().await;
    let mut new = new_cluster(1);
    new.spec.node_setup = Some(NodeSetup {
        setup_task: Some(SetupTask {
            command_line: "setup".into(),
            environment: vec![],
            secrets: vec!["KEY".into()],
            std_out_err_path_prefix: "$AZ_BATCHAI_MOUNT_ROOT/shared".into(),
        }),
        ..NodeSetup::default()
    });
    new.secrets.insert("setup_task.secrets.KEY".into(), SecretText("canary-setup".into()));
    bed.service.put_cluster(&bed.caller, &bed.cluster(), new).await.expect("made");
    let cluster = bed.snapshot().await.clusters.remove(0);
    assert_eq!(bed.apply(&[bed.ask(cluster.uid, cluster.revision, 1)]).await, Applied::All);
    let machine = bed.snapshot().await.machines.remove(0);
    bed.service.join(join(&machine.name, "token-1", 1)).await.expect("joins");
    let session = Uuid::new_v4();
    let pending = Sync { setup: Setup::Pending, ..sync(session, 1, 0) };
    let setup = bed.service.sync(machine.uid, pending).await.expect("answers").desired.expect("told").setup.expect("a setup");
    assert_eq!((setup.command_line.as_str(), setup.environment[0].value.as_str()), ("setup", "canary-setup"));
    let suffix = format!("{}/rg/workspaces/ws/clusters/Cluster/{}", bed.subscription, cluster.status.output_uuid);
    assert_eq!(setup.std_out_err_path_suffix, suffix);
    let done = bed.service.sync(machine.uid, sync(session, 2, 0)).await.expect("answers").desired.expect("told");
    assert_eq!(done.setup, None);
    assert_eq!(bed.snapshot().await.machines[0].setup, Setup::Done);
}

/// What a machine says that it used, a second apart.
fn samples(bed: &Bed, attempt: AttemptUid, cores: &[u64]) -> Vec<Sample> {
    let sample = |(second, cores): (i64, &u64)| Sample {
        attempt_uid: attempt,
        at: whole_second(bed.now()) + time::Duration::seconds(second - 30),
        used: Used { cpu_milli: Some(cores * 1000), memory: Some(7), ..Used::default() },
    };
    (0..).zip(cores).map(sample).collect()
}

#[tokio::test]
async fn what_a_node_used_is_kept_once_for_its_own_job_and_for_a_time() {
    let bed = Bed::new().await;
    let (machine, attempt) = running(&bed).await;
    bed.clock.advance(Duration::from_secs(60));
    let foreign = AttemptUid(Uuid::new_v4());
    let said = [samples(&bed, attempt, &[1, 2, 3, 0]), samples(&bed, foreign, &[9]), samples(&bed, attempt, &[1])].concat();
    let session = Uuid::new_v4();
    for seq in [1, 2] {
        let report = Sync { samples: said.clone(), ..sync(session, seq, 0) };
        bed.service.sync(machine.uid, report).await.expect("is taken");
        bed.service.write_samples().await;
    }
    // A second of a machine has one place, which the first that came has; a foreign attempt has none.
    assert_eq!(bed.count("select count(*) from batchyard.sample").await, 4);
    let asked = |step_s| AskedSamples { step_s, ..AskedSamples::default() };
    let curves = bed.service.job_samples(&bed.job("a"), None, &asked(Some(3_600))).await.expect("is there");
    assert_eq!((curves.attempt, curves.series.len()), (Some(1), 1));
    let [point] = curves.series[0].points.as_slice() else { panic!("{curves:?}") };
    assert_eq!(point.used[0], Some(Spread { mean: 1_500, max: 3_000 }));
    assert_eq!((point.used[1], point.used[2]), (Some(Spread { mean: 7, max: 7 }), None));
    let fine = bed.service.job_samples(&bed.job("a"), Some(1), &asked(Some(1))).await.expect("is there");
    let most: Vec<i64> = fine.series[0].points.iter().filter_map(|point| point.used[0]).map(|spread| spread.max).collect();
    assert_eq!(most, [1_000, 2_000, 3_000, 0]);
    let of_node = bed.service.node_samples(&bed.cluster(), &machine.node_id, &asked(None)).await.expect("is there");
    assert_eq!((of_node.range.step_s, of_node.series[0].points.len()), (19, 2), "an hour in two hundred points: {of_node:?}");

    bed.service.prune_samples().await;
    assert_eq!(bed.count("select count(*) from batchyard.sample").await, 4);
    bed.clock.advance(Duration::from_secs(15 * 86_400));
    bed.service.prune_samples().await;
    assert_eq!(bed.count("select count(*) from batchyard.sample").await, 0);
}
