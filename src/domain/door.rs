//! The way from a node to a file server: who may come in, and how they ask.
//!
//! A file server lets in whom its server gave a pass: a proof that a cluster mounts it, made with a key that the file server alone
//! knows beside its server. What cluster a node is of is said by what the driver put between the two, never by the node.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::id::ResourceUid;

/// The word before a [`Knock`], which tells it from a host and a port.
const KNOCK: &str = "file-server";

/// What lets the nodes of one cluster in at one file server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The file server.
    pub server: ResourceUid,
    /// The proof. Secret.
    pub proof: String,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("server", &self.server).finish_non_exhaustive()
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The protocol by which a directory is found.
    Mount,
    /// The protocol by which files are used.
    Files,
}

impl Service {
    /// The port at which a file server answers it.
    pub fn port(self) -> u16 {
        match self {
            Service::Mount => 20_048,
            Service::Files => 2_049,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Service::Mount => "mount",
            Service::Files => "files",
        }
    }

    fn find(word: &str) -> Option<Service> {
        [Service::Mount, Service::Files].into_iter().find(|service| service.word() == word)
    }
}

/// What a node asks of its gate: to be let in at a file server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knock {
    /// Its pass.
    pub pass: Pass,
    /// What for.
    pub service: Service,
}

impl Knock {
    /// As one line, without its end.
    pub fn line(&self) -> String {
        format!("{KNOCK} {} {} {}", self.pass.server, self.service.word(), self.pass.proof)
    }

    /// The question that a line is, if it is one.
    pub fn find(line: &str) -> Option<Knock> {
        let mut words = line.split(' ');
        if words.next()? != KNOCK {
            return None;
        }
        let server = ResourceUid(uuid::Uuid::try_parse(words.next()?).ok()?);
        let service = Service::find(words.next()?)?;
        let proof = words.next().filter(|proof| !proof.is_empty())?.to_owned();
        words.next().is_none().then_some(Knock { pass: Pass { server, proof }, service })
    }
}

/// What the driver asks of a file server for a node of `cluster`, as one line without its end.
pub fn introduce(cluster: ResourceUid, knock: &Knock) -> String {
    format!("{cluster} {} {}", knock.service.word(), knock.pass.proof)
}

/// What [`introduce`] said, if it did: the service, where `key` is the one that the proof was made with.
pub fn admit(line: &str, key: &str) -> Option<Service> {
    let mut words = line.split(' ');
    let cluster = ResourceUid(uuid::Uuid::try_parse(words.next()?).ok()?);
    let service = Service::find(words.next()?)?;
    let given = hex(words.next()?)?;
    mac(key, cluster).verify_slice(&given).ok()?;
    words.next().is_none().then_some(service)
}

/// The proof that `cluster` mounts the file server whose key is `key`.
pub fn prove(key: &str, cluster: ResourceUid) -> String {
    use std::fmt::Write;
    mac(key, cluster).finalize().into_bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

fn mac(key: &str, cluster: ResourceUid) -> Hmac<Sha256> {
    // HMAC hashes keys that are longer than a block, so that no length is an error.
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes());
    let mut mac = mac.unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(b"batchyard file server v1");
    mac.update(cluster.0.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_good_for_one_cluster_at_one_file_server() {
        let cluster = |n| ResourceUid(uuid::Uuid::from_u128(n));
        let knock =
            |key: &str, n| Knock { pass: Pass { server: cluster(9), proof: prove(key, cluster(n)) }, service: Service::Files };
        let asked = Knock::find(&knock("k", 1).line()).expect("a question");
        assert_eq!(asked, knock("k", 1));
        assert_eq!(admit(&introduce(cluster(1), &asked), "k"), Some(Service::Files));
        assert_eq!(admit(&introduce(cluster(2), &asked), "k"), None, "another cluster's node");
        assert_eq!(admit(&introduce(cluster(1), &asked), "other"), None, "another file server");
        for bad in ["", "host:445", "file-server x files 00", "file-server", &format!("{} x", asked.line())] {
            assert_eq!(Knock::find(bad), None, "{bad}");
        }
    }
}
