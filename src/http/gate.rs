//! What every request passes before a handler sees it, and every answer on its way back. One order of checks, everywhere:
//!
//! 1. host name and site, one canonical path, request ids;
//! 2. the route; 3. authentication; 4. the subscription's form, existence and tenant; 5. namespace, type and version;
//! 6. names; 7. authorisation at the scope; 8. locks. How many requests a caller may send is counted once its subscription is known.
//!    Existence of anything below the subscription is looked at afterwards, so that what is
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

use crate::auth::{Caller, Visible};
use crate::domain::activity::{Asked, RequestFacts, Subject};
use crate::domain::lock::Deed;
use crate::domain::scope::Scope;
use crate::error::{Error, ErrorCode, Violation, Violations};
use crate::http::call::{Answer, Call, Target};
use crate::http::headers::{RequestIds, RequestKind, write_remaining, write_transport_security};
use crate::http::query::Query;
use crate::http::routes::{Access, Found, Route};
use crate::http::{Origin, Parts, agent, host, machine, path, respond, routes, session, ui};
use crate::id::{FlatId, Kind, NAMESPACE, ResourceId, SubscriptionId};
use crate::service::Subscription;
use crate::telemetry;
use crate::trace::{Asking, TRACEPARENT};
use crate::wire::ApiVersion;

/// Versions that the platform's own types are listed with. Any version of that form is served.
pub(crate) const PLATFORM_VERSIONS: &[&str] =
    &["2024-11-01", "2022-12-01", "2021-01-01", "2019-07-01", "2018-05-01", "2016-06-01"];

/// Answers one request.
pub(crate) async fn pass(parts: Arc<Parts>, request: Request) -> Response<Body> {
    let started = Instant::now();
    let mut ids = RequestIds::of(request.headers());
    let asking = parts.tracer.ask(request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok()));
    ids.trace = asking.as_ref().map(Asking::traceparent);
    let scheme = request.extensions().get::<Origin>().copied().unwrap_or_default().scheme;
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut seen = Seen::default();
    let outcome = AssertUnwindSafe(enter(&parts, request, scheme, &ids, &mut seen)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Err(Error::internal("a handler panicked")));
    record(&parts, &outcome, &seen);
    let mut response = outcome.unwrap_or_else(|error| {
        report(&error, &ids);
        respond::failure(&error, &format!("{}/{}", seen.base, parts.auth.tenant()))
    });
    let headers = response.headers_mut();
    if let Some((kind, in_subscription, count)) = seen.remaining {
        write_remaining(headers, kind, in_subscription, count);
    }
    write_transport_security(headers, scheme, host::bare(seen.base.rsplit("//").next().unwrap_or_default()));
    ids.write(headers, parts.clock.now());
    if seen.operation != agent::OPERATION {
        telemetry::answered(seen.operation, response.status().as_u16(), started.elapsed());
        if let Some(asking) = asking {
            asking.answered(method.as_str(), seen.operation, response.status().as_u16());
        }
    }
    log(&ids, &method, uri.path(), &response, &seen, started);
    response
}

/// What is learnt about a request on its way in, for the answer and the log.
#[derive(Default)]
struct Seen {
    base: String,
    /// How many requests of this kind the caller may still send, in a subscription or outside of all.
    remaining: Option<(RequestKind, bool, u32)>,
    /// What is asked for, where that is recorded.
    asked: Option<Arc<Asked>>,
    operation: &'static str,
    caller: Option<Caller>,
}

