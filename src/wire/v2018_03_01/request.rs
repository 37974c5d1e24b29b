//! Bodies of requests, turned into those of 2018-05-01.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::domain::older::Older;
use crate::error::Violations;
use crate::id::{FlatId, Kind};
use crate::wire::fields::{Fields, SHORT_TEXT};

/// Bounds of a job's priority. Source: openapi 2018-03-01.
const PRIORITY: i64 = 1_000;

/// Words for what an output directory holds. Source: openapi 2018-03-01.
const OUTPUT_TYPES: [(&str, &str); 4] = [("model", "model"), ("logs", "logs"), ("summary", "summary"), ("custom", "custom")];

/// Members of a job that came later.
const LATER: [&str; 2] = ["customMpiSettings", "horovodSettings"];

/// A body as 2018-05-01 would have it.
#[derive(Clone, Debug)]
pub struct Read {
    /// The body.
    pub document: Value,
    /// What has no place in it.
    pub older: Option<Older>,
    /// Where it names resources by ids of this version, which must be looked up.
    pub references: Vec<Reference>,
}

/// A place in the body that names a resource by an id of this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// A JSON pointer to the id.
    pub pointer: String,
    /// The id.
    pub id: FlatId,
}

/// Turns the body of a PUT or PATCH of a cluster, job or file server into one of 2018-05-01.
pub fn read(kind: Kind, document: &Value, found: &mut Violations) -> Read {
    let mut older = Older::default();
    let mut turned = document.clone();
    let root = Fields::root(document, found);
    if root.as_ref().is_some_and(|root| asks_for_tags(document) && root.has("tags")) {
        let message =
            "The property 'tags' is not kept by this server: newer versions know none on resources of this type. Leave it out.";
        found.invalid("tags", message);
    }
    if let Some(properties) = root.and_then(|root| root.object("properties", found)) {
        match kind {
            Kind::Job => read_job(&properties, &mut turned, &mut older, found),
            Kind::Cluster => {
                let elevated = turned.pointer("/properties/nodeSetup/setupTask/runElevated");
                older.run_elevated = elevated.and_then(Value::as_bool).unwrap_or_default();
            }
            _ => {}
        }
    }
    let mut references = Vec::new();
    find_references(&turned, &mut String::new(), &mut references);
    Read { document: turned, older: older.unless_empty(), references }
}

fn asks_for_tags(document: &Value) -> bool {
    document.get("tags").is_some_and(|tags| tags.as_object().is_none_or(|tags| !tags.is_empty()))
}

fn read_job(properties: &Fields<'_>, turned: &mut Value, older: &mut Older, found: &mut Violations) {
    let priority = read_priority(properties, turned, found);
    let (word, exact) = match priority {
        ..0 => ("low", -1_000),
        0 => ("normal", 0),
        1.. => ("high", 1_000),
    };
    older.priority = (priority != exact).then_some(priority);
    older.experiment_name =
        properties.text("experimentName", SHORT_TEXT, found).filter(|name| !name.is_empty()).map(str::to_owned);
    older.output_types = read_outputs(properties, found);
    if let Some(members) = turned.pointer_mut("/properties").and_then(Value::as_object_mut) {
        LATER.iter().for_each(|name| drop(members.remove(*name)));
        members.insert("schedulingPriority".into(), json!(word));
        if let Some(container) = members.get_mut("containerSettings").and_then(Value::as_object_mut) {
            container.remove("shmSize");
        }
    }
}

fn read_priority(properties: &Fields<'_>, turned: &Value, found: &mut Violations) -> i16 {
    let path = properties.path_of("priority");
    match turned.pointer("/properties/priority") {
        None | Some(Value::Null) => 0,
        Some(value) => match value.as_i64().filter(|n| (-PRIORITY..=PRIORITY).contains(n)).and_then(|n| i16::try_from(n).ok()) {
            Some(priority) => priority,
            None => {
                found.invalid(&path, format!("The property '{path}' must be a whole number from -{PRIORITY} to {PRIORITY}."));
                0
            }
        },
    }
}

