//! The provider's published list of operations, whose names are its permissions.
//!
//! The list is part of the frozen contract, misspellings included: it names also what this server does not offer yet.

use serde::Serialize;

/// One entry.
#[derive(Serialize)]
pub struct OperationBody {
    name: String,
    display: OperationDisplay,
    origin: &'static str,
}

impl OperationBody {
    /// The permission.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Serialize)]
struct OperationDisplay {
    provider: &'static str,
    operation: &'static str,
    resource: &'static str,
    description: &'static str,
}

/// All entries, in the published order.
pub fn all() -> Vec<OperationBody> {
    bodies(&PUBLISHED)
}

/// What our own version adds.
pub fn own() -> Vec<OperationBody> {
    bodies(&[
        ["metrics/read", "Batch AI Metrics", "Read Batch AI metrics", "Reads what a server of Batch AI counts"],
        ["events/read", "Batch AI Events", "Follow Batch AI events", "Follows the changes of Batch AI resources in a scope"],
        [
            "workspaces/clusters/nodes/simulateEviction/action",
            "Batch AI Clusters",
            "Simulate the eviction of a Batch AI node",
            "Takes a node of a Batch AI cluster away as a cloud takes one of low priority",
        ],
        [
            "workspaces/clusters/validate/action",
            "Batch AI Clusters",
            "Validate Batch AI cluster",
            "Checks what a Batch AI cluster would be made of, and makes nothing",
        ],
        [
            "workspaces/fileservers/validate/action",
            "Batch AI Fileservers",
            "Validate Batch AI fileserver",
            "Checks what a Batch AI fileserver would be made of, and makes nothing",
        ],
        [
            "workspaces/experiments/jobs/validate/action",
            "Batch AI Jobs",
            "Validate Batch AI job",
            "Checks what a Batch AI job would be made of, and makes nothing",
        ],
    ])
}

fn bodies(entries: &[[&'static str; 4]]) -> Vec<OperationBody> {
    entries
        .iter()
        .map(|&[name, resource, operation, description]| OperationBody {
            name: format!("Microsoft.BatchAI/{name}"),
            display: OperationDisplay { provider: "Microsoft Batch AI", operation, resource, description },
            origin: "user,system",
        })
        .collect()
}

/// Name, resource, operation and description. Source: `Operations_List`, examples of openapi 2018-05-01.
#[rustfmt::skip]
const PUBLISHED: [[&str; 4]; 26] = [
    ["workspaces/read", "Batch AI Workspaces", "List or get Batch AI workspaces", "Lists Batch AI workspaces or gets the properties of a Batch AI workspace"],
    ["workspaces/write", "Batch AI Workspaces", "Create or update Batch AI workspace", "Creates a new Batch AI workspace or updates an existing Batch AI workspace"],
    ["workspaces/delete", "Batch AI Clusters", "Delete Batch AI workspace", "Deletes a Batch AI workspace"],
    ["workspaces/experiments/read", "Batch AI Experiments", "List or get Batch AI experiements", "Lists Batch AI experiments or gets the properties of a Batch AI experiment"],
    ["workspaces/experiments/write", "Batch AI Experiments", "Create or update Batch AI experiement", "Creates a new Batch AI experiment or updates an existing Batch AI experiment"],
    ["workspaces/experiments/delete", "Batch AI Experiments", "Delete Batch AI experiment", "Deletes a Batch AI experiment"],
    ["clusters/read", "Batch AI Clusters", "List or get Batch AI clusters", "Lists Batch AI clusters or gets the properties of a Batch AI cluster"],
    ["workspaces/clusters/read", "Batch AI Clusters", "List or get Batch AI clusters", "Lists Batch AI clusters or gets the properties of a Batch AI cluster"],
    ["workspaces/clusters/write", "Batch AI Clusters", "Create or update Batch AI cluster", "Creates a new Batch AI cluster or updates an existing Batch AI cluster"],
    ["workspaces/clusters/delete", "Batch AI Clusters", "Delete Batch AI cluster", "Deletes a Batch AI cluster"],
    ["workspaces/clusters/remoteLoginInformation/action", "Batch AI Clusters", "List Batch AI cluster remote-login information", "Lists remote-login information for a Batch AI cluster"],
    ["workspaces/experiments/jobs/read", "Batch AI Jobs", "List or get Batch AI jobs", "Lists Batch AI jobs or gets the properties of a Batch AI job"],
    ["workspaces/experiments/jobs/write", "Batch AI Jobs", "Create or update Batch AI job", "Creates a new Batch AI job or updates an existing Batch AI job"],
    ["workspaces/experiments/jobs/delete", "Batch AI Jobs", "Delete Batch AI job", "Deletes a Batch AI job"],
    ["workspaces/experiments/jobs/terminate/action", "Batch AI Jobs", "Terminate Batch AI job", "Terminates a Batch AI job"],
    ["workspaces/experiments/jobs/remoteLoginInformation/action", "Batch AI Jobs", "List Batch AI job remote-login information", "Lists remote-login information for a Batch AI job"],
    ["workspaces/experiments/jobs/listoutputfiles/action", "Batch AI Jobs", "List Batch AI job output files", "Lists output files for a Batch AI job"],
    ["fileservers/read", "Batch AI Fileservers", "List or get Batch AI fileservers", "Lists Batch AI fileservers or gets the properties of a Batch AI fileserver"],
    ["workspaces/fileservers/read", "Batch AI Fileservers", "List or get Batch AI fileservers", "Lists Batch AI fileservers or gets the properties of a Batch AI fileserver"],
    ["workspaces/fileservers/write", "Batch AI Fileservers", "Create or update Batch AI fileserver", "Creates a new Batch AI fileserver or updates an existing Batch AI fileserver"],
    ["workspaces/fileservers/delete", "Batch AI Fileservers", "Delete Batch AI filserver", "Deletes a Batch AI fileserver"],
    ["locations/usages/read", "Batch AI Usages", "Get Batch AI Usages", "Gets Batch AI usages of the specified subscription at the specified Azure region"],
    ["register/action", "Batch AI Resource Provider", "Register the Batch AI Resource Provider", "Registers the subscription for the Batch AI Resource Provider and enables the creation of Batch AI resources"],
    ["unregister/action", "Batch AI Resource Provider", "Unregister the Batch AI Resource Provider", "Unregisters the subscription for the Batch AI Resource Provider preventing the creation of Batch AI resources"],
    ["locations/operationresults/read", "Batch AI Operation Results", "Get Batch AI Opreation Result", "Gets Batch AI async operation result at the specified Azure region"],
    ["locations/operationstatuses/read", "Batch AI Operation Statuses", "Get Batch AI Opreation Status", "Gets Batch AI async operation status at the specified Azure region"],
];
