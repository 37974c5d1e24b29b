//! An OpenID Connect issuer on loopback: real keys, real signatures, and whatever behaviour a test wants of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::ecdsa::signature::Signer;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use serde_json::{Value, json};

/// A key that an issuer signs with.
pub(crate) struct Key {
    pub(crate) id: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(p256::ecdsa::SigningKey),
    Ed(Ed25519KeyPair),
}

impl Key {
    /// RS256. The pair is committed, as making one takes seconds: nothing but these tests trusts it.
    pub(crate) fn rsa(id: &'static str) -> Key {
        let text: String = include_str!("rsa-of-tests-alone.b64").split_whitespace().collect();
        let der = STANDARD.decode(text).expect("base64");
        Key { id, pair: Pair::Rsa(RsaKeyPair::from_pkcs8(&der).expect("a pair")) }
    }

    /// ES256, made now.
    pub(crate) fn ec(id: &'static str) -> Key {
        let key = loop {
            let material: [u8; 32] = rand::random();
            if let Ok(key) = p256::ecdsa::SigningKey::from_slice(&material) {
                break key;
            }
        };
        Key { id, pair: Pair::Ec(key) }
    }

    /// EdDSA, made now.
    pub(crate) fn ed(id: &'static str) -> Key {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("makes");
        Key { id, pair: Pair::Ed(Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a pair")) }
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec(_) => "ES256",
            Pair::Ed(_) => "EdDSA",
        }
    }

    /// The public half, as the issuer publishes it.
    pub(crate) fn public(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                // Some issuers say no algorithm.
                json!({ "kid": self.id, "kty": "RSA", "use": "sig", "n": text(&public.n), "e": text(&public.e) })
            }
            Pair::Ec(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                let (x, y) = (point.x().expect("has"), point.y().expect("has"));
                json!({ "kid": self.id, "kty": "EC", "crv": "P-256", "alg": "ES256", "x": text(x), "y": text(y) })
            }
            Pair::Ed(pair) => {
                json!({ "kid": self.id, "kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref()) })
            }
        }
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("signs");
                signature
            }
            Pair::Ec(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with this header and these claims, signed by this key whatever the header says.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.signature(signed.as_bytes())))
    }

    /// A token as the issuer would make it.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": self.algorithm(), "kid": self.id, "typ": "JWT" }), claims)
    }
}

/// Header and claims without a signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// How an issuer answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should.
    Well,
    /// Never.
    Silent,
    /// With an error.
    Broken,
    /// With a document that does not end.
    Endless,
    /// With the address of someone else.
    Elsewhere(String),
    /// With the configuration of another issuer.
    Mistaken,
}

struct Inside {
    issuer: String,
    keys: Mutex<Vec<Value>>,
    mood: Mutex<Mood>,
    asked: AtomicUsize,
    asked_for_keys: AtomicUsize,
}

/// A running issuer; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Idp(Arc<Inside>);

impl Idp {
    pub(crate) async fn start(keys: &[&Key]) -> Idp {
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("binds");
        let issuer = format!("http://{}", listener.local_addr().expect("bound"));
        let inside = Inside {
            issuer,
            keys: Mutex::new(keys.iter().map(|key| key.public()).collect()),
            mood: Mutex::new(Mood::Well),
            asked: AtomicUsize::new(0),
            asked_for_keys: AtomicUsize::new(0),
        };
        let idp = Idp(Arc::new(inside));
        let router = Router::new().fallback(answer).with_state(idp.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        idp
    }

    /// What its tokens name as `iss`.
    pub(crate) fn issuer(&self) -> String {
        self.0.issuer.clone()
    }

    /// Publishes these keys from now on.
    pub(crate) fn publish(&self, keys: &[&Key]) {
        *self.0.keys.lock().expect("whole") = keys.iter().map(|key| key.public()).collect();
    }

    pub(crate) fn is(&self, mood: Mood) {
        *self.0.mood.lock().expect("whole") = mood;
    }

    /// How often anything was asked of it.
    pub(crate) fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// How often its keys were.
    pub(crate) fn asked_for_keys(&self) -> usize {
        self.0.asked_for_keys.load(Ordering::SeqCst)
    }
}

async fn answer(State(idp): State<Idp>, uri: Uri) -> Response<Body> {
    let inside = &idp.0;
    inside.asked.fetch_add(1, Ordering::SeqCst);
    let document = match uri.path() {
        "/.well-known/openid-configuration" => {
            json!({ "issuer": inside.issuer, "jwks_uri": format!("{}/keys", inside.issuer) })
        }
        "/keys" => {
            inside.asked_for_keys.fetch_add(1, Ordering::SeqCst);
            json!({ "keys": *inside.keys.lock().expect("whole") })
        }
        _ => return status(StatusCode::NOT_FOUND, Body::empty()),
    };
    let mood = inside.mood.lock().expect("whole").clone();
    match mood {
        Mood::Well => status(StatusCode::OK, Body::from(document.to_string())),
        Mood::Silent => std::future::pending().await,
        Mood::Broken => status(StatusCode::INTERNAL_SERVER_ERROR, Body::from(document.to_string())),
        Mood::Endless => {
            let blanks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b' '; 4096])));
            status(StatusCode::OK, Body::from_stream(blanks))
        }
        Mood::Elsewhere(address) => {
            let mut response = status(StatusCode::FOUND, Body::empty());
            response.headers_mut().insert("location", format!("{address}{}", uri.path()).parse().expect("an address"));
            response
        }
        Mood::Mistaken => {
            let mut document = document;
            document["issuer"] = "https://someone.else".into();
            status(StatusCode::OK, Body::from(document.to_string()))
        }
    }
}

fn status(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
