//! Folders and files below a folder that we trust, where what is below is written by jobs: everything goes by descriptor, no link is
//! followed, and nothing outside is reached whatever is exchanged meanwhile.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fchown, fstat, mkdirat, openat, openat2, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// Who is to own what is made.
pub(super) type Owner = Option<(u32, u32)>;

/// A path as it means the same everywhere: no `.`, no empty segment. `None` where it goes up or is absolute.
pub(super) fn normal(path: &str) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(segment) => normal.push(segment),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(normal)
}

/// Opens a folder that is trusted with its whole path.
///
/// # Errors
/// It is not there, or no folder.
pub(super) fn open_trusted(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())?)
}

/// Opens the folder at `path` below `root`, and makes what is missing of it, owned by `owner`.
///
/// # Errors
/// Something on the way is no folder (`NotADirectory`), or it cannot be made.
pub(super) fn make_folders(root: BorrowedFd<'_>, path: &Path, owner: Owner) -> io::Result<OwnedFd> {
    let mut folder = openat(root, ".", FOLDER, Mode::empty())?;
    for segment in path.iter() {
        folder = make_folder(folder.as_fd(), segment, owner)?;
    }
    Ok(folder)
}

fn make_folder(parent: BorrowedFd<'_>, name: &OsStr, owner: Owner) -> io::Result<OwnedFd> {
    let made = match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    // A link that stands here is no folder to this open.
    let folder = openat(parent, name, FOLDER, Mode::empty())?;
    if let (true, Some((user, group))) = (made, owner) {
        // What we made is ours; anything else was put in its place since.
        if fstat(&folder)?.st_uid == rustix::process::geteuid().as_raw() {
            fchown(&folder, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
    }
    Ok(folder)
}

/// Opens the folder at `path` below `root`. No link on the way, also none that leads back below.
///
/// # Errors
/// It is not there, or something on the way is a link.
pub(super) fn open_folder(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    if path.as_os_str().is_empty() {
        return Ok(openat(root, ".", FOLDER, Mode::empty())?);
    }
    Ok(openat2(root, path, FOLDER, Mode::empty(), beneath())?)
}

/// Opens a regular file below `root` to read it. Never waits, whatever stands there.
///
/// # Errors
/// It is not there, is no regular file (`InvalidInput`), or something on the way is a link.
pub(super) fn open_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<std::fs::File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat2(root, path, flags, Mode::empty(), beneath())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(std::fs::File::from(file))
}

/// Opens a file that processes of a job write into: made where it is missing, empty, never a link, owned by `owner`.
///
/// # Errors
/// It cannot be made.
pub(super) fn make_file(folder: BorrowedFd<'_>, name: &str, owner: Owner) -> io::Result<std::fs::File> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::from_raw_mode(0o644))?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if let Some((user, group)) = owner {
        fchown(&file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    // Not waiting was for what is no regular file; processes of a job expect a plain descriptor.
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(std::fs::File::from(file))
}

fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// Folders that one descent holds open. Deeper ones are moved up first: a path has no longest depth.
const DEPTH: usize = 32;

/// Removes all that is in `folder`, on its own file system alone. What is mounted below stays.
///
/// # Errors
/// Something is left.
pub(super) fn remove_contents(folder: BorrowedFd<'_>) -> io::Result<()> {
    let device = fstat(folder)?.st_dev;
    let mut moved = 0_u64;
    // Each round removes all but what it moved up, which is less deep by DEPTH.
    loop {
        let before = moved;
        remove_level(folder, folder, device, 0, &mut moved)?;
        if moved == before {
            return Ok(());
        }
    }
}

/// Removes what is called `name` in `folder`, a folder with all that is in it. What is not there is no error.
///
/// # Errors
/// Something is left.
pub(super) fn remove_tree(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match openat(folder, name, FOLDER, Mode::empty()) {
        Ok(inside) => remove_contents(inside.as_fd())?,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn remove_level(top: BorrowedFd<'_>, folder: BorrowedFd<'_>, device: u64, depth: usize, moved: &mut u64) -> io::Result<()> {
    let mut first_error = None;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if let Err(error) = remove_entry(top, folder, name, device, depth, moved) {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn remove_entry(
    top: BorrowedFd<'_>,
    folder: BorrowedFd<'_>,
    name: &CStr,
    device: u64,
    depth: usize,
    moved: &mut u64,
) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    if depth >= DEPTH {
        *moved += 1;
        renameat(folder, name, top, format!(".moved-{}-{moved}", std::process::id()))?;
        return Ok(());
    }
    let inside = match openat(folder, name, FOLDER, Mode::empty()) {
        Ok(inside) => inside,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if fstat(&inside)?.st_dev != device {
        return Err(io::Error::new(io::ErrorKind::CrossesDevices, "something is mounted below"));
    }
    remove_level(top, inside.as_fd(), device, depth + 1, moved)?;
    drop(inside);
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        // What is not empty holds what was moved in meanwhile: the next round sees it.
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What is called `name` in `folder`: whether a folder, if it is there.
pub(super) fn find_kind(folder: BorrowedFd<'_>, name: &OsStr) -> Option<FileType> {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| FileType::from_raw_mode(stat.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Temp(PathBuf);

    impl Temp {
        fn new() -> Temp {
            let path = std::env::temp_dir().join(format!("beneath-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).expect("a folder");
            Temp(path)
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_plain_relative_paths_are_normal() {
        assert_eq!(normal("a/./b//c/"), Some(PathBuf::from("a/b/c")));
        assert_eq!(normal(""), Some(PathBuf::new()));
        for bad in ["/a", "..", "a/../b", "a/.."] {
            assert_eq!(normal(bad), None, "{bad}");
        }
    }

    #[test]
    fn folders_are_not_made_through_links() {
        let temp = Temp::new();
        let (inside, outside) = (temp.0.join("in"), temp.0.join("out"));
        fs::create_dir(&inside).expect("made");
        fs::create_dir(&outside).expect("made");
        std::os::unix::fs::symlink(&outside, inside.join("link")).expect("made");
        let root = open_trusted(&inside).expect("there");
        make_folders(root.as_fd(), Path::new("a/b/c"), None).expect("made");
        assert!(inside.join("a/b/c").is_dir());
        make_folders(root.as_fd(), Path::new("a/b/c"), None).expect("made again");
        assert!(make_folders(root.as_fd(), Path::new("link/x"), None).is_err());
        assert!(open_folder(root.as_fd(), Path::new("link")).is_err());
        assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
    }

    #[test]
    fn only_regular_files_are_opened_and_nothing_hangs() {
        let temp = Temp::new();
        fs::write(temp.0.join("secret"), "x").expect("written");
        std::os::unix::fs::symlink(temp.0.join("secret"), temp.0.join("link")).expect("made");
        mknod(&temp.0.join("pipe"));
        let root = open_trusted(&temp.0).expect("there");
        assert!(open_file(root.as_fd(), Path::new("secret")).is_ok());
        for name in ["link", "pipe", "../x", "/etc/passwd", "none"] {
            assert!(open_file(root.as_fd(), Path::new(name)).is_err(), "{name}");
        }
    }

    fn mknod(path: &Path) {
        rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("made");
    }

    #[test]
    fn removal_stays_at_home_and_goes_to_any_depth() {
        let temp = Temp::new();
        let (inside, outside) = (temp.0.join("in"), temp.0.join("out"));
        fs::create_dir(&inside).expect("made");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("keep"), "x").expect("written");
        std::os::unix::fs::symlink(&outside, inside.join("link")).expect("made");
        mknod(&inside.join("pipe"));
        let root = open_trusted(&inside).expect("there");
        let mut deep = openat(&root, ".", FOLDER, Mode::empty()).expect("open");
        for _ in 0..500 {
            deep = make_folder(deep.as_fd(), OsStr::new("d"), None).expect("made");
            make_file(deep.as_fd(), "f", None).expect("made");
        }
        remove_contents(root.as_fd()).expect("removed");
        assert_eq!(fs::read_dir(&inside).expect("there").count(), 0);
        assert!(outside.join("keep").exists());
    }

    /// Exchanges a folder with a link to elsewhere, again and again, while `work` is done.
    fn while_swapped(inside: &Path, mut work: impl FnMut(usize)) {
        use std::sync::atomic::{AtomicBool, Ordering};
        let over = AtomicBool::new(false);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(2);
        std::thread::scope(|scope| {
            let swap = scope.spawn(|| {
                let mut swaps = 0;
                while !over.load(Ordering::Relaxed) {
                    let (a, b) = (inside.join("a"), inside.join("b"));
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    // Either may be gone for a moment.
                    swaps += usize::from(rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags).is_ok());
                }
                swaps
            });
            let mut round = 0;
            while std::time::Instant::now() < until {
                work(round);
                round += 1;
            }
            over.store(true, Ordering::Relaxed);
            let swaps = swap.join().expect("no panic");
            assert!(swaps > 0 && round > 0, "{swaps} swaps, {round} rounds");
        });
    }

    #[test]
    fn a_folder_that_becomes_a_link_leads_nowhere() {
        let temp = Temp::new();
        let (inside, outside) = (temp.0.join("in"), temp.0.join("out"));
        fs::create_dir_all(inside.join("a/deep")).expect("made");
        fs::write(inside.join("a/deep/file"), "own").expect("written");
        fs::create_dir_all(outside.join("deep")).expect("made");
        fs::write(outside.join("deep/file"), "foreign").expect("written");
        std::os::unix::fs::symlink(&outside, inside.join("b")).expect("made");
        let root = open_trusted(&inside).expect("there");
        let mut read = 0;
        while_swapped(&inside, |round| {
            let _ = make_folders(root.as_fd(), &Path::new("a/deep").join(format!("new-{}", round % 50)), None);
            if let Ok(mut file) = open_file(root.as_fd(), Path::new("a/deep/file")) {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut file, &mut text).expect("reads");
                assert_eq!(text, "own");
                read += 1;
            }
        });
        assert!(read > 0, "it was a folder at times");
        let names: Vec<_> = fs::read_dir(outside.join("deep")).expect("there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["file"], "nothing was made elsewhere");
    }

    #[test]
    fn what_is_removed_while_links_take_its_place_is_its_own() {
        let temp = Temp::new();
        let (inside, outside) = (temp.0.join("in"), temp.0.join("out"));
        fs::create_dir_all(&inside).expect("made");
        fs::create_dir_all(outside.join("deep")).expect("made");
        fs::write(outside.join("deep/keep"), "x").expect("written");
        let root = open_trusted(&inside).expect("there");
        while_swapped(&inside, |_| {
            let _ = fs::create_dir_all(inside.join("a/deep/er"));
            let _ = fs::write(inside.join("a/deep/file"), "x");
            let _ = std::os::unix::fs::symlink(&outside, inside.join("b"));
            let _ = remove_contents(root.as_fd());
        });
        assert!(outside.join("deep/keep").exists());
    }
}
