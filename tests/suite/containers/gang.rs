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

const ALLREDUCE: &str = r#"
import os, socket
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank)
line = f"{world.rank} {world.size} {total} {os.environ['AZ_BATCH_NODE_ID']} {os.environ['COLOUR']} {os.path.exists('/bin/busybox')}\n"
os.write(1, line.encode())  # In one piece: the launcher forwards what it reads.
"#;

#[tokio::test]
async fn ranks_in_containers_on_two_nodes_add_up() {
    let demanded = std::env::var("BATCHYARD_TEST_PRIVILEGE").is_ok_and(|value| value == "required");
    let needed = image::MPI_NEEDED.iter().chain(&["/usr/sbin/sshd", "/usr/bin/ssh"]);
    let missing: Vec<_> = needed.filter(|path| !Path::new(path).exists()).collect();
    if !missing.is_empty() {
        assert!(!demanded, "{missing:?} are demanded here");
        eprintln!("skipped: needs {missing:?}");
        return;
    }
    let Some(ground) = Ground::with_nodes(Server::shared(), 2).await else { return };
    super::registry::add_mpi();
    std::fs::write(Server::shared().share().join("allreduce.py"), ALLREDUCE).expect("written");
    let mut body = ground.site.job_body("c", "");
    let properties = body["properties"].as_object_mut().expect("an object");
    properties.remove("customToolkitSettings");
    properties.insert("nodeCount".into(), json!(2));
    let line = "python3 $AZ_BATCHAI_MOUNT_ROOT/shared/allreduce.py";
    properties.insert("customMpiSettings".into(), json!({ "commandLine": line, "processCount": 4 }));
    properties.insert("containerSettings".into(), json!({ "imageSourceRegistry": { "image": image::MPI } }));
    properties.insert("environmentVariables".into(), json!([{ "name": "COLOUR", "value": "blue" }]));
    ground.site.put_job("j", &body).await;
    let job = ground.site.ended("j").await;
    ground.assert_succeeded("j", &job).await;
    let stdout = ground.site.stdout("j").await;
    let mut lines: Vec<&str> = stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 4, "{stdout}");
    let mut nodes = Vec::new();
    for (rank, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[..3], [rank.to_string().as_str(), "4", "6"], "{line}");
        assert_eq!(words[4..], ["blue", "True"], "each is in a container, with the job's variables: {line}");
        nodes.push(words[3]);
    }
    assert_eq!((nodes[0], nodes[2]), (nodes[1], nodes[3]), "two ranks a node");
    assert_ne!(nodes[0], nodes[2]);
}
