//! Where connections of strangers arrive.
//!
//! In: listening sockets and a router. Out: requests that have one reading, with the peer's address and the scheme attached.
//! Every wait has a deadline and everything that grows has a bound: a peer that sends half a request, or nothing, or reads nothing,
//! is cut off. Refuses to know what requests mean.

mod body;
mod budget;
mod chunk;
mod deadline;
mod guard;
mod head;
mod service;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::http::{Origin, Scheme};
use crate::task::Tasks;

pub use budget::Budget;

/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// TLS handshakes at once, and how long each is one of them: what costs is the answer to the first message, and a client that takes its
/// time for the next one has no turn meanwhile. When thousands come back together, requests of others go between.
const HANDSHAKES: (usize, Duration) = (8, Duration::from_millis(10));

/// Most concurrent requests of one HTTP/2 connection.
const STREAMS: u32 = 128;

/// How often a silent HTTP/2 peer is asked whether it is there, and how long it has to answer.
const PING: Duration = Duration::from_secs(20);

/// Pause after an accept that failed for want of something, such as file descriptors: nothing tells when there is some again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a request is refused before anything looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It has more than one reading, or none.
    Malformed(&'static str),
    /// Request line and headers are too long or too many.
    HeadTooLarge,
    /// The target is too long.
    TargetTooLong,
}

/// Serves a TCP listener, as https where `tls` is given, until `tasks` stop; requests in flight are answered first.
pub fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>, router: Router, budget: Budget, tasks: &Tasks) {
    let acceptor = tls.map(TlsAcceptor::from);
    let turns = Arc::new(Semaphore::new(HANDSHAKES.0));
    let connections = tasks.clone();
    tasks.spawn_cancellable("accept", async move {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    failed(&error).await;
                    continue;
                }
            };
            let Some(place) = budget.take(Some(peer.ip())) else { continue };
            let _ = stream.set_nodelay(true);
            let (acceptor, turns) = (acceptor.clone(), Arc::clone(&turns));
            let (router, shutdown) = (router.clone(), connections.shutdown());
            connections.spawn("connection", async move {
                match acceptor {
                    None => converse(stream, Origin { scheme: Scheme::Http }, Some(peer), router, shutdown).await,
                    Some(acceptor) => {
                        let handshake = tokio::time::timeout(HANDSHAKE, shake_hands(&acceptor, &turns, stream));
                        if let Some(Ok(Ok(stream))) = shutdown.run_until_cancelled(handshake).await {
                            converse(stream, Origin { scheme: Scheme::Https }, Some(peer), router, shutdown).await;
                        }
                    }
                }
                drop(place);
            });
        }
    });
}

/// A TLS handshake, in its turn.
async fn shake_hands(acceptor: &TlsAcceptor, turns: &Semaphore, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    // Who says nothing waits for no turn.
    stream.readable().await?;
    let turn = turns.acquire().await.map_err(io::Error::other)?;
    let mut handshake = pin!(acceptor.accept(stream));
    if let Ok(ended) = tokio::time::timeout(HANDSHAKES.1, handshake.as_mut()).await {
        return ended;
    }
    drop(turn);
    handshake.await
}

/// Serves a unix socket as [`serve`] does. Who can open it is a matter of its folder.
pub fn serve_unix(listener: UnixListener, router: Router, budget: Budget, tasks: &Tasks) {
    let connections = tasks.clone();
    tasks.spawn_cancellable("accept on a unix socket", async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    failed(&error).await;
                    continue;
                }
            };
            let Some(place) = budget.take(None) else { continue };
            let (router, shutdown) = (router.clone(), connections.shutdown());
            connections.spawn("connection on a unix socket", async move {
                converse(stream, Origin::default(), None, router, shutdown).await;
                drop(place);
            });
        }
    });
}

/// An accept failed: a connection that was gone before it was taken is nothing; else something is used up.
async fn failed(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::warn!(%error, "cannot take connections for the moment");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Answers the requests of one connection until either side ends it.
async fn converse<I>(io: I, origin: Origin, peer: Option<SocketAddr>, router: Router, shutdown: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(guard::Activity::default());
    let io = TokioIo::new(guard::Guard::new(io, Arc::clone(&activity)));
    let service = service::Front::new(router, origin, peer, activity);
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Peers that go away, are too slow or speak nonsense: nothing to act on.
        tracing::trace!(%error, "a connection ended badly");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Time and size of heads are the guard's: it tells an idle connection from half a head.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_headers(head::MAX_HEADERS).max_buf_size(128 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(head::MAX_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}

/// Whether plain http may be served on `address` without being asked for by name: tokens travel in the clear.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
