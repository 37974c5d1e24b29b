//! One server in memory: the real router, service and reconcilers over a database of its own, with a fake cloud and fake outputs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response};
use batchyard::auth::{Auth, Installation, Keys, NewPrincipal, Secret};
use batchyard::clock::{Clock, SystemClock, Timestamp};
use batchyard::domain::container::PullLimits;
use batchyard::domain::output::{OutputEntry, OutputFile, OutputPlace};
use batchyard::domain::principal::{Grant, Role};
use batchyard::driver::fake::{Fake, FakeSettings};
use batchyard::error::{Error, ErrorCode};
use batchyard::http::{self, Hosts, Rate, Rates, Throttle};
use batchyard::id::SubscriptionId;
use batchyard::reconcile::{self, Reconciler, SystemEntropy, TokioRuntime};
use batchyard::secret::SecretText;
use batchyard::service::{self, Limits, OutputStore, Service};
use batchyard::store::{Settings, Store};
use batchyard::task::Tasks;
use batchyard::telemetry::Telemetry;
use batchyard::wake::Wake;
use batchyard::wire::platform::Location;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tower::ServiceExt;
use uuid::Uuid;

use super::matching::Variables;
use crate::postgres::empty_database;

/// So many requests a caller may send: enough for every story but the one that asks for the limit.
const RATES: Rates = Rates {
    reads: Rate { burst: 300, per_second: 20 },
    writes: Rate { burst: 300, per_second: 20 },
    deletes: Rate { burst: 60, per_second: 1 },
};

/// The name under which the server is asked.
const HOST: &str = "batch.test:8443";

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, Vec<String>>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The machine's clock, and as much later as a step moved it.
#[derive(Default)]
struct MovedClock(Mutex<Duration>);

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now() + *self.0.lock().expect("not poisoned")
    }
}

/// A server and who may ask it.
pub(crate) struct World {
    router: axum::Router,
    pool: sqlx::PgPool,
    tasks: Tasks,
    clock: Arc<MovedClock>,
    tenant: Uuid,
    subscription: Uuid,
    other_subscription: Uuid,
    foreign_subscription: Uuid,
    secrets: BTreeMap<&'static str, (String, String)>,
    /// Object ids.
    principals: BTreeMap<&'static str, Uuid>,
    tokens: tokio::sync::Mutex<BTreeMap<String, String>>,
    _folder: Folder,
}

