//! The product under measurement: the real binary with its private Postgres, driven over its public API alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::load::Connection;

/// Longest wait for anything that is not itself measured.
const PATIENCE: Duration = Duration::from_secs(120);

/// Time between two looks at something that tells nobody when it changes.
const LOOK: Duration = Duration::from_millis(2);

/// A running `batchyard up`.
pub struct Product {
    child: Child,
    folder: PathBuf,
    /// Where the API listens.
    pub address: SocketAddr,
    token: String,
    subscription: String,
    environment: BTreeMap<String, String>,
}

/// Settings of the measured server: limits of requests that are far away.
pub const THROTTLE: &str = "[throttle]\nreads = 1000000000\nwrites = 1000000000\ndeletes = 1000000000\n";

impl Product {
    /// Starts it on a data folder, which may hold an earlier run's state, and answers once its API does.
    ///
    /// # Errors
    /// It does not start in time.
    pub async fn start(folder: &Path) -> Result<Product> {
        Product::start_with(folder, "").await
    }

    /// The same with more settings.
    ///
    /// # Errors
    /// It does not start in time.
    pub async fn start_with(folder: &Path, settings: &str) -> Result<Product> {
        let config = folder.join("batchyard.toml");
        std::fs::write(&config, format!("{THROTTLE}{settings}"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchyard"));
        command.args(["up", "--port", "0", "--tls-port", "0", "--config"]).arg(&config);
        command.arg("--data").arg(folder.join("data")).arg("--share").arg(folder.join("share"));
        Product::spawn(folder, "", command).await
    }

    /// Runs a server's command, which is yet to be told where its env file goes; `name` keeps its files from those of others in the folder.
    ///
    /// # Errors
    /// It does not start in time.
    pub async fn spawn(folder: &Path, name: &str, mut command: Command) -> Result<Product> {
        let (env_file, log_file) = (folder.join(format!("env{name}")), folder.join(format!("log{name}")));
        let _ = std::fs::remove_file(&env_file);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_file)?;
        command.arg("--env-file").arg(&env_file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().context("starting batchyard")?;
        let mut product = Product {
            child,
            folder: folder.to_owned(),
            address: ([127, 0, 0, 1], 0).into(),
            token: String::new(),
            subscription: String::new(),
            environment: BTreeMap::new(),
        };
        let began = Instant::now();
        while !env_file.exists() {
            ensure!(product.child.try_wait()?.is_none(), "batchyard ended: see {}", log_file.display());
            ensure!(began.elapsed() < PATIENCE, "batchyard does not come up: see {}", log_file.display());
            tokio::time::sleep(LOOK).await;
        }
        product.environment = assignments(&std::fs::read_to_string(&env_file)?);
        product.token = product.value("BATCHYARD_TOKEN")?.to_owned();
        product.subscription = product.value("BATCHYARD_SUBSCRIPTION")?.to_owned();
        let endpoint = product.value("BATCHYARD_ENDPOINT")?;
        let address =
            endpoint.strip_prefix("http://").context("an http endpoint")?.trim_end_matches('/').replace("localhost", "127.0.0.1");
        product.address = address.parse().with_context(|| format!("the endpoint {endpoint}"))?;
        Ok(product)
    }

    /// One of the assignments of its env file.
    ///
    /// # Errors
    /// It has none of that name.
    pub fn value(&self, name: &str) -> Result<&str> {
        self.environment.get(name).map(String::as_str).with_context(|| format!("{name} is not in the env file"))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first process of its private Postgres.
    ///
    /// # Errors
    /// It has none.
    pub fn postmaster(&self) -> Result<u32> {
        Ok(std::fs::read_to_string(self.postgres_file())?.lines().next().context("a pid")?.trim().parse()?)
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// It is gone already.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn stop(mut self) -> Result<()> {
        signal(self.child.id(), rustix::process::Signal::TERM)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(began.elapsed() < PATIENCE, "batchyard does not stop");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The URL of another database on its Postgres, made here under `name`: what is measured beside it is so under the very same settings.
    ///
    /// # Errors
    /// Its Postgres cannot be reached.
    pub async fn database(&self, name: &str) -> Result<String> {
        use sqlx::Connection as _;
        let socket = self.folder.join("data/run/db").display().to_string();
        let host = percent_encoding::utf8_percent_encode(&socket, percent_encoding::NON_ALPHANUMERIC).to_string();
        let url = |database: &str| format!("postgres://postgres@localhost/{database}?host={host}");
        let mut admin = sqlx::PgConnection::connect(&url("postgres")).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create database {name}"))).execute(&mut admin).await?;
        admin.close().await?;
        Ok(url(name))
    }

    fn postgres_file(&self) -> PathBuf {
        self.folder.join("data/postgres/postmaster.pid")
    }

    /// A request to a path below the subscription.
    pub fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Request<Full<Bytes>> {
        template(&self.address, &self.subscription, &self.token, method, path, body)
    }

    /// A GET of what our own version alone has, below the subscription.
    pub fn own_request(&self, path: &str) -> Request<Full<Bytes>> {
        let uri = format!("/subscriptions/{}/{path}?api-version=2026-11-01-preview", self.subscription);
        signed(&self.address, &self.token, Method::GET, uri, Bytes::new())
    }

    /// A GET of its counts.
    pub fn metrics_request(&self) -> Request<Full<Bytes>> {
        signed(&self.address, &self.token, Method::GET, "/metrics".to_owned(), Bytes::new())
    }

    /// What makes requests after this borrow has ended.
    pub fn requester(&self) -> impl Fn(Method, &str, Option<&Value>) -> Request<Full<Bytes>> + Send + Sync + 'static {
        let (address, subscription, token) = (self.address, self.subscription.clone(), self.token.clone());
        move |method, path, body| template(&address, &subscription, &token, method, path, body)
    }

    /// Asks, and takes nothing but a success.
    ///
    /// # Errors
    /// Another answer, or none.
    pub async fn ask(&self, on: &mut Connection, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, answer) = on.ask(self.request(method.clone(), path, body)).await?;
        ensure!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        if answer.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&answer)?) }
    }

    /// Asks until `done` says so.
    ///
    /// # Errors
    /// It does not within two minutes.
    pub async fn wait_for(&self, on: &mut Connection, path: &str, done: impl Fn(&Value) -> bool) -> Result<Value> {
        let began = Instant::now();
        loop {
            let answer = self.ask(on, Method::GET, path, None).await?;
            if done(&answer) {
                return Ok(answer);
            }
            ensure!(began.elapsed() < PATIENCE, "{path} does not become as expected: {answer}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Makes group, workspace, experiment and a cluster of `nodes` nodes, and waits until all of them are idle.
    ///
    /// # Errors
    /// Any of it fails.
    pub async fn furnish(&self, nodes: u32) -> Result<Site> {
        let mut on = Connection::open(self.address).await?;
        let site = Site { nodes };
        self.ask(&mut on, Method::PUT, &site.group(), Some(&json!({ "location": "eastus" }))).await?;
        self.ask(&mut on, Method::PUT, &site.workspace(), Some(&json!({ "location": "eastus" }))).await?;
        self.ask(&mut on, Method::PUT, &site.experiment(), None).await?;
        self.ask(&mut on, Method::PUT, &site.cluster(), Some(&self.cluster(nodes))).await?;
        self.wait_for(&mut on, &site.cluster(), |c| c["properties"]["nodeStateCounts"]["idleNodeCount"] == nodes).await?;
        Ok(site)
    }

    /// Deletes a site and waits until it is gone, its nodes with it.
    ///
    /// # Errors
    /// It does not go in time.
    pub async fn clear(&self, site: Site) -> Result<()> {
        let mut on = Connection::open(self.address).await?;
        self.ask(&mut on, Method::DELETE, &site.group(), None).await?;
        let began = Instant::now();
        loop {
            let (status, _) = on.ask(self.request(Method::GET, &site.group(), None)).await?;
            if status == StatusCode::NOT_FOUND {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "the group does not go");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The body of a cluster of `nodes` nodes.
    pub fn cluster(&self, nodes: u32) -> Value {
        json!({ "properties": {
            "vmSize": "STANDARD_D1",
            "scaleSettings": { "manual": { "targetNodeCount": nodes } },
            "userAccountSettings": { "adminUserName": "bench", "adminUserPassword": "not a secret: nobody listens" } } })
    }

    /// The id of what is at a path below the subscription.
    pub fn id(&self, path: &str) -> String {
        format!("/subscriptions/{}/{path}", self.subscription)
    }

    /// The body of a job that runs `command`.
    pub fn job(&self, site: &Site, command: &str) -> Value {
        json!({ "properties": {
            "cluster": { "id": format!("/subscriptions/{}/{}", self.subscription, site.cluster()) },
            "nodeCount": 1,
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/shared",
            "customToolkitSettings": { "commandLine": command } } })
    }

    /// Memory of the server, of its Postgres and of one agent. Unit: MiB, shared pages counted in proportion.
    ///
    /// # Errors
    /// The processes cannot be seen.
    pub fn memory(&self) -> Result<(f64, f64, Option<f64>)> {
        let server = proportional_mib(self.child.id())?;
        let postmaster = self.postmaster()?;
        let mut postgres = proportional_mib(postmaster)?;
        let mut agent = None;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
            if parent == Some(postmaster) {
                postgres += proportional_mib(pid).unwrap_or(0.0);
            }
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if agent.is_none() && command.split(|b| *b == 0).nth(1) == Some(b"agent") {
                agent = proportional_mib(pid).ok();
            }
        }
        Ok((server, postgres, agent))
    }

    /// The host's folder that jobs see as `$AZ_BATCHAI_MOUNT_ROOT/shared`.
    pub fn share(&self) -> PathBuf {
        self.folder.join("share")
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = signal(self.child.id(), rustix::process::Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// A cluster and an experiment in a group of their own, named after the number of nodes.
#[derive(Clone, Copy)]
pub struct Site {
    nodes: u32,
}

impl Site {
    fn group(self) -> String {
        format!("resourceGroups/bench{}", self.nodes)
    }

    fn workspace(self) -> String {
        format!("{}/providers/Microsoft.BatchAI/workspaces/w", self.group())
    }

    /// Its cluster.
    pub fn cluster(self) -> String {
        format!("{}/clusters/c", self.workspace())
    }

    /// Its file server.
    pub fn file_server(self) -> String {
        format!("{}/fileServers/f", self.workspace())
    }

    /// The stream of its workspace's changes.
    pub fn events(self) -> String {
        format!("{}/events", self.workspace())
    }

    fn experiment(self) -> String {
        format!("{}/experiments/e", self.workspace())
    }

    /// The list of its jobs.
    pub fn jobs(self) -> String {
        format!("{}/jobs", self.experiment())
    }
}

fn template(
    address: &SocketAddr,
    subscription: &str,
    token: &str,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Request<Full<Bytes>> {
    let version = if path.contains("providers") { "2018-05-01" } else { "2019-10-01" };
    let body = body.map_or_else(Bytes::new, |value| value.to_string().into());
    let uri = format!("/subscriptions/{subscription}/{path}?api-version={version}");
    signed(address, token, method, uri, body)
}

fn signed(address: &SocketAddr, token: &str, method: Method, uri: String, body: Bytes) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header("host", address.to_string())
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::new(body))
        .expect("a request")
}

fn signal(pid: u32, signal: rustix::process::Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("a pid")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

/// Memory of a process. Unit: MiB, shared pages counted in proportion.
///
/// # Errors
/// It cannot be seen.
pub fn proportional_mib(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .context("a proportional set size")?;
    Ok(kib / 1024.0)
}

/// Shell assignments, with or without single quotes around the value.
fn assignments(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.trim().trim_start_matches("export ").split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect()
}
