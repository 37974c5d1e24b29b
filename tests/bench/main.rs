//! The benchmark: the product beside bounds measured in the same run, on the same Postgres.
//!
//! In: `--json` for one object a line, `--runs N`, `--seconds S`, `--jobs N` and `--fleet-jobs N` to make it shorter, and names of stages to run
//! them alone.
//! Out: the median of several runs of each measurement. It is never a test: what it prints depends on the machine and its other work, so
//! that only ratios of one run say something.

#![allow(missing_docs, clippy::disallowed_methods, clippy::expect_used, clippy::indexing_slicing, unreachable_pub)]

mod agents;
mod bound;
mod files;
mod fleet;
mod load;
mod machines;
mod plane;
mod product;
mod scale;
mod watch;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};

use bound::Bare;
use load::{Connection, Measured, Until, load, median, percentile, repeat};
use product::{Product, Site};

const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// Nodes of the throughput stage: one job a node.
const NODES: u32 = 64;

/// Clients that submit in the throughput stage.
const CLIENTS: usize = 16;

#[derive(Parser)]
struct Arguments {
    /// Prints one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Runs of each measurement; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Length of one run of a reading stage.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Most jobs of the stages that grow: 1,000 and this many.
    #[arg(long, default_value_t = 10_000)]
    jobs: u64,
    /// Nodes of the stage with simulated ones.
    #[arg(long, default_value_t = 1_000)]
    fleet_nodes: u32,
    /// Jobs that are submitted to them.
    #[arg(long, default_value_t = 100_000)]
    fleet_jobs: u64,
    /// Agents of the stages `scale` and `failover`.
    #[arg(long, default_value_t = 2_000)]
    agents: u32,
    /// Jobs that go through them.
    #[arg(long, default_value_t = 20_000)]
    agent_jobs: u64,
    /// How long each takes on its node. Unit: seconds.
    #[arg(long, default_value_t = 5)]
    agent_job_seconds: u64,
    /// Stages to run, all of these where none is named: read, submit, latency, nodes, autoscale, files, watch, help, fleet, noop, memory.
    /// Named alone: scale, failover. `watch` prints lines of {stage, of, rps, watched_rps, cost_percent}: answers a second without and with
    /// `/metrics` scraped each second and 16 open streams of events, and what of 100 that takes. `help` prints {stage, p50_ms, p99_ms}.
    stages: Vec<String>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What other processes of a stage are told on their command line.
#[derive(Parser)]
struct Served {
    folder: std::path::PathBuf,
    #[command(flatten)]
    options: batchyard::app::Options,
}

fn main() -> Result<()> {
    let mut raw = std::env::args().skip(1);
    match raw.next().as_deref() {
        Some("bound-server") => {
            let (database, document) = raw.next().zip(raw.next()).context("a database and a document")?;
            return tokio::runtime::Runtime::new()?.block_on(bound::serve(&database, &document));
        }
        Some("scale-server") => {
            let Served { folder, options } = Served::parse_from(std::env::args().skip(1));
            return plane::serve(&folder, &options);
        }
        Some("scale-agents") => {
            let (folder, job) = raw.next().zip(raw.next()).context("a folder and a time")?;
            return plane::play(folder.as_ref(), Duration::from_millis(job.parse()?));
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let arguments = Arguments::parse();
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("batchyard-bench").tempdir()?;
    let wants = |stage: &str| arguments.stages.is_empty() || arguments.stages.iter().any(|s| s == stage);
    let report = Report { json: arguments.json };
    let alone = |stage: &str| arguments.stages.iter().any(|s| s == stage);
    if alone("scale") || alone("failover") {
        let size = plane::Size {
            agents: arguments.agents,
            jobs: arguments.agent_jobs,
            job: Duration::from_secs(arguments.agent_job_seconds),
            watched: Duration::from_secs(20 * arguments.seconds),
        };
        if alone("scale") {
            plane::scale(&report, folder.path(), size).await?;
        }
        if alone("failover") {
            plane::failover(&report, folder.path(), size).await?;
        }
        return Ok(());
    }
    let product = Product::start(folder.path()).await?;
    if wants("read") || wants("submit") {
        let site = product.furnish(0).await?;
        let mut on = Connection::open(product.address).await?;
        let job = product.job(&site, "true");
        product.ask(&mut on, Method::PUT, &format!("{}/sample", site.jobs()), Some(&job)).await?;
        let job = product.ask(&mut on, Method::GET, &format!("{}/sample", site.jobs()), None).await?;
        let bare = Bare::start(&product.database("bound").await?, &job)?;
        if wants("submit") {
            submit(arguments, &report, &product, &bare, site).await?;
        }
        if wants("read") {
            read(arguments, &report, &product, &bare).await?;
        }
        product.clear(site).await?;
    }
    if wants("latency") {
        latency(&report, &product, arguments.runs).await?;
    }
    if wants("nodes") {
        scale::nodes(&report, &product, arguments.runs).await?;
    }
    if wants("autoscale") {
        scale::autoscale(&report, &product, arguments.runs).await?;
    }
    if wants("files") {
        files::measure(&report, &product, arguments.runs).await?;
    }
    if wants("watch") {
        watch::watch(arguments, &report, &product).await?;
    }
    if wants("help") {
        watch::help(&report)?;
    }
    if wants("fleet") {
        let size = fleet::Size {
            nodes: arguments.fleet_nodes,
            jobs: arguments.fleet_jobs,
            watched: Duration::from_secs(10 * arguments.seconds),
        };
        fleet::fleet(&report, &product.database("fleet").await?, folder.path(), size).await?;
    }
    let product = if wants("noop") { noop(arguments, &report, product).await? } else { product };
    if wants("memory") {
        memory(arguments, &report, product, folder.path()).await?;
    } else {
        product.stop().await?;
    }
    Ok(())
}

/// GET of one job and LIST of 1,000, beside a bare handler that does one such SELECT.
async fn read(arguments: &Arguments, report: &Report, product: &Product, bare: &Bare) -> Result<()> {
    let site = product.furnish(1).await?;
    let command = product.job(&site, "true");
    // More nodes than the cluster has, so that they stay in the queue.
    let mut waiting = command.clone();
    waiting["properties"]["nodeCount"] = json!(2);
    fill(product, site, &waiting, 0, 1_000).await?;
    let long = Until::Elapsed(Duration::from_secs(arguments.seconds));
    for c in CONNECTIONS {
        let bound =
            repeat(arguments.runs, |_| load(bare.address, c, long, 0, |n| plain(&format!("/row/{}", n as i64 % bound::ROWS))))
                .await?;
        let measured = repeat(arguments.runs, |_| {
            let request = product.requester();
            load(product.address, c, long, 0, move |n| request(Method::GET, &format!("{}/j{}", site.jobs(), n % 1_000), None))
        })
        .await?;
        report.pair("get_job", "axum_select", c, measured, bound);
        let bound = repeat(arguments.runs, |_| load(bare.address, c, long, 0, |_| plain("/rows"))).await?;
        let measured = repeat(arguments.runs, |_| {
            let request = product.requester();
            load(product.address, c, long, 0, move |_| request(Method::GET, &site.jobs(), None))
        })
        .await?;
        report.pair("list_jobs", "axum_list", c, measured, bound);
    }
    product.clear(site).await
}

/// PUT of jobs that cannot start, beside a bare INSERT and its commit.
async fn submit(arguments: &Arguments, report: &Report, product: &Product, bare: &Bare, site: Site) -> Result<()> {
    let job = product.job(&site, "true");
    let body = job.to_string();
    let mut first = 0;
    for c in CONNECTIONS {
        let count = if c == 1 { 500 } else { 2_000 };
        let body = body.clone();
        let bound = repeat(arguments.runs, |_| {
            let body = body.clone();
            load(bare.address, c, Until::Count(count), 0, move |_| {
                Request::put("/row")
                    .header("host", "bound")
                    .header("content-type", "application/json")
                    .body(Full::new(Bytes::from(body.clone())))
                    .expect("a request")
            })
        })
        .await?;
        let measured = repeat(arguments.runs, |_| {
            let (request, job) = (product.requester(), job.clone());
            let from = first;
            first += count + c as u64;
            load(product.address, c, Until::Count(count), from, move |n| {
                request(Method::PUT, &format!("{}/j{n}", site.jobs()), Some(&job))
            })
        })
        .await?;
        report.pair("submit", "axum_insert_commit", c, measured, bound);
    }
    Ok(())
}

/// One job after the other on an idle cluster: when its process starts, and when a reader sees that it succeeded.
async fn latency(report: &Report, product: &Product, runs: usize) -> Result<()> {
    let site = product.furnish(1).await?;
    let mut on = Connection::open(product.address).await?;
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    let stamps = product.share().join("stamps");
    std::fs::create_dir_all(&stamps)?;
    std::fs::set_permissions(&stamps, std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
    for n in 0..100 * runs {
        let command = format!("echo $EPOCHREALTIME > $AZ_BATCHAI_MOUNT_ROOT/shared/stamps/{n}");
        let path = format!("{}/l{n}", site.jobs());
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let submitted = Instant::now();
        product.ask(&mut on, Method::PUT, &path, Some(&product.job(&site, &command))).await?;
        let job = product.wait_for(&mut on, &path, is_final).await?;
        ends.push(submitted.elapsed());
        ensure!(job["properties"]["executionState"] == "succeeded", "the job failed: {job}");
        let stamp: f64 = std::fs::read_to_string(stamps.join(n.to_string()))?.trim().parse()?;
        starts.push(Duration::from_secs_f64((stamp - wall.as_secs_f64()).max(0.0)));
    }
    report.line(json!({ "peer": "product", "stage": "latency",
        "start_p50_ms": percentile(&mut starts, 0.5), "start_p99_ms": percentile(&mut starts, 0.99),
        "done_p50_ms": percentile(&mut ends, 0.5), "done_p99_ms": percentile(&mut ends, 0.99) }));
    product.clear(site).await
}

/// Jobs of `/bin/true`, from the first request to the last end, beside plain starts of that program.
async fn noop(arguments: &Arguments, report: &Report, product: Product) -> Result<Product> {
    let spawns = (0..arguments.runs).map(|_| bound::spawns_per_second(1_000)).collect::<Result<Vec<_>>>()?;
    let bound = median(spawns);
    report.line(json!({ "peer": "bound", "stage": "spawn", "per_s": bound }));
    let site = product.furnish(NODES).await?;
    let job = product.job(&site, "/bin/true");
    let mut first = 0;
    let counts = if arguments.jobs > 1_000 { vec![1_000, arguments.jobs] } else { vec![arguments.jobs] };
    for count in counts {
        let runs = if count > 1_000 { 1 } else { arguments.runs };
        let mut rates = Vec::new();
        for _ in 0..runs {
            let began = Instant::now();
            let (request, job) = (product.requester(), job.clone());
            load(product.address, CLIENTS, Until::Count(count), first, move |n| {
                request(Method::PUT, &format!("{}/n{n}", site.jobs()), Some(&job))
            })
            .await?;
            let mut on = Connection::open(product.address).await?;
            for n in first..first + count {
                let ended = product.wait_for(&mut on, &format!("{}/n{n}", site.jobs()), is_final).await?;
                ensure!(ended["properties"]["executionState"] == "succeeded", "a job failed: {ended}");
            }
            rates.push(count as f64 / began.elapsed().as_secs_f64());
            first += count + CLIENTS as u64;
        }
        let rate = median(rates);
        report.line(json!({ "peer": "product", "stage": "noop", "n": count, "jobs_per_s": rate, "ratio": rate / bound }));
    }
    product.clear(site).await?;
    Ok(product)
}

/// Memory with more and more jobs, then the time of a restart with all of them.
async fn memory(arguments: &Arguments, report: &Report, product: Product, folder: &std::path::Path) -> Result<()> {
    let site = product.furnish(1).await?;
    let mut job = product.job(&site, "true");
    job["properties"]["nodeCount"] = json!(2);
    let mut have = 0;
    for count in [0, 1_000, arguments.jobs] {
        fill(&product, site, &job, have, count).await?;
        have = count;
        let (server, postgres, agent) = product.memory()?;
        report.line(json!({ "peer": "product", "stage": "memory", "jobs": count,
            "server_mib": server, "postgres_mib": postgres, "agent_mib": agent }));
    }
    let mut times = Vec::new();
    let mut product = product;
    for _ in 0..arguments.runs {
        product.stop().await?;
        let began = Instant::now();
        product = Product::start(folder).await?;
        let mut on = Connection::open(product.address).await?;
        let list = product.ask(&mut on, Method::GET, &site.jobs(), None).await?;
        ensure!(list["value"].as_array().is_some_and(|jobs| !jobs.is_empty()), "the jobs are gone");
        times.push(began.elapsed().as_secs_f64());
    }
    report.line(json!({ "peer": "product", "stage": "restart", "jobs": have, "s": median(times) }));
    product.clear(site).await?;
    product.stop().await
}

/// Submits the jobs `from..to`, named `j{n}`.
async fn fill(product: &Product, site: Site, job: &Value, from: u64, to: u64) -> Result<()> {
    if to > from {
        let (request, job) = (product.requester(), job.clone());
        load(product.address, CLIENTS, Until::Count(to - from), from, move |n| {
            request(Method::PUT, &format!("{}/j{n}", site.jobs()), Some(&job))
        })
        .await?;
    }
    Ok(())
}

fn plain(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "bound").body(Full::default()).expect("a request")
}

fn is_final(job: &Value) -> bool {
    matches!(job["properties"]["executionState"].as_str(), Some("succeeded" | "failed"))
}

/// Where results go.
struct Report {
    json: bool,
}

impl Report {
    fn line(&self, row: Value) {
        if self.json {
            println!("{row}");
            return;
        }
        let Value::Object(row) = row else { return };
        let text = row.iter().map(|(name, value)| match value.as_f64() {
            Some(number) if value.is_f64() => format!("{name} {number:.2}"),
            _ => format!("{name} {}", value.to_string().trim_matches('"')),
        });
        println!("{}", text.collect::<Vec<_>>().join("  "));
    }

    fn pair(&self, stage: &str, bound_stage: &str, c: usize, product: Measured, bound: Measured) {
        let row = |peer: &str, stage: &str, m: Measured| json!({ "peer": peer, "stage": stage, "c": c, "rps": m.rps, "p50_ms": m.p50_ms, "p99_ms": m.p99_ms });
        self.line(row("bound", bound_stage, bound));
        let mut measured = row("product", stage, product);
        measured["ratio"] = json!(product.rps / bound.rps);
        self.line(measured);
    }
}
