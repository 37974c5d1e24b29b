//! What a job runs: the settings of nine frameworks, of which a job has one.

use serde::Serialize;

use crate::domain::cluster::MAX_NODES;
use crate::domain::framework::{Backend, Framework, MpiProgram, Script, Source, TensorFlow};
use crate::error::Violations;
use crate::wire::fields::{Fields, LONG_TEXT, SHORT_TEXT};
use crate::wire::v2018_05_01::word_of;

/// Members that choose a framework; one of them is given.
pub const FRAMEWORKS: [&str; 9] = [
    "cntkSettings",
    "pyTorchSettings",
    "tensorFlowSettings",
    "caffeSettings",
    "caffe2Settings",
    "chainerSettings",
    "customToolkitSettings",
    "customMpiSettings",
    "horovodSettings",
];

/// The member that chooses the custom toolkit.
const CUSTOM: &str = "customToolkitSettings";

/// Most processes of a job: many on each of the nodes that a cluster may have.
const MAX_PROCESSES: u32 = MAX_NODES * 128;

/// Most TensorFlow workers a node: one a GPU of the largest VM sizes. Which of them a machine here has says nothing of its name.
///
/// Source: the documented hard limits of workers a node.
const WORKERS_A_NODE: u32 = 4;

const BACKENDS: [(&str, Backend); 3] = [("TCP", Backend::Tcp), ("Gloo", Backend::Gloo), ("MPI", Backend::Mpi)];

/// What CNTK runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    BrainScript,
    Python,
}

const LANGUAGES: [(&str, Language); 2] = [("BrainScript", Language::BrainScript), ("Python", Language::Python)];

/// Reads the one member of a job that chooses its framework. `nodes` are those that the job asks for, where that could be read.
pub fn decode_framework(fields: &Fields<'_>, nodes: Option<u32>, found: &mut Violations) -> Option<Framework> {
    let given: Vec<&str> = FRAMEWORKS.into_iter().filter(|name| fields.has(name)).collect();
    let only = match given.as_slice() {
        [only] => *only,
        [] => {
            let path = fields.path_of(CUSTOM);
            found.invalid(&path, format!("The job has no framework settings. Give exactly one, for example '{path}'."));
            return None;
        }
        [first, others @ ..] => {
            for name in others {
                let path = fields.path_of(name);
                found.invalid(
                    &path,
                    format!("The property '{path}' is given besides '{first}'. Give the settings of one framework."),
                );
            }
            return None;
        }
    };
    let settings = fields.object(only, found)?;
    let nodes = nodes.unwrap_or(1);
    match only {
        "cntkSettings" => decode_cntk(&settings, nodes, found).map(Framework::Cntk),
        "caffeSettings" => decode_caffe(&settings, nodes, found).map(Framework::Caffe),
        "tensorFlowSettings" => decode_tensor_flow(&settings, nodes, found).map(Framework::TensorFlow),
        "pyTorchSettings" => {
            let (script, process_count) = decode_processes(&settings, nodes, found);
            let backend = settings.word("communicationBackend", &BACKENDS, found);
            Some(Framework::PyTorch { script: script?, process_count, backend })
        }
        "caffe2Settings" => decode_script(&settings, "commandLineArgs", found).map(Framework::Caffe2),
        "chainerSettings" => {
            let (script, process_count) = decode_processes(&settings, nodes, found);
            Some(Framework::Chainer { script: script?, process_count })
        }
        "horovodSettings" => {
            let (script, process_count) = decode_processes(&settings, nodes, found);
            Some(Framework::Horovod { script: script?, process_count })
        }
        "customMpiSettings" => {
            let command_line = settings.required_text("commandLine", LONG_TEXT, found);
            let process_count = decode_process_count(&settings, nodes, found);
            Some(Framework::CustomMpi { command_line: command_line?.to_owned(), process_count })
        }
        _ => {
            let command_line = settings.text("commandLine", LONG_TEXT, found).map(str::to_owned);
            Some(Framework::Custom { command_line })
        }
    }
}

fn decode_processes(settings: &Fields<'_>, nodes: u32, found: &mut Violations) -> (Option<Script>, u32) {
    let script = decode_script(settings, "commandLineArgs", found);
    (script, decode_process_count(settings, nodes, found))
}

