//! What the agent says, and when: everything that changed since it last said something, in one report.
//!
//! An end is said once all output of the part is with the server, or goes in the same report. A start alone is held back for a
//! moment: a short job then costs one report and not two.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::agent::node::{Node, Part};
use crate::agent::protocol::{Chunk, OutputQuery, Seen};
use crate::agent::ship::{Next, Shipper};
use crate::domain::attempt::AssignmentState;
use crate::domain::health::Probe;
use crate::domain::machine::Setup;
use crate::domain::sample::Sample;
use crate::id::AttemptUid;

/// How long the news that a command started waits for its end.
const HOLD: Duration = Duration::from_millis(20);

/// What was said of a node, or is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its setup.
    pub setup: Setup,
    /// What it proved of itself.
    pub health: Vec<Probe>,
    /// Its parts of attempts.
    pub parts: Vec<Seen>,
    /// What it used lately.
    pub samples: Vec<Sample>,
}

/// What to send next.
#[derive(Debug)]
pub enum Say {
    /// Nothing before this time, if there is one.
    Nothing(Option<Instant>),
    /// A report, with the output of one part.
    Report(Said, Option<(AttemptUid, Vec<Chunk>)>),
    /// A large piece of output of one part.
    Output(AttemptUid, OutputQuery, bytes::Bytes),
}

/// What is on a node, as far as servers are told of it.
pub trait Runner {
    /// What to send next, given what was said last.
    fn next(&mut self, last: Option<&Said>, now: Instant) -> Say;

    /// What can be said without sending output: for the poll.
    fn current(&self) -> Said;
}

impl Runner for Node {
    fn next(&mut self, last: Option<&Said>, now: Instant) -> Say {
        next(self, last, now)
    }

    fn current(&self) -> Said {
        say(self, None)
    }
}

fn say(node: &Node, with_output_of: Option<AttemptUid>) -> Said {
    let parts = node.parts.iter().map(|(attempt, part)| {
        // What is yet to be settled begins once all is with the server.
        let with_output = with_output_of == Some(*attempt) && node.is_settled(*attempt, part);
        seen(*attempt, part, with_output, node.is_settled(*attempt, part))
    });
    let samples = node.sampler.waiting();
    Said { setup: node.setup().clone(), health: node.health().to_vec(), parts: parts.collect(), samples }
}

fn seen(attempt: AttemptUid, part: &Part, with_output: bool, is_settled: bool) -> Seen {
    let all_is_sent = part.shipper().is_none_or(|shipper| shipper.is_drained() || with_output && shipper.is_last());
    let end = part.end().filter(|_| all_is_sent && is_settled).cloned();
    let state = if end.is_some() { AssignmentState::Ended } else { part.state() };
    let ended_at = end.as_ref().and_then(|_| part.ended_at());
    Seen { attempt, state, started_at: part.started_at(), end, ended_at }
}

fn next(node: &mut Node, last: Option<&Said>, now: Instant) -> Say {
    let mut output = None;
    for (attempt, part) in &mut node.parts {
        match part.shipper_mut().map(Shipper::next) {
            Some(Next::Body(chunk)) => {
                return Say::Output(*attempt, chunk.at.clone(), bytes::Bytes::copy_from_slice(&chunk.data));
            }
            Some(Next::Inline(chunks)) => {
                output = Some((*attempt, chunks.clone()));
                break;
            }
            Some(Next::Nothing) | None => {}
        }
    }
    let said = say(node, output.as_ref().map(|(attempt, _)| *attempt));
    if output.is_some() {
        return Say::Report(said, output);
    }
    let Some(last) = last else { return Say::Report(said, None) };
    let before: BTreeMap<AttemptUid, &Seen> = last.parts.iter().map(|seen| (seen.attempt, seen)).collect();
    let mut hold = None;
    for seen in &said.parts {
        let known = before.get(&seen.attempt).map_or(AssignmentState::Assigned, |seen| seen.state);
        match seen.state {
            state if state <= known => {}
            AssignmentState::Running => {
                let since = node.parts.get(&seen.attempt).and_then(|part| part.running_since).unwrap_or(now);
                if since + HOLD <= now {
                    return Say::Report(said, None);
                }
                hold = Some(hold.map_or(since + HOLD, |hold: Instant| hold.min(since + HOLD)));
            }
            _ => return Say::Report(said, None),
        }
    }
    if said.setup != last.setup || node.sampler.is_to_send() { Say::Report(said, None) } else { Say::Nothing(hold) }
}
