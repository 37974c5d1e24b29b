//! A row as queries give it, and as the rest of the program knows it.

use crate::clock::Timestamp;
use crate::domain::cluster::NodeCounts;
use crate::domain::job::Phase;
use crate::domain::resource::{Envelope, Live, Provisioning, Resource};
use crate::id::{ResourceUid, SubscriptionId};
use crate::store::StoreError;
use crate::store::document::Document;
use crate::store::snapshot::word;

/// A resource's row; the counts are those of a cluster's nodes.
pub(super) struct ResourceRow {
    pub(super) uid: uuid::Uuid,
    pub(super) subscription_id: uuid::Uuid,
    pub(super) key: String,
    pub(super) path: String,
    pub(super) name: String,
    pub(super) location: String,
    pub(super) tags: Option<Document>,
    pub(super) spec: Document,
    pub(super) status: Document,
    pub(super) provisioning: String,
    pub(super) provisioned_at: Timestamp,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) generation: i64,
    pub(super) revision: i64,
    pub(super) phase: Option<String>,
    pub(super) idle: Option<i64>,
    pub(super) running: Option<i64>,
    pub(super) preparing: Option<i64>,
    pub(super) unusable: Option<i64>,
    pub(super) leaving: Option<i64>,
}

impl ResourceRow {
    pub(super) fn read<K: Resource>(self) -> Result<Envelope<K>, StoreError> {
        let mut status: K::Status = self.status.read("status")?;
        let count = |count: Option<i64>| count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
        let live = Live {
            phase: self.phase.as_deref().map(|phase| word("job's phase", phase, Phase::find)).transpose()?,
            nodes: NodeCounts {
                idle: count(self.idle),
                running: count(self.running),
                preparing: count(self.preparing),
                unusable: count(self.unusable),
                leaving: count(self.leaving),
            },
        };
        K::complete(&mut status, &live);
        Ok(Envelope {
            uid: ResourceUid(self.uid),
            subscription: SubscriptionId(self.subscription_id),
            path: self.path,
            name: self.name,
            location: self.location,
            tags: self.tags.map(|tags| tags.read("tags")).transpose()?,
            spec: self.spec.read("spec")?,
            status,
            provisioning: word("provisioning", &self.provisioning, Provisioning::find)?,
            provisioned_at: self.provisioned_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
            generation: self.generation,
            revision: self.revision,
        })
    }
}
