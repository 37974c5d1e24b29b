//! Jobs as 2018-05-01 writes them.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::domain::cluster::MAX_NODES;
use crate::domain::job::{
    DEFAULT_MAX_WALL_CLOCK, InputDirectory, Job, JobSpec, JobStatus, OutputDirectory, Phase, Priority, SECRETS, STDOUTERR,
};
use crate::domain::older::Older;
use crate::domain::resource::Envelope;
use crate::error::{Error, Violations};
use crate::id::{Kind, ResourceId};
use crate::wire::duration::{parse_seconds, write_seconds};
use crate::wire::fields::{Fields, LONG_TEXT, SHORT_TEXT};
use crate::wire::shapes::{EntityErrorBody, NameValueBody, ResourceIdBody};
use crate::wire::times::moment;
use crate::wire::v2018_05_01::container::{ContainerSettingsBody, decode_container};
use crate::wire::v2018_05_01::framework::{FrameworkBody, decode_framework};
use crate::wire::v2018_05_01::mounts::{MountVolumesBody, decode_mounts};
use crate::wire::v2018_05_01::paths::leaves_its_folder;
use crate::wire::v2018_05_01::variables::{SecretVariableBody, decode_environment, decode_secrets};
use crate::wire::v2018_05_01::{Encode, word_of};
use crate::wire::v2026_11_01_preview::retries;
use crate::wire::{Decoded, Secrets};

const PRIORITIES: [(&str, Priority); 3] = [("low", Priority::Low), ("normal", Priority::Normal), ("high", Priority::High)];

/// Longest time that a job may ask for. Unit: seconds. Above what clients of any time sent as their default (150 days).
const MAX_WALL_CLOCK_S: u64 = 366 * 86_400;

/// Reads the body of a PUT.
///
/// # Errors
/// Every violation.
pub fn decode_create(document: &Value) -> Result<Decoded<JobSpec>, Error> {
    let mut found = Violations::new();
    let mut secrets = Secrets::new();
    let spec = Fields::root(document, &mut found)
        .and_then(|root| root.required_object("properties", &mut found))
        .and_then(|properties| decode_spec(&properties, &mut secrets, &mut found));
    found.into_result()?;
    let spec = spec.ok_or_else(|| Error::internal("a body without violations was not read"))?;
    Ok(Decoded { spec, secrets })
}

/// Reads the members of `properties`.
pub fn decode_spec(fields: &Fields<'_>, secrets: &mut Secrets, found: &mut Violations) -> Option<JobSpec> {
    let priority = fields.word("schedulingPriority", &PRIORITIES, found).unwrap_or_default();
    let cluster = fields.required_object("cluster", found).and_then(|cluster| decode_cluster(&cluster, found));
    let mount_volumes = decode_mounts(fields, secrets, found);
    let node_count = fields.required_number("nodeCount", 1..=MAX_NODES, found);
    let container = decode_container(fields, secrets, found);
    let framework = decode_framework(fields, node_count, found);
    let preparation = fields
        .object("jobPreparation", found)
        .and_then(|preparation| preparation.required_text("commandLine", LONG_TEXT, found).map(str::to_owned));
    let prefix = fields.required_text("stdOutErrPathPrefix", SHORT_TEXT, found);
    let input_directories = decode_inputs(fields, found);
    let output_directories = decode_outputs(fields, found);
    let environment = decode_environment(fields, found);
    let names = decode_secrets(fields, SECRETS, secrets, found);
    let max_wall_clock_s = decode_constraints(fields, found);
    Some(JobSpec {
        priority,
        cluster: cluster?,
        node_count: node_count?,
        mount_volumes,
        container,
        framework: framework?,
        preparation,
        std_out_err_path_prefix: prefix?.to_owned(),
        input_directories,
        output_directories,
        environment,
        secrets: names,
        max_wall_clock_s: max_wall_clock_s?,
        retries: Vec::new(),
        older: None,
    })
}

fn decode_cluster(fields: &Fields<'_>, found: &mut Violations) -> Option<String> {
    let text = fields.required_text("id", SHORT_TEXT, found)?;
    let path = fields.path_of("id");
    match ResourceId::parse(text) {
        Ok(id) if id.kind() == Kind::Cluster => Some(id.path()),
        Ok(id) => {
            found.invalid(&path, format!("The property '{path}' is the id of a {}. Give the id of a cluster.", id.kind().noun()));
            None
        }
        Err(error) => {
            found.invalid(&path, format!("The property '{path}' is not a resource id: it {}.", error.rule));
            None
        }
    }
}

