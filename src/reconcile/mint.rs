//! New identities and join tokens, from a source of randomness that is passed in: decisions stay repeatable.

use rand::Rng;
use uuid::Uuid;

use crate::clock::Timestamp;

/// A source of random bytes.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// The process's generator, seeded by the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// Makes what a decision needs that is new.
pub(super) struct Mint<'a> {
    entropy: &'a dyn Entropy,
    now: Timestamp,
}

impl<'a> Mint<'a> {
    pub(super) fn new(entropy: &'a dyn Entropy, now: Timestamp) -> Mint<'a> {
        Mint { entropy, now }
    }

    /// A new identity; later ones sort behind earlier ones.
    pub(super) fn uuid(&mut self) -> Uuid {
        let mut random = [0u8; 10];
        self.entropy.fill(&mut random);
        let millis = u64::try_from(self.now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// A token of 256 random bits, in hex.
    pub(super) fn join_token(&mut self) -> String {
        use std::fmt::Write;
        let mut random = [0u8; 32];
        self.entropy.fill(&mut random);
        random.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
