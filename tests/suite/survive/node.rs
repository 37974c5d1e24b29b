//! Kills of agents and nodes.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use sqlx::Connection;

use super::Marks;
use crate::harness::database::Database;
use crate::harness::guard::Guard;
use crate::harness::site::SHARE;
use crate::harness::{Server, Settings, Site, until};

/// Agents of the installation's nodes: children of the nodes' first processes.
pub(super) fn agents(server: &Server) -> Vec<u32> {
    let nodes = server.node_processes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("readable").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if parent.is_some_and(|parent| nodes.contains(&parent)) && command.split(|b| *b == 0).nth(1) == Some(b"agent") {
            found.push(pid);
        }
    }
    found
}

#[tokio::test]
async fn a_job_goes_on_when_its_agent_is_killed() {
    let server = Server::up();
    let site = Site::new(server.api()).await;
    let marks = Marks::new(&server);
    site.cluster("c", 1).await;
    let command = Marks::command("j", &format!("echo pid $$; {}; echo pid $$; exit 5", Marks::until_told("go")));
    site.submit("j", "c", &command, json!({ "stdOutErrPathPrefix": "$AZ_BATCHAI_JOB_TEMP" })).await;
    marks.wait_started(1).await;
    let before = agents(&server);
    assert_eq!(before.len(), 1, "one agent");
    server.kill_process(before[0]);
    until("another agent", || async { agents(&server) }, |now| now.len() == 1 && *now != before).await;
    assert_eq!(site.get_job("j").await["executionState"], "running");
    marks.tell("go");
    let job = site.ended("j").await;
    assert_eq!(job["executionInfo"]["exitCode"], 5, "{job}");
    let stdout = site.stdout("j").await;
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{stdout}");
    assert!(lines[0].starts_with("pid ") && lines[0] == lines[1], "the same process went on: {stdout}");
    assert_eq!(marks.starts_of("j"), 1);
    site.wait_idle("c", 1).await;
    assert_eq!(site.run("next", "c", "echo hi", json!({})).await["executionState"], "succeeded");
}

#[tokio::test]
async fn a_job_ends_rightly_when_its_agent_is_killed_at_its_end() {
    let server = Server::up();
    let site = Site::new(server.api()).await;
    let marks = Marks::new(&server);
    site.cluster("c", 1).await;
    for round in 0..4 {
        let name = format!("j{round}");
        site.submit(&name, "c", &Marks::command(&name, "echo done; exit 6"), json!({})).await;
        marks.wait_started(round + 1).await;
        for agent in agents(&server) {
            server.kill_process(agent);
        }
        let job = site.ended(&name).await;
        assert_eq!(job["executionInfo"]["exitCode"], 6, "{job}");
        assert_eq!(site.stdout(&name).await, "done\n");
        assert_eq!(marks.starts_of(&name), 1);
    }
}

#[tokio::test]
async fn a_job_whose_node_dies_runs_on_another_and_its_outputs_are_not_mixed() {
    let guard = Arc::new(Guard::new());
    let database = Database::start_new(Arc::clone(&guard));
    let settings = Settings { database: Some(database.url()), ..Settings::default() };
    let server = Server::start_in(guard, "1", settings);
    let site = Site::new(server.api()).await;
    let marks = Marks::new(&server);
    site.cluster("c", 1).await;
    let over = json!({ "outputDirectories": [
        { "id": "SHARED", "pathPrefix": SHARE },
        { "id": "KEPT", "pathPrefix": "$AZ_BATCHAI_JOB_TEMP" }] });
    // The first attempt leaves files that the second must not show.
    let command = Marks::command(
        "j",
        &format!(
            "n=$(grep -c start $AZ_BATCHAI_MOUNT_ROOT/shared/marks/j)
             echo attempt $n on $(hostname)
             echo $n > $AZ_BATCHAI_OUTPUT_SHARED/attempt-$n; echo $n > $AZ_BATCHAI_OUTPUT_KEPT/attempt-$n
             {}",
            Marks::until_told("go")
        ),
    );
    site.submit("j", "c", &command, over).await;
    marks.wait_started(1).await;
    let first = until("the first attempt's output", || site.find_stdout("j"), |text| text.contains("attempt 1 on")).await;
    until("the first attempt's files", || site.names("j", "KEPT"), |names| names == &["attempt-1"]).await;
    let start = site.get_job("j").await["executionInfo"]["startTime"].clone();

    let nodes = server.node_processes();
    assert_eq!(nodes.len(), 1);
    server.kill_process(nodes[0]);
    until("the job has started again", || async { marks.starts_of("j") }, |n| *n == 2).await;
    marks.tell("go");
    let job = site.ended("j").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(marks.starts_of("j"), 2);
    assert_ne!(job["executionInfo"]["startTime"], start, "the latest start is shown");
    let stdout = site.stdout("j").await;
    assert!(stdout.starts_with("attempt 2 on ") && stdout.lines().count() == 1, "one attempt's output alone: {stdout}");
    assert_ne!(stdout.trim_end().rsplit(' ').next(), first.trim_end().rsplit(' ').next(), "another node");
    assert_eq!(site.names("j", "SHARED").await, ["attempt-2"]);
    assert_eq!(site.names("j", "KEPT").await, ["attempt-2"]);

    let mut rows = sqlx::PgConnection::connect(&database.url()).await.expect("connects");
    let attempts: Vec<(i32, String)> =
        sqlx::query_as("select number, coalesce(cause, '') from batchyard.attempt order by number")
            .fetch_all(&mut rows)
            .await
            .expect("attempts");
    rows.close().await.expect("closes");
    assert_eq!(attempts, [(1, "node_lost".into()), (2, "exited".into())]);
}

#[tokio::test]
async fn a_gang_that_loses_a_node_starts_again_whole() {
    let server = Server::up();
    let site = Site::new(server.api()).await;
    let marks = Marks::new(&server);
    site.cluster("c", 2).await;
    let command = Marks::command("j", &Marks::until_told("go"));
    site.submit("j", "c", &command, json!({ "nodeCount": 2 })).await;
    marks.wait_started(1).await;
    server.kill_process(server.node_processes()[0]);
    until("the job has started again", || async { marks.starts_of("j") }, |n| *n == 2).await;
    marks.tell("go");
    let job = site.ended("j").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(marks.starts_of("j"), 2);
    site.wait_idle("c", 2).await;
    let left: Vec<PathBuf> = std::fs::read_dir(server.dir().join("data/nodes/nodes"))
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .collect();
    assert_eq!(left.len(), 2, "the dead node's folder is gone: {left:?}");
}
