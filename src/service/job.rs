//! Jobs.

use super::activity::{carried_out, is_recorded, status_of_making};
use super::expect::makes_nothing;
use super::file_server::name_alike;
use super::missing::{absent, deleting};
use super::operation::{asked_by, begin};
use super::submit::Outcome;
use super::workspace::came_and_went;
use super::{Checked, NewJob, Put, Service};
use crate::auth::Caller;
use crate::domain::cluster::{Cluster, Scale};
use crate::domain::job::{Job, JobSpec, JobStatus, Phase};
use crate::domain::operation::{Operation, State, Verb};
use crate::domain::resource::{EntityError, Envelope, Provisioning};
use crate::error::{Error, ErrorCode, Violations};
use crate::id::{Kind, ResourceId, ResourceUid};
use crate::store::Document;
use crate::store::resource::{self, Submission, Terminated};
use crate::wake::Topic;

impl Service {
    /// Makes a job and puts it into its cluster's queue. One that exists stays as it is and is never run again.
    ///
    /// # Errors
    /// `ClusterNotFound` where the cluster of the body is not in the same subscription or of another type; `Conflict` where another job of
    /// this name exists, or it, its parent or its cluster is being deleted; its parents' `NotFound` codes; `ServiceUnavailable`.
    pub async fn put_job(&self, caller: &Caller, id: &ResourceId, new: NewJob) -> Result<Put<Job>, Error> {
        let at = self.now();
        let cluster = cluster_of(id, &new.spec)?;
        let mut spec = JobSpec { cluster: cluster.path(), ..new.spec };
        let servers = match self.admit_servers(id, spec.mount_volumes.as_mut(), "properties.mountVolumes").await {
            Ok(servers) => servers,
            // One that exists is not admitted again: its file servers may be gone.
            Err(error) => match resource::find::<Job>(self.pool(), &id.key()).await? {
                Some(_) => return self.put_existing_job(id, &cluster, spec).await,
                None => return Err(error),
            },
        };
        if makes_nothing(caller) {
            return self.put_existing_job(id, &cluster, spec).await;
        }
        let uid = ResourceUid(uuid::Uuid::now_v7());
        let status = JobStatus::queued(at);
        let mut operation = begin(caller, id, uid, Verb::Create, State::Succeeded, at);
        let outcome = self
            .submit(Submission {
                uid,
                id: id.clone(),
                cluster: cluster.key(),
                spec: Document::of(&spec)?,
                status: Document::of(&status)?,
                secrets: self.seal(uid, &new.secrets)?,
                rank: spec.rank(),
                node_count: i32::try_from(spec.node_count).unwrap_or(i32::MAX),
                servers: servers.into_iter().map(|server| server.uid).collect(),
                operation: operation.clone(),
                why: asked_by(caller),
                activity: carried_out(caller, at, status_of_making(id), Some(&operation)),
                trace: caller.asked.as_ref().and_then(|asked| asked.trace.clone()),
            })
            .await?;
        let made = match outcome {
            Outcome::Made(made) => made,
            Outcome::Refused => return self.put_existing_job(id, &cluster, spec).await,
            Outcome::Unknown(error) => {
                let Some(committed) = self.find_committed(&operation).await else { return Err(Error::unavailable(error)) };
                let found = resource::find_by_uid::<Job>(self.pool(), uid).await?.ok_or_else(|| Error::unavailable(error))?;
                is_recorded(caller);
                self.inner.wake.changed(Topic::Submission);
                return Ok(Put::Created(found, Box::new(committed)));
            }
            Outcome::Failed(error) => return Err(error.into()),
        };
        is_recorded(caller);
        self.inner.wake.changed(Topic::Submission);
        operation.location.clone_from(&made.location);
        // The names of the cluster are shown as they were given when it was made.
        let spec = JobSpec { cluster: made.cluster, ..spec };
        let envelope = Envelope::made(uid, id, made.location, spec, status, at);
        Ok(Put::Created(envelope, Box::new(operation)))
    }

    async fn put_existing_job(&self, id: &ResourceId, cluster: &ResourceId, mut spec: JobSpec) -> Result<Put<Job>, Error> {
        let Some(found) = resource::find::<Job>(self.pool(), &id.key()).await? else {
            return Err(self.find_job_obstacle(id, cluster, &spec).await?.unwrap_or_else(|| came_and_went(id)));
        };
        if found.provisioning == Provisioning::Deleting {
            return Err(deleting(id));
        }
        if let (Some(mounts), Some(stored)) = (spec.mount_volumes.as_mut(), &found.spec.mount_volumes) {
            name_alike(mounts, stored);
        }
        // A request that says nothing of them, as those of older contracts, asks for what there is.
        if spec.retries.is_empty() {
            spec.retries.clone_from(&found.spec.retries);
        }
        let same_cluster = found.spec.cluster.eq_ignore_ascii_case(&spec.cluster);
        if !same_cluster || found.spec != (JobSpec { cluster: found.spec.cluster.clone(), ..spec }) {
            return Err(Error::new(
                ErrorCode::Conflict,
                format!(
                    "The job '{}' exists with other properties, and jobs cannot be changed. Delete it first, or use another name.",
                    id.name()
                ),
            ));
        }
        Ok(Put::Existing(found))
    }

