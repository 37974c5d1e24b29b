//! Signed access to storage: the query of a link to a file, and what nodes mount containers with in place of the account's key.
//!
//! Pure. The form is that of recorded links: a service signature of version 2016-05-31.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use crate::clock::Timestamp;

/// The version of the signature.
///
/// Source: recorded links.
const VERSION: &str = "2016-05-31";

/// A service of a storage account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageService {
    /// Containers of blobs.
    Blob,
    /// File shares.
    File,
}

/// What is signed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Listing all of a container or share, and reading it.
    List,
    /// All that can be done to the files of a container or share.
    Use,
    /// Reading one file, by its path in the container or share.
    File(&'a str),
}

/// The query that opens `scope` of a container or share of an account until `expires`; `None` where the account's key is no key.
pub fn sign(
    service: StorageService,
    account: &str,
    key: &str,
    container: &str,
    scope: Scope<'_>,
    expires: Timestamp,
) -> Option<String> {
    let key = STANDARD.decode(key.trim()).ok()?;
    let expires = whole(expires)?;
    let (name, file, all, used) = match service {
        StorageService::Blob => ("blob", "b", "c", "racwdl"),
        StorageService::File => ("file", "f", "s", "rcwdl"),
    };
    let (resource, path, permissions) = match (scope, service) {
        (Scope::List, _) => (all, String::new(), "rl"),
        (Scope::Use, _) => (all, String::new(), used),
        // One file of a share is signed for as recorded; of a container there is nothing in a file to list.
        (Scope::File(path), StorageService::File) => (file, format!("/{path}"), "rl"),
        (Scope::File(path), StorageService::Blob) => (file, format!("/{path}"), "r"),
    };
    let canonical = format!("/{name}/{account}/{container}{path}");
    // Permissions, start, expiry, resource, policy, addresses, protocol, version, and five headers of the answer.
    let text = [permissions, "", &expires, &canonical, "", "", "", VERSION, "", "", "", "", ""].join("\n");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(text.as_bytes());
    let proof = STANDARD.encode(mac.finalize().into_bytes());
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    Some(format!("sv={VERSION}&sr={resource}&sig={}&se={}&sp={permissions}", encode(&proof), encode(&expires)))
}

/// A time in whole seconds, as signatures have it.
fn whole(at: Timestamp) -> Option<String> {
    at.replace_nanosecond(0).ok()?.format(&time::format_description::well_known::Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn signatures_are_those_of_another_implementation() {
        let expires = datetime!(2026-11-26 20:30:00.5 UTC);
        let key = "cmVwbGF5LXN0b3JhZ2Uta2V5LW5vdC1hLXJlYWwtb25l";
        let file = Scope::File("runs/a b/ä.txt");
        for (service, scope, signature) in [
            (StorageService::File, file, "NBR5ZTQeE0T7DuineUidxTPouXr1dkyXEZV2SUuFyMg%3D"),
            (StorageService::Blob, file, "xDv3ia6Dpu65XPpWEHOgHbVXb4%2BHZ8nU8ps%2FYWMAGHE%3D"),
            (StorageService::Blob, Scope::List, "CkNaVm4UMmx0RRRmkMWsmT5x06URCRfSGOiA%2F3tTPcQ%3D"),
            (StorageService::File, Scope::List, "H%2Fkz7ONeD%2FEWboickZBtWgiyl4Vv32Ofp6uVfmNasO4%3D"),
        ] {
            let query = sign(service, "acct01", key, "logs", scope, expires).expect("a key");
            let found = query.split('&').find_map(|part| part.strip_prefix("sig=")).expect("signed");
            assert_eq!(found, signature, "{query}");
            assert!(query.contains("&se=2026%2D11%2D26T20%3A30%3A00Z&"), "{query}");
        }
        assert_eq!(sign(StorageService::Blob, "acct01", "no base64", "logs", Scope::List, expires), None);
    }
}
