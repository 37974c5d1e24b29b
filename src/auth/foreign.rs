//! Tokens of issuers elsewhere. Pure: settings, keys, a time and a text become the name of a principal, or why not.
//!
//! An issuer is chosen by the exact text of `iss`, and then a key within it. Who the caller is follows from the settings alone: a rule that
//! names claims, all of which the token must have, and the principal that then asks. A claim that no rule names means nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::auth::jwk::Jwk;
use crate::auth::token::{LEEWAY, Refused, Split, split};
use crate::clock::Timestamp;

/// Longest token that is looked at. Unit: bytes.
const MAX: usize = 16 * 1024;

/// Longest life that is taken. Unit: seconds. One that says more is as good as one that never ends.
const LONGEST_LIFE: i64 = 24 * 3600;

/// Members of a header that name keys or change how a token is read: refused unread.
const FORBIDDEN: &[&str] = &["jku", "jwk", "x5u", "x5c", "crit", "enc", "zip", "b64", "cty"];

/// Types of a token that is shown as a bearer's, in lower case.
const TYPES: &[&str] = &["jwt", "at+jwt", "application/at+jwt"];

/// An issuer elsewhere, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalIssuer {
    /// Its `iss`, exactly.
    pub issuer: String,
    /// Audiences of which a token must be for one, exactly.
    pub audiences: Vec<String>,
    /// Where its keys are. `None`: where its configuration document says.
    pub keys: Option<String>,
    /// A PEM file of the authorities that its certificate may be of. `None`: those of the host.
    pub authority: Option<std::path::PathBuf>,
    /// Who its tokens are; the first that fits.
    pub rules: Vec<Rule>,
}

/// Who a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Claims and their values. A name that begins with `/` is a JSON pointer. A list of the token fits where it holds the value.
    pub claims: Vec<(String, String)>,
    /// The client id of the principal.
    pub principal: String,
}

/// A token that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    /// The client id of the principal.
    pub(super) principal: String,
    pub(super) issued_at: i64,
    pub(super) expires_at: i64,
}

impl Foreign {
    /// # Errors
    /// [`Refused::Expired`] where the token is over by now.
    pub(super) fn check_time(&self, now: Timestamp) -> Result<(), Refused> {
        check_end(self.expires_at, now)
    }
}

/// A token taken apart, nothing of it believed.
pub(super) struct Parts<'t> {
    signed: &'t str,
    signature: Vec<u8>,
    algorithm: String,
    /// The key that it names.
    pub(super) key_id: String,
    claims: Value,
}

/// The issuer that a token says it is of, nothing of it believed.
pub(super) fn issuer_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
    }
    let claims = (token.len() <= MAX).then(|| token.split('.').nth(1))??;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    Some(claims.iss)
}

/// Takes a token apart.
pub(super) fn parts(token: &str) -> Result<Parts<'_>, Refused> {
    let Split { signed, header, claims, signature } = split(token, MAX)?;

    let wrong_header = || Refused::Invalid("its header is not one of a signed token");
    let header: Map<String, Value> = serde_json::from_slice(&header).map_err(|_| wrong_header())?;
    if FORBIDDEN.iter().any(|name| header.contains_key(*name)) {
        return Err(wrong_header());
    }
    let text = |name: &str| header.get(name).and_then(Value::as_str);
    if header.contains_key("typ") && !text("typ").is_some_and(|t| TYPES.contains(&t.to_ascii_lowercase().as_str())) {
        return Err(Refused::Invalid("it is not an access token"));
    }
    let (Some(algorithm), Some(key_id)) = (text("alg"), text("kid")) else { return Err(wrong_header()) };
    Ok(Parts {
        signed,
        signature,
        algorithm: algorithm.to_owned(),
        key_id: key_id.to_owned(),
        claims: serde_json::from_slice(&claims).map_err(|_| Refused::Invalid("a claim is absent or of a wrong type"))?,
    })
}

