//! Mounts of one job: where they are, who may use them, what becomes of outputs on them, and that they go with the job.

use serde_json::json;

use super::{container, put_cluster, share, shared};
use crate::harness::Site;

const LIST: &str = "$AZ_BATCHAI_JOB_MOUNT_ROOT";

#[tokio::test]
async fn outputs_on_a_jobs_own_mounts_are_listed_and_linked_and_the_mounts_go_with_it() {
    let Some((yard, site)) = shared().await else { return };
    let storage = yard.storage;
    storage.make_container("own").await;
    storage.put_blob("own", "input/x.txt", "from before\n").await;
    put_cluster(&site, 1, json!({ "azureFileShares": [share(storage, "share0", "afs")] })).await;
    site.wait_idle("c", 1).await;
    let over = json!({
        "mountVolumes": {
            "azureFileShares": [share(storage, "share1", "jafs")],
            "azureBlobFileSystems": [container(storage, "own", "deep/jbfs")] },
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/afs/runs",
        "inputDirectories": [{ "id": "IN", "path": format!("{LIST}/deep/jbfs/input") }],
        "outputDirectories": [
            { "id": "FILES", "pathPrefix": format!("{LIST}/jafs") },
            { "id": "BLOBS", "pathPrefix": format!("{LIST}/deep/jbfs"), "pathSuffix": "m" }],
        "jobPreparation": { "commandLine": "echo prep > $AZ_BATCHAI_OUTPUT_BLOBS/prep.txt" } });
    let command = "cat $AZ_BATCHAI_INPUT_IN/x.txt; id -u
        echo a > $AZ_BATCHAI_OUTPUT_FILES/a.txt; mkdir $AZ_BATCHAI_OUTPUT_FILES/sub; echo s > \"$AZ_BATCHAI_OUTPUT_FILES/sub/ö b.txt\"
        echo b > $AZ_BATCHAI_OUTPUT_BLOBS/b.txt; mkdir $AZ_BATCHAI_OUTPUT_BLOBS/sub; echo \"5%\" > \"$AZ_BATCHAI_OUTPUT_BLOBS/sub/ö 5%.txt\"
        : > $AZ_BATCHAI_OUTPUT_BLOBS/empty; head -c 3000000 /dev/zero > $AZ_BATCHAI_OUTPUT_BLOBS/large
        echo second >> $AZ_BATCHAI_OUTPUT_BLOBS/b.txt";
    let job = site.run("j", "c", command, over).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("j").await, "from before\n61000\n");

    // Of a share without REST the server keeps what is there, and links to itself.
    assert_eq!(site.names("j", "FILES").await, ["a.txt", "sub"]);
    assert_eq!(site.read("j", "FILES", "a.txt").await, "a\n");
    assert_eq!(site.read("j", "FILES", "sub/ö b.txt").await, "s\n");
    assert!(site.link("j", "FILES", "a.txt").await.starts_with(yard.server.value("BATCHYARD_ENDPOINT")));
    // Of a container it lists what the storage has, and links there.
    let entries = site.list("j", "BLOBS", ".").await;
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry["name"].as_str().expect("named"), entry["properties"]["contentLength"].as_u64()))
        .collect();
    assert_eq!(told, [("b.txt", Some(9)), ("empty", Some(0)), ("large", Some(3_000_000)), ("prep.txt", Some(5)), ("sub", None)]);
    let link = site.link("j", "BLOBS", "b.txt").await;
    assert!(link.contains("/team/own/") && link.contains("&sr=b&sig=") && !link.contains(&storage.key), "{link}");
    assert_eq!(site.download(&link, None).await.text(), "b\nsecond\n");
    assert_eq!(site.download(&link, Some("bytes=2-")).await.text(), "second\n");
    assert_eq!(site.download(&link.replace("b.txt", "prep.txt"), None).await.status, 403, "a link is for one file");
    assert_eq!(site.read("j", "BLOBS", "sub/ö 5%.txt").await, "5%\n");
    assert!(site.list("j", "BLOBS", "nothing/here").await.is_empty());
    // Pages of one listing hold it all.
    let path = format!("{}/listOutputFiles?outputdirectoryid=BLOBS&maxresults=2", site.job_path("j"));
    let first = site.api.post(&path).await.expect(200);
    assert_eq!(first.body["value"].as_array().map(Vec::len), Some(2));
    let next = first.body["nextLink"].as_str().expect("more");
    assert_eq!(site.api.post(next).await.expect(200).body["value"][0]["name"], "large");

    // As the storage has it, below the documented path.
    let segment = job["jobOutputDirectoryPathSegment"].as_str().expect("told");
    assert_eq!(
        std::fs::read_to_string(storage.share(0).join(format!("runs/{segment}/stdouterr/stdout.txt"))).expect("there"),
        "from before\n61000\n"
    );
    assert_eq!(std::fs::read_to_string(storage.share(1).join(format!("{segment}/outputs/a.txt"))).expect("there"), "a\n");
    assert_eq!(storage.find_blob("own", &format!("{segment}/outputs/m/b.txt")).await.as_deref(), Some("b\nsecond\n"));

    let after = site
        .run("after", "c", "df | grep -c -E 'jafs|jbfs'; ls $AZ_BATCHAI_JOB_MOUNT_ROOT; ls $AZ_BATCHAI_MOUNT_ROOT", json!({}))
        .await;
    assert_eq!(after["executionState"], "succeeded", "{after}");
    assert_eq!(site.stdout("after").await, "0\nafs\nshared\n");
    assert!(storage.share(1).join(format!("{segment}/outputs/a.txt")).exists(), "what is on storage stays");
}

