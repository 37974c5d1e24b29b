//! The disk under Postgres, or under the archive, is full, and is not any more.

use std::fs;
use std::sync::Arc;

use reqwest::Method;
use rustix::mount::{MountFlags, mount, mount_remount};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Marks, RECOVERY, all_ended};
use crate::harness::database::Database;
use crate::harness::guard::Guard;
use crate::harness::{Server, Settings, Site, privileged, until, until_within};

/// Room for Postgres. Unit: MiB. A new one with its log and this project's tables takes half.
const ROOM: u32 = 160;

/// What is left of it for jobs. Unit: bytes.
const LEFT: u64 = 4 << 20;

/// A job whose row is large, so that the disk is full soon: what it asks for is not compressed away.
fn large(site: &Site, name: &str) -> Value {
    let mut body = site.job_body("c", &Marks::command(name, "true"));
    let words: String = (0..1_500).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
    body["properties"]["environmentVariables"] = json!([{ "name": "LARGE", "value": words }]);
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_postgres_loses_nothing_that_was_acknowledged() {
    if !privileged() {
        return;
    }
    let guard = Arc::new(Guard::new());
    let database = Database::start_in_room(Arc::clone(&guard), ROOM);
    let settings = Settings { database: Some(database.url()), ..Settings::default() };
    let server = Server::start_in(guard, "1", settings);
    let site = Site::new(server.api()).await;
    let marks = Marks::new(&server);
    site.cluster("c", 1).await;
    // It runs all the while, and ends while the disk is full.
    site.submit("long", "c", &Marks::command("long", &format!("{}; exit 3", Marks::until_told("go"))), json!({})).await;
    marks.wait_started(1).await;

    let filler = database.folder().join("filler");
    let taken = fs::File::create(&filler).and_then(|mut file| std::io::copy(&mut std::io::repeat(7), &mut file));
    assert_eq!(taken.expect_err("no room is left").kind(), std::io::ErrorKind::StorageFull);
    // The last of the room is taken by what is promised.
    let file = fs::File::options().write(true).open(&filler).expect("opens");
    file.set_len(file.metadata().expect("is there").len() - LEFT).expect("shrinks");
    // As long as it is open, its room is not given back.
    drop(file);
    let mut promised = Vec::new();
    let refused = loop {
        let name = format!("j{}", promised.len());
        let answer = site.api.try_send(Method::PUT, &site.job_path(&name), Some(&large(&site, &name))).await;
        let answer = answer.expect("the server itself does not go away");
        if !answer.status.is_success() {
            break answer;
        }
        promised.push(name);
        assert!(promised.len() < 2_000, "there is no end to what fits");
    };
    assert!(!promised.is_empty(), "there was room");
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "ServiceUnavailable"), "{}", refused.text);
    assert!(refused.header("retry-after").is_some());
    marks.tell("go");

    fs::remove_file(&filler).expect("removed");
    let late = large(&site, "late");
    let put = || async {
        // It may have ended itself when its log had no room.
        database.ensure_started();
        site.api.put(&site.job_path("late"), &late).await
    };
    until_within(RECOVERY, "jobs are accepted again", put, |answer| answer.status.is_success()).await;
    promised.push("late".into());
    let jobs = all_ended(&site).await;
    for name in &promised {
        let job = jobs.get(name).unwrap_or_else(|| panic!("{name} was acknowledged and is lost"));
        assert_eq!(job["executionState"], "succeeded", "{name}: {job}");
    }
    assert_eq!(jobs["long"]["executionInfo"]["exitCode"], 3, "{}", jobs["long"]);
    for (name, starts) in marks.starts() {
        assert_eq!(starts, 1, "{name} ran once");
    }
    println!("{} jobs were accepted until the disk was full", promised.len() - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_archive_holds_up_a_job_until_all_of_its_output_is_kept() {
    if !privileged() {
        return;
    }
    let guard = Arc::new(Guard::new());
    let archive = guard.dir().join("archive");
    fs::create_dir(&archive).expect("made");
    mount("tmpfs", &archive, "tmpfs", MountFlags::empty(), Some(c"size=3m")).expect("mounted");
    let settings = Settings { config: format!("[archive]\nurl = {archive:?}\n"), ..Settings::default() };
    let server = Server::start_in(guard, "1", settings);
    let site = Site::new(server.api()).await;
    let marks = Marks::new(&server);
    site.cluster("c", 2).await;

    let kept = "$AZ_BATCHAI_JOB_TEMP";
    let over = json!({ "outputDirectories": [{ "id": "OUT", "pathPrefix": kept }] });
    let command = "cd $AZ_BATCHAI_OUTPUT_OUT; head -c 12000000 /dev/urandom > large; sha256sum < large; \
                   echo start >> $AZ_BATCHAI_MOUNT_ROOT/shared/marks/large";
    site.submit("large", "c", command, over).await;
    marks.wait_started(1).await;
    let room = || async { rustix::fs::statvfs(&archive).expect("is there").f_bavail };
    until("the archive is nearly full", room, |blocks| blocks * 4_096 < 1_200_000).await;

    // Others go on, and so does the server.
    let small = site.run("small", "c", &Marks::command("small", "echo fits"), json!({})).await;
    assert_eq!(small["executionState"], "succeeded", "{small}");
    let large = site.api.get(&site.job_path("large")).await.expect(200).body;
    assert_eq!(large["properties"]["executionState"], "running", "its output is not kept yet: {large}");

    mount_remount(&archive, MountFlags::empty(), c"size=64m").expect("grows");
    let jobs = all_ended(&site).await;
    assert_eq!(jobs["large"]["executionState"], "succeeded", "{}", jobs["large"]);
    let link = site.find_link("large", "OUT", "large").await.expect("listed");
    let digest: String = Sha256::digest(site.download(&link, None).await.bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(site.stdout("large").await.split(' ').next(), Some(digest.as_str()));
    assert_eq!(marks.starts(), [("large".to_owned(), 1), ("small".to_owned(), 1)].into(), "each ran once");
}
