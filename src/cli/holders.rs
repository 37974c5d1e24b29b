//! Groups, workspaces and experiments: what holds the rest.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::Answer;
use super::scope::{InGroup, ThisGroup, ThisInWorkspace, ThisWorkspace};
use super::session::Session;
use super::verbs::{self, Deleted, Listed, Paging};
use crate::client::{BATCH_AI, Failure, Kind, Place, RESOURCES, Result};

/// Tags of a resource.
#[derive(Args, Clone, Debug, Default)]
pub struct Tags {
    /// Tags, each NAME=VALUE.
    #[arg(long, num_args = 0.., value_name = "NAME=VALUE")]
    pub tags: Option<Vec<String>>,
}

impl Tags {
    fn read(&self) -> Result<Option<Value>> {
        let Some(pairs) = &self.tags else { return Ok(None) };
        let mut tags = BTreeMap::new();
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name.is_empty() {
                return Err(Failure::usage(format!("'{pair}' is no tag: NAME=VALUE")));
            }
            tags.insert(name.to_owned(), value.to_owned());
        }
        Ok(Some(json!(tags)))
    }
}

/// What `group` does.
#[derive(Subcommand, Clone, Debug)]
pub enum GroupVerb {
    /// Makes a group.
    Create {
        #[command(flatten)]
        this: ThisGroup,
        /// The region; the server's only one where it is left out.
        #[arg(short, long)]
        location: Option<String>,
        #[command(flatten)]
        tags: Tags,
    },
    /// Shows a group.
    Show(ThisGroup),
    /// Lists the groups that the caller may see.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Says whether a group exists.
    Exists {
        #[command(flatten)]
        this: ThisGroup,
    },
    /// Changes a group's tags.
    Update {
        #[command(flatten)]
        this: ThisGroup,
        #[command(flatten)]
        tags: Tags,
    },
    /// Deletes a group and all that is in it.
    Delete(Deleted<ThisGroup>),
}

/// What `workspace` does.
#[derive(Subcommand, Clone, Debug)]
pub enum WorkspaceVerb {
    /// Makes a workspace.
    Create {
        #[command(flatten)]
        this: ThisWorkspace,
        /// The region; the group's where it is left out.
        #[arg(short, long)]
        location: Option<String>,
        #[command(flatten)]
        tags: Tags,
    },
    /// Shows a workspace.
    Show(ThisWorkspace),
    /// Lists the workspaces of a group, or of the subscription.
    List {
        #[command(flatten)]
        within: InGroup,
        #[command(flatten)]
        paging: Paging,
    },
    /// Changes a workspace's tags.
    Update {
        #[command(flatten)]
        this: ThisWorkspace,
        #[command(flatten)]
        tags: Tags,
    },
    /// Deletes a workspace and all that is in it.
    Delete(Deleted<ThisWorkspace>),
}

/// What `experiment` does.
#[derive(Subcommand, Clone, Debug)]
pub enum ExperimentVerb {
    /// Makes an experiment.
    Create {
        #[command(flatten)]
        this: ThisInWorkspace,
    },
    /// Shows an experiment.
    Show(ThisInWorkspace),
    /// Lists the experiments of a workspace.
    List(Listed),
    /// Deletes an experiment and its jobs.
    Delete(Deleted<ThisInWorkspace>),
}

/// `group`.
///
/// # Errors
/// As of the verbs.
pub(super) async fn group(session: &Session, verb: &GroupVerb) -> Result<Answer> {
    let place = |this: &ThisGroup| session.scoped().this_group(this);
    match verb {
        GroupVerb::Create { this, location, tags } => {
            let place = place(this)?;
            let location = match location {
                Some(location) => location.clone(),
                None => match session.client.find(&place.path(), RESOURCES).await? {
                    Some(there) => super::views::at(&there, "/location"),
                    None => session.location().await?,
                },
            };
            let mut body = json!({ "location": location });
            if let (Some(tags), Some(members)) = (tags.read()?, body.as_object_mut()) {
                members.insert("tags".into(), tags);
            }
            put(session, &place, Some(&body)).await
        }
        GroupVerb::Show(this) => verbs::show(session, &place(this)?).await,
        GroupVerb::List { paging } => {
            verbs::list(session, &format!("/subscriptions/{}/resourceGroups", session.subscription), Kind::Group, paging, |_| {
                true
            })
            .await
        }
        GroupVerb::Exists { this } => {
            let found = session.client.find(&place(this)?.path(), RESOURCES).await?;
            Ok(Answer::Text(format!("{}\n", found.is_some())))
        }
        GroupVerb::Update { this, tags } => retag(session, &place(this)?, tags).await,
        GroupVerb::Delete(gone) => verbs::delete(session, &place(&gone.this)?, &gone.deletion).await,
    }
}

