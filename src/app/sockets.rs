//! The socket on which this server speaks to agents on its host.
//!
//! All servers of an installation on one host have theirs in one folder, which nodes see read-only. A server that is gone leaves a
//! socket file that nobody answers; the next one removes it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::net::UnixListener;
use uuid::Uuid;

use super::folder::make_private;

/// The folder of agents' sockets, in the folder of sockets.
pub(super) fn folder(run: &Path) -> PathBuf {
    run.join("agents")
}

/// The folder of passages to registries, beside it.
pub(super) fn registries_folder(run: &Path) -> PathBuf {
    run.join("registries")
}

/// A socket that is removed with its server.
#[derive(Debug)]
pub(super) struct AgentSocket(PathBuf);

impl AgentSocket {
    /// Listens in `folder` under a name of this process alone. The name is short: a socket's path has room for 107 bytes.
    pub(super) fn bind(folder: &Path, holder: Uuid) -> Result<(AgentSocket, UnixListener)> {
        make_private(folder)?;
        remove_stale(folder)?;
        let name: String = holder.simple().to_string().chars().rev().take(12).collect();
        let path = folder.join(format!("{name}.sock"));
        let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        Ok((AgentSocket(path), listener))
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes sockets that nobody listens on.
fn remove_stale(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?.flatten() {
        let path = entry.path();
        let refused = || UnixStream::connect(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        if path.extension().is_some_and(|end| end == "sock") && refused() {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_of_dead_servers_are_removed_and_those_of_others_stay() {
        let folder = std::env::temp_dir().join(format!("batchyard-sockets-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let (living, _listener) = AgentSocket::bind(&folder, Uuid::from_u128(1 << 127)).expect("binds");
        let dead = folder.join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).expect("binds"));
        let (second, _listener) = AgentSocket::bind(&folder, Uuid::from_u128(7)).expect("binds");
        assert!(living.0.exists() && second.0.exists() && !dead.exists());
        drop(second);
        assert_eq!(fs::read_dir(&folder).expect("reads").count(), 1);
        fs::remove_dir_all(folder).expect("removes");
    }
}
