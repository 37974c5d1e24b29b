//! Looking for jobs as our own version writes it: `$filter` and `$orderby` of lists, and counts by state.

use serde::Serialize;

use crate::domain::job::Phase;
use crate::domain::search::{JobCounts, JobOrder, JobSearch};
use crate::error::{Error, ErrorCode};
use crate::id::{Kind, ResourceId};
use crate::wire::filter::{Clause, Comparison, Filter, unsupported};

/// Words of `$orderby`.
const ORDERS: [(&str, JobOrder); 4] = [
    ("name", JobOrder::Name),
    ("name asc", JobOrder::Name),
    ("creationtime desc", JobOrder::Newest),
    ("creationtime asc", JobOrder::Oldest),
];

/// Reads what a list of jobs is asked for. `workspace` is where a cluster is looked for that is named and not given by its id.
///
/// # Errors
/// `InvalidFilterInQueryString`, `InvalidQueryParameterValue`.
pub fn search(filter: Option<&str>, order: Option<&str>, workspace: &ResourceId) -> Result<JobSearch, Error> {
    let mut search = JobSearch { order: read_order(order)?, ..JobSearch::default() };
    let Some(text) = filter.filter(|text| !text.trim().is_empty()) else { return Ok(search) };
    let filter = Filter::parse(text)?;
    for clause in filter.all()? {
        match clause {
            Clause::Compare { name, by: Comparison::Equal, value } if name == "executionstate" => {
                let phase = Phase::find(&value.to_ascii_lowercase());
                search.phase =
                    Some(phase.ok_or_else(|| {
                        unsupported("executionState is one of Queued, Running, Terminating, Succeeded and Failed")
                    })?);
            }
            Clause::Compare { name, by: Comparison::Equal, value } if name == "cluster" => {
                search.cluster = Some(cluster_key(value, workspace)?);
            }
            Clause::Call { name, arguments } if name == "substringof" => match arguments.as_slice() {
                [part, property] if property == "name" => search.name = Some(part.to_lowercase()),
                _ => return Err(unsupported("substringof takes a text and name")),
            },
            _ => {
                return Err(unsupported(
                    "jobs are found by executionState eq '<state>', cluster eq '<name or id>' and substringof('<part>', name), \
                     joined by 'and'",
                ));
            }
        }
    }
    Ok(search)
}

fn read_order(order: Option<&str>) -> Result<JobOrder, Error> {
    let Some(text) = order.filter(|text| !text.trim().is_empty()) else { return Ok(JobOrder::default()) };
    let wanted = text.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
    let found = ORDERS.iter().find(|(word, _)| *word == wanted).map(|(_, order)| *order);
    found.ok_or_else(|| {
        let message = "The query parameter '$orderby' must be 'name', 'creationTime desc' or 'creationTime asc'.";
        Error::new(ErrorCode::InvalidQueryParameterValue, message).with_target("$orderby")
    })
}

fn cluster_key(value: &str, workspace: &ResourceId) -> Result<String, Error> {
    if let Ok(id) = ResourceId::parse(value)
        && id.kind() == Kind::Cluster
    {
        return Ok(id.key());
    }
    Kind::Cluster.check_name(value).map_err(|_| unsupported("cluster is the name or the id of a cluster"))?;
    Ok(format!("{}/clusters/{}", workspace.key(), value.to_ascii_lowercase()))
}

/// How many jobs are in each state.
#[derive(Serialize)]
pub struct JobCountsBody {
    queued: u64,
    running: u64,
    terminating: u64,
    succeeded: u64,
    failed: u64,
    /// Whether there may be more of some state: none is counted beyond 10,000.
    capped: bool,
}

impl JobCountsBody {
    /// The document of counts.
    pub fn of(counts: JobCounts) -> JobCountsBody {
        let capped = counts.is_capped();
        let JobCounts { queued, running, terminating, succeeded, failed } = counts;
        JobCountsBody { queued, running, terminating, succeeded, failed, capped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str =
        "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/G/providers/Microsoft.BatchAI/workspaces/W";

    fn read(filter: &str, order: &str) -> Result<JobSearch, Error> {
        search(Some(filter), Some(order), &ResourceId::parse(WORKSPACE).expect("an id"))
    }

    #[test]
    fn reads_what_jobs_must_be() {
        let cluster = Some(format!("{}/clusters/gpu4", WORKSPACE.to_lowercase()));
        let wanted = JobSearch { phase: Some(Phase::Failed), cluster, name: Some("lr-0".into()), order: JobOrder::Newest };
        let filter = "executionState eq 'failed' and cluster eq 'GPU4' and substringof('LR-0', name)";
        assert_eq!(read(filter, "creationTime  DESC").expect("reads"), wanted);
        assert_eq!(
            read(&filter.replace("GPU4", &format!("{WORKSPACE}/clusters/Gpu4")), "creationTime desc").expect("reads"),
            wanted
        );
        assert_eq!(read("", "").expect("reads"), JobSearch::default());
        assert_eq!(read("", "creationTime asc").expect("reads").order, JobOrder::Oldest);
    }

    #[test]
    fn refuses_what_it_cannot_tell() {
        for filter in [
            "executionState eq 'Lost'",
            "executionState ne 'Failed'",
            "executionState eq 'Failed' or executionState eq 'Queued'",
            "cluster eq 'a/b'",
            "substringof('a', cluster)",
            "substringof('a')",
            "nodeCount eq '1'",
            "x",
        ] {
            assert_eq!(read(filter, "").expect_err(filter).code, ErrorCode::InvalidFilterInQueryString, "{filter}");
        }
        for order in ["state", "name desc", "creationTime", "creationTime desc, name"] {
            assert_eq!(read("", order).expect_err(order).code, ErrorCode::InvalidQueryParameterValue, "{order}");
        }
    }
}