/// The default is filled in: one process a node.
///
/// Source: recorded answers to CNTK and Chainer jobs without the member.
fn decode_process_count(settings: &Fields<'_>, nodes: u32, found: &mut Violations) -> u32 {
    settings.number("processCount", 1..=MAX_PROCESSES, found).unwrap_or(nodes)
}

fn optional(settings: &Fields<'_>, name: &str, limit: usize, found: &mut Violations) -> Option<String> {
    settings.text(name, limit, found).map(str::to_owned)
}

fn decode_script(settings: &Fields<'_>, arguments: &str, found: &mut Violations) -> Option<Script> {
    let path = settings.required_text("pythonScriptFilePath", SHORT_TEXT, found);
    let interpreter = optional(settings, "pythonInterpreterPath", SHORT_TEXT, found);
    let arguments = optional(settings, arguments, LONG_TEXT, found);
    Some(Script { path: path?.to_owned(), interpreter, arguments })
}

fn decode_cntk(settings: &Fields<'_>, nodes: u32, found: &mut Violations) -> Option<MpiProgram> {
    let process_count = decode_process_count(settings, nodes, found);
    let language = settings.word("languageType", &LANGUAGES, found).or_else(|| {
        // Unread is not absent: what was given wrongly is told already.
        let is_script = settings.has("pythonScriptFilePath") || !settings.has("configFilePath");
        Some(if is_script { Language::Python } else { Language::BrainScript })
    });
    let source = match language? {
        Language::BrainScript => decode_config(settings, "of BrainScript", found),
        Language::Python => {
            refuse_beside(settings, "configFilePath", "a Python script", found);
            decode_script(settings, "commandLineArgs", found).map(Source::Script)
        }
    };
    Some(MpiProgram { source: source?, process_count })
}

fn decode_caffe(settings: &Fields<'_>, nodes: u32, found: &mut Violations) -> Option<MpiProgram> {
    let process_count = decode_process_count(settings, nodes, found);
    let source = if settings.has("configFilePath") {
        decode_config(settings, "of Caffe", found)
    } else {
        decode_script(settings, "commandLineArgs", found).map(Source::Script)
    };
    Some(MpiProgram { source: source?, process_count })
}

fn decode_config(settings: &Fields<'_>, what: &str, found: &mut Violations) -> Option<Source> {
    for name in ["pythonScriptFilePath", "pythonInterpreterPath"] {
        refuse_beside(settings, name, &format!("a configuration {what}"), found);
    }
    let path = settings.required_text("configFilePath", SHORT_TEXT, found);
    let arguments = optional(settings, "commandLineArgs", LONG_TEXT, found);
    Some(Source::Config { path: path?.to_owned(), arguments })
}

fn refuse_beside(settings: &Fields<'_>, name: &str, what: &str, found: &mut Violations) {
    if settings.has(name) {
        let path = settings.path_of(name);
        found.invalid(&path, format!("The property '{path}' does not go with {what}. Leave it out."));
    }
}

/// Defaults are filled in for jobs of several nodes, which are distributed: a worker a node, and one parameter server.
fn decode_tensor_flow(settings: &Fields<'_>, nodes: u32, found: &mut Violations) -> Option<TensorFlow> {
    let script = decode_script(settings, "masterCommandLineArgs", found);
    let worker_arguments = optional(settings, "workerCommandLineArgs", LONG_TEXT, found);
    let parameter_server_arguments = optional(settings, "parameterServerCommandLineArgs", LONG_TEXT, found);
    let worker_count = settings.number("workerCount", 1..=MAX_PROCESSES, found);
    if worker_count.is_some_and(|count| count > nodes.saturating_mul(WORKERS_A_NODE)) {
        let (path, most) = (settings.path_of("workerCount"), nodes.saturating_mul(WORKERS_A_NODE));
        found.invalid(
            &path,
            format!("The property '{path}' must be at most {WORKERS_A_NODE} for each of the job's nodes, which makes {most}."),
        );
    }
    let parameter_server_count = settings.number("parameterServerCount", 1..=MAX_PROCESSES, found);
    if parameter_server_count.is_some_and(|count| count > nodes) {
        let path = settings.path_of("parameterServerCount");
        found.invalid(&path, format!("The property '{path}' must be at most the job's nodeCount, which is {nodes}."));
    }
    let is_distributed = nodes > 1 || worker_count.is_some() || parameter_server_count.is_some();
    Some(TensorFlow {
        script: script?,
        worker_arguments,
        parameter_server_arguments,
        worker_count: worker_count.or(is_distributed.then_some(nodes)),
        parameter_server_count: parameter_server_count.or(is_distributed.then_some(1)),
    })
}

