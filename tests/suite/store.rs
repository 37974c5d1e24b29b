//! The store on a real Postgres: schema, leases, and what reconcilers read and write.

use std::time::Duration;

use batchyard::domain::attempt::{AssignmentState, AttemptState, End, Stop};
use batchyard::domain::cluster::{Allocation, Deallocation};
use batchyard::domain::job::{JobStatus, Phase};
use batchyard::domain::machine::MachineState;
use batchyard::domain::operation::{State, Verb};
use batchyard::domain::resource::EntityError;
use batchyard::domain::snapshot::Change;
use batchyard::store::{Applied, Lease, Rows, Settings, Store, StoreError};
use uuid::Uuid;

use crate::bed::{Bed, CONNECTIONS, connect};
use crate::postgres::empty_database;

#[tokio::test]
async fn a_schema_is_absent_then_right_then_newer() {
    let url = empty_database().await;
    let store = connect(&url, 4).await;
    assert!(matches!(store.check_schema().await, Err(StoreError::SchemaAbsent)));
    let (first, second) = tokio::join!(store.migrate(), store.migrate());
    first.expect("migrates");
    second.expect("migrates beside another");
    store.check_schema().await.expect("fits");
    store.migrate().await.expect("a second time changes nothing");

    let pool = sqlx::PgPool::connect(&url).await.expect("connects");
    sqlx::query("insert into batchyard._sqlx_migrations values (99999, 'later', now(), true, '', 0)")
        .execute(&pool)
        .await
        .expect("inserts");
    assert!(matches!(store.check_schema().await, Err(StoreError::SchemaNewer { found: 99999, .. })));
    assert!(matches!(store.migrate().await, Err(StoreError::SchemaNewer { .. })));
    sqlx::query("delete from batchyard._sqlx_migrations").execute(&pool).await.expect("deletes");
    assert!(store.check_schema().await.is_err());
}

#[tokio::test]
async fn a_database_that_is_away_is_told_after_the_deadline() {
    let settings = Settings {
        url: "postgres://nobody@localhost/none?host=/nonexistent".into(),
        connections: 1,
        wait: Duration::from_millis(200),
    };
    let error = Store::connect(&settings).await.expect_err("nothing is there");
    assert!(error.is_unavailable(), "{error:?}");
}

#[tokio::test]
async fn one_holds_a_lease_and_a_later_grant_has_a_greater_token() {
    let bed = Bed::new().await;
    let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
    let long = Duration::from_secs(600);
    let first = bed.rows.take_lease("l", a, long).await.expect("asks").expect("free");
    assert_eq!(bed.rows.take_lease("l", b, long).await.expect("asks"), None);
    let again = bed.rows.take_lease("l", a, long).await.expect("asks").expect("renews");
    assert_eq!(first.token, again.token, "no gap");
    bed.rows.release_lease(&again).await.expect("releases");
    let second = bed.rows.take_lease("l", b, Duration::ZERO).await.expect("asks").expect("free");
    assert!(second.token > first.token);
    let third = bed.rows.take_lease("l", a, long).await.expect("asks").expect("has expired");
    assert!(third.token > second.token);

    // A stale holder writes nothing.
    let cluster = bed.put_cluster(1).await;
    let ask = [bed.ask(cluster, 1, 1)];
    for stale in [first, second, Lease { token: third.token, holder: b, name: "l".into() }] {
        assert_eq!(bed.rows.apply(&stale, &ask).await.expect("answers"), Applied::LeaseLost);
    }
    assert!(bed.snapshot().await.machines.is_empty());
    assert_eq!(bed.rows.apply(&third, &ask).await.expect("answers"), Applied::All);
}

#[tokio::test]
async fn a_machine_is_asked_for_with_a_token_that_the_database_does_not_show() {
    let bed = Bed::new().await;
    let cluster = bed.put_cluster(1).await;
    let revision = bed.snapshot().await.clusters[0].revision;
    assert_eq!(bed.apply(&[bed.ask(cluster, revision + 1, 1)]).await, Applied::Stale);
    assert_eq!(bed.apply(&[bed.ask(cluster, revision, 1), bed.ask(cluster, revision, 2)]).await, Applied::All);
    assert_eq!(bed.apply(&[bed.ask(cluster, revision, 2)]).await, Applied::Stale, "an ordinal is used once");
    let snapshot = bed.snapshot().await;
    assert_eq!(snapshot.clusters[0].last_ordinal, 2);
    let machine = &snapshot.machines[0];
    assert_eq!(machine.state, MachineState::Asked);
    assert_eq!(machine.bootstrap.as_ref().expect("not spent").join_token, "token-1");
    let shown = bed.count("select count(*) from batchyard.machine m where m::text like '%token-1%'").await;
    assert_eq!(shown, 0, "hashed and sealed");

    let not_made = Change::MachineNotMade {
        uid: machine.uid,
        revision: machine.revision,
        problem: EntityError::new("Quota", "no more"),
        retry_at: bed.now(),
    };
    assert_eq!(bed.apply(std::slice::from_ref(&not_made)).await, Applied::All);
    assert_eq!(bed.apply(&[not_made]).await, Applied::Stale, "its revision was counted up");
    let machine = bed.snapshot().await.machines.remove(0);
    assert_eq!((machine.state, machine.ensure_failures), (MachineState::Asked, 1));
    assert_eq!(machine.problem.expect("kept").message, "no more");
}

