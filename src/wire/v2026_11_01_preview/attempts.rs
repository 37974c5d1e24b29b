//! The attempts of a job, as our own version writes them.

use serde::Serialize;

use super::title;
use crate::domain::attempt::{End, History, HistoryPart};
use crate::wire::times::moment;

/// One attempt.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptBody {
    number: i32,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    creation_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    release_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
    nodes: Vec<NodeBody>,
}

/// Its part on one node.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<String>,
    rank: i32,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl AttemptBody {
    /// An attempt in an answer.
    pub fn of(attempt: History) -> AttemptBody {
        AttemptBody {
            number: attempt.number,
            state: title(attempt.state.as_str()),
            cause: attempt.cause.as_deref().map(words),
            creation_time: moment(attempt.created_at),
            release_time: attempt.released_at.map(moment),
            end_time: attempt.ended_at.map(moment),
            nodes: attempt.parts.into_iter().map(NodeBody::of).collect(),
        }
    }
}

impl NodeBody {
    fn of(part: HistoryPart) -> NodeBody {
        let (end, exit_code, message) = match part.end {
            None => (None, None, None),
            Some(End::Exited { code }) => (Some("Exited"), Some(code), None),
            Some(End::OutOf { what, code }) => (Some("OutOf"), Some(code), Some(format!("There was no more {}.", what.as_str()))),
            Some(End::PreparationFailed { code }) => (Some("PreparationFailed"), Some(code), None),
            Some(End::Stopped) => (Some("Stopped"), None, None),
            Some(End::SetupFailed { error }) => (Some("SetupFailed"), None, Some(error.message)),
            Some(End::Lost { why }) => (Some("Lost"), None, Some(why)),
        };
        NodeBody {
            node_id: part.node_id,
            rank: part.rank,
            state: title(part.state.as_str()),
            start_time: part.started_at.map(moment),
            end_time: part.ended_at.map(moment),
            end,
            exit_code,
            message,
        }
    }
}

/// A stored word as today's conventions write it: `node_lost` becomes `NodeLost`.
fn words(stored: &str) -> String {
    stored.split('_').map(title).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::attempt::{AssignmentState, AttemptState, Scarce};
    use serde_json::json;

    #[test]
    fn an_attempt_tells_its_cause_its_nodes_and_their_ends() {
        let at = |s: i32| Timestamp::from_unix_timestamp(1_700_000_000 + i64::from(s)).expect("a time");
        let part = HistoryPart {
            node_id: Some("tvm-1".into()),
            rank: 0,
            state: AssignmentState::Ended,
            started_at: Some(at(2)),
            ended_at: Some(at(9)),
            end: Some(End::OutOf { what: Scarce::Memory, code: 137 }),
        };
        let body = AttemptBody::of(History {
            number: 2,
            state: AttemptState::Ended,
            cause: Some("out_of_memory".into()),
            created_at: at(0),
            released_at: Some(at(1)),
            ended_at: Some(at(10)),
            parts: vec![part],
        });
        assert_eq!(
            serde_json::to_value(body).expect("writes"),
            json!({
                "number": 2, "state": "Ended", "cause": "OutOfMemory",
                "creationTime": "2023-11-14T22:13:20Z", "releaseTime": "2023-11-14T22:13:21Z", "endTime": "2023-11-14T22:13:30Z",
                "nodes": [{
                    "nodeId": "tvm-1", "rank": 0, "state": "Ended", "startTime": "2023-11-14T22:13:22Z",
                    "endTime": "2023-11-14T22:13:29Z", "end": "OutOf", "exitCode": 137, "message": "There was no more memory.",
                }],
            })
        );
    }
}
