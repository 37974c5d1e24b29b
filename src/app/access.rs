//! What the settings say about who may sign in, brought to where it is decided.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::principal::{absolute_scope, read_secret};
use crate::auth::{Configured, Directory, ExternalIssuer, Installation, Rule};
use crate::clock::Clock;
use crate::config::{self, Config, PrincipalSecret};
use crate::domain::principal::Grant;
use crate::store::Store;

/// Makes the principals of the settings so.
pub(super) async fn configure(config: &Config, store: &Store, installation: &Installation, clock: &Arc<dyn Clock>) -> Result<()> {
    let wanted = config.principals.iter().map(|principal| configured(principal, installation)).collect::<Result<Vec<_>>>()?;
    let directory = Directory::new(store.clone(), Arc::clone(clock));
    let done = directory.configure(installation.tenant, wanted).await;
    done.map_err(|error| anyhow::anyhow!("{}", error.message)).context("the principals of the settings cannot be made so")
}

fn configured(principal: &config::Principal, installation: &Installation) -> Result<Configured> {
    let secret = match &principal.secret {
        PrincipalSecret::Absent => None,
        PrincipalSecret::Environment(secret) => Some(secret.clone()),
        PrincipalSecret::File(file) => {
            let secret = std::fs::File::open(file).map_err(anyhow::Error::from).and_then(read_secret);
            let unreadable = || format!("the secret of '{}' cannot be read from {}", principal.client_id, file.display());
            Some(secret.with_context(unreadable)?)
        }
    };
    let grant =
        |held: &config::HeldRole| Grant { role: held.role, scope: absolute_scope(&held.scope, installation.subscription) };
    Ok(Configured {
        client_id: principal.client_id.clone(),
        display_name: principal.display_name.clone(),
        secret,
        grants: principal.roles.iter().map(grant).collect(),
    })
}

/// The issuers elsewhere.
pub(super) fn issuers(config: &Config) -> Vec<ExternalIssuer> {
    let rule = |rule: &config::IssuerPrincipal| Rule { claims: rule.claims.clone(), principal: rule.principal.clone() };
    let issuer = |issuer: &config::Issuer| ExternalIssuer {
        issuer: issuer.issuer.clone(),
        audiences: issuer.audience.clone(),
        keys: issuer.keys.clone(),
        authority: issuer.authority.clone(),
        rules: issuer.principal.iter().map(rule).collect(),
    };
    config.issuers.iter().map(issuer).collect()
}
