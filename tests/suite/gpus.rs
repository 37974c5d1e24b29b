//! GPUs: which there are, whose they are, what jobs see of them, and what becomes of a node whose GPU breaks.
//!
//! No machine of these tests has one. They are declared, and shown as such; or the vendor's library is one that is compiled here
//! (`gpus/nvml.c`): then all is real but the library.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

use batchyard::gpu::{Cause, Fault, Gpus, Nvml};
use serde_json::{Value, json};

use crate::harness::guard::Guard;
use crate::harness::server::{Server, Settings};
use crate::harness::site::Site;
use crate::harness::wait::{PATIENCE, until};

const OWN: &str = "2026-11-01-preview";

/// What tells a job of GPUs.
const TELL: &str = "echo $AZ_BATCHAI_NUM_GPUS/$AZ_BATCHAI_NUM_GPUS_PER_NODE/$CUDA_VISIBLE_DEVICES";

/// The library in a folder that every node may read.
fn compile(folder: &Path) -> PathBuf {
    let library = folder.join("libnvidia-ml.so.1");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/gpus/nvml.c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&library).arg(source);
    let made = gcc.output().expect("gcc runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    library
}

/// Lets something befall a GPU.
fn befall(library: &Path, what: &str) {
    let state = |end: &str| library.with_file_name(format!("libnvidia-ml.so.1.{end}"));
    std::fs::write(state("new"), what).expect("writes");
    std::fs::rename(state("new"), state("state")).expect("renames");
}

fn body(size: &str, nodes: u32) -> Value {
    let mut body = Site::cluster_body(nodes);
    body["properties"]["vmSize"] = json!(size);
    body
}

async fn nodes(site: &Site, cluster: &str) -> Value {
    let path = format!("{}/nodes?api-version={OWN}", site.cluster_path(cluster));
    site.api.get(&path).await.expect(200).body["value"].take()
}

fn server(config: &str) -> Server {
    Server::start(Settings { config: format!("[driver]\n{config}\n"), database: None, ..Settings::default() })
}

#[test]
fn the_vendors_library_is_loaded_when_it_is_asked_for() {
    let none = Nvml::load(Some(Path::new("/nowhere/libnvidia-ml.so.1"))).err().expect("there is none");
    assert!(none.contains("/nowhere/libnvidia-ml.so.1"), "{none}");
    let guard = Guard::new();
    let library = compile(guard.dir());
    let loaded = Nvml::load(Some(&library)).expect("loads");
    let gpus = loaded.list().expect("tells");
    assert_eq!(loaded.use_of(&gpus), Some((600, 6 << 30)), "40 and 80 percent, 3 GiB each");
    let seen: Vec<_> = gpus.iter().map(|gpu| (gpu.uuid.as_str(), gpu.name.as_str(), gpu.memory_mib, gpu.minor)).collect();
    assert_eq!(seen, [("GPU-stub-0", "Stub K80", 12_288, Some(0)), ("GPU-stub-1", "Stub K80", 12_288, Some(1))]);
    assert!(gpus.iter().all(|gpu| !gpu.simulated));
}

#[test]
fn a_gpu_that_breaks_is_told_with_its_evidence_and_a_programs_mistake_is_not() {
    let guard = Guard::new();
    let library = compile(guard.dir());
    let mine = vec![Nvml::load(Some(&library)).expect("loads").list().expect("tells").remove(0)];
    let wait = || {
        let (sender, told) = mpsc::channel();
        let (library, mine) = (library.clone(), mine.clone());
        std::thread::spawn(move || {
            let gpus = Nvml::load(Some(&library)).expect("loads");
            let _ = sender.send(gpus.wait_fault(&mine, &|| false));
        });
        move || told.recv_timeout(PATIENCE).expect("in time").expect("a fault")
    };
    let fault = |cause, evidence: &str| Fault { uuid: "GPU-stub-0".into(), cause, evidence: evidence.into() };
    // Each kind is told of one's own GPU alone: what is before it says nothing.
    for (before, what, expected) in [
        ("xid 1 79", "xid 0 79", fault(Cause::Xid, "Xid 79")),
        ("xid 0 31", "xid 0 48", fault(Cause::Xid, "Xid 48")),
        ("ecc 1 7", "ecc 0 3", fault(Cause::Memory, "3 uncorrected memory errors since the driver was loaded")),
        ("lost 1", "lost 0", fault(Cause::Lost, "fell off the bus")),
    ] {
        let told = wait();
        befall(&library, before);
        befall(&library, what);
        let told = told();
        assert_eq!((&told.uuid, told.cause), (&expected.uuid, expected.cause), "{before}, then {what}: {told:?}");
        assert!(told.evidence.to_lowercase().contains(&expected.evidence.to_lowercase()), "{told:?}");
        befall(&library, "none");
    }
}

