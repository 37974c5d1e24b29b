//! The parts of one server, put together and taken down in order.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use uuid::Uuid;

use super::access;
use super::listeners::Listeners;
use super::sockets::{self, AgentSocket};
use super::traces::TracedRows;
use super::why::Explainer;
use crate::auth::{self, Auth, Installation, Keys};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Driver, Engine, Isolation, Migrations};
use crate::domain::bootstrap::ServerAddress;
use crate::domain::machine::Size;
use crate::domain::pool::{Answer, Question};
use crate::driver::local::{EngineChoice, GpuChoice, NodeNetwork, Privilege};
use crate::driver::{self, SharedDriver, local, qemu, sizes, ssh};
use crate::edge::{self, Budget};
use crate::files::{self, Files};
use crate::http::{self, Hosts};
use crate::passage::{self, Rules};
use crate::reconcile::{self, Catalog, Reconciler, SystemEntropy, TokioRuntime};
use crate::service::{self, Service};
use crate::store::{self, Store};
use crate::task::Tasks;
use crate::telemetry::Telemetry;
use crate::tls::{Source, Tls};
use crate::trace::Tracer;
use crate::vault;
use crate::wake::Wake;
use crate::wire::platform::Location;

/// The mount point below `AZ_BATCHAI_MOUNT_ROOT` at which local nodes have the share.
const SHARE: &str = "shared";

/// Connections of agents at once: two for each of four thousand nodes.
const AGENT_CONNECTIONS: usize = 8192;

/// Time that agents' requests have when the server stops: a report in flight is taken, a long poll is cut.
const AGENT_DRAIN: Duration = Duration::from_secs(1);

/// Time that background work has to come to its end.
const WORK_DRAIN: Duration = Duration::from_secs(5);

/// Time that the last statements have.
const CLOSE: Duration = Duration::from_secs(1);

/// A running server.
pub(super) struct Server {
    /// Who owns it first.
    pub(super) installation: Installation,
    /// The issuer of tokens.
    pub(super) auth: Auth,
    /// The file that clients need to trust it.
    pub(super) authority: Option<PathBuf>,
    /// What separates nodes, where there is a driver.
    pub(super) isolation: Option<String>,
    store: Store,
    drain: Duration,
    edge: Tasks,
    agents: Tasks,
    work: Tasks,
    tracer: Tracer,
    _sockets: Vec<AgentSocket>,
}

/// What runs nodes.
struct Nodes {
    driver: SharedDriver,
    /// The host folder of the share, where nodes have one.
    share: Option<PathBuf>,
    /// Where their container engines may go through this server; `None` for nowhere.
    registries: Option<Rules>,
    /// Where machines of a pool are heard that call.
    calls: Option<ssh::Calls>,
}

/// Tells the driver which machines have joined.
struct Rows(Store);

#[async_trait::async_trait]
impl ssh::Roster for Rows {
    async fn has_joined(&self, name: &str) -> bool {
        let members = self.0.members().await;
        members.map_or(true, |members| members.iter().any(|member| member.name == name && member.offered_until.is_none()))
    }
}

/// Leads calls of machines to the driver.
struct Called(ssh::Calls);

#[async_trait::async_trait]
impl service::Calls for Called {
    fn is_known(&self, name: &str) -> bool {
        self.0.is_known(name)
    }

    fn program(&self) -> Option<(PathBuf, String)> {
        self.0.program()
    }

    fn answer(&self, name: &str, answer: Answer) {
        self.0.answer(name, answer);
    }

    async fn question(&self, name: &str) -> Result<Option<Question>, ()> {
        self.0.question(name).await.map_err(|ssh::Leaderless| ())
    }
}

