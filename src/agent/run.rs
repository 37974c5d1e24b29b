//! The agent's loop: what happens on the node, what the server answers, and what follows from both.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::agent::boot::boot_id;
use crate::agent::gpus;
use crate::agent::isolate;
use crate::agent::layout::Roots;
use crate::agent::link::{Link, News};
use crate::agent::login::Login;
use crate::agent::node::{Heard, Node};
use crate::agent::own_log::keep_short;
use crate::agent::start::Starter;
use crate::clock::{Clock, SystemClock};
use crate::domain::bootstrap::{AgentBootstrap, NODE_VARIABLE, ServerAddress};
use crate::task::Tasks;

/// Time between the first new byte and looking for more: what is written in one go is sent in one go.
const GATHER: Duration = Duration::from_millis(20);

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

struct Agent {
    node: Node,
    login: Login,
    link: Link,
    heard: UnboundedReceiver<Heard>,
    /// When to look for what was written.
    look_at: Option<Instant>,
}

impl Agent {
    fn start(bootstrap: AgentBootstrap, path: &Path, tasks: &Tasks) -> io::Result<Agent> {
        let login = Login::find(&bootstrap, hidden(&bootstrap, path), tasks.clone());
        let (sender, heard) = unbounded_channel();
        let boot_id = boot_id(bootstrap.isolation)?;
        let link = Link::open(&bootstrap, boot_id.clone(), login.way(), gpus::start(&bootstrap, &sender), tasks)?;
        let starter = Starter {
            roots: Roots::new(&bootstrap),
            boot_id,
            hidden: hidden(&bootstrap, path),
            mark: mark(),
            server_ahead: None,
            bootstrap,
        };
        Ok(Agent { node: Node::recover(starter, tasks.clone(), sender)?, login, link, heard, look_at: None })
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
                news = self.link.news() => self.learn(news),
                () = self.node.watch.changed(), if self.look_at.is_none() => self.look_at = Some(Instant::now() + GATHER),
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Does all that can be done now. Answers when there is more.
    fn step(&mut self) -> io::Result<Option<Instant>> {
        let now = Instant::now();
        let mut wake_at = self.node.end_overdue(now);
        let beside = [self.node.settle(now), self.node.look_beside(now), self.node.look_at_export(now), self.node.measure(now)];
        for at in beside.into_iter().flatten() {
            wake_at = Some(wake_at.map_or(at, |before| before.min(at)));
        }
        if self.look_at.is_none() && self.node.is_to_look() {
            self.look_at = Some(now + GATHER);
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            self.node.look();
        }
        let said_at = self.link.step(&mut self.node, now)?;
        Ok([wake_at, self.look_at, said_at].into_iter().flatten().min())
    }

    fn learn(&mut self, news: News) {
        keep_short(io::stderr().as_fd());
        if let Some(now) = news.now {
            self.node.starter.server_ahead = Some(now - SystemClock.now());
        }
        if let Some(until) = news.sampled {
            self.node.sampler.told(until);
        }
        if let Some(attempt) = news.taken
            && let Some(shipper) = self.node.parts.get_mut(&attempt).and_then(|part| part.shipper_mut())
        {
            shipper.acknowledged();
        }
        if let Some(desired) = news.desired {
            if let Some(account) = &desired.account {
                self.login.let_in(account);
            }
            self.node.want(desired);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
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
