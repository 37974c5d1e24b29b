//! Tags at any scope that has them, and the list of names that a subscription keeps.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, Call};
use crate::http::respond::{empty, json};
use crate::service::TagUsed;
use crate::wire::platform::{TagOperation, check_tag_count, check_tag_name, check_tag_value, decode_tag_patch, decode_tag_set};
use crate::wire::shapes::ListPage;

/// GET of the tags at a scope.
pub(crate) async fn get(call: Call) -> Answer {
    let tags = call.parts.service.tags(&call.scope()?).await?;
    set_body(&call, &tags)
}

/// PUT of the whole set.
pub(crate) async fn put(mut call: Call) -> Answer {
    let wanted = decode_tag_set(&call.document().await?)?;
    change(&call, move |_| Ok(wanted)).await
}

/// PATCH: merges, replaces or takes tags away.
pub(crate) async fn patch(mut call: Call) -> Answer {
    let (operation, wanted) = decode_tag_patch(&call.document().await?)?;
    change(&call, move |tags| {
        let tags = patched(tags, operation, wanted);
        check_tag_count(tags.len())?;
        Ok(tags)
    })
    .await
}

/// DELETE of the whole set.
pub(crate) async fn delete(call: Call) -> Answer {
    call.parts.service.change_tags(call.caller()?, &call.scope()?, |_| Ok(BTreeMap::new())).await?;
    Ok(empty(StatusCode::OK))
}

type Tags = BTreeMap<String, String>;

async fn change(call: &Call, change: impl FnOnce(Tags) -> Result<Tags, Error> + Send) -> Answer {
    let tags = call.parts.service.change_tags(call.caller()?, &call.scope()?, change).await?;
    set_body(call, &tags)
}

fn set_body(call: &Call, tags: &Tags) -> Answer {
    json(
        StatusCode::OK,
        &json!({
            "id": format!("{}/providers/Microsoft.Resources/tags/default", call.scope()?.path()),
            "name": "default",
            "type": "Microsoft.Resources/tags",
            "properties": {"tags": tags},
        }),
    )
}

/// Names are compared without regard to case; the one that was there first is kept.
fn patched(mut tags: Tags, operation: TagOperation, wanted: Tags) -> Tags {
    let same = |name: &str, tags: &Tags| tags.keys().find(|known| known.to_lowercase() == name.to_lowercase()).cloned();
    match operation {
        TagOperation::Replace => wanted,
        TagOperation::Merge => {
            for (name, value) in wanted {
                let name = same(&name, &tags).unwrap_or(name);
                tags.insert(name, value);
            }
            tags
        }
        TagOperation::Delete => {
            // A tag is taken away where its value is the one that is given.
            for (name, value) in wanted {
                if let Some(name) = same(&name, &tags).filter(|name| tags.get(name) == Some(&value)) {
                    tags.remove(&name);
                }
            }
            tags
        }
    }
}

/// GET of the names of a subscription's tags.
pub(crate) async fn names(call: Call) -> Answer {
    let subscription = call.subscription()?;
    let value: Vec<Value> =
        call.parts.service.tag_names(subscription).await?.iter().map(|tag| name_body(&call, tag)).collect::<Result<_, _>>()?;
    json(StatusCode::OK, &ListPage { value, next_link: None })
}

/// PUT of a name: 201 where it is new, else 200.
pub(crate) async fn put_name(call: Call) -> Answer {
    let name = call.last_argument();
    check_tag_name(name)?;
    let made = call.parts.service.keep_tag_name(call.caller()?, call.subscription()?, name, None).await?;
    let tags = call.parts.service.tag_names(call.subscription()?).await?;
    let found = tags.iter().find(|tag| tag.name.to_lowercase() == name.to_lowercase());
    let gone = || Error::new(ErrorCode::Conflict, format!("The tag name '{name}' was deleted meanwhile. Please try again."));
    let found = found.ok_or_else(gone)?;
    json(if made { StatusCode::CREATED } else { StatusCode::OK }, &name_body(&call, found)?)
}

/// DELETE of a name: 200, or 204 where there was none.
pub(crate) async fn delete_name(call: Call) -> Answer {
    let gone = call.parts.service.forget_tag_name(call.caller()?, call.subscription()?, call.last_argument(), None).await?;
    Ok(empty(if gone { StatusCode::OK } else { StatusCode::NO_CONTENT }))
}

/// PUT of a value of a name that exists: 201 where it is new, else 200.
pub(crate) async fn put_value(call: Call) -> Answer {
    let (name, value) = (named(&call)?, call.last_argument());
    check_tag_value(value)?;
    let service = &call.parts.service;
    let known = service.tag_names(call.subscription()?).await?;
    if !known.iter().any(|tag| tag.name.to_lowercase() == name.to_lowercase()) {
        let message = format!("The tag name '{name}' could not be found. Create it first.");
        return Err(Error::new(ErrorCode::NotFound, message));
    }
    let made = service.keep_tag_name(call.caller()?, call.subscription()?, name, Some(value)).await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    json(status, &value_body(&call, name, value, 0)?)
}

/// DELETE of a value: 200, or 204 where there was none.
pub(crate) async fn delete_value(call: Call) -> Answer {
    let (name, value) = (named(&call)?, call.last_argument());
    let gone = call.parts.service.forget_tag_name(call.caller()?, call.subscription()?, name, Some(value)).await?;
    Ok(empty(if gone { StatusCode::OK } else { StatusCode::NO_CONTENT }))
}

fn named(call: &Call) -> Result<&str, Error> {
    call.arguments.get(1).map(String::as_str).ok_or_else(|| Error::internal("a route without the name of a tag"))
}

fn name_body(call: &Call, tag: &TagUsed) -> Result<Value, Error> {
    let values: Vec<Value> =
        tag.values.iter().map(|value| value_body(call, &tag.name, &value.value, value.count)).collect::<Result<_, _>>()?;
    Ok(json!({
        "id": format!("/subscriptions/{}/tagNames/{}", call.subscription()?, tag.name),
        "tagName": tag.name,
        "count": {"type": "Total", "value": tag.count()},
        "values": values,
    }))
}

fn value_body(call: &Call, name: &str, value: &str, count: i64) -> Result<Value, Error> {
    Ok(json!({
        "id": format!("/subscriptions/{}/tagNames/{name}/tagValues/{value}", call.subscription()?),
        "tagValue": value,
        "count": {"type": "Total", "value": count},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_merges_replaces_or_takes_away() {
        let tags = |pairs: &[(&str, &str)]| -> Tags { pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect() };
        let before = tags(&[("Env", "dev"), ("team", "x")]);
        let table = [
            (TagOperation::Replace, tags(&[("a", "1")]), tags(&[("a", "1")])),
            (TagOperation::Merge, tags(&[("ENV", "prod"), ("a", "1")]), tags(&[("Env", "prod"), ("a", "1"), ("team", "x")])),
            (TagOperation::Delete, tags(&[("env", "dev"), ("team", "y"), ("none", "")]), tags(&[("team", "x")])),
        ];
        for (operation, wanted, after) in table {
            assert_eq!(patched(before.clone(), operation, wanted), after, "{operation:?}");
        }
    }
}
