//! What a job runs, by which framework's rules.

use serde::{Deserialize, Serialize};

/// What is run, by which framework's rules. Defaults that depend on the job's nodes are filled in.
///
/// Source: the settings of jobs, openapi 2018-05-01.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framework {
    /// Microsoft Cognitive Toolkit, under MPI where there are several processes.
    Cntk(MpiProgram),
    /// PyTorch: one process a rank, or MPI.
    PyTorch {
        /// The script.
        script: Script,
        /// Processes of all nodes together, at least 1.
        process_count: u32,
        /// How the processes talk; `None` where they need not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backend: Option<Backend>,
    },
    /// TensorFlow: a master, workers and parameter servers.
    TensorFlow(TensorFlow),
    /// Caffe.
    Caffe(MpiProgram),
    /// Caffe2: one process a node.
    Caffe2(Script),
    /// Chainer, under MPI.
    Chainer {
        /// The script.
        script: Script,
        /// Processes of all nodes together, at least 1.
        process_count: u32,
    },
    /// Horovod, under MPI.
    Horovod {
        /// The script.
        script: Script,
        /// Processes of all nodes together, at least 1.
        process_count: u32,
    },
    /// A command line, run by MPI once a process.
    CustomMpi {
        /// The command line.
        command_line: String,
        /// Processes of all nodes together, at least 1.
        process_count: u32,
    },
    /// A command line, run by a shell on the first node alone.
    Custom {
        /// The command line; `None` runs nothing and succeeds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command_line: Option<String>,
    },
}

/// A Python script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Where it is, unexpanded.
    pub path: String,
    /// What runs it; `None` for the `python` that is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// What is appended to the command, unexpanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

/// A program under MPI that is either a configuration for the framework's own executable or a script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MpiProgram {
    /// What is run.
    pub source: Source,
    /// Processes of all nodes together, at least 1.
    pub process_count: u32,
}

/// A configuration for the framework's own executable, or a script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A configuration: BrainScript of CNTK, a solver of Caffe.
    Config {
        /// Where it is, unexpanded.
        path: String,
        /// What is appended to the command, unexpanded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<String>,
    },
    /// A Python script.
    Script(Script),
}

/// How processes of PyTorch talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// PyTorch's own, over TCP.
    Tcp,
    /// Gloo.
    Gloo,
    /// The MPI of the image or node.
    Mpi,
}

/// A TensorFlow job. Its script's own `arguments` are those of the master, which is worker 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorFlow {
    /// The script with the master's arguments.
    pub script: Script,
    /// What the other workers get instead of the master's arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_arguments: Option<String>,
    /// What parameter servers get instead of the master's arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter_server_arguments: Option<String>,
    /// Workers of all nodes together, the master among them; `None` for a job of one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_count: Option<u32>,
    /// Parameter servers, at most one a node; `None` for a job of one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter_server_count: Option<u32>,
}

impl Framework {
    /// The member of a request that chooses it.
    pub fn member(&self) -> &'static str {
        match self {
            Framework::Cntk(_) => "cntkSettings",
            Framework::PyTorch { .. } => "pyTorchSettings",
            Framework::TensorFlow(_) => "tensorFlowSettings",
            Framework::Caffe(_) => "caffeSettings",
            Framework::Caffe2(_) => "caffe2Settings",
            Framework::Chainer { .. } => "chainerSettings",
            Framework::Horovod { .. } => "horovodSettings",
            Framework::CustomMpi { .. } => "customMpiSettings",
            Framework::Custom { .. } => "customToolkitSettings",
        }
    }

    /// Parts, from the first, whose processes decide how the job ends; the others end with them.
    pub fn leaders(&self, nodes: u32) -> u32 {
        match self {
            Framework::PyTorch { backend: Some(Backend::Mpi), .. } => 1,
            Framework::PyTorch { process_count, .. } => (*process_count).clamp(1, nodes.max(1)),
            Framework::Caffe2(_) => nodes.max(1),
            _ => 1,
        }
    }

    /// What answers call it.
    ///
    /// Source: `ToolType`, openapi 2018-05-01; `pytorch` is in its description alone.
    pub fn tool_type(&self) -> &'static str {
        match self {
            Framework::Cntk(_) => "cntk",
            Framework::PyTorch { .. } => "pytorch",
            Framework::TensorFlow(_) => "tensorflow",
            Framework::Caffe(_) => "caffe",
            Framework::Caffe2(_) => "caffe2",
            Framework::Chainer { .. } => "chainer",
            Framework::Horovod { .. } => "horovod",
            Framework::CustomMpi { .. } => "custommpi",
            Framework::Custom { .. } => "custom",
        }
    }
}
