//! Which resource a command is about: names by flags, defaults for those that are left out, or a whole id in place of a name.

use clap::Args;

use crate::client::{Defaults, Failure, Kind, Place, Result};

/// A resource group.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Scope")]
pub struct InGroup {
    /// The resource group.
    #[arg(short = 'g', long = "resource-group", value_name = "NAME")]
    pub group: Option<String>,
}

/// A workspace.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Scope")]
pub struct InWorkspace {
    /// The group.
    #[command(flatten)]
    pub within: InGroup,
    /// The workspace, or its id.
    #[arg(short = 'w', long = "workspace", value_name = "NAME")]
    pub workspace: Option<String>,
}

/// An experiment.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Scope")]
pub struct InExperiment {
    /// The workspace.
    #[command(flatten)]
    pub within: InWorkspace,
    /// The experiment, or its id.
    #[arg(short = 'e', long = "experiment", value_name = "NAME")]
    pub experiment: Option<String>,
}

/// A resource group by its own name.
#[derive(Args, Clone, Debug, Default)]
pub struct ThisGroup {
    /// The group, or its id.
    #[arg(short = 'n', long = "name", alias = "resource-group", short_alias = 'g', value_name = "NAME")]
    pub name: Option<String>,
}

/// A workspace by its own name.
#[derive(Args, Clone, Debug, Default)]
pub struct ThisWorkspace {
    /// Where it is.
    #[command(flatten)]
    pub within: InGroup,
    /// The workspace, or its id.
    #[arg(short = 'n', long = "workspace", alias = "name", short_alias = 'w', value_name = "NAME")]
    pub name: Option<String>,
}

/// Something in a workspace by its own name: a cluster, a file server or an experiment.
#[derive(Args, Clone, Debug, Default)]
pub struct ThisInWorkspace {
    /// Where it is.
    #[command(flatten)]
    pub within: InWorkspace,
    /// Its name, or its whole id.
    #[arg(short = 'n', long = "name", value_name = "NAME")]
    pub name: Option<String>,
}

/// A cluster by its own name.
#[derive(Args, Clone, Debug, Default)]
pub struct ThisCluster {
    /// Where it is.
    #[command(flatten)]
    pub within: InWorkspace,
    /// The cluster, or its id.
    #[arg(short = 'n', long = "name", visible_alias = "cluster", visible_short_alias = 'c', value_name = "NAME")]
    pub name: Option<String>,
}

/// A job by its own name.
#[derive(Args, Clone, Debug, Default)]
pub struct ThisJob {
    /// Where it is.
    #[command(flatten)]
    pub within: InExperiment,
    /// The job, or its id.
    #[arg(short = 'n', long = "name", visible_alias = "job", visible_short_alias = 'j', value_name = "NAME")]
    pub name: Option<String>,
}

/// Makes places of flags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scoped<'s> {
    /// The subscription.
    pub subscription: &'s str,
    /// Names that are taken where flags give none.
    pub defaults: &'s Defaults,
}

