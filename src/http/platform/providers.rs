//! Providers: which there are, whether a subscription has registered them, and what can be permitted.

use axum::http::StatusCode;

use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call, Target};
use crate::http::gate::PLATFORM_VERSIONS;
use crate::http::respond::json;
use crate::id::NAMESPACE;
use crate::service::Subscription;
use crate::wire::platform::{ProviderBody, Registration};
use crate::wire::shapes::ListPage;
use crate::wire::v2018_05_01::operations_list;

const BATCHAI_VERSIONS: &[&str] = &["2026-11-01-preview", "2018-05-01"];

/// Versions before workspaces.
const FLAT_VERSIONS: &[&str] = &["2018-03-01", "2017-09-01-preview"];

const ALL_VERSIONS: &[&str] = &["2026-11-01-preview", "2018-05-01", "2018-03-01", "2017-09-01-preview"];

const USAGES_VERSIONS: &[&str] = &["2026-11-01-preview", "2018-05-01", "2018-03-01"];

const OWN_VERSIONS: &[&str] = &["2026-11-01-preview"];

/// The types of the provider and of the platform that this server has, with their versions.
const BATCHAI_TYPES: &[(&str, &[&str])] = &[
    ("operations", ALL_VERSIONS),
    ("locations", ALL_VERSIONS),
    ("locations/usages", USAGES_VERSIONS),
    ("locations/operationresults", ALL_VERSIONS),
    ("locations/operationstatuses", ALL_VERSIONS),
    ("events", OWN_VERSIONS),
    ("clusters", FLAT_VERSIONS),
    ("fileServers", FLAT_VERSIONS),
    ("jobs", FLAT_VERSIONS),
    ("workspaces", BATCHAI_VERSIONS),
    ("workspaces/clusters", BATCHAI_VERSIONS),
    ("workspaces/fileservers", BATCHAI_VERSIONS),
    ("workspaces/experiments", BATCHAI_VERSIONS),
    ("workspaces/experiments/jobs", BATCHAI_VERSIONS),
];

const AUTHORIZATION_TYPES: &[(&str, &[&str])] = &[
    ("roleAssignments", &["2022-04-01", "2020-04-01-preview", "2018-01-01-preview", "2015-07-01"]),
    ("roleDefinitions", &["2022-05-01-preview", "2022-04-01", "2018-01-01-preview", "2015-07-01"]),
    ("permissions", &["2022-04-01", "2018-07-01", "2015-07-01"]),
    ("locks", &["2020-05-01", "2016-09-01", "2015-01-01"]),
];

const INSIGHTS_TYPES: &[(&str, &[&str])] = &[("eventtypes", &["2015-04-01"])];

const RESOURCES_TYPES: &[(&str, &[&str])] = &[
    ("tenants", PLATFORM_VERSIONS),
    ("locations", PLATFORM_VERSIONS),
    ("providers", PLATFORM_VERSIONS),
    ("subscriptions", PLATFORM_VERSIONS),
    ("resourceGroups", PLATFORM_VERSIONS),
    ("resources", PLATFORM_VERSIONS),
    ("subscriptions/resources", PLATFORM_VERSIONS),
    ("subscriptions/resourceGroups", PLATFORM_VERSIONS),
    ("subscriptions/tagNames", PLATFORM_VERSIONS),
    ("tags", PLATFORM_VERSIONS),
    ("deployments", PLATFORM_VERSIONS),
];

/// All providers, of the tenant or of a subscription.
pub(crate) async fn list(call: Call) -> Answer {
    let (scope, registration) = scope(&call).await?;
    let mut value = vec![batchai(&call, &scope, registration)];
    value.extend(PLATFORM.iter().map(|(namespace, types)| platform(&call, &scope, namespace, types)));
    json(StatusCode::OK, &ListPage { value, next_link: None })
}

/// One provider.
pub(crate) async fn get(call: Call) -> Answer {
    let (scope, registration) = scope(&call).await?;
    match call.last_argument() {
        name if name.eq_ignore_ascii_case(NAMESPACE) => json(StatusCode::OK, &batchai(&call, &scope, registration)),
        name => match find_platform(name) {
            Some((namespace, types)) => json(StatusCode::OK, &platform(&call, &scope, namespace, types)),
            None => Err(unknown(name)),
        },
    }
}

