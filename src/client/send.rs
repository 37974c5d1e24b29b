//! Requests and answers.
//!
//! A request that a busy or restarting server did not take is sent again, with the same name and id, for as long as one may wait for a
//! restart; every verb of the contract may be. A server that was never reached is not waited for.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Method};
use serde_json::Value;
use tokio::time::Instant;

use super::token::Kept;
use super::{Exit, Failure, Profile, Result, Token};

/// The version of the published contract.
pub const BATCH_AI: &str = "2018-05-01";

/// The version that has what the retired service never had.
pub const OWN: &str = "2026-11-01-preview";

/// The version that resource groups are asked for with.
pub const RESOURCES: &str = "2019-10-01";

/// How long a request is sent again that was not taken.
const AGAIN_FOR: Duration = Duration::from_secs(60);

/// Longest time until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest time that an answer may take.
const ANSWER: Duration = Duration::from_secs(100);

/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Who is told of requests.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    /// 0: nothing; 1: each request, its status and time; 2: bodies too, without secrets.
    pub level: u8,
    /// Takes a line.
    pub write: fn(&str),
}

/// An answer that is no failure.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its document; null without one.
    pub body: Value,
}

impl Reply {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A client of one server for one caller.
pub struct Client {
    http: reqwest::Client,
    profile: Profile,
    kept: Kept,
    token: Mutex<Option<Token>>,
    reached: AtomicBool,
    trace: Trace,
}

impl Client {
    /// A client for a profile. Tokens are kept in `tokens`, where that is given.
    ///
    /// # Errors
    /// The address is none, or would send secrets in the open; the certificate authority is none.
    pub fn new(profile: Profile, tokens: Option<PathBuf>, trace: Trace) -> Result<Client> {
        check_address(&profile.endpoint)?;
        let authority = profile.ca.as_deref().filter(|_| profile.endpoint.starts_with("https:"));
        Ok(Client {
            http: http(authority, profile.endpoint.starts_with("http:"))?,
            kept: Kept::new(tokens, &profile),
            profile,
            token: Mutex::new(None),
            reached: AtomicBool::new(false),
            trace,
        })
    }

    /// Where it is and who asks.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(super) fn held_token(&self) -> &Mutex<Option<Token>> {
        &self.token
    }

    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    pub(super) fn reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// Forgets the token that is kept.
    pub fn forget_token(&self) {
        self.kept.forget();
    }

