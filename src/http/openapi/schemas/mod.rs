//! The schemas of bodies, under their published names.
//!
//! They are written out for 2018-05-01; every other version is told as what it does differently. Answers may require more than the
//! published contract does: what is required there is always present.

mod authorization;
mod clusters;
mod file_servers;
mod jobs;
mod lists;
mod mounts;
mod older;
mod own;
mod platform;
mod shared;
mod sign_in;

use serde_json::{Map, Value, json};

use crate::wire::ApiVersion;

/// Schemas by name.
pub(super) type Schemas = Map<String, Value>;

type Named = Vec<(&'static str, Value)>;

/// All schemas of a version.
pub(super) fn all(version: ApiVersion) -> Schemas {
    let parts = [
        shared::schemas(),
        mounts::schemas(),
        clusters::schemas(),
        file_servers::schemas(),
        jobs::schemas(),
        lists::schemas(),
        platform::schemas(),
        authorization::schemas(),
        sign_in::schemas(),
    ];
    let all = parts.into_iter().flatten().map(|(name, schema)| (name.to_owned(), schema)).collect();
    match version {
        ApiVersion::V2018_05_01 => all,
        ApiVersion::V2018_03_01 => older::v2018_03_01(all),
        ApiVersion::V2017_09_01Preview => older::v2017_09_01_preview(all),
        ApiVersion::V2026_11_01Preview => own::of(all),
    }
}

/// The schema of a path parameter.
pub(super) fn path_parameter(name: &str) -> Value {
    match name {
        "subscriptionId" | "operationId" | "jobUid" => json!({"type": "string", "format": "uuid"}),
        "resourceGroupName" => json!({"type": "string", "minLength": 1, "maxLength": 90, "pattern": "^[-\\w._()]*[-\\w_()]$"}),
        "workspaceName" | "experimentName" | "jobName" | "clusterName" | "fileServerName" => {
            json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[-A-Za-z0-9_]+$"})
        }
        "location" => json!({"type": "string", "pattern": "^[-\\w\\._]+$"}),
        _ => json!({"type": "string", "minLength": 1}),
    }
}

fn text() -> Value {
    json!({"type": "string"})
}

/// A text that is taken and never shown.
fn secret() -> Value {
    json!({"type": "string", "writeOnly": true})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn int() -> Value {
    json!({"type": "integer", "format": "int32"})
}

fn long() -> Value {
    json!({"type": "integer", "format": "int64"})
}

fn word(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

fn to(schema: &str) -> Value {
    super::reference(schema)
}

fn many(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn tags() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

/// The same schema with a default.
fn or(mut schema: Value, default: Value) -> Value {
    if let Value::Object(members) = &mut schema {
        members.insert("default".into(), default);
    }
    schema
}

/// The same schema, of what the server alone writes: taken in a request, and not looked at.
fn read_only(mut schema: Value) -> Value {
    if let Value::Object(members) = &mut schema {
        members.insert("readOnly".into(), json!(true));
    }
    schema
}

/// An object. A member is required where its name ends in `!`.
fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, schema) in members {
        let bare = name.trim_end_matches('!');
        if bare != name {
            required.push(bare);
        }
        properties.insert(bare.to_owned(), schema);
    }
    let mut schema = json!({"type": "object", "properties": properties});
    if let (Value::Object(schema), false) = (&mut schema, required.is_empty()) {
        schema.insert("required".into(), json!(required));
    }
    schema
}

fn page(item: &str) -> Value {
    object([("value!", many(to(item))), ("nextLink", text())])
}

fn resource(properties: &str) -> Value {
    object([("id!", text()), ("name!", text()), ("type!", text()), ("properties!", to(properties))])
}

const PROVISIONING: [&str; 4] = ["creating", "deleting", "succeeded", "failed"];
