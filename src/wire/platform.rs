//! The part of the platform's own contract that clients lean on: groups, subscriptions, tenants, providers, regions.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::domain::group::Group;
use crate::domain::principal::Principal;
use crate::domain::resource::{Envelope, Provisioning};
use crate::error::{Error, ErrorCode, Violation, Violations};
use crate::id::{Kind, SubscriptionId, TenantId};
use crate::wire::fields::{Fields, SHORT_TEXT};
use crate::wire::v2018_05_01::Encode;

/// Most tags of a resource. Source: the platform's published limit.
const MAX_TAGS: usize = 50;

/// Longest name of a tag. Unit: characters. Source: the platform's published limit.
const MAX_TAG_NAME: usize = 512;

/// Longest value of a tag. Unit: characters. Source: the platform's published limit.
const MAX_TAG_VALUE: usize = 256;

/// A region's name without blanks and in lower case: `West US` and `westus` are one region.
pub fn canonical_location(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase()
}

/// Reads `tags`; `None` where the member is absent. Names are unique without regard to case.
pub fn decode_tags(fields: &Fields<'_>, found: &mut Violations) -> Option<BTreeMap<String, String>> {
    let pairs = fields.texts("tags", found)?;
    let path = fields.path_of("tags");
    if pairs.len() > MAX_TAGS {
        let message = format!("The property '{path}' has more than {MAX_TAGS} tags.");
        found.push(Violation { code: ErrorCode::InvalidTags, target: path, message });
        return None;
    }
    let mut tags = BTreeMap::new();
    let mut folded = std::collections::BTreeSet::new();
    for (name, value) in pairs {
        let target = format!("{path}.{name}");
        if let Err(error) = check_tag_name(name) {
            found.push(Violation { code: error.code, message: error.message, target });
        } else if value.chars().count() > MAX_TAG_VALUE {
            found
                .invalid(target, format!("The value of the tag '{name}' is longer than {MAX_TAG_VALUE} characters. Shorten it."));
        } else if !folded.insert(name.to_lowercase()) {
            found.invalid(target, format!("The tag '{name}' is given twice; names of tags are compared without regard to case."));
        } else {
            tags.insert(name.to_owned(), value.to_owned());
        }
    }
    Some(tags)
}

/// Checks the name of a tag.
///
/// # Errors
/// `InvalidTagNameCharacters` and `InvalidTags`.
pub fn check_tag_name(name: &str) -> Result<(), Error> {
    if name.chars().any(|c| "<>%&\\?/".contains(c) || c.is_control()) {
        let message = format!("Tag name '{}' contains invalid characters.", name.escape_debug());
        return Err(Error::new(ErrorCode::InvalidTagNameCharacters, message));
    }
    if name.is_empty() || name.chars().count() > MAX_TAG_NAME {
        let message = format!("The name of a tag must have 1 to {MAX_TAG_NAME} characters.");
        return Err(Error::new(ErrorCode::InvalidTags, message));
    }
    Ok(())
}

/// Checks the value of a tag.
///
/// # Errors
/// `InvalidTags`.
pub fn check_tag_value(value: &str) -> Result<(), Error> {
    if value.chars().count() <= MAX_TAG_VALUE {
        return Ok(());
    }
    let message = format!("The value of a tag must have at most {MAX_TAG_VALUE} characters.");
    Err(Error::new(ErrorCode::InvalidTags, message))
}

/// Checks how many tags there are.
///
/// # Errors
/// `InvalidTags`.
pub fn check_tag_count(count: usize) -> Result<(), Error> {
    if count <= MAX_TAGS {
        return Ok(());
    }
    Err(Error::new(ErrorCode::InvalidTags, format!("There may be at most {MAX_TAGS} tags, not {count}.")))
}

/// What a PATCH of tags does with those that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagOperation {
    /// They are all there is.
    Replace,
    /// They are added, or replace those of their names.
    Merge,
    /// They go, where their values are the ones given.
    Delete,
}

/// Reads the body of a PUT of tags.
///
/// # Errors
/// Every violation.
pub fn decode_tag_set(document: &Value) -> Result<BTreeMap<String, String>, Error> {
    let mut found = Violations::new();
    let tags = Fields::root(document, &mut found).and_then(|root| tag_properties(&root, &mut found));
    found.into_result()?;
    Ok(tags.unwrap_or_default())
}

