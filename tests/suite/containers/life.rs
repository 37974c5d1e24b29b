//! What a job sees in its container, and what an image costs and needs to be had.

use serde_json::{Value, json};

use super::{Ground, error, image, registry};
use crate::harness::Server;
use crate::harness::site::SHARE;

#[tokio::test]
async fn a_job_and_its_preparation_run_in_one_container_as_on_a_node() {
    let Some(ground) = Ground::new(Server::shared()).await else { return };
    let over = json!({
        "containerSettings": { "imageSourceRegistry": { "image": image::PUBLIC }, "shmSize": "48m" },
        "jobPreparation": { "commandLine": "echo from the preparation > /left; echo $COLOUR $TOKEN; echo prepared >&2" },
        "outputDirectories": [{ "id": "OUT", "pathPrefix": SHARE, "pathSuffix": "files" }],
        "environmentVariables": [{ "name": "COLOUR", "value": "it's $blue" }],
        "secrets": [{ "name": "TOKEN", "value": "canary-of-a-container" }] });
    let command = r#"cat /left; echo "COLOUR=$COLOUR TOKEN=$TOKEN IMAGE=$OF_THE_IMAGE HOME=$HOME"; echo "PWD=$PWD TEMP=$AZ_BATCHAI_JOB_TEMP"
        echo "ID=$(id -u):$(id -g) SHM=$(df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2)"
        echo "HOST=$(hostname) NODE=$AZ_BATCH_NODE_ID"; grep -c "$(hostname)" /etc/hosts
        echo a model > $AZ_BATCHAI_OUTPUT_OUT/model; echo for others > $AZ_BATCHAI_MOUNT_ROOT/shared/seen-$AZ_BATCH_NODE_ID
        echo "to stderr" >&2; printf 'no newline at the end'"#;
    let job = ground.run("j", command, over).await;
    ground.assert_succeeded("j", &job).await;
    assert_eq!(job["executionInfo"]["exitCode"], 0);
    let stdout = ground.site.stdout("j").await;
    let lines: Vec<&str> = stdout.lines().collect();
    let [left, variables, place, who, host, known, last] = lines.as_slice() else { panic!("{stdout}") };
    assert_eq!(*left, "from the preparation", "it is the same container");
    assert_eq!(*variables, "COLOUR=it's $blue TOKEN=canary-of-a-container IMAGE=yes HOME=/root");
    let (directory, temp) = place.split_once(" TEMP=").expect("both");
    assert_eq!(directory.strip_prefix("PWD="), Some(temp), "it runs in its temporary folder");
    assert!(temp.ends_with("/shared/LS_root/jobs/w/e/j"), "{temp}");
    assert_eq!(*who, "ID=0:0 SHM=49152");
    let (name, node) = host.strip_prefix("HOST=").and_then(|host| host.split_once(" NODE=")).expect("both");
    assert_eq!(name, node.replace('_', "-"), "it has the node's name");
    assert_ne!(*known, "0", "and knows its address");
    assert_eq!(*last, "no newline at the end");
    assert_eq!(ground.site.read("j", "stdouterr", "stderr.txt").await, "to stderr\n");
    assert_eq!(ground.site.read("j", "stdouterr", "stdout-job_prep.txt").await, "it's $blue canary-of-a-container\n");
    assert_eq!(ground.site.read("j", "stdouterr", "stderr-job_prep.txt").await, "prepared\n");
    assert_eq!(ground.site.read("j", "OUT", "model").await, "a model\n");
    let seen = Server::shared().share().join(format!("seen-{node}"));
    assert_eq!(std::fs::read_to_string(seen).expect("written"), "for others\n");
    let log = ground.site.read("j", "stdouterr", "execution.log").await;
    for told in [&format!("pulling the image {}", image::PUBLIC), "the container runs", "the container is removed"] {
        assert!(log.contains(told), "'{told}' in: {log}");
    }
    ground.site.wait_idle("c", 1).await;
    assert_eq!(ground.node.containers(), [""; 0], "nothing of it is left");
}

