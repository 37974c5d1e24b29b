//! Machines as their agents meet them: joining, reporting, and what they should be.

mod desired;
mod evict;
mod join;
mod nodes;
mod report;

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::StoreError;
use crate::domain::cluster::Deallocation;
use crate::id::MachineUid;
use crate::secret::{Sealed, Sealer};

pub(crate) use desired::{Gang, SealedAccount, SealedSetup, SealedTask, ensure_session, file_server, held, numbers, setup, task};
pub(crate) use evict::{Evicted, evict};
pub(crate) use join::{JoinOutcome, join};
pub(crate) use nodes::nodes;
pub(crate) use report::{Reported, is_own_part, report};

/// How long a join token is good for after its machine was asked for, confirmed, or is to be tried again: the deadline by which a
/// machine that was made must have come home.
pub(super) const JOIN_LIFE: Duration = Duration::from_secs(3600);

/// The field under which a join token is sealed for its machine.
const JOIN_TOKEN: &str = "join_token";

/// What is stored of a join token, or of a pool's: it has 256 random bits, so that a plain hash tells nothing.
pub(crate) fn token_hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// The token sealed, with the id of its key before it: length, id, nonce and ciphertext.
pub(super) fn seal_token(sealer: &Sealer, machine: MachineUid, token: &str) -> Result<Vec<u8>, StoreError> {
    let sealed = sealer.seal(machine.0, JOIN_TOKEN, token.as_bytes()).map_err(|error| StoreError::Unexpected(error.into()))?;
    let length = u8::try_from(sealed.key_id.len()).map_err(|error| StoreError::Unexpected(error.into()))?;
    let mut bytes = vec![length];
    bytes.extend(sealed.key_id.as_bytes());
    bytes.extend(sealed.bytes);
    Ok(bytes)
}

/// Opens what [`seal_token`] made.
pub(super) fn open_token(sealer: &Sealer, machine: MachineUid, bytes: &[u8]) -> Result<String, StoreError> {
    let unreadable = |cause: &str| StoreError::unreadable("join token", cause.to_owned());
    let (length, rest) = bytes.split_first().ok_or_else(|| unreadable("empty"))?;
    let (key_id, sealed) = rest.split_at_checked(usize::from(*length)).ok_or_else(|| unreadable("cut"))?;
    let key_id = std::str::from_utf8(key_id).map_err(|error| StoreError::unreadable("join token", error))?.to_owned();
    let plain = sealer
        .open(machine.0, JOIN_TOKEN, &Sealed { key_id, bytes: sealed.to_vec() })
        .map_err(|error| StoreError::unreadable("join token", error))?;
    String::from_utf8(plain).map_err(|error| StoreError::unreadable("join token", error))
}

/// The word that a deallocation is stored as; the wire has the same.
pub(super) fn deallocation_word(deallocation: Deallocation) -> &'static str {
    match deallocation {
        Deallocation::Requeue => "requeue",
        Deallocation::Terminate => "terminate",
        Deallocation::WaitForJobCompletion => "waitforjobcompletion",
    }
}

/// The deallocation that the store wrote.
pub(super) fn read_deallocation(word: &str) -> Result<Deallocation, StoreError> {
    [Deallocation::Requeue, Deallocation::Terminate, Deallocation::WaitForJobCompletion]
        .into_iter()
        .find(|deallocation| deallocation_word(*deallocation) == word)
        .ok_or_else(|| StoreError::unreadable("deallocation", format!("'{word}' is none of its words")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_token_opens_for_its_machine_alone() {
        let sealer = Sealer::new(vec![("key-1".into(), [3; 32])]);
        let (a, b) = (MachineUid(uuid::Uuid::from_u128(1)), MachineUid(uuid::Uuid::from_u128(2)));
        let sealed = seal_token(&sealer, a, "secret").expect("seals");
        assert_eq!(open_token(&sealer, a, &sealed).expect("opens"), "secret");
        assert!(open_token(&sealer, b, &sealed).is_err());
        assert!(open_token(&sealer, a, &sealed[..3]).is_err());
        assert!(open_token(&sealer, a, &[]).is_err());
    }
}
