//! What the nodes of a job have of each other.

use serde_json::json;

use super::{assert_succeeded, everything, run, script, submit, two_nodes};
use crate::harness::Server;

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
