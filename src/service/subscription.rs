//! Subscriptions.

use std::sync::Arc;

use super::activity::{carried_out, is_recorded};
use super::{Service, Subscription};
use crate::auth::Caller;
use crate::error::{Error, ErrorCode};
use crate::id::{SubscriptionId, TenantId};
use crate::store::subscription::{self, SubscriptionRow};

impl Service {
    /// The subscription, from a cache of a few seconds.
    ///
    /// # Errors
    /// `SubscriptionNotFound`, `ServiceUnavailable`.
    pub async fn subscription(&self, id: SubscriptionId) -> Result<Arc<Subscription>, Error> {
        if let Some(found) = self.inner.subscriptions.get(&id) {
            return Ok(found);
        }
        let row = subscription::find(self.pool(), id).await?.ok_or_else(|| absent(id))?;
        let found = Arc::new(shown(row));
        self.inner.subscriptions.insert(id, found.clone());
        Ok(found)
    }

    /// The subscriptions of a directory, by id.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn subscriptions(&self, tenant: TenantId) -> Result<Vec<Subscription>, Error> {
        Ok(subscription::list(self.pool(), tenant).await?.into_iter().map(shown).collect())
    }

    /// Registers Microsoft.BatchAI for a subscription; again changes nothing.
    ///
    /// # Errors
    /// `SubscriptionNotFound`, `ServiceUnavailable`.
    pub async fn register_provider(&self, caller: &Caller, subscription: SubscriptionId) -> Result<Subscription, Error> {
        let at = self.now();
        let recorded = carried_out(caller, at, 200, None);
        let row = subscription::register(self.pool(), subscription, at, recorded).await?.ok_or_else(|| absent(subscription))?;
        is_recorded(caller);
        tracing::info!(subscription.id = %subscription, caller.client_id = %caller.client_id, "the provider is registered");
        self.inner.subscriptions.invalidate(&subscription);
        Ok(shown(row))
    }
}

impl Service {
    /// Takes the registration of Microsoft.BatchAI away from a subscription that has nothing of it.
    ///
    /// # Errors
    /// `Conflict` where it has workspaces; `SubscriptionNotFound`, `ServiceUnavailable`.
    pub async fn unregister_provider(&self, caller: &Caller, subscription: SubscriptionId) -> Result<Subscription, Error> {
        self.subscription(subscription).await?;
        let recorded = carried_out(caller, self.now(), 200, None);
        let row = subscription::unregister(self.pool(), subscription, recorded).await?.ok_or_else(|| {
            let message = "The subscription has workspaces of Microsoft.BatchAI. Delete them, then unregister the provider.";
            Error::new(ErrorCode::Conflict, message)
        })?;
        is_recorded(caller);
        self.inner.subscriptions.invalidate(&subscription);
        Ok(shown(row))
    }
}

fn absent(id: SubscriptionId) -> Error {
    Error::new(ErrorCode::SubscriptionNotFound, format!("The subscription '{id}' could not be found."))
}

fn shown(row: SubscriptionRow) -> Subscription {
    let SubscriptionRow { id, tenant, display_name, registered_at } = row;
    Subscription { id, tenant, display_name, registered_at }
}