impl Server {
    /// Builds every part over a database that is there, and serves. `run` is the folder of sockets; `driver` goes before the one that the
    /// settings name.
    pub(super) async fn start(
        config: &Config,
        url: String,
        run: PathBuf,
        listeners: Listeners,
        driver: Option<SharedDriver>,
    ) -> Result<Server> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = connect(config, url).await?;
        let keys_folder = config.folders.keys.clone();
        let keys = blocking(move || Ok(Keys::load_or_create(keys_folder)?)).await?;
        let installation = ensure_installation(config, &store, &keys, &*clock).await?;
        let names = listeners.names(&config.listen);
        let tls = load_tls(config, &names, &listeners, &clock).await?;
        access::configure(config, &store, &installation, &clock).await?;
        let parts = auth::Parts {
            store: store.clone(),
            clock: Arc::clone(&clock),
            keys: keys.clone(),
            tenant: installation.tenant,
            hosts: names.iter().cloned().collect(),
        };
        let issuers = access::issuers(config);
        let auth = blocking(move || Ok(Auth::with_issuers(parts, issuers)?)).await?;
        let prefix = prefix(&installation);
        let sockets_folder = sockets::folder(&run);
        let home = Home { url: listeners.tls_endpoint(), authority: tls.as_ref().and_then(Tls::authority) };
        let nodes = match driver {
            Some(driver) => Some(Nodes { driver, share: None, registries: None, calls: None }),
            None => build_driver(config, &prefix, &run, &home).await?,
        };
        let files = open_files(config, &store, nodes.as_ref()).await?;
        let wake = Wake::default();
        let service = Service::new(service::Parts {
            store: store.clone(),
            clock: Arc::clone(&clock),
            wake: wake.clone(),
            sealer: keys.sealer(),
            signer: keys.signer(),
            output: Arc::new(files.clone()),
            sizes: nodes.as_ref().map_or_else(known_sizes, |nodes| nodes.driver.sizes().to_vec()),
            file_servers: nodes.as_ref().is_some_and(|nodes| nodes.driver.capabilities().file_servers),
            shares: nodes
                .as_ref()
                .filter(|nodes| nodes.driver.capabilities().share)
                .map(|_| SHARE.to_owned())
                .into_iter()
                .collect(),
            storages: config.storage.known.clone(),
            mount_deadline: config.storage.deadline.0,
            vaults: open_vaults(config).await?,
            limits: service::Limits {
                clusters: config.limits.clusters,
                file_servers: config.limits.file_servers,
                cores: config.limits.cores(),
                stop_grace: config.limits.stop_grace.0,
                pull: config.limits.pull(),
                record_for: config.limits.record.0,
                samples_for: config.limits.samples.0,
            },
        });

        let limits = limits(config, nodes.as_ref().map(|nodes| nodes.driver.capabilities()));
        service.tell_reasons(Arc::new(Explainer::new(
            store.clone(),
            keys.sealer(),
            Arc::clone(&clock),
            limits.clone(),
            Catalog::new(prefix.as_str(), service.sizes()),
        )));
        if let Some(calls) = nodes.as_ref().and_then(|nodes| nodes.calls.clone()) {
            calls.set_roster(Arc::new(Rows(store.clone())));
            service.take_calls(Arc::new(Called(calls)));
        }

        let work = Tasks::new();
        let tracer = open_tracer(config).await?;
        let telemetry = Telemetry::of_process().context("this process cannot count")?;
        work.spawn_cancellable("counts", telemetry.clone().keep());
        service.run(&work);
        auth.run(&wake, &work);
        files.run(&work);
        if let Some(tls) = tls.clone() {
            work.spawn_cancellable("certificate", tls.keep());
        }
        let holder = Uuid::now_v7();
        let isolation = nodes.as_ref().map(|nodes| nodes.driver.capabilities().isolation);
        let mut sockets_held = Vec::new();
        let agents = Tasks::new();
        if let Some(nodes) = nodes {
            let (bound, listener) = AgentSocket::bind(&sockets_folder, holder)?;
            let budget = Budget::new(AGENT_CONNECTIONS, AGENT_CONNECTIONS);
            edge::serve_unix(listener, http::agent_router(service.clone()), budget, &agents);
            let mut bound = vec![bound];
            if let Some(rules) = nodes.registries {
                let (passage, listener) = AgentSocket::bind(&sockets::registries_folder(&run), holder)?;
                passage::serve(listener, rules, &agents);
                bound.push(passage);
            }
            sockets_held = bound;
            let reconciler = Reconciler::new(reconcile::Parts {
                rows: rows(&store, &keys, &tracer, &work),
                clock: Arc::clone(&clock),
                wake,
                limits,
                driver: nodes.driver,
                prefix,
                holder,
                entropy: Arc::new(SystemEntropy),
                runtime: Arc::new(TokioRuntime::new(work.clone())),
            });
            let shutdown = work.shutdown();
            work.spawn("reconciler", async move { reconciler.run(shutdown).await });
        }

