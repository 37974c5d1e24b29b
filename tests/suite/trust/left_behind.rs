//! What a job leaves behind: nothing of its secrets, however it ended.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{major, minor};
use serde_json::json;

use crate::harness::privileged;
use crate::harness::server::Server;
use crate::harness::site::Site;
use crate::harness::wait::until;

/// File systems that are in memory: what a node has there is in no folder of the server's.
const IN_MEMORY: [&str; 4] = ["tmpfs", "ramfs", "devtmpfs", "hugetlbfs"];

/// Where the view of process `init` has file systems in memory, as this process sees them, but for that of `folder`: where the whole
/// installation is in memory, so is the node's root, from which all of the host's programs would be searched.
fn memory_of(init: u32, folder: &Path) -> Vec<String> {
    let device = std::fs::metadata(folder).expect("there").dev();
    let searched = format!("{}:{}", major(device), minor(device));
    let mounts = std::fs::read_to_string(format!("/proc/{init}/mountinfo")).expect("it runs");
    let place = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(2);
        let (device, place) = (fields.next()?, fields.nth(1)?);
        let is_memory = IN_MEMORY.contains(&after.split(' ').next()?);
        (is_memory && device != searched).then(|| format!("/proc/{init}/root{place}"))
    };
    mounts.lines().filter_map(place).collect()
}

