//! What it costs to be watched: throughput with and without a scraper of `/metrics` and open streams of events.
//!
//! In: a product. Out: for each measurement the median of rounds in which both take turns, and the share that watching takes. It also tells
//! how long the client's `--help` takes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::load::{Connection, Until, load, median, percentile};
use crate::product::{Product, Site};
use crate::{Arguments, CLIENTS, Report, fill};

/// How often `/metrics` is asked for: as often as a scraper would at most.
const SCRAPE: Duration = Duration::from_secs(1);

/// Streams of events that are open, each of the whole workspace.
const STREAMS: usize = 16;

/// Jobs that are read, and jobs of one submitting run.
const JOBS: u64 = 1_000;

/// Starts of the client that are measured.
const STARTS: usize = 100;

/// GET and PUT of jobs, watched and not.
pub async fn watch(arguments: &Arguments, report: &Report, product: &Product) -> Result<()> {
    let site = product.furnish(1).await?;
    let mut job = product.job(&site, "true");
    // More nodes than the cluster has, so that they stay in the queue.
    job["properties"]["nodeCount"] = json!(2);
    fill(product, site, &job, 0, JOBS).await?;
    let mut first = JOBS + CLIENTS as u64;
    let (mut reads, mut writes) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..2 * arguments.runs {
        // Each goes first as often as second: what grows with time weighs on both.
        let watched = usize::from(round % 4 == 1 || round % 4 == 2);
        let watchers = if watched == 1 { Some(Watchers::open(product, site).await?) } else { None };
        let request = product.requester();
        let long = Until::Elapsed(Duration::from_secs(arguments.seconds));
        let read = load(product.address, CLIENTS, long, 0, move |n| {
            request(Method::GET, &format!("{}/j{}", site.jobs(), n % JOBS), None)
        });
        reads[watched].push(read.await?.rps);
        writes[watched].push(submit(product, site, &job, first).await?);
        first += JOBS + CLIENTS as u64;
        if let Some(watchers) = watchers {
            watchers.close().await?;
        }
    }
    for (what, [without, with]) in [("get_job", reads), ("submit", writes)] {
        let (without, with) = (median(without), median(with));
        report.line(json!({ "peer": "product", "stage": "watch", "of": what, "rps": without, "watched_rps": with,
            "cost_percent": 100.0 * (1.0 - with / without) }));
    }
    product.clear(site).await
}

async fn submit(product: &Product, site: Site, job: &Value, first: u64) -> Result<f64> {
    let (request, job) = (product.requester(), job.clone());
    let write = load(product.address, CLIENTS, Until::Count(JOBS), first, move |n| {
        request(Method::PUT, &format!("{}/j{n}", site.jobs()), Some(&job))
    });
    Ok(write.await?.rps)
}

/// A scraper and listeners.
struct Watchers(JoinSet<Result<()>>);

impl Watchers {
    /// Answers once all streams are open and the first scrape is done.
    async fn open(product: &Product, site: Site) -> Result<Watchers> {
        let mut tasks = JoinSet::new();
        for _ in 0..STREAMS {
            let mut on = Connection::open(product.address).await?;
            let mut stream = on.open_stream(product.own_request(&site.events())).await?;
            tasks.spawn(async move {
                // Held by the stream's task: without it the connection closes.
                let _on = on;
                while let Some(piece) = stream.frame().await {
                    piece?;
                }
                anyhow::bail!("a stream of events ended")
            });
        }
        let mut on = Connection::open(product.address).await?;
        scrape(product.metrics_request(), &mut on).await?;
        let request = product.metrics_request();
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(SCRAPE);
            loop {
                ticks.tick().await;
                scrape(request.clone(), &mut on).await?;
            }
        });
        Ok(Watchers(tasks))
    }

    /// None may have ended before.
    async fn close(mut self) -> Result<()> {
        if let Some(ended) = self.0.try_join_next() {
            ended.context("a watcher panicked")??;
        }
        self.0.shutdown().await;
        Ok(())
    }
}

async fn scrape(request: hyper::Request<http_body_util::Full<bytes::Bytes>>, on: &mut Connection) -> Result<()> {
    let (status, text) = on.ask(request).await?;
    ensure!(status.is_success() && !text.is_empty(), "/metrics was answered {status}");
    Ok(())
}

/// Starts of the client for its help, one after the other.
pub fn help(report: &Report) -> Result<()> {
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchyard"));
        let began = Instant::now();
        let status = command.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        times.push(began.elapsed());
        ensure!(status.success(), "--help ended with {status}");
    }
    report.line(json!({ "peer": "product", "stage": "help",
        "p50_ms": percentile(&mut times, 0.5), "p99_ms": percentile(&mut times, 0.99) }));
    Ok(())
}