async fn enter(parts: &Arc<Parts>, request: Request, scheme: crate::http::Scheme, ids: &RequestIds, seen: &mut Seen) -> Answer {
    let (head, body) = request.into_parts();
    let authority = host::requested(&parts.hosts, &head.uri, &head.headers)?;
    seen.base = match &parts.public_url {
        Some(url) => url.clone(),
        None => format!("{}://{authority}", scheme.as_str()),
    };
    if !ui::is_visit(&head) {
        host::refuse_cross_site(&head.headers)?;
    }
    if session::is_session(&head) {
        seen.operation = "Session";
        if head.method == Method::PUT {
            authenticate(parts, &head.headers, seen).await?;
        }
        return if session::METHODS.contains(&head.method) {
            session::answer(&head, &seen.base)
        } else {
            refuse_method(&head.method, &session::METHODS)
        };
    }
    if let Some(answer) = ui::answer(&head) {
        seen.operation = "Page";
        return answer;
    }
    if agent::is_agents(head.uri.path()) {
        seen.operation = agent::OPERATION;
        return agent::answer(&parts.service, Request::from_parts(head, body)).await;
    }
    if machine::is_machines(head.uri.path()) {
        seen.operation = agent::OPERATION;
        return machine::answer(&parts.service, Request::from_parts(head, body)).await;
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
            let call = admit(parts, route, arguments, query, head, body, ids, seen).await?;
            (route.run)(call).await
        }
        Found::Methods(methods) => {
            authenticate(parts, &head.headers, seen).await?;
            refuse_method(&head.method, &methods)
        }
        Found::Nothing => Err(refuse_path(parts, &segments, &query, &head.headers, seen).await),
    }
}

