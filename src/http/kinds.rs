//! What the verbs need to know of each kind: how its bodies are decoded, which use case carries them out, and what a new one is
//! answered with.

use std::collections::BTreeMap;
use std::future::Future;

use axum::http::StatusCode;

use crate::domain::cluster::{Cluster, ClusterSpec, Scale};
use crate::domain::experiment::Experiment;
use crate::domain::file_server::FileServer;
use crate::domain::group::Group;
use crate::domain::job::{Job, JobSpec};
use crate::domain::mount::MountVolumes;
use crate::domain::resource::{Envelope, Provisioning};
use crate::domain::workspace::Workspace;
use crate::error::{Error, ErrorCode};
use crate::http::Parts;
use crate::http::call::Call;
use crate::id::ResourceId;
use crate::service::{Checked, NewCluster, NewFileServer, NewJob, Put};
use crate::wire::platform::{GroupParameters, GroupPatch, decode_group, decode_group_patch};
use crate::wire::v2018_05_01::workspace::WorkspaceCreateParameters;
use crate::wire::v2018_05_01::{Encode, cluster, file_server, job, workspace};
use crate::wire::v2026_11_01_preview::retries;

/// What a PUT that made something answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// The resource, at once.
    Answered(StatusCode),
    /// 202, and where to poll.
    Accepted,
}

/// A kind that PUT makes.
pub(crate) trait Write: Encode {
    /// What a body says.
    type New: Send;

    /// What a PUT that made one answers.
    const MADE: Made;

    /// Reads the body.
    fn decode(call: &mut Call) -> impl Future<Output = Result<Self::New, Error>> + Send;

    /// Carries it out.
    fn put(call: &Call, new: Self::New) -> impl Future<Output = Result<Put<Self>, Error>> + Send;
}

/// A kind whose making can be checked beforehand.
pub(crate) trait Check: Write {
    /// Says what a PUT would do, and does nothing.
    fn check(call: &Call, new: Self::New) -> impl Future<Output = Result<Checked, Error>> + Send;
}

impl Check for Cluster {
    async fn check(call: &Call, new: NewCluster) -> Result<Checked, Error> {
        call.parts.service.check_cluster(call.id()?, new).await
    }
}

impl Check for FileServer {
    async fn check(call: &Call, new: NewFileServer) -> Result<Checked, Error> {
        call.parts.service.check_file_server(call.id()?, new).await
    }
}

impl Check for Job {
    async fn check(call: &Call, new: NewJob) -> Result<Checked, Error> {
        call.parts.service.check_job(call.id()?, new).await
    }
}

/// A kind that PATCH changes.
pub(crate) trait Change: Encode {
    /// What a body says.
    type Patch: Send;

    /// Reads the body; `None` where it changes nothing.
    fn decode_patch(call: &mut Call) -> impl Future<Output = Result<Option<Self::Patch>, Error>> + Send;

    /// Carries it out.
    fn patch(call: &Call, patch: Self::Patch) -> impl Future<Output = Result<Envelope<Self>, Error>> + Send;
}

/// A kind whose states change by themselves.
pub(crate) trait Changing: Encode {
    /// Whether they will not change by themselves any more.
    fn is_final(stored: &Envelope<Self>) -> bool;
}

impl Changing for Cluster {
    fn is_final(_: &Envelope<Cluster>) -> bool {
        false
    }
}

impl Changing for Job {
    fn is_final(stored: &Envelope<Job>) -> bool {
        stored.status.phase.is_final() && stored.provisioning != Provisioning::Deleting
    }
}

impl Write for Group {
    type New = GroupParameters;
    const MADE: Made = Made::Answered(StatusCode::CREATED);

    async fn decode(call: &mut Call) -> Result<GroupParameters, Error> {
        let new = decode_group(&call.document().await?)?;
        check_location(&call.parts, &new.location, "")?;
        Ok(new)
    }

    async fn put(call: &Call, new: GroupParameters) -> Result<Put<Group>, Error> {
        call.parts.service.put_group(call.caller()?, call.id()?, new.location, new.tags, new.managed_by).await
    }
}

impl Change for Group {
    type Patch = GroupPatch;

    async fn decode_patch(call: &mut Call) -> Result<Option<GroupPatch>, Error> {
        let patch = decode_group_patch(&call.document().await?)?;
        Ok((patch != GroupPatch::default()).then_some(patch))
    }

    async fn patch(call: &Call, patch: GroupPatch) -> Result<Envelope<Group>, Error> {
        call.parts.service.patch_group(call.caller()?, call.id()?, patch.tags, patch.managed_by).await
    }
}

impl Write for Workspace {
    type New = WorkspaceCreateParameters;
    // 200, never 201: the published contract knows no 201, and every generated client fails on it.
    const MADE: Made = Made::Answered(StatusCode::OK);

    async fn decode(call: &mut Call) -> Result<WorkspaceCreateParameters, Error> {
        let new = workspace::decode_create(&call.document().await?)?;
        check_location(&call.parts, &new.location, "Microsoft.BatchAI/workspaces")?;
        Ok(new)
    }

    async fn put(call: &Call, new: WorkspaceCreateParameters) -> Result<Put<Workspace>, Error> {
        call.parts.service.put_workspace(call.caller()?, call.id()?, new.location, new.tags).await
    }
}

impl Change for Workspace {
    type Patch = BTreeMap<String, String>;

    async fn decode_patch(call: &mut Call) -> Result<Option<BTreeMap<String, String>>, Error> {
        workspace::decode_update(&call.document().await?)
    }

