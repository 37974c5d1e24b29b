//! Clusters as 2018-05-01 writes them.

use serde::Serialize;
use serde_json::Value;

use crate::domain::cluster::{Allocation, Cluster, ClusterSpec, ImageReference, Scale, VmPriority};
use crate::domain::older::Older;
use crate::domain::resource::Envelope;
use crate::error::{Error, ErrorCode, Violation, Violations};
use crate::id::{Kind, ResourceId};
use crate::wire::fields::{Fields, SHORT_TEXT};
use crate::wire::shapes::{EntityErrorBody, ResourceIdBody};
use crate::wire::times::moment;
use crate::wire::v2018_05_01::account::{UserAccountSettings, decode_account};
use crate::wire::v2018_05_01::node_setup::{NodeSetupBody, decode_node_setup};
use crate::wire::v2018_05_01::scale::{ScaleSettings, decode_scale};
use crate::wire::v2018_05_01::secrets::decode_resource_id;
use crate::wire::v2018_05_01::{Encode, word_of};
use crate::wire::v2026_11_01_preview::scaling;
use crate::wire::{Decoded, Secrets};

const PRIORITIES: [(&str, VmPriority); 2] = [("dedicated", VmPriority::Dedicated), ("lowpriority", VmPriority::LowPriority)];

/// Longest name of a VM size. Unit: bytes.
const MAX_SIZE_NAME: usize = 64;

/// Reads the body of a PUT.
///
/// # Errors
/// Every violation.
pub fn decode_create(document: &Value) -> Result<Decoded<ClusterSpec>, Error> {
    let mut found = Violations::new();
    let mut secrets = Secrets::new();
    let spec = Fields::root(document, &mut found)
        .and_then(|root| root.required_object("properties", &mut found))
        .and_then(|properties| decode_spec(&properties, &mut secrets, &mut found));
    found.into_result()?;
    let spec = spec.ok_or_else(|| Error::internal("a body without violations was not read"))?;
    Ok(Decoded { spec, secrets })
}

/// Reads `vmSize`: in upper case, as answers show it.
pub fn decode_vm_size(fields: &Fields<'_>, found: &mut Violations) -> Option<String> {
    fields.required_text("vmSize", MAX_SIZE_NAME, found).map(str::to_ascii_uppercase)
}

/// Reads the members of `properties`.
pub fn decode_spec(fields: &Fields<'_>, secrets: &mut Secrets, found: &mut Violations) -> Option<ClusterSpec> {
    let vm_size = decode_vm_size(fields, found);
    let vm_priority = fields.word("vmPriority", &PRIORITIES, found).unwrap_or_default();
    let scale = fields.required_object("scaleSettings", found).and_then(|scale| decode_scale(&scale, found));
    let image = match fields.object("virtualMachineConfiguration", found) {
        Some(configuration) => match configuration.object("imageReference", found) {
            Some(image) => decode_image(&image, found),
            None => Some(ImageReference::default()),
        },
        None => Some(ImageReference::default()),
    };
    let node_setup = decode_node_setup(fields, secrets, found);
    let user_account =
        fields.required_object("userAccountSettings", found).and_then(|account| decode_account(&account, secrets, found));
    let subnet = fields.object("subnet", found).and_then(|subnet| decode_resource_id(&subnet, found));
    Some(ClusterSpec {
        vm_size: vm_size?,
        vm_priority,
        scale: scale?,
        image: image?,
        node_setup,
        user_account: user_account?,
        subnet,
        older: None,
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

fn decode_image(fields: &Fields<'_>, found: &mut Violations) -> Option<ImageReference> {
    let publisher = fields.required_text("publisher", SHORT_TEXT, found);
    let offer = fields.required_text("offer", SHORT_TEXT, found);
    let sku = fields.required_text("sku", SHORT_TEXT, found);
    let version = fields.text("version", SHORT_TEXT, found).filter(|version| !version.is_empty()).unwrap_or("latest");
    let image_id = fields.text("virtualMachineImageId", SHORT_TEXT, found).filter(|id| !id.is_empty());
    if image_id.is_some_and(|id| !is_image_id(id)) {
        let path = fields.path_of("virtualMachineImageId");
        found.invalid(
            &path,
            format!(
                "The property '{path}' must be the id of an image, '/subscriptions/{{id}}/resourceGroups/{{name}}/providers/\
                 Microsoft.Compute/images/{{name}}'."
            ),
        );
    }
    Some(ImageReference {
        publisher: publisher?.to_owned(),
        offer: offer?.to_owned(),
        sku: sku?.to_owned(),
        version: version.to_owned(),
        image_id: image_id.map(str::to_owned),
    })
}

/// Source: `virtualMachineImageId`, openapi 2018-05-01.
fn is_image_id(id: &str) -> bool {
    let segments: Vec<&str> = id.split('/').collect();
    let [empty, subscriptions, _, groups, _, providers, compute, images, _] = segments.as_slice() else { return false };
    let literals = [
        (empty, ""),
        (subscriptions, "subscriptions"),
        (groups, "resourceGroups"),
        (providers, "providers"),
        (compute, "Microsoft.Compute"),
        (images, "images"),
    ];
    literals.iter().all(|(segment, literal)| segment.eq_ignore_ascii_case(literal))
        && segments.iter().skip(1).all(|segment| !segment.trim().is_empty() && !segment.chars().any(char::is_control))
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

    fn older(spec: &ClusterSpec) -> Option<&Older> {
        spec.older.as_ref()
    }

    fn own(stored: &Envelope<Cluster>) -> Vec<(&'static str, Value)> {
        scaling::encode(&stored.spec, &stored.status)
    }

    fn encode(stored: &Envelope<Cluster>) -> ClusterBody<'_> {
        let (spec, status) = (&stored.spec, &stored.status);
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
                scale_settings: ScaleSettings::of(spec.scale),
                virtual_machine_configuration: VirtualMachineConfiguration {
                    image_reference: ImageReferenceBody {
                        publisher: &spec.image.publisher,
                        offer: &spec.image.offer,
                        sku: &spec.image.sku,
                        version: &spec.image.version,
                        virtual_machine_image_id: spec.image.image_id.as_deref(),
                    },
                },
                user_account_settings: UserAccountSettings::of(&spec.user_account),
                node_setup: spec.node_setup.as_ref().map(|setup| NodeSetupBody::of(setup, &setup_output_suffix(stored))),
                subnet: spec.subnet.as_deref().or(status.subnet.as_deref()).map(|id| ResourceIdBody { id }),
                errors: EntityErrorBody::list(&status.errors),
            },
        }
    }
}
