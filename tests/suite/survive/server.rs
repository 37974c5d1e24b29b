//! Kills of servers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{Marks, all_ended, once};
use crate::harness::database::Database;
use crate::harness::guard::Guard;
use crate::harness::{Server, Settings, Site, privileged, until};

#[tokio::test]
async fn jobs_run_once_and_end_rightly_when_the_server_is_killed() {
    let mut server = Server::up();
    let mut site = Site::new(server.api()).await;
    let marks = Marks::new(&server);
    site.cluster("c", 3).await;
    let submit = |site: Site, n: usize| async move {
        let ending = if n % 5 == 4 { "sleep 0.3; exit 3" } else { "sleep 0.3" };
        site.submit(&format!("j{n}"), "c", &Marks::command(&format!("j{n}"), ending), json!({})).await;
    };
    for n in 0..24 {
        submit(site.clone(), n).await;
    }
    // Twice: once as the first jobs run, once as later ones do. Nothing is told before; Postgres goes with its server.
    for started in [3, 12] {
        marks.wait_started(started).await;
        server.kill();
        // Jobs that run go on meanwhile and end unheard.
        marks.wait_started(started).await;
        server.restart();
        site.api = server.api();
    }
    for n in 24..30 {
        submit(site.clone(), n).await;
    }
    let jobs = all_ended(&site).await;
    assert_eq!(jobs.len(), 30);
    assert_eq!(marks.starts(), once("j", 30), "each job ran once");
    for (name, job) in jobs {
        let n: usize = name[1..].parse().expect("a number");
        let code = if n % 5 == 4 { 3 } else { 0 };
        assert_eq!(job["executionInfo"]["exitCode"], code, "{name}: {job}");
        assert_eq!(job["executionState"], if code == 0 { "succeeded" } else { "failed" });
    }
    site.wait_idle("c", 3).await;
}

/// Sizes of the programs that the agents of an installation's nodes are.
fn agents(server: &Server) -> Vec<u64> {
    let nodes = server.node_processes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("readable").flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse::<u32>().ok());
        let is_agent = command.split(|byte| *byte == 0).nth(1) == Some(b"agent");
        if is_agent && parent.is_some_and(|parent| nodes.contains(&parent)) {
            found.extend(entry.path().join("exe").metadata().map(|program| program.len()));
        }
    }
    found
}

#[tokio::test]
async fn agents_become_those_of_the_next_servers_version_and_their_jobs_go_on() {
    if !privileged() {
        return;
    }
    let guard = Arc::new(Guard::new());
    let program = guard.dir().join("program");
    std::fs::copy(env!("CARGO_BIN_EXE_batchyard"), &program).expect("copied");
    let settings = Settings { binary: Some(program.clone()), ..Settings::default() };
    let mut server = Server::start_in(guard, "1", settings);
    let mut site = Site::new(server.api()).await;
    let marks = Marks::new(&server);
    site.cluster("c", 1).await;
    site.submit("j", "c", &Marks::command("j", &Marks::until_told("go")), json!({})).await;
    marks.wait_started(1).await;
    let size = program.metadata().expect("there").len();
    assert_eq!(agents(&server), [size]);
    server.terminate();

    // Another version, by what it is of.
    let mut other = std::fs::read(&program).expect("read");
    other.extend(b"another version");
    std::fs::write(program.with_extension("new"), other).expect("written");
    std::fs::set_permissions(program.with_extension("new"), program.metadata().expect("there").permissions()).expect("set");
    std::fs::rename(program.with_extension("new"), &program).expect("renamed");
    server.restart();
    site.api = server.api();
    until("the agent is of that version", || async { agents(&server) }, |seen| seen[..] == [size + 15]).await;
    marks.tell("go");
    assert_eq!(site.ended("j").await["executionState"], "succeeded");
    assert_eq!(marks.starts_of("j"), 1);
    assert_eq!(site.run("next", "c", "true", json!({})).await["executionState"], "succeeded");
}