    async fn patch(call: &Call, tags: BTreeMap<String, String>) -> Result<Envelope<Workspace>, Error> {
        call.parts.service.patch_workspace(call.caller()?, call.id()?, Some(tags)).await
    }
}

impl Write for Experiment {
    // A PUT has no body; what is sent nevertheless is not read.
    type New = ();
    const MADE: Made = Made::Answered(StatusCode::OK);

    async fn decode(_: &mut Call) -> Result<(), Error> {
        Ok(())
    }

    async fn put(call: &Call, (): ()) -> Result<Put<Experiment>, Error> {
        call.parts.service.put_experiment(call.caller()?, call.id()?).await
    }
}

impl Write for Cluster {
    type New = NewCluster;
    const MADE: Made = Made::Accepted;

    async fn decode(call: &mut Call) -> Result<NewCluster, Error> {
        let decoded = cluster::decode_create(&call.document().await?)?;
        let mounts = decoded.spec.node_setup.as_ref().and_then(|setup| setup.mount_volumes.as_ref());
        check_servers(call, mounts).await?;
        let spec = ClusterSpec { older: call.older.take(), ..decoded.spec };
        Ok(NewCluster { spec, secrets: decoded.secrets })
    }

    async fn put(call: &Call, new: NewCluster) -> Result<Put<Cluster>, Error> {
        call.parts.service.put_cluster(call.caller()?, call.id()?, new).await
    }
}

impl Change for Cluster {
    type Patch = Scale;

    async fn decode_patch(call: &mut Call) -> Result<Option<Scale>, Error> {
        cluster::decode_update(&call.document().await?)
    }

    async fn patch(call: &Call, scale: Scale) -> Result<Envelope<Cluster>, Error> {
        call.parts.service.patch_cluster(call.caller()?, call.id()?, scale).await
    }
}

impl Write for FileServer {
    type New = NewFileServer;
    const MADE: Made = Made::Accepted;

    async fn decode(call: &mut Call) -> Result<NewFileServer, Error> {
        let decoded = file_server::decode_create(&call.document().await?)?;
        Ok(NewFileServer { spec: decoded.spec, secrets: decoded.secrets })
    }

    async fn put(call: &Call, new: NewFileServer) -> Result<Put<FileServer>, Error> {
        call.parts.service.put_file_server(call.caller()?, call.id()?, new).await
    }
}

impl Write for Job {
    type New = NewJob;
    const MADE: Made = Made::Accepted;

    async fn decode(call: &mut Call) -> Result<NewJob, Error> {
        let document = call.document().await?;
        let decoded = job::decode_create(&document)?;
        let retries = if call.contract.is_frozen() { Vec::new() } else { retries::decode(&document)? };
        check_cluster(call, &decoded.spec.cluster).await?;
        check_servers(call, decoded.spec.mount_volumes.as_ref()).await?;
        let spec = JobSpec { older: call.older.take(), retries, ..decoded.spec };
        Ok(NewJob { spec, secrets: decoded.secrets })
    }

    async fn put(call: &Call, new: NewJob) -> Result<Put<Job>, Error> {
        call.parts.service.put_job(call.caller()?, call.id()?, new).await
    }
}

/// The cluster of a job is another resource than the one that was authorised: the caller must be allowed to see it too. What a
/// caller may not see is answered like what does not exist.
async fn check_cluster(call: &Call, id: &str) -> Result<(), Error> {
    check_other(call, id, "Microsoft.BatchAI/workspaces/clusters/read", ErrorCode::ClusterNotFound).await
}

/// So are the file servers that it mounts.
async fn check_servers(call: &Call, mounts: Option<&MountVolumes>) -> Result<(), Error> {
    for mount in mounts.map(MountVolumes::file_servers).unwrap_or_default() {
        let action = "Microsoft.BatchAI/workspaces/fileservers/read";
        check_other(call, &mount.file_server, action, ErrorCode::FileServerNotFound).await?;
    }
    Ok(())
}

async fn check_other(call: &Call, id: &str, action: &str, code: ErrorCode) -> Result<(), Error> {
    let other = ResourceId::parse(id).map_err(Error::internal)?;
    let absent = || Error::new(code, format!("The specified {} {} is not found", other.kind().noun(), other.name()));
    if other.subscription() != call.subscription()? {
        return Err(absent());
    }
    match call.parts.auth.authorize(call.caller()?, action, &other.key()).await {
        Err(error) if error.code == ErrorCode::AuthorizationFailed => Err(absent()),
        other => other,
    }
}

/// Checks that a region is offered; `resource_type` is empty for groups.
pub(crate) fn check_location(parts: &Parts, location: &str, resource_type: &str) -> Result<(), Error> {
    if parts.locations.iter().any(|known| known.name == location) {
        return Ok(());
    }
    let shown: String = location.chars().take(64).collect();
    let offered: Vec<&str> = parts.locations.iter().map(|known| known.name.as_str()).collect();
    let offered = offered.join(",");
    Err(if resource_type.is_empty() {
        Error::new(
            ErrorCode::LocationNotAvailableForResourceGroup,
            format!(
                "The provided location '{shown}' is not available for resource group. List of available regions is '{offered}'."
            ),
        )
    } else {
        Error::new(
            ErrorCode::LocationNotAvailableForResourceType,
            format!(
                "The provided location '{shown}' is not available for resource type '{resource_type}'. List of available regions for \
                 the resource type is '{offered}'."
            ),
        )
    })
}
