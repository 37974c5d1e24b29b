//! A host is lost, and the installation comes back on another from its backup.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use super::Marks;
use crate::harness::api::Api;
use crate::harness::database::Database;
use crate::harness::guard::Guard;
use crate::harness::{Server, Settings, Site};

/// More than what the database keeps of a file, so that it is in the archive.
const LARGE: usize = 3_000_000;

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(done.success(), "{} is copied", from.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_comes_back_from_its_backup() {
    let backup = Guard::new();
    let dump = backup.dir().join("database");
    let (old, site) = {
        let guard = Arc::new(Guard::new());
        let database = Database::start_new(Arc::clone(&guard));
        let settings = Settings { database: Some(database.url()), ..Settings::default() };
        let server = Server::start_in(guard, "1", settings);
        let site = Site::new(server.api()).await;
        let marks = Marks::new(&server);
        site.cluster("c", 1).await;
        // On no storage that is mounted, so that the server keeps it.
        let over = json!({ "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT" });
        let job = site.run("done", "c", &format!("head -c {LARGE} /dev/zero; echo at the end"), over).await;
        assert_eq!(job["executionState"], "succeeded", "{job}");
        site.submit("runs", "c", &Marks::command("runs", &Marks::until_told("restored")), json!({})).await;
        marks.wait_started(1).await;
        site.submit("waits", "c", "echo waited", json!({})).await;
        let link = site.link("done", "stdouterr", "stdout.txt").await;

        // As the page for operators says: the database first, so that the archive has all that it names.
        database.dump(&dump);
        copy(&server.dir().join("data/keys"), backup.dir());
        copy(&server.dir().join("data/archive"), backup.dir());
        let kept = std::fs::read_dir(backup.dir().join("archive")).expect("copied").count();
        assert!(kept > 0, "the large file is in the archive");
        let value = |name: &str| server.value(name).to_owned();
        let names = ["BATCHYARD_ENDPOINT", "BATCHYARD_SUBSCRIPTION", "BATCHYARD_CLIENT_SECRET", "BATCHYARD_TOKEN"];
        ((names.map(value), link), site)
    };

    // Nothing of that host is left.
    let ([endpoint, subscription, secret, token], link) = old;
    let guard = Arc::new(Guard::new());
    let database = Database::start_new(Arc::clone(&guard));
    database.load(&dump);
    std::fs::DirBuilder::new().mode(0o700).create(guard.dir().join("data")).expect("made");
    for name in ["keys", "archive"] {
        copy(&backup.dir().join(name), &guard.dir().join("data"));
    }
    let settings = Settings { database: Some(database.url()), ..Settings::default() };
    let server = Server::start_in(guard, "1", settings);

    // Who could sign in can, and what they were given still opens.
    assert_eq!(server.value("BATCHYARD_CLIENT_SECRET"), secret);
    assert_eq!(server.value("BATCHYARD_SUBSCRIPTION"), subscription);
    let site = Site { api: Api::new(server.value("BATCHYARD_ENDPOINT"), &subscription, &token), ..site };
    let link = link.replace(&endpoint, server.value("BATCHYARD_ENDPOINT"));
    let kept = site.download(&link, None).await;
    assert_eq!(kept.status, 200);
    assert!(kept.bytes.len() > LARGE && kept.bytes.ends_with(b"at the end\n"), "{} bytes", kept.bytes.len());
    assert_eq!(site.get_job("done").await["executionState"], "succeeded");

    // What ran there surely does not run any more: it goes to a node of this host, which is another than the one that is told of.
    let marks = Marks::new(&server);
    marks.wait_started(1).await;
    marks.tell("restored");
    assert_eq!(site.ended("runs").await["executionState"], "succeeded");
    assert_eq!(site.ended("waits").await["executionState"], "succeeded");
    assert_eq!(site.stdout("waits").await, "waited\n");
    site.delete().await;
}
