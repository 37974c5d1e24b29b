//! Subscriptions.

use std::sync::Arc;

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
        let row = subscription::register(self.pool(), subscription, self.now()).await?.ok_or_else(|| absent(subscription))?;
        tracing::info!(subscription.id = %subscription, caller.client_id = %caller.client_id, "the provider is registered");
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
