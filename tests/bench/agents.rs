//! Many agents in one process: each has the conversation of the real agent with the server, and jobs that are time that passes.
//!
//! In: a folder of machines, which come and go. Out: a line for each job that starts, in a file, and counts of what must not be.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use batchyard::agent::protocol::{Assignment, Desired, LoginWay, Seen, Step};
use batchyard::agent::{Link, Runner, Said, Say};
use batchyard::clock::{Clock, SystemClock};
use batchyard::domain::attempt::{AssignmentState, End};
use batchyard::domain::bootstrap::{AgentBootstrap, ServerAddress};
use batchyard::domain::machine::Setup;
use batchyard::id::AttemptUid;
use batchyard::task::Tasks;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::machines;

/// Time between two looks at the folder of machines.
const LOOK: Duration = Duration::from_millis(100);

/// What there is to know, in the folder: the servers' address.
pub(crate) const ADDRESS: &str = "address.json";

/// A line for each start of a job, in the folder: milliseconds since 1970.
pub(crate) const STARTS: &str = "starts";

/// The counts, in the folder.
pub(crate) const COUNTS: &str = "counts.json";

/// What the agents saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Agents that live.
    pub(crate) agents: usize,
    /// Starts of jobs.
    pub(crate) starts: usize,
    /// Starts of a job that ran on another machine at that moment, and of jobs on a machine that had one.
    pub(crate) doubles: usize,
    /// Starts of a job that had started before.
    pub(crate) again: usize,
}

/// What runs where.
#[derive(Default)]
struct Ledger {
    counts: Counts,
    /// By job: how many machines run it, and how often it started.
    jobs: HashMap<String, (usize, usize)>,
    lines: String,
}

type Shared = Arc<Mutex<Ledger>>;

fn lock(ledger: &Shared) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays the machines of `folder` until the process that started this one is gone.
pub(crate) async fn play(folder: &Path, job: Duration) -> Result<()> {
    let address: ServerAddress = serde_json::from_slice(&std::fs::read(folder.join(ADDRESS))?)?;
    let ledger = Shared::default();
    let tasks = Tasks::new();
    let mut agents: BTreeMap<String, CancellationToken> = BTreeMap::new();
    let mut starts = std::fs::OpenOptions::new().create(true).append(true).open(folder.join(STARTS))?;
    let starter = rustix::process::getppid();
    while rustix::process::getppid() == starter {
        let found = machines::read(folder, |name| agents.contains_key(name));
        // One may go while it is read.
        for (name, token) in found.as_ref().into_iter().flatten() {
            let Some(token) = token else { continue };
            let (gone, ledger, tasks_of) = (CancellationToken::new(), Arc::clone(&ledger), tasks.clone());
            agents.insert(name.clone(), gone.clone());
            let bootstrap = bootstrap(folder, name, token, &address)?;
            tasks.spawn_cancellable("agent", async move {
                let outcome = gone.run_until_cancelled(live(bootstrap, job, ledger, tasks_of)).await;
                if let Some(Err(error)) = outcome {
                    eprintln!("an agent ended: {error:#}");
                }
            });
        }
        if let Ok(found) = found {
            agents.retain(|name, gone| {
                let stays = found.contains_key(name);
                if !stays {
                    gone.cancel();
                }
                stays
            });
        }
        let (lines, counts) = {
            let mut ledger = lock(&ledger);
            ledger.counts.agents = agents.len();
            (std::mem::take(&mut ledger.lines), ledger.counts.clone())
        };
        starts.write_all(lines.as_bytes())?;
        let beside = folder.join("counts.new");
        std::fs::write(&beside, serde_json::to_vec(&counts)?)?;
        std::fs::rename(beside, folder.join(COUNTS))?;
        tokio::time::sleep(LOOK).await;
    }
    tasks.stop(Duration::from_secs(1)).await;
    Ok(())
}

fn bootstrap(folder: &Path, name: &str, token: &str, server: &ServerAddress) -> Result<AgentBootstrap> {
    let state_dir: PathBuf = folder.join("agents").join(name);
    std::fs::create_dir_all(&state_dir)?;
    let document = json!({ "machine": name, "node_id": name, "join_token": token, "server": server, "isolation": "process_group",
        "state_dir": state_dir, "tasks_root": state_dir, "shares": [], "job_user": null });
    serde_json::from_value(document).context("a bootstrap")
}

