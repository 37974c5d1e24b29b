//! The whole launch plan of every shape that the published recipes submit, beside `plans.txt`.

use super::*;
use crate::domain::framework::{Script, TensorFlow};

fn gang(nodes: usize, gpus: u32) -> Gang<'static> {
    let addresses = ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"];
    Gang { addresses: addresses.into_iter().take(nodes).collect(), gpus }
}

fn script(arguments: Option<&str>) -> Script {
    let path = "$AZ_BATCHAI_INPUT_SCRIPTS/train.py".to_owned();
    Script { path, interpreter: None, arguments: arguments.map(str::to_owned) }
}

fn program(process_count: u32, arguments: &str) -> MpiProgram {
    MpiProgram { source: Source::Script(script(Some(arguments))), process_count }
}

fn config(path: &str, arguments: Option<&str>, process_count: u32) -> MpiProgram {
    MpiProgram { source: Source::Config { path: path.into(), arguments: arguments.map(str::to_owned) }, process_count }
}

fn tensor_flow(arguments: Option<&str>, workers: Option<u32>, servers: Option<u32>) -> Framework {
    let of = |job: &str| {
        format!(
            "--job_name={job} --ps_hosts=$AZ_BATCHAI_PS_HOSTS --worker_hosts=$AZ_BATCHAI_WORKER_HOSTS --task_index=$AZ_BATCHAI_TASK_INDEX"
        )
    };
    let is_distributed = workers.is_some();
    Framework::TensorFlow(TensorFlow {
        script: script(if is_distributed { Some(of("worker")) } else { arguments.map(str::to_owned) }.as_deref()),
        worker_arguments: is_distributed.then(|| of("worker")),
        parameter_server_arguments: is_distributed.then(|| of("ps")),
        worker_count: workers,
        parameter_server_count: servers,
    })
}

fn py_torch(process_count: u32, backend: Option<Backend>) -> Framework {
    let arguments = "--world-size 2 --dist-backend gloo --dist-url $AZ_BATCHAI_PYTORCH_INIT_METHOD --rank $AZ_BATCHAI_TASK_INDEX";
    Framework::PyTorch { script: script(Some(arguments)), process_count, backend }
}