impl Scoped<'_> {
    fn place(&self, kind: Kind, names: Vec<String>) -> Result<Place> {
        Place::new(self.subscription, kind, names)
    }

    /// The group that flags name.
    ///
    /// # Errors
    /// `Usage` where none is named.
    pub(super) fn group(&self, scope: &InGroup) -> Result<Place> {
        self.this_group(&ThisGroup { name: scope.group.clone() })
    }

    /// The same by its own name.
    ///
    /// # Errors
    /// `Usage` where none is named.
    pub(super) fn this_group(&self, this: &ThisGroup) -> Result<Place> {
        let name = required(&this.name, &self.defaults.group, "-g/--resource-group", "group")?;
        if let Some(place) = Place::parse(&name, Kind::Group) {
            return Ok(place);
        }
        self.place(Kind::Group, vec![name])
    }

    /// The workspace that flags name.
    ///
    /// # Errors
    /// `Usage` where none is named.
    pub(super) fn workspace(&self, scope: &InWorkspace) -> Result<Place> {
        let name = required(&scope.workspace, &self.defaults.workspace, "-w/--workspace", "workspace")?;
        if let Some(place) = Place::parse(&name, Kind::Workspace) {
            return Ok(place);
        }
        Place::new(self.subscription, Kind::Workspace, with(self.group(&scope.within)?, name))
    }

    /// The same by its own name.
    ///
    /// # Errors
    /// `Usage` where none is named.
    pub(super) fn this_workspace(&self, this: &ThisWorkspace) -> Result<Place> {
        self.workspace(&InWorkspace { within: this.within.clone(), workspace: this.name.clone() })
    }

    /// Something in a workspace by its own name.
    ///
    /// # Errors
    /// `Usage` where it or what holds it is not named.
    pub(super) fn this(&self, kind: Kind, within: &InWorkspace, name: &Option<String>) -> Result<Place> {
        let default = match kind {
            Kind::Cluster => &self.defaults.cluster,
            Kind::Experiment => &self.defaults.experiment,
            _ => &None,
        };
        let name = required(name, default, "-n/--name", kind.noun())?;
        if let Some(place) = Place::parse(&name, kind) {
            return Ok(place);
        }
        Place::new(self.subscription, kind, with(self.workspace(within)?, name))
    }

    /// The experiment that flags name.
    ///
    /// # Errors
    /// `Usage` where it or what holds it is not named.
    pub(super) fn experiment(&self, scope: &InExperiment) -> Result<Place> {
        let name = required(&scope.experiment, &self.defaults.experiment, "-e/--experiment", "experiment")?;
        self.this(Kind::Experiment, &scope.within, &Some(name))
    }

    /// A job by its own name.
    ///
    /// # Errors
    /// `Usage` where it or what holds it is not named.
    pub(super) fn job(&self, this: &ThisJob) -> Result<Place> {
        let name = required(&this.name, &None, "-n/--name", "job")?;
        if let Some(place) = Place::parse(&name, Kind::Job) {
            return Ok(place);
        }
        Place::new(self.subscription, Kind::Job, with(self.experiment(&this.within)?, name))
    }
}

fn with(place: Place, name: String) -> Vec<String> {
    let mut names = place.names;
    names.push(name);
    names
}

fn required(given: &Option<String>, default: &Option<String>, flag: &str, noun: &str) -> Result<String> {
    let found = given.as_ref().or(default.as_ref()).filter(|name| !name.is_empty());
    found.cloned().ok_or_else(|| {
        let failure = Failure::usage(format!("which {noun}? Give {flag} NAME"));
        match noun {
            "job" | "file-server" => failure,
            noun => failure.or_try(format!("batchyard config set defaults.{noun}=NAME     for all commands from now on")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_before_defaults_and_a_whole_id_before_both() {
        let defaults =
            Defaults { group: Some("g".into()), workspace: Some("w".into()), experiment: Some("e".into()), cluster: None };
        let scoped = Scoped { subscription: "s", defaults: &defaults };
        let job =
            |scope: InExperiment, name: &str| scoped.job(&ThisJob { within: scope, name: Some(name.into()) }).expect("a place");
        assert_eq!(job(InExperiment::default(), "j").names, ["g", "w", "e", "j"]);
        let other = InExperiment { experiment: Some("other".into()), ..InExperiment::default() };
        assert_eq!(job(other.clone(), "j").names, ["g", "w", "other", "j"]);
        let id = "/subscriptions/x/resourceGroups/a/providers/Microsoft.BatchAI/workspaces/b/experiments/c/jobs/d";
        assert_eq!(job(other, id).path(), id);
        let missing = scoped.this(Kind::Cluster, &InWorkspace::default(), &None).expect_err("no cluster is named");
        assert!(missing.message.contains("-n/--name") && missing.remedies[0].contains("defaults.cluster"), "{missing:?}");
    }
}
