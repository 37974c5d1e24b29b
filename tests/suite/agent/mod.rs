//! The agent as a process, with real jobs, against a server in memory.

mod disk;
mod late;
mod node;
mod output;
mod server;
mod survival;

use batchyard::agent::protocol::{Desired, Host, SetupTask, Step};
use batchyard::domain::attempt::{AssignmentState, End};
use batchyard::domain::bootstrap::Isolation;
use batchyard::domain::machine::Setup;
use batchyard::domain::process::Role;

use node::{NOTHING, Node, cmdline, eventually, files, job, process, processes, running, stopping, variable};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_and_its_end_comes_with_its_output() {
    let Some(node) = Node::namespaces() else { return };
    let ok = job(
        "echo out; echo err >&2; id -u; echo $$; pwd; echo $AZ_BATCHAI_NUM_GPUS $MINE; echo m > $AZ_BATCHAI_OUTPUT_MODEL/x; test ! -e $P",
    );
    let mut ok = ok;
    ok.task.environment = vec![variable("MINE", "mine"), variable("P", node.dir.join("private/state").to_str().expect("text"))];
    node.want([ok.clone()]);
    assert_eq!(node.server.until_end(ok.attempt).await, End::Exited { code: 0 });
    let temp = node.temp();
    let stdout = node.server.file_at_end(ok.attempt, "stdouterr", "stdout.txt").expect("there");
    assert_eq!(stdout, format!("out\n79000\n2\n{}\n0 mine\n", temp.display()));
    assert_eq!(node.server.file_at_end(ok.attempt, "stdouterr", "stderr.txt").as_deref(), Some("err\n"));
    assert_eq!(node.server.file_at_end(ok.attempt, "MODEL", "x").as_deref(), Some("m\n"));
    let log = node.server.file_at_end(ok.attempt, "stdouterr", "execution.log").expect("there");
    assert!(log.contains("ended with exit code 0"), "{log}");
    assert_eq!(node.server.with(|known| known.joins.len()), 1);

    for (command, code) in [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("no-such-program", 127)] {
        let job = job(command);
        node.want([job.clone()]);
        assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code }, "{command}");
    }
    eventually("what is not listed is forgotten", || (!node.record(ok.attempt).exists()).then_some(())).await;
    node.want([]);
    eventually("temporary folders go", || (!node.temp().exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_no_rights_and_sees_only_itself() {
    let Some(node) = Node::namespaces() else { return };
    let private = node.dir.join("private");
    let script = format!(
        "grep -h '^Cap\\|^NoNewPrivs\\|^Seccomp:' /proc/self/status; ls -d /proc/[0-9]* | wc -l; ls {0} 2>&1; \
         unshare -U true 2>&1; ulimit -c; (exec 3<>/proc/sysrq-trigger) 2>&1; cat /proc/1/environ 2>&1; echo; env | sort | head -1",
        private.display()
    );
    let job = job(&script);
    node.want([job.clone()]);
    node.server.until_end(job.attempt).await;
    let stdout = node.server.file_at_end(job.attempt, "stdouterr", "stdout.txt").expect("there");
    for right in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(stdout.contains(&format!("{right}:\t0000000000000000")), "{stdout}");
    }
    assert!(stdout.contains("NoNewPrivs:\t1") && stdout.contains("Seccomp:\t2"), "{stdout}");
    assert!(stdout.contains("Permission denied") && stdout.contains("Operation not permitted"), "{stdout}");
    assert!(!stdout.contains("bootstrap.json") && !stdout.contains("token-canary"), "{stdout}");
    let seen: u32 = stdout.lines().find_map(|line| line.parse().ok()).expect("a number");
    assert!(seen <= 4, "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_asks_first_and_forces_then() {
    let Some(node) = Node::namespaces() else { return };
    let polite = job("trap 'echo bye; exit 3' TERM; echo here; while :; do sleep 0.05; done");
    node.want([polite.clone()]);
    eventually("it runs", || node.server.file(polite.attempt, "stdouterr", "stdout.txt").filter(|f| f == b"here\n")).await;
    node.want([stopping(&polite, 20_000)]);
    assert_eq!(node.server.until_end(polite.attempt).await, End::Stopped);
    assert_eq!(node.server.file_at_end(polite.attempt, "stdouterr", "stdout.txt").as_deref(), Some("here\nbye\n"));

    let deaf = job("trap '' TERM; echo here; while :; do sleep 0.05; done");
    node.want([deaf.clone()]);
    eventually("it runs", || node.server.file(deaf.attempt, "stdouterr", "stdout.txt").filter(|f| f == b"here\n")).await;
    node.want([stopping(&deaf, 200)]);
    assert_eq!(node.server.until_end(deaf.attempt).await, End::Stopped);
    eventually("its supervisor is gone", || node.supervisors().is_empty().then_some(())).await;

    let never = job("echo never");
    node.want([stopping(&never, 200)]);
    assert_eq!(node.server.until_end(never.attempt).await, End::Stopped);
    assert_eq!(node.server.file(never.attempt, "stdouterr", "stdout.txt"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_leaves_in_the_background_ends_with_it() {
    let Some(node) = Node::namespaces() else { return };
    daemons_end(&node, "sleep 61.071").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_namespaces_what_a_job_leaves_in_the_background_ends_with_it() {
    let node = Node::new(Isolation::ProcessGroup);
    daemons_end(&node, "sleep 61.072").await;
}

async fn daemons_end(node: &Node, sleeper: &str) {
    let job = job(&format!("setsid {sleeper} & (setsid {sleeper} &) ; exit 4"));
    node.want([job.clone()]);
    assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code: 4 });
    assert_eq!(running(&sleeper.replace(' ', "\0")), NOTHING, "nothing runs once the end is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_waits_for_its_release() {
    let Some(node) = Node::namespaces() else { return };
    let mut part = job("echo released");
    part.task.hosts.push(Host { node_id: "tvm-2".into(), address: "10.0.0.5".into() });
    part.task.host_file.push_str("10.0.0.5 slots=1\n");
    part.task.preparation = Some("echo preparing; cat $AZ_BATCHAI_MPI_HOST_FILE".into());
    part.step = Step::Prepare;
    node.want([part.clone()]);
    node.server.until_state(part.attempt, AssignmentState::Ready).await;
    assert_eq!(node.server.file(part.attempt, "stdouterr", "stdout.txt"), None, "it is not released");
    part.step = Step::Run;
    node.want([part.clone()]);
    assert_eq!(node.server.until_end(part.attempt).await, End::Exited { code: 0 });
    let prepared = node.server.file_at_end(part.attempt, "stdouterr", "stdout-job_prep-tvm-1.txt");
    assert_eq!(prepared.as_deref(), Some("preparing\n10.0.0.4 slots=1\n10.0.0.5 slots=1\n"));
    assert_eq!(node.server.file_at_end(part.attempt, "stdouterr", "stdout.txt").as_deref(), Some("released\n"));
    assert!(node.server.file_at_end(part.attempt, "stdouterr", "execution-tvm-1.log").is_some());

    // Another rank has no command: it runs until it is told to stop.
    let mut other = job("");
    other.rank = 1;
    other.task.processes.clear();
    other.task.hosts = part.task.hosts.clone();
    node.want([other.clone()]);
    node.server.until_state(other.attempt, AssignmentState::Running).await;
    node.want([stopping(&other, 1_000)]);
    assert_eq!(node.server.until_end(other.attempt).await, End::Stopped);
    assert_eq!(node.server.file(other.attempt, "stdouterr", "stdout.txt"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_preparation_ends_the_part_before_its_command() {
    let Some(node) = Node::namespaces() else { return };
    let mut part = job("echo never");
    part.task.preparation = Some("echo why >&2; exit 5".into());
    node.want([part.clone()]);
    assert_eq!(node.server.until_end(part.attempt).await, End::PreparationFailed { code: 5 });
    assert_eq!(node.server.file_at_end(part.attempt, "stdouterr", "stderr-job_prep.txt").as_deref(), Some("why\n"));
    assert_eq!(node.server.file(part.attempt, "stdouterr", "stdout.txt"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_leads_elsewhere_is_a_fault_of_the_job() {
    let Some(node) = Node::namespaces() else { return };
    let mut outside = job("echo never");
    outside.task.std_out_err_path_prefix = "/etc".into();
    node.want([outside.clone()]);
    let End::SetupFailed { error } = node.server.until_end(outside.attempt).await else { panic!("it ran") };
    assert!(error.message.contains("'/etc'"), "{}", error.message);

    // A link that another job left on the share.
    std::os::unix::fs::symlink("/etc", node.share().join("link")).expect("made");
    let mut linked = job("echo never");
    linked.task.std_out_err_path_prefix = "$AZ_BATCHAI_MOUNT_ROOT/shared/link".into();
    node.want([linked.clone()]);
    let end = node.server.until_end(linked.attempt).await;
    assert!(matches!(end, End::SetupFailed { .. }), "{end:?}");
    assert!(!std::path::Path::new("/etc/sub").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_of_an_earlier_attempt_are_put_aside() {
    let Some(node) = Node::namespaces() else { return };
    let mut first = job("echo first > $AZ_BATCHAI_OUTPUT_MODEL/x; echo one");
    first.task.std_out_err_path_prefix = "$AZ_BATCHAI_MOUNT_ROOT/shared".into();
    first.task.output_directories[0].path_prefix = "$AZ_BATCHAI_MOUNT_ROOT/shared".into();
    node.want([first.clone()]);
    node.server.until_end(first.attempt).await;
    assert_eq!(node.server.with(|known| known.files.len()), 0, "the server reads a share by itself");
    let mut second = job("ls $AZ_BATCHAI_OUTPUT_MODEL");
    second.number = 2;
    second.task.output_segment = first.task.output_segment.clone();
    second.task.std_out_err_path_prefix = first.task.std_out_err_path_prefix.clone();
    second.task.output_directories = first.task.output_directories.clone();
    node.want([second.clone()]);
    assert_eq!(node.server.until_end(second.attempt).await, End::Exited { code: 0 });
    let own = node.share().join(&first.task.output_segment);
    let read = |path: &str| std::fs::read_to_string(own.join(path)).expect(path);
    assert_eq!(read("outputs.attempt-1/m/x"), "first\n");
    assert_eq!(read("stdouterr.attempt-1/stdout.txt"), "one\n");
    assert_eq!(read("stdouterr/stdout.txt"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_in_no_argument_and_on_no_disk() {
    let Some(node) = Node::namespaces() else { return };
    let mut job = job("test \"$SECRET\" = canary-$N && echo same; while test ! -e go; do sleep 0.05; done");
    job.task.environment = vec![variable("N", "80154"), variable("SECRET", "canary-80154")];
    node.want([job.clone()]);
    eventually("it runs", || node.server.file(job.attempt, "stdouterr", "stdout.txt").filter(|f| f == b"same\n")).await;
    let holds = |bytes: &[u8], what: &str| bytes.windows(what.len()).any(|window| window == what.as_bytes());
    let check = || {
        for pid in processes() {
            assert!(!cmdline(pid).contains("canary-80154"), "in the arguments of {pid}");
        }
        for file in files(&node.dir) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            assert!(!holds(&bytes, "canary-80154"), "in {}", file.display());
            assert!(file.ends_with("bootstrap.json") || !holds(&bytes, "token-canary"), "in {}", file.display());
        }
    };
    check();
    std::fs::write(node.temp().join("go"), "").expect("written");
    assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code: 0 });
    check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_task_runs_once_as_root_and_before_all_else() {
    let Some(mut node) = Node::namespaces() else { return };
    let count = node.share().join("count");
    let setup = SetupTask {
        command_line: format!(
            "id -u; echo $TOKEN | wc -c; echo x >> {}; ls {} 2>&1; (setsid sleep 61.081 &)",
            count.display(),
            node.dir.join("private").display()
        ),
        environment: vec![variable("TOKEN", "abc")],
        std_out_err_path_prefix: "$AZ_BATCHAI_MOUNT_ROOT/shared/logs".into(),
        std_out_err_path_suffix: "sub/rg/c".into(),
    };
    let job = job("echo job");
    node.server.want(Desired {
        export: None,
        unmet: None,
        account: None,
        mounts: vec![],
        setup: Some(setup.clone()),
        assignments: vec![job.clone()],
    });
    assert_eq!(node.server.until_end(job.attempt).await, End::Exited { code: 0 });
    assert_eq!(node.server.with(|known| known.setup.clone()), Setup::Done);
    let logs = node.share().join("logs/sub/rg/c");
    let stdout = std::fs::read_to_string(logs.join("stdout-tvm-1.txt")).expect("there");
    assert!(stdout.starts_with("0\n4\n") && !stdout.contains("bootstrap"), "{stdout}");
    assert_eq!(running("sleep\x0061.081").len(), 1, "what it started goes on");

    node.kill_agent();
    node.server.with(|known| known.setup = Setup::Pending);
    node.start_agent();
    node.server.until("set up", |known| (known.setup == Setup::Done).then_some(())).await;
    assert_eq!(std::fs::read_to_string(&count).expect("there"), "x\n", "once a boot");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_setup_task_is_told_with_evidence_and_without_secrets() {
    let Some(node) = Node::namespaces() else { return };
    let setup = SetupTask {
        command_line: "echo cannot install with $TOKEN >&2; exit 9".into(),
        environment: vec![variable("TOKEN", "canary-778")],
        std_out_err_path_prefix: "$AZ_BATCHAI_MOUNT_ROOT".into(),
        std_out_err_path_suffix: "s".into(),
    };
    let job = job("echo never");
    node.server.want(Desired {
        export: None,
        unmet: None,
        account: None,
        mounts: vec![],
        setup: Some(setup),
        assignments: vec![job.clone()],
    });
    let error = node.server.until("a failure", |known| match &known.setup {
        Setup::Failed(error) => Some(error.clone()),
        _ => None,
    });
    let error = error.await;
    let detail = |name: &str| error.details.iter().find(|d| d.name == name).map(|d| d.value.clone());
    assert_eq!(detail("exitCode").as_deref(), Some("9"));
    assert_eq!(detail("nodeId").as_deref(), Some("tvm-1"));
    assert_eq!(detail("stderr").as_deref(), Some("cannot install with ***"));
    assert!(detail("log").is_some_and(|path| path.ends_with("/s/stderr-tvm-1.txt")));
    assert_eq!(node.server.with(|known| known.seen.len()), 0, "a node that is not set up takes no job");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_a_part_run_side_by_side() {
    let Some(node) = Node::namespaces() else { return };
    let mut both = job("");
    both.task.processes = vec![
        process("0", "until [ -e second ]; do sleep 0.01; done; echo $AZ_BATCHAI_TASK_INDEX $OWN"),
        process("1", "touch second; echo $AZ_BATCHAI_TASK_INDEX $OWN"),
    ];
    both.task.processes[1].environment =
        vec![variable("AZ_BATCHAI_TASK_INDEX", "1"), variable("OWN", "file://$AZ_BATCHAI_JOB_TEMP/$NOBODY")];
    node.want([both.clone()]);
    assert_eq!(node.server.until_end(both.attempt).await, End::Exited { code: 0 });
    assert_eq!(node.server.file_at_end(both.attempt, "stdouterr", "stdout-0.txt").as_deref(), Some("0\n"));
    let own = format!("1 file://{}/$NOBODY\n", node.temp().display());
    assert_eq!(node.server.file_at_end(both.attempt, "stdouterr", "stdout-1.txt"), Some(own));
    assert_eq!(node.server.file_at_end(both.attempt, "stdouterr", "stdout.txt"), None);

    let mut failing = job("");
    failing.task.processes = vec![process("0", "exec sleep 61.091"), process("1", "exit 9")];
    node.want([failing.clone()]);
    assert_eq!(node.server.until_end(failing.attempt).await, End::Exited { code: 9 }, "the first that fails ends all");
    assert_eq!(running("sleep\x0061.091"), NOTHING);

    let mut serving = job("");
    serving.task.processes = vec![process("ps-0", "exec sleep 61.092"), process("wk-0", "true"), process("wk-1", "true")];
    serving.task.processes[0].role = Role::Follower;
    node.want([serving.clone()]);
    assert_eq!(node.server.until_end(serving.attempt).await, End::Exited { code: 0 }, "nobody waits for a server");
    assert_eq!(running("sleep\x0061.092"), NOTHING);
}
