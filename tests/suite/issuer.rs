//! Tokens of issuers elsewhere, really signed, and every way in which they must be refused.

mod idp;

use std::time::{Duration, Instant};

use batchyard::auth::{Auth, Caller, Configured, Directory, ExternalIssuer, Parts, Rule, Secret};
use batchyard::clock::Clock;
use batchyard::domain::principal::{Grant, Origin, Role};
use batchyard::error::{Error, ErrorCode};
use batchyard::secret::SecretText;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

use crate::auth::{World, world};
use idp::{Idp, Key, Mood};

pub(crate) use idp::{Idp as LoopbackIssuer, Key as IssuerKey, unsigned};

const READ: &str = "Microsoft.BatchAI/workspaces/read";
const WRITE: &str = "Microsoft.BatchAI/workspaces/write";

/// An installation that takes tokens of an issuer: those of the repository `me/train` are the principal `ci`, a contributor of one group.
struct Federated {
    world: World,
    idp: Idp,
    auth: Auth,
}

fn trusting(world: &World, issuers: Vec<ExternalIssuer>) -> Auth {
    let parts = Parts {
        store: world.store.clone(),
        clock: world.clock.clone(),
        keys: world.keys.clone(),
        tenant: world.installation.tenant,
        hosts: Vec::new(),
    };
    Auth::with_issuers(parts, issuers).expect("assembles")
}

fn issuer(idp: &Idp) -> ExternalIssuer {
    ExternalIssuer {
        issuer: idp.issuer(),
        audiences: vec!["batchyard".into(), "https://batch.example.org".into()],
        keys: None,
        authority: None,
        rules: vec![
            Rule { claims: vec![("repository".into(), "me/train".into())], principal: "ci".into() },
            Rule { claims: vec![("repository".into(), "me/lost".into())], principal: "nobody".into() },
        ],
    }
}

async fn federated(keys: &[&Key]) -> Federated {
    batchyard::tls::install_provider();
    let world = world().await;
    let idp = Idp::start(keys).await;
    let directory = Directory::new(world.store.clone(), world.clock.clone());
    let wanted = Configured {
        client_id: "ci".into(),
        display_name: "CI".into(),
        secret: None,
        grants: vec![Grant { role: Role::Contributor, scope: world.key("/resourcegroups/vision") }],
    };
    directory.configure(world.installation.tenant, vec![wanted]).await.expect("configures");
    world.clock.advance(Duration::from_secs(1));
    let auth = trusting(&world, vec![issuer(&idp)]);
    Federated { world, idp, auth }
}

impl Federated {
    fn now(&self) -> i64 {
        self.world.clock.now().unix_timestamp()
    }

    fn claims(&self) -> Value {
        let now = self.now();
        json!({
            "iss": self.idp.issuer(), "aud": "batchyard", "sub": "repo:me/train:ref:refs/heads/main", "iat": now, "nbf": now,
            "exp": now + 300, "repository": "me/train", "email": "owner@example.org",
        })
    }

    async fn caller(&self, token: &str) -> Result<Caller, Error> {
        self.auth.authenticate(Some(&format!("Bearer {token}"))).await
    }

    async fn refused(&self, token: &str) -> Error {
        self.caller(token).await.expect_err("refuses")
    }
}

#[tokio::test]
async fn a_signed_token_is_the_principal_that_the_settings_name() {
    let keys = [Key::rsa("rsa"), Key::ec("ec"), Key::ed("ed")];
    let all: Vec<&Key> = keys.iter().collect();
    let federated = federated(&all).await;
    for key in &keys {
        let token = key.token(&federated.claims());
        let caller = federated.caller(&token).await.expect("verifies");
        assert_eq!(caller.client_id, "ci");
        assert_eq!(caller.tenant, federated.world.installation.tenant);
        federated.auth.authorize(&caller, WRITE, &federated.world.key("/resourcegroups/vision")).await.expect("may");
        let error =
            federated.auth.authorize(&caller, READ, &federated.world.key("/resourcegroups/other")).await.expect_err("not");
        assert_eq!(error.code, ErrorCode::AuthorizationFailed);
    }
    assert_eq!(federated.idp.asked_for_keys(), 1, "keys are kept");

    // One of several audiences, no time before which it does not count, and no type: other issuers write so.
    let mut claims = federated.claims();
    claims["aud"] = json!(["other", "https://batch.example.org"]);
    claims.as_object_mut().expect("an object").remove("nbf");
    let token = keys[0].sign(&json!({ "alg": "RS256", "kid": "rsa" }), &claims);
    federated.caller(&token).await.expect("verifies");
    // The own issuer is as before.
    let own = federated.world.token(federated.world.request(&[])).await;
    assert_eq!(federated.caller(&own).await.expect("verifies").client_id, federated.world.installation.client_id);
}