#[tokio::test]
async fn ends_are_the_commands_own() {
    let Some(ground) = Ground::new(Server::shared()).await else { return };
    for (name, command, code) in
        [("three", "exit 3", 3), ("absent", "no-such-command", 127), ("killed", "kill -KILL $$", 137), ("big", "exit 125", 125)]
    {
        let job = ground.run(name, command, json!({})).await;
        assert_eq!(job["executionInfo"]["exitCode"], code, "{name}: {}", ground.everything(name).await);
        assert_eq!(error(&job)["code"], "JobFailed");
    }
    let over = json!({ "jobPreparation": { "commandLine": "echo not today; exit 4" } });
    let job = ground.run("unprepared", "echo never", over).await;
    assert_eq!((&job["executionInfo"]["exitCode"], &error(&job)["code"]), (&json!(4), &json!("JobPreparationFailed")));
    assert_eq!(ground.site.read("unprepared", "stdouterr", "stdout-job_prep.txt").await, "not today\n");
    assert!(!ground.site.names("unprepared", "stdouterr").await.contains(&"stdout.txt".to_owned()));
    // More than any buffer on the way holds, and bytes that are no text.
    let command = "dd if=/dev/zero bs=65536 count=160 2>/dev/null | tr '\\0' '\\377'; echo; echo end";
    let job = ground.run("much", command, json!({})).await;
    ground.assert_succeeded("much", &job).await;
    let link = ground.site.link("much", "stdouterr", "stdout.txt").await;
    let body = ground.site.download(&link, None).await.bytes;
    assert_eq!(body.len(), 160 * 65_536 + 5);
    assert!(body.ends_with(b"\xff\nend\n"));
}

#[tokio::test]
async fn a_job_that_takes_all_memory_says_so() {
    let Some(ground) = Ground::new(Server::shared()).await else { return };
    let job =
        ground.run("hog", r#"awk 'BEGIN { s = sprintf("%1000000s", "x"); for (i = 0; ; i++) a[i] = s i }'"#, json!({})).await;
    assert_eq!(error(&job)["code"], "JobOutOfMemory", "{}", ground.everything("hog").await);
    assert_eq!(job["executionInfo"]["exitCode"], 137);
    let job = ground.run("next", "echo hi", json!({})).await;
    ground.assert_succeeded("next", &job).await;
}

#[tokio::test]
async fn what_is_mounted_on_the_node_later_is_seen() {
    let Some(ground) = Ground::new(Server::shared()).await else { return };
    let job = ground.run("first", "true", json!({})).await;
    ground.assert_succeeded("first", &job).await;
    let places = ["/mnt/batch/tasks/shared/LS_root/mounts/late", "/run/batchyard/state/late"];
    for place in places {
        let mount = format!("mkdir -p {place} && mount -t tmpfs late {place} && echo late >{place}/file");
        assert!(ground.node.within(&["-m"], &["sh", "-c", &mount]).status.success(), "{place}");
    }
    let job = ground.run("second", "cat $AZ_BATCHAI_MOUNT_ROOT/late/file; ls /run/batchyard", json!({})).await;
    assert_eq!(job["executionState"], "failed", "there is no such folder: {job}");
    assert_eq!(ground.site.stdout("second").await, "late\n", "{}", ground.everything("second").await);
    // The agent's own folder is where mounts of one job alone are, which are bound to their places: the engine has to see them.
    let look = format!("nsenter -m -t $(cat /run/batchyard/engine/pid) cat {}/file", places[1]);
    let seen = ground.node.within(&["-m", "-p"], &["sh", "-c", &look]);
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "late\n", "{}", String::from_utf8_lossy(&seen.stderr));
}

fn private(password: Option<&str>) -> Value {
    let mut source = json!({ "image": "tools/busybox:1", "serverUrl": "127.0.0.1:5001" });
    if let Some(password) = password {
        source["credentials"] = json!({ "username": registry::USER.0, "password": password });
    }
    json!({ "containerSettings": { "imageSourceRegistry": source } })
}

