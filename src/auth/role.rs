//! What a role allows, and where. Pure.

use crate::domain::principal::{Grant, Role};

/// Whether one of `grants` allows `action` at the scope of `key`. Deny by default.
pub(super) fn permits(grants: &[Grant], action: &str, key: &str) -> bool {
    grants.iter().any(|grant| covers(&grant.scope, key) && allows(grant.role, action))
}

/// Whether `scope` is `key` or something above it. Both are keys: lower case, no final slash.
fn covers(scope: &str, key: &str) -> bool {
    // An empty scope would be everything, and nothing grants that.
    !scope.is_empty() && key.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a role includes an action such as `Microsoft.BatchAI/workspaces/read`, in any case.
///
/// Source: Azure's definitions: Owner `*`; Contributor `*` but `Microsoft.Authorization/*/Write`, `.../*/Delete` and
/// `.../elevateAccess/Action`; Reader `*/read`.
fn allows(role: Role, action: &str) -> bool {
    let action = action.to_ascii_lowercase();
    // An action is provider, type and verb; anything else is a fault of the route table and allows nothing.
    if action.split('/').count() < 3 || action.split('/').any(str::is_empty) {
        return false;
    }
    match role {
        Role::Owner => true,
        Role::Contributor => {
            let grants = action.starts_with("microsoft.authorization/");
            !(grants && (action.ends_with("/write") || action.ends_with("/delete") || action.ends_with("/elevateaccess/action")))
        }
        Role::Reader => action.ends_with("/read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "/subscriptions/s/resourcegroups/g/providers/microsoft.batchai/workspaces/w/experiments/e/jobs/j";

    fn grant(role: Role, scope: &str) -> Vec<Grant> {
        vec![Grant { role, scope: scope.into() }]
    }

    #[test]
    fn role_matrix() {
        let actions = [
            // action, owner, contributor, reader
            ("Microsoft.BatchAI/workspaces/read", true, true, true),
            ("Microsoft.BatchAI/workspaces/experiments/jobs/READ", true, true, true),
            ("Microsoft.BatchAI/workspaces/write", true, true, false),
            ("Microsoft.BatchAI/workspaces/delete", true, true, false),
            ("Microsoft.BatchAI/workspaces/experiments/jobs/terminate/action", true, true, false),
            ("Microsoft.BatchAI/workspaces/experiments/jobs/listoutputfiles/action", true, true, false),
            ("Microsoft.BatchAI/workspaces/clusters/remoteLoginInformation/action", true, true, false),
            ("Microsoft.BatchAI/register/action", true, true, false),
            ("Microsoft.Authorization/roleAssignments/read", true, true, true),
            ("Microsoft.Authorization/roleAssignments/write", true, false, false),
            ("microsoft.authorization/roleassignments/delete", true, false, false),
            ("Microsoft.Authorization/elevateAccess/Action", true, false, false),
            ("Microsoft.BatchAI/read", false, false, false),
            ("read", false, false, false),
            ("/read", false, false, false),
            ("", false, false, false),
        ];
        for (action, owner, contributor, reader) in actions {
            for (role, expected) in [(Role::Owner, owner), (Role::Contributor, contributor), (Role::Reader, reader)] {
                assert_eq!(permits(&grant(role, "/subscriptions/s"), action, JOB), expected, "{role:?} {action}");
            }
        }
        assert!(!permits(&[], "Microsoft.BatchAI/workspaces/read", JOB), "nobody may do anything by default");
    }

    #[test]
    fn a_scope_ends_at_a_segment() {
        let read = "Microsoft.BatchAI/workspaces/read";
        let may = |scope: &str, key: &str| permits(&grant(Role::Reader, scope), read, key);
        assert!(may("/subscriptions/s", "/subscriptions/s"));
        assert!(may("/subscriptions/s/resourcegroups/g", JOB));
        assert!(may(JOB, JOB));
        assert!(!may("/subscriptions/s/resourcegroups/g", "/subscriptions/s/resourcegroups/g2"));
        assert!(!may("/subscriptions/s/resourcegroups/g", "/subscriptions/s"), "nothing above the scope");
        assert!(!may("/subscriptions/s2", JOB));
        assert!(!may("", JOB));
        assert!(!may("/", JOB));
        assert!(!may(JOB, &JOB.to_ascii_uppercase()), "keys are folded before they come here");
    }
}
