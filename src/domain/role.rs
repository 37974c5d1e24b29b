//! Roles: what they allow, and whether one gives more than another. Pure.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id::{PrincipalId, ResourceUid, TenantId};

/// Longest pattern of an action. Unit: bytes.
pub const MAX_PATTERN: usize = 256;

/// Patterns of actions that a role allows, and excepts from them. `*` stands for any text; case does not count.
///
/// Data actions are kept and shown: nothing here asks for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// What is allowed.
    pub actions: Vec<String>,
    /// What is excepted.
    pub not_actions: Vec<String>,
    /// What is allowed with data.
    #[serde(default)]
    pub data_actions: Vec<String>,
    /// What is excepted with data.
    #[serde(default)]
    pub not_data_actions: Vec<String>,
}

impl Permissions {
    /// Whether an action such as `Microsoft.BatchAI/workspaces/read` is allowed.
    pub fn allow(&self, action: &str) -> bool {
        // An action is provider, type and verb; anything else is a fault of the route table and is allowed to nobody.
        let sound = action.split('/').count() >= 3 && !action.split('/').any(str::is_empty) && !action.contains('*');
        let fits = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern.as_bytes(), action.as_bytes()));
        sound && fits(&self.actions) && !fits(&self.not_actions)
    }
}

/// Whether all that `wanted` allows is allowed by `held`. Never says so wrongly; where it cannot tell, it says no.
///
/// Source of the rule: nobody gives what they do not hold, whatever role lets them give.
pub fn holds_all(held: &[Permissions], wanted: &[Permissions]) -> bool {
    wanted.iter().all(|wanted| wanted.actions.iter().all(|action| held.iter().any(|held| holds(held, action, wanted))))
}

fn holds(held: &Permissions, action: &str, wanted: &Permissions) -> bool {
    let excepted_too = |exception: &str| wanted.not_actions.iter().any(|not| covers(not, exception));
    held.actions.iter().any(|pattern| covers(pattern, action))
        && held.not_actions.iter().all(|exception| !overlap(exception.as_bytes(), action.as_bytes()) || excepted_too(exception))
}

/// Whether a pattern fits everything that `inner` fits: a `*` of `inner` is taken for a letter that only a `*` fits.
fn covers(pattern: &str, inner: &str) -> bool {
    fits(pattern.as_bytes(), inner.as_bytes())
}

/// Whether a text fits a pattern as a whole. Linear in the text for each `*`.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last star is, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while let Some(letter) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if wanted.eq_ignore_ascii_case(letter) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|letter| *letter == b'*'))
}

/// Whether some text fits both patterns.
fn overlap(a: &[u8], b: &[u8]) -> bool {
    // Row by row: whether what is left of `a` from here and what is left of `b` from there have a text in common.
    let stars = |rest: &[u8]| rest.iter().all(|letter| *letter == b'*');
    let mut below: Vec<bool> = (0..=b.len()).map(|j| b.get(j..).is_some_and(stars)).collect();
    for i in (0..a.len()).rev() {
        let left = a.get(i..).unwrap_or_default();
        let mut row = vec![false; b.len() + 1];
        for j in (0..=b.len()).rev() {
            let at = |row: &[bool], j: usize| row.get(j).copied().unwrap_or(false);
            let met = match (a.get(i), b.get(j)) {
                (_, None) => stars(left),
                (Some(b'*'), _) | (_, Some(b'*')) => at(&below, j) || at(&row, j + 1) || at(&below, j + 1),
                (Some(x), Some(y)) => x.eq_ignore_ascii_case(y) && at(&below, j + 1),
                (None, _) => false,
            };
            if let Some(cell) = row.get_mut(j) {
                *cell = met;
            }
        }
        below = row;
    }
    below.first().copied().unwrap_or(false)
}

/// A role: a name for permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleDefinition {
    /// The GUID in its path.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What people say about it.
    pub description: String,
    /// Whether it is part of the program.
    pub built_in: bool,
    /// What it allows.
    pub permissions: Vec<Permissions>,
    /// Paths of the scopes at or below which it may be assigned; `/` is everywhere.
    pub assignable_scopes: Vec<String>,
    /// Who made it when, and who last changed it when; `None` for built-in roles.
    pub written: Option<Written>,
}

/// Who made something when, and who last changed it when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it; `None` for those who run the installation.
    pub created_by: Option<PrincipalId>,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Who last changed it.
    pub updated_by: Option<PrincipalId>,
}

