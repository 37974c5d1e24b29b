//! The agent's side of the protocol: joins, reports what a [`Runner`] says, polls for what the node should be, and comes back after
//! failures.
//!
//! Two lanes to the server. One holds the poll, the other sends reports and output, one at a time. Reports of a session count in
//! order, so that a poll, which is a report too, starts only while no report is under way: what overtakes it says the same and more.
//! Only polls bring the desired state: their answers cannot overtake each other. Refuses to know what is on the node.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::RngExt;

use crate::agent::client::{Ask, Client, ClientError, Lane};
use crate::agent::identity::Identity;
use crate::agent::protocol::{
    Chunk, Desired, Join, LoginWay, MAX_WAIT_MS, OUTPUT_PATH, OutputQuery, SYNC_PATH, Sync, Synced, VERSION,
};
use crate::agent::report::{Runner, Said, Say};
use crate::clock::Timestamp;
use crate::domain::bootstrap::AgentBootstrap;
use crate::domain::gpu::Gpu;
use crate::fence::{self, Moment};
use crate::id::AttemptUid;
use crate::task::Tasks;

/// Longest time until a report is answered.
const REPORT_DEADLINE: Duration = Duration::from_secs(15);

/// Longest time until a large piece of output is taken.
const OUTPUT_DEADLINE: Duration = Duration::from_secs(60);

/// What a poll may take beyond the time that the server holds it.
const POLL_MARGIN: Duration = Duration::from_secs(10);

/// Waits after failures are drawn below a bound that doubles from the first to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

type Asked<T> = Pin<Box<dyn Future<Output = (Lane, T, Result<Bytes, ClientError>)> + Send>>;

/// One lane: either at rest, with the time before which nothing is asked, or asking.
enum Traffic<T> {
    Rest(Lane, Option<Instant>),
    Asking(Asked<T>),
}

impl<T: Send + 'static> Traffic<T> {
    fn new() -> Traffic<T> {
        Traffic::Rest(Lane::default(), None)
    }

    /// Whether it may ask now; else when it may, if that is known.
    fn may_ask(&self, now: Instant) -> Result<(), Option<Instant>> {
        match self {
            Traffic::Rest(_, Some(until)) if *until > now => Err(Some(*until)),
            Traffic::Rest(..) => Ok(()),
            Traffic::Asking(_) => Err(None),
        }
    }

    fn ask(&mut self, client: &Arc<Client>, what: T, ask: Ask) {
        let Traffic::Rest(lane, _) = std::mem::replace(self, Traffic::new()) else { return };
        let client = client.clone();
        let mut lane = lane;
        *self = Traffic::Asking(Box::pin(async move {
            let answer = lane.ask(&client, ask).await;
            (lane, what, answer)
        }));
    }

    /// The answer, once there is one.
    async fn answered(&mut self) -> (T, Result<Bytes, ClientError>) {
        let Traffic::Asking(asked) = self else { return std::future::pending().await };
        let (lane, what, answer) = asked.await;
        *self = Traffic::Rest(lane, None);
        (what, answer)
    }

    fn rest_until(&mut self, until: Instant) {
        if let Traffic::Rest(_, rest) = self {
            *rest = Some(until);
        }
    }
}

/// What is under way on the reports' lane.
enum Sent {
    Join(Moment),
    Report(Said, Option<AttemptUid>, Moment),
    Output(AttemptUid),
}

/// What an answer of the server brought.
#[derive(Debug, Default)]
pub struct News {
    /// What the node should be, where that is something else than before.
    pub desired: Option<Desired>,
    /// The attempt whose output was taken.
    pub taken: Option<AttemptUid>,
    /// The server's time when it answered.
    pub now: Option<Timestamp>,
    /// The time of the last sample that was taken.
    pub sampled: Option<Timestamp>,
}

/// One agent's conversation with the servers of its installation.
pub struct Link {
    identity: Identity,
    client: Arc<Client>,
    /// What it joins with.
    join: Join,
    /// As in the bootstrap.
    fence: Option<PathBuf>,
    session: uuid::Uuid,
    seq: u64,
    revision: u64,
    said: Option<Said>,
    /// With each poll when it was sent, and the time of the last sample in it.
    polls: Traffic<(Moment, Option<Timestamp>)>,
    reports: Traffic<Sent>,
    failures: u32,
}