/// Steps 3 to 8 for a known route.
#[allow(clippy::too_many_arguments)] // the parts of one request, each of which it takes over
async fn admit(
    parts: &Arc<Parts>,
    route: &'static Route,
    arguments: Vec<String>,
    query: Query,
    head: request::Parts,
    body: Body,
    ids: &RequestIds,
    seen: &mut Seen,
) -> Result<Call, Error> {
    let (mut target, mut caller, mut version) = (Target::None, None, String::new());
    let mut contract = ApiVersion::V2018_05_01;
    if !matches!(route.access, Access::Open | Access::Link) {
        let who = authenticate(parts, &head.headers, seen).await?;
        let subscription = match (route.access, arguments.first()) {
            (Access::SignedIn | Access::Directory | Access::Everywhere, _) | (_, None) => None,
            (_, Some(text)) => Some(find_subscription(parts, &who, text).await?),
        };
        throttle(parts, route, &who, subscription.as_ref().map(|subscription| subscription.id), seen)?;
        let provider = route.template.contains("{P}") || route.template.contains("{WS}") || route.template.contains("{EXP}");
        version = if provider {
            contract = check_version(parts, route, &query)?;
            contract.as_str().to_owned()
        } else if matches!(route.access, Access::Directory | Access::Everywhere) {
            String::new()
        } else {
            check_platform_version(&query)?
        };
        if let Some(subscription) = subscription {
            if provider && route.method == Method::PUT {
                check_registration(&subscription)?;
            }
            target = name_target(parts, route, subscription.id, &arguments).await?;
        }
        let mut who = who;
        if let Some(asked) = ask(parts, route, &who, &target, &head, ids) {
            who.asked = Some(Arc::clone(&asked));
            seen.asked = Some(asked);
        }
        authorize(parts, route, &who, &target).await?;
        check_locks(parts, route, &target).await?;
        if let (Target::Flat(id), false) = (&target, route.method == Method::PUT) {
            parts.service.check_group(&id.group).await?;
        }
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
        older: None,
        found: Violations::new(),
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
async fn name_target(parts: &Parts, route: &Route, subscription: SubscriptionId, arguments: &[String]) -> Result<Target, Error> {
    let kind = match route.access {
        Access::Resource(kind) => kind,
        Access::Scope => return name_scope(arguments.get(1).map_or("", String::as_str)),
        Access::Flat(kind) => return flat_target(parts, kind, subscription, arguments).await,
        _ => return Ok(Target::Subscription(subscription)),
    };
    let mut names = arguments.iter().skip(1).cloned();
    let group = names.next().unwrap_or_default();
    // What comes after the resource's own names is a part of it.
    let names = names.take(kind.type_segments().len());
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

/// What an address of an older version leads to.
async fn flat_target(parts: &Parts, kind: Kind, subscription: SubscriptionId, arguments: &[String]) -> Result<Target, Error> {
    let (group, name) = (arguments.get(1).cloned().unwrap_or_default(), arguments.get(2).cloned().unwrap_or_default());
    for (kind, name) in [(Kind::Group, &group), (kind, &name)] {
        kind.check_name(name)
            .map_err(|rule| Error::new(ErrorCode::InvalidResourceName, format!("The resource name '{}' {rule}.", shown(name))))?;
    }
    let id = FlatId { group: ResourceId::group(subscription, group), kind, name };
    Ok(match parts.service.find_flat(&id).await? {
        Some(found) => Target::Resource(found),
        None => Target::Flat(id),
    })
}

/// The scope that a path begins with. What it says of a type that does not exist is what the type's own address would say.
fn name_scope(path: &str) -> Result<Target, Error> {
    if let Some(scope) = Scope::parse(path) {
        return Ok(match scope {
            Scope::Subscription(id) => Target::Subscription(id),
            Scope::Resource(id) => Target::Resource(id),
        });
    }
    let namespace = path.split('/').nth(6).unwrap_or(NAMESPACE);
    if !namespace.eq_ignore_ascii_case(NAMESPACE) {
        let message = format!("The resource namespace '{}' is invalid.", shown(namespace));
        return Err(Error::new(ErrorCode::InvalidResourceNamespace, message));
    }
    let problem = ResourceId::parse(path).map(|_| String::new()).unwrap_or_else(|error| error.to_string());
    Err(Error::new(ErrorCode::InvalidResourceName, format!("The resource name {problem}.")))
}

/// Counts a request; polls are not counted, but told how many are left.
fn throttle(
    parts: &Parts,
    route: &Route,
    caller: &Caller,
    subscription: Option<SubscriptionId>,
    seen: &mut Seen,
) -> Result<(), Error> {
    let kind = kind_of(route);
    let (owner, now) = ((caller.principal, subscription, kind), parts.clock.now());
    let counted = match route.access {
        Access::Operation => Ok(parts.throttle.left(owner, now)),
        _ => parts.throttle.take(owner, now),
    };
    let remaining = |count| (kind, subscription.is_some(), count);
    seen.remaining = match &counted {
        Ok(left) => left.map(remaining),
        Err(_) => Some(remaining(0)),
    };
    counted.map(drop)
}

/// What a route does to its target, as locks see it; `None` where locks do not matter.
///
/// Locks themselves can always be changed by those who may: otherwise none could be taken away.
fn deed(route: &Route) -> Option<Deed> {
    let action = route.action.to_ascii_lowercase();
    let checked = matches!(route.access, Access::Subscription | Access::Scope | Access::Resource(_) | Access::Flat(_));
    if !checked || action.ends_with("/read") || action.starts_with("microsoft.authorization/locks/") {
        return None;
    }
    // Taking tags off changes what has them.
    let deletes = action.ends_with("/delete") && !action.starts_with("microsoft.resources/tags/");
    Some(match (deletes, route.access) {
        (true, Access::Resource(_) | Access::Flat(_)) => Deed::Delete,
        (true, _) => Deed::DeleteAt,
        (false, _) => Deed::Write,
    })
}

async fn check_locks(parts: &Parts, route: &Route, target: &Target) -> Result<(), Error> {
    let Some(deed) = deed(route) else { return Ok(()) };
    let scope = match target {
        Target::Subscription(id) => Scope::Subscription(*id),
        Target::Resource(id) => Scope::Resource(id.clone()),
        Target::Flat(id) => Scope::Resource(id.group.clone()),
        Target::None => return Ok(()),
    };
    parts.service.check_locks(&scope, deed).await
}

/// Longest address that is recorded. Unit: characters.
const MAX_RECORDED: usize = 2048;

/// What is asked for, where that is recorded: everything that is not a read.
fn ask(
    parts: &Parts,
    route: &Route,
    caller: &Caller,
    target: &Target,
    head: &request::Parts,
    ids: &RequestIds,
) -> Option<Arc<Asked>> {
    if route.action.is_empty() || route.action.to_ascii_lowercase().ends_with("/read") {
        return None;
    }
    let scope = match target {
        Target::Subscription(id) => Scope::Subscription(*id),
        Target::Resource(id) => Scope::Resource(id.clone()),
        Target::Flat(id) => Scope::Resource(id.group.clone()),
        Target::None => return None,
    };
    let mut path = scope.path();
    if let Target::Flat(id) = target {
        path.push_str(&format!("/providers/{}/{}", id.kind.flat_type(), id.name));
    }
    if route.access == Access::Scope {
        // What hangs on the scope has an address of its own.
        let raw = head.uri.path();
        let tail = raw.to_ascii_lowercase().rfind("/providers/").and_then(|at| raw.get(at..)).unwrap_or_default();
        path.push_str(&percent_encoding::percent_decode_str(tail).decode_utf8_lossy());
    }
    let uri: String = head.uri.path_and_query().map_or("", |uri| uri.as_str()).chars().take(MAX_RECORDED).collect();
    let request = RequestFacts {
        request_id: ids.request,
        client_id: caller.client_id.clone(),
        tenant: caller.tenant.0,
        role: None,
        method: head.method.to_string(),
        uri,
        client_request_id: ids.client.clone(),
        client_ip: head.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip()),
        refusal: None,
    };
    let subject = Subject { subscription: scope.subscription(), action: route.action.to_owned(), key: path.to_lowercase(), path };
    Some(Arc::new(
        Asked::new(parts.clock.now(), caller.principal, ids.correlation.clone(), subject, request).traced(ids.trace.clone()),
    ))
}

/// Records what no transaction recorded: a refusal, or what changed nothing.
fn record(parts: &Parts, outcome: &Answer, seen: &Seen) {
    let Some(asked) = seen.asked.as_ref().filter(|asked| !asked.is_recorded()) else { return };
    let now = parts.clock.now();
    parts.service.record(match outcome {
        Ok(response) => asked.row(now, response.status().as_u16(), None),
        Err(error) => asked.refused(now, respond::status_of(error.code).as_u16(), error.code.as_str(), &error.message),
    });
}

async fn authorize(parts: &Parts, route: &Route, caller: &Caller, target: &Target) -> Result<(), Error> {
    let key = match (route.access, target) {
        (Access::Subscription | Access::Scope, Target::Subscription(id)) => format!("/subscriptions/{id}"),
        (Access::Resource(_) | Access::Flat(_) | Access::Scope, Target::Resource(id)) => id.key(),
        (Access::Flat(_), Target::Flat(id)) => id.group.key(),
        (Access::Visible, Target::Subscription(id)) => {
            if parts.auth.visible(caller, route.action, *id).await? != Visible::Below(Vec::new()) {
                return Ok(());
            }
            format!("/subscriptions/{id}")
        }
        // An operation is authorised like the resource it is about, once that is known.
        (Access::Everywhere, _) => {
            for subscription in parts.service.subscriptions(caller.tenant).await? {
                parts.auth.authorize(caller, route.action, &format!("/subscriptions/{}", subscription.id)).await?;
            }
            return Ok(());
        }
        (Access::Operation | Access::SignedIn | Access::Directory, _) => return Ok(()),
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
    let namespace = segments.iter().rposition(|s| s.eq_ignore_ascii_case("providers")).and_then(|at| segments.get(at + 1));
    let Some(namespace) = namespace else {
        return Ok(Error::new(ErrorCode::NotFound, "There is nothing at this address. Check the path of the request."));
    };
    let known = [NAMESPACE, "Microsoft.Resources", "Microsoft.Authorization", "Microsoft.Insights"];
    let Some(known) = known.into_iter().find(|known| known.eq_ignore_ascii_case(namespace)) else {
        return Ok(Error::new(
            ErrorCode::InvalidResourceNamespace,
            format!("The resource namespace '{}' is invalid.", shown(namespace)),
        ));
    };
    let versions = if known == NAMESPACE { ApiVersion::list(", ") } else { PLATFORM_VERSIONS.join(", ") };
    Ok(Error::new(
        ErrorCode::InvalidResourceType,
        format!(
            "The resource type could not be found in the namespace '{known}' for api version '{}'. The supported \
             api-versions are '{versions}'.",
            shown(version),
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
        // Deletes counted as writes before 2018-05-01. Source: recorded 2018-03-01 counters.
        Method::DELETE if matches!(route.access, Access::Flat(_)) => RequestKind::Write,
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
    if method == Method::GET || seen.operation == agent::OPERATION {
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
