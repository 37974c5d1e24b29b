//! Mounts of the cluster and of the job, seen in a container.

use serde_json::json;

use super::registry::Registry;
use super::{able, image};
use crate::mounts::{container, put_cluster, share, shared};

#[tokio::test]
async fn mounts_of_cluster_and_job_are_in_the_container_at_their_places_and_outputs_on_them_are_listed() {
    if !able() {
        return;
    }
    let Some((yard, site)) = shared().await else { return };
    let storage = yard.storage;
    storage.make_container("contained").await;
    storage.put_blob("contained", "input/x.txt", "from before\n").await;
    put_cluster(&site, 1, json!({ "azureFileShares": [share(storage, "share8", "afs")] })).await;
    site.wait_idle("c", 1).await;
    let [node] = super::Node::find_all(&yard.server, &site, 1).await.try_into().unwrap_or_else(|_| panic!("one node"));
    let _registry = Registry::start(node.pid);
    let over = json!({
        "containerSettings": { "imageSourceRegistry": { "image": image::PUBLIC } },
        "mountVolumes": {
            "azureFileShares": [share(storage, "share9", "jafs")],
            "azureBlobFileSystems": [container(storage, "contained", "deep/jbfs")] },
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/afs/runs",
        "inputDirectories": [{ "id": "IN", "path": "$AZ_BATCHAI_JOB_MOUNT_ROOT/deep/jbfs/input" }],
        "outputDirectories": [
            { "id": "FILES", "pathPrefix": "$AZ_BATCHAI_JOB_MOUNT_ROOT/jafs" },
            { "id": "BLOBS", "pathPrefix": "$AZ_BATCHAI_JOB_MOUNT_ROOT/deep/jbfs", "pathSuffix": "m" }],
        "jobPreparation": { "commandLine": "echo prep > $AZ_BATCHAI_OUTPUT_BLOBS/prep.txt" } });
    let command = "cat $AZ_BATCHAI_INPUT_IN/x.txt; echo $OF_THE_IMAGE; ls $AZ_BATCHAI_MOUNT_ROOT $AZ_BATCHAI_JOB_MOUNT_ROOT | tr '\\n' ' '; echo
        echo a > $AZ_BATCHAI_OUTPUT_FILES/a.txt; echo b > $AZ_BATCHAI_OUTPUT_BLOBS/b.txt; echo c > $AZ_BATCHAI_MOUNT_ROOT/afs/c.txt";
    let job = site.run("j", "c", command, over).await;
    let log = site.read("j", "stdouterr", "execution.log").await;
    assert_eq!(job["executionState"], "succeeded", "{job}\n{log}");
    let stdout = site.stdout("j").await;
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[..2], ["from before", "yes"], "{stdout}");
    for place in ["afs", "shared", "jafs", "deep"] {
        assert!(lines[2].split(' ').any(|word| word == place), "{place} is missing: {stdout}");
    }
    assert_eq!(site.read("j", "FILES", "a.txt").await, "a\n");
    assert_eq!(site.names("j", "BLOBS").await, ["b.txt", "prep.txt"]);
    assert_eq!(site.read("j", "BLOBS", "b.txt").await, "b\n");
    let segment = job["jobOutputDirectoryPathSegment"].as_str().expect("told");
    assert_eq!(std::fs::read_to_string(storage.share(8).join("c.txt")).expect("there"), "c\n");
    assert!(storage.share(8).join(format!("runs/{segment}/stdouterr/stdout.txt")).exists());
    assert_eq!(storage.find_blob("contained", &format!("{segment}/outputs/m/prep.txt")).await.as_deref(), Some("prep\n"));
    // They go with the job, and the next container does not see them.
    let over = json!({ "containerSettings": { "imageSourceRegistry": { "image": image::PUBLIC } } });
    let after = site.run("after", "c", "ls $AZ_BATCHAI_JOB_MOUNT_ROOT; cat $AZ_BATCHAI_MOUNT_ROOT/afs/c.txt", over).await;
    assert_eq!(after["executionState"], "succeeded", "{after}");
    assert_eq!(site.stdout("after").await, "c\n");
}
