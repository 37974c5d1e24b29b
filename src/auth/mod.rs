//! Who is asking, and whether they may.
//!
//! In: the `Authorization` header, an action and a scope. Out: a [`Caller`] or a refusal with the published text. The decision is
//! pure; keys and rows are read at the edge.

mod install;
mod keys;

use std::sync::Arc;

use crate::clock::Clock;
use crate::error::Error;
use crate::id::{PrincipalId, TenantId};
use crate::store::Store;

pub use install::{InstallError, Installation};
pub use keys::{Keys, KeysError};

/// What [`Auth`] is made of.
pub struct Parts {
    /// Principals and their roles.
    pub store: Store,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Signs and verifies tokens.
    pub keys: Keys,
    /// The installation's own tenant.
    pub tenant: TenantId,
    /// Names and addresses that this server answers to, without scheme and port, apart from the loopback ones: what tokens may be
    /// asked for, beside Azure's own names of the management API.
    pub hosts: Vec<String>,
}

/// A caller whose token was verified in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its object id.
    pub principal: PrincipalId,
    /// The directory that it is in.
    pub tenant: TenantId,
    /// The name that it signs in with.
    pub client_id: String,
}

/// Verifies tokens and decides permissions.
#[derive(Clone)]
pub struct Auth {
    parts: Arc<Parts>,
}

#[allow(unused_variables, clippy::unimplemented, missing_docs)]
impl Auth {
    /// The built-in issuer and the roles of these parts.
    pub fn new(parts: Parts) -> Auth {
        Auth { parts: Arc::new(parts) }
    }

    /// # Errors
    /// `AuthenticationFailed`, `ExpiredAuthenticationToken`, `InvalidAuthenticationToken`.
    pub async fn authenticate(&self, authorization: Option<&str>) -> Result<Caller, Error> {
        unimplemented!()
    }

    /// Whether `caller` may do `action` (for example `Microsoft.BatchAI/workspaces/read`) at the scope of `key`: a lower-case path of a
    /// subscription, group or resource.
    ///
    /// # Errors
    /// `InvalidAuthenticationTokenTenant` and `AuthorizationFailed` with the published texts; `SubscriptionNotFound`.
    pub async fn authorize(&self, caller: &Caller, action: &str, key: &str) -> Result<(), Error> {
        unimplemented!()
    }

    /// Answers a token request: the form's fields → a JSON document, or what becomes an OAuth error document.
    pub async fn token(&self, request: TokenRequest) -> Result<serde_json::Value, TokenRefused> {
        unimplemented!()
    }

    /// `/.well-known/openid-configuration` for `base` (scheme and host) and a tenant segment as the client wrote it.
    pub fn openid_configuration(&self, base: &str, tenant: &str) -> serde_json::Value {
        unimplemented!()
    }

    /// The public keys.
    pub fn jwks(&self) -> serde_json::Value {
        unimplemented!()
    }

    /// The installation's own tenant.
    pub fn tenant(&self) -> TenantId {
        self.parts.tenant
    }
}

/// A token request of the client-credentials grant.
#[derive(Clone)]
pub struct TokenRequest {
    /// The tenant segment of the path; `adfs` for the ADFS-style path.
    pub tenant: String,
    /// `grant_type`, `client_id`, `client_secret`, `scope`, `resource` as sent in the form.
    pub form: std::collections::BTreeMap<String, String>,
    /// The peer's address, for the limit on guessing.
    pub peer: std::net::IpAddr,
}

/// An OAuth refusal.
#[derive(Clone, Debug)]
pub struct TokenRefused {
    /// 400, 401, 429 or, where the store is away, 503.
    pub status: u16,
    /// `invalid_client`, `invalid_request`, `unsupported_grant_type`, ...
    pub error: &'static str,
    /// One sentence.
    pub description: String,
    /// When it is worth trying again.
    pub retry_after: Option<std::time::Duration>,
}
