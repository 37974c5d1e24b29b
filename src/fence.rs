//! Whether a node still hears from servers: a file that its agent renews and its first process watches, where nobody can see from outside
//! that a node has ended. One that heard nothing for as long as it may ends itself, and servers that wait a little longer know that it has.
//!
//! In: when a server that answered was asked. Out: when the time is over. Time is counted by the kernel, sleep of the machine included,
//! and nobody sets it.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Longest time between two looks at the clock: a sleeping machine does not count while it waits.
const LOOK: Duration = Duration::from_secs(5);

/// A moment of this run of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

impl Moment {
    /// This one.
    pub(crate) fn now() -> Moment {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        Moment(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default()))
    }

    fn read(file: &Path) -> Option<Moment> {
        std::fs::read_to_string(file).ok()?.parse().ok().map(Duration::from_millis).map(Moment)
    }
}

/// Writes down that a server answered what it was asked then.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn renew(file: &Path, asked: Moment) -> io::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, asked.0.as_millis().to_string())?;
    std::fs::rename(beside, file)
}

/// Waits until no server has answered anything that it was asked `within` that time.
pub(crate) fn wait_over(file: &Path, within: Duration) {
    let began = Moment::now();
    loop {
        let last = Moment::read(file).map_or(began, |last| last.max(began));
        let left = within.saturating_sub(Moment::now().0.saturating_sub(last.0));
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_nothing_was_renewed_for_so_long() {
        let folder = std::env::temp_dir().join(format!("batchyard-fence-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).expect("made");
        let file = folder.join("heard");
        let within = Duration::from_millis(200);
        let began = Moment::now();
        wait_over(&file, within);
        assert!(Moment::now().0 - began.0 >= within, "it never began");
        let ahead = Moment(Moment::now().0 + Duration::from_millis(300));
        renew(&file, ahead).expect("written");
        wait_over(&file, within);
        assert!(Moment::now().0 >= ahead.0 + within - Duration::from_millis(1), "renewed meanwhile");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
