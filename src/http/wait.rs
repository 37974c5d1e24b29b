//! `?wait=SECONDS`: a GET that is answered once what it shows is another, or once the time is over.
//!
//! Only our own version has it. A client that names the tag it has seen (`If-None-Match`) is answered at once where that is not the
//! latest, so that no change falls between two requests; without one, the wait begins with what is there. What will not change by
//! itself any more is answered at once. A wait is woken by the record of changes, bounded in time and number, and ends when the server
//! does; who may not read any more when it ends is refused.

use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, ETAG, HeaderMap, IF_NONE_MATCH};
use axum::response::Response;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::error::Error;
use crate::http::call::{Answer, Call, Target};
use crate::http::respond::empty;
use crate::http::routes::Access;
use crate::id::ResourceId;
use crate::service::Woken;
use crate::wire::ApiVersion;

/// Longest wait. Unit: seconds. As long as the platform lets any request take.
pub(crate) const MAX_WAIT_S: u32 = 60;

/// What a read found.
pub(crate) struct Seen {
    /// The answer.
    pub(crate) response: Response,
    /// Whether nothing will change by itself any more.
    pub(crate) is_final: bool,
}

impl Seen {
    fn tag(&self) -> Option<Vec<u8>> {
        self.response.headers().get(ETAG).map(|tag| tag.as_bytes().to_vec())
    }
}

/// Answers what `read` finds, once it is another than the client has, where it wants to wait. `id` is what the changes are of.
pub(crate) async fn answer<'c>(call: &'c Call, id: &ResourceId, read: impl Fn() -> BoxFuture<'c, Result<Seen, Error>>) -> Answer {
    let seconds = seconds(call)?;
    let first = read().await?;
    if call.contract != ApiVersion::V2026_11_01Preview {
        return Ok(first.response);
    }
    let known = if_none_match(&call.headers);
    let tag = first.tag();
    let is_news = |tag: &Option<Vec<u8>>| match &known {
        Some(known) => tag.as_ref().is_none_or(|tag| tag != known),
        None => false,
    };
    if seconds == 0 || first.is_final || is_news(&tag) {
        return Ok(unless_known(first.response, known.as_deref()));
    }
    let _place = call.parts.service.take_waiting_place(call.caller()?)?;
    let until = Instant::now() + Duration::from_secs(u64::from(seconds));
    let mut watch = call.parts.service.watch(id);
    let last = loop {
        // Read once more after the watch began: what changed before is not told.
        let seen = read().await?;
        if seen.tag() != tag || seen.is_final {
            break seen;
        }
        if watch.changed(until).await == Woken::Over {
            break read().await?;
        }
    };
    check_again(call).await?;
    Ok(unless_known(last.response, known.as_deref()))
}

/// Whether the caller may still do what it was allowed when its request came: tokens end and roles are taken away.
pub(crate) async fn check_again(call: &Call) -> Result<(), Error> {
    let header = call.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let caller = call.parts.auth.authenticate(header).await?;
    let key = match &call.target {
        Target::None => return Ok(()),
        Target::Subscription(id) => format!("/subscriptions/{id}"),
        Target::Resource(id) => id.key(),
        Target::Flat(id) => id.group.key(),
    };
    match call.route.access {
        Access::Subscription | Access::Resource(_) => call.parts.auth.authorize(&caller, call.route.action, &key).await,
        // Checked where it is read.
        _ => Ok(()),
    }
}

fn seconds(call: &Call) -> Result<u32, Error> {
    match call.contract {
        ApiVersion::V2026_11_01Preview => call.query.number("wait", 0, MAX_WAIT_S, 0),
        // A frozen version does not know it, and ignores what it does not know.
        _ => Ok(0),
    }
}

/// The one tag that the client has.
fn if_none_match(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut values = headers.get_all(IF_NONE_MATCH).iter();
    match (values.next(), values.next()) {
        (Some(tag), None) => Some(tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes()).to_vec()),
        _ => None,
    }
}

/// The answer, or 304 where the client has it already.
fn unless_known(response: Response, known: Option<&[u8]>) -> Response {
    match (response.headers().get(ETAG), known) {
        (Some(tag), Some(known)) if tag.as_bytes() == known => {
            let tag = tag.clone();
            let mut unchanged = empty(StatusCode::NOT_MODIFIED);
            unchanged.headers_mut().insert(ETAG, tag);
            unchanged
        }
        _ => response,
    }
}
