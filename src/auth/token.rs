//! Access tokens: JWTs of the built-in issuer. Pure: keys, a time and a text → claims or why not.
//!
//! The algorithm is a property of the key that is found by its id, never of the header. A header may name a key and a type and nothing
//! else, so that `jku`, `x5u`, `jwk`, `x5c` and `crit` are refused unread. An access token is for the management API alone: agents'
//! credentials and links are made of other keys, by `sign`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::audience::Audiences;
use crate::auth::keys::{TokenKey, TokenKeys};
use crate::clock::Timestamp;
use crate::id::{PrincipalId, TenantId};

/// How long an access token is good for.
pub(super) const LIFE: Duration = Duration::from_secs(3600);

/// How far the clocks of the hosts of one installation may be apart. Unit: seconds.
pub(super) const LEEWAY: i64 = 60;

/// Longest token that is looked at. Unit: bytes. Own tokens have about 800.
const MAX: usize = 8 * 1024;

/// Says that a token is an access token (RFC 9068), so that no other kind passes for one.
const TYPE: &str = "at+jwt";

const ALGORITHM: &str = "ES256";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// What a token says. All but the last few are needed to verify it; those are what Azure's tokens carry too, for clients that look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) aud: String,
    pub(super) iss: String,
    pub(super) iat: i64,
    pub(super) nbf: i64,
    pub(super) exp: i64,
    pub(super) sub: Uuid,
    pub(super) tid: Uuid,
    #[serde(default)]
    pub(super) appid: String,
    #[serde(default)]
    pub(super) oid: Uuid,
    #[serde(default)]
    pub(super) appidacr: String,
    #[serde(default)]
    pub(super) idtyp: String,
    #[serde(default)]
    pub(super) uti: String,
    #[serde(default)]
    pub(super) ver: String,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is over. When it was: seconds since 1970.
    Expired(i64),
    /// Its key is not in the ring: the ring may be old.
    UnknownKey,
    /// The keys of its issuer, which is elsewhere, cannot be had at this time.
    Away,
    /// Anything else, as the end of a sentence.
    Invalid(&'static str),
}

/// A token that was verified, and the key that did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) key_id: String,
    pub(super) principal: PrincipalId,
    pub(super) tenant: TenantId,
    pub(super) issued_at: i64,
    pub(super) expires_at: i64,
}

impl Verified {
    /// # Errors
    /// [`Refused::Expired`] where the token is over by now.
    pub(super) fn check_time(&self, now: Timestamp) -> Result<(), Refused> {
        if now.unix_timestamp() > self.expires_at.saturating_add(LEEWAY) {
            return Err(Refused::Expired(self.expires_at));
        }
        Ok(())
    }
}

/// The issuer of a tenant, as tokens name it. Not a URL of this server, as that goes by several names.
pub(super) fn issuer(tenant: TenantId) -> String {
    format!("urn:batchyard:tenant:{tenant}")
}

/// Signs `claims`.
pub(super) fn sign(key: &TokenKey, claims: &Claims) -> Result<String, serde_json::Error> {
    let header = Header { alg: ALGORITHM.into(), kid: key.id.clone(), typ: TYPE.into() };
    let mut token = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header)?);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims)?, &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

/// The parts of a signed token, decoded and nothing of them believed.
pub(super) struct Split<'t> {
    /// What the signature is of: the first two parts as they were sent.
    pub(super) signed: &'t str,
    pub(super) header: Vec<u8>,
    pub(super) claims: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

/// Splits a token of at most `limit` bytes.
///
/// # Errors
/// It is longer, or not three parts of base64url.
pub(super) fn split(token: &str, limit: usize) -> Result<Split<'_>, Refused> {
    if token.len() > limit {
        return Err(Refused::Invalid("it is too long"));
    }
    let malformed = || Refused::Invalid("it is not three parts of base64url");
    let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
    Ok(Split { signed, header: decode(header)?, claims: decode(claims)?, signature: decode(signature)? })
}

