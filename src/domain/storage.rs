//! Where storage accounts are: in clouds, whose accounts have names below a suffix, or elsewhere, by name.
//!
//! In: the operator's settings, and what a user's mount names. Out: addresses. What no setting knows has none: neither nodes nor the
//! server speak to a storage that the operator did not name. Pure.

use serde::{Deserialize, Serialize};

/// The suffix of Azure's public cloud.
///
/// Source: documented endpoints of storage accounts.
pub const PUBLIC_SUFFIX: &str = "core.windows.net";

/// The port of SMB.
const SMB: u16 = 445;

/// Longest label of a host name. Source: RFC 1035.
const MAX_LABEL: usize = 63;

/// Every storage that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storages {
    /// Suffixes of clouds: an account has `{account}.blob.{suffix}` and `{account}.file.{suffix}`. Where a request names an account
    /// alone it is in the first.
    pub suffixes: Vec<String>,
    /// Accounts elsewhere: emulators and private clouds.
    pub accounts: Vec<StorageAccount>,
}

/// An account elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageAccount {
    /// Its name.
    pub name: String,
    /// The base URL of its containers.
    pub blob: Option<Endpoint>,
    /// Where its shares are over SMB.
    pub smb: Option<HostPort>,
    /// The base URL of its shares over REST; `None` where they are there over SMB alone.
    pub file: Option<Endpoint>,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// A name or an address; one of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Reads `host:port`; without a port it is `default`.
    pub fn parse(text: &str, default: u16) -> Option<HostPort> {
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, ""))) => (host, default),
            Some(Some((host, rest))) => (host, rest.strip_prefix(':')?.parse().ok()?),
            Some(None) => return None,
            None => match text.split_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (text, default),
            },
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
        let fits = !host.is_empty() && !host.starts_with('-') && host.chars().all(plain) && port > 0;
        fits.then(|| HostPort { host: host.to_ascii_lowercase(), port })
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A base URL of http or https, without a query and without a `/` at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Whether it is https.
    pub tls: bool,
    /// The host and port.
    pub at: HostPort,
    /// What follows them: empty, or begins with `/`.
    pub path: String,
}

impl Endpoint {
    /// Reads a URL.
    pub fn parse(text: &str) -> Option<Endpoint> {
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, rest) => (false, rest?),
        };
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        let path = path.trim_end_matches('/');
        let at = HostPort::parse(host, if tls { 443 } else { 80 })?;
        path.chars().all(plain).then(|| Endpoint { tls, at, path: path.to_owned() })
    }

    fn of_cloud(account: &str, service: &str, suffix: &str) -> Endpoint {
        Endpoint { tls: true, at: HostPort { host: format!("{account}.{service}.{suffix}"), port: 443 }, path: String::new() }
    }

    /// The same with another host and port, and without encryption: for a way that ends at `at`.
    pub fn through(&self, at: HostPort) -> Endpoint {
        Endpoint { tls: false, at, path: self.path.clone() }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.at.port == if self.tls { 443 } else { 80 } && !self.at.host.contains(':') {
            write!(f, "{scheme}://{}{}", self.at.host, self.path)
        } else {
            write!(f, "{scheme}://{}{}", self.at, self.path)
        }
    }
}

/// A file share that a mount names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareAt {
    /// Where its server is, over SMB.
    pub smb: HostPort,
    /// The base URL of its account over REST, where there is one.
    pub rest: Option<Endpoint>,
    /// The share.
    pub share: String,
    /// The directory in it that is meant, segments joined by `/`; empty for all of it.
    pub directory: String,
}

/// How something outside may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Under whatever address its name has: the operator named it.
    Named,
    /// Under an address that is not this host's own: it is an account in a cloud, whose name a user chose.
    Cloud,
}

impl Default for Storages {
    fn default() -> Storages {
        Storages { suffixes: vec![PUBLIC_SUFFIX.to_owned()], accounts: Vec::new() }
    }
}

impl Storages {
    fn find(&self, account: &str) -> Option<&StorageAccount> {
        self.accounts.iter().find(|known| known.name == account)
    }

    /// The base URL of an account's containers.
    ///
    /// # Errors
    /// Why it has none, for people.
    pub fn containers(&self, account: &str) -> Result<Endpoint, String> {
        if let Some(known) = self.find(account) {
            return known.blob.clone().ok_or_else(|| format!("the storage account '{account}' has no containers here"));
        }
        match self.suffixes.first() {
            Some(suffix) if is_label(account) => Ok(Endpoint::of_cloud(account, "blob", suffix)),
            Some(_) => Err(format!("'{account}' is not the name of a storage account")),
            None => Err(unknown(account)),
        }
    }

