//! Supervisors that an agent started when it died, and that begin only after the next agent looked.

use std::process::{Child, Command, Stdio};

use batchyard::domain::attempt::End;
use batchyard::id::AttemptUid;

use super::node::{Node, eventually, job};

/// A supervisor that does not know yet what it is to run, on a folder as an agent makes it.
fn half_started(node: &Node, attempt: AttemptUid) -> Child {
    let folder = node.dir.join("private/state/assignments").join(format!("{attempt}.{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("ticket"), "").expect("written");
    for pipe in ["control", "events"] {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, folder.join(pipe), rustix::fs::FileType::Fifo, mode, 0).expect("made");
    }
    Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", env!("CARGO_BIN_EXE_batchyard"), "supervise"])
        .arg(folder)
        .stdin(Stdio::piped())
        .spawn()
        .expect("started")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_is_late_never_begins_and_the_job_runs_once() {
    let Some(mut node) = Node::namespaces() else { return };
    let count = node.share().join("count");
    std::fs::write(&count, "").expect("made");
    std::os::unix::fs::chown(&count, Some(79_000), Some(79_000)).expect("owned");
    node.kill_agent();
    let job = job(&format!("echo x >> {}", count.display()));
    let mut late = half_started(&node, job.attempt);
    eventually("it waits for its work", || (node.supervisors().len() >= 2).then_some(())).await;
    node.want([job.clone()]);
    node.start_agent();
    assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code: 0 });
    // Whatever it is handed now comes too late.
    drop(late.stdin.take());
    late.wait().expect("it ends");
    assert_eq!(std::fs::read_to_string(&count).expect("there"), "x\n");
    let seen = node.server.with(|known| known.seen[&job.attempt].clone());
    assert!(seen.iter().all(|seen| !matches!(seen.end, Some(End::Lost { .. }))), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_supervisors_of_one_attempt_are_told_apart() {
    let Some(mut node) = Node::namespaces() else { return };
    let job = job("echo $$; while test ! -e go; do sleep 0.02; done; echo end");
    node.want([job.clone()]);
    eventually("it runs", || node.server.file(job.attempt, "stdouterr", "stdout.txt").filter(|f| f.ends_with(b"\n"))).await;
    node.kill_agent();
    // One that an agent before the last one started, and that was slow to begin ever since.
    let mut late = half_started(&node, job.attempt);
    eventually("it waits for its work", || (node.supervisors().len() >= 3).then_some(())).await;
    node.start_agent();
    late.wait().expect("it ends");
    std::fs::write(node.temp().join("go"), "").expect("written");
    assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code: 0 });
}
