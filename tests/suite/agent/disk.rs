//! Jobs that fill the disk of their node.

use batchyard::domain::attempt::{End, Scarce};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::node::{Node, eventually, files, job};

/// A small disk in place of the folder of jobs, for as long as a test runs.
struct Disk(std::path::PathBuf);

impl Disk {
    fn new(node: &Node) -> Disk {
        let folder = node.dir.join("tasks/shared/LS_root/jobs");
        mount("tmpfs", &folder, "tmpfs", MountFlags::empty(), Some(c"size=128m")).expect("mounted");
        Disk(folder)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fills_a_disk_says_so_and_its_node_goes_on() {
    let Some(mut node) = Node::namespaces() else { return };
    node.kill_agent();
    let _disk = Disk::new(&node);
    node.start_agent();

    let sudden = job("head -c 1000000000 /dev/zero > fill");
    node.want([sudden.clone()]);
    let end = node.server.until_end(sudden.attempt).await;
    assert_eq!(end, End::OutOf { what: Scarce::Disk, code: 1 });
    let told = node.server.file_at_end(sudden.attempt, "stdouterr", "stderr.txt").expect("there");
    assert!(told.contains("No space left on device"), "the job sees it by name: {told}");
    let log = node.server.file_at_end(sudden.attempt, "stdouterr", "execution.log").expect("there");
    assert!(log.contains("there was no more disk space"), "{log}");

    // One that does not care is ended before nothing is left.
    let steady = job("while :; do head -c 4000000 /dev/zero >> fill; sleep 0.05; done");
    node.want([steady.clone()]);
    assert_eq!(node.server.until_end(steady.attempt).await, End::OutOf { what: Scarce::Disk, code: 137 });

    let next = job("head -c 50000000 /dev/zero > some && exit 4");
    node.want([next.clone()]);
    assert_eq!(node.server.until_end(next.attempt).await, End::Exited { code: 4 }, "there is room again");
    node.want([]);
    eventually("it is empty", || files(&node.dir.join("tasks/shared/LS_root/jobs")).is_empty().then_some(())).await;
}
