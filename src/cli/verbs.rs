//! The verbs that all kinds have.

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::document::Document;
use super::output::Answer;
use super::scope::InWorkspace;
use super::session::Session;
use super::validate;
use super::views::{self, View};
use crate::client::{BATCH_AI, Exit, Failure, Held, Kind, OWN, Patience, Place, RESOURCES, Reply, Result};

/// How many entries of a list a terminal shows.
const SHOWN: usize = 50;

/// How a list is cut.
#[derive(Args, Clone, Debug, Default)]
pub struct Paging {
    /// At most so many entries.
    #[arg(long, value_name = "COUNT")]
    pub max_items: Option<usize>,
    /// All entries, also on a terminal.
    #[arg(long)]
    pub all: bool,
}

/// How a deletion is confirmed and waited for.
#[derive(Args, Clone, Debug, Default)]
pub struct Deletion {
    /// Asks nothing.
    #[arg(short, long)]
    pub yes: bool,
    /// Returns once it is accepted.
    #[arg(long)]
    pub no_wait: bool,
}

/// Which resources of a workspace are listed.
#[derive(Args, Clone, Debug, Default)]
pub struct Listed {
    #[command(flatten)]
    within: InWorkspace,
    #[command(flatten)]
    paging: Paging,
}

/// What is deleted, and how.
#[derive(Args, Clone, Debug, Default)]
pub struct Deleted<T: Args> {
    /// It.
    #[command(flatten)]
    pub this: T,
    /// How.
    #[command(flatten)]
    pub deletion: Deletion,
}

/// What to do with what exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum IfExists {
    /// It stays, where it is as asked for.
    #[default]
    Keep,
    /// The command fails.
    Fail,
}

/// The version that a kind is shown at.
pub(super) fn version(kind: Kind) -> &'static str {
    if kind == Kind::Group { RESOURCES } else { BATCH_AI }
}

/// The columns of a kind.
pub(super) fn view(kind: Kind) -> &'static View {
    match kind {
        Kind::Group => &views::GROUP,
        Kind::Workspace => &views::WORKSPACE,
        Kind::Cluster => &views::CLUSTER,
        Kind::FileServer => &views::FILE_SERVER,
        Kind::Experiment => &views::EXPERIMENT,
        Kind::Job => &views::JOB,
    }
}

/// One resource.
///
/// # Errors
/// It does not exist, or the caller may not see it.
pub(super) async fn show(session: &Session, place: &Place) -> Result<Answer> {
    let found = session.client.get(&place.path(), version(place.kind)).await;
    Ok(Answer::One(found.map_err(|failure| with_list(failure, place))?.body, view(place.kind)))
}

/// What the thing at `path` waits for.
///
/// # Errors
/// It does not exist, or the caller may not see it.
pub(super) async fn why(session: &Session, path: &str) -> Result<Answer> {
    Ok(Answer::One(session.client.get(&format!("{path}/why"), OWN).await?.body, &views::WHY))
}

/// What else there is, where something is not.
fn with_list(failure: Failure, place: &Place) -> Failure {
    let is_it = failure.code.eq_ignore_ascii_case(&format!("{}NotFound", place.kind.noun().replace('-', "")));
    if !is_it || place.kind == Kind::Group {
        return failure;
    }
    let flags = ["-g", "-w", "-e"].iter().zip(&place.names).take(place.names.len() - 1);
    let flags: Vec<String> = flags.map(|(flag, name)| format!("{flag} {name}")).collect();
    failure.or_try(format!("batchyard {} list {}", place.kind.noun(), flags.join(" ")))
}