/// Every recipe: its name, its settings with defaults filled in as decoding does it, nodes, and GPUs a node.
fn recipes() -> Vec<(&'static str, Framework, usize, u32)> {
    let brain_script = "rootDir=. dataDir=$AZ_BATCHAI_INPUT_DATASET outputDir=$AZ_BATCHAI_OUTPUT_MODEL";
    let mpi = |count| Framework::CustomMpi { command_line: "python -u '$X/score.py' \"it's\"".into(), process_count: count };
    vec![
        ("TensorFlow-GPU", tensor_flow(None, None, None), 1, 1),
        ("TensorFlow-GPU-Distributed", tensor_flow(None, Some(2), Some(1)), 2, 1),
        ("TensorFlow, 4 workers and 2 servers on 2 nodes", tensor_flow(None, Some(4), Some(2)), 2, 2),
        ("TensorFlow, 1 node, a worker and a server", tensor_flow(None, Some(1), Some(1)), 1, 1),
        ("Keras on TensorFlow", tensor_flow(Some("--epochs 3"), None, None), 1, 1),
        ("Keras on CNTK", Framework::Cntk(program(1, "")), 1, 1),
        ("CNTK-GPU-Python", Framework::Cntk(program(1, "--datadir $AZ_BATCHAI_INPUT_DATASET")), 1, 1),
        ("CNTK-GPU-Python-Distributed", Framework::Cntk(program(2, "--datadir $AZ_BATCHAI_INPUT_DATASET")), 2, 1),
        ("CNTK-GPU-Python-Distributed-Infiniband", Framework::Cntk(program(8, "")), 2, 4),
        (
            "CNTK-GPU-BrainScript",
            Framework::Cntk(config("$AZ_BATCHAI_INPUT_CONFIG/ConvNet_MNIST.cntk", Some(brain_script), 1)),
            1,
            1,
        ),
        (
            "CNTK-GPU-BrainScript-Distributed",
            Framework::Cntk(config("/mnt/my nets/net.cntk", Some("parallelTrain=true"), 2)),
            2,
            1,
        ),
        ("Caffe-GPU", Framework::Caffe(config("$AZ_BATCHAI_INPUT_SAMPLE/lenet_solver.prototxt", None, 1)), 1, 1),
        ("Caffe2-GPU-Distributed", Framework::Caffe2(script(Some("--file_store_path $AZ_BATCHAI_SHARED_JOB_TEMP"))), 2, 1),
        ("Chainer-GPU-Distributed", Framework::Chainer { script: script(Some("-g")), process_count: 2 }, 2, 1),
        ("Chainer-GPU-Distributed-Infiniband", Framework::Chainer { script: script(Some("-g")), process_count: 8 }, 2, 4),
        ("Horovod, 4 nodes", Framework::Horovod { script: script(None), process_count: 4 }, 4, 1),
        ("Horovod-TensorFlow and Horovod-PyTorch", Framework::Horovod { script: script(None), process_count: 2 }, 2, 1),
        ("Horovod-Infiniband-Benchmark", Framework::Horovod { script: script(None), process_count: 8 }, 2, 4),
        ("PyTorch-GPU-Distributed-Gloo", py_torch(2, Some(Backend::Gloo)), 2, 1),
        ("PyTorch over TCP, 3 processes on 2 nodes", py_torch(3, Some(Backend::Tcp)), 2, 0),
        ("PyTorch over MPI", py_torch(2, Some(Backend::Mpi)), 2, 1),
        ("PyTorch, 1 node", py_torch(1, None), 1, 1),
        ("Batch-Scoring (custom MPI)", mpi(2), 2, 1),
        ("Custom MPI, 5 processes on 3 nodes without GPUs", mpi(5), 3, 0),
        ("Job factory", Framework::Custom { command_line: Some("python $X/train.py --lr $PARAM_LR".into()) }, 1, 0),
        ("Custom toolkit, 2 nodes", Framework::Custom { command_line: Some("mpirun -np 2 true".into()) }, 2, 0),
        ("Custom toolkit without a command", Framework::Custom { command_line: None }, 1, 0),
    ]
}

fn render() -> String {
    let mut text = String::new();
    for (name, framework, nodes, gpus) in recipes() {
        let plan = plan(&framework, &gang(nodes, gpus));
        let leaders = framework.leaders(u32::try_from(nodes).expect("small"));
        text.push_str(&format!("## {name}\n{nodes} nodes with {gpus} GPUs; {leaders} lead\n"));
        for (rank, part) in plan.parts.iter().enumerate() {
            for process in part {
                text.push_str(&format!("rank {rank}: {:?} into {}\n", process.role, process.files().0));
                for line in process.command_line.lines() {
                    text.push_str(&format!("    {line}\n"));
                }
                for variable in &process.environment {
                    text.push_str(&format!("    {}={}\n", variable.name, variable.value));
                }
            }
            if part.is_empty() {
                text.push_str(&format!("rank {rank}: nothing\n"));
            }
        }
        text.push_str(&format!("host file: {}\n", plan.host_file.trim_end().replace('\n', ", ")));
    }
    text
}

#[test]
fn every_recipe_starts_what_is_written_down() {
    let (now, written) = (render(), include_str!("plans.txt"));
    if now != written {
        let differs = now.lines().zip(written.lines()).position(|(now, written)| now != written);
        panic!("differs from line {:?} on; src/launch/plans.txt would be:\n{now}", differs.map(|line| line + 1));
    }
}

#[test]
fn parts_with_leaders_are_those_that_decide() {
    for (name, framework, nodes, gpus) in recipes() {
        let parts = plan(&framework, &gang(nodes, gpus)).parts;
        let leaders = framework.leaders(u32::try_from(nodes).expect("small")) as usize;
        for (rank, part) in parts.iter().enumerate() {
            let leads = part.iter().any(|process| process.role == Role::Leader);
            assert_eq!(leads, rank < leaders, "{name}, rank {rank}");
        }
    }
}
