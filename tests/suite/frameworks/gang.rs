//! What the nodes of a job have of each other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::{assert_succeeded, everything, run, script, submit, two_nodes};
use crate::harness::{Server, until};

#[tokio::test]
async fn nodes_of_a_job_reach_each_other_by_ssh_and_those_of_others_do_not() {
    let Some(site) = two_nodes(&["/usr/sbin/sshd", "/usr/bin/ssh"]).await else { return };
    let key = format!("key-{}", site.group);
    let command = format!(
        "for host in ${{AZ_BATCH_HOST_LIST//,/ }}; do ssh $host 'echo ${{AZ_BATCH_NODE_ID/_/-}} $(hostname) $TOKEN; id -un' || exit 1; done; \
         cp ~batch/.ssh/id_ecdsa $AZ_BATCHAI_MOUNT_ROOT/shared/{key}; ssh localhost.invalid true"
    );
    let over = json!({ "secrets": [{ "name": "TOKEN", "value": "two words" }] });
    submit(&site, "first", "customToolkitSettings", json!({ "commandLine": command }), over).await;
    let job = site.ended("first").await;
    assert_eq!(job["executionInfo"]["exitCode"], 255, "its last line fails\n{}", everything(&site, "first").await);
    let stdout = site.stdout("first").await;
    let words: Vec<&str> = stdout.split_whitespace().collect();
    assert_eq!(words.len(), 10, "{stdout}");
    assert_eq!((words[0], words[5]), (words[1], words[6]), "{stdout}");
    assert_ne!(words[0], words[5], "both nodes");
    assert_eq!(words[2..5], ["two", "words", "batch"], "{stdout}");

    let old = format!(
        "cp $AZ_BATCHAI_MOUNT_ROOT/shared/{key} key; chmod 600 key; ssh -F none -i key -o IdentitiesOnly=yes -o BatchMode=yes \
         -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null ${{AZ_BATCH_HOST_LIST#*,}} echo in"
    );
    let job = run(&site, "second", "customToolkitSettings", json!({ "commandLine": old })).await;
    let written = everything(&site, "second").await;
    assert_eq!(job["executionInfo"]["exitCode"], 255, "{written}");
    assert!(written.contains("Permission denied (publickey)"), "the last job's key is refused: {written}");
    std::fs::remove_file(Server::shared().share().join(key)).expect("there");
}

#[tokio::test]
async fn all_nodes_of_a_job_see_its_shared_folder_and_no_later_job_does() {
    let Some(site) = two_nodes(&[]).await else { return };
    let script = script(
        &site,
        "share.sh",
        "
if [ $AZ_BATCHAI_TASK_INDEX = 0 ]; then
    ls -A $AZ_BATCHAI_SHARED_JOB_TEMP
    echo from the first > $AZ_BATCHAI_SHARED_JOB_TEMP/new && mv $AZ_BATCHAI_SHARED_JOB_TEMP/new $AZ_BATCHAI_SHARED_JOB_TEMP/told
else
    until [ -e $AZ_BATCHAI_SHARED_JOB_TEMP/told ]; do sleep 0.02; done
    cat $AZ_BATCHAI_SHARED_JOB_TEMP/told
fi
",
    );
    for name in ["one", "two"] {
        let settings = json!({ "pythonScriptFilePath": script, "pythonInterpreterPath": "/bin/bash" });
        let job = run(&site, name, "caffe2Settings", settings).await;
        assert_succeeded(&site, name, &job).await;
        assert_eq!(site.read(name, "stdouterr", "stdout-0.txt").await, "", "nothing of an earlier job is there");
        assert_eq!(site.read(name, "stdouterr", "stdout-1.txt").await, "from the first\n");
    }
}

#[tokio::test]
async fn one_process_that_fails_ends_the_job_on_every_node() {
    let Some(site) = two_nodes(&[]).await else { return };
    let script = script(
        &site,
        "fail.sh",
        "
[ $AZ_BATCHAI_TASK_INDEX = 0 ] || { until [ -e $AZ_BATCHAI_SHARED_JOB_TEMP/up ]; do sleep 0.02; done; exit 9; }
trap '' TERM
touch $AZ_BATCHAI_SHARED_JOB_TEMP/up
sleep 600 & wait; sleep 600
",
    );
    let settings = json!({ "pythonScriptFilePath": script, "pythonInterpreterPath": "/bin/bash" });
    let job = run(&site, "j", "caffe2Settings", settings).await;
    assert_eq!(job["executionInfo"]["exitCode"], 9, "{job}\n{}", everything(&site, "j").await);
    site.wait_idle("c", 2).await;
}

