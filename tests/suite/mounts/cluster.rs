//! Mounts of a cluster's nodes: there before the setup task and for every job, under the documented variable, with their modes.

use serde_json::json;

use super::{container, put_cluster, share, shared};
use crate::harness::site::SHARE;
use crate::harness::{Site, until};

#[tokio::test]
async fn a_clusters_mounts_are_there_for_setup_task_and_jobs_with_their_modes_and_options() {
    let Some((yard, site)) = shared().await else { return };
    let storage = yard.storage;
    storage.make_container("cluster").await;
    storage.put_blob("cluster", "data/x.txt", "x\n").await;
    std::fs::create_dir_all(storage.share(3).join("part/of")).expect("made");
    std::fs::write(storage.share(3).join("part/of/note"), "below\n").expect("written");
    let mut private = share(storage, "share3", "afs");
    private["fileMode"] = json!("0640");
    private["directoryMode"] = json!("0750");
    let mut part = share(storage, "share3/part/of", "nested/part");
    part["azureFileUrl"] = json!("https://team.file.core.windows.net/share3/part/of");
    let mut read_only = container(storage, "cluster", "bfs");
    read_only["mountOptions"] = json!("--use-https=true -o ro -o attr_timeout=240 -o fsname=blobfuse");
    let mut body = Site::cluster_body(1);
    body["properties"]["nodeSetup"] = json!({
        "mountVolumes": { "azureFileShares": [private, part], "azureBlobFileSystems": [read_only] },
        "setupTask": {
            "commandLine": "cat $AZ_BATCHAI_MOUNT_ROOT/nested/part/note $AZ_BATCHAI_MOUNT_ROOT/bfs/data/x.txt",
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/afs/setup" } });
    site.put_cluster("c", &body).await;
    site.wait_idle("c", 1).await;
    let cluster = site.api.get(&site.cluster_path("c")).await.expect(200);
    assert!(!cluster.text.contains(&storage.key), "{}", cluster.text);
    let suffix = cluster.body["properties"]["nodeSetup"]["setupTask"]["stdOutErrPathSuffix"].as_str().expect("told").to_owned();
    let logs = storage.share(3).join("setup").join(suffix);
    let stdout = until(
        "the setup task's output",
        || async {
            let entries = std::fs::read_dir(&logs).ok()?;
            let file = entries.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with("stdout-"))?;
            std::fs::read_to_string(file.path()).ok().filter(|text| !text.is_empty())
        },
        Option::is_some,
    )
    .await;
    assert_eq!(stdout.as_deref(), Some("below\nx\n"));

    let command = "cd $AZ_BATCHAI_MOUNT_ROOT; echo new > afs/new; mkdir afs/folder; stat -c '%a %u' afs/new afs/folder; cat bfs/data/x.txt; \
                   (echo no > bfs/no) 2>/dev/null || echo read-only; grep ' '$PWD/afs' ' /proc/mounts | grep -o -E 'nosuid|nodev' | sort; \
                   cp /bin/sh afs/sh; chmod u+s afs/sh 2>/dev/null; echo shared";
    let job = site.run("j", "c", command, json!({})).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("j").await, "640 61000\n750 61000\nx\nread-only\nnodev\nnosuid\nshared\n");
}

#[tokio::test]
async fn a_mount_named_as_the_servers_share_is_there_in_its_place() {
    let Some((yard, site)) = shared().await else { return };
    std::fs::write(yard.storage.share(4).join("mine"), "mine\n").expect("written");
    put_cluster(&site, 1, json!({ "azureFileShares": [share(yard.storage, "share4", "shared")] })).await;
    site.wait_idle("c", 1).await;
    let job = site.run("j", "c", "cat $AZ_BATCHAI_MOUNT_ROOT/shared/mine; ls $AZ_BATCHAI_MOUNT_ROOT/shared", json!({})).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    let segment = job["jobOutputDirectoryPathSegment"].as_str().expect("told");
    let first = segment.split('/').next().expect("a segment");
    let text = site.stdout("j").await;
    assert!(text.contains("mine\n") && text.contains(first), "{text}");
    assert!(yard.storage.share(4).join(segment).join("stdouterr/stdout.txt").exists(), "its outputs are on the mount");
    assert!(!yard.server.share().join(segment).exists(), "and not on the server's share");

    // Within the share of all there is no place for one.
    let other = Site::new(yard.server.api()).await;
    put_cluster(&other, 1, json!({ "azureFileShares": [share(yard.storage, "share4", "shared/x")] })).await;
    let errors = super::failing::unusable(&other).await;
    assert_eq!(errors[0]["code"], "MountPathError", "{errors}");
    assert!(errors[0]["message"].as_str().is_some_and(|text| text.contains("'shared/x' is within 'shared'")), "{errors}");
}

#[tokio::test]
async fn an_unmanaged_file_system_is_mounted_by_the_users_command() {
    let Some((_, site)) = shared().await else { return };
    let mounts = json!({ "unmanagedFileSystems": [
        { "mountCommand": "mount -t tmpfs -o size=4m,mode=1777 none", "relativeMountPath": "scratch" }] });
    put_cluster(&site, 1, mounts).await;
    site.wait_idle("c", 1).await;
    let over = json!({
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/scratch",
        "outputDirectories": [{ "id": "O", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/scratch" }] });
    let command =
        "grep -c ' tmpfs rw,nosuid,nodev' /proc/mounts > /dev/null && echo disarmed; echo kept > $AZ_BATCHAI_OUTPUT_O/f";
    let job = site.run("j", "c", command, over).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("j").await, "disarmed\n");
    assert_eq!(site.read("j", "O", "f").await, "kept\n");
    // It stays for the next job.
    let next = site
        .run("next", "c", "find $AZ_BATCHAI_MOUNT_ROOT/scratch -name f | wc -l", json!({ "stdOutErrPathPrefix": SHARE }))
        .await;
    assert_eq!(next["executionState"], "succeeded", "{next}");
    assert_eq!(site.stdout("next").await, "1\n");
}

#[tokio::test]
async fn keys_of_accounts_may_be_in_a_key_vault() {
    if !super::may_mount() {
        return;
    }
    let yard = super::Yard::start();
    let (storage, key) = (yard.storage, yard.storage.key.clone());
    let (server, reference) = yard.server.with_vault(&[("account", &key)]);
    let site = Site::new(server.api()).await;
    storage.make_container("vaulted").await;
    let vaulted = |mut mount: serde_json::Value| {
        mount["credentials"] = json!({ "accountKeySecretReference": reference("account") });
        mount
    };
    put_cluster(&site, 1, json!({ "azureFileShares": [vaulted(share(storage, "share10", "afs"))] })).await;
    site.wait_idle("c", 1).await;
    let over = json!({
        "mountVolumes": { "azureBlobFileSystems": [vaulted(container(storage, "vaulted", "bfs"))] },
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/afs",
        "outputDirectories": [{ "id": "O", "pathPrefix": "$AZ_BATCHAI_JOB_MOUNT_ROOT/bfs" }] });
    let job = site.run("j", "c", "echo out; echo model > $AZ_BATCHAI_OUTPUT_O/m", over).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("j").await, "out\n");
    // What is listed and linked is, by the same key.
    let link = site.link("j", "O", "m").await;
    assert!(link.contains("/team/vaulted/") && link.contains("&sig="), "{link}");
    assert_eq!(site.download(&link, None).await.text(), "model\n");
    assert!(!server.log().contains(&key) && !job.to_string().contains(&key));
}