#[tokio::test]
async fn a_token_elsewhere_is_traded_for_one_of_here() {
    let (key, stranger) = (Key::rsa("rsa"), Key::ec("rsa"));
    let federated = federated(&[&key]).await;
    let trade = async |client_id: &str, kind: &str, assertion: &str| {
        let fields = [("client_id", client_id), ("client_assertion_type", kind), ("client_assertion", assertion)];
        let mut request = federated.world.request(&fields);
        request.form.remove("client_secret");
        federated.auth.token(request).await
    };
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let token = key.token(&federated.claims());
    let traded = trade("ci", kind, &token).await.expect("trades");
    let caller = federated.caller(traded["access_token"].as_str().expect("text")).await.expect("verifies");
    assert_eq!(caller.client_id, "ci");

    let owner = federated.world.installation.client_id.clone();
    let own = federated.world.token(federated.world.request(&[])).await;
    for (client_id, assertion) in [
        (owner.as_str(), token.as_str()),
        ("nobody", token.as_str()),
        ("ci", stranger.token(&federated.claims()).as_str()),
        ("ci", own.as_str()),
        (owner.as_str(), own.as_str()),
        ("ci", "x"),
        ("ci", "a.b.c"),
    ] {
        let refused = trade(client_id, kind, assertion).await.expect_err("refuses");
        assert_eq!((refused.status, refused.error), (401, "invalid_client"), "{client_id} {assertion}");
    }
    assert_eq!(trade("ci", "other", &token).await.expect_err("refuses").error, "invalid_request");
    federated.auth.revoke_tokens(caller.principal).await.expect("revokes");
    assert!(trade("ci", kind, &token).await.is_err(), "what was said before counts no longer");
}

#[tokio::test]
async fn every_wrong_token_is_refused() {
    let (key, ec, stranger) = (Key::rsa("rsa"), Key::ec("ec"), Key::ec("ec"));
    let federated = federated(&[&key, &ec]).await;
    let now = federated.now();
    federated.caller(&key.token(&federated.claims())).await.expect("the right one is taken");
    let with = |name: &str, value: Value| {
        let mut claims = federated.claims();
        claims[name] = value;
        claims
    };

    // Issuers: unknown, and the known one spelled otherwise.
    let known = federated.idp.issuer();
    for wrong in [
        "https://evil.example.org".to_owned(),
        format!("{known}/"),
        known.to_ascii_uppercase(),
        format!(" {known}"),
        String::new(),
        format!("urn:batchyard:tenant:{}", federated.world.installation.tenant),
    ] {
        let error = federated.refused(&key.token(&with("iss", wrong.clone().into()))).await;
        assert_eq!(error.code, ErrorCode::InvalidAuthenticationToken, "{wrong}");
    }
    // Audiences: another service's, the management API's own, none.
    for wrong in
        [json!("other"), json!("https://management.azure.com/"), json!("batchyard/"), json!(["other"]), json!([]), json!("")]
    {
        let error = federated.refused(&key.token(&with("aud", wrong.clone()))).await;
        assert!(error.message.contains("another audience"), "{wrong}: {}", error.message);
    }
    // Keys: a stranger's under a known id, another of the issuer's own under that id, an unknown one.
    let claims = federated.claims();
    for (header, by) in [
        (json!({ "alg": "ES256", "kid": "ec" }), &stranger),
        (json!({ "alg": "ES256", "kid": "rsa" }), &ec),
        (json!({ "alg": "RS256", "kid": "ec" }), &key),
        (json!({ "alg": "RS256", "kid": "unknown" }), &key),
        (json!({ "alg": "RS256", "kid": "" }), &key),
        (json!({ "alg": "RS256", "kid": "../../rsa" }), &key),
        (json!({ "alg": "RS256", "kid": 7 }), &key),
        (json!({ "alg": "RS256" }), &key),
    ] {
        let error = federated.refused(&by.sign(&header, &claims)).await;
        assert_eq!(error.code, ErrorCode::InvalidAuthenticationToken, "{header}");
    }
    // Times.
    let error = federated.refused(&key.token(&with("exp", (now - 61).into()))).await;
    assert_eq!(error.code, ErrorCode::ExpiredAuthenticationToken);
    for (name, value) in [
        ("nbf", json!(now + 61)),
        ("iat", json!(now + 61)),
        ("exp", json!(now + 90_000)),
        ("exp", json!(i64::MAX)),
        ("iat", json!(-1)),
        ("nbf", json!(-1)),
    ] {
        let error = federated.refused(&key.token(&with(name, value.clone()))).await;
        assert_eq!(error.code, ErrorCode::InvalidAuthenticationToken, "{name} {value}");
    }
    // Claims that are absent or of another type.
    for name in ["iss", "aud", "sub", "iat", "exp", "nbf"] {
        if name != "nbf" {
            let mut claims = federated.claims();
            claims.as_object_mut().expect("an object").remove(name);
            federated.refused(&key.token(&claims)).await;
        }
        for wrong in [json!(null), json!(true), json!({}), json!([{}]), json!(1.5), json!("1"), json!(1e300), json!("")] {
            // Any text is a subject.
            if name == "sub" && wrong == json!("1") {
                continue;
            }
            federated.refused(&key.token(&with(name, wrong))).await;
        }
    }
    for wrong in [json!([]), json!("text"), json!(null), json!(7)] {
        federated.refused(&key.token(&wrong)).await;
    }
    // Subjects that no rule names, or whose principal is not there; an e-mail address proves nothing.
    for wrong in [json!("me/other"), json!("ME/TRAIN"), json!(null), json!("me/lost"), json!({ "name": "me/train" })] {
        let error = federated.refused(&key.token(&with("repository", wrong.clone()))).await;
        assert!(error.message.contains("its subject is not known"), "{wrong}: {}", error.message);
    }
}

