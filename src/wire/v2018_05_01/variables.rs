//! Environment variables and secrets, as setup tasks and jobs carry them.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::domain::resource::NameValue;
use crate::domain::secret::{SecretValue, SecretVariable};
use crate::error::Violations;
use crate::wire::Secrets;
use crate::wire::fields::{Fields, LONG_TEXT};
use crate::wire::v2018_05_01::secrets::{SecretMembers, VaultReferenceBody, decode_secret};

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

/// Reads `secrets`: the variables, in the order given; values are to be sealed as `{prefix}{name}`. `None` where the member is absent.
pub fn decode_secrets(
    fields: &Fields<'_>,
    prefix: &str,
    sealed: &mut Secrets,
    found: &mut Violations,
) -> Option<Vec<SecretVariable>> {
    let mut seen = BTreeSet::new();
    let entries = fields.objects("secrets", found)?;
    let mut variables = Vec::with_capacity(entries.len());
    for entry in &entries {
        let name = decode_name(entry, &mut seen, found);
        let field = format!("{prefix}{}", name.unwrap_or_default());
        let members = SecretMembers { value: "value", reference: "valueSecretReference", limit: LONG_TEXT, field: &field };
        let value = decode_secret(entry, &members, sealed, found);
        if let (Some(name), Some(value)) = (name, value) {
            variables.push(match value {
                SecretValue::Sealed => SecretVariable::Sealed(name.to_owned()),
                SecretValue::Vault(reference) => SecretVariable::Vault { name: name.to_owned(), reference },
            });
        }
    }
    Some(variables)
}

/// A secret variable as answers show it: its name, and where its value is if that is a key vault.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretVariableBody<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_secret_reference: Option<VaultReferenceBody<'a>>,
}

impl<'a> SecretVariableBody<'a> {
    /// As the wire writes a list of them.
    pub fn list(variables: &'a [SecretVariable]) -> Vec<SecretVariableBody<'a>> {
        let body = |variable: &'a SecretVariable| SecretVariableBody {
            name: variable.name(),
            value_secret_reference: variable.reference().map(VaultReferenceBody::new),
        };
        variables.iter().map(body).collect()
    }
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
