//! What is done on each node before it takes jobs.

use serde::Serialize;

use crate::domain::node_setup::{INSTRUMENTATION_KEY, NodeSetup, PerformanceCounters, SETUP_SECRETS, SetupTask};
use crate::error::Violations;
use crate::wire::Secrets;
use crate::wire::fields::{Fields, LONG_TEXT, SHORT_TEXT};
use crate::wire::shapes::{NameValueBody, ResourceIdBody};
use crate::wire::v2018_05_01::mounts::{MountVolumesBody, decode_mounts};
use crate::wire::v2018_05_01::secrets::{SecretMembers, VaultReferenceBody, decode_resource_id, decode_secret};
use crate::wire::v2018_05_01::variables::{SecretVariableBody, decode_environment, decode_secrets};

/// Reads `nodeSetup`; `None` where the member is absent.
pub fn decode_node_setup(parent: &Fields<'_>, secrets: &mut Secrets, found: &mut Violations) -> Option<NodeSetup> {
    let fields = parent.object("nodeSetup", found)?;
    Some(NodeSetup {
        setup_task: fields.object("setupTask", found).and_then(|task| decode_setup_task(&task, secrets, found)),
        mount_volumes: decode_mounts(&fields, secrets, found),
        performance_counters: fields
            .object("performanceCountersSettings", found)
            .and_then(|counters| decode_counters(&counters, secrets, found)),
    })
}

fn decode_setup_task(fields: &Fields<'_>, secrets: &mut Secrets, found: &mut Violations) -> Option<SetupTask> {
    let command_line = fields.required_text("commandLine", LONG_TEXT, found);
    let environment = decode_environment(fields, found).unwrap_or_default();
    let names = decode_secrets(fields, SETUP_SECRETS, secrets, found).unwrap_or_default();
    let prefix = fields.required_text("stdOutErrPathPrefix", SHORT_TEXT, found);
    Some(SetupTask {
        command_line: command_line?.to_owned(),
        environment,
        secrets: names,
        std_out_err_path_prefix: prefix?.to_owned(),
    })
}

fn decode_counters(fields: &Fields<'_>, secrets: &mut Secrets, found: &mut Violations) -> Option<PerformanceCounters> {
    let reference = fields.required_object("appInsightsReference", found)?;
    let component = reference.required_object("component", found).and_then(|component| decode_resource_id(&component, found));
    let members = SecretMembers {
        value: "instrumentationKey",
        reference: "instrumentationKeySecretReference",
        limit: SHORT_TEXT,
        field: INSTRUMENTATION_KEY,
    };
    let key = decode_secret(&reference, &members, secrets, found);
    Some(PerformanceCounters { component: component?, key: key? })
}

/// `nodeSetup` as answers show it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSetupBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    setup_task: Option<SetupTaskBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount_volumes: Option<MountVolumesBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    performance_counters_settings: Option<PerformanceCountersSettings<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SetupTaskBody<'a> {
    command_line: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    environment_variables: Vec<NameValueBody<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<SecretVariableBody<'a>>,
    std_out_err_path_prefix: &'a str,
    std_out_err_path_suffix: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PerformanceCountersSettings<'a> {
    app_insights_reference: AppInsightsReference<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AppInsightsReference<'a> {
    component: ResourceIdBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instrumentation_key_secret_reference: Option<VaultReferenceBody<'a>>,
}

impl<'a> NodeSetupBody<'a> {
    /// As the wire writes it; `suffix` is the folder below the prefix that the setup task writes to.
    pub fn of(setup: &'a NodeSetup, suffix: &str) -> NodeSetupBody<'a> {
        NodeSetupBody {
            setup_task: setup.setup_task.as_ref().map(|task| SetupTaskBody {
                command_line: &task.command_line,
                environment_variables: NameValueBody::list(&task.environment),
                secrets: SecretVariableBody::list(&task.secrets),
                std_out_err_path_prefix: &task.std_out_err_path_prefix,
                std_out_err_path_suffix: suffix.to_owned(),
            }),
            mount_volumes: setup.mount_volumes.as_ref().map(MountVolumesBody::of),
            performance_counters_settings: setup.performance_counters.as_ref().map(|counters| PerformanceCountersSettings {
                app_insights_reference: AppInsightsReference {
                    component: ResourceIdBody { id: &counters.component },
                    instrumentation_key_secret_reference: VaultReferenceBody::of(&counters.key),
                },
            }),
        }
    }
}
