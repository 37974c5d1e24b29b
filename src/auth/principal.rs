//! Use cases of those who run the installation: who may sign in, and what they may do.

use crate::auth::{Auth, password};
use crate::domain::principal::{Grant, Principal};
use crate::error::{Error, ErrorCode};
use crate::id::{PrincipalId, TenantId};
use crate::secret::SecretText;

/// How a principal gets its secret.
#[derive(Clone, Debug)]
pub enum Secret {
    /// 256 random bits; the answer tells it once.
    Generated,
    /// One that a person chose.
    Chosen(SecretText),
}

/// A principal to be made.
#[derive(Clone, Debug)]
pub struct NewPrincipal {
    /// The directory that it is in.
    pub tenant: TenantId,
    /// The name that it signs in with; `None` makes a GUID.
    pub client_id: Option<String>,
    /// What lists show.
    pub display_name: String,
    /// Its secret.
    pub secret: Secret,
    /// What it may do.
    pub grants: Vec<Grant>,
}

impl Auth {
    /// Makes a principal with its roles. Answers it and, where it was generated, its secret, which nothing tells again.
    ///
    /// # Errors
    /// `InvalidPropertyValue` where name, secret or a scope is not allowed; `Conflict` where the name is taken; `ServiceUnavailable`.
    pub async fn create_principal(&self, new: NewPrincipal) -> Result<(Principal, Option<SecretText>), Error> {
        let NewPrincipal { tenant, client_id, display_name, secret, grants } = new;
        let client_id = client_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        if client_id.is_empty() || client_id.len() > 128 || !client_id.bytes().all(|b| b.is_ascii_graphic()) {
            let message = "The name that a principal signs in with must have 1 to 128 visible ASCII characters.";
            return Err(Error::new(ErrorCode::InvalidPropertyValue, message).with_target("clientId"));
        }
        for grant in &grants {
            self.check_scope(tenant, &grant.scope).await?;
        }
        let (hash, told) = hash(secret).await?;
        let now = self.inner.clock.now();
        let principal = Principal {
            id: PrincipalId(uuid::Uuid::new_v4()),
            tenant,
            client_id,
            display_name,
            valid_after: whole_seconds(now),
            created_at: now,
        };
        self.inner.store.create_principal(&principal, &hash, &grants).await.map_err(|error| match error.constraint() {
            Some("principal_client_id_key") => {
                Error::new(ErrorCode::Conflict, format!("A principal named '{}' exists already.", principal.client_id))
            }
            _ => error.into(),
        })?;
        Ok((principal, told))
    }

    /// Gives a principal another secret. Its tokens and its former secret are refused from then on, by all servers within seconds.
    ///
    /// # Errors
    /// `NotFound`; as of [`create_principal`](Auth::create_principal).
    pub async fn replace_secret(&self, id: PrincipalId, secret: Secret) -> Result<Option<SecretText>, Error> {
        let (hash, told) = hash(secret).await?;
        let found = self.inner.store.replace_secret(id, &hash, next_second(self.inner.clock.now())).await?;
        self.inner.principals.invalidate(&id);
        if found { Ok(told) } else { Err(absent(id)) }
    }

    /// Refuses all tokens that a principal has, by this server at once and by others within seconds.
    ///
    /// # Errors
    /// `NotFound`; `ServiceUnavailable`.
    pub async fn revoke_tokens(&self, id: PrincipalId) -> Result<(), Error> {
        let found = self.inner.store.revoke_tokens(id, next_second(self.inner.clock.now())).await?;
        self.inner.principals.invalidate(&id);
        if found { Ok(()) } else { Err(absent(id)) }
    }

    /// A scope is the key of a subscription of that tenant or of something in one.
    async fn check_scope(&self, tenant: TenantId, scope: &str) -> Result<(), Error> {
        let subscription = scope
            .strip_prefix("/subscriptions/")
            .and_then(|rest| uuid::Uuid::try_parse(rest.split('/').next().unwrap_or_default()).ok())
            .map(crate::id::SubscriptionId);
        let folded = !scope.bytes().any(|b| b.is_ascii_uppercase()) && !scope.ends_with('/');
        if let (Some(subscription), true) = (subscription, folded)
            && self.tenant_of(subscription).await? == Some(tenant)
        {
            return Ok(());
        }
        let message =
            "A role is held at the lower-case path of a subscription of the principal's tenant, or of something in one.";
        Err(Error::new(ErrorCode::InvalidPropertyValue, message).with_target("scope"))
    }
}

async fn hash(secret: Secret) -> Result<(String, Option<SecretText>), Error> {
    match secret {
        Secret::Generated => {
            let secret = password::generate();
            Ok((password::hash_generated(&secret.0), Some(secret)))
        }
        Secret::Chosen(secret) => {
            let hashed = tokio::task::spawn_blocking(move || password::hash_chosen(&secret.0)).await;
            Ok((hashed.map_err(Error::internal)??, None))
        }
    }
}

fn absent(id: PrincipalId) -> Error {
    Error::new(ErrorCode::NotFound, format!("The principal '{id}' could not be found."))
}

/// Tokens tell their time in whole seconds: one of this second was issued at or after what this returns.
pub(super) fn whole_seconds(at: crate::clock::Timestamp) -> crate::clock::Timestamp {
    at.replace_nanosecond(0).unwrap_or(at)
}

/// Every token that was issued so far is of an earlier second than this.
pub(super) fn next_second(at: crate::clock::Timestamp) -> crate::clock::Timestamp {
    whole_seconds(at) + std::time::Duration::from_secs(1)
}
