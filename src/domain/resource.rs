//! What all kinds of resources share: the envelope around a spec and a status.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::cluster::NodeCounts;
use crate::domain::job::Phase;
use crate::id::{Kind, ResourceId, ResourceUid, SubscriptionId};

/// A kind of resource: what users ask for and what is recorded about it. Both are stored as JSON documents.
pub trait Resource: Send + Sync + 'static {
    /// The kind's tag in store and router.
    const KIND: Kind;
    /// What users asked for; defaults filled in, secrets taken out.
    type Spec: Serialize + DeserializeOwned + Send + Sync + Clone + std::fmt::Debug;
    /// What the service recorded about it.
    type Status: Serialize + DeserializeOwned + Send + Sync + Clone + std::fmt::Debug;

    /// Fills in what a stored status lacks because it has columns or rows of its own.
    fn complete(status: &mut Self::Status, live: &Live) {
        let _ = (status, live);
    }
}

/// What a request expects of its resource, told by its conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// That it does not exist.
    Absent,
    /// That it is this one, and no request has changed it since.
    Is {
        /// Its identity.
        uid: ResourceUid,
        /// How often it was changed.
        generation: i64,
    },
}

impl Expected {
    /// Identity and generation as statements compare them; of what must be absent, those that nothing has.
    pub fn version(self) -> (uuid::Uuid, i64) {
        match self {
            Expected::Absent => (uuid::Uuid::nil(), 0),
            Expected::Is { uid, generation } => (uid.0, generation),
        }
    }
}

/// What a status shows and its document does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// For a job: where it is in its life.
    pub phase: Option<Phase>,
    /// For a cluster: its nodes by state.
    pub nodes: NodeCounts,
}

/// How far a resource's making or unmaking is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provisioning {
    /// It is being made.
    Creating,
    /// It exists.
    Succeeded,
    /// It is being deleted; it ends by not being there.
    Deleting,
    /// It could not be made.
    Failed,
}

impl Provisioning {
    /// The state as the store and the 2018-05-01 wire write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Provisioning::Creating => "creating",
            Provisioning::Succeeded => "succeeded",
            Provisioning::Deleting => "deleting",
            Provisioning::Failed => "failed",
        }
    }

    /// The state that the store wrote, if it is one.
    pub fn find(text: &str) -> Option<Provisioning> {
        [Provisioning::Creating, Provisioning::Succeeded, Provisioning::Deleting, Provisioning::Failed]
            .into_iter()
            .find(|p| p.as_str() == text)
    }
}

/// A stored resource.
#[derive(Clone, Debug)]
pub struct Envelope<K: Resource> {
    /// Its identity for its whole life.
    pub uid: ResourceUid,
    /// The subscription that it is in.
    pub subscription: SubscriptionId,
    /// The id as answers show it.
    pub path: String,
    /// Its own name as given at creation.
    pub name: String,
    /// Canonical region name (lower case, no blanks). Children carry their workspace's.
    pub location: String,
    /// Tags; `None` where none were ever given.
    pub tags: Option<BTreeMap<String, String>>,
    /// What the user asked for.
    pub spec: K::Spec,
    /// What the service recorded.
    pub status: K::Status,
    /// Making or unmaking.
    pub provisioning: Provisioning,
    /// When `provisioning` became what it is.
    pub provisioned_at: Timestamp,
    /// When the first PUT was accepted.
    pub created_at: Timestamp,
    /// When the stored entity was last changed by a request; the wire's `Last-Modified`.
    pub updated_at: Timestamp,
    /// Counts the changes by requests; the wire's `ETag`. Starts at 1.
    pub generation: i64,
    /// Counts every change of the row; status writes check it. Starts at 1.
    pub revision: i64,
}

impl<K: Resource> Envelope<K> {
    /// A resource as it is right after it was made at `at`, without tags.
    pub fn made(
        uid: ResourceUid,
        id: &ResourceId,
        location: String,
        spec: K::Spec,
        status: K::Status,
        at: Timestamp,
    ) -> Envelope<K> {
        Envelope {
            uid,
            subscription: id.subscription(),
            path: id.path(),
            name: id.name().to_owned(),
            location,
            tags: None,
            spec,
            status,
            provisioning: Provisioning::Succeeded,
            provisioned_at: at,
            created_at: at,
            updated_at: at,
            generation: 1,
            revision: 1,
        }
    }
}

/// An error that a resource shows about itself (`BatchAIError` on the wire).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityError {
    /// A stable code.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// Names and values that say more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<NameValue>,
}

impl EntityError {
    /// An error without details.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> EntityError {
        EntityError { code: code.into(), message: message.into(), details: Vec::new() }
    }

    /// The same error with one more detail.
    pub fn with_detail(mut self, name: impl Into<String>, value: impl Into<String>) -> EntityError {
        self.details.push(NameValue { name: name.into(), value: value.into() });
        self
    }
}

/// A name with a value: environment variables and details of errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameValue {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A status without anything to record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoStatus {}
