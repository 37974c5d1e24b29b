//! What a job wants tried again, as our own version writes it: `properties.retries`.

use serde_json::{Map, Value, json};

use crate::domain::retry::{Category, MAX_BACKOFF, MAX_LIMIT, MAX_RULES, RetryRule};
use crate::error::{Error, Violations};
use crate::wire::duration::{parse_seconds, write_seconds};
use crate::wire::fields::{Fields, SHORT_TEXT};

/// Causes, as the wire writes them.
pub const CATEGORIES: [(&str, Category); 6] = [
    ("NodeLost", Category::NodeLost),
    ("OutOfMemory", Category::OutOfMemory),
    ("OutOfDisk", Category::OutOfDisk),
    ("Mount", Category::Mount),
    ("Pull", Category::Pull),
    ("Time", Category::Time),
];

/// Most exit codes of one rule.
const MAX_CODES: usize = 64;

/// Reads the rules of a PUT's document; none where it has none.
///
/// # Errors
/// Every violation.
pub fn decode(document: &Value) -> Result<Vec<RetryRule>, Error> {
    let mut found = Violations::new();
    let rules = Fields::root(document, &mut found)
        .and_then(|root| root.object("properties", &mut found))
        .and_then(|properties| decode_rules(&properties, &mut found))
        .unwrap_or_default();
    found.into_result()?;
    Ok(rules)
}

fn decode_rules(properties: &Fields<'_>, found: &mut Violations) -> Option<Vec<RetryRule>> {
    let entries = properties.objects("retries", found)?;
    if entries.len() > MAX_RULES {
        let path = properties.path_of("retries");
        found.invalid(&path, format!("The property '{path}' has more than {MAX_RULES} entries."));
        return None;
    }
    entries.iter().map(|entry| decode_rule(entry, found)).collect()
}

fn decode_rule(entry: &Fields<'_>, found: &mut Violations) -> Option<RetryRule> {
    let exit_codes = entry.numbers("exitCodes", 1..=255, MAX_CODES, found).unwrap_or_default();
    let categories = entry.words("categories", &CATEGORIES, found).unwrap_or_default();
    let limit = entry.required_number("limit", 1..=MAX_LIMIT, found);
    let backoff_s = decode_backoff(entry, found);
    let avoid_nodes = entry.flag("avoidNodes", found).unwrap_or_default();
    if exit_codes.is_empty() && categories.is_empty() {
        let path = entry.path_of("exitCodes");
        found.invalid(&path, format!("The property '{path}' or 'categories' beside it must name what is tried again."));
    }
    Some(RetryRule { exit_codes, categories, limit: limit?, backoff_s: backoff_s?, avoid_nodes })
}

fn decode_backoff(entry: &Fields<'_>, found: &mut Violations) -> Option<u64> {
    let Some(text) = entry.text("backoff", SHORT_TEXT, found) else { return Some(0) };
    let path = entry.path_of("backoff");
    match parse_seconds(text) {
        Ok(seconds) if seconds <= MAX_BACKOFF.as_secs() => Some(seconds),
        Ok(_) => {
            found.invalid(&path, format!("The property '{path}' must be at most {}.", write_seconds(MAX_BACKOFF.as_secs())));
            None
        }
        Err(error) => {
            found.invalid(&path, format!("The property '{path}' {error}."));
            None
        }
    }
}

/// The rules in an answer.
pub fn encode(rules: &[RetryRule]) -> Value {
    let rule = |rule: &RetryRule| {
        let mut members = Map::new();
        if !rule.exit_codes.is_empty() {
            members.insert("exitCodes".into(), json!(rule.exit_codes));
        }
        if !rule.categories.is_empty() {
            members.insert("categories".into(), rule.categories.iter().map(|category| json!(word_of(*category))).collect());
        }
        members.insert("limit".into(), json!(rule.limit));
        members.insert("backoff".into(), json!(write_seconds(rule.backoff_s)));
        members.insert("avoidNodes".into(), json!(rule.avoid_nodes));
        Value::Object(members)
    };
    rules.iter().map(rule).collect()
}

fn word_of(category: Category) -> &'static str {
    CATEGORIES.iter().find(|(_, known)| *known == category).map_or("", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(retries: Value) -> Result<Vec<RetryRule>, Error> {
        decode(&json!({ "properties": { "retries": retries } }))
    }

    #[test]
    fn rules_come_back_as_they_were_given() {
        let given = json!([
            { "exitCodes": [1, 75], "limit": 2, "backoff": "PT30S", "avoidNodes": false },
            { "categories": ["OutOfMemory", "Time"], "limit": 1, "backoff": "PT0S", "avoidNodes": true },
        ]);
        assert_eq!(encode(&read(given.clone()).expect("reads")), given);
        assert_eq!(
            read(json!([{ "categories": ["outofmemory"], "limit": 1 }])).expect("reads")[0].categories,
            [Category::OutOfMemory]
        );
        assert!(read(Value::Null).expect("none").is_empty());
        assert!(decode(&json!({})).expect("none").is_empty());
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_path() {
        for (wrong, path) in [
            (json!([{ "limit": 1 }]), "properties.retries[0].exitCodes"),
            (json!([{ "exitCodes": [0], "limit": 1 }]), "properties.retries[0].exitCodes"),
            (json!([{ "exitCodes": [256], "limit": 1 }]), "properties.retries[0].exitCodes"),
            (json!([{ "exitCodes": ["1"], "limit": 1 }]), "properties.retries[0].exitCodes"),
            (json!([{ "exitCodes": [1] }]), "properties.retries[0].limit"),
            (json!([{ "exitCodes": [1], "limit": 101 }]), "properties.retries[0].limit"),
            (json!([{ "categories": ["Bad"], "limit": 1 }]), "properties.retries[0].categories"),
            (json!([{ "exitCodes": [1], "limit": 1, "backoff": "P2D" }]), "properties.retries[0].backoff"),
            (json!({}), "properties.retries"),
        ] {
            let error = read(wrong.clone()).expect_err(path);
            assert!(format!("{error:?}").contains(path), "{wrong}: {error:?}");
        }
    }
}
