//! What goes with a commit and what does not: no notification, and an answer that may be lost, after which it is read back.

use std::time::{Duration, Instant};

use batchyard::domain::cluster::{Deallocation, Scale};
use batchyard::error::{Error, ErrorCode};
use batchyard::service::{Put, Service};
use batchyard::task::Tasks;
use batchyard::wake::Wake;

use crate::bed::{Bed, connect, service};
use crate::harness::until;
use crate::proxy::{Cut, Proxy};

/// How long a notifier rests after it told of what had changed until then.
const REST: Duration = Duration::from_millis(10);

/// A service whose one connection goes through a proxy, with all that it executes prepared.
async fn through(bed: &Bed, proxy: &Proxy) -> Service {
    let service = service(connect(&proxy.url, 1).await, bed.clock.clone(), Wake::default());
    service.put_job(&bed.caller, &bed.job("warm"), bed.new_job()).await.expect("made");
    service.patch_cluster(&bed.caller, &bed.cluster(), scale(0)).await.expect("changed");
    service.delete(&bed.caller, &bed.job("warm")).await.expect("deleted");
    bed.clock.advance(Duration::from_secs(1));
    service
}

fn scale(nodes: u32) -> Scale {
    Scale::Manual { target: nodes, deallocation: Deallocation::Requeue }
}

fn is_told_to_come_back(error: &Error) -> bool {
    error.code == ErrorCode::ServiceUnavailable && error.retry_after.is_some()
}

#[tokio::test]
async fn a_put_whose_commit_is_cut_off_is_answered_as_it_ended_and_done_once() {
    let bed = Bed::new().await;
    bed.put_cluster(0).await;
    let proxy = Proxy::start(&bed.url).await;
    let through = through(&bed, &proxy).await;
    for (name, cut) in [("before", Cut::Before), ("after", Cut::After)] {
        let counts = async || {
            let mut counts = [0; 3];
            for (count, from) in counts.iter_mut().zip([
                "resource where path like",
                "operation where verb = 'create' and resource_path like",
                "event where what = 'created' and path like",
            ]) {
                let sql = format!("select count(*) from batchyard.{from} '%/jobs/{name}'");
                *count = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).fetch_one(&bed.pool).await.expect("counts");
            }
            counts
        };
        proxy.cut_next_commit(cut);
        let made = through.put_job(&bed.caller, &bed.job(name), bed.new_job()).await;
        match cut {
            Cut::Before => {
                assert!(is_told_to_come_back(&made.expect_err("not made")));
                assert_eq!(counts().await, [0; 3]);
            }
            Cut::After => {
                assert!(matches!(made, Ok(Put::Created(..))), "{made:?}");
                assert_eq!(counts().await, [1; 3]);
            }
        }
        let again = through.put_job(&bed.caller, &bed.job(name), bed.new_job()).await.expect("there");
        assert_eq!(matches!(again, Put::Existing(_)), cut == Cut::After, "{again:?}");
        assert_eq!(counts().await, [1; 3], "once");
    }
    assert_eq!(proxy.cuts(), 2);
    // Where the database stays away the client is told to come back.
    proxy.stop();
    let away = through.put_job(&bed.caller, &bed.job("away"), bed.new_job()).await.expect_err("away");
    assert!(is_told_to_come_back(&away));
}

#[tokio::test]
async fn a_delete_whose_commit_is_cut_off_is_answered_as_it_ended() {
    let bed = Bed::new().await;
    bed.put_cluster(0).await;
    let proxy = Proxy::start(&bed.url).await;
    let through = through(&bed, &proxy).await;
    bed.put_job("kept").await;
    let deleting = "select count(*) from batchyard.resource where name = 'kept' and provisioning = 'deleting'";
    let events = "select count(*) from batchyard.event where what = 'deleting' and path like '%/jobs/kept'";
    for (cut, gone) in [(Cut::Before, 0), (Cut::After, 1)] {
        proxy.cut_next_commit(cut);
        let deleted = through.delete(&bed.caller, &bed.job("kept")).await;
        match cut {
            Cut::Before => assert!(is_told_to_come_back(&deleted.expect_err("not deleted"))),
            Cut::After => assert!(deleted.expect("deleted").is_some()),
        }
        assert_eq!((bed.count(deleting).await, bed.count(events).await), (gone, gone));
    }
    through.delete(&bed.caller, &bed.job("kept")).await.expect("under way");
    assert_eq!((proxy.cuts(), bed.count(events).await), (2, 1), "it began once");
}

