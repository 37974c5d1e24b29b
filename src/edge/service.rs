//! Between the HTTP library and the router: refusals in the published shape, and what is known of the connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, Request, Response, StatusCode, Version};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use tower::Service as _;

use super::Refusal;
use super::body::{Counted, InFlight, Paced};
use super::guard::Activity;
use super::head::{MAX_HEADERS, MAX_TARGET};
use crate::error::ErrorCode;
use crate::http::Origin;

/// The service of one connection.
#[derive(Clone)]
pub(super) struct Front {
    router: Router,
    origin: Origin,
    peer: Option<SocketAddr>,
    activity: Arc<Activity>,
}

impl Front {
    pub(super) fn new(router: Router, origin: Origin, peer: Option<SocketAddr>, activity: Arc<Activity>) -> Front {
        Front { router, origin, peer, activity }
    }
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = Response<Counted<Body>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = InFlight::new(&self.activity);
        let refusal = self.activity.refusal().or_else(|| too_large(&request));
        if let Some(refusal) = refusal {
            let response = refuse(refusal, request.version());
            return Box::pin(async move { Ok(response.map(|body| Counted::new(body, in_flight))) });
        }
        let mut request = request.map(|body| Body::new(Paced::new(body)));
        request.extensions_mut().insert(self.origin);
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        // A router is always ready.
        let answer = self.router.clone().call(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|body| Counted::new(body, in_flight)))
        })
    }
}

/// The bounds of a head where the guard does not see it: HTTP/2.
fn too_large(request: &Request<Incoming>) -> Option<Refusal> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET {
        return Some(Refusal::TargetTooLong);
    }
    (request.headers().len() > MAX_HEADERS).then_some(Refusal::HeadTooLarge)
}

fn refuse(refusal: Refusal, version: Version) -> Response<Body> {
    let (status, code, message) = match refusal {
        Refusal::Malformed(why) => {
            (StatusCode::BAD_REQUEST, ErrorCode::BadRequest, format!("The request is not well-formed HTTP: {why}."))
        }
        Refusal::HeadTooLarge => (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ErrorCode::RequestEntityTooLarge,
            format!("The request's headers are too large: at most {MAX_HEADERS} and 32 KiB are taken."),
        ),
        Refusal::TargetTooLong => (
            StatusCode::URI_TOO_LONG,
            ErrorCode::RequestEntityTooLarge,
            "The request's address is too long: at most 8 KiB are taken.".to_owned(),
        ),
    };
    let body = serde_json::json!({ "error": { "code": code.as_str(), "message": message } });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
