//! Checking a file against the server, and saying where in the file something is wrong.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::Document;
use super::output::Answer;
use super::session::Session;
use crate::client::{Failure, OWN, Place, Result};

/// Asks the server what it would do with a document.
///
/// # Errors
/// Every violation, each with its place in the file; as of the client.
pub(super) async fn check(session: &Session, place: &Place, document: &Document) -> Result<Answer> {
    let found = ask(session, place, document).await?;
    let outcome = super::views::at(&found, "/outcome");
    let told = match outcome.as_str() {
        "Create" => format!("{} is good: it would be made", document.name),
        "Unchanged" => format!("{} is good: {} is as it says already", document.name, place.name()),
        "Update" => format!("{} is good: {} would be changed", document.name, place.name()),
        other => format!("{} is good ({other})", document.name),
    };
    session.terminal().say(&told);
    Ok(Answer::One(found, &super::views::OUTCOME))
}

/// What the server would do with a document.
///
/// # Errors
/// As of [`check`].
pub(super) async fn ask(session: &Session, place: &Place, document: &Document) -> Result<Value> {
    let asked = session.client.post(&format!("{}/validate", place.path()), OWN, Some(&document.value)).await;
    let reply = asked.map_err(|failure| {
        let mut failure = located(failure, document);
        failure.remedies.push("nothing was created".to_owned());
        failure
    })?;
    Ok(reply.body)
}

/// A failure whose violations say at which line and column of the document they are.
pub(super) fn located(mut failure: Failure, document: &Document) -> Failure {
    if failure.violations.is_empty() || document.text.is_empty() {
        return failure;
    }
    let places = places(&document.text);
    for violation in &mut failure.violations {
        // A member that is absent is told at what should hold it.
        let mut path = violation.target.as_str();
        let found = loop {
            if let Some(found) = places.get(path) {
                break Some(found);
            }
            match path.rfind(['.', '[']) {
                Some(at) => path = path.get(..at).unwrap_or_default(),
                None => break None,
            }
        };
        if let Some((line, column)) = found {
            violation.target = format!("{line}:{column} {}", violation.target);
        }
    }
    let count = failure.violations.len();
    failure.message = format!("{} has {count} {}", document.name, if count == 1 { "problem" } else { "problems" });
    failure
}

/// Line and column of each member by its path, as violations write it. A reader of YAML reads JSON too.
fn places(text: &str) -> BTreeMap<String, (usize, usize)> {
    use serde_saphyr::granit_parser::{Event, Parser};

    let mut found = BTreeMap::new();
    // What is open: a list with how many entries it had, or an object with the key that waits for its value.
    enum Open {
        List(String, usize),
        Object(String, Option<String>),
    }
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let place = (span.start.line(), span.start.col() + 1);
        match event {
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
            }
            Event::Scalar(text, ..) if matches!(open.last(), Some(Open::Object(_, None))) => {
                if let Some(Open::Object(_, key)) = open.last_mut() {
                    *key = Some(text.to_string());
                }
            }
            Event::Scalar(..) | Event::Alias(..) | Event::MappingStart(..) | Event::SequenceStart(..) => {
                let path = match open.last_mut() {
                    Some(Open::Object(above, key)) => {
                        let key = key.take().unwrap_or_default();
                        if above.is_empty() { key } else { format!("{above}.{key}") }
                    }
                    Some(Open::List(above, count)) => {
                        *count += 1;
                        format!("{above}[{}]", *count - 1)
                    }
                    None => String::new(),
                };
                found.insert(path.clone(), place);
                match event {
                    Event::MappingStart(..) => open.push(Open::Object(path, None)),
                    Event::SequenceStart(..) => open.push(Open::List(path, 0)),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn violations_are_found_in_json_and_yaml() {
        let json =
            "{\n  \"properties\": {\n    \"nodeCount\": 0,\n    \"outputDirectories\": [\n      { \"id\": \"a\" }\n    ]\n  }\n}";
        let found = places(json);
        assert_eq!(found.get("properties.nodeCount"), Some(&(3, 18)));
        assert_eq!(found.get("properties.outputDirectories[0].id"), Some(&(5, 15)));
        let yaml = places("properties:\n  nodeCount: 0\n  list:\n    - id: a\n");
        assert_eq!(yaml.get("properties.nodeCount"), Some(&(2, 14)));
        assert_eq!(yaml.get("properties.list[0].id"), Some(&(4, 11)));
    }

    #[test]
    fn what_is_absent_is_told_at_what_should_hold_it() {
        let document = Document::parse("job.json", "{\n  \"properties\": {}\n}".into()).expect("reads");
        let body = json!({"error": {"code": "MissingRequiredProperty", "target": "properties.cluster.id", "message": "m"}});
        let failure = located(Failure::of(400, &body, "", ""), &document);
        assert_eq!(failure.violations[0].target, "2:17 properties.cluster.id");
        assert_eq!(failure.message, "job.json has 1 problem");
    }
}
