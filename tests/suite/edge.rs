//! Bytes of strangers at the edge, over real sockets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::{any, get};
use batchyard::edge::{self, Budget};
use batchyard::task::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server whose `/` answers `fine`, `/peer` the peer's address, and `/length` the length of the body.
async fn server(tasks: &Tasks, budget: Budget) -> SocketAddr {
    let length = |body: axum::body::Body| async move {
        match axum::body::to_bytes(body, 1 << 20).await {
            Ok(bytes) => bytes.len().to_string(),
            Err(error) => error.to_string(),
        }
    };
    let router = Router::new()
        .route("/", get(|| async { "fine" }))
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }))
        .route("/length", any(length))
        .fallback(|| async { "elsewhere" });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address");
    edge::serve(listener, None, router, budget, tasks);
    address
}

fn budget() -> Budget {
    Budget::new(2000, 1000)
}

/// Everything that the server says to `bytes` until it closes; the connection's write side stays open.
async fn say(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    read.expect("the server closes the connection").expect("nothing is lost on the way");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn plain_requests_are_answered_on_one_connection() {
    let tasks = Tasks::new();
    let address = server(&tasks, budget()).await;
    let answer = say(
        address,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\
          PUT /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
          PUT /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n\
          GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 4, "{answer}");
    assert!(answer.contains("fine") && answer.contains("\r\n\r\n5HTTP") && answer.contains("\r\n\r\n7HTTP"), "{answer}");
    assert!(answer.ends_with("127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let tasks = Tasks::new();
    let address = server(&tasks, budget()).await;
    let rest = "\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b",
        "GET / HTTP/1.1",
        "GET http://a/ HTTP/1.1\r\nHost: a",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: x",
        "GET / HTTP/1.1\nHost: a\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a",
        "nonsense",
    ] {
        let answer = say(address, format!("{head}{rest}").as_bytes()).await;
        assert_eq!(status(&answer), 400, "{head:?} got {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "only one answer to {head:?}: {answer:?}");
        assert!(answer.contains("\"code\":\"BadRequest\""), "{answer}");
    }
}

#[tokio::test]
async fn a_refusal_comes_after_the_answers_before_it() {
    let tasks = Tasks::new();
    let address = server(&tasks, budget()).await;
    let answer = say(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.matches("HTTP/1.1 400").count() == 1, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer}");
}

#[tokio::test]
async fn oversize_heads_get_431() {
    let tasks = Tasks::new();
    let address = server(&tasks, budget()).await;
    for (head, expected) in [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9_000)), 414),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1_000_000)), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(10_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(33_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(200_000)), 431),
    ] {
        let answer = say(address, head.as_bytes()).await;
        assert_eq!(status(&answer), expected, "{}... got {answer:?}", head.get(..40).unwrap_or_default());
    }
    let most = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n", "X: y\r\n".repeat(98));
    assert_eq!(status(&say(address, most.as_bytes()).await), 200, "a hundred headers are taken");
}

#[tokio::test]
async fn half_a_head_is_closed() {
    let tasks = Tasks::new();
    let address = server(&tasks, budget()).await;
    let start = Instant::now();
    let mut dribbling = Vec::new();
    for _ in 0..500 {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(b"GET / HTT").await.expect("writes");
        dribbling.push(stream);
    }
    // One more byte a second changes nothing; meanwhile others are served.
    let mut slowest = Duration::ZERO;
    for _ in 0..8 {
        for stream in &mut dribbling {
            let _ = stream.write_all(b"P").await;
        }
        let asked = Instant::now();
        let answer = say(address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status(&answer), 200);
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for stream in &mut dribbling {
        let mut answer = Vec::new();
        let left = Duration::from_secs(14).saturating_sub(start.elapsed());
        let _ = tokio::time::timeout(left, stream.read_to_end(&mut answer)).await.expect("closed in time");
        assert!(answer.is_empty());
    }
    assert!(slowest < Duration::from_millis(500), "others waited {slowest:?}");
}

#[tokio::test]
async fn a_body_that_dribbles_fails() {
    let tasks = Tasks::new();
    let address = server(&tasks, budget()).await;
    let start = Instant::now();
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(b"PUT /length HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await.expect("writes");
    let (mut reader, mut writer) = stream.into_split();
    let dribble = async {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = dribble => unreachable!("never ends"),
        read = tokio::time::timeout(Duration::from_secs(12), reader.read_to_end(&mut answer)) => { let _ = read.expect("closed in time"); }
    }
    assert!(start.elapsed() >= Duration::from_secs(4), "a slow start is allowed");
    assert!(String::from_utf8_lossy(&answer).contains("too slowly"), "{answer:?}");
}

#[tokio::test]
async fn one_address_does_not_take_all_places() {
    let tasks = Tasks::new();
    let address = server(&tasks, Budget::new(10, 2)).await;
    let first = TcpStream::connect(address).await.expect("connects");
    let second = TcpStream::connect(address).await.expect("connects");
    assert_eq!(say(address, b"").await, "", "a third is closed at once");
    drop((first, second));
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let served = async {
        while status(&say(address, request).await) != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), served).await.expect("places are given back");
}

#[tokio::test]
async fn a_stop_answers_what_is_in_flight_and_closes_what_is_idle() {
    let tasks = Tasks::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address");
    let (started, mut begun) = tokio::sync::mpsc::channel::<()>(1);
    let slow = move || {
        let started = started.clone();
        async move {
            started.send(()).await.expect("the test waits");
            tokio::time::sleep(Duration::from_millis(300)).await;
            "done"
        }
    };
    edge::serve(listener, None, Router::new().route("/", get(slow)), budget(), &tasks);
    let idle = tokio::spawn(async move { say(address, b"").await });
    let asked = tokio::spawn(async move { say(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await });
    begun.recv().await.expect("the request arrived");
    assert!(tasks.stop(Duration::from_secs(5)).await, "all connections end");
    assert!(asked.await.expect("no panic").ends_with("done"));
    assert_eq!(idle.await.expect("no panic"), "");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
}
