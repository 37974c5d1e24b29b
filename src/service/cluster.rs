//! Clusters.

use super::activity::{carried_out, is_recorded};
use super::create::{Begun, Making, Wanted};
use super::expect::{expected, moved};
use super::file_server::{full, name_alike};
use super::missing::deleting;
use super::workspace::came_and_went;
use super::{Checked, NewCluster, Put, Service};
use crate::auth::Caller;
use crate::clock::Timestamp;
use crate::domain::cluster::{Allocation, Cluster, ClusterSpec, ClusterStatus, NodeCounts, Scale};
use crate::domain::resource::Envelope;
use crate::error::{Error, ErrorCode, Violation, Violations};
use crate::id::{ResourceId, ResourceUid};
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
        self.admit_size(&new.spec.vm_size, "Cluster", is_for_clusters)?;
        let mut spec = new.spec.clone();
        let mounts = spec.node_setup.as_mut().and_then(|setup| setup.mount_volumes.as_mut());
        let servers = self.admit_servers(id, mounts, "properties.nodeSetup.mountVolumes").await?;
        let subnet = if spec.subnet.is_none() { servers.first().map(|server| server.subnet.clone()) } else { None };
        let servers: Vec<ResourceUid> = servers.into_iter().map(|server| server.uid).collect();
        let at = self.now();
        let target = new.spec.scale.first_target();
        let status = ClusterStatus {
            allocation: if target == 0 { Allocation::Steady } else { Allocation::Resizing },
            allocation_changed_at: at,
            errors: Vec::new(),
            auto: spec.scale.first_auto(),
            repairs: None,
            subnet,
            output_uuid: uuid::Uuid::new_v4(),
            nodes: NodeCounts::default(),
        };
        let most = self.inner.limits.clusters;
        let wanted = Wanted::<Cluster> {
            id,
            location: None,
            tags: None,
            spec,
            status,
            secrets: &new.secrets,
            servers: &servers,
            begun: Begun::Done,
            most: Some(most),
            at,
        };
        match self.make(caller, wanted).await? {
            Making::Made(envelope, operation) => Ok(Put::Created(*envelope, operation)),
            Making::Full(count) => Err(full(ErrorCode::ClusterQuotaReached, "clusters", most, count)),
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
        check_existing(id, &found, spec)?;
        Ok(Put::Existing(self.patch_cluster(caller, id, spec.scale).await?))
    }

    /// Says what a PUT of this cluster would do, and does nothing. How many there may be is looked at when one is made.
    ///
    /// # Errors
    /// As of [`put_cluster`](Service::put_cluster), but for the quota.
    pub async fn check_cluster(&self, id: &ResourceId, new: NewCluster) -> Result<Checked, Error> {
        if let Some(found) = resource::find::<Cluster>(self.pool(), &id.key()).await? {
            check_existing(id, &found, &new.spec)?;
            return Ok(if found.spec.scale == new.spec.scale { Checked::Unchanged } else { Checked::Update });
        }
        self.admit_size(&new.spec.vm_size, "Cluster", is_for_clusters)?;
        let mut spec = new.spec;
        let mounts = spec.node_setup.as_mut().and_then(|setup| setup.mount_volumes.as_mut());
        self.admit_servers(id, mounts, "properties.nodeSetup.mountVolumes").await?;
        self.check_parent(id).await
    }

    /// Whether what is to hold a resource that does not exist is there.
    pub(super) async fn check_parent(&self, id: &ResourceId) -> Result<Checked, Error> {
        let parent = id.parent().unwrap_or_else(|| id.clone());
        match self.find_obstacle(&parent).await? {
            Some(obstacle) => Err(obstacle),
            None => Ok(Checked::Create),
        }
    }

    /// Checks that there are machines of a size; `is_for` says which sizes may be asked for, `noun` who asks.
    pub(super) fn admit_size(&self, vm_size: &str, noun: &str, is_for: fn(&str) -> bool) -> Result<(), Error> {
        let offered = || self.inner.sizes.iter().map(|size| size.name.as_str()).filter(|name| is_for(name));
        if offered().any(|name| name == vm_size) {
            return Ok(());
        }
        let mut found = Violations::new();
        found.invalid(
            "properties.vmSize",
            format!(
                "The specified value {vm_size} for property {noun}.Properties.VMSize is not a supported VM size. See additional details \
                 for supported VM sizes."
            ),
        );
        let mut refused = found.into_result();
        if let Err(error) = &mut refused {
            let names: Vec<&str> = offered().collect();
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
            resizing: match scale {
                Scale::Manual { .. } => {
                    Some(Document::of(&ResizingPatch { allocation: Allocation::Resizing, allocation_changed_at: at })?)
                }
                // Its jobs tell whether nodes come or go.
                Scale::Auto { .. } => None,
            },
            activity: carried_out(caller, at, 200, None),
            expected: expected(caller),
        };
        match self.change::<Cluster>(caller, id, &change, at).await? {
            Patched::Done(cluster) => {
                is_recorded(caller);
                self.inner.wake.changed(Topic::Reconcile);
                Ok(cluster)
            }
            Patched::Moved => Err(moved(id)),
            Patched::Deleting => Err(deleting(id)),
            Patched::Absent => match self.find_obstacle(id).await? {
                Some(error) => Err(error),
                None => Err(came_and_went(id)),
            },
        }
    }
}

/// Checks that a cluster that exists is as a request describes it, but for its scale.
fn check_existing(id: &ResourceId, found: &Envelope<Cluster>, spec: &ClusterSpec) -> Result<(), Error> {
    if found.provisioning == crate::domain::resource::Provisioning::Deleting {
        return Err(deleting(id));
    }
    if (ClusterSpec { scale: found.spec.scale, ..named_alike(spec, &found.spec) }) == found.spec {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::Conflict,
        format!(
            "The cluster '{}' exists with other properties, and only its scaleSettings can be changed. Delete it first, or use \
             another name.",
            id.name()
        ),
    ))
}

/// Whether clusters may have machines of a size: those with premium storage are for file servers.
///
/// Source: `vmSize`, openapi 2018-05-01, which names the series; recorded refusals, which had `Standard_D2s_v3` too.
fn is_for_clusters(vm_size: &str) -> bool {
    let is_d_or_e_with_premium = |name: &str| ["D", "E"].iter().any(|letter| name.starts_with(letter)) && name.ends_with("S_V3");
    vm_size != "STANDARD_A0"
        && vm_size
            .strip_prefix("STANDARD_")
            .is_none_or(|name| !name.starts_with("DS") && !name.starts_with("GS") && !is_d_or_e_with_premium(name))
}

/// A spec of a request whose mounts name file servers as the stored one does, where they are the same.
fn named_alike(spec: &ClusterSpec, stored: &ClusterSpec) -> ClusterSpec {
    let mut spec = spec.clone();
    let stored = stored.node_setup.as_ref().and_then(|setup| setup.mount_volumes.as_ref());
    if let (Some(mounts), Some(stored)) = (spec.node_setup.as_mut().and_then(|setup| setup.mount_volumes.as_mut()), stored) {
        name_alike(mounts, stored);
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_premium_storage_are_not_for_clusters() {
        for refused in ["STANDARD_DS1", "STANDARD_DS13_V2", "STANDARD_GS5", "STANDARD_D2S_V3", "STANDARD_A0"] {
            assert!(!is_for_clusters(refused), "{refused}");
        }
        for taken in ["LOCAL", "STANDARD_D1", "STANDARD_D2_V2", "STANDARD_NC6S_V3", "STANDARD_G1"] {
            assert!(is_for_clusters(taken), "{taken}");
        }
    }
}