/// Reads the body of a PATCH of tags.
///
/// # Errors
/// Every violation.
pub fn decode_tag_patch(document: &Value) -> Result<(TagOperation, BTreeMap<String, String>), Error> {
    let mut found = Violations::new();
    let read = Fields::root(document, &mut found).map(|root| {
        let words = [("Replace", TagOperation::Replace), ("Merge", TagOperation::Merge), ("Delete", TagOperation::Delete)];
        if !root.has("operation") {
            found.missing("operation");
        }
        (root.word("operation", &words, &mut found), tag_properties(&root, &mut found).unwrap_or_default())
    });
    found.into_result()?;
    match read {
        Some((Some(operation), tags)) => Ok((operation, tags)),
        _ => Err(Error::internal("a body without violations was not read")),
    }
}

fn tag_properties(root: &Fields<'_>, found: &mut Violations) -> Option<BTreeMap<String, String>> {
    decode_tags(&root.required_object("properties", found)?, found)
}

/// What a PUT of a group asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupParameters {
    /// The region, canonical.
    pub location: String,
    /// Tags, where any were given.
    pub tags: Option<BTreeMap<String, String>>,
    /// The id of the resource that manages the group.
    pub managed_by: Option<String>,
}

/// Reads the body of a group's PUT.
///
/// # Errors
/// Every violation.
pub fn decode_group(document: &Value) -> Result<GroupParameters, Error> {
    let mut found = Violations::new();
    let read = Fields::root(document, &mut found).map(|root| GroupParameters {
        location: canonical_location(root.required_text("location", SHORT_TEXT, &mut found).unwrap_or_default()),
        tags: decode_tags(&root, &mut found),
        managed_by: root.text("managedBy", SHORT_TEXT, &mut found).map(str::to_owned),
    });
    found.into_result()?;
    read.ok_or_else(|| Error::internal("a body without violations was not read"))
}

/// What a PATCH of a group changes; `None` leaves a part as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupPatch {
    /// The whole new set of tags.
    pub tags: Option<BTreeMap<String, String>>,
    /// The id of the resource that manages the group.
    pub managed_by: Option<String>,
}

/// Reads the body of a group's PATCH.
///
/// # Errors
/// Every violation.
pub fn decode_group_patch(document: &Value) -> Result<GroupPatch, Error> {
    let mut found = Violations::new();
    let read = Fields::root(document, &mut found).map(|root| GroupPatch {
        tags: decode_tags(&root, &mut found),
        managed_by: root.text("managedBy", SHORT_TEXT, &mut found).map(str::to_owned),
    });
    found.into_result()?;
    Ok(read.unwrap_or_default())
}

/// A resource group in an answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupBody<'a> {
    id: &'a str,
    name: &'a str,
    r#type: &'static str,
    location: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    managed_by: Option<&'a str>,
    properties: GroupProperties,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupProperties {
    provisioning_state: &'static str,
}

impl Encode for Group {
    type Body<'a> = GroupBody<'a>;

    fn encode(stored: &Envelope<Group>) -> GroupBody<'_> {
        GroupBody {
            id: &stored.path,
            name: &stored.name,
            r#type: Kind::Group.resource_type(),
            location: &stored.location,
            tags: stored.tags.as_ref(),
            managed_by: stored.spec.managed_by.as_deref(),
            properties: GroupProperties {
                provisioning_state: match stored.provisioning {
                    Provisioning::Succeeded => "Succeeded",
                    Provisioning::Deleting => "Deleting",
                    Provisioning::Failed => "Failed",
                    Provisioning::Creating => "Creating",
                },
            },
        }
    }
}

/// A subscription in an answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionBody {
    id: String,
    subscription_id: String,
    tenant_id: String,
    display_name: String,
    state: &'static str,
    subscription_policies: SubscriptionPolicies,
    authorization_source: &'static str,
    managed_by_tenants: [&'static str; 0],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubscriptionPolicies {
    location_placement_id: &'static str,
    quota_id: &'static str,
    spending_limit: &'static str,
}

impl SubscriptionBody {
    /// The document of a subscription.
    pub fn of(id: SubscriptionId, tenant: TenantId, display_name: &str, tags: BTreeMap<String, String>) -> SubscriptionBody {
        SubscriptionBody {
            id: format!("/subscriptions/{id}"),
            subscription_id: id.to_string(),
            tenant_id: tenant.to_string(),
            display_name: display_name.to_owned(),
            state: "Enabled",
            subscription_policies: SubscriptionPolicies {
                location_placement_id: "Public_2014-09-01",
                quota_id: "SelfHosted_2018-05-01",
                spending_limit: "Off",
            },
            authorization_source: "RoleBased",
            managed_by_tenants: [],
            tags,
        }
    }
}

/// A tenant in an answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantBody {
    id: String,
    tenant_id: String,
    display_name: &'static str,
    tenant_category: &'static str,
}