/// The settings of any framework as answers show them; the member's name says which.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrameworkBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cntk_settings: Option<ProgramBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    py_torch_settings: Option<ProgramBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor_flow_settings: Option<TensorFlowBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caffe_settings: Option<ProgramBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caffe2_settings: Option<ProgramBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chainer_settings: Option<ProgramBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_toolkit_settings: Option<CommandBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_mpi_settings: Option<CommandBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    horovod_settings: Option<ProgramBody<'a>>,
}

/// All members that settings of scripts and configurations have.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProgramBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    language_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_file_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    python_script_file_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    python_interpreter_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_line_args: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    communication_backend: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TensorFlowBody<'a> {
    python_script_file_path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    python_interpreter_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    master_command_line_args: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_command_line_args: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter_server_command_line_args: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter_server_count: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CommandBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    command_line: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process_count: Option<u32>,
}

impl<'a> ProgramBody<'a> {
    fn script(script: &'a Script, process_count: Option<u32>) -> ProgramBody<'a> {
        ProgramBody {
            python_script_file_path: Some(&script.path),
            python_interpreter_path: script.interpreter.as_deref(),
            command_line_args: script.arguments.as_deref(),
            process_count,
            ..ProgramBody::default()
        }
    }

    fn program(program: &'a MpiProgram) -> ProgramBody<'a> {
        match &program.source {
            Source::Script(script) => ProgramBody::script(script, Some(program.process_count)),
            Source::Config { path, arguments } => ProgramBody {
                config_file_path: Some(path),
                command_line_args: arguments.as_deref(),
                process_count: Some(program.process_count),
                ..ProgramBody::default()
            },
        }
    }

    fn cntk(program: &'a MpiProgram) -> ProgramBody<'a> {
        let language = match program.source {
            Source::Config { .. } => Language::BrainScript,
            Source::Script(_) => Language::Python,
        };
        ProgramBody { language_type: Some(word_of(&LANGUAGES, language)), ..ProgramBody::program(program) }
    }
}

impl<'a> FrameworkBody<'a> {
    /// As the wire writes it.
    pub fn of(framework: &'a Framework) -> FrameworkBody<'a> {
        let mut body = FrameworkBody::default();
        match framework {
            Framework::Cntk(program) => body.cntk_settings = Some(ProgramBody::cntk(program)),
            Framework::Caffe(program) => body.caffe_settings = Some(ProgramBody::program(program)),
            Framework::PyTorch { script, process_count, backend } => {
                body.py_torch_settings = Some(ProgramBody {
                    communication_backend: backend.map(|backend| word_of(&BACKENDS, backend)),
                    ..ProgramBody::script(script, Some(*process_count))
                });
            }
            Framework::TensorFlow(settings) => {
                body.tensor_flow_settings = Some(TensorFlowBody {
                    python_script_file_path: &settings.script.path,
                    python_interpreter_path: settings.script.interpreter.as_deref(),
                    master_command_line_args: settings.script.arguments.as_deref(),
                    worker_command_line_args: settings.worker_arguments.as_deref(),
                    parameter_server_command_line_args: settings.parameter_server_arguments.as_deref(),
                    worker_count: settings.worker_count,
                    parameter_server_count: settings.parameter_server_count,
                });
            }
            Framework::Caffe2(script) => body.caffe2_settings = Some(ProgramBody::script(script, None)),
            Framework::Chainer { script, process_count } => {
                body.chainer_settings = Some(ProgramBody::script(script, Some(*process_count)));
            }
            Framework::Horovod { script, process_count } => {
                body.horovod_settings = Some(ProgramBody::script(script, Some(*process_count)));
            }
            Framework::CustomMpi { command_line, process_count } => {
                body.custom_mpi_settings =
                    Some(CommandBody { command_line: Some(command_line), process_count: Some(*process_count) });
            }
            Framework::Custom { command_line } => {
                body.custom_toolkit_settings = Some(CommandBody { command_line: command_line.as_deref(), process_count: None });
            }
        }
        body
    }
}