#[tokio::test]
async fn a_registrys_answer_reaches_the_user_and_its_password_nobody() {
    let Some(ground) = Ground::new(Server::shared()).await else { return };
    let wrong = "canary-wrong-horse";
    for (name, over, answer) in [
        ("wrong", private(Some(wrong)), "unauthorized"),
        (
            "missing",
            json!({ "containerSettings": { "imageSourceRegistry": { "image": "127.0.0.1:5000/tools/none:7" } } }),
            "unknown",
        ),
        (
            "silent",
            json!({ "containerSettings": { "imageSourceRegistry": { "image": "127.0.0.1:5009/x" } } }),
            "connection refused",
        ),
    ] {
        let job = ground.run(name, "echo never", over).await;
        let told = error(&job);
        assert_eq!(told["code"], "FailedPullingImage", "{name}: {}", ground.everything(name).await);
        assert!(told["message"].as_str().expect("text").contains(answer), "{name}: {told}");
        let detail = |wanted: &str| {
            let details = told["details"].as_array().expect("a list");
            details.iter().find(|d| d["name"] == wanted).and_then(|d| d["value"].as_str()).unwrap_or_default()
        };
        assert!(detail("answer").contains(answer) && !detail("imageName").is_empty() && !detail("nodeId").is_empty(), "{told}");
        assert!(job["executionInfo"].get("exitCode").is_none(), "{job}");
        assert_eq!(ground.site.names(name, "stdouterr").await, ["execution.log"], "nothing was run");
        assert!(!ground.everything(name).await.contains(wrong), "the password is told to nobody");
    }
    let job = ground.run("right", "echo in", private(Some(registry::USER.1))).await;
    ground.assert_succeeded("right", &job).await;
    assert_eq!(ground.site.stdout("right").await, "in\n");
    // What others may pull is on the node by now, and still nobody else's.
    let job = ground.run("nobody", "echo never", private(None)).await;
    assert_eq!(error(&job)["code"], "FailedPullingImage", "{job}");
    assert!(error(&job)["message"].as_str().expect("text").contains("no basic auth credentials"), "{job}");
    assert!(ground.node.docker(&["images", "-q", image::PRIVATE]).lines().count() == 1, "the node keeps what it pulled");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let Some(ground) = Ground::new(Server::shared()).await else { return };
    let empty = json!({ "containerSettings": { "imageSourceRegistry": { "image": image::EMPTY } } });
    let job = ground.run("empty", "true", empty).await;
    assert_eq!(error(&job)["code"], "FailedStartingContainer", "{}", ground.everything("empty").await);
    assert!(error(&job)["message"].as_str().expect("text").starts_with("unable to start docker container: "), "{job}");
    assert!(error(&job)["message"].as_str().expect("text").contains("/bin/sh"), "{job}");
    ground.site.wait_idle("c", 1).await;
    assert_eq!(ground.node.containers(), [""; 0]);
}

#[tokio::test]
async fn the_password_of_a_registry_may_be_in_a_key_vault() {
    if !super::able() {
        return;
    }
    let (server, reference) = Server::up().with_vault(&[("acr", registry::USER.1), ("old-acr", "canary-old-password")]);
    let Some(ground) = Ground::new(&server).await else { return };
    let private = |secret: &str| {
        json!({ "containerSettings": { "imageSourceRegistry": { "image": "tools/busybox:1", "serverUrl": "127.0.0.1:5001",
            "credentials": { "username": registry::USER.0, "passwordSecretReference": reference(secret) } } } })
    };
    let job = ground.run("right", "echo in", private("acr")).await;
    ground.assert_succeeded("right", &job).await;
    let shown = &job["containerSettings"]["imageSourceRegistry"]["credentials"]["passwordSecretReference"];
    assert_eq!(*shown, reference("acr"), "a reference is no secret");
    let job = ground.run("wrong", "echo never", private("old-acr")).await;
    assert_eq!(error(&job)["code"], "FailedPullingImage", "{job}");
    assert!(!ground.everything("wrong").await.contains("canary") && !server.log().contains("canary"), "it is told to nobody");
}
