//! Locks: what may not be changed or deleted, whoever asks. Pure.

use serde::{Deserialize, Serialize};

use crate::domain::scope::covers;

/// What a lock refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Deleting.
    CanNotDelete,
    /// Every change, actions included.
    ReadOnly,
}

impl Level {
    /// The level as store and wire write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::CanNotDelete => "CanNotDelete",
            Level::ReadOnly => "ReadOnly",
        }
    }

    /// The level that the store wrote, if it is one.
    pub fn find(text: &str) -> Option<Level> {
        [Level::CanNotDelete, Level::ReadOnly].into_iter().find(|level| level.as_str() == text)
    }
}

/// An application that a lock is said to be of; for clients alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockOwner {
    /// Its client id.
    pub application_id: String,
}

/// A lock that a user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLock {
    /// Its name, one of a kind at its scope without regard to case.
    pub name: String,
    /// What it refuses.
    pub level: Level,
    /// What people say about it.
    pub notes: Option<String>,
    /// Applications that it is said to be of.
    pub owners: Option<Vec<LockOwner>>,
}

/// A lock as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The key of the scope; what is below it is locked too.
    pub key: String,
    /// The scope as answers show it.
    pub scope: String,
    /// Name, level and what is said about it.
    pub is: NewLock,
}

/// What a request wants to do to what a lock may be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Makes, changes or acts.
    Write,
    /// Deletes something that hangs on the scope, such as a role assignment; the scope itself stays.
    DeleteAt,
    /// Deletes the scope with all that is below it.
    Delete,
}

/// The scopes whose locks forbid a deed at `key`, without repetition, outermost first.
///
/// Locks are inherited downwards. A scope cannot be deleted with something locked in it.
pub fn forbidding<'a>(locks: &'a [Lock], deed: Deed, key: &str) -> Vec<&'a str> {
    let forbids = |lock: &&Lock| match deed {
        Deed::Write => lock.is.level == Level::ReadOnly && covers(&lock.key, key),
        Deed::DeleteAt => covers(&lock.key, key),
        Deed::Delete => covers(&lock.key, key) || covers(key, &lock.key),
    };
    let mut found: Vec<&Lock> = locks.iter().filter(forbids).collect();
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found.dedup_by(|a, b| a.key == b.key);
    found.into_iter().map(|lock| lock.scope.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(key: &str, level: Level) -> Lock {
        let is = NewLock { name: "l".into(), level, notes: None, owners: None };
        Lock { key: key.into(), scope: key.into(), is }
    }

    #[test]
    fn locks_are_inherited_and_the_strictest_wins() {
        use Deed::{Delete, DeleteAt, Write};
        let (sub, group, workspace, cluster) = ("/s", "/s/g", "/s/g/w", "/s/g/w/c");
        let table = [
            // lock, level, deed, at, whether it is forbidden
            (group, Level::CanNotDelete, Write, workspace, false),
            (group, Level::CanNotDelete, Delete, workspace, true),
            (group, Level::CanNotDelete, DeleteAt, workspace, true),
            (group, Level::ReadOnly, Write, workspace, true),
            (group, Level::ReadOnly, Write, group, true),
            (group, Level::ReadOnly, Write, sub, false),
            (group, Level::ReadOnly, Delete, cluster, true),
            (cluster, Level::CanNotDelete, Delete, group, true),
            (cluster, Level::CanNotDelete, DeleteAt, group, false),
            (cluster, Level::ReadOnly, Write, workspace, false),
            (cluster, Level::ReadOnly, Delete, "/s/g/w/c2", false),
            ("/s/g2", Level::ReadOnly, Delete, group, false),
        ];
        for (at, level, deed, key, forbidden) in table {
            assert_eq!(!forbidding(&[lock(at, level)], deed, key).is_empty(), forbidden, "{level:?} at {at}: {deed:?} of {key}");
        }
        let both = [lock(group, Level::CanNotDelete), lock(sub, Level::ReadOnly), lock(sub, Level::CanNotDelete)];
        assert_eq!(forbidding(&both, Write, cluster), [sub]);
        assert_eq!(forbidding(&both, Delete, cluster), [sub, group]);
    }
}
