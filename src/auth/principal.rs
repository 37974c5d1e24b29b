//! Use cases of those who run the installation: who may sign in, and what they may do.

use std::sync::Arc;

use crate::auth::{Auth, password};
use crate::clock::Clock;
use crate::domain::principal::{Grant, Listed, Origin, Principal};
use crate::error::{Error, ErrorCode};
use crate::id::{PrincipalId, TenantId};
use crate::secret::SecretText;
use crate::store::Store;

/// How a principal gets its secret.
#[derive(Clone, Debug)]
pub enum Secret {
    /// 256 random bits; the answer tells it once.
    Generated,
    /// One that a person chose.
    Chosen(SecretText),
    /// None: it signs in through an issuer elsewhere alone.
    Absent,
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

/// A principal that the settings ask for.
#[derive(Clone, Debug)]
pub struct Configured {
    /// The name that it signs in with.
    pub client_id: String,
    /// What lists show.
    pub display_name: String,
    /// Its secret. `None`: it signs in through an issuer elsewhere alone.
    pub secret: Option<SecretText>,
    /// What it may do.
    pub grants: Vec<Grant>,
}

/// Makes, lists and removes principals. Needs no keys, so that a command can do it beside the servers, which learn of it within seconds.
#[derive(Clone)]
pub struct Directory {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Directory {
    /// The principals of a database.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Directory {
        Directory { store, clock }
    }

    /// Makes a principal with its roles. Answers it and, where it was generated, its secret, which nothing tells again.
    ///
    /// # Errors
    /// `InvalidPropertyValue` where name, secret or a scope is not allowed; `Conflict` where the name is taken; `ServiceUnavailable`.
    pub async fn create(&self, new: NewPrincipal) -> Result<(Principal, Option<SecretText>), Error> {
        let NewPrincipal { tenant, client_id, display_name, secret, grants } = new;
        let client_id = client_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        check_name(&client_id)?;
        for grant in &grants {
            self.check_scope(tenant, &grant.scope).await?;
        }
        let (hash, told) = hash(secret).await?;
        let principal = self.new_principal(tenant, client_id, display_name);
        self.store.create_principal(&principal, &hash, &grants, Origin::Command).await.map_err(|error| {
            match error.constraint() {
                Some("principal_client_id_key") => {
                    Error::new(ErrorCode::Conflict, format!("A principal named '{}' exists already.", principal.client_id))
                }
                _ => error.into(),
            }
        })?;
        Ok((principal, told))
    }

    /// The principal of that client id.
    ///
    /// # Errors
    /// `NotFound`; `ServiceUnavailable`.
    pub async fn get(&self, client_id: &str) -> Result<Principal, Error> {
        let found = self.store.find_sign_in(client_id).await?;
        Ok(found.ok_or_else(|| absent(client_id))?.0)
    }

    /// All principals of a directory, by client id.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn list(&self, tenant: TenantId) -> Result<Vec<Listed>, Error> {
        Ok(self.store.list_principals(tenant).await?)
    }

    /// Gives a principal another secret. Its tokens and its former secret are refused from then on, by all servers within seconds.
    ///
    /// # Errors
    /// `NotFound`; as of [`create`](Directory::create).
    pub async fn replace_secret(&self, id: PrincipalId, secret: Secret) -> Result<Option<SecretText>, Error> {
        let (hash, told) = hash(secret).await?;
        let found = self.store.replace_secret(id, &hash, next_second(self.clock.now())).await?;
        if found { Ok(told) } else { Err(absent(id)) }
    }

    /// Refuses all tokens that a principal has, within seconds.
    ///
    /// # Errors
    /// `NotFound`; `ServiceUnavailable`.
    pub async fn revoke_tokens(&self, id: PrincipalId) -> Result<(), Error> {
        let found = self.store.revoke_tokens(id, next_second(self.clock.now())).await?;
        if found { Ok(()) } else { Err(absent(id)) }
    }

    /// Removes a principal with its roles; its tokens are refused within seconds.
    ///
    /// # Errors
    /// `NotFound`; `ServiceUnavailable`.
    pub async fn delete(&self, id: PrincipalId) -> Result<(), Error> {
        let found = self.store.delete_principal(id).await?;
        if found { Ok(()) } else { Err(absent(id)) }
    }

