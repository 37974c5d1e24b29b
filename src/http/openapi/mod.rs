//! The contract that this server serves, as an OpenAPI document: made from the route table that serves requests and from the
//! descriptions beside it. A test compares the schemas with what the codecs write.

mod operations;
mod schemas;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::http::routes::{Access, ROUTES, Route, expand};
use crate::wire::ApiVersion;

use operations::{Operation, describe};

/// The document of a version. The same for the same binary: it holds no address, time or setting.
pub fn openapi(version: ApiVersion) -> Value {
    let mut paths = Map::new();
    for route in ROUTES.iter().filter(|route| !is_provider(route) || route.versions.contains(&version)) {
        let path = paths.entry(path_of(route)).or_insert_with(|| json!({}));
        if let Value::Object(methods) = path {
            let described = operation(route, &describe(route.operation, version), version);
            methods.insert(route.method.as_str().to_ascii_lowercase(), described);
        }
    }
    let schemas = used(&paths, schemas::all(version));
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "batchyard",
            "description": "Microsoft.BatchAI at its published version, and what clients need of the platform around it.",
            "version": version.as_str(),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token of the built-in issuer: POST /{tenant}/oauth2/v2.0/token.",
                },
            },
            "schemas": schemas,
        },
    })
}

/// The published id of an operation: one has another name before 2018-05-01.
fn operation_id(route: &Route, version: ApiVersion) -> &'static str {
    match (route.operation, version) {
        ("Usages_List", ApiVersion::V2018_03_01) => "Usage_List",
        (id, _) => id,
    }
}

/// The schemas that the paths lead to, by way of others too.
fn used(paths: &Map<String, Value>, mut schemas: schemas::Schemas) -> schemas::Schemas {
    let mut used = Map::new();
    let mut found = BTreeSet::new();
    paths.values().for_each(|path| references(path, &mut found));
    while let Some(name) = found.pop_first() {
        if let Some(schema) = schemas.remove(&name) {
            references(&schema, &mut found);
            used.insert(name, schema);
        }
    }
    used
}

/// The names of the schemas that a part of the document refers to.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "$ref" => {
                        found.insert(text.trim_start_matches(SCHEMAS).to_owned());
                    }
                    other => references(other, found),
                }
            }
        }
        Value::Array(entries) => entries.iter().for_each(|entry| references(entry, found)),
        _ => {}
    }
}

/// Where schemas are in the document.
const SCHEMAS: &str = "#/components/schemas/";

/// The path as the document writes it: a rest of several segments is one parameter there.
fn path_of(route: &Route) -> String {
    expand(route.template).replace("*}", "}")
}

fn operation(route: &Route, about: &Operation, version: ApiVersion) -> Value {
    let mut parameters: Vec<Value> = path_of(route)
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": schemas::path_parameter(name)}))
        .collect();
    if !matches!(route.access, Access::Open | Access::Link) {
        parameters.push(json!({
            "name": "api-version", "in": "query", "required": true,
            "schema": if is_provider(route) {
                json!({"type": "string", "enum": [version.as_str()]})
            } else {
                json!({"type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}(-[a-z]+)?$"})
            },
        }));
    }
    for (name, schema) in &about.headers {
        parameters.push(json!({"name": name, "in": "header", "required": false, "schema": schema}));
    }
    for (name, required, schema) in &about.query {
        parameters.push(json!({"name": name, "in": "query", "required": required, "schema": schema}));
    }
    let mut document = json!({
        "operationId": operation_id(route, version),
        "summary": about.summary,
        "tags": [route.operation.split('_').next().unwrap_or_default()],
        "parameters": parameters,
        "responses": responses(route, about),
    });
    if let Value::Object(members) = &mut document {
        if !route.action.is_empty() {
            members.insert("x-permission".into(), json!(route.action));
        }
        if matches!(route.access, Access::Open | Access::Link) {
            members.insert("security".into(), json!([]));
        }
        if let Some((media_type, schema)) = about.request {
            let content = json!({media_type: {"schema": reference(schema)}});
            members.insert("requestBody".into(), json!({"required": true, "content": content}));
        }
    }
    document
}

