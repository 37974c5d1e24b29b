//! A server process: its settings become its parts, and its signals their end.
//!
//! In: the arguments of a command. Out: an exit, with one sentence where it was not wanted. Refuses to know what the parts do.

mod access;
mod console;
mod folder;
mod keys;
mod listeners;
mod member;
mod pool;
mod principal;
mod process;
mod server;
mod sockets;
mod traces;
mod why;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, Driver, Environment};
use crate::driver::SharedDriver;
use crate::store::RECONCILER_CONNECTIONS;
use crate::store::embedded::{self, Embedded};
use crate::wire::ApiVersion;
use console::Endpoints;
use folder::{DataFolder, Hold};
use listeners::Listeners;
use server::Server;

pub use keys::{KeysCommand, keys};
pub use member::{call as pool_member, join as join_pool, keep as keep_pool_member};
pub use pool::{PoolCommand, pool};
pub use principal::{PrincipalCommand, principal};

/// Time that what is left may take once everything was told to end.
const LAST: Duration = Duration::from_secs(1);

/// What can be said of a server on the command line; the rest is in the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// The file of settings; everything has a default.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data folder: database, keys, outputs, nodes.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The port of http on 127.0.0.1; 0 takes a free one.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// The port of https on 127.0.0.1; 0 takes a free one.
    #[arg(long, value_name = "PORT")]
    pub tls_port: Option<u16>,
    /// The folder that every local node has at $AZ_BATCHAI_MOUNT_ROOT/shared.
    #[arg(long, value_name = "DIR")]
    pub share: Option<PathBuf>,
    /// Writes endpoints, ids and a token as shell assignments to this file once the API is ready.
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

/// `batchyard up`: a server with a private Postgres.
///
/// # Errors
/// It cannot start; the text is one sentence with the remedy.
pub fn up(options: &Options) -> Result<()> {
    let environment = Environment::read();
    let config = settings(options, &environment)?;
    let runtime = prepare(&config)?;
    let result = runtime.block_on(run_up(&config, options, &environment));
    runtime.shutdown_timeout(LAST);
    result
}

/// `batchyard serve`: a server on the Postgres of `DATABASE_URL`.
///
/// # Errors
/// As of [`up`].
pub fn serve(options: &Options) -> Result<()> {
    serve_machines(options, None)
}

/// As [`serve`], with machines of `driver` in place of those that the settings name. Agents on them reach the server by https.
///
/// # Errors
/// As of [`up`].
pub fn serve_with(options: &Options, driver: SharedDriver) -> Result<()> {
    serve_machines(options, Some(driver))
}

fn serve_machines(options: &Options, driver: Option<SharedDriver>) -> Result<()> {
    let environment = Environment::read();
    let config = settings(options, &environment)?;
    let runtime = prepare(&config)?;
    let result = runtime.block_on(run_serve(&config, options, &environment, driver));
    runtime.shutdown_timeout(LAST);
    result
}

/// `batchyard migrate`: brings the schema of `DATABASE_URL` to this version.
///
/// # Errors
/// The settings are not right, the database is away, or its schema is of a later version.
pub fn migrate(file: Option<PathBuf>) -> Result<()> {
    let environment = Environment::read();
    let config = settings(&Options { config: file, ..Options::default() }, &environment)?;
    let runtime = prepare(&config)?;
    runtime.block_on(async {
        let config = Config {
            database: crate::config::Database { migrations: crate::config::Migrations::Apply, ..config.database.clone() },
            ..config
        };
        server::connect(&config, database_url(&config)?).await.map(drop)
    })
}

/// `batchyard check-config`: the settings in effect, without secrets.
///
/// # Errors
/// Everything that is wrong with them.
pub fn check_config(options: &Options) -> Result<String> {
    Ok(settings(options, &Environment::read())?.to_toml())
}

/// `batchyard openapi`: the contract of a version, as committed in `openapi/`; without one, of 2018-05-01.
///
/// # Errors
/// The version is not served.
pub fn openapi(version: Option<&str>) -> Result<String> {
    let version = match version {
        None => ApiVersion::V2018_05_01,
        Some(text) => ApiVersion::find(text)
            .with_context(|| format!("there is no version '{text}'; there are {}", ApiVersion::list(", ")))?,
    };
    Ok(serde_json::to_string_pretty(&crate::http::openapi(version))?)
}

