//! Agents and supervisors that die at any time.

use batchyard::domain::attempt::{AssignmentState, End};
use batchyard::domain::bootstrap::Isolation;

use super::node::{NOTHING, Node, eventually, job, running};

/// Waits until the job told its number, and answers it.
async fn told_pid(node: &Node, attempt: batchyard::id::AttemptUid) -> String {
    let file =
        eventually("a number", || node.server.file(attempt, "stdouterr", "stdout.txt").filter(|f| f.ends_with(b"\n"))).await;
    String::from_utf8_lossy(&file).into_owned()
}

async fn survives(mut node: Node, kills: usize) {
    let job = job("echo $$ >> once; echo $$; while test ! -e go; do sleep 0.02; done; echo end");
    node.want([job.clone()]);
    let pid = told_pid(&node, job.attempt).await;
    let supervisors = node.supervisors();
    assert_eq!(supervisors.len(), 1);
    for _ in 0..kills {
        node.kill_agent();
        node.start_agent();
    }
    assert_eq!(node.supervisors(), supervisors, "the same goes on");
    std::fs::write(node.temp().join("go"), "").expect("written");
    assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code: 0 });
    let stdout = node.server.file_at_end(job.attempt, "stdouterr", "stdout.txt");
    assert_eq!(stdout, Some(format!("{pid}end\n")));
    assert_eq!(std::fs::read_to_string(node.temp().join("once")).expect("there"), pid, "it began once");
    let ends = node.server.with(|known| known.seen[&job.attempt].iter().filter(|seen| seen.end.is_some()).count());
    assert_eq!(ends, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_finds_its_job_again() {
    let Some(node) = Node::namespaces() else { return };
    survives(node, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_namespaces_an_agent_that_dies_finds_its_job_again() {
    survives(Node::new(Isolation::ProcessGroup), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_no_agent_saw_is_told_by_the_next() {
    let Some(mut node) = Node::namespaces() else { return };
    let job = job("while test ! -e go; do sleep 0.02; done; echo end; exit 3");
    node.want([job.clone()]);
    node.server.until_state(job.attempt, AssignmentState::Running).await;
    node.kill_agent();
    std::fs::write(node.temp().join("go"), "").expect("written");
    eventually("it ends", || node.supervisors().is_empty().then_some(())).await;
    node.start_agent();
    assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code: 3 });
    assert_eq!(node.server.file_at_end(job.attempt, "stdouterr", "stdout.txt").as_deref(), Some("end\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_die_at_any_moment_run_each_job_once() {
    let Some(mut node) = Node::namespaces() else { return };
    let count = node.share().join("count");
    std::fs::write(&count, "").expect("made");
    std::os::unix::fs::chown(&count, Some(79_000), Some(79_000)).expect("owned");
    for round in 0..12_u64 {
        let job = job(&format!("echo {round} >> {}", count.display()));
        node.want([job.clone()]);
        tokio::time::sleep(std::time::Duration::from_millis(round * 3)).await;
        node.kill_agent();
        node.start_agent();
        let end = node.server.until_end(job.attempt).await;
        let text = std::fs::read_to_string(&count).expect("there");
        let times = text.lines().filter(|line| *line == round.to_string()).count();
        match end {
            End::Exited { code: 0 } => assert_eq!(times, 1, "round {round}"),
            End::Lost { .. } => assert!(times <= 1, "round {round}"),
            end => panic!("{end:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_torn_or_gone_never_starts_a_job_again() {
    let Some(mut node) = Node::namespaces() else { return };
    // While it runs: it is adopted, and its end is right.
    let first = job("echo $$ >> once; while test ! -e go; do sleep 0.02; done");
    node.want([first.clone()]);
    eventually("it runs", || node.temp().join("once").exists().then_some(())).await;
    node.kill_agent();
    std::fs::write(node.record(first.attempt).join("state.json"), "{\"sta").expect("torn");
    node.start_agent();
    std::fs::write(node.temp().join("go"), "").expect("written");
    assert_eq!(node.server.until_end(first.attempt).await, End::Exited { code: 0 });
    assert_eq!(std::fs::read_to_string(node.temp().join("once")).expect("there").lines().count(), 1);

    // After it ended: nobody knows how, so that it is lost.
    let second = job("echo x >> $AZ_BATCHAI_MOUNT_ROOT/shared/second; while test ! -e go; do sleep 0.02; done");
    std::fs::write(node.share().join("second"), "").expect("made");
    std::os::unix::fs::chown(node.share().join("second"), Some(79_000), None).expect("owned");
    node.want([second.clone()]);
    let ran = || std::fs::read_to_string(node.share().join("second")).is_ok_and(|text| text == "x\n").then_some(());
    eventually("it runs", ran).await;
    node.kill_agent();
    std::fs::write(node.temp().join("go"), "").expect("written");
    eventually("it ends", || node.supervisors().is_empty().then_some(())).await;
    std::fs::remove_file(node.record(second.attempt).join("state.json")).expect("removed");
    node.start_agent();
    let end = node.server.until_end(second.attempt).await;
    assert!(matches!(end, End::Lost { .. }), "{end:?}");
    assert_eq!(std::fs::read_to_string(node.share().join("second")).expect("there"), "x\n");

    // The whole folder: what runs is ended, and not started again.
    let third = job("echo x >> $AZ_BATCHAI_MOUNT_ROOT/shared/second; sleep 61.091");
    node.want([third.clone()]);
    eventually("it runs", || (!running("sleep\x0061.091").is_empty()).then_some(())).await;
    node.kill_agent();
    std::fs::remove_dir_all(node.record(third.attempt)).expect("removed");
    node.start_agent();
    let end = node.server.until_end(third.attempt).await;
    assert!(matches!(end, End::Lost { .. }), "{end:?}");
    assert_eq!(running("sleep\x0061.091"), NOTHING);
    assert_eq!(std::fs::read_to_string(node.share().join("second")).expect("there"), "x\nx\n");
}

async fn lost(node: Node, sleeper: &str) {
    let job = job(&format!("{sleeper} & setsid {sleeper} & {sleeper}; true"));
    let mark = sleeper.replace(' ', "\0");
    node.want([job.clone()]);
    eventually("it runs", || (running(&mark).len() == 3).then_some(())).await;
    for pid in node.supervisors() {
        let pid = rustix::process::Pid::from_raw(pid).expect("a number");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    }
    let end = node.server.until_end(job.attempt).await;
    assert!(matches!(end, End::Lost { .. }), "{end:?}");
    assert_eq!(running(&mark), NOTHING, "nothing runs once the end is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_dies_takes_all_with_it() {
    let Some(node) = Node::namespaces() else { return };
    lost(node, "sleep 61.101").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_namespaces_nothing_outlives_a_supervisor_that_dies() {
    lost(Node::new(Isolation::ProcessGroup), "sleep 61.102").await;
}
