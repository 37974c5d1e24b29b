//! What an agent's report changes: the rule of which reports count and what follows from them.
//!
//! In: what is recorded of a machine, and what its agent says it sees. Out: the changes, or that the report is late. The store and the
//! model store of the simulation both follow it. Refuses to know how reports travel.

use serde::{Deserialize, Serialize};

use crate::clock::{Timestamp, whole_milliseconds};
use crate::domain::attempt::{AssignmentState, End};
use crate::domain::health::{MAX_PROBES, Probe};
use crate::domain::machine::Setup;
use crate::domain::resource::{EntityError, NameValue};
use crate::id::AttemptUid;

/// How far one assignment is, as an agent sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Which.
    pub attempt: AttemptUid,
    /// How far.
    pub state: AssignmentState,
    /// When its processes started, on the node's clock.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// How it ended, once it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// When it was known how it ends, on the node's clock.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// What an agent says.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// One run of the agent process.
    pub session: uuid::Uuid,
    /// Counts the session's reports from 1.
    pub seq: u64,
    /// Differs after any restart of the machine.
    pub boot_id: &'a str,
    /// The node's setup.
    pub setup: &'a Setup,
    /// What the node proved of itself, once it is set up or could not be.
    pub health: &'a [Probe],
    /// Every assignment that it knows.
    pub assignments: &'a [Seen],
}

/// What is recorded of the machine that the report comes from.
#[derive(Clone, Debug)]
pub struct Record {
    /// The session whose reports count.
    pub session: Option<uuid::Uuid>,
    /// Sessions that it followed: [`PAST_SESSIONS`] at most.
    pub past_sessions: Vec<uuid::Uuid>,
    /// The last report of that session that changed anything.
    pub seq: u64,
    /// The boot that it ran in.
    pub boot_id: Option<String>,
    /// The setup.
    pub setup: Setup,
    /// The machine's parts of attempts that have not ended and that have not ended themselves.
    pub held: Vec<Held>,
}

/// A part of an attempt that a machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The attempt.
    pub attempt: AttemptUid,
    /// Whether the attempt was released.
    pub released: bool,
    /// How far the part is.
    pub state: AssignmentState,
    /// When its processes started.
    pub started_at: Option<Timestamp>,
}

/// What becomes of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is late, or was taken before: it is acknowledged and changes nothing.
    Late,
    /// It counts.
    Taken(Changes),
}

/// What a report changes. Nothing where all is as it was: then nothing is written, not even that it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A new session begins: `session`, `boot_id` and `past_sessions` become these.
    pub session: Option<NewSession>,
    /// The setup becomes this. `Pending` where the node begins anew: then it takes no work until it is set up again.
    pub setup: Option<Setup>,
    /// What is known of its health becomes this.
    pub health: Option<Vec<Probe>>,
    /// Parts that moved; each counts up its attempt's revision.
    pub moved: Vec<Seen>,
}

impl Changes {
    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// The session that counts from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// It.
    pub session: uuid::Uuid,
    /// The boot that it runs in.
    pub boot_id: String,
    /// Those that it followed.
    pub past_sessions: Vec<uuid::Uuid>,
}

/// Sessions remembered. A report that is later than so many restarts of its agent is taken for a new session; as states only go
/// forward, and the next report of the living agent is then taken for late until its process restarts, the number is generous.
pub const PAST_SESSIONS: usize = 32;

/// Longest text of an error that an agent may report. Unit: bytes.
const MAX_TEXT: usize = 4096;

/// Decides what a report changes.
///
/// Reports of a session count once and in order; a session that another followed counts no more. Setup and parts only go forward,
/// and what ended stays as it is. Only parts that the machine has are touched. A part does not run before its attempt is released.
/// After a restart of the machine nothing of an earlier boot runs: parts that had begun and that the new agent does not know are lost, and
/// the node is set up anew.
pub fn judge(record: &Record, report: &Report<'_>) -> Judged {
    let continues = record.session == Some(report.session);
    if continues && report.seq <= record.seq || record.past_sessions.contains(&report.session) {
        return Judged::Late;
    }
    let session = (!continues).then(|| NewSession {
        session: report.session,
        boot_id: clean(report.boot_id),
        past_sessions: record.session.iter().chain(&record.past_sessions).copied().take(PAST_SESSIONS).collect(),
    });
    let rebooted = record.boot_id.as_deref().is_some_and(|boot| boot != report.boot_id);
    let setup = match (&record.setup, report.setup) {
        (Setup::Pending, Setup::Done) => Some(Setup::Done),
        // A node that was set up may break afterwards.
        (Setup::Pending | Setup::Done, Setup::Failed(error)) => Some(Setup::Failed(clean_error(error))),
        (Setup::Done | Setup::Failed(_), Setup::Pending) if rebooted => Some(Setup::Pending),
        _ => None,
    };
    let is_known = matches!(setup, Some(Setup::Done | Setup::Failed(_)));
    let health = is_known.then(|| report.health.iter().take(MAX_PROBES).map(clean_probe).collect());
    let moved = record.held.iter().filter_map(|held| judge_part(held, report, rebooted)).collect();
    Judged::Taken(Changes { session, setup, health, moved })
}

