//! The built-in issuer and roles on a real Postgres.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use batchyard::auth::{Auth, Caller, InstallError, Installation, Keys, NewPrincipal, Parts, Secret, TokenRefused, TokenRequest};
use batchyard::clock::{Clock, ManualClock, SystemClock};
use batchyard::domain::principal::{Grant, Role};
use batchyard::error::ErrorCode;
use batchyard::id::{SubscriptionId, TenantId};
use batchyard::secret::SecretText;
use batchyard::store::{Settings, Store};
use uuid::Uuid;

use crate::postgres::empty_database;

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("batchyard-auth-{}", Uuid::new_v4()));
        std::fs::create_dir(&path).expect("makes");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An installation in a database of its own.
pub(crate) struct World {
    url: String,
    folder: Folder,
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) keys: Keys,
    pub(crate) installation: Installation,
    pub(crate) auth: Auth,
}

async fn store(url: &str) -> Store {
    let settings = Settings { url: url.to_owned(), connections: 8, wait: Duration::from_secs(10) };
    let store = Store::connect(&settings).await.expect("connects");
    store.migrate().await.expect("migrates");
    store
}

fn keys(folder: &Path) -> Keys {
    Keys::load_or_create(folder.join("keys")).expect("makes keys")
}

/// A new installation whose clock moves by hand.
pub(crate) async fn world() -> World {
    let url = empty_database().await;
    let store = store(&url).await;
    let folder = Folder::new();
    let keys = keys(&folder.0);
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let installation = Installation::ensure(&store, &keys, &folder.0, clock.as_ref()).await.expect("installs");
    let auth = Auth::new(Parts {
        store: store.clone(),
        clock: clock.clone(),
        keys: keys.clone(),
        tenant: installation.tenant,
        hosts: vec!["batch.example.org".into()],
    });
    World { url, folder, store, clock, keys, installation, auth }
}

impl World {
    fn secret(&self) -> String {
        self.installation.client_secret.as_ref().expect("is known").0.clone()
    }

    pub(crate) fn request(&self, fields: &[(&str, &str)]) -> TokenRequest {
        let mut form: BTreeMap<String, String> = BTreeMap::from([
            ("grant_type".into(), "client_credentials".into()),
            ("client_id".into(), self.installation.client_id.clone()),
            ("client_secret".into(), self.secret()),
        ]);
        for (name, value) in fields {
            form.insert((*name).into(), (*value).into());
        }
        TokenRequest { tenant: self.installation.tenant.to_string(), form, peer: IpAddr::from([127, 0, 0, 1]) }
    }

    pub(crate) async fn token(&self, request: TokenRequest) -> String {
        let answer = self.auth.token(request).await.expect("issues");
        answer["access_token"].as_str().expect("text").to_owned()
    }

    async fn caller_of(&self, token: &str) -> Result<Caller, batchyard::error::Error> {
        self.auth.authenticate(Some(&format!("Bearer {token}"))).await
    }

    pub(crate) fn key(&self, below: &str) -> String {
        format!("/subscriptions/{}{below}", self.installation.subscription)
    }

    /// A principal with one role, and who it is once it signed in.
    async fn principal(&self, role: Role, scope: String) -> Caller {
        let grants = vec![Grant { role, scope }];
        let new = NewPrincipal {
            tenant: self.installation.tenant,
            client_id: None,
            display_name: "test".into(),
            secret: Secret::Generated,
            grants,
        };
        let (principal, secret) = self.auth.create_principal(new).await.expect("makes");
        let secret = secret.expect("is told");
        let request = self.request(&[("client_id", &principal.client_id), ("client_secret", &secret.0)]);
        self.caller_of(&self.token(request).await).await.expect("signs in")
    }
}

const READ: &str = "Microsoft.BatchAI/workspaces/read";
const WRITE: &str = "Microsoft.BatchAI/workspaces/write";

