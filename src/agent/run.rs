//! The agent's loop: polls for what the node should be, reports what it sees, and does what follows.
//!
//! Two lanes to the server. One holds the poll, the other sends reports and output, one at a time. Reports of a session count in
//! order, so that a poll, which is a report too, starts only while no report is under way: what overtakes it says the same and more.
//! Only polls bring the desired state: their answers cannot overtake each other.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::RngExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::agent::boot::boot_id;
use crate::agent::client::{Ask, Client, ClientError, Lane};
use crate::agent::gpus;
use crate::agent::identity::Identity;
use crate::agent::isolate;
use crate::agent::layout::Roots;
use crate::agent::login::Login;
use crate::agent::node::{Heard, Node};
use crate::agent::own_log::keep_short;
use crate::agent::protocol::{Chunk, MAX_WAIT_MS, OUTPUT_PATH, OutputQuery, SYNC_PATH, Sync, Synced, VERSION};
use crate::agent::report::{Said, Say, current, next};
use crate::agent::start::Starter;
use crate::clock::{Clock, SystemClock};
use crate::domain::bootstrap::{AgentBootstrap, NODE_VARIABLE, ServerAddress};
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

/// Time between the first new byte and looking for more: what is written in one go is sent in one go.
const GATHER: Duration = Duration::from_millis(20);

