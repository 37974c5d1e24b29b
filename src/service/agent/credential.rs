//! The credentials of agents: proofs of this installation's own making, checked without the database.

use std::time::Duration;

use uuid::Uuid;

use super::refused;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::id::MachineUid;
use crate::service::Service;
use crate::sign::{Purpose, Signer};

/// How long a credential is good for.
pub(super) const LIFE: Duration = Duration::from_secs(3600);

/// How often an agent gets a new one: early enough that one that is lost does no harm.
pub(crate) const RENEW: Duration = Duration::from_secs(1200);

fn issue(signer: &Signer, machine: MachineUid, now: Timestamp) -> String {
    let expires = (now + LIFE).unix_timestamp();
    let proof = signer.sign(Purpose::Agent, &[machine.0.as_bytes(), &expires.to_be_bytes()]);
    format!("{}.{expires}.{proof}", machine.0.simple())
}

fn verify(signer: &Signer, credential: &str, now: Timestamp) -> Option<MachineUid> {
    let mut parts = credential.splitn(3, '.');
    let machine = Uuid::try_parse(parts.next()?).ok()?;
    let expires: i64 = parts.next()?.parse().ok()?;
    let proof = parts.next()?;
    let fits = signer.verify(Purpose::Agent, &[machine.as_bytes(), &expires.to_be_bytes()], proof);
    (fits && now.unix_timestamp() < expires).then_some(MachineUid(machine))
}

impl Service {
    /// The machine that an agent's credential opens. Whether that machine is still trusted is asked with each of its requests.
    ///
    /// # Errors
    /// `AuthenticationFailed`.
    pub fn agent(&self, credential: &str) -> Result<MachineUid, Error> {
        verify(&self.inner.signer, credential, self.now()).ok_or_else(refused)
    }

    /// A new credential.
    pub(super) fn issue_credential(&self, machine: MachineUid) -> String {
        self.inner.issued.insert(machine, ());
        issue(&self.inner.signer, machine, self.now())
    }

    /// A new credential, where this server gave none for a while.
    pub(super) fn renew_credential(&self, machine: MachineUid) -> Option<String> {
        if self.inner.issued.contains_key(&machine) {
            return None;
        }
        Some(self.issue_credential(machine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_its_machine_until_it_expires() {
        let (ours, theirs) = (Signer::new(&[1; 32]), Signer::new(&[2; 32]));
        let machine = MachineUid(Uuid::from_u128(7));
        let now = Timestamp::from_unix_timestamp(1_700_000_000).expect("a time");
        let credential = issue(&ours, machine, now);
        assert_eq!(verify(&ours, &credential, now), Some(machine));
        assert_eq!(verify(&theirs, &credential, now), None);
        assert_eq!(verify(&ours, &credential, now + LIFE), None);
        let other = credential.replacen('7', "8", 1);
        assert_eq!(verify(&ours, &other, now), None, "another machine's name on it");
        for odd in ["", ".", "..", "7.1700003600.", &credential[1..]] {
            assert_eq!(verify(&ours, odd, now), None, "{odd}");
        }
    }
}
