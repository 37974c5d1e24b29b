//! Keys of an attempt: made for it, held by its nodes alone, gone with it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::agent::protocol::Session;
use crate::error::Error;
use crate::id::AttemptUid;
use crate::secret::Sealer;
use crate::service::Service;
use crate::store::machine;

/// The field under which they are sealed.
const FIELD: &str = "session";

/// The kind of key, as ssh calls it: one that OpenSSH of any age reads from a plain PEM.
const KIND: &str = "ecdsa-sha2-nistp256";

/// The name of its curve.
const CURVE: &str = "nistp256";

impl Service {
    /// The keys of an attempt: the same for all its nodes and all servers. `None` where the attempt is over.
    pub(super) async fn session(&self, attempt: AttemptUid) -> Result<Option<Session>, Error> {
        let sealer: &Sealer = &self.inner.sealer;
        let private_key = rcgen::KeyPair::generate().map_err(Error::internal)?.serialize_pem();
        let new = sealer.seal(attempt.0, FIELD, private_key.as_bytes()).map_err(Error::internal)?;
        let Some(sealed) = machine::ensure_session(self.pool(), attempt, &new).await? else { return Ok(None) };
        let plain = sealer.open(attempt.0, FIELD, &sealed).map_err(Error::internal)?;
        let private_key = String::from_utf8(plain).map_err(Error::internal)?;
        let pair = rcgen::KeyPair::from_pem(&private_key).map_err(Error::internal)?;
        Ok(Some(Session { private_key, public_key: public_line(pair.public_key_raw()) }))
    }
}

/// A public key as `authorized_keys` has it: kind, curve and point, each with its length before it.
fn public_line(point: &[u8]) -> String {
    let mut blob = Vec::with_capacity(128);
    for field in [KIND.as_bytes(), CURVE.as_bytes(), point] {
        blob.extend(u32::try_from(field.len()).unwrap_or_default().to_be_bytes());
        blob.extend(field);
    }
    format!("{KIND} {}", STANDARD.encode(blob))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_one_line_that_names_its_curve() {
        let pair = rcgen::KeyPair::generate().expect("made");
        let line = public_line(pair.public_key_raw());
        assert!(line.starts_with("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBB"), "{line}");
        assert!(pair.serialize_pem().starts_with("-----BEGIN PRIVATE KEY-----"));
    }
}
