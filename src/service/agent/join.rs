//! An agent comes home: its one-time token against a credential of its own.

use super::credential::LIFE;
use super::{check_version, refused};
use crate::agent::protocol::{Join, Joined, LoginWay};
use crate::domain::gpu::Gpu;
use crate::error::{Error, ErrorCode};
use crate::service::Service;
use crate::store::machine::{self, JoinOutcome};
use crate::wake::Topic;

impl Service {
    /// Binds the node's key to its machine. The same key again gets the same answer, as a reply may be lost; another key quarantines the
    /// machine.
    ///
    /// # Errors
    /// `AuthenticationFailed` where token, key or machine do not fit; `InvalidRequestContent`; `ServiceUnavailable`.
    pub async fn join(&self, join: Join) -> Result<Joined, Error> {
        check_version(join.protocol)?;
        let key_hash = find_hash(&join.key_hash).ok_or_else(|| {
            Error::new(ErrorCode::InvalidRequestContent, "The key's hash must be 64 hexadecimal digits.").with_target("key_hash")
        })?;
        if join.machine.contains('\0') || join.machine.len() > 256 {
            return Err(refused());
        }
        let login = match join.login {
            LoginWay::At { address, port } => Some((address.to_string(), port)),
            // One that nobody can log in to is listed all the same: clients take an empty list for a cluster without nodes.
            LoginWay::Direct | LoginWay::None => None,
        };
        let shown = login.as_ref().map(|(address, port)| format!("{address}:{port}"));
        let gpus = Gpu::sane(join.gpus);
        let _turn = self.inner.turns.take().await?;
        match machine::join(self.pool(), &join.machine, &join.token, &key_hash, login, &gpus, self.now()).await? {
            JoinOutcome::Bound(uid) => {
                self.inner.wake.changed(Topic::Reconcile);
                tracing::info!(
                    machine.name = %join.machine,
                    machine.isolation = %join.isolation.escape_debug(),
                    machine.login = shown,
                    "an agent joined"
                );
                Ok(Joined { machine: uid, credential: self.issue_credential(uid), expires_in_s: LIFE.as_secs() })
            }
            JoinOutcome::Quarantined(uid) => {
                self.inner.wake.changed(Topic::Reconcile);
                tracing::warn!(machine.name = %join.machine, machine.uid = %uid, "a second key was presented: quarantine");
                Err(refused())
            }
            JoinOutcome::Refused => Err(refused()),
        }
    }
}

/// The 32 bytes that 64 hexadecimal digits stand for.
fn find_hash(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::find_hash;

    #[test]
    fn a_hash_is_64_hexadecimal_digits() {
        assert_eq!(find_hash(&"0f".repeat(32)), Some(vec![15; 32]));
        for odd in ["", "0f", &"0g".repeat(32), &"é".repeat(32), &"0f".repeat(33)] {
            assert_eq!(find_hash(odd), None, "{odd}");
        }
    }
}