/// A role that a user defines.
#[derive(Clone, Debug)]
pub struct NewRole {
    /// The GUID in its path.
    pub id: Uuid,
    /// The directory that it is of.
    pub tenant: TenantId,
    /// Its name, one of a kind in its directory without regard to case.
    pub name: String,
    /// What people say about it.
    pub description: String,
    /// What it allows.
    pub permissions: Vec<Permissions>,
    /// Paths of the scopes at or below which it may be assigned.
    pub assignable_scopes: Vec<String>,
}

/// A role held by someone somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The role's name.
    pub name: String,
    /// What it allows.
    pub permissions: Vec<Permissions>,
    /// The key of the scope; what is below it is included.
    pub scope: String,
}

/// A role assignment as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The GUID in its path.
    pub id: Uuid,
    /// Who holds the role.
    pub principal: PrincipalId,
    /// What the principal is called; for clients alone.
    pub principal_type: Option<String>,
    /// The role.
    pub role: Uuid,
    /// Where, as answers show it.
    pub scope: String,
    /// What people say about it.
    pub description: Option<String>,
    /// Who granted it, and who last wrote it.
    pub written: Written,
}

/// A role assignment that is to be made.
#[derive(Clone, Debug)]
pub struct NewAssignment {
    /// The GUID in its path.
    pub id: Uuid,
    /// Who is to hold the role.
    pub principal: PrincipalId,
    /// What the principal is called.
    pub principal_type: Option<String>,
    /// The role.
    pub role: Uuid,
    /// What people say about it.
    pub description: Option<String>,
    /// The resource that it hangs on and goes with.
    pub resource: Option<ResourceUid>,
}

/// The GUID of Owner.
pub const OWNER: Uuid = Uuid::from_u128(0x8e3af657_a8ff_443c_a75c_2fe8c4bcb635);

/// The GUID of Contributor.
pub const CONTRIBUTOR: Uuid = Uuid::from_u128(0xb24988ac_6180_42a0_ab88_20f7382dd24c);

/// The GUID of Reader.
pub const READER: Uuid = Uuid::from_u128(0xacdd72a7_3385_48ef_bd42_f606fba81ae7);

/// The GUID of User Access Administrator.
pub const ACCESS_ADMINISTRATOR: Uuid = Uuid::from_u128(0x18d7d88d_d35e_4fb5_a5c3_7773c20a72d9);

/// The roles that every directory has.
///
/// Source: Azure's built-in roles, their GUIDs, names, descriptions and actions.
static BUILT_IN: LazyLock<Vec<RoleDefinition>> = LazyLock::new(|| {
    let role = |id, name: &str, description: &str, actions: &[&str], not_actions: &[&str]| RoleDefinition {
        id,
        name: name.to_owned(),
        description: description.to_owned(),
        built_in: true,
        permissions: vec![Permissions {
            actions: actions.iter().map(|action| (*action).to_owned()).collect(),
            not_actions: not_actions.iter().map(|action| (*action).to_owned()).collect(),
            ..Permissions::default()
        }],
        assignable_scopes: vec!["/".to_owned()],
        written: None,
    };
    let no_grants =
        ["Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write", "Microsoft.Authorization/elevateAccess/Action"];
    let access = ["*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"];
    vec![
        role(OWNER, "Owner", "May do everything, and give roles to others.", &["*"], &[]),
        role(CONTRIBUTOR, "Contributor", "May do everything but give roles to others and set locks.", &["*"], &no_grants),
        role(READER, "Reader", "May see everything and change nothing.", &["*/read"], &[]),
        role(
            ACCESS_ADMINISTRATOR,
            "User Access Administrator",
            "May see everything, and give the roles that it holds to others.",
            &access,
            &[],
        ),
    ]
});

/// The roles that every directory has.
pub fn built_in() -> &'static [RoleDefinition] {
    &BUILT_IN
}

