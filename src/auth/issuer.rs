//! The built-in issuer: client credentials in, access tokens out, and the documents by which clients find it.
//!
//! Two styles of path are served by the same code: `/{tenant}/oauth2/v2.0/token` and `/{tenant}/oauth2/token` as Azure AD had them, and
//! `/adfs/oauth2/token`, which clients take for an AD FS and so ask no public host about. A `scope` makes the answer one of v2, else it
//! is one of v1.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::guess::Guess;
use crate::auth::token::{Claims, Refused, issuer, sign};
use crate::auth::{Auth, RELOAD, audience, password, token};
use crate::domain::principal::Principal;
use crate::id::TenantId;

/// Longest time that a sign-in waits for others whose chosen secrets are being compared.
const SLOW_WAIT: Duration = Duration::from_secs(5);

/// Longest name that is looked up. Unit: bytes.
const MAX_CLIENT_ID: usize = 128;

/// A hash that no secret has: compared with where a name does not exist, so that both refusals take the same steps.
const NOBODY: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A token request of the client-credentials grant.
#[derive(Clone)]
pub struct TokenRequest {
    /// The tenant segment of the path; `adfs` for the ADFS-style path.
    pub tenant: String,
    /// `grant_type`, `client_id`, `client_secret` or `client_assertion`, `scope`, `resource` as sent in the form, never in the URL.
    pub form: BTreeMap<String, String>,
    /// The peer's address, for the limit on guessing.
    pub peer: IpAddr,
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
    pub retry_after: Option<Duration>,
}

impl TokenRefused {
    fn new(status: u16, error: &'static str, description: impl Into<String>) -> TokenRefused {
        TokenRefused { status, error, description: description.into(), retry_after: None }
    }

    fn later(status: u16, after: Duration, description: &str) -> TokenRefused {
        TokenRefused { retry_after: Some(after), ..TokenRefused::new(status, "temporarily_unavailable", description) }
    }

    /// The same text for a wrong name and a wrong secret.
    fn client() -> TokenRefused {
        TokenRefused::new(401, "invalid_client", "The client id or the client secret is not right.")
    }
}

