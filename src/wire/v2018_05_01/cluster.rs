//! Clusters as 2018-05-01 writes them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::domain::cluster::{
    Allocation, Cluster, ClusterSpec, Deallocation, ImageReference, MAX_NODES, NodeSetup, Scale, SetupTask, UserAccount,
    VmPriority,
};
use crate::domain::resource::Envelope;
use crate::domain::secret::SecretText;
use crate::error::{Error, ErrorCode, Violation, Violations};
use crate::id::{Kind, ResourceId};
use crate::wire::Decoded;
use crate::wire::fields::{Fields, LONG_TEXT, SHORT_TEXT};
use crate::wire::shapes::{EntityErrorBody, NameValueBody, ResourceIdBody, SecretBody};
use crate::wire::times::moment;
use crate::wire::v2018_05_01::Encode;
use crate::wire::v2018_05_01::variables::{decode_environment, decode_secrets};

const PRIORITIES: [(&str, VmPriority); 2] = [("dedicated", VmPriority::Dedicated), ("lowpriority", VmPriority::LowPriority)];

const DEALLOCATIONS: [(&str, Deallocation); 3] = [
    ("requeue", Deallocation::Requeue),
    ("terminate", Deallocation::Terminate),
    ("waitforjobcompletion", Deallocation::WaitForJobCompletion),
];

/// Longest name of a VM size. Unit: bytes.
const MAX_SIZE_NAME: usize = 64;

/// Reads the body of a PUT.
///
/// # Errors
/// Every violation.
pub fn decode_create(document: &Value) -> Result<Decoded<ClusterSpec>, Error> {
    let mut found = Violations::new();
    let mut secrets = BTreeMap::new();
    let spec = Fields::root(document, &mut found)
        .and_then(|root| root.required_object("properties", &mut found))
        .and_then(|properties| decode_spec(&properties, &mut secrets, &mut found));
    found.into_result()?;
    let spec = spec.ok_or_else(|| Error::internal("a body without violations was not read"))?;
    Ok(Decoded { spec, secrets })
}

fn decode_spec(fields: &Fields<'_>, secrets: &mut BTreeMap<String, SecretText>, found: &mut Violations) -> Option<ClusterSpec> {
    let vm_size = fields.required_text("vmSize", MAX_SIZE_NAME, found);
    let vm_priority = fields.word("vmPriority", &PRIORITIES, found).unwrap_or_default();
    let scale = fields.required_object("scaleSettings", found).and_then(|scale| decode_scale(&scale, found));
    let image = match fields.object("virtualMachineConfiguration", found) {
        Some(configuration) => match configuration.object("imageReference", found) {
            Some(image) => decode_image(&image, found),
            None => Some(ImageReference::default()),
        },
        None => Some(ImageReference::default()),
    };
    let node_setup = fields.object("nodeSetup", found).map(|setup| decode_node_setup(&setup, secrets, found));
    let user_account =
        fields.required_object("userAccountSettings", found).and_then(|account| decode_account(&account, secrets, found));
    let subnet = fields.object("subnet", found).and_then(|subnet| decode_subnet(&subnet, found));
    Some(ClusterSpec {
        vm_size: vm_size?.to_ascii_uppercase(),
        vm_priority,
        scale: scale?,
        image: image?,
        node_setup,
        user_account: user_account?,
        subnet,
    })
}

/// Reads the body of a PATCH: the new scale settings, whole; `None` where the body changes nothing.
///
/// # Errors
/// Every violation; `PropertyChangeNotAllowed` for each member that cannot change.
pub fn decode_update(document: &Value) -> Result<Option<Scale>, Error> {
    let mut found = Violations::new();
    let scale = Fields::root(document, &mut found)
        .and_then(|root| root.object("properties", &mut found))
        .and_then(|properties| {
            for name in ["vmSize", "vmPriority", "virtualMachineConfiguration", "nodeSetup", "userAccountSettings", "subnet"] {
                if properties.has(name) {
                    let target = properties.path_of(name);
                    let message = format!("Changing property '{target}' is not allowed. Leave it out, or make another cluster.");
                    found.push(Violation { code: ErrorCode::PropertyChangeNotAllowed, target, message });
                }
            }
            properties.object("scaleSettings", &mut found)
        })
        .and_then(|scale| decode_scale(&scale, &mut found));
    found.into_result()?;
    Ok(scale)
}