#[tokio::test]
async fn the_first_owner_signs_in_and_may_do_all() {
    let world = world().await;
    // As clients ask: v2 with a scope, v1 with a resource, and the paths of an AD FS.
    let v2 =
        world.auth.token(world.request(&[("scope", "https://localhost:8443//.default offline_access")])).await.expect("issues");
    assert_eq!(v2["token_type"], "Bearer");
    assert_eq!(v2["expires_in"], 3600);
    let mut adfs = world.request(&[("resource", "https://management.core.windows.net/")]);
    adfs.tenant = "adfs".into();
    let v1 = world.auth.token(adfs).await.expect("issues");
    assert_eq!(v1["resource"], "https://management.core.windows.net/");
    let expires_on: i64 = v1["expires_on"].as_str().expect("text").parse().expect("a number");
    assert_eq!(expires_on, world.clock.now().unix_timestamp() + 3600);

    for answer in [v1, v2] {
        let caller = world.caller_of(answer["access_token"].as_str().expect("text")).await.expect("verifies");
        assert_eq!(caller.client_id, world.installation.client_id);
        assert_eq!(caller.principal, world.installation.owner);
        for action in [READ, WRITE, "Microsoft.Authorization/roleAssignments/write"] {
            world.auth.authorize(&caller, action, &world.key("/resourcegroups/g")).await.expect("may");
        }
    }
}

#[tokio::test]
async fn an_installation_is_made_once() {
    let first = world().await;
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&first.installation.file).expect("is there").permissions());
    assert_eq!(mode & 0o077, 0);
    let again = Installation::ensure(&first.store, &first.keys, &first.folder.0, &SystemClock).await.expect("finds");
    assert_eq!(again.client_secret, first.installation.client_secret);
    assert_eq!(again.subscription, first.installation.subscription);

    let host = Folder::new();
    let other = Installation::ensure(&first.store, &first.keys, &host.0, &SystemClock).await.expect("finds");
    assert_eq!(other.client_id, first.installation.client_id);
    assert!(other.client_secret.is_none() && !other.file.exists(), "another host is not told the secret");

    // Two hosts that start at the same moment on an empty database agree; one of them knows the secret.
    let empty = store(&empty_database().await).await;
    let (a, b) = (Folder::new(), Folder::new());
    let (one, two) = tokio::join!(
        Installation::ensure(&empty, &first.keys, &a.0, &SystemClock),
        Installation::ensure(&empty, &first.keys, &b.0, &SystemClock)
    );
    let (one, two) = (one.expect("installs"), two.expect("installs"));
    assert_eq!(one.client_id, two.client_id);
    assert!(one.client_secret.is_some() != two.client_secret.is_some());

    // With one folder for both, both know it.
    let (empty, shared) = (store(&empty_database().await).await, Folder::new());
    let starts = (0..4).map(|_| Installation::ensure(&empty, &first.keys, &shared.0, &SystemClock));
    for installed in futures_util::future::join_all(starts).await {
        assert!(installed.expect("installs").client_secret.is_some());
    }

    // A start that was cut off between the file and the database is taken up.
    let emptied = store(&empty_database().await).await;
    let taken_up = Installation::ensure(&emptied, &first.keys, &first.folder.0, &SystemClock).await.expect("installs");
    assert_eq!(taken_up.client_secret, first.installation.client_secret);

    // A lost file: a new secret, and the former one is worth nothing.
    let renewed = Installation::renew_secret(&first.store, &host.0, &SystemClock).await.expect("renews");
    assert!(renewed.client_secret.is_some() && renewed.client_secret != first.installation.client_secret);
    assert_eq!(first.auth.token(first.request(&[])).await.expect_err("refuses").error, "invalid_client");
}

