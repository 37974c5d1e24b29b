//! Names of things: what a request path or a body calls a resource, and the typed identifiers of rows.
//!
//! In: raw path segments and ids from bodies. Out: one canonical [`ResourceId`], which authorization, lookup and logs all use,
//! and newtypes around `Uuid` so that a job's id is never taken for a machine's. Refuses to know HTTP, SQL and what a kind means.

mod flat;

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use flat::{FlatId, MIGRATED_EXPERIMENT, MIGRATED_WORKSPACE};

/// The provider namespace of the Batch AI resource types.
pub const NAMESPACE: &str = "Microsoft.BatchAI";

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(
    /// A tenant: the directory that principals and subscriptions belong to.
    TenantId
);
uuid_id!(
    /// A subscription: the outermost scope of resources and roles.
    SubscriptionId
);
uuid_id!(
    /// One resource for its whole life; a resource made again under the same name has another.
    ResourceUid
);
uuid_id!(
    /// One long-running operation.
    OperationId
);
uuid_id!(
    /// One machine asked of a driver.
    MachineUid
);
uuid_id!(
    /// One attempt to run a job.
    AttemptUid
);
uuid_id!(
    /// A caller: its object id in the tenant.
    PrincipalId
);

/// What a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `Microsoft.Resources/resourceGroups`.
    Group,
    /// `Microsoft.BatchAI/workspaces`.
    Workspace,
    /// `Microsoft.BatchAI/workspaces/clusters`.
    Cluster,
    /// `Microsoft.BatchAI/workspaces/fileservers`.
    FileServer,
    /// `Microsoft.BatchAI/workspaces/experiments`.
    Experiment,
    /// `Microsoft.BatchAI/workspaces/experiments/jobs`.
    Job,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 6] = [Kind::Group, Kind::Workspace, Kind::Cluster, Kind::FileServer, Kind::Experiment, Kind::Job];

    /// The kind as the store writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Group => "group",
            Kind::Workspace => "workspace",
            Kind::Cluster => "cluster",
            Kind::FileServer => "file_server",
            Kind::Experiment => "experiment",
            Kind::Job => "job",
        }
    }

    /// The kind that the store wrote, if it is one.
    pub fn find(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The full resource type as answers show it.
    ///
    /// Source: recorded 2018-05-01 answers (`type` values).
    pub fn resource_type(self) -> &'static str {
        match self {
            Kind::Group => "Microsoft.Resources/resourceGroups",
            Kind::Workspace => "Microsoft.BatchAI/workspaces",
            Kind::Cluster => "Microsoft.BatchAI/workspaces/clusters",
            Kind::FileServer => "Microsoft.BatchAI/workspaces/fileservers",
            Kind::Experiment => "Microsoft.BatchAI/workspaces/experiments",
            Kind::Job => "Microsoft.BatchAI/workspaces/experiments/jobs",
        }
    }

    /// The permission to read one of these.
    pub fn read_action(self) -> &'static str {
        match self {
            Kind::Group => "Microsoft.Resources/subscriptions/resourceGroups/read",
            Kind::Workspace => "Microsoft.BatchAI/workspaces/read",
            Kind::Cluster => "Microsoft.BatchAI/workspaces/clusters/read",
            Kind::FileServer => "Microsoft.BatchAI/workspaces/fileservers/read",
            Kind::Experiment => "Microsoft.BatchAI/workspaces/experiments/read",
            Kind::Job => "Microsoft.BatchAI/workspaces/experiments/jobs/read",
        }
    }

    /// What messages call one of these.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Group => "resource group",
            Kind::Workspace => "workspace",
            Kind::Cluster => "cluster",
            Kind::FileServer => "file server",
            Kind::Experiment => "experiment",
            Kind::Job => "job",
        }
    }

    /// The path segments that precede each name below the group.
    pub(crate) fn type_segments(self) -> &'static [&'static str] {
        match self {
            Kind::Group => &[],
            Kind::Workspace => &["workspaces"],
            Kind::Cluster => &["workspaces", "clusters"],
            // The segment's case in ids differs from that of the published paths.
            // Source: recorded 2018-05-01 answers.
            Kind::FileServer => &["workspaces", "fileservers"],
            Kind::Experiment => &["workspaces", "experiments"],
            Kind::Job => &["workspaces", "experiments", "jobs"],
        }
    }

    /// Checks one resource name of this kind, already decoded.
    ///
    /// # Errors
    /// The rule that the name breaks, as text that completes "The name ...".
    ///
    /// Source: openapi 2018-05-01 (`^[-\w_]+$`, 1..64, read as ASCII); ARM for groups (`^[-\w\._\(\)]+$`, 1..90, no final dot).
    pub fn check_name(self, name: &str) -> Result<(), &'static str> {
        match self {
            Kind::Group => {
                let count = name.chars().count();
                if count == 0 || count > 90 {
                    return Err("must have 1 to 90 characters");
                }
                if name.ends_with('.') {
                    return Err("must not end with a dot");
                }
                if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.()".contains(c)) {
                    return Err("may hold letters, digits, '-', '_', '.', '(' and ')' only");
                }
                Ok(())
            }
            _ => {
                if name.is_empty() || name.len() > 64 {
                    return Err("must have 1 to 64 characters");
                }
                if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                    return Err("may hold ASCII letters, digits, '-' and '_' only");
                }
                Ok(())
            }
        }
    }
}