fn responses(route: &Route, about: &Operation) -> Value {
    let mut responses = Map::new();
    for (status, description, schema) in &about.responses {
        let mut response = json!({"description": description});
        if let (Value::Object(members), Some(schema)) = (&mut response, schema) {
            let content = match *schema {
                "" => json!({"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}),
                "Event" => json!({"text/event-stream": {"schema": reference("Event")}}),
                name => json!({"application/json": {"schema": reference(name)}}),
            };
            members.insert("content".into(), content);
        }
        if let (Value::Object(members), 202) = (&mut response, status) {
            members.insert("headers".into(), polling_headers(route));
        }
        responses.insert(status.to_string(), response);
    }
    responses.insert(
        "default".into(),
        json!({
            "description": "A refusal or failure.",
            "content": {"application/json": {"schema": reference(about.failure)}},
        }),
    );
    Value::Object(responses)
}

fn polling_headers(route: &Route) -> Value {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let mut headers = json!({
        "Location": text("The absolute URL that answers what the call would have answered."),
        "Retry-After": {"description": "Seconds to wait between two looks.", "schema": {"type": "integer"}},
    });
    if let (Value::Object(members), true) = (&mut headers, is_provider(route)) {
        members.insert("Azure-AsyncOperation".into(), text("The absolute URL of the operation's status document."));
    }
    headers
}

fn is_provider(route: &Route) -> bool {
    expand(route.template).contains(crate::id::NAMESPACE)
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("{SCHEMAS}{schema}")})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_has_a_schema_and_every_schema_a_reference() {
        for version in ApiVersion::ALL {
            let document = openapi(version);
            let mut used = BTreeSet::new();
            references(&document, &mut used);
            let schemas = document["components"]["schemas"].as_object().expect("schemas");
            assert_eq!(used, schemas.keys().cloned().collect(), "{}", version.as_str());
        }
    }

    #[test]
    fn every_route_is_described() {
        for route in ROUTES {
            for version in route.versions {
                let about = describe(route.operation, *version);
                assert!(!about.summary.is_empty(), "{} has no description", route.operation);
                assert!(!about.responses.is_empty(), "{} has no response", route.operation);
            }
        }
    }

    /// Checks that a document has what its schema requires, nothing that its schema does not know, and the types it says.
    fn fits(schemas: &Value, schema: &Value, document: &Value, at: &str) {
        let schema = match schema["$ref"].as_str() {
            Some(name) => &schemas[name.trim_start_matches("#/components/schemas/")],
            None => schema,
        };
        match schema["type"].as_str().unwrap_or_default() {
            "object" => {
                let members = document.as_object().unwrap_or_else(|| panic!("{at} is no object"));
                for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    assert!(members.contains_key(name), "{at}.{name} is required");
                }
                for (name, member) in members {
                    let known = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                    assert!(known.is_object(), "{at}.{name} has no schema");
                    fits(schemas, known, member, &format!("{at}.{name}"));
                }
            }
            "array" => {
                for entry in document.as_array().unwrap_or_else(|| panic!("{at} is no list")) {
                    fits(schemas, &schema["items"], entry, &format!("{at}[]"));
                }
            }
            "string" => {
                let text = document.as_str().unwrap_or_else(|| panic!("{at} is no string"));
                if let Some(words) = schema["enum"].as_array() {
                    assert!(words.iter().any(|word| word == text), "{at} is {text}");
                }
            }
            "integer" => assert!(document.is_i64() || document.is_u64(), "{at} is no whole number"),
            "number" => assert!(document.is_number(), "{at} is no number"),
            "boolean" => assert!(document.is_boolean(), "{at} is neither true nor false"),
            other => panic!("{at}: the schema says '{other}'"),
        }
    }

    #[test]
    fn schemas_fit_what_the_codecs_write() {
        use crate::wire::v2018_05_01::{Encode, samples};

        fn check<K: Encode>(schemas: &Value, name: &str, stored: &crate::domain::resource::Envelope<K>) {
            let document = serde_json::to_value(K::encode(stored)).expect("writes");
            fits(schemas, &schemas[name], &document, name);
        }
        let document = openapi(ApiVersion::V2018_05_01);
        let schemas = &document["components"]["schemas"];
        check(schemas, "ResourceGroup", &samples::group());
        check(schemas, "Workspace", &samples::workspace());
        check(schemas, "Experiment", &samples::experiment());
        check(schemas, "Cluster", &samples::cluster());
        check(schemas, "FileServer", &samples::file_server());
        check(schemas, "Job", &samples::job());
    }

    /// `batchyard openapi VERSION` prints the same document: after a change of the contract, put its output in place.
    #[test]
    fn the_committed_documents_are_current() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi");
        let mut stale = Vec::new();
        for version in ApiVersion::ALL {
            let name = format!("batchyard-{}.json", version.as_str());
            let committed = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
            let committed: Value = serde_json::from_str(&committed).unwrap_or_default();
            if committed != openapi(version) {
                stale.push(name);
            }
        }
        assert!(stale.is_empty(), "not current in openapi/: {stale:?}; `batchyard openapi VERSION` prints what they should be");
    }
}
