//! Who is asking, and whether they may.
//!
//! In: the `Authorization` header, an action and a scope. Out: a [`Caller`] or a refusal with the published text. The decision is
//! pure (`token`, `role`); keys and rows are read at the edge, here, and remembered for a few seconds. There is no switch that turns
//! this off, and no header but `Authorization` says who a caller is.

mod audience;
mod foreign;
mod guess;
mod install;
mod issuer;
mod jwk;
mod keys;
mod password;
mod principal;
mod provider;
mod token;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use sha2::{Digest, Sha256};
use time::macros::format_description;

use crate::auth::audience::Audiences;
use crate::auth::foreign::Foreign;
use crate::auth::guess::Guesses;
use crate::auth::keys::TokenKeys;
use crate::auth::provider::Provider;
use crate::auth::token::{Refused, Verified};
use crate::clock::{Clock, Timestamp};
use crate::domain::activity::Asked;
use crate::domain::principal::Principal;
use crate::domain::role::{self, Held, Permissions};
use crate::domain::scope::covers;
use crate::error::{Error, ErrorCode};
use crate::id::{PrincipalId, SubscriptionId, TenantId};
use crate::store::Store;
use crate::task::Tasks;
use crate::wake::{Topic, Wake};

pub use foreign::{ExternalIssuer, Rule};
pub use install::{InstallError, Installation};
pub use issuer::{TokenRefused, TokenRequest};
pub use keys::{Keys, KeysError};
pub use password::{MIN_CHOSEN, new_secret};
pub use principal::{Configured, Directory, NewPrincipal, Secret};
pub use provider::ProviderError;

/// How long a principal, its roles and a subscription's tenant are remembered: what is taken away works for this long at most.
const REMEMBER: Duration = Duration::from_secs(5);

/// Most tokens, principals and subscriptions that are remembered, of each.
const REMEMBERED: u64 = 10_000;

/// The key folder is read again after this: what another host added or a person removed counts from then on.
const RELOAD: Duration = Duration::from_secs(45);

/// A token of an unknown key reads the key folder again, but not more often than this.
const RELOAD_UNKNOWN: Duration = Duration::from_secs(5);

/// What [`Auth`] is made of.
pub struct Parts {
    /// Principals and their roles.
    pub store: Store,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Signs and verifies tokens.
    pub keys: Keys,
    /// The installation's own tenant.
    pub tenant: TenantId,
    /// Names and addresses that this server answers to, without scheme and port, apart from the loopback ones: what tokens may be
    /// asked for, beside Azure's own names of the management API.
    pub hosts: Vec<String>,
}

/// A caller whose token was verified in this process.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its object id.
    pub principal: PrincipalId,
    /// The directory that it is in.
    pub tenant: TenantId,
    /// The name that it signs in with.
    pub client_id: String,
    /// What it asks for, where that is recorded: a write, a delete or an action.
    pub asked: Option<Arc<Asked>>,
}

/// Verifies tokens, decides permissions and issues tokens. Clones share what they remember.
#[derive(Clone)]
pub struct Auth {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    keys: Keys,
    keys_read_at: Mutex<Timestamp>,
    tenant: TenantId,
    audiences: Audiences,
    /// By SHA-256 of the token, so that a request costs no signature check; no token is kept.
    verified: Cache<[u8; 32], Proof>,
    /// Issuers elsewhere.
    providers: Vec<Arc<Provider>>,
    /// Principals by client id, as tokens of issuers elsewhere are of one by its name.
    named: Cache<String, Option<PrincipalId>>,
    principals: Cache<PrincipalId, Remembered>,
    /// Counts the times that all roles were forgotten: what was read before the last one does not count.
    epoch: AtomicU64,
    tenants: Cache<SubscriptionId, Option<TenantId>>,
    guesses: Guesses,
    /// Comparisons of chosen secrets, which are slow on purpose, under way at once.
    slow: tokio::sync::Semaphore,
}

/// A token that was verified, and the key that did it.
#[derive(Clone)]
enum Proof {
    /// Of this installation.
    Own(Arc<Verified>),
    /// Of an issuer elsewhere.
    Foreign(Arc<Provider>, String, Arc<Foreign>),
}

/// A principal as read in an epoch; `None` where there was none.
#[derive(Clone)]
struct Remembered {
    epoch: u64,
    known: Option<Arc<Known>>,
}

