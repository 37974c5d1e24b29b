//! Clusters.

use super::activity::{carried_out, is_recorded};
use super::create::{Making, Wanted};
use super::missing::deleting;
use super::operation::asked_by;
use super::workspace::came_and_went;
use super::{NewCluster, Put, Service};
use crate::auth::Caller;
use crate::clock::Timestamp;
use crate::domain::cluster::{Allocation, Cluster, ClusterSpec, ClusterStatus, NodeCounts, Scale};
use crate::domain::resource::Envelope;
use crate::error::{Error, ErrorCode, Violation, Violations};
use crate::id::ResourceId;
use crate::store::Document;
use crate::store::resource::{self, Change, Patched};
use crate::wake::Topic;

/// The members of a cluster's stored spec that a change of its scale replaces.
#[derive(serde::Serialize)]
struct ScalePatch {
    scale: Scale,
}

/// The members of its stored status that change with its target.
#[derive(serde::Serialize)]
struct ResizingPatch {
    allocation: Allocation,
    #[serde(with = "time::serde::rfc3339")]
    allocation_changed_at: Timestamp,
}

impl Service {
    /// Makes a cluster. One that exists and differs in its scale alone is resized.
    ///
    /// # Errors
    /// `InvalidPropertyValue` for a VM size that is not offered, `ClusterQuotaReached`, `Conflict` where a cluster of another kind exists
    /// or it or its parent is being deleted, its parents' `NotFound` codes, `ServiceUnavailable`.
    pub async fn put_cluster(&self, caller: &Caller, id: &ResourceId, new: NewCluster) -> Result<Put<Cluster>, Error> {
        // An update that leaves its size alone is not refused for a size that is no longer offered, so that what exists comes first.
        if let Some(found) = resource::find::<Cluster>(self.pool(), &id.key()).await? {
            return self.put_existing_cluster(caller, id, found, &new.spec).await;
        }
        self.admit_size(&new.spec)?;
        let at = self.now();
        let target = new.spec.scale.first_target();
        let status = ClusterStatus {
            allocation: if target == 0 { Allocation::Steady } else { Allocation::Resizing },
            allocation_changed_at: at,
            errors: Vec::new(),
            output_uuid: uuid::Uuid::new_v4(),
            nodes: NodeCounts::default(),
        };
        let most = self.inner.limits.clusters;
        let wanted = Wanted::<Cluster> {
            id,
            location: None,
            tags: None,
            spec: new.spec.clone(),
            status,
            secrets: &new.secrets,
            most: Some(most),
            at,
        };
        match self.make(caller, wanted).await? {
            Making::Made(envelope, operation) => Ok(Put::Created(*envelope, operation)),
            Making::Full(count) => Err(Error::new(
                ErrorCode::ClusterQuotaReached,
                format!(
                    "Operation results in exceeding quota limits of Microsoft.BatchAI/clusters. Maximum allowed: {most}, Current in \
                     use: {count}. Please contact support to increase the quota for resource type Microsoft.BatchAI/clusters"
                ),
            )),
            Making::Refused => {
                let found = self.existing::<Cluster>(id).await?;
                self.put_existing_cluster(caller, id, found, &new.spec).await
            }
        }
    }

    async fn put_existing_cluster(
        &self,
        caller: &Caller,
        id: &ResourceId,
        found: Envelope<Cluster>,
        spec: &ClusterSpec,
    ) -> Result<Put<Cluster>, Error> {
        if found.provisioning == crate::domain::resource::Provisioning::Deleting {
            return Err(deleting(id));
        }
        let same = ClusterSpec { scale: found.spec.scale, ..spec.clone() } == found.spec;
        if !same {
            return Err(Error::new(
                ErrorCode::Conflict,
                format!(
                    "The cluster '{}' exists with other properties, and only its scaleSettings can be changed. Delete it first, or use \
                     another name.",
                    id.name()
                ),
            ));
        }
        Ok(Put::Existing(self.patch_cluster(caller, id, spec.scale).await?))
    }

    fn admit_size(&self, spec: &ClusterSpec) -> Result<(), Error> {
        if self.inner.sizes.iter().any(|size| size.name == spec.vm_size) {
            return Ok(());
        }
        let mut found = Violations::new();
        found.invalid(
            "properties.vmSize",
            format!(
                "The specified value {} for property Cluster.Properties.VMSize is not a supported VM size. See additional details for \
                 supported VM sizes.",
                spec.vm_size
            ),
        );
        let mut refused = found.into_result();
        if let Err(error) = &mut refused {
            let names: Vec<_> = self.inner.sizes.iter().map(|size| size.name.as_str()).collect();
            error.details.push(Violation { code: ErrorCode::SupportedVMSizes, target: String::new(), message: names.join(",") });
        }
        refused
    }

    /// Gives a cluster another scale.
    ///
    /// # Errors
    /// `ClusterNotFound` and its parents' codes, `Conflict` while it is being deleted, `ServiceUnavailable`.
    pub async fn patch_cluster(&self, caller: &Caller, id: &ResourceId, scale: Scale) -> Result<Envelope<Cluster>, Error> {
        let at = self.now();
        let change = Change {
            tags: None,
            spec: Some(Document::of(&ScalePatch { scale })?),
            resizing: Some(Document::of(&ResizingPatch { allocation: Allocation::Resizing, allocation_changed_at: at })?),
            activity: carried_out(caller, at, 200, None),
        };
        let patched =
            resource::change::<Cluster>(self.pool(), &id.key(), &change, caller.principal, at, &asked_by(caller)).await?;
        match patched {
            Patched::Done(cluster) => {
                is_recorded(caller);
                self.inner.wake.changed(Topic::Reconcile);
                Ok(cluster)
            }
            Patched::Deleting => Err(deleting(id)),
            Patched::Absent => match self.find_obstacle(id).await? {
                Some(error) => Err(error),
                None => Err(came_and_went(id)),
            },
        }
    }
}
