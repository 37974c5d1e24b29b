//! Our own version: the paths and bodies of 2018-05-01 with today's conventions of the platform, and what the retired service never had.
//!
//! Only what differs is here. States begin with a capital letter, every resource tells who made and changed it (`systemData`),
//! operations are documents with a path for an id, and changes can be followed.

pub mod attempts;
pub mod events;
pub mod jobs;
pub mod nodes;
pub mod operation;
pub mod retries;
pub mod samples;
pub mod scaling;
pub mod why;

use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::event::Authors;
use crate::domain::resource::{Envelope, Resource};
use crate::error::Error;
use crate::wire::times::moment;
use crate::wire::v2018_05_01::Encode;

/// Members of `properties` that hold a state.
const STATES: [&str; 3] = ["provisioningState", "allocationState", "executionState"];

/// A resource's document, made of the one that 2018-05-01 shows.
///
/// # Errors
/// `InternalServerError` where that one cannot be written.
pub fn resource<K: Encode>(body: impl Serialize, stored: &Envelope<K>, authors: &Authors) -> Result<Value, Error> {
    let mut document = serde_json::to_value(body).map_err(Error::internal)?;
    for name in STATES {
        if let Some(Value::String(state)) = document.pointer_mut(&format!("/properties/{name}")) {
            *state = title(state);
        }
    }
    if let Some(Value::Object(properties)) = document.get_mut("properties") {
        properties.extend(K::own(stored).into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    if let Value::Object(members) = &mut document {
        members.insert("systemData".into(), system_data(stored, authors));
    }
    Ok(document)
}

/// Who made a resource and changed what it asks for; what the service itself records does not count as a change.
///
/// Source: `systemData`, the platform's common contract for API versions.
fn system_data<K: Resource>(stored: &Envelope<K>, authors: &Authors) -> Value {
    let mut data = json!({
        "createdAt": moment(stored.created_at),
        "lastModifiedAt": moment(stored.updated_at),
    });
    if let Value::Object(members) = &mut data {
        for (by, kind, who) in
            [("createdBy", "createdByType", &authors.created_by), ("lastModifiedBy", "lastModifiedByType", &authors.updated_by)]
        {
            if let Some(who) = who {
                members.insert(by.into(), json!(who));
                // Callers are programs: the client-credentials grant knows no people.
                members.insert(kind.into(), json!("Application"));
            }
        }
    }
    data
}

/// A state as today's conventions write it: `succeeded` becomes `Succeeded`.
pub fn title(state: &str) -> String {
    let mut characters = state.chars();
    match characters.next() {
        Some(first) => first.to_ascii_uppercase().to_string() + characters.as_str(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v2018_05_01::samples;

    #[test]
    fn a_resource_tells_who_made_it_and_titles_its_states() {
        let stored = samples::job();
        let authors = Authors { created_by: Some("ci".into()), updated_by: None };
        let shown = resource(crate::domain::job::Job::encode(&stored), &stored, &authors).expect("writes");
        assert_eq!(shown["properties"]["provisioningState"], "Succeeded");
        assert_eq!(shown["properties"]["executionState"], "Failed");
        assert_eq!(
            shown["systemData"],
            json!({
                "createdBy": "ci", "createdByType": "Application",
                "createdAt": "2018-06-14T09:13:00.25Z", "lastModifiedAt": "2018-06-14T09:13:00.25Z",
            })
        );
    }
}
