//! Tags of subscriptions, groups and resources, and the list of names that a subscription keeps.

use std::collections::BTreeMap;

use super::Service;
use super::activity::{carried_out, is_recorded};
use super::missing::{absent, deleting};
use super::operation::asked_by;
use crate::auth::Caller;
use crate::domain::scope::Scope;
use crate::error::{Error, ErrorCode};
use crate::id::{Kind, SubscriptionId};
use crate::store::tag::{TagName, TagUse, Tagged};

/// How often a tag occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagCount {
    /// A value.
    pub value: String,
    /// Resources that have it.
    pub count: i64,
}

/// A name of tags: kept in the subscription's list, or in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagUsed {
    /// The name.
    pub name: String,
    /// Its values, kept or in use.
    pub values: Vec<TagCount>,
}

impl TagUsed {
    /// Resources that have the name.
    pub fn count(&self) -> i64 {
        self.values.iter().map(|value| value.count).sum()
    }
}

/// Whether resources of a kind have tags.
///
/// Source: openapi 2018-05-01, where workspaces alone are tracked resources.
pub(super) fn has_tags(kind: Kind) -> bool {
    matches!(kind, Kind::Group | Kind::Workspace)
}

impl Service {
    /// Changes the tags at a scope to what `change` makes of those that are there.
    ///
    /// # Errors
    /// Those of `change`; `InvalidTags` where what is there has no tags; the code of absence; `Conflict` and
    /// `ResourceGroupBeingDeleted`; `ServiceUnavailable`.
    pub async fn change_tags(
        &self,
        caller: &Caller,
        scope: &Scope,
        change: impl FnOnce(BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> + Send,
    ) -> Result<BTreeMap<String, String>, Error> {
        check_kind(scope)?;
        let at = self.now();
        let row = carried_out(caller, at, 200, None);
        let changed = self.inner.store.change_tags(scope, change, caller.principal, at, &asked_by(caller), row).await?;
        match (changed, scope.resource()) {
            (Tagged::Done(tags), _) => {
                is_recorded(caller);
                self.inner.changes.hint();
                if matches!(scope, Scope::Subscription(_)) {
                    self.inner.subscriptions.invalidate(&scope.subscription());
                }
                Ok(tags)
            }
            (Tagged::NoScope, Some(id)) => Err(self.find_obstacle(id).await?.unwrap_or_else(|| deleting(id))),
            (Tagged::NoScope, None) => {
                Err(self.subscription(scope.subscription()).await.err().unwrap_or_else(|| Error::internal("no scope")))
            }
        }
    }

    /// The tags of a subscription itself.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn subscription_tags(&self, subscription: SubscriptionId) -> Result<BTreeMap<String, String>, Error> {
        Ok(self.inner.store.subscription_tags(subscription).await?)
    }

    /// The names of tags of a subscription, kept or in use, by name without regard to case.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn tag_names(&self, subscription: SubscriptionId) -> Result<Vec<TagUsed>, Error> {
        let kept = self.inner.store.tag_names(subscription).await?;
        Ok(merge(kept, self.inner.store.tag_uses(subscription).await?))
    }

    /// Keeps a name, and a value of it if one is given. Answers whether anything is new.
    ///
    /// # Errors
    /// `ServiceUnavailable`.
    pub async fn keep_tag_name(
        &self,
        caller: &Caller,
        subscription: SubscriptionId,
        name: &str,
        value: Option<&str>,
    ) -> Result<bool, Error> {
        let row = carried_out(caller, self.now(), 200, None);
        let new = self.inner.store.keep_tag_name(subscription, name, value, row).await.map_err(|error| {
            // The name of a value was deleted after it was looked at.
            if error.constraint() == Some("tag_value_name_fkey") {
                return Error::new(ErrorCode::NotFound, format!("The tag name '{name}' could not be found. Create it first."));
            }
            error.into()
        })?;
        is_recorded(caller);
        Ok(new)
    }

    /// Forgets a name, or one value of it, that no resource has. Answers whether there was one.
    ///
    /// # Errors
    /// `Conflict` where a resource has it; `ServiceUnavailable`.
    pub async fn forget_tag_name(
        &self,
        caller: &Caller,
        subscription: SubscriptionId,
        name: &str,
        value: Option<&str>,
    ) -> Result<bool, Error> {
        let uses = self.inner.store.tag_uses(subscription).await?;
        let same =
            |used: &&TagUse| used.name.to_lowercase() == name.to_lowercase() && value.is_none_or(|value| used.value == value);
        if uses.iter().any(|used| same(&used)) {
            let message = format!("The tag '{name}' is in use. Take it off all resources, then try again.");
            return Err(Error::new(ErrorCode::Conflict, message));
        }
        let gone =
            self.inner.store.forget_tag_name(subscription, name, value, carried_out(caller, self.now(), 200, None)).await?;
        is_recorded(caller);
        Ok(gone)
    }
}

/// Only what can have tags is asked for them.
///
/// # Errors
/// `InvalidTags`.
fn check_kind(scope: &Scope) -> Result<(), Error> {
    match scope.resource() {
        Some(id) if !has_tags(id.kind()) => {
            let message = format!("The resource type '{}' does not support tags.", id.kind().resource_type());
            Err(Error::new(ErrorCode::InvalidTags, message))
        }
        _ => Ok(()),
    }
}

fn merge(kept: Vec<TagName>, used: Vec<TagUse>) -> Vec<TagUsed> {
    let mut all: BTreeMap<String, TagUsed> = BTreeMap::new();
    for TagName { name, values } in kept {
        let values = values.into_iter().map(|value| TagCount { value, count: 0 }).collect();
        all.insert(name.to_lowercase(), TagUsed { name, values });
    }
    for TagUse { name, value, count } in used {
        let one = all.entry(name.to_lowercase()).or_insert_with(|| TagUsed { name, values: Vec::new() });
        match one.values.iter_mut().find(|known| known.value == value) {
            Some(known) => known.count += count,
            None => one.values.push(TagCount { value, count }),
        }
    }
    all.into_values().collect()
}

impl Service {
    /// The tags at a scope.
    ///
    /// # Errors
    /// `InvalidTags` where what is there has no tags; the code of absence; `ServiceUnavailable`.
    pub async fn tags(&self, scope: &Scope) -> Result<BTreeMap<String, String>, Error> {
        check_kind(scope)?;
        let Some(id) = scope.resource() else { return self.subscription_tags(scope.subscription()).await };
        let tags = match id.kind() {
            Kind::Group => self.get::<crate::domain::group::Group>(id).await?.tags,
            Kind::Workspace => self.get::<crate::domain::workspace::Workspace>(id).await?.tags,
            _ => return Err(absent(id)),
        };
        Ok(tags.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_without_regard_to_case() {
        let kept = vec![TagName { name: "Env".into(), values: vec!["dev".into()] }];
        let used = |name: &str, value: &str, count| TagUse { name: name.into(), value: value.into(), count };
        let all = merge(kept, vec![used("ENV", "dev", 1), used("env", "prod", 2), used("a", "", 1)]);
        assert_eq!(all.iter().map(|tag| (tag.name.as_str(), tag.count())).collect::<Vec<_>>(), [("a", 1), ("Env", 3)]);
        assert_eq!(all[1].values.len(), 2);
    }
}