/// Registers the provider for a subscription. The platform's own needs no registration.
pub(crate) async fn register(call: Call) -> Answer {
    let subscription = call.subscription()?;
    match call.last_argument() {
        name if name.eq_ignore_ascii_case(NAMESPACE) => {
            let registered = call.parts.service.register_provider(call.caller()?, subscription).await?;
            json(StatusCode::OK, &batchai(&call, &format!("/subscriptions/{subscription}"), registration_of(&registered)))
        }
        name => always_registered(&call, subscription, name),
    }
}

/// Takes a registration back. The platform's own cannot be.
pub(crate) async fn unregister(call: Call) -> Answer {
    let subscription = call.subscription()?;
    match call.last_argument() {
        name if name.eq_ignore_ascii_case(NAMESPACE) => {
            let left = call.parts.service.unregister_provider(call.caller()?, subscription).await?;
            json(StatusCode::OK, &batchai(&call, &format!("/subscriptions/{subscription}"), registration_of(&left)))
        }
        name => always_registered(&call, subscription, name),
    }
}

fn always_registered(call: &Call, subscription: crate::id::SubscriptionId, name: &str) -> Answer {
    let (namespace, types) = find_platform(name).ok_or_else(|| unknown(name))?;
    json(StatusCode::OK, &platform(call, &format!("/subscriptions/{subscription}"), namespace, types))
}

/// The published list of operations: the names are the permissions of the route table.
pub(crate) async fn operations(call: Call) -> Answer {
    let mut value = operations_list::all();
    if !call.contract.is_frozen() {
        value.extend(operations_list::own());
    }
    json(StatusCode::OK, &ListPage { value, next_link: None })
}

async fn scope(call: &Call) -> Result<(String, Registration), Error> {
    match call.target {
        Target::Subscription(id) => {
            Ok((format!("/subscriptions/{id}"), registration_of(call.parts.service.subscription(id).await?.as_ref())))
        }
        _ => Ok((String::new(), Registration::Registered)),
    }
}

fn registration_of(subscription: &Subscription) -> Registration {
    if subscription.registered_at.is_some() { Registration::Registered } else { Registration::NotRegistered }
}

fn batchai(call: &Call, scope: &str, registration: Registration) -> ProviderBody {
    ProviderBody::of(scope, NAMESPACE, registration, BATCHAI_TYPES, &call.parts.locations)
}

/// The platform's own providers, which every subscription has.
const PLATFORM: &[(&str, Types)] = &[
    ("Microsoft.Resources", RESOURCES_TYPES),
    ("Microsoft.Authorization", AUTHORIZATION_TYPES),
    ("Microsoft.Insights", INSIGHTS_TYPES),
];

/// Types with their versions.
type Types = &'static [(&'static str, &'static [&'static str])];

fn find_platform(name: &str) -> Option<(&'static str, Types)> {
    PLATFORM.iter().find(|(namespace, _)| namespace.eq_ignore_ascii_case(name)).copied()
}

fn platform(call: &Call, scope: &str, namespace: &'static str, types: Types) -> ProviderBody {
    ProviderBody::of(scope, namespace, Registration::Registered, types, &call.parts.locations)
}

fn unknown(name: &str) -> Error {
    let shown: String = name.chars().take(100).collect();
    Error::new(ErrorCode::InvalidResourceNamespace, format!("The resource namespace '{shown}' is invalid."))
}

#[cfg(test)]
mod tests {
    use crate::http::routes::ROUTES;
    use crate::wire::v2018_05_01::operations_list;

    #[test]
    fn every_permission_of_the_provider_is_in_the_published_list() {
        let names: Vec<String> = operations_list::all().iter().map(|operation| operation.name().to_owned()).collect();
        assert_eq!(names.len(), 26);
        let own: Vec<String> = operations_list::own().iter().map(|operation| operation.name().to_owned()).collect();
        for route in ROUTES.iter().filter(|route| route.action.starts_with("Microsoft.BatchAI/")) {
            let is_published = route.versions.iter().any(|version| version.is_frozen());
            let more = if is_published { [].as_slice() } else { own.as_slice() };
            assert!(names.iter().chain(more).any(|name| name == route.action), "{} is not listed", route.action);
        }
    }
}
