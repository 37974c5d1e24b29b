//! Tags of subscriptions and resources, and the list of names that a subscription keeps.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::document::Document;
use super::{Store, StoreError, activity};
use crate::clock::Timestamp;
use crate::domain::activity::Activity;
use crate::domain::scope::Scope;
use crate::id::{PrincipalId, SubscriptionId};

/// Tags by name.
pub(crate) type Tags = BTreeMap<String, String>;

/// What became of a wish to change tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tagged {
    /// These are the tags now.
    Done(Tags),
    /// The scope does not exist, or is being deleted.
    NoScope,
}

/// How often a tag occurs: name, value, and on how many resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagUse {
    /// The name as the resource has it.
    pub(crate) name: String,
    /// The value.
    pub(crate) value: String,
    /// Resources with it.
    pub(crate) count: i64,
}

/// A name that is kept in the list, with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagName {
    /// The name as given.
    pub(crate) name: String,
    /// Its values.
    pub(crate) values: Vec<String>,
}

async fn read(connection: &mut PgConnection, scope: &Scope) -> Result<Option<Tags>, StoreError> {
    let found = match scope {
        Scope::Subscription(id) => {
            sqlx::query_scalar!(r#"select tags as "tags: Document" from subscription where id = $1 for update"#, id.0)
                .fetch_optional(connection)
                .await?
        }
        Scope::Resource(id) => {
            sqlx::query_scalar!(
                r#"select tags as "tags: Document" from resource where key = $1 and provisioning = 'succeeded' for update"#,
                id.key(),
            )
            .fetch_optional(connection)
            .await?
        }
    };
    found.map(|tags| tags.map(|tags| tags.read("tags")).transpose().map(Option::unwrap_or_default)).transpose()
}

impl Store {
    /// The tags of a subscription; those of resources are part of them.
    pub(crate) async fn subscription_tags(&self, id: SubscriptionId) -> Result<Tags, StoreError> {
        let found = sqlx::query_scalar!(r#"select tags as "tags: Document" from subscription where id = $1"#, id.0)
            .fetch_optional(self.pool())
            .await?;
        Ok(found.flatten().map(|tags| tags.read("tags")).transpose()?.unwrap_or_default())
    }

    /// Changes tags in one transaction: what `change` makes of those that are there.
    ///
    /// # Errors
    /// The store's, and those of `change`, after which nothing is written.
    pub(crate) async fn change_tags<E: From<StoreError>>(
        &self,
        scope: &Scope,
        change: impl FnOnce(Tags) -> Result<Tags, E> + Send,
        caller: PrincipalId,
        at: Timestamp,
        why: &str,
        recorded: Option<Activity>,
    ) -> Result<Tagged, E> {
        let mut tx = self.pool().begin().await.map_err(StoreError::from)?;
        let Some(before) = read(&mut tx, scope).await? else { return Ok(Tagged::NoScope) };
        let tags = change(before)?;
        write(&mut tx, scope, &tags, caller, at, why).await?;
        activity::insert(&mut tx, recorded.as_slice()).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(Tagged::Done(tags))
    }

    /// How often each tag occurs in a subscription.
    pub(crate) async fn tag_uses(&self, subscription: SubscriptionId) -> Result<Vec<TagUse>, StoreError> {
        let rows = sqlx::query!(
            r#"
            select t.name as "name!", t.value as "value!", count(*) as "count!"
            from resource r
            cross join lateral jsonb_each_text(r.tags) as t (name, value)
            where r.subscription_id = $1 and r.tags is not null
            group by t.name, t.value
            order by t.name, t.value
            "#,
            subscription.0,
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|row| TagUse { name: row.name, value: row.value, count: row.count }).collect())
    }

    /// The names that a subscription keeps, with their values.
    pub(crate) async fn tag_names(&self, subscription: SubscriptionId) -> Result<Vec<TagName>, StoreError> {
        let rows = sqlx::query!(
            r#"
            select n.name, coalesce(array_agg(v.value order by v.value) filter (where v.value is not null), '{}') as "values!"
            from tag_name n
            left join tag_value v on v.subscription_id = n.subscription_id and v.name_key = n.name_key
            where n.subscription_id = $1
            group by n.name, n.name_key
            order by n.name_key
            "#,
            subscription.0,
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|row| TagName { name: row.name, values: row.values }).collect())
    }

    /// Keeps a name, and a value of it if one is given. Answers whether anything is new.
    pub(crate) async fn keep_tag_name(
        &self,
        subscription: SubscriptionId,
        name: &str,
        value: Option<&str>,
        recorded: Option<Activity>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool().begin().await?;
        let named = sqlx::query!(
            "insert into tag_name (subscription_id, name_key, name) values ($1, $2, $3) on conflict do nothing",
            subscription.0,
            name.to_lowercase(),
            name,
        )
        .execute(&mut *tx)
        .await?;
        let mut new = named.rows_affected() > 0;
        if let Some(value) = value {
            let valued = sqlx::query!(
                "insert into tag_value (subscription_id, name_key, value) values ($1, $2, $3) on conflict do nothing",
                subscription.0,
                name.to_lowercase(),
                value,
            )
            .execute(&mut *tx)
            .await?;
            new = valued.rows_affected() > 0;
        }
        activity::insert(&mut tx, recorded.as_slice()).await?;
        tx.commit().await?;
        Ok(new)
    }

    /// Forgets a name with its values, or one value of it. Answers whether there was one.
    pub(crate) async fn forget_tag_name(
        &self,
        subscription: SubscriptionId,
        name: &str,
        value: Option<&str>,
        recorded: Option<Activity>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool().begin().await?;
        let key = name.to_lowercase();
        let gone = match value {
            None => {
                sqlx::query!("delete from tag_name where subscription_id = $1 and name_key = $2", subscription.0, key)
                    .execute(&mut *tx)
                    .await?
            }
            Some(value) => {
                sqlx::query!(
                    "delete from tag_value where subscription_id = $1 and name_key = $2 and value = $3",
                    subscription.0,
                    key,
                    value,
                )
                .execute(&mut *tx)
                .await?
            }
        };
        activity::insert(&mut tx, recorded.as_slice()).await?;
        tx.commit().await?;
        Ok(gone.rows_affected() > 0)
    }
}

async fn write(
    connection: &mut PgConnection,
    scope: &Scope,
    tags: &Tags,
    caller: PrincipalId,
    at: Timestamp,
    why: &str,
) -> Result<(), StoreError> {
    let document = Document::of(tags)?;
    match scope {
        Scope::Subscription(id) => {
            sqlx::query!("update subscription set tags = $2 where id = $1", id.0, document as _).execute(connection).await?;
        }
        Scope::Resource(id) => {
            sqlx::query!(
                r#"
                with changed as (
                    update resource
                    set tags = $2, updated_at = $3, generation = generation + 1, revision = revision + 1
                    where key = $1
                    returning uid, path
                )
                insert into event (at, resource_uid, path, caller, what, why)
                select $3, uid, path, $4, 'updated', $5
                from changed
                "#,
                id.key(),
                document as _,
                at,
                caller.0,
                why,
            )
            .execute(connection)
            .await?;
        }
    }
    Ok(())
}
