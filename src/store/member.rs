//! Machines of a pool that call in: their tokens, their credentials, and what operators tell them.

use uuid::Uuid;

use super::machine::token_hash;
use super::{Store, StoreError};
use crate::clock::Timestamp;

/// A member, as operators see it.
#[derive(Clone, Debug)]
pub struct MemberRow {
    /// Its name.
    pub name: String,
    /// When the token ends that it has not joined with yet; `None` once it joined.
    pub offered_until: Option<Timestamp>,
    /// When it called last.
    pub heard_at: Option<Timestamp>,
    /// What it said of itself then.
    pub state: Option<String>,
}

/// What is known of whoever calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) name: String,
    /// What an operator tells it.
    pub(crate) word: Option<String>,
    pub(crate) is_removed: bool,
}

impl Store {
    /// Lets a machine join with this token, in place of one that it has not joined with. `false` where it has joined: nothing is changed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn offer_member(&self, name: &str, token: &str, until: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            r#"
            insert into pool_member (uid, name, token_hash, token_expires_at)
            values ($1, $2, $3, $4)
            on conflict (name) where removed_at is null do update
            set token_hash = excluded.token_hash, token_expires_at = excluded.token_expires_at
            where pool_member.credential_hash is null
            "#,
            Uuid::now_v7(),
            name,
            token_hash(token),
            until,
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// All members that were not removed, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn members(&self) -> Result<Vec<MemberRow>, StoreError> {
        let rows = sqlx::query_as!(
            MemberRow,
            r#"
            select name, token_expires_at as offered_until, heard_at, state
            from pool_member
            where removed_at is null
            order by name
            "#
        );
        Ok(rows.fetch_all(self.pool()).await?)
    }

    /// Tells a member that joined something when it calls next: the reason of a quarantine, or `""` for its end. `false` where there is
    /// none of that name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tell_member(&self, name: &str, word: &str) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            r#"
            update pool_member
            set word = $2
            where name = $1 and removed_at is null and credential_hash is not null
            "#,
            name,
            word,
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends a member's token and trust. `false` where there is none of that name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_member(&self, name: &str, now: Timestamp) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            r#"
            update pool_member
            set removed_at = $2, token_hash = null, token_expires_at = null
            where name = $1 and removed_at is null
            "#,
            name,
            now,
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Whether a machine may join with this token now, or has joined with this credential.
    pub(crate) async fn knows_member(&self, secret: &str, now: Timestamp) -> Result<bool, StoreError> {
        let found = sqlx::query_scalar!(
            r#"
            select uid
            from pool_member
            where removed_at is null and ((token_hash = $1 and token_expires_at > $2) or credential_hash = $1)
            "#,
            token_hash(secret),
            now,
        );
        Ok(found.fetch_optional(self.pool()).await?.is_some())
    }

    /// Spends a token for a credential; answers whose it is. `None` where the token is none, or none any more.
    pub(crate) async fn join_member(&self, token: &str, credential: &str, now: Timestamp) -> Result<Option<String>, StoreError> {
        let name = sqlx::query_scalar!(
            r#"
            update pool_member
            set token_hash = null, token_expires_at = null, credential_hash = $2
            where token_hash = $1 and token_expires_at > $3 and removed_at is null
            returning name
            "#,
            token_hash(token),
            token_hash(credential),
            now,
        );
        Ok(name.fetch_optional(self.pool()).await?)
    }

    /// Writes down that a member called, and forgets the word that it has done. `None` where nobody has that credential.
    pub(crate) async fn hear_member(
        &self,
        credential: &str,
        state: &str,
        done: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<Caller>, StoreError> {
        let caller = sqlx::query_as!(
            Caller,
            r#"
            update pool_member
            set heard_at = $4, state = $2, word = nullif(word, $3)
            where credential_hash = $1
            returning name, word, removed_at is not null as "is_removed!"
            "#,
            token_hash(credential),
            state,
            done,
            now,
        );
        Ok(caller.fetch_optional(self.pool()).await?)
    }
}
