//! Kills at random moments, of servers and agents, while many jobs run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IndexedRandom;
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};

use super::node::agents;
use super::{Marks, RECOVERY, all_ended_within, once};
use crate::harness::api::Api;
use crate::harness::database::Database;
use crate::harness::guard::Guard;
use crate::harness::{Server, Settings, Site};

/// Kills in one run, with ten jobs for each. The part `heavy-kills` of `script/test` has 100, which is the proof; each push makes do with
/// fewer.
#[allow(clippy::disallowed_methods)] // tests are told by the environment how far to go
fn kills() -> usize {
    std::env::var("BATCHYARD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// Longest pause between two kills.
const BETWEEN_MS: u64 = 1_000;

/// Who submits at once.
const CLIENTS: usize = 4;

/// The servers as they are now: each start has a port of its own.
type Apis = Arc<Mutex<[Api; 2]>>;

/// Submits a job until it is accepted: as clients do, to whichever server answers.
async fn submit(site: &Site, apis: &Apis, name: &str) {
    let body = site.job_body("c", &Marks::command(name, "sleep 0.1"));
    let began = Instant::now();
    for server in [0, 1].into_iter().cycle() {
        let api = apis.lock().expect("not poisoned")[server].clone();
        match api.try_send(Method::PUT, &site.job_path(name), Some(&body)).await {
            Ok(answer) if answer.status.is_success() => return,
            Ok(answer) => assert!(answer.status.is_server_error(), "{name}: {}", answer.text),
            Err(error) => assert!(error.is_connect() || error.is_request() || error.is_body(), "{error:?}"),
        }
        assert!(began.elapsed() < RECOVERY, "{name} is not accepted by any server");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_lose_no_job_and_run_none_twice() {
    let guard = Arc::new(Guard::new());
    let database = Database::start_new(Arc::clone(&guard));
    let settings = Settings { database: Some(database.url()), ..Settings::default() };
    let start = |name: &str| Server::start_in(Arc::clone(&guard), name, settings.clone());
    let mut servers = [start("1"), start("2")];
    let mut site = Site::new(servers[0].api()).await;
    let marks = Marks::new(&servers[0]);
    site.cluster("c", 4).await;
    let apis: Apis = Arc::new(Mutex::new([servers[0].api(), servers[1].api()]));
    let count = 10 * kills();
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (site, apis) = (site.clone(), Arc::clone(&apis));
            tokio::spawn(async move {
                for n in (client..count).step_by(CLIENTS) {
                    submit(&site, &apis, &format!("j{n}")).await;
                }
            })
        })
        .collect();
    let (mut of_servers, mut of_agents) = (0, 0);
    for _ in 0..kills() {
        let pause = rand::rng().random_range(0..BETWEEN_MS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let which = rand::rng().random_range(0..4);
        let agent = agents(&servers[0]).choose(&mut rand::rng()).copied();
        match (which, agent) {
            // One that ended by itself a moment ago is no kill.
            (2.., Some(agent)) if killed(agent) => of_agents += 1,
            _ => {
                let server = which % 2;
                servers[server].kill();
                servers[server].restart();
                apis.lock().expect("not poisoned")[server] = servers[server].api();
                of_servers += 1;
            }
        }
    }
    for client in clients {
        client.await.expect("a client submits all of its jobs");
    }
    site.api = servers[0].api();
    let jobs = all_ended_within(&site, RECOVERY + Duration::from_secs(2 * kills() as u64)).await;
    assert_eq!(jobs.len(), count, "no job is lost");
    let failed: BTreeMap<_, _> = jobs.iter().filter(|(_, job)| job["executionState"] != "succeeded").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(marks.starts(), once("j", count), "each job ran once");
    site.wait_idle("c", 4).await;
    println!(
        "{count} jobs in {:?}, {of_servers} kills of servers and {of_agents} of agents: none lost, none twice",
        began.elapsed()
    );
}

/// Kills a process, if it is there.
fn killed(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::KILL).is_ok()
}