/// Longest time from the end of one process until nothing of the job runs on any node.
const TOGETHER: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_failing_process_ends_the_others_within_two_seconds_and_is_the_cause() {
    let Some(site) = two_nodes(&[]).await else { return };
    let seconds = u32::from_str_radix(&site.group[1..8], 16).expect("hex") % 1_000_000 + 300_000_000;
    let script = script(
        &site,
        "first.sh",
        &format!(
            "
if [ $AZ_BATCHAI_TASK_INDEX = 1 ]; then
    until [ -e $AZ_BATCHAI_SHARED_JOB_TEMP/up ]; do sleep 0.02; done
    echo $EPOCHREALTIME > $AZ_BATCHAI_MOUNT_ROOT/shared/failed-{0}.new
    mv $AZ_BATCHAI_MOUNT_ROOT/shared/failed-{0}.new $AZ_BATCHAI_MOUNT_ROOT/shared/failed-{0}
    exit 9
fi
# Deaf, and with an end of its own that comes later: not the cause.
trap '' TERM
setsid sleep {seconds} & touch $AZ_BATCHAI_SHARED_JOB_TEMP/up
sleep {seconds}; exit 3
",
            site.group
        ),
    );
    let settings = json!({ "pythonScriptFilePath": script, "pythonInterpreterPath": "/bin/bash" });
    submit(&site, "j", "caffe2Settings", settings, json!({})).await;
    let told = Server::shared().share().join(format!("failed-{}", site.group));
    let failed: f64 =
        until("one fails", || async { std::fs::read_to_string(&told).unwrap_or_default() }, |text| text.ends_with('\n'))
            .await
            .trim()
            .parse()
            .expect("a time");
    let runs = || async { sleepers(seconds) };
    until("nothing of it runs", runs, |count| *count == 0).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let took = now.saturating_sub(Duration::from_secs_f64(failed));
    eprintln!("the others ended {took:?} after the first");
    assert!(took < TOGETHER, "{took:?}");
    let job = site.ended("j").await;
    assert_eq!(job["executionInfo"]["exitCode"], 9, "{job}");
}

/// Processes on this host that are a `sleep` of so many seconds.
fn sleepers(seconds: u32) -> usize {
    let wanted = format!("sleep\0{seconds}\0");
    let entries = std::fs::read_dir("/proc").expect("readable").flatten();
    entries.filter(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())).count()
}

#[tokio::test]
async fn a_pair_of_nodes_that_do_not_reach_each_other_is_named() {
    let Some(site) = two_nodes(&["/usr/sbin/sshd", "/usr/sbin/ip"]).await else { return };
    let listed = site.api.post(&format!("{}/listRemoteLoginInformation", site.cluster_path("c"))).await.expect(200);
    let ids: Vec<String> = listed.body["value"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|n| n["nodeId"].as_str().expect("named").to_owned())
        .collect();
    // The cable of one is pulled.
    let cut = node_of(&ids[1]);
    let pulled = std::process::Command::new("nsenter")
        .args(["-t", &cut.to_string(), "-n", "ip", "link", "set", "eth0", "down"])
        .status()
        .expect("nsenter runs");
    assert!(pulled.success());
    let over = json!({ "jobPreparation": { "commandLine": "echo prepared" } });
    submit(&site, "j", "customToolkitSettings", json!({ "commandLine": "echo never" }), over).await;
    let job = site.ended("j").await;
    let error = &job["executionInfo"]["errors"][0];
    assert_eq!(error["code"], "JobNodesUnreachable", "{job}");
    let message = error["message"].as_str().expect("text");
    assert!(ids.iter().all(|id| message.contains(id.as_str())), "{message} names {ids:?}");
    assert!(!everything(&site, "j").await.contains("never"), "nothing of the user's started");
}

/// The first process of a node, as the host sees it.
fn node_of(id: &str) -> u32 {
    let found = Server::shared().node_processes().into_iter().find(|pid| {
        let spec = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let path = spec.split(|b| *b == 0).nth(2).map(|path| String::from_utf8_lossy(path).into_owned()).unwrap_or_default();
        std::fs::read_to_string(path).is_ok_and(|text| text.contains(id))
    });
    found.unwrap_or_else(|| panic!("{id} is a node of this host"))
}

