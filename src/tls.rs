//! Certificates: an authority of our own, or files that someone else keeps.
//!
//! In: a folder or two files. Out: what a TLS listener needs, renewed while it runs. Refuses to know who connects.
//!
//! The authority is made once in its folder: `ca.pem`, which clients are given, and `ca.key`, mode 0600. The server's own key and
//! certificate are made anew at each start and again long before their end, and live in memory alone: nothing to leak, nothing
//! to expire on a disk.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use crate::clock::{Clock, Timestamp};

/// Life of the authority: longer than that of most installations.
const AUTHORITY_DAYS: i64 = 20 * 365;

/// Life of the server's certificate.
const SERVER_DAYS: i64 = 90;

/// Age at which the server's certificate is made anew.
const RENEW_DAYS: i64 = 30;

/// How often a running server looks whether its certificate is to be renewed.
const LOOK: Duration = Duration::from_secs(3600);

/// The authority's certificate, in its folder.
const CERTIFICATE: &str = "ca.pem";

/// The authority's key, in its folder.
const KEY: &str = "ca.key";

/// Where certificates come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// An authority of our own in `folder`; the server's certificate is for `names`: host names and addresses.
    Authority {
        /// Holds `ca.pem` and `ca.key`; made where it is absent.
        folder: PathBuf,
        /// What the server is called.
        names: Vec<String>,
    },
    /// PEM files of the chain, the server's own certificate first, and of its key. Read again when they change.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot use the file {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} does not hold {what}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Key and certificate do not fit, or are of a kind that is not supported.
    #[error("cannot use the certificate: {0}")]
    Use(#[from] rustls::Error),
}

/// A certificate that is kept current.
#[derive(Clone)]
pub struct Tls {
    source: Source,
    current: Arc<Current>,
    clock: Arc<dyn Clock>,
}

/// What handshakes read.
#[derive(Debug)]
struct Current(RwLock<Held>);

#[derive(Clone, Debug)]
struct Held {
    key: Arc<CertifiedKey>,
    made: Timestamp,
    /// When the files were last changed.
    changed: Option<SystemTime>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.held().key))
    }
}

impl Current {
    fn held(&self) -> Held {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Makes the cryptography that all TLS of this process uses the default one. Call once, first.
pub fn install_provider() {
    // Fails only where one is installed already: then there is one.
    let _ = ring::default_provider().install_default();
}

impl Tls {
    /// Reads or makes what the source says. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(source: Source, clock: Arc<dyn Clock>) -> Result<Tls, TlsError> {
        let held = obtain(&source, clock.now())?;
        Ok(Tls { source, current: Arc::new(Current(RwLock::new(held))), clock })
    }

    /// What a listener needs: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// [`TlsError::Use`].
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let config =
            ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&self.current) as _;
        let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The file that clients need in order to trust this server; `None` where someone else's authority signed.
    pub fn authority(&self) -> Option<PathBuf> {
        match &self.source {
            Source::Authority { folder, .. } => Some(folder.join(CERTIFICATE)),
            Source::Files { .. } => None,
        }
    }

    /// Keeps the certificate current, for as long as it is polled. A failure keeps the one that is.
    pub async fn keep(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if !self.is_due() {
                continue;
            }
            match obtain(&self.source, self.clock.now()) {
                Ok(held) => {
                    *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = held;
                    tracing::info!("the server's certificate was renewed");
                }
                Err(error) => tracing::error!(%error, "the server's certificate cannot be renewed; the present one stays"),
            }
        }
    }

    fn is_due(&self) -> bool {
        let held = self.current.held();
        match &self.source {
            Source::Authority { .. } => self.clock.now() - held.made > time::Duration::days(RENEW_DAYS),
            Source::Files { certificate, key } => {
                last_change(certificate, key).is_ok_and(|changed| Some(changed) != held.changed)
            }
        }
    }
}

