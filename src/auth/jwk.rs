//! Public keys of issuers elsewhere. Pure: a document becomes keys; a key, a message and a signature become yes or no.
//!
//! The algorithm is a property of the key: what its document says or, where that says nothing, the usual one of its kind. A token's header
//! is only compared with it, so that no token chooses how it is verified. Symmetric keys are not read.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;

/// Most keys of one document that are read.
const MAX_KEYS: usize = 64;

/// Longest id of a key. Unit: bytes.
const MAX_ID: usize = 256;

/// A key that verifies tokens.
#[derive(Debug)]
pub(super) struct Jwk {
    /// What tokens call it.
    pub(super) id: String,
    /// Its one algorithm, as headers name it.
    pub(super) algorithm: &'static str,
    material: Material,
}

enum Material {
    Rsa { scheme: &'static RsaParameters, modulus: Vec<u8>, exponent: Vec<u8> },
    Point { scheme: &'static dyn VerificationAlgorithm, point: Vec<u8> },
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a public key")
    }
}

/// A key as RFC 7517 writes it; what is not needed is left out.
#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of a document that verify signatures. Keys for other uses, of other kinds or without an id are left out, as issuers publish
/// those beside them.
///
/// # Errors
/// It is no JSON object with a list of keys.
pub(super) fn parse(document: &[u8]) -> Result<Vec<Jwk>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<serde_json::Value>,
    }
    let document: Document = serde_json::from_slice(document)?;
    let written = document.keys.into_iter().filter_map(|key| serde_json::from_value::<Written>(key).ok());
    Ok(written.filter_map(|key| read(&key)).take(MAX_KEYS).collect())
}

fn read(written: &Written) -> Option<Jwk> {
    if written.kid.is_empty() || written.kid.len() > MAX_ID || written.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return None;
    }
    let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?.trim_end_matches('=')).ok();
    let (algorithm, material) = match written.kty.as_str() {
        "RSA" => {
            let (algorithm, scheme) = rsa(written.alg.as_deref().unwrap_or("RS256"))?;
            let number = |text| bytes(text).map(|b| b.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>());
            (algorithm, Material::Rsa { scheme, modulus: number(&written.n)?, exponent: number(&written.e)? })
        }
        "EC" => {
            let (algorithm, scheme, size): (_, &'static dyn VerificationAlgorithm, _) = match written.crv.as_deref()? {
                "P-256" => ("ES256", &ECDSA_P256_SHA256_FIXED, 32),
                "P-384" => ("ES384", &ECDSA_P384_SHA384_FIXED, 48),
                _ => return None,
            };
            let (x, y) = (bytes(&written.x)?, bytes(&written.y)?);
            if x.len() != size || y.len() != size {
                return None;
            }
            (algorithm, Material::Point { scheme, point: [&[4], x.as_slice(), y.as_slice()].concat() })
        }
        "OKP" if written.crv.as_deref() == Some("Ed25519") => {
            ("EdDSA", Material::Point { scheme: &ED25519, point: bytes(&written.x).filter(|point| point.len() == 32)? })
        }
        _ => return None,
    };
    // A key that says it is for something else than what it is.
    if written.alg.as_deref().is_some_and(|alg| alg != algorithm) {
        return None;
    }
    Some(Jwk { id: written.kid.clone(), algorithm, material })
}

fn rsa(algorithm: &str) -> Option<(&'static str, &'static RsaParameters)> {
    Some(match algorithm {
        "RS256" => ("RS256", &RSA_PKCS1_2048_8192_SHA256),
        "RS384" => ("RS384", &RSA_PKCS1_2048_8192_SHA384),
        "RS512" => ("RS512", &RSA_PKCS1_2048_8192_SHA512),
        "PS256" => ("PS256", &RSA_PSS_2048_8192_SHA256),
        "PS384" => ("PS384", &RSA_PSS_2048_8192_SHA384),
        "PS512" => ("PS512", &RSA_PSS_2048_8192_SHA512),
        _ => return None,
    })
}