    /// Says what a PUT of this job would do, and does nothing.
    ///
    /// # Errors
    /// As of [`put_job`](Service::put_job).
    pub async fn check_job(&self, id: &ResourceId, new: NewJob) -> Result<Checked, Error> {
        let cluster = cluster_of(id, &new.spec)?;
        let mut spec = JobSpec { cluster: cluster.path(), ..new.spec };
        if resource::find::<Job>(self.pool(), &id.key()).await?.is_some() {
            return self.put_existing_job(id, &cluster, spec).await.map(|_| Checked::Unchanged);
        }
        self.admit_servers(id, spec.mount_volumes.as_mut(), "properties.mountVolumes").await?;
        match self.find_job_obstacle(id, &cluster, &spec).await? {
            Some(obstacle) => Err(obstacle),
            None => Ok(Checked::Create),
        }
    }

    /// Why a job that does not exist cannot be made: what holds it or its cluster is absent or goes, or the cluster cannot run it.
    async fn find_job_obstacle(&self, id: &ResourceId, cluster: &ResourceId, spec: &JobSpec) -> Result<Option<Error>, Error> {
        let parent = id.parent().unwrap_or_else(|| id.clone());
        if let Some(error) = self.find_obstacle(&parent).await? {
            return Ok(Some(error));
        }
        match resource::known(self.pool(), &[cluster.key()]).await?.first() {
            None => Ok(Some(absent(cluster))),
            Some(known) if known.provisioning == Provisioning::Deleting => Ok(Some(deleting(cluster))),
            Some(_) => self.find_unfit(id, cluster, spec).await,
        }
    }

    /// Why a job cannot run on a cluster that is there.
    async fn find_unfit(&self, id: &ResourceId, cluster: &ResourceId, spec: &JobSpec) -> Result<Option<Error>, Error> {
        let Some(found) = resource::find::<Cluster>(self.pool(), &cluster.key()).await? else { return Ok(None) };
        let workspace = id.ancestor(Kind::Workspace).ok_or_else(|| Error::internal("an id without a workspace"))?;
        let home = resource::known(self.pool(), &[workspace.key()]).await?.into_iter().next();
        let mut broken = Violations::new();
        if let Some(home) = home
            && home.location != found.location
        {
            broken.invalid(
                "properties.cluster.id",
                format!(
                    "The cluster '{}' is in '{}', and runs jobs of that region only, not of '{}'.",
                    cluster.name(),
                    found.location,
                    home.location
                ),
            );
        }
        if let Scale::Auto { maximum, .. } = found.spec.scale
            && spec.node_count > maximum
        {
            broken.invalid(
                "properties.nodeCount",
                format!(
                    "The property 'properties.nodeCount' must be at most the cluster's maximumNodeCount, which is {maximum}."
                ),
            );
        }
        Ok(broken.into_result().err())
    }

    /// Ends a job: at once where it waits for nodes. `None` where it had ended.
    ///
    /// # Errors
    /// `JobNotFound` and its parents' codes; `ServiceUnavailable`.
    pub async fn terminate(&self, caller: &Caller, id: &ResourceId) -> Result<Option<Operation>, Error> {
        let at = self.now();
        let operation = begin(caller, id, ResourceUid(uuid::Uuid::nil()), Verb::Terminate, State::Running, at);
        let row = carried_out(caller, at, 202, Some(&operation));
        let terminated = resource::terminate(self.pool(), &id.key(), &terminated(at), &operation, &asked_by(caller), row).await;
        match terminated {
            Ok(Terminated::Accepted(operation)) => {
                is_recorded(caller);
                self.inner.wake.changed(Topic::Reconcile);
                Ok(Some(*operation))
            }
            Ok(Terminated::Ended) => Ok(None),
            Ok(Terminated::Absent) => Err(self.explain_absence(id).await),
            Err(error) if error.is_unavailable() => match self.find_committed(&operation).await {
                Some(committed) => {
                    is_recorded(caller);
                    self.inner.wake.changed(Topic::Reconcile);
                    Ok(Some(committed))
                }
                None => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }
}

/// The cluster that a job names, in its own subscription.
fn cluster_of(job: &ResourceId, spec: &JobSpec) -> Result<ResourceId, Error> {
    let wrong = |message: String| Error::new(ErrorCode::InvalidPropertyValue, message).with_target("properties.cluster.id");
    let cluster = ResourceId::parse(&spec.cluster).map_err(|error| wrong(format!("The id of the cluster {error}.")))?;
    if cluster.kind() != Kind::Cluster {
        return Err(wrong(format!("The id '{}' is not that of a cluster.", spec.cluster)));
    }
    if cluster.subscription() != job.subscription() {
        return Err(absent(&cluster));
    }
    Ok(cluster)
}

/// The status of a job that a user ended before it had nodes: it shows the moment of the wish as its start and its end.
///
/// Source: recorded 2018-05-01 answers (code, message, times, no exit code).
fn terminated(at: crate::clock::Timestamp) -> JobStatus {
    JobStatus {
        phase: Phase::Failed,
        phase_changed_at: at,
        started_at: Some(at),
        ended_at: Some(at),
        exit_code: None,
        errors: vec![EntityError::new("JobTerminated", "The specified job has been terminated by the user")],
        lost: Vec::new(),
        retried: Default::default(),
    }
}
