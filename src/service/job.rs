//! Jobs.

use super::create::{Making, Wanted};
use super::missing::{absent, deleting};
use super::operation::{asked_by, begin};
use super::workspace::came_and_went;
use super::{NewJob, Put, Service};
use crate::auth::Caller;
use crate::domain::job::{Job, JobSpec, JobStatus, Phase};
use crate::domain::operation::{Operation, State, Verb};
use crate::domain::resource::{EntityError, Provisioning};
use crate::error::{Error, ErrorCode};
use crate::id::{Kind, ResourceId, ResourceUid};
use crate::store::resource::{self, NewJobColumns, Terminated};
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
        let cluster_key = cluster.key();
        let spec = JobSpec { cluster: cluster.path(), ..new.spec };
        let wanted = Wanted::<Job> {
            id,
            location: None,
            tags: None,
            status: JobStatus::queued(at),
            secrets: &new.secrets,
            job: Some(NewJobColumns {
                cluster: &cluster_key,
                rank: spec.priority.rank(),
                node_count: i32::try_from(spec.node_count).unwrap_or(i32::MAX),
            }),
            spec: spec.clone(),
            most: None,
            at,
        };
        match self.make(caller, wanted).await? {
            Making::Made(mut envelope, operation, cluster) => {
                // The names of the cluster are shown as they were given when it was made.
                if let Some(cluster) = cluster {
                    envelope.spec.cluster = cluster;
                }
                Ok(Put::Created(*envelope, operation))
            }
            Making::Refused | Making::Full(_) => self.put_existing_job(id, &cluster, spec).await,
        }
    }

    async fn put_existing_job(&self, id: &ResourceId, cluster: &ResourceId, spec: JobSpec) -> Result<Put<Job>, Error> {
        let Some(found) = resource::find::<Job>(self.pool(), &id.key()).await? else {
            let parent = id.parent().unwrap_or_else(|| id.clone());
            let obstacle = match self.find_obstacle(&parent).await? {
                Some(error) => Some(error),
                None => match resource::known(self.pool(), &[cluster.key()]).await?.first() {
                    None => Some(absent(cluster)),
                    Some(known) if known.provisioning == Provisioning::Deleting => Some(deleting(cluster)),
                    Some(_) => None,
                },
            };
            return Err(obstacle.unwrap_or_else(|| came_and_went(id)));
        };
        if found.provisioning == Provisioning::Deleting {
            return Err(deleting(id));
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

    /// Ends a job: at once where it waits for nodes. `None` where it had ended.
    ///
    /// # Errors
    /// `JobNotFound` and its parents' codes; `ServiceUnavailable`.
    pub async fn terminate(&self, caller: &Caller, id: &ResourceId) -> Result<Option<Operation>, Error> {
        let at = self.now();
        let operation = begin(caller, id, ResourceUid(uuid::Uuid::nil()), Verb::Terminate, State::Running, at);
        let terminated = resource::terminate(self.pool(), &id.key(), &terminated(at), &operation, &asked_by(caller)).await;
        match terminated {
            Ok(Terminated::Accepted(operation)) => {
                self.inner.wake.changed(Topic::Reconcile);
                Ok(Some(*operation))
            }
            Ok(Terminated::Ended) => Ok(None),
            Ok(Terminated::Absent) => Err(self.explain_absence(id).await),
            Err(error) if error.is_unavailable() => match self.find_committed(&operation).await {
                Some(committed) => {
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
    }
}