#[tokio::test]
async fn each_gpu_is_one_nodes_and_jobs_see_their_nodes_alone() {
    let server = server("simulated_gpus = 3");
    let site = Site::new(server.api()).await;
    site.put_cluster("two", &body("STANDARD_NC12", 1)).await;
    site.wait_idle("two", 1).await;
    site.put_cluster("one", &body("STANDARD_NC6", 2)).await;
    let held = until("a node waits for a GPU", || site.get_cluster("one"), |cluster| cluster["errors"][0].is_object()).await;
    assert_eq!(held["errors"][0]["code"], "NodeAllocationQuotaReached", "{held}");
    let info = held["errors"][0]["details"].to_string();
    assert!(info.contains("the node needs 1 GPUs: this host has 3, and 0 of them are free"), "{info}");
    site.put_cluster("none", &body("STANDARD_D1", 1)).await;
    for (cluster, seen) in [("two", "2/2/SIMULATED-0,SIMULATED-1"), ("one", "1/1/SIMULATED-2"), ("none", "0/0/")] {
        let job = site.run(&format!("on-{cluster}"), cluster, TELL, json!({})).await;
        assert_eq!(job["executionState"], "succeeded", "{job}");
        assert_eq!(site.stdout(&format!("on-{cluster}")).await.trim_end(), seen);
    }
    // What is simulated says so: in the API, the server's log and the nodes'.
    let gpus = nodes(&site, "two").await[0]["gpus"].take();
    assert_eq!(gpus[1], json!({"id": "SIMULATED-1", "name": "simulated GPU", "memoryInMiB": 0, "simulated": true}));
    assert_eq!(nodes(&site, "none").await[0]["gpus"], json!([]));
    assert!(server.log().contains("this host has a simulated GPU, which computes nothing"), "{}", server.tail());
    let mut logs = Vec::new();
    for node in std::fs::read_dir(server.dir().join("data/nodes/nodes")).expect("there").flatten() {
        logs.push(std::fs::read_to_string(node.path().join("log")).unwrap_or_default());
    }
    let says = |words: &str| logs.iter().filter(|log| log.contains(words)).count();
    assert_eq!(says("the GPUs of this node are simulated: nothing computes on them"), 2, "{logs:?}");
    assert_eq!(says("this node has no GPUs"), 1, "{logs:?}");
    // What a node had is free once it is gone.
    let accepted = site.api.delete(&site.cluster_path("two")).await.expect(202);
    site.api.finish(accepted).await;
    site.put_cluster("again", &body("STANDARD_NC12", 1)).await;
    until("some node has what was freed", || nodes(&site, "again"), |nodes| nodes[0]["gpus"].is_array()).await;
}

#[tokio::test]
async fn sizes_with_missing_gpus_are_cut_or_refused_as_the_operator_says() {
    let cut = Server::shared();
    let site = Site::new(cut.api()).await;
    site.put_cluster("c", &body("STANDARD_NC6", 1)).await;
    let job = site.run("j", "c", TELL, json!({})).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("j").await, "0/0/\n", "recipes run without, and see that there is none");
    assert!(cut.log().contains("this host has no GPUs that can be told"), "{}", cut.tail());

    let server = server("isolation = \"process-groups\"\nrefuse_missing_gpus = true");
    let site = Site::new(server.api()).await;
    let refused = site.api.put(&site.cluster_path("c"), &body("STANDARD_NC6", 1)).await.expect(400);
    assert!(refused.text.contains("STANDARD_NC6") && refused.text.contains("vmSize"), "{}", refused.text);
    assert!(!refused.body["error"]["details"].to_string().contains("STANDARD_NC12"), "those that are offered: {}", refused.text);
}

#[tokio::test]
async fn a_node_whose_gpu_breaks_is_unusable_and_no_job_is_blamed() {
    let guard = Guard::new();
    let library = compile(guard.dir());
    let server = server(&format!("isolation = \"process-groups\"\ngpu_library = {:?}", library.display().to_string()));
    let site = Site::new(server.api()).await;
    site.put_cluster("c", &body("STANDARD_NC6", 1)).await;
    site.wait_idle("c", 1).await;
    let gpus = nodes(&site, "c").await[0]["gpus"].take();
    assert_eq!(gpus, json!([{"id": "GPU-stub-0", "name": "Stub K80", "memoryInMiB": 12_288, "simulated": false}]));
    let flag = guard.dir().join("go");
    let command = format!("{TELL}; while [ ! -e {} ]; do sleep 0.05; done; exit 3", flag.display());
    site.submit("j", "c", &command, json!({})).await;
    until("it runs", || site.find_stdout("j"), |out| out == "1/1/GPU-stub-0\n").await;
    // A program's own mistake is not the GPU's.
    befall(&library, "xid 0 31");
    befall(&library, "xid 0 79");
    let broken =
        until("the node is unusable", || site.get_cluster("c"), |c| c["nodeStateCounts"]["unusableNodeCount"] == 1).await;
    let error = &broken["errors"][0];
    assert_eq!(error["code"], "NodeGpuFailed", "{broken}");
    let details = error["details"].to_string();
    for part in ["GPU-stub-0", "xid", "Xid 79", "nodeId"] {
        assert!(details.contains(part), "{part} is missing in {details}");
    }
    assert_eq!(nodes(&site, "c").await[0]["state"], "Unusable");
    std::fs::write(&flag, "").expect("writes");
    let waits = until("the job waits for another node", || site.get_job("j"), |job| job["executionState"] != "running").await;
    assert_eq!(waits["executionState"], "queued", "{waits}");
    let attempts = site.api.get(&format!("{}/attempts?api-version={OWN}", site.job_path("j"))).await.expect(200).body;
    assert_eq!(attempts["value"][0]["nodes"][0]["end"], "Lost", "{attempts}");
    // The other GPU is well: a node that has it goes on with the job.
    site.resize("c", 2, "requeue").await;
    let job = site.ended("j").await;
    assert_eq!(job["executionInfo"]["exitCode"], 3, "{job}");
    assert_eq!(site.stdout("j").await, "1/1/GPU-stub-1\n");
}
