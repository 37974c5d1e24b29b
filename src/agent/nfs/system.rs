//! The file system as the kernel asks for it: each of its questions, answered by the calls of the protocol.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLock, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nfs3_types::nfs3::{fattr3, ftype3, mknoddata3, sattr3};

use super::attributes::{SET_GROUP, changed, kind, known_as};
use super::calls::{Calls, Handle, MOST, Made};
use super::folders::{Entry, Folders};
use super::inodes::{Inode, Inodes, ROOT, lock};
use super::options::Options;

/// Bytes that the kernel reads ahead, and writes at once, at most.
const AT_ONCE: u32 = MOST;

/// Questions of the kernel's own making, such as reading ahead, that are under way at once.
const BACKGROUND: u16 = 64;

/// Numbers are not used again while the kernel knows them.
const GENERATION: Generation = Generation(0);

/// Longest name of a file. Source: the limit of the disk's file system.
const LONGEST_NAME: u32 = 255;

/// The size by which room is counted. Unit: bytes.
const BLOCK: u32 = 4096;

/// What begins the name of a file that was removed while it was open, as the kernel's client has it.
const ASIDE: &str = ".nfs";

/// The file system.
pub(super) struct System {
    calls: Calls,
    inodes: Inodes,
    folders: Folders,
    belief: Duration,
    local_locks: bool,
    read_at_once: u32,
    write_at_once: usize,
    put_aside: AtomicU64,
}

/// What was found or made under a name.
struct Found {
    inode: Arc<Inode>,
    seen: fattr3,
}

impl Found {
    fn attributes(&self) -> FileAttr {
        known_as(self.inode.number, &self.seen)
    }
}