async fn live(bootstrap: AgentBootstrap, job: Duration, ledger: Shared, tasks: Tasks) -> Result<()> {
    let mut link = Link::open(&bootstrap, "boot".into(), LoginWay::Direct, Vec::new(), &tasks)?;
    let mut node = Node {
        said: Said { setup: Setup::Done, health: vec![], parts: vec![], samples: vec![] },
        running: BTreeMap::new(),
        job,
        ledger,
    };
    loop {
        node.pass(Instant::now());
        let wake_at = [link.step(&mut node, Instant::now())?, node.next_end()].into_iter().flatten().min();
        let woken = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            news = link.news() => {
                if let Some(desired) = news.desired {
                    node.want(&desired);
                }
            }
            () = woken => {}
        }
    }
}

/// A machine whose jobs are time that passes.
struct Node {
    said: Said,
    /// With each attempt its job, and when it ends.
    running: BTreeMap<AttemptUid, (String, Instant)>,
    job: Duration,
    ledger: Shared,
}

impl Node {
    fn want(&mut self, desired: &Desired) {
        self.said.parts.retain(|part| desired.assignments.iter().any(|wanted| wanted.attempt == part.attempt));
        for wanted in &desired.assignments {
            let known = self.said.parts.iter().any(|part| part.attempt == wanted.attempt);
            match wanted.step {
                Step::Prepare if !known => self.see(wanted.attempt, AssignmentState::Ready),
                Step::Run if !self.running.contains_key(&wanted.attempt) && !self.has_ended(wanted.attempt) => self.start(wanted),
                Step::Stop { .. } => self.end(wanted.attempt, End::Stopped),
                _ => {}
            }
        }
    }

    fn has_ended(&self, attempt: AttemptUid) -> bool {
        self.said.parts.iter().any(|part| part.attempt == attempt && part.state == AssignmentState::Ended)
    }

    fn see(&mut self, attempt: AttemptUid, state: AssignmentState) {
        let started_at = (state == AssignmentState::Running).then(|| SystemClock.now());
        match self.said.parts.iter_mut().find(|part| part.attempt == attempt) {
            Some(part) => (part.state, part.started_at) = (state, started_at),
            None => self.said.parts.push(Seen { attempt, state, started_at, end: None, ended_at: None }),
        }
    }

    fn start(&mut self, wanted: &Assignment) {
        let job = wanted.task.names.job.clone();
        {
            let mut ledger = lock(&self.ledger);
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            ledger.lines.push_str(&format!("{since_1970}\n"));
            let (running, starts) = ledger.jobs.entry(job.clone()).or_default();
            let (elsewhere, before) = (*running > 0, *starts > 0);
            (*running, *starts) = (*running + 1, *starts + 1);
            ledger.counts.starts += 1;
            ledger.counts.doubles += usize::from(elsewhere || !self.running.is_empty());
            ledger.counts.again += usize::from(before);
        }
        self.running.insert(wanted.attempt, (job, Instant::now() + self.job));
        self.see(wanted.attempt, AssignmentState::Running);
    }

    fn end(&mut self, attempt: AttemptUid, end: End) {
        if let Some((job, _)) = self.running.remove(&attempt) {
            self.forget(&job);
        }
        self.see(attempt, AssignmentState::Ended);
        for part in self.said.parts.iter_mut().filter(|part| part.attempt == attempt && part.end.is_none()) {
            (part.end, part.ended_at) = (Some(end.clone()), Some(SystemClock.now()));
        }
    }

    fn forget(&self, job: &str) {
        if let Some((running, _)) = lock(&self.ledger).jobs.get_mut(job) {
            *running -= 1;
        }
    }

    /// Ends what is over.
    fn pass(&mut self, now: Instant) {
        let over: Vec<_> = self.running.iter().filter(|(_, (_, at))| *at <= now).map(|(attempt, _)| *attempt).collect();
        for attempt in over {
            self.end(attempt, End::Exited { code: 0 });
        }
    }

    fn next_end(&self) -> Option<Instant> {
        self.running.values().map(|(_, at)| *at).min()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for (job, _) in self.running.values() {
            self.forget(job);
        }
    }
}

impl Runner for Node {
    fn next(&mut self, last: Option<&Said>, _now: Instant) -> Say {
        let is_news = |last: &Said| {
            self.said.parts.iter().any(|part| {
                let known = last.parts.iter().find(|known| known.attempt == part.attempt);
                part.state > known.map_or(AssignmentState::Assigned, |known| known.state)
            })
        };
        if last.is_none_or(is_news) { Say::Report(self.said.clone(), None) } else { Say::Nothing(None) }
    }

    fn current(&self) -> Said {
        self.said.clone()
    }
}
