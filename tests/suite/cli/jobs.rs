//! Jobs from the command line: submitted, followed, waited for, their files.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::Shell;
use crate::harness::Server;

/// A cluster of one node.
fn with_node() -> Shell {
    let shell = Shell::at_work();
    shell.run("cluster create -s STANDARD_D1 -t 1").expect(0);
    shell
}

#[test]
fn a_job_is_followed_to_its_end_and_ends_the_command_with_its_exit_code() {
    let shell = with_node();
    let ran = shell.run("job create -n a --command 'echo one; echo two >&2; exit 3' --follow").expect(3);
    assert_eq!(ran.out, "one\n", "standard output is the job's and nothing else");
    assert!(ran.err.contains("two\n") && ran.err.contains("failed exit 3"), "{}", ran.err);
    shell.run("job wait -n a").expect(3);
    shell.run("job wait -n a --exit-code class").expect(9);
    shell.run("job logs -n a --exit-status").expect(3);
    assert_eq!(shell.run("job logs -n a --file stderr.txt").expect(0).out, "two\n");
    assert_eq!(shell.run("job show -n a --query properties.executionInfo.exitCode -o tsv").expect(0).out, "3\n");
    assert_eq!(shell.run("job attempts -n a --query '[].cause' -o tsv").expect(0).out.lines().count(), 1);

    // The same again is the same job; another of its name is none.
    let ran = shell.run("job create -n a --command 'echo one; echo two >&2; exit 3' --wait").expect(3);
    assert!(ran.err.contains("unchanged"), "{}", ran.err);
    assert_eq!(ran.json()["properties"]["executionState"], "failed");
    shell.run("job create -n a --command 'other'").expect(6);
    let ran = shell.run("job list --state failed -o tsv --query '[].name'").expect(0);
    assert_eq!(ran.out, "a\n");
    assert_eq!(shell.run("job list --state running --query 'length(@)' -o tsv").expect(0).out, "0\n");
    shell.run("job delete -n a -y").expect(0);
    shell.run("job wait -n a").expect(3);
}

#[test]
fn what_a_job_a_cluster_and_a_node_wait_for_is_told() {
    let shell = with_node();
    shell.run("cluster wait --nodes 1").expect(0);
    let node = shell.run("cluster node why").expect(0).json();
    assert!(node["state"] == "Idle" && node.get("gate").is_none(), "{node}");
    shell.run("cluster resize -t 0 --wait").expect(0);
    shell.run("job create -n none --command true").expect(0);
    let why = shell.run("job why -n none").expect(0).json();
    assert_eq!((&why["gate"], &why["lack"]["missing"]), (&"ScaleLimit".into(), &1.into()), "{why}");
    let table = shell.run("job why -n none -o table").expect(0).out;
    assert!(table.starts_with("State") && table.contains("ScaleLimit"), "{table}");
    assert!(shell.run("cluster why").expect(0).json().get("gate").is_none());
    let absent = shell.run("cluster node why -n tvm-none").expect(3);
    assert!(absent.err.contains("no nodes now"), "{}", absent.err);
}

#[test]
fn output_comes_while_it_is_written_and_an_interrupt_cancels_nothing() {
    let shell = with_node();
    let words = "job create -n long --command 'echo first; while [ ! -e $AZ_BATCHAI_MOUNT_ROOT/shared/go-$NAME ]; do sleep 0.1; done; echo last' --follow";
    let name = uuid::Uuid::new_v4().to_string();
    let line = format!("exec {} {words} --env NAME={name}", env!("CARGO_BIN_EXE_batchyard"));
    let mut child = shell
        .command("bash")
        .args(["-c", &line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut first = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut first).expect("output comes while the job runs");
    assert_eq!(&first, b"first\n");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("is there");
    let began = Instant::now();
    let output = child.wait_with_output().expect("ends");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.contains("goes on") && told.contains("job logs -f"), "{told}");
    assert_eq!(shell.run("job show -n long --query properties.executionState -o tsv").expect(0).out, "running\n");
    shell.run("job wait -n long --for running").expect(0);
    shell.run("job wait -n long --timeout 1").expect(7);
    std::fs::write(Server::shared().share().join(format!("go-{name}")), "").expect("writes");
    let ran = shell.run("job logs -n long -f --exit-status").expect(0);
    assert_eq!(ran.out, "first\nlast\n", "all of it, and each line once");
    assert_eq!(shell.run("job logs -n long --tail 1").expect(0).out, "last\n");
    assert_eq!(shell.run("job file stream -n long -f stdout.txt").expect(0).out, "first\nlast\n");
}

#[test]
fn a_pipeline_that_is_interrupted_takes_its_job_with_it() {
    let shell = with_node();
    let line = format!(
        "exec {} job create -n p --command 'echo up; sleep 600' --follow --on-interrupt terminate",
        env!("CARGO_BIN_EXE_batchyard")
    );
    let mut child = shell
        .command("bash")
        .args(["-c", &line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut first = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut first).expect("output comes while the job runs");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).expect("is there");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130));
    // It has no exit code of its own.
    shell.run("job wait -n p").expect(9);
}