#[tokio::test]
async fn a_job_has_one_living_attempt_and_a_machine_one_job() {
    let bed = Bed::new().await;
    let machines = bed.ready(2).await;
    bed.put_job("a").await;
    bed.put_job("b").await;
    let jobs = bed.snapshot().await.jobs;
    assert_eq!(jobs.iter().map(|job| job.path.rsplit('/').next().expect("a name")).collect::<Vec<_>>(), ["a", "b"]);

    let (attempt, first) = bed.place(&jobs[0], &[&machines[0]]);
    let (_, same_machine) = bed.place(&jobs[1], &[&machines[0]]);
    let (_, same_job) = bed.place(&jobs[0], &[&machines[1]]);
    assert_eq!(bed.apply(&[first.clone(), same_machine.clone()]).await, Applied::Stale, "all or none");
    assert!(bed.snapshot().await.attempts.is_empty());
    assert_eq!(bed.apply(&[first]).await, Applied::All);
    assert_eq!(bed.apply(&[same_machine]).await, Applied::Stale);
    assert_eq!(bed.apply(&[same_job]).await, Applied::Stale);

    let snapshot = bed.snapshot().await;
    assert_eq!(snapshot.attempts.len(), 1);
    assert_eq!(snapshot.attempts[0].uid, attempt);
    let taken = snapshot.machines.iter().find(|machine| machine.uid == machines[0].uid).expect("there");
    assert_eq!(taken.attempt, Some(attempt));
    assert_eq!(taken.revision, machines[0].revision + 1);
    let job = snapshot.jobs.iter().find(|job| job.uid == jobs[0].uid).expect("there");
    assert_eq!((job.status.phase, job.attempts), (Phase::Running, 1));
    // The index that no statement can pass, whoever writes it.
    let doubled = sqlx::query(
        "insert into batchyard.attempt (uid, job_uid, number, state, created_at)
         select gen_random_uuid(), job_uid, 9, 'placed', now() from batchyard.attempt",
    )
    .execute(&bed.pool)
    .await;
    assert!(doubled.is_err(), "a second living attempt");
}

#[tokio::test]
async fn an_attempt_ends_and_its_node_is_given_away_in_one_commit() {
    let bed = Bed::new().await;
    let machines = bed.ready(1).await;
    bed.put_job("a").await;
    bed.put_job("b").await;
    let jobs = bed.snapshot().await.jobs;
    let (attempt, place) = bed.place(&jobs[0], &[&machines[0]]);
    assert_eq!(bed.apply(&[place]).await, Applied::All);
    let before = bed.snapshot().await;
    let at = bed.now();
    let lose = Change::LosePart {
        attempt,
        assignment: before.attempts[0].assignments[0].clone(),
        end: End::Lost { why: "gone".into() },
    };
    let ended = JobStatus {
        phase: Phase::Failed,
        ended_at: Some(at),
        errors: vec![EntityError::new("JobFailed", "Job failed")],
        ..before.jobs[0].status.clone()
    };
    let second = before.jobs.iter().find(|job| job.uid == jobs[1].uid).expect("queued");
    let (next, place) = bed.place(second, &[&machines[0]]);
    let changes = [
        lose.clone(),
        Change::EndAttempt { uid: attempt, revision: before.attempts[0].revision, cause: "node_lost".into(), at },
        Change::JobStatus { uid: jobs[0].uid, revision: before.jobs[0].revision, status: ended, why: "node_lost".into() },
        place,
    ];
    assert_eq!(bed.apply(&changes).await, Applied::All);
    assert_eq!(bed.apply(&[lose]).await, Applied::Stale, "it has ended");
    let after = bed.snapshot().await;
    assert_eq!(after.attempts.iter().map(|attempt| attempt.uid).collect::<Vec<_>>(), [next]);
    assert_eq!(after.machines[0].attempt, Some(next));
    let left = bed
        .count("select count(*) from batchyard.secret s join batchyard.resource r on r.uid = s.resource_uid where r.name = 'a'");
    assert_eq!(left.await, 0, "an ended job keeps no secret");
    // What is final stays.
    let job = sqlx::query_scalar::<_, i64>("select revision from batchyard.resource where uid = $1")
        .bind(jobs[0].uid.0)
        .fetch_one(&bed.pool)
        .await
        .expect("there");
    let revive = Change::JobStatus { uid: jobs[0].uid, revision: job, status: JobStatus::queued(at), why: "no".into() };
    assert_eq!(bed.apply(&[revive]).await, Applied::Stale);
    let events =
        bed.count("select count(*) from batchyard.event where what in ('part_lost', 'attempt_ended', 'failed', 'placed')");
    assert_eq!(events.await, 5);
}