#[tokio::test]
async fn a_lost_sealing_key_is_named_at_the_start() {
    let world = world().await;
    let pool = sqlx::PgPool::connect(&world.url).await.expect("connects");
    sqlx::raw_sql(
        "insert into batchyard.resource (uid, subscription_id, kind, key, path, name, location, spec, status, provisioning,
            provisioned_at, created_at, updated_at)
        values ('00000000-0000-0000-0000-000000000001', gen_random_uuid(), 'group', '/g', '/g', 'g', 'local', '{}', '{}', 'succeeded',
            now(), now(), now());
        insert into batchyard.secret values ('00000000-0000-0000-0000-000000000001', 'f', 'lost', '')",
    )
    .execute(&pool)
    .await
    .expect("inserts");
    let error = Installation::ensure(&world.store, &world.keys, &world.folder.0, &SystemClock).await.expect_err("refuses");
    assert!(matches!(error, InstallError::KeyMissing(id) if id == "lost"));
}

#[tokio::test]
async fn token_requests_are_refused_with_a_reason() {
    let world = world().await;
    let refused = async |request: TokenRequest| {
        let TokenRefused { status, error, description, .. } = world.auth.token(request).await.expect_err("refuses");
        assert!(!description.contains(&world.secret()));
        (status, error)
    };
    assert_eq!(refused(world.request(&[("grant_type", "password")])).await, (400, "unsupported_grant_type"));
    for absent in ["grant_type", "client_id", "client_secret"] {
        assert_eq!(refused(world.request(&[(absent, "")])).await, (400, "invalid_request"), "{absent}");
    }
    assert_eq!(refused(world.request(&[("client_secret", "wrong")])).await, (401, "invalid_client"));
    assert_eq!(refused(world.request(&[("client_id", "nobody")])).await, (401, "invalid_client"));
    assert_eq!(refused(world.request(&[("client_id", "a\0b")])).await, (401, "invalid_client"));
    assert_eq!(refused(world.request(&[("client_secret", &"x".repeat(10_000))])).await, (401, "invalid_client"));
    assert_eq!(refused(world.request(&[("scope", "https://graph.microsoft.com/.default")])).await, (400, "invalid_scope"));
    assert_eq!(refused(world.request(&[("scope", "openid")])).await, (400, "invalid_scope"));
    assert_eq!(refused(world.request(&[("resource", "https://graph.windows.net/")])).await, (400, "invalid_resource"));
    let mut request = world.request(&[]);
    for tenant in [Uuid::from_u128(5).to_string(), "contoso.com".into(), String::new()] {
        request.tenant = tenant;
        assert_eq!(refused(request.clone()).await, (400, "unauthorized_client"));
    }
}

#[tokio::test]
async fn guessing_is_slow_and_cheap() {
    let world = world().await;
    let wrong = world.request(&[("client_secret", "wrong")]);
    let mut first_429 = None;
    let started = Instant::now();
    for n in 1..=10_000 {
        let refused = world.auth.token(wrong.clone()).await.expect_err("refuses");
        if refused.status == 429 {
            first_429.get_or_insert(n);
            assert!(refused.retry_after.is_some());
        }
    }
    assert_eq!(first_429, Some(20));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());

    let mut elsewhere = world.request(&[]);
    elsewhere.peer = IpAddr::from([10, 0, 0, 9]);
    let started = Instant::now();
    world.auth.token(elsewhere).await.expect("another address signs in");
    assert!(started.elapsed() < Duration::from_millis(200));
    assert_eq!(world.auth.token(world.request(&[])).await.expect_err("even the right secret waits").status, 429);
    world.clock.advance(Duration::from_secs(4));
    world.auth.token(world.request(&[])).await.expect("later");
}

