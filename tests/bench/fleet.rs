//! A control plane with many nodes and a long queue: what it costs, and how long its passes take. Service, reconciler, Postgres and the
//! protocol of agents are real; the cloud is the fake one, and nodes are tasks of this process that speak as agents do, whose jobs are
//! time that passes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::body::Body;
use axum::http::Request;
use batchyard::agent::protocol::{JOIN_PATH, Join, Joined, SYNC_PATH, Step, Sync, Synced, VERSION};
use batchyard::auth::Caller;
use batchyard::clock::{Clock, SystemClock};
use batchyard::domain::attempt::{AssignmentState, End};
use batchyard::domain::cluster::{ClusterSpec, Deallocation, ImageReference, Scale, UserAccount, VmPriority};
use batchyard::domain::job::{Framework, JobSpec, Priority};
use batchyard::domain::machine::{MachineSpec, Setup};
use batchyard::domain::report::Seen as Part;
use batchyard::domain::snapshot::{Change, Snapshot};
use batchyard::driver::fake::{Fake, FakeSettings};
use batchyard::driver::{Driver, SharedDriver};
use batchyard::error::Error;
use batchyard::files::{Files, archive};
use batchyard::id::{AttemptUid, Kind, PrincipalId, ResourceId, SubscriptionId, TenantId};
use batchyard::reconcile::{self, Reconciler, SystemEntropy, TokioRuntime};
use batchyard::secret::Sealer;
use batchyard::service::{self, NewCluster, NewJob, NoVaults, Service};
use batchyard::sign::Signer;
use batchyard::store::{Applied, Lease, Rows, Settings, Store};
use batchyard::task::Tasks;
use batchyard::wake::Wake;
use serde_json::json;
use sqlx::PgPool;
use tower::ServiceExt;
use uuid::Uuid;

use crate::Report;
use crate::load::percentile;

/// Nodes of one cluster.
const OF_A_CLUSTER: u32 = 100;

/// Who submits at once.
const SUBMITTERS: u64 = 16;

/// Shortest and longest time that a job takes on its node. They differ, or all would end at once again and again.
const JOB: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));

/// Longest time that an agent holds a poll; as long as the agent of this program does.
const POLL: Duration = Duration::from_secs(25);

/// Longest wait for anything that is not itself measured.
const PATIENCE: Duration = Duration::from_secs(600);

/// Time between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(200);

/// How large it is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Nodes that speak.
    pub(crate) nodes: u32,
    /// Jobs that are submitted.
    pub(crate) jobs: u64,
    /// How long each state is watched.
    pub(crate) watched: Duration,
}

/// Nodes alone, then with a queue; on a database of the product's Postgres.
pub(crate) async fn fleet(report: &Report, database: &str, folder: &Path, size: Size) -> Result<()> {
    let yard = Yard::start(database, folder).await?;
    let began = Instant::now();
    for n in 0..size.nodes.div_ceil(OF_A_CLUSTER) {
        let target = OF_A_CLUSTER.min(size.nodes - n * OF_A_CLUSTER);
        yard.service.put_cluster(&yard.caller, &yard.cluster(n), cluster(target)).await?;
    }
    yard.wait("all nodes are ready", "select count(*) from batchyard.machine where state = 'ready'", |ready| {
        ready >= i64::from(size.nodes)
    })
    .await?;
    let up = began.elapsed();
    let idle = yard.watch(size.watched).await?;

    let began = Instant::now();
    let clusters = size.nodes.div_ceil(OF_A_CLUSTER);
    let submitters = (0..SUBMITTERS).map(|first| {
        let yard = &yard;
        async move {
            for n in (first..size.jobs).step_by(SUBMITTERS as usize) {
                let to = yard.cluster(u32::try_from(n).unwrap_or_default() % clusters);
                yard.service.put_job(&yard.caller, &yard.id(Kind::Job, &["w", "e", &format!("j{n}")])?, job(&to)).await?;
            }
            Ok::<(), anyhow::Error>(())
        }
    });
    futures_util::future::try_join_all(submitters).await?;
    let submitted = began.elapsed();
    let ended = yard.count("select count(*) from batchyard.attempt where state = 'ended'").await?;
    let mut busy = yard.watch(size.watched).await?;
    let now = yard.count("select count(*) from batchyard.attempt where state = 'ended'").await?;
    ensure!(now > ended, "no job ends");
    report.line(json!({ "peer": "product", "stage": "fleet", "nodes": size.nodes, "jobs": size.jobs,
        "up_s": up.as_secs_f64(), "submitted_per_s": size.jobs as f64 / submitted.as_secs_f64(),
        "queued": size.jobs as i64 - now, "ended_per_s": (now - ended) as f64 / size.watched.as_secs_f64(),
        "idle_cores": idle.cores, "idle_mib": idle.mib, "busy_cores": busy.cores, "busy_mib": busy.mib,
        "passes": busy.seen.passes.len(), "pass_p50_ms": percentile(&mut busy.seen.passes, 0.5),
        "pass_p99_ms": percentile(&mut busy.seen.passes, 0.99), "looks_p50_ms": percentile(&mut busy.seen.looks, 0.5),
        "looks_p99_ms": percentile(&mut busy.seen.looks, 0.99), "decides_p50_ms": percentile(&mut busy.seen.decisions, 0.5),
        "decides_p99_ms": percentile(&mut busy.seen.decisions, 0.99), "writes_p50_ms": percentile(&mut busy.seen.writes, 0.5),
        "writes_p99_ms": percentile(&mut busy.seen.writes, 0.99) }));
    yard.stop().await;
    Ok(())
}