fn judge_part(held: &Held, report: &Report<'_>, rebooted: bool) -> Option<Seen> {
    if held.state == AssignmentState::Ended {
        return None;
    }
    let lost = |why: &str| Seen {
        attempt: held.attempt,
        state: AssignmentState::Ended,
        started_at: held.started_at,
        end: Some(End::Lost { why: why.into() }),
        ended_at: None,
    };
    let Some(seen) = report.assignments.iter().find(|seen| seen.attempt == held.attempt) else {
        return (rebooted && held.state > AssignmentState::Assigned).then(|| lost("The node restarted."));
    };
    let state = match seen.state {
        AssignmentState::Running if !held.released => AssignmentState::Ready,
        state => state,
    };
    let sane = |at: Option<Timestamp>| at.filter(|at| (1970..=9999).contains(&at.year())).map(whole_milliseconds);
    let started_at = held.started_at.or(sane(seen.started_at));
    match (state, &seen.end) {
        (AssignmentState::Ended, Some(end)) => {
            let (end, ended_at) = (Some(clean_end(end)), sane(seen.ended_at));
            Some(Seen { attempt: held.attempt, state, started_at, end, ended_at })
        }
        // An end without its how is no end.
        (AssignmentState::Ended, None) => None,
        _ if state < held.state && rebooted => Some(lost("The node restarted.")),
        _ if state > held.state || started_at != held.started_at => {
            Some(Seen { attempt: held.attempt, state: state.max(held.state), started_at, end: None, ended_at: None })
        }
        _ => None,
    }
}

fn clean_end(end: &End) -> End {
    match end {
        End::SetupFailed { error } => End::SetupFailed { error: clean_error(error) },
        End::Lost { why } => End::Lost { why: clean(why) },
        end => end.clone(),
    }
}

fn clean_error(error: &EntityError) -> EntityError {
    EntityError {
        code: clean(&error.code),
        message: clean(&error.message),
        details: error
            .details
            .iter()
            .take(32)
            .map(|detail| NameValue { name: clean(&detail.name), value: clean(&detail.value) })
            .collect(),
    }
}

fn clean_probe(probe: &Probe) -> Probe {
    Probe { name: clean(&probe.name), passed: probe.passed, found: clean(&probe.found) }
}