        let edge = Tasks::new();
        service.answer_waiting_at_end_of(&edge);
        let router = http::router(http::Parts {
            service,
            auth: auth.clone(),
            signer: keys.signer(),
            clock,
            hosts: Hosts::new(names.iter().map(String::as_str)),
            public_url: config.listen.public_url.clone(),
            throttle: throttle(&config.throttle),
            telemetry: telemetry.clone(),
            tracer: tracer.clone(),
            locations: config.limits.locations.iter().map(|name| location(name)).collect(),
        });
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let budget = Budget::new(count(config.listen.connections), count(config.listen.connections_per_address));
        let authority = tls.as_ref().and_then(Tls::authority);
        for listener in listeners.http {
            edge::serve(listener, None, router.clone(), budget.clone(), &edge);
        }
        if let Some(tls) = tls {
            let tls = tls.server_config()?;
            for listener in listeners.https {
                edge::serve(listener, Some(Arc::clone(&tls)), router.clone(), budget.clone(), &edge);
            }
        }
        let drain = config.limits.drain.0;
        Ok(Server { installation, auth, authority, isolation, store, drain, edge, agents, work, tracer, _sockets: sockets_held })
    }

    /// Takes no more connections, answers what is in flight, then ends the work behind: the lease is given back, so that another server
    /// goes on at once.
    pub(super) async fn stop(self) {
        if !self.edge.stop(self.drain).await {
            tracing::warn!("some requests did not end in time and are cut off");
        }
        self.agents.stop(AGENT_DRAIN).await;
        if !self.work.stop(WORK_DRAIN).await {
            tracing::warn!("some work did not end in time; the next server goes on from the rows");
        }
        let (_, told) = tokio::join!(
            tokio::time::timeout(CLOSE, self.store.close()),
            blocking(move || {
                self.tracer.stop();
                Ok(())
            }),
        );
        if let Err(error) = told {
            tracing::warn!(%error, "the last spans are lost");
        }
    }
}

/// Connects, and brings the schema to this version or checks it.
pub(super) async fn connect(config: &Config, url: String) -> Result<Store> {
    let settings = store::Settings { url, connections: config.database.connections, wait: config.database.wait.0 };
    let store = Store::connect(&settings).await.with_context(|| {
        format!("no database answers after {} (is DATABASE_URL right, and does Postgres run?)", config.database.wait)
    })?;
    match config.database.migrations {
        Migrations::Apply => store.migrate().await?,
        Migrations::Check => store.check_schema().await?,
    }
    Ok(store)
}

/// Ensures tenant, subscription and owner. An owner's secret that is nowhere any more is made anew where the folder is this server's
/// alone to say so.
async fn ensure_installation(config: &Config, store: &Store, keys: &Keys, clock: &dyn Clock) -> Result<Installation> {
    Installation::ensure(store, keys, &config.folders.keys, clock).await.context("cannot set up the installation")
}

