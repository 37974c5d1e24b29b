//! What every request passes before a handler sees it, and every answer on its way back. One order of checks, everywhere:
//!
//! 1. host name and site, one canonical path, request ids;
//! 2. the route; 3. authentication; 4. the subscription's form, existence and tenant; 5. namespace, type and version;
//! 6. names; 7. authorisation at the scope. Existence of anything below the subscription is looked at afterwards, so that what is
//!    foreign and what is absent look alike; then come body, schema, preconditions, state and quota in handler and service.
//!
//! A panic on the way is a plain 500, and one line of the log.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::header::{ALLOW, AUTHORIZATION, HeaderMap};
use axum::http::{Method, Response, request};
use futures_util::FutureExt;

use crate::auth::Caller;
use crate::error::{Error, ErrorCode, Violation};
use crate::http::call::{Answer, Call, Target};
use crate::http::headers::{RequestIds, RequestKind, write_remaining, write_transport_security};
use crate::http::query::Query;
use crate::http::routes::{Access, Found, Route};
use crate::http::{Origin, Parts, agent, host, path, respond, routes};
use crate::id::{Kind, NAMESPACE, ResourceId, SubscriptionId};
use crate::service::Subscription;
use crate::wire::ApiVersion;

/// Versions that the platform's own types are listed with. Any version of that form is served.
pub(crate) const PLATFORM_VERSIONS: &[&str] =
    &["2024-11-01", "2022-12-01", "2021-01-01", "2019-07-01", "2018-05-01", "2016-06-01"];

/// Answers one request.
pub(crate) async fn pass(parts: Arc<Parts>, request: Request) -> Response<Body> {
    let started = Instant::now();
    let ids = RequestIds::of(request.headers());
    let scheme = request.extensions().get::<Origin>().copied().unwrap_or_default().scheme;
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut seen = Seen::default();
    let outcome = AssertUnwindSafe(enter(&parts, request, scheme, &mut seen)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Err(Error::internal("a handler panicked")));
    let mut response = outcome.unwrap_or_else(|error| {
        report(&error, &ids);
        respond::failure(&error, &format!("{}/{}", seen.base, parts.auth.tenant()))
    });
    let headers = response.headers_mut();
    if let Some(kind) = seen.kind {
        write_remaining(headers, kind);
    }
    write_transport_security(headers, scheme, host::bare(seen.base.rsplit("//").next().unwrap_or_default()));
    ids.write(headers, parts.clock.now());
    log(&ids, &method, uri.path(), &response, &seen, started);
    response
}

/// What is learnt about a request on its way in, for the answer and the log.
#[derive(Default)]
struct Seen {
    base: String,
    kind: Option<RequestKind>,
    operation: &'static str,
    caller: Option<Caller>,
}

async fn enter(parts: &Arc<Parts>, request: Request, scheme: crate::http::Scheme, seen: &mut Seen) -> Answer {
    let (head, body) = request.into_parts();
    let authority = host::requested(&parts.hosts, &head.uri, &head.headers)?;
    seen.base = match &parts.public_url {
        Some(url) => url.clone(),
        None => format!("{}://{authority}", scheme.as_str()),
    };
    host::refuse_cross_site(&head.headers)?;
    if agent::is_agents(head.uri.path()) {
        seen.operation = "Agent";
        return agent::answer(&parts.service, Request::from_parts(head, body)).await;
    }
    let segments = path::segments(head.uri.path())
        .map_err(|problem| Error::new(ErrorCode::BadRequest, format!("The path of the request {problem}.")))?;
    let raw_query = head.uri.query().unwrap_or_default();
    if raw_query.len() > path::MAX_PATH {
        return Err(Error::new(
            ErrorCode::RequestEntityTooLarge,
            "The query of the request is longer than 8192 bytes. Shorten it.",
        ));
    }
    let query = Query::parse(raw_query)?;
    match routes::find(&head.method, &segments) {
        Found::Route(route, arguments) => {
            seen.operation = route.operation;
            let call = admit(parts, route, arguments, query, head, body, seen).await?;
            (route.run)(call).await
        }
        Found::Methods(methods) => {
            authenticate(parts, &head.headers, seen).await?;
            refuse_method(&head.method, &methods)
        }
        Found::Nothing => Err(refuse_path(parts, &segments, &query, &head.headers, seen).await),
    }
}

