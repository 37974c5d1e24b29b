//! Debian's Open MPI and mpi4py.

use serde_json::json;

use super::{assert_succeeded, everything, run, script, submit, two_nodes};

const NEEDED: [&str; 3] = ["/usr/bin/mpirun", "/usr/sbin/sshd", "/usr/lib/python3/dist-packages/mpi4py"];

const ALLREDUCE: &str = r#"
import os, socket
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank)
node = os.environ['AZ_BATCH_NODE_ID'].replace('_', '-')
line = f"{world.rank} {world.size} {total} {socket.gethostname()} {node} {os.environ['COLOUR']}\n"
os.write(1, line.encode())  # In one piece: the launcher forwards what it reads, and four ranks write at once.
"#;

#[tokio::test]
async fn ranks_on_both_nodes_add_up() {
    let Some(site) = two_nodes(&NEEDED).await else { return };
    let script = script(&site, "allreduce.py", ALLREDUCE);
    let settings = json!({ "commandLine": format!("python3 {script}"), "processCount": 4 });
    let over = json!({
        "environmentVariables": [{ "name": "COLOUR", "value": "it's blue" }],
        "jobPreparation": { "commandLine": "cat $AZ_BATCHAI_MPI_HOST_FILE" } });
    submit(&site, "j", "customMpiSettings", settings, over).await;
    let job = site.ended("j").await;
    assert_succeeded(&site, "j", &job).await;
    let stdout = site.stdout("j").await;
    let mut lines: Vec<&str> = stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 4, "{stdout}");
    let mut hosts = Vec::new();
    for (rank, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.splitn(6, ' ').collect();
        assert_eq!(words[..3], [rank.to_string().as_str(), "4", "6"], "{line}");
        assert_eq!(words[3], words[4], "each rank has the variables of its own node: {line}");
        assert_eq!(words[5], "it's blue");
        hosts.push(words[3]);
    }
    assert_eq!(hosts[0], hosts[1], "two ranks a node");
    assert_eq!(hosts[2], hosts[3], "two ranks a node");
    assert_ne!(hosts[0], hosts[2]);
    let names = site.names("j", "stdouterr").await;
    let prepared = names.iter().find(|name| name.starts_with("stdout-job_prep-tvm-")).expect("each node prepares");
    let prepared = site.read("j", "stdouterr", prepared).await;
    assert_eq!(prepared.lines().filter(|line| line.ends_with(" slots=2")).count(), 2, "{prepared}");
}

#[tokio::test]
async fn a_rank_that_fails_gives_the_job_its_exit_code() {
    let Some(site) = two_nodes(&NEEDED).await else { return };
    let script = script(
        &site,
        "fail.py",
        "
import os, time
from mpi4py import MPI
if MPI.COMM_WORLD.rank == 1:
    os._exit(7)
time.sleep(600)
",
    );
    let job = run(&site, "j", "customMpiSettings", json!({ "commandLine": format!("python3 {script}") })).await;
    assert_eq!(job["executionInfo"]["exitCode"], 7, "{job}\n{}", everything(&site, "j").await);
    assert_eq!(job["executionInfo"]["errors"][0]["code"], "JobFailed");
    site.wait_idle("c", 2).await;
}
