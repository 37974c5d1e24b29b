//! Postgres goes away, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use super::{Marks, all_ended};
use crate::harness::database::Database;
use crate::harness::guard::Guard;
use crate::harness::{Server, Settings, Site, until, until_within};

/// How long the database is away.
const AWAY: Duration = Duration::from_secs(10);

/// Longest time from its return until requests are answered again.
const HEALED: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_while_postgres_is_away() {
    let guard = Arc::new(Guard::new());
    let database = Database::start_new(Arc::clone(&guard));
    let settings = Settings { database: Some(database.url()), ..Settings::default() };
    let server = Server::start_in(guard, "1", settings);
    let site = Site::new(server.api()).await;
    let marks = Marks::new(&server);
    site.cluster("c", 2).await;
    // One job runs all the while and ends while the database is away.
    site.submit("long", "c", &Marks::command("long", &format!("{}; echo heard", Marks::until_told("go"))), json!({})).await;
    marks.wait_started(1).await;

    // Writers that never stop, and remember what they were promised.
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (site, stop) = (site.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut promised = Vec::new();
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let name = format!("w{writer}-{n}");
                    let body = site.job_body("c", &Marks::command(&name, "true"));
                    match site.api.try_send(Method::PUT, &site.job_path(&name), Some(&body)).await {
                        Ok(answer) if answer.status.is_success() => promised.push(name),
                        Ok(answer) => {
                            assert_eq!(answer.status.as_u16(), 503, "{}", answer.text);
                            let wait = answer.header("retry-after").and_then(|value| value.parse::<u64>().ok());
                            assert!(wait.is_some_and(|s| (1..=30).contains(&s)), "{:?}", answer.headers);
                        }
                        Err(error) => panic!("the server itself does not go away: {error:?}"),
                    }
                    n += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                promised
            })
        })
        .collect();
    marks.wait_started(8).await;

    database.stop_at_once();
    let away = Instant::now();
    let group = site.group_path();
    let refused = until("requests are refused", || site.api.get(&group), |answer| answer.status != 200).await;
    assert_eq!(refused.status.as_u16(), 503, "{}", refused.text);
    assert_eq!(refused.code(), "ServiceUnavailable");
    assert!(refused.header("retry-after").is_some());
    marks.tell("go");
    let alive = site.api.fetch(Method::GET, &format!("{}/healthz", site.api.base()), None).await;
    assert_eq!(alive.status, 200, "the process is healthy; its database is not");
    let ready = site.api.fetch(Method::GET, &format!("{}/readyz", site.api.base()), None).await;
    assert_eq!(ready.status, 503);
    tokio::time::sleep(AWAY.saturating_sub(away.elapsed())).await;

    database.start();
    until_within(HEALED, "requests are answered again", || site.api.get(&group), |answer| answer.status == 200).await;
    let before = marks.starts().len();
    until("jobs run again", || async { marks.starts().len() }, |now| *now > before).await;
    stop.store(true, Ordering::Relaxed);
    let mut promised = Vec::new();
    for writer in writers {
        promised.extend(writer.await.expect("a writer"));
    }
    let jobs = all_ended(&site).await;
    for name in promised {
        let job = jobs.get(&name).unwrap_or_else(|| panic!("{name} was acknowledged and is lost"));
        assert_eq!(job["executionState"], "succeeded", "{name}: {job}");
    }
    for (name, starts) in marks.starts() {
        assert_eq!(starts, 1, "{name} ran once");
        assert!(jobs.contains_key(&name), "{name} ran and is no job");
    }
    assert_eq!(jobs["long"]["executionState"], "succeeded");
    assert_eq!(site.stdout("long").await, "heard\n");
}
