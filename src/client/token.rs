//! Tokens: given, or got for a client's secret and kept until shortly before their end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::profile::write_private;
use super::{Client, Exit, Failure, Profile, Result, Secret};
use crate::clock::{Clock, SystemClock};

/// Time before its end from which on a token is not used any more.
const EARLY_S: i64 = 120;

/// Longest wait for a token.
const DEADLINE: Duration = Duration::from_secs(30);

/// A token and its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    /// The token.
    pub token: Secret,
    /// Its end. Unit: seconds since 1970.
    pub expires_at: i64,
}

impl Token {
    fn is_good(&self) -> bool {
        now_s() + EARLY_S < self.expires_at
    }
}

fn now_s() -> i64 {
    SystemClock.now().unix_timestamp()
}

/// Tokens of profiles, kept beside them so that not every command asks for another one.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    file: Option<PathBuf>,
    key: String,
}

impl Kept {
    pub(super) fn new(file: Option<PathBuf>, profile: &Profile) -> Kept {
        let part = |value: &Option<String>| value.clone().unwrap_or_default();
        Kept { file, key: format!("{} {} {}", profile.endpoint, part(&profile.tenant), part(&profile.client_id)) }
    }

    fn all(&self) -> BTreeMap<String, Token> {
        // What cannot be read is got again.
        let text = self.file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn find(&self) -> Option<Token> {
        self.all().remove(&self.key).filter(Token::is_good)
    }

    fn keep(&self, token: &Token) {
        let Some(file) = &self.file else { return };
        let mut all = self.all();
        all.retain(|_, token| token.is_good());
        all.insert(self.key.clone(), token.clone());
        // A token that is not kept is got again.
        if let Ok(text) = serde_json::to_string(&all) {
            let _ = write_private(file, text.as_bytes());
        }
    }

    pub(super) fn forget(&self) {
        let Some(file) = &self.file else { return };
        let mut all = self.all();
        if all.remove(&self.key).is_some()
            && let Ok(text) = serde_json::to_string(&all)
        {
            let _ = write_private(file, text.as_bytes());
        }
    }
}

impl Client {
    /// The token to send, got anew where `fresh` is asked for and can be had.
    ///
    /// # Errors
    /// There is none and no secret to get one with; the issuer refuses or is away.
    pub async fn token(&self, fresh: bool) -> Result<Token> {
        let profile = self.profile();
        let (Some(id), Some(secret)) = (&profile.client_id, &profile.client_secret) else {
            let token =
                profile.token.clone().ok_or_else(|| self.not_signed_in("there is no token and no secret to get one with"))?;
            return Ok(Token { token, expires_at: i64::MAX });
        };
        // Never held while one waits: of two requests of one task, the one that waits may be the one that is not looked at.
        let held = || self.held_token().lock().unwrap_or_else(PoisonError::into_inner);
        let known = held().clone();
        if !fresh && let Some(token) = known.filter(Token::is_good).or_else(|| self.kept().find()) {
            *held() = Some(token.clone());
            return Ok(token);
        }
        let token = self.ask_for_token(id, secret).await?;
        self.kept().keep(&token);
        *held() = Some(token.clone());
        Ok(token)
    }

    async fn ask_for_token(&self, id: &str, secret: &Secret) -> Result<Token> {
        let profile = self.profile();
        let tenant = profile.tenant.as_deref().unwrap_or("organizations");
        let url = format!("{}/{}/oauth2/v2.0/token", profile.endpoint, super::encode(tenant));
        let scope = format!("{}/.default", profile.endpoint);
        let form = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", &secret.0), ("scope", &scope)];
        let answer =
            self.http().post(&url).timeout(DEADLINE).form(&form).send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status().as_u16();
        self.reached();
        let body: Value = answer.json().await.unwrap_or_default();
        let Some(token) = body.get("access_token").and_then(Value::as_str).filter(|_| status == 200) else {
            let word = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
            if status >= 500 || status == 429 {
                return Err(Failure::new(
                    Exit::Away,
                    "SignInFailed",
                    format!("the issuer answers {status}: {}", word("error_description")),
                ));
            }
            return Err(self.not_signed_in(&format!("the issuer refuses '{id}': {}", word("error_description"))));
        };
        let lifetime = match body.get("expires_in") {
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.parse().ok(),
            _ => None,
        };
        Ok(Token { token: Secret(token.to_owned()), expires_at: now_s().saturating_add(lifetime.unwrap_or(300)) })
    }

    /// What to do where nobody is signed in.
    pub(super) fn not_signed_in(&self, why: &str) -> Failure {
        let endpoint = &self.profile().endpoint;
        Failure::new(Exit::Forbidden, "NotSignedIn", format!("not signed in to {endpoint}: {why}"))
            .or_try(format!("batchyard login --server {endpoint} --service-principal -u ID --password-stdin -t TENANT"))
            .or_try("in CI: BATCHYARD_CLIENT_ID, BATCHYARD_CLIENT_SECRET and BATCHYARD_TENANT in the environment")
    }
}
