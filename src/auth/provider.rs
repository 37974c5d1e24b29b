//! The keys of an issuer elsewhere: fetched when they are needed, and kept.
//!
//! In: the issuer's settings. Out: the key of an id. A document is fetched with a deadline and a limit of size, follows no redirect, and is
//! asked for at most once a minute whatever tokens name; while the issuer is away, the keys that it had serve on for a day.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use crate::auth::foreign::ExternalIssuer;
use crate::auth::jwk::{self, Jwk};
use crate::auth::token::Refused;
use crate::clock::{Clock, Timestamp};

/// Keys are read anew after this: what the issuer withdrew counts no longer.
const FRESH: Duration = Duration::from_secs(15 * 60);

/// Least time between two fetches, whatever they bring.
const PAUSE: Duration = Duration::from_secs(60);

/// How long keys serve while the issuer is away.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Longest time for all of a fetch.
const DEADLINE: Duration = Duration::from_secs(5);

/// Largest document. Unit: bytes.
const MAX: usize = 256 * 1024;

/// An issuer elsewhere and its keys.
pub(super) struct Provider {
    pub(super) issuer: ExternalIssuer,
    http: reqwest::Client,
    kept: Mutex<Kept>,
    /// Held while a fetch is under way: others wait for what it brings.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    keys: Arc<Vec<Arc<Jwk>>>,
    read_at: Option<Timestamp>,
    tried_at: Option<Timestamp>,
}

/// Why the settings of an issuer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The file of authorities cannot be read.
    #[error("the authorities of the issuer {issuer} cannot be read from {}", path.display())]
    Authority {
        /// Which issuer.
        issuer: String,
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No client can be made for it.
    #[error("no connection can be made to the issuer {issuer}")]
    Client {
        /// Which issuer.
        issuer: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

/// Why a fetch brought nothing.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("it did not answer within {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("it cannot be asked")]
    Http(#[from] reqwest::Error),
    #[error("it answered {0}")]
    Status(reqwest::StatusCode),
    #[error("its document is larger than {MAX} bytes")]
    Large,
    #[error("its document cannot be read")]
    Document(#[from] serde_json::Error),
    #[error("its configuration is of another issuer")]
    Issuer,
    #[error("its keys are at an address that is not https")]
    Plain,
    #[error("its document has no key that verifies tokens")]
    NoKey,
}

impl Provider {
    /// Nothing is fetched before a token asks. Blocks for the file of authorities.
    pub(super) fn new(issuer: ExternalIssuer) -> Result<Provider, ProviderError> {
        let failed = |source| ProviderError::Client { issuer: issuer.issuer.clone(), source };
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(DEADLINE).no_proxy();
        let builder = match &issuer.authority {
            None => builder,
            Some(path) => {
                let unreadable = |source| ProviderError::Authority { issuer: issuer.issuer.clone(), path: path.clone(), source };
                let pem = std::fs::read(path).map_err(unreadable)?;
                builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).map_err(failed)?)
            }
        };
        let http = builder.build().map_err(failed)?;
        Ok(Provider { issuer, http, kept: Mutex::default(), fetching: tokio::sync::Mutex::default() })
    }

    /// The key of an id, fetched where it is not known and a fetch is due.
    pub(super) async fn key(&self, id: &str, clock: &dyn Clock) -> Result<Arc<Jwk>, Refused> {
        let find = |kept: &Kept| kept.keys.iter().find(|key| key.id == id).cloned();
        let (found, is_due) = self.look(|kept| (find(kept), kept.is_due(clock.now(), find(kept).is_some())));
        if let (Some(key), false) = (&found, is_due) {
            return Ok(Arc::clone(key));
        }
        if is_due {
            let _one = self.fetching.lock().await;
            // Another request may have brought them while this one waited.
            if self.look(|kept| kept.is_due(clock.now(), find(kept).is_some())) {
                self.look(|kept| kept.tried_at = Some(clock.now()));
                match self.fetch().await {
                    Ok(keys) => self.look(|kept| {
                        kept.keys = Arc::new(keys.into_iter().map(Arc::new).collect());
                        kept.read_at = Some(clock.now());
                    }),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, issuer = self.issuer.issuer, "the keys of an issuer cannot be read");
                    }
                }
            }
        } else {
            // A fetch for the same key may be under way.
            let _one = self.fetching.lock().await;
        }
        let (found, is_known) = self.look(|kept| (find(kept), kept.age(clock.now()).is_some_and(|age| age < KEPT)));
        match found {
            Some(key) if is_known => Ok(key),
            None if is_known => Err(Refused::UnknownKey),
            _ => Err(Refused::Away),
        }
    }

    /// Whether a key that was used before is still one of the issuer's.
    pub(super) fn has(&self, id: &str, clock: &dyn Clock) -> bool {
        let now = clock.now();
        self.look(|kept| kept.keys.iter().any(|key| key.id == id) && !kept.is_due(now, true))
    }

    fn look<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn fetch(&self) -> Result<Vec<Jwk>, FetchError> {
        tokio::time::timeout(DEADLINE, self.fetch_keys()).await.map_err(|_| FetchError::Deadline)?
    }

    async fn fetch_keys(&self) -> Result<Vec<Jwk>, FetchError> {
        #[derive(Deserialize)]
        struct Configuration {
            issuer: String,
            jwks_uri: String,
        }
        let address = match &self.issuer.keys {
            Some(address) => address.clone(),
            None => {
                let base = self.issuer.issuer.trim_end_matches('/');
                let document = self.get(&format!("{base}/.well-known/openid-configuration")).await?;
                let found: Configuration = serde_json::from_slice(&document)?;
                if found.issuer != self.issuer.issuer {
                    return Err(FetchError::Issuer);
                }
                // In the clear only where the issuer itself is, which the settings allow on this host alone.
                if !found.jwks_uri.starts_with("https://") && self.issuer.issuer.starts_with("https://") {
                    return Err(FetchError::Plain);
                }
                found.jwks_uri
            }
        };
        let keys = jwk::parse(&self.get(&address).await?)?;
        if keys.is_empty() { Err(FetchError::NoKey) } else { Ok(keys) }
    }

    async fn get(&self, address: &str) -> Result<Vec<u8>, FetchError> {
        let mut answer = self.http.get(address).header("accept", "application/json").send().await?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let mut document = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if document.len() + chunk.len() > MAX {
                return Err(FetchError::Large);
            }
            document.extend_from_slice(&chunk);
        }
        Ok(document)
    }
}

impl Kept {
    fn age(&self, now: Timestamp) -> Option<Duration> {
        self.read_at.map(|at| (now - at).try_into().unwrap_or_default())
    }

    /// Whether the keys are to be read again now: they are old or lack what is asked for, and the last fetch was a while ago.
    fn is_due(&self, now: Timestamp, is_known: bool) -> bool {
        let is_wanted = !is_known || self.age(now).is_none_or(|age| age >= FRESH);
        is_wanted && self.tried_at.is_none_or(|at| now - at >= PAUSE)
    }
}