/// The file, then the command line.
fn settings(options: &Options, environment: &Environment) -> Result<Config> {
    let absolute = |path: &PathBuf| std::path::absolute(path).with_context(|| format!("{} is no path", path.display()));
    let mut config = Config::load(options.config.as_deref(), environment)?;
    if let Some(data) = &options.data {
        config.move_data(absolute(data)?);
    }
    let local = |port| vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
    if let Some(port) = options.port {
        config.listen.http = local(port);
    }
    if let Some(port) = options.tls_port {
        config.listen.https = local(port);
    }
    if let Some(share) = &options.share {
        match &mut config.driver {
            Driver::Local(settings) => settings.share = absolute(share)?,
            Driver::Qemu(_) | Driver::Ssh(_) | Driver::None => {
                bail!("--share needs the local driver, and driver.kind is another")
            }
        }
    }
    Ok(config)
}

fn prepare(config: &Config) -> Result<Runtime> {
    process::start_log(&config.log);
    process::harden();
    crate::tls::install_provider();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")
}

fn database_url(config: &Config) -> Result<String> {
    let url = config.database.url.as_ref();
    Ok(url.context("DATABASE_URL is not set: give the address of a Postgres, or use `batchyard up`")?.0.clone())
}

async fn run_up(config: &Config, options: &Options, environment: &Environment) -> Result<()> {
    let mut signals = Signals::listen()?;
    let _held = DataFolder::hold(&config.folders.data, Hold::Alone)?;
    let listeners = Listeners::bind(&config.listen).await?;
    let run = folder::run_folder(&config.folders.run, environment);
    folder::make_private(&run)?;
    // On this thread, for as long as it lives: the kernel ties the life of Postgres to it.
    let mut postgres = tokio::select! {
        started = Embedded::start(postgres_settings(config, &run, environment)?) => started?,
        () = signals.next() => return Ok(()),
    };
    let started = tokio::select! {
        started = start(config, options, postgres.url(), run, listeners, None) => started.map(Some),
        () = signals.next() => Ok(None),
    };
    let result = match started {
        Ok(Some(server)) => {
            postgres.keep(signals.next()).await;
            stop(server, &mut signals).await;
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    postgres.stop().await;
    result
}

async fn run_serve(config: &Config, options: &Options, environment: &Environment, driver: Option<SharedDriver>) -> Result<()> {
    let mut signals = Signals::listen()?;
    let url = database_url(config)?;
    let _held = DataFolder::hold(&config.folders.data, Hold::Shared)?;
    let listeners = Listeners::bind(&config.listen).await?;
    let run = folder::run_folder(&config.folders.run, environment);
    folder::make_private(&run)?;
    let server = tokio::select! {
        started = start(config, options, url, run, listeners, driver) => started?,
        () = signals.next() => return Ok(()),
    };
    signals.next().await;
    stop(server, &mut signals).await;
    Ok(())
}

/// Starts the server and says so.
async fn start(
    config: &Config,
    options: &Options,
    url: String,
    run: PathBuf,
    listeners: Listeners,
    driver: Option<SharedDriver>,
) -> Result<Server> {
    let endpoints = Endpoints { http: listeners.endpoint(), https: listeners.tls_endpoint() };
    let server = Server::start(config, url, run, listeners, driver).await?;
    if let Some(file) = &options.env_file {
        console::write_env_file(file, &server, &endpoints).await?;
    }
    let share = match &config.driver {
        Driver::Local(settings) => Some(settings.share.as_path()),
        Driver::Qemu(_) | Driver::Ssh(_) | Driver::None => None,
    };
    let page = console::page(&server, &endpoints, share, options.env_file.as_deref());
    // Nobody may be reading.
    let _ = std::io::stdout().write_all(page.as_bytes());
    tracing::info!(http = endpoints.http, https = endpoints.https, "ready");
    Ok(server)
}

/// Stops the server in order; a second signal cuts that short.
async fn stop(server: Server, signals: &mut Signals) {
    tracing::info!("stopping");
    tokio::select! {
        () = server.stop() => tracing::info!("stopped"),
        () = signals.next() => tracing::warn!("asked again: stopping at once"),
    }
}

fn postgres_settings(config: &Config, run: &std::path::Path, environment: &Environment) -> Result<embedded::Settings> {
    let binary = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(embedded::Settings {
        folder: config.folders.data.clone(),
        socket: run.join("db"),
        programs: config.database.programs.clone(),
        path: environment.path.clone(),
        launcher: vec![binary.into_os_string(), "postgres".into()],
        connections: config.database.connections + RECONCILER_CONNECTIONS,
        memory: config.database.memory.0,
        ready_within: config.database.wait.0,
    })
}

/// The signals that end a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// The next of them.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