async fn load_tls(
    config: &Config,
    names: &std::collections::BTreeSet<String>,
    listeners: &Listeners,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Tls>> {
    if listeners.https.is_empty() {
        return Ok(None);
    }
    let source = match &config.listen.certificate {
        Some(files) => Source::Files { certificate: files.chain.clone(), key: files.key.clone() },
        None => Source::Authority { folder: config.folders.keys.clone(), names: names.iter().cloned().collect() },
    };
    let clock = Arc::clone(clock);
    blocking(move || Ok(Some(Tls::load(source, clock)?))).await.context("https needs a certificate")
}

/// Begins the names of machines: short, the same for every server of an installation, another for every installation.
fn prefix(installation: &Installation) -> String {
    let id = installation.tenant.0.simple().to_string();
    format!("by{}", id.get(..8).unwrap_or_default())
}

/// How the server is reached by https: as it finds itself.
pub(super) struct Home {
    pub(super) url: Option<String>,
    pub(super) authority: Option<PathBuf>,
}

async fn build_driver(config: &Config, prefix: &str, run: &std::path::Path, home: &Home) -> Result<Option<Nodes>> {
    let (settings, share, registries) = match &config.driver {
        Driver::None => return Ok(None),
        Driver::Local(local) => {
            let registries = Some(local.registries.clone()).filter(|rules| local.engine == Engine::Own && !rules.is_empty());
            (driver::Settings::Local(local_settings(config, local, prefix, run)), Some(local.share.clone()), registries)
        }
        Driver::Qemu(qemu) => (driver::Settings::Qemu(qemu_settings(config, qemu, prefix, run)), None, None),
        Driver::Ssh(pool) => (driver::Settings::Ssh(ssh_settings(config, pool, prefix, home)?), None, None),
    };
    let calls = match &settings {
        driver::Settings::Ssh(settings) => Some(settings.calls.clone()),
        _ => None,
    };
    let build = move || driver::build(settings).map_err(|error| anyhow::anyhow!("{}", error.chain()));
    let driver = blocking(build).await.context("cannot run nodes on this host")?;
    Ok(Some(Nodes { driver, share, registries, calls }))
}

/// Folders of this server's that no node may see.
fn hidden(config: &Config) -> Vec<PathBuf> {
    vec![config.folders.data.clone(), config.folders.keys.clone(), config.folders.run.clone()]
}

fn local_settings(config: &Config, settings: &config::Local, prefix: &str, run: &std::path::Path) -> local::Settings {
    let registries = settings.engine == Engine::Own && !settings.registries.is_empty();
    local::Settings {
        dir: settings.folder.clone(),
        sockets: sockets::folder(run),
        registries: registries.then(|| sockets::registries_folder(run)),
        share: Some(settings.share.clone()),
        owner: prefix.to_owned(),
        privilege: match settings.isolation {
            Isolation::Best => Privilege::Auto,
            Isolation::Namespaces => Privilege::Namespaces,
            Isolation::ProcessGroups => Privilege::ProcessGroup,
        },
        storage: config.storage.known.clone(),
        mount_commands: settings.mount_commands,
        hidden: hidden(config),
        binary: None,
        login: settings.login_address,
        program: None,
        engine: match &settings.engine {
            Engine::Own => Some(EngineChoice::Own),
            Engine::None => None,
            Engine::Socket(socket) => Some(EngineChoice::Socket(socket.clone())),
        },
        gpus: GpuChoice {
            simulated: settings.simulated_gpus,
            library: settings.gpu_library.clone(),
            refuse_missing: settings.refuse_missing_gpus,
        },
        machine_files: Vec::new(),
        network: NodeNetwork::OfCluster,
        server: None,
        fence: None,
    }
}

fn qemu_settings(config: &Config, settings: &config::Qemu, prefix: &str, run: &std::path::Path) -> qemu::Settings {
    qemu::Settings {
        dir: settings.folder.clone(),
        sockets: sockets::folder(run),
        owner: prefix.to_owned(),
        storage: config.storage.known.clone(),
        hidden: hidden(config),
        binary: None,
        login: settings.login_address,
        bridge: settings.bridge.clone().map(|bridge| local::HostBridge {
            name: bridge.name,
            addresses: bridge.addresses,
            prefix: bridge.prefix,
            gateway: bridge.gateway,
            nameservers: bridge.nameservers,
        }),
        image: qemu::Image {
            disk: settings.image.clone(),
            kernel: settings.kernel.clone().map(|kernel| (kernel, settings.initrd.clone())),
        },
        accelerator: match settings.accelerator {
            config::Accelerator::Kvm => qemu::Accelerator::Kvm,
            config::Accelerator::Tcg => qemu::Accelerator::Tcg,
        },
        boot_deadline: settings.boot_deadline.0,
        kernel_line: settings.kernel_line.clone(),
    }
}

fn ssh_settings(config: &Config, settings: &config::Ssh, prefix: &str, home: &Home) -> Result<ssh::Settings> {
    let (url, ca) = pool_server(config, settings, home)?;
    Ok(ssh::Settings {
        owner: prefix.to_owned(),
        server: ServerAddress::Https { url, ca },
        fence: settings.fence.0,
        machines: settings.machines.clone(),
        binary: None,
        calls: ssh::Calls::default(),
    })
}

/// Where machines of a pool reach the server, and the authority that they are to believe, as PEM.
pub(super) fn pool_server(config: &Config, settings: &config::Ssh, home: &Home) -> Result<(String, String)> {
    let public = config.listen.public_url.as_ref().filter(|url| url.starts_with("https://"));
    let url = settings.server_url.as_ref().or(public).or(home.url.as_ref());
    let url = url.context("machines of a pool reach the server by https, and it has none: set listen.https")?;
    let authority = settings.server_authority.as_ref().or(home.authority.as_ref());
    let authority = authority
        .context("machines of a pool must know whom to believe: set driver.server_authority beside listen.certificate")?;
    let ca = std::fs::read_to_string(authority).with_context(|| format!("cannot read {}", authority.display()))?;
    Ok((url.clone(), ca))
}

/// Nothing is told where no collector is set.
async fn open_tracer(config: &Config) -> Result<Tracer> {
    let Some(collector) = config.traces.clone() else { return Ok(Tracer::default()) };
    let runtime = tokio::runtime::Handle::current();
    blocking(move || Ok(Tracer::new(&collector, runtime)?)).await.context("spans cannot be told")
}

/// What the reconciler works on; told of where spans are.
fn rows(store: &Store, keys: &Keys, tracer: &Tracer, work: &Tasks) -> Arc<dyn store::Rows> {
    let rows = Arc::new(store.rows(keys.sealer()));
    if !tracer.is_on() {
        return rows;
    }
    let (store, tracer, tasks) = (store.clone(), tracer.clone(), work.clone());
    Arc::new(TracedRows { rows, store, tracer, tasks, began: Mutex::new(None) })
}

async fn open_vaults(config: &Config) -> Result<Arc<dyn service::Vaults>> {
    let vaults = config.vaults.clone();
    let known = blocking(move || Ok(vault::Known::new(vaults)?)).await.context("a vault's authority cannot be used")?;
    Ok(Arc::new(known))
}

async fn open_files(config: &Config, store: &Store, nodes: Option<&Nodes>) -> Result<Files> {
    let url = config.archive.url.clone();
    let secrets = config.archive.secrets.iter().map(|(name, secret)| (name.clone(), secret.0.clone()));
    let options: Vec<(String, String)> = config.archive.options.iter().cloned().chain(secrets).collect();
    let archive = blocking(move || Ok(files::archive(&url, &options)?)).await?;
    Ok(Files::new(store.clone(), nodes.and_then(|nodes| nodes.share.clone()), archive))
}

/// What bounds the reconcilers' decisions, by the settings and by what the driver says of itself.
fn limits(config: &Config, driver: Option<driver::Capabilities>) -> reconcile::Limits {
    let defaults = reconcile::Limits::default().with_stop_grace(config.limits.stop_grace.0);
    let fence = driver.as_ref().and_then(|driver| driver.fence);
    reconcile::Limits {
        boot_deadline: driver.map_or(defaults.boot_deadline, |driver| driver.longest_boot),
        scale_down_after: config.limits.scale_down_after.0,
        unusable_for: config.limits.unusable_for.0,
        repair_pause: config.limits.repair_pause.0,
        cores: config.limits.cores(),
        fenced_after: fence.map(reconcile::Limits::surely_fenced_after),
        ..defaults
    }
}

/// The sizes that a server without nodes takes: every one that users know, as those that have nodes cut them to their hosts.
fn known_sizes() -> Vec<Size> {
    sizes::for_host(u32::MAX, u64::MAX, u32::MAX)
}

fn throttle(settings: &config::Throttle) -> http::Throttle {
    let rate = |setting: config::Rate| http::Rate { burst: setting.burst, per_second: setting.per_second };
    let rates = http::Rates { reads: rate(settings.reads), writes: rate(settings.writes), deletes: rate(settings.deletes) };
    http::Throttle::new(settings.enabled.then_some(rates))
}

fn location(display_name: &str) -> Location {
    let name = display_name.chars().filter(|c| *c != ' ').collect::<String>().to_ascii_lowercase();
    Location { name, display_name: display_name.to_owned() }
}

/// Runs what blocks beside the tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a part panicked")?
}
