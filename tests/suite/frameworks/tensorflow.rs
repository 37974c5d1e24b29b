//! TensorFlow with a parameter server and two workers on the images of digits. A large package: run by name.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::{assert_succeeded, everything, script, submit, two_nodes};
use crate::harness::Server;

const IMAGES: &str = "/usr/lib/python3/dist-packages/sklearn/datasets/data/digits.csv.gz";

/// A softmax layer, whose weights the parameter server holds and which two workers train at once, each on a half of the data. Each prints
/// the accuracy on what neither has seen.
const TRAIN: &str = "
import argparse, os, time
import numpy
import tensorflow.compat.v1 as tf
tf.disable_eager_execution()
options = argparse.ArgumentParser()
for name in ['job_name', 'ps_hosts', 'worker_hosts']:
    options.add_argument('--' + name)
options.add_argument('--task_index', type=int)
given = options.parse_args()
cluster = tf.train.ClusterSpec({'ps': given.ps_hosts.split(','), 'worker': given.worker_hosts.split(',')})
server = tf.train.Server(cluster, job_name=given.job_name, task_index=given.task_index)
if given.job_name == 'ps':
    server.join()
rows = numpy.loadtxt(os.environ['IMAGES'], delimiter=',', dtype='float32')
images, labels = rows[:, :-1] / 16, rows[:, -1].astype('int64')
seen = 1400
mine, answers = images[given.task_index:seen:2], labels[given.task_index:seen:2]
with tf.device(tf.train.replica_device_setter(worker_device='/job:worker/task:%d' % given.task_index, cluster=cluster)):
    x, y = tf.placeholder(tf.float32, [None, 64]), tf.placeholder(tf.int64, [None])
    step = tf.train.get_or_create_global_step()
    weights, bias = tf.get_variable('w', [64, 10]), tf.get_variable('b', [10])
    scores = tf.matmul(x, weights) + bias
    loss = tf.losses.sparse_softmax_cross_entropy(y, scores)
    train = tf.train.GradientDescentOptimizer(0.5).minimize(loss, global_step=step)
    right = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(scores, 1), y), tf.float32))
with tf.train.MonitoredTrainingSession(master=server.target, is_chief=given.task_index == 0) as session:
    for done in range(500):
        at = done * 50 % len(mine)
        session.run(train, {x: mine[at:at + 50], y: answers[at:at + 50]})
    # What the other one does counts too.
    while session.run(step) < 1000:
        time.sleep(0.05)
    accuracy = session.run(right, {x: images[seen:], y: labels[seen:]})
print('worker %d accuracy %.3f' % (given.task_index, accuracy), flush=True)
";

/// The folder that has TensorFlow, which `script/test tensorflow` fills.
fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tensorflow")
}

#[tokio::test]
#[ignore = "needs tensorflow-cpu"]
async fn two_workers_train_what_a_parameter_server_holds() {
    let package = package();
    let found = package.join("tensorflow");
    let Some(site) = two_nodes(&[IMAGES, found.to_str().expect("text")]).await else { return };
    // Nodes see the share and nothing else of this folder: links where it is one file system, else copies.
    let shared = Server::shared().share().join("tensorflow");
    let copied = ["-al", "-a"].iter().any(|how| {
        let _ = std::fs::remove_dir_all(&shared);
        Command::new("cp").arg(how).arg(&package).arg(&shared).status().is_ok_and(|status| status.success())
    });
    assert!(copied, "the package is on the share");
    let path = script(&site, "train.py", TRAIN);
    let of = |job: &str| {
        format!(
            "--job_name={job} --task_index=$AZ_BATCHAI_TASK_INDEX --ps_hosts=$AZ_BATCHAI_PS_HOSTS --worker_hosts=$AZ_BATCHAI_WORKER_HOSTS"
        )
    };
    let settings = json!({
        "pythonScriptFilePath": path,
        "masterCommandLineArgs": of("worker"), "workerCommandLineArgs": of("worker"), "parameterServerCommandLineArgs": of("ps"),
        "workerCount": 2, "parameterServerCount": 1 });
    let over = json!({ "environmentVariables": [
        { "name": "PYTHONPATH", "value": "$AZ_BATCHAI_MOUNT_ROOT/shared/tensorflow" },
        { "name": "PYTHONDONTWRITEBYTECODE", "value": "1" },
        { "name": "IMAGES", "value": IMAGES },
    ] });
    submit(&site, "j", "tensorFlowSettings", settings, over).await;
    let job = site.ended_within(Duration::from_secs(240), "j").await;
    assert_succeeded(&site, "j", &job).await;
    for worker in 0..2 {
        let stdout = site.read("j", "stdouterr", &format!("stdout-wk-{worker}.txt")).await;
        let accuracy = stdout
            .lines()
            .find_map(|line| line.strip_prefix(&format!("worker {worker} accuracy ")))
            .and_then(|text| text.parse::<f64>().ok());
        match accuracy {
            Some(accuracy) => assert!(accuracy >= 0.85, "{stdout}"),
            None => panic!("{stdout}\n{}", everything(&site, "j").await),
        }
    }
}
