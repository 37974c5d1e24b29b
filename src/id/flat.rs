//! Addresses of the versions before workspaces: clusters, jobs and file servers right below their group.
//!
//! What they name lives in workspaces all the same. What these versions made is in the workspace `migrated-{region}`, its jobs in the
//! experiment `migrated`, as the retired service put it when workspaces came.

use super::{Kind, NAMESPACE, ResourceId, ResourceIdError, SubscriptionId};

/// What the workspaces of what older versions made begin with.
///
/// Source: documentation of 2018-05-01.
pub const MIGRATED_WORKSPACE: &str = "migrated-";

/// The experiment of the jobs that older versions made.
///
/// Source: documentation of 2018-05-01.
pub const MIGRATED_EXPERIMENT: &str = "migrated";

/// What lies right below a group in older versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatId {
    /// The group.
    pub group: ResourceId,
    /// Cluster, job or file server.
    pub kind: Kind,
    /// Its name as given.
    pub name: String,
}

impl FlatId {
    /// Parses an id as bodies of older versions carry it; `None` where it is not one.
    pub fn parse(text: &str) -> Option<FlatId> {
        if text.len() > 1024 {
            return None;
        }
        let mut segments = text.strip_prefix('/')?.split('/');
        segments.next().filter(|s| s.eq_ignore_ascii_case("subscriptions"))?;
        let subscription = uuid::Uuid::try_parse(segments.next()?).ok().map(SubscriptionId)?;
        segments.next().filter(|s| s.eq_ignore_ascii_case("resourceGroups"))?;
        let group = segments.next()?;
        Kind::Group.check_name(group).ok()?;
        segments.next().filter(|s| s.eq_ignore_ascii_case("providers"))?;
        segments.next().filter(|s| s.eq_ignore_ascii_case(NAMESPACE))?;
        let word = segments.next()?;
        let kind =
            [Kind::Cluster, Kind::Job, Kind::FileServer].into_iter().find(|kind| kind.word().eq_ignore_ascii_case(word))?;
        let name = segments.next()?;
        kind.check_name(name).ok()?;
        match segments.next() {
            None => Some(FlatId { group: ResourceId::group(subscription, group), kind, name: name.to_owned() }),
            Some(_) => None,
        }
    }

    /// Where it is made in a region.
    ///
    /// # Errors
    /// As of [`ResourceId::below_group`].
    pub fn migrated(&self, location: &str) -> Result<ResourceId, ResourceIdError> {
        let workspace = format!("{MIGRATED_WORKSPACE}{location}");
        let names = match self.kind {
            Kind::Job => vec![workspace, MIGRATED_EXPERIMENT.to_owned(), self.name.clone()],
            _ => vec![workspace, self.name.clone()],
        };
        ResourceId::below_group(self.group.subscription(), self.group.name(), self.kind, names)
    }
}

impl Kind {
    /// The last type segment of its paths; empty for a group.
    pub(super) fn word(self) -> &'static str {
        self.type_segments().last().copied().unwrap_or_default()
    }

    /// The resource type as older versions show it.
    ///
    /// Source: recorded 2018-03-01 answers.
    pub fn flat_type(self) -> &'static str {
        match self {
            Kind::Cluster => "Microsoft.BatchAI/Clusters",
            Kind::Job => "Microsoft.BatchAI/Jobs",
            Kind::FileServer => "Microsoft.BatchAI/FileServers",
            other => other.resource_type(),
        }
    }
}

impl ResourceId {
    /// The id as older versions show it: right below the group.
    pub fn flat_path(&self) -> String {
        match self.kind {
            Kind::Cluster | Kind::Job | Kind::FileServer => format!(
                "/subscriptions/{}/resourceGroups/{}/providers/{NAMESPACE}/{}/{}",
                self.subscription,
                self.group.to_ascii_lowercase(),
                self.kind.word(),
                self.name()
            ),
            _ => self.path(),
        }
    }

    /// The `$`-joined key that operation documents of older versions carry.
    ///
    /// Source: recorded 2018-03-01 `properties.resourceId` of operation results.
    pub fn flat_dollar_key(&self) -> String {
        format!("{}${}${}", self.subscription, self.group.to_ascii_lowercase(), self.name())
    }

    /// Whether older versions made it, or it was put where they put what they make.
    pub fn is_migrated(&self) -> bool {
        let workspace = self.workspace_name().to_ascii_lowercase();
        let experiment = match self.kind {
            Kind::Job => self.names.get(1).is_some_and(|name| name.eq_ignore_ascii_case(MIGRATED_EXPERIMENT)),
            _ => true,
        };
        workspace.starts_with(MIGRATED_WORKSPACE) && experiment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUB: &str = "11111111-2222-3333-4444-555555555555";

    #[test]
    fn an_older_id_is_found_and_put_where_it_belongs() {
        let text = format!("/Subscriptions/{SUB}/resourcegroups/Ml-RG/providers/microsoft.batchai/Jobs/Train");
        let id = FlatId::parse(&text).expect("an older id");
        assert_eq!((id.kind, id.name.as_str(), id.group.name()), (Kind::Job, "Train", "Ml-RG"));
        let nested = id.migrated("eastus").expect("an id");
        assert_eq!(nested.names(), ["migrated-eastus", "migrated", "Train"]);
        assert!(nested.is_migrated());
        assert_eq!(
            nested.flat_path(),
            format!("/subscriptions/{SUB}/resourceGroups/ml-rg/providers/Microsoft.BatchAI/jobs/Train")
        );
        assert_eq!(nested.flat_dollar_key(), format!("{SUB}$ml-rg$Train"));
        assert_eq!(nested.output_segment(), format!("{SUB}/ml-rg/jobs/Train"));
        for wrong in [
            format!("/subscriptions/{SUB}/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w"),
            format!("/subscriptions/{SUB}/resourceGroups/g/providers/Microsoft.BatchAI/jobs"),
            format!("/subscriptions/{SUB}/resourceGroups/g/providers/Microsoft.BatchAI/jobs/j/x"),
            format!("/subscriptions/{SUB}/resourceGroups/g/providers/Other/jobs/j"),
            "/subscriptions/x/resourceGroups/g/providers/Microsoft.BatchAI/jobs/j".to_owned(),
            String::new(),
        ] {
            assert_eq!(FlatId::parse(&wrong), None, "{wrong}");
        }
    }
}