fn cluster(target: u32) -> NewCluster {
    NewCluster {
        spec: ClusterSpec {
            vm_size: "STANDARD_D1".into(),
            vm_priority: VmPriority::Dedicated,
            scale: Scale::Manual { target, deallocation: Deallocation::Requeue },
            image: ImageReference::default(),
            node_setup: None,
            user_account: UserAccount { name: "ops".into(), ssh_public_key: None },
            subnet: None,
            older: None,
        },
        secrets: BTreeMap::new(),
    }
}

fn job(cluster: &ResourceId) -> NewJob {
    NewJob {
        spec: JobSpec {
            priority: Priority::Normal,
            cluster: cluster.path(),
            node_count: 1,
            mount_volumes: None,
            container: None,
            framework: Framework::Custom { command_line: Some("true".into()) },
            preparation: None,
            std_out_err_path_prefix: "$AZ_BATCHAI_JOB_TEMP".into(),
            input_directories: None,
            output_directories: None,
            environment: None,
            secrets: None,
            max_wall_clock_s: 3600,
            retries: vec![],
            older: None,
        },
        secrets: BTreeMap::new(),
    }
}

/// What was seen for some time.
struct Watched {
    /// Processors that this process used, agents included.
    cores: f64,
    /// Its memory at the end, agents included.
    mib: f64,
    /// The reconciler's passes.
    seen: Seen,
}

/// How long passes took, and their parts: those that look at the rows, that decide, and that write.
#[derive(Default)]
struct Seen {
    began: Option<Instant>,
    passes: Vec<Duration>,
    looks: Vec<Duration>,
    looked: Option<Instant>,
    decisions: Vec<Duration>,
    writes: Vec<Duration>,
}

/// A control plane and its nodes.
struct Yard {
    pool: PgPool,
    service: Service,
    caller: Caller,
    subscription: SubscriptionId,
    passes: Arc<Passes>,
    tasks: Tasks,
}

