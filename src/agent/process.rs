//! Processes as the kernel shows them: who descends from whom, and signals that reach the one that was meant.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What is known of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Whether it has ended and only its parent has not noticed.
    pub(super) zombie: bool,
    /// Its parent.
    pub(super) parent: i32,
    /// Its session.
    pub(super) session: i32,
    /// When it started, in ticks since the boot: with the number it names one process.
    pub(super) start: u64,
}

/// A process as it is now.
pub(super) fn find(pid: i32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(text: &str) -> Option<Stat> {
    // The name is in parentheses and may hold anything, also blanks and parentheses.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    Some(Stat {
        zombie: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

/// Numbers of all processes in sight.
///
/// # Errors
/// There is no `/proc`.
pub(super) fn list() -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// A process that is still the one that was meant when it is signalled.
#[derive(Debug)]
pub(super) struct Handle {
    /// Readable once the process has ended.
    pub(super) descriptor: OwnedFd,
}

impl Handle {
    /// Takes hold of a process, if it is there and `is_meant` holds for it once it cannot be exchanged any more.
    pub(super) fn open(pid: i32, is_meant: impl FnOnce() -> bool) -> Option<Handle> {
        let descriptor = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        is_meant().then_some(Handle { descriptor })
    }

    /// Signals it. One that has ended is no error.
    ///
    /// # Errors
    /// It may not be signalled.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.descriptor, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Signals all processes that descend from this one. Answers how many there are that have not ended.
///
/// # Errors
/// There is no `/proc`.
pub(super) fn signal_descendants(signal: Signal) -> io::Result<usize> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let all: HashMap<i32, Stat> = list()?.into_iter().filter_map(|pid| Some((pid, find(pid)?))).collect();
    let mut ours = HashSet::from([own]);
    loop {
        let more: Vec<i32> =
            all.iter().filter(|(pid, stat)| ours.contains(&stat.parent) && !ours.contains(pid)).map(|(pid, _)| *pid).collect();
        if more.is_empty() {
            break;
        }
        ours.extend(more);
    }
    ours.remove(&own);
    Ok(signal_all(ours.into_iter().filter_map(|pid| Some((pid, *all.get(&pid)?))), signal))
}

/// Signals those of `processes` that are still who they were. Answers how many have not ended.
pub(super) fn signal_all(processes: impl Iterator<Item = (i32, Stat)>, signal: Signal) -> usize {
    let alive = processes.filter(|(_, stat)| !stat.zombie);
    let same = |pid, stat: &Stat| find(pid).is_some_and(|now| now.start == stat.start);
    alive
        .filter_map(|(pid, stat)| Handle::open(pid, || same(pid, &stat)))
        .filter(|process| process.signal(signal).is_ok())
        .count()
}

/// Ends all processes that `is_meant`, and returns when none is left.
pub(super) fn end_all(is_meant: impl Fn(i32) -> bool) {
    loop {
        let meant = list().unwrap_or_default().into_iter().filter(|pid| is_meant(*pid));
        let processes: Vec<Handle> = meant
            .filter_map(|pid| find(pid).filter(|stat| !stat.zombie).map(|stat| (pid, stat)))
            .filter_map(|(pid, stat)| Handle::open(pid, || find(pid).is_some_and(|now| now.start == stat.start)))
            .collect();
        if processes.is_empty() {
            return;
        }
        for process in &processes {
            let _ = process.signal(Signal::KILL);
        }
        // One that the kernel cannot end yet is signalled again: it may have children by then.
        let again = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        for process in &processes {
            let _ = poll(&mut [PollFd::new(&process.descriptor, PollFlags::IN)], Some(&again));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_that_look_like_fields() {
        let stat = parse("17 (a) R 9 (x) S 4 5 6 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 9 9").expect("a process");
        assert_eq!(stat, Stat { zombie: false, parent: 4, session: 6, start: 777 });
        assert_eq!(parse("17 (a"), None);
    }

    #[test]
    fn finds_this_process() {
        let own = i32::try_from(std::process::id()).expect("a number");
        let stat = find(own).expect("it runs");
        assert!(list().expect("there").contains(&own));
        assert!(Handle::open(own, || find(own) == Some(stat)).is_some());
        assert!(Handle::open(own, || false).is_none());
    }
}