/// Steps 3 to 7 for a known route.
async fn admit(
    parts: &Arc<Parts>,
    route: &'static Route,
    arguments: Vec<String>,
    query: Query,
    head: request::Parts,
    body: Body,
    seen: &mut Seen,
) -> Result<Call, Error> {
    let (mut target, mut caller, mut version) = (Target::None, None, String::new());
    let mut contract = ApiVersion::V2018_05_01;
    if !matches!(route.access, Access::Open | Access::Link) {
        let who = authenticate(parts, &head.headers, seen).await?;
        seen.kind = Some(kind_of(route));
        let subscription = match (route.access, arguments.first()) {
            (Access::SignedIn, _) | (_, None) => None,
            (_, Some(text)) => Some(find_subscription(parts, &who, text).await?),
        };
        let provider = route.template.contains("{P}") || route.template.contains("{WS}") || route.template.contains("{EXP}");
        version = if provider {
            contract = check_version(parts, route, &query)?;
            contract.as_str().to_owned()
        } else {
            check_platform_version(&query)?
        };
        if let Some(subscription) = subscription {
            if provider && route.method == Method::PUT {
                check_registration(&subscription)?;
            }
            target = name_target(route, subscription.id, &arguments)?;
        }
        authorize(parts, route, &who, &target).await?;
        caller = Some(who);
    }
    Ok(Call {
        parts: parts.clone(),
        route,
        arguments,
        target,
        caller,
        version,
        contract,
        query,
        raw_query: head.uri.query().unwrap_or_default().to_owned(),
        raw_path: head.uri.path().to_owned(),
        headers: head.headers,
        base: seen.base.clone(),
        peer: head.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip()),
        body: Mutex::new(body),
    })
}

async fn authenticate(parts: &Parts, headers: &HeaderMap, seen: &mut Seen) -> Result<Caller, Error> {
    let malformed = || {
        Error::new(
            ErrorCode::AuthenticationFailed,
            "Authentication failed. The 'Authorization' header is not present or provided in an invalid format.",
        )
    };
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let authorization = match (given.next(), given.next()) {
        (None, _) => None,
        (Some(value), None) => Some(value.to_str().map_err(|_| malformed())?),
        (Some(_), Some(_)) => return Err(malformed()),
    };
    let caller = parts.auth.authenticate(authorization).await?;
    seen.caller = Some(caller.clone());
    Ok(caller)
}

/// The subscription, if it is of the caller's tenant; one of another tenant is answered like one that does not exist.
async fn find_subscription(parts: &Parts, caller: &Caller, text: &str) -> Result<Arc<Subscription>, Error> {
    let id = uuid::Uuid::try_parse(text).ok().filter(|_| text.len() == 36).map(SubscriptionId).ok_or_else(|| {
        let message = format!("The provided subscription identifier '{}' is malformed or invalid.", shown(text));
        Error::new(ErrorCode::InvalidSubscriptionId, message)
    })?;
    let absent = || Error::new(ErrorCode::SubscriptionNotFound, format!("The subscription '{id}' could not be found."));
    match parts.service.subscription(id).await {
        Ok(subscription) if subscription.tenant == caller.tenant => Ok(subscription),
        Ok(_) => Err(absent()),
        Err(error) if error.code == ErrorCode::SubscriptionNotFound => Err(absent()),
        Err(error) => Err(error),
    }
}

fn check_version(parts: &Parts, route: &Route, query: &Query) -> Result<ApiVersion, Error> {
    let version = required_version(query)?;
    let known = ApiVersion::find(version);
    if let Some(known) = known
        && route.versions.contains(&known)
    {
        return Ok(known);
    }
    if known.is_none() && !is_version(version) {
        return Err(invalid_version(version, &ApiVersion::list(",")));
    }
    let served: Vec<&str> = route.versions.iter().map(|version| version.as_str()).collect();
    let locations: Vec<&str> = parts.locations.iter().map(|location| location.name.as_str()).collect();
    Err(Error::new(
        ErrorCode::NoRegisteredProviderFound,
        format!(
            "No registered resource provider found for location '{}' and API version '{version}' for type '{}'. The supported \
             api-versions are '{}'. The supported locations are '{}'.",
            locations.first().copied().unwrap_or_default(),
            type_of(route),
            served.join(", "),
            locations.join(", "),
        ),
    ))
}

/// The type that a provider's route is about, as messages name it.
fn type_of(route: &Route) -> String {
    let expanded = routes::expand(route.template);
    let below = expanded.split_once(NAMESPACE).map_or("", |(_, below)| below);
    below.split('/').filter(|segment| !segment.is_empty() && !segment.starts_with('{')).collect::<Vec<_>>().join("/")
}