impl Yard {
    async fn start(database: &str, folder: &Path) -> Result<Yard> {
        let store = Store::connect(&Settings { url: database.into(), connections: 24, wait: Duration::from_secs(10) }).await?;
        store.migrate().await?;
        let pool = PgPool::connect(database).await?;
        let (subscription, tenant) = (SubscriptionId(Uuid::new_v4()), TenantId(Uuid::new_v4()));
        sqlx::query("insert into batchyard.subscription (id, tenant_id, display_name, created_at) values ($1, $2, 'S', now())")
            .bind(subscription.0)
            .bind(tenant.0)
            .execute(&pool)
            .await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (wake, tasks) = (Wake::default(), Tasks::new());
        let sealer = || Sealer::new(vec![("key-1".into(), [7; 32])]);
        let fake = Arc::new(Fake::new(Arc::clone(&clock), FakeSettings::default()));
        let kept = archive(&folder.join("fleet").display().to_string(), &[])?;
        let service = Service::new(service::Parts {
            store: store.clone(),
            clock: Arc::clone(&clock),
            wake: wake.clone(),
            sealer: sealer(),
            signer: Signer::new(&[9; 32]),
            output: Arc::new(Files::new(store.clone(), None, kept)),
            sizes: fake.sizes().to_vec(),
            shares: vec![],
            file_servers: false,
            storages: Default::default(),
            mount_deadline: Duration::from_secs(60),
            vaults: Arc::new(NoVaults),
            limits: service::Limits {
                clusters: 1_000,
                file_servers: 0,
                cores: Default::default(),
                stop_grace: Duration::from_secs(10),
                pull: Default::default(),
                record_for: Duration::from_secs(86_400),
                samples_for: Duration::from_secs(86_400),
            },
        });
        service.run(&tasks);
        let passes = Arc::new(Passes { rows: Box::new(store.rows(sealer())), seen: Mutex::default() });
        let reconciler = Reconciler::new(reconcile::Parts {
            rows: Arc::clone(&passes) as Arc<dyn Rows>,
            driver: Arc::clone(&fake) as SharedDriver,
            clock,
            wake,
            limits: reconcile::Limits::default(),
            prefix: "fleet".into(),
            holder: Uuid::now_v7(),
            entropy: Arc::new(SystemEntropy),
            runtime: Arc::new(TokioRuntime::new(tasks.clone())),
        });
        let shutdown = tasks.shutdown();
        tasks.spawn("reconciler", async move { reconciler.run(shutdown).await });
        tasks.spawn_cancellable("nodes", nodes(service.clone(), fake, tasks.clone()));

        let caller = Caller { principal: PrincipalId(Uuid::new_v4()), tenant, client_id: "bench".into(), asked: None };
        let yard = Yard { pool, service, caller, subscription, passes, tasks };
        yard.service.put_group(&yard.caller, &ResourceId::group(subscription, "g"), "eastus".into(), None, None).await?;
        yard.service.put_workspace(&yard.caller, &yard.id(Kind::Workspace, &["w"])?, "eastus".into(), None).await?;
        yard.service.put_experiment(&yard.caller, &yard.id(Kind::Experiment, &["w", "e"])?).await?;
        Ok(yard)
    }