    /// The share at `url` of an account.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn share(&self, account: &str, url: &str) -> Result<ShareAt, String> {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let plain = |segment: &&str| {
            !matches!(*segment, "." | "..") && !segment.chars().any(|c| c.is_control() || "\\:*?\"<>|#%".contains(c))
        };
        let share = segments.next().filter(|share| !share.starts_with('-')).filter(plain);
        let share = share.ok_or_else(|| format!("'{url}' names no share"))?.to_owned();
        let directory: Vec<&str> = segments.collect();
        if !directory.iter().all(plain) {
            return Err(format!("'{url}' names a directory that cannot be"));
        }
        let directory = directory.join("/");
        if let Some(known) = self.find(account) {
            let smb = known.smb.clone().ok_or_else(|| format!("the storage account '{account}' has no shares here"))?;
            return Ok(ShareAt { smb, rest: known.file.clone(), share, directory });
        }
        let host = host.to_ascii_lowercase();
        let suffix = self.suffixes.iter().find(|suffix| host == format!("{account}.file.{suffix}"));
        match suffix {
            Some(suffix) if is_label(account) => Ok(ShareAt {
                smb: HostPort { host: host.clone(), port: SMB },
                rest: Some(Endpoint::of_cloud(account, "file", suffix)),
                share,
                directory,
            }),
            _ => Err(match self.suffixes.is_empty() {
                true => unknown(account),
                false => format!(
                    "'{host}' is not where the shares of the storage account '{account}' are, in none of the clouds that this server \
                     knows ({})",
                    self.suffixes.join(", ")
                ),
            }),
        }
    }

    /// How `to` may be reached; `None` where it may not.
    pub fn reach(&self, to: &HostPort) -> Option<Reach> {
        let named = self.accounts.iter().any(|known| {
            let urls = [&known.blob, &known.file].into_iter().flatten().map(|endpoint| &endpoint.at);
            urls.chain(&known.smb).any(|at| at == to)
        });
        if named {
            return Some(Reach::Named);
        }
        let account = self.suffixes.iter().find_map(|suffix| {
            let host = to.host.strip_suffix(suffix.as_str())?.strip_suffix('.')?;
            let (account, service) = host.split_once('.')?;
            let fits = matches!((service, to.port), ("blob" | "file", 443) | ("file", SMB));
            fits.then_some(account)
        });
        account.filter(|account| is_label(account)).map(|_| Reach::Cloud)
    }
}

fn unknown(account: &str) -> String {
    format!("this server does not know the storage account '{account}'")
}

/// Whether this may be a part of a host name.
fn is_label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_LABEL).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storages() -> Storages {
        Storages {
            suffixes: vec!["core.windows.net".into(), "local.azurestack".into()],
            accounts: vec![StorageAccount {
                name: "emulated".into(),
                blob: Endpoint::parse("http://127.0.0.1:10000/emulated/"),
                smb: HostPort::parse("127.0.0.1:4445", SMB),
                file: None,
            }],
        }
    }

    #[test]
    fn accounts_of_clouds_have_names_below_a_suffix() {
        let all = storages();
        assert_eq!(all.containers("acct01").expect("known").to_string(), "https://acct01.blob.core.windows.net");
        let share = all.share("acct01", "https://ACCT01.file.local.azurestack/logs/runs//a").expect("known");
        assert_eq!(share.smb.to_string(), "acct01.file.local.azurestack:445");
        assert_eq!(share.rest.map(|rest| rest.to_string()).as_deref(), Some("https://acct01.file.local.azurestack"));
        assert_eq!((share.share.as_str(), share.directory.as_str()), ("logs", "runs/a"));
    }

    #[test]
    fn accounts_elsewhere_are_where_the_operator_says() {
        let all = storages();
        assert_eq!(all.containers("emulated").expect("known").to_string(), "http://127.0.0.1:10000/emulated");
        let share = all.share("emulated", "https://emulated.file.core.windows.net/logs").expect("known");
        assert_eq!((share.smb.to_string().as_str(), share.rest), ("127.0.0.1:4445", None));
    }

    #[test]
    fn what_no_setting_names_is_nowhere() {
        let all = storages();
        for (account, url) in [
            ("acct01", "https://127.0.0.1/share"),
            ("acct01", "https://acct02.file.core.windows.net/share"),
            ("acct01", "https://acct01.file.core.windows.net.evil.org/share"),
            ("acct01", "https://acct01.file.core.windows.net/"),
            ("acct01", "https://acct01.file.core.windows.net/-rf"),
            ("acct01", "https://acct01.file.core.windows.net/share/../x"),
            ("x@evil", "https://x@evil.file.core.windows.net/share"),
        ] {
            assert!(all.share(account, url).is_err(), "{url}");
        }
        assert!(all.containers("evil.org/x?").is_err());
        let none = Storages { suffixes: vec![], accounts: vec![] };
        assert!(none.containers("acct01").is_err());
    }

    #[test]
    fn nothing_else_is_reached() {
        let all = storages();
        let reach = |text: &str| all.reach(&HostPort::parse(text, 1).expect("a host"));
        assert_eq!(reach("127.0.0.1:10000"), Some(Reach::Named));
        assert_eq!(reach("127.0.0.1:4445"), Some(Reach::Named));
        for cloud in ["a.blob.core.windows.net:443", "a.file.core.windows.net:445", "a.file.local.azurestack:443"] {
            assert_eq!(reach(cloud), Some(Reach::Cloud), "{cloud}");
        }
        for no in [
            "127.0.0.1:22",
            "localhost:10000",
            "a.blob.core.windows.net:22",
            "a.b.blob.core.windows.net:443",
            "blob.core.windows.net:443",
            "xcore.windows.net:443",
            "a.queue.core.windows.net:443",
            "169.254.169.254:80",
        ] {
            assert_eq!(reach(no), None, "{no}");
        }
    }

    #[test]
    fn hosts_and_urls_are_read_or_refused() {
        for bad in ["", ":1", "a:b", "a:0", "-a:1", "a/b:1", "[::1", "a b"] {
            assert_eq!(HostPort::parse(bad, 1), None, "{bad}");
        }
        assert_eq!(HostPort::parse("[::1]:9", 1).expect("an address").to_string(), "[::1]:9");
        for bad in ["ftp://a", "a", "http://", "http://a/?x", "http://a/#", "http://u@a"] {
            assert_eq!(Endpoint::parse(bad), None, "{bad}");
        }
    }
}