impl Link {
    /// The link of the agent that `bootstrap` describes; nothing is asked until [`step`](Self::step). Connections are kept by `tasks`.
    ///
    /// # Errors
    /// The agent's own folder cannot be used, or the server's address is none.
    pub fn open(bootstrap: &AgentBootstrap, boot_id: String, login: LoginWay, gpus: Vec<Gpu>, tasks: &Tasks) -> io::Result<Link> {
        let identity = Identity::load_or_create(&bootstrap.state_dir)?;
        let join = Join {
            protocol: VERSION,
            machine: bootstrap.machine.clone(),
            token: bootstrap.join_token.clone(),
            key_hash: identity.key_hash(),
            boot_id,
            isolation: bootstrap.isolation.as_str().to_owned(),
            login,
            gpus,
        };
        Ok(Link {
            identity,
            client: Arc::new(Client::new(&bootstrap.server, tasks.clone())?),
            join,
            fence: bootstrap.fence.clone(),
            session: uuid::Uuid::new_v4(),
            seq: 0,
            revision: 0,
            said: None,
            polls: Traffic::new(),
            reports: Traffic::new(),
            failures: 0,
        })
    }

    /// Sends what is to be sent. Answers when there is more, if time alone brings it.
    ///
    /// # Errors
    /// None in practice: messages always make documents.
    pub fn step(&mut self, runner: &mut impl Runner, now: Instant) -> io::Result<Option<Instant>> {
        let mut wake_at: Option<Instant> = None;
        let mut wake = |at: Option<Instant>| wake_at = [wake_at, at].into_iter().flatten().min();
        match self.reports.may_ask(now) {
            Ok(()) => wake(self.send(runner, now)?),
            Err(at) => wake(at),
        }
        // A report that is due goes first, and a poll only while none is under way.
        if self.identity.credential().is_some() && !matches!(self.reports, Traffic::Asking(_)) && self.said.is_some() {
            match self.polls.may_ask(now) {
                Ok(()) => self.poll(&runner.current())?,
                Err(at) => wake(at),
            }
        }
        Ok(wake_at)
    }

    /// What the next answer brings. Cancelling it loses nothing.
    pub async fn news(&mut self) -> News {
        tokio::select! {
            biased;
            (asked, answer) = self.polls.answered() => self.polled(asked, answer),
            (sent, answer) = self.reports.answered() => self.sent(sent, answer),
        }
    }

    /// Sends what is to be sent, if anything is.
    fn send(&mut self, runner: &mut impl Runner, now: Instant) -> io::Result<Option<Instant>> {
        if self.identity.credential().is_none() {
            self.reports.ask(&self.client, Sent::Join(Moment::now()), Identity::join(&self.join)?);
            return Ok(None);
        }
        match runner.next(self.said.as_ref(), now) {
            Say::Nothing(until) => return Ok(until),
            Say::Report(said, output) => {
                let attempt = output.as_ref().map(|(attempt, _)| *attempt);
                let ask = self.sync(&said, Duration::ZERO, output.map(|(_, chunks)| chunks).unwrap_or_default())?;
                self.reports.ask(&self.client, Sent::Report(said, attempt, Moment::now()), ask);
            }
            Say::Output(attempt, at, body) => {
                let ask = Ask {
                    path: output_path(&at),
                    content_type: "application/octet-stream",
                    body,
                    credential: self.identity.credential().map(str::to_owned),
                    deadline: OUTPUT_DEADLINE,
                };
                self.reports.ask(&self.client, Sent::Output(attempt), ask);
            }
        }
        Ok(None)
    }

    fn poll(&mut self, said: &Said) -> io::Result<()> {
        let ask = self.sync(said, Duration::from_millis(MAX_WAIT_MS.into()), Vec::new())?;
        self.polls.ask(&self.client, (Moment::now(), last_sample(said)), ask);
        Ok(())
    }

