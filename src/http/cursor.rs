//! Where a page of a list begins, as clients carry it: signed, bound to caller, list and filter, and short-lived.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::Error;
use crate::http::call::Call;
use crate::http::query::{SKIP_TOKEN, invalid, without_skip_token};
use crate::sign::Purpose;

/// How long a cursor is good for. Unit: seconds.
const LIFETIME_S: i64 = 24 * 3600;

/// The URL of the page that begins after `position`. It keeps all of the request's query.
///
/// # Errors
/// `InternalServerError` on a route without a caller.
pub(crate) fn next_link(call: &Call, filter: &str, position: &str) -> Result<String, Error> {
    let expires = call.parts.clock.now().unix_timestamp() + LIFETIME_S;
    let proof = call.parts.signer.sign(Purpose::Cursor, &fields(call, filter, position, expires)?.each());
    let token = format!("{expires}.{}.{proof}", URL_SAFE_NO_PAD.encode(position));
    let rest = without_skip_token(&call.raw_query);
    Ok(format!("{}{}?{rest}&{SKIP_TOKEN}={token}", call.base, call.raw_path))
}

/// The position that the request's cursor names; `None` where it has none.
///
/// # Errors
/// `InvalidQueryParameterValue` where the cursor is altered, expired, or of another caller, list or filter.
pub(crate) fn position(call: &Call, filter: &str) -> Result<Option<String>, Error> {
    let Some(token) = call.query.get(SKIP_TOKEN) else { return Ok(None) };
    let refused = || {
        let message =
            format!("The query parameter '{SKIP_TOKEN}' is not one that this list gave, or it expired. Begin the list again.");
        invalid(SKIP_TOKEN, message)
    };
    let mut parts = token.split('.');
    let (Some(expires), Some(position), Some(proof), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(refused());
    };
    let expires: i64 = expires.parse().map_err(|_| refused())?;
    let position = URL_SAFE_NO_PAD.decode(position).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(refused)?;
    let genuine = call.parts.signer.verify(Purpose::Cursor, &fields(call, filter, &position, expires)?.each(), proof);
    if !genuine || call.parts.clock.now().unix_timestamp() >= expires {
        return Err(refused());
    }
    Ok(Some(position))
}

/// What a cursor is bound to.
struct Fields {
    caller: uuid::Uuid,
    list: String,
    scope: String,
    filter: String,
    position: String,
    expires: [u8; 8],
}

impl Fields {
    fn each(&self) -> [&[u8]; 6] {
        [
            self.caller.as_bytes(),
            self.list.as_bytes(),
            self.scope.as_bytes(),
            self.filter.as_bytes(),
            self.position.as_bytes(),
            &self.expires,
        ]
    }
}

fn fields(call: &Call, filter: &str, position: &str, expires: i64) -> Result<Fields, Error> {
    // A list that is continued with GET is the list that POST began.
    let list = call.route.operation.trim_end_matches("Next").to_owned();
    let scope = match call.id() {
        Ok(id) => id.key(),
        Err(_) => call.subscription()?.to_string(),
    };
    Ok(Fields {
        caller: call.caller()?.principal.0,
        list,
        scope,
        filter: filter.to_owned(),
        position: position.to_owned(),
        expires: expires.to_be_bytes(),
    })
}
