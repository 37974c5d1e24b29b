//! `validate`: what a PUT of the same body would do, and why it would be refused. In our own version alone.
//!
//! It reads the body and checks it by the same code as a PUT, and writes nothing. Whether the caller may make what it describes is checked
//! too, and told: those who may validate and not write learn just that.

use axum::http::StatusCode;
use serde_json::json;

use crate::http::call::{Answer, Call};
use crate::http::kinds::Check;
use crate::http::respond;
use crate::http::verbs::merged;
use crate::service::Checked;

/// POST of what a PUT would be given.
pub(crate) async fn check<K: Check>(mut call: Call) -> Answer {
    let id = call.id()?;
    let action = id.kind().read_action().trim_end_matches("/read").to_owned() + "/write";
    call.parts.auth.authorize(call.caller()?, &action, &id.key()).await?;
    let new = K::decode(&mut call).await;
    let new = merged(std::mem::take(&mut call.found), new)?;
    let outcome = match K::check(&call, new).await? {
        Checked::Create => "Create",
        Checked::Unchanged => "Unchanged",
        Checked::Update => "Update",
    };
    respond::json(StatusCode::OK, &json!({ "outcome": outcome }))
}
