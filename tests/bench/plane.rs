//! One control plane and thousands of agents: what it costs, and how long a reader waits meanwhile.
//!
//! Servers are the whole program with machines that are files; agents are one process beside them, of lower priority, as they would be
//! on machines of their own. Each part tells processors and memory of server and Postgres, and times of a GET that goes on all the while.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use batchyard::domain::bootstrap::ServerAddress;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::agents::{self, ADDRESS, COUNTS, Counts, STARTS};
use crate::load::{Connection, Until, load, percentile};
use crate::machines::{self, Machines};
use crate::product::{Product, THROTTLE, proportional_mib};
use crate::{CLIENTS, Report};

/// Nodes of one cluster.
const OF_A_CLUSTER: u32 = 100;

/// Time between two GETs of the reader.
const READS: Duration = Duration::from_millis(20);

/// Longest wait for anything that is not itself measured.
const PATIENCE: Duration = Duration::from_secs(900);

/// Time between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// How large it is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Agents.
    pub(crate) agents: u32,
    /// Jobs that go through them.
    pub(crate) jobs: u64,
    /// How long a job takes on its node.
    pub(crate) job: Duration,
    /// How long heartbeats alone are watched.
    pub(crate) watched: Duration,
}

/// The command of a server's process.
pub(crate) fn serve(folder: &Path, options: &batchyard::app::Options) -> Result<()> {
    batchyard::app::serve_with(options, Arc::new(Machines::new(folder.to_owned())))
}

/// The command of the agents' process.
pub(crate) fn play(folder: &Path, job: Duration) -> Result<()> {
    // Two connections for each of them.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(agents::play(folder, job))
}

/// One server, spoken to by https.
pub(crate) async fn scale(report: &Report, folder: &Path, size: Size) -> Result<()> {
    let mut plane = Plane::start(folder, size, 1).await?;
    plane.grow(report).await?;
    plane.heartbeats(report).await?;
    plane.jobs(report).await?;
    plane.losses(report).await?;
    for away in [Duration::ZERO, Duration::from_secs(10)] {
        plane.restart(report, away).await?;
    }
    plane.stop().await
}

/// Two servers, spoken to by sockets of one host; either is killed while jobs run.
pub(crate) async fn failover(report: &Report, folder: &Path, size: Size) -> Result<()> {
    let mut plane = Plane::start(folder, size, 2).await?;
    plane.grow(report).await?;
    plane.kills(report).await?;
    plane.stop().await
}

/// Servers, their Postgres, their agents and a reader.
struct Plane {
    size: Size,
    folder: PathBuf,
    machines: tempfile::TempDir,
    postgres: Product,
    database: String,
    pool: PgPool,
    ports: Vec<(u16, u16)>,
    servers: Vec<Product>,
    agents: Child,
    reader: Reader,
    submitted: u64,
}

