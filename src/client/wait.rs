//! Waiting: a request that the server holds until something changes, never a short poll where that exists.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::send::versioned;
use super::{Client, Exit, Failure, OWN, Reply, Result};

/// Longest time that one request is held. Unit: seconds. The server takes at most 60.
const HOLD_S: u64 = 50;

/// Time between two looks at what cannot be held: the deletion of a group.
const LOOK: Duration = Duration::from_secs(1);

/// How long one is ready to wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    until: Option<Instant>,
}

impl Patience {
    /// For so many seconds; without end where none are given.
    pub fn of(seconds: Option<u64>) -> Patience {
        Patience { until: seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)) }
    }

    /// Seconds that one request may be held.
    ///
    /// # Errors
    /// `Late` where the time is over.
    fn hold(&self) -> Result<u64> {
        let Some(until) = self.until else { return Ok(HOLD_S) };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(late()) } else { Ok(left.as_secs().min(HOLD_S)) }
    }

    /// Runs `action` as long as there is time.
    ///
    /// # Errors
    /// `Late` where the time is over; what `action` fails with.
    pub async fn bound<T>(&self, action: impl Future<Output = Result<T>>) -> Result<T> {
        match self.until {
            None => action.await,
            Some(until) => tokio::time::timeout_at(until, action).await.unwrap_or_else(|_| Err(late())),
        }
    }
}

fn late() -> Failure {
    Failure::new(Exit::Late, "Timeout", "the time of --timeout is over; nothing was cancelled, the work goes on")
}

/// A resource of which one has seen a state.
#[derive(Clone, Debug)]
pub struct Held {
    path: String,
    tag: Option<String>,
}

impl Held {
    /// Nothing was seen yet.
    pub fn new(path: String) -> Held {
        Held { path, tag: None }
    }
}

impl Client {
    /// The resource as our own version shows it, once that is another than was seen: the first time at once, then when it changes.
    /// `None` where it was deleted.
    ///
    /// # Errors
    /// As of [`send`](Client::send); `Late`.
    pub async fn changed(&self, held: &mut Held, patience: Patience) -> Result<Option<Value>> {
        loop {
            let path = match &held.tag {
                Some(_) => format!("{}?wait={}", held.path, patience.hold()?),
                None => held.path.clone(),
            };
            let headers: Vec<(&str, &str)> = held.tag.iter().map(|tag| ("if-none-match", tag.as_str())).collect();
            let reply = patience.bound(self.send(Method::GET, &versioned(&path, OWN), None, &headers)).await;
            match reply {
                Ok(reply) if reply.status == 304 => {}
                Ok(reply) => {
                    held.tag = reply.header("etag").map(str::to_owned);
                    return Ok(Some(reply.body));
                }
                Err(failure) if failure.is_absence() => return Ok(None),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Waits for the end of what a request began. What was done at once has ended.
    ///
    /// # Errors
    /// `Operation` where it failed; as of [`send`](Client::send); `Late`.
    pub async fn finish(&self, reply: &Reply, patience: Patience) -> Result<()> {
        if reply.status != 202 {
            return Ok(());
        }
        match (reply.header("azure-asyncoperation"), reply.header("location")) {
            (Some(url), _) => self.finish_operation(&self.status_path(url)?, patience).await,
            (None, Some(url)) => self.finish_location(&self.own_path(url)?, patience).await,
            (None, None) => Ok(()),
        }
    }

    /// Where our own version tells how far an operation is, from where an older one does.
    fn status_path(&self, url: &str) -> Result<String> {
        let path = self.own_path(url)?;
        let path = path.split('?').next().unwrap_or_default();
        let (above, id) = path.rsplit_once('/').unwrap_or((path, ""));
        let above = above.rsplit_once('/').map_or(above, |(above, _)| above);
        Ok(format!("{above}/operationStatuses/{id}"))
    }

    async fn finish_operation(&self, path: &str, patience: Patience) -> Result<()> {
        loop {
            let held = format!("{path}?wait={}", patience.hold()?);
            let body = patience.bound(self.get(&held, OWN)).await?.body;
            match body.get("status").and_then(Value::as_str) {
                Some("InProgress") => {}
                Some("Succeeded") => return Ok(()),
                _ => {
                    let word = |name: &str| body.pointer(&format!("/error/{name}")).and_then(Value::as_str);
                    let code = word("code").unwrap_or("OperationFailed");
                    return Err(Failure::new(Exit::Operation, code, word("message").unwrap_or("the operation failed")));
                }
            }
        }
    }

    async fn finish_location(&self, path: &str, patience: Patience) -> Result<()> {
        loop {
            let reply = match patience.bound(self.send(Method::GET, path, None, &[])).await {
                Ok(reply) => reply,
                Err(mut failure) if failure.status == 409 => {
                    failure.exit = Exit::Operation;
                    return Err(failure);
                }
                Err(failure) => return Err(failure),
            };
            if reply.status != 202 {
                return Ok(());
            }
            patience.hold()?;
            tokio::time::sleep(LOOK).await;
        }
    }
}
