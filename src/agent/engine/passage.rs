//! The node's end of the passage to registries: where the engine believes a proxy.
//!
//! The engine speaks to a port of the node's loopback, which jobs of the node could reach too: a password keeps them out, which the engine
//! alone has. What it asks for goes on through a unix socket to a server, which decides; nothing is decided here.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt;
use subtle::ConstantTimeEq;

use crate::server_sockets;

/// The engine's name at its own proxy.
const USER: &str = "engine";

/// Longest request. Unit: bytes.
const HEAD: usize = 8 * 1024;

/// Longest time until a request is there.
const BEGIN: Duration = Duration::from_secs(10);

/// Connections at once; more are refused.
const CONNECTIONS: usize = 64;

/// Opens the passage to the servers that have a socket in `folder`. Answers the URL of the proxy, which is a secret.
///
/// # Errors
/// There is no port, or no thread.
pub(super) fn open(folder: &Path) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let password = format!("{:032x}{:032x}", rand::rng().random::<u128>(), rand::rng().random::<u128>());
    let expected = Arc::new(format!("Basic {}", STANDARD.encode(format!("{USER}:{password}"))));
    let (folder, count) = (folder.to_owned(), Arc::new(AtomicUsize::new(0)));
    std::thread::Builder::new().name("registries".into()).spawn(move || {
        for engine in listener.incoming().flatten() {
            let (folder, expected, count) = (folder.clone(), Arc::clone(&expected), Arc::clone(&count));
            if count.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
                count.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let passing = Arc::clone(&count);
            let thread = std::thread::Builder::new().name("registry".into()).stack_size(256 * 1024).spawn(move || {
                let _ = pass(&engine, &folder, &expected);
                passing.fetch_sub(1, Ordering::SeqCst);
            });
            if thread.is_err() {
                count.fetch_sub(1, Ordering::SeqCst);
            }
        }
    })?;
    Ok(format!("http://{USER}:{password}@127.0.0.1:{port}"))
}

fn pass(mut engine: &TcpStream, folder: &Path, expected: &str) -> io::Result<()> {
    engine.set_read_timeout(Some(BEGIN))?;
    let head = read_head(engine)?;
    let Some(target) = find_target(&head) else {
        return engine.write_all(b"HTTP/1.1 400 the request is none\r\nContent-Length: 0\r\n\r\n");
    };
    if !is_let_in(&head, expected) {
        return engine.write_all(b"HTTP/1.1 407 for the engine alone\r\nContent-Length: 0\r\n\r\n");
    }
    engine.set_read_timeout(None)?;
    let Ok(mut server) = server_sockets::connect(folder) else {
        return engine.write_all(b"HTTP/1.1 503 no server answers\r\nContent-Length: 0\r\n\r\n");
    };
    server.write_all(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes())?;
    let (mut from, mut to) = (engine.try_clone()?, server.try_clone()?);
    let there = std::thread::Builder::new().name("registry".into()).stack_size(256 * 1024).spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    })?;
    let _ = io::copy(&mut server, &mut engine);
    let _ = engine.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    let _ = there.join();
    Ok(())
}

fn read_head(mut engine: &TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        engine.read_exact(&mut byte)?;
        head.extend(byte);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

fn find_target(head: &str) -> Option<&str> {
    head.lines().next()?.strip_prefix("CONNECT ")?.split(' ').next()
}

fn is_let_in(head: &str, expected: &str) -> bool {
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut given = headers.filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization")).map(|(_, value)| value.trim());
    given.any(|given| given.as_bytes().ct_eq(expected.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_the_password_is_let_in() {
        let head =
            |value: &str| format!("CONNECT r.test:443 HTTP/1.1\r\nHost: r.test:443\r\nproxy-authorization: {value}\r\n\r\n");
        assert_eq!(find_target(&head("x")), Some("r.test:443"));
        assert!(is_let_in(&head("Basic YQ=="), "Basic YQ=="));
        assert!(!is_let_in(&head("Basic YQ="), "Basic YQ=="));
        assert!(!is_let_in("CONNECT r.test:443 HTTP/1.1\r\n\r\n", "Basic YQ=="));
        assert_eq!(find_target("GET http://r.test/ HTTP/1.1\r\n\r\n"), None);
    }
}
