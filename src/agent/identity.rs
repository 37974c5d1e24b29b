//! Who the agent is to the server: a key made on the node, and the credential that it was traded for.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::agent::client::Ask;
use crate::agent::protocol::{JOIN_PATH, Join, Joined};
use crate::agent::record::{find_private, write_private};

/// Longest time of one attempt to join.
const DEADLINE: Duration = Duration::from_secs(15);

/// The node's key and credential, kept in the agent's own folder.
pub(super) struct Identity {
    key: [u8; 32],
    credential: Option<String>,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    credential: String,
}

impl Identity {
    /// What an earlier agent left, or a new key.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn load_or_create(state_dir: &Path) -> io::Result<Identity> {
        let key_path = state_dir.join("key.json");
        let key = match find_private(&key_path) {
            Some(key) => key,
            None => {
                let mut key = [0; 32];
                rand::rng().fill_bytes(&mut key);
                // Kept before it is used: the same key again gets the same answer.
                write_private(&key_path, &key)?;
                key
            }
        };
        let path = state_dir.join("credential.json");
        let credential = find_private::<Kept>(&path).map(|kept| kept.credential);
        Ok(Identity { key, credential, path })
    }

    /// The credential, if there is one.
    pub(super) fn credential(&self) -> Option<&str> {
        self.credential.as_deref()
    }

    /// Keeps a credential.
    pub(super) fn keep(&mut self, credential: String) {
        if let Err(error) = write_private(&self.path, &Kept { credential: credential.clone() }) {
            // The next agent joins again with the same key.
            tracing::warn!(%error, "the credential cannot be kept");
        }
        self.credential = Some(credential);
    }

    /// Forgets a credential that the server does not take any more.
    pub(super) fn forget(&mut self) {
        self.credential = None;
    }

    /// SHA-256, in hex, of the key.
    pub(super) fn key_hash(&self) -> String {
        hex(&Sha256::digest(self.key))
    }

    /// The request that trades the token for a credential. Repeating it is harmless.
    ///
    /// # Errors
    /// None in practice: the document is always one.
    pub(super) fn join(join: &Join) -> io::Result<Ask> {
        Ok(Ask {
            path: JOIN_PATH.to_owned(),
            content_type: "application/json",
            body: serde_json::to_vec(join)?.into(),
            credential: None,
            deadline: DEADLINE,
        })
    }

    /// Takes the answer to [`join`](Self::join).
    ///
    /// # Errors
    /// It is none.
    pub(super) fn joined(&mut self, answer: &[u8]) -> io::Result<()> {
        let joined: Joined = serde_json::from_slice(answer)?;
        tracing::info!(machine.uid = %joined.machine, expires_in_s = joined.expires_in_s, "joined");
        self.keep(joined.credential);
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