fn decode_scale(fields: &Fields<'_>, found: &mut Violations) -> Option<Scale> {
    if fields.has("autoScale") {
        fields.not_offered("autoScale", found);
        return None;
    }
    let manual = fields.required_object("manual", found)?;
    let target = manual.required_number("targetNodeCount", 0..=MAX_NODES, found);
    let deallocation = manual.word("nodeDeallocationOption", &DEALLOCATIONS, found).unwrap_or_default();
    Some(Scale::Manual { target: target?, deallocation })
}

fn decode_image(fields: &Fields<'_>, found: &mut Violations) -> Option<ImageReference> {
    let publisher = fields.required_text("publisher", SHORT_TEXT, found);
    let offer = fields.required_text("offer", SHORT_TEXT, found);
    let sku = fields.required_text("sku", SHORT_TEXT, found);
    let version = fields.text("version", SHORT_TEXT, found).filter(|version| !version.is_empty()).unwrap_or("latest");
    let image_id = fields.text("virtualMachineImageId", SHORT_TEXT, found).filter(|id| !id.is_empty());
    Some(ImageReference {
        publisher: publisher?.to_owned(),
        offer: offer?.to_owned(),
        sku: sku?.to_owned(),
        version: version.to_owned(),
        image_id: image_id.map(str::to_owned),
    })
}

fn decode_node_setup(fields: &Fields<'_>, secrets: &mut BTreeMap<String, SecretText>, found: &mut Violations) -> NodeSetup {
    fields.refuse("mountVolumes", found);
    fields.refuse("performanceCountersSettings", found);
    NodeSetup { setup_task: fields.object("setupTask", found).and_then(|task| decode_setup_task(&task, secrets, found)) }
}

fn decode_setup_task(
    fields: &Fields<'_>,
    secrets: &mut BTreeMap<String, SecretText>,
    found: &mut Violations,
) -> Option<SetupTask> {
    let command_line = fields.required_text("commandLine", LONG_TEXT, found);
    let environment = decode_environment(fields, found).unwrap_or_default();
    let names = decode_secrets(fields, "setup_task.secrets.", secrets, found).unwrap_or_default();
    let prefix = fields.required_text("stdOutErrPathPrefix", SHORT_TEXT, found);
    Some(SetupTask {
        command_line: command_line?.to_owned(),
        environment,
        secrets: names,
        std_out_err_path_prefix: prefix?.to_owned(),
    })
}

fn decode_account(
    fields: &Fields<'_>,
    secrets: &mut BTreeMap<String, SecretText>,
    found: &mut Violations,
) -> Option<UserAccount> {
    let name = fields.required_text("adminUserName", SHORT_TEXT, found);
    let key = fields.text("adminUserSshPublicKey", SHORT_TEXT, found).filter(|key| !key.is_empty());
    if let Some(password) = fields.text("adminUserPassword", SHORT_TEXT, found).filter(|password| !password.is_empty()) {
        secrets.insert("user_account.password".to_owned(), SecretText(password.to_owned()));
    }
    if let Some(rule) = name.and_then(broken_account_rule) {
        let path = fields.path_of("adminUserName");
        found.invalid(&path, format!("The property '{path}' {rule}."));
        return None;
    }
    Some(UserAccount { name: name?.to_owned(), ssh_public_key: key.map(str::to_owned) })
}

/// The rule that the name of an account on a Linux node breaks, if any.
fn broken_account_rule(name: &str) -> Option<&'static str> {
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Some("must begin with a letter or '_' and hold ASCII letters, digits, '-' and '_' only");
    }
    if name.len() > 32 {
        return Some("must have at most 32 characters");
    }
    name.eq_ignore_ascii_case("root").then_some("must not be 'root', which every node has already")
}

fn decode_subnet(fields: &Fields<'_>, found: &mut Violations) -> Option<String> {
    let id = fields.required_text("id", SHORT_TEXT, found)?;
    if !id.starts_with('/') {
        let path = fields.path_of("id");
        found.invalid(&path, format!("The property '{path}' must be a full resource id, beginning with '/subscriptions/'."));
        return None;
    }
    Some(id.to_owned())
}

/// A cluster in an answer.
#[derive(Serialize)]
pub struct ClusterBody<'a> {
    id: &'a str,
    name: &'a str,
    r#type: &'static str,
    properties: ClusterProperties<'a>,
}