impl System {
    /// Begins with a root.
    ///
    /// # Errors
    /// The server does not say what it is.
    pub(super) fn open(calls: Calls, root: Handle, options: &Options) -> io::Result<System> {
        let failed = |error: Errno| io::Error::from_raw_os_error(error.into());
        let seen = calls.attributes(&root).map_err(failed)?;
        if seen.type_ != ftype3::NF3DIR {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "this is no directory on the file server"));
        }
        let (read_at_once, write_at_once) = calls.limits(&root).map_err(failed)?;
        Ok(System {
            calls,
            inodes: Inodes::new(root, &seen),
            folders: Folders::default(),
            belief: options.belief,
            local_locks: options.local_locks,
            read_at_once,
            write_at_once: usize::try_from(write_at_once).unwrap_or(4096),
            put_aside: AtomicU64::new(rand::random()),
        })
    }

    fn inode(&self, number: INodeNo) -> Result<Arc<Inode>, Errno> {
        self.inodes.find(number.0).ok_or(Errno::ESTALE)
    }

    fn seen(&self, inode: &Inode) -> Result<fattr3, Errno> {
        let seen = self.calls.attributes(&inode.handle)?;
        inode.noted(&seen);
        Ok(seen)
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<Found, Errno> {
        let folder = self.inode(parent)?;
        let (handle, seen) = self.calls.find(&folder.handle, name.as_bytes())?;
        Ok(Found { inode: self.inodes.tell(handle, &seen), seen })
    }

    /// What was made, as the kernel is told of it.
    fn told(&self, made: Made, folder: &Handle, name: &OsStr) -> Result<Found, Errno> {
        let (handle, seen) = match (made.handle, made.attributes) {
            (Some(handle), Some(seen)) => (handle, seen),
            (Some(handle), None) => {
                let seen = self.calls.attributes(&handle)?;
                (handle, seen)
            }
            (None, _) => self.calls.find(folder, name.as_bytes())?,
        };
        Ok(Found { inode: self.inodes.tell(handle, &seen), seen })
    }

    /// Whose a new file is, and how: its maker's, with the folder's group where the folder says so.
    fn owned(request: &Request, folder: &Inode, mode: u32) -> sattr3 {
        let group = (!folder.sets_group()).then(|| request.gid());
        changed(Some(mode), Some(request.uid()), group, None, None, None)
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, exclusive: bool) -> Result<Found, Errno> {
        let folder = self.inode(parent)?;
        match self.calls.create(&folder.handle, name.as_bytes(), System::owned(request, &folder, mode)) {
            Ok(made) => self.told(made, &folder.handle, name),
            // Another node was faster.
            Err(error) if !exclusive && error == Errno::EEXIST => self.find(parent, name),
            Err(error) => Err(error),
        }
    }

    /// A file is opened. Answers whether what the kernel has of its content is right.
    fn opened(&self, inode: &Inode, seen: &fattr3) -> FopenFlags {
        self.inodes.opened();
        if inode.open(seen) { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() }
    }

    /// What was written is on the server's disk afterwards.
    fn commit(&self, inode: &Inode) -> Result<(), Errno> {
        let mut unstable = lock(&inode.unstable);
        if unstable.is_empty() {
            return Ok(());
        }
        if let Some(seen) = unstable.commit(&self.calls, &inode.handle)? {
            inode.noted(&seen);
            // The kernel has what was written here. That another node wrote meanwhile is not seen, as with the kernel's client.
            inode.is_as(&seen);
        }
        Ok(())
    }

    /// Keeps a file that is open and loses its last name, under another one until it is closed. Answers whether that was needed.
    fn keep_open(&self, folder: &Handle, name: &[u8]) -> Result<bool, Errno> {
        if !self.inodes.any_open() {
            return Ok(false);
        }
        let (handle, seen) = match self.calls.find(folder, name) {
            Ok(found) => found,
            Err(error) if error == Errno::ENOENT => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(inode) = self.inodes.find_by_handle(&handle).filter(|inode| inode.is_open()) else { return Ok(false) };
        if seen.type_ != ftype3::NF3REG || seen.nlink > 1 {
            return Ok(false);
        }
        let number = self.put_aside.fetch_add(1, Ordering::Relaxed);
        let aside = format!("{ASIDE}{:016x}{number:016x}", seen.fileid).into_bytes();
        self.calls.rename((folder, name), (folder, &aside))?;
        inode.put_aside(folder.clone(), aside);
        // It may have been closed meanwhile, by whoever did not see it put aside.
        if !inode.is_open()
            && let Some((folder, name)) = inode.take_aside()
        {
            let _ = self.calls.remove(&folder, &name);
        }
        Ok(true)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let folder = self.inode(parent)?;
        match self.keep_open(&folder.handle, name.as_bytes())? {
            true => Ok(()),
            false => self.calls.remove(&folder.handle, name.as_bytes()),
        }
    }

    fn move_(&self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr)) -> Result<(), Errno> {
        let (source, target) = (self.inode(from.0)?, self.inode(to.0)?);
        // Of two names of one file nothing is lost.
        if self.inodes.any_open() && !self.is_same(&source.handle, from.1, &target.handle, to.1) {
            self.keep_open(&target.handle, to.1.as_bytes())?;
        }
        self.calls.rename((&source.handle, from.1.as_bytes()), (&target.handle, to.1.as_bytes()))
    }

    fn is_same(&self, source: &Handle, from: &OsStr, target: &Handle, to: &OsStr) -> bool {
        let find = |folder: &Handle, name: &OsStr| self.calls.find(folder, name.as_bytes()).ok().map(|(handle, _)| handle);
        find(source, from).is_some_and(|handle| Some(handle) == find(target, to))
    }

    fn read(&self, inode: &Inode, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let (mut data, mut last) = self.calls.read(&inode.handle, offset, size.min(self.read_at_once))?;
        let wanted = usize::try_from(size).unwrap_or(usize::MAX);
        while !last && data.len() < wanted {
            let left = u32::try_from(wanted - data.len()).unwrap_or(u32::MAX).min(self.read_at_once);
            let (more, ends) = self.calls.read(&inode.handle, offset + data.len() as u64, left)?;
            if more.is_empty() {
                break;
            }
            data.extend(more);
            last = ends;
        }
        data.truncate(wanted);
        Ok(data)
    }

    fn list(&self, folder: u64, handle: u64, cookie: u64, take: impl FnMut(&Entry) -> bool) -> Result<(), Errno> {
        match self.folders.find(handle) {
            Some(reading) => reading.each(&self.calls, cookie, take),
            None => {
                tracing::debug!(folder, "a folder is read that is not open");
                Err(Errno::EBADF)
            }
        }
    }
}