#[tokio::test]
async fn a_gang_is_released_and_stopped_once() {
    let bed = Bed::new().await;
    let machines = bed.ready(2).await;
    bed.put_job("a").await;
    let job = bed.snapshot().await.jobs.remove(0);
    let (uid, place) = bed.place(&job, &[&machines[0], &machines[1]]);
    assert_eq!(bed.apply(&[place]).await, Applied::All);
    let desired = "select sum(desired)::bigint from batchyard.machine";
    let before = bed.count(desired).await;
    let attempt = bed.snapshot().await.attempts.remove(0);
    assert_eq!(attempt.state, AttemptState::Placed);
    let release = Change::Release { uid, revision: attempt.revision, at: bed.now() };
    assert_eq!(bed.apply(std::slice::from_ref(&release)).await, Applied::All);
    assert_eq!(bed.apply(&[release]).await, Applied::Stale);
    assert_eq!(bed.count(desired).await, before + 2, "both nodes should be something else");
    let attempt = bed.snapshot().await.attempts.remove(0);
    assert_eq!((attempt.state, attempt.released_at), (AttemptState::Released, Some(bed.now())));
    for why in [Stop::Timeout, Stop::Terminate] {
        let revision = bed.snapshot().await.attempts[0].revision;
        assert_eq!(bed.apply(&[Change::StopAttempt { uid, revision, why }]).await, Applied::All);
    }
    assert_eq!(bed.snapshot().await.attempts[0].stop, Some(Stop::Timeout), "set once");
}

#[tokio::test]
async fn a_cluster_goes_when_its_machines_are_gone_and_frees_its_jobs() {
    let bed = Bed::new().await;
    let machine = bed.ready(1).await.remove(0);
    bed.put_job("waits").await;
    let deletion = bed.service.delete(&bed.caller, &bed.cluster()).await.expect("deletes").expect("there");
    let cluster = bed.snapshot().await.clusters.remove(0);
    assert!(cluster.deleting);
    let at = bed.now();
    let leaving = Change::MachineLeaving {
        uid: machine.uid,
        revision: machine.revision,
        deallocation: Deallocation::Terminate,
        evict_at: None,
        at,
    };
    let gone = Change::MachineGone { uid: machine.uid, revision: machine.revision + 1, at };
    assert_eq!(bed.apply(&[leaving]).await, Applied::All);
    assert_eq!(bed.apply(&[gone]).await, Applied::All);
    let status = Change::ClusterStatus {
        uid: cluster.uid,
        revision: cluster.revision,
        allocation: Allocation::Steady,
        changed_at: at,
        errors: vec![],
        auto: None,
        repairs: None,
    };
    assert_eq!(bed.apply(&[status]).await, Applied::All);
    let cluster = bed.snapshot().await.clusters.remove(0);
    assert_eq!(cluster.status.allocation, Allocation::Steady);
    let running = bed.service.operation(bed.subscription, deletion.id).await.expect("there");
    assert_eq!((running.state, running.verb), (State::Running, Verb::Delete));
    assert_eq!(bed.apply(&[Change::Remove { uid: cluster.uid, revision: cluster.revision, at }]).await, Applied::All);
    let ended = bed.service.operation(bed.subscription, deletion.id).await.expect("outlives its resource");
    assert_eq!(ended.state, State::Succeeded);
    let snapshot = bed.snapshot().await;
    assert!(snapshot.clusters.is_empty());
    assert_eq!(snapshot.jobs.iter().map(|job| job.cluster).collect::<Vec<_>>(), [None], "a queued job of no cluster is seen");
}

