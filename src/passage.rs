//! The passage of nodes' container engines to registries elsewhere: nodes themselves reach nothing but their neighbours.
//!
//! In: connections to a unix socket that root of nodes alone can reach, each with one request to be connected to a host. Out: what it says to
//! that host and back, if the settings let it. Refuses to know what is said: that is between engine and registry, and encrypted.
//!
//! Whoever asks names hosts that strangers chose: images' names are users', and registries send engines on to others. So an address is
//! looked up once, judged, and connected to as it was judged. What is not public is reached only where it is listed.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream, lookup_host};
use tokio::sync::Semaphore;

use crate::task::Tasks;

/// The port of public registries.
const HTTPS: u16 = 443;

/// Longest request. Unit: bytes.
const HEAD: usize = 1024;

/// Longest time until a request is there, and until a registry takes the connection.
const BEGIN: Duration = Duration::from_secs(10);

/// Connections at once; more wait.
const CONNECTIONS: usize = 256;

/// Services of clouds for their own machines at addresses that look public.
///
/// Source: Azure's address for its agent and its name service.
const OF_THE_CLOUD: [Ipv4Addr; 1] = [Ipv4Addr::new(168, 63, 129, 16)];

/// Where nodes' engines may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Public addresses, at the port of https.
    pub public: bool,
    /// `host:port` in lower case, and where that is if names do not say it.
    pub listed: BTreeMap<String, Option<SocketAddr>>,
}

impl Rules {
    /// Whether there is anything to reach.
    pub fn is_empty(&self) -> bool {
        !self.public && self.listed.is_empty()
    }

    /// Reads one word of the settings: `public`, `host:port`, or `host:port=address:port`. Answers whether it was one.
    pub fn add(&mut self, word: &str) -> bool {
        if word == "public" {
            self.public = true;
            return true;
        }
        let (target, address) = match word.split_once('=') {
            None => (word, None),
            Some((target, address)) => match address.parse() {
                Ok(address) => (target, Some(address)),
                Err(_) => return false,
            },
        };
        let Some(target) = Target::parse(target) else { return false };
        self.listed.insert(target.to_string(), address);
        true
    }

    /// The words that [`add`](Self::add) reads.
    pub fn words(&self) -> Vec<String> {
        let listed = self.listed.iter().map(|(target, address)| match address {
            Some(address) => format!("{target}={address}"),
            None => target.clone(),
        });
        self.public.then(|| "public".to_owned()).into_iter().chain(listed).collect()
    }

    /// Where a target is, if it may be reached.
    async fn find(&self, target: &Target) -> Result<Vec<SocketAddr>, Refusal> {
        let listed = self.listed.get(&target.to_string());
        if let Some(Some(address)) = listed {
            return Ok(vec![*address]);
        }
        if listed.is_none() && !(self.public && target.port == HTTPS) {
            return Err(Refusal::NotAllowed);
        }
        let found = tokio::time::timeout(BEGIN, lookup_host((target.host.as_str(), target.port)));
        let found: Vec<SocketAddr> = found.await.map_err(|_| Refusal::Unknown)?.map_err(|_| Refusal::Unknown)?.collect();
        let allowed: Vec<SocketAddr> = found.into_iter().filter(|a| listed.is_some() || is_public(a.ip())).collect();
        if allowed.is_empty() { Err(Refusal::NotAllowed) } else { Ok(allowed) }
    }
}

/// A host and a port, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
}

impl Target {
    fn parse(text: &str) -> Option<Target> {
        let (host, port) = text.rsplit_once(':')?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
            return None;
        }
        Some(Target { host: host.to_ascii_lowercase(), port: port.parse().ok()? })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a connection is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It is no request.
    Malformed,
    /// The settings do not let it.
    NotAllowed,
    /// No such name.
    Unknown,
    /// Nobody is there.
    Unreachable,
}

impl Refusal {
    /// Code and reason. Engines show users the reason.
    fn status(self) -> &'static str {
        match self {
            Refusal::Malformed => "400 the request is none",
            Refusal::NotAllowed => "403 nodes may not reach this registry: it is neither public nor in the server's settings",
            Refusal::Unknown => "502 the registry's name is not known where the server runs",
            Refusal::Unreachable => "502 the registry cannot be reached from where the server runs",
        }
    }
}

/// Whether an address is one of the Internet's, and nobody's own.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let special = v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || matches!((a, b), (0, _) | (224..=255, _) | (100, 64..=127) | (198, 18..=19))
                || (a, b, c) == (192, 0, 0);
            !special && !OF_THE_CLOUD.contains(&v4)
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            // Those that stand for addresses of the fourth version are judged nowhere, and so not reached.
            let stands_for_another = a == 0x2002 || (a, b) == (0x2001, 0);
            a & 0xe000 == 0x2000 && !stands_for_another && (a, b) != (0x2001, 0x0db8)
        }
    }
}

/// Serves `listener` until the group of tasks stops.
pub fn serve(listener: UnixListener, rules: Rules, tasks: &Tasks) {
    let (rules, room, inner) = (Arc::new(rules), Arc::new(Semaphore::new(CONNECTIONS)), tasks.clone());
    tasks.spawn_cancellable("registries", async move {
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let Ok((engine, _)) = listener.accept().await else {
                // Out of descriptors: others end meanwhile.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let rules = Arc::clone(&rules);
            inner.spawn_cancellable("registry", async move {
                if let Err(error) = pass(engine, &rules).await {
                    tracing::debug!(%error, "a connection to a registry broke");
                }
                drop(permit);
            });
        }
    });
}

