//! The path of this program's own file, for what others are to run or to see: a node's agent, an engine's runtime, and what guests of a
//! container are handed on with.
//!
//! Out: a path that this process's own root leads to. Whoever only starts this program again takes `/proc/self/exe`, which is always it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where this program's file is.
///
/// The kernel tells it from the root of the host where this host itself is a folder of another (a chroot), which means nothing below a
/// node's root: the ending that leads to the very file is right.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] where no path leads to it, as where it was replaced since; that its link cannot be read.
pub(crate) fn own_file() -> io::Result<PathBuf> {
    let held = Path::new("/proc/self/exe").metadata()?;
    let told = std::env::current_exe()?;
    reachable(&told, |path| path.metadata().is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no path leads to {} from here", told.display())))
}

/// The longest ending of `told`, taken as an absolute path, that `is_it`.
fn reachable(told: &Path, is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut rest = told.components();
    // The root itself.
    rest.next();
    loop {
        let path = Path::new("/").join(rest.as_path());
        if is_it(&path) {
            return Some(path);
        }
        rest.next()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_where_the_kernel_says_or_at_the_ending_that_is_there() {
        let at = |there: &'static str| move |path: &Path| path == Path::new(there);
        let told = Path::new("/srv/root/run/program");
        assert_eq!(reachable(told, at("/srv/root/run/program")).as_deref(), Some(told));
        assert_eq!(reachable(told, at("/run/program")), Some("/run/program".into()));
        assert_eq!(reachable(told, at("/elsewhere")), None);
        assert!(own_file().expect("found").is_file());
    }
}