#[tokio::test]
async fn what_a_job_writes_is_seen_while_it_runs() {
    let Some((yard, site)) = shared().await else { return };
    site.cluster("c", 1).await;
    let over = json!({
        "mountVolumes": { "azureFileShares": [share(yard.storage, "share2", "afs")] },
        "stdOutErrPathPrefix": format!("{LIST}/afs") });
    let wait = "until [ -e $AZ_BATCHAI_MOUNT_ROOT/shared/go-$AZ_BATCHAI_CLUSTER_NAME-seen ]; do sleep 0.1; done";
    site.submit("j", "c", &format!("echo begun; {wait}; echo done"), over).await;
    crate::harness::until("what it wrote so far", || site.find_stdout("j"), |text| text == "begun\n").await;
    assert_eq!(site.get_job("j").await["executionState"], "running");
    std::fs::write(yard.server.share().join("go-c-seen"), "").expect("written");
    assert_eq!(site.ended("j").await["executionState"], "succeeded");
    assert_eq!(site.stdout("j").await, "begun\ndone\n");
}

#[tokio::test]
async fn a_gang_writes_to_one_mount_and_jobs_find_no_secret_of_it() {
    let Some((yard, site)) = shared().await else { return };
    yard.storage.make_container("gang").await;
    let mounts = json!({ "azureBlobFileSystems": [container(yard.storage, "gang", "bfs")] });
    put_cluster(&site, 2, mounts).await;
    site.wait_idle("c", 2).await;
    let over = json!({
        "nodeCount": 2,
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/bfs",
        "outputDirectories": [{ "id": "O", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/bfs" }],
        "jobPreparation": { "commandLine": "echo prep > $AZ_BATCHAI_OUTPUT_O/$AZ_BATCH_NODE_ID" } });
    let job = site.run("j", "c", "echo main", over).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.names("j", "O").await.len(), 2);
    let names = site.names("j", "stdouterr").await;
    assert_eq!(names.iter().filter(|name| name.starts_with("execution-")).count(), 2, "{names:?}");
    assert_eq!(site.stdout("j").await, "main\n");
    assert_job_user_finds_no_secret(&site, &yard.storage.key).await;
}

/// Searches all that a job may look into for the account's key and for what opens the container.
async fn assert_job_user_finds_no_secret(site: &Site, key: &str) {
    // In halves, and to grep as a file, so that the job's own command lines are no find. Whoever is hung up on while it still asks has
    // heard nothing too.
    let (head, tail) = key.split_at(20);
    let command = format!(
        "k={head}; k=${{k}}{}; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c -f <(printf '%s\\n' \"$k\" 's[i]g=') ; \
         grep -rls -e \"$k\" -e 'sas_url' /run /var/lib /tmp /etc/batchyard 2>/dev/null | wc -l; ls /run/batchyard /var/lib/batchyard 2>&1 | wc -l; \
         (echo 127.0.0.1:1 | timeout 1 nc -U /run/batchyard/gate) 2>/dev/null; \
         for p in $(awk 'NR>1 && $4==\"0A\" && $2 ~ /^0100007F/ {{ split($2, a, \":\"); print a[2] }}' /proc/net/tcp); do \
           timeout 2 bash -c \"exec 3<>/dev/tcp/127.0.0.1/$((16#$p)) && (printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3) 2>/dev/null | wc -c\"; done",
        &tail[..8]
    );
    let job = site.run("spy", "c", &command, json!({})).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    let text = site.stdout("spy").await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.get(..2), Some(["0", "0"].as_slice()), "{text}");
    assert!(lines.len() >= 4, "the way to storage listens: {text}");
    assert!(lines[3..].iter().all(|count| *count == "0"), "nobody answers a job there: {text}");
}
