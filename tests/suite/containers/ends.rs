//! Ends: whatever ends a job, nothing of its container is left, and nothing runs twice.

use serde_json::json;

use super::{Ground, Node, error};
use crate::harness::{Server, until};

/// A command that says that it runs, in a file on the share, then does `then`.
fn marking(name: &str, then: &str) -> String {
    format!("echo start >> $AZ_BATCHAI_MOUNT_ROOT/shared/{name}; {then}")
}

fn starts(server: &Server, name: &str) -> usize {
    std::fs::read_to_string(server.share().join(name)).unwrap_or_default().lines().filter(|line| *line == "start").count()
}

async fn wait_started(server: &Server, name: &str, count: usize) {
    until(&format!("{count} starts of {name}"), || async { starts(server, name) }, |n| *n >= count).await;
}

/// Processes of the node whose command line has all of `words`.
fn find_processes(node: &Node, words: &[&str]) -> Vec<u32> {
    let output = node
        .within(&["-m", "-p"], &["sh", "-c", "for p in /proc/[0-9]*; do echo \"${p#/proc/} $(tr '\\0' ' ' <$p/cmdline)\"; done"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let matching = text.lines().filter(|line| words.iter().all(|word| line.contains(word)) && !line.contains("tr \\0"));
    matching.filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}

fn kill(node: &Node, pid: u32) {
    assert!(node.within(&["-m", "-p"], &["kill", "-KILL", &pid.to_string()]).status.success(), "{pid} is there");
}

#[tokio::test]
async fn a_job_that_is_terminated_is_asked_first() {
    let server = Server::shared();
    let Some(ground) = Ground::new(server).await else { return };
    let mark = format!("polite-{}", ground.site.group);
    let polite = marking(&mark, "trap 'echo asked; exit 0' TERM; while :; do sleep 0.05; done");
    ground.submit("polite", &polite, json!({})).await;
    wait_started(server, &mark, 1).await;
    assert_eq!(ground.node.containers().len(), 1);
    ground.site.api.post(&format!("{}/terminate", ground.site.job_path("polite"))).await.expect(202);
    let job = ground.site.ended("polite").await;
    assert_eq!(error(&job)["code"], "JobTerminated", "{job}");
    assert!(job["executionInfo"].get("exitCode").is_none(), "{job}");
    assert_eq!(ground.site.stdout("polite").await, "asked\n");
    ground.site.wait_idle("c", 1).await;
    assert_eq!(ground.node.containers(), [""; 0]);
}

#[tokio::test]
async fn a_job_that_takes_too_long_and_does_not_listen_is_ended_with_all_that_it_started() {
    let server = Server::shared();
    let Some(ground) = Ground::new(server).await else { return };
    let over = json!({ "constraints": { "maxWallClockTime": "PT3S" } });
    let stubborn = "trap '' TERM; (trap '' TERM; exec setsid sleep 4321) & while :; do sleep 1; done";
    let job = ground.run("stubborn", stubborn, over).await;
    assert_eq!(error(&job)["code"], "JobMaxWallClockTimeReached", "{job}");
    ground.site.wait_idle("c", 1).await;
    assert_eq!(ground.node.containers(), [""; 0]);
    assert_eq!(find_processes(&ground.node, &["sleep", "4321"]), [0; 0]);
}

#[tokio::test]
async fn a_job_goes_on_when_its_agent_is_killed() {
    let server = Server::shared();
    let Some(ground) = Ground::new(server).await else { return };
    let mark = format!("agent-{}", ground.site.group);
    let told = server.share().join(format!("{mark}.go"));
    let wait =
        format!("echo before; until [ -e $AZ_BATCHAI_MOUNT_ROOT/shared/{mark}.go ]; do sleep 0.05; done; echo after; exit 6");
    ground.submit("j", &marking(&mark, &wait), json!({})).await;
    wait_started(server, &mark, 1).await;
    let agents = find_processes(&ground.node, &["batchyard agent "]);
    assert_eq!(agents.len(), 1);
    kill(&ground.node, agents[0]);
    let agent = || async { find_processes(&ground.node, &["batchyard agent "]) };
    until("another agent", agent, |now| now.len() == 1 && *now != agents).await;
    assert_eq!(ground.node.containers().len(), 1, "its container is as it was");
    std::fs::write(told, "").expect("written");
    let job = ground.site.ended("j").await;
    assert_eq!(job["executionInfo"]["exitCode"], 6, "{}", ground.everything("j").await);
    assert_eq!(ground.site.stdout("j").await, "before\nafter\n");
    assert_eq!(starts(server, &mark), 1);
    // The engine outlived the agent too, and serves the next.
    let job = ground.run("next", "echo hi", json!({})).await;
    ground.assert_succeeded("next", &job).await;
    ground.site.wait_idle("c", 1).await;
    assert_eq!(ground.node.containers(), [""; 0]);
    assert_eq!(find_processes(&ground.node, &["dockerd"]).len(), 1, "one engine");
}

#[tokio::test]
async fn a_container_does_not_outlive_its_supervisor() {
    let server = Server::shared();
    let Some(ground) = Ground::new(server).await else { return };
    let mark = format!("supervisor-{}", ground.site.group);
    let once = format!("[ $(grep -c start $AZ_BATCHAI_MOUNT_ROOT/shared/{mark}) = 2 ] || sleep 5432");
    ground.submit("j", &marking(&mark, &once), json!({})).await;
    wait_started(server, &mark, 1).await;
    let first = ground.node.containers();
    let supervisors = find_processes(&ground.node, &["batchyard supervise "]);
    assert_eq!(supervisors.len(), 1);
    kill(&ground.node, supervisors[0]);
    // It is the platform's fault: the job runs again, and never beside what is left of itself.
    let job = ground.site.ended("j").await;
    ground.assert_succeeded("j", &job).await;
    assert_eq!(starts(server, &mark), 2);
    assert_eq!(find_processes(&ground.node, &["sleep", "5432"]), [0; 0]);
    ground.site.wait_idle("c", 1).await;
    let left = ground.node.containers();
    assert!(left.is_empty() && first.len() == 1, "{first:?} {left:?}");
}

#[tokio::test]
async fn a_job_whose_engine_dies_runs_again_on_the_next() {
    let server = Server::shared();
    let Some(ground) = Ground::new(server).await else { return };
    let mark = format!("engine-{}", ground.site.group);
    let once = format!("[ $(grep -c start $AZ_BATCHAI_MOUNT_ROOT/shared/{mark}) = 2 ] || sleep 6543");
    ground.submit("j", &marking(&mark, &once), json!({})).await;
    wait_started(server, &mark, 1).await;
    let engines = find_processes(&ground.node, &["dockerd", "daemon.json"]);
    assert_eq!(engines.len(), 1);
    kill(&ground.node, engines[0]);
    let job = ground.site.ended("j").await;
    ground.assert_succeeded("j", &job).await;
    assert_eq!(starts(server, &mark), 2);
    assert_eq!(find_processes(&ground.node, &["sleep", "6543"]), [0; 0]);
}

#[tokio::test]
async fn nothing_is_left_of_a_node_that_goes_with_a_container() {
    let server = Server::shared();
    let Some(ground) = Ground::new(server).await else { return };
    let mark = format!("node-{}", ground.site.group);
    ground.submit("j", &marking(&mark, "sleep 1765432109"), json!({})).await;
    wait_started(server, &mark, 1).await;
    let command = std::fs::read(format!("/proc/{}/cmdline", ground.node.pid)).expect("reads");
    let spec = command.split(|b| *b == 0).nth(2).map(|path| String::from_utf8_lossy(path).into_owned()).expect("its spec");
    let folder = std::path::Path::new(&spec).parent().expect("its folder").to_owned();
    let layers = folder.join("root/var/lib/docker/overlay2");
    let inside = std::fs::read_to_string(format!("/proc/{}/root/var/lib/docker/engine.log", ground.node.pid));
    assert!(inside.is_ok() && folder.is_dir(), "{}", layers.display());
    ground.site.resize("c", 0, "terminate").await;
    let job = ground.site.ended("j").await;
    assert_eq!(error(&job)["code"], "JobNodeRemoved", "{job}");
    until("the node's folder is gone", || async { folder.exists() }, |exists| !exists).await;
    let name = folder.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
    let groups = std::process::Command::new("find").args(["/sys/fs/cgroup", "-name", &name]).output().expect("find runs");
    assert_eq!(String::from_utf8_lossy(&groups.stdout), "");
    for entry in std::fs::read_dir("/proc").expect("readable").flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&command).contains("1765432109"), "{}", entry.path().display());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("reads");
    assert!(!mounts.contains(&name), "{mounts}");
}
