//! What a node's agent does next. Pure: in goes what the node should be and what is there, out come actions.
//!
//! Level-triggered: the same input gives the same actions, and once they are done there are none. Steps only go forward.

use std::collections::BTreeMap;

use crate::agent::protocol::{Desired, Step};
use crate::id::AttemptUid;

/// One part as it is on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Local {
    /// Whether a process of it may be there.
    pub(super) alive: bool,
    /// What its supervisor was told last.
    pub(super) said: Said,
}

/// What a supervisor was told last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing yet.
    #[default]
    Nothing,
    /// That the command may start.
    Run,
    /// To stop, within so many milliseconds.
    Stop(u32),
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Start a supervisor for it.
    Start(AttemptUid),
    /// Say that it stopped: it never began here.
    EndUnstarted(AttemptUid),
    /// Tell its supervisor that the command may start.
    Run(AttemptUid),
    /// Tell its supervisor to stop.
    Stop(AttemptUid, u32),
    /// Remove what is left of it.
    Forget(AttemptUid),
}

/// Decides. `may_start` says that the node is set up and has room.
pub(super) fn decide(desired: &Desired, may_start: bool, local: &BTreeMap<AttemptUid, Local>) -> Vec<Action> {
    let mut actions = Vec::new();
    for (&attempt, part) in local {
        if desired.assignments.iter().any(|assignment| assignment.attempt == attempt) {
            continue;
        }
        match (part.alive, part.said) {
            (true, Said::Stop(0)) => {}
            (true, _) => actions.push(Action::Stop(attempt, 0)),
            (false, _) => actions.push(Action::Forget(attempt)),
        }
    }
    // One at a time has the node: what is to go goes first.
    let mut is_free = may_start && !local.values().any(|part| part.alive);
    for assignment in &desired.assignments {
        let attempt = assignment.attempt;
        match (local.get(&attempt), assignment.step) {
            (None, Step::Stop { .. }) => actions.push(Action::EndUnstarted(attempt)),
            (None, Step::Prepare | Step::Run) => {
                if std::mem::take(&mut is_free) {
                    actions.push(Action::Start(attempt));
                }
            }
            (Some(Local { alive: true, said: Said::Nothing }), Step::Run) => actions.push(Action::Run(attempt)),
            (Some(Local { alive: true, said }), Step::Stop { grace_ms, .. }) => {
                // A shorter grace is told again.
                if !matches!(said, Said::Stop(before) if *before <= grace_ms) {
                    actions.push(Action::Stop(attempt, grace_ms));
                }
            }
            (Some(_), _) => {}
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol::{Assignment, Task, TaskNames};
    use crate::domain::attempt::Stop;
    use crate::domain::machine::Size;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn attempt(number: u128) -> AttemptUid {
        AttemptUid(Uuid::from_u128(number))
    }

    fn assignment(number: u128, step: Step) -> Assignment {
        let text = String::new;
        Assignment {
            attempt: attempt(number),
            number: 1,
            rank: 0,
            step,
            task: Task {
                unmet: None,
                names: TaskNames { workspace: text(), experiment: text(), job: text(), cluster: text() },
                output_segment: text(),
                hosts: vec![],
                size: Size { name: text(), cores: 1, memory_mib: 1, gpus: 0 },
                processes: vec![],
                host_file: text(),
                mounts: vec![],
                preparation: None,
                container: None,
                std_out_err_path_prefix: text(),
                input_directories: vec![],
                output_directories: vec![],
                environment: vec![],
                session: None,
            },
        }
    }

    fn desired(assignments: impl IntoIterator<Item = (u128, Step)>) -> Desired {
        Desired {
            export: None,
            unmet: None,
            account: None,
            mounts: vec![],
            setup: None,
            assignments: assignments.into_iter().map(|(number, step)| assignment(number, step)).collect(),
        }
    }

    fn local(parts: impl IntoIterator<Item = (u128, bool, Said)>) -> BTreeMap<AttemptUid, Local> {
        parts.into_iter().map(|(number, alive, said)| (attempt(number), Local { alive, said })).collect()
    }

    const STOP: Step = Step::Stop { why: Stop::Terminate, grace_ms: 500 };

    #[test]
    fn starts_what_it_does_not_know_once_the_node_is_set_up() {
        for step in [Step::Prepare, Step::Run] {
            assert_eq!(decide(&desired([(1, step)]), true, &local([])), [Action::Start(attempt(1))]);
            assert_eq!(decide(&desired([(1, step)]), false, &local([])), []);
        }
    }

    #[test]
    fn never_starts_what_it_knows() {
        for (alive, said) in [(true, Said::Run), (false, Said::Run), (false, Said::Nothing)] {
            assert_eq!(decide(&desired([(1, Step::Run)]), true, &local([(1, alive, said)])), []);
        }
    }

    #[test]
    fn tells_once_and_only_forward() {
        let ready = local([(1, true, Said::Nothing)]);
        assert_eq!(decide(&desired([(1, Step::Run)]), true, &ready), [Action::Run(attempt(1))]);
        assert_eq!(decide(&desired([(1, STOP)]), true, &ready), [Action::Stop(attempt(1), 500)]);
        let stopped = local([(1, true, Said::Stop(500))]);
        assert_eq!(decide(&desired([(1, STOP)]), true, &stopped), []);
        assert_eq!(decide(&desired([(1, Step::Run)]), true, &stopped), []);
        let sooner = Step::Stop { why: Stop::Delete, grace_ms: 0 };
        assert_eq!(decide(&desired([(1, sooner)]), true, &stopped), [Action::Stop(attempt(1), 0)]);
    }

    #[test]
    fn what_never_began_is_ended_without_a_process() {
        assert_eq!(decide(&desired([(1, STOP)]), false, &local([])), [Action::EndUnstarted(attempt(1))]);
    }

    #[test]
    fn what_is_not_listed_goes_before_another_comes() {
        let old = local([(1, true, Said::Run)]);
        assert_eq!(decide(&desired([(2, Step::Run)]), true, &old), [Action::Stop(attempt(1), 0)]);
        let dying = local([(1, true, Said::Stop(0))]);
        assert_eq!(decide(&desired([(2, Step::Run)]), true, &dying), []);
        let gone = local([(1, false, Said::Stop(0))]);
        assert_eq!(decide(&desired([(2, Step::Run)]), true, &gone), [Action::Forget(attempt(1)), Action::Start(attempt(2))]);
    }

    fn apply(local: &mut BTreeMap<AttemptUid, Local>, action: Action) {
        match action {
            Action::Start(attempt) => drop(local.insert(attempt, Local { alive: true, said: Said::Nothing })),
            Action::EndUnstarted(attempt) => drop(local.insert(attempt, Local { alive: false, said: Said::Nothing })),
            Action::Run(attempt) => local.get_mut(&attempt).expect("known").said = Said::Run,
            Action::Stop(attempt, grace) => local.get_mut(&attempt).expect("known").said = Said::Stop(grace),
            Action::Forget(attempt) => drop(local.remove(&attempt)),
        }
    }

    proptest! {
        #[test]
        fn settles_and_never_has_two_alive(
            listed in proptest::collection::btree_map(0_u128..4, 0_u8..3, 0..4),
            known in proptest::collection::btree_map(0_u128..4, (any::<bool>(), 0_u8..3), 0..4),
        ) {
            let step = |n| match n { 0 => Step::Prepare, 1 => Step::Run, _ => STOP };
            let desired = desired(listed.into_iter().map(|(number, n)| (number, step(n))));
            let said = |n| match n { 0 => Said::Nothing, 1 => Said::Run, _ => Said::Stop(500) };
            let mut local = local(known.into_iter().map(|(number, (alive, n))| (number, alive, said(n))));
            let before = local.values().filter(|part| part.alive).count();
            for round in 0.. {
                let actions = decide(&desired, true, &local);
                for action in &actions {
                    if let Action::Start(attempt) = action {
                        prop_assert!(!local.contains_key(attempt));
                    }
                    apply(&mut local, *action);
                }
                prop_assert!(local.values().filter(|part| part.alive).count() <= before.max(1));
                if actions.is_empty() {
                    break;
                }
                prop_assert!(round < 10, "never settles");
            }
        }
    }
}