fn read_outputs(properties: &Fields<'_>, found: &mut Violations) -> BTreeMap<String, String> {
    // What is wrong with the list itself is told by those who read it as 2018-05-01.
    let mut ignored = Violations::new();
    let mut types = BTreeMap::new();
    for entry in properties.objects("outputDirectories", &mut ignored).into_iter().flatten() {
        let holds = entry.word("type", &OUTPUT_TYPES, found).unwrap_or("custom");
        if let (Some(id), true) = (entry.text("id", SHORT_TEXT, &mut ignored), holds != "custom") {
            types.insert(id.to_owned(), holds.to_owned());
        }
        if entry.flag("createNew", found) == Some(false) {
            let path = entry.path_of("createNew");
            let message = format!("The property '{path}' must be true or left out: this server always makes the directory.");
            found.invalid(path, message);
        }
    }
    types
}

/// Finds ids of this version: members called `id`, at any depth.
fn find_references(value: &Value, at: &mut String, found: &mut Vec<Reference>) {
    let mut each = |name: &str, member: &Value| {
        let length = at.len();
        at.push('/');
        at.push_str(&name.replace('~', "~0").replace('/', "~1"));
        match member {
            Value::String(text) if name == "id" => {
                if let Some(id) = FlatId::parse(text) {
                    found.push(Reference { pointer: at.clone(), id });
                }
            }
            other => find_references(other, at, found),
        }
        at.truncate(length);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| each(name, member)),
        Value::Array(entries) => entries.iter().enumerate().for_each(|(index, entry)| each(&index.to_string(), entry)),
        _ => {}
    }
}

/// The members of an object, for those who turn it further.
pub(in crate::wire) fn members<'v>(document: &'v mut Value, pointer: &str) -> Option<&'v mut Map<String, Value>> {
    document.pointer_mut(pointer).and_then(Value::as_object_mut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_becomes_one_of_the_newer_version() {
        let cluster =
            "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/g/providers/Microsoft.BatchAI/clusters/c";
        let body = json!({"location": "eastus", "properties": {
            "priority": 7, "experimentName": "mine", "cluster": {"id": cluster}, "horovodSettings": {},
            "outputDirectories": [{"id": "M", "pathPrefix": "/x", "type": "Model", "createNew": true}, {"id": "O", "type": "custom"}],
        }});
        let mut found = Violations::new();
        let read = read(Kind::Job, &body, &mut found);
        assert!(found.is_empty(), "{found:?}");
        let older = read.older.expect("something older");
        assert_eq!((older.priority, older.experiment_name.as_deref()), (Some(7), Some("mine")));
        assert_eq!(older.output_types, BTreeMap::from([("M".to_owned(), "model".to_owned())]));
        assert_eq!(read.document["properties"]["schedulingPriority"], "high");
        assert!(read.document["properties"].get("horovodSettings").is_none());
        assert_eq!(read.references.iter().map(|r| r.pointer.as_str()).collect::<Vec<_>>(), ["/properties/cluster/id"]);
    }

    #[test]
    fn what_this_version_alone_knows_is_checked_too() {
        let body = json!({"properties": {
            "priority": 1001, "experimentName": 1, "outputDirectories": [{"id": "M", "type": "x", "createNew": false}],
        }});
        let mut found = Violations::new();
        read(Kind::Job, &body, &mut found);
        let targets: Vec<&str> = found.iter().map(|v| v.target.as_str()).collect();
        assert_eq!(
            targets,
            [
                "properties.priority",
                "properties.experimentName",
                "properties.outputDirectories[0].type",
                "properties.outputDirectories[0].createNew",
            ]
        );
    }

    #[test]
    fn what_needs_nothing_older_keeps_nothing() {
        for priority in [json!(0), json!(1000), json!(-1000), Value::Null] {
            let mut found = Violations::new();
            assert_eq!(read(Kind::Job, &json!({"properties": {"priority": priority}}), &mut found).older, None);
        }
    }
}