    fn sync(&mut self, said: &Said, wait: Duration, output: Vec<Chunk>) -> io::Result<Ask> {
        self.seq += 1;
        let sync = Sync {
            protocol: VERSION,
            session: self.session,
            boot_id: self.join.boot_id.clone(),
            seq: self.seq,
            have: self.revision,
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(MAX_WAIT_MS),
            setup: said.setup.clone(),
            health: said.health.clone(),
            assignments: said.parts.clone(),
            output,
            samples: said.samples.clone(),
        };
        Ok(Ask {
            path: SYNC_PATH.to_owned(),
            content_type: "application/json",
            body: serde_json::to_vec(&sync)?.into(),
            credential: self.identity.credential().map(str::to_owned),
            deadline: if wait.is_zero() { REPORT_DEADLINE } else { wait + POLL_MARGIN },
        })
    }

    /// A server answered what it was asked then, and has it on record that it heard the node.
    fn was_heard(&self, asked: Moment) {
        if let Some(file) = &self.fence
            && let Err(error) = fence::renew(file, asked)
        {
            tracing::error!(%error, "it cannot be written down that a server answers: the node will end itself");
        }
    }

    fn polled(&mut self, (asked, sampled): (Moment, Option<Timestamp>), answer: Result<Bytes, ClientError>) -> News {
        match answer.and_then(|body| read(&body)) {
            Ok(Synced { revision, desired, credential, now }) => {
                self.failures = 0;
                self.was_heard(asked);
                if let Some(credential) = credential {
                    self.identity.keep(credential);
                }
                if desired.is_some() {
                    self.revision = revision;
                }
                News { desired, taken: None, now, sampled }
            }
            Err(error) => {
                let until = self.failed(&error);
                self.polls.rest_until(until);
                News::default()
            }
        }
    }

    fn sent(&mut self, sent: Sent, answer: Result<Bytes, ClientError>) -> News {
        let mut news = News::default();
        let error = match (sent, answer) {
            (Sent::Join(asked), Ok(body)) => match self.identity.joined(&body) {
                Ok(()) => {
                    self.was_heard(asked);
                    None
                }
                Err(error) => Some(ClientError::Unreachable(error)),
            },
            (Sent::Report(said, output, asked), Ok(body)) => match read(&body) {
                Ok(Synced { credential, .. }) => {
                    self.was_heard(asked);
                    if let Some(credential) = credential {
                        self.identity.keep(credential);
                    }
                    news.sampled = last_sample(&said);
                    self.said = Some(said);
                    news.taken = output;
                    None
                }
                Err(error) => Some(error),
            },
            (Sent::Output(attempt), Ok(_)) => {
                news.taken = Some(attempt);
                None
            }
            (Sent::Output(attempt), Err(ClientError::Other(status, text))) if status.is_client_error() => {
                // It would be refused again and again, and keep the job from ending.
                tracing::error!(%attempt, http.status = status.as_u16(), answer = text, "a piece of output is refused and left out");
                news.taken = Some(attempt);
                None
            }
            (_, Err(error)) => Some(error),
        };
        match error {
            None => self.failures = 0,
            Some(error) => {
                let until = self.failed(&error);
                self.reports.rest_until(until);
            }
        }
        news
    }

    /// Takes in a failure. Answers when to try again: at a time drawn from all of the wait, so that many agents do not come at once.
    fn failed(&mut self, error: &ClientError) -> Instant {
        self.failures = self.failures.saturating_add(1);
        let bound = BACK_OFF.0.saturating_mul(1 << self.failures.min(10)).min(BACK_OFF.1);
        let mut wait = bound.mul_f64(rand::rng().random::<f64>());
        match error {
            ClientError::Refused(_) => {
                self.identity.forget();
                wait += BACK_OFF.0;
            }
            ClientError::Busy(Some(after)) => wait += (*after).min(BACK_OFF.1),
            _ => {}
        }
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        if self.failures.is_power_of_two() {
            tracing::warn!(%error, cause, failures = self.failures, "the server was asked in vain");
        }
        Instant::now() + wait
    }
}

fn last_sample(said: &Said) -> Option<Timestamp> {
    said.samples.last().map(|sample| sample.at)
}

fn read(body: &[u8]) -> Result<Synced, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Unreachable(error.into()))
}

fn output_path(at: &OutputQuery) -> String {
    let text = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    format!(
        "{OUTPUT_PATH}?attempt={}&directory={}&path={}&generation={}&offset={}&modified_at={}",
        at.attempt,
        text(&at.directory),
        text(&at.path),
        at.generation,
        at.offset,
        at.modified_at
    )
}
