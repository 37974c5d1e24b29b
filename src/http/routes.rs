//! The whole route table, in the order of the published contract, one line a route.
//!
//! A route is a method, a path template, who may use it, the permission (which is also the name in the operations list), the
//! published operation id and what carries it out. Templates are written with the contract's own shorthands, see [`expand`].

use std::sync::LazyLock;

use axum::http::Method;
use futures_util::future::BoxFuture;

use crate::domain::cluster::Cluster;
use crate::domain::experiment::Experiment;
use crate::domain::file_server::FileServer;
use crate::domain::group::Group;
use crate::domain::job::Job;
use crate::domain::workspace::Workspace;
use crate::http::call::{Answer, Call};
use crate::http::{actions, docs, download, events, flat, health, operations, platform, verbs};
use crate::id::Kind;
use crate::wire::ApiVersion;

/// What carries a route out.
pub(crate) type Handler = fn(Call) -> BoxFuture<'static, Answer>;

/// Who may use a route, and what its path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anyone; no version is asked for.
    Open,
    /// Anyone with a signed link.
    Link,
    /// Any caller of this installation's tenant.
    SignedIn,
    /// The same; no version is asked for.
    Directory,
    /// A caller with the permission at every subscription of this installation's tenant; no version is asked for.
    Everywhere,
    /// A caller with the permission at the subscription that the path names.
    Subscription,
    /// A caller with the permission anywhere in the subscription that the path names: the answer holds what is theirs alone.
    Visible,
    /// A caller with the permission at whatever the path begins with: a subscription, a group or a resource.
    Scope,
    /// A caller with the permission at the resource (or its parent, for lists) that the path names.
    Resource(Kind),
    /// A caller with the permission at the resource that an address of an older version leads to, or at its group where it leads to
    /// none.
    Flat(Kind),
    /// A caller who may read the resource that the named operation is about: checked where the operation is read.
    Operation,
}

/// One route.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) template: &'static str,
    pub(crate) access: Access,
    /// The permission; empty where none is asked for.
    pub(crate) action: &'static str,
    /// The published operation id, or one in its style for what is not published.
    pub(crate) operation: &'static str,
    /// The versions of the provider's contract that have it, newest first; for what is not the provider's they do not count.
    pub(crate) versions: &'static [ApiVersion],
    pub(crate) run: Handler,
}

/// Versions in which everything lives in workspaces.
const NESTED: &[ApiVersion] = &[ApiVersion::V2026_11_01Preview, ApiVersion::V2018_05_01];

/// Versions in which clusters, jobs and file servers lie right below their group.
const FLAT: &[ApiVersion] = &[ApiVersion::V2018_03_01, ApiVersion::V2017_09_01Preview];

/// All.
const ALL: &[ApiVersion] = &ApiVersion::ALL;

/// All but the first, which had no usages.
const SINCE_2018: &[ApiVersion] = &[ApiVersion::V2026_11_01Preview, ApiVersion::V2018_05_01, ApiVersion::V2018_03_01];

/// Our own.
const OWN: &[ApiVersion] = &[ApiVersion::V2026_11_01Preview];

const GET: Method = Method::GET;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const POST: Method = Method::POST;
const DELETE: Method = Method::DELETE;
const HEAD: Method = Method::HEAD;

const fn route(
    method: Method,
    template: &'static str,
    access: Access,
    action: &'static str,
    operation: &'static str,
    run: Handler,
) -> Route {
    Route { method, template, access, action, operation, versions: NESTED, run }
}

/// A route that other versions have.
const fn since(
    versions: &'static [ApiVersion],
    template: &'static str,
    access: Access,
    action: &'static str,
    operation: &'static str,
    run: Handler,
) -> Route {
    Route { method: GET, template, access, action, operation, versions, run }
}

/// A route of the versions without workspaces.
const fn flat(
    method: Method,
    template: &'static str,
    access: Access,
    action: &'static str,
    operation: &'static str,
    run: Handler,
) -> Route {
    Route { method, template, access, action, operation, versions: FLAT, run }
}

/// A route that only our own version has.
const fn own(template: &'static str, access: Access, operation: &'static str, run: Handler) -> Route {
    let action = "Microsoft.BatchAI/events/read";
    Route { method: GET, template, access, action, operation, versions: OWN, run }
}

/// An action that only our own version has.
const fn action(template: &'static str, access: Access, action: &'static str, operation: &'static str, run: Handler) -> Route {
    Route { method: POST, template, access, action, operation, versions: OWN, run }
}

/// What only our own version saves.
const fn own_put(template: &'static str, access: Access, action: &'static str, operation: &'static str, run: Handler) -> Route {
    Route { method: PUT, template, access, action, operation, versions: OWN, run }
}

const OPEN: Access = Access::Open;
const LINK: Access = Access::Link;
const TENANT: Access = Access::SignedIn;
const DIRECTORY: Access = Access::Directory;
const ALL_SUBS: Access = Access::Everywhere;
const SUB: Access = Access::Subscription;
const SEEN: Access = Access::Visible;
const SCOPE: Access = Access::Scope;
const GROUP: Access = Access::Resource(Kind::Group);
const WS: Access = Access::Resource(Kind::Workspace);
const CLUSTER: Access = Access::Resource(Kind::Cluster);
const FILE_SERVER: Access = Access::Resource(Kind::FileServer);
const EXP: Access = Access::Resource(Kind::Experiment);
const JOB: Access = Access::Resource(Kind::Job);
const OP: Access = Access::Operation;
const FLAT_CLUSTER: Access = Access::Flat(Kind::Cluster);
const FLAT_SERVER: Access = Access::Flat(Kind::FileServer);
const FLAT_JOB: Access = Access::Flat(Kind::Job);

