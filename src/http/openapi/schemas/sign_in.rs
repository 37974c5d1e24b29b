//! Discovery and tokens.

use serde_json::json;

use super::{Named, many, object, text, word};

pub(super) fn schemas() -> Named {
    vec![
        ("CloudMetadata", json!({"description": "One cloud, or a list of one at 2019-05-01 and 2020-06-01."})),
        ("OpenIdConfiguration", object([("issuer!", text()), ("token_endpoint!", text()), ("jwks_uri!", text())])),
        ("JsonWebKeySet", object([("keys!", many(json!({"type": "object"})))])),
        (
            "TokenRequest",
            object([
                ("grant_type!", word(&["client_credentials"])),
                ("client_id!", text()),
                ("client_secret!", json!({"type": "string", "format": "password"})),
                ("scope", text()),
                ("resource", text()),
            ]),
        ),
        ("Token", object([("token_type!", text()), ("access_token!", text()), ("expires_in!", json!({}))])),
        ("TokenRefusal", object([("error!", text()), ("error_description!", text())])),
    ]
}