#[tokio::test]
async fn a_patch_whose_commit_is_cut_off_is_answered_as_it_ended() {
    let bed = Bed::new().await;
    bed.put_cluster(0).await;
    let proxy = Proxy::start(&bed.url).await;
    let through = through(&bed, &proxy).await;
    let generation = "select generation from batchyard.resource where kind = 'cluster'";
    let events = "select count(*) from batchyard.event where what = 'updated' and path like '%/clusters/%'";
    let before = (bed.count(generation).await, bed.count(events).await);
    for (cut, done) in [(Cut::Before, 0), (Cut::After, 1)] {
        proxy.cut_next_commit(cut);
        let patched = through.patch_cluster(&bed.caller, &bed.cluster(), scale(3)).await;
        match cut {
            Cut::Before => assert!(is_told_to_come_back(&patched.expect_err("not changed"))),
            Cut::After => assert_eq!(patched.expect("changed").spec.scale, scale(3)),
        }
        assert_eq!((bed.count(generation).await, bed.count(events).await), (before.0 + done, before.1 + done));
    }
    assert_eq!(proxy.cuts(), 2);
}

#[tokio::test]
async fn what_writes_carries_no_notification_and_many_writes_make_few() {
    const WRITES: usize = 100;
    let bed = Bed::new().await;
    bed.put_cluster(0).await;
    let proxy = Proxy::start(&bed.url).await;
    let tasks = Tasks::new();
    let writer = service(connect(&proxy.url, 4).await, bed.clock.clone(), Wake::default());
    writer.run(&tasks);
    // Nobody is told where nobody else listens.
    service(connect(&bed.url, 2).await, bed.clock.clone(), Wake::default()).run(&tasks);
    let listening = "select count(*) from pg_stat_activity where application_name = 'batchyard listener'
        and datname = current_database() and wait_event = 'ClientRead'";
    until("both listen", || bed.count(listening), |count| *count == 2).await;
    proxy.take_statements();
    let began = Instant::now();
    for n in 0..WRITES {
        let name = format!("job{n}");
        writer.put_job(&bed.caller, &bed.job(&name), bed.new_job()).await.expect("made");
        writer.patch_cluster(&bed.caller, &bed.cluster(), scale(u32::try_from(n % 2).expect("small"))).await.expect("changed");
        if n % 2 == 0 {
            writer.delete(&bed.caller, &bed.job(&name)).await.expect("deleted");
        }
    }
    let mut statements = Vec::new();
    until(
        "the notifier has told of it",
        || async { proxy.take_statements() },
        |more| {
            statements.extend_from_slice(more);
            statements.iter().any(|statement| statement.sql.contains("notify"))
        },
    )
    .await;
    assert!(tasks.stop(Duration::from_secs(5)).await);
    let took = began.elapsed();
    statements.extend(proxy.take_statements());
    let writes = statements.iter().filter(|statement| statement.is_write()).count();
    assert!(writes >= 2 * WRITES, "{writes}");
    assert!(statements.iter().any(|statement| statement.in_transaction && statement.sql == "COMMIT"), "some are of several");
    let mut notifications: u128 = 0;
    for statement in statements.iter().filter(|statement| statement.sql.to_lowercase().contains("notify")) {
        notifications += 1;
        assert!(!statement.in_transaction && !statement.is_write(), "{statement:?}");
    }
    eprintln!("{writes} writes, {notifications} notifications");
    let most = took.as_millis() / REST.as_millis() + 2;
    assert!(notifications <= most && notifications < writes as u128, "{notifications} notifications, {writes} writes, {took:?}");
    // Nor is anything told by what the database does by itself.
    let own = "select count(*) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname = 'batchyard' and p.prosrc ilike '%notify%'";
    assert_eq!(bed.count(own).await, 0);
}
