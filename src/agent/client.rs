//! Requests to a server: plain over a unix socket, or over TLS with the one authority that the bootstrap names.
//!
//! A [`Lane`] is one connection that is kept, with one request at a time. Where a server does not answer, the next one is tried.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rand::RngExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::domain::bootstrap::ServerAddress;
use crate::server_sockets;
use crate::task::Tasks;

/// Longest time until a connection stands.
const CONNECT: Duration = Duration::from_secs(5);

/// Most bytes of an answer: the desired state of one node.
const MAX_ANSWER: usize = 4 << 20;

/// Why a request brought no answer, or not the wanted one.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// No server was reached, or the connection broke: the request may or may not have been heard.
    #[error("no server answers")]
    Unreachable(#[source] io::Error),
    /// The server knows no such credential or token.
    #[error("the server refuses the credential: {0}")]
    Refused(String),
    /// The server asks to come back later.
    #[error("the server is busy")]
    Busy(Option<Duration>),
    /// The server answers something else.
    #[error("the server answers {0}: {1}")]
    Other(StatusCode, String),
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    ClientError::Unreachable(io::Error::other(error))
}

/// How servers are reached.
pub(super) struct Client {
    target: Target,
    /// Where it begins to look for a server: agents of one host spread over its servers.
    first: usize,
    tasks: Tasks,
}

enum Target {
    Sockets(PathBuf),
    Https { host: String, port: u16, name: ServerName<'static>, prefix: String, connector: TlsConnector },
}

impl Client {
    /// # Errors
    /// The address is none, or the authority is no certificate.
    pub(super) fn new(address: &ServerAddress, tasks: Tasks) -> io::Result<Client> {
        let target = match address {
            ServerAddress::Sockets(folder) => Target::Sockets(folder.clone()),
            ServerAddress::Https { url, ca } => https(url, ca)?,
        };
        Ok(Client { target, first: rand::rng().random_range(0..=usize::from(u16::MAX)), tasks })
    }

    async fn connect(&self, skip: usize) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        match &self.target {
            Target::Sockets(folder) => {
                let sockets = server_sockets::list(folder).map_err(ClientError::Unreachable)?;
                let mut last = server_sockets::absent();
                let count = sockets.len();
                let begin = self.first.wrapping_add(skip).checked_rem(count).unwrap_or(0);
                for socket in sockets.iter().cycle().skip(begin).take(count) {
                    match UnixStream::connect(socket).await {
                        Ok(stream) => return self.shake_hands(stream).await,
                        Err(error) => last = error,
                    }
                }
                Err(ClientError::Unreachable(last))
            }
            Target::Https { host, port, name, connector, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(ClientError::Unreachable)?;
                stream.set_nodelay(true).map_err(ClientError::Unreachable)?;
                let stream = connector.connect(name.clone(), stream).await.map_err(ClientError::Unreachable)?;
                self.shake_hands(stream).await
            }
        }
    }

    async fn shake_hands<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        self.tasks.spawn_cancellable("connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the server ended");
            }
        });
        Ok(sender)
    }

    fn uri(&self, path: &str) -> Result<(Uri, String), ClientError> {
        let (path, host) = match &self.target {
            Target::Sockets(_) => (path.to_owned(), "agent".to_owned()),
            Target::Https { host, port, prefix, .. } => (format!("{prefix}{path}"), format!("{host}:{port}")),
        };
        Ok((path.parse().map_err(broken)?, host))
    }
}

fn https(url: &str, ca: &str) -> io::Result<Target> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("the server's address {url} {what}"));
    let uri: Uri = url.parse().map_err(|_| wrong("is no address"))?;
    if uri.scheme_str() != Some("https") {
        return Err(wrong("is not https"));
    }
    let host = uri.host().ok_or_else(|| wrong("names no host"))?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    if roots.is_empty() {
        return Err(wrong("has no certificate authority"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let (port, prefix) = (uri.port_u16().unwrap_or(443), uri.path().trim_end_matches('/').to_owned());
    Ok(Target::Https { host, port, name, prefix, connector: TlsConnector::from(Arc::new(config)) })
}

/// What is asked.
pub(super) struct Ask {
    /// Path and query.
    pub(super) path: String,
    /// Of the body.
    pub(super) content_type: &'static str,
    /// The body.
    pub(super) body: Bytes,
    /// Bearer token.
    pub(super) credential: Option<String>,
    /// Longest time until the whole answer is there.
    pub(super) deadline: Duration,
}

/// One connection that is kept.
#[derive(Default)]
pub(super) struct Lane {
    connection: Option<SendRequest<Full<Bytes>>>,
    /// Servers passed over since one answered.
    skip: usize,
}

impl Lane {
    /// Asks, and answers the body of a good answer.
    ///
    /// # Errors
    /// [`ClientError`]. After `Unreachable` the next request goes to the next server.
    pub(super) async fn ask(&mut self, client: &Client, ask: Ask) -> Result<Bytes, ClientError> {
        let deadline = ask.deadline;
        let result = match tokio::time::timeout(deadline, self.ask_at_once(client, ask)).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Unreachable(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))),
        };
        match result {
            Err(ClientError::Unreachable(_)) => {
                self.connection = None;
                self.skip += 1;
            }
            Err(ClientError::Busy(_)) => self.connection = None,
            _ => self.skip = 0,
        }
        result
    }

    async fn ask_at_once(&mut self, client: &Client, ask: Ask) -> Result<Bytes, ClientError> {
        let (uri, host) = client.uri(&ask.path)?;
        let mut request = Request::new(Full::new(ask.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(HOST, host.parse().map_err(broken)?);
        headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(ask.content_type));
        if let Some(credential) = &ask.credential {
            let mut value: hyper::header::HeaderValue = format!("Bearer {credential}").parse().map_err(broken)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let response = self.send(client, request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(broken)?.to_bytes();
        if head.status.is_success() {
            return Ok(body);
        }
        let text: String = String::from_utf8_lossy(&body).chars().take(500).collect();
        Err(match head.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ClientError::Refused(text),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                let after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                ClientError::Busy(after.map(Duration::from_secs))
            }
            status => ClientError::Other(status, text),
        })
    }

    async fn send(
        &mut self,
        client: &Client,
        request: Request<Full<Bytes>>,
    ) -> Result<hyper::Response<hyper::body::Incoming>, ClientError> {
        let mut request = request;
        if let Some(connection) = &mut self.connection {
            // A kept connection may have been closed since: then nothing was sent, and a new one is tried at once.
            match connection.ready().await {
                Ok(()) => match connection.try_send_request(request).await {
                    Ok(response) => return Ok(response),
                    Err(mut error) => match error.take_message() {
                        Some(unsent) => request = unsent,
                        None => return Err(broken(error.into_error())),
                    },
                },
                Err(error) => tracing::debug!(%error, "a kept connection was closed"),
            }
            self.connection = None;
        }
        let connected = tokio::time::timeout(CONNECT, client.connect(self.skip)).await;
        let connected = connected.map_err(|_| broken("no connection in time"))??;
        self.connection.insert(connected).send_request(request).await.map_err(broken)
    }
}
