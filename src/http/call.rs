//! A request that passed the gate, as handlers see it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::auth::Caller;
use crate::domain::older::Older;
use crate::domain::scope::Scope;
use crate::error::{Error, ErrorCode, Violations};
use crate::http::query::Query;
use crate::http::routes::Route;
use crate::http::{Parts, flat, json};
use crate::id::{FlatId, ResourceId, SubscriptionId};
use crate::wire::ApiVersion;

/// Longest body. Unit: bytes.
///
/// Source: the platform's published limit.
pub(crate) const MAX_BODY: usize = 4 * 1024 * 1024;

/// What a handler answers; the gate makes the error body.
pub(crate) type Answer = Result<Response, Error>;

/// What a path names.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Nothing that is looked up.
    None,
    /// A subscription.
    Subscription(SubscriptionId),
    /// A resource, or the parent of a list.
    Resource(ResourceId),
    /// By an address of an older version, what does not exist.
    Flat(FlatId),
}

/// A request that passed the gate.
pub(crate) struct Call {
    pub(crate) parts: Arc<Parts>,
    pub(crate) route: &'static Route,
    /// What the template's names stand for, in order.
    pub(crate) arguments: Vec<String>,
    pub(crate) target: Target,
    /// The caller; `None` on open routes alone.
    pub(crate) caller: Option<Caller>,
    /// The version as the client wrote it; empty on open routes.
    pub(crate) version: String,
    /// The version of the provider's contract; for what is not the provider's it does not count.
    pub(crate) contract: ApiVersion,
    pub(crate) query: Query,
    pub(crate) raw_query: String,
    pub(crate) raw_path: String,
    pub(crate) headers: HeaderMap,
    /// Scheme and host of URLs in the answer, without a final `/`.
    pub(crate) base: String,
    pub(crate) peer: Option<IpAddr>,
    /// What an older version's body says beyond what 2018-05-01 would.
    pub(crate) older: Option<Older>,
    /// What is wrong with it so far.
    pub(crate) found: Violations,
    /// Bodies may be sent to another thread, but not shared: the mutex is never locked.
    pub(crate) body: Mutex<Body>,
}

impl Call {
    /// The caller.
    ///
    /// # Errors
    /// `InternalServerError` on a route that does not sign its callers in.
    pub(crate) fn caller(&self) -> Result<&Caller, Error> {
        self.caller.as_ref().ok_or_else(|| Error::internal(format!("{} has no caller", self.route.operation)))
    }

    /// The resource that the path names.
    ///
    /// # Errors
    /// `InternalServerError` on a route that names none.
    pub(crate) fn id(&self) -> Result<&ResourceId, Error> {
        match &self.target {
            Target::Resource(id) => Ok(id),
            Target::Flat(id) => Err(flat::absent(id)),
            _ => Err(Error::internal(format!("{} names no resource", self.route.operation))),
        }
    }

    /// The subscription that the path names.
    ///
    /// # Errors
    /// `InternalServerError` on a route that names none.
    pub(crate) fn subscription(&self) -> Result<SubscriptionId, Error> {
        match &self.target {
            Target::Subscription(id) => Ok(*id),
            Target::Resource(id) => Ok(id.subscription()),
            Target::Flat(id) => Ok(id.group.subscription()),
            Target::None => Err(Error::internal(format!("{} names no subscription", self.route.operation))),
        }
    }

    /// The subscription, group or resource that the path names.
    ///
    /// # Errors
    /// `InternalServerError` on a route that names none.
    pub(crate) fn scope(&self) -> Result<Scope, Error> {
        match &self.target {
            Target::Subscription(id) => Ok(Scope::Subscription(*id)),
            Target::Resource(id) => Ok(Scope::Resource(id.clone())),
            Target::Flat(id) => Ok(Scope::Resource(id.group.clone())),
            Target::None => Err(Error::internal(format!("{} names no scope", self.route.operation))),
        }
    }

    /// What the last name of the template stands for.
    pub(crate) fn last_argument(&self) -> &str {
        self.arguments.last().map_or("", String::as_str)
    }

    /// Puts another document in place of the body's.
    pub(crate) fn replace_document(&mut self, document: &Value) {
        *self.body.get_mut().unwrap_or_else(PoisonError::into_inner) = Body::from(document.to_string());
    }

    /// The body, which is there once.
    pub(crate) fn take_body(&mut self) -> Body {
        std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// The body as a JSON document.
    ///
    /// # Errors
    /// `UnsupportedMediaType`, `RequestEntityTooLarge`, `InvalidRequestContent`.
    pub(crate) async fn document(&mut self) -> Result<Value, Error> {
        let bytes = read(self.take_body(), &self.headers, MAX_BODY).await?;
        if bytes.is_empty() {
            return Err(Error::new(
                ErrorCode::InvalidRequestContent,
                "The request has no content. Send a JSON object with Content-Type 'application/json'.",
            ));
        }
        check_content_type(&self.headers, "application/json")?;
        json::parse(&bytes).map_err(|problem| {
            let message = format!("The request content was invalid and could not be deserialized: '{problem}'.");
            Error::new(ErrorCode::InvalidRequestContent, message)
        })
    }

    /// The version of the provider's contract that the client asked for.
    pub(crate) fn api_version(&self) -> &str {
        if self.version.is_empty() { ApiVersion::V2018_05_01.as_str() } else { &self.version }
    }
}

/// The bytes of a body.
///
/// # Errors
/// `UnsupportedMediaType` where they are compressed, `RequestEntityTooLarge` where there are more than `limit`, `BadRequest` where
/// they end before their end.
pub(crate) async fn read(body: Body, headers: &HeaderMap, limit: usize) -> Result<Bytes, Error> {
    let is_plain = |value: &axum::http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
        return Err(Error::new(
            ErrorCode::UnsupportedMediaType,
            "Compressed request content is not supported. Send it as it is.",
        ));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::new(
            ErrorCode::RequestEntityTooLarge,
            format!("The request content is larger than {limit} bytes. Shorten it."),
        )),
        Err(_) => Err(Error::new(ErrorCode::BadRequest, "The request content ended before its end.")),
    }
}

/// Checks the media type of a body; parameters such as a charset do not count, and its absence means the wanted one.
///
/// # Errors
/// `UnsupportedMediaType`.
pub(crate) fn check_content_type(headers: &HeaderMap, wanted: &str) -> Result<(), Error> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let given = value.to_str().unwrap_or("?").split(';').next().unwrap_or_default().trim();
    if given.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let shown: String = given.chars().take(64).filter(|c| c.is_ascii_graphic()).collect();
    Err(Error::new(
        ErrorCode::UnsupportedMediaType,
        format!("The content media type '{shown}' is not supported. Only '{wanted}' is supported."),
    ))
}