/// The platform's own types take any version of the form that versions have: clients of every year are served.
fn check_platform_version(query: &Query) -> Result<String, Error> {
    let version = required_version(query)?;
    if !is_version(version) {
        return Err(invalid_version(version, &PLATFORM_VERSIONS.join(",")));
    }
    Ok(version.to_owned())
}

fn required_version(query: &Query) -> Result<&str, Error> {
    query.get("api-version").filter(|version| !version.is_empty()).ok_or_else(|| {
        Error::new(
            ErrorCode::MissingApiVersionParameter,
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    })
}

fn invalid_version(version: &str, supported: &str) -> Error {
    let message = format!("The api-version '{}' is invalid. The supported versions are '{supported}'.", shown(version));
    Error::new(ErrorCode::InvalidApiVersionParameter, message)
}

/// `YYYY-MM-DD`, with or without a suffix such as `-preview`.
fn is_version(text: &str) -> bool {
    let (date, suffix) = text.split_at_checked(10).unwrap_or((text, ""));
    let digits = |part: Option<&str>, length: usize| {
        part.is_some_and(|part| part.len() == length && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut parts = date.split('-');
    digits(parts.next(), 4)
        && digits(parts.next(), 2)
        && digits(parts.next(), 2)
        && parts.next().is_none()
        && ["", "-preview", "-alpha", "-beta", "-rc", "-privatepreview"].iter().any(|known| suffix.eq_ignore_ascii_case(known))
}

fn check_registration(subscription: &Subscription) -> Result<(), Error> {
    if subscription.registered_at.is_some() {
        return Ok(());
    }
    let message = format!(
        "The subscription is not registered to use namespace '{NAMESPACE}'. See https://aka.ms/rps-not-found for how to register \
         subscriptions."
    );
    let code = ErrorCode::MissingSubscriptionRegistration;
    let mut error = Error::new(code, message.clone());
    error.details = vec![Violation { code, target: NAMESPACE.to_owned(), message }];
    Err(error)
}

/// What the path names, once its names were checked.
fn name_target(route: &Route, subscription: SubscriptionId, arguments: &[String]) -> Result<Target, Error> {
    let Access::Resource(kind) = route.access else { return Ok(Target::Subscription(subscription)) };
    let mut names = arguments.iter().skip(1).cloned();
    let group = names.next().unwrap_or_default();
    let named = match kind {
        Kind::Group => Kind::Group
            .check_name(&group)
            .map_err(|rule| format!("'{}' {rule}", shown(&group)))
            .map(|()| ResourceId::group(subscription, group)),
        _ => ResourceId::below_group(subscription, group, kind, names.collect()).map_err(|error| error.to_string()),
    };
    match named {
        Ok(id) => Ok(Target::Resource(id)),
        Err(problem) => Err(Error::new(ErrorCode::InvalidResourceName, format!("The resource name {problem}."))),
    }
}

async fn authorize(parts: &Parts, route: &Route, caller: &Caller, target: &Target) -> Result<(), Error> {
    let key = match (route.access, target) {
        (Access::Subscription, Target::Subscription(id)) => format!("/subscriptions/{id}"),
        (Access::Resource(_), Target::Resource(id)) => id.key(),
        // An operation is authorised like the resource it is about, once that is known.
        (Access::Operation, _) | (Access::SignedIn, _) => return Ok(()),
        _ => return Err(Error::internal(format!("{} was not authorised", route.operation))),
    };
    parts.auth.authorize(caller, route.action, &key).await
}

fn refuse_method(method: &Method, methods: &[Method]) -> Answer {
    let message = format!("The requested resource does not support http method '{}'.", shown(method.as_str()));
    let mut response = respond::failure(&Error::new(ErrorCode::MethodNotAllowed, message), "");
    let list: Vec<&str> = methods.iter().map(Method::as_str).collect();
    response.headers_mut().insert(ALLOW, respond::header(&list.join(", "))?);
    Ok(response)
}

/// Why a path leads nowhere. Nothing is said to callers without a token but that they need one, or a version.
async fn refuse_path(parts: &Parts, segments: &[String], query: &Query, headers: &HeaderMap, seen: &mut Seen) -> Error {
    match explain_path(parts, segments, query, headers, seen).await {
        Ok(error) | Err(error) => error,
    }
}

async fn explain_path(
    parts: &Parts,
    segments: &[String],
    query: &Query,
    headers: &HeaderMap,
    seen: &mut Seen,
) -> Result<Error, Error> {
    let is = |index: usize, literal: &str| segments.get(index).is_some_and(|s| s.eq_ignore_ascii_case(literal));
    if is(0, "subscriptions") {
        let caller = authenticate(parts, headers, seen).await?;
        if let Some(text) = segments.get(1) {
            find_subscription(parts, &caller, text).await?;
        }
    } else {
        required_version(query)?;
        authenticate(parts, headers, seen).await?;
    }
    let version = required_version(query)?;
    let namespace = segments.iter().position(|s| s.eq_ignore_ascii_case("providers")).and_then(|at| segments.get(at + 1));
    let Some(namespace) = namespace else {
        return Ok(Error::new(ErrorCode::NotFound, "There is nothing at this address. Check the path of the request."));
    };
    if ![NAMESPACE, "Microsoft.Resources"].iter().any(|known| known.eq_ignore_ascii_case(namespace)) {
        return Ok(Error::new(
            ErrorCode::InvalidResourceNamespace,
            format!("The resource namespace '{}' is invalid.", shown(namespace)),
        ));
    }
    let shown_namespace = if namespace.eq_ignore_ascii_case(NAMESPACE) { NAMESPACE } else { "Microsoft.Resources" };
    Ok(Error::new(
        ErrorCode::InvalidResourceType,
        format!(
            "The resource type could not be found in the namespace '{shown_namespace}' for api version '{}'. The supported \
             api-versions are '{}'.",
            shown(version),
            ApiVersion::list(", "),
        ),
    ))
}

/// Foreign text as messages quote it: short and printable.
fn shown(text: &str) -> String {
    text.chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn kind_of(route: &Route) -> RequestKind {
    match route.method {
        Method::GET | Method::HEAD => RequestKind::Read,
        Method::DELETE => RequestKind::Delete,
        // POST lists count as reads. Source: recorded counters.
        Method::POST if route.template.contains("/list") => RequestKind::Read,
        _ => RequestKind::Write,
    }
}

fn report(error: &Error, ids: &RequestIds) {
    if respond::status_of(error.code).is_server_error() {
        let cause = error.context().map(chain).unwrap_or_default();
        tracing::error!(request.id = %ids.request, error.code = %error.code, error.cause = cause, "request failed inside");
    }
}

/// The cause and its causes, outermost first.
fn chain(error: &(dyn std::error::Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// One line a request. Queries are left out, as links carry their proof there; so are headers and bodies.
fn log(ids: &RequestIds, method: &Method, path: &str, response: &Response<Body>, seen: &Seen, started: Instant) {
    let status = response.status().as_u16();
    let duration_ms = started.elapsed().as_secs_f64() * 1e3;
    let client = ids.client.as_deref().unwrap_or_default();
    let caller = seen.caller.as_ref().map(|caller| caller.principal.to_string()).unwrap_or_default();
    let path: String = path.chars().take(1024).collect();
    if method == Method::GET || seen.operation == "Agent" {
        tracing::debug!(
            request.id = %ids.request, request.correlation = ids.correlation, request.client = client, caller.id = caller,
            operation = seen.operation, http.method = %method, http.path = path, http.status = status, duration_ms, "request"
        );
    } else {
        tracing::info!(
            request.id = %ids.request, request.correlation = ids.correlation, request.client = client, caller.id = caller,
            operation = seen.operation, http.method = %method, http.path = path, http.status = status, duration_ms, "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_one_form() {
        for text in ["2018-05-01", "2026-11-01-preview", "2020-01-01-PREVIEW"] {
            assert!(is_version(text), "{text}");
        }
        for text in ["", "2018", "2018-5-1", "2018-05-01-x", "2018-05-01T00", "1.0", "latest", "２018-05-01", "2018/05/01"] {
            assert!(!is_version(text), "{text}");
        }
    }

    #[test]
    fn requests_are_counted_as_recorded() {
        for (operation, kind) in [
            ("Jobs_ListOutputFiles", RequestKind::Read),
            ("Clusters_ListRemoteLoginInformation", RequestKind::Read),
            ("Jobs_Terminate", RequestKind::Write),
            ("Clusters_Update", RequestKind::Write),
            ("Jobs_Delete", RequestKind::Delete),
            ("ResourceGroups_CheckExistence", RequestKind::Read),
        ] {
            let route = routes::ROUTES.iter().find(|route| route.operation == operation).expect("a route");
            assert_eq!(kind_of(route), kind, "{operation}");
        }
    }

    #[test]
    fn the_type_of_a_route_is_named() {
        let route = routes::ROUTES.iter().find(|route| route.operation == "Jobs_Get").expect("a route");
        assert_eq!(type_of(route), "workspaces/experiments/jobs");
    }
}