/// Verifies a token with the key that it names, which is one of the issuer's.
pub(super) fn verify(issuer: &ExternalIssuer, key: &Jwk, parts: &Parts<'_>, now: Timestamp) -> Result<Foreign, Refused> {
    // The algorithm is the key's; what the header says must be the same and decides nothing.
    if key.id != parts.key_id || key.algorithm != parts.algorithm || !key.verify(parts.signed.as_bytes(), &parts.signature) {
        return Err(Refused::Invalid("its signature does not verify"));
    }
    let claims = &parts.claims;
    let absent = || Refused::Invalid("a claim is absent or of a wrong type");
    let text = |name: &str| claims.get(name).and_then(Value::as_str).ok_or_else(absent);
    let time = |name: &str| claims.get(name).and_then(Value::as_i64).ok_or_else(absent);
    if text("iss")? != issuer.issuer {
        return Err(Refused::Invalid("its issuer is not known"));
    }
    if text("sub")?.is_empty() {
        return Err(absent());
    }
    let ours = |audience: &str| issuer.audiences.iter().any(|own| own == audience);
    let for_us = match claims.get("aud").ok_or_else(absent)? {
        Value::String(audience) => ours(audience),
        Value::Array(audiences) => {
            let audiences: Option<Vec<&str>> = audiences.iter().map(Value::as_str).collect();
            audiences.ok_or_else(absent)?.into_iter().any(ours)
        }
        _ => return Err(absent()),
    };
    if !for_us {
        return Err(Refused::Invalid("it is for another audience"));
    }

    let (issued_at, expires_at) = (time("iat")?, time("exp")?);
    let not_before = if claims.get("nbf").is_some() { time("nbf")? } else { issued_at };
    check_end(expires_at, now)?;
    let now = now.unix_timestamp();
    if not_before > now.saturating_add(LEEWAY) || issued_at > now.saturating_add(LEEWAY) {
        return Err(Refused::Invalid("it is not valid yet"));
    }
    let life = expires_at.checked_sub(issued_at).unwrap_or(i64::MAX);
    if issued_at < 0 || not_before < 0 || !(0..=LONGEST_LIFE).contains(&life) {
        return Err(Refused::Invalid("its times do not fit"));
    }

    let rule = issuer.rules.iter().find(|rule| rule.fits(claims));
    let principal = rule.ok_or(Refused::Invalid("its subject is not known"))?.principal.clone();
    Ok(Foreign { principal, issued_at, expires_at })
}

fn check_end(expires_at: i64, now: Timestamp) -> Result<(), Refused> {
    if now.unix_timestamp() > expires_at.saturating_add(LEEWAY) { Err(Refused::Expired(expires_at)) } else { Ok(()) }
}

impl Rule {
    /// Whether a token has all claims of this rule.
    fn fits(&self, claims: &Value) -> bool {
        // A rule without claims would fit everyone whom the issuer knows; the settings refuse it, and so does this.
        !self.claims.is_empty() && self.claims.iter().all(|(name, wanted)| has(claims, name, wanted))
    }
}

fn has(claims: &Value, name: &str, wanted: &str) -> bool {
    let found = if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) };
    match found {
        Some(Value::Array(values)) => values.iter().any(|value| is(value, wanted)),
        Some(value) => is(value, wanted),
        None => false,
    }
}

fn is(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(flag) => wanted == if *flag { "true" } else { "false" },
        Value::Number(number) => number.to_string() == wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_wants_all_of_its_claims() {
        let rule = |claims: &[(&str, &str)]| Rule {
            claims: claims.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            principal: "p".into(),
        };
        let claims = json!({
            "repository": "me/train", "ref": "refs/heads/main", "groups": ["a", "b"], "admin": true, "id": 7,
            "realm": { "roles": ["batch"] }, "a/b": "c", "list": [["a"]], "nothing": null
        });
        for (wanted, fits) in [
            (&[("repository", "me/train")][..], true),
            (&[("repository", "me/train"), ("ref", "refs/heads/main")], true),
            (&[("repository", "me/train"), ("ref", "refs/heads/other")], false),
            (&[("repository", "ME/train")], false),
            (&[("repository", "me/train ")], false),
            (&[("groups", "b")], true),
            (&[("groups", "c")], false),
            (&[("groups", "a,b")], false),
            (&[("admin", "true")], true),
            (&[("admin", "false")], false),
            (&[("id", "7")], true),
            (&[("/realm/roles", "batch")], true),
            (&[("realm", "batch")], false),
            (&[("a/b", "c")], true),
            (&[("list", "a")], false),
            (&[("nothing", "null")], false),
            (&[("nothing", "")], false),
            (&[("absent", "")], false),
            (&[], false),
        ] {
            assert_eq!(rule(wanted).fits(&claims), fits, "{wanted:?}");
        }
    }

    #[test]
    fn a_token_says_its_issuer_before_anything_is_believed() {
        let token = |claims: &str| format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(issuer_of(&token(r#"{"iss": "https://a"}"#)).as_deref(), Some("https://a"));
        for wrong in [token("{}"), token(r#"{"iss": 7}"#), token("x"), "a".into(), String::new(), "a.!.b".into()] {
            assert_eq!(issuer_of(&wrong), None, "{wrong}");
        }
        assert_eq!(issuer_of(&format!("{}{}", token(r#"{"iss": "https://a"}"#), "x".repeat(MAX))), None);
    }
}
