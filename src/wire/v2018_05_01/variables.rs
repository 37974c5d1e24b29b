//! Environment variables and secrets, as setup tasks and jobs carry them.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::resource::NameValue;
use crate::domain::secret::SecretText;
use crate::error::Violations;
use crate::wire::fields::{Fields, LONG_TEXT};

/// Longest name of a variable. Unit: bytes.
const MAX_NAME: usize = 256;

/// Reads `environmentVariables`; `None` where the member is absent.
pub fn decode_environment(fields: &Fields<'_>, found: &mut Violations) -> Option<Vec<NameValue>> {
    let mut seen = BTreeSet::new();
    let entries = fields.objects("environmentVariables", found)?;
    let mut read = Vec::with_capacity(entries.len());
    for entry in &entries {
        let name = decode_name(entry, &mut seen, found);
        // An empty value is a value: only an absent one is missing.
        if !entry.has("value") {
            found.missing(entry.path_of("value"));
        }
        let value = entry.text("value", LONG_TEXT, found);
        if let (Some(name), Some(value)) = (name, value) {
            read.push(NameValue { name: name.to_owned(), value: value.to_owned() });
        }
    }
    Some(read)
}

/// Reads `secrets`: the names, in the order given, and the values to seal as `{prefix}{name}`; `None` where the member is absent.
pub fn decode_secrets(
    fields: &Fields<'_>,
    prefix: &str,
    sealed: &mut BTreeMap<String, SecretText>,
    found: &mut Violations,
) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let entries = fields.objects("secrets", found)?;
    let mut names = Vec::with_capacity(entries.len());
    for entry in &entries {
        let name = decode_name(entry, &mut seen, found);
        if entry.has("valueSecretReference") {
            entry.not_offered("valueSecretReference", found);
            continue;
        }
        if !entry.has("value") {
            found.missing(entry.path_of("value"));
        }
        let value = entry.text("value", LONG_TEXT, found);
        if let (Some(name), Some(value)) = (name, value) {
            sealed.insert(format!("{prefix}{name}"), SecretText(value.to_owned()));
            names.push(name.to_owned());
        }
    }
    Some(names)
}

fn decode_name<'v>(entry: &Fields<'v>, seen: &mut BTreeSet<&'v str>, found: &mut Violations) -> Option<&'v str> {
    let name = entry.required_text("name", MAX_NAME, found)?;
    let path = entry.path_of("name");
    if name.contains('=') || name.chars().any(char::is_control) {
        found.invalid(&path, format!("The property '{path}' may not hold '=' or control characters, as it names a variable."));
        return None;
    }
    if !seen.insert(name) {
        found.invalid(&path, format!("The property '{path}' names the variable '{name}' a second time. Give each name once."));
        return None;
    }
    Some(name)
}
