//! Jobs that do not end when they should.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{error, goes_on, site};

const TWO_SECONDS: &str = "PT2S";

#[tokio::test]
async fn a_job_whose_time_is_over_is_warned_first() {
    let site = site().await;
    site.cluster("c", 1).await;
    let command = "trap 'echo warned; exit 0' TERM; echo started; while :; do sleep 0.05; done";
    let over = json!({ "constraints": { "maxWallClockTime": TWO_SECONDS } });
    let job = site.run("polite", "c", command, over).await;
    assert_eq!(job["executionState"], "failed", "{job}");
    let (code, message) = error(&job);
    assert_eq!(code, "JobMaxWallClockTimeReached", "{job}");
    assert!(message.contains("maxWallClockTime of 2 seconds"), "{message}");
    assert!(job["executionInfo"].get("exitCode").is_none(), "{job}");
    assert_eq!(site.stdout("polite").await, "started\nwarned\n");
    let log = site.read("polite", "stdouterr", "execution.log").await;
    assert!(log.contains("told to stop: SIGTERM") && !log.contains("SIGKILL"), "{log}");
    goes_on(&site).await;
}

#[tokio::test]
async fn a_job_that_ignores_its_warning_is_ended_with_all_that_it_started() {
    let site = site().await;
    site.cluster("c", 1).await;
    let seconds = u32::from_str_radix(&site.group[1..8], 16).expect("hex") % 1_000_000 + 200_000_000;
    // Out of the process group, the session, and the line of its parents; and deaf.
    let daemon = format!(
        "import os, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); os.execvp(\"sleep\", [\"sleep\", \"{seconds}\"])"
    );
    let command = format!("trap '' TERM; python3 -c '{daemon}'; echo started; while :; do sleep 1; done");
    let began = Instant::now();
    let job = site.run("deaf", "c", &command, json!({ "constraints": { "maxWallClockTime": TWO_SECONDS } })).await;
    assert_eq!(error(&job).0, "JobMaxWallClockTimeReached", "{job}");
    assert!(began.elapsed() > Duration::from_secs(11), "it had its grace: {:?}", began.elapsed());
    let log = site.read("deaf", "stdouterr", "execution.log").await;
    assert!(log.contains("did not stop in time: SIGKILL"), "{log}");
    assert_eq!(site.stdout("deaf").await, "started\n");
    for entry in std::fs::read_dir("/proc").expect("readable").flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!command.ends_with(format!("{seconds}\0").as_bytes()), "its daemon still runs as {:?}", entry.file_name());
    }
    goes_on(&site).await;
}
