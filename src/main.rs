//! Arguments, then one call.

use std::process::ExitCode;

use batchyard::store::embedded::Launch;
use clap::{Parser, Subcommand};

/// A self-hosted service that speaks the Azure Batch AI API.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Becomes a program of the private Postgres.
    #[command(hide = true)]
    Postgres(Launch),
    /// Is the first process of a local node.
    #[command(hide = true)]
    NodeInit {
        /// What it is told.
        spec: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Postgres(launch) => {
            eprintln!("batchyard: cannot run {:?}: {}", launch.command.first(), launch.run());
            ExitCode::FAILURE
        }
        Command::NodeInit { spec } => match batchyard::driver::local::node_init(&spec) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("batchyard: {error}");
                ExitCode::FAILURE
            }
        },
    }
}