/// A folder that goes with the test.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl World {
    pub(crate) async fn new() -> World {
        World::with(Some(RATES)).await
    }

    /// The same, where callers may send as much as they like.
    pub(crate) async fn unthrottled() -> World {
        World::with(None).await
    }

    async fn with(rates: Option<Rates>) -> World {
        let url = empty_database().await;
        let store = Store::connect(&Settings { url: url.clone(), connections: 8, wait: Duration::from_secs(10) })
            .await
            .expect("connects");
        store.migrate().await.expect("migrates");
        let pool = sqlx::PgPool::connect(&url).await.expect("connects");
        let folder = Folder(std::env::temp_dir().join(format!("batchyard-cases-{}", Uuid::new_v4())));
        std::fs::create_dir_all(&folder.0).expect("a folder");
        let keys = Keys::load_or_create(folder.0.join("keys")).expect("keys");
        let clock = Arc::new(MovedClock::default());
        let installation = Installation::ensure(&store, &keys, &folder.0, clock.as_ref()).await.expect("installs");
        let auth = Auth::new(batchyard::auth::Parts {
            store: store.clone(),
            clock: clock.clone(),
            keys: keys.clone(),
            tenant: installation.tenant,
            hosts: vec!["batch.test".into()],
        });

        let (other, foreign) = (Uuid::new_v4(), Uuid::new_v4());
        for (id, tenant, name) in [(other, installation.tenant.0, "Other"), (foreign, Uuid::new_v4(), "Foreign")] {
            sqlx::query(
                "insert into batchyard.subscription (id, tenant_id, display_name, created_at) values ($1, $2, $3, now())",
            )
            .bind(id)
            .bind(tenant)
            .bind(name)
            .execute(&pool)
            .await
            .expect("inserts");
        }
        let owner_secret = installation.client_secret.clone().expect("a fresh secret").0.clone();
        let mut secrets = BTreeMap::from([("owner", (installation.client_id.clone(), owner_secret))]);
        let mut principals = BTreeMap::from([("owner", installation.owner.0)]);
        let scope = |id: SubscriptionId| format!("/subscriptions/{id}");
        for (who, grants) in [
            ("reader", vec![(Role::Reader, scope(installation.subscription))]),
            ("contributor", vec![(Role::Contributor, scope(installation.subscription))]),
            ("other", vec![(Role::Owner, scope(SubscriptionId(other)))]),
            ("grouped", vec![(Role::Owner, format!("{}/resourcegroups/their-rg", scope(installation.subscription)))]),
            ("nobody", vec![]),
        ] {
            let secret = format!("{who}-{}", Uuid::new_v4());
            let new = NewPrincipal {
                tenant: installation.tenant,
                client_id: Some(who.to_owned()),
                display_name: who.to_owned(),
                secret: Secret::Chosen(SecretText(secret.clone())),
                grants: grants.into_iter().map(|(role, scope)| Grant { role, scope }).collect(),
            };
            let (principal, _) = auth.create_principal(new).await.expect("a principal");
            principals.insert(who, principal.id.0);
            secrets.insert(who, (who.to_owned(), secret));
        }

        let (tasks, wake) = (Tasks::new(), Wake::default());
        let fake = Arc::new(Fake::new(clock.clone(), FakeSettings::default()));
        let service = Service::new(service::Parts {
            store: store.clone(),
            clock: clock.clone(),
            wake: wake.clone(),
            sealer: keys.sealer(),
            signer: keys.signer(),
            output: Arc::new(FakeOutputs),
            sizes: FakeSettings::default().sizes,
            shares: vec!["shared".into()],
            file_servers: false,
            storages: Default::default(),
            mount_deadline: Duration::from_secs(60),
            vaults: Arc::new(batchyard::service::NoVaults),
            limits: Limits {
                clusters: 3,
                file_servers: 2,
                cores: Default::default(),
                stop_grace: Duration::from_secs(1),
                pull: PullLimits::default(),
                record_for: Duration::from_secs(90 * 86_400),
                samples_for: Duration::from_secs(14 * 86_400),
            },
        });
        service.run(&tasks);
        auth.run(&wake, &tasks);
        let reconciler = Reconciler::new(reconcile::Parts {
            rows: Arc::new(store.rows(keys.sealer())),
            driver: fake,
            clock: clock.clone(),
            wake,
            limits: reconcile::Limits::default(),
            prefix: "case".into(),
            holder: Uuid::new_v4(),
            entropy: Arc::new(SystemEntropy),
            runtime: Arc::new(TokioRuntime::new(tasks.clone())),
        });
        let shutdown = tasks.shutdown();
        tasks.spawn("reconcile", async move { reconciler.run(shutdown).await });

        let router = http::router(http::Parts {
            telemetry: Telemetry::of_process().expect("counts"),
            tracer: Default::default(),
            service,
            auth,
            signer: keys.signer(),
            clock: clock.clone(),
            hosts: Hosts::new(["batch.test"]),
            public_url: None,
            throttle: Throttle::new(rates),
            locations: ["East US", "North Europe"].map(Location::new).into(),
        });
        World {
            router,
            pool,
            tasks,
            clock,
            tenant: installation.tenant.0,
            subscription: installation.subscription.0,
            other_subscription: other,
            foreign_subscription: foreign,
            secrets,
            principals,
            tokens: tokio::sync::Mutex::default(),
            _folder: folder,
        }
    }

    /// What steps may name: the installation, and a workspace's path in a group in mixed case.
    pub(crate) fn variables(&self) -> Variables {
        let subscription = format!("/subscriptions/{}", self.subscription);
        let provider = "providers/Microsoft.BatchAI";
        let secret = |who: &str| self.secrets[who].1.clone();
        let mut variables: Variables = self.principals.iter().map(|(who, id)| (format!("{who}_oid"), id.to_string())).collect();
        variables.extend(
            [
                ("base", format!("http://{HOST}")),
                ("tenant", self.tenant.to_string()),
                ("subscription", self.subscription.to_string()),
                ("other_subscription", self.other_subscription.to_string()),
                ("foreign_subscription", self.foreign_subscription.to_string()),
                ("S", subscription.clone()),
                ("RG", format!("{subscription}/resourceGroups/Case-RG")),
                ("WS", format!("{subscription}/resourceGroups/Case-RG/{provider}/workspaces/Vision")),
                // As ids come back: the group's name in lower case.
                ("rg", format!("{subscription}/resourceGroups/case-rg")),
                ("ws", format!("{subscription}/resourceGroups/case-rg/{provider}/workspaces/Vision")),
                ("P", format!("/{provider}")),
                ("owner_id", self.secrets["owner"].0.clone()),
                ("owner_secret", secret("owner")),
                ("v", "api-version=2018-05-01".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        variables
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.clock.0.lock().expect("not poisoned") += by;
    }

    pub(crate) async fn run(&self, sql: &Value) {
        let sql = sql.as_str().expect("a text").to_owned();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.expect("the SQL of a step runs");
    }

    /// Asks all parts to stop, as the end of the process would.
    pub(crate) async fn stop_parts(&self) -> bool {
        self.tasks.stop(Duration::from_secs(5)).await
    }

    pub(crate) async fn stop(self) {
        self.tasks.stop(Duration::from_secs(5)).await;
        self.pool.close().await;
    }

    /// Sends what a step asks for: `method`, `url` (a path, or an absolute URL of an answer), `as`, `headers`, and `body` (JSON),
    /// `text` or `form`.
    pub(crate) async fn send(&self, step: &Value) -> Answer {
        read(self.open(step).await).await
    }

    /// The same, with an answer whose body is still to be read.
    pub(crate) async fn open(&self, step: &Value) -> Response<Body> {
        let method: Method = step["method"].as_str().unwrap_or("GET").parse().expect("a method");
        let url = step["url"].as_str().expect("a URL");
        let path = url.strip_prefix(&format!("http://{HOST}")).unwrap_or(url);
        let mut request = Request::builder().method(method).uri(path).header("host", HOST);
        let who = step["as"].as_str().unwrap_or("owner");
        if who != "anonymous" {
            request = request.header("authorization", format!("Bearer {}", self.token(who).await));
        }
        let body = if let Some(form) = step["form"].as_object() {
            request = request.header("content-type", "application/x-www-form-urlencoded");
            let pairs: Vec<String> =
                form.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
            Body::from(pairs.join("&"))
        } else if let Some(text) = step["text"].as_str() {
            Body::from(text.to_owned())
        } else if !step["body"].is_null() {
            if step["headers"]["content-type"].is_null() {
                request = request.header("content-type", "application/json; charset=utf-8");
            }
            Body::from(step["body"].to_string())
        } else {
            Body::empty()
        };
        for (name, value) in step["headers"].as_object().into_iter().flatten() {
            if name == "host" {
                request.headers_mut().expect("headers").remove("host");
            }
            request = request.header(name, value.as_str().expect("a text"));
        }
        self.router.clone().oneshot(request.body(body).expect("a request")).await.expect("infallible")
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        read(self.router.clone().oneshot(request).await.expect("infallible")).await
    }

    /// Sends a request as it is.
    pub(crate) async fn ask(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.expect("infallible")
    }

    pub(crate) async fn token(&self, who: &str) -> String {
        let mut tokens = self.tokens.lock().await;
        if let Some(token) = tokens.get(who) {
            return token.clone();
        }
        let (id, secret) = self.secrets.get(who).unwrap_or_else(|| panic!("nobody is called {who}"));
        let form = json!({"grant_type": "client_credentials", "client_id": id, "client_secret": secret, "scope": format!("http://{HOST}/.default")});
        let request = Request::builder()
            .method("POST")
            .uri(format!("/{}/oauth2/v2.0/token", self.tenant))
            .header("host", HOST)
            .header("content-type", "application/x-www-form-urlencoded");
        let pairs: Vec<String> =
            form.as_object().expect("an object").iter().map(|(n, v)| format!("{n}={}", v.as_str().unwrap_or_default())).collect();
        let answer = self.answer(request.body(Body::from(pairs.join("&"))).expect("a request")).await;
        let token = answer.json().and_then(|body| body["access_token"].as_str().map(str::to_owned));
        let token = token.unwrap_or_else(|| panic!("no token for {who}: {}", answer.text()));
        tokens.insert(who.to_owned(), token.clone());
        token
    }
}

async fn read(response: Response<Body>) -> Answer {
    let (head, body) = response.into_parts();
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &head.headers {
        headers.entry(name.to_string()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let body = body.collect().await.expect("a whole body").to_bytes();
    Answer { status: head.status.as_u16(), headers, body }
}

/// Outputs that are the same for every job and directory.
struct FakeOutputs;

const FILES: [(&str, &str); 4] =
    [("execution.log", "begun\nended\n"), ("stdout.txt", "hi\n"), ("stderr.txt", ""), ("50% of it.txt", "half")];

fn modified_at() -> Timestamp {
    time::macros::datetime!(2026-01-02 03:04:05 UTC)
}

#[async_trait::async_trait]
impl OutputStore for FakeOutputs {
    async fn keep(&self, _: &str, _: Bytes) -> Result<(), Error> {
        Ok(())
    }

    async fn discard(&self, _: Vec<String>) {}

    fn link(&self, _: &OutputPlace, _: &str, _: Timestamp) -> Option<String> {
        None
    }

    async fn list(&self, _: &OutputPlace, directory: &str) -> Result<Vec<OutputEntry>, Error> {
        if !directory.is_empty() {
            return Ok(Vec::new());
        }
        let mut entries: Vec<OutputEntry> = FILES
            .iter()
            .map(|(name, text)| OutputEntry {
                name: (*name).to_owned(),
                file: Some(OutputFile { size: text.len() as u64, modified_at: modified_at() }),
            })
            .collect();
        entries.push(OutputEntry { name: "checkpoints".into(), file: None });
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    async fn stat(&self, _: &OutputPlace, path: &str) -> Result<OutputFile, Error> {
        let found = FILES.iter().find(|(name, _)| *name == path);
        let (_, text) = found.ok_or_else(|| Error::new(ErrorCode::NotFound, "There is no such file."))?;
        Ok(OutputFile { size: text.len() as u64, modified_at: modified_at() })
    }

    async fn read(
        &self,
        _: &OutputPlace,
        path: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let text = FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| *text).unwrap_or_default();
        let part = text.as_bytes()[range.start as usize..range.end as usize].to_vec();
        Ok(futures_util::stream::iter([Ok(Bytes::from(part))]).boxed())
    }
}