    fn id(&self, kind: Kind, names: &[&str]) -> Result<ResourceId> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        ResourceId::below_group(self.subscription, "g", kind, names).context("an id")
    }

    fn cluster(&self, n: u32) -> ResourceId {
        self.id(Kind::Cluster, &["w", &format!("c{n}")]).expect("an id")
    }

    async fn count(&self, sql: &'static str) -> Result<i64> {
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    async fn wait(&self, what: &str, sql: &'static str, done: impl Fn(i64) -> bool) -> Result<()> {
        let began = Instant::now();
        loop {
            let count = self.count(sql).await?;
            if done(count) {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}, but {count}");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn watch(&self, time: Duration) -> Result<Watched> {
        self.passes.take();
        let before = processor_seconds()?;
        tokio::time::sleep(time).await;
        let cores = (processor_seconds()? - before) / time.as_secs_f64();
        Ok(Watched { cores, mib: memory_mib()?, seen: self.passes.take() })
    }

    async fn stop(self) {
        self.pool.close().await;
        self.tasks.stop(Duration::from_secs(10)).await;
    }
}

/// Rows as they are, with a look at how long each pass takes that writes: from its look at the rows until it has written.
struct Passes {
    rows: Box<dyn Rows>,
    seen: Mutex<Seen>,
}

impl Passes {
    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Seen {
        std::mem::take(&mut *self.lock())
    }
}

#[async_trait::async_trait]
impl Rows for Passes {
    async fn take_lease(&self, name: &str, holder: Uuid, ttl: Duration) -> Result<Option<Lease>, Error> {
        self.rows.take_lease(name, holder, ttl).await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), Error> {
        self.rows.release_lease(lease).await
    }

    async fn snapshot(&self, queue: u32) -> Result<Snapshot, Error> {
        let began = Instant::now();
        let looked = self.rows.snapshot(queue).await;
        let mut seen = self.lock();
        seen.began = Some(began);
        seen.looks.push(began.elapsed());
        seen.looked = Some(Instant::now());
        looked
    }

    async fn apply(&self, lease: &Lease, changes: &[Change]) -> Result<Applied, Error> {
        let began = Instant::now();
        let applied = self.rows.apply(lease, changes).await;
        let mut seen = self.lock();
        seen.writes.push(began.elapsed());
        if let Some(looked) = seen.looked.take() {
            seen.decisions.push(began - looked);
        }
        if let Some(pass) = seen.began.take() {
            seen.passes.push(pass.elapsed());
        }
        applied
    }
}

/// An agent for each machine that comes.
async fn nodes(service: Service, fake: Arc<Fake>, tasks: Tasks) {
    let router = batchyard::http::agent_router(service);
    let mut changes = fake.changes().expect("a fake cloud tells");
    let mut known = std::collections::HashSet::new();
    loop {
        for machine in fake.machines() {
            if known.insert(machine.spec.name.clone()) {
                let router = router.clone();
                tasks.spawn_cancellable("agent", async move {
                    if let Err(error) = agent(router, machine.spec).await {
                        eprintln!("an agent ended: {error:#}");
                    }
                });
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// How long the job of an attempt takes: anything between [`JOB`]'s bounds.
fn length(attempt: AttemptUid) -> Duration {
    let (shortest, longest) = JOB;
    let share = attempt.0.as_u128() as u16;
    shortest + (longest - shortest).mul_f64(f64::from(share) / f64::from(u16::MAX))
}

async fn agent(router: axum::Router, spec: MachineSpec) -> Result<()> {
    let join = Join {
        login: Default::default(),
        protocol: VERSION,
        machine: spec.name.clone(),
        token: spec.bootstrap.join_token.clone(),
        key_hash: "01".repeat(32),
        boot_id: "boot".into(),
        isolation: "simulated".into(),
        gpus: vec![],
    };
    let Joined { mut credential, .. } = ask(&router, JOIN_PATH, None, &join).await?;
    let mut report = Sync {
        protocol: VERSION,
        session: Uuid::new_v4(),
        boot_id: "boot".into(),
        seq: 0,
        have: 0,
        wait_ms: 0,
        setup: Setup::Done,
        health: vec![],
        assignments: vec![],
        output: vec![],
        samples: vec![],
    };
    let mut ends: BTreeMap<AttemptUid, Instant> = BTreeMap::new();
    loop {
        report.seq += 1;
        let now = Instant::now();
        for part in report.assignments.iter_mut().filter(|part| part.state == AssignmentState::Running) {
            if ends.get(&part.attempt).is_none_or(|end| *end <= now) {
                part.state = AssignmentState::Ended;
                part.end = Some(End::Exited { code: 0 });
                part.ended_at = Some(SystemClock.now());
            }
        }
        let next = report.assignments.iter().filter(|part| part.state == AssignmentState::Running);
        let next = next.filter_map(|part| ends.get(&part.attempt)).min().map_or(POLL, |end| end.saturating_duration_since(now));
        report.wait_ms = u32::try_from(next.min(POLL).as_millis()).unwrap_or(u32::MAX);
        let Ok(said) = ask::<_, Synced>(&router, SYNC_PATH, Some(&credential), &report).await else {
            // As agents do where a server is busy; a report that was heard is not heard twice.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        credential = said.credential.unwrap_or(credential);
        report.have = said.revision;
        let Some(desired) = said.desired else { continue };
        report.assignments.retain(|part| desired.assignments.iter().any(|wanted| wanted.attempt == part.attempt));
        for wanted in &desired.assignments {
            let is_known = report.assignments.iter().any(|part| part.attempt == wanted.attempt);
            match wanted.step {
                Step::Run if !is_known => {
                    ends.insert(wanted.attempt, Instant::now() + length(wanted.attempt));
                    let started_at = Some(SystemClock.now());
                    let state = AssignmentState::Running;
                    report.assignments.push(Part { attempt: wanted.attempt, state, started_at, end: None, ended_at: None });
                }
                Step::Stop { .. } => {
                    ends.remove(&wanted.attempt);
                }
                _ => {}
            }
        }
        ends.retain(|attempt, _| report.assignments.iter().any(|part| part.attempt == *attempt));
    }
}

async fn ask<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
    router: &axum::Router,
    path: &str,
    credential: Option<&str>,
    asked: &Q,
) -> Result<A> {
    let mut request = Request::post(path).header("content-type", "application/json");
    if let Some(credential) = credential {
        request = request.header("authorization", format!("Bearer {credential}"));
    }
    let answer = router.clone().oneshot(request.body(Body::from(serde_json::to_vec(asked)?))?).await?;
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await?;
    ensure!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
    Ok(serde_json::from_slice(&body)?)
}

/// Processor time of this process so far, in user and kernel.
fn processor_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(") ").context("a line")?.1.split(' ').collect();
    // Source: proc(5), utime and stime; a tick is a hundredth of a second.
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

fn memory_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a line")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1024.0)
}
