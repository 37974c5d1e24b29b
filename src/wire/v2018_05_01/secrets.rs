//! Secret values: given once or named in a key vault.

use serde::Serialize;

use crate::domain::secret::{SecretText, SecretValue, VaultReference};
use crate::error::Violations;
use crate::wire::Secrets;
use crate::wire::fields::{Fields, SHORT_TEXT};
use crate::wire::shapes::ResourceIdBody;

/// The two members of which one carries a secret, and the field that a value is sealed under.
pub struct SecretMembers<'a> {
    /// The member that holds the value itself.
    pub value: &'static str,
    /// The member that names it in a key vault.
    pub reference: &'static str,
    /// Longest value. Unit: bytes.
    pub limit: usize,
    /// The field that the value is sealed under.
    pub field: &'a str,
}

/// Reads a secret that must be given in one of two ways.
pub fn decode_secret(
    fields: &Fields<'_>,
    members: &SecretMembers<'_>,
    secrets: &mut Secrets,
    found: &mut Violations,
) -> Option<SecretValue> {
    let SecretMembers { value, reference, limit, field } = *members;
    match (fields.has(value), fields.has(reference)) {
        (true, true) => {
            let path = fields.path_of(reference);
            found.invalid(&path, format!("The property '{path}' is given besides '{value}'. Give one of the two."));
            None
        }
        (false, true) => {
            fields.object(reference, found).and_then(|reference| decode_reference(&reference, found)).map(SecretValue::Vault)
        }
        (false, false) => {
            found.missing(fields.path_of(value));
            None
        }
        (true, false) => {
            let text = fields.text(value, limit, found)?;
            secrets.insert(field.to_owned(), SecretText(text.to_owned()));
            Some(SecretValue::Sealed)
        }
    }
}

/// Reads the name of a secret in a key vault.
pub fn decode_reference(fields: &Fields<'_>, found: &mut Violations) -> Option<VaultReference> {
    let vault = fields.required_object("sourceVault", found).and_then(|vault| decode_resource_id(&vault, found));
    let url = fields.required_text("secretUrl", SHORT_TEXT, found);
    if url.is_some_and(|url| !is_url(url, &["https://"])) {
        let path = fields.path_of("secretUrl");
        found.invalid(&path, format!("The property '{path}' must be a URL that begins with 'https://'."));
        return None;
    }
    Some(VaultReference { vault: vault?, url: url?.to_owned() })
}

/// Reads the id of a resource that this server does not have itself.
pub fn decode_resource_id(fields: &Fields<'_>, found: &mut Violations) -> Option<String> {
    let id = fields.required_text("id", SHORT_TEXT, found)?;
    let is_whole = id.get(..15).is_some_and(|start| start.eq_ignore_ascii_case("/subscriptions/"));
    if !is_whole || id.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let path = fields.path_of("id");
        found.invalid(&path, format!("The property '{path}' must be a full resource id, beginning with '/subscriptions/'."));
        return None;
    }
    Some(id.to_owned())
}

/// Whether a text is an absolute URL of one of these schemes, with a host.
pub fn is_url(text: &str, schemes: &[&str]) -> bool {
    let rest = schemes.iter().find_map(|scheme| {
        let (start, rest) = text.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    rest.is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        !host.is_empty() && !rest.chars().any(|c| c.is_control() || c.is_whitespace() || "<>\"'`|{}\\^".contains(c))
    })
}

/// The name of a secret in a key vault, as answers show it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VaultReferenceBody<'a> {
    source_vault: ResourceIdBody<'a>,
    secret_url: &'a str,
}

impl<'a> VaultReferenceBody<'a> {
    /// The reference, where the secret is in a vault.
    pub fn of(secret: &'a SecretValue) -> Option<VaultReferenceBody<'a>> {
        match secret {
            SecretValue::Sealed => None,
            SecretValue::Vault(reference) => Some(VaultReferenceBody::new(reference)),
        }
    }

    /// As the wire writes one.
    pub fn new(reference: &'a VaultReference) -> VaultReferenceBody<'a> {
        VaultReferenceBody { source_vault: ResourceIdBody { id: &reference.vault }, secret_url: &reference.url }
    }
}