/// A resource's address: subscription, group and the names on the way down. Names keep the case they were given in; the
/// [`key`](ResourceId::key) compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceId {
    subscription: SubscriptionId,
    kind: Kind,
    group: String,
    names: Vec<String>,
}

impl ResourceId {
    /// The id of a resource group.
    pub fn group(subscription: SubscriptionId, group: impl Into<String>) -> ResourceId {
        ResourceId { subscription, kind: Kind::Group, group: group.into(), names: Vec::new() }
    }

    /// The id of a resource below a group; `names` are one for each type segment of `kind`.
    ///
    /// # Errors
    /// [`ResourceIdError`] if the count of names does not fit the kind or a name breaks its rule.
    pub fn below_group(
        subscription: SubscriptionId,
        group: impl Into<String>,
        kind: Kind,
        names: Vec<String>,
    ) -> Result<ResourceId, ResourceIdError> {
        let group = group.into();
        Kind::Group.check_name(&group).map_err(|rule| ResourceIdError::new(&group, rule))?;
        if names.len() != kind.type_segments().len() {
            return Err(ResourceIdError::new(&names.join("/"), "does not have one name for each type segment"));
        }
        for name in &names {
            kind.check_name(name).map_err(|rule| ResourceIdError::new(name, rule))?;
        }
        Ok(ResourceId { subscription, kind, group, names })
    }

    /// Parses an id as bodies carry it: `/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.BatchAI/workspaces/{w}/...`.
    /// Literal segments match without regard to case; nothing is percent-decoded, as ids are not encoded.
    ///
    /// # Errors
    /// [`ResourceIdError`] naming the part that is not as it should be.
    pub fn parse(text: &str) -> Result<ResourceId, ResourceIdError> {
        let wrong = |rule| ResourceIdError::new(text, rule);
        if text.len() > 1024 {
            return Err(ResourceIdError::new(&text.chars().take(64).collect::<String>(), "is longer than 1024 characters"));
        }
        let mut segments = text.strip_prefix('/').ok_or_else(|| wrong("must begin with '/'"))?.split('/');
        let literal = |found: Option<&str>, wanted: &str| found.is_some_and(|s| s.eq_ignore_ascii_case(wanted));
        if !literal(segments.next(), "subscriptions") {
            return Err(wrong("must begin with '/subscriptions/'"));
        }
        let subscription = segments
            .next()
            .and_then(|s| Uuid::try_parse(s).ok())
            .map(SubscriptionId)
            .ok_or_else(|| wrong("must name a subscription by its GUID"))?;
        if !literal(segments.next(), "resourceGroups") {
            return Err(wrong("must continue with '/resourceGroups/'"));
        }
        let group = segments.next().unwrap_or_default().to_owned();
        Kind::Group.check_name(&group).map_err(wrong)?;
        match segments.next() {
            None => return Ok(ResourceId::group(subscription, group)),
            Some(s) if s.eq_ignore_ascii_case("providers") => {}
            Some(_) => return Err(wrong("must continue with '/providers/'")),
        }
        if !literal(segments.next(), NAMESPACE) {
            return Err(wrong("must name the provider Microsoft.BatchAI"));
        }
        let mut types = Vec::new();
        let mut names = Vec::new();
        while let Some(kind) = segments.next() {
            types.push(kind.to_ascii_lowercase());
            names.push(segments.next().ok_or_else(|| wrong("ends with a type that has no name"))?.to_owned());
        }
        let kind = Kind::ALL
            .into_iter()
            .filter(|kind| *kind != Kind::Group)
            .find(|kind| kind.type_segments().iter().copied().eq(types.iter().map(String::as_str)))
            .ok_or_else(|| wrong("is not of a type that this server has"))?;
        ResourceId::below_group(subscription, group, kind, names)
    }

    /// The subscription that the resource is in.
    pub fn subscription(&self) -> SubscriptionId {
        self.subscription
    }

    /// What the resource is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The group's name as given.
    pub fn group_name(&self) -> &str {
        &self.group
    }

    /// The resource's own name as given.
    pub fn name(&self) -> &str {
        self.names.last().unwrap_or(&self.group)
    }

    /// The names below the group, outermost first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The workspace's name; empty for a group.
    pub fn workspace_name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The id of the resource that this one lives in; `None` for a group.
    pub fn parent(&self) -> Option<ResourceId> {
        let (kind, keep) = match self.kind {
            Kind::Group => return None,
            Kind::Workspace => (Kind::Group, 0),
            Kind::Cluster | Kind::FileServer | Kind::Experiment => (Kind::Workspace, 1),
            Kind::Job => (Kind::Experiment, 2),
        };
        Some(ResourceId {
            subscription: self.subscription,
            kind,
            group: self.group.clone(),
            names: self.names.iter().take(keep).cloned().collect(),
        })
    }

