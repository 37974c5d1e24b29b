//! `/metadata/endpoints`: where a client that knows this address alone finds the rest.
//!
//! Three shapes are in use: a small object (2015-01-01), an array of clouds (2019-05-01, 2020-06-01) and one cloud (2022-09-01 and
//! what else is asked for). The object carries the names of all of them, as clients read them without checking.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::http::call::{Answer, Call};
use crate::http::respond::json;

/// The version of the oldest clients. They ask a public host about every authority but an AD FS, so that is what they are told of.
const OLDEST_VERSION: &str = "2015-01-01";

/// Versions that answer a list of clouds.
const ARRAY_VERSIONS: [&str; 2] = ["2019-05-01", "2020-06-01"];

/// GET, by anyone.
pub(crate) async fn endpoints(call: Call) -> Answer {
    let version = call.query.get("api-version").unwrap_or_default();
    let login = if version == OLDEST_VERSION { format!("{}/adfs", call.base) } else { call.base.clone() };
    let cloud = cloud(&call.base, &login);
    if ARRAY_VERSIONS.contains(&version) { json(StatusCode::OK, &[cloud]) } else { json(StatusCode::OK, &cloud) }
}

/// `base` has no final slash: clients join paths to it as it stands.
fn cloud(base: &str, login: &str) -> Value {
    json!({
        "name": "batchyard",
        "portal": base,
        "portalEndpoint": base,
        "gallery": base,
        "galleryEndpoint": base,
        "graph": base,
        "graphEndpoint": base,
        "graphAudience": base,
        "batch": base,
        "media": base,
        "sqlManagement": base,
        "vmImageAliasDoc": base,
        "resourceManager": base,
        "activeDirectoryDataLake": base,
        "microsoftGraphResourceId": base,
        "logAnalyticsResourceId": base,
        "appInsightsResourceId": base,
        "ossrDbmsResourceId": base,
        "attestationResourceId": base,
        "synapseAnalyticsResourceId": base,
        "authentication": {
            "loginEndpoint": login,
            "audiences": [base],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        // Names that this server does not serve; clients fail without the member, and build storage addresses from it.
        "suffixes": {
            "storage": "core.windows.net",
            "keyVaultDns": "vault.azure.net",
            "acrLoginServer": "azurecr.io",
            "sqlServerHostname": "database.windows.net",
            "azureDataLakeStoreFileSystem": "azuredatalakestore.net",
            "azureDataLakeAnalyticsCatalogAndJob": "azuredatalakeanalytics.net",
            "azureFrontDoorEndpointSuffix": "azurefd.net",
        },
    })
}
