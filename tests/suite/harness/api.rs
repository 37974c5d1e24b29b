//! A small client of the public API: what curl would send, and what it would see.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use crate::harness::wait::until;

/// The version that Batch AI requests name.
pub const BATCH_AI: &str = "2018-05-01";

/// The version that requests about resource groups name.
pub const RESOURCES: &str = "2019-10-01";

/// A client with a token.
#[derive(Clone, Debug)]
pub struct Api {
    http: Client,
    base: String,
    subscription: String,
    token: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; null where there is none.
    pub body: Value,
    /// Its body as it came.
    pub text: String,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The answer, if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// The code of an error answer.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

impl Api {
    /// A client of the server at `base`.
    pub fn new(base: &str, subscription: &str, token: &str) -> Api {
        Api {
            http: client(),
            base: base.trim_end_matches('/').to_owned(),
            subscription: subscription.to_owned(),
            token: Some(token.to_owned()),
        }
    }

    /// The same client without a token.
    pub fn anonymous(&self) -> Api {
        Api { token: None, ..self.clone() }
    }

    /// `/subscriptions/{id}`.
    pub fn scope(&self) -> String {
        format!("/subscriptions/{}", self.subscription)
    }

    /// Where the server is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends one request. `path` is below the subscription, or absolute where it begins with `/` or `http`; the version is added
    /// where it has none.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.try_send(method, path, body).await.expect("the server answers")
    }

    /// The same, where the server may be away.
    pub async fn try_send(&self, method: Method, path: &str, body: Option<&Value>) -> reqwest::Result<Answer> {
        let mut request = self.http.request(method, self.url(path));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await?;
        Ok(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text })
    }

    fn url(&self, path: &str) -> String {
        let url = match path {
            whole if whole.starts_with("http") => whole.to_owned(),
            absolute if absolute.starts_with('/') => format!("{}{absolute}", self.base),
            below => format!("{}{}/{below}", self.base, self.scope()),
        };
        if url.contains("api-version=") || !url.contains("/subscriptions") {
            return url;
        }
        let version = if url.contains("Microsoft.BatchAI") { BATCH_AI } else { RESOURCES };
        format!("{url}{}api-version={version}", if url.contains('?') { '&' } else { '?' })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// PATCH.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// POST without a body.
    pub async fn post(&self, path: &str) -> Answer {
        self.send(Method::POST, path, None).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Follows an accepted request until its operation has ended, and answers the last document.
    pub async fn finish(&self, accepted: Answer) -> Value {
        if accepted.status != StatusCode::ACCEPTED {
            return accepted.body;
        }
        let batch_ai = accepted.header("azure-asyncoperation").map(str::to_owned);
        let Some(url) = batch_ai.or_else(|| accepted.header("location").map(str::to_owned)) else {
            panic!("an accepted request says where its operation is: {:?}", accepted.headers);
        };
        let ended = until(
            "the operation ends",
            || self.get(&url),
            |answer| match answer.status.as_u16() {
                202 => false,
                200 => answer.body["status"].as_str() != Some("InProgress"),
                _ => true,
            },
        )
        .await;
        assert!(ended.status.is_success(), "{ended:?}");
        ended.body
    }

    /// A plain request without token or version, as downloads are made.
    pub async fn fetch(&self, method: Method, url: &str, range: Option<&str>) -> Fetched {
        let mut request = self.http.request(method, url);
        if let Some(range) = range {
            request = request.header("range", HeaderValue::from_str(range).expect("a header"));
        }
        let answer = request.send().await.expect("the server answers");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Fetched { status, headers, bytes: answer.bytes().await.expect("a whole body").to_vec() }
    }
}

/// What a download gave.
#[derive(Debug)]
pub struct Fetched {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Fetched {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

fn client() -> Client {
    // Another thread may have installed it first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().tls_certs_only([]).timeout(Duration::from_secs(60)).no_proxy().build().expect("a client")
}