    /// This id's ancestor (or itself) of `kind`; `None` where it has none.
    pub fn ancestor(&self, kind: Kind) -> Option<ResourceId> {
        let mut id = Some(self.clone());
        while let Some(current) = id {
            if current.kind == kind {
                return Some(current);
            }
            id = current.parent();
        }
        None
    }

    /// The id as answers show it. Below a group the group's name is in lower case.
    ///
    /// Source: recorded 2018-05-01 answers: every returned id had the group in lower case, other names as given.
    pub fn path(&self) -> String {
        let mut path = format!("/subscriptions/{}/resourceGroups/", self.subscription);
        if self.kind == Kind::Group {
            path.push_str(&self.group);
            return path;
        }
        path.push_str(&self.group.to_ascii_lowercase());
        path.push_str("/providers/");
        path.push_str(NAMESPACE);
        for (segment, name) in self.kind.type_segments().iter().zip(&self.names) {
            path.push('/');
            path.push_str(segment);
            path.push('/');
            path.push_str(name);
        }
        path
    }

    /// What the store looks the resource up by: the path in lower case. The only place where names are folded.
    pub fn key(&self) -> String {
        self.path().to_ascii_lowercase()
    }

    /// The `$`-joined key that operation documents carry: subscription, lower-case group, names.
    ///
    /// Source: recorded 2018-05-01 `properties.resourceId` of operation results.
    pub fn dollar_key(&self) -> String {
        let mut key = format!("{}${}", self.subscription, self.group.to_ascii_lowercase());
        for name in &self.names {
            key.push('$');
            key.push_str(name);
        }
        key
    }

    /// `{sub}/{rg}/workspaces/{ws}/...`: the part of output paths that names the resource.
    ///
    /// Source: recorded `jobOutputDirectoryPathSegment` and `stdOutErrPathSuffix`.
    pub fn output_segment(&self) -> String {
        let mut segment = format!("{}/{}", self.subscription, self.group.to_ascii_lowercase());
        // Recorded 2018-03-01: what is made without a workspace names none. The resource's own uuid follows, so that two of one name
        // are still apart.
        if self.is_migrated() && matches!(self.kind, Kind::Cluster | Kind::Job | Kind::FileServer) {
            segment.push_str(&format!("/{}/{}", self.kind.word(), self.name()));
            return segment;
        }
        self.whole_segment()
    }

    /// The same for what is made without a workspace, as if it were made in the one that it is in.
    pub fn whole_segment(&self) -> String {
        let mut segment = format!("{}/{}", self.subscription, self.group.to_ascii_lowercase());
        for (kind, name) in self.kind.type_segments().iter().zip(&self.names) {
            segment.push('/');
            segment.push_str(kind);
            segment.push('/');
            segment.push_str(name);
        }
        segment
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// An id that is not one: the text (cut) and the rule it breaks.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{text}' {rule}")]
pub struct ResourceIdError {
    text: String,
    /// The rule that is broken, as text that completes "The id ...".
    pub rule: &'static str,
}

impl ResourceIdError {
    fn new(text: &str, rule: &'static str) -> ResourceIdError {
        ResourceIdError { text: text.chars().take(256).collect(), rule }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUB: &str = "11111111-2222-3333-4444-555555555555";

    #[test]
    fn parses_and_prints_with_the_group_in_lower_case() {
        let text =
            format!("/Subscriptions/{SUB}/resourcegroups/Ml-RG/providers/microsoft.batchai/Workspaces/Vision/clusters/NC6");
        let id = ResourceId::parse(&text).expect("a valid id");
        assert_eq!(id.kind(), Kind::Cluster);
        assert_eq!(
            id.path(),
            format!("/subscriptions/{SUB}/resourceGroups/ml-rg/providers/Microsoft.BatchAI/workspaces/Vision/clusters/NC6")
        );
        assert_eq!(id.key(), id.path().to_lowercase());
        assert_eq!(id.dollar_key(), format!("{SUB}$ml-rg$Vision$NC6"));
        assert_eq!(id.parent().map(|p| p.kind()), Some(Kind::Workspace));
    }

    #[test]
    fn refuses_look_alikes_and_escapes() {
        for name in ["\u{212A}elvin", "a/b", "a%2Fb", "..", "a.b", "", "é", "a\0"] {
            assert!(Kind::Job.check_name(name).is_err(), "{name:?} must be refused");
        }
        assert!(Kind::Group.check_name("rg.").is_err());
        assert!(Kind::Group.check_name("rg.(1)_-a").is_ok());
    }

    #[test]
    fn a_printed_id_parses_to_itself() {
        let id =
            ResourceId::below_group(SubscriptionId(Uuid::from_u128(7)), "g", Kind::Job, vec!["w".into(), "e".into(), "j".into()])
                .expect("valid names");
        assert_eq!(ResourceId::parse(&id.path()), Ok(id));
    }
}
