//! What the node of a job used at one time, and what is shown of many such times.
//!
//! In: what an agent measured. Out: what of it is believed. Refuses to know how it was measured.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::AttemptUid;

/// Most samples of one report that are taken.
pub const MOST: usize = 64;

/// Oldest and newest sample that is taken, before and after the server's own time.
const WINDOW: (time::Duration, time::Duration) = (time::Duration::HOUR, time::Duration::MINUTE);

/// Largest number that is believed, of whatever: 4 EiB, or so many thousandths of a core.
const LARGEST: u64 = 1 << 62;

/// What was measured once. A number is `None` where the node cannot tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The attempt that had the node.
    pub attempt_uid: AttemptUid,
    /// When, in whole seconds.
    #[serde(with = "time::serde::rfc3339")]
    pub at: Timestamp,
    /// What was used.
    #[serde(flatten)]
    pub used: Used,
}

/// What a node used. Rates are means since the sample before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Processors. Unit: thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u64>,
    /// Memory, without what the kernel only caches. Unit: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Read from disks. Unit: bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_read: Option<u64>,
    /// Written to disks. Unit: bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_written: Option<u64>,
    /// Came over the node's own network. Unit: bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_in: Option<u64>,
    /// Left over the node's own network. Unit: bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_out: Option<u64>,
    /// Time that the node's GPUs computed in, their mean. Unit: thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_milli: Option<u64>,
    /// Memory in use on the node's GPUs, their sum. Unit: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_memory: Option<u64>,
}

impl Sample {
    /// What of an agent's samples is believed: not too many, of about now, one a second, and numbers that can be.
    pub fn sane(samples: Vec<Sample>, now: Timestamp) -> Vec<Sample> {
        let is_near = |at: Timestamp| at >= now - WINDOW.0 && at <= now + WINDOW.1;
        let sane = |sample: Sample| {
            let bound = |number: Option<u64>| number.map(|number| number.min(LARGEST));
            let used = sample.used;
            Sample {
                at: whole_second(sample.at),
                attempt_uid: sample.attempt_uid,
                used: Used {
                    cpu_milli: bound(used.cpu_milli),
                    memory: bound(used.memory),
                    disk_read: bound(used.disk_read),
                    disk_written: bound(used.disk_written),
                    net_in: bound(used.net_in),
                    net_out: bound(used.net_out),
                    gpu_milli: used.gpu_milli.map(|milli| milli.min(1000)),
                    gpu_memory: bound(used.gpu_memory),
                },
            }
        };
        samples.into_iter().take(MOST).filter(|sample| is_near(sample.at)).map(sane).collect()
    }
}

/// A time without what is beyond its second.
pub fn whole_second(at: Timestamp) -> Timestamp {
    at.replace_nanosecond(0).unwrap_or(at)
}

/// Which samples are shown, and how many of them as one point.
#[derive(Clone, Debug)]
pub struct Range {
    /// From here.
    pub from: Timestamp,
    /// To here, inclusive.
    pub to: Timestamp,
    /// Length of what is one point. Unit: seconds; at least 1.
    pub step_s: u32,
}

/// Most points that a request is answered with, of all nodes together.
pub const MOST_POINTS: i64 = 20_000;

/// Points of a node, where nothing is asked for; and most that there are.
const POINTS: (i64, i64) = (200, 2_000);

impl Range {
    /// The range with the step that was asked for, or one that makes a few hundred points a node; a longer one where the answer would be
    /// too long.
    pub fn new(from: Timestamp, to: Timestamp, step_s: Option<u32>, nodes: usize) -> Range {
        let to = to.max(from);
        let length = (to - from).whole_seconds() + 1;
        let most = (MOST_POINTS / i64::try_from(nodes.max(1)).unwrap_or(i64::MAX)).clamp(1, POINTS.1);
        let least = (length + most - 1) / most;
        let wanted = step_s.map_or((length + POINTS.0 - 1) / POINTS.0, i64::from);
        Range { from, to, step_s: u32::try_from(wanted.max(least).max(1)).unwrap_or(u32::MAX) }
    }
}

/// Mean and largest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: i64,
    /// The largest.
    pub max: i64,
}

/// Some samples of a node as one. What none of them could tell is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The first of them.
    pub at: Timestamp,
    /// As of [`Used`], in its order.
    pub used: [Option<Spread>; 8],
}

/// What one node used.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The node's id; `None` where it is not known any more.
    pub node_id: Option<String>,
    /// Its place in the job, where a job is asked of.
    pub rank: Option<i32>,
    /// In order of time.
    pub points: Vec<Point>,
}

/// What the nodes of a job used, or one node.
#[derive(Clone, Debug)]
pub struct Curves {
    /// The number of the attempt, where a job is asked of and it has one.
    pub attempt: Option<i32>,
    /// What was read.
    pub range: Range,
    /// By rank.
    pub series: Vec<Series>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: Timestamp = datetime!(2026-11-27 12:00:00 UTC);

    fn sample(at: Timestamp) -> Sample {
        Sample { attempt_uid: AttemptUid(uuid::Uuid::from_u128(1)), at, used: Used::default() }
    }

    #[test]
    fn what_an_agent_says_is_cut_to_what_can_be() {
        let mut odd = sample(NOW + time::Duration::milliseconds(7));
        odd.used = Used { memory: Some(u64::MAX), gpu_milli: Some(5_000), ..Used::default() };
        let far = [sample(NOW - time::Duration::hours(2)), sample(NOW + time::Duration::hours(2))];
        let sane = Sample::sane([vec![odd], far.to_vec()].concat(), NOW);
        assert_eq!(sane.len(), 1);
        assert_eq!((sane[0].at, sane[0].used.memory, sane[0].used.gpu_milli), (NOW, Some(LARGEST), Some(1000)));
        assert_eq!(Sample::sane(vec![sample(NOW); 1000], NOW).len(), MOST);
    }

    #[test]
    fn an_agent_that_knows_no_such_numbers_says_none() {
        let text = r#"{"attempt_uid":"00000000-0000-0000-0000-000000000001","at":"2026-11-27T12:00:00Z","memory":5}"#;
        let read: Sample = serde_json::from_str(text).expect("reads");
        assert_eq!(read.used, Used { memory: Some(5), ..Used::default() });
    }

    proptest! {
        #[test]
        fn an_answer_has_bounds_whatever_is_asked_for(
            length in 0i64..100_000_000, step in proptest::option::of(1u32..100_000), nodes in 0usize..5_000,
        ) {
            let range = Range::new(NOW, NOW + time::Duration::seconds(length), step, nodes);
            let points = length / i64::from(range.step_s) + 1;
            prop_assert!(points <= POINTS.1 && points * i64::try_from(nodes).expect("few") <= MOST_POINTS.max(i64::try_from(nodes).expect("few")));
            prop_assert!(step.is_none_or(|step| range.step_s >= step));
        }
    }
}