#[test]
fn files_are_downloaded_once_and_go_on_where_they_stopped() {
    let shell = with_node();
    let command = "mkdir -p $AZ_BATCHAI_OUTPUT_MODEL/sub; head -c 3000000 /dev/zero > $AZ_BATCHAI_OUTPUT_MODEL/big.bin; echo hi > $AZ_BATCHAI_OUTPUT_MODEL/sub/a.txt";
    let job = serde_json::json!({ "properties": {
        "nodeCount": 1, "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/shared", "customToolkitSettings": { "commandLine": command },
        "outputDirectories": [{ "id": "MODEL", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/shared", "pathSuffix": "model" }] } });
    shell.write("job.json", &job.to_string());
    shell.run("job create -n f -f job.json --wait -o none").expect(0);
    let list = shell.run("job file list -n f -d MODEL -o tsv").expect(0).out;
    assert!(list.starts_with("big.bin\tfile\t3000000\t") && list.contains("sub\tdirectory\t\t\n"), "{list}");
    shell.run("job file download -n f -d MODEL -p sub").expect(3);
    let ran = shell.run("job file download -n f -d MODEL -r --to out").expect(0);
    assert!(ran.err.contains("2 files") && ran.err.contains("2.9 MiB of it new"), "{}", ran.err);
    assert_eq!(shell.read("out/sub/a.txt"), "hi\n");
    assert!(shell.run("job file download -n f -d MODEL -r --to out").expect(0).err.contains("0 B of it new"));

    // Half of the file is there under the name that its version has: the other half alone is asked for.
    let out = shell.folder.path().join("out");
    let shown = shell.run("job file list -n f -d MODEL --query '[0].properties.lastModified' -o tsv").expect(0).out;
    let part = part_name("big.bin", 3_000_000, shown.trim());
    std::fs::remove_file(out.join("big.bin")).expect("removes");
    std::fs::write(out.join(part), vec![0; 2_000_000]).expect("writes");
    let ran = shell.run("job file download -n f -d MODEL -p big.bin --to out").expect(0);
    assert!(ran.err.contains("976.6 KiB of it new"), "{}", ran.err);
    assert_eq!(std::fs::read(out.join("big.bin")).expect("reads"), vec![0; 3_000_000]);
    assert_eq!(std::fs::read_dir(&out).expect("lists").count(), 2, "no part is left");
}

/// The name of a part, as the client makes it.
fn part_name(name: &str, size: u64, modified: &str) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(format!("{size} {modified}"));
    let version: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!(".{name}.{version}.part")
}

#[test]
fn a_first_job_brings_its_script_along_and_needs_no_storage() {
    let shell = with_node();
    std::fs::create_dir_all(shell.folder.path().join("code/lib")).expect("makes");
    shell.write("code/main.sh", "#!/bin/sh\n. $AZ_BATCHAI_INPUT_CODE/lib/words.sh\necho $WORD\n");
    shell.write("code/lib/words.sh", "WORD=carried\n");
    let ran = shell.run("job create -n s --upload code --command '$AZ_BATCHAI_INPUT_CODE/main.sh' --follow").expect(0);
    assert_eq!(ran.out, "carried\n");
    assert!(ran.err.contains("sent 2 files"), "{}", ran.err);
    // Once the job is there its input is what it ran with.
    let again = shell.run("job create -n s --upload code --command '$AZ_BATCHAI_INPUT_CODE/main.sh' --wait -o none").expect(0);
    assert!(again.err.contains("unchanged"), "{}", again.err);
    let path = "/subscriptions/{subscription}/resourceGroups/$BATCHYARD_DEFAULTS_GROUP/providers/Microsoft.BatchAI/workspaces/w/experiments/e/jobs";
    let put = |job: &str, file: &str| {
        shell.run(&format!(
            "rest -m put -u \"{path}/{job}/inputs/{file}?api-version=2026-11-01-preview\" --headers content-type=application/octet-stream"
        ))
    };
    put("s", "main.sh").expect(6);
    put("other", "a/../../b").expect(3);
}

#[test]
fn a_command_runs_on_a_node_by_ssh() {
    let shell = Shell::at_work();
    let made = shell
        .command("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "key"])
        .status()
        .is_ok_and(|status| status.success());
    if !made || !crate::harness::privileged() {
        eprintln!("skipped: no ssh here, or no nodes of their own");
        return;
    }
    shell.run("cluster create -s STANDARD_D1 -t 1 -u ops -k key.pub --wait -o none").expect(0);
    let ran = shell.run("cluster node exec -n n1 -k key --exec 'echo on $(whoami); exit 4'").expect(4);
    assert_eq!(ran.out, "on ops\n");
    shell.run("cluster node exec -n n7 -k key --exec true").expect(3);
}