impl Plane {
    async fn start(folder: &Path, size: Size, servers: usize) -> Result<Plane> {
        let folder = folder.join(format!("plane{servers}"));
        std::fs::create_dir(&folder)?;
        let postgres = Product::start_with(&folder, "[database]\nconnections = 60\n").await?;
        let database = postgres.database("plane").await?;
        // In memory, where there is such a place: it stands for other machines' disks.
        let memory = Path::new("/dev/shm");
        let memory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let machines = tempfile::Builder::new().prefix("batchyard-machines").tempdir_in(memory)?;
        let settings = "[driver]\nkind = \"none\"\n[limits]\nclusters = 1000\n\
            [listen]\nconnections = 20000\nconnections_per_address = 20000\n";
        std::fs::write(folder.join("plane.toml"), format!("{THROTTLE}{settings}"))?;
        let mut ports = Vec::new();
        for _ in 0..servers {
            ports.push((free_port()?, free_port()?));
        }
        let mut plane_servers = Vec::new();
        for (number, ports) in ports.iter().enumerate() {
            plane_servers.push(start_server(&folder, machines.path(), &database, number, *ports).await?);
        }
        let first = &plane_servers[0];
        let address = if servers == 1 {
            let ca = std::fs::read_to_string(first.value("BATCHYARD_CA")?)?;
            ServerAddress::Https { url: first.value("BATCHYARD_TLS_ENDPOINT")?.to_owned(), ca }
        } else {
            ServerAddress::Sockets(folder.join("plane/run/agents"))
        };
        std::fs::write(machines.path().join(ADDRESS), serde_json::to_vec(&address)?)?;
        // Lower in priority, as it takes processors here that it would not take elsewhere.
        let agents = Command::new("nice")
            .args(["-n", "10"])
            .arg(std::env::current_exe()?)
            .arg("scale-agents")
            .arg(machines.path())
            .arg(size.job.as_millis().to_string())
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(folder.join("agents.log"))?)
            .spawn()?;
        let mut on = Connection::open(first.address).await?;
        first.ask(&mut on, Method::PUT, "resourceGroups/g", Some(&json!({ "location": "eastus" }))).await?;
        first.ask(&mut on, Method::PUT, WORKSPACE, Some(&json!({ "location": "eastus" }))).await?;
        first.ask(&mut on, Method::PUT, &format!("{WORKSPACE}/experiments/e"), None).await?;
        let request = first.requester();
        let reader = Reader::start(first.address, move || request(Method::GET, WORKSPACE, None));
        let pool = PgPool::connect(&database).await?;
        Ok(Plane {
            size,
            folder,
            machines,
            postgres,
            database,
            pool,
            ports,
            servers: plane_servers,
            agents,
            reader,
            submitted: 0,
        })
    }

    fn server(&self) -> &Product {
        &self.servers[0]
    }

    fn clusters(&self) -> u32 {
        self.size.agents.div_ceil(OF_A_CLUSTER)
    }

    async fn count(&self, sql: &'static str) -> Result<i64> {
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    async fn wait(&self, what: &str, sql: &'static str, count: u64) -> Result<()> {
        let began = Instant::now();
        loop {
            let now = self.count(sql).await?;
            if now >= i64::try_from(count)? {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}, but {now} of {count}");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn counts(&self) -> Result<Counts> {
        Ok(serde_json::from_slice(&std::fs::read(self.machines.path().join(COUNTS))?)?)
    }

    /// What was measured since `meter`, beside what the part itself tells.
    fn tell(&self, report: &Report, part: &str, meter: &Meter, own: Value) -> Result<()> {
        let mut line = json!({ "peer": "product", "stage": "scale", "part": part, "agents": self.size.agents });
        for more in [own, meter.read(self)?, self.reader.since(meter.began)] {
            if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
                line.extend(more);
            }
        }
        report.line(line);
        Ok(())
    }

    /// All agents join.
    async fn grow(&mut self, report: &Report) -> Result<()> {
        let meter = Meter::start(self)?;
        let mut on = Connection::open(self.server().address).await?;
        for n in 0..self.clusters() {
            let nodes = OF_A_CLUSTER.min(self.size.agents - n * OF_A_CLUSTER);
            self.server().ask(&mut on, Method::PUT, &cluster(n), Some(&self.server().cluster(nodes))).await?;
        }
        self.wait("all agents have joined", READY, self.size.agents.into()).await?;
        let took = meter.began.elapsed().as_secs_f64();
        self.tell(report, "join", &meter, json!({ "s": took, "joined_per_s": f64::from(self.size.agents) / took }))
    }

    /// Nothing happens but that agents say that they are there.
    async fn heartbeats(&mut self, report: &Report) -> Result<()> {
        self.connected(self.size.agents).await?;
        let meter = Meter::start(self)?;
        let before = self.metric("batchyard_agent_requests_total").await?;
        tokio::time::sleep(self.size.watched).await;
        let requests = self.metric("batchyard_agent_requests_total").await? - before;
        let rate = requests / self.size.watched.as_secs_f64();
        self.tell(report, "heartbeats", &meter, json!({ "requests_per_s": rate }))
    }

    async fn submit(&mut self, count: u64) -> Result<()> {
        let (request, clusters, first) = (self.server().requester(), u64::from(self.clusters()), self.submitted);
        let bodies: Vec<Value> = (0..self.clusters()).map(|n| job(&self.server().id(&cluster(n)))).collect();
        load(self.server().address, CLIENTS, Until::Count(count), first, move |n| {
            let body = &bodies[usize::try_from(n % clusters).unwrap_or_default()];
            request(Method::PUT, &format!("{WORKSPACE}/experiments/e/jobs/j{n}"), Some(body))
        })
        .await?;
        self.submitted += count;
        Ok(())
    }

    async fn all_succeeded(&self) -> Result<()> {
        self.wait("all jobs have succeeded", SUCCEEDED, self.submitted).await?;
        let counts = self.counts()?;
        ensure!(counts.doubles == 0, "a job was at two places at once: {counts:?}");
        Ok(())
    }

    /// Jobs go through.
    async fn jobs(&mut self, report: &Report) -> Result<()> {
        let meter = Meter::start(self)?;
        self.submit(self.size.jobs).await?;
        let submitted = meter.began.elapsed().as_secs_f64();
        self.all_succeeded().await?;
        let took = meter.began.elapsed().as_secs_f64();
        let counts = self.counts()?;
        ensure!(counts.again == 0, "a job ran twice: {counts:?}");
        let jobs = self.size.jobs as f64;
        let own = json!({ "jobs": self.size.jobs, "s": took, "submitted_per_s": jobs / submitted, "ended_per_s": jobs / took });
        self.tell(report, "jobs", &meter, own)
    }

    /// A tenth of the machines go while all have jobs; others come in their place.
    async fn losses(&mut self, report: &Report) -> Result<()> {
        self.submit(u64::from(self.size.agents) * 2).await?;
        let lost = self.size.agents / 10;
        let gone = self.count(GONE).await? + i64::from(lost);
        let meter = Meter::start(self)?;
        machines::lose(self.machines.path(), usize::try_from(lost)?)?;
        self.wait("those that are gone are known", GONE, u64::try_from(gone)?).await?;
        let known = meter.began.elapsed().as_secs_f64();
        self.wait("others have come", READY, self.size.agents.into()).await?;
        let replaced = meter.began.elapsed().as_secs_f64();
        self.all_succeeded().await?;
        let again = self.counts()?.again;
        let own = json!({ "lost": lost, "known_s": known, "replaced_s": replaced, "jobs_started_again": again });
        self.tell(report, "loss", &meter, own)
    }

    /// The server is killed, and comes again after a while: all agents come back at once.
    async fn restart(&mut self, report: &Report, away: Duration) -> Result<()> {
        self.connected(self.size.agents).await?;
        self.servers.remove(0).kill()?;
        tokio::time::sleep(away).await;
        let server = start_server(&self.folder, self.machines.path(), &self.database, 0, self.ports[0]).await?;
        self.servers.insert(0, server);
        let meter = Meter::start(self)?;
        self.connected(self.size.agents).await?;
        let own = json!({ "away_s": away.as_secs_f64(), "connected_s": meter.began.elapsed().as_secs_f64() });
        // What follows from so many at once shows a little later still.
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.tell(report, "restart", &meter, own)
    }

    /// Either server is killed while jobs start all the time: first the one that leads, then the one that led from then on.
    async fn kills(&mut self, report: &Report) -> Result<()> {
        for (part, which) in [("killed_leader", 0), ("killed_follower", 1)] {
            self.submit(u64::from(self.size.agents) * 4).await?;
            let leads = if self.leads(0).await? { 0 } else { 1 };
            let killed = (leads + which) % 2;
            let (meter, began) = (Meter::start(self)?, now_ms());
            // The reader reads from the first; where that is killed, it reads from it again once it is back.
            self.servers.remove(killed).kill()?;
            tokio::time::sleep(Duration::from_secs(10)).await;
            let gap = longest_gap(&self.machines.path().join(STARTS), began, now_ms())?;
            let server = start_server(&self.folder, self.machines.path(), &self.database, killed, self.ports[killed]).await?;
            self.servers.insert(killed, server);
            self.all_succeeded().await?;
            let counts = self.counts()?;
            ensure!(counts.again == 0, "a job ran twice: {counts:?}");
            self.tell(report, part, &meter, json!({ "longest_gap_ms": gap }))?;
        }
        Ok(())
    }

    async fn leads(&self, server: usize) -> Result<bool> {
        Ok(metric(&self.servers[server], "batchyard_reconcile_leader").await? > 0.0)
    }

    async fn metric(&self, name: &str) -> Result<f64> {
        metric(self.server(), name).await
    }

    /// Waits until so many agents wait for news.
    async fn connected(&self, count: u32) -> Result<()> {
        let began = Instant::now();
        loop {
            let now = self.metric("batchyard_agents_connected").await?;
            if now >= f64::from(count) {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "not all agents are connected, but {now} of {count}");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn stop(mut self) -> Result<()> {
        self.reader.stop();
        self.agents.kill()?;
        self.agents.wait()?;
        self.pool.close().await;
        for server in self.servers {
            server.stop().await?;
        }
        self.postgres.stop().await
    }
}

const WORKSPACE: &str = "resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w";

const READY: &str = "select count(*) from batchyard.machine where state = 'ready'";

const GONE: &str = "select count(*) from batchyard.machine where state = 'gone'";

const SUCCEEDED: &str = "select count(*) from batchyard.resource where phase = 'succeeded'";

fn cluster(n: u32) -> String {
    format!("{WORKSPACE}/clusters/c{n}")
}

fn job(cluster: &str) -> Value {
    json!({ "properties": { "cluster": { "id": cluster }, "nodeCount": 1, "stdOutErrPathPrefix": "$AZ_BATCHAI_JOB_TEMP",
        "customToolkitSettings": { "commandLine": "true" } } })
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

async fn start_server(
    folder: &Path,
    machines: &Path,
    database: &str,
    number: usize,
    (http, https): (u16, u16),
) -> Result<Product> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("scale-server").arg(machines).arg("--config").arg(folder.join("plane.toml"));
    command.arg("--data").arg(folder.join("plane")).env("DATABASE_URL", database);
    command.args(["--port", &http.to_string(), "--tls-port", &https.to_string()]);
    Product::spawn(folder, &format!("server{number}"), command).await
}

/// The sum of a metric over its labels.
async fn metric(server: &Product, name: &str) -> Result<f64> {
    let mut on = Connection::open(server.address).await?;
    let request = Request::get("/metrics")
        .header("host", server.address.to_string())
        .header("authorization", format!("Bearer {}", server.value("BATCHYARD_TOKEN")?))
        .body(Full::new(Bytes::new()))?;
    let (status, body) = on.ask(request).await?;
    ensure!(status.is_success(), "/metrics: {status}");
    let lines = String::from_utf8_lossy(&body);
    let values = lines.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// The longest time between two starts of jobs between two moments. Unit: milliseconds.
fn longest_gap(file: &Path, from: u128, to: u128) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let mut times: Vec<u128> = text.lines().filter_map(|line| line.parse().ok()).filter(|at| (from..to).contains(at)).collect();
    times.push(from);
    times.sort_unstable();
    Ok(u64::try_from(times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(to - from))?)
}

/// Processors used from a moment on.
struct Meter {
    began: Instant,
    server: f64,
    postgres: f64,
}

impl Meter {
    fn start(plane: &Plane) -> Result<Meter> {
        let postgres = family_seconds(plane.postgres.postmaster()?)?;
        Ok(Meter { began: Instant::now(), server: processor_seconds(plane.server().pid())?.0, postgres })
    }

    fn read(&self, plane: &Plane) -> Result<Value> {
        let time = self.began.elapsed().as_secs_f64();
        // A server that was started anew begins at nothing.
        let server = processor_seconds(plane.server().pid())?.0;
        let server = if server < self.server { server } else { server - self.server };
        let postmaster = plane.postgres.postmaster()?;
        let postgres = family_seconds(postmaster)? - self.postgres;
        let mib: f64 = children(postmaster)?.into_iter().chain([postmaster]).filter_map(|pid| proportional_mib(pid).ok()).sum();
        Ok(json!({ "server_cores": server / time, "postgres_cores": postgres / time,
            "server_mib": proportional_mib(plane.server().pid())?, "postgres_mib": mib }))
    }
}

/// Processor time of a process so far, and that of its children that have ended.
fn processor_seconds(pid: u32) -> Result<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(") ").context("a line")?.1.split(' ').collect();
    // Source: proc(5), utime, stime, cutime and cstime; a tick is a hundredth of a second.
    let ticks = |n: usize| fields[n].parse::<f64>().map(|ticks| ticks / 100.0);
    Ok((ticks(11)? + ticks(12)?, ticks(13)? + ticks(14)?))
}

fn family_seconds(parent: u32) -> Result<f64> {
    let (own, ended) = processor_seconds(parent)?;
    let living: f64 = children(parent)?.into_iter().filter_map(|pid| Some(processor_seconds(pid).ok()?.0)).sum();
    Ok(own + ended + living)
}

fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let of = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        found.extend((of == Some(parent)).then_some(pid));
    }
    Ok(found)
}

