//! Short proofs of this installation's own making: HMAC-SHA256 over a purpose and fields.
//!
//! Each purpose has a key of its own, derived from the master key, so that a proof made for one is worth nothing at another.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a proof is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A link to one output file.
    Link,
    /// An agent's credential.
    Agent,
    /// The position of a list page.
    Cursor,
    /// The key of a file server, with which passes to it are made.
    Door,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Purpose::Link => b"batchyard link v1",
            Purpose::Agent => b"batchyard agent v1",
            Purpose::Cursor => b"batchyard cursor v1",
            Purpose::Door => b"batchyard door v1",
        }
    }
}

/// Makes and checks proofs.
#[derive(Clone)]
pub struct Signer {
    link: Hmac<Sha256>,
    agent: Hmac<Sha256>,
    cursor: Hmac<Sha256>,
    door: Hmac<Sha256>,
}

impl Signer {
    /// A signer whose keys are derived from a master key.
    pub fn new(master: &[u8; 32]) -> Signer {
        let derive = |purpose: Purpose| {
            let mut mac = mac(master);
            mac.update(purpose.label());
            self::mac(mac.finalize().into_bytes().as_slice())
        };
        Signer {
            link: derive(Purpose::Link),
            agent: derive(Purpose::Agent),
            cursor: derive(Purpose::Cursor),
            door: derive(Purpose::Door),
        }
    }

    /// The proof of `fields`, URL-safe. Fields are framed by their length: no two lists of fields have the same proof.
    pub fn sign(&self, purpose: Purpose, fields: &[&[u8]]) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(purpose, fields).finalize().into_bytes())
    }

    /// Whether `proof` was made by [`sign`](Self::sign) of the same purpose and fields. Takes the same time for any answer.
    pub fn verify(&self, purpose: Purpose, fields: &[&[u8]], proof: &str) -> bool {
        URL_SAFE_NO_PAD.decode(proof).is_ok_and(|proof| self.mac(purpose, fields).verify_slice(&proof).is_ok())
    }

    fn mac(&self, purpose: Purpose, fields: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = match purpose {
            Purpose::Link => self.link.clone(),
            Purpose::Agent => self.agent.clone(),
            Purpose::Cursor => self.cursor.clone(),
            Purpose::Door => self.door.clone(),
        };
        for field in fields {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        }
        mac
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    // HMAC hashes keys that are longer than a block, so that no length is an error.
    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_fits_its_purpose_and_fields_alone() {
        let signer = Signer::new(&[7; 32]);
        let proof = signer.sign(Purpose::Link, &[b"a", b"bc"]);
        assert!(signer.verify(Purpose::Link, &[b"a", b"bc"], &proof));
        assert!(!signer.verify(Purpose::Agent, &[b"a", b"bc"], &proof));
        assert!(!signer.verify(Purpose::Link, &[b"ab", b"c"], &proof));
        assert!(!signer.verify(Purpose::Link, &[b"a", b"bc"], "!"));
        assert!(!Signer::new(&[8; 32]).verify(Purpose::Link, &[b"a", b"bc"], &proof));
    }
}