fn decode_inputs(fields: &Fields<'_>, found: &mut Violations) -> Option<Vec<InputDirectory>> {
    let mut seen = BTreeSet::new();
    let entries = fields.objects("inputDirectories", found)?;
    let mut read = Vec::with_capacity(entries.len());
    for entry in &entries {
        let id = decode_directory_id(entry, &mut seen, found);
        let path = entry.required_text("path", SHORT_TEXT, found);
        if let (Some(id), Some(path)) = (id, path) {
            read.push(InputDirectory { id: id.to_owned(), path: path.to_owned() });
        }
    }
    Some(read)
}

fn decode_outputs(fields: &Fields<'_>, found: &mut Violations) -> Option<Vec<OutputDirectory>> {
    let mut seen = BTreeSet::new();
    let entries = fields.objects("outputDirectories", found)?;
    let mut read = Vec::with_capacity(entries.len());
    for entry in &entries {
        let id = decode_directory_id(entry, &mut seen, found);
        if let Some(id) = id.filter(|id| id.eq_ignore_ascii_case(STDOUTERR)) {
            let path = entry.path_of("id");
            found.invalid(
                &path,
                format!("The property '{path}' is '{id}', which names the job's standard output. Choose another."),
            );
        }
        let prefix = entry.required_text("pathPrefix", SHORT_TEXT, found);
        let suffix = entry.text("pathSuffix", SHORT_TEXT, found).filter(|suffix| !suffix.is_empty());
        if suffix.is_some_and(leaves_its_folder) {
            let path = entry.path_of("pathSuffix");
            found.invalid(
                &path,
                format!(
                    "The property '{path}' must be a relative path without empty segments, '.' and '..'. Mend or leave it out."
                ),
            );
        }
        if let (Some(id), Some(prefix)) = (id, prefix) {
            read.push(OutputDirectory {
                id: id.to_owned(),
                path_prefix: prefix.to_owned(),
                path_suffix: suffix.map(str::to_owned),
            });
        }
    }
    Some(read)
}

/// An id becomes the name of a variable: letters, digits and `_`, once in a list.
fn decode_directory_id<'v>(entry: &Fields<'v>, seen: &mut BTreeSet<&'v str>, found: &mut Violations) -> Option<&'v str> {
    let id = entry.required_text("id", 64, found)?;
    let path = entry.path_of("id");
    if !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        found.invalid(
            &path,
            format!(
                "The property '{path}' may hold ASCII letters, digits and '_' only, as it becomes part of a variable's name."
            ),
        );
        return None;
    }
    if !seen.insert(id) {
        found.invalid(&path, format!("The property '{path}' is '{id}' a second time. Give each directory an id of its own."));
        return None;
    }
    Some(id)
}

fn decode_constraints(fields: &Fields<'_>, found: &mut Violations) -> Option<u64> {
    let default = Some(DEFAULT_MAX_WALL_CLOCK.as_secs());
    let Some(constraints) = fields.object("constraints", found) else { return default };
    let Some(text) = constraints.text("maxWallClockTime", SHORT_TEXT, found) else { return default };
    let path = constraints.path_of("maxWallClockTime");
    match parse_seconds(text) {
        Ok(seconds) if (1..=MAX_WALL_CLOCK_S).contains(&seconds) => Some(seconds),
        Ok(_) => {
            found
                .invalid(&path, format!("The property '{path}' must be from one second to {}.", write_seconds(MAX_WALL_CLOCK_S)));
            None
        }
        Err(error) => {
            found.invalid(&path, format!("The property '{path}' {error}."));
            None
        }
    }
}

/// A job in an answer.
#[derive(Serialize)]
pub struct JobBody<'a> {
    id: &'a str,
    name: &'a str,
    r#type: &'static str,
    properties: JobProperties<'a>,
}

