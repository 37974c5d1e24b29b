//! Processes of this host.

/// Whether a process is one of `from`, or was started by one of them, or by one that they started, and so on.
pub fn descends(pid: u32, from: &[u32]) -> bool {
    let mut pid = pid;
    while pid > 1 {
        if from.contains(&pid) {
            return true;
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        pid = parent.unwrap_or(0);
    }
    false
}
