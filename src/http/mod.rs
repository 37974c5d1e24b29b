//! The front door: bytes of strangers in, answers of the published contract out.
//!
//! In: HTTP requests. Out: HTTP answers. On the way each request gets its ids, one canonical path, one route of the table in
//! [`routes`], and is authenticated and authorised before anything is looked up; bodies are decoded by `wire`, carried out by
//! `service`, and answered from what was stored. Refuses to know SQL, drivers and reconcilers.

mod actions;
mod agent;
mod call;
mod cursor;
mod docs;
mod download;
mod etag;
mod events;
mod flat;
mod gate;
mod headers;
mod health;
mod host;
mod json;
mod kinds;
mod links;
mod machine;
mod openapi;
mod operations;
mod path;
mod platform;
mod present;
mod query;
mod range;
mod respond;
mod routes;
mod session;
mod throttle;
mod ui;
mod verbs;
mod wait;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;

use crate::auth::Auth;
use crate::clock::Clock;
use crate::service::Service;
use crate::sign::Signer;
use crate::telemetry::Telemetry;
use crate::trace::Tracer;
use crate::wire::platform::Location;

pub use host::Hosts;
pub use openapi::openapi;
pub use throttle::{Rate, Rates, Throttle};

/// How a request reached this server. The edge puts an [`Origin`] into each request's extensions; without one it is plain http.
///
/// The peer's address is read from `axum::extract::ConnectInfo<std::net::SocketAddr>`, which is absent on unix sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The scheme of URLs that answer this request.
    pub scheme: Scheme,
}

/// The scheme of a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme as URLs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// What the front door is made of.
#[derive(Clone)]
pub struct Parts {
    /// The use cases.
    pub service: Service,
    /// Who is asking, and whether they may.
    pub auth: Auth,
    /// Makes and checks links and cursors.
    pub signer: Signer,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The names that this server answers for.
    pub hosts: Hosts,
    /// Scheme and host of URLs in answers, without a final `/`; `None` takes them from each request.
    pub public_url: Option<String>,
    /// How many requests a caller may send.
    pub throttle: Throttle,
    /// What this process counts.
    pub telemetry: Telemetry,
    /// What this process tells of requests.
    pub tracer: Tracer,
    /// The regions that are offered, at least one; the first is the default.
    pub locations: Vec<Location>,
}

/// The whole API: the provider, what clients need of the platform around it, sign-in, downloads, health and the agents' routes.
pub fn router(parts: Parts) -> Router {
    Router::new().fallback(enter).with_state(Arc::new(parts))
}

async fn enter(State(parts): State<Arc<Parts>>, request: Request) -> Response {
    gate::pass(parts, request).await
}

/// The agents' routes alone, for sockets that only nodes of this host reach. No host name is checked: the socket is the address.
pub fn agent_router(service: Service) -> Router {
    Router::new().fallback(enter_agent).with_state(service)
}

async fn enter_agent(State(service): State<Service>, request: Request) -> Response {
    agent::pass(service, request).await
}