impl Jwk {
    /// Whether `signature` is this key's of `message`.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { scheme, modulus, exponent } => {
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(scheme, message, signature).is_ok()
            }
            Material::Point { scheme, point } => UnparsedPublicKey::new(*scheme, point).verify(message, signature).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // The example of RFC 7515, A.2: a token that is signed with RS256, and its key.
    const SIGNED: &str =
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

    fn one(key: serde_json::Value) -> Option<Jwk> {
        parse(json!({ "keys": [key] }).to_string().as_bytes()).expect("a document").pop()
    }

    #[test]
    fn a_known_signature_verifies_and_a_changed_one_does_not() {
        let key = one(json!({ "kty": "RSA", "kid": "a", "use": "sig", "n": MODULUS, "e": "AQAB" })).expect("a key");
        assert_eq!(key.algorithm, "RS256");
        let mut signature = URL_SAFE_NO_PAD.decode(SIGNATURE).expect("decodes");
        assert!(key.verify(SIGNED.as_bytes(), &signature));
        assert!(!key.verify(SIGNED.replace("joe", "eve").replace("eyJpc3Mi", "eyJpc3Nj").as_bytes(), &signature));
        signature[7] ^= 1;
        assert!(!key.verify(SIGNED.as_bytes(), &signature));
        assert!(!key.verify(SIGNED.as_bytes(), &[]));
        // The same numbers under another algorithm are another key.
        let other = one(json!({ "kty": "RSA", "kid": "a", "alg": "PS256", "n": MODULUS, "e": "AQAB" })).expect("a key");
        signature[7] ^= 1;
        assert!(!other.verify(SIGNED.as_bytes(), &signature));
    }

    #[test]
    fn keys_for_other_uses_and_kinds_are_left_out() {
        let (x, short) = (URL_SAFE_NO_PAD.encode([1; 32]), URL_SAFE_NO_PAD.encode([1; 31]));
        for (key, read) in [
            (json!({ "kty": "EC", "kid": "a", "crv": "P-256", "x": x, "y": x }), true),
            (json!({ "kty": "EC", "kid": "a", "crv": "P-256", "alg": "ES256", "use": "sig", "x": x, "y": x }), true),
            (json!({ "kty": "OKP", "kid": "a", "crv": "Ed25519", "x": x }), true),
            (json!({ "kty": "EC", "kid": "a", "crv": "P-256", "x": short, "y": x }), false),
            (json!({ "kty": "EC", "kid": "a", "crv": "P-256", "alg": "ES384", "x": x, "y": x }), false),
            (json!({ "kty": "EC", "kid": "a", "crv": "secp256k1", "x": x, "y": x }), false),
            (json!({ "kty": "EC", "kid": "a", "crv": "P-256", "use": "enc", "x": x, "y": x }), false),
            (json!({ "kty": "EC", "crv": "P-256", "x": x, "y": x }), false),
            (json!({ "kty": "EC", "kid": "", "crv": "P-256", "x": x, "y": x }), false),
            (json!({ "kty": "oct", "kid": "a", "alg": "HS256", "k": x }), false),
            (json!({ "kty": "RSA", "kid": "a", "alg": "HS256", "n": MODULUS, "e": "AQAB" }), false),
            (json!({ "kty": "RSA", "kid": "a", "alg": "none", "n": MODULUS, "e": "AQAB" }), false),
            (json!({ "kty": "RSA", "kid": "a", "alg": "RSA-OAEP", "n": MODULUS, "e": "AQAB" }), false),
            (json!({ "kty": "RSA", "kid": "a", "e": "AQAB" }), false),
            (json!("text"), false),
            (json!(null), false),
        ] {
            assert_eq!(one(key.clone()).is_some(), read, "{key}");
        }
        assert!(parse(b"[]").is_err() && parse(b"{}").is_err() && parse(b"").is_err());
        assert!(parse(br#"{"keys": []}"#).expect("a document").is_empty());
    }
}
