//! Variables in steps, and whether an answer is the expected one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::world::Answer;

pub(crate) type Variables = BTreeMap<String, String>;

/// Puts variables in place of `{{name}}`, in texts and in names of members.
pub(super) fn fill(value: &Value, variables: &Variables) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(fill_text(text, variables)?),
        Value::Array(entries) => Value::Array(entries.iter().map(|entry| fill(entry, variables)).collect::<Result<_, _>>()?),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, member)| Ok((fill_text(name, variables)?, fill(member, variables)?)))
                .collect::<Result<_, String>>()?,
        ),
        other => other.clone(),
    })
}

fn fill_text(text: &str, variables: &Variables) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or_else(|| format!("'{text}' has an open '{{{{'"))?;
        filled.push_str(before);
        filled.push_str(variables.get(name).ok_or_else(|| format!("there is no variable '{name}'"))?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// How an answer differs from what a step expects; empty where it does not.
pub(super) fn mismatches(expect: &Value, answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(wanted) = expect["status"].as_u64()
        && wanted != u64::from(answer.status)
    {
        found.push(format!("status: wanted {wanted}, got {}", answer.status));
    }
    for (name, wanted) in expect["headers"].as_object().into_iter().flatten() {
        let given = answer.headers.get(name).map(|values| values.join(", "));
        match (wanted, given) {
            (Value::Null, None) => {}
            (Value::Null, Some(given)) => found.push(format!("header {name}: wanted none, got '{given}'")),
            (_, None) => found.push(format!("header {name}: wanted {wanted}, got none")),
            (wanted, Some(given)) => compare(wanted, &Value::from(given), false, &format!("header {name}"), &mut found),
        }
    }
    if let Some(wanted) = expect.get("text") {
        compare(wanted, &Value::from(answer.text()), false, "text", &mut found);
    }
    for (member, is_subset) in [("body", false), ("includes", true)] {
        if let Some(wanted) = expect.get(member) {
            match answer.json() {
                Some(given) => compare(wanted, &given, is_subset, "$", &mut found),
                None => found.push(format!("the body is no JSON: '{}'", answer.text())),
            }
        }
    }
    for word in expect["excludes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if answer.text().contains(word) {
            found.push(format!("the body has '{word}'"));
        }
    }
    found
}

fn compare(wanted: &Value, given: &Value, is_subset: bool, at: &str, found: &mut Vec<String>) {
    match (wanted, given) {
        (Value::String(pattern), _) if fits(pattern, given) => {}
        (Value::Object(wanted), Value::Object(members)) => {
            for (name, wanted) in wanted {
                match members.get(name) {
                    Some(member) => compare(wanted, member, is_subset, &format!("{at}.{name}"), found),
                    None => found.push(format!("{at}.{name}: wanted {wanted}, got none")),
                }
            }
            for name in members.keys().filter(|name| !is_subset && !wanted.contains_key(*name)) {
                found.push(format!("{at}.{name}: wanted none, got {}", members[name]));
            }
        }
        (Value::Array(wanted), Value::Array(entries)) => {
            if wanted.len() != entries.len() {
                found.push(format!("{at}: wanted {} entries, got {}", wanted.len(), entries.len()));
            }
            for (index, (wanted, entry)) in wanted.iter().zip(entries).enumerate() {
                compare(wanted, entry, is_subset, &format!("{at}[{index}]"), found);
            }
        }
        _ if wanted == given => {}
        _ => found.push(format!("{at}: wanted {wanted}, got {given}")),
    }
}

/// Whether a value fits a pattern: a text with wildcards such as `<guid>` anywhere in it.
fn fits(pattern: &str, given: &Value) -> bool {
    match (pattern, given) {
        ("<any>", _) => true,
        ("<int>", Value::Number(number)) => number.is_i64() || number.is_u64(),
        (_, Value::String(text)) => fits_text(pattern, text),
        _ => false,
    }
}

fn fits_text(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('<') else { return pattern == text };
    let Some((kind, after)) = rest.split_once('>').filter(|(kind, _)| KINDS.contains(kind)) else { return pattern == text };
    let Some(tail) = text.strip_prefix(before) else { return false };
    (0..=tail.len()).filter(|end| tail.is_char_boundary(*end)).any(|end| {
        let (part, remainder) = tail.split_at(end);
        is_of(kind, part) && fits_text(after, remainder)
    })
}

const KINDS: [&str; 6] = ["guid", "time", "time-s", "int", "etag", "str"];

fn is_of(kind: &str, part: &str) -> bool {
    let shape = |shape: &str| {
        part.len() == shape.len()
            && part.chars().zip(shape.chars()).all(|(c, s)| match s {
                'x' => c.is_ascii_hexdigit(),
                '9' => c.is_ascii_digit(),
                other => c == other,
            })
    };
    match kind {
        "guid" => shape("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") && !part.chars().any(|c| c.is_ascii_uppercase()),
        "time-s" => shape("9999-99-99T99:99:99Z"),
        // Up to three decimals, trailing zeros trimmed.
        "time" => {
            shape("9999-99-99T99:99:99Z")
                || (["9999-99-99T99:99:99.9Z", "9999-99-99T99:99:99.99Z", "9999-99-99T99:99:99.999Z"].iter().any(|s| shape(s))
                    && !part.ends_with("0Z"))
        }
        "int" => !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()),
        "etag" => part.strip_prefix("\"0x").and_then(|rest| rest.strip_suffix('"')).is_some_and(is_15_digits),
        _ => !part.is_empty(),
    }
}

fn is_15_digits(text: &str) -> bool {
    text.len() == 15 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl Answer {
    /// The answer as a failed step shows it.
    pub(super) fn shown(&self) -> Value {
        json!({"status": self.status, "headers": self.headers, "body": self.json().unwrap_or_else(|| Value::from(self.text()))})
    }
}

#[test]
fn patterns_fit_what_they_say() {
    for (pattern, text, wanted) in [
        ("a<guid>b", "a7b1f6f0e-3b0c-4f6e-9b0a-1d2c3b4a5f60b", true),
        ("<guid>", "7B1f6f0e-3b0c-4f6e-9b0a-1d2c3b4a5f60", false),
        ("<time>", "2018-06-06T21:06:02.35Z", true),
        ("<time>", "2018-06-06T21:06:02.350Z", false),
        ("<time>", "2018-06-06T21:06:02Z", true),
        ("<etag>", "\"0x8D5D6EFBC0AAABA\"", true),
        ("<etag>", "\"8D5D6EFBC0AAABA00\"", false),
        ("x?a=<int>&b", "x?a=12&b", true),
        ("<str>!", "!", false),
        ("<other>", "<other>", true),
        ("a", "b", false),
    ] {
        assert_eq!(fits_text(pattern, text), wanted, "{pattern} {text}");
    }
}
