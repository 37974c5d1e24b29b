//! Jobs that fill the disk of their node.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use batchyard::domain::attempt::{AssignmentState, End, Scarce};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::node::{Node, eventually, files, job};

/// A small disk in place of a folder of the node, for as long as a test runs.
struct Disk(PathBuf);

impl Disk {
    fn new(folder: PathBuf, size: &CStr) -> Disk {
        mount("tmpfs", &folder, "tmpfs", MountFlags::empty(), Some(size)).expect("mounted");
        Disk(folder)
    }

    /// Writes until nothing fits any more; what it wrote is to be removed.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let file = File::options().create(true).append(true).open(&filler);
        let written = file.and_then(|mut file| io::copy(&mut io::repeat(7), &mut file));
        assert_eq!(written.expect_err("no room is left").kind(), io::ErrorKind::StorageFull);
        filler
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
    let _disk = Disk::new(node.dir.join("tasks/shared/LS_root/jobs"), c"size=128m");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_own_disk_is_full_tells_how_its_job_ends_and_starts_none_that_it_cannot_write_down() {
    let Some(mut node) = Node::namespaces() else { return };
    node.kill_agent();
    let disk = Disk::new(node.dir.join("private/state"), c"size=4m");
    node.start_agent();
    let runs = job("until [ -e go ]; do sleep 0.02; done; echo heard; exit 3");
    node.want([runs.clone()]);
    node.server.until_state(runs.attempt, AssignmentState::Running).await;

    let filler = disk.fill();
    std::fs::write(node.temp().join("go"), "").expect("written");
    assert_eq!(node.server.until_end(runs.attempt).await, End::Exited { code: 3 });
    assert_eq!(node.server.file_at_end(runs.attempt, "stdouterr", "stdout.txt").as_deref(), Some("heard\n"));

    node.want([]);
    eventually("its record is gone", || (!node.record(runs.attempt).exists()).then_some(())).await;
    disk.fill();
    let ran = node.share().join("ran");
    std::fs::write(&ran, "").expect("made");
    std::os::unix::fs::chown(&ran, Some(79_000), Some(79_000)).expect("owned");
    let never = job("echo ran > $AZ_BATCHAI_MOUNT_ROOT/shared/ran");
    node.want([never.clone()]);
    let end = node.server.until_end(never.attempt).await;
    assert!(matches!(&end, End::Lost { why } if why.contains("No space left on device")), "{end:?}");
    assert_eq!(std::fs::read_to_string(ran).expect("there"), "", "nothing of it ran");

    std::fs::remove_file(filler).expect("removed");
    let next = job("exit 4");
    node.want([next.clone()]);
    assert_eq!(node.server.until_end(next.attempt).await, End::Exited { code: 4 }, "there is room again");
}