fn obtain(source: &Source, now: Timestamp) -> Result<Held, TlsError> {
    match source {
        Source::Authority { folder, names } => {
            let (chain, key) = Authority::load_or_create(folder, now)?.issue(names, now)?;
            Ok(Held { key: Arc::new(certified(chain, key)?), made: now, changed: None })
        }
        Source::Files { certificate, key } => {
            let changed = last_change(certificate, key)?;
            let malformed = |path: &Path, what| TlsError::Malformed { path: path.to_owned(), what };
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
            let chain = chain.ok().filter(|chain| !chain.is_empty());
            let chain = chain.ok_or_else(|| malformed(certificate, "certificates in PEM"))?;
            let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| malformed(key, "a private key in PEM"))?;
            Ok(Held { key: Arc::new(certified(chain, private)?), made: now, changed: Some(changed) })
        }
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, TlsError> {
    let provider: CryptoProvider = ring::default_provider();
    Ok(CertifiedKey::from_der(chain, key, &provider)?)
}

fn last_change(certificate: &Path, key: &Path) -> Result<SystemTime, TlsError> {
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(io(path));
    Ok(changed(certificate)?.max(changed(key)?))
}

struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads the authority in `folder`, or makes it. Several processes may do so at once: the first file of each name stays.
    fn load_or_create(folder: &Path, now: Timestamp) -> Result<Authority, TlsError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io(folder))?;
        let (key_file, file) = (folder.join(KEY), folder.join(CERTIFICATE));
        if !key_file.exists() {
            place(&key_file, 0o600, KeyPair::generate()?.serialize_pem().as_bytes())?;
        }
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).map_err(io(&key_file))?;
        let malformed = |path: &Path, what| TlsError::Malformed { path: path.to_owned(), what };
        let text = String::from_utf8(read(&key_file)?).map_err(|_| malformed(&key_file, "a key"))?;
        let key = KeyPair::from_pem(&text).map_err(|_| malformed(&key_file, "a key"))?;
        let params = authority_params(&key, now);
        if !file.exists() {
            place(&file, 0o644, params.self_signed(&key)?.pem().as_bytes())?;
        }
        let certificate = CertificateDer::from_pem_slice(&read(&file)?).map_err(|_| malformed(&file, "a certificate"))?;
        Ok(Authority { certificate, issuer: Issuer::new(params, key) })
    }

    /// A new key and certificate for a server of these names.
    fn issue(
        &self,
        names: &[String],
        now: Timestamp,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = named(names.first().map_or("batchyard", String::as_str));
        // A day back, for clients whose clock is behind.
        params.not_before = now - time::Duration::DAY;
        params.not_after = now + time::Duration::days(SERVER_DAYS);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Strict clients, Python 3.13 among them, refuse a certificate without it.
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        Ok((vec![certificate.der().clone(), self.certificate.clone()], private))
    }
}

/// What the authority's certificate says. Its name follows from its key, so that the issuer of later certificates is the same.
fn authority_params(key: &KeyPair, now: Timestamp) -> CertificateParams {
    let digest = Sha256::digest(key.public_key_raw());
    let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("batchyard CA {short}"));
    params.not_before = now - time::Duration::DAY;
    params.not_after = now + time::Duration::days(AUTHORITY_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Puts a file in its place at once and whole; one that is there already stays.
fn place(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), TlsError> {
    let making = path.with_extension(format!("making-{}", std::process::id()));
    let placed = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&making)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match fs::hard_link(&making, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => fs::remove_file(&making),
        }
    };
    placed().map_err(io(path))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(io(path))
}

fn io(path: &Path) -> impl FnOnce(io::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn an_authority_is_made_once_and_signs_for_all_names() {
        let folder = std::env::temp_dir().join(format!("batchyard-tls-{}", std::process::id()));
        let source =
            Source::Authority { folder: folder.clone(), names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()] };
        let first = Tls::load(source.clone(), Arc::new(SystemClock)).expect("makes");
        let pem = fs::read(folder.join(CERTIFICATE)).expect("reads");
        let second = Tls::load(source, Arc::new(SystemClock)).expect("reads");
        assert_eq!(fs::read(folder.join(CERTIFICATE)).expect("reads"), pem, "made once");
        assert_eq!(fs::metadata(folder.join(KEY)).expect("is there").permissions().mode() & 0o777, 0o600);

        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).expect("parses")).expect("a trust anchor");
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
                .build()
                .expect("builds");
        for tls in [first, second] {
            let chain = tls.current.held().key.cert.clone();
            for name in ["localhost", "127.0.0.1", "::1"] {
                let name = rustls::pki_types::ServerName::try_from(name).expect("a name");
                let now = rustls::pki_types::UnixTime::now();
                rustls::client::danger::ServerCertVerifier::verify_server_cert(
                    &*verifier,
                    &chain[0],
                    &chain[1..],
                    &name,
                    &[],
                    now,
                )
                .expect("trusted");
            }
            tls.server_config().expect("fits");
        }
        fs::remove_dir_all(folder).expect("removes");
    }
}
