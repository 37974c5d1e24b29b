//! Tenants, subscriptions and their regions.

use axum::http::StatusCode;

use crate::error::Error;
use crate::http::call::{Answer, Call};
use crate::http::respond::json;
use crate::service::Subscription;
use crate::wire::platform::{LocationBody, SubscriptionBody, TenantBody};
use crate::wire::shapes::ListPage;

/// The caller's tenant.
pub(crate) async fn tenants(call: Call) -> Answer {
    json(StatusCode::OK, &ListPage { value: vec![TenantBody::of(call.caller()?.tenant)], next_link: None })
}

/// The subscriptions of the caller's tenant in which the caller has any role.
pub(crate) async fn list(call: Call) -> Answer {
    let caller = call.caller()?;
    let mut value = Vec::new();
    for subscription in call.parts.service.subscriptions(caller.tenant).await? {
        if call.parts.auth.is_known_in(caller, subscription.id).await? {
            value.push(document(&call, &subscription).await?);
        }
    }
    json(StatusCode::OK, &ListPage { value, next_link: None })
}

/// One subscription.
pub(crate) async fn get(call: Call) -> Answer {
    let subscription = call.parts.service.subscription(call.subscription()?).await?;
    json(StatusCode::OK, &document(&call, &subscription).await?)
}

/// The regions that are offered.
pub(crate) async fn locations(call: Call) -> Answer {
    let subscription = call.subscription()?;
    let value = call.parts.locations.iter().map(|location| LocationBody::of(subscription, location)).collect();
    json(StatusCode::OK, &ListPage { value, next_link: None })
}

async fn document(call: &Call, subscription: &Subscription) -> Result<SubscriptionBody, Error> {
    let tags = call.parts.service.subscription_tags(subscription.id).await?;
    Ok(SubscriptionBody::of(subscription.id, subscription.tenant, &subscription.display_name, tags))
}