#[tokio::test]
async fn a_job_that_ends_while_no_server_is_there_is_told_later_with_all_its_output() {
    let mut server = Server::up();
    let mut site = Site::new(server.api()).await;
    let marks = Marks::new(&server);
    site.cluster("c", 1).await;
    let command = Marks::command(
        "j",
        &format!("echo before; {}; echo after; touch $AZ_BATCHAI_MOUNT_ROOT/shared/marks/.ended", Marks::until_told("go")),
    );
    site.submit("j", "c", &command, json!({ "stdOutErrPathPrefix": "$AZ_BATCHAI_JOB_TEMP" })).await;
    marks.wait_started(1).await;
    server.kill();
    marks.tell("go");
    let ended = server.share().join("marks/.ended");
    until("the job has ended by itself", || async { ended.exists() }, |ended| *ended).await;
    server.restart();
    site.api = server.api();
    let job = site.ended("j").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("j").await, "before\nafter\n");
    assert_eq!(marks.starts_of("j"), 1);
}

#[tokio::test]
async fn a_server_that_is_asked_to_end_drains_and_the_next_goes_on() {
    let mut server = Server::up();
    let mut site = Site::new(server.api()).await;
    let marks = Marks::new(&server);
    site.cluster("c", 1).await;
    site.submit("j", "c", &Marks::command("j", &Marks::until_told("go")), json!({})).await;
    marks.wait_started(1).await;
    let began = std::time::Instant::now();
    let status = server.terminate();
    assert!(status.success(), "{status}: {}", server.tail());
    assert!(began.elapsed() < Duration::from_secs(10), "open long polls of agents do not hold it up: {:?}", began.elapsed());
    let postgres = std::fs::read_dir("/proc").expect("readable").flatten().filter(|entry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&format!("{}/data/postgres", server.dir().display()))
    });
    assert_eq!(postgres.count(), 0, "its Postgres has ended too");
    server.restart();
    site.api = server.api();
    assert_eq!(site.get_job("j").await["executionState"], "running");
    marks.tell("go");
    assert_eq!(site.ended("j").await["executionState"], "succeeded");
    assert_eq!(marks.starts_of("j"), 1);
}

/// Jobs, and clients that submit them at once.
const JOBS: usize = 500;
const CLIENTS: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_servers_is_killed_under_500_jobs() {
    let guard = Arc::new(Guard::new());
    let database = Database::start_new(Arc::clone(&guard));
    let settings = Settings { database: Some(database.url()), ..Settings::default() };
    // The first is the leader; it is the one that is killed.
    let mut first = Server::start_in(Arc::clone(&guard), "1", settings.clone());
    let second = Server::start_in(Arc::clone(&guard), "2", settings);
    let site = Site::new(first.api()).await;
    let marks = Marks::new(&first);
    site.cluster("c", 16).await;
    let apis = [first.api(), second.api()];
    let next = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (apis, site, next, accepted) = (apis.clone(), site.clone(), Arc::clone(&next), Arc::clone(&accepted));
            tokio::spawn(async move {
                let mut tries = 0;
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= JOBS {
                        return;
                    }
                    let name = format!("j{n}");
                    let body = site.job_body("c", &Marks::command(&name, "true"));
                    // As clients do: a request that is not answered, or refused for now, is sent again, to the other server.
                    let began = std::time::Instant::now();
                    loop {
                        let api = &apis[(client + tries) % 2];
                        match api.try_send(reqwest::Method::PUT, &site.job_path(&name), Some(&body)).await {
                            Ok(answer) if answer.status.is_success() => break,
                            Ok(answer) if answer.status.is_server_error() => {}
                            Ok(answer) => panic!("{name}: {}", answer.text),
                            Err(error) => assert!(error.is_connect() || error.is_request() || error.is_body(), "{error:?}"),
                        }
                        assert!(began.elapsed() < Duration::from_secs(30), "{name} is not accepted by any server");
                        tries += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until("a part of the jobs is accepted", || async { accepted.load(Ordering::Relaxed) }, |n| *n >= JOBS / 4).await;
    first.kill();
    for client in clients {
        client.await.expect("a client submits all of its jobs");
    }
    let site = Site { api: second.api(), ..site };
    let jobs = all_ended(&site).await;
    assert_eq!(jobs.len(), JOBS);
    let failed: BTreeMap<_, _> = jobs.iter().filter(|(_, job)| job["executionState"] != "succeeded").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(marks.starts(), once("j", JOBS), "each job ran once");
    site.wait_idle("c", 16).await;
}
