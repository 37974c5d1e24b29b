//! Which columns tell of what: those of `az batchai … -o table`, in their order and spelling, and ours behind them.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::terminal::visible;
use crate::clock::{Clock, SystemClock};

/// For whom, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Whether people look at it: times are then relative.
    pub people: bool,
    /// The present.
    pub now: OffsetDateTime,
}

impl Look {
    /// For a program, now.
    pub(super) fn now() -> Look {
        Look { people: false, now: SystemClock.now() }
    }

    /// A moment: how long ago for people, as it is for programs.
    pub(super) fn moment(&self, text: &str) -> String {
        match OffsetDateTime::parse(text, &Rfc3339) {
            Ok(at) if self.people && (self.now - at).whole_hours() < 24 => {
                format!("{} ago", span((self.now - at).whole_seconds()))
            }
            Ok(at) if self.people => format!("{} {:02}:{:02}Z", at.date(), at.hour(), at.minute()),
            _ => visible(text),
        }
    }
}

/// A span of time in its two largest units.
pub(super) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A number of bytes.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit_name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {unit_name}") }
}

type Cell = fn(&Value, &Look) -> String;

/// The columns of a kind of thing.
#[derive(Debug)]
pub(super) struct View {
    columns: &'static [(&'static str, Cell)],
    more: fn(&Value) -> Vec<String>,
}

impl View {
    /// The titles.
    pub(super) fn titles(&self) -> Vec<&'static str> {
        self.columns.iter().map(|(title, _)| *title).collect()
    }

    /// The cells of one thing.
    pub(super) fn row(&self, document: &Value, look: &Look) -> Vec<String> {
        self.columns.iter().map(|(_, cell)| visible(&cell(document, look))).collect()
    }

    /// The cells of all: a document that is no list is one.
    pub(super) fn rows(&self, document: &Value, look: &Look) -> Vec<Vec<String>> {
        match document {
            Value::Array(items) => items.iter().map(|item| self.row(item, look)).collect(),
            one => vec![self.row(one, look)],
        }
    }

    /// What a sheet tells beyond its columns.
    pub(super) fn more(&self, document: &Value) -> Vec<String> {
        (self.more)(document)
    }
}

