//! Who may sign in, and what they may do where.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::role;
use crate::id::{PrincipalId, SubscriptionId, TenantId};

/// Someone who may sign in: a program, as the client-credentials grant knows no people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its object id.
    pub id: PrincipalId,
    /// The directory that it is in.
    pub tenant: TenantId,
    /// The name that it signs in with.
    pub client_id: String,
    /// What lists show.
    pub display_name: String,
    /// Tokens issued before this are refused. Whole seconds, as tokens tell their time.
    pub valid_after: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A role and where it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What may be done.
    pub role: Role,
    /// The key of a subscription, group or resource; what is below it is included.
    pub scope: String,
}

/// Who asks for a principal to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Someone who made it by command, or the first start.
    Command,
    /// The settings of a server.
    Settings,
}

/// A principal with what it may do, for those who run the installation.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Who.
    pub principal: Principal,
    /// Who asks for it.
    pub origin: Origin,
    /// Names of roles and where they are held.
    pub roles: Vec<(String, String)>,
}

/// A built-in role.
///
/// Source: the definitions of Owner, Contributor and Reader in Azure's role-based access control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May do everything.
    Owner,
    /// May do everything but change who may do what.
    Contributor,
    /// May read. An action that is not a read, such as listing files with links, is not included.
    Reader,
}

impl Role {
    /// The role as the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Contributor => "contributor",
            Role::Reader => "reader",
        }
    }

    /// The GUID of the role's definition.
    pub fn id(self) -> Uuid {
        match self {
            Role::Owner => role::OWNER,
            Role::Contributor => role::CONTRIBUTOR,
            Role::Reader => role::READER,
        }
    }

    /// The role whose definition has this GUID, if it is one of these.
    pub fn of(id: Uuid) -> Option<Role> {
        [Role::Owner, Role::Contributor, Role::Reader].into_iter().find(|role| role.id() == id)
    }

    /// The role that the store wrote, if it is one.
    pub fn find(text: &str) -> Option<Role> {
        [Role::Owner, Role::Contributor, Role::Reader].into_iter().find(|role| role.as_str() == text)
    }
}

/// What an installation is called in its own database.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InstallationIds {
    /// The directory.
    pub tenant: TenantId,
    /// The subscription that was made first.
    pub subscription: SubscriptionId,
    /// That subscription's first owner.
    pub owner: PrincipalId,
    /// The name that this owner signs in with.
    pub client_id: String,
}
