//! A recorder in place of frameworks that are not here: it writes down how it was started, and what a real one would do is not shown.

use serde_json::{Value, json};

use super::{assert_succeeded, run, script, two_nodes};

const RECORDER: &str = "
echo \"$0 $*\" | sed 's|.*/[^/]*-recorder|recorder|'
env | grep -E '^(TF_CONFIG|AZ_BATCHAI_(PS_HOSTS|WORKER_HOSTS|TASK_INDEX|PYTORCH_[A-Z_]*)|OMPI_COMM_WORLD_(RANK|SIZE))=' | sort
case $* in *job_name=ps*) sleep 600 ;; esac
";

#[tokio::test]
async fn tensor_flow_knows_its_cluster_and_servers_are_not_waited_for() {
    let Some(site) = two_nodes(&[]).await else { return };
    let of = |job: &str| format!("--job_name={job} --task_index=$AZ_BATCHAI_TASK_INDEX --ps_hosts=$AZ_BATCHAI_PS_HOSTS");
    let settings = json!({
        "pythonScriptFilePath": script(&site, "recorder", RECORDER),
        "pythonInterpreterPath": "/bin/bash",
        "masterCommandLineArgs": of("worker"), "workerCommandLineArgs": of("worker"), "parameterServerCommandLineArgs": of("ps"),
        "workerCount": 2, "parameterServerCount": 1 });
    let job = run(&site, "j", "tensorFlowSettings", settings).await;
    assert_succeeded(&site, "j", &job).await;
    let names = site.names("j", "stdouterr").await;
    for name in ["stdout-wk-0.txt", "stderr-wk-0.txt", "stdout-wk-1.txt", "stdout-ps-0.txt", "stderr-ps-0.txt"] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
    let master = site.read("j", "stdouterr", "stdout-wk-0.txt").await;
    let value = |name: &str| {
        let line = master.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name} is set in:\n{master}")).to_owned()
    };
    let (servers, workers) = (value("AZ_BATCHAI_PS_HOSTS"), value("AZ_BATCHAI_WORKER_HOSTS"));
    assert!(servers.ends_with(":2222") && workers.contains(":2223,") && workers.ends_with(":2222"), "{servers} {workers}");
    let config: Value = serde_json::from_str(&value("TF_CONFIG")).expect("a document");
    assert_eq!(config["task"], json!({ "type": "master", "index": 0 }));
    assert_eq!(config["cluster"]["ps"], json!([servers]));
    assert_eq!(config["cluster"]["worker"], json!(workers.split(',').collect::<Vec<_>>()));
    assert!(master.starts_with(&format!("recorder --job_name=worker --task_index=0 --ps_hosts={servers}\n")), "{master}");
}

#[tokio::test]
async fn horovod_and_chainer_are_started_under_mpi_once_a_node() {
    let Some(site) = two_nodes(&["/usr/bin/mpirun", "/usr/sbin/sshd"]).await else { return };
    let path = script(&site, "recorder", RECORDER);
    for (name, member) in [("horovod", "horovodSettings"), ("chainer", "chainerSettings")] {
        let settings =
            json!({ "pythonScriptFilePath": path, "pythonInterpreterPath": "/bin/bash", "commandLineArgs": "-g 'a b'" });
        let job = run(&site, name, member, settings).await;
        assert_succeeded(&site, name, &job).await;
        let stdout = site.stdout(name).await;
        for line in ["recorder -g a b", "OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2"] {
            assert!(stdout.lines().any(|known| known == line), "{line} in:\n{stdout}");
        }
    }
}
