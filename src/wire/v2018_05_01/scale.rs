//! How many nodes a cluster has.

use serde::Serialize;

use crate::domain::cluster::{Deallocation, MAX_NODES, Scale};
use crate::error::Violations;
use crate::wire::fields::Fields;
use crate::wire::v2018_05_01::word_of;

const DEALLOCATIONS: [(&str, Deallocation); 3] = [
    ("requeue", Deallocation::Requeue),
    ("terminate", Deallocation::Terminate),
    ("waitforjobcompletion", Deallocation::WaitForJobCompletion),
];

/// Reads the members of `scaleSettings`: one of two is given.
pub fn decode_scale(fields: &Fields<'_>, found: &mut Violations) -> Option<Scale> {
    match (fields.has("manual"), fields.has("autoScale")) {
        (true, true) => {
            let path = fields.path_of("autoScale");
            found.invalid(&path, format!("The property '{path}' is given besides 'manual'. Give one of the two."));
            None
        }
        (false, false) => {
            found.missing(fields.path_of("manual"));
            None
        }
        (true, false) => fields.object("manual", found).and_then(|manual| decode_manual(&manual, found)),
        (false, true) => fields.object("autoScale", found).and_then(|auto| decode_auto(&auto, found)),
    }
}

fn decode_manual(manual: &Fields<'_>, found: &mut Violations) -> Option<Scale> {
    let target = manual.required_number("targetNodeCount", 0..=MAX_NODES, found);
    let deallocation = manual.word("nodeDeallocationOption", &DEALLOCATIONS, found).unwrap_or_default();
    Some(Scale::Manual { target: target?, deallocation })
}

fn decode_auto(auto: &Fields<'_>, found: &mut Violations) -> Option<Scale> {
    let minimum = auto.required_number("minimumNodeCount", 0..=MAX_NODES, found);
    let maximum = auto.required_number("maximumNodeCount", 0..=MAX_NODES, found);
    let initial = auto.number("initialNodeCount", 0..=MAX_NODES, found).unwrap_or(0);
    let (minimum, maximum) = (minimum?, maximum?);
    for (name, count) in [("minimumNodeCount", minimum), ("initialNodeCount", initial)] {
        if count > maximum {
            let path = auto.path_of(name);
            found.invalid(&path, format!("The property '{path}' must be at most maximumNodeCount, which is {maximum}."));
        }
    }
    Some(Scale::Auto { minimum, maximum, initial })
}

/// `scaleSettings` as answers show them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ScaleSettings {
    /// By hand.
    Manual(ManualScaleSettings),
    /// By the queue.
    AutoScale(AutoScaleSettings),
}

/// Source: recorded answers, where both members are always there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManualScaleSettings {
    target_node_count: u32,
    node_deallocation_option: &'static str,
}

/// Source: recorded answers, where all members are always there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoScaleSettings {
    minimum_node_count: u32,
    maximum_node_count: u32,
    initial_node_count: u32,
}

impl ScaleSettings {
    /// As the wire writes them.
    pub fn of(scale: Scale) -> ScaleSettings {
        match scale {
            Scale::Manual { target, deallocation } => ScaleSettings::Manual(ManualScaleSettings {
                target_node_count: target,
                node_deallocation_option: word_of(&DEALLOCATIONS, deallocation),
            }),
            Scale::Auto { minimum, maximum, initial } => ScaleSettings::AutoScale(AutoScaleSettings {
                minimum_node_count: minimum,
                maximum_node_count: maximum,
                initial_node_count: initial,
            }),
        }
    }
}
