//! Arguments, then one call.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use batchyard::app::{self, KeysCommand, Options, PoolCommand, PrincipalCommand};
use batchyard::cli;
use batchyard::store::embedded::Launch;
use clap::{CommandFactory, Parser, Subcommand};

/// A self-hosted service that speaks the Azure Batch AI API.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs everything on this machine, with a private Postgres and nothing to configure.
    Up(Options),
    /// Runs a server on the Postgres that DATABASE_URL names.
    Serve(Options),
    /// Brings the database that DATABASE_URL names to this version.
    Migrate {
        /// The file of settings.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Checks the settings and prints those in effect, without secrets.
    CheckConfig(Options),
    /// Makes, lists and removes those who may sign in.
    #[command(subcommand)]
    Principal(PrincipalCommand),
    /// Lists, adds and retires the keys that sign tokens.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Lists the machines of the pool, and takes them out of use and back.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Prints the OpenAPI document of a version of the API.
    Openapi {
        /// The version, for example 2018-05-01, which is the default.
        version: Option<String>,
    },
    /// Becomes a program of the private Postgres.
    #[command(hide = true)]
    Postgres(Launch),
    /// Is the first process of a local node.
    #[command(hide = true)]
    NodeInit {
        /// What it is told.
        spec: PathBuf,
    },
    /// Keeps the container engine of a node running.
    #[command(hide = true)]
    KeepEngine {
        /// What it is told.
        order: String,
    },
    /// Makes this machine one of a pool.
    #[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
    Agent {
        /// What its driver left for the agent of a node.
        #[arg(hide = true, required = true)]
        bootstrap: Option<PathBuf>,
        #[command(subcommand)]
        command: Option<AgentCommand>,
    },
    #[command(flatten)]
    Client(cli::Command),
}

#[derive(Subcommand)]
enum AgentCommand {
    /// Makes this machine one of a pool, with the token that is standard input: part of the line that `pool token` prints.
    Join {
        /// The server's address.
        #[arg(value_name = "URL")]
        server: String,
        /// The file of the authority that must have signed the server's certificate.
        #[arg(value_name = "FILE")]
        authority: PathBuf,
    },
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    // Started for every job, mount, guest and step of a container, on the way to its first instruction: nothing else is set up for it.
    let done = match words.next().unwrap_or_default().to_str() {
        Some("supervise") => {
            batchyard::agent::supervise(words.next().unwrap_or_default().as_ref()).map(|()| 0).map_err(Into::into)
        }
        Some("keep-mount") => {
            batchyard::agent::keep_mount(words.next().unwrap_or_default().as_ref()).map(|()| 0).map_err(Into::into)
        }
        Some("mount-nfs") => batchyard::agent::mount_nfs().map(|()| 0).map_err(Into::into),
        Some("keep-export") => batchyard::agent::keep_export().map(|()| 0).map_err(Into::into),
        Some("let-in") => {
            batchyard::agent::login(&words.next().unwrap_or_default().to_string_lossy()).map(|()| 0).map_err(Into::into)
        }
        Some("contain") => batchyard::agent::carry(&words.next().unwrap_or_default().to_string_lossy()).map_err(Into::into),
        Some("vm-shell") => {
            batchyard::driver::qemu::vm_shell(&words.next().unwrap_or_default().to_string_lossy()).map(|()| 0).map_err(Into::into)
        }
        Some("vm-guest") => batchyard::driver::qemu::vm_guest().map(|()| 0).map_err(Into::into),
        Some("pool-machine") => {
            log_to_stderr();
            batchyard::driver::ssh::pool_machine().map(|()| 0).map_err(Into::into)
        }
        Some("pool-member") => {
            log_to_stderr();
            let keeps = words.next().is_some_and(|word| word == "keep");
            if keeps { app::keep_pool_member() } else { app::pool_member() }.map(|()| 0)
        }
        Some("session") => batchyard::agent::session(words.next().unwrap_or_default().as_ref()).map_err(Into::into),
        Some("oci-runtime") => batchyard::agent::become_runtime(words.collect()).map(|()| 0).map_err(Into::into),
        _ => run(Arguments::parse().command),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("batchyard: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What runs without a server's settings tells what happens in lines of text.
fn log_to_stderr() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
}

/// Prints an answer; whoever reads may have stopped reading.
fn say(answer: &serde_json::Value) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{answer:#}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Client(command) => return Ok(cli::run(&command, Arguments::command)),
        Command::Up(options) => app::up(&options),
        Command::Serve(options) => app::serve(&options),
        Command::Migrate { config } => app::migrate(config),
        Command::Principal(command) => say(&app::principal(command)?),
        Command::Keys(command) => say(&app::keys(command)?),
        Command::Pool(command) => app::pool(command).map(|answer| println!("{answer}")),
        Command::CheckConfig(options) => app::check_config(&options).map(|settings| print!("{settings}")),
        Command::Openapi { version } => app::openapi(version.as_deref()).map(|document| println!("{document}")),
        Command::Postgres(launch) => Err(launch.run().into()),
        Command::NodeInit { spec } => batchyard::driver::local::node_init(&spec).map_err(Into::into),
        Command::KeepEngine { order } => batchyard::agent::keep_engine(&order).map_err(Into::into),
        Command::Agent { command: Some(AgentCommand::Join { server, authority }), .. } => {
            app::join_pool(&server, &authority).map(|answer| println!("{answer}"))
        }
        Command::Agent { bootstrap, command: None } => {
            log_to_stderr();
            batchyard::agent::run(&bootstrap.unwrap_or_default()).map_err(Into::into)
        }
    }
    .map(|()| 0)
}