/// A principal and what it may do.
struct Known {
    principal: Principal,
    held: Vec<Held>,
}

/// What of a subscription a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visible {
    /// All of it.
    All,
    /// What is at or below these keys.
    Below(Vec<String>),
}

impl Visible {
    /// Whether what has this key is part of it.
    pub fn includes(&self, key: &str) -> bool {
        match self {
            Visible::All => true,
            Visible::Below(scopes) => scopes.iter().any(|scope| covers(scope, key)),
        }
    }
}

impl Auth {
    /// The built-in issuer and the roles of these parts.
    pub fn new(parts: Parts) -> Auth {
        Auth::assemble(parts, Vec::new())
    }

    /// The same, and issuers elsewhere whose tokens are taken too. Blocks for their files.
    ///
    /// # Errors
    /// [`ProviderError`] where the settings of one cannot be used.
    pub fn with_issuers(parts: Parts, issuers: Vec<ExternalIssuer>) -> Result<Auth, ProviderError> {
        let providers = issuers.into_iter().map(|issuer| Ok(Arc::new(Provider::new(issuer)?)));
        Ok(Auth::assemble(parts, providers.collect::<Result<_, _>>()?))
    }

    fn assemble(parts: Parts, providers: Vec<Arc<Provider>>) -> Auth {
        let Parts { store, clock, keys, tenant, hosts } = parts;
        let remember = || Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBER);
        let inner = Inner {
            keys_read_at: Mutex::new(clock.now()),
            store,
            clock,
            keys,
            tenant,
            audiences: Audiences::new(&hosts),
            verified: Cache::builder().max_capacity(REMEMBERED).time_to_live(token::LIFE).build(),
            providers,
            named: Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBER).build(),
            principals: remember().build(),
            epoch: AtomicU64::new(0),
            tenants: Cache::builder().max_capacity(REMEMBERED).time_to_live(REMEMBER).build(),
            guesses: Guesses::new(),
            slow: tokio::sync::Semaphore::new(2),
        };
        Auth { inner: Arc::new(inner) }
    }

    /// Who sent this `Authorization` header.
    ///
    /// # Errors
    /// `AuthenticationFailed`, `ExpiredAuthenticationToken`, `InvalidAuthenticationToken` with the published texts;
    /// `ServiceUnavailable` where the store is away.
    pub async fn authenticate(&self, authorization: Option<&str>) -> Result<Caller, Error> {
        let token = bearer(authorization)?;
        let now = self.inner.clock.now();
        let proof = self.verify(token, now).await.map_err(|refused| unauthenticated(&refused, now))?;
        let unknown = || unauthenticated(&Refused::Invalid("its subject is not known"), now);
        let (id, tenant, issued_at) = match &proof {
            Proof::Own(verified) => (verified.principal, Some(verified.tenant), verified.issued_at),
            Proof::Foreign(_, _, foreign) => {
                (self.named(&foreign.principal).await?.ok_or_else(unknown)?, None, foreign.issued_at)
            }
        };
        let known = self.principal(id).await?.ok_or_else(unknown)?;
        let principal = &known.principal;
        // Who a token of an issuer elsewhere is, and so of which directory, is said by the settings of this one.
        if tenant.is_some_and(|tenant| tenant != principal.tenant) {
            return Err(unknown());
        }
        if issued_at < principal.valid_after.unix_timestamp() {
            return Err(unauthenticated(&Refused::Invalid("it was revoked"), now));
        }
        Ok(Caller { principal: principal.id, tenant: principal.tenant, client_id: principal.client_id.clone(), asked: None })
    }

    /// Forgets roles whenever they changed, here or at another server.
    pub fn run(&self, wake: &Wake, tasks: &Tasks) {
        let (auth, mut hints) = (self.clone(), wake.subscribe(Topic::Access));
        tasks.spawn_cancellable("auth.forget_roles", async move {
            while hints.changed().await.is_ok() {
                auth.forget_roles();
            }
        });
    }

    /// Reads all roles anew from now on.
    pub fn forget_roles(&self) {
        self.inner.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether `caller` may do `action` (for example `Microsoft.BatchAI/workspaces/read`) at the scope of `key`: a lower-case path of a
    /// subscription, group or resource. Answers the name of the role that allows it.
    ///
    /// # Errors
    /// `InvalidAuthenticationTokenTenant` and `AuthorizationFailed` with the published texts; `SubscriptionNotFound`;
    /// `ServiceUnavailable` where the store is away.
    pub async fn permit(&self, caller: &Caller, action: &str, key: &str) -> Result<String, Error> {
        let subscription = key
            .strip_prefix("/subscriptions/")
            .and_then(|rest| uuid::Uuid::try_parse(rest.split('/').next().unwrap_or_default()).ok())
            .map(SubscriptionId)
            .ok_or_else(|| unauthorized(caller, action, key))?;
        let tenant = self.tenant_of(subscription).await?.ok_or_else(|| {
            Error::new(ErrorCode::SubscriptionNotFound, format!("The subscription '{subscription}' could not be found."))
        })?;
        if tenant != caller.tenant {
            return Err(wrong_tenant(caller.tenant, tenant));
        }
        let known = self.principal(caller.principal).await?;
        let allows = |held: &&Held| covers(&held.scope, key) && held.permissions.iter().any(|p| p.allow(action));
        match known.as_ref().and_then(|known| known.held.iter().find(allows)) {
            Some(held) => Ok(held.name.clone()),
            None => Err(unauthorized(caller, action, key)),
        }
    }

    /// As [`permit`](Self::permit), where the role does not matter.
    ///
    /// # Errors
    /// As of [`permit`](Self::permit).
    pub async fn authorize(&self, caller: &Caller, action: &str, key: &str) -> Result<(), Error> {
        self.permit(caller, action, key).await.map(drop)
    }

    /// What `caller` may do at the scope of `key`, role by role.
    ///
    /// # Errors
    /// `ServiceUnavailable` where the store is away.
    pub async fn permissions(&self, caller: &Caller, key: &str) -> Result<Vec<Permissions>, Error> {
        let known = self.principal(caller.principal).await?;
        let held = known.iter().flat_map(|known| &known.held).filter(|held| covers(&held.scope, key));
        Ok(held.flat_map(|held| held.permissions.iter().cloned()).collect())
    }

    /// Refuses a grant of more than what `caller` holds at the scope of `key`: every way to give roles asks here.
    ///
    /// # Errors
    /// `AuthorizationFailed`, naming the first action that is not held; `ServiceUnavailable` where the store is away.
    pub async fn check_grant(&self, caller: &Caller, wanted: &[Permissions], key: &str) -> Result<(), Error> {
        let held = self.permissions(caller, key).await?;
        let lacking = wanted.iter().find(|wanted| !role::holds_all(&held, std::slice::from_ref(*wanted)));
        match lacking {
            None => Ok(()),
            Some(wanted) => {
                let action = wanted.actions.first().map_or("*", String::as_str);
                Err(unauthorized(caller, action, key))
            }
        }
    }

    /// The part of a subscription in which `caller` may do `action`.
    ///
    /// # Errors
    /// `ServiceUnavailable` where the store is away.
    pub async fn visible(&self, caller: &Caller, action: &str, subscription: SubscriptionId) -> Result<Visible, Error> {
        let key = format!("/subscriptions/{subscription}");
        let known = self.principal(caller.principal).await?;
        let allowing = known.iter().flat_map(|known| &known.held).filter(|held| held.permissions.iter().any(|p| p.allow(action)));
        let mut below = Vec::new();
        for held in allowing {
            if covers(&held.scope, &key) {
                return Ok(Visible::All);
            }
            if covers(&key, &held.scope) {
                below.push(held.scope.clone());
            }
        }
        Ok(Visible::Below(below))
    }

    /// Whether `caller` holds any role in a subscription.
    ///
    /// # Errors
    /// `ServiceUnavailable` where the store is away.
    pub async fn is_known_in(&self, caller: &Caller, subscription: SubscriptionId) -> Result<bool, Error> {
        let key = format!("/subscriptions/{subscription}");
        let known = self.principal(caller.principal).await?;
        Ok(known.iter().flat_map(|known| &known.held).any(|held| covers(&key, &held.scope) || covers(&held.scope, &key)))
    }

    /// The installation's own tenant.
    pub fn tenant(&self) -> TenantId {
        self.inner.tenant
    }

    async fn verify(&self, token: &str, now: Timestamp) -> Result<Proof, Refused> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let remembered = self.inner.verified.get(&digest);
        if let Some(Proof::Foreign(provider, key_id, foreign)) = &remembered
            && provider.has(key_id, self.inner.clock.as_ref())
        {
            foreign.check_time(now)?;
            return Ok(Proof::Foreign(Arc::clone(provider), key_id.clone(), Arc::clone(foreign)));
        }
        let proof = match self.provider_of(token) {
            Some(provider) => self.verify_foreign(provider, token, now).await?,
            None => {
                let remembered =
                    remembered.and_then(|proof| if let Proof::Own(verified) = proof { Some(verified) } else { None });
                Proof::Own(self.verify_own(remembered, token, now).await?)
            }
        };
        self.inner.verified.insert(digest, proof.clone());
        Ok(proof)
    }

    /// The issuer elsewhere that a token says it is of.
    fn provider_of(&self, token: &str) -> Option<&Arc<Provider>> {
        let claimed = if self.inner.providers.is_empty() { None } else { foreign::issuer_of(token) };
        self.inner.providers.iter().find(|provider| claimed.as_ref() == Some(&provider.issuer.issuer))
    }

    /// What a token of an issuer elsewhere says, if it is one.
    async fn verify_assertion(&self, token: &str, now: Timestamp) -> Result<Arc<Foreign>, Refused> {
        let provider = self.provider_of(token).ok_or(Refused::Invalid("its issuer is not known"))?;
        match self.verify_foreign(provider, token, now).await? {
            Proof::Foreign(_, _, foreign) => Ok(foreign),
            Proof::Own(_) => Err(Refused::Invalid("its issuer is not known")),
        }
    }

    async fn verify_foreign(&self, provider: &Arc<Provider>, token: &str, now: Timestamp) -> Result<Proof, Refused> {
        let parts = foreign::parts(token)?;
        let key = provider.key(&parts.key_id, self.inner.clock.as_ref()).await?;
        let foreign = foreign::verify(&provider.issuer, &key, &parts, now)?;
        Ok(Proof::Foreign(Arc::clone(provider), parts.key_id, Arc::new(foreign)))
    }

    async fn verify_own(&self, remembered: Option<Arc<Verified>>, token: &str, now: Timestamp) -> Result<Arc<Verified>, Refused> {
        self.reload_keys_after(RELOAD, now).await;
        let mut keys = self.inner.keys.tokens();
        if let Some(verified) = remembered
            && keys.find(&verified.key_id).is_some()
        {
            verified.check_time(now)?;
            return Ok(verified);
        }
        let verify = |keys: &TokenKeys| token::verify(keys, &self.inner.audiences, token, now);
        let verified = match verify(&keys) {
            Err(Refused::UnknownKey) if self.reload_keys_after(RELOAD_UNKNOWN, now).await => {
                keys = self.inner.keys.tokens();
                verify(&keys)
            }
            result => result,
        }?;
        Ok(Arc::new(verified))
    }

    /// Reads the key folder again if the last time is longer ago. Answers whether it did. A folder that cannot be read leaves the keys
    /// as they are.
    async fn reload_keys_after(&self, pause: Duration, now: Timestamp) -> bool {
        {
            let mut read_at = self.inner.keys_read_at.lock().unwrap_or_else(PoisonError::into_inner);
            if now - *read_at < pause {
                return false;
            }
            *read_at = now;
        }
        let keys = self.inner.keys.clone();
        match tokio::task::spawn_blocking(move || keys.reload()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = &error as &dyn std::error::Error, "the key folder cannot be read again"),
            Err(error) => tracing::error!(%error, "reading the key folder again was cut off"),
        }
        true
    }

    async fn principal(&self, id: PrincipalId) -> Result<Option<Arc<Known>>, Error> {
        // The epoch before the rows: what changes while they are read is read again.
        let epoch = self.inner.epoch.load(Ordering::Acquire);
        if let Some(remembered) = self.inner.principals.get(&id)
            && remembered.epoch == epoch
        {
            return Ok(remembered.known);
        }
        let found = self.inner.store.find_principal(id).await?;
        let known = found.map(|(principal, held)| Arc::new(Known { principal, held }));
        self.inner.principals.insert(id, Remembered { epoch, known: known.clone() });
        Ok(known)
    }

    /// The principal of a client id.
    async fn named(&self, client_id: &str) -> Result<Option<PrincipalId>, Error> {
        if let Some(id) = self.inner.named.get(client_id) {
            return Ok(id);
        }
        let id = self.inner.store.find_sign_in(client_id).await?.map(|(principal, _)| principal.id);
        self.inner.named.insert(client_id.to_owned(), id);
        Ok(id)
    }

    async fn tenant_of(&self, subscription: SubscriptionId) -> Result<Option<TenantId>, Error> {
        if let Some(tenant) = self.inner.tenants.get(&subscription) {
            return Ok(tenant);
        }
        let tenant = self.inner.store.find_tenant(subscription).await?;
        // What does not exist is asked for again: names at random must not push out what does.
        if tenant.is_some() {
            self.inner.tenants.insert(subscription, tenant);
        }
        Ok(tenant)
    }
}