    /// GET.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn get(&self, path: &str, version: &str) -> Result<Reply> {
        self.send(Method::GET, &versioned(path, version), None, &[]).await
    }

    /// PUT.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn put(&self, path: &str, version: &str, body: Option<&Value>, headers: &[(&str, &str)]) -> Result<Reply> {
        self.send(Method::PUT, &versioned(path, version), body, headers).await
    }

    /// PATCH.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn patch(&self, path: &str, version: &str, body: &Value) -> Result<Reply> {
        self.send(Method::PATCH, &versioned(path, version), Some(body), &[]).await
    }

    /// POST.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn post(&self, path: &str, version: &str, body: Option<&Value>) -> Result<Reply> {
        self.send(Method::POST, &versioned(path, version), body, &[]).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn delete(&self, path: &str, version: &str) -> Result<Reply> {
        self.send(Method::DELETE, &versioned(path, version), None, &[]).await
    }

    /// A resource, or `None` where it does not exist.
    ///
    /// # Errors
    /// As of [`send`](Client::send), but for its absence.
    pub async fn find(&self, path: &str, version: &str) -> Result<Option<Value>> {
        match self.get(path, version).await {
            Ok(reply) => Ok(Some(reply.body)),
            Err(failure) if failure.is_absence() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Each page of a list, as it comes. `take` says whether it wants more.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn pages(&self, method: Method, path: &str, version: &str, mut take: impl FnMut(Vec<Value>) -> bool) -> Result<()> {
        let mut next = Some((method, versioned(path, version)));
        while let Some((method, path)) = next {
            let mut reply = self.send(method, &path, None, &[]).await?;
            let link = reply.body.get("nextLink").and_then(Value::as_str).filter(|link| !link.is_empty()).map(str::to_owned);
            let items = match reply.body.get_mut("value").map(Value::take) {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            let more = take(items);
            next = match link.filter(|_| more) {
                Some(link) => Some((Method::GET, self.own_path(&link)?)),
                None => None,
            };
        }
        Ok(())
    }

    /// All items of a list.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn list(&self, path: &str, version: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        self.pages(Method::GET, path, version, |items| {
            all.extend(items);
            true
        })
        .await?;
        Ok(all)
    }

    /// Sends a request to `path` (with its query) until it was taken, and answers what came.
    ///
    /// # Errors
    /// What the server refuses, with its words; `Away` where it is not reached.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>, headers: &[(&str, &str)]) -> Result<Reply> {
        let bytes = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.deliver(method, path, bytes, headers).await
    }

    /// The same with a body that is no document.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn deliver(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
        headers: &[(&str, &str)],
    ) -> Result<Reply> {
        let request_id = uuid::Uuid::new_v4().to_string();
        let until = Instant::now() + AGAIN_FOR;
        let mut pause = Duration::from_millis(100);
        let mut fresh = false;
        loop {
            let token = self.token(fresh).await?;
            let mut request = self
                .http
                .request(method.clone(), format!("{}{path}", self.profile.endpoint))
                .timeout(ANSWER)
                .header(AUTHORIZATION, bearer(&token)?)
                .header("x-ms-client-request-id", &request_id);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request = match &body {
                Some((media_type, bytes)) => request.header("content-type", *media_type).body(bytes.clone()),
                // Servers and proxies want to be told that nothing follows.
                None if method == Method::POST || method == Method::PUT => request.header("content-length", "0"),
                None => request,
            };
            let began = Instant::now();
            let answer = match request.send().await {
                Ok(answer) => answer,
                Err(error) => {
                    self.tell(1, || format!("{method} {path}: {error}"));
                    let may_wait = self.reached.load(Ordering::Relaxed) && Instant::now() + pause < until;
                    if !may_wait {
                        return Err(self.unreachable(&error));
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            };
            self.reached();
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let text = match answer.text().await {
                Ok(text) => text,
                Err(_) if Instant::now() + pause < until => continue,
                Err(error) => return Err(self.unreachable(&error)),
            };
            self.tell(1, || format!("{method} {path} -> {status} in {} ms", began.elapsed().as_millis()));
            let reply = Reply { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null) };
            self.tell(2, || format!("{:#}", without_secrets(reply.body.clone())));
            if status < 400 {
                return Ok(reply);
            }
            let failure = self.refused(&reply, &text);
            if status == 401 && !fresh && self.profile.client_secret.is_some() {
                fresh = true;
                continue;
            }
            if matches!(status, 429 | 502 | 503 | 504) {
                let asked =
                    reply.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
                let wait = asked.unwrap_or(pause);
                if Instant::now() + wait < until {
                    tokio::time::sleep(wait).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            }
            return Err(failure);
        }
    }

    /// An answer that goes on for as long as one listens.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn stream(&self, path: &str, version: &str, last: Option<&str>) -> Result<reqwest::Response> {
        let until = Instant::now() + AGAIN_FOR;
        let mut pause = Duration::from_millis(100);
        loop {
            let token = self.token(false).await?;
            let url = format!("{}{}", self.profile.endpoint, versioned(path, version));
            let request = self.http.get(url).header(AUTHORIZATION, bearer(&token)?);
            let request = last.iter().fold(request, |request, last| request.header("last-event-id", *last));
            match request.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) if !matches!(answer.status().as_u16(), 429 | 502 | 503 | 504) || Instant::now() + pause > until => {
                    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
                    let text = answer.text().await.unwrap_or_default();
                    let reply = Reply { status, headers, body: serde_json::from_str(&text).unwrap_or_default() };
                    return Err(self.refused(&reply, &text));
                }
                Err(error) if last.is_none() || Instant::now() + pause > until => return Err(self.unreachable(&error)),
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A file by its link: without a token, as the link says who may.
    ///
    /// # Errors
    /// What the server refuses; `Away` where it is not reached.
    pub async fn fetch(&self, url: &str, from: u64) -> Result<reqwest::Response> {
        let until = Instant::now() + AGAIN_FOR;
        let mut pause = Duration::from_millis(100);
        let http = match url.strip_prefix(&self.profile.endpoint).is_some_and(|rest| rest.starts_with('/')) {
            true => self.http.clone(),
            // A storage account's, which has a certificate that everybody knows.
            false => http(None, false)?,
        };
        loop {
            let request = http.get(url).header("range", format!("bytes={from}-"));
            match request.send().await {
                Ok(answer) if matches!(answer.status().as_u16(), 429 | 502 | 503 | 504) && Instant::now() + pause < until => {}
                Ok(answer) => {
                    self.tell(1, || {
                        format!("GET {} from {from} -> {}", url.split('?').next().unwrap_or_default(), answer.status())
                    });
                    return Ok(answer);
                }
                Err(_) if Instant::now() + pause < until => {}
                Err(error) => return Err(self.unreachable(&error)),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Path and query of an address that an answer gave, which must be of this server: the token goes nowhere else.
    pub(super) fn own_path(&self, url: &str) -> Result<String> {
        let path = match url.strip_prefix(&self.profile.endpoint) {
            Some(path) => Some(path),
            // The server may know itself by another name than the one that it is reached by.
            None => url.find("/subscriptions/").and_then(|at| url.get(at..)),
        };
        let path = path.filter(|path| path.starts_with('/')).map(str::to_owned);
        path.ok_or_else(|| Failure::new(Exit::Away, "ForeignAddress", "the server answered an address that is not its own"))
    }

    fn refused(&self, reply: &Reply, text: &str) -> Failure {
        let request_id = reply.header("x-ms-request-id").unwrap_or_default();
        let failure = Failure::of(reply.status, &reply.body, text, request_id);
        match (reply.status, failure.code.as_str()) {
            (401, _) => {
                let mut told = self.not_signed_in(&failure.message);
                told.code.clone_from(&failure.code);
                told.request_id.clone_from(&failure.request_id);
                told
            }
            (409, "MissingSubscriptionRegistration") => failure.or_try("batchyard provider register"),
            (403, _) => {
                failure.or_try("ask an owner for a role here: az role assignment create --role Contributor --scope SCOPE")
            }
            _ => failure,
        }
    }

    pub(super) fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut why = String::new();
        let mut source: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(cause) = source {
            why = cause.to_string();
            source = cause.source();
        }
        let endpoint = &self.profile.endpoint;
        let failure = Failure::new(
            Exit::Away,
            "ServerNotReached",
            format!("{endpoint} is not reached: {}", if why.is_empty() { error.to_string() } else { why.clone() }),
        );
        match why.contains("certificate") || why.contains("UnknownIssuer") {
            true => failure.or_try("name the server's authority: --ca-file FILE at login, or BATCHYARD_CA=FILE"),
            false => failure.or_try("see that the server runs: curl -sk ".to_owned() + endpoint + "/healthz"),
        }
    }

    fn tell(&self, level: u8, line: impl FnOnce() -> String) {
        if self.trace.level >= level {
            (self.trace.write)(&line());
        }
    }
}

fn bearer(token: &Token) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.token.0))
        .map_err(|_| Failure::new(Exit::Forbidden, "NotSignedIn", "the token holds characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A path with the version that it is asked for at.
pub(super) fn versioned(path: &str, version: &str) -> String {
    format!("{path}{}api-version={version}", if path.contains('?') { '&' } else { '?' })
}

fn http(authority: Option<&str>, plain: bool) -> Result<reqwest::Client> {
    // The client may be the first in this process that needs it, or not.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wrong = |error: reqwest::Error| Failure::local("the server's certificate authority cannot be used", error);
    let builder =
        reqwest::Client::builder().connect_timeout(CONNECT).user_agent(concat!("batchyard/", env!("CARGO_PKG_VERSION")));
    let builder = builder.redirect(reqwest::redirect::Policy::none());
    let builder = match authority {
        Some(pem) => builder.tls_certs_only(Certificate::from_pem_bundle(pem.as_bytes()).map_err(wrong)?),
        None if plain => builder.tls_certs_only([]),
        None => builder,
    };
    builder.build().map_err(wrong)
}

/// Secrets are sent over TLS, or to this machine.
fn check_address(endpoint: &str) -> Result<()> {
    let url = reqwest::Url::parse(endpoint)
        .map_err(|error| Failure::usage(format!("'{endpoint}' is no address of a server: {error}")))?;
    let is_here = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_here => Ok(()),
        "http" => Err(Failure::usage(format!("{endpoint} is plain http, which would show secrets to everybody on the way"))
            .or_try("use the server's https address, with --ca-file FILE where it has an authority of its own")),
        _ => Err(Failure::usage(format!("'{endpoint}' is no http or https address"))),
    }
}

/// A document without what must not be seen, for the trace.
fn without_secrets(mut document: Value) -> Value {
    const HIDDEN: [&str; 6] = ["accountKey", "adminUserPassword", "password", "access_token", "clientSecret", "downloadUrl"];
    fn hide(value: &mut Value) {
        match value {
            Value::Object(members) => members.iter_mut().for_each(|(name, member)| match HIDDEN.contains(&name.as_str()) {
                true => *member = Value::from("***"),
                false => hide(member),
            }),
            Value::Array(items) => items.iter_mut().for_each(hide),
            _ => {}
        }
    }
    hide(&mut document);
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_to_this_machine_or_over_tls() {
        for good in ["https://yard.example", "http://127.0.0.1:1", "http://localhost:2", "http://[::1]:3"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in ["http://yard.example", "http://10.0.0.1", "ftp://localhost", "yard.example", "", "http://localhost.example"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_trace_shows_no_secret() {
        let shown = without_secrets(serde_json::json!({"a": [{"accountKey": "canary"}], "downloadUrl": "canary"})).to_string();
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn versions_go_into_the_query() {
        assert_eq!(versioned("/a", "v"), "/a?api-version=v");
        assert_eq!(versioned("/a?b=c", "v"), "/a?b=c&api-version=v");
    }
}
