//! Jobs in containers on two nodes.

use std::path::Path;

use serde_json::json;

use super::{Ground, image};
use crate::harness::Server;

#[tokio::test]
async fn containers_of_a_job_reach_each_other_by_ssh_and_share_a_folder() {
    let demanded = std::env::var("BATCHYARD_TEST_PRIVILEGE").is_ok_and(|value| value == "required");
    let there = ["/usr/sbin/sshd", "/usr/bin/ssh"].iter().all(|path| Path::new(path).exists());
    if !there {
        assert!(!demanded, "ssh is demanded here");
        eprintln!("skipped: needs ssh");
        return;
    }
    let Some(ground) = Ground::with_nodes(Server::shared(), 2).await else { return };
    // As recorded, twice: a key that is not known yet would be asked for the first time alone.
    let command = r#"touch /only-here; echo shared > $AZ_BATCHAI_SHARED_JOB_TEMP/told
        other=$(echo $AZ_BATCH_HOST_LIST | cut -d , -f 2)
        ssh $other echo done && ssh $other echo done
        ssh $other 'echo $COLOUR $(id -u) $(hostname) ${AZ_BATCH_NODE_ID/_/-}; cat $AZ_BATCHAI_SHARED_JOB_TEMP/told; ls /only-here'
        echo code $?; echo 'through both' | ssh $other 'tr a-z A-Z; echo to stderr >&2; exit 7'; echo code $?
        ssh -p 22 $other true || echo "no port of the node's""#;
    let over = json!({
        "nodeCount": 2,
        "containerSettings": { "imageSourceRegistry": { "image": image::SSH } },
        "environmentVariables": [{ "name": "COLOUR", "value": "it's blue" }] });
    let job = ground.run("j", command, over).await;
    ground.assert_succeeded("j", &job).await;
    let stdout = ground.site.stdout("j").await;
    let lines: Vec<&str> = stdout.lines().collect();
    let [first, second, who, told, absent, upper, code, closed] = lines.as_slice() else {
        panic!("{}", ground.everything("j").await)
    };
    assert_eq!((*first, *second), ("done", "done"));
    let words: Vec<&str> = who.rsplitn(4, ' ').collect();
    assert_eq!((words[3], words[2]), ("it's blue", "0"), "{who}");
    assert_eq!(words[0], words[1], "variables are the other node's own");
    assert_eq!((*told, *absent), ("shared", "code 1"), "another container, and one folder");
    assert_eq!((*upper, *code), ("THROUGH BOTH", "code 7"));
    assert_eq!(*closed, "no port of the node's");
    let stderr = ground.site.read("j", "stdouterr", "stderr.txt").await;
    assert!(stderr.contains("to stderr\n"), "{stderr}");
    ground.site.wait_idle("c", 2).await;
    assert_eq!(ground.node.containers(), [""; 0]);
}