/// Text of an agent, cut and without characters that steer a terminal or that the database does not take.
fn clean(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default();
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const A: Uuid = Uuid::from_u128(0xa);
    const B: Uuid = Uuid::from_u128(0xb);
    const JOB: AttemptUid = AttemptUid(Uuid::from_u128(1));

    fn record(state: AssignmentState) -> Record {
        Record {
            session: Some(A),
            past_sessions: vec![],
            seq: 4,
            boot_id: Some("boot".into()),
            setup: Setup::Done,
            held: vec![Held { attempt: JOB, released: true, state, started_at: None }],
        }
    }

    fn seen(state: AssignmentState, end: Option<End>) -> Vec<Seen> {
        vec![Seen { attempt: JOB, state, started_at: None, end, ended_at: None }]
    }

    fn report<'a>(session: Uuid, seq: u64, assignments: &'a [Seen]) -> Report<'a> {
        Report { session, seq, boot_id: "boot", setup: &Setup::Done, health: &[], assignments }
    }

    fn moved(judged: Judged) -> Vec<(AssignmentState, Option<End>)> {
        match judged {
            Judged::Late => panic!("late"),
            Judged::Taken(changes) => changes.moved.into_iter().map(|seen| (seen.state, seen.end)).collect(),
        }
    }

    #[test]
    fn counts_once_and_in_order() {
        use AssignmentState::*;
        let running = seen(Running, None);
        assert_eq!(judge(&record(Ready), &report(A, 4, &running)), Judged::Late);
        assert_eq!(moved(judge(&record(Ready), &report(A, 5, &running))), [(Running, None)]);
        let same = judge(&record(Running), &report(A, 6, &running));
        assert!(matches!(same, Judged::Taken(changes) if changes.is_empty()), "nothing new is nothing to write");
    }

    #[test]
    fn a_session_that_was_followed_counts_no_more() {
        let nothing: [Seen; 0] = [];
        let Judged::Taken(changes) = judge(&record(AssignmentState::Ready), &report(B, 1, &nothing)) else { panic!("late") };
        let new = changes.session.expect("a new session");
        assert_eq!((new.session, new.past_sessions.as_slice()), (B, [A].as_slice()));
        let after = Record { session: Some(B), past_sessions: new.past_sessions, ..record(AssignmentState::Ready) };
        assert_eq!(judge(&after, &report(A, 9, &nothing)), Judged::Late);
    }

    #[test]
    fn states_only_go_forward_and_an_end_is_final() {
        use AssignmentState::*;
        let exit = |code| Some(End::Exited { code });
        assert!(moved(judge(&record(Running), &report(A, 5, &seen(Ready, None)))).is_empty());
        assert!(moved(judge(&record(Ended), &report(A, 5, &seen(Ended, exit(1))))).is_empty());
        assert!(moved(judge(&record(Running), &report(A, 5, &seen(Ended, None)))).is_empty());
        assert_eq!(moved(judge(&record(Running), &report(A, 5, &seen(Ended, exit(3))))), [(Ended, exit(3))]);
    }

    #[test]
    fn nothing_runs_before_its_release() {
        use AssignmentState::*;
        let mut placed = record(Assigned);
        placed.held[0].released = false;
        assert_eq!(moved(judge(&placed, &report(A, 5, &seen(Running, None)))), [(Ready, None)]);
    }

    #[test]
    fn what_began_before_a_restart_of_the_machine_is_lost() {
        use AssignmentState::*;
        let nothing: [Seen; 0] = [];
        let rebooted = Report { boot_id: "another", ..report(B, 1, &nothing) };
        assert!(matches!(moved(judge(&record(Running), &rebooted)).as_slice(), [(Ended, Some(End::Lost { .. }))]));
        assert!(moved(judge(&record(Assigned), &rebooted)).is_empty(), "what had not begun begins now");
        assert!(moved(judge(&record(Running), &report(B, 1, &nothing))).is_empty(), "silence proves nothing");
    }

    #[test]
    fn foreign_parts_and_odd_text_change_nothing() {
        let foreign =
            [Seen { attempt: AttemptUid(B), state: AssignmentState::Ended, started_at: None, end: None, ended_at: None }];
        assert!(moved(judge(&record(AssignmentState::Ready), &report(A, 5, &foreign))).is_empty());
        let end = End::Lost { why: format!("\u{0}\u{1b}[31m{}", "é".repeat(MAX_TEXT)) };
        let all = moved(judge(&record(AssignmentState::Ready), &report(A, 5, &seen(AssignmentState::Ended, Some(end)))));
        let [(_, Some(End::Lost { why }))] = all.as_slice() else { panic!("{all:?}") };
        assert!(why.starts_with("[31m") && why.len() <= MAX_TEXT);
    }

    #[test]
    fn a_node_that_restarted_is_set_up_anew() {
        let idle = |setup| Record { setup, held: vec![], ..record(AssignmentState::Assigned) };
        let says = |record: &Record, boot_id, setup| {
            let Judged::Taken(changes) = judge(record, &Report { boot_id, setup, ..report(B, 1, &[]) }) else { panic!("taken") };
            changes.setup
        };
        let failed = Setup::Failed(EntityError::new("NodeSetupFailed", "it failed"));
        for before in [Setup::Done, failed] {
            assert_eq!(says(&idle(before.clone()), "another", &Setup::Pending), Some(Setup::Pending));
            assert_eq!(says(&idle(before), "boot", &Setup::Pending), None, "its agent alone was started again");
        }
    }

    #[test]
    fn what_a_node_proved_is_taken_with_its_setup() {
        let probe = Probe { name: "disk".into(), passed: false, found: "full\u{1b}[2J".into() };
        let pending = Record { setup: Setup::Pending, ..record(AssignmentState::Assigned) };
        let Judged::Taken(changes) = judge(&pending, &Report { health: std::slice::from_ref(&probe), ..report(A, 5, &[]) })
        else {
            panic!("taken")
        };
        assert_eq!(changes.health, Some(vec![Probe { found: "full[2J".into(), ..probe }]));
    }
}