/// The resources of a list, as many as are wanted.
///
/// # Errors
/// What holds them does not exist, or the caller may not see it.
pub(super) async fn list(
    session: &Session,
    path: &str,
    kind: Kind,
    paging: &Paging,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Answer> {
    let terminal = session.output.is_for_people();
    let most = paging.max_items.unwrap_or(if terminal && !paging.all { SHOWN } else { usize::MAX });
    let mut found: Vec<Value> = Vec::new();
    let mut more = false;
    session
        .client
        .pages(Method::GET, path, version(kind), |items| {
            found.extend(items.into_iter().filter(|item| wanted(item)));
            more |= found.len() > most;
            found.truncate(most);
            !more
        })
        .await?;
    if more && terminal && paging.max_items.is_none() {
        session.terminal().say(&format!("the first {most}; --all shows all"));
    }
    Ok(Answer::Many(found, view(kind)))
}

/// The resources of a kind in a workspace.
///
/// # Errors
/// As of [`list`].
pub(super) async fn list_in_workspace(session: &Session, kind: Kind, listed: &Listed) -> Result<Answer> {
    let path = session.scoped().workspace(&listed.within)?.list(kind);
    list(session, &path, kind, &listed.paging, |_| true).await
}

/// Deletes a resource. One that does not exist is as one wants it.
///
/// # Errors
/// It is not confirmed, locked, or used by others.
pub(super) async fn delete(session: &Session, place: &Place, deletion: &Deletion) -> Result<Answer> {
    let noun = place.kind.noun();
    if !deletion.yes {
        let what = match place.kind {
            Kind::Group | Kind::Workspace => " with all clusters, experiments and jobs in it",
            Kind::Experiment => " with its jobs and what the server keeps of their output",
            Kind::Cluster => " with its nodes; jobs that run there are stopped",
            Kind::FileServer => " with all that is on it",
            Kind::Job => " with what the server keeps of its output",
        };
        session.terminal().confirm(&format!("Delete the {noun} {}{what}", place.name()))?;
    }
    let reply = match session.client.delete(&place.path(), version(place.kind)).await {
        Ok(reply) => reply,
        Err(failure) if failure.is_absence() => {
            session.terminal().say(&format!("there is no {noun} {}", place.name()));
            return Ok(Answer::Nothing);
        }
        Err(failure) => return Err(failure),
    };
    session.finish(&reply, deletion.no_wait).await?;
    Ok(Answer::Nothing)
}

/// Waits for a resource until `is_reached`, and shows it. Ends also where it is deleted.
///
/// # Errors
/// `Absent` where it was deleted and that is not awaited, `Late`, and as of the client.
pub(super) async fn wait(
    session: &Session,
    place: &Place,
    timeout: Option<u64>,
    mut seen: impl FnMut(&Value),
    is_reached: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let patience = Patience::of(timeout);
    let mut held = Held::new(place.path());
    loop {
        match session.client.changed(&mut held, patience).await? {
            Some(document) => {
                seen(&document);
                if is_reached(&document) {
                    return Ok(document);
                }
            }
            None => {
                let message = format!("there is no {} {} (any more)", place.kind.noun(), place.name());
                return Err(Failure::new(Exit::Absent, "NotFound", message));
            }
        }
    }
}

/// Members of what is asked for that what is there has otherwise.
pub(super) fn differing(asked: &Value, there: &Value) -> Vec<String> {
    fn compare(asked: &Value, there: Option<&Value>, at: &str, found: &mut Vec<String>) {
        match (asked, there) {
            (Value::Object(members), Some(Value::Object(others))) => {
                for (name, member) in members {
                    compare(member, others.get(name), &format!("{at}{}{name}", if at.is_empty() { "" } else { "." }), found);
                }
            }
            (Value::String(a), Some(Value::String(b))) if a.eq_ignore_ascii_case(b) => {}
            (asked, Some(there)) if asked == there => {}
            // What the server does not show, such as a secret, cannot be compared.
            (_, None) => {}
            _ => found.push(at.to_owned()),
        }
    }
    let mut found = Vec::new();
    compare(asked, Some(there), "", &mut found);
    found
}

/// Makes what a document describes; `None` where it is there already, and as described.
///
/// # Errors
/// `Conflict` where it exists otherwise, or at all where that is not wanted; every violation; as of the client.
pub(super) async fn make(
    session: &Session,
    place: &Place,
    document: &Document,
    version: &str,
    if_exists: IfExists,
) -> Result<Option<Reply>> {
    let there = session.client.find(&place.path(), BATCH_AI).await?;
    if there.is_none() {
        // Whoever made another one meanwhile is not overwritten.
        match session.client.put(&place.path(), version, Some(&document.value), &[("if-none-match", "*")]).await {
            Ok(reply) => return Ok(Some(reply)),
            // It may be ours: of a request whose answer was lost.
            Err(failure) if failure.status == 412 => {}
            Err(failure) => return Err(validate::located(failure, document)),
        }
    }
    let there = match there {
        Some(there) if if_exists == IfExists::Fail => return Err(exists_otherwise(place, &differing(&document.value, &there))),
        Some(there) => there,
        None => session.client.get(&place.path(), BATCH_AI).await?.body,
    };
    let differing = differing(&document.value, &there);
    if !differing.is_empty() {
        return Err(exists_otherwise(place, &differing));
    }
    session.terminal().say(&format!("the {} {} is there already: unchanged", place.kind.noun(), place.name()));
    Ok(None)
}

/// The failure of a creation of what exists otherwise.
pub(super) fn exists_otherwise(place: &Place, differing: &[String]) -> Failure {
    let (noun, name) = (place.kind.noun(), place.name());
    let message = match differing {
        [] => format!("the {noun} {name} exists"),
        some => format!("the {noun} {name} exists with another {}", some.join(", ")),
    };
    let failure = Failure::new(Exit::Conflict, "Exists", message).or_try("use another name, or delete it first");
    match differing.iter().any(|member| member.starts_with("properties.scaleSettings")) {
        true => failure.or_try(format!("batchyard cluster resize -n {name} -t COUNT")),
        false => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_is_named_and_what_cannot_be_seen_is_not() {
        let asked = json!({"properties": {"vmSize": "Standard_D1", "nodeCount": 2, "secret": "x", "a": {"b": [1]}}});
        let there = json!({"properties": {"vmSize": "STANDARD_D1", "nodeCount": 1, "a": {"b": [2]}, "more": 1}});
        assert_eq!(differing(&asked, &there), ["properties.a.b", "properties.nodeCount"]);
    }
}
