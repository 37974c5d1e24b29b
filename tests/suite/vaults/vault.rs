//! Stands in for Azure Key Vault: its tokens, and its answer to "get secret", with the failures that a far end has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::json;

/// A vault on loopback. Ends with the test's runtime.
#[derive(Clone)]
pub(super) struct Vault {
    pub(super) url: String,
    /// What lets `yard` in.
    pub(super) client_secret: String,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    secrets: BTreeMap<String, String>,
    tokens: Vec<String>,
    asked: Vec<String>,
}

impl Vault {
    pub(super) async fn start() -> Vault {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let client_secret = format!("client-{}", uuid::Uuid::new_v4());
        let vault = Vault { url, client_secret, held: Arc::default() };
        let app = Router::new().fallback(answer).with_state(vault.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        vault
    }

    pub(super) fn keep(&self, name: &str, value: &str) {
        self.held.lock().expect("whole").secrets.insert(name.to_owned(), value.to_owned());
    }

    pub(super) fn forget_tokens(&self) {
        self.held.lock().expect("whole").tokens.clear();
    }

    /// Every request, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.held.lock().expect("whole").asked.clone()
    }
}

fn reply(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    Response::builder().status(status).header("location", "/moved-to").body(body.into()).expect("well-formed")
}

async fn answer(State(vault): State<Vault>, request: Request) -> Response<Body> {
    let line = format!("{} {}", request.method(), request.uri());
    vault.held.lock().expect("whole").asked.push(line.clone());
    let bearer = request.headers().get("authorization").and_then(|value| value.to_str().ok().map(str::to_owned));
    if line == "POST /token" {
        let body = axum::body::to_bytes(request.into_body(), 4096).await.expect("short");
        let form = String::from_utf8_lossy(&body).into_owned();
        let is_yard = form.contains("grant_type=client_credentials") && form.contains("client_id=yard");
        if !is_yard
            || !form.contains(&format!("client_secret={}", vault.client_secret))
            || !form.contains("scope=https%3A%2F%2Fvault.azure.net")
        {
            return reply(StatusCode::UNAUTHORIZED, form);
        }
        let token = uuid::Uuid::new_v4().to_string();
        vault.held.lock().expect("whole").tokens.push(format!("Bearer {token}"));
        return reply(StatusCode::OK, json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": token }).to_string());
    }
    let name = line.strip_prefix("GET /secrets/").and_then(|rest| rest.strip_suffix("?api-version=7.4"));
    let Some(name) = name else { return reply(StatusCode::BAD_REQUEST, line) };
    let found = {
        let held = vault.held.lock().expect("whole");
        if !bearer.is_some_and(|bearer| held.tokens.contains(&bearer)) {
            return reply(StatusCode::UNAUTHORIZED, "");
        }
        held.secrets.get(name).cloned()
    };
    match (name, found) {
        (_, Some(value)) => {
            let id = format!("https://team.vault.azure.net/secrets/{name}");
            reply(StatusCode::OK, json!({ "value": value, "id": id, "attributes": { "enabled": true } }).to_string())
        }
        ("forbidden", _) => reply(StatusCode::FORBIDDEN, json!({ "error": { "code": "Forbidden" } }).to_string()),
        ("odd", _) => reply(StatusCode::OK, "<html>"),
        ("endless", _) => reply(StatusCode::OK, "x".repeat(4 << 20)),
        ("broken", _) => reply(StatusCode::INTERNAL_SERVER_ERROR, ""),
        ("moved", _) => reply(StatusCode::FOUND, ""),
        ("hanging", _) => std::future::pending().await,
        _ => reply(StatusCode::NOT_FOUND, json!({ "error": { "code": "SecretNotFound" } }).to_string()),
    }
}