/// The one kind of assertion.
///
/// Source: RFC 7523, section 2.2.
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a client proves itself with.
enum Shown<'a> {
    /// Its secret.
    Secret(&'a str),
    /// A token of an issuer elsewhere, of which a rule makes it this client.
    Assertion(&'a str),
}

/// What a token is asked for.
enum Wanted<'a> {
    /// `resource`, or nothing.
    V1(&'a str),
    /// `scope`.
    V2(&'a str),
}

impl Auth {
    /// Answers a token request.
    ///
    /// # Errors
    /// What becomes an OAuth error document. Wrong secrets are limited by name and address.
    pub async fn token(&self, request: TokenRequest) -> Result<Value, TokenRefused> {
        let field = |name: &str| request.form.get(name).map(String::as_str).filter(|value| !value.is_empty());
        match field("grant_type") {
            Some("client_credentials") => {}
            Some(_) => {
                return Err(TokenRefused::new(
                    400,
                    "unsupported_grant_type",
                    "Only the grant type client_credentials is supported.",
                ));
            }
            None => return Err(missing("grant_type")),
        }
        let client_id = field("client_id").ok_or_else(|| missing("client_id"))?;
        let assertion = field("client_assertion");
        if assertion.is_some() && field("client_assertion_type") != Some(ASSERTION) {
            let message = format!("The only client_assertion_type is {ASSERTION}.");
            return Err(TokenRefused::new(400, "invalid_request", message));
        }
        let proof = assertion.map(Shown::Assertion).or_else(|| field("client_secret").map(Shown::Secret));
        let proof = proof.ok_or_else(|| missing("client_secret"))?;
        let wanted = self.wanted(field("scope"), field("resource"))?;

        let now = self.inner.clock.now();
        let guess = self.inner.guesses.begin(client_id, request.peer, now).map_err(|wait| {
            TokenRefused::later(429, wait, "Too many sign-ins with a wrong client id or secret. Please try again later.")
        })?;
        let principal = match proof {
            Shown::Secret(secret) => self.sign_in(client_id, secret, &guess).await?,
            Shown::Assertion(token) => self.vouched_for(client_id, token, &guess).await?,
        };
        match named_tenant(&request.tenant) {
            Some(Named::Any) => {}
            Some(Named::One(tenant)) if tenant == principal.tenant => {}
            _ => {
                return Err(TokenRefused::new(
                    400,
                    "unauthorized_client",
                    "The application was not found in the directory that the address names.",
                ));
            }
        }
        self.issue(&principal, &wanted).await
    }

    /// The audience of a request.
    fn wanted<'a>(&self, scope: Option<&'a str>, resource: Option<&'a str>) -> Result<Wanted<'a>, TokenRefused> {
        let wanted = match (scope, resource) {
            (Some(scope), _) => {
                // An audience that ends in a slash gives two of them before `.default`.
                let audience =
                    scope.split(' ').find_map(|scope| scope.strip_suffix("/.default")).map(|a| a.trim_end_matches('/'));
                Wanted::V2(audience.ok_or_else(|| {
                    TokenRefused::new(400, "invalid_scope", "The scope of this grant is an audience followed by /.default.")
                })?)
            }
            (None, Some(resource)) => Wanted::V1(resource),
            (None, None) => Wanted::V1(audience::DEFAULT),
        };
        let (Wanted::V1(audience) | Wanted::V2(audience)) = wanted;
        if !self.inner.audiences.includes(audience) {
            let error = if matches!(wanted, Wanted::V1(_)) { "invalid_resource" } else { "invalid_scope" };
            let message = "The resource is not one that this issuer knows: ask for the management endpoint of this server.";
            return Err(TokenRefused::new(400, error, message));
        }
        Ok(wanted)
    }

    /// The principal of a name and a secret.
    async fn sign_in(&self, client_id: &str, secret: &str, guess: &Guess) -> Result<Principal, TokenRefused> {
        let away = || TokenRefused::later(503, Duration::from_secs(1), "The service cannot reach its store. Please try again.");
        if client_id.len() > MAX_CLIENT_ID || client_id.contains('\0') || secret.len() > password::MAX {
            guess.was_wrong();
            return Err(TokenRefused::client());
        }
        let found = self.inner.store.find_sign_in(client_id).await.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "a sign-in could not be looked up");
            away()
        })?;
        let hash = found.as_ref().map_or(NOBODY, |(_, hash)| hash.as_str());
        let fits = if password::is_chosen(hash) {
            let permit = tokio::time::timeout(SLOW_WAIT, self.inner.slow.acquire()).await;
            let Ok(Ok(_permit)) = permit else {
                return Err(TokenRefused::later(
                    429,
                    Duration::from_secs(1),
                    "Too many sign-ins at once. Please try again later.",
                ));
            };
            let (secret, hash) = (zeroize::Zeroizing::new(secret.to_owned()), hash.to_owned());
            tokio::task::spawn_blocking(move || password::verify(&secret, &hash)).await.map_err(|_| away())?
        } else {
            password::verify(secret, hash)
        };
        match found {
            Some((principal, _)) if fits => Ok(principal),
            _ => {
                guess.was_wrong();
                Err(TokenRefused::client())
            }
        }
    }

    /// The principal that a token of an issuer elsewhere is, if that is the client that asks.
    async fn vouched_for(&self, client_id: &str, token: &str, guess: &Guess) -> Result<Principal, TokenRefused> {
        let now = self.inner.clock.now();
        let refused = || {
            guess.was_wrong();
            TokenRefused::new(401, "invalid_client", "The client assertion is not one that makes its bearer this client.")
        };
        let away =
            || TokenRefused::later(503, Duration::from_secs(1), "The service cannot reach what it needs. Please try again.");
        let foreign = match self.verify_assertion(token, now).await {
            Ok(foreign) if foreign.principal == client_id => foreign,
            Err(Refused::Away) => return Err(away()),
            _ => return Err(refused()),
        };
        let found = self.inner.store.find_sign_in(client_id).await.map_err(|_| away())?;
        let (principal, _) = found.ok_or_else(refused)?;
        if foreign.issued_at < principal.valid_after.unix_timestamp() { Err(refused()) } else { Ok(principal) }
    }

    async fn issue(&self, principal: &Principal, wanted: &Wanted<'_>) -> Result<Value, TokenRefused> {
        let now = self.inner.clock.now();
        self.reload_keys_after(RELOAD, now).await;
        let (issued_at, life) = (now.unix_timestamp(), token::LIFE.as_secs().cast_signed());
        let expires_at = issued_at + life;
        let (audience, version) = match wanted {
            Wanted::V1(audience) => (*audience, "1.0"),
            Wanted::V2(audience) => (*audience, "2.0"),
        };
        let claims = Claims {
            aud: audience.to_owned(),
            iss: issuer(principal.tenant),
            iat: issued_at,
            nbf: issued_at,
            exp: expires_at,
            sub: principal.id.0,
            tid: principal.tenant.0,
            appid: principal.client_id.clone(),
            oid: principal.id.0,
            appidacr: "1".into(),
            idtyp: "app".into(),
            uti: Uuid::new_v4().simple().to_string(),
            ver: version.into(),
        };
        let keys = self.inner.keys.tokens();
        let token = keys.current(now).and_then(|key| sign(key, &claims).ok());
        let token = token.ok_or_else(|| TokenRefused::new(500, "server_error", "The token could not be signed."))?;
        Ok(match wanted {
            Wanted::V1(resource) => json!({
                "token_type": "Bearer",
                "expires_in": life.to_string(),
                "ext_expires_in": life.to_string(),
                "expires_on": expires_at.to_string(),
                "not_before": issued_at.to_string(),
                "resource": resource,
                "access_token": token,
            }),
            Wanted::V2(_) => json!({
                "token_type": "Bearer",
                "expires_in": life,
                "ext_expires_in": life,
                "access_token": token,
            }),
        })
    }

    /// `/.well-known/openid-configuration` for `base` (scheme and host) and a tenant segment as the client wrote it.
    pub fn openid_configuration(&self, base: &str, tenant: &str) -> Value {
        let (issuer, oauth, keys) = if tenant.eq_ignore_ascii_case("adfs") {
            (format!("{base}/adfs"), format!("{base}/adfs/oauth2"), format!("{base}/adfs/discovery/keys"))
        } else {
            let directory = format!("{base}/{tenant}");
            (format!("{directory}/v2.0"), format!("{directory}/oauth2/v2.0"), format!("{directory}/discovery/v2.0/keys"))
        };
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{oauth}/authorize"),
            "token_endpoint": format!("{oauth}/token"),
            "device_authorization_endpoint": format!("{oauth}/devicecode"),
            "jwks_uri": keys,
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "scopes_supported": ["openid"],
        })
    }

    /// The public keys, as RFC 7517 writes them.
    pub fn jwks(&self) -> Value {
        let keys = self.inner.keys.tokens();
        let keys: Vec<Value> = keys
            .iter()
            .map(|key| {
                let (x, y) = key.public();
                json!({
                    "kty": "EC",
                    "use": "sig",
                    "alg": "ES256",
                    "crv": "P-256",
                    "kid": key.id,
                    "x": URL_SAFE_NO_PAD.encode(x),
                    "y": URL_SAFE_NO_PAD.encode(y),
                })
            })
            .collect();
        json!({ "keys": keys })
    }
}

/// The directory that a path names.
enum Named {
    /// The principal's own, whichever that is.
    Any,
    One(TenantId),
}

fn named_tenant(segment: &str) -> Option<Named> {
    match segment.to_ascii_lowercase().as_str() {
        "adfs" | "common" | "organizations" => Some(Named::Any),
        other => Uuid::try_parse(other).ok().map(|id| Named::One(TenantId(id))),
    }
}

fn missing(field: &str) -> TokenRefused {
    let message = format!("The request body must contain the parameter '{field}', form-encoded.");
    TokenRefused::new(400, "invalid_request", message)
}
