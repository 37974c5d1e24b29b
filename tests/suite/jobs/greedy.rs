//! Jobs that take all there is: processes, memory, output.

use std::time::{Duration, Instant};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde_json::json;

use super::{KEPT, error, goes_on, site};
use crate::harness::{Server, Site, privileged, until};

/// Most memory that an agent, and the server, may have had more than before while a job wrote without end. Unit: KiB.
const MORE: u64 = 96 * 1024;

/// A site with a cluster `c` of one node with little memory.
async fn small() -> Site {
    let site = site().await;
    let mut body = Site::cluster_body(1);
    body["properties"]["vmSize"] = json!("STANDARD_A1");
    site.put_cluster("c", &body).await;
    site.wait_idle("c", 1).await;
    site
}

/// Takes more memory than a node of [`small`] has.
const HOG: &str = "python3 -c 'x = bytearray(2500 << 20); x[::4096] = b\"x\" * len(x[::4096])'";

#[tokio::test]
async fn a_memory_hog_is_ended_and_its_job_says_why() {
    if !privileged() {
        return;
    }
    let site = small().await;
    let job = site.run("hog", "c", HOG, json!({})).await;
    assert_eq!(job["executionState"], "failed", "{job}");
    assert_eq!(job["executionInfo"]["exitCode"], 137, "{job}");
    let (code, message) = error(&job);
    assert_eq!(code, "JobOutOfMemory", "{job}");
    assert!(message.contains("memory"), "{message}");
    let log = site.read("hog", "stdouterr", "execution.log").await;
    assert!(log.contains("for want of memory the kernel ended 1 of its processes"), "{log}");

    // The command may have its own end for it, or none.
    let job = site.run("own", "c", &format!("{HOG} || exit 3"), json!({})).await;
    assert_eq!((error(&job).0, &job["executionInfo"]["exitCode"]), ("JobOutOfMemory", &json!(3)), "{job}");
    let job = site.run("well", "c", &format!("{HOG} || true"), json!({})).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert!(site.read("well", "stdouterr", "execution.log").await.contains("for want of memory"));
    // What others ran out of is not this one's.
    let job = site.run("failed", "c", "exit 3", json!({})).await;
    assert_eq!(error(&job).0, "JobFailed", "{job}");
    goes_on(&site).await;
}

#[tokio::test]
async fn a_fork_bomb_ends_when_it_is_told_and_its_node_goes_on() {
    if !privileged() {
        return;
    }
    let site = small().await;
    let bomb = "echo lit; f() { while :; do (sleep 600 &) ; (f &) ; done; }; f 2>/dev/null";
    site.submit("bomb", "c", bomb, json!({})).await;
    until("it is lit", || site.find_stdout("bomb"), |text| text.contains("lit")).await;
    until("it has all the processes that it may have", || async { refused() }, |count| *count > 0).await;
    let began = Instant::now();
    let accepted = site.api.post(&format!("{}/terminate", site.job_path("bomb"))).await.expect(202);
    site.api.finish(accepted).await;
    let job = site.get_job("bomb").await;
    eprintln!("a fork bomb ended {:?} after it was told to", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(error(&job).0, "JobTerminated", "{job}");
    let log = site.read("bomb", "stdouterr", "execution.log").await;
    assert!(log.contains("times no process could be started"), "{log}");
    goes_on(&site).await;
}

/// How often a process could not be started on any node of the installation.
fn refused() -> u64 {
    let ours = format!("*/batchyard-by{}/*/jobs/pids.events", &Server::shared().value("BATCHYARD_TENANT")[..8]);
    let found = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-path", &ours, "-exec", "cat", "{}", "+"])
        .output()
        .expect("find runs");
    String::from_utf8_lossy(&found.stdout).lines().filter_map(|line| line.strip_prefix("max ")?.parse::<u64>().ok()).sum()
}

/// The most memory that a process ever had. Unit: KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("is told");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

/// The agents of the installation's nodes.
fn agents() -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("readable").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let mark = Server::shared().dir().display().to_string();
        let is_agent = command.split(|b| *b == 0).nth(1) == Some(b"agent");
        if is_agent && String::from_utf8_lossy(&environment).contains(&mark) {
            found.push(pid);
        }
    }
    found
}

/// How much is written where output is cut: 5 GB, or less where the folder of the tests has no room for that, and more than is kept of it.
/// Unit: bytes.
///
/// # Panics
/// There is not even room for that.
fn much() -> u64 {
    /// More than is kept of a file of the standard output.
    const LEAST: u64 = (1 << 30) + (1 << 28);
    /// What the server keeps of it, what jobs leave free of a disk, and some for others.
    const BESIDE: u64 = (2 << 30) + (1 << 28);
    let folder = Server::shared().dir();
    let disk = statfs(folder).expect("it is there");
    let is_memory = disk.filesystem_type() == TMPFS_MAGIC;
    let free = disk.blocks_available() * u64::try_from(disk.block_size()).expect("a size");
    let free = if is_memory { free.min(available_memory()) } else { free };
    assert!(free > LEAST + BESIDE, "{}: this test needs {} bytes free, and {free} are", folder.display(), LEAST + BESIDE);
    // What a job writes to memory counts against what its node has of that.
    let most = if is_memory { LEAST } else { 5_000_000_000 };
    let much = most.min(free - BESIDE);
    if much < 5_000_000_000 {
        let why = if is_memory { "is in memory" } else { "has no room for more" };
        eprintln!("{much} bytes are written in place of 5 GB: {} {why} ({free} bytes are free)", folder.display());
    }
    much
}

/// Memory of this host that programs may still take. Unit: bytes.
fn available_memory() -> u64 {
    let told = std::fs::read_to_string("/proc/meminfo").expect("readable");
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("is told");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[tokio::test]
async fn output_without_end_is_cut_and_costs_little_memory() {
    if !privileged() {
        return;
    }
    let site = site().await;
    site.cluster("c", 1).await;
    let before = peak(Server::shared().pid());
    let known = agents();
    let began = Instant::now();
    let much = much();
    let command = format!("head -c {much} /dev/zero | tr '\\0' y; echo; echo end >&2");
    site.submit("loud", "c", &command, json!({ "stdOutErrPathPrefix": KEPT })).await;
    let job = site.ended_within(Duration::from_secs(300), "loud").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    let after = peak(Server::shared().pid());
    let agent = known.iter().filter(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()).map(|pid| peak(*pid)).max();
    eprintln!("{much} bytes of output took {:?}; server {before} -> {after} KiB, agents {agent:?} KiB at most", began.elapsed());
    assert!(after < before + MORE, "the server had {before} KiB, then {after} KiB");
    assert!(agent.is_some_and(|agent| agent < MORE), "an agent had {agent:?} KiB");
    let entries = site.list("loud", "stdouterr", ".").await;
    let size = |name: &str| entries.iter().find(|e| e["name"] == name).map(|e| e["properties"]["contentLength"].clone());
    assert_eq!(size("stdout.txt"), Some(json!(1_u64 << 30)), "{entries:?}");
    assert_eq!(site.read("loud", "stdouterr", "stderr.txt").await, "end\n", "the rest is whole");
    let log = site.read("loud", "stdouterr", "execution.log").await;
    assert!(log.contains("More than 1 GiB of a file of the standard output is not kept."), "{log}");
    goes_on(&site).await;
}