/// The token of a header.
///
/// Source of the texts: recorded answers of Azure Resource Manager.
fn bearer(authorization: Option<&str>) -> Result<&str, Error> {
    let failed = |message: &str| Error::new(ErrorCode::AuthenticationFailed, message);
    let header = authorization.ok_or_else(|| failed("Authentication failed. The 'Authorization' header is missing."))?;
    let invalid = || failed("Authentication failed. The 'Authorization' header is not present or provided in an invalid format.");
    let (scheme, token) = header.split_once(' ').ok_or_else(invalid)?;
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains(|c: char| !c.is_ascii_graphic()) {
        return Err(invalid());
    }
    Ok(token)
}

/// Source of the texts: recorded answers of Azure Resource Manager.
fn unauthenticated(refused: &Refused, now: Timestamp) -> Error {
    match refused {
        Refused::Expired(at) => {
            let at = Timestamp::from_unix_timestamp(*at).map(published).unwrap_or_default();
            let now = published(now);
            let message = format!("The access token expiry UTC time '{at}' is earlier than current UTC time '{now}'.");
            Error::new(ErrorCode::ExpiredAuthenticationToken, message)
        }
        Refused::Away => Error::new(
            ErrorCode::ServiceUnavailable,
            "The keys of the token's issuer cannot be read at this time. Please try again.",
        ),
        Refused::UnknownKey => unauthenticated(&Refused::Invalid("its signature does not verify"), now),
        Refused::Invalid(why) => {
            Error::new(ErrorCode::InvalidAuthenticationToken, format!("The received access token is not valid: {why}."))
        }
    }
}