#[tokio::test]
async fn no_header_chooses_how_a_token_is_verified() {
    let (key, ec) = (Key::rsa("rsa"), Key::ec("ec"));
    let federated = federated(&[&key, &ec]).await;
    let claims = federated.claims();
    federated.caller(&key.token(&claims)).await.expect("the right one is taken");
    let trap = Idp::start(&[&key]).await;

    // No algorithm, and symmetric ones with everything that is public of the key as the secret.
    let part = |algorithm: &str, id: &str| unsigned(&json!({ "alg": algorithm, "kid": id, "typ": "JWT" }), &claims);
    for none in ["none", "None", "NONE", "", "nOnE"] {
        for token in [format!("{}.", part(none, "rsa")), part(none, "rsa"), format!("{}.AA", part(none, "ec"))] {
            federated.refused(&token).await;
        }
    }
    for public in [&key, &ec] {
        let document = public.public();
        let texts = document.as_object().expect("an object").values().filter_map(Value::as_str).map(str::to_owned);
        for secret in texts.chain([document.to_string(), String::new()]) {
            for secret in [secret.clone().into_bytes(), decoded(&secret)] {
                let signed = part("HS256", public.id);
                let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&secret).expect("any length");
                mac.update(signed.as_bytes());
                federated.refused(&format!("{signed}.{}", encoded(&mac.finalize().into_bytes()))).await;
            }
        }
    }
    // A header that says another algorithm than the key's, over a signature that is right.
    for algorithm in ["RS384", "RS512", "PS256", "ES256", "HS256", "none", "rs256", "RS256 "] {
        let header = json!({ "alg": algorithm, "kid": "rsa", "typ": "JWT" });
        federated.refused(&key.sign(&header, &claims)).await;
    }
    // Headers that bring a key, or where to get one, or that change how the rest is read.
    let address = format!("{}/keys", trap.issuer());
    for (name, value) in [
        ("jku", json!(address)),
        ("x5u", json!(address)),
        ("jwk", key.public()),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("enc", json!("A256GCM")),
        ("zip", json!("DEF")),
        ("b64", json!(false)),
        ("cty", json!("JWT")),
        ("typ", json!("dpop+jwt")),
        ("typ", json!("logout+jwt")),
        ("typ", json!(7)),
    ] {
        let mut header = json!({ "alg": "RS256", "kid": "rsa" });
        header[name] = value;
        let error = federated.refused(&key.sign(&header, &claims)).await;
        assert_eq!(error.code, ErrorCode::InvalidAuthenticationToken, "{name}");
    }
    assert_eq!(trap.asked(), 0, "nothing that a token names is fetched");

    // What is signed is signed: a change of a letter anywhere is refused.
    let token = key.token(&claims);
    for at in (0..token.len()).step_by(7) {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        if changed != token.as_bytes() {
            federated.refused(std::str::from_utf8(&changed).expect("ASCII")).await;
        }
    }
    federated.refused(&format!("{token}.{token}")).await;
    federated.refused(&key.token(&json!({ "iss": federated.idp.issuer(), "pad": "x".repeat(20_000) }))).await;
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap_or_default()
}

