//! What answers look like: the only place that knows which failure has which status.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use serde::Serialize;

use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call};
use crate::wire::shapes::ErrorBody;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const ASYNC_OPERATION: HeaderName = HeaderName::from_static("azure-asyncoperation");
const FAILURE_CAUSE: HeaderName = HeaderName::from_static("x-ms-failure-cause");

/// How long clients wait between two looks at an operation. Unit: whole seconds; clients read 0 as "not given".
const POLL_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A JSON document.
///
/// # Errors
/// `InternalServerError` where it cannot be written.
pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, document: &T) -> Answer {
    let bytes = serde_json::to_vec(document).map_err(Error::internal)?;
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(response)
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// 202 with the URLs at which a client polls. The names are crossed against what one would guess, as the retired service had them.
///
/// Source: recorded 2018-05-01 answers.
///
/// # Errors
/// `InternalServerError` where the URLs are no headers.
pub(crate) fn accepted(call: &Call, result_url: &str, status_url: &str) -> Answer {
    let mut response = empty(StatusCode::ACCEPTED);
    let version = call.api_version();
    let headers = response.headers_mut();
    headers.insert(ASYNC_OPERATION, header(&format!("{result_url}?api-version={version}"))?);
    headers.insert(LOCATION, header(&format!("{status_url}?api-version={version}"))?);
    headers.insert(RETRY_AFTER, POLL_AFTER);
    Ok(response)
}

/// 202 with one URL, which answers what the call would have answered.
///
/// # Errors
/// `InternalServerError` where the URL is no header.
pub(crate) fn pending(location: &str) -> Answer {
    let mut response = empty(StatusCode::ACCEPTED);
    response.headers_mut().insert(LOCATION, header(location)?);
    response.headers_mut().insert(RETRY_AFTER, POLL_AFTER);
    Ok(response)
}

/// Tells a client when to look again.
pub(crate) fn poll_again(headers: &mut HeaderMap) {
    headers.insert(RETRY_AFTER, POLL_AFTER);
}

/// A text as a header's value.
///
/// # Errors
/// `InternalServerError` where it holds what a header may not.
pub(crate) fn header(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(Error::internal)
}

/// The answer that tells of a failure. `authority` is where tokens are had, for clients that ask without one.
pub(crate) fn failure(error: &Error, authority: &str) -> Response<Body> {
    let status = status_of(error.code);
    let mut response = match json(status, &ErrorBody::of(error)) {
        Ok(response) => response,
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    };
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        let description: String =
            error.message.chars().filter(|c| c.is_ascii() && !c.is_ascii_control() && !"\"\\".contains(*c)).collect();
        let challenge =
            format!("Bearer authorization_uri=\"{authority}\", error=\"invalid_token\", error_description=\"{description}\"");
        if let Ok(value) = HeaderValue::from_str(&challenge) {
            headers.insert(WWW_AUTHENTICATE, value);
        }
    }
    if is_the_platforms(error.code) {
        headers.insert(FAILURE_CAUSE, HeaderValue::from_static("gateway"));
    }
    if let Some(after) = error.retry_after.or((status == StatusCode::SERVICE_UNAVAILABLE).then_some(Duration::from_secs(1))) {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

/// The status of a failure.
///
/// Source: the platform's published table of errors.
pub(crate) fn status_of(code: ErrorCode) -> StatusCode {
    use ErrorCode::*;
    match code {
        AuthenticationFailed | ExpiredAuthenticationToken | InvalidAuthenticationToken | InvalidAuthenticationTokenTenant => {
            StatusCode::UNAUTHORIZED
        }
        AuthorizationFailed | InvalidLink | CrossSiteRequest => StatusCode::FORBIDDEN,
        MissingApiVersionParameter
        | InvalidApiVersionParameter
        | NoRegisteredProviderFound
        | InvalidSubscriptionId
        | LocationNotAvailableForResourceType
        | LocationNotAvailableForResourceGroup
        | InvalidRequestContent
        | BadRequest
        | InvalidResourceName
        | InvalidPropertyValue
        | MissingRequiredProperty
        | InvalidQueryParameterValue
        | MultipleErrorsOccurred
        | PropertyChangeNotAllowed
        | InvalidTags
        | InvalidTagNameCharacters
        | InvalidFilterInQueryString
        | InvalidRoleAssignmentId
        | PrincipalNotFound
        | RoleAssignmentUpdateNotPermitted
        | RoleDefinitionHasAssignments
        | RoleDefinitionNotAssignable
        | BuiltInRoleChangeNotAllowed
        | SupportedVMSizes => StatusCode::BAD_REQUEST,
        InvalidResourceType
        | InvalidResourceNamespace
        | SubscriptionNotFound
        | ResourceGroupNotFound
        | WorkspaceNotFound
        | ClusterNotFound
        | NodeNotFound
        | FileServerNotFound
        | ExperimentNotFound
        | JobNotFound
        | RoleAssignmentNotFound
        | RoleDefinitionDoesNotExist
        | DeploymentNotFound
        | LockNotFound
        | NotFound => StatusCode::NOT_FOUND,
        MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        MissingSubscriptionRegistration
        | ResourceGroupBeingDeleted
        | InvalidResourceGroupLocation
        | InvalidResourceLocation
        | ScopeLocked
        | RoleAssignmentExists
        | RoleDefinitionWithSameNameExists
        | Conflict
        | ClusterQuotaReached
        | FileServerQuotaReached => StatusCode::CONFLICT,
        PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        RequestEntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
        InvalidRange => StatusCode::RANGE_NOT_SATISFIABLE,
        TooManyRequests | SubscriptionRequestsThrottled | TenantRequestsThrottled => StatusCode::TOO_MANY_REQUESTS,
        ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Whether the platform's front end made a refusal, not the provider: clients and people read it off a header.
fn is_the_platforms(code: ErrorCode) -> bool {
    use ErrorCode::*;
    matches!(
        code,
        AuthenticationFailed
            | ExpiredAuthenticationToken
            | InvalidAuthenticationToken
            | InvalidAuthenticationTokenTenant
            | AuthorizationFailed
            | MissingApiVersionParameter
            | InvalidApiVersionParameter
            | InvalidResourceType
            | InvalidResourceNamespace
            | NoRegisteredProviderFound
            | InvalidSubscriptionId
            | SubscriptionNotFound
            | MissingSubscriptionRegistration
            | ResourceGroupNotFound
            | ResourceGroupBeingDeleted
            | InvalidResourceGroupLocation
            | LocationNotAvailableForResourceGroup
            | ScopeLocked
            | SubscriptionRequestsThrottled
            | TenantRequestsThrottled
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_never_told() {
        let error = Error::internal("password=canary");
        let response = failure(&error, "http://localhost/t");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let text = serde_json::to_string(&ErrorBody::of(&error)).expect("writes");
        assert_eq!(text, r#"{"error":{"code":"InternalServerError","message":"Internal server error."}}"#);
    }

    #[test]
    fn a_store_that_is_away_says_when_to_come_back() {
        let response = failure(&Error::unavailable("gone"), "");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers().get(RETRY_AFTER), Some(&HeaderValue::from_static("1")));
    }

    #[test]
    fn a_refusal_names_the_authority() {
        let error = Error::new(ErrorCode::AuthenticationFailed, "The \"header\"\r\nis missing.");
        let response = failure(&error, "https://localhost/t");
        let challenge = response.headers().get(WWW_AUTHENTICATE).and_then(|v| v.to_str().ok()).expect("a challenge");
        assert!(challenge.starts_with("Bearer authorization_uri=\"https://localhost/t\""), "{challenge}");
        assert!(!challenge.contains("\"header\""), "{challenge}");
    }
}
