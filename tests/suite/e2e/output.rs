//! Output: live, complete, linked, and there when its node is not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::site;
use crate::harness::site::SHARE;
use crate::harness::{Server, Site, until};

/// Storage that is on no share: the server keeps what is written there.
const KEPT: &str = "$AZ_BATCHAI_JOB_TEMP";

/// Longest time from the writing of a line until the API has it.
const LIVE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn output_is_seen_within_a_second_while_the_job_runs() {
    let site = site().await;
    site.cluster("c", 2).await;
    let command = "for i in $(seq 20); do echo $EPOCHREALTIME; sleep 0.15; done";
    site.submit("shared", "c", command, json!({})).await;
    site.submit("kept", "c", command, json!({ "stdOutErrPathPrefix": KEPT })).await;
    let (shared, kept) = tokio::join!(follow(&site, "shared"), follow(&site, "kept"));
    for (name, delays) in [("shared", shared), ("kept", kept)] {
        assert_eq!(delays.len(), 20, "{name}: every line arrived");
        let worst = delays.iter().max().expect("not empty");
        assert!(*worst < LIVE, "{name}: a line was seen {worst:?} after it was written; all: {delays:?}");
    }
}

/// Follows a job's standard output as `az batchai job file stream` does, and answers how late each line was.
async fn follow(site: &Site, job: &str) -> Vec<Duration> {
    let link = site.link(job, "stdouterr", "stdout.txt").await;
    let mut text = String::new();
    let mut delays = Vec::new();
    loop {
        let ended = site.get_job(job).await["executionState"] != "running";
        let more = site.download(&link, Some(&format!("bytes={}-", text.len()))).await;
        match more.status {
            206 => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
                let before = text.matches('\n').count();
                text.push_str(&more.text());
                for line in text.lines().skip(before).take(text.matches('\n').count() - before) {
                    let written = Duration::from_secs_f64(line.parse().expect("a time"));
                    delays.push(now.saturating_sub(written));
                }
            }
            416 => {}
            status => panic!("a range was answered {status}: {}", more.text()),
        }
        if ended {
            return delays;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn all_output_is_there_when_the_job_shows_as_ended() {
    let site = site().await;
    site.cluster("c", 2).await;
    for round in 0..6 {
        for (kind, prefix) in [("shared", SHARE), ("kept", KEPT)] {
            let name = format!("{kind}{round}");
            let over = json!({ "stdOutErrPathPrefix": prefix });
            let job = site.run(&name, "c", "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end", over).await;
            assert_eq!(job["executionState"], "succeeded", "{job}");
            let stdout = site.stdout(&name).await;
            assert!(stdout.len() == 300_005 && stdout.ends_with("\nend\n"), "{name}: {} bytes", stdout.len());
        }
    }
}

#[tokio::test]
async fn output_directories_are_laid_out_as_documented() {
    let site = site().await;
    site.cluster("c", 1).await;
    let over = json!({ "outputDirectories": [
        { "id": "SUFFIXED", "pathPrefix": format!("{SHARE}/deep/"), "pathSuffix": "a/b" },
        { "id": "PLAIN", "pathPrefix": SHARE },
        { "id": "KEPT", "pathPrefix": KEPT, "pathSuffix": "files" }] });
    let command = "set -e
        echo one > $AZ_BATCHAI_OUTPUT_SUFFIXED/one.txt
        echo two > $AZ_BATCHAI_OUTPUT_PLAIN/two.txt
        mkdir -p $AZ_BATCHAI_OUTPUT_KEPT/sub/deeper
        echo three > $AZ_BATCHAI_OUTPUT_KEPT/three.txt
        echo four > $AZ_BATCHAI_OUTPUT_KEPT/sub/deeper/four.txt";
    let job = site.run("j", "c", command, over).await;
    assert_eq!(job["executionState"], "succeeded", "{}", site.read("j", "stdouterr", "stderr.txt").await);
    let segment = job["jobOutputDirectoryPathSegment"].as_str().expect("is there");
    let share = Server::shared().share();
    let on_share = |path: &str| std::fs::read_to_string(share.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(on_share(&format!("deep/{segment}/outputs/a/b/one.txt")), "one\n");
    assert_eq!(on_share(&format!("{segment}/outputs/two.txt")), "two\n");
    assert!(on_share(&format!("{segment}/stdouterr/execution.log")).contains('\n'));

    assert_eq!(site.read("j", "SUFFIXED", "one.txt").await, "one\n");
    assert_eq!(site.read("j", "PLAIN", "two.txt").await, "two\n");
    assert_eq!(site.names("j", "KEPT").await, ["sub", "three.txt"]);
    let entries = site.list("j", "KEPT", ".").await;
    assert_eq!(entries[0], json!({ "name": "sub", "fileType": "directory" }));
    assert_eq!(entries[1]["properties"]["contentLength"], 6);
    assert_eq!(site.read("j", "KEPT", "sub/deeper/four.txt").await, "four\n");
    assert!(site.list("j", "KEPT", "absent").await.is_empty());
    let unknown = format!("{}/listOutputFiles?outputdirectoryid=NONE", site.job_path("j"));
    site.api.post(&unknown).await.expect(400);
    let outside = format!("{}/listOutputFiles?outputdirectoryid=KEPT&directory=../..", site.job_path("j"));
    site.api.post(&outside).await.expect(400);
}

#[tokio::test]
async fn kept_output_outlives_its_node() {
    let site = site().await;
    site.cluster("c", 1).await;
    let over = json!({
        "stdOutErrPathPrefix": KEPT,
        "outputDirectories": [{ "id": "MODEL", "pathPrefix": KEPT }] });
    let command =
        "head -c 9000000 /dev/urandom > $AZ_BATCHAI_OUTPUT_MODEL/model.bin; sha256sum < $AZ_BATCHAI_OUTPUT_MODEL/model.bin";
    let job = site.run("j", "c", command, over).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    site.resize("c", 0, "requeue").await;
    site.wait_idle("c", 0).await;
    let stdout = site.stdout("j").await;
    let link = site.find_link("j", "MODEL", "model.bin").await.expect("listed");
    let model = site.download(&link, None).await;
    assert_eq!(model.bytes.len(), 9_000_000);
    let digest: String = Sha256::digest(&model.bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(stdout.split(' ').next(), Some(digest.as_str()));
    let part = site.download(&link, Some("bytes=4194300-4194310")).await;
    assert_eq!(part.status, 206);
    assert_eq!(part.bytes, model.bytes[4_194_300..=4_194_310], "a range across pieces");
}

#[tokio::test]
async fn links_answer_ranges_heads_and_nothing_but_their_file() {
    let site = site().await;
    site.cluster("c", 1).await;
    for (name, prefix) in [("shared", SHARE), ("kept", KEPT)] {
        site.run(name, "c", "printf abc", json!({ "stdOutErrPathPrefix": prefix })).await;
        let link = site.find_link(name, "stdouterr", "stdout.txt").await.expect("listed");
        let whole = site.download(&link, None).await;
        assert_eq!((whole.status, whole.text().as_str()), (200, "abc"));
        assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
        assert!(whole.header("content-disposition").is_some_and(|v| v.starts_with("attachment")), "{:?}", whole.headers);
        for (range, status, text) in
            [("bytes=0-", 206, "abc"), ("bytes=1-1", 206, "b"), ("bytes=-2", 206, "bc"), ("bytes=1-99", 206, "bc")]
        {
            let part = site.download(&link, Some(range)).await;
            assert_eq!((part.status, part.text().as_str()), (status, text), "{name} {range}");
            assert!(part.header("content-range").is_some_and(|v| v.ends_with("/3")), "{name} {range}: {:?}", part.headers);
        }
        for range in ["bytes=3-", "bytes=99-", "bytes=18446744073709551615-"] {
            assert_eq!(site.download(&link, Some(range)).await.status, 416, "{name} {range}");
        }
        let empty = site.find_link(name, "stdouterr", "stderr.txt").await.expect("listed");
        assert_eq!(site.download(&empty, Some("bytes=0-")).await.status, 416, "{name}: a range of an empty file");
        assert_eq!(site.download(&empty, None).await.status, 200);
        let head = site.api.fetch(Method::HEAD, &link, None).await;
        assert_eq!((head.status, head.header("content-length")), (200, Some("3")));
        let post = site.api.fetch(Method::POST, &link, None).await;
        assert!(matches!(post.status, 401 | 403 | 404 | 405), "{name}: a link is for reading: {}", post.status);

        // Each character of the path and of every value in the query, changed: never the file. `sr` and `sp` say what every link
        // says; they are there for clients that look for them.
        let question = link.find('?').expect("a query");
        let start = link.match_indices('/').nth(2).map(|(at, _)| at + 1).expect("a path");
        for at in start..link.len() {
            let old = link.as_bytes()[at];
            let parameter = link[question..=at.max(question)].rsplit(['?', '&']).next().unwrap_or_default();
            let fixed = at > question && (!parameter.contains('=') || ["sr", "sp"].iter().any(|p| parameter.starts_with(p)));
            if fixed || !old.is_ascii_alphanumeric() {
                continue;
            }
            let new = if old == b'1' { '2' } else { '1' };
            let name = link[at..].find('=').is_some_and(|end| at > question && !link[at..at + end].contains('&'));
            if name || !old.is_ascii_alphanumeric() {
                continue;
            }
            let mut tampered = link.clone();
            tampered.replace_range(at..=at, &new.to_string());
            let answer = site.download(&tampered, None).await;
            assert!(
                answer.status >= 400 && answer.status < 500 && !answer.text().contains("abc"),
                "{name}: {tampered} is answered {}: {}",
                answer.status,
                answer.text()
            );
        }
        let accepted = site.api.delete(&site.job_path(name)).await.expect(202);
        site.api.finish(accepted).await;
        let gone = site.download(&link, None).await;
        assert!(matches!(gone.status, 403 | 404), "a link dies with its job: {}", gone.status);
    }
}

#[tokio::test]
async fn links_say_when_they_expire_and_are_bounded() {
    let site = site().await;
    site.cluster("c", 1).await;
    site.run("j", "c", "echo hi", json!({})).await;
    let list = |minutes: &str| {
        let path = format!("{}/listOutputFiles?outputdirectoryid=stdouterr&linkexpiryinminutes={minutes}", site.job_path("j"));
        let api = site.api.clone();
        async move { api.post(&path).await }
    };
    for minutes in ["4", "601", "x"] {
        list(minutes).await.expect(400);
    }
    let short = list("5").await.expect(200);
    let link = short.body["value"][2]["downloadUrl"].as_str().expect("a link").to_owned();
    let expiry = link.split(['?', '&']).find_map(|p| p.strip_prefix("se=")).expect("an expiry").replace("%3A", ":");
    let format = &time::format_description::well_known::Rfc3339;
    let expiry = time::OffsetDateTime::parse(&expiry, format).expect("a time");
    let minutes = (expiry - time::OffsetDateTime::now_utc()).whole_seconds();
    assert!((240..=300).contains(&minutes), "five minutes from now: {minutes} s");
}

#[tokio::test]
async fn a_job_that_writes_very_much_does_not_stop_others() {
    let site = site().await;
    site.cluster("c", 2).await;
    site.submit("loud", "c", "head -c 60000000 /dev/zero | tr '\\0' y", json!({ "stdOutErrPathPrefix": KEPT })).await;
    let quiet = site.run("quiet", "c", "echo hi", json!({ "stdOutErrPathPrefix": KEPT })).await;
    assert_eq!(quiet["executionState"], "succeeded");
    let loud = site.ended("loud").await;
    assert_eq!(loud["executionState"], "succeeded", "{loud}");
    let entries = site.list("loud", "stdouterr", ".").await;
    let stdout = entries.iter().find(|e| e["name"] == "stdout.txt").expect("listed");
    assert_eq!(stdout["properties"]["contentLength"], 60_000_000);
    until("nodes are idle again", || site.get_cluster("c"), |c| c["nodeStateCounts"]["idleNodeCount"] == 2).await;
}
