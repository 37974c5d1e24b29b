//! Where roles are held and locks are set: a subscription, a group or a resource, with all that is below it.

use std::fmt;

use crate::id::{ResourceId, SubscriptionId};

/// A subscription, a group or a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A whole subscription.
    Subscription(SubscriptionId),
    /// A group or a resource below one.
    Resource(ResourceId),
}

impl Scope {
    /// The subscription that it is or lies in.
    pub fn subscription(&self) -> SubscriptionId {
        match self {
            Scope::Subscription(id) => *id,
            Scope::Resource(id) => id.subscription(),
        }
    }

    /// The group or resource; `None` for a subscription.
    pub fn resource(&self) -> Option<&ResourceId> {
        match self {
            Scope::Subscription(_) => None,
            Scope::Resource(id) => Some(id),
        }
    }

    /// The scope as answers show it.
    pub fn path(&self) -> String {
        match self {
            Scope::Subscription(id) => format!("/subscriptions/{id}"),
            Scope::Resource(id) => id.path(),
        }
    }

    /// What scopes are compared by: the path in lower case.
    pub fn key(&self) -> String {
        match self {
            Scope::Subscription(id) => format!("/subscriptions/{id}"),
            Scope::Resource(id) => id.key(),
        }
    }

    /// The scope that a text names, in any case: the id of a subscription, group or resource.
    pub fn parse(text: &str) -> Option<Scope> {
        let mut segments = text.strip_prefix('/')?.split('/');
        if let (Some(first), Some(id), None) = (segments.next(), segments.next(), segments.next()) {
            let id = uuid::Uuid::try_parse(id).ok().filter(|_| id.len() == 36 && first.eq_ignore_ascii_case("subscriptions"))?;
            return Some(Scope::Subscription(SubscriptionId(id)));
        }
        ResourceId::parse(text).ok().map(Scope::Resource)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// Whether `scope` is `key` or something above it. Both are keys: lower case, no final slash.
pub fn covers(scope: &str, key: &str) -> bool {
    // An empty scope would be everything, and nothing is held there.
    !scope.is_empty() && key.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUB: &str = "11111111-2222-3333-4444-555555555555";

    #[test]
    fn a_scope_is_read_in_any_case_and_shown_in_one() {
        let subscription = Scope::parse(&format!("/Subscriptions/{}", SUB.to_uppercase())).expect("a subscription");
        assert_eq!(subscription.path(), format!("/subscriptions/{SUB}"));
        let group = Scope::parse(&format!("/subscriptions/{SUB}/resourcegroups/A-b")).expect("a group");
        assert_eq!(group.path(), format!("/subscriptions/{SUB}/resourceGroups/A-b"));
        assert_eq!(group.key(), format!("/subscriptions/{SUB}/resourcegroups/a-b"));
        for wrong in ["", "/", "/subscriptions", "/subscriptions/x", "/subscriptions/", &format!("/tenants/{SUB}"), SUB] {
            assert_eq!(Scope::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_scope_ends_at_a_segment() {
        assert!(covers("/subscriptions/s", "/subscriptions/s"));
        assert!(covers("/subscriptions/s", "/subscriptions/s/resourcegroups/g"));
        assert!(!covers("/subscriptions/s/resourcegroups/g", "/subscriptions/s/resourcegroups/g2"));
        assert!(!covers("/subscriptions/s/resourcegroups/g", "/subscriptions/s"));
        assert!(!covers("", "/subscriptions/s"));
        assert!(!covers("/", "/subscriptions/s"));
    }
}