#[tokio::test]
async fn issuers_do_not_share_keys() {
    // Two issuers whose keys have one id: each verifies its own tokens alone.
    let (one, two) = (Key::ec("same"), Key::ec("same"));
    let mut federated = federated(&[&one]).await;
    let other = Idp::start(&[&two]).await;
    let mut second = issuer(&other);
    second.rules = vec![Rule { claims: vec![("sub".into(), "robot".into())], principal: "ci".into() }];
    federated.auth = trusting(&federated.world, vec![issuer(&federated.idp), second]);
    let mut claims = federated.claims();
    federated.caller(&one.token(&claims)).await.expect("the first");
    federated.refused(&two.token(&claims)).await;
    claims["iss"] = other.issuer().into();
    claims["sub"] = "robot".into();
    federated.caller(&two.token(&claims)).await.expect("the second");
    federated.refused(&one.token(&claims)).await;
    // A rule is of its issuer alone.
    claims["sub"] = "someone".into();
    federated.refused(&two.token(&claims)).await;
}

#[tokio::test]
async fn kid_flood_is_one_fetch() {
    let (key, next) = (Key::ec("a"), Key::ec("b"));
    let federated = federated(&[&key]).await;
    federated.caller(&key.token(&federated.claims())).await.expect("verifies");
    let flood = async || {
        let tokens = (0..500).map(|n| {
            let header = json!({ "alg": "ES256", "kid": format!("random-{n}") });
            key.sign(&header, &federated.claims())
        });
        futures_util::future::join_all(tokens.map(async |token| federated.refused(&token).await)).await;
    };
    flood().await;
    assert_eq!(federated.idp.asked_for_keys(), 1, "the keys are of this minute");
    federated.world.clock.advance(Duration::from_secs(60));
    flood().await;
    assert_eq!(federated.idp.asked_for_keys(), 2);

    // A key that the issuer adds is found within a minute, and one that it withdraws is refused within a quarter of an hour.
    federated.idp.publish(&[&next]);
    federated.world.clock.advance(Duration::from_secs(60));
    federated.caller(&next.token(&federated.claims())).await.expect("the new key");
    assert_eq!(federated.idp.asked_for_keys(), 3);
    federated.refused(&key.token(&federated.claims())).await;
    federated.idp.publish(&[]);
    let token = next.token(&with_life(&federated, 3600));
    federated.caller(&token).await.expect("is kept");
    federated.idp.publish(&[&key]);
    federated.world.clock.advance(Duration::from_secs(15 * 60));
    federated.refused(&token).await;
    federated.caller(&key.token(&federated.claims())).await.expect("the only key now");
}

fn with_life(federated: &Federated, seconds: i64) -> Value {
    let mut claims = federated.claims();
    claims["exp"] = (federated.now() + seconds).into();
    claims
}

#[tokio::test]
async fn an_issuer_that_is_away_costs_seconds_and_its_keys_serve_on() {
    let key = Key::ec("a");
    let federated = federated(&[&key]).await;
    let trap = Idp::start(&[&key]).await;
    for mood in [Mood::Silent, Mood::Broken, Mood::Endless, Mood::Elsewhere(trap.issuer()), Mood::Mistaken] {
        federated.idp.is(mood.clone());
        federated.world.clock.advance(Duration::from_secs(60));
        let began = Instant::now();
        let error = federated.refused(&key.token(&federated.claims())).await;
        assert_eq!(error.code, ErrorCode::ServiceUnavailable, "{mood:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{mood:?} took {:?}", began.elapsed());
        let asked = federated.idp.asked();
        federated.refused(&key.token(&federated.claims())).await;
        assert_eq!(federated.idp.asked(), asked, "{mood:?}: not asked again within a minute");
    }
    assert_eq!(trap.asked(), 0, "nobody else is asked");

    federated.idp.is(Mood::Well);
    federated.world.clock.advance(Duration::from_secs(60));
    federated.caller(&key.token(&federated.claims())).await.expect("it is back");
    federated.idp.is(Mood::Broken);
    federated.world.clock.advance(Duration::from_secs(23 * 3600));
    federated.caller(&key.token(&federated.claims())).await.expect("its keys serve on");
    federated.world.clock.advance(Duration::from_secs(3600));
    assert_eq!(federated.refused(&key.token(&federated.claims())).await.code, ErrorCode::ServiceUnavailable);
}

