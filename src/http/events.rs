//! `events`: the changes of a scope as server-sent events, for as long as the client listens.
//!
//! A client that goes on where it was names the last event that it has (`Last-Event-ID`). Who may see the scope sees of it what it could
//! also read; that is looked at again all the time. A client that does not keep up is cut off, and goes on in another request.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::{Instant, timeout_at};

use crate::domain::event::Place;
use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call, Target};
use crate::http::respond::empty;
use crate::http::wait::check_again;
use crate::id::Kind;
use crate::service::{Followed, Follower, Recorded, WaitingPlace};
use crate::wire::v2026_11_01_preview::events::EventBody;

/// How often a silent stream says that it is still there, so that nothing in between takes it for dead.
const BEAT: Duration = Duration::from_secs(5);

/// How often it is looked at whether the caller may still listen.
const CHECK: Duration = Duration::from_secs(5);

/// Length from which on a piece of the stream is sent, whatever else is there already. Unit: bytes.
const PIECE: usize = 32 * 1024;

/// Time after which a client comes back that lost its stream. Unit: milliseconds.
const RETRY_MS: u32 = 1_000;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Follows the scope that the path names.
pub(crate) async fn follow(call: Call) -> Answer {
    let place = last_place(&call)?;
    let (subscription, scope) = match &call.target {
        Target::Resource(id) => {
            // Of what is gone one may still read how it went.
            if place.is_none() {
                call.parts.service.check_exists(id).await?;
            }
            (id.subscription(), id.key())
        }
        _ => (call.subscription()?, format!("/subscriptions/{}", call.subscription()?)),
    };
    let held = call.parts.service.take_waiting_place(call.caller()?)?;
    let follower = call.parts.service.follow(subscription, scope.clone(), place).await?;
    let first = format!("retry: {RETRY_MS}\nid: {}\n\n", follower.place());
    let now = Instant::now();
    let listening = Listening {
        call,
        follower,
        scope,
        readable: HashSet::new(),
        _held: held,
        checked_at: now,
        beat_at: now + BEAT,
        first: Some(first),
    };
    let pieces = stream::unfold(listening, |mut listening| async move {
        let piece = listening.next().await?;
        Some((Ok::<Bytes, Infallible>(piece.into()), listening))
    });
    let mut response = empty(StatusCode::OK);
    *response.body_mut() = Body::from_stream(pieces);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// The place that the client has everything up to.
fn last_place(call: &Call) -> Result<Option<Place>, Error> {
    let Some(value) = call.headers.get(&LAST_EVENT_ID) else { return Ok(None) };
    let place = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    place.map(Some).ok_or_else(|| {
        Error::new(
            ErrorCode::InvalidQueryParameterValue,
            "The header 'Last-Event-ID' is not one that this server gave. Leave it out to begin with what happens from now on.",
        )
        .with_target("Last-Event-ID")
    })
}

/// A client that listens.
struct Listening {
    call: Call,
    follower: Follower,
    /// The key of what is followed.
    scope: String,
    /// Kinds that the caller may read everywhere in it, since it was checked last.
    readable: HashSet<Kind>,
    _held: WaitingPlace,
    checked_at: Instant,
    beat_at: Instant,
    first: Option<String>,
}

impl Listening {
    /// The next piece of the stream; `None` ends it.
    async fn next(&mut self) -> Option<String> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let wake_at = self.beat_at.min(self.checked_at + CHECK);
            let followed = timeout_at(wake_at, self.follower.next()).await;
            let now = Instant::now();
            if now >= self.checked_at + CHECK {
                if let Err(error) = check_again(&self.call).await {
                    tracing::debug!(error.code = %error.code, "a stream of events ends: its caller may not listen any more");
                    return None;
                }
                self.checked_at = now;
                self.readable.clear();
            }
            match followed {
                Ok(Followed::Event(first)) => {
                    let mut piece = String::new();
                    let mut next = Some(first);
                    while let Some(recorded) = next {
                        if self.may_see(&recorded).await {
                            piece.push_str(recorded.text(written));
                        }
                        next = if piece.len() < PIECE { self.follower.ready() } else { None };
                    }
                    if !piece.is_empty() {
                        self.beat_at = now + BEAT;
                        return Some(piece);
                    }
                }
                Ok(Followed::TooSlow) => {
                    tracing::debug!("a stream of events is cut: its client does not keep up");
                    return None;
                }
                Ok(Followed::Over) => return None,
                Err(_) if now >= self.beat_at => {
                    self.beat_at = now + BEAT;
                    return Some(format!(": still here\nid: {}\n\n", self.follower.place()));
                }
                Err(_) => {}
            }
        }
    }

    /// Whether the caller could read what the event is about. Who may read a kind at the scope may read it everywhere below.
    async fn may_see(&mut self, recorded: &Recorded) -> bool {
        let (Some(kind), Some(caller)) = (recorded.kind, &self.call.caller) else { return false };
        if self.readable.contains(&kind) {
            return true;
        }
        let (auth, action) = (&self.call.parts.auth, kind.read_action());
        if auth.authorize(caller, action, &self.scope).await.is_ok() {
            self.readable.insert(kind);
            return true;
        }
        auth.authorize(caller, action, recorded.key()).await.is_ok()
    }
}

/// An event as the stream carries it: the document is one line of JSON. Empty where there is none.
fn written(recorded: &Recorded) -> String {
    let event = &recorded.event;
    let Ok(document) = serde_json::to_string(&EventBody::of(event)) else { return String::new() };
    let what: String = event.what.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    format!("id: {}\nevent: {what}\ndata: {document}\n\n", event.place)
}
