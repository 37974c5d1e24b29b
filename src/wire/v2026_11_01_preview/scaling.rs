//! What a cluster is to have now, and how it fares with nodes that cannot be used, as our own version writes it.

use serde_json::{Value, json};

use crate::domain::cluster::{AutoTarget, ClusterSpec, ClusterStatus, Repairs};
use crate::wire::times::moment;

/// The members `scaling` and `repairs`, where there is something to tell.
pub fn encode(spec: &ClusterSpec, status: &ClusterStatus) -> Vec<(&'static str, Value)> {
    let target = status.auto.map_or_else(|| spec.scale.first_target(), |auto| auto.target);
    let scaling = status.auto.map(|auto| ("scaling", scaling(auto)));
    let repairs = status.repairs.as_ref().map(|repairs| ("repairs", encode_repairs(repairs, target)));
    scaling.into_iter().chain(repairs).collect()
}

fn scaling(auto: AutoTarget) -> Value {
    let mut shown = json!({ "targetNodeCount": auto.target });
    if let (Some(since), Value::Object(members)) = (auto.surplus_since, &mut shown) {
        members.insert("surplusSince".into(), json!(moment(since)));
    }
    shown
}

fn encode_repairs(repairs: &Repairs, target: u32) -> Value {
    json!({ "unusableNodes": repairs.count, "lastTime": moment(repairs.last_at), "stopped": repairs.is_spent(target) })
}
