//! Sealing and opening: the only place that holds a sealing key.
//!
//! AES-256-GCM with a random nonce; the associated data binds a ciphertext to purpose, owner, field and key id, so that one moved
//! to another row does not open.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use rand::Rng;

pub use crate::domain::secret::SecretText;

/// Seals and opens with the current key and its predecessors.
#[derive(Clone)]
pub struct Sealer {
    keys: Vec<(String, Aes256Gcm)>,
}

/// Why something does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The key is not in the ring.
    #[error("sealed with key {0}, which is not in the key ring")]
    UnknownKey(String),
    /// Altered, moved, or sealed under another key of the same id.
    #[error("does not open under key {0}")]
    Refused(String),
}

/// A sealed value and the id of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The id of the key.
    pub key_id: String,
    /// Nonce and ciphertext.
    pub bytes: Vec<u8>,
}

const NONCE: usize = 12;

impl Sealer {
    /// A sealer with a ring of keys, the current one first.
    pub fn new(keys: Vec<(String, [u8; 32])>) -> Sealer {
        Sealer { keys: keys.into_iter().map(|(id, key)| (id, Aes256Gcm::new(&key.into()))).collect() }
    }

    /// Seals `plain` for one field of one owner.
    ///
    /// # Errors
    /// The ring is empty, or the value is too long for the cipher.
    pub fn seal(&self, owner: uuid::Uuid, field: &str, plain: &[u8]) -> Result<Sealed, OpenError> {
        let (key_id, cipher) = self.keys.first().ok_or_else(|| OpenError::UnknownKey("current".into()))?;
        let mut nonce = [0u8; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let aad = associated(owner, field, key_id);
        let ciphertext = cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: &aad })
            .map_err(|_| OpenError::Refused(key_id.clone()))?;
        let mut bytes = nonce.to_vec();
        bytes.extend(ciphertext);
        Ok(Sealed { key_id: key_id.clone(), bytes })
    }

    /// Opens what [`seal`](Self::seal) made for the same field of the same owner.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is said about the content.
    pub fn open(&self, owner: uuid::Uuid, field: &str, sealed: &Sealed) -> Result<Vec<u8>, OpenError> {
        let (_, cipher) =
            self.keys.iter().find(|(id, _)| *id == sealed.key_id).ok_or_else(|| OpenError::UnknownKey(sealed.key_id.clone()))?;
        let refused = || OpenError::Refused(sealed.key_id.clone());
        let (nonce, ciphertext) = sealed.bytes.split_at_checked(NONCE).ok_or_else(refused)?;
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| refused())?;
        let aad = associated(owner, field, &sealed.key_id);
        cipher.decrypt(&Nonce::from(nonce), Payload { msg: ciphertext, aad: &aad }).map_err(|_| refused())
    }
}

fn associated(owner: uuid::Uuid, field: &str, key_id: &str) -> Vec<u8> {
    let mut data = b"batchyard secret v1".to_vec();
    data.extend(owner.as_bytes());
    for part in [field, key_id] {
        data.extend((part.len() as u64).to_be_bytes());
        data.extend(part.as_bytes());
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_in_its_place_alone() {
        let sealer = Sealer::new(vec![("k1".into(), [1; 32])]);
        let (a, b) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
        let sealed = sealer.seal(a, "secrets.T", b"canary").expect("seals");
        assert_eq!(sealer.open(a, "secrets.T", &sealed).expect("opens"), b"canary");
        assert!(sealer.open(b, "secrets.T", &sealed).is_err(), "moved to another owner");
        assert!(sealer.open(a, "secrets.U", &sealed).is_err(), "moved to another field");
        assert!(Sealer::new(vec![("k1".into(), [2; 32])]).open(a, "secrets.T", &sealed).is_err());
        assert!(matches!(Sealer::new(vec![]).open(a, "secrets.T", &sealed), Err(OpenError::UnknownKey(_))));
        assert!(!sealed.bytes.windows(6).any(|w| w == b"canary"));
    }
}