impl Filesystem for System {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_write(AT_ONCE);
        if let Err(most) = config.set_max_readahead(AT_ONCE) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(BACKGROUND);
        let mut wanted = vec![
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_ABORT_ERROR,
        ];
        if !self.local_locks {
            wanted.extend([InitFlags::FUSE_POSIX_LOCKS, InitFlags::FUSE_FLOCK_LOCKS]);
        }
        for flag in wanted {
            // What an older kernel has not is done without.
            let _ = config.add_capabilities(flag);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Ok(found) => reply.entry(&self.belief, &found.attributes(), GENERATION),
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, times: u64) {
        self.inodes.forget(number.0, times);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.inode(number).and_then(|inode| self.seen(&inode)) {
            Ok(seen) => reply.attr(&self.belief, &known_as(number.0, &seen)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let done = self.inode(number).and_then(|inode| {
            // What was written beyond a new end must not come back with a server that is started anew.
            if size.is_some() {
                self.commit(&inode)?;
            }
            let seen = self.calls.change(&inode.handle, changed(mode, uid, gid, size, atime, mtime))?;
            inode.noted(&seen);
            Ok(seen)
        });
        match done {
            Ok(seen) => reply.attr(&self.belief, &known_as(number.0, &seen)),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.inode(number).and_then(|inode| self.calls.read_link(&inode.handle)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: u32, reply: ReplyEntry) {
        const KIND: u32 = 0o170_000;
        const FILE: u32 = 0o100_000;
        const PIPE: u32 = 0o010_000;
        const SOCKET: u32 = 0o140_000;
        let made = match mode & KIND {
            FILE | 0 => self.create(request, parent, name, mode, true),
            PIPE | SOCKET => self.inode(parent).and_then(|folder| {
                let new = System::owned(request, &folder, mode);
                let what = if mode & KIND == PIPE { mknoddata3::NF3FIFO(new) } else { mknoddata3::NF3SOCK(new) };
                let made = self.calls.make_node(&folder.handle, name.as_bytes(), what)?;
                self.told(made, &folder.handle, name)
            }),
            // Devices work nowhere here.
            _ => Err(Errno::EPERM),
        };
        match made {
            Ok(found) => reply.entry(&self.belief, &found.attributes(), GENERATION),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let made = self.inode(parent).and_then(|folder| {
            let inherited = if folder.sets_group() { SET_GROUP } else { 0 };
            let new = System::owned(request, &folder, mode | inherited);
            let made = self.calls.make_folder(&folder.handle, name.as_bytes(), new)?;
            self.told(made, &folder.handle, name)
        });
        match made {
            Ok(found) => reply.entry(&self.belief, &found.attributes(), GENERATION),
            Err(error) => reply.error(error),
        }
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let made = self.inode(parent).and_then(|folder| {
            let new = System::owned(request, &folder, 0o777);
            let made = self.calls.make_link(&folder.handle, name.as_bytes(), target.as_os_str().as_bytes(), new)?;
            self.told(made, &folder.handle, name)
        });
        match made {
            Ok(found) => reply.entry(&self.belief, &found.attributes(), GENERATION),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.remove(parent, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.inode(parent).and_then(|folder| self.calls.remove_folder(&folder.handle, name.as_bytes()));
        answer(done, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        // The protocol has no others, and none can be had by several calls.
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        answer(self.move_((parent, name), (new_parent, new_name)), reply);
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = self.inode(number).and_then(|inode| {
            let folder = self.inode(parent)?;
            let seen = self.calls.link(&inode.handle, &folder.handle, name.as_bytes())?;
            Ok(Found { inode: self.inodes.tell(inode.handle.clone(), &seen), seen })
        });
        match linked {
            Ok(found) => reply.entry(&self.belief, &found.attributes(), GENERATION),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.inode(number).and_then(|inode| {
            // What this node wrote counts as seen only when it is with the server.
            self.commit(&inode)?;
            let seen = self.seen(&inode)?;
            Ok(self.opened(&inode, &seen))
        });
        match opened {
            Ok(flags) => reply.opened(FileHandle(0), flags),
            Err(error) => reply.error(error),
        }
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, flags: i32, reply: ReplyCreate) {
        let exclusive = flags & nix::libc::O_EXCL != 0;
        match self.create(request, parent, name, mode, exclusive) {
            Ok(found) => {
                let flags = self.opened(&found.inode, &found.seen);
                reply.created(&self.belief, &found.attributes(), GENERATION, FileHandle(0), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.inode(number).and_then(|inode| self.read(&inode, offset, size)) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self
            .inode(number)
            .and_then(|inode| lock(&inode.unstable).write(&self.calls, &inode.handle, offset, data, self.write_at_once));
        match written {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, number: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        answer(self.inode(number).and_then(|inode| self.commit(&inode)), reply);
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if let Ok(inode) = self.inode(number) {
            // What was written by memory after the last close has nobody who could be told.
            let committed = self.commit(&inode);
            self.inodes.closed();
            if let Some((folder, name)) = inode.close() {
                let _ = self.calls.remove(&folder, &name);
            }
            return answer(committed, reply);
        }
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.inode(number).and_then(|inode| self.commit(&inode)), reply);
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.inode(number) {
            Ok(inode) => reply.opened(FileHandle(self.folders.open(inode.handle.clone())), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, number: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let done = self.list(number.0, handle.0, offset, |entry| {
            let kind = entry.seen.as_ref().map_or(FileType::RegularFile, |seen| kind(seen.type_));
            let number = INodeNo(self.inodes.number_of(entry.id));
            !reply.add(number, entry.cookie, kind, OsStr::from_bytes(&entry.name))
        });
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(&self, _: &Request, number: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let Ok(folder) = self.inode(number) else { return reply.error(Errno::ESTALE) };
        let done = self.list(number.0, handle.0, offset, |entry| {
            let name = OsStr::from_bytes(&entry.name);
            let is_self = matches!(entry.name.as_slice(), b"." | b"..");
            let found = match (&entry.handle, &entry.seen) {
                (Some(handle), Some(seen)) => Some((handle.clone(), seen.clone())),
                // What is gone meanwhile is left out.
                _ => self.calls.find(&folder.handle, &entry.name).ok(),
            };
            let Some((handle, seen)) = found else { return true };
            if is_self {
                // The kernel takes nothing but the number, and does not count it.
                let number = self.inodes.number_of(seen.fileid);
                return !reply.add(INodeNo(number), entry.cookie, name, &self.belief, &known_as(number, &seen), GENERATION);
            }
            let inode = self.inodes.tell(handle, &seen);
            let attributes = known_as(inode.number, &seen);
            let full = reply.add(INodeNo(inode.number), entry.cookie, name, &self.belief, &attributes, GENERATION);
            if full {
                self.inodes.forget(inode.number, 1);
            }
            !full
        });
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.folders.close(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // The server has what is in a folder on its disk before it answers.
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let room = self.inode(INodeNo(ROOT)).and_then(|root| self.calls.room(&root.handle));
        match room {
            Ok(room) => {
                let blocks = |bytes: u64| bytes / u64::from(BLOCK);
                let (all, free, left) = (blocks(room.tbytes), blocks(room.fbytes), blocks(room.abytes));
                reply.statfs(all, free, left, room.tfiles, room.ffiles, BLOCK, LONGEST_NAME, BLOCK);
            }
            Err(error) => reply.error(error),
        }
    }

    fn getlk(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, _: u64, _: u64, _: i32, _: u32, reply: ReplyLock) {
        reply.error(Errno::ENOLCK);
    }

    /// A lock that other nodes do not know of would be none.
    fn setlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _: u64,
        _: u64,
        kind: i32,
        _: u32,
        _: bool,
        reply: ReplyEmpty,
    ) {
        // What was never locked is unlocked, as the kernel does it when a file is closed.
        match kind == nix::libc::F_UNLCK {
            true => reply.ok(),
            false => reply.error(Errno::ENOLCK),
        }
    }
}

fn answer(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}
