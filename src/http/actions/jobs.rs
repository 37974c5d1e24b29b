//! Lists of jobs by what they are, and counts of them: in our own version, for a workspace and for an experiment.

use axum::http::StatusCode;

use crate::clock::Timestamp;
use crate::domain::job::Job;
use crate::domain::search::JobPlace;
use crate::error::Error;
use crate::http::call::{Answer, Call};
use crate::http::respond::json;
use crate::http::{cursor, present, verbs};
use crate::id::{Kind, ResourceUid};
use crate::wire::ApiVersion;
use crate::wire::v2026_11_01_preview::jobs::{JobCountsBody, search};

/// GET of an experiment's jobs: frozen versions know neither filter nor order, and ignore them.
pub(crate) async fn list(call: Call) -> Answer {
    let asks = ["$filter", "$orderby"].iter().any(|name| call.query.get(name).is_some_and(|text| !text.is_empty()));
    if call.contract == ApiVersion::V2026_11_01Preview && asks { find(call).await } else { verbs::list::<Job>(call).await }
}

/// GET of jobs that fit.
pub(crate) async fn find(call: Call) -> Answer {
    let limit = call.query.number("maxresults", 1, verbs::MAX_RESULTS, verbs::MAX_RESULTS)?;
    let limit = call.query.number("$top", 1, verbs::MAX_RESULTS, limit)?.min(limit);
    let (filter, order) = (call.query.get("$filter"), call.query.get("$orderby"));
    let scope = call.id()?;
    let workspace = scope.ancestor(Kind::Workspace).ok_or_else(|| Error::internal("jobs outside of a workspace"))?;
    let wanted = search(filter, order, &workspace)?;
    let bound = format!("{}\n{}", filter.unwrap_or_default(), order.unwrap_or_default());
    let after = cursor::position(&call, &bound)?.map(|text| read_place(&text)).transpose()?;
    let (jobs, next) = call.parts.service.search_jobs(scope, &wanted, after.as_ref(), limit).await?;
    let next_link = next.map(|place| cursor::next_link(&call, &bound, &written(&place))).transpose()?;
    present::many(&call, &jobs, next_link).await
}

/// GET of how many jobs are in each state.
pub(crate) async fn count(call: Call) -> Answer {
    json(StatusCode::OK, &JobCountsBody::of(call.parts.service.count_jobs(call.id()?).await?))
}

/// A place as a cursor carries it.
fn written(place: &JobPlace) -> String {
    match place {
        JobPlace::Key(key) => key.clone(),
        JobPlace::Made(at, uid) => format!("{} {}", at.unix_timestamp_nanos(), uid.0),
    }
}

/// Cursors are signed: what cannot be read was not written here.
fn read_place(text: &str) -> Result<JobPlace, Error> {
    let Some((nanos, uid)) = text.split_once(' ') else { return Ok(JobPlace::Key(text.to_owned())) };
    let nanos: i128 = nanos.parse().map_err(Error::internal)?;
    let at = Timestamp::from_unix_timestamp_nanos(nanos).map_err(Error::internal)?;
    Ok(JobPlace::Made(at, ResourceUid(uuid::Uuid::try_parse(uid).map_err(Error::internal)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn places_come_back_as_they_were_written() {
        let made = JobPlace::Made(datetime!(2026-11-27 10:00:00.123456 UTC), ResourceUid(uuid::Uuid::from_u128(7)));
        for place in [made, JobPlace::Key("/subscriptions/s/x".into())] {
            assert_eq!(read_place(&written(&place)).expect("reads"), place);
        }
    }
}
