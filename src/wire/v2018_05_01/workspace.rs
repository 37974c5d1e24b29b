//! Workspaces as 2018-05-01 writes them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::domain::resource::Envelope;
use crate::domain::workspace::Workspace;
use crate::error::{Error, Violations};
use crate::id::Kind;
use crate::wire::fields::{Fields, SHORT_TEXT};
use crate::wire::platform::{canonical_location, decode_tags};
use crate::wire::v2018_05_01::{ContainerProperties, Encode};

/// What a PUT asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceCreateParameters {
    /// The region, canonical.
    pub location: String,
    /// Tags, where any were given.
    pub tags: Option<BTreeMap<String, String>>,
}

/// Reads the body of a PUT.
///
/// # Errors
/// Every violation.
pub fn decode_create(document: &Value) -> Result<WorkspaceCreateParameters, Error> {
    let mut found = Violations::new();
    let read = Fields::root(document, &mut found).map(|root| WorkspaceCreateParameters {
        location: canonical_location(root.required_text("location", SHORT_TEXT, &mut found).unwrap_or_default()),
        tags: decode_tags(&root, &mut found),
    });
    found.into_result()?;
    read.ok_or_else(|| Error::internal("a body without violations was not read"))
}

/// Reads the body of a PATCH: the tags, which replace all that were there. `None` leaves them.
///
/// # Errors
/// Every violation.
pub fn decode_update(document: &Value) -> Result<Option<BTreeMap<String, String>>, Error> {
    let mut found = Violations::new();
    let tags = Fields::root(document, &mut found).and_then(|root| decode_tags(&root, &mut found));
    found.into_result()?;
    Ok(tags)
}

/// A workspace in an answer.
#[derive(Serialize)]
pub struct WorkspaceBody<'a> {
    id: &'a str,
    name: &'a str,
    r#type: &'static str,
    location: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a BTreeMap<String, String>>,
    properties: ContainerProperties,
}

impl Encode for Workspace {
    type Body<'a> = WorkspaceBody<'a>;

    fn encode(stored: &Envelope<Workspace>) -> WorkspaceBody<'_> {
        WorkspaceBody {
            id: &stored.path,
            name: &stored.name,
            r#type: Kind::Workspace.resource_type(),
            location: &stored.location,
            tags: stored.tags.as_ref(),
            properties: ContainerProperties::of(stored),
        }
    }
}
