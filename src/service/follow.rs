//! Following all changes of a scope, from any place of the record on.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Service;
use super::changes::Told;
use crate::domain::event::{Event, Place};
use crate::error::{Error, ErrorCode};
use crate::id::{Kind, ResourceId, SubscriptionId};
use crate::store::event;

/// Events of one reading of the record.
const PAGE: i64 = 200;

/// An event, with what all who follow would else find out one by one.
#[derive(Debug)]
pub struct Recorded {
    /// The event itself.
    pub event: Event,
    /// The kind of what it is about; `None` for a path of none.
    pub kind: Option<Kind>,
    key: String,
    text: OnceLock<String>,
}

impl Recorded {
    pub(super) fn new(event: Event) -> Arc<Recorded> {
        let kind = ResourceId::parse(&event.path).ok().map(|id| id.kind());
        Arc::new(Recorded { kind, key: event.path.to_ascii_lowercase(), event, text: OnceLock::new() })
    }

    /// The key of what it is about.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What `write` makes of it, which is asked once: everyone must ask with the same.
    pub fn text(&self, write: impl FnOnce(&Recorded) -> String) -> &str {
        self.text.get_or_init(|| write(self))
    }

    fn is_in(&self, scope: &str) -> bool {
        self.key.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// What comes next.
#[derive(Clone, Debug)]
pub enum Followed {
    /// An event.
    Event(Arc<Recorded>),
    /// It reads too slowly: it goes on from its place, in another request.
    TooSlow,
    /// This server stops, or the record cannot be read: as before.
    Over,
}

/// Follows a scope.
pub struct Follower {
    service: Service,
    /// The subscription's part of every path.
    prefix: String,
    /// The scope's key.
    scope: String,
    place: Place,
    /// What was read, or told, and not yet taken.
    read: VecDeque<Arc<Recorded>>,
    /// Where to go on once what was read is told.
    read_to: Place,
    is_behind: bool,
    told: broadcast::Receiver<Told>,
    leaving: CancellationToken,
}

impl Service {
    /// Follows the changes of what has the key `scope`, or is below it, after `place`; without one, from now on.
    ///
    /// # Errors
    /// `InvalidQueryParameterValue` where the place is one that this installation has not reached; `ServiceUnavailable`.
    pub async fn follow(&self, subscription: SubscriptionId, scope: String, place: Option<Place>) -> Result<Follower, Error> {
        // Told first, read then: nothing falls between.
        let told = self.inner.changes.follow();
        let horizon = event::horizon(self.pool()).await?;
        if place.is_some_and(|place| place.transaction > horizon.transaction) {
            return Err(Error::new(
                ErrorCode::InvalidQueryParameterValue,
                "The header 'Last-Event-ID' is not one that this server gave. Leave it out to begin with what happens from now on.",
            )
            .with_target("Last-Event-ID"));
        }
        let place = place.unwrap_or(horizon);
        Ok(Follower {
            service: self.clone(),
            prefix: format!("/subscriptions/{subscription}/"),
            scope,
            place,
            read: VecDeque::new(),
            read_to: place,
            is_behind: true,
            told,
            leaving: self.inner.leaving.clone(),
        })
    }
}

impl Follower {
    /// Up to where everything was told: what a later request goes on from.
    pub fn place(&self) -> Place {
        self.place
    }

    /// What comes next. May be dropped while it waits; nothing is lost then.
    pub async fn next(&mut self) -> Followed {
        loop {
            if let Some(recorded) = self.ready() {
                return Followed::Event(recorded);
            }
            self.place = self.place.max(self.read_to);
            if self.is_behind {
                match event::after(self.service.pool(), self.place, &self.prefix, PAGE).await {
                    Ok(read) => {
                        self.read_to = read.to;
                        self.is_behind = read.is_full;
                        self.read = read.settled.into_iter().map(Recorded::new).collect();
                    }
                    Err(error) => {
                        tracing::debug!(%error, "what was recorded cannot be read");
                        return Followed::Over;
                    }
                }
                continue;
            }
            let told = tokio::select! {
                told = self.told.recv() => told,
                () = self.leaving.cancelled() => return Followed::Over,
            };
            match told {
                // Some were read from the record already.
                Ok(Told::Events(events)) => {
                    let is_new = |recorded: &&Arc<Recorded>| recorded.event.place > self.place;
                    self.read.extend(events.iter().filter(is_new).cloned());
                }
                Ok(Told::Gap) => self.is_behind = true,
                Err(RecvError::Lagged(_)) => return Followed::TooSlow,
                Err(RecvError::Closed) => return Followed::Over,
            }
        }
    }

    /// The next event that is here already, without a wait.
    pub fn ready(&mut self) -> Option<Arc<Recorded>> {
        while let Some(recorded) = self.read.pop_front() {
            self.place = recorded.event.place;
            if recorded.is_in(&self.scope) {
                return Some(recorded);
            }
        }
        None
    }
}
