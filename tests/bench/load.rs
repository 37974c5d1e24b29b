//! A load client: a number of connections, each with one request in flight, and what they measured.
//!
//! In: an address and a function that makes the n-th request. Out: answers per second and the time of each. Refuses to know what is
//! asked: the product and the bounds are measured by the same code.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// One connection that is kept open.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // An error here shows as an error of the request that was in flight.
            let _ = connection.await;
        });
        Ok(Connection { sender })
    }

    /// The whole answer to one request.
    pub async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// The body of an answer that goes on, piece by piece.
    pub async fn open_stream(&mut self, request: Request<Full<Bytes>>) -> Result<Incoming> {
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        ensure!(answer.status().is_success(), "a stream was answered {}", answer.status());
        Ok(answer.into_body())
    }
}

/// How long a measurement goes on.
#[derive(Clone, Copy)]
pub enum Until {
    /// For a time.
    Elapsed(Duration),
    /// For a number of requests.
    Count(u64),
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Answers per second.
    pub rps: f64,
    /// Median time of an answer. Unit: milliseconds.
    pub p50_ms: f64,
    /// The time that one answer in a hundred exceeds. Unit: milliseconds.
    pub p99_ms: f64,
}

/// Keeps `connections` requests in flight until the end. The numbers of requests begin at `first`.
///
/// # Errors
/// A connection breaks, or an answer is not a success: a measurement of failures would be worth nothing.
pub async fn load<F>(address: SocketAddr, connections: usize, until: Until, first: u64, request: F) -> Result<Measured>
where
    F: Fn(u64) -> Request<Full<Bytes>> + Send + Sync + 'static,
{
    let request = Arc::new(request);
    let next = Arc::new(AtomicU64::new(first));
    let began = Instant::now();
    let workers = (0..connections).map(|_| {
        let (request, next) = (Arc::clone(&request), Arc::clone(&next));
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let over = match until {
                    Until::Elapsed(limit) => began.elapsed() >= limit,
                    Until::Count(count) => number >= first + count,
                };
                if over {
                    return Ok::<_, anyhow::Error>(times);
                }
                let asked = Instant::now();
                let (status, body) = connection.ask(request(number)).await?;
                if !status.is_success() {
                    bail!("request {number} was answered {status}: {}", String::from_utf8_lossy(&body));
                }
                times.push(asked.elapsed());
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.await.context("a worker ended early")??);
    }
    let elapsed = began.elapsed().as_secs_f64();
    let rps = times.len() as f64 / elapsed;
    Ok(Measured { rps, p50_ms: percentile(&mut times, 0.50), p99_ms: percentile(&mut times, 0.99) })
}

/// The time below which the given share of `times` lies. Unit: milliseconds; 0 where there are none.
pub fn percentile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// The median of an odd or even number of values; 0 where there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Runs one measurement several times and takes the median of each of its values.
///
/// # Errors
/// The first that a run has.
pub async fn repeat<F, R>(runs: usize, mut run: F) -> Result<Measured>
where
    F: FnMut(usize) -> R,
    R: Future<Output = Result<Measured>>,
{
    let mut all = Vec::with_capacity(runs);
    for n in 0..runs {
        all.push(run(n).await?);
    }
    let of = |value: fn(&Measured) -> f64| median(all.iter().map(value).collect());
    Ok(Measured { rps: of(|m| m.rps), p50_ms: of(|m| m.p50_ms), p99_ms: of(|m| m.p99_ms) })
}
