//! From the PUT to nothing left: states, two clusters on one file server, outputs on it, who is kept out, and what deletion leaves.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;

use serde_json::json;

use super::{devices, entries, may_serve, mount, processes, put_cluster, put_server, run, server_body, server_path};
use crate::harness::wait::PATIENCE;
use crate::harness::{Server, Site, descends, until};

/// What root of a node may try: the gate with a forged pass, and the server's address.
const KNOCK: &str = "
import socket, sys
gate = socket.socket(socket.AF_UNIX); gate.connect('/run/batchyard/gate')
gate.sendall(('file-server %s files %s\\n' % (sys.argv[1], '00' * 32)).encode())
print(gate.recv(300).decode().strip())
server = socket.socket(); server.settimeout(2)
try:
    server.connect((sys.argv[2], 2049)); print('reached')
except OSError:
    print('unreachable')
";

#[tokio::test]
async fn two_clusters_share_a_file_server_and_nothing_of_it_is_left() {
    if !may_serve() {
        return;
    }
    let server = Server::up();
    let site = Site::new(server.api()).await;
    let accepted = site.api.put(&server_path(&site, "nfs01"), &server_body(2)).await.expect(202);
    let ended = site.api.finish(accepted).await;
    assert_eq!(ended["status"], "Succeeded", "{ended}");
    let made = site.api.get(&server_path(&site, "nfs01")).await.expect(200).body["properties"].take();
    assert_eq!((&made["provisioningState"], &made["mountSettings"]["mountPoint"]), (&json!("succeeded"), &json!("/data")));
    let address = made["mountSettings"]["fileServerInternalIP"].as_str().expect("told");
    assert!(address.starts_with("10.96.") && address.ends_with(".4"), "{made}");
    assert!(made["mountSettings"]["fileServerPublicIP"].is_string(), "{made}");
    assert_eq!((devices(&server).len(), entries(&server, "disks").len()), (1, 1));
    // Asked for again, it stays as it is.
    assert_eq!(site.api.put(&server_path(&site, "nfs01"), &server_body(2)).await.expect(200).body["properties"], made);

    // A setup task prepares, as root; jobs are another account.
    let mut body = Site::cluster_body(1);
    body["properties"]["nodeSetup"] = json!({
        "mountVolumes": mount(&site, "nfs01", "rw"),
        "setupTask": {
            "commandLine": "mkdir -p $AZ_BATCHAI_MOUNT_ROOT/nfs/data && echo root > $AZ_BATCHAI_MOUNT_ROOT/nfs/data/x && \
                            chown 1234:4321 $AZ_BATCHAI_MOUNT_ROOT/nfs/data/x && chmod 1777 $AZ_BATCHAI_MOUNT_ROOT/nfs/data",
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/nfs" } });
    site.put_cluster("one", &body).await;
    site.wait_idle("one", 1).await;
    let subnet = &site.get_cluster("one").await["subnet"];
    assert_eq!(*subnet, made["subnet"], "a cluster is in the subnet of what it mounts");
    let over = json!({
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/nfs",
        "outputDirectories": [{ "id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/nfs" }] });
    let command = "cd $AZ_BATCHAI_MOUNT_ROOT/nfs/data; cat x; stat -c '%u %g %U' x .; echo mine > y; stat -c '%u %g %a' y; \
                   (echo no > x) 2>/dev/null || echo denied; df --output=size -B1G . | tail -1; \
                   mkdir $AZ_BATCHAI_OUTPUT_MODEL/deep; echo weights > $AZ_BATCHAI_OUTPUT_MODEL/deep/model";
    let job = site.run("writes", "one", command, over).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    let said = site.stdout("writes").await;
    assert_eq!(said.replace("  ", ""), "root\n1234 4321 UNKNOWN\n0 0 root\n61000 61000 644\ndenied\n2\n", "{said}");
    assert_eq!(site.names("writes", "MODEL").await, ["deep"]);
    assert_eq!(site.read("writes", "MODEL", "deep/model").await, "weights\n");

    // Another cluster, for the time of a job, a part of it, to read alone.
    site.cluster("two", 1).await;
    let mut part = mount(&site, "nfs01", "ro,noatime");
    part["fileServers"][0]["sourceDirectory"] = json!("data");
    let command = "cat $AZ_BATCHAI_JOB_MOUNT_ROOT/nfs/y; (echo > $AZ_BATCHAI_JOB_MOUNT_ROOT/nfs/z) 2>/dev/null || echo read-only";
    let job = site.run("reads", "two", command, json!({ "mountVolumes": part })).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("reads").await, "mine\nread-only\n");
    let mut absent = mount(&site, "nfs01", "rw");
    absent["fileServers"][0]["sourceDirectory"] = json!("none");
    let job = site.run("absent", "two", "true", json!({ "mountVolumes": absent })).await;
    assert_eq!(job["executionState"], "failed", "{job}");
    let errors = job["executionInfo"]["errors"].to_string();
    assert!(errors.contains("no such directory") && errors.contains("file server"), "{errors}");

    // Root of a node whose cluster does not mount it is not let in, whatever it says.
    let before = server.node_processes();
    site.cluster("stranger", 1).await;
    let node = server.node_processes().into_iter().find(|node| !before.contains(node)).expect("the stranger's");
    let doors = entries(&server, "doors");
    assert_eq!(doors.len(), 1, "{doors:?}");
    let said = Command::new("nsenter")
        .args(["-a", "-t", &node.to_string(), "/usr/bin/python3", "-c", KNOCK, &doors[0], address])
        .output()
        .expect("nsenter runs");
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert_eq!(text, "the file server does not let this node in\nunreachable\n");

    // What mounts it keeps it.
    let refused = site.api.delete(&server_path(&site, "nfs01")).await.expect(409);
    assert!(refused.text.contains("the cluster 'one'"), "{}", refused.text);
    for cluster in ["one", "two", "stranger"] {
        let accepted = site.api.delete(&site.cluster_path(cluster)).await.expect(202);
        site.api.finish(accepted).await;
    }
    let accepted = site.api.delete(&server_path(&site, "nfs01")).await.expect(202);
    site.api.finish(accepted).await;
    site.api.get(&server_path(&site, "nfs01")).await.expect(404);
    assert_eq!(devices(&server), Vec::<String>::new());
    assert!(["disks", "doors", "nodes", "clusters"].iter().all(|name| entries(&server, name).is_empty()));
    assert!(processes(&server, "ganesha.nfsd").is_empty());
}

#[tokio::test]
async fn users_log_in_from_where_they_may() {
    if !may_serve() {
        return;
    }
    let server = Server::up();
    let site = Site::new(server.api()).await;
    let mut known = Vec::new();
    for (name, ranges, greeted) in [
        ("all", json!(["*"]), true),
        ("near", json!(["203.0.113.0/24", "127.0.0.0/8"]), true),
        ("far", json!(["203.0.113.0/24", "::1"]), false),
    ] {
        let mut body = server_body(1);
        body["properties"]["sshConfiguration"]["publicIPsToAllow"] = ranges;
        let accepted = site.api.put(&server_path(&site, name), &body).await.expect(202);
        assert_eq!(site.api.finish(accepted).await["status"], "Succeeded");
        let places = login_places(&server.log());
        let place = places.iter().find(|place| !known.contains(*place)).expect("a new one").clone();
        let mut guest = TcpStream::connect(&place).expect("someone listens");
        guest.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut heard = [0; 4];
        let length = guest.read(&mut heard).unwrap_or(0);
        assert_eq!(&heard[..length], if greeted { &b"SSH-"[..] } else { b"" }, "{name}");
        known.push(place);
    }
}

/// Where users log in to machines that have joined, as the server's log has it.
fn login_places(log: &str) -> Vec<String> {
    let places = log.split("machine.login=\"").skip(1);
    places.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect()
}

#[tokio::test]
async fn a_group_takes_its_file_servers_along_also_while_they_are_mounted() {
    if !may_serve() {
        return;
    }
    let server = Server::up();
    let site = Site::new(server.api()).await;
    put_server(&site, "nfs").await;
    put_cluster(&site, "c", "nfs", "rw").await;
    site.delete().await;
    until(
        "nothing is left",
        || async { (devices(&server), entries(&server, "disks"), entries(&server, "doors"), entries(&server, "nodes")) },
        |left| left.0.is_empty() && left.1.is_empty() && left.2.is_empty() && left.3.is_empty(),
    )
    .await;
}

#[tokio::test]
async fn what_is_too_large_for_the_host_is_not_made_and_can_be_deleted() {
    if !may_serve() {
        return;
    }
    let site = Site::new(Server::shared().api()).await;
    let mut body = server_body(16);
    body["properties"]["dataDisks"]["diskSizeInGB"] = json!(1023);
    let path = server_path(&site, "huge");
    let accepted = site.api.put(&path, &body).await.expect(202);
    let ended = site.api.finish(accepted).await;
    assert_eq!(
        (&ended["status"], &ended["error"]["code"]),
        (&json!("Failed"), &json!("FileServerProvisioningFailed")),
        "{ended}"
    );
    assert!(ended["error"]["message"].as_str().is_some_and(|text| text.contains("larger than the host's")), "{ended}");
    let seen = site.api.get(&path).await.expect(200).body["properties"].take();
    assert_eq!((&seen["provisioningState"], seen["mountSettings"].is_null()), (&json!("failed"), true), "{seen}");
    let accepted = site.api.delete(&path).await.expect(202);
    site.api.finish(accepted).await;
    site.api.get(&path).await.expect(404);
}

#[tokio::test]
async fn data_survive_the_server_the_agent_the_machine_and_the_control_plane() {
    if !may_serve() {
        return;
    }
    let mut server = Server::up();
    let site = Site::new(server.api()).await;
    put_server(&site, "nfs").await;
    put_cluster(&site, "c", "nfs", "rw").await;
    // Writes, has it on the disk, and reads it again, all the time.
    let script = "import os,hashlib,time\n\
                  begun=time.time(); n=0\n\
                  os.makedirs('load',exist_ok=True)\n\
                  while not os.path.exists('stop') and time.time()-begun < 100:\n\
                  \x20   data=os.urandom(4096)*16; name='load/%d'%(n%40)\n\
                  \x20   with open(name+'.new','wb') as f:\n\
                  \x20       f.write(data[:30000]); f.write(data[30000:]); f.flush()\n\
                  \x20       if n%3==0: os.fsync(f.fileno())\n\
                  \x20   os.rename(name+'.new',name)\n\
                  \x20   with open(name,'rb') as f: assert f.read()==data, n\n\
                  \x20   if n%7==0: os.mkdir('load/d%d'%n); os.rmdir('load/d%d'%n)\n\
                  \x20   n+=1\n\
                  \x20   if n==5: open('begun','w').close()\n\
                  print('whole', n>=5)";
    let over = json!({ "environmentVariables": [{ "name": "SCRIPT", "value": script }] });
    site.submit("load", "c", "cd $AZ_BATCHAI_MOUNT_ROOT/nfs; python3 -c \"$SCRIPT\"", over).await;
    let nodes = server.node_processes();
    let count = |server: &Server| {
        let found = processes(server, "ganesha.nfsd");
        found.first().copied()
    };
    let first = until("the server of files runs", || async { count(&server) }, Option::is_some).await.expect("found");
    site.wait_state("load", "running").await;

    // The server of files is killed.
    server.kill_process(first);
    let second =
        until("another one", || async { count(&server) }, |now| now.is_some_and(|now| now != first)).await.expect("found");
    // What keeps it is killed, and then it again: its successor ends what it finds.
    for keeper in keepers(&server) {
        server.kill_process(keeper);
    }
    let third =
        until("another one", || async { count(&server) }, |now| now.is_some_and(|now| now != second)).await.expect("found");
    // The control plane is killed and comes back.
    server.kill();
    server.restart();
    let site = Site { api: server.api(), ..site };
    // The machine is killed: another one has its disk.
    let before = site.api.get(&server_path(&site, "nfs")).await.expect(200).body["properties"]["mountSettings"].take();
    let machine = nodes.into_iter().find(|node| descends(third, &[*node])).expect("the file server's");
    server.kill_process(machine);
    until("another one", || async { count(&server) }, |now| now.is_some_and(|now| now != third)).await;
    until("the load goes on", || async { run_count(&server) }, |count| *count == 1).await;
    let after = site.api.get(&server_path(&site, "nfs")).await.expect(200).body["properties"].take();
    assert_eq!((&after["provisioningState"], &after["mountSettings"]), (&json!("succeeded"), &before));
    std::fs::write(server.share().join("unused"), "").expect("written");
    put_cluster(&site, "d", "nfs", "rw").await;
    // Its first writes may have waited for all that was killed.
    let stop = "timeout 60 bash -c 'until [ -e begun ]; do sleep 0.1; done'; ls begun; touch stop";
    assert_eq!(run(&site, "stop", "d", stop).await, "begun\n");
    let job = site.ended("load").await;
    assert_eq!(job["executionState"], "succeeded", "{job} {}", site.read("load", "stdouterr", "stderr.txt").await);
    assert_eq!(site.stdout("load").await, "whole True\n");
    assert_eq!(devices(&server).len(), 1);
}

fn keepers(server: &Server) -> Vec<u32> {
    let nodes = server.node_processes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("readable").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if command.split(|byte| *byte == 0).any(|word| word == b"keep-export") && descends(pid, &nodes) {
            found.push(pid);
        }
    }
    found
}

fn run_count(server: &Server) -> usize {
    processes(server, "ganesha.nfsd").len()
}
