//! The activity log of a subscription.

use axum::http::StatusCode;
use serde_json::Value;
use time::format_description::well_known::Rfc3339;

use crate::auth::Visible;
use crate::clock::Timestamp;
use crate::domain::activity::Window;
use crate::error::Error;
use crate::http::call::{Answer, Call};
use crate::http::cursor;
use crate::http::respond::json;
use crate::id::ResourceId;
use crate::wire::activity::{Event, events};
use crate::wire::filter::{Clause, Comparison, Filter, unsupported};
use crate::wire::shapes::ListPage;

/// Requests of one page; each is up to three events.
const REQUESTS: u32 = 200;

/// What a filter asks for.
struct Wanted {
    window: Window,
    caller: Option<String>,
    status: Option<String>,
}

/// GET of the events that fit a filter, which is required, the latest first.
pub(crate) async fn list(call: Call) -> Answer {
    let text = call.query.get("$filter").unwrap_or_default();
    let wanted = read(&call, text)?;
    check_scope(&call, &wanted.window).await?;
    let before = match cursor::position(&call, text)? {
        None => None,
        Some(position) => Some(position.parse::<i64>().map_err(Error::internal)?),
    };
    let found = call.parts.service.activities(&wanted.window, before, REQUESTS + 1).await?;
    let more = found.len() > usize::try_from(REQUESTS).unwrap_or(usize::MAX);
    let page = found.get(..found.len() - usize::from(more)).unwrap_or_default();
    let fits = |event: &Event| {
        let Window { from, to, .. } = wanted.window;
        let matches =
            |wanted: &Option<String>, given: &str| wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(given));
        event.at >= from
            && to.is_none_or(|to| event.at <= to)
            && matches(&wanted.caller, &event.caller)
            && matches(&wanted.status, event.status)
    };
    let mut told: Vec<Event> = page.iter().flat_map(events).filter(fits).collect();
    told.sort_by_key(|event| std::cmp::Reverse(event.at));
    let selected = select(&call);
    let value: Vec<Value> = told.into_iter().map(|event| keep(event.body, &selected)).collect();
    let next = page.last().filter(|_| more).map(|last| last.position.to_string());
    let next_link = next.map(|position| cursor::next_link(&call, text, &position)).transpose()?;
    json(StatusCode::OK, &ListPage { value, next_link })
}

/// Reads the filter: a beginning in time, then what else there is.
///
/// Source: `ActivityLogs_List`, the platform's published filter.
fn read(call: &Call, text: &str) -> Result<Wanted, Error> {
    if text.trim().is_empty() {
        return Err(unsupported("it is required and begins with eventTimestamp ge '<time>'"));
    }
    let subscription = call.subscription()?;
    let filter = Filter::parse(text)?;
    let mut clauses = filter.all()?.iter();
    let from = match clauses.next() {
        Some(Clause::Compare { name, by: Comparison::AtLeast, value }) if name == "eventtimestamp" => moment(value)?,
        _ => return Err(unsupported("it begins with eventTimestamp ge '<time>'")),
    };
    let window = Window { subscription, from, to: None, below: None, at: None, provider: None, correlation: None };
    let mut wanted = Wanted { window, caller: None, status: None };
    for clause in clauses {
        let window = &mut wanted.window;
        match clause {
            Clause::Compare { name, by: Comparison::AtMost, value } if name == "eventtimestamp" => {
                window.to = Some(moment(value)?)
            }
            Clause::Compare { name, by: Comparison::Equal, value } => match name.as_str() {
                "resourcegroupname" | "resourcegroup" => {
                    window.below = Some(ResourceId::group(subscription, value.as_str()).key())
                }
                "resourceuri" | "resourceid" => window.at = Some(value.trim_end_matches('/').to_ascii_lowercase()),
                "resourceprovider" => window.provider = Some(value.to_ascii_lowercase()),
                "correlationid" => window.correlation = Some(value.clone()),
                "caller" => wanted.caller = Some(value.clone()),
                "status" => wanted.status = Some(value.clone()),
                // All events are of the one channel and level that there are.
                "eventchannels" | "levels" => {}
                other => return Err(unsupported(&format!("'{other}' cannot be filtered by here"))),
            },
            _ => return Err(unsupported("only eq is supported after the times")),
        }
    }
    Ok(wanted)
}

/// A time without a zone is of UTC: that is how the Azure CLI writes it.
fn moment(text: &str) -> Result<Timestamp, Error> {
    let parsed = Timestamp::parse(text, &Rfc3339).or_else(|_| Timestamp::parse(&format!("{text}Z"), &Rfc3339));
    parsed.map_err(|_| unsupported("a time is written as 2026-01-31T12:00:00Z"))
}

/// Who may not read the log of a whole subscription may read that of a part which is theirs, where the filter names it.
async fn check_scope(call: &Call, window: &Window) -> Result<(), Error> {
    let (caller, action, subscription) = (call.caller()?, call.route.action, call.subscription()?);
    let allowed = match call.parts.auth.visible(caller, action, subscription).await? {
        Visible::All => true,
        below => window.at.iter().chain(&window.below).any(|key| below.includes(key)),
    };
    if allowed { Ok(()) } else { call.parts.auth.authorize(caller, action, &format!("/subscriptions/{subscription}")).await }
}

/// The members that `$select` names; empty for all.
fn select(call: &Call) -> Vec<String> {
    let text = call.query.get("$select").unwrap_or_default();
    text.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect()
}

fn keep(body: Value, selected: &[String]) -> Value {
    match body {
        Value::Object(members) if !selected.is_empty() => {
            Value::Object(members.into_iter().filter(|(name, _)| selected.contains(&name.to_ascii_lowercase())).collect())
        }
        other => other,
    }
}
