//! Why something is not further, as our own version writes it.

use serde::Serialize;

use super::title;
use crate::domain::why::{Answer, Held, Holder};
use crate::wire::times::moment;

/// How far something is, and what it waits for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyBody {
    state: String,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lack: Option<LackBody>,
    held_by: Vec<HolderBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clears: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clears_by: Option<String>,
}

/// The number that is missing.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LackBody {
    unit: &'static str,
    needed: u64,
    available: u64,
    missing: u64,
}

/// Who has what is missing. Neither a resource nor a node is named where the caller may not see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HolderBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<String>,
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

impl WhyBody {
    /// An answer; `may_see` says of the resources that hold something, in their order, whether they are named.
    pub fn of(answer: Answer, may_see: impl Fn(&str) -> bool) -> WhyBody {
        let (state, since) = (title(&answer.state), moment(answer.since));
        let Some(why) = answer.why else {
            return WhyBody {
                state,
                since,
                gate: None,
                message: None,
                lack: None,
                held_by: Vec::new(),
                clears: None,
                clears_by: None,
            };
        };
        let lack = why.lack.map(|lack| LackBody {
            unit: lack.unit.as_str(),
            needed: lack.needed,
            available: lack.available,
            missing: lack.missing(),
        });
        WhyBody {
            state,
            since,
            gate: Some(why.gate.as_str()),
            message: Some(why.message),
            lack,
            held_by: why.held_by.into_iter().map(|holder| HolderBody::of(holder, &may_see)).collect(),
            clears: Some(why.clears),
            clears_by: why.clears_by.map(moment),
        }
    }
}

impl HolderBody {
    fn of(holder: Holder, may_see: impl Fn(&str) -> bool) -> HolderBody {
        let (resource_id, node_id) = match holder.what {
            Held::Resource(path) => (may_see(&path).then_some(path), None),
            Held::Node(id) => (None, Some(id)),
        };
        HolderBody { resource_id, node_id, count: holder.count, until: holder.until.map(moment) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::why::{Gate, Lack, Why};
    use serde_json::json;

    #[test]
    fn an_answer_names_the_gate_the_number_and_whom_the_caller_may_see() {
        let at = |s: i32| Timestamp::from_unix_timestamp(1_700_000_000 + i64::from(s)).expect("a time");
        let holder = |path: &str| Holder { what: Held::Resource(path.into()), count: 1, until: Some(at(60)) };
        let why = Why {
            gate: Gate::Gang,
            message: "It needs 3 nodes at the same time, and 1 are free of 3.".into(),
            lack: Some(Lack::nodes(3, 1)),
            held_by: vec![
                holder("/mine"),
                holder("/another's"),
                Holder { what: Held::Node("tvm-1".into()), count: 1, until: None },
            ],
            clears: "Jobs that have the nodes end.",
            clears_by: Some(at(60)),
        };
        let answer = Answer { state: "queued".into(), since: at(0), why: Some(why) };
        let body = serde_json::to_value(WhyBody::of(answer.clone(), |path| path == "/mine")).expect("writes");
        assert_eq!(
            body,
            json!({
                "state": "Queued", "since": "2023-11-14T22:13:20Z", "gate": "Gang",
                "message": "It needs 3 nodes at the same time, and 1 are free of 3.",
                "lack": {"unit": "Nodes", "needed": 3, "available": 1, "missing": 2},
                "heldBy": [
                    {"resourceId": "/mine", "count": 1, "until": "2023-11-14T22:14:20Z"},
                    {"count": 1, "until": "2023-11-14T22:14:20Z"},
                    {"nodeId": "tvm-1", "count": 1},
                ],
                "clears": "Jobs that have the nodes end.", "clearsBy": "2023-11-14T22:14:20Z",
            })
        );
        let free = serde_json::to_value(WhyBody::of(Answer { why: None, ..answer }, |_| true)).expect("writes");
        assert_eq!(free, json!({"state": "Queued", "since": "2023-11-14T22:13:20Z", "heldBy": []}), "nothing holds it");
    }
}