/// Waits after failures are drawn below a bound that doubles from the first to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Runs the agent that `bootstrap` describes, until it is asked to end. What it started goes on without it.
///
/// # Errors
/// The bootstrap cannot be read, or the agent's own folder cannot be used.
pub fn run(bootstrap: &Path) -> io::Result<()> {
    isolate::keep_memory_private()?;
    let document: AgentBootstrap = serde_json::from_slice(&std::fs::read(bootstrap)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    let result = runtime.block_on(async {
        let tasks = Tasks::new();
        let result = Agent::start(document, bootstrap, &tasks)?.run().await;
        tasks.stop(Duration::from_secs(1)).await;
        result
    });
    // A folder that does not answer is not waited for.
    runtime.shutdown_background();
    result
}

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

    fn ask(&mut self, client: &std::sync::Arc<Client>, what: T, ask: Ask) {
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

struct Agent {
    node: Node,
    identity: Identity,
    login: Login,
    gpus: Vec<Gpu>,
    client: std::sync::Arc<Client>,
    heard: UnboundedReceiver<Heard>,
    session: uuid::Uuid,
    seq: u64,
    revision: u64,
    said: Option<Said>,
    /// With each poll when it was sent.
    polls: Traffic<Moment>,
    reports: Traffic<Sent>,
    failures: u32,
    /// When to look for what was written.
    look_at: Option<Instant>,
}

impl Agent {
    fn start(bootstrap: AgentBootstrap, path: &Path, tasks: &Tasks) -> io::Result<Agent> {
        let identity = Identity::load_or_create(&bootstrap.state_dir)?;
        let login = Login::find(&bootstrap, hidden(&bootstrap, path), tasks.clone());
        let client = Client::new(&bootstrap.server, tasks.clone())?;
        let (sender, heard) = unbounded_channel();
        let gpus = gpus::start(&bootstrap, &sender);
        let starter = Starter {
            roots: Roots::new(&bootstrap),
            boot_id: boot_id(bootstrap.isolation)?,
            hidden: hidden(&bootstrap, path),
            mark: mark(),
            server_ahead: None,
            bootstrap,
        };
        Ok(Agent {
            node: Node::recover(starter, tasks.clone(), sender)?,
            identity,
            login,
            gpus,
            client: std::sync::Arc::new(client),
            heard,
            session: uuid::Uuid::new_v4(),
            seq: 0,
            revision: 0,
            said: None,
            polls: Traffic::new(),
            reports: Traffic::new(),
            failures: 0,
            look_at: None,
        })
    }

    async fn run(mut self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            let wake_at = self.step()?;
            tokio::select! {
                biased;
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                Some(heard) = self.heard.recv() => {
                    self.node.heard(heard);
                    while let Ok(heard) = self.heard.try_recv() {
                        self.node.heard(heard);
                    }
                }
                (asked, answer) = self.polls.answered() => self.polled(asked, answer),
                (sent, answer) = self.reports.answered() => self.sent(sent, answer),
                () = self.node.watch.changed(), if self.look_at.is_none() => self.look_at = Some(Instant::now() + GATHER),
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Does all that can be done now. Answers when there is more.
    fn step(&mut self) -> io::Result<Option<Instant>> {
        let now = Instant::now();
        let mut wake_at = self.node.end_overdue(now);
        for at in [self.node.settle(now), self.node.look_beside(now), self.node.look_at_export(now)].into_iter().flatten() {
            wake_at = Some(wake_at.map_or(at, |before| before.min(at)));
        }
        let mut wake = |at: Option<Instant>| wake_at = [wake_at, at].into_iter().flatten().min();
        if self.look_at.is_none() && self.node.is_to_look() {
            self.look_at = Some(now + GATHER);
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            self.node.look();
        }
        wake(self.look_at);
        match self.reports.may_ask(now) {
            Ok(()) => wake(self.send(now)?),
            Err(at) => wake(at),
        }
        // A report that is due goes first, and a poll only while none is under way.
        if self.identity.credential().is_some() && !matches!(self.reports, Traffic::Asking(_)) && self.said.is_some() {
            match self.polls.may_ask(now) {
                Ok(()) => self.poll()?,
                Err(at) => wake(at),
            }
        }
        Ok(wake_at)
    }

    /// Sends what is to be sent, if anything is.
    fn send(&mut self, now: Instant) -> io::Result<Option<Instant>> {
        if self.identity.credential().is_none() {
            let starter = &self.node.starter;
            let ask = self.identity.join(&starter.bootstrap, &starter.boot_id, self.login.way(), &self.gpus)?;
            self.reports.ask(&self.client, Sent::Join(Moment::now()), ask);
            return Ok(None);
        }
        match next(&mut self.node, self.said.as_ref(), now) {
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

    fn poll(&mut self) -> io::Result<()> {
        let said = current(&self.node);
        let ask = self.sync(&said, Duration::from_millis(MAX_WAIT_MS.into()), Vec::new())?;
        self.polls.ask(&self.client, Moment::now(), ask);
        Ok(())
    }

    fn sync(&mut self, said: &Said, wait: Duration, output: Vec<Chunk>) -> io::Result<Ask> {
        self.seq += 1;
        let sync = Sync {
            protocol: VERSION,
            session: self.session,
            boot_id: self.node.starter.boot_id.clone(),
            seq: self.seq,
            have: self.revision,
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(MAX_WAIT_MS),
            setup: said.setup.clone(),
            health: said.health.clone(),
            assignments: said.parts.clone(),
            output,
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
        if let Some(file) = &self.node.starter.bootstrap.fence
            && let Err(error) = fence::renew(file, asked)
        {
            tracing::error!(%error, "it cannot be written down that a server answers: the node will end itself");
        }
    }

    fn polled(&mut self, asked: Moment, answer: Result<Bytes, ClientError>) {
        keep_short(io::stderr().as_fd());
        match answer.and_then(|body| read(&body)) {
            Ok(synced) => {
                self.failures = 0;
                self.was_heard(asked);
                if let Some(credential) = synced.credential {
                    self.identity.keep(credential);
                }
                if let Some(now) = synced.now {
                    self.node.starter.server_ahead = Some(now - SystemClock.now());
                }
                if let Some(desired) = synced.desired {
                    self.revision = synced.revision;
                    if let Some(account) = &desired.account {
                        self.login.let_in(account);
                    }
                    self.node.want(desired);
                }
            }
            Err(error) => {
                let until = self.failed(&error);
                self.polls.rest_until(until);
            }
        }
    }

    fn sent(&mut self, sent: Sent, answer: Result<Bytes, ClientError>) {
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
                    self.said = Some(said);
                    self.acknowledged(output);
                    None
                }
                Err(error) => Some(error),
            },
            (Sent::Output(attempt), Ok(_)) => {
                self.acknowledged(Some(attempt));
                None
            }
            (Sent::Output(attempt), Err(ClientError::Other(status, text))) if status.is_client_error() => {
                // It would be refused again and again, and keep the job from ending.
                tracing::error!(%attempt, http.status = status.as_u16(), answer = text, "a piece of output is refused and left out");
                self.acknowledged(Some(attempt));
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
    }

    fn acknowledged(&mut self, attempt: Option<AttemptUid>) {
        let shipper = attempt.and_then(|attempt| self.node.parts.get_mut(&attempt)).and_then(|part| part.shipper_mut());
        if let Some(shipper) = shipper {
            shipper.acknowledged();
        }
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

fn read(body: &[u8]) -> Result<Synced, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Unreachable(error.into()))
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
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

/// What of ours is not there for jobs and setup tasks.
fn hidden(bootstrap: &AgentBootstrap, path: &Path) -> Vec<PathBuf> {
    if !bootstrap.isolation.has_root() {
        return Vec::new();
    }
    let mut hidden = vec![bootstrap.state_dir.clone()];
    // The whole folder where it is ours alone.
    match path.parent() {
        Some(folder) if !bootstrap.tasks_root.starts_with(folder) => hidden.push(folder.to_owned()),
        _ => hidden.push(path.to_owned()),
    }
    if let ServerAddress::Sockets(folder) = &bootstrap.server {
        hidden.push(folder.clone());
    }
    hidden.extend(bootstrap.job_groups.iter().chain(&bootstrap.gangs).cloned());
    // What is below another goes with it: each is a mount for each job.
    hidden.sort();
    hidden.dedup_by(|below, above| below.starts_with(above));
    hidden
}

/// The mark that all processes of the node carry. It comes with the environment, as it does for every other process of the node.
#[allow(clippy::disallowed_methods)] // handed on, not a setting
fn mark() -> Option<String> {
    std::env::var(NODE_VARIABLE).ok()
}
