//! What a server process is to the system: limits, secrets in memory, log.

use std::io::IsTerminal;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::DumpableBehavior;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Open files that a server may need: its connections, twice over.
const OPEN_FILES: u64 = 65_536;

/// Keeps the memory of this process, which holds keys, from core files and from other processes of its user; and lets it open as many
/// files as it may.
pub(super) fn harden() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, hard);
    }
    if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "other processes of this user may read this one's memory");
    }
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(OPEN_FILES).max(soft), hard);
    }
}

/// Writes messages to standard error from now on.
pub(super) fn start_log(log: &Log) {
    // Notices of the database are about statements that are meant to be repeated.
    let filter = EnvFilter::try_new(format!("sqlx=warn,{}", log.filter)).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only where there is a log already.
    let _ = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Auto if !terminal => builder.json().flatten_event(true).try_init(),
        LogFormat::Auto | LogFormat::Text => builder.with_ansi(terminal).with_target(false).try_init(),
    };
}