#[tokio::test]
async fn what_is_taken_away_counts_for_tokens_of_issuers_elsewhere() {
    let key = Key::ec("a");
    let federated = federated(&[&key]).await;
    let token = key.token(&federated.claims());
    let caller = federated.caller(&token).await.expect("verifies");
    federated.auth.revoke_tokens(caller.principal).await.expect("revokes");
    assert!(federated.refused(&token).await.message.contains("revoked"));
    federated.world.clock.advance(Duration::from_secs(1));
    let token = key.token(&federated.claims());
    federated.caller(&token).await.expect("a new one is good");
    federated.world.clock.advance(Duration::from_secs(361));
    assert_eq!(federated.refused(&token).await.code, ErrorCode::ExpiredAuthenticationToken, "also where it was verified before");

    let token = key.token(&federated.claims());
    federated.caller(&token).await.expect("verifies");
    directory(&federated.world).delete(caller.principal).await.expect("deletes");
    let deadline = Instant::now() + Duration::from_secs(20);
    while federated.caller(&token).await.is_ok() {
        assert!(Instant::now() < deadline, "still accepted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn directory(world: &World) -> Directory {
    Directory::new(world.store.clone(), world.clock.clone())
}

#[tokio::test]
async fn principals_follow_the_settings() {
    let world = world().await;
    let directory = directory(&world);
    let tenant = world.installation.tenant;
    let secret = |text: &str| Some(SecretText(text.into()));
    let wanted = |client_id: &str, secret, grants| Configured {
        client_id: client_id.into(),
        display_name: client_id.into(),
        secret,
        grants,
    };
    let reader = || vec![Grant { role: Role::Reader, scope: world.key("") }];
    let sign_in = async |client_id: &str, secret: &str| {
        world.auth.token(world.request(&[("client_id", client_id), ("client_secret", secret)])).await.map(drop)
    };
    let both = || vec![wanted("a", secret("first secret of a"), reader()), wanted("b", None, vec![])];

    directory.configure(tenant, both()).await.expect("configures");
    sign_in("a", "first secret of a").await.expect("signs in");
    for guess in ["", "none", "sha256:none"] {
        assert!(sign_in("b", guess).await.is_err(), "has no secret");
    }
    // Again, at once and twice: the same principals, whose tokens stay good.
    let ids = async || directory.list(tenant).await.expect("lists").into_iter().map(|l| (l.principal.client_id, l.principal.id));
    let before: Vec<_> = ids().await.collect();
    let (one, two) = tokio::join!(directory.configure(tenant, both()), directory.configure(tenant, both()));
    one.and(two).expect("configures");
    assert_eq!(ids().await.collect::<Vec<_>>(), before);
    sign_in("a", "first secret of a").await.expect("signs in");

    // Another secret, other roles, and one that goes.
    let owner = vec![Grant { role: Role::Owner, scope: world.key("/resourcegroups/x") }];
    directory.configure(tenant, vec![wanted("a", secret("second secret of a"), owner)]).await.expect("configures");
    assert!(sign_in("a", "first secret of a").await.is_err());
    sign_in("a", "second secret of a").await.expect("signs in");
    let listed = directory.list(tenant).await.expect("lists");
    let names: Vec<&str> = listed.iter().map(|l| l.principal.client_id.as_str()).collect();
    assert!(names.contains(&"a") && !names.contains(&"b") && names.contains(&world.installation.client_id.as_str()), "{names:?}");
    let a = listed.iter().find(|l| l.principal.client_id == "a").expect("is there");
    assert_eq!(a.origin, Origin::Settings);
    assert_eq!(a.roles, [("Owner".to_owned(), world.key("/resourcegroups/x"))]);

    // What was made by command is never taken over, and never taken away.
    let made = batchyard::auth::NewPrincipal {
        tenant,
        client_id: Some("hand-made".into()),
        display_name: "by hand".into(),
        secret: Secret::Generated,
        grants: reader(),
    };
    directory.create(made).await.expect("makes");
    let error = directory.configure(tenant, vec![wanted("hand-made", None, vec![])]).await.expect_err("refuses");
    assert_eq!(error.code, ErrorCode::Conflict);
    directory.configure(tenant, vec![]).await.expect("configures");
    let names: Vec<String> = directory.list(tenant).await.expect("lists").into_iter().map(|l| l.principal.client_id).collect();
    assert!(names.contains(&"hand-made".to_owned()) && !names.contains(&"a".to_owned()), "{names:?}");
    assert!(directory.configure(tenant, vec![wanted("short", secret("short"), vec![])]).await.is_err());
    assert!(
        directory
            .configure(tenant, vec![wanted("far", None, vec![Grant { role: Role::Owner, scope: "/".into() }])])
            .await
            .is_err()
    );
}
