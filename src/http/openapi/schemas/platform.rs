//! What the platform has: groups, subscriptions, tenants, regions, providers.

use serde_json::json;

use super::{Named, many, object, page, tags, text, to};

pub(super) fn schemas() -> Named {
    let any = || json!({"type": "object"});
    vec![
        (
            "ResourceGroup",
            object([
                ("id!", text()),
                ("name!", text()),
                ("type!", text()),
                ("location!", text()),
                ("properties!", object([("provisioningState!", text())])),
                ("tags", tags()),
                ("managedBy", text()),
            ]),
        ),
        ("ResourceGroupParameters", object([("location!", text()), ("tags", tags()), ("managedBy", text())])),
        ("ResourceGroupPatch", object([("tags", tags()), ("managedBy", text())])),
        ("ResourceGroupListResult", page("ResourceGroup")),
        (
            "Subscription",
            object([
                ("id!", text()),
                ("subscriptionId!", text()),
                ("tenantId!", text()),
                ("displayName!", text()),
                ("state!", text()),
                ("subscriptionPolicies!", any()),
                ("authorizationSource!", text()),
                ("managedByTenants!", many(any())),
                ("tags", tags()),
            ]),
        ),
        ("SubscriptionListResult", page("Subscription")),
        ("Tenant", object([("id!", text()), ("tenantId!", text()), ("displayName!", text()), ("tenantCategory!", text())])),
        ("TenantListResult", page("Tenant")),
        (
            "ServicePrincipal",
            object([
                ("@odata.type!", text()),
                ("id!", text()),
                ("appId!", text()),
                ("displayName!", text()),
                ("servicePrincipalNames!", many(text())),
                ("servicePrincipalType!", text()),
            ]),
        ),
        ("ServicePrincipalListResult", page("ServicePrincipal")),
        ("DirectoryObjectIds", object([("ids!", many(text())), ("types", many(text()))])),
        (
            "Location",
            object([
                ("id!", text()),
                ("subscriptionId!", text()),
                ("name!", text()),
                ("type!", text()),
                ("displayName!", text()),
                ("regionalDisplayName!", text()),
                ("metadata!", any()),
            ]),
        ),
        ("LocationListResult", page("Location")),
        (
            "Provider",
            object([
                ("id!", text()),
                ("namespace!", text()),
                ("registrationPolicy!", text()),
                ("registrationState!", text()),
                ("resourceTypes!", many(to("ProviderResourceType"))),
            ]),
        ),
        (
            "ProviderResourceType",
            object([
                ("resourceType!", text()),
                ("locations!", many(text())),
                ("apiVersions!", many(text())),
                ("defaultApiVersion!", text()),
                ("capabilities!", text()),
            ]),
        ),
        ("ProviderListResult", page("Provider")),
        ("Health", object([("status!", text())])),
        ("OpenApi", any()),
    ]
}