/// The built-in role of a GUID.
pub fn find_built_in(id: Uuid) -> Option<&'static RoleDefinition> {
    built_in().iter().find(|role| role.id == id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn may(id: Uuid, action: &str) -> bool {
        find_built_in(id).expect("built in").permissions.iter().any(|permissions| permissions.allow(action))
    }

    #[test]
    fn role_matrix() {
        let actions = [
            // action, owner, contributor, reader, access administrator
            ("Microsoft.BatchAI/workspaces/read", true, true, true, true),
            ("Microsoft.BatchAI/workspaces/experiments/jobs/READ", true, true, true, true),
            ("Microsoft.BatchAI/workspaces/write", true, true, false, false),
            ("Microsoft.BatchAI/workspaces/delete", true, true, false, false),
            ("Microsoft.BatchAI/workspaces/experiments/jobs/terminate/action", true, true, false, false),
            ("Microsoft.BatchAI/workspaces/experiments/jobs/listoutputfiles/action", true, true, false, false),
            ("Microsoft.BatchAI/workspaces/clusters/remoteLoginInformation/action", true, true, false, false),
            ("Microsoft.BatchAI/register/action", true, true, false, false),
            ("Microsoft.Resources/tags/write", true, true, false, false),
            ("Microsoft.Authorization/roleAssignments/read", true, true, true, true),
            ("Microsoft.Authorization/roleAssignments/write", true, false, false, true),
            ("microsoft.authorization/roleassignments/delete", true, false, false, true),
            ("Microsoft.Authorization/locks/write", true, false, false, true),
            ("Microsoft.Authorization/elevateAccess/Action", true, false, false, true),
            ("Microsoft.BatchAI/read", false, false, false, false),
            ("Microsoft.BatchAI/*/read", false, false, false, false),
            ("read", false, false, false, false),
            ("/read", false, false, false, false),
            ("", false, false, false, false),
        ];
        for (action, owner, contributor, reader, administrator) in actions {
            let wanted = [(OWNER, owner), (CONTRIBUTOR, contributor), (READER, reader), (ACCESS_ADMINISTRATOR, administrator)];
            for (id, wanted) in wanted {
                assert_eq!(may(id, action), wanted, "{id} {action}");
            }
        }
    }

    #[test]
    fn nobody_gives_more_than_they_hold() {
        let of = |id| find_built_in(id).expect("built in").permissions.clone();
        let table = [
            (OWNER, OWNER, true),
            (OWNER, ACCESS_ADMINISTRATOR, true),
            (CONTRIBUTOR, OWNER, false),
            (CONTRIBUTOR, CONTRIBUTOR, true),
            (CONTRIBUTOR, READER, true),
            (READER, CONTRIBUTOR, false),
            (ACCESS_ADMINISTRATOR, OWNER, false),
            (ACCESS_ADMINISTRATOR, CONTRIBUTOR, false),
            (ACCESS_ADMINISTRATOR, READER, true),
            (ACCESS_ADMINISTRATOR, ACCESS_ADMINISTRATOR, true),
        ];
        for (held, wanted, may) in table {
            assert_eq!(holds_all(&of(held), &of(wanted)), may, "{held} gives {wanted}");
        }
        assert!(!holds_all(&[], &of(READER)));
        let exact = Permissions { actions: vec!["a/b/read".into()], ..Permissions::default() };
        let star = Permissions { actions: vec!["a/*/read".into()], ..Permissions::default() };
        assert!(holds_all(std::slice::from_ref(&star), std::slice::from_ref(&exact)));
        assert!(!holds_all(&[exact], &[star]));
    }

    fn pattern() -> impl Strategy<Value = String> {
        "[ab/*]{1,6}"
    }

    fn permissions() -> impl Strategy<Value = Permissions> {
        (proptest::collection::vec(pattern(), 0..3), proptest::collection::vec(pattern(), 0..3))
            .prop_map(|(actions, not_actions)| Permissions { actions, not_actions, ..Permissions::default() })
    }

    proptest! {
        /// Whatever is held to be no more than what someone holds allows nothing that they may not do.
        #[test]
        fn grants_never_exceed_the_granter(
            held in proptest::collection::vec(permissions(), 0..3),
            wanted in proptest::collection::vec(permissions(), 0..3),
            actions in proptest::collection::vec("[ab]{1,2}/[ab]{1,2}/[ab]{1,2}", 1..20),
        ) {
            if holds_all(&held, &wanted) {
                for action in &actions {
                    let given = wanted.iter().any(|permissions| permissions.allow(action));
                    prop_assert!(!given || held.iter().any(|permissions| permissions.allow(action)), "{}", action);
                }
            }
        }

        #[test]
        fn patterns_that_share_a_text_overlap(a in pattern(), b in pattern(), text in "[ab/]{0,6}") {
            if fits(a.as_bytes(), text.as_bytes()) && fits(b.as_bytes(), text.as_bytes()) {
                prop_assert!(overlap(a.as_bytes(), b.as_bytes()));
            }
        }
    }
}
