//! The short form of a contract: what can be asked, with which parameters and bodies, and which fields these have.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A contract.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Outline {
    /// By operation id.
    pub(super) operations: BTreeMap<String, Operation>,
    /// What parameters are, by name: one has the same meaning everywhere.
    pub(super) parameters: BTreeMap<String, String>,
    /// The fields of schemas: type, `required`, default.
    pub(super) schemas: BTreeMap<String, BTreeMap<String, String>>,
}

/// One operation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Operation {
    /// Method and path.
    pub(super) address: String,
    pub(super) parameters: BTreeSet<String>,
    pub(super) body: Option<String>,
    /// The schema of each answer.
    pub(super) answers: BTreeMap<String, Option<String>>,
}

const METHODS: [&str; 6] = ["get", "put", "patch", "post", "delete", "head"];

impl Outline {
    /// Of a published document: Swagger 2.0.
    pub(super) fn of_published(document: &Value) -> Outline {
        let mut outline = Outline::default();
        for (path, method, operation) in operations(document) {
            let mut names = BTreeSet::new();
            let mut body = None;
            for given in operation["parameters"].as_array().into_iter().flatten() {
                let parameter = match given["$ref"].as_str() {
                    Some(reference) => &document["parameters"][last(reference)],
                    None => given,
                };
                let name = parameter["name"].as_str().expect("a name");
                if parameter["in"] == "body" {
                    body = outline.note(document, "definitions", &parameter["schema"], "");
                } else {
                    names.insert(name.to_owned());
                    outline.note_parameter(name, parameter, parameter);
                }
            }
            let answers = operation["responses"].as_object().expect("answers");
            let answers = answers
                .iter()
                .map(|(status, answer)| (status.clone(), outline.note(document, "definitions", &answer["schema"], "")))
                .collect();
            outline.add(operation, method, path, Operation { address: String::new(), parameters: names, body, answers });
        }
        outline
    }

    /// Of our own document: OpenAPI 3. What is not of the provider is left out.
    pub(super) fn of_ours(document: &Value) -> Outline {
        let mut outline = Outline::default();
        let schemas = &document["components"];
        for (path, method, operation) in operations(document) {
            if !path.contains("/providers/Microsoft.BatchAI") {
                continue;
            }
            let mut names = BTreeSet::new();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().expect("a name");
                names.insert(name.to_owned());
                outline.note_parameter(name, parameter, &parameter["schema"]);
            }
            let content = |holder: &Value| {
                holder["content"].as_object().and_then(|content| content.values().next()).map(|media| media["schema"].clone())
            };
            let body = content(&operation["requestBody"]).and_then(|schema| outline.note(schemas, "schemas", &schema, ""));
            let answers = operation["responses"].as_object().expect("answers");
            let answers = answers
                .iter()
                .map(|(status, answer)| {
                    let schema = content(answer).unwrap_or_default();
                    (status.clone(), outline.note(schemas, "schemas", &schema, ""))
                })
                .collect();
            outline.add(operation, method, path, Operation { address: String::new(), parameters: names, body, answers });
        }
        outline
    }

    fn add(&mut self, operation: &Value, method: &str, path: &str, mut read: Operation) {
        read.address = format!("{} {path}", method.to_uppercase());
        let id = operation["operationId"].as_str().expect("an operation id");
        assert!(self.operations.insert(id.to_owned(), read).is_none(), "{id} twice");
    }

    fn note_parameter(&mut self, name: &str, parameter: &Value, schema: &Value) {
        let mut told = format!("in {}, {}", parameter["in"].as_str().unwrap_or_default(), plain(schema));
        for word in ["pattern", "minLength", "maxLength", "minimum", "maximum", "default"] {
            if !schema[word].is_null() && name != "api-version" {
                told += &format!(", {word} {}", text(&schema[word]));
            }
        }
        if parameter["required"] == true {
            told += ", required";
        }
        match self.parameters.get(name) {
            // A template knows no more of a tenant's part than of another.
            Some(known) => assert_eq!(known, &told, "the parameter {name} has two meanings"),
            None => {
                self.parameters.insert(name.to_owned(), told);
            }
        }
    }

    /// The name of a schema; it is noted with all that it leads to. `place` names one that has no name of its own.
    fn note(&mut self, document: &Value, folder: &str, schema: &Value, place: &str) -> Option<String> {
        if schema.is_null() {
            return None;
        }
        if let Some(reference) = schema["$ref"].as_str() {
            let (name, target) = (last(reference), &document[folder][last(reference)]);
            if target["properties"].is_null() && target["allOf"].is_null() {
                return self.note(document, folder, target, place);
            }
            self.note_fields(document, folder, name, target);
            return Some(name.to_owned());
        }
        if schema["type"] == "array" {
            let items = self.note(document, folder, &schema["items"], &format!("{place}[]"));
            return Some(format!("list of {}", items.unwrap_or_default()));
        }
        if schema["properties"].is_object() {
            self.note_fields(document, folder, place, schema);
            return Some(place.to_owned());
        }
        if schema["additionalProperties"].is_object() {
            let values = self.note(document, folder, &schema["additionalProperties"], place);
            return Some(format!("map of {}", values.unwrap_or_default()));
        }
        Some(plain(schema))
    }

    fn note_fields(&mut self, document: &Value, folder: &str, name: &str, schema: &Value) {
        if self.schemas.contains_key(name) {
            return;
        }
        // Noted first: schemas may lead back to themselves.
        self.schemas.insert(name.to_owned(), BTreeMap::new());
        let mut fields = BTreeMap::new();
        let mut parts = vec![schema];
        parts.extend(schema["allOf"].as_array().into_iter().flatten());
        for part in parts {
            let part = match part["$ref"].as_str() {
                Some(reference) => &document[folder][last(reference)],
                None => part,
            };
            let required: BTreeSet<&str> = part["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            for (field, given) in part["properties"].as_object().into_iter().flatten() {
                let mut told = self.note(document, folder, given, &format!("{name}.{field}")).unwrap_or_default();
                let target = given["$ref"].as_str().map(|reference| &document[folder][last(reference)]);
                let default = [Some(given), target].into_iter().flatten().map(|s| &s["default"]).find(|d| !d.is_null());
                if let Some(default) = default {
                    told += &format!(", default {}", text(default));
                }
                if required.contains(field.as_str()) {
                    told += ", required";
                }
                fields.insert(field.clone(), told);
            }
        }
        self.schemas.insert(name.to_owned(), fields);
    }
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    document["paths"].as_object().into_iter().flatten().flat_map(|(path, methods)| {
        METHODS
            .iter()
            .filter(|method| methods[**method].is_object())
            .map(move |method| (path.as_str(), *method, &methods[*method]))
    })
}

/// A type without parts.
fn plain(schema: &Value) -> String {
    let mut told = match (schema["type"].as_str(), schema["enum"].is_array()) {
        (Some(name), _) => name.to_owned(),
        (None, true) => "string".to_owned(),
        (None, false) => "anything".to_owned(),
    };
    if let Some(format) = schema["format"].as_str() {
        told += &format!(" ({format})");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: BTreeSet<String> = words.iter().map(text).collect();
        told += &format!(" of {}", words.into_iter().collect::<Vec<_>>().join(" | "));
    }
    told
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn last(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}