/// `workspace`.
///
/// # Errors
/// As of the verbs.
pub(super) async fn workspace(session: &Session, verb: &WorkspaceVerb) -> Result<Answer> {
    let place = |this: &ThisWorkspace| session.scoped().this_workspace(this);
    match verb {
        WorkspaceVerb::Create { this, location, tags } => {
            let place = place(this)?;
            let location = match location {
                Some(location) => location.clone(),
                None => {
                    let group = session.client.get(&place.above(Kind::Group).path(), RESOURCES).await?;
                    super::views::at(&group.body, "/location")
                }
            };
            let mut body = json!({ "location": location });
            if let (Some(tags), Some(members)) = (tags.read()?, body.as_object_mut()) {
                members.insert("tags".into(), tags);
            }
            if let Some(there) = session.client.find(&place.path(), BATCH_AI).await? {
                let differing = verbs::differing(&body, &there);
                return match differing.is_empty() {
                    true => unchanged(session, &place, there),
                    false => Err(verbs::exists_otherwise(&place, &differing)),
                };
            }
            put(session, &place, Some(&body)).await
        }
        WorkspaceVerb::Show(this) => verbs::show(session, &place(this)?).await,
        WorkspaceVerb::List { within, paging } => {
            let path = match (&within.group, &session.defaults.group) {
                (None, None) => format!("/subscriptions/{}/providers/Microsoft.BatchAI/workspaces", session.subscription),
                _ => session.scoped().group(within)?.list(Kind::Workspace),
            };
            verbs::list(session, &path, Kind::Workspace, paging, |_| true).await
        }
        WorkspaceVerb::Update { this, tags } => retag(session, &place(this)?, tags).await,
        WorkspaceVerb::Delete(gone) => verbs::delete(session, &place(&gone.this)?, &gone.deletion).await,
    }
}

/// `experiment`.
///
/// # Errors
/// As of the verbs.
pub(super) async fn experiment(session: &Session, verb: &ExperimentVerb) -> Result<Answer> {
    let place = |this: &ThisInWorkspace| session.scoped().this(Kind::Experiment, &this.within, &this.name);
    match verb {
        ExperimentVerb::Create { this } => {
            let place = place(this)?;
            match session.client.find(&place.path(), BATCH_AI).await? {
                Some(there) => unchanged(session, &place, there),
                None => put(session, &place, None).await,
            }
        }
        ExperimentVerb::Show(this) => verbs::show(session, &place(this)?).await,
        ExperimentVerb::List(listed) => verbs::list_in_workspace(session, Kind::Experiment, listed).await,
        ExperimentVerb::Delete(gone) => verbs::delete(session, &place(&gone.this)?, &gone.deletion).await,
    }
}

/// Says that something is as it is asked for already.
fn unchanged(session: &Session, place: &Place, there: Value) -> Result<Answer> {
    session.terminal().say(&format!("the {} {} is there already: unchanged", place.kind.noun(), place.name()));
    Ok(Answer::One(there, verbs::view(place.kind)))
}

async fn put(session: &Session, place: &Place, body: Option<&Value>) -> Result<Answer> {
    let version = verbs::version(place.kind);
    let reply = match session.client.put(&place.path(), version, body, &[]).await {
        // The first thing that anybody does in a subscription: what it needs is done with it.
        Err(failure) if failure.code == "MissingSubscriptionRegistration" => {
            session.register().await?;
            session.client.put(&place.path(), version, body, &[]).await?
        }
        other => other?,
    };
    Ok(Answer::One(reply.body, verbs::view(place.kind)))
}

async fn retag(session: &Session, place: &Place, tags: &Tags) -> Result<Answer> {
    let tags = tags.read()?.ok_or_else(|| Failure::usage("nothing to change: give --tags NAME=VALUE …"))?;
    let reply = session.client.patch(&place.path(), verbs::version(place.kind), &json!({ "tags": tags })).await?;
    Ok(Answer::One(reply.body, verbs::view(place.kind)))
}
