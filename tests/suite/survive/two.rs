//! Two servers on one Postgres: either is killed, and the one that leads is held until another does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{Marks, RECOVERY, all_ended, once};
use crate::harness::database::Database;
use crate::harness::guard::Guard;
use crate::harness::{Server, Settings, Site, until_within};

/// Longest time in which no job starts, where nodes are free and jobs wait.
const GAP: Duration = Duration::from_secs(3);

/// What a server says when it begins to lead.
const LEADS: &str = "this server leads";

/// What one says that led.
const LOST: &str = "the lease was lost; another server leads";

/// Two servers, the first of which leads.
fn two() -> (Arc<Guard>, Database, Server, Server) {
    let guard = Arc::new(Guard::new());
    let database = Database::start_new(Arc::clone(&guard));
    let settings = Settings { database: Some(database.url()), ..Settings::default() };
    let first = Server::start_in(Arc::clone(&guard), "1", settings.clone());
    let second = Server::start_in(Arc::clone(&guard), "2", settings);
    (guard, database, first, second)
}

/// How often a server said something.
fn said(server: &Server, what: &str) -> usize {
    server.log().matches(what).count()
}

async fn submit(site: &Site, prefix: &str, count: usize, then: &str) {
    let submits = (0..count).map(|n| async move {
        let name = format!("{prefix}{n}");
        site.submit(&name, "c", &Marks::command(&name, then), json!({})).await;
    });
    futures_util::stream::iter(submits).buffer_unordered(16).collect::<Vec<()>>().await;
}

/// The longest time between two starts of jobs since a moment. A mark is written once, when its job starts.
fn longest_gap(marks: &Marks, since: SystemTime) -> Duration {
    let entries = std::fs::read_dir(&marks.folder).expect("readable").flatten();
    let mut times: Vec<SystemTime> = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok()).collect();
    times.retain(|at| *at > since);
    times.push(since);
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| pair[1].duration_since(pair[0]).unwrap_or_default());
    gaps.max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_of_two_servers_is_killed_jobs_go_on_within_three_seconds() {
    let (_guard, _database, first, second) = two();
    let mut servers = [first, second];
    let mut site = Site::new(servers[0].api()).await;
    let marks = Marks::new(&servers[0]);
    site.cluster("c", 6).await;
    // More than start in the whole test: a queue that has run dry would look like a gap.
    const JOBS: usize = 400;
    submit(&site, "j", JOBS, "sleep 0.4").await;
    let mut leader = 0;
    for kills_leader in [true, false, true] {
        let killed = if kills_leader { leader } else { 1 - leader };
        let (before, since) = (marks.starts().len(), SystemTime::now());
        servers[killed].kill();
        marks.wait_started(before + 20).await;
        let gap = longest_gap(&marks, since);
        let what = if kills_leader { "leader" } else { "other server" };
        println!("longest time without a start after the kill of the {what}: {gap:?}");
        assert!(marks.starts().len() < JOBS, "the queue ran dry: nothing was measured");
        assert!(gap <= GAP, "no job started for {gap:?} after the {what} was killed");
        if kills_leader {
            leader = 1 - killed;
        }
        servers[killed].restart();
    }
    site.api = servers[leader].api();
    let jobs = all_ended(&site).await;
    let failed: BTreeMap<_, _> = jobs.iter().filter(|(_, job)| job["executionState"] != "succeeded").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(marks.starts(), once("j", JOBS), "each job ran once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_held_past_its_lease_writes_nothing_any_more() {
    let (_guard, database, first, second) = two();
    let servers = [first, second];
    let mut site = Site::new(servers[0].api()).await;
    let marks = Marks::new(&servers[0]);
    site.cluster("c", 3).await;
    const ROUNDS: usize = 4;
    let mut expected = BTreeMap::new();
    for round in 0..ROUNDS {
        let (held, other) = (&servers[round % 2], &servers[(round + 1) % 2]);
        let (leads, lost) = (said(other, LEADS), said(held, LOST));
        // In the middle of placing: jobs come all the while, the first of them while it is held.
        site.api = other.api();
        let (prefix, count) = (format!("r{round}-"), 24);
        expected.extend(once(&prefix, count));
        let hold = async {
            marks.wait_started(expected.len() - count + 1 + round).await;
            let pid = i32::try_from(held.pid()).ok().and_then(Pid::from_raw).expect("a pid");
            kill_process(pid, Signal::STOP).expect("held");
            until_within(RECOVERY, "the other one leads", || async { said(other, LEADS) }, |now| *now > leads).await;
            // What it was about to write is refused now, as its token is an old one.
            kill_process(pid, Signal::CONT).expect("let go");
            until_within(RECOVERY, "it knows that it leads no more", || async { said(held, LOST) }, |now| *now > lost).await;
        };
        let placed = submit(&site, &prefix, count, "sleep 0.1");
        tokio::join!(hold, placed);
        all_ended(&site).await;
    }
    let jobs = all_ended(&site).await;
    assert!(jobs.values().all(|job| job["executionState"] == "succeeded"), "{jobs:#?}");
    assert_eq!(marks.starts(), expected, "each job ran once");
    let more = "select count(*) from (select job_uid from batchyard.attempt group by job_uid having count(*) > 1) twice";
    let mut rows = <sqlx::PgConnection as sqlx::Connection>::connect(&database.url()).await.expect("connects");
    let twice: i64 = sqlx::query_scalar(more).fetch_one(&mut rows).await.expect("counts");
    assert_eq!(twice, 0, "no job was placed twice");
}
