//! The front door: routes, authentication, decoding, answers.

/// How a request reached this server. The edge puts an [`Origin`] into each request's extensions; without one it is plain http.
///
/// The peer's address is read from `axum::extract::ConnectInfo<std::net::SocketAddr>`, which is absent on unix sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The scheme of URLs that answer this request.
    pub scheme: Scheme,
}

/// The scheme of a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme as URLs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}