#[tokio::test]
async fn a_resource_with_children_does_not_go() {
    let bed = Bed::new().await;
    bed.service.delete(&bed.caller, &bed.workspace()).await.expect("deletes").expect("there");
    let deleting = bed.snapshot().await.deleting;
    assert_eq!(deleting.len(), 2, "workspace and experiment");
    let workspace = deleting.iter().find(|row| row.children == 1).expect("the workspace");
    let experiment = deleting.iter().find(|row| row.children == 0).expect("the experiment");
    let remove =
        |row: &batchyard::domain::snapshot::DeletingRow| Change::Remove { uid: row.uid, revision: row.revision, at: bed.now() };
    assert_eq!(bed.apply(&[remove(workspace)]).await, Applied::Stale);
    assert_eq!(bed.apply(&[remove(experiment), remove(workspace)]).await, Applied::All, "together they do");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_spoils_itself_alone() {
    let bed = Bed::new().await;
    bed.ready(2).await;
    bed.put_job("good").await;
    bed.put_job("bad").await;
    for sql in [
        "update batchyard.machine set setup = '{\"unheard\": 1}' where ordinal = 1",
        "update batchyard.resource set status = '[]' where name = 'bad'",
    ] {
        sqlx::query(sql).execute(&bed.pool).await.expect("spoils");
    }
    let snapshot = bed.snapshot().await;
    assert_eq!(snapshot.machines.iter().map(|machine| machine.ordinal).collect::<Vec<_>>(), [2]);
    assert_eq!(snapshot.unreadable.len(), 1);
    assert_eq!(snapshot.jobs.len(), 1);
}

#[tokio::test]
async fn many_changes_are_one_transaction() {
    let bed = Bed::new().await;
    let machines = bed.ready(40).await;
    for number in 0..40 {
        bed.put_job(&format!("j{number:02}")).await;
    }
    let jobs = bed.snapshot().await.jobs;
    let placed: Vec<_> = jobs.iter().zip(&machines).map(|(job, machine)| bed.place(job, &[machine])).collect();
    let changes: Vec<Change> = placed.iter().map(|(_, change)| change.clone()).collect();
    assert_eq!(bed.apply(&changes).await, Applied::All);
    let snapshot = bed.snapshot().await;
    assert_eq!(snapshot.attempts.len(), 40);
    assert!(snapshot.attempts.iter().all(|attempt| attempt.assignments[0].state == AssignmentState::Assigned));
    let written = bed.count("select count(distinct xmin::text::bigint) from batchyard.attempt").await;
    assert_eq!(written, 1, "one transaction");
}

#[tokio::test]
async fn requests_that_hold_every_connection_keep_the_reconciler_from_nothing() {
    let bed = Bed::new().await;
    let machines = bed.ready(1).await;
    bed.put_job("a").await;
    // What requests read and reconcilers do not.
    let mut holder = bed.pool.begin().await.expect("begins");
    sqlx::query("lock table batchyard.subscription in access exclusive mode").execute(&mut *holder).await.expect("locks");
    let stuck = futures_util::future::join_all((0..2 * CONNECTIONS).map(|_| bed.service.subscriptions(bed.caller.tenant)));
    let reconciling = async {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while bed.count(waiting).await < i64::from(CONNECTIONS) {
            assert!(tokio::time::Instant::now() < deadline, "the requests hold all connections");
            tokio::task::yield_now().await;
        }
        let long = Duration::from_secs(600);
        let renewed = bed.rows.take_lease(&bed.lease.name, bed.lease.holder, long).await.expect("asks");
        assert_eq!(renewed, Some(bed.lease.clone()));
        let (_, placed) = bed.place(&bed.snapshot().await.jobs[0], &[&machines[0]]);
        assert_eq!(bed.apply(&[placed]).await, Applied::All);
        assert_eq!(bed.count(waiting).await, i64::from(CONNECTIONS), "they were held all the while");
        holder.rollback().await.expect("unlocks");
    };
    tokio::join!(stuck, reconciling);
}

#[tokio::test]
async fn as_many_waiting_jobs_are_read_as_nodes_may_take() {
    let bed = Bed::new().await;
    let machines = bed.ready(1).await;
    for name in ["a", "b", "c"] {
        bed.put_job(name).await;
    }
    let read = async || {
        let jobs = bed.snapshot().await.jobs.into_iter();
        jobs.map(|job| (job.path.rsplit('/').next().expect("a name").to_owned(), job.status.phase)).collect::<Vec<_>>()
    };
    let job = |name: &str, phase: Phase| (name.to_owned(), phase);
    let first = bed.snapshot().await.jobs.remove(0);
    assert_eq!(read().await, [job("a", Phase::Queued), job("b", Phase::Queued), job("c", Phase::Queued)]);

    let (attempt, place) = bed.place(&first, &[&machines[0]]);
    assert_eq!(bed.apply(&[place]).await, Applied::All);
    assert_eq!(read().await, [job("a", Phase::Running), job("b", Phase::Queued)], "the next tells what it waits for");

    // Its node is free as soon as the attempt is ended, in the pass that sees this.
    let assignment = bed.snapshot().await.attempts[0].assignments[0].clone();
    let ended = Change::LosePart { attempt, assignment, end: End::Exited { code: 0 } };
    assert_eq!(bed.apply(&[ended]).await, Applied::All);
    assert_eq!(read().await, [job("a", Phase::Running), job("b", Phase::Queued), job("c", Phase::Queued)]);
}
