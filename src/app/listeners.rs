//! The listening sockets, and the names that the server answers to.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use tokio::net::TcpListener;

use crate::config::Listen;

/// Sockets that listen; nobody is answered yet.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) http: Vec<TcpListener>,
    pub(super) https: Vec<TcpListener>,
}

impl Listeners {
    /// Listens on every address of the settings.
    pub(super) async fn bind(listen: &Listen) -> Result<Listeners> {
        Ok(Listeners { http: bind_all(&listen.http, "--port").await?, https: bind_all(&listen.https, "--tls-port").await? })
    }

    /// Where plain http is reached on this host.
    pub(super) fn endpoint(&self) -> Option<String> {
        Some(format!("http://{}", reachable(self.http.first()?.local_addr().ok()?)))
    }

    /// Where https is reached on this host: by name, as clients check certificates by name.
    pub(super) fn tls_endpoint(&self) -> Option<String> {
        let address = self.https.first()?.local_addr().ok()?;
        let loopback = address.ip().is_unspecified() || address.ip() == IpAddr::from([127, 0, 0, 1]);
        Some(if loopback { format!("https://localhost:{}", address.port()) } else { format!("https://{address}") })
    }

    /// Every name and address that the server answers to, without ports: loopback, this host's name, the addresses it listens on and
    /// those of the settings.
    pub(super) fn names(&self, listen: &Listen) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
        names.extend(nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()));
        for address in self.http.iter().chain(&self.https).filter_map(|listener| listener.local_addr().ok()) {
            if address.ip().is_unspecified() {
                names.extend(own_addresses().iter().map(ToString::to_string));
            } else {
                names.insert(address.ip().to_canonical().to_string());
            }
        }
        names.extend(listen.host_names.iter().map(|name| bare(name)));
        names.extend(listen.public_url.as_deref().and_then(|url| url.split_once("://")).map(|(_, host)| bare(host)));
        names.retain(|name| !name.is_empty());
        names
    }
}

async fn bind_all(addresses: &[SocketAddr], flag: &str) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let bound = TcpListener::bind(address).await;
        listeners.push(bound.with_context(|| refusal(*address, flag)).map_err(
            |error| match error.downcast_ref::<io::Error>() {
                // The sentence says it all: what the system calls it adds nothing.
                Some(cause) if cause.kind() == io::ErrorKind::AddrInUse => {
                    anyhow::anyhow!("{address} is taken by another process: choose another port with {flag} (0 takes a free one)")
                }
                _ => error,
            },
        )?);
    }
    Ok(listeners)
}

fn refusal(address: SocketAddr, flag: &str) -> String {
    format!("cannot listen on {address} (choose another port with {flag}, or another address in the settings)")
}

/// An address that reaches a listener from this host.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => ([127, 0, 0, 1], address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}

/// A host without its port and brackets, in lower case.
fn bare(host: &str) -> String {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None if host.matches(':').count() == 1 => host.split(':').next().unwrap_or_default(),
        None => host,
    };
    name.to_ascii_lowercase()
}

/// The addresses of this host's interfaces.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    #[tokio::test]
    async fn a_taken_port_is_told_with_the_remedy() {
        let mut listen = Config::parse("", &Environment::default()).expect("right").listen;
        listen.http = vec![([127, 0, 0, 1], 0).into()];
        listen.https = vec![];
        listen.public_url = Some("https://Batch.example.org:444".into());
        listen.host_names = vec!["[2001:db8::1]:80".into()];
        let first = Listeners::bind(&listen).await.expect("binds");
        let names = first.names(&listen);
        for name in ["localhost", "127.0.0.1", "::1", "batch.example.org", "2001:db8::1"] {
            assert!(names.contains(name), "{name} in {names:?}");
        }
        listen.http = vec![first.http[0].local_addr().expect("bound")];
        let error = Listeners::bind(&listen).await.expect_err("taken").to_string();
        assert!(error.contains("is taken by another process") && error.contains("--port"), "{error}");
    }
}