#[tokio::test]
async fn tokens_end_and_are_revoked_within_a_minute() {
    let world = world().await;
    let token = world.token(world.request(&[])).await;
    let caller = world.caller_of(&token).await.expect("verifies");
    world.auth.revoke_tokens(caller.principal).await.expect("revokes");
    let error = world.caller_of(&token).await.expect_err("revoked");
    assert_eq!(error.code, ErrorCode::InvalidAuthenticationToken);
    world.clock.advance(Duration::from_secs(1));
    let token = world.token(world.request(&[])).await;
    world.caller_of(&token).await.expect("a new token is good");

    // Another server learns of it by itself.
    let other = Auth::new(Parts {
        store: world.store.clone(),
        clock: world.clock.clone(),
        keys: keys(&world.folder.0),
        tenant: world.installation.tenant,
        hosts: Vec::new(),
    });
    let header = format!("Bearer {token}");
    other.authenticate(Some(&header)).await.expect("verifies");
    world.auth.revoke_tokens(caller.principal).await.expect("revokes");
    let deadline = Instant::now() + Duration::from_secs(20);
    while other.authenticate(Some(&header)).await.is_ok() {
        assert!(Instant::now() < deadline, "still accepted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    world.clock.advance(Duration::from_secs(1));
    let token = world.token(world.request(&[])).await;
    world.caller_of(&token).await.expect("verifies");
    world.clock.advance(Duration::from_secs(3661));
    let error = world.caller_of(&token).await.expect_err("over, also where it was verified before");
    assert_eq!(error.code, ErrorCode::ExpiredAuthenticationToken);
    assert!(error.message.starts_with("The access token expiry UTC time '"), "{}", error.message);
}

#[tokio::test]
async fn a_rotated_key_overlaps_and_a_retired_one_is_401() {
    let world = world().await;
    let token = world.token(world.request(&[])).await;
    world.caller_of(&token).await.expect("verifies");
    let new = world.keys.rotate_token_key().expect("rotates");
    world.clock.advance(Duration::from_secs(90));
    world.caller_of(&token).await.expect("the former key still verifies");
    world.caller_of(&world.token(world.request(&[])).await).await.expect("verifies");
    assert_eq!(world.auth.jwks()["keys"].as_array().expect("a list").len(), 2);

    for entry in std::fs::read_dir(world.folder.0.join("keys")).expect("lists") {
        let path = entry.expect("reads").path();
        let name = path.file_name().expect("has").to_string_lossy().into_owned();
        if name.starts_with("token-") && !name.contains(&new) {
            std::fs::remove_file(path).expect("removes");
        }
    }
    world.clock.advance(Duration::from_secs(60));
    let error = world.caller_of(&token).await.expect_err("retired");
    assert_eq!(error.code, ErrorCode::InvalidAuthenticationToken);
    world.caller_of(&world.token(world.request(&[])).await).await.expect("the new key signs");
}

#[tokio::test]
async fn chosen_secrets_work_and_short_ones_do_not() {
    let world = world().await;
    let new = |secret: &str| NewPrincipal {
        tenant: world.installation.tenant,
        client_id: Some("http://ci".into()),
        display_name: "CI".into(),
        secret: Secret::Chosen(SecretText(secret.into())),
        grants: Vec::new(),
    };
    assert!(world.auth.create_principal(new("short")).await.is_err());
    let (principal, told) = world.auth.create_principal(new("correct horse battery")).await.expect("makes");
    assert!(told.is_none());
    let taken = world.auth.create_principal(new("correct horse battery")).await.expect_err("the name is taken");
    assert_eq!(taken.code, ErrorCode::Conflict);
    let fields = [("client_id", "http://ci"), ("client_secret", "correct horse battery")];
    let caller = world.caller_of(&world.token(world.request(&fields)).await).await.expect("signs in");
    assert_eq!(caller.principal, principal.id);
    let error = world.auth.authorize(&caller, READ, &world.key("")).await.expect_err("has no role");
    assert_eq!(error.code, ErrorCode::AuthorizationFailed);
    assert_eq!(
        error.message,
        format!(
            "The client 'http://ci' with object id '{}' does not have authorization to perform action '{READ}' over scope '{}' or the \
             scope is invalid. If access was recently granted, please refresh your credentials.",
            principal.id,
            world.key("")
        )
    );
    world.auth.replace_secret(principal.id, Secret::Generated).await.expect("replaces").expect("is told");
    assert_eq!(world.auth.token(world.request(&fields)).await.expect_err("refuses").error, "invalid_client");
}

#[tokio::test]
async fn roles_hold_at_their_scope_and_below() {
    let world = world().await;
    let reader = world.principal(Role::Reader, world.key("/resourcegroups/a")).await;
    let inside = world.key("/resourcegroups/a/providers/microsoft.batchai/workspaces/w");
    world.auth.authorize(&reader, READ, &inside).await.expect("reads");
    for (action, key) in [
        (WRITE, inside.clone()),
        ("Microsoft.BatchAI/workspaces/experiments/jobs/listoutputfiles/action", inside.clone()),
        (READ, world.key("/resourcegroups/ab")),
        (READ, world.key("")),
        (READ, "/".into()),
        (READ, String::new()),
        (READ, "/subscriptions/".into()),
        (READ, "/providers/microsoft.batchai".into()),
    ] {
        let error = world.auth.authorize(&reader, action, &key).await.expect_err(&key);
        assert_eq!(error.code, ErrorCode::AuthorizationFailed, "{action} {key}");
    }
    let unknown = format!("/subscriptions/{}", Uuid::from_u128(3));
    let error = world.auth.authorize(&reader, READ, &unknown).await.expect_err("is not there");
    assert_eq!(error.code, ErrorCode::SubscriptionNotFound);

    // Grants are given within the tenant, at folded keys.
    for scope in ["", "/", "/subscriptions/x", &unknown, &world.key("/resourceGroups/A"), &world.key("/")] {
        let new = NewPrincipal {
            tenant: world.installation.tenant,
            client_id: None,
            display_name: String::new(),
            secret: Secret::Generated,
            grants: vec![Grant { role: Role::Owner, scope: scope.to_owned() }],
        };
        assert_eq!(world.auth.create_principal(new).await.expect_err(scope).code, ErrorCode::InvalidPropertyValue, "{scope}");
    }
}

#[tokio::test]
async fn a_token_of_another_tenant_is_refused() {
    let world = world().await;
    let (tenant, subscription) = (TenantId(Uuid::new_v4()), SubscriptionId(Uuid::new_v4()));
    let pool = sqlx::PgPool::connect(&world.url).await.expect("connects");
    sqlx::query("insert into batchyard.subscription (id, tenant_id, display_name, created_at) values ($1, $2, 'other', now())")
        .bind(subscription.0)
        .bind(tenant.0)
        .execute(&pool)
        .await
        .expect("inserts");
    let caller = world.caller_of(&world.token(world.request(&[])).await).await.expect("signs in");
    let foreign = format!("/subscriptions/{subscription}");
    for action in [READ, WRITE, "Microsoft.BatchAI/workspaces/experiments/jobs/terminate/action"] {
        let error = world.auth.authorize(&caller, action, &foreign).await.expect_err("refuses");
        assert_eq!(error.code, ErrorCode::InvalidAuthenticationTokenTenant);
        assert!(error.message.contains(&tenant.to_string()), "{}", error.message);
    }
    // Nor does a role in the other tenant's subscription help: it is never given.
    let new = NewPrincipal {
        tenant: world.installation.tenant,
        client_id: None,
        display_name: String::new(),
        secret: Secret::Generated,
        grants: vec![Grant { role: Role::Owner, scope: foreign }],
    };
    assert!(world.auth.create_principal(new).await.is_err());
}

#[tokio::test]
async fn discovery_names_the_addresses_that_are_served() {
    let world = world().await;
    let tenant = world.installation.tenant.to_string();
    let document = world.auth.openid_configuration("https://localhost:8443", &tenant);
    assert_eq!(document["issuer"], format!("https://localhost:8443/{tenant}/v2.0"));
    assert_eq!(document["token_endpoint"], format!("https://localhost:8443/{tenant}/oauth2/v2.0/token"));
    let document = world.auth.openid_configuration("https://localhost:8443", "adfs");
    assert_eq!(document["token_endpoint"], "https://localhost:8443/adfs/oauth2/token");
    let keys = world.auth.jwks();
    assert_eq!(keys["keys"][0]["crv"], "P-256");
    assert_eq!(keys["keys"][0]["x"].as_str().expect("text").len(), 43);
}