impl TenantBody {
    /// The document of a tenant.
    pub fn of(id: TenantId) -> TenantBody {
        TenantBody { id: format!("/tenants/{id}"), tenant_id: id.to_string(), display_name: "batchyard", tenant_category: "Home" }
    }
}

/// A principal, as a directory shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePrincipalBody {
    #[serde(rename = "@odata.type")]
    kind: &'static str,
    id: String,
    app_id: String,
    display_name: String,
    service_principal_names: [String; 1],
    service_principal_type: &'static str,
}

impl ServicePrincipalBody {
    /// The document of a principal.
    pub fn of(principal: &Principal) -> ServicePrincipalBody {
        ServicePrincipalBody {
            kind: "#microsoft.graph.servicePrincipal",
            id: principal.id.to_string(),
            app_id: principal.client_id.clone(),
            display_name: principal.display_name.clone(),
            service_principal_names: [principal.client_id.clone()],
            service_principal_type: "Application",
        }
    }
}

/// A region that this installation offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Canonical name: lower case, no blanks.
    pub name: String,
    /// The name for people, such as `East US`.
    pub display_name: String,
}

impl Location {
    /// The region that people call `display_name`.
    pub fn new(display_name: &str) -> Location {
        Location { name: canonical_location(display_name), display_name: display_name.to_owned() }
    }
}

/// A region in an answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocationBody<'a> {
    id: String,
    subscription_id: String,
    name: &'a str,
    r#type: &'static str,
    display_name: &'a str,
    regional_display_name: &'a str,
    metadata: LocationMetadata,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LocationMetadata {
    region_type: &'static str,
    region_category: &'static str,
    paired_region: [&'static str; 0],
}

impl<'a> LocationBody<'a> {
    /// The document of a region in a subscription.
    pub fn of(subscription: SubscriptionId, location: &'a Location) -> LocationBody<'a> {
        LocationBody {
            id: format!("/subscriptions/{subscription}/locations/{}", location.name),
            subscription_id: subscription.to_string(),
            name: &location.name,
            r#type: "Region",
            display_name: &location.display_name,
            regional_display_name: &location.display_name,
            metadata: LocationMetadata { region_type: "Physical", region_category: "Recommended", paired_region: [] },
        }
    }
}

/// A provider in an answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderBody {
    id: String,
    namespace: &'static str,
    registration_policy: &'static str,
    registration_state: &'static str,
    resource_types: Vec<ProviderResourceType>,
}

/// A resource type of a provider.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderResourceType {
    resource_type: &'static str,
    locations: Vec<String>,
    api_versions: Vec<&'static str>,
    default_api_version: &'static str,
    capabilities: &'static str,
}

/// Whether a subscription has registered a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// It has.
    Registered,
    /// It has not.
    NotRegistered,
}

impl ProviderBody {
    /// The document of `namespace` below `scope` (empty, or `/subscriptions/{id}`), with its types and their versions.
    pub fn of(
        scope: &str,
        namespace: &'static str,
        registration: Registration,
        types: &[(&'static str, &[&'static str])],
        locations: &[Location],
    ) -> ProviderBody {
        let names: Vec<String> = locations.iter().map(|location| location.display_name.clone()).collect();
        ProviderBody {
            id: format!("{scope}/providers/{namespace}"),
            namespace,
            registration_policy: "RegistrationRequired",
            registration_state: match registration {
                Registration::Registered => "Registered",
                Registration::NotRegistered => "NotRegistered",
            },
            resource_types: types
                .iter()
                .map(|(resource_type, versions)| ProviderResourceType {
                    resource_type,
                    locations: names.clone(),
                    api_versions: versions.to_vec(),
                    // A preview is for those who ask for it by name.
                    default_api_version: versions
                        .iter()
                        .find(|version| !version.ends_with("-preview"))
                        .or(versions.first())
                        .copied()
                        .unwrap_or_default(),
                    capabilities: "None",
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn locations_are_one_without_blanks_and_case() {
        assert_eq!(canonical_location("North Europe"), "northeurope");
        assert_eq!(canonical_location("West us"), "westus");
    }

    #[test]
    fn tags_are_checked_all_at_once() {
        let body = json!({"location": "eastus", "tags": {"a/b": "1", "Team": "x", "team": "y", "n": 1}});
        let error = decode_group(&body).expect_err("three faults");
        assert_eq!(error.code, ErrorCode::MultipleErrorsOccurred);
        assert_eq!(error.details.len(), 3);
        let patch = decode_group_patch(&json!({"tags": {}})).expect("valid");
        assert_eq!(patch.tags, Some(BTreeMap::new()), "an empty map takes all tags away");
    }
}