/// Source: recorded member order; `experimentName` is not in the published schema and was always there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobProperties<'a> {
    experiment_name: String,
    scheduling_priority: &'static str,
    cluster: ResourceIdBody<'a>,
    job_output_directory_path_segment: String,
    node_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_settings: Option<ContainerSettingsBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount_volumes: Option<MountVolumesBody<'a>>,
    tool_type: &'static str,
    #[serde(flatten)]
    framework: FrameworkBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_preparation: Option<JobPreparation<'a>>,
    std_out_err_path_prefix: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_directories: Option<Vec<InputDirectoryBody<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_directories: Option<Vec<OutputDirectoryBody<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_variables: Option<Vec<NameValueBody<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets: Option<Vec<SecretVariableBody<'a>>>,
    constraints: Constraints,
    creation_time: String,
    provisioning_state: &'static str,
    provisioning_state_transition_time: String,
    execution_state: &'static str,
    execution_state_transition_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_info: Option<ExecutionInfo<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobPreparation<'a> {
    command_line: &'a str,
}

#[derive(Serialize)]
struct InputDirectoryBody<'a> {
    id: &'a str,
    path: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutputDirectoryBody<'a> {
    id: &'a str,
    path_prefix: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_suffix: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Constraints {
    max_wall_clock_time: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecutionInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<EntityErrorBody<'a>>,
}

impl ExecutionInfo<'_> {
    /// Absent while the job is queued. Clients subtract start from end, so that an ended job has both.
    fn of(status: &JobStatus) -> Option<ExecutionInfo<'_>> {
        if status.phase == Phase::Queued {
            return None;
        }
        let ended = status.phase.is_final();
        Some(ExecutionInfo {
            start_time: status.started_at.or(if ended { status.ended_at } else { None }).map(moment),
            end_time: if ended { status.ended_at.map(moment) } else { None },
            exit_code: if ended { status.exit_code } else { None },
            errors: if ended { EntityErrorBody::list(&status.errors) } else { Vec::new() },
        })
    }
}

impl Encode for Job {
    type Body<'a> = JobBody<'a>;

    fn older(spec: &JobSpec) -> Option<&Older> {
        spec.older.as_ref()
    }

    fn own(stored: &Envelope<Job>) -> Vec<(&'static str, Value)> {
        let spec = &stored.spec;
        if spec.retries.is_empty() { Vec::new() } else { vec![("retries", retries::encode(&spec.retries))] }
    }

    fn encode(stored: &Envelope<Job>) -> JobBody<'_> {
        let (spec, status) = (&stored.spec, &stored.status);
        let id = ResourceId::parse(&stored.path).ok();
        let experiment = id.as_ref().and_then(ResourceId::parent).map(|parent| parent.name().to_owned());
        JobBody {
            id: &stored.path,
            name: &stored.name,
            r#type: Kind::Job.resource_type(),
            properties: JobProperties {
                experiment_name: experiment.unwrap_or_default(),
                scheduling_priority: word_of(&PRIORITIES, spec.priority),
                cluster: ResourceIdBody { id: &spec.cluster },
                job_output_directory_path_segment: match id {
                    Some(id) => format!("{}/{}", id.output_segment(), stored.uid),
                    None => stored.uid.to_string(),
                },
                node_count: spec.node_count,
                container_settings: spec.container.as_ref().map(ContainerSettingsBody::of),
                mount_volumes: spec.mount_volumes.as_ref().map(MountVolumesBody::of),
                tool_type: spec.framework.tool_type(),
                framework: FrameworkBody::of(&spec.framework),
                job_preparation: spec.preparation.as_deref().map(|command_line| JobPreparation { command_line }),
                std_out_err_path_prefix: &spec.std_out_err_path_prefix,
                input_directories: spec
                    .input_directories
                    .as_ref()
                    .map(|directories| directories.iter().map(|d| InputDirectoryBody { id: &d.id, path: &d.path }).collect()),
                output_directories: spec.output_directories.as_ref().map(|directories| {
                    directories
                        .iter()
                        .map(|d| OutputDirectoryBody {
                            id: &d.id,
                            path_prefix: &d.path_prefix,
                            path_suffix: d.path_suffix.as_deref(),
                        })
                        .collect()
                }),
                environment_variables: spec.environment.as_deref().map(NameValueBody::list),
                secrets: spec.secrets.as_deref().map(SecretVariableBody::list),
                constraints: Constraints { max_wall_clock_time: write_seconds(spec.max_wall_clock_s) },
                creation_time: moment(stored.created_at),
                provisioning_state: stored.provisioning.as_str(),
                provisioning_state_transition_time: moment(stored.provisioned_at),
                execution_state: status.phase.as_str(),
                execution_state_transition_time: moment(status.phase_changed_at),
                execution_info: ExecutionInfo::of(status),
            },
        }
    }
}