/// A time as those texts write it: `1/31/2026 3:04:05 PM`.
fn published(at: Timestamp) -> String {
    at.format(format_description!(
        "[month padding:none]/[day padding:none]/[year] [hour repr:12 padding:none]:[minute]:[second] [period case:upper]"
    ))
    .unwrap_or_default()
}

fn unauthorized(caller: &Caller, action: &str, key: &str) -> Error {
    let message = format!(
        "The client '{}' with object id '{}' does not have authorization to perform action '{action}' over scope '{key}' or the scope \
         is invalid. If access was recently granted, please refresh your credentials.",
        caller.client_id, caller.principal
    );
    Error::new(ErrorCode::AuthorizationFailed, message)
}

fn wrong_tenant(tenant: TenantId, of_subscription: TenantId) -> Error {
    let message = format!(
        "The access token is from the wrong issuer '{}'. It must match the tenant '{}' associated with this subscription. Please use \
         the authority (URL) '/{of_subscription}' to get the token.",
        token::issuer(tenant),
        token::issuer(of_subscription),
    );
    Error::new(ErrorCode::InvalidAuthenticationTokenTenant, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_a_scheme_and_one_token() {
        assert_eq!(bearer(Some("Bearer abc.def")).expect("parses"), "abc.def");
        assert_eq!(bearer(Some("bearer  abc")).expect("parses"), "abc");
        let missing = bearer(None).expect_err("missing");
        assert_eq!(missing.message, "Authentication failed. The 'Authorization' header is missing.");
        for wrong in ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearer a b", "Bearer a\tb", "SharedKey a:b"] {
            assert_eq!(bearer(Some(wrong)).expect_err(wrong).code, ErrorCode::AuthenticationFailed, "{wrong}");
        }
    }

    #[test]
    fn times_are_told_as_published() {
        let at = Timestamp::from_unix_timestamp(1_769_872_445).expect("is a time");
        assert_eq!(published(at), "1/31/2026 3:14:05 PM");
        let error = unauthenticated(&Refused::Expired(0), at);
        assert_eq!(error.code, ErrorCode::ExpiredAuthenticationToken);
        assert_eq!(
            error.message,
            "The access token expiry UTC time '1/1/1970 12:00:00 AM' is earlier than current UTC time '1/31/2026 3:14:05 PM'."
        );
    }
}
