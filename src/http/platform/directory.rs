//! The little of a directory that clients need to give roles to principals by name, and to show names in lists of roles.
//!
//! Only what is asked for exactly is answered: there is no list of all principals here.

use axum::http::StatusCode;
use serde_json::Value;

use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call};
use crate::http::respond::json;
use crate::id::PrincipalId;
use crate::wire::platform::ServicePrincipalBody;
use crate::wire::shapes::ListPage;

/// Most ids of one request.
///
/// Source: the limit of Microsoft Graph's getByIds.
const MAX_IDS: usize = 1000;

/// GET of the principal whose name a filter has, in the two ways that clients write it.
pub(crate) async fn find(call: Call) -> Answer {
    let name = name(call.query.get("$filter").unwrap_or_default()).ok_or_else(|| {
        let message = "Principals are found by $filter=appId eq 'NAME' or servicePrincipalNames/any(c:c eq 'NAME').";
        Error::new(ErrorCode::InvalidFilterInQueryString, message)
    })?;
    let found = call.parts.auth.find_by_name(call.caller()?.tenant, &name).await?;
    let value: Vec<ServicePrincipalBody> = found.iter().map(ServicePrincipalBody::of).collect();
    json(StatusCode::OK, &ListPage { value, next_link: None })
}

/// GET of people, of whom there are none.
pub(crate) async fn find_users(_call: Call) -> Answer {
    json(StatusCode::OK, &ListPage::<Value> { value: Vec::new(), next_link: None })
}

/// POST of ids, for what they are of. Unknown ones are left out.
pub(crate) async fn get_by_ids(mut call: Call) -> Answer {
    let body = call.document().await?;
    let ids = body.get("ids").and_then(Value::as_array).filter(|ids| ids.len() <= MAX_IDS).ok_or_else(|| {
        Error::new(ErrorCode::BadRequest, format!("The body must have 'ids', a list of at most {MAX_IDS}.")).with_target("ids")
    })?;
    let tenant = call.caller()?.tenant;
    let mut value = Vec::new();
    for id in ids.iter().filter_map(|id| uuid::Uuid::try_parse(id.as_str()?).ok()) {
        value.extend(call.parts.auth.find_by_id(tenant, PrincipalId(id)).await?.as_ref().map(ServicePrincipalBody::of));
    }
    json(StatusCode::OK, &ListPage { value, next_link: None })
}

/// The name that a filter has.
fn name(filter: &str) -> Option<String> {
    let (start, end) =
        if filter.starts_with("appId") { ("appId eq '", "'") } else { ("servicePrincipalNames/any(c:c eq '", "')") };
    let name = filter.trim().strip_prefix(start)?.strip_suffix(end)?;
    // A quote within is written twice.
    let is_whole = !name.replace("''", "").contains('\'');
    is_whole.then(|| name.replace("''", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_one_name() {
        assert_eq!(name("appId eq 'ci'").as_deref(), Some("ci"));
        assert_eq!(name("servicePrincipalNames/any(c:c eq 'http://ci')").as_deref(), Some("http://ci"));
        assert_eq!(name("appId eq 'it''s'").as_deref(), Some("it's"));
        for other in ["", "appId", "appId eq 'a' or '1' eq '1'", "displayName eq 'ci'", "appId ne 'ci'", "appId eq ci"] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