/// When it was asked, and how long the answer took; `None` where there was none.
type Seen = Arc<Mutex<Vec<(Instant, Option<Duration>)>>>;

/// Reads on a thread of its own, one request after the other with a pause between.
struct Reader {
    seen: Seen,
    stopped: Arc<AtomicBool>,
}

impl Reader {
    fn start(address: std::net::SocketAddr, request: impl Fn() -> Request<Full<Bytes>> + Send + 'static) -> Reader {
        let (seen, stopped) = (Seen::default(), Arc::new(AtomicBool::new(false)));
        let reader = Reader { seen: Arc::clone(&seen), stopped: Arc::clone(&stopped) };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut connection = None;
                while !stopped.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let asked = async {
                        let mut on = match connection.take() {
                            Some(on) => on,
                            None => Connection::open(address).await?,
                        };
                        let (status, _) = on.ask(request()).await?;
                        ensure!(status.is_success(), "{status}");
                        connection = Some(on);
                        Ok(())
                    };
                    let took = asked.await.is_ok().then(|| began.elapsed());
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push((began, took));
                    tokio::time::sleep(READS).await;
                }
            });
        });
        reader
    }

    fn since(&self, moment: Instant) -> Value {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let of_part: Vec<_> = seen.iter().filter(|(began, _)| *began >= moment).map(|(_, took)| *took).collect();
        let mut times: Vec<Duration> = of_part.iter().copied().flatten().collect();
        json!({ "gets": of_part.len(), "gets_failed": of_part.len() - times.len(), "get_p50_ms": percentile(&mut times, 0.5),
            "get_p99_ms": percentile(&mut times, 0.99), "get_max_ms": percentile(&mut times, 1.0) })
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}