/// Source: recorded member order; `errors` was never recorded and comes last.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterProperties<'a> {
    provisioning_state: &'static str,
    allocation_state: &'static str,
    creation_time: String,
    allocation_state_transition_time: String,
    provisioning_state_transition_time: String,
    vm_size: &'a str,
    current_node_count: u32,
    node_state_counts: NodeStateCounts,
    vm_priority: &'static str,
    scale_settings: ScaleSettings,
    virtual_machine_configuration: VirtualMachineConfiguration<'a>,
    user_account_settings: UserAccountSettings<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_setup: Option<NodeSetupBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<ResourceIdBody<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<EntityErrorBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeStateCounts {
    running_node_count: u32,
    idle_node_count: u32,
    unusable_node_count: u32,
    preparing_node_count: u32,
    leaving_node_count: u32,
}

#[derive(Serialize)]
struct ScaleSettings {
    manual: ManualScaleSettings,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManualScaleSettings {
    target_node_count: u32,
    node_deallocation_option: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VirtualMachineConfiguration<'a> {
    image_reference: ImageReferenceBody<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageReferenceBody<'a> {
    publisher: &'a str,
    offer: &'a str,
    sku: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_machine_image_id: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UserAccountSettings<'a> {
    admin_user_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_user_ssh_public_key: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeSetupBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    setup_task: Option<SetupTaskBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SetupTaskBody<'a> {
    command_line: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    environment_variables: Vec<NameValueBody<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<SecretBody<'a>>,
    std_out_err_path_prefix: &'a str,
    std_out_err_path_suffix: String,
}

/// The folder below the prefix that a cluster's setup task writes to.
///
/// Source: recorded `stdOutErrPathSuffix`.
fn setup_output_suffix(stored: &Envelope<Cluster>) -> String {
    match ResourceId::parse(&stored.path) {
        Ok(id) => format!("{}/{}", id.output_segment(), stored.status.output_uuid),
        Err(_) => stored.status.output_uuid.to_string(),
    }
}

impl Encode for Cluster {
    type Body<'a> = ClusterBody<'a>;

    fn encode(stored: &Envelope<Cluster>) -> ClusterBody<'_> {
        let (spec, status) = (&stored.spec, &stored.status);
        let Scale::Manual { target, deallocation } = spec.scale;
        ClusterBody {
            id: &stored.path,
            name: &stored.name,
            r#type: Kind::Cluster.resource_type(),
            properties: ClusterProperties {
                provisioning_state: stored.provisioning.as_str(),
                allocation_state: match status.allocation {
                    Allocation::Steady => "steady",
                    Allocation::Resizing => "resizing",
                },
                creation_time: moment(stored.created_at),
                allocation_state_transition_time: moment(status.allocation_changed_at),
                provisioning_state_transition_time: moment(stored.provisioned_at),
                vm_size: &spec.vm_size,
                current_node_count: status.nodes.current(),
                node_state_counts: NodeStateCounts {
                    running_node_count: status.nodes.running,
                    idle_node_count: status.nodes.idle,
                    unusable_node_count: status.nodes.unusable,
                    preparing_node_count: status.nodes.preparing,
                    leaving_node_count: status.nodes.leaving,
                },
                vm_priority: word_of(&PRIORITIES, spec.vm_priority),
                scale_settings: ScaleSettings {
                    manual: ManualScaleSettings {
                        target_node_count: target,
                        node_deallocation_option: word_of(&DEALLOCATIONS, deallocation),
                    },
                },
                virtual_machine_configuration: VirtualMachineConfiguration {
                    image_reference: ImageReferenceBody {
                        publisher: &spec.image.publisher,
                        offer: &spec.image.offer,
                        sku: &spec.image.sku,
                        version: &spec.image.version,
                        virtual_machine_image_id: spec.image.image_id.as_deref(),
                    },
                },
                user_account_settings: UserAccountSettings {
                    admin_user_name: &spec.user_account.name,
                    admin_user_ssh_public_key: spec.user_account.ssh_public_key.as_deref(),
                },
                node_setup: spec.node_setup.as_ref().map(|setup| NodeSetupBody {
                    setup_task: setup.setup_task.as_ref().map(|task| SetupTaskBody {
                        command_line: &task.command_line,
                        environment_variables: NameValueBody::list(&task.environment),
                        secrets: SecretBody::list(&task.secrets),
                        std_out_err_path_prefix: &task.std_out_err_path_prefix,
                        std_out_err_path_suffix: setup_output_suffix(stored),
                    }),
                }),
                subnet: spec.subnet.as_deref().map(|id| ResourceIdBody { id }),
                errors: EntityErrorBody::list(&status.errors),
            },
        }
    }
}

/// The wire's word of a value.
fn word_of<T: PartialEq + Copy>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, v)| *v == value).map_or("", |(word, _)| word)
}
