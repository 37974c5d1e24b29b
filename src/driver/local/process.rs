//! Processes as the kernel sees them: who one is, whether it lives, and who belongs to a node without a namespace of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::LazyLock;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// One process for all time: its number, when it started, and in which run of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pid: i32,
    /// Clock ticks since the kernel started.
    started: u64,
    boot: uuid::Uuid,
}

impl Identity {
    /// This process, as seen from the namespace whose `/proc` is mounted.
    ///
    /// # Errors
    /// `/proc` is not there or says something else than expected.
    pub(super) fn of_self() -> io::Result<Identity> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let pid = stat.split(' ').next().and_then(|n| n.parse().ok());
        let (Some(pid), Some((_, started)), Some(boot)) = (pid, state_and_start(&stat), boot_id()) else {
            return Err(io::Error::other("/proc/self/stat is not as expected"));
        };
        Ok(Identity { pid, started, boot })
    }

    /// Its number.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor of the process, if it lives. A process that has ended but is not yet reaped does not live; for the first
    /// process of a namespace that means that nothing in the namespace lives.
    pub(super) fn open(&self) -> Option<OwnedFd> {
        if boot_id() != Some(self.boot) {
            return None;
        }
        let fd = rustix::process::pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Only after the descriptor is there: from now on the number cannot pass to another process unseen.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let (state, started) = state_and_start(&stat)?;
        (started == self.started && !matches!(state, 'Z' | 'X')).then_some(fd)
    }
}

/// State and start time of a line of `/proc/PID/stat`. The command in it may hold anything, also spaces and brackets.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The kernel's name for its present run.
pub(super) fn boot_id() -> Option<uuid::Uuid> {
    static BOOT: LazyLock<Option<uuid::Uuid>> =
        LazyLock::new(|| std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().parse().ok());
    *BOOT
}

/// The processes that are the children of one.
pub(super) fn list_children(parent: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let parent_of = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<i32>().ok()
    };
    pids.filter(|pid| parent_of(pid) == Some(parent)).collect()
}

/// Everyone but `keep` that carries `folder` in the environment or works below it: where no namespace tells who belongs to a
/// node, the paths of its variables do. Processes of other users cannot be read, and are not ours.
pub(super) fn list_marked(folder: &Path) -> Vec<i32> {
    let needle = folder.as_os_str().as_encoded_bytes();
    let this = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| pid != this && is_marked(pid, folder, needle)).filter_map(|pid| i32::try_from(pid).ok()).collect()
}

fn is_marked(pid: u32, folder: &Path, needle: &[u8]) -> bool {
    let lives = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| state_and_start(&stat).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X')));
    let works_there = || std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    let knows = || std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|env| holds_path(&env, needle));
    lives && (works_there() || knows())
}

/// Whether a path, or something below it, is in `text`; one that merely begins with the same letters is not.
fn holds_path(text: &[u8], path: &[u8]) -> bool {
    let follows = |rest: &[u8]| rest.first().is_none_or(|&b| matches!(b, 0 | b'/' | b':' | b','));
    text.windows(path.len()).enumerate().any(|(i, w)| w == path && follows(text.get(i + path.len()..).unwrap_or_default()))
}

/// Ends processes at once. One that is gone already is no error.
pub(super) fn kill_all(pids: &[i32]) {
    for pid in pids.iter().filter_map(|&pid| Pid::from_raw(pid)) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_another_of_its_number_does_not() {
        let me = Identity::of_self().expect("readable");
        assert_eq!(me.pid(), std::process::id() as i32);
        assert!(me.open().is_some());
        assert!(Identity { started: me.started + 1, ..me }.open().is_none(), "another process of the same number");
        assert!(Identity { boot: uuid::Uuid::nil(), ..me }.open().is_none(), "another run of the kernel");
    }

    #[test]
    fn a_command_with_brackets_does_not_hide_the_start() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 1 2";
        assert_eq!(state_and_start(stat), Some(('S', 777)));
    }

    #[test]
    fn a_longer_name_is_another_folder() {
        assert!(holds_path(b"A=1\0HOME=/n/by-1/tasks\0", b"/n/by-1"));
        assert!(holds_path(b"HOME=/n/by-1\0", b"/n/by-1"));
        assert!(!holds_path(b"HOME=/n/by-12/tasks\0", b"/n/by-1"));
    }
}