#[tokio::test]
async fn nothing_of_an_old_attempt_reaches_a_new_one() {
    let Some(site) = two_nodes(&["/usr/sbin/sshd", "/usr/bin/ssh"]).await else { return };
    let seconds = u32::from_str_radix(&site.group[1..8], 16).expect("hex") % 1_000_000 + 400_000_000;
    let key = format!("old-key-{}", site.group);
    let command = format!(
        "
share=$AZ_BATCHAI_MOUNT_ROOT/shared; other=${{AZ_BATCH_HOST_LIST#*,}}
if [ ! -e $share/{key} ]; then
    (setsid sleep {seconds} &); ssh $other 'setsid sleep {seconds} >/dev/null 2>&1 & true'
    cp ~batch/.ssh/id_ecdsa $share/{key}
    sleep {seconds}
fi
cp $share/{key} key; chmod 600 key
ssh -F none -i key -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null $other echo in
echo refused=$?; ssh $other echo its own key opens"
    );
    submit(&site, "j", "customToolkitSettings", json!({ "commandLine": command }), json!({})).await;
    let told = Server::shared().share().join(&key);
    until("the first attempt runs", || async { told.exists() && sleepers(seconds) == 3 }, |up| *up).await;
    let listed = site.api.post(&format!("{}/listRemoteLoginInformation", site.job_path("j"))).await.expect(200);
    let second = listed.body["value"][1]["nodeId"].as_str().expect("named").to_owned();
    Server::shared().kill_process(node_of(&second));
    // The old one is over, on the node that lives too, before the new one begins.
    until("the new attempt begins", || site.find_stdout("j"), |text| text.contains("refused")).await;
    assert_eq!(sleepers(seconds), 0, "no process of the old attempt");
    let job = site.ended("j").await;
    let written = everything(&site, "j").await;
    assert_succeeded(&site, "j", &job).await;
    assert!(written.contains("refused=255") && written.contains("its own key opens"), "{written}");
    assert!(written.contains("Permission denied (publickey)"), "{written}");
    std::fs::remove_file(told).expect("there");
}

#[tokio::test]
async fn a_node_lets_its_jobs_other_nodes_run_commands_and_copy_files_and_nothing_else() {
    let Some(site) = two_nodes(&["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/sftp"]).await else { return };
    // Each line says what came of one thing that ssh can do; failures are told by their exit code.
    let script = script(
        &site,
        "ask.sh",
        r#"
other=${AZ_BATCH_HOST_LIST#*,}; cd $AZ_BATCHAI_JOB_TEMP
export MARK=x LC_MARK=x DISPLAY=127.0.0.1:9
echo "variables: $(ssh -o SendEnv=MARK -o SendEnv=LC_MARK -o SetEnv=SET=x $other 'echo [$MARK$LC_MARK$SET]')"
eval $(ssh-agent) >/dev/null; ssh-add -q ~batch/.ssh/id_ecdsa
echo "agent: $(ssh -A $other 'echo [$SSH_AUTH_SOCK]')"; kill $SSH_AGENT_PID; unset SSH_AUTH_SOCK
echo "display: $(ssh -Y $other 'echo [$DISPLAY]' 2>&1 | tr '\n' ' ' | sed 's/ $//')"
echo "port there: $(echo hello | ssh -o LogLevel=INFO -W $other:22 $other 2>&1 | head -n 1)"
echo "port here: $(ssh -o ExitOnForwardFailure=yes -R 7007:127.0.0.1:22 $other 'echo in' 2>&1)"
echo "socket here: $(ssh -o ExitOnForwardFailure=yes -R /tmp/lent:127.0.0.1:22 $other 'echo in' 2>&1)"
strange="-F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
for name in 1 2 3; do ssh-keygen -q -t ed25519 -N '' -f strange-$name; done
echo "stranger: $(ssh $strange -i strange-1 $other 'echo in' 2>&1)"
echo "password: $(ssh -F none -o BatchMode=no -o StrictHostKeyChecking=no -o PubkeyAuthentication=no -o LogLevel=ERROR \
    -o PreferredAuthentications=password,keyboard-interactive,hostbased $other 'echo in' 2>&1 </dev/null | tail -n 1)"
for user in root nobody sshd; do echo "as $user: $(ssh -l $user $other 'echo in' 2>&1)"; done
own="-i $(echo ~batch)/.ssh/id_ecdsa"
echo "third: $(ssh $strange -i strange-1 -i strange-2 $own $other 'echo in' 2>&1)"
echo "fourth: $(ssh $strange -i strange-1 -i strange-2 -i strange-3 $own $other 'echo in' 2>&1)"
echo some > some; echo "put some /tmp/copied" | sftp -q -b - $other >/dev/null; echo "copied: $(ssh $other 'cat /tmp/copied; rm /tmp/copied')"
"#,
    );
    let job = run(&site, "j", "customToolkitSettings", json!({ "commandLine": format!("bash {script}") })).await;
    assert_succeeded(&site, "j", &job).await;
    let stdout = site.stdout("j").await;
    let answer = |name: &str| {
        let lines = stdout.lines().skip_while(|line| !line.starts_with(&format!("{name}: ")));
        lines.take(1).map(|line| line.split_once(": ").unwrap_or_default().1).collect::<String>()
    };
    for (name, wanted) in [("variables", "[]"), ("agent", "[]"), ("display", "[]"), ("third", "in"), ("copied", "some")] {
        assert!(answer(name).ends_with(wanted), "{name}: {stdout}");
    }
    for (name, words) in [
        ("port there", "administratively prohibited"),
        ("port here", "remote port forwarding failed"),
        ("socket here", "remote port forwarding failed"),
        ("stranger", "Permission denied (publickey)"),
        ("password", "Permission denied (publickey)"),
        ("as root", "Permission denied (publickey)"),
        ("as nobody", "Permission denied (publickey)"),
        ("as sshd", "Permission denied (publickey)"),
        ("fourth", "Too many authentication failures"),
    ] {
        assert!(answer(name).contains(words), "{name}: '{}' in {stdout}", answer(name));
    }
    assert!(!stdout.contains(": in\nport") && !stdout.lines().any(|line| line == "in"), "{stdout}");
}