async fn pass(mut engine: UnixStream, rules: &Rules) -> io::Result<()> {
    let connected = match read_request(&mut engine).await {
        Err(refusal) => Err((None, refusal)),
        Ok(target) => connect(rules, &target).await.map_err(|refusal| (Some(target), refusal)),
    };
    match connected {
        Ok(mut registry) => {
            engine.write_all(b"HTTP/1.1 200 connected\r\n\r\n").await?;
            copy_bidirectional(&mut engine, &mut registry).await.map(drop)
        }
        Err((target, refusal)) => {
            let target = target.map(|target| target.to_string()).unwrap_or_default();
            tracing::info!(registry = target, why = refusal.status(), "a node does not reach a registry");
            engine.write_all(format!("HTTP/1.1 {}\r\nContent-Length: 0\r\n\r\n", refusal.status()).as_bytes()).await
        }
    }
}

/// The target of the request that begins a connection. What follows it is the engine's and the registry's.
async fn read_request(engine: &mut UnixStream) -> Result<Target, Refusal> {
    let mut head = Vec::new();
    let read = tokio::time::timeout(BEGIN, async {
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            head.push(engine.read_u8().await?);
        }
        Ok::<(), io::Error>(())
    });
    read.await.map_err(|_| Refusal::Malformed)?.map_err(|_| Refusal::Malformed)?;
    let text = std::str::from_utf8(&head).map_err(|_| Refusal::Malformed)?;
    let line = text.lines().next().and_then(|line| line.strip_prefix("CONNECT ")?.split(' ').next());
    line.and_then(Target::parse).ok_or(Refusal::Malformed)
}

async fn connect(rules: &Rules, target: &Target) -> Result<TcpStream, Refusal> {
    for address in rules.find(target).await? {
        if let Ok(Ok(stream)) = tokio::time::timeout(BEGIN, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    Err(Refusal::Unreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for text in ["1.1.1.1", "104.18.124.25", "52.0.0.1", "2606:4700::6810:84e5", "2a00:1450::1"] {
            assert!(is_public(text.parse().expect("an address")), "{text}");
        }
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "168.63.129.16",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:0::1",
            "2001:db8::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().expect("an address")), "{text}");
        }
    }

    #[test]
    fn words_are_read_and_written() {
        let mut rules = Rules::default();
        for word in ["public", "Registry.corp:5000", "r.test:5443=127.0.0.1:9"] {
            assert!(rules.add(word), "{word}");
        }
        assert_eq!(rules.words(), ["public", "r.test:5443=127.0.0.1:9", "registry.corp:5000"]);
        for word in ["", "host", "host:x", "a b:1", "host:1=x", "http://host:1", ":1", "host:1/x"] {
            assert!(!rules.add(word), "{word}");
        }
    }

    async fn ask(rules: Rules, request: &str) -> String {
        let (mut engine, server) = UnixStream::pair().expect("a pair");
        engine.write_all(request.as_bytes()).await.expect("written");
        let passing = pass(server, &rules);
        let asking = async {
            let mut answer = String::new();
            engine.read_to_string(&mut answer).await.expect("reads");
            answer
        };
        let (_, answer) = tokio::join!(passing, asking);
        answer.lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn what_is_not_allowed_is_refused_with_a_reason() {
        let public = Rules { public: true, ..Rules::default() };
        for request in [
            "CONNECT localhost:443 HTTP/1.1\r\n\r\n",
            "CONNECT 169.254.169.254:443 HTTP/1.1\r\n\r\n",
            "CONNECT r.test:80 HTTP/1.1\r\n\r\n",
        ] {
            assert!(ask(public.clone(), request).await.starts_with("HTTP/1.1 403 nodes may not reach"), "{request}");
        }
        assert!(ask(Rules::default(), "CONNECT one.one.one.one:443 HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 403 "));
        for request in ["GET http://r.test/ HTTP/1.1\r\n\r\n", "CONNECT nothing HTTP/1.1\r\n\r\n"] {
            assert!(ask(public.clone(), request).await.starts_with("HTTP/1.1 400 "), "{request}");
        }
    }

    #[tokio::test]
    async fn what_is_listed_is_reached_where_it_is() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let mut rules = Rules::default();
        assert!(rules.add(&format!("r.test:5443={address}")));
        let registry = async {
            let (mut guest, _) = listener.accept().await.expect("comes");
            guest.write_all(b"hello").await.expect("written");
        };
        let (mut engine, server) = UnixStream::pair().expect("a pair");
        engine.write_all(b"CONNECT R.test:5443 HTTP/1.1\r\nHost: r.test\r\n\r\n").await.expect("written");
        let asking = async {
            let mut answer = String::new();
            engine.shutdown().await.expect("said all");
            engine.read_to_string(&mut answer).await.expect("reads");
            answer
        };
        let (_, _, answer) = tokio::join!(registry, pass(server, &rules), asking);
        assert_eq!(answer, "HTTP/1.1 200 connected\r\n\r\nhello");
    }
}
