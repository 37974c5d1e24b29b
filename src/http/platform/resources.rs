//! Lists of resources of any type, and of groups, with filters.
//!
//! A list shows what the caller may read, and no trace of what else there is: neither a count nor a page that ends early.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::auth::Visible;
use crate::domain::group::Group;
use crate::domain::resource::{Envelope, Provisioning, Resource};
use crate::domain::workspace::Workspace;
use crate::error::Error;
use crate::http::call::{Answer, Call};
use crate::http::cursor;
use crate::http::respond::json;
use crate::http::verbs::MAX_RESULTS;
use crate::id::ResourceId;
use crate::service::{ListScope, PageRequest};
use crate::wire::filter::{Clause, Comparison, Filter, unsupported};
use crate::wire::platform::canonical_location;
use crate::wire::shapes::ListPage;
use crate::wire::times::precise;
use crate::wire::v2018_05_01::Encode;

/// Members that `$expand` adds.
const EXPANDABLE: [&str; 3] = ["createdTime", "changedTime", "provisioningState"];

/// GET of the resources of a subscription or a group.
///
/// Tracked resources alone are listed, which have a region and tags of their own: what is in them is listed at its own address.
pub(crate) async fn list(call: Call) -> Answer {
    let filter = filter(&call, RESOURCE_PROPERTIES)?;
    let expand = expand(&call)?;
    let scope = match call.id() {
        Ok(group) => ListScope::Parent(group.clone()),
        Err(_) => ListScope::Subscription(call.subscription()?),
    };
    let (found, next) = pages::<Workspace>(&call, &scope, filter.as_ref()).await?;
    let value: Vec<Value> = found.iter().map(|one| body(one, &expand)).collect();
    let next_link = next.map(|position| link(&call, &position)).transpose()?;
    json(StatusCode::OK, &ListPage { value, next_link })
}

/// GET of the groups of a subscription.
pub(crate) async fn list_groups(call: Call) -> Answer {
    let filter = filter(&call, GROUP_PROPERTIES)?;
    let scope = ListScope::Subscription(call.subscription()?);
    let (found, next) = pages::<Group>(&call, &scope, filter.as_ref()).await?;
    let next_link = next.map(|position| link(&call, &position)).transpose()?;
    json(StatusCode::OK, &ListPage { value: found.iter().map(Group::encode).collect(), next_link })
}

/// A cursor is bound to the filter with which its list began.
fn filter_text(call: &Call) -> &str {
    call.query.get("$filter").unwrap_or_default()
}

fn link(call: &Call, position: &str) -> Result<String, Error> {
    cursor::next_link(call, filter_text(call), position)
}

/// One page of what fits and may be seen, and where the next one begins, if anything of that kind follows.
async fn pages<K: Resource>(
    call: &Call,
    scope: &ListScope,
    filter: Option<&Filter>,
) -> Result<(Vec<Envelope<K>>, Option<String>), Error> {
    let limit = call.query.number("$top", 1, MAX_RESULTS, MAX_RESULTS)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let visible = match scope {
        // The gate asked for the group itself.
        ListScope::Parent(_) => Visible::All,
        ListScope::Subscription(subscription) => {
            call.parts.auth.visible(call.caller()?, call.route.action, *subscription).await?
        }
    };
    let mut page = PageRequest { limit: MAX_RESULTS, after: cursor::position(call, filter_text(call))? };
    let mut found: Vec<(String, Envelope<K>)> = Vec::new();
    loop {
        let read = call.parts.service.list::<K>(scope, &page).await?;
        for one in read.items {
            let key = ResourceId::parse(&one.path).map_err(Error::internal)?.key();
            if visible.includes(&key) && filter.is_none_or(|filter| fits(filter, &one)) {
                if found.len() == limit {
                    // One more that fits: another page follows.
                    let next = found.last().map(|(key, _)| key.clone());
                    return Ok((found.into_iter().map(|(_, one)| one).collect(), next));
                }
                found.push((key, one));
            }
        }
        match read.next {
            Some(next) => page.after = Some(next),
            None => return Ok((found.into_iter().map(|(_, one)| one).collect(), None)),
        }
    }
}

/// What can be compared of a resource. What this server never has is known, and absent.
///
/// Source: `Resources_List`, the platform's published filter.
const RESOURCE_PROPERTIES: &[&str] = &[
    "location",
    "resourcetype",
    "name",
    "resourcegroup",
    "tagname",
    "tagvalue",
    "identity",
    "identity/principalid",
    "plan",
    "plan/publisher",
    "plan/product",
    "plan/name",
    "plan/version",
    "plan/promotioncode",
];

/// Source: `ResourceGroups_List`, the platform's published filter.
const GROUP_PROPERTIES: &[&str] = &["tagname", "tagvalue", "name", "location"];