/// A member by its JSON pointer, as text.
pub(super) fn at(document: &Value, pointer: &str) -> String {
    match document.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The segment of an id that follows a word, in any case.
pub(super) fn segment(id: &str, word: &str) -> String {
    let mut segments = id.split('/');
    segments.find(|segment| segment.eq_ignore_ascii_case(word));
    segments.next().unwrap_or_default().to_owned()
}

fn part(pointer: &'static str, word: &'static str) -> impl Fn(&Value) -> String {
    move |document| segment(&at(document, pointer), word)
}

/// The state that tables show: `deleting` goes before the kind's own. Both versions' spellings are read.
pub(super) fn state(document: &Value, own: &str) -> String {
    let provisioning = at(document, "/properties/provisioningState");
    if provisioning.eq_ignore_ascii_case("deleting") || own.is_empty() {
        return provisioning.to_ascii_lowercase();
    }
    at(document, &format!("/properties/{own}")).to_ascii_lowercase()
}

fn tags(document: &Value, _: &Look) -> String {
    let members = document.get("tags").and_then(Value::as_object);
    let pairs = members.into_iter().flatten().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(" ")
}

fn errors(document: &Value, pointer: &str) -> Vec<String> {
    let entries = document.pointer(pointer).and_then(Value::as_array);
    let line = |error: &Value| {
        let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
        let details =
            details.map(|detail| format!("\n    {}: {}", visible(&at(detail, "/name")), visible(&at(detail, "/value"))));
        format!("{}: {}{}", visible(&at(error, "/code")), visible(&at(error, "/message")), details.collect::<String>())
    };
    entries.into_iter().flatten().map(line).collect()
}

fn nothing(_: &Value) -> Vec<String> {
    Vec::new()
}

/// How long a job ran, or runs.
pub(super) fn duration(document: &Value, look: &Look) -> String {
    let moment = |pointer: &str| OffsetDateTime::parse(&at(document, pointer), &Rfc3339).ok();
    let Some(start) = moment("/properties/executionInfo/startTime") else { return String::new() };
    span((moment("/properties/executionInfo/endTime").unwrap_or(look.now) - start).whole_seconds())
}

/// Any document, by its name alone.
pub(super) static PLAIN: View = View { columns: &[("Name", |d, _| at(d, "/name")), ("Id", |d, _| at(d, "/id"))], more: nothing };

/// Resource groups.
pub(super) static GROUP: View = View {
    columns: &[
        ("Name", |d, _| at(d, "/name")),
        ("Location", |d, _| at(d, "/location")),
        ("State", |d, _| at(d, "/properties/provisioningState")),
        ("Tags", tags),
    ],
    more: nothing,
};

/// Workspaces.
pub(super) static WORKSPACE: View = View {
    columns: &[
        ("Name", |d, _| at(d, "/name")),
        ("Resource Group", |d, _| part("/id", "resourceGroups")(d)),
        ("Location", |d, _| at(d, "/location")),
        ("State", |d, _| state(d, "")),
        ("Tags", tags),
    ],
    more: nothing,
};

/// Clusters.
pub(super) static CLUSTER: View = View {
    columns: &[
        ("Name", |d, _| at(d, "/name")),
        ("Resource Group", |d, _| part("/id", "resourceGroups")(d)),
        ("Workspace", |d, _| part("/id", "workspaces")(d)),
        ("VM Size", |d, _| at(d, "/properties/vmSize")),
        ("State", |d, _| state(d, "allocationState")),
        ("Idle", |d, _| at(d, "/properties/nodeStateCounts/idleNodeCount")),
        ("Running", |d, _| at(d, "/properties/nodeStateCounts/runningNodeCount")),
        ("Preparing", |d, _| at(d, "/properties/nodeStateCounts/preparingNodeCount")),
        ("Leaving", |d, _| at(d, "/properties/nodeStateCounts/leavingNodeCount")),
        ("Unusable", |d, _| at(d, "/properties/nodeStateCounts/unusableNodeCount")),
        ("Target", |d, _| target(d)),
    ],
    more: |document| errors(document, "/properties/errors"),
};

/// How many nodes a cluster should have.
pub(super) fn target(cluster: &Value) -> String {
    let scale = |member: &str| at(cluster, &format!("/properties/scaleSettings/{member}"));
    match scale("manual/targetNodeCount") {
        manual if !manual.is_empty() => manual,
        _ => format!("{} to {}", scale("autoScale/minimumNodeCount"), scale("autoScale/maximumNodeCount")),
    }
}

/// File servers.
pub(super) static FILE_SERVER: View = View {
    columns: &[
        ("Name", |d, _| at(d, "/name")),
        ("Resource Group", |d, _| part("/id", "resourceGroups")(d)),
        ("Size", |d, _| at(d, "/properties/vmSize")),
        ("Disks", |d, _| {
            format!("{} x {} Gb", at(d, "/properties/dataDisks/diskCount"), at(d, "/properties/dataDisks/diskSizeInGB"))
        }),
        ("Public IP", |d, _| at(d, "/properties/mountSettings/fileServerPublicIP")),
        ("Internal IP", |d, _| at(d, "/properties/mountSettings/fileServerInternalIP")),
        ("Mount Point", |d, _| at(d, "/properties/mountSettings/mountPoint")),
        ("State", |d, _| state(d, "")),
    ],
    more: nothing,
};

/// Experiments.
pub(super) static EXPERIMENT: View = View {
    columns: &[
        ("Name", |d, _| at(d, "/name")),
        ("Resource Group", |d, _| part("/id", "resourceGroups")(d)),
        ("Workspace", |d, _| part("/id", "workspaces")(d)),
        ("State", |d, _| state(d, "")),
    ],
    more: nothing,
};

/// Jobs.
pub(super) static JOB: View = View {
    columns: &[
        ("Name", |d, _| at(d, "/name")),
        ("Cluster", |d, _| part("/properties/cluster/id", "clusters")(d)),
        ("Cluster RG", |d, _| part("/properties/cluster/id", "resourceGroups")(d)),
        ("Cluster Workspace", |d, _| part("/properties/cluster/id", "workspaces")(d)),
        ("Tool", |d, _| at(d, "/properties/toolType")),
        ("Nodes", |d, _| at(d, "/properties/nodeCount")),
        ("State", |d, _| state(d, "executionState")),
        ("Exit code", |d, _| at(d, "/properties/executionInfo/exitCode")),
        ("Submitted", |d, look| look.moment(&at(d, "/properties/creationTime"))),
        ("Duration", duration),
    ],
    more: |document| errors(document, "/properties/executionInfo/errors"),
};

/// Files of jobs.
pub(super) static FILE: View = View {
    columns: &[
        ("Name", |d, _| at(d, "/name")),
        ("Type", |d, _| at(d, "/fileType")),
        ("Size", |d, look| match d.pointer("/properties/contentLength").and_then(Value::as_u64) {
            Some(bytes) if look.people => size(bytes),
            Some(bytes) => bytes.to_string(),
            None => String::new(),
        }),
        ("Modified", |d, look| look.moment(&at(d, "/properties/lastModified"))),
    ],
    more: nothing,
};

/// Nodes, as one logs in to them.
pub(super) static NODE: View = View {
    columns: &[
        ("ID", |d, _| at(d, "/nodeId")),
        ("IP", |d, _| at(d, "/ipAddress")),
        ("SSH Port", |d, _| at(d, "/port")),
        ("State", |d, _| at(d, "/state").to_ascii_lowercase()),
        ("Since", |d, look| look.moment(&at(d, "/stateTransitionTime"))),
        ("Job", |d, _| at(d, "/job").rsplit('/').next().unwrap_or_default().to_owned()),
        ("Cause", |d, _| at(d, "/errors/0/code")),
    ],
    more: nothing,
};

/// Attempts of a job.
pub(super) static ATTEMPT: View = View {
    columns: &[
        ("Attempt", |d, _| at(d, "/number")),
        ("Started", |d, look| look.moment(&at(d, "/creationTime"))),
        ("Ended", |d, look| look.moment(&at(d, "/endTime"))),
        ("Nodes", |d, _| {
            let nodes = d.get("nodes").and_then(Value::as_array).into_iter().flatten();
            nodes.map(|node| at(node, "/nodeId")).collect::<Vec<_>>().join(" ")
        }),
        ("State", |d, _| at(d, "/state")),
        ("Cause", |d, _| at(d, "/cause")),
    ],
    more: nothing,
};

/// What something waits for.
pub(super) static WHY: View = View {
    columns: &[
        ("State", |d, _| at(d, "/state").to_ascii_lowercase()),
        ("Since", |d, look| look.moment(&at(d, "/since"))),
        ("Gate", |d, _| at(d, "/gate")),
        ("Unit", |d, _| at(d, "/lack/unit").to_ascii_lowercase()),
        ("Need", |d, _| at(d, "/lack/needed")),
        ("Have", |d, _| at(d, "/lack/available")),
        ("Missing", |d, _| at(d, "/lack/missing")),
        ("Clears", |d, _| at(d, "/clears")),
        ("By", |d, _| at(d, "/clearsBy")),
    ],
    more: held,
};

/// What something waits for in a sentence, and who holds it, a line each.
fn held(why: &Value) -> Vec<String> {
    let holders = why.get("heldBy").and_then(Value::as_array).into_iter().flatten();
    let line = |holder: &Value| {
        let who = match (at(holder, "/resourceId"), at(holder, "/nodeId")) {
            (id, _) if !id.is_empty() => id,
            (_, id) if !id.is_empty() => format!("node {id}"),
            _ => "one that you may not see".to_owned(),
        };
        let until = at(holder, "/until");
        let until = if until.is_empty() { until } else { format!(", until {until} at the latest") };
        format!("held by {} ({}{})", visible(&who), visible(&at(holder, "/count")), visible(&until))
    };
    let message = at(why, "/message");
    let message = if message.is_empty() { "It waits for nothing.".to_owned() } else { visible(&message) };
    std::iter::once(message).chain(holders.map(line)).collect()
}

/// Usage against quota.
pub(super) static USAGE: View = View {
    columns: &[
        ("Value", |d, _| at(d, "/name/localizedValue")),
        ("Usage", |d, _| at(d, "/currentValue")),
        ("Limit", |d, _| at(d, "/limit")),
    ],
    more: nothing,
};

/// Profiles.
pub(super) static PROFILE: View = View {
    columns: &[
        ("Name", |d, _| at(d, "/name")),
        ("Server", |d, _| at(d, "/server")),
        ("User", |d, _| at(d, "/user")),
        ("Tenant", |d, _| at(d, "/tenant")),
        ("Current", |d, _| if d.get("current") == Some(&Value::Bool(true)) { "*".into() } else { String::new() }),
    ],
    more: nothing,
};

/// Subscriptions.
pub(super) static ACCOUNT: View = View {
    columns: &[
        ("Name", |d, _| at(d, "/displayName")),
        ("Id", |d, _| at(d, "/subscriptionId")),
        ("State", |d, _| at(d, "/state")),
        ("Tenant", |d, _| at(d, "/tenantId")),
    ],
    more: nothing,
};

/// Settings of this client.
pub(super) static SETTING: View = View {
    columns: &[("Key", |d, _| at(d, "/key")), ("Value", |d, _| at(d, "/value")), ("From", |d, _| at(d, "/from"))],
    more: nothing,
};

/// What a check found.
pub(super) static OUTCOME: View = View { columns: &[("Outcome", |d, _| at(d, "/outcome"))], more: nothing };

/// Changes.
pub(super) static EVENT: View = View {
    columns: &[
        ("Time", |d, look| look.moment(&at(d, "/time"))),
        ("Resource", |d, _| {
            let id = at(d, "/resourceId");
            id.rsplit('/').take(2).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("/")
        }),
        ("What", |d, _| at(d, "/what")),
        ("Why", |d, _| at(d, "/why")),
    ],
    more: nothing,
};

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn az_columns_come_first_and_in_their_spelling() {
        let begins = |view: &View, titles: &str| view.titles().join(", ").starts_with(titles);
        assert!(begins(&WORKSPACE, "Name, Resource Group, Location, State"));
        assert!(begins(&CLUSTER, "Name, Resource Group, Workspace, VM Size, State, Idle, Running, Preparing, Leaving, Unusable"));
        assert!(begins(&EXPERIMENT, "Name, Resource Group, Workspace, State"));
        assert!(begins(&JOB, "Name, Cluster, Cluster RG, Cluster Workspace, Tool, Nodes, State, Exit code"));
        assert!(begins(&FILE, "Name, Type, Size, Modified"));
        assert!(begins(&FILE_SERVER, "Name, Resource Group, Size, Disks, Public IP, Internal IP, Mount Point"));
        assert!(begins(&NODE, "ID, IP, SSH Port"));
        assert!(begins(&USAGE, "Value, Usage, Limit"));
    }

    #[test]
    fn what_is_not_there_is_an_empty_cell() {
        for view in [&GROUP, &WORKSPACE, &CLUSTER, &EXPERIMENT, &JOB, &FILE, &FILE_SERVER, &NODE, &ATTEMPT, &WHY, &USAGE, &EVENT]
        {
            assert_eq!(view.row(&json!({}), &Look::now()).len(), view.titles().len());
        }
    }

    #[test]
    fn a_deletion_goes_before_the_state() {
        let cluster =
            |provisioning: &str| json!({"properties": {"provisioningState": provisioning, "allocationState": "Steady"}});
        assert_eq!(state(&cluster("Deleting"), "allocationState"), "deleting");
        assert_eq!(state(&cluster("succeeded"), "allocationState"), "steady");
    }

    #[test]
    fn spans_and_sizes_read_well() {
        assert_eq!(
            ["0 s", "3 min 12 s", "2 h 05 min", "3 d 04 h"],
            [span(-4), span(192), span(7500), span(3 * 86_400 + 4 * 3600)]
        );
        assert_eq!(["7 B", "1.5 KiB", "97.8 MiB"], [size(7), size(1536), size(102_550_733)]);
    }
}
