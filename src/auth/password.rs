//! Secrets of principals: how they are made, stored and compared.
//!
//! A generated secret has 256 bits, so that one round of SHA-256 is enough: nobody finds it by trying. A secret that a person chose
//! is hashed with argon2id, which is slow on purpose.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::secret::SecretText;

/// Shortest secret that a person may choose. Unit: characters.
pub const MIN_CHOSEN: usize = 12;

/// Longest secret that is looked at. Unit: bytes.
pub(super) const MAX: usize = 256;

const GENERATED: &str = "sha256:";

/// The hash that no secret has: of a principal that signs in elsewhere.
pub(super) const NONE: &str = "sha256:none";

/// A new secret of 256 bits: digits and letters only, so that no shell takes part of it for an option.
pub fn new_secret() -> SecretText {
    let mut bytes = Zeroizing::new([0u8; 32]);
    rand::rng().fill_bytes(bytes.as_mut_slice());
    SecretText(hex(bytes.as_slice()))
}

/// The hash of a secret that [`new_secret`] made.
pub(super) fn hash_generated(secret: &str) -> String {
    format!("{GENERATED}{}", hex(&Sha256::digest(secret.as_bytes())))
}

/// The hash of a secret that a person chose. Slow: blocks for some tens of milliseconds.
///
/// # Errors
/// The secret is too short or too long.
pub(super) fn hash_chosen(secret: &str) -> Result<String, Error> {
    use crate::error::ErrorCode::InvalidPropertyValue;
    if secret.chars().count() < MIN_CHOSEN || secret.len() > MAX {
        let message = format!("A secret that you choose must have at least {MIN_CHOSEN} characters and at most {MAX} bytes.");
        return Err(Error::new(InvalidPropertyValue, message).with_target("secret"));
    }
    let hash: argon2::password_hash::phc::PasswordHash =
        Argon2::default().hash_password(secret.as_bytes()).map_err(|e| Error::internal(e.to_string()))?;
    Ok(hash.to_string())
}

/// Whether comparing with `hash` is slow.
pub(super) fn is_chosen(hash: &str) -> bool {
    !hash.starts_with(GENERATED)
}

/// Whether `secret` is the one of `hash`. Takes the same time for any secret of one length.
pub(super) fn verify(secret: &str, hash: &str) -> bool {
    match hash.strip_prefix(GENERATED) {
        Some(expected) => hex(&Sha256::digest(secret.as_bytes())).as_bytes().ct_eq(expected.as_bytes()).into(),
        None => PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(secret.as_bytes(), &hash).is_ok()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_fits_its_own_hash_alone() {
        let (secret, other) = (new_secret(), new_secret());
        assert_ne!(secret, other);
        let hash = hash_generated(&secret.0);
        assert!(verify(&secret.0, &hash) && !is_chosen(&hash));
        assert!(!verify(&other.0, &hash));
        assert!(!verify("", &hash));
        assert!(!hash.contains(&secret.0));

        let hash = hash_chosen("correct horse battery").expect("hashes");
        assert!(hash.starts_with("$argon2id$") && is_chosen(&hash));
        assert!(verify("correct horse battery", &hash));
        assert!(!verify("correct horse batterz", &hash));
        assert!(hash_chosen("short").is_err());
        assert!(!verify("x", "nonsense"), "an unreadable hash fits nothing");
        assert!(!verify("", NONE) && !verify("none", NONE) && !is_chosen(NONE));
    }
}
