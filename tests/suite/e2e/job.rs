//! A job's life, as a client sees it.

use std::time::Duration;

use serde_json::{Value, json};

use super::site;
use crate::harness::{Server, until};

/// A command that waits until the test makes the file of that name on the share.
fn until_told(name: &str) -> String {
    format!("until [ -e $AZ_BATCHAI_MOUNT_ROOT/shared/{name} ]; do sleep 0.02; done")
}

/// Lets commands of [`until_told`] go on.
fn tell(name: &str) {
    std::fs::write(Server::shared().share().join(name), "").expect("writes to the share");
}

fn error_code(job: &Value) -> &str {
    job["executionInfo"]["errors"][0]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_job_waits_runs_and_succeeds() {
    let site = site().await;
    site.cluster("c", 0).await;
    let name = format!("go-{}", site.group);
    site.submit("j", "c", &format!("echo hi; {}", until_told(&name)), json!({})).await;
    let queued = site.get_job("j").await;
    assert_eq!(queued["executionState"], "queued");
    assert_eq!(queued["provisioningState"], "succeeded");
    assert_eq!(queued["executionStateTransitionTime"], queued["creationTime"]);
    assert_eq!(queued["toolType"], "custom");
    assert_eq!(queued["experimentName"], "e");
    assert!(queued.get("executionInfo").is_none(), "{queued}");
    assert!(site.list("j", "stdouterr", ".").await.is_empty(), "no output yet, and no error");

    site.resize("c", 1, "requeue").await;
    let running = site.wait_state("j", "running").await;
    assert_eq!(running["executionInfo"]["startTime"], running["executionStateTransitionTime"]);
    assert!(running["executionInfo"].get("endTime").is_none());
    let cluster = site.get_cluster("c").await;
    assert_eq!(cluster["nodeStateCounts"]["runningNodeCount"], 1, "{cluster}");
    assert_eq!(cluster["nodeStateCounts"]["idleNodeCount"], 0, "{cluster}");

    tell(&name);
    let ended = site.ended("j").await;
    assert_eq!(ended["executionState"], "succeeded", "{ended}");
    assert_eq!(ended["executionInfo"]["exitCode"], 0);
    assert_eq!(ended["executionInfo"]["endTime"], ended["executionStateTransitionTime"]);
    assert!(ended["executionInfo"].get("errors").is_none(), "{ended}");
    assert_eq!(site.names("j", "stdouterr").await, ["execution.log", "stderr.txt", "stdout.txt"]);
    assert_eq!(site.stdout("j").await, "hi\n");
    assert_eq!(site.read("j", "stdouterr", "stderr.txt").await, "");
    site.wait_idle("c", 1).await;
}

#[tokio::test]
async fn exit_codes_are_the_commands_own() {
    let site = site().await;
    site.cluster("c", 1).await;
    for (name, command, code) in [
        ("one", "false", 1),
        ("three", "exit 3", 3),
        ("absent", "no-such-command-here", 127),
        ("killed", "kill -KILL $$", 137),
        ("segfault", "kill -SEGV $$", 139),
    ] {
        let job = site.run(name, "c", command, json!({})).await;
        assert_eq!(job["executionState"], "failed", "{name}");
        assert_eq!(job["executionInfo"]["exitCode"], code, "{name}: {job}");
        assert_eq!(error_code(&job), "JobFailed", "{name}");
        assert_eq!(job["executionInfo"]["errors"][0]["message"], "Job failed with non-zero exit code");
    }
    assert!(site.read("absent", "stdouterr", "stderr.txt").await.contains("no-such-command-here"));
}

#[tokio::test]
async fn the_documented_environment_is_there() {
    let site = site().await;
    site.cluster("c", 1).await;
    let over = json!({
        "inputDirectories": [{ "id": "DATA", "path": "$AZ_BATCHAI_MOUNT_ROOT/shared/data" }],
        "outputDirectories": [{ "id": "OUT", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/shared", "pathSuffix": "files" }],
        "environmentVariables": [
            { "name": "COLOUR", "value": "blue" },
            { "name": "FROM", "value": "$AZ_BATCHAI_INPUT_DATA/x" },
            { "name": "AZ_BATCHAI_MOUNT_ROOT", "value": "/not/this" }],
    });
    let job = site.run("j", "c", "env; echo PWD=$(pwd); echo ID=$(id -u)", over).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    let stdout = site.stdout("j").await;
    let value = |name: &str| {
        let line = stdout.lines().rev().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name} is set in:\n{stdout}")).to_owned()
    };
    let segment = job["jobOutputDirectoryPathSegment"].as_str().expect("is there");
    let root = value("AZ_BATCHAI_MOUNT_ROOT");
    assert!(root.ends_with("/shared/LS_root/mounts"), "{root}");
    assert_eq!(value("AZ_BATCHAI_INPUT_DATA"), format!("{root}/shared/data"));
    assert_eq!(value("AZ_BATCHAI_OUTPUT_OUT"), format!("{root}/shared/{segment}/outputs/files"));
    assert_eq!(value("AZ_BATCHAI_STDOUTERR_DIR"), format!("{root}/shared/{segment}/stdouterr"));
    let jobs = value("AZ_BATCHAI_JOB_TEMP_DIR");
    assert!(value("AZ_BATCHAI_JOB_TEMP").starts_with(jobs.trim_end_matches('/')), "{stdout}");
    assert!(value("AZ_BATCHAI_JOB_MOUNT_ROOT").ends_with("/w/e/j/mounts"), "{stdout}");
    value("AZ_BATCHAI_SHARED_JOB_TEMP");
    assert_eq!(value("AZ_BATCHAI_NUM_GPUS"), "0");
    assert_eq!(value("COLOUR"), "blue");
    assert_eq!(value("FROM"), format!("{root}/shared/data/x"), "values are expanded");
    assert_eq!(value("PWD"), value("AZ_BATCHAI_JOB_TEMP"));
    if rustix::process::geteuid().is_root() {
        assert_ne!(value("ID"), "0", "jobs are not root");
    }
}

#[tokio::test]
async fn secrets_reach_the_job_and_nothing_else() {
    let site = site().await;
    site.cluster("c", 1).await;
    let canary = format!("canary-{}", site.group);
    let over = json!({
        "environmentVariables": [{ "name": "VARIABLE", "value": "VALUE" }],
        "secrets": [{ "name": "SECRET", "value": canary }],
        "jobPreparation": { "commandLine": "echo $VARIABLE ${#SECRET}" },
    });
    let job = site.run("j", "c", "echo $VARIABLE ${#SECRET} $(printf %s $SECRET | sha256sum | cut -c1-8)", over).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    let length = canary.len();
    assert!(site.stdout("j").await.starts_with(&format!("VALUE {length} ")));
    assert_eq!(site.read("j", "stdouterr", "stdout-job_prep.txt").await, format!("VALUE {length}\n"));
    assert_eq!(job["secrets"], json!([{ "name": "SECRET" }]));
    for path in [site.job_path("j"), format!("{}/jobs", site.experiment()), site.cluster_path("c")] {
        let answer = site.api.get(&path).await.expect(200);
        assert!(!answer.text.contains(&canary), "{path} tells the secret");
        assert!(!format!("{:?}", answer.headers).contains(&canary));
    }
    assert!(!site.read("j", "stdouterr", "execution.log").await.contains(&canary), "the execution log tells the secret");
    assert!(!Server::shared().log().contains(&canary), "the server's log tells the secret");
    // The database and everything else that the installation keeps, the share and the log apart.
    let grep = std::process::Command::new("grep")
        .args(["-rlaF", "--devices=skip", &canary])
        .arg(Server::shared().dir().join("data"))
        .output()
        .expect("grep runs");
    assert!(grep.stdout.is_empty(), "the secret is kept in the clear in {}", String::from_utf8_lossy(&grep.stdout));
}

#[tokio::test]
async fn the_preparation_runs_first_and_its_failure_is_the_jobs() {
    let site = site().await;
    site.cluster("c", 1).await;
    let good = json!({ "jobPreparation": { "commandLine": "echo prepared | tee $AZ_BATCHAI_JOB_TEMP/note" } });
    let job = site.run("good", "c", "cat $AZ_BATCHAI_JOB_TEMP/note", good).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("good").await, "prepared\n");
    assert_eq!(
        site.names("good", "stdouterr").await,
        ["execution.log", "stderr-job_prep.txt", "stderr.txt", "stdout-job_prep.txt", "stdout.txt"]
    );
    let bad = json!({ "jobPreparation": { "commandLine": "echo no >&2; exit 4" } });
    let job = site.run("bad", "c", "touch $AZ_BATCHAI_MOUNT_ROOT/shared/ran-after-bad-preparation", bad).await;
    assert_eq!(job["executionState"], "failed");
    assert_eq!(job["executionInfo"]["exitCode"], 4, "{job}");
    assert_eq!(error_code(&job), "JobPreparationFailed");
    assert_eq!(site.read("bad", "stdouterr", "stderr-job_prep.txt").await, "no\n");
    assert!(!Server::shared().share().join("ran-after-bad-preparation").exists());
}

#[tokio::test]
async fn terminate_ends_queued_and_running_jobs_and_leaves_ended_ones() {
    let site = site().await;
    site.cluster("c", 1).await;
    site.submit("running", "c", "echo started; sleep 86400", json!({})).await;
    site.submit("queued", "c", "echo never", json!({})).await;
    site.wait_state("running", "running").await;
    until("the command has started", || site.find_stdout("running"), |text| text.contains("started")).await;
    for name in ["queued", "running"] {
        let accepted = site.api.post(&format!("{}/terminate", site.job_path(name))).await.expect(202);
        let operation = site.api.finish(accepted).await;
        assert_eq!(operation["status"], "Succeeded", "{operation}");
        let job = site.get_job(name).await;
        assert_eq!(job["executionState"], "failed", "{job}");
        assert_eq!(error_code(&job), "JobTerminated");
        let info = &job["executionInfo"];
        assert!(info["startTime"].is_string() && info["endTime"].is_string() && info.get("exitCode").is_none(), "{info}");
    }
    assert_eq!(site.stdout("running").await, "started\n");
    site.wait_idle("c", 1).await;
    let again = site.api.post(&format!("{}/terminate", site.job_path("running"))).await.expect(200);
    assert_eq!(again.text, "");
    site.api.post(&format!("{}/terminate", site.job_path("absent"))).await.expect(404);
}

#[tokio::test]
async fn a_job_that_is_told_to_stop_may_tidy_up() {
    let site = site().await;
    site.cluster("c", 1).await;
    let command = "grep SigBlk /proc/self/status; trap 'echo tidied; exit 0' TERM; echo started; while true; do sleep 0.05; done";
    site.submit("j", "c", command, json!({})).await;
    until("the command has started", || site.find_stdout("j"), |text| text.contains("started")).await;
    let began = std::time::Instant::now();
    let accepted = site.api.post(&format!("{}/terminate", site.job_path("j"))).await.expect(202);
    site.api.finish(accepted).await;
    assert!(began.elapsed() < Duration::from_secs(5), "a polite job needs no force: {:?}", began.elapsed());
    assert_eq!(error_code(&site.get_job("j").await), "JobTerminated");
    assert_eq!(site.stdout("j").await, "SigBlk:\t0000000000000000\nstarted\ntidied\n", "signals reach the job");
}

#[tokio::test]
async fn nothing_that_a_job_started_outlives_it() {
    let site = site().await;
    site.cluster("c", 1).await;
    let seconds = u32::from_str_radix(&site.group[1..8], 16).expect("hex") % 1_000_000 + 100_000_000;
    let job = site.run("j", "c", &format!("setsid nohup sleep {seconds} >/dev/null 2>&1 & echo left"), json!({})).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    let wanted = seconds.to_string();
    let alive = || async {
        let mut found = 0;
        for entry in std::fs::read_dir("/proc").expect("readable").flatten() {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let mut words = command.split(|b| *b == 0);
            found += u32::from(words.next() == Some(b"sleep") && words.next() == Some(wanted.as_bytes()));
        }
        found
    };
    assert_eq!(alive().await, 0, "what the job left behind still runs after the job ended");
}

#[tokio::test]
async fn a_job_ends_when_its_wall_clock_time_is_over() {
    let site = site().await;
    site.cluster("c", 1).await;
    let began = std::time::Instant::now();
    let job = site.run("j", "c", "sleep 86400", json!({ "constraints": { "maxWallClockTime": "PT2S" } })).await;
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(job["constraints"]["maxWallClockTime"], "PT2S");
    assert_eq!(job["executionState"], "failed");
    assert!(job["executionInfo"].get("exitCode").is_none(), "{job}");
    assert!(error_code(&job).contains("Time"), "{job}");
    site.wait_idle("c", 1).await;
}

#[tokio::test]
async fn priority_goes_before_age() {
    let site = site().await;
    site.cluster("c", 1).await;
    let name = format!("go-{}", site.group);
    let order = format!("order-{}", site.group);
    site.submit("blocker", "c", &until_told(&name), json!({})).await;
    site.wait_state("blocker", "running").await;
    for (job, priority) in [("low", "low"), ("first", "normal"), ("second", "normal"), ("high", "high")] {
        let command = format!("echo {job} >> $AZ_BATCHAI_MOUNT_ROOT/shared/{order}");
        site.submit(job, "c", &command, json!({ "schedulingPriority": priority })).await;
    }
    tell(&name);
    for job in ["high", "first", "second", "low"] {
        assert_eq!(site.ended(job).await["executionState"], "succeeded");
    }
    let order = std::fs::read_to_string(Server::shared().share().join(order)).expect("written");
    assert_eq!(order, "high\nfirst\nsecond\nlow\n");
}

#[tokio::test]
async fn a_gang_has_all_its_nodes_and_one_standard_output() {
    let site = site().await;
    site.cluster("c", 1).await;
    // From the master, the other node answers: refused is an answer, no route is none.
    let command = "echo hosts=$AZ_BATCH_HOST_LIST; python3 -c \"
import os, socket
for host in os.environ['AZ_BATCH_HOST_LIST'].split(','):
    with socket.socket() as s:
        s.settimeout(5)
        print('reached', s.connect_ex((host, 9)))
\"";
    let over = json!({ "nodeCount": 2, "jobPreparation": { "commandLine": "hostname" } });
    site.submit("j", "c", command, over).await;
    // One node is not enough: nothing of it may start.
    site.run("small", "c", "true", json!({ "schedulingPriority": "high" })).await;
    assert_eq!(site.get_job("j").await["executionState"], "queued");
    site.resize("c", 2, "requeue").await;
    let job = site.ended("j").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    let stdout = site.stdout("j").await;
    let hosts = stdout.lines().next().and_then(|line| line.strip_prefix("hosts=")).expect("the list of hosts");
    assert_eq!(hosts.split(',').count(), 2, "{stdout}");
    assert_eq!(stdout.matches("reached 111").count(), 2, "both nodes are reached and refuse: {stdout}");
    assert_eq!(stdout.matches("hosts=").count(), 1, "the command ran on one node alone");
    let names = site.names("j", "stdouterr").await;
    let count = |start: &str, end: &str| names.iter().filter(|n| n.starts_with(start) && n.ends_with(end)).count();
    assert_eq!(count("execution-", ".log"), 2, "{names:?}");
    assert_eq!(count("stdout-job_prep-", ".txt"), 2, "{names:?}");
    assert_eq!(count("stdout.txt", ""), 1, "{names:?}");
    let logins = site.api.post(&format!("{}/listRemoteLoginInformation", site.job_path("j"))).await.expect(200);
    assert_eq!(logins.body["value"].as_array().map(Vec::len), Some(2), "{}", logins.text);
}

#[tokio::test]
async fn the_same_put_again_runs_nothing_again_and_delete_works_while_it_runs() {
    let site = site().await;
    site.cluster("c", 1).await;
    let count = format!("count-{}", site.group);
    let body = site.job_body("c", &format!("echo x >> $AZ_BATCHAI_MOUNT_ROOT/shared/{count}"));
    site.put_job("j", &body).await;
    site.ended("j").await;
    site.api.put(&site.job_path("j"), &body).await.expect(200);
    let mut other = body.clone();
    other["properties"]["nodeCount"] = json!(2);
    site.api.put(&site.job_path("j"), &other).await.expect(409);
    site.submit("long", "c", "sleep 86400", json!({})).await;
    site.wait_state("long", "running").await;
    let accepted = site.api.delete(&site.job_path("long")).await.expect(202);
    site.api.finish(accepted).await;
    assert_eq!(site.api.get(&site.job_path("long")).await.expect(404).code(), "JobNotFound");
    site.wait_idle("c", 1).await;
    let count = std::fs::read_to_string(Server::shared().share().join(count)).expect("written");
    assert_eq!(count, "x\n");
    site.api.delete(&site.job_path("long")).await.expect(204);
}
