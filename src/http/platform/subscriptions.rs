//! Tenants, subscriptions and their regions.

use axum::http::StatusCode;

use crate::http::call::{Answer, Call};
use crate::http::respond::json;
use crate::service::Subscription;
use crate::wire::platform::{LocationBody, SubscriptionBody, TenantBody};
use crate::wire::shapes::ListPage;

/// The caller's tenant.
pub(crate) async fn tenants(call: Call) -> Answer {
    json(StatusCode::OK, &ListPage { value: vec![TenantBody::of(call.caller()?.tenant)], next_link: None })
}

/// The subscriptions of the caller's tenant.
pub(crate) async fn list(call: Call) -> Answer {
    let subscriptions = call.parts.service.subscriptions(call.caller()?.tenant).await?;
    json(StatusCode::OK, &ListPage { value: subscriptions.iter().map(body).collect(), next_link: None })
}

/// One subscription.
pub(crate) async fn get(call: Call) -> Answer {
    json(StatusCode::OK, &body(call.parts.service.subscription(call.subscription()?).await?.as_ref()))
}

/// The regions that are offered.
pub(crate) async fn locations(call: Call) -> Answer {
    let subscription = call.subscription()?;
    let value = call.parts.locations.iter().map(|location| LocationBody::of(subscription, location)).collect();
    json(StatusCode::OK, &ListPage { value, next_link: None })
}

fn body(subscription: &Subscription) -> SubscriptionBody {
    SubscriptionBody::of(subscription.id, subscription.tenant, &subscription.display_name)
}
