//! Kills of agents, keepers and the programs that serve mounts.

use serde_json::json;

use super::{Yard, container, may_mount, put_cluster, share};
use crate::harness::{Site, descends, until};

/// Processes of the yard's nodes whose arguments hold all `words`, by number, and how many mounts their view has below the mount root.
fn processes(words: &[&str], below: &[u32]) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("readable").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command: Vec<_> = command.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        if words.iter().all(|word| command.iter().any(|part| part == word)) && descends(pid, below) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

/// FUSE mounts in the view of a node.
fn mounts_of(node: u32) -> Vec<String> {
    let table = std::fs::read_to_string(format!("/proc/{node}/mountinfo")).unwrap_or_default();
    let fuse = table.lines().filter(|line| line.contains(" - fuse.rclone "));
    fuse.filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}

#[tokio::test]
async fn mounts_outlive_the_agent_and_what_is_left_dead_is_taken_away_and_made_again() {
    if !may_mount() {
        return;
    }
    let yard = Yard::start();
    let site = Site::new(yard.server.api()).await;
    yard.storage.make_container("kills").await;
    put_cluster(&site, 1, json!({ "azureFileShares": [share(yard.storage, "share6", "afs")] })).await;
    site.wait_idle("c", 1).await;
    let nodes = yard.server.node_processes();
    let [node] = nodes.as_slice() else { panic!("one node: {nodes:?}") };
    assert_eq!(mounts_of(*node).len(), 1);

    // A job goes on, and its mounts with it, while its agent is killed; they go when it ends.
    let over = json!({
        "mountVolumes": { "azureBlobFileSystems": [container(yard.storage, "kills", "bfs")] },
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/afs",
        "outputDirectories": [{ "id": "O", "pathPrefix": "$AZ_BATCHAI_JOB_MOUNT_ROOT/bfs" }] });
    let command = "touch $AZ_BATCHAI_MOUNT_ROOT/shared/begun; until [ -e $AZ_BATCHAI_MOUNT_ROOT/shared/go ]; do sleep 0.05; done; \
                   echo late > $AZ_BATCHAI_OUTPUT_O/late.txt; echo end";
    std::fs::create_dir_all(yard.server.share()).expect("made");
    site.submit("j", "c", command, over).await;
    until("the job has begun", || async { yard.server.share().join("begun").exists() }, |begun| *begun).await;
    assert_eq!(mounts_of(*node).len(), 2);
    let keepers = processes(&["keep-mount"], &nodes);
    let agents = processes(&["agent"], &nodes);
    assert_eq!((keepers.len(), agents.len()), (2, 1));
    yard.server.kill_process(agents[0]);
    until("another agent", || async { processes(&["agent"], &nodes) }, |now| now.len() == 1 && *now != agents).await;
    std::fs::write(yard.server.share().join("go"), "").expect("written");
    let job = site.ended("j").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(processes(&["keep-mount"], &nodes).len(), 1, "the keeper of the job's mount is gone");
    assert_eq!(mounts_of(*node).len(), 1, "the job's mount is gone");
    assert_eq!(site.read("j", "O", "late.txt").await, "late\n");
    assert_eq!(site.stdout("j").await, "end\n");

    // All that could take it away is killed at once: the mount is dead, and the next agent makes it anew.
    let before = processes(&["agent"], &nodes);
    let keepers = processes(&["keep-mount"], &nodes);
    for pid in before.iter().chain(&keepers) {
        yard.server.kill_process(*pid);
    }
    until("another keeper", || async { processes(&["keep-mount"], &nodes) }, |now| now.len() == 1 && *now != keepers).await;
    let job = site
        .run("after", "c", "echo again > $AZ_BATCHAI_MOUNT_ROOT/afs/again; cat $AZ_BATCHAI_MOUNT_ROOT/afs/again", json!({}))
        .await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("after").await, "again\n");
    assert_eq!(mounts_of(*node).len(), 1, "no dead mount is below it");

    // The program that serves it is killed alone: it is made again without an agent's restart.
    let programs = processes(&["rclone", "mount"], &nodes);
    assert_eq!(programs.len(), 1);
    yard.server.kill_process(programs[0]);
    until("another program", || async { processes(&["rclone", "mount"], &nodes) }, |now| now.len() == 1 && *now != programs)
        .await;
    let job = site.run("third", "c", "cat $AZ_BATCHAI_MOUNT_ROOT/afs/again", json!({})).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");

    // Nothing is left with the node.
    site.resize("c", 0, "requeue").await;
    site.wait_idle("c", 0).await;
    assert!(processes(&["rclone"], &nodes).is_empty() && processes(&["keep-mount"], &nodes).is_empty());
}

#[tokio::test]
async fn a_second_attempt_mounts_anew_what_the_first_left_mounted_and_its_output_is_its_own() {
    if !may_mount() {
        return;
    }
    let yard = Yard::start();
    let site = Site::new(yard.server.api()).await;
    yard.storage.make_container("again").await;
    put_cluster(&site, 1, json!({ "azureFileShares": [share(yard.storage, "share7", "afs")] })).await;
    site.wait_idle("c", 1).await;
    let nodes = yard.server.node_processes();
    let [node] = nodes.as_slice() else { panic!("one node: {nodes:?}") };
    let over = json!({
        "mountVolumes": { "azureBlobFileSystems": [container(yard.storage, "again", "bfs")] },
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/afs",
        "outputDirectories": [{ "id": "O", "pathPrefix": "$AZ_BATCHAI_JOB_MOUNT_ROOT/bfs" }] });
    let command = "t=$AZ_BATCHAI_MOUNT_ROOT/shared/tries; echo x >> $t; n=$(wc -l < $t); echo attempt $n; \
                   echo $n > $AZ_BATCHAI_OUTPUT_O/of-$n; [ $n = 1 ] || exit 0; touch $AZ_BATCHAI_MOUNT_ROOT/shared/held; sleep 600";
    std::fs::create_dir_all(yard.server.share()).expect("made");
    site.submit("j", "c", command, over).await;
    until("the first attempt has written", || async { yard.server.share().join("held").exists() }, |held| *held).await;
    assert_eq!(mounts_of(*node).len(), 2);
    let first = processes(&["keep-mount"], &nodes);
    // The agent and what runs the job die at once: nobody is left who knows that the mount is to go, but what the agent wrote down.
    let dying = [processes(&["agent"], &nodes), processes(&["supervise"], &nodes)].concat();
    assert_eq!(dying.len(), 2, "{dying:?}");
    for pid in dying {
        yard.server.kill_process(pid);
    }
    let job = site.ended("j").await;
    assert_eq!(job["executionState"], "succeeded", "that is no fault of the job: {job}");
    assert_eq!(site.stdout("j").await, "attempt 2\n");
    assert_eq!(site.names("j", "O").await.into_iter().filter(|name| name.starts_with("of-")).collect::<Vec<_>>(), ["of-2"]);
    let after = until("the job's mount is gone", || async { processes(&["keep-mount"], &nodes) }, |now| now.len() == 1).await;
    assert!(first.contains(&after[0]), "the node's own stayed: {first:?}, {after:?}");
    assert_eq!(mounts_of(*node).len(), 1);
}
