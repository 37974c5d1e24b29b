//! What an earlier server left: a Postgres that still runs, and files that name processes that are gone.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::error::EmbeddedError;

/// Time that a left Postgres has for a clean stop, then for one without, and then to be gone.
const STEPS: &[(Signal, Duration)] =
    &[(Signal::INT, Duration::from_secs(20)), (Signal::QUIT, Duration::from_secs(5)), (Signal::KILL, Duration::from_secs(5))];

/// Ends what still runs in the folder of the database, then removes what would keep a new Postgres from it. The caller holds the
/// lock of the data folder, so that whatever runs there is nobody's.
///
/// # Errors
/// `InUse` where a process does not end.
pub(super) async fn clear(data: &Path, socket: &Path) -> Result<(), EmbeddedError> {
    for (signal, patience) in STEPS {
        let left = processes_in(data);
        if left.is_empty() {
            break;
        }
        tracing::info!(processes = left.len(), signal = ?signal, "stopping a Postgres that an earlier server left");
        // The postmaster stops its children; the children of one that was killed end by themselves, or by the last step.
        let postmaster = postmaster(data).filter(|pid| left.contains(pid));
        let told = if *signal == Signal::KILL { left.clone() } else { postmaster.into_iter().collect() };
        for pid in told {
            let _ = rustix::process::kill_process(pid, *signal);
        }
        let _ = tokio::task::spawn_blocking(move || wait_gone(&left, *patience)).await;
    }
    if let Some(pid) = processes_in(data).first() {
        return Err(EmbeddedError::InUse { folder: data.to_owned(), pid: pid.as_raw_nonzero().into() });
    }
    // These name a process that is gone, and its number may be another's by now: Postgres would refuse to start beside it.
    for stale in [data.join("postmaster.pid"), socket.join(".s.PGSQL.5432"), socket.join(".s.PGSQL.5432.lock")] {
        match std::fs::remove_file(&stale) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(EmbeddedError::io("remove", stale)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Waits until none of `pids` runs, or `patience` is over.
fn wait_gone(pids: &[Pid], patience: Duration) {
    let start = std::time::Instant::now();
    for pid in pids {
        let Ok(fd) = rustix::process::pidfd_open(*pid, PidfdFlags::empty()) else { continue };
        let Ok(left) = Timespec::try_from(patience.saturating_sub(start.elapsed())) else { return };
        let _ = rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left));
    }
}

/// The postmaster that the folder names.
fn postmaster(data: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
}

/// Processes of Postgres whose working folder is `data`: every process of a Postgres has that, and nothing else can pass for one.
fn processes_in(data: &Path) -> Vec<Pid> {
    let Ok(folder) = std::fs::metadata(data) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| Some((Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?, entry.path())))
        .filter(|(_, proc)| std::fs::read_to_string(proc.join("comm")).is_ok_and(|name| name.trim_end().starts_with("postgres")))
        .filter(|(_, proc)| {
            std::fs::metadata(proc.join("cwd")).is_ok_and(|cwd| (cwd.dev(), cwd.ino()) == (folder.dev(), folder.ino()))
        })
        .map(|(pid, _)| pid)
        .collect()
}
