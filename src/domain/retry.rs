//! What a job's user wants tried again: rules by cause, each with a bound, a back-off, and whether the nodes are avoided.
//!
//! In: the rules, how often each was used, and why an attempt ended. Out: whether another follows, and when. Pure. What the platform
//! does to a job is tried again without any rule, and counts against none.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::MachineUid;

/// Most rules of a job.
pub const MAX_RULES: usize = 16;

/// Most attempts that one rule may give.
pub const MAX_LIMIT: u32 = 100;

/// Longest pause before an attempt, however often it doubled.
pub const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// One rule: an attempt that ended with any of these codes, or for any of these causes, is followed by another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryRule {
    /// Exit codes of a process, or of the preparation, that ended badly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<i32>,
    /// Causes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<Category>,
    /// Attempts that it gives beyond the first. Range: 1 to [`MAX_LIMIT`].
    pub limit: u32,
    /// Pause before the first of them; doubles with each, up to [`MAX_BACKOFF`]. Unit: whole seconds; 0 for none.
    #[serde(default)]
    pub backoff_s: u64,
    /// Whether nodes that an attempt failed on come last for the next.
    #[serde(default)]
    pub avoid_nodes: bool,
}

/// Why an attempt failed, where that is not its exit code alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// The platform lost nodes of it more often than it makes up for.
    NodeLost,
    /// There was no more memory.
    OutOfMemory,
    /// There was no more room on a disk.
    OutOfDisk,
    /// A file system could not be mounted.
    Mount,
    /// The image of its container could not be had.
    Pull,
    /// It ran for as long as it may.
    Time,
}

impl Category {
    /// What the error of a part that could not be set up is about, by its code.
    pub fn of_error(code: &str) -> Option<Category> {
        // The codes of mounts begin or end so, those of the retired service too.
        if code.contains("Mount") {
            Some(Category::Mount)
        } else if code.contains("Pulling") {
            Some(Category::Pull)
        } else {
            None
        }
    }
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The exit code, where there is one.
    pub exit_code: Option<i32>,
    /// What else is known.
    pub category: Option<Category>,
}

/// What was given by a job's rules so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// Attempts that each rule gave, by its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<u32>,
    /// Nodes that come last for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoided: Vec<MachineUid>,
    /// The next attempt is not placed before this.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
}

impl Retried {
    /// Whether no rule gave anything yet.
    pub fn is_none(&self) -> bool {
        *self == Retried::default()
    }

    /// Counts an attempt that a rule gives.
    pub fn count(&mut self, again: &Again, nodes: &[MachineUid], at: Timestamp) {
        if self.used.len() <= again.rule {
            self.used.resize(again.rule + 1, 0);
        }
        if let Some(used) = self.used.get_mut(again.rule) {
            *used += 1;
        }
        if again.avoid_nodes {
            self.avoided.extend(nodes.iter().filter(|node| !self.avoided.contains(node)).copied().collect::<Vec<_>>());
        }
        self.not_before = (!again.pause.is_zero()).then(|| at.checked_add(again.pause.try_into().ok()?)).flatten();
    }
}

/// Another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// The place of the rule that gives it.
    pub rule: usize,
    /// The pause before it.
    pub pause: Duration,
    /// Whether the nodes come last for it.
    pub avoid_nodes: bool,
}

/// Whether another attempt follows: the first rule that fits and is not used up gives it. `used` counts by place of the rule.
pub fn decide(rules: &[RetryRule], used: &[u32], cause: Cause) -> Option<Again> {
    rules.iter().enumerate().find_map(|(place, rule)| {
        let used = used.get(place).copied().unwrap_or(0);
        (rule.fits(cause) && used < rule.limit).then(|| Again {
            rule: place,
            pause: rule.pause(used),
            avoid_nodes: rule.avoid_nodes,
        })
    })
}

/// The longest pause that any of the rules gives.
pub fn longest_pause(rules: &[RetryRule]) -> Duration {
    rules.iter().map(|rule| rule.pause(rule.limit.saturating_sub(1))).max().unwrap_or_default()
}

impl RetryRule {
    fn fits(&self, cause: Cause) -> bool {
        cause.exit_code.is_some_and(|code| self.exit_codes.contains(&code))
            || cause.category.is_some_and(|category| self.categories.contains(&category))
    }

    fn pause(&self, used: u32) -> Duration {
        let factor = 1_u64.checked_shl(used).unwrap_or(u64::MAX);
        Duration::from_secs(self.backoff_s.saturating_mul(factor)).min(MAX_BACKOFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> Cause {
        Cause { exit_code: Some(code), category: None }
    }

    #[test]
    fn the_first_rule_that_fits_and_is_not_used_up_gives_an_attempt() {
        let rules = [
            RetryRule { exit_codes: vec![1, 75], limit: 2, backoff_s: 10, ..RetryRule::default() },
            RetryRule {
                exit_codes: vec![75],
                categories: vec![Category::OutOfMemory],
                limit: 1,
                avoid_nodes: true,
                ..RetryRule::default()
            },
        ];
        let again =
            |used: &[u32], cause| decide(&rules, used, cause).map(|again| (again.rule, again.pause.as_secs(), again.avoid_nodes));
        assert_eq!(again(&[], exit(1)), Some((0, 10, false)));
        assert_eq!(again(&[1], exit(75)), Some((0, 20, false)));
        assert_eq!(again(&[2], exit(75)), Some((1, 0, true)), "the next one that fits");
        assert_eq!(again(&[2], exit(1)), None, "used up");
        assert_eq!(again(&[2, 1], exit(75)), None);
        assert_eq!(again(&[], exit(2)), None, "no rule is about it");
        let memory = Cause { exit_code: Some(137), category: Some(Category::OutOfMemory) };
        assert_eq!(again(&[], memory), Some((1, 0, true)));
        assert_eq!(decide(&[], &[], exit(1)), None);
        assert_eq!(again(&[], Cause::default()), None);
    }

    #[test]
    fn pauses_double_and_have_an_end() {
        let rule = RetryRule { exit_codes: vec![1], limit: MAX_LIMIT, backoff_s: 7, ..RetryRule::default() };
        let pauses: Vec<u64> = (0..4).map(|used| rule.pause(used).as_secs()).collect();
        assert_eq!(pauses, [7, 14, 28, 56]);
        for used in [10, 63, 64, MAX_LIMIT] {
            assert_eq!(rule.pause(used), MAX_BACKOFF);
        }
    }
}
