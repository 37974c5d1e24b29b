//! Hints between servers: NOTIFY and LISTEN, apart from every transaction that writes.
//!
//! A pending NOTIFY takes a lock that all commits of the instance share and makes a commit of its own, so that it is sent only where
//! another server listens, by one task a server.

use sqlx::postgres::{PgListener, PgPoolOptions};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::wake::Topic;

/// The channel of all servers on one database.
const CHANNEL: &str = "batchyard_wake";

/// What connections that listen are called, so that others can see that they are there.
const LISTENER: &str = "batchyard listener";

fn word(topic: Topic) -> &'static str {
    match topic {
        Topic::Reconcile => "reconcile",
        Topic::Submission => "submission",
        Topic::Desired => "desired",
        Topic::Access => "access",
    }
}

impl Store {
    /// Tells other servers that something may have changed, if there are any.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) async fn tell(&self, from: Uuid, topics: &[Topic]) -> Result<(), StoreError> {
        let payloads: Vec<String> = topics.iter().map(|topic| format!("{from} {}", word(*topic))).collect();
        sqlx::query!(
            r#"
            select pg_notify($1, payload)
            from unnest($2::text[]) as t (payload)
            where (select count(*) from pg_stat_activity where application_name = $3 and datname = current_database()) > 1
            "#,
            CHANNEL,
            &payloads,
            LISTENER,
        )
        .fetch_all(self.pool())
        .await?;
        Ok(())
    }
}

/// A hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The server that sent it; this one's own come back too.
    pub(crate) from: Uuid,
    /// What it is about.
    pub(crate) topic: Topic,
}

/// A connection of its own that hears hints.
pub(crate) struct Listener(PgListener);

impl Listener {
    /// Begins to listen.
    pub(crate) async fn connect(store: &Store) -> Result<Listener, StoreError> {
        let options = store.options.clone().application_name(LISTENER);
        let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        // A connection that is lost is an error, not silence: what was said meanwhile is caught up with.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(Listener(listener))
    }

    /// The next hint that can be read.
    ///
    /// # Errors
    /// `Unavailable` where the connection was lost.
    pub(crate) async fn next(&mut self) -> Result<Heard, StoreError> {
        loop {
            let Some(notification) = self.0.try_recv().await? else {
                return Err(StoreError::Unavailable(sqlx::Error::WorkerCrashed));
            };
            if let Some(heard) = read(notification.payload()) {
                return Ok(heard);
            }
        }
    }
}

fn read(payload: &str) -> Option<Heard> {
    let (from, topic) = payload.split_once(' ')?;
    let topic = Topic::ALL.into_iter().find(|known| word(*known) == topic)?;
    Some(Heard { from: Uuid::try_parse(from).ok()?, topic })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let from = Uuid::from_u128(9);
        for topic in Topic::ALL {
            assert_eq!(read(&format!("{from} {}", word(topic))), Some(Heard { from, topic }));
        }
        assert_eq!(read(&format!("{from} other")), None);
        assert_eq!(read("reconcile"), None);
    }
}