/// Verifies a token for the management API.
pub(super) fn verify(keys: &TokenKeys, audiences: &Audiences, token: &str, now: Timestamp) -> Result<Verified, Refused> {
    let Split { signed, header, claims, signature } = split(token, MAX)?;

    let header: Header = serde_json::from_slice(&header).map_err(|_| Refused::Invalid("its header is not one of this issuer"))?;
    if header.typ != TYPE {
        return Err(Refused::Invalid("it is not an access token"));
    }
    let key = keys.find(&header.kid).ok_or(Refused::UnknownKey)?;
    // Only for the message: the key verifies ES256 and nothing else, whatever is written here.
    if header.alg != ALGORITHM || !key.verify(signed.as_bytes(), &signature) {
        return Err(Refused::Invalid("its signature does not verify"));
    }

    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| Refused::Invalid("a claim is absent or of a wrong type"))?;
    let tenant = TenantId(claims.tid);
    if claims.iss != issuer(tenant) {
        return Err(Refused::Invalid("its issuer is not known"));
    }
    if !audiences.includes(&claims.aud) {
        return Err(Refused::Invalid("it is for another audience"));
    }
    let verified = Verified {
        key_id: header.kid,
        principal: PrincipalId(claims.sub),
        tenant,
        issued_at: claims.iat,
        expires_at: claims.exp,
    };
    verified.check_time(now)?;
    let soonest = now.unix_timestamp().saturating_add(LEEWAY);
    if claims.nbf > soonest || claims.iat > soonest {
        return Err(Refused::Invalid("it is not valid yet"));
    }
    // Times that this issuer never writes: a token that is good for ever, or from before there were any.
    let life = claims.exp.checked_sub(claims.iat).unwrap_or(i64::MAX);
    if claims.iat < 0 || claims.nbf < 0 || !(0..=LIFE.as_secs().cast_signed()).contains(&life) {
        return Err(Refused::Invalid("its times do not fit"));
    }
    Ok(verified)
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};
    use serde_json::{Value, json};
    use sha2::Sha256;

    use super::*;
    use crate::auth::keys::Keys;

    const NOW: i64 = 1_769_872_445;

    fn now() -> Timestamp {
        Timestamp::from_unix_timestamp(NOW).expect("is a time")
    }

    /// Keys of an installation in a folder that is gone afterwards.
    fn keys(name: &str) -> Keys {
        let dir = std::env::temp_dir().join(format!("batchyard-token-{}-{name}", std::process::id()));
        let keys = Keys::load_or_create(&dir).expect("makes keys");
        std::fs::remove_dir_all(&dir).expect("removes");
        keys
    }

    fn tenant() -> TenantId {
        TenantId(Uuid::from_u128(7))
    }

    fn claims() -> Value {
        json!({
            "aud": "https://management.azure.com/",
            "iss": issuer(tenant()),
            "iat": NOW,
            "nbf": NOW,
            "exp": NOW + 3600,
            "sub": Uuid::from_u128(1),
            "tid": tenant(),
        })
    }

    fn header(keys: &Keys) -> Value {
        json!({ "alg": "ES256", "kid": keys.tokens().current(now()).expect("has one").id, "typ": "at+jwt" })
    }

    fn encode(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(header), part(claims))
    }

    fn sealed(keys: &Keys, header: &Value, claims: &Value) -> String {
        let signed = encode(header, claims);
        let signature = keys.tokens().current(now()).expect("has one").sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn check(keys: &Keys, token: &str) -> Result<Verified, Refused> {
        verify(&keys.tokens(), &Audiences::new(&[]), token, now())
    }

    #[test]
    fn own_tokens_verify() {
        let keys = keys("own");
        let verified = check(&keys, &sealed(&keys, &header(&keys), &claims())).expect("verifies");
        assert_eq!(verified.principal, PrincipalId(Uuid::from_u128(1)));
        assert_eq!(verified.tenant, tenant());

        let claims: Claims = serde_json::from_value(claims()).expect("fits");
        let token = sign(keys.tokens().current(now()).expect("has one"), &claims).expect("signs");
        assert_eq!(check(&keys, &token).expect("verifies"), verified);
    }

    #[test]
    fn alg_is_the_keys_not_the_tokens() {
        let keys = keys("alg");
        let ring = keys.tokens();
        let (x, y) = ring.current(now()).expect("has one").public();
        let public = [&[4][..], &x, &y].concat();
        for alg in ["none", "None", "HS256", "HS512", "RS256", "PS256", "ES384", "ES256K", "EdDSA", "es256", "", "ES256 "] {
            let mut header = header(&keys);
            header["alg"] = alg.into();
            let signed = encode(&header, &claims());
            let own = ring.current(now()).expect("has one").sign(signed.as_bytes()).to_vec();
            let mut mac = Hmac::<Sha256>::new_from_slice(&public).expect("takes any key");
            mac.update(signed.as_bytes());
            let with_public_key = mac.finalize().into_bytes().to_vec();
            for signature in [own, with_public_key, Vec::new()] {
                let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
                assert!(check(&keys, &token).is_err(), "{alg}");
            }
        }
    }

    #[test]
    fn a_changed_token_is_refused() {
        let keys = keys("changed");
        let token = sealed(&keys, &header(&keys), &claims());
        for at in (0..token.len()).step_by(3) {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            // The last character of the signature has bits that are not part of it; those are refused as not canonical.
            assert!(check(&keys, &changed).is_err(), "{at}");
        }
        for wrong in ["", ".", "..", "a.b", "a.b.c", &format!("{token}."), &format!("{token}="), &token.replace('.', "..")] {
            assert!(check(&keys, wrong).is_err(), "{wrong}");
        }
        assert!(check(&keys, &"A".repeat(100_000)).is_err());
        let stranger = self::keys("stranger");
        assert_eq!(check(&keys, &sealed(&stranger, &header(&stranger), &claims())), Err(Refused::UnknownKey));
        assert!(check(&keys, &sealed(&stranger, &header(&keys), &claims())).is_err(), "a strange key under a known id");
    }

    #[test]
    fn header_tricks_are_refused() {
        let keys = keys("header");
        let tricks = [
            ("jku", json!("https://evil.example/keys")),
            ("x5u", json!("https://evil.example/cert")),
            ("jwk", json!({ "kty": "EC" })),
            ("x5c", json!(["MIIB"])),
            ("x5t", json!("abc")),
            ("x5t#S256", json!("abc")),
            ("crit", json!(["exp"])),
            ("crit", json!([])),
            ("b64", json!(false)),
            ("zip", json!("DEF")),
            ("enc", json!("A256GCM")),
            ("cty", json!("JWT")),
            ("epk", json!({})),
            ("iv", json!("")),
            ("kid", json!("../../etc/passwd")),
            ("kid", json!("/dev/null")),
            ("kid", json!("' or 1=1 --")),
            ("kid", json!("https://evil.example/key")),
            ("kid", json!("k".repeat(5000))),
            ("kid", json!("")),
            ("kid", json!(null)),
            ("kid", json!(1)),
            ("kid", json!(["a"])),
            ("typ", json!("JWT")),
            ("typ", json!("id+jwt")),
            ("typ", json!("AT+JWT")),
            ("typ", json!(null)),
            ("alg", json!(null)),
            ("alg", json!(["ES256"])),
            ("alg", json!({})),
        ];
        for (name, value) in tricks {
            let mut header = header(&keys);
            header[name] = value.clone();
            assert!(check(&keys, &sealed(&keys, &header, &claims())).is_err(), "{name}: {value}");
        }
        for absent in ["alg", "kid", "typ"] {
            let mut header = header(&keys);
            header.as_object_mut().expect("an object").remove(absent);
            assert!(check(&keys, &sealed(&keys, &header, &claims())).is_err(), "{absent}");
        }
        // The same name twice, of which readers take one or the other.
        let twice = format!("{{\"alg\":\"none\",{}", &header(&keys).to_string()[1..]);
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(twice), URL_SAFE_NO_PAD.encode(claims().to_string()));
        let signature = keys.tokens().current(now()).expect("has one").sign(signed.as_bytes());
        assert!(check(&keys, &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))).is_err());
    }

    #[test]
    fn each_claim_absent_or_mistyped_is_refused() {
        let keys = keys("claims");
        for claim in ["exp", "nbf", "iat", "iss", "aud", "sub", "tid"] {
            let mut claims = claims();
            claims.as_object_mut().expect("an object").remove(claim);
            assert!(check(&keys, &sealed(&keys, &header(&keys), &claims)).is_err(), "{claim} absent");
            for wrong in [
                json!(null),
                json!("text"),
                json!([]),
                json!([self::claims()[claim]]),
                json!({}),
                json!(true),
                json!(1.5),
                json!(-1),
                json!(i64::MIN),
                json!(i64::MAX),
                json!(u64::MAX),
                json!(1e300),
                json!((NOW + 10).to_string()),
                json!(""),
            ] {
                let mut claims = self::claims();
                claims[claim] = wrong.clone();
                let result = check(&keys, &sealed(&keys, &header(&keys), &claims));
                assert!(result.is_err() || claims[claim] == self::claims()[claim], "{claim}: {wrong} {result:?}");
            }
        }
        for wrong in [json!([]), json!("text"), json!(null)] {
            assert!(check(&keys, &sealed(&keys, &header(&keys), &wrong)).is_err());
        }
    }

    #[test]
    fn times_have_a_minute_of_leeway() {
        let keys = keys("times");
        let at = |iat: i64, nbf: i64, exp: i64| {
            let mut claims = claims();
            (claims["iat"], claims["nbf"], claims["exp"]) = (iat.into(), nbf.into(), exp.into());
            check(&keys, &sealed(&keys, &header(&keys), &claims))
        };
        assert!(at(NOW, NOW, NOW + 3600).is_ok());
        assert!(at(NOW - 3600, NOW - 3600, NOW - 60).is_ok());
        assert_eq!(at(NOW - 3600, NOW - 3600, NOW - 61), Err(Refused::Expired(NOW - 61)));
        assert!(at(NOW + 60, NOW + 60, NOW + 3600).is_ok());
        assert!(at(NOW + 61, NOW, NOW + 3600).is_err());
        assert!(at(NOW, NOW + 61, NOW + 3600).is_err());
        assert!(at(NOW, NOW, NOW + 3601).is_err(), "longer than this issuer ever says");
        assert!(at(NOW + 1, NOW, NOW).is_err());
        assert!(at(-5, -5, NOW + 10).is_err());
    }

    #[test]
    fn issuers_do_not_share_keys() {
        let keys = keys("issuer");
        let other = TenantId(Uuid::from_u128(8));
        for wrong in [
            issuer(other),
            issuer(tenant()).to_ascii_uppercase(),
            format!("{}/", issuer(tenant())),
            format!(" {}", issuer(tenant())),
            format!("https://sts.windows.net/{}/", tenant()),
            String::new(),
        ] {
            let mut claims = claims();
            claims["iss"] = wrong.clone().into();
            assert!(check(&keys, &sealed(&keys, &header(&keys), &claims)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn purposes_are_never_mixed() {
        let keys = keys("purpose");
        for other in ["https://graph.windows.net/", "batchyard agent v1", "https://localhost/agent", "urn:batchyard:agent", ""] {
            let mut claims = claims();
            claims["aud"] = other.into();
            assert!(check(&keys, &sealed(&keys, &header(&keys), &claims)).is_err(), "{other}");
        }
        let signer = keys.signer();
        for purpose in [crate::sign::Purpose::Agent, crate::sign::Purpose::Link, crate::sign::Purpose::Cursor] {
            let proof = signer.sign(purpose, &[b"a"]);
            assert!(check(&keys, &proof).is_err());
            let signed = encode(&header(&keys), &claims());
            assert!(check(&keys, &format!("{signed}.{}", signer.sign(purpose, &[signed.as_bytes()]))).is_err());
            let token = sealed(&keys, &header(&keys), &claims());
            assert!(!signer.verify(purpose, &[b"a"], &token));
        }
    }
}
