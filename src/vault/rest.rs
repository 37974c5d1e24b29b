//! A vault that speaks the REST API of Azure Key Vault, and the tokens that let this server in.
//!
//! The far end is not trusted: deadlines, a longest answer, no redirects, and nothing of an answer but its value goes anywhere.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::domain::secret::SecretText;
use crate::service::VaultError;
use crate::vault::{Login, MAX_VALUE, Named};

/// Longest time of one request.
const DEADLINE: Duration = Duration::from_secs(4);

/// Times that a vault which is away is asked, and the time between two.
const TRIES: (u32, Duration) = (2, Duration::from_millis(500));

/// Most bytes of one answer: a value whose every byte is escaped, and what is told beside it.
const MAX_ANSWER: usize = 8 * MAX_VALUE;

/// The version of the API that is asked for.
///
/// Source: Key Vault REST API, Get Secret.
const VERSION: &str = "7.4";

/// A token is renewed so long before it ends.
const EARLY: Duration = Duration::from_secs(60);

/// Longest life that is believed of a token. Unit: seconds.
const MAX_LIFE: u64 = 86_400;

/// Speaks to one vault.
pub(super) struct Rest {
    login: Login,
    http: reqwest::Client,
    token: tokio::sync::Mutex<Option<(SecretText, Instant)>>,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Secret {
    value: String,
}

impl Rest {
    pub(super) fn new(login: Login) -> std::io::Result<Rest> {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(DEADLINE).no_proxy();
        let builder = match &login.authority {
            None => builder,
            Some(path) => {
                let pem = std::fs::read(path)?;
                builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).map_err(std::io::Error::other)?)
            }
        };
        let http = builder.build().map_err(std::io::Error::other)?;
        Ok(Rest { login, http, token: tokio::sync::Mutex::default() })
    }

    /// The value of a secret.
    pub(super) async fn read(&self, named: Named<'_>) -> Result<SecretText, VaultError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.read_once(named).await {
                Err(VaultError::Away(_)) if tries < TRIES.0 => tokio::time::sleep(TRIES.1).await,
                other => return other,
            }
        }
    }

    async fn read_once(&self, named: Named<'_>) -> Result<SecretText, VaultError> {
        let version = named.version.map(|version| format!("/{version}")).unwrap_or_default();
        let url = format!("{}/secrets/{}{version}?api-version={VERSION}", self.login.endpoint, named.name);
        let token = self.token().await?;
        let answer = self.http.get(url).bearer_auth(&token.0).send().await.map_err(|_| VaultError::Away("it does not answer"))?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Err(VaultError::Missing),
            status @ (400..=403 | 405..=499) if status != 429 => {
                // It may have been taken back: the next one asks for another.
                *self.token.lock().await = None;
                return Err(VaultError::Refused(status));
            }
            _ => return Err(VaultError::Away("it answers with a failure of its own")),
        }
        let secret: Secret = document(answer).await?;
        if secret.value.len() > MAX_VALUE {
            return Err(VaultError::Away("the secret is too long"));
        }
        Ok(SecretText(secret.value))
    }

    /// A token that is good for a while.
    async fn token(&self) -> Result<SecretText, VaultError> {
        let mut held = self.token.lock().await;
        if let Some((token, until)) = held.as_ref()
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let secret = tokio::fs::read_to_string(&self.login.client_secret_file).await;
        let secret = SecretText(secret.map_err(|_| VaultError::Away("the file of this server's own secret cannot be read"))?);
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", self.login.client_id.as_str()),
            ("client_secret", secret.0.trim_end_matches(['\r', '\n'])),
            ("scope", self.login.scope.as_str()),
        ];
        let sent = self.http.post(&self.login.token_url).form(&form).send().await;
        let answer = sent.map_err(|_| VaultError::Away("who gives tokens for it does not answer"))?;
        match answer.status().as_u16() {
            200 => {}
            status @ 400..=499 if status != 429 => return Err(VaultError::Refused(status)),
            _ => return Err(VaultError::Away("who gives tokens for it answers with a failure of its own")),
        }
        let Token { access_token, expires_in } = document(answer).await?;
        // Old endpoints write the number as a text.
        let life = expires_in.and_then(|life| life.as_u64().or_else(|| life.as_str()?.parse().ok())).unwrap_or(0);
        let token = SecretText(access_token);
        let life = Duration::from_secs(life.min(MAX_LIFE)).saturating_sub(EARLY);
        *held = Some((token.clone(), Instant::now() + life));
        Ok(token)
    }
}

async fn document<T: DeserializeOwned>(mut answer: reqwest::Response) -> Result<T, VaultError> {
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    while let Some(chunk) = answer.chunk().await.map_err(|_| VaultError::Away("its answer breaks off"))? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(VaultError::Away("its answer is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes).map_err(|_| VaultError::Away("its answer is not one of a vault"))
}