/// All routes. Where two templates fit, the earlier one is taken.
#[rustfmt::skip]
pub(crate) static ROUTES: &[Route] = &[
    // Microsoft.BatchAI 2018-05-01
    since(ALL, "{P}/operations", TENANT, "", "Operations_List", |c| Box::pin(platform::providers::operations(c))),
    since(SINCE_2018, "{S}{P}/locations/{location}/usages", SUB, "Microsoft.BatchAI/locations/usages/read", "Usages_List", |c| Box::pin(actions::usages::list(c))),
    since(ALL, "{S}{P}/locations/{location}/operationresults/{operationId}", OP, "Microsoft.BatchAI/locations/operationresults/read", "Operations_GetResult", |c| Box::pin(operations::result(c))),
    since(ALL, "{S}{P}/locations/{location}/operationstatuses/{operationId}", OP, "Microsoft.BatchAI/locations/operationstatuses/read", "Operations_GetStatus", |c| Box::pin(operations::status(c))),
    route(GET, "{S}{P}/workspaces", SUB, "Microsoft.BatchAI/workspaces/read", "Workspaces_List", |c| Box::pin(verbs::list::<Workspace>(c))),
    route(GET, "{RG}{P}/workspaces", GROUP, "Microsoft.BatchAI/workspaces/read", "Workspaces_ListByResourceGroup", |c| Box::pin(verbs::list::<Workspace>(c))),
    route(PUT, "{WS}", WS, "Microsoft.BatchAI/workspaces/write", "Workspaces_Create", |c| Box::pin(verbs::put::<Workspace>(c))),
    route(PATCH, "{WS}", WS, "Microsoft.BatchAI/workspaces/write", "Workspaces_Update", |c| Box::pin(verbs::patch::<Workspace>(c))),
    route(DELETE, "{WS}", WS, "Microsoft.BatchAI/workspaces/delete", "Workspaces_Delete", |c| Box::pin(verbs::delete::<Workspace>(c))),
    route(GET, "{WS}", WS, "Microsoft.BatchAI/workspaces/read", "Workspaces_Get", |c| Box::pin(verbs::get::<Workspace>(c))),
    route(GET, "{WS}/experiments", WS, "Microsoft.BatchAI/workspaces/experiments/read", "Experiments_ListByWorkspace", |c| Box::pin(verbs::list::<Experiment>(c))),
    route(PUT, "{EXP}", EXP, "Microsoft.BatchAI/workspaces/experiments/write", "Experiments_Create", |c| Box::pin(verbs::put::<Experiment>(c))),
    route(DELETE, "{EXP}", EXP, "Microsoft.BatchAI/workspaces/experiments/delete", "Experiments_Delete", |c| Box::pin(verbs::delete::<Experiment>(c))),
    route(GET, "{EXP}", EXP, "Microsoft.BatchAI/workspaces/experiments/read", "Experiments_Get", |c| Box::pin(verbs::get::<Experiment>(c))),
    route(GET, "{EXP}/jobs", EXP, "Microsoft.BatchAI/workspaces/experiments/jobs/read", "Jobs_ListByExperiment", |c| Box::pin(actions::jobs::list(c))),
    route(PUT, "{EXP}/jobs/{jobName}", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/write", "Jobs_Create", |c| Box::pin(verbs::put::<Job>(c))),
    route(DELETE, "{EXP}/jobs/{jobName}", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/delete", "Jobs_Delete", |c| Box::pin(verbs::delete::<Job>(c))),
    route(GET, "{EXP}/jobs/{jobName}", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/read", "Jobs_Get", |c| Box::pin(verbs::get_changing::<Job>(c))),
    route(POST, "{EXP}/jobs/{jobName}/listOutputFiles", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/listoutputfiles/action", "Jobs_ListOutputFiles", |c| Box::pin(actions::files::list(c))),
    route(GET, "{EXP}/jobs/{jobName}/listOutputFiles", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/listoutputfiles/action", "Jobs_ListOutputFilesNext", |c| Box::pin(actions::files::list(c))),
    route(POST, "{EXP}/jobs/{jobName}/listRemoteLoginInformation", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/remoteLoginInformation/action", "Jobs_ListRemoteLoginInformation", |c| Box::pin(actions::login::of_job(c))),
    route(GET, "{EXP}/jobs/{jobName}/listRemoteLoginInformation", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/remoteLoginInformation/action", "Jobs_ListRemoteLoginInformationNext", |c| Box::pin(actions::login::of_job(c))),
    route(POST, "{EXP}/jobs/{jobName}/terminate", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/terminate/action", "Jobs_Terminate", |c| Box::pin(actions::terminate::job(c))),
    route(PUT, "{WS}/clusters/{clusterName}", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/write", "Clusters_Create", |c| Box::pin(verbs::put::<Cluster>(c))),
    route(PATCH, "{WS}/clusters/{clusterName}", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/write", "Clusters_Update", |c| Box::pin(verbs::patch::<Cluster>(c))),
    route(DELETE, "{WS}/clusters/{clusterName}", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/delete", "Clusters_Delete", |c| Box::pin(verbs::delete::<Cluster>(c))),
    route(GET, "{WS}/clusters/{clusterName}", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/read", "Clusters_Get", |c| Box::pin(verbs::get_changing::<Cluster>(c))),
    route(POST, "{WS}/clusters/{clusterName}/listRemoteLoginInformation", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/remoteLoginInformation/action", "Clusters_ListRemoteLoginInformation", |c| Box::pin(actions::login::of_cluster(c))),
    route(GET, "{WS}/clusters/{clusterName}/listRemoteLoginInformation", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/remoteLoginInformation/action", "Clusters_ListRemoteLoginInformationNext", |c| Box::pin(actions::login::of_cluster(c))),
    route(GET, "{WS}/clusters", WS, "Microsoft.BatchAI/workspaces/clusters/read", "Clusters_ListByWorkspace", |c| Box::pin(verbs::list::<Cluster>(c))),
    route(PUT, "{WS}/fileServers/{fileServerName}", FILE_SERVER, "Microsoft.BatchAI/workspaces/fileservers/write", "FileServers_Create", |c| Box::pin(verbs::put::<FileServer>(c))),
    route(DELETE, "{WS}/fileServers/{fileServerName}", FILE_SERVER, "Microsoft.BatchAI/workspaces/fileservers/delete", "FileServers_Delete", |c| Box::pin(verbs::delete::<FileServer>(c))),
    route(GET, "{WS}/fileServers/{fileServerName}", FILE_SERVER, "Microsoft.BatchAI/workspaces/fileservers/read", "FileServers_Get", |c| Box::pin(verbs::get::<FileServer>(c))),
    route(GET, "{WS}/fileServers", WS, "Microsoft.BatchAI/workspaces/fileservers/read", "FileServers_ListByWorkspace", |c| Box::pin(verbs::list::<FileServer>(c))),

    // 2018-03-01 and 2017-09-01-preview
    flat(PUT, "{RG}{P}/clusters/{clusterName}", FLAT_CLUSTER, "Microsoft.BatchAI/workspaces/clusters/write", "Clusters_Create", |c| Box::pin(flat::put::<Cluster>(c))),
    flat(PATCH, "{RG}{P}/clusters/{clusterName}", FLAT_CLUSTER, "Microsoft.BatchAI/workspaces/clusters/write", "Clusters_Update", |c| Box::pin(flat::patch::<Cluster>(c))),
    flat(DELETE, "{RG}{P}/clusters/{clusterName}", FLAT_CLUSTER, "Microsoft.BatchAI/workspaces/clusters/delete", "Clusters_Delete", |c| Box::pin(flat::delete::<Cluster>(c))),
    flat(GET, "{RG}{P}/clusters/{clusterName}", FLAT_CLUSTER, "Microsoft.BatchAI/workspaces/clusters/read", "Clusters_Get", |c| Box::pin(verbs::get::<Cluster>(c))),
    flat(POST, "{RG}{P}/clusters/{clusterName}/listRemoteLoginInformation", FLAT_CLUSTER, "Microsoft.BatchAI/workspaces/clusters/remoteLoginInformation/action", "Clusters_ListRemoteLoginInformation", |c| Box::pin(actions::login::of_cluster(c))),
    flat(GET, "{RG}{P}/clusters/{clusterName}/listRemoteLoginInformation", FLAT_CLUSTER, "Microsoft.BatchAI/workspaces/clusters/remoteLoginInformation/action", "Clusters_ListRemoteLoginInformationNext", |c| Box::pin(actions::login::of_cluster(c))),
    flat(GET, "{S}{P}/clusters", SUB, "Microsoft.BatchAI/workspaces/clusters/read", "Clusters_List", |c| Box::pin(flat::list::<Cluster>(c))),
    flat(GET, "{RG}{P}/clusters", GROUP, "Microsoft.BatchAI/workspaces/clusters/read", "Clusters_ListByResourceGroup", |c| Box::pin(flat::list::<Cluster>(c))),
    flat(PUT, "{RG}{P}/jobs/{jobName}", FLAT_JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/write", "Jobs_Create", |c| Box::pin(flat::put::<Job>(c))),
    flat(DELETE, "{RG}{P}/jobs/{jobName}", FLAT_JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/delete", "Jobs_Delete", |c| Box::pin(flat::delete::<Job>(c))),
    flat(GET, "{RG}{P}/jobs/{jobName}", FLAT_JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/read", "Jobs_Get", |c| Box::pin(verbs::get::<Job>(c))),
    flat(POST, "{RG}{P}/jobs/{jobName}/listOutputFiles", FLAT_JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/listoutputfiles/action", "Jobs_ListOutputFiles", |c| Box::pin(actions::files::list(c))),
    flat(GET, "{RG}{P}/jobs/{jobName}/listOutputFiles", FLAT_JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/listoutputfiles/action", "Jobs_ListOutputFilesNext", |c| Box::pin(actions::files::list(c))),
    flat(POST, "{RG}{P}/jobs/{jobName}/listRemoteLoginInformation", FLAT_JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/remoteLoginInformation/action", "Jobs_ListRemoteLoginInformation", |c| Box::pin(actions::login::of_job(c))),
    flat(GET, "{RG}{P}/jobs/{jobName}/listRemoteLoginInformation", FLAT_JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/remoteLoginInformation/action", "Jobs_ListRemoteLoginInformationNext", |c| Box::pin(actions::login::of_job(c))),
    flat(POST, "{RG}{P}/jobs/{jobName}/terminate", FLAT_JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/terminate/action", "Jobs_Terminate", |c| Box::pin(actions::terminate::job(c))),
    flat(GET, "{S}{P}/jobs", SUB, "Microsoft.BatchAI/workspaces/experiments/jobs/read", "Jobs_List", |c| Box::pin(flat::list::<Job>(c))),
    flat(GET, "{RG}{P}/jobs", GROUP, "Microsoft.BatchAI/workspaces/experiments/jobs/read", "Jobs_ListByResourceGroup", |c| Box::pin(flat::list::<Job>(c))),
    flat(PUT, "{RG}{P}/fileServers/{fileServerName}", FLAT_SERVER, "Microsoft.BatchAI/workspaces/fileservers/write", "FileServers_Create", |c| Box::pin(flat::put::<FileServer>(c))),
    flat(DELETE, "{RG}{P}/fileServers/{fileServerName}", FLAT_SERVER, "Microsoft.BatchAI/workspaces/fileservers/delete", "FileServers_Delete", |c| Box::pin(flat::delete::<FileServer>(c))),
    flat(GET, "{RG}{P}/fileServers/{fileServerName}", FLAT_SERVER, "Microsoft.BatchAI/workspaces/fileservers/read", "FileServers_Get", |c| Box::pin(verbs::get::<FileServer>(c))),
    flat(GET, "{S}{P}/fileServers", SUB, "Microsoft.BatchAI/workspaces/fileservers/read", "FileServers_List", |c| Box::pin(flat::list::<FileServer>(c))),
    flat(GET, "{RG}{P}/fileServers", GROUP, "Microsoft.BatchAI/workspaces/fileservers/read", "FileServers_ListByResourceGroup", |c| Box::pin(flat::list::<FileServer>(c))),

    // Our own version alone
    own("{S}{P}/events", SUB, "Events_Follow", |c| Box::pin(events::follow(c))),
    own("{RG}{P}/events", GROUP, "Events_FollowResourceGroup", |c| Box::pin(events::follow(c))),
    own("{WS}/events", WS, "Events_FollowWorkspace", |c| Box::pin(events::follow(c))),
    own("{WS}/clusters/{clusterName}/events", CLUSTER, "Events_FollowCluster", |c| Box::pin(events::follow(c))),
    own("{EXP}/events", EXP, "Events_FollowExperiment", |c| Box::pin(events::follow(c))),
    own("{EXP}/jobs/{jobName}/events", JOB, "Events_FollowJob", |c| Box::pin(events::follow(c))),
    since(OWN, "{WS}/clusters/{clusterName}/nodes", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/read", "Clusters_ListNodes", |c| Box::pin(actions::nodes::list(c))),
    since(OWN, "{WS}/clusters/{clusterName}/why", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/read", "Clusters_GetWhy", |c| Box::pin(actions::why::cluster(c))),
    since(OWN, "{WS}/clusters/{clusterName}/nodes/{nodeId}/why", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/read", "Clusters_GetNodeWhy", |c| Box::pin(actions::why::node(c))),
    since(OWN, "{WS}/clusters/{clusterName}/nodes/{nodeId}/samples", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/read", "Clusters_ListNodeSamples", |c| Box::pin(actions::samples::of_node(c))),
    action("{WS}/clusters/{clusterName}/nodes/{nodeId}/simulateEviction", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/nodes/simulateEviction/action", "Clusters_SimulateEviction", |c| Box::pin(actions::evict::simulate(c))),
    since(OWN, "{WS}/jobs", WS, "Microsoft.BatchAI/workspaces/experiments/jobs/read", "Jobs_ListByWorkspace", |c| Box::pin(actions::jobs::find(c))),
    since(OWN, "{WS}/jobCounts", WS, "Microsoft.BatchAI/workspaces/experiments/jobs/read", "Jobs_CountByWorkspace", |c| Box::pin(actions::jobs::count(c))),
    since(OWN, "{EXP}/jobCounts", EXP, "Microsoft.BatchAI/workspaces/experiments/jobs/read", "Jobs_CountByExperiment", |c| Box::pin(actions::jobs::count(c))),
    since(OWN, "{EXP}/jobs/{jobName}/attempts", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/read", "Jobs_ListAttempts", |c| Box::pin(actions::attempts::list(c))),
    since(OWN, "{EXP}/jobs/{jobName}/why", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/read", "Jobs_GetWhy", |c| Box::pin(actions::why::job(c))),
    since(OWN, "{EXP}/jobs/{jobName}/samples", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/read", "Jobs_ListSamples", |c| Box::pin(actions::samples::of_job(c))),
    action("{WS}/clusters/{clusterName}/validate", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/validate/action", "Clusters_Validate", |c| Box::pin(actions::validate::check::<Cluster>(c))),
    action("{WS}/fileServers/{fileServerName}/validate", FILE_SERVER, "Microsoft.BatchAI/workspaces/fileservers/validate/action", "FileServers_Validate", |c| Box::pin(actions::validate::check::<FileServer>(c))),
    action("{EXP}/jobs/{jobName}/validate", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/validate/action", "Jobs_Validate", |c| Box::pin(actions::validate::check::<Job>(c))),
    own_put("{EXP}/jobs/{jobName}/inputs/{path*}", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/write", "Jobs_PutInput", |c| Box::pin(actions::inputs::put(c))),

    // Microsoft.Resources, any version
    route(GET, "/tenants", TENANT, "", "Tenants_List", |c| Box::pin(platform::subscriptions::tenants(c))),
    route(GET, "/subscriptions", TENANT, "", "Subscriptions_List", |c| Box::pin(platform::subscriptions::list(c))),
    route(GET, "{S}", SUB, "Microsoft.Resources/subscriptions/read", "Subscriptions_Get", |c| Box::pin(platform::subscriptions::get(c))),
    route(GET, "{S}/locations", SUB, "Microsoft.Resources/subscriptions/locations/read", "Subscriptions_ListLocations", |c| Box::pin(platform::subscriptions::locations(c))),
    route(GET, "/providers", TENANT, "", "Providers_ListAtTenantScope", |c| Box::pin(platform::providers::list(c))),
    route(GET, "/providers/{namespace}", TENANT, "", "Providers_GetAtTenantScope", |c| Box::pin(platform::providers::get(c))),
    route(GET, "{S}/providers", SUB, "Microsoft.Resources/subscriptions/providers/read", "Providers_List", |c| Box::pin(platform::providers::list(c))),
    route(GET, "{S}/providers/{namespace}", SUB, "Microsoft.Resources/subscriptions/providers/read", "Providers_Get", |c| Box::pin(platform::providers::get(c))),
    route(POST, "{S}/providers/{namespace}/register", SUB, "Microsoft.BatchAI/register/action", "Providers_Register", |c| Box::pin(platform::providers::register(c))),
    route(POST, "{S}/providers/{namespace}/unregister", SUB, "Microsoft.BatchAI/unregister/action", "Providers_Unregister", |c| Box::pin(platform::providers::unregister(c))),
    route(GET, "{S}/resources", SEEN, "Microsoft.Resources/subscriptions/resources/read", "Resources_List", |c| Box::pin(platform::resources::list(c))),
    route(GET, "{RG}/resources", GROUP, "Microsoft.Resources/subscriptions/resourceGroups/resources/read", "Resources_ListByResourceGroup", |c| Box::pin(platform::resources::list(c))),
    route(HEAD, "{WS}", WS, "Microsoft.BatchAI/workspaces/read", "Workspaces_CheckExistence", |c| Box::pin(verbs::exists::<Workspace>(c))),
    route(HEAD, "{WS}/clusters/{clusterName}", CLUSTER, "Microsoft.BatchAI/workspaces/clusters/read", "Clusters_CheckExistence", |c| Box::pin(verbs::exists::<Cluster>(c))),
    route(HEAD, "{WS}/fileServers/{fileServerName}", FILE_SERVER, "Microsoft.BatchAI/workspaces/fileservers/read", "FileServers_CheckExistence", |c| Box::pin(verbs::exists::<FileServer>(c))),
    route(HEAD, "{EXP}", EXP, "Microsoft.BatchAI/workspaces/experiments/read", "Experiments_CheckExistence", |c| Box::pin(verbs::exists::<Experiment>(c))),
    route(HEAD, "{EXP}/jobs/{jobName}", JOB, "Microsoft.BatchAI/workspaces/experiments/jobs/read", "Jobs_CheckExistence", |c| Box::pin(verbs::exists::<Job>(c))),
    route(GET, "{S}/tagNames", SUB, "Microsoft.Resources/subscriptions/tagNames/read", "Tags_List", |c| Box::pin(platform::tags::names(c))),
    route(PUT, "{S}/tagNames/{tagName}", SUB, "Microsoft.Resources/subscriptions/tagNames/write", "Tags_CreateOrUpdate", |c| Box::pin(platform::tags::put_name(c))),
    route(DELETE, "{S}/tagNames/{tagName}", SUB, "Microsoft.Resources/subscriptions/tagNames/delete", "Tags_Delete", |c| Box::pin(platform::tags::delete_name(c))),
    route(PUT, "{S}/tagNames/{tagName}/tagValues/{tagValue}", SUB, "Microsoft.Resources/subscriptions/tagNames/tagValues/write", "Tags_CreateOrUpdateValue", |c| Box::pin(platform::tags::put_value(c))),
    route(DELETE, "{S}/tagNames/{tagName}/tagValues/{tagValue}", SUB, "Microsoft.Resources/subscriptions/tagNames/tagValues/delete", "Tags_DeleteValue", |c| Box::pin(platform::tags::delete_value(c))),
    route(GET, "/{scope}/providers/Microsoft.Resources/tags/default", SCOPE, "Microsoft.Resources/tags/read", "Tags_GetAtScope", |c| Box::pin(platform::tags::get(c))),
    route(PUT, "/{scope}/providers/Microsoft.Resources/tags/default", SCOPE, "Microsoft.Resources/tags/write", "Tags_CreateOrUpdateAtScope", |c| Box::pin(platform::tags::put(c))),
    route(PATCH, "/{scope}/providers/Microsoft.Resources/tags/default", SCOPE, "Microsoft.Resources/tags/write", "Tags_UpdateAtScope", |c| Box::pin(platform::tags::patch(c))),
    route(DELETE, "/{scope}/providers/Microsoft.Resources/tags/default", SCOPE, "Microsoft.Resources/tags/delete", "Tags_DeleteAtScope", |c| Box::pin(platform::tags::delete(c))),
    route(GET, "{S}/providers/Microsoft.Resources/deployments", SUB, "Microsoft.Resources/deployments/read", "Deployments_ListAtSubscriptionScope", |c| Box::pin(platform::deployments::list(c))),
    route(GET, "{S}/providers/Microsoft.Resources/deployments/{deploymentName}", SUB, "Microsoft.Resources/deployments/read", "Deployments_GetAtSubscriptionScope", |c| Box::pin(platform::deployments::get(c))),
    route(HEAD, "{S}/providers/Microsoft.Resources/deployments/{deploymentName}", SUB, "Microsoft.Resources/deployments/read", "Deployments_CheckExistenceAtSubscriptionScope", |c| Box::pin(platform::deployments::get(c))),
    route(GET, "{RG}/providers/Microsoft.Resources/deployments", GROUP, "Microsoft.Resources/deployments/read", "Deployments_ListByResourceGroup", |c| Box::pin(platform::deployments::list(c))),
    route(GET, "{RG}/providers/Microsoft.Resources/deployments/{deploymentName}", GROUP, "Microsoft.Resources/deployments/read", "Deployments_Get", |c| Box::pin(platform::deployments::get(c))),
    route(HEAD, "{RG}/providers/Microsoft.Resources/deployments/{deploymentName}", GROUP, "Microsoft.Resources/deployments/read", "Deployments_CheckExistence", |c| Box::pin(platform::deployments::get(c))),
    route(GET, "{S}/resourceGroups", SEEN, "Microsoft.Resources/subscriptions/resourceGroups/read", "ResourceGroups_List", |c| Box::pin(platform::resources::list_groups(c))),
    route(HEAD, "{RG}", GROUP, "Microsoft.Resources/subscriptions/resourceGroups/read", "ResourceGroups_CheckExistence", |c| Box::pin(verbs::exists::<Group>(c))),
    route(PUT, "{RG}", GROUP, "Microsoft.Resources/subscriptions/resourceGroups/write", "ResourceGroups_CreateOrUpdate", |c| Box::pin(verbs::put::<Group>(c))),
    route(PATCH, "{RG}", GROUP, "Microsoft.Resources/subscriptions/resourceGroups/write", "ResourceGroups_Update", |c| Box::pin(verbs::patch::<Group>(c))),
    route(DELETE, "{RG}", GROUP, "Microsoft.Resources/subscriptions/resourceGroups/delete", "ResourceGroups_Delete", |c| Box::pin(verbs::delete::<Group>(c))),
    route(GET, "{RG}", GROUP, "Microsoft.Resources/subscriptions/resourceGroups/read", "ResourceGroups_Get", |c| Box::pin(verbs::get::<Group>(c))),
    route(GET, "{S}/operationresults/{operationId}", OP, "Microsoft.Resources/subscriptions/operationresults/read", "ResourceGroups_GetResult", |c| Box::pin(operations::group(c))),

    // Microsoft.Authorization and Microsoft.Insights, any version
    route(GET, "/{scope}/providers/Microsoft.Authorization/locks", SCOPE, "Microsoft.Authorization/locks/read", "ManagementLocks_ListByScope", |c| Box::pin(platform::locks::list(c))),
    route(GET, "/{scope}/providers/Microsoft.Authorization/locks/{lockName}", SCOPE, "Microsoft.Authorization/locks/read", "ManagementLocks_GetByScope", |c| Box::pin(platform::locks::get(c))),
    route(PUT, "/{scope}/providers/Microsoft.Authorization/locks/{lockName}", SCOPE, "Microsoft.Authorization/locks/write", "ManagementLocks_CreateOrUpdateByScope", |c| Box::pin(platform::locks::put(c))),
    route(DELETE, "/{scope}/providers/Microsoft.Authorization/locks/{lockName}", SCOPE, "Microsoft.Authorization/locks/delete", "ManagementLocks_DeleteByScope", |c| Box::pin(platform::locks::delete(c))),
    route(GET, "/{scope}/providers/Microsoft.Authorization/roleAssignments", SCOPE, "Microsoft.Authorization/roleAssignments/read", "RoleAssignments_ListForScope", |c| Box::pin(platform::roles::list_assignments(c))),
    route(GET, "/{scope}/providers/Microsoft.Authorization/roleAssignments/{roleAssignmentName}", SCOPE, "Microsoft.Authorization/roleAssignments/read", "RoleAssignments_Get", |c| Box::pin(platform::roles::get_assignment(c))),
    route(PUT, "/{scope}/providers/Microsoft.Authorization/roleAssignments/{roleAssignmentName}", SCOPE, "Microsoft.Authorization/roleAssignments/write", "RoleAssignments_Create", |c| Box::pin(platform::roles::put_assignment(c))),
    route(DELETE, "/{scope}/providers/Microsoft.Authorization/roleAssignments/{roleAssignmentName}", SCOPE, "Microsoft.Authorization/roleAssignments/delete", "RoleAssignments_Delete", |c| Box::pin(platform::roles::delete_assignment(c))),
    route(GET, "/{scope}/providers/Microsoft.Authorization/roleDefinitions", SCOPE, "Microsoft.Authorization/roleDefinitions/read", "RoleDefinitions_List", |c| Box::pin(platform::roles::list_roles(c))),
    route(GET, "/{scope}/providers/Microsoft.Authorization/roleDefinitions/{roleDefinitionId}", SCOPE, "Microsoft.Authorization/roleDefinitions/read", "RoleDefinitions_Get", |c| Box::pin(platform::roles::get_role(c))),
    route(PUT, "/{scope}/providers/Microsoft.Authorization/roleDefinitions/{roleDefinitionId}", SCOPE, "Microsoft.Authorization/roleDefinitions/write", "RoleDefinitions_CreateOrUpdate", |c| Box::pin(platform::roles::put_role(c))),
    route(DELETE, "/{scope}/providers/Microsoft.Authorization/roleDefinitions/{roleDefinitionId}", SCOPE, "Microsoft.Authorization/roleDefinitions/delete", "RoleDefinitions_Delete", |c| Box::pin(platform::roles::delete_role(c))),
    route(GET, "/providers/Microsoft.Authorization/roleDefinitions", TENANT, "", "RoleDefinitions_ListAtTenantScope", |c| Box::pin(platform::roles::list_roles(c))),
    route(GET, "/providers/Microsoft.Authorization/roleDefinitions/{roleDefinitionId}", TENANT, "", "RoleDefinitions_GetAtTenantScope", |c| Box::pin(platform::roles::get_role(c))),
    route(GET, "/{scope}/providers/Microsoft.Authorization/permissions", SCOPE, "Microsoft.Authorization/permissions/read", "Permissions_ListForScope", |c| Box::pin(platform::roles::permissions(c))),
    route(GET, "{S}/providers/Microsoft.Insights/eventtypes/management/values", SEEN, "Microsoft.Insights/eventtypes/values/read", "ActivityLogs_List", |c| Box::pin(platform::activity::list(c))),

    // What clients ask a directory for, where they give roles to principals by name
    route(GET, "/v1.0/servicePrincipals", DIRECTORY, "", "Directory_FindServicePrincipals", |c| Box::pin(platform::directory::find(c))),
    route(GET, "/v1.0/users", DIRECTORY, "", "Directory_FindUsers", |c| Box::pin(platform::directory::find_users(c))),
    route(POST, "/v1.0/directoryObjects/getByIds", DIRECTORY, "", "Directory_GetByIds", |c| Box::pin(platform::directory::get_by_ids(c))),

    // Discovery, sign-in, downloads, documents, health
    route(GET, "/metadata/endpoints", OPEN, "", "Metadata_GetEndpoints", |c| Box::pin(platform::discovery::endpoints(c))),
    route(GET, "/{tenant}/v2.0/.well-known/openid-configuration", OPEN, "", "Tokens_GetConfigurationV2", |c| Box::pin(platform::token::configuration(c))),
    route(GET, "/{tenant}/.well-known/openid-configuration", OPEN, "", "Tokens_GetConfiguration", |c| Box::pin(platform::token::configuration(c))),
    route(GET, "/adfs/{tenant}/v2.0/.well-known/openid-configuration", OPEN, "", "Tokens_GetConfigurationAdfs", |c| Box::pin(platform::token::adfs_configuration(c))),
    route(GET, "/{tenant}/discovery/v2.0/keys", OPEN, "", "Tokens_GetKeysV2", |c| Box::pin(platform::token::keys(c))),
    route(GET, "/{tenant}/discovery/keys", OPEN, "", "Tokens_GetKeys", |c| Box::pin(platform::token::keys(c))),
    route(POST, "/{tenant}/oauth2/v2.0/token", OPEN, "", "Tokens_CreateV2", |c| Box::pin(platform::token::issue(c))),
    route(POST, "/{tenant}/oauth2/token", OPEN, "", "Tokens_Create", |c| Box::pin(platform::token::issue(c))),
    route(GET, "/files/{subscriptionId}/{resourceGroupName}/workspaces/{workspaceName}/experiments/{experimentName}/jobs/{jobName}/{jobUid}/{path*}", LINK, "", "Files_Get", |c| Box::pin(download::get(c))),
    route(HEAD, "/files/{subscriptionId}/{resourceGroupName}/workspaces/{workspaceName}/experiments/{experimentName}/jobs/{jobName}/{jobUid}/{path*}", LINK, "", "Files_Head", |c| Box::pin(download::get(c))),
    route(GET, "/docs", OPEN, "", "Documents_Page", |c| Box::pin(docs::page(c))),
    route(GET, "/docs/{part}", OPEN, "", "Documents_Part", |c| Box::pin(docs::part(c))),
    route(GET, "/openapi/{document}", OPEN, "", "Documents_OpenApi", |c| Box::pin(docs::openapi_document(c))),
    route(GET, "/healthz", OPEN, "", "Health_Live", |c| Box::pin(health::live(c))),
    route(GET, "/readyz", OPEN, "", "Health_Ready", |c| Box::pin(health::ready(c))),
    since(OWN, "/metrics", ALL_SUBS, "Microsoft.BatchAI/metrics/read", "Health_Metrics", |c| Box::pin(health::metrics(c))),
];

/// A template with its shorthands written out: `{S}` a subscription, `{RG}` a group, `{P}` the provider, `{WS}` a workspace and
/// `{EXP}` an experiment.
pub(crate) fn expand(template: &str) -> String {
    template
        .replace("{EXP}", "{WS}/experiments/{experimentName}")
        .replace("{WS}", "{RG}{P}/workspaces/{workspaceName}")
        .replace("{RG}", "{S}/resourceGroups/{resourceGroupName}")
        .replace("{S}", "/subscriptions/{subscriptionId}")
        .replace("{P}", "/providers/Microsoft.BatchAI")
}

#[derive(Debug)]
enum Part {
    /// Matches without regard to case.
    Literal(String),
    /// Any one segment.
    Name,
    /// One or more segments, to the end.
    Rest,
    /// The path of a subscription, a group or a resource, at the beginning.
    Scope,
}

static PARTS: LazyLock<Vec<Vec<Part>>> = LazyLock::new(|| {
    let part = |text: &str| match text.strip_prefix('{') {
        Some(name) if name.ends_with("*}") => Part::Rest,
        Some("scope}") => Part::Scope,
        Some(_) => Part::Name,
        None => Part::Literal(text.to_owned()),
    };
    ROUTES.iter().map(|route| expand(route.template).split('/').skip(1).map(part).collect()).collect()
});

/// What a method and a path lead to.
pub(crate) enum Found {
    /// A route, and what its template's names stand for, in order.
    Route(&'static Route, Vec<String>),
    /// The path is known, with these methods.
    Methods(Vec<Method>),
    /// The path is not known.
    Nothing,
}

/// Finds the route of a request.
pub(crate) fn find(method: &Method, segments: &[String]) -> Found {
    let mut methods: Vec<Method> = Vec::new();
    for (route, parts) in ROUTES.iter().zip(PARTS.iter()) {
        let Some(arguments) = fit(parts, segments) else { continue };
        if route.method == *method {
            return Found::Route(route, arguments);
        }
        if !methods.contains(&route.method) {
            methods.push(route.method.clone());
        }
    }
    if methods.is_empty() { Found::Nothing } else { Found::Methods(methods) }
}

/// The names of a template that fits: for a scope its subscription and its whole path.
fn fit(parts: &[Part], segments: &[String]) -> Option<Vec<String>> {
    if let Some((Part::Scope, parts)) = parts.split_first() {
        let (scope, tail) = segments.split_at_checked(segments.len().checked_sub(parts.len())?)?;
        if !is_scope(scope) {
            return None;
        }
        let names = fit(parts, tail)?;
        let mut arguments = vec![scope.get(1)?.clone(), format!("/{}", scope.join("/"))];
        arguments.extend(names);
        return Some(arguments);
    }
    let open_end = matches!(parts.last(), Some(Part::Rest));
    if if open_end { segments.len() < parts.len() } else { segments.len() != parts.len() } {
        return None;
    }
    let literals = parts.iter().zip(segments).all(|(part, segment)| match part {
        Part::Literal(text) => text.eq_ignore_ascii_case(segment),
        Part::Name | Part::Rest => true,
        // Stands at the beginning alone, and was taken off there.
        Part::Scope => false,
    });
    if !literals {
        return None;
    }
    let names = parts.iter().zip(segments).filter(|(part, _)| matches!(part, Part::Name | Part::Rest));
    let mut arguments: Vec<String> = names.map(|(_, segment)| segment.clone()).collect();
    if open_end {
        arguments.extend(segments.iter().skip(parts.len()).cloned());
    }
    Some(arguments)
}

/// Whether segments have the form of a scope: a subscription, a group, or a provider's types and names below a group.
fn is_scope(segments: &[String]) -> bool {
    let is = |at: usize, word: &str| segments.get(at).is_some_and(|segment| segment.eq_ignore_ascii_case(word));
    is(0, "subscriptions")
        && match segments.len() {
            2 => true,
            4 => is(2, "resourceGroups"),
            more => more >= 8 && more % 2 == 0 && is(2, "resourceGroups") && is(4, "providers"),
        }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn segments(path: &str) -> Vec<String> {
        crate::http::path::segments(path).expect("a canonical path")
    }

    fn operation(method: Method, path: &str) -> Option<&'static str> {
        match find(&method, &segments(path)) {
            Found::Route(route, _) => Some(route.operation),
            _ => None,
        }
    }

    #[test]
    fn literals_match_without_case() {
        let path = "/SUBSCRIPTIONS/s/resourcegroups/g/Providers/microsoft.batchai/WorkSpaces/w/CLUSTERS/c";
        assert_eq!(operation(Method::GET, path), Some("Clusters_Get"));
        assert_eq!(operation(Method::GET, "/subscriptions/s/resourcegroups"), Some("ResourceGroups_List"));
        let Found::Route(_, names) = find(&Method::GET, &segments(path)) else { panic!("a route") };
        assert_eq!(names, ["s", "g", "w", "c"]);
    }

    #[test]
    fn unknown_paths_and_methods_are_told_apart() {
        assert!(matches!(find(&Method::GET, &segments("/subscriptions/s/x")), Found::Nothing));
        match find(&Method::DELETE, &segments("/tenants")) {
            Found::Methods(methods) => assert_eq!(methods, [Method::GET]),
            _ => panic!("the path is known"),
        }
    }

    #[test]
    fn a_scope_is_a_subscription_a_group_or_a_resource() {
        let group = "/subscriptions/s/resourcegroups/g";
        let job = format!("{group}/providers/Microsoft.BatchAI/workspaces/w/experiments/e/jobs/j");
        for scope in ["/subscriptions/s", group, &job] {
            let path = format!("{scope}/Providers/microsoft.authorization/LOCKS/l");
            assert_eq!(operation(Method::PUT, &path), Some("ManagementLocks_CreateOrUpdateByScope"), "{path}");
            let Found::Route(_, names) = find(&Method::PUT, &segments(&path)) else { panic!("a route") };
            assert_eq!(names, ["s", scope, "l"]);
        }
        for scope in ["/subscriptions", "/tenants/s", "/subscriptions/s/x/g", "/subscriptions/s/resourceGroups/g/providers/n"] {
            assert_eq!(operation(Method::PUT, &format!("{scope}/providers/Microsoft.Authorization/locks/l")), None, "{scope}");
        }
    }

    #[test]
    fn a_file_has_a_path_of_any_depth() {
        let base = "/files/s/g/workspaces/w/experiments/e/jobs/j/u";
        assert_eq!(operation(Method::GET, &format!("{base}/stdouterr/a/b.txt")), Some("Files_Get"));
        assert_eq!(operation(Method::GET, base), None);
        let Found::Route(_, names) = find(&Method::HEAD, &segments(&format!("{base}/a/b"))) else { panic!("a route") };
        assert_eq!(names, ["s", "g", "w", "e", "j", "u", "a", "b"]);
    }

    #[test]
    fn every_route_has_a_permission() {
        for route in ROUTES {
            let asks = matches!(
                route.access,
                Access::Everywhere
                    | Access::Subscription
                    | Access::Visible
                    | Access::Scope
                    | Access::Resource(_)
                    | Access::Flat(_)
                    | Access::Operation
            );
            assert_eq!(asks, !route.action.is_empty(), "{}", route.operation);
        }
    }

    #[test]
    fn the_routes_that_anyone_may_use_are_these() {
        let open: BTreeSet<String> = ROUTES
            .iter()
            .filter(|route| matches!(route.access, Access::Open | Access::Link))
            .map(|route| format!("{} {}", route.method, route.template.split("/{path").next().unwrap_or_default()))
            .collect();
        let file = "/files/{subscriptionId}/{resourceGroupName}/workspaces/{workspaceName}/experiments/{experimentName}/jobs/{jobName}/{jobUid}";
        let wanted = [
            format!("GET {file}"),
            format!("HEAD {file}"),
            "GET /metadata/endpoints".into(),
            "GET /docs".into(),
            "GET /docs/{part}".into(),
            "GET /openapi/{document}".into(),
            "GET /healthz".into(),
            "GET /readyz".into(),
            "GET /{tenant}/v2.0/.well-known/openid-configuration".into(),
            "GET /{tenant}/.well-known/openid-configuration".into(),
            "GET /adfs/{tenant}/v2.0/.well-known/openid-configuration".into(),
            "GET /{tenant}/discovery/v2.0/keys".into(),
            "GET /{tenant}/discovery/keys".into(),
            "POST /{tenant}/oauth2/v2.0/token".into(),
            "POST /{tenant}/oauth2/token".into(),
        ];
        assert_eq!(open, BTreeSet::from(wanted));
    }

    #[test]
    fn operation_ids_and_routes_are_unique() {
        for version in ApiVersion::ALL {
            let served = || ROUTES.iter().filter(|route| route.versions.contains(&version));
            let ids: BTreeSet<&str> = served().map(|route| route.operation).collect();
            assert_eq!(ids.len(), served().count(), "{}", version.as_str());
        }
        let lines: BTreeSet<String> = ROUTES.iter().map(|route| format!("{} {}", route.method, expand(route.template))).collect();
        assert_eq!(lines.len(), ROUTES.len());
    }
}
