//! What the route table does not say of an operation: what it is for, its query, its body and its answers.

mod platform;

use serde_json::{Value, json};

use crate::http::actions::evict::NOTICE_SECONDS;
use crate::http::actions::samples::STEP;
use crate::http::verbs::MAX_RESULTS;
use crate::http::wait::MAX_WAIT_S;
use crate::wire::ApiVersion;

/// A description of one operation.
pub(super) struct Operation {
    /// One sentence.
    pub(super) summary: &'static str,
    /// Name, whether it is required, schema; `api-version` is added from the route.
    pub(super) query: Vec<(&'static str, bool, Value)>,
    /// Name and schema of headers that the operation reads.
    pub(super) headers: Vec<(&'static str, Value)>,
    /// Media type and schema of the body.
    pub(super) request: Option<(&'static str, &'static str)>,
    /// Status, meaning, and schema of the body: `None` without one, `""` for bytes.
    pub(super) responses: Vec<(u16, &'static str, Option<&'static str>)>,
    /// The schema of refusals.
    pub(super) failure: &'static str,
}

fn answers(summary: &'static str, schema: &'static str) -> Operation {
    let responses = vec![(200, "The answer.", Some(schema))];
    Operation { summary, query: Vec::new(), headers: Vec::new(), request: None, responses, failure: "CloudError" }
}

fn list(summary: &'static str, schema: &'static str) -> Operation {
    Operation { query: vec![max_results(), skip_token()], ..answers(summary, schema) }
}

fn accepted(summary: &'static str) -> Operation {
    let responses = vec![(202, "It was accepted; poll the URLs of the headers.", None)];
    Operation { responses, ..answers(summary, "") }
}

fn delete(summary: &'static str) -> Operation {
    let mut operation = accepted(summary);
    operation.responses.push((204, "There was none.", None));
    operation
}

impl Operation {
    fn body(mut self, schema: &'static str) -> Operation {
        self.request = Some(("application/json", schema));
        self
    }

    fn or(mut self, status: u16, meaning: &'static str, schema: Option<&'static str>) -> Operation {
        self.responses.push((status, meaning, schema));
        self
    }

    fn query(mut self, parameters: Vec<(&'static str, bool, Value)>) -> Operation {
        self.query.extend(parameters);
        self
    }

    fn only(mut self, status: u16, meaning: &'static str, schema: Option<&'static str>) -> Operation {
        self.responses = vec![(status, meaning, schema)];
        self
    }
}

fn max_results() -> (&'static str, bool, Value) {
    (
        "maxresults",
        false,
        json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": MAX_RESULTS, "default": MAX_RESULTS}),
    )
}

fn skip_token() -> (&'static str, bool, Value) {
    ("$skiptoken", false, json!({"type": "string", "description": "Where the page begins, as a nextLink carries it."}))
}

fn files(summary: &'static str) -> Operation {
    list(summary, "FileListResult").query(vec![
        ("outputdirectoryid", true, json!({"type": "string"})),
        ("directory", false, json!({"type": "string", "default": "."})),
        (
            "linkexpiryinminutes",
            false,
            json!({"type": "integer", "format": "int32", "minimum": 5, "maximum": 600, "default": 60}),
        ),
    ])
}

fn linked(summary: &'static str) -> Operation {
    let text = || json!({"type": "string"});
    let names = ["sv", "a", "d", "se", "sig"].map(|name| (name, true, text()));
    answers(summary, "")
        .or(206, "The bytes that the Range header asked for.", Some(""))
        .or(416, "The range is at or past the end.", None)
        .query(names.to_vec())
        .query(vec![("sr", false, text()), ("sp", false, text()), ("n", false, text())])
}

/// The description of an operation by its id at a version; empty where there is none, which a test finds.
pub(super) fn describe(operation: &str, version: ApiVersion) -> Operation {
    match version {
        ApiVersion::V2018_05_01 => published(operation),
        ApiVersion::V2018_03_01 | ApiVersion::V2017_09_01Preview => older(operation, version),
        ApiVersion::V2026_11_01Preview => own(operation),
    }
}

/// What the versions before workspaces do otherwise.
fn older(operation: &str, version: ApiVersion) -> Operation {
    match operation {
        "Clusters_List" => filtered(list("Lists the clusters of a subscription.", "ClusterListResult")),
        "Clusters_ListByResourceGroup" => filtered(list("Lists the clusters of a group.", "ClusterListResult")),
        "Jobs_List" => filtered(list("Lists the jobs of a subscription.", "JobListResult")),
        "Jobs_ListByResourceGroup" => filtered(list("Lists the jobs of a group.", "JobListResult")),
        "FileServers_List" => filtered(list("Lists the file servers of a subscription.", "FileServerListResult")),
        "FileServers_ListByResourceGroup" => filtered(list("Lists the file servers of a group.", "FileServerListResult")),
        "Jobs_ListOutputFiles" | "Jobs_ListOutputFilesNext" if version == ApiVersion::V2017_09_01Preview => {
            let mut files = published(operation);
            files.query.retain(|(name, _, _)| *name != "directory");
            files
        }
        _ => published(operation),
    }
}

/// Parameters that were published and never described: a request that gives one is refused.
fn filtered(operation: Operation) -> Operation {
    let text = || json!({"type": "string", "description": "Not offered: a request that gives it is refused."});
    operation.query(vec![("$filter", false, text()), ("$select", false, text())])
}

/// What our own version does otherwise.
fn own(operation: &str) -> Operation {
    let events = |summary| {
        let mut events = answers(summary, "Event");
        events.headers.push(("Last-Event-ID", json!({"type": "string", "description": "The last event that the client has."})));
        events
    };
    match operation {
        "Events_Follow" => events("Follows the changes of a subscription."),
        "Events_FollowResourceGroup" => events("Follows the changes of a group and all that is in it."),
        "Events_FollowWorkspace" => events("Follows the changes of a workspace and all that is in it."),
        "Events_FollowCluster" => events("Follows the changes of a cluster."),
        "Events_FollowExperiment" => events("Follows the changes of an experiment and its jobs."),
        "Events_FollowJob" => events("Follows the changes of a job."),
        "Clusters_ListNodes" => answers(
            "Lists the nodes of a cluster, what they have, proved and fail at; also the latest that are gone and could not be used.",
            "NodeListResult",
        ),
        "Jobs_ListByExperiment" => searching(published(operation)),
        "Jobs_ListByWorkspace" => searching(list("Lists the jobs of a workspace.", "JobListResult")),
        "Jobs_CountByWorkspace" => answers("Counts the jobs of a workspace by state.", "JobCounts"),
        "Jobs_CountByExperiment" => answers("Counts the jobs of an experiment by state.", "JobCounts"),
        "Jobs_ListAttempts" => answers("Lists the latest attempts of a job, the latest first.", "JobAttemptListResult"),
        "Jobs_GetWhy" => answers("Tells why a job does not run: what it waits for, and what will clear it.", "Why"),
        "Clusters_GetWhy" => answers("Tells why a cluster does not have the nodes that it is to have.", "Why"),
        "Clusters_GetNodeWhy" => answers("Tells why a node of a cluster takes no job.", "Why"),
        "Jobs_ListSamples" => {
            let number = json!({
                "type": "integer", "format": "int32", "minimum": 1, "description": "The attempt; the latest where it is left out.",
            });
            ranged(answers("Tells what the nodes of a job used over time, by rank.", "SampleCurves"))
                .query(vec![("attempt", false, number)])
        }
        "Clusters_ListNodeSamples" => {
            ranged(answers("Tells what a node used over time, in its last hour where nothing else is asked for.", "SampleCurves"))
        }
        "Clusters_SimulateEviction" => {
            let (low, high, default) = NOTICE_SECONDS;
            let seconds = json!({
                "type": "integer", "format": "int32", "minimum": low, "maximum": high, "default": default,
                "description": "Seconds from the notice to the end.",
            });
            answers("Takes a node away as a cloud takes one of low priority.", "")
                .only(204, "It is taken away.", None)
                .query(vec![("noticeSeconds", false, seconds)])
        }
        "Clusters_Validate" => {
            answers("Says what a PUT of this cluster would do, or all that is wrong with it.", "ValidationResult")
                .body("ClusterCreateParameters")
        }
        "FileServers_Validate" => {
            answers("Says what a PUT of this file server would do, or all that is wrong with it.", "ValidationResult")
                .body("FileServerCreateParameters")
        }
        "Jobs_Validate" => answers("Says what a PUT of this job would do, or all that is wrong with it.", "ValidationResult")
            .body("JobCreateParameters"),
        "Jobs_PutInput" => Operation {
            request: Some(("application/octet-stream", "Bytes")),
            ..answers("Saves a file of the input of a job that is yet to be made, where nodes find it.", "JobInput")
        }
        .only(201, "It is saved.", Some("JobInput")),
        "Operations_GetStatus" => waiting(answers("Tells how far an operation is.", "OperationStatus")),
        "Operations_GetResult" => waiting(published("Operations_GetStatus")),
        "Clusters_Get" | "Jobs_Get" => waiting(published(operation)),
        "Jobs_Terminate" => accepted("Stops a job.").or(204, "It had ended.", None),
        "Workspaces_Create" | "Experiments_Create" | "Clusters_Create" | "FileServers_Create" | "Jobs_Create" => {
            let schema = match operation {
                "Workspaces_Create" => "Workspace",
                "Experiments_Create" => "Experiment",
                "Clusters_Create" => "Cluster",
                "FileServers_Create" => "FileServer",
                _ => "Job",
            };
            let base = published(operation);
            Operation { request: base.request, ..answers(base.summary, schema) }.or(201, "It was made.", Some(schema))
        }
        _ => published(operation),
    }
}

/// The same, where jobs may be found by what they are.
fn searching(operation: Operation) -> Operation {
    let filter = "executionState eq '<state>', cluster eq '<name or id>' and substringof('<part>', name), joined by 'and'.";
    let orders = ["name", "creationTime desc", "creationTime asc"];
    operation.query(vec![
        ("$filter", false, json!({"type": "string", "description": filter})),
        ("$orderby", false, json!({"type": "string", "enum": orders, "default": "name"})),
    ])
}

/// The same, of a range of time in steps.
fn ranged(operation: Operation) -> Operation {
    let (low, high) = STEP;
    let time = |what: &str| json!({"type": "string", "format": "date-time", "description": what});
    let step = json!({
        "type": "integer", "format": "int32", "minimum": low, "maximum": high,
        "description": "Seconds that make one point. Longer ones are taken where the answer would be too long; the answer tells.",
    });
    operation.query(vec![
        ("from", false, time("From here; the beginning where it is left out.")),
        ("to", false, time("To here; now, or the end, where it is left out.")),
        ("step", false, step),
    ])
}

/// The same, where the answer may wait for a change.
fn waiting(mut operation: Operation) -> Operation {
    let seconds = json!({
        "type": "integer", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0,
        "description": "Answers once a state is another than the If-None-Match header says, or than it is now; at the latest after so \
            many seconds.",
    });
    operation.query.push(("wait", false, seconds));
    let tag = json!({"type": "string", "description": "The ETag that the client has."});
    operation.headers.push(("If-None-Match", tag));
    operation.or(304, "Nothing changed.", None)
}

fn published(operation: &str) -> Operation {
    match operation {
        "Operations_List" => answers("Lists what can be permitted.", "OperationListResult"),
        "Usages_List" => answers("Lists what is used of what may be used in a region.", "ListUsagesResult"),
        "Operations_GetResult" => answers("Tells how far an operation is.", "OperationResult"),
        "Operations_GetStatus" => accepted("Answers what an operation's call would have answered.")
            .or(200, "The resource that was made.", Some("Resource"))
            .or(204, "It did what it promised.", None),
        "Workspaces_List" => list("Lists the workspaces of a subscription.", "WorkspaceListResult"),
        "Workspaces_ListByResourceGroup" => list("Lists the workspaces of a group.", "WorkspaceListResult"),
        "Workspaces_Create" => answers("Makes a workspace.", "Workspace").body("WorkspaceCreateParameters"),
        "Workspaces_Update" => answers("Replaces a workspace's tags.", "Workspace").body("WorkspaceUpdateParameters"),
        "Workspaces_Delete" => delete("Deletes a workspace and all that is in it."),
        "Workspaces_Get" => answers("Gets a workspace.", "Workspace"),
        "Experiments_ListByWorkspace" => list("Lists the experiments of a workspace.", "ExperimentListResult"),
        "Experiments_Create" => answers("Makes an experiment.", "Experiment"),
        "Experiments_Delete" => delete("Deletes an experiment and its jobs."),
        "Experiments_Get" => answers("Gets an experiment.", "Experiment"),
        "Jobs_ListByExperiment" => list("Lists the jobs of an experiment.", "JobListResult"),
        "Jobs_Create" => {
            accepted("Makes a job.").body("JobCreateParameters").or(200, "It was there; this is what is stored.", Some("Job"))
        }
        "Jobs_Delete" => delete("Deletes a job; one that runs is stopped."),
        "Jobs_Get" => answers("Gets a job.", "Job"),
        "Jobs_ListOutputFiles" => files("Lists what a job wrote to one of its directories."),
        "Jobs_ListOutputFilesNext" => files("Continues such a list, for clients that do it with GET."),
        "Jobs_ListRemoteLoginInformation" => {
            answers("Lists how to reach the nodes of a job.", "RemoteLoginInformationListResult")
        }
        "Jobs_ListRemoteLoginInformationNext" => {
            answers("The same, for clients that continue lists with GET.", "RemoteLoginInformationListResult")
        }
        "Jobs_Terminate" => accepted("Stops a job.").or(200, "It had ended.", None),
        "FileServers_Create" => accepted("Makes a file server.").body("FileServerCreateParameters").or(
            200,
            "It was there; this is what is stored.",
            Some("FileServer"),
        ),
        "FileServers_Delete" => delete("Deletes a file server and what is on it."),
        "FileServers_Get" => answers("Gets a file server.", "FileServer"),
        "FileServers_ListByWorkspace" => list("Lists the file servers of a workspace.", "FileServerListResult"),
        "Clusters_Create" => accepted("Makes a cluster.").body("ClusterCreateParameters").or(
            200,
            "It was there; this is what is stored.",
            Some("Cluster"),
        ),
        "Clusters_Update" => answers("Changes a cluster's scale settings.", "Cluster").body("ClusterUpdateParameters"),
        "Clusters_Delete" => delete("Deletes a cluster; its jobs stay."),
        "Clusters_Get" => answers("Gets a cluster.", "Cluster"),
        "Clusters_ListRemoteLoginInformation" => {
            answers("Lists how to reach the nodes of a cluster.", "RemoteLoginInformationListResult")
        }
        "Clusters_ListRemoteLoginInformationNext" => {
            answers("The same, for clients that continue lists with GET.", "RemoteLoginInformationListResult")
        }
        "Clusters_ListByWorkspace" => list("Lists the clusters of a workspace.", "ClusterListResult"),
        "Tenants_List" => answers("Lists the caller's tenant.", "TenantListResult"),
        "Subscriptions_List" => answers("Lists the subscriptions of the caller's tenant.", "SubscriptionListResult"),
        "Subscriptions_Get" => answers("Gets a subscription.", "Subscription"),
        "Subscriptions_ListLocations" => answers("Lists the regions that are offered.", "LocationListResult"),
        "Providers_ListAtTenantScope" => answers("Lists the providers.", "ProviderListResult"),
        "Providers_GetAtTenantScope" => answers("Gets a provider.", "Provider"),
        "Providers_List" => {
            answers("Lists the providers and whether the subscription has registered them.", "ProviderListResult")
        }
        "Providers_Get" => answers("Gets a provider and whether the subscription has registered it.", "Provider"),
        "Providers_Register" => answers("Registers a provider for a subscription.", "Provider"),
        "ResourceGroups_List" => list("Lists the resource groups of a subscription.", "ResourceGroupListResult").query(vec![(
            "$top",
            false,
            json!({"type": "integer", "minimum": 1, "maximum": MAX_RESULTS}),
        )]),
        "ResourceGroups_CheckExistence" => {
            answers("Tells whether a group exists.", "").only(204, "It exists.", None).or(404, "It does not.", None)
        }
        "ResourceGroups_CreateOrUpdate" => answers("Makes a group, or changes its tags.", "ResourceGroup")
            .body("ResourceGroupParameters")
            .or(201, "It was made.", Some("ResourceGroup")),
        "ResourceGroups_Update" => answers("Changes a group's tags.", "ResourceGroup").body("ResourceGroupPatch"),
        "ResourceGroups_Delete" => accepted("Deletes a group and all that is in it."),
        "ResourceGroups_Get" => answers("Gets a group.", "ResourceGroup"),
        "ResourceGroups_GetResult" => accepted("Tells whether a group's delete has ended.").or(200, "It has.", None),
        "Metadata_GetEndpoints" => answers("Tells where the rest of this cloud is.", "CloudMetadata").query(vec![(
            "api-version",
            false,
            json!({"type": "string"}),
        )]),
        "Tokens_GetConfigurationV2" | "Tokens_GetConfiguration" | "Tokens_GetConfigurationAdfs" => {
            answers("What an authority says of itself.", "OpenIdConfiguration")
        }
        "Tokens_GetKeysV2" | "Tokens_GetKeys" => answers("The public keys of the built-in issuer.", "JsonWebKeySet"),
        "Tokens_CreateV2" | "Tokens_Create" => Operation {
            request: Some(("application/x-www-form-urlencoded", "TokenRequest")),
            failure: "TokenRefusal",
            ..answers("Gives a token for client credentials.", "Token")
        },
        "Files_Get" => linked("Downloads an output file."),
        "Files_Head" => linked("Tells the size of an output file."),
        "Documents_Page" => answers("A page for people about this API.", "").only(200, "The page.", None),
        "Documents_Part" => answers("A part of that page.", "").only(200, "The part.", None),
        "Documents_OpenApi" => answers("The OpenAPI document of a version.", "OpenApi"),
        "Health_Live" => answers("Tells whether the process lives.", "Health"),
        "Health_Metrics" => answers("Gets what this server counts, in Prometheus's text format.", "Health"),
        "Health_Ready" => answers("Tells whether the store answers.", "Health"),
        _ => platform::describe(operation).unwrap_or_else(|| Operation { responses: Vec::new(), ..answers("", "") }),
    }
}