fn filter(call: &Call, known: &[&str]) -> Result<Option<Filter>, Error> {
    let text = filter_text(call);
    if text.trim().is_empty() {
        return Ok(None);
    }
    let filter = Filter::parse(text)?;
    for clause in filter.alternatives().iter().flatten() {
        match clause {
            Clause::Compare { name, by: Comparison::Equal | Comparison::NotEqual, .. } if known.contains(&name.as_str()) => {}
            Clause::Call { name, arguments } if name == "substringof" => match arguments.as_slice() {
                [_, property] if ["name", "resourcegroup"].contains(&property.as_str()) && known.contains(&property.as_str()) => {
                }
                _ => return Err(unsupported("substringof takes a text, and name or resourceGroup")),
            },
            Clause::Call { name, arguments } if name == "startswith" && known.contains(&"tagname") => {
                match arguments.as_slice() {
                    [property, _] if property == "tagname" => {}
                    _ => return Err(unsupported("startswith takes tagName and a text")),
                }
            }
            Clause::Compare { name, .. } | Clause::Call { name, .. } => {
                return Err(unsupported(&format!("'{name}' cannot be filtered by here")));
            }
        }
    }
    for all in filter.alternatives() {
        let is_tag = |clause: &Clause| matches!(clause, Clause::Compare { name, .. } if name.starts_with("tag"));
        if all.iter().any(is_tag) && !all.iter().all(is_tag) && known == RESOURCE_PROPERTIES {
            return Err(unsupported("filters on tags cannot be combined with others"));
        }
    }
    Ok(Some(filter))
}

fn fits<K: Resource>(filter: &Filter, one: &Envelope<K>) -> bool {
    filter.alternatives().iter().any(|all| {
        // A name and a value of one filter are those of one tag.
        let tagged = |wanted: &str| {
            all.iter().find_map(|clause| match clause {
                Clause::Compare { name, by: Comparison::Equal, value } if name == wanted => Some(value.as_str()),
                _ => None,
            })
        };
        let tag = (tagged("tagname"), tagged("tagvalue"));
        (tag == (None, None) || has_tag(one.tags.as_ref(), tag)) && all.iter().all(|clause| holds(clause, one))
    })
}

fn has_tag(tags: Option<&BTreeMap<String, String>>, (name, value): (Option<&str>, Option<&str>)) -> bool {
    tags.into_iter().flatten().any(|(key, held)| {
        name.is_none_or(|name| key.to_lowercase() == name.to_lowercase()) && value.is_none_or(|value| held == value)
    })
}

fn holds<K: Resource>(clause: &Clause, one: &Envelope<K>) -> bool {
    let contains = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
    match clause {
        Clause::Compare { name, by, value } => {
            let equal = match name.as_str() {
                "location" => one.location == canonical_location(value),
                "resourcetype" => K::KIND.resource_type().eq_ignore_ascii_case(value),
                "name" => one.name.eq_ignore_ascii_case(value),
                "resourcegroup" => group_of(&one.path).eq_ignore_ascii_case(value),
                // Decided for both together.
                "tagname" | "tagvalue" if *by == Comparison::Equal => return true,
                "tagname" => has_tag(one.tags.as_ref(), (Some(value), None)),
                "tagvalue" => has_tag(one.tags.as_ref(), (None, Some(value))),
                _ => false,
            };
            equal == (*by == Comparison::Equal)
        }
        Clause::Call { name, arguments } => match (name.as_str(), arguments.as_slice()) {
            ("substringof", [part, property]) if property == "name" => contains(&one.name, part),
            ("substringof", [part, _]) => contains(group_of(&one.path), part),
            ("startswith", [_, part]) => {
                one.tags.iter().flatten().any(|(key, _)| key.to_lowercase().starts_with(&part.to_lowercase()))
            }
            _ => false,
        },
    }
}

fn group_of(path: &str) -> &str {
    path.split('/').nth(4).unwrap_or_default()
}

fn expand(call: &Call) -> Result<Vec<&'static str>, Error> {
    let text = call.query.get("$expand").unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(|word| {
            EXPANDABLE.into_iter().find(|known| known.eq_ignore_ascii_case(word)).ok_or_else(|| {
                let message = format!("The query parameter '$expand' may name {}.", EXPANDABLE.join(", "));
                crate::http::query::invalid("$expand", message)
            })
        })
        .collect()
}

fn body<K: Resource>(one: &Envelope<K>, expand: &[&str]) -> Value {
    let mut body = json!({"id": one.path, "name": one.name, "type": K::KIND.resource_type(), "location": one.location});
    if let Value::Object(members) = &mut body {
        if let Some(tags) = &one.tags {
            members.insert("tags".into(), json!(tags));
        }
        for word in expand {
            let value = match *word {
                "createdTime" => json!(precise(one.created_at)),
                "changedTime" => json!(precise(one.updated_at)),
                _ => json!(match one.provisioning {
                    Provisioning::Succeeded => "Succeeded",
                    Provisioning::Deleting => "Deleting",
                    Provisioning::Failed => "Failed",
                    Provisioning::Creating => "Creating",
                }),
            };
            members.insert((*word).to_owned(), value);
        }
    }
    body
}