    /// Makes what the settings ask for so: those that are absent, their secrets and roles; and removes those that an earlier start made
    /// and the settings name no more. What was made by command is left alone, and so is a role that a user granted.
    ///
    /// # Errors
    /// `Conflict` where a name is taken by a principal that was made by command; as of [`create`](Directory::create).
    pub async fn configure(&self, tenant: TenantId, wanted: Vec<Configured>) -> Result<(), Error> {
        let names: Vec<String> = wanted.iter().map(|principal| principal.client_id.clone()).collect();
        for Configured { client_id, display_name, secret, grants } in wanted {
            check_name(&client_id)?;
            for grant in &grants {
                self.check_scope(tenant, &grant.scope).await?;
            }
            let fresh = self.new_principal(tenant, client_id.clone(), display_name.clone());
            // Another server may be at the same: whoever is second finds what the first made.
            let (principal, former) = match self.store.find_sign_in(&client_id).await? {
                Some(found) => found,
                None => {
                    let hash = hash_of(secret.clone()).await?;
                    match self.store.create_principal(&fresh, &hash, &grants, Origin::Settings).await {
                        Ok(()) => continue,
                        Err(error) if error.constraint() == Some("principal_client_id_key") => {
                            self.store.find_sign_in(&client_id).await?.ok_or_else(|| absent(&client_id))?
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            if !self.store.configure_principal(principal.id, &display_name, &grants, self.clock.now()).await? {
                let message = format!(
                    "A principal named '{client_id}' was made by command: delete it, or leave it out of the settings or name it otherwise."
                );
                return Err(Error::new(ErrorCode::Conflict, message));
            }
            let is_same = match secret.clone() {
                None => former == password::NONE,
                Some(secret) => {
                    let fits = tokio::task::spawn_blocking(move || password::verify(&secret.0, &former)).await;
                    fits.map_err(Error::internal)?
                }
            };
            if !is_same {
                let hash = hash_of(secret).await?;
                self.store.replace_secret(principal.id, &hash, next_second(self.clock.now())).await?;
            }
        }
        for removed in self.store.delete_unconfigured(tenant, &names).await? {
            tracing::info!(principal.client_id = removed, "a principal that the settings name no more was removed");
        }
        Ok(())
    }

    fn new_principal(&self, tenant: TenantId, client_id: String, display_name: String) -> Principal {
        let now = self.clock.now();
        Principal {
            id: PrincipalId(uuid::Uuid::new_v4()),
            tenant,
            client_id,
            display_name,
            valid_after: whole_seconds(now),
            created_at: now,
        }
    }

    /// A scope is the key of a subscription of that tenant or of something in one.
    async fn check_scope(&self, tenant: TenantId, scope: &str) -> Result<(), Error> {
        let subscription = scope
            .strip_prefix("/subscriptions/")
            .and_then(|rest| uuid::Uuid::try_parse(rest.split('/').next().unwrap_or_default()).ok())
            .map(crate::id::SubscriptionId);
        let folded = !scope.bytes().any(|b| b.is_ascii_uppercase()) && !scope.ends_with('/');
        if let (Some(subscription), true) = (subscription, folded)
            && self.store.find_tenant(subscription).await? == Some(tenant)
        {
            return Ok(());
        }
        let message =
            "A role is held at the lower-case path of a subscription of the principal's tenant, or of something in one.";
        Err(Error::new(ErrorCode::InvalidPropertyValue, message).with_target("scope"))
    }
}

impl Auth {
    /// As of [`Directory::create`].
    ///
    /// # Errors
    /// As of [`Directory::create`].
    pub async fn create_principal(&self, new: NewPrincipal) -> Result<(Principal, Option<SecretText>), Error> {
        self.directory().create(new).await
    }

    /// As of [`Directory::replace_secret`], and at once by this server.
    ///
    /// # Errors
    /// As of [`Directory::replace_secret`].
    pub async fn replace_secret(&self, id: PrincipalId, secret: Secret) -> Result<Option<SecretText>, Error> {
        let told = self.directory().replace_secret(id, secret).await;
        self.inner.principals.invalidate(&id);
        told
    }

    /// As of [`Directory::revoke_tokens`], and at once by this server.
    ///
    /// # Errors
    /// As of [`Directory::revoke_tokens`].
    pub async fn revoke_tokens(&self, id: PrincipalId) -> Result<(), Error> {
        let done = self.directory().revoke_tokens(id).await;
        self.inner.principals.invalidate(&id);
        done
    }

    /// The principal of a directory with that client id.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn find_by_name(&self, tenant: TenantId, client_id: &str) -> Result<Option<Principal>, Error> {
        match self.named(client_id).await? {
            Some(id) => self.find_by_id(tenant, id).await,
            None => Ok(None),
        }
    }

    /// The principal of a directory with that object id.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn find_by_id(&self, tenant: TenantId, id: PrincipalId) -> Result<Option<Principal>, Error> {
        let known = self.principal(id).await?;
        Ok(known.map(|known| known.principal.clone()).filter(|principal| principal.tenant == tenant))
    }

    fn directory(&self) -> Directory {
        Directory::new(self.inner.store.clone(), Arc::clone(&self.inner.clock))
    }
}

fn check_name(client_id: &str) -> Result<(), Error> {
    if client_id.is_empty() || client_id.len() > 128 || !client_id.bytes().all(|b| b.is_ascii_graphic()) {
        let message = "The name that a principal signs in with must have 1 to 128 visible ASCII characters.";
        return Err(Error::new(ErrorCode::InvalidPropertyValue, message).with_target("clientId"));
    }
    Ok(())
}

/// The hash of a secret that someone chose, or of none.
async fn hash_of(secret: Option<SecretText>) -> Result<String, Error> {
    let secret = secret.map_or(Secret::Absent, Secret::Chosen);
    Ok(hash(secret).await?.0)
}

async fn hash(secret: Secret) -> Result<(String, Option<SecretText>), Error> {
    match secret {
        Secret::Absent => Ok((password::NONE.to_owned(), None)),
        Secret::Generated => {
            let secret = password::new_secret();
            Ok((password::hash_generated(&secret.0), Some(secret)))
        }
        Secret::Chosen(secret) => {
            let hashed = tokio::task::spawn_blocking(move || password::hash_chosen(&secret.0)).await;
            Ok((hashed.map_err(Error::internal)??, None))
        }
    }
}

fn absent(who: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::NotFound, format!("The principal '{who}' could not be found."))
}

/// Tokens tell their time in whole seconds: one of this second was issued at or after what this returns.
pub(super) fn whole_seconds(at: crate::clock::Timestamp) -> crate::clock::Timestamp {
    at.replace_nanosecond(0).unwrap_or(at)
}

/// Every token that was issued so far is of an earlier second than this.
pub(super) fn next_second(at: crate::clock::Timestamp) -> crate::clock::Timestamp {
    whole_seconds(at) + std::time::Duration::from_secs(1)
}