/// Files that hold `text` of those that a node, with `init` as its first process, or the server can have written: all of the installation's
/// folder, in which what nodes keep on disk is, the nodes' memory, and where programs of the host put what passes.
///
/// The host's programs, which nodes see, are not searched: a node's changes of them are in its own folder.
fn holding(server: &Server, init: u32, text: &str) -> Vec<String> {
    let mut places = memory_of(init, server.dir());
    assert!(places.iter().any(|place| place.ends_with("/run")) && places.len() > 1, "{places:?}");
    places.extend([server.dir().display().to_string(), "/dev/shm".into(), "/run".into(), "/var/tmp".into()]);
    let loose =
        std::fs::read_dir("/tmp").expect("there").flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    places.extend(loose.map(|entry| entry.path().display().to_string()));
    let mut search = Command::new("grep");
    // The pattern is no argument: it would be found in the list of arguments of the search itself.
    search.args(["-rlaFs", "--devices=skip", "-f", "/dev/stdin"]).args(places);
    let mut child = search.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().expect("grep runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), text.as_bytes()).expect("writes");
    let out = child.wait_with_output().expect("ends");
    String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
}

/// Processes of the host, but this one, that have `text` in their environment or arguments.
fn processes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("there").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_err() || name == std::process::id().to_string() {
            continue;
        }
        for file in ["environ", "cmdline"] {
            let content = std::fs::read(entry.path().join(file)).unwrap_or_default();
            if content.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(format!("{name}/{file}"));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_job_is_left_on_its_node() {
    if !privileged() {
        return;
    }
    let server = Server::up();
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    let [init] = server.node_processes().try_into().expect("one node");
    // Each of them has it in its environment, in a file of its temporary folder, and tries to leave it in a core.
    let keep = "ulimit -c unlimited 2>/dev/null; echo $SECRET > $AZ_BATCHAI_JOB_TEMP/note; \
                (sh -c 'kill -SEGV $$'); echo begun;";
    for (name, then, wanted) in [
        ("succeeds", "exit 0", "succeeded"),
        ("fails", "exit 4", "failed"),
        ("crashes", "kill -SEGV $$", "failed"),
        ("killed", "trap '' TERM; while :; do sleep 1; done", "failed"),
        ("in-the-background", "(setsid sh -c 'while :; do sleep 1; done' &) ; exit 0", "succeeded"),
    ] {
        let canary = format!("canary-{name}-{}", uuid::Uuid::new_v4().simple());
        let over = json!({
            "secrets": [{ "name": "SECRET", "value": canary }],
            "jobPreparation": { "commandLine": "test -n \"$SECRET\"" },
            "constraints": { "maxWallClockTime": "PT1H" },
        });
        site.submit(name, "c", &format!("{keep} {then}"), over).await;
        if name == "killed" {
            until("it began", || site.find_stdout(name), |out| out.contains("begun")).await;
            let note = holding(&server, init, &canary).into_iter().find(|path| path.ends_with("/note"));
            assert!(note.is_some(), "while it runs its own files have it: the search finds");
            site.api.post(&format!("{}/terminate", site.job_path(name))).await.expect(202);
        }
        let job = site.ended(name).await;
        assert_eq!(job["executionState"], wanted, "{name}: {job}");
        // Its temporary folder goes once the node has nothing else to do.
        let left = || async {
            let files = holding(&server, init, &canary);
            (files, processes(&canary))
        };
        let (files, running) =
            until("nothing of it is left", left, |(files, running)| files.is_empty() && running.is_empty()).await;
        assert!(files.is_empty() && running.is_empty());
        assert!(!server.log().contains(&canary), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_node_is_used_for_another_cluster() {
    if !privileged() {
        return;
    }
    let server = Server::up();
    let site = Site::new(server.api()).await;
    let ids = async |site: &Site| {
        let listed = site.api.post(&format!("{}/listRemoteLoginInformation", site.cluster_path("c"))).await.expect(200);
        listed.body["value"][0]["nodeId"].as_str().expect("an id").to_owned()
    };
    // Root of the node leaves what it can, in what the node has of its own and in what it sees of the host.
    let mut body = Site::cluster_body(1);
    body["properties"]["nodeSetup"] = json!({ "setupTask": {
        "commandLine": "for f in /usr/bin /etc /tmp /var/tmp /opt /mnt /home /root; do echo trap > $f/trap || exit 1; done; \
                        printf '#!/bin/sh\\necho trapped\\n' > /usr/local/bin/seq && chmod 755 /usr/local/bin/seq",
        "stdOutErrPathPrefix": crate::harness::site::SHARE } });
    site.put_cluster("c", &body).await;
    site.wait_idle("c", 1).await;
    let first = ids(&site).await;
    let job = site.run("j", "c", "seq 2", json!({})).await;
    assert_eq!((&job["executionState"], site.stdout("j").await.as_str()), (&json!("succeeded"), "trapped\n"), "it is root there");
    let gone = site.api.delete(&site.cluster_path("c")).await.expect(202);
    site.api.finish(gone).await;
    // Another workspace's cluster of the same name has another node.
    let other = Site::new(server.api()).await;
    other.cluster("c", 1).await;
    assert_ne!(ids(&other).await, first);
    let command = "seq 2; ls /usr/bin/trap /etc/trap /tmp/trap /var/tmp/trap /opt/trap /mnt/trap /home/trap 2>/dev/null";
    let job = other.run("j", "c", command, json!({})).await;
    assert_eq!(other.stdout("j").await, "1\n2\n", "{job}");
    assert!(!std::path::Path::new("/usr/bin/trap").exists() && !std::path::Path::new("/usr/local/bin/seq").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_holds_keys_leaves_a_core() {
    if !privileged() {
        return;
    }
    let mut server = Server::up();
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    let [init] = server.node_processes().try_into().expect("one node");
    let inside = std::fs::read_link(format!("/proc/{init}/ns/pid")).expect("it runs");
    let is_agent = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let same = std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|link| link == inside);
        same && command.split(|byte| *byte == 0).nth(1) == Some(b"agent")
    };
    let all = std::fs::read_dir("/proc").expect("there").flatten();
    let agents: Vec<u32> = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| is_agent(pid)).collect();
    assert_eq!(agents.len(), 1, "{agents:?}");
    for pid in [server.pid(), agents[0]] {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
        let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("is told");
        assert!(core.trim_start().starts_with("0 "), "{pid}: {core}");
    }
    // Not even where someone lifts the limit: its memory is not to be dumped.
    let lifted = Command::new("prlimit").args(["--core=unlimited:unlimited", "--pid", &server.pid().to_string()]).status();
    assert!(lifted.expect("prlimit runs").success());
    let status = server.abort();
    assert_eq!(status.signal(), Some(6), "{status}");
    assert!(!status.core_dumped(), "{status}");
}
