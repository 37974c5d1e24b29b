//! What a token may be for: the management API under the names that clients call it by.

use std::net::IpAddr;

/// What Azure's own management API is called by clients that were not told another name.
///
/// Source: the default resources of ADAL-based clients and the default scopes of MSAL-based ones.
const AZURE: &[&str] = &["https://management.azure.com", "https://management.core.windows.net"];

/// What a v1 request without a resource is for.
pub(super) const DEFAULT: &str = "https://management.core.windows.net/";

/// Decides whether an audience is this server's management API.
pub(super) struct Audiences {
    hosts: Vec<String>,
}

impl Audiences {
    /// `hosts`: names that this server answers to, without scheme and port.
    pub(super) fn new(hosts: &[String]) -> Audiences {
        Audiences { hosts: hosts.iter().map(|host| host.trim_matches(['[', ']']).to_ascii_lowercase()).collect() }
    }

    /// Whether `audience` is one of Azure's names of the API, or a URL of this server's root.
    pub(super) fn includes(&self, audience: &str) -> bool {
        let audience = audience.trim_end_matches('/').to_ascii_lowercase();
        if AZURE.contains(&audience.as_str()) {
            return true;
        }
        let Some(authority) = audience.strip_prefix("https://").or_else(|| audience.strip_prefix("http://")) else {
            return false;
        };
        let Some(host) = host(authority) else { return false };
        is_loopback(host) || self.hosts.iter().any(|own| own == host)
    }
}

/// The host of `host[:port]`; `None` where there is anything else, such as a path or a user name.
fn host(authority: &str) -> Option<&str> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?,
        None => match authority.find(':') {
            Some(colon) => authority.split_at(colon),
            None => (authority, ""),
        },
    };
    let port = rest.strip_prefix(':').unwrap_or("0");
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    (plain && (rest.is_empty() || rest.starts_with(':')) && port.parse::<u16>().is_ok()).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_are_included_and_others_are_not() {
        let audiences = Audiences::new(&["Batch.Example.org".into(), "[fd00::5]".into()]);
        for own in [
            "https://management.azure.com/",
            "https://management.azure.com",
            "https://management.core.windows.net/",
            "https://management.core.windows.net//",
            "http://127.0.0.1:8080",
            "https://localhost:8443/",
            "https://LOCALHOST:8443",
            "https://[::1]:8443",
            "https://batch.example.org",
            "https://batch.example.org:444/",
            "http://[fd00::5]",
        ] {
            assert!(audiences.includes(own), "{own}");
        }
        for other in [
            "",
            "/",
            "https://",
            "https://graph.windows.net/",
            "https://vault.azure.net",
            "https://management.azure.com.evil.org",
            "https://evil.org/https://management.azure.com",
            "https://localhost.evil.org",
            "https://localhost@evil.org",
            "https://evil.org#@localhost",
            "https://localhost/agent",
            "https://localhost:99999",
            "https://localhost:",
            "https://[::1",
            "https://[::1]evil",
            "ftp://localhost",
            "localhost",
            "https://batch.example.org.",
            "https://10.0.0.1",
        ] {
            assert!(!audiences.includes(other), "{other}");
        }
    }
}
