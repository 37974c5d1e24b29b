//! Output on its way to the server.

use std::time::{Duration, Instant};

use batchyard::domain::attempt::End;

use super::node::{Node, eventually, job};

#[tokio::test(flavor = "multi_thread")]
async fn output_is_seen_while_the_job_runs() {
    let Some(node) = Node::namespaces() else { return };
    let job = job(
        "sleep 0.3; date +%s%N; mkdir -p $AZ_BATCHAI_OUTPUT_MODEL/a/b; echo deep > $AZ_BATCHAI_OUTPUT_MODEL/a/b/c; while test ! -e go; do sleep 0.05; done",
    );
    node.want([job.clone()]);
    let file = eventually("a line", || node.server.file(job.attempt, "stdouterr", "stdout.txt").filter(|f| !f.is_empty())).await;
    let heard = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let written = Duration::from_nanos(String::from_utf8_lossy(&file).trim().parse().expect("a time"));
    assert!(heard.saturating_sub(written) < Duration::from_secs(1), "{:?}", heard.saturating_sub(written));
    eventually("a file in a new folder", || node.server.file(job.attempt, "MODEL", "a/b/c").filter(|f| f == b"deep\n")).await;
    std::fs::write(node.temp().join("go"), "").expect("written");
    assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn all_output_is_there_before_the_end_is_told() {
    let Some(node) = Node::namespaces() else { return };
    let job = job(
        "head -c 20000000 /dev/zero | tr '\\0' x; for i in $(seq 300); do echo $i > $AZ_BATCHAI_OUTPUT_MODEL/$i; done; echo last",
    );
    node.server.with(|known| known.lose = 7);
    node.want([job.clone()]);
    let began = Instant::now();
    assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code: 0 });
    let stdout = node.server.file_at_end(job.attempt, "stdouterr", "stdout.txt").expect("there");
    assert_eq!(stdout.len(), 20_000_005, "after {:?}", began.elapsed());
    assert!(stdout.ends_with("xlast\n"));
    for number in 1..=300 {
        let file = node.server.file_at_end(job.attempt, "MODEL", &number.to_string());
        assert_eq!(file, Some(format!("{number}\n")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_after_it_was_sent_is_sent_again() {
    let Some(node) = Node::namespaces() else { return };
    let job = job(
        "cd $AZ_BATCHAI_OUTPUT_MODEL; step() { touch ../../../../../../../../../../../../../../$1 2>/dev/null; echo $1; while test ! -e $AZ_BATCHAI_JOB_TEMP/$1; do sleep 0.02; done; }; \
         echo long-content > cut; echo one > replaced; head -c 3000000 /dev/zero > patched; step a; \
         echo s > cut; echo two > new; mv new replaced; printf HEAD | dd of=patched conv=notrunc 2>/dev/null; step b",
    );
    node.want([job.clone()]);
    let sent = |name: &'static str, wanted: &'static [u8]| {
        let (server, attempt) = (node.server.clone(), job.attempt);
        eventually(name, move || server.file(attempt, "MODEL", name).filter(|file| file == wanted).map(drop))
    };
    sent("cut", b"long-content\n").await;
    sent("replaced", b"one\n").await;
    eventually("patched", || node.server.file(job.attempt, "MODEL", "patched").filter(|file| file.len() == 3_000_000)).await;
    std::fs::write(node.temp().join("a"), "").expect("written");
    sent("cut", b"s\n").await;
    sent("replaced", b"two\n").await;
    std::fs::write(node.temp().join("b"), "").expect("written");
    assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code: 0 });
    let patched = node.server.file_at_end(job.attempt, "MODEL", "patched").expect("there");
    assert_eq!(patched.len(), 3_000_000);
    assert!(patched.starts_with("HEAD\0"), "bytes that changed behind our back are found in the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_regular_files_below_the_directory_are_sent() {
    let Some(node) = Node::namespaces() else { return };
    let secret = node.dir.join("outside");
    std::fs::write(&secret, "canary-9931").expect("written");
    let job = job(&format!(
        "cd $AZ_BATCHAI_OUTPUT_MODEL; ln -s {0} link; ln -s {1} folder; mkfifo pipe; mkdir real; ln -s ../.. real/up; echo fine > real/file; \
         touch 'odd name\n$(x)'; sleep 0.2",
        secret.display(),
        node.dir.display()
    ));
    node.want([job.clone()]);
    assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code: 0 });
    let mut names: Vec<String> = node.server.with(|known| {
        known.at_end[&job.attempt].keys().filter(|(directory, _)| directory == "MODEL").map(|(_, path)| path.clone()).collect()
    });
    names.sort();
    assert_eq!(names, ["odd name\n$(x)", "real/file"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_waits_for_a_server_that_is_away() {
    let Some(node) = Node::namespaces() else { return };
    let job = job("while test ! -e go; do sleep 0.02; done; echo done");
    node.want([job.clone()]);
    node.server.until_state(job.attempt, batchyard::domain::attempt::AssignmentState::Running).await;
    node.server.with(|known| known.is_away = true);
    std::fs::write(node.temp().join("go"), "").expect("written");
    eventually("the job ends without its server", || node.supervisors().is_empty().then_some(())).await;
    node.server.with(|known| {
        // The old credential is worth nothing any more: it joins again with the same key.
        known.credential = "second".into();
        known.is_away = false;
    });
    assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code: 0 });
    assert_eq!(node.server.file_at_end(job.attempt, "stdouterr", "stdout.txt").as_deref(), Some("done\n"));
    let joins = node.server.with(|known| known.joins.iter().map(|join| join.key_hash.clone()).collect::<Vec<_>>());
    assert!(joins.len() >= 2 && joins.iter().all(|key| *key == joins[0]), "{}", joins.len());
}
