//! The files that the kernel knows, by number: each as long as the kernel does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use nfs3_types::nfs3::{fattr3, nfstime3};

use super::attributes::SET_GROUP;
use super::calls::Handle;
use super::unstable::Unstable;

/// The number of the root, for the kernel.
pub(super) const ROOT: u64 = 1;

/// Numbers from here on are given to files whose own number the kernel still has for one that is gone.
const OTHERS: u64 = 1 << 63;

/// What tells whether a file was changed since.
pub(super) type Version = (nfstime3, u64);

/// A file that the kernel knows.
pub(super) struct Inode {
    pub(super) number: u64,
    pub(super) handle: Handle,
    /// The mode that it had last.
    mode: AtomicU32,
    /// How many times it is open.
    opens: AtomicU64,
    /// As it was when what the kernel has of its content was known to be right.
    seen: Mutex<Option<Version>>,
    /// Where it went when it was removed while it was open: folder and name.
    aside: Mutex<Option<(Handle, Vec<u8>)>>,
    /// What was written to it that may not be on the server's disk.
    pub(super) unstable: Mutex<Unstable>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn version(seen: &fattr3) -> Version {
    (seen.mtime, seen.size)
}

impl Inode {
    fn new(number: u64, handle: Handle, seen: &fattr3) -> Inode {
        Inode {
            number,
            handle,
            mode: AtomicU32::new(seen.mode),
            opens: AtomicU64::new(0),
            seen: Mutex::default(),
            aside: Mutex::default(),
            unstable: Mutex::default(),
        }
    }

    /// Takes in what the server said of it.
    pub(super) fn noted(&self, seen: &fattr3) {
        self.mode.store(seen.mode, Ordering::Relaxed);
    }

    /// Whether what is made in it has its group.
    pub(super) fn sets_group(&self) -> bool {
        self.mode.load(Ordering::Relaxed) & SET_GROUP != 0
    }

    /// It is opened as the server has it now. Answers whether what the kernel has of its content is right still.
    pub(super) fn open(&self, seen: &fattr3) -> bool {
        self.opens.fetch_add(1, Ordering::SeqCst);
        lock(&self.seen).replace(version(seen)) == Some(version(seen))
    }

    /// What the kernel has of its content is as the server has it now.
    pub(super) fn is_as(&self, seen: &fattr3) {
        *lock(&self.seen) = Some(version(seen));
    }

    pub(super) fn is_open(&self) -> bool {
        self.opens.load(Ordering::SeqCst) > 0
    }

    /// It is closed once. Answers where it is to be removed, if it was kept for this.
    pub(super) fn close(&self) -> Option<(Handle, Vec<u8>)> {
        (self.opens.fetch_sub(1, Ordering::SeqCst) == 1).then(|| self.take_aside()).flatten()
    }

    /// Where it is to be removed, if it was kept while it was open.
    pub(super) fn take_aside(&self) -> Option<(Handle, Vec<u8>)> {
        lock(&self.aside).take()
    }

    pub(super) fn put_aside(&self, folder: Handle, name: Vec<u8>) {
        *lock(&self.aside) = Some((folder, name));
    }
}

/// All of them.
pub(super) struct Inodes {
    table: RwLock<Table>,
    root_id: u64,
    other: AtomicU64,
    open: AtomicU64,
}

#[derive(Default)]
struct Table {
    known: HashMap<u64, Known>,
    /// The number of each that is known, by its handle: a file's own id may be taken, and its number then is another.
    numbers: HashMap<Vec<u8>, u64>,
}

impl Table {
    fn insert(&mut self, inode: Inode) -> Arc<Inode> {
        let inode = Arc::new(inode);
        self.numbers.insert(inode.handle.data.to_vec(), inode.number);
        self.known.insert(inode.number, Known { inode: Arc::clone(&inode), told: 1 });
        inode
    }

    fn remove(&mut self, number: u64) {
        if let Some(gone) = self.known.remove(&number) {
            self.numbers.remove(gone.inode.handle.data.as_ref());
        }
    }
}

struct Known {
    inode: Arc<Inode>,
    /// How many times the kernel was told of it.
    told: u64,
}

impl Inodes {
    pub(super) fn new(root: Handle, seen: &fattr3) -> Inodes {
        let mut table = Table::default();
        table.insert(Inode::new(ROOT, root, seen));
        Inodes { table: RwLock::new(table), root_id: seen.fileid, other: AtomicU64::new(OTHERS), open: AtomicU64::new(0) }
    }

    pub(super) fn find(&self, number: u64) -> Option<Arc<Inode>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).known.get(&number).map(|known| Arc::clone(&known.inode))
    }

    /// The file of a handle, if the kernel knows it.
    pub(super) fn find_by_handle(&self, handle: &Handle) -> Option<Arc<Inode>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let number = table.numbers.get(handle.data.as_ref())?;
        table.known.get(number).map(|known| Arc::clone(&known.inode))
    }

    /// The number of a file, where it is the first of its id.
    pub(super) fn number_of(&self, id: u64) -> u64 {
        if id == self.root_id { ROOT } else { id }
    }

    /// The kernel is told of a file.
    pub(super) fn tell(&self, handle: Handle, seen: &fattr3) -> Arc<Inode> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let number = table.numbers.get(handle.data.as_ref()).copied();
        if let Some(there) = number.and_then(|number| table.known.get_mut(&number)) {
            there.told += 1;
            there.inode.noted(seen);
            return Arc::clone(&there.inode);
        }
        let mut number = self.number_of(seen.fileid);
        if table.known.contains_key(&number) {
            // The server gave the id of a file that is gone to another one: the kernel forgets the one that is gone only after its last
            // close is done.
            number = self.other.fetch_add(1, Ordering::Relaxed);
        }
        table.insert(Inode::new(number, handle, seen))
    }

    /// The kernel forgot a file so many times.
    pub(super) fn forget(&self, number: u64, times: u64) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = table.known.get_mut(&number) {
            there.told = there.told.saturating_sub(times);
            if there.told == 0 && number != ROOT {
                table.remove(number);
            }
        }
    }

    /// A file is opened or closed: whether any is open spares a question on removal.
    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn any_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nfs3_types::nfs3::{ftype3, nfs_fh3, specdata3};
    use nfs3_types::xdr_codec::Opaque;

    fn seen(fileid: u64) -> fattr3 {
        let time = nfstime3 { seconds: 1, nseconds: 0 };
        fattr3 {
            type_: ftype3::NF3REG,
            mode: 0o644,
            nlink: 1,
            uid: 0,
            gid: 0,
            size: 3,
            used: 0,
            rdev: specdata3::default(),
            fsid: 0,
            fileid,
            atime: time,
            mtime: time,
            ctime: time,
        }
    }

    fn handle(byte: u8) -> Handle {
        nfs_fh3 { data: Opaque::owned(vec![byte]) }
    }

    #[test]
    fn a_number_is_of_one_file_as_long_as_the_kernel_knows_it() {
        let inodes = Inodes::new(handle(0), &seen(77));
        assert_eq!(inodes.tell(handle(0), &seen(77)).number, ROOT);
        let first = inodes.tell(handle(1), &seen(5));
        assert_eq!((first.number, inodes.tell(handle(1), &seen(5)).number), (5, 5));
        let other = inodes.tell(handle(2), &seen(5));
        assert!(other.number >= OTHERS, "another file with the id of one that is known");
        inodes.forget(5, 1);
        assert!(inodes.find(5).is_some());
        inodes.forget(5, 1);
        assert!(inodes.find(5).is_none() && inodes.find_by_handle(&handle(1)).is_none());
        // It keeps the number that it has, and is found, also when the one of its id is gone: what it is open for would be lost.
        assert_eq!(inodes.tell(handle(2), &seen(5)).number, other.number);
        assert!(inodes.find_by_handle(&handle(2)).is_some_and(|found| Arc::ptr_eq(&found, &other)));
        assert_eq!(inodes.tell(handle(3), &seen(5)).number, 5);
        inodes.forget(other.number, 2);
        assert!(inodes.find_by_handle(&handle(2)).is_none() && inodes.find_by_handle(&handle(3)).is_some());
    }

    #[test]
    fn content_is_right_until_the_server_has_another() {
        let inode = Inode::new(5, handle(1), &seen(5));
        assert!(!inode.open(&seen(5)));
        assert!(inode.open(&seen(5)));
        assert!(!inode.open(&fattr3 { size: 4, ..seen(5) }));
        inode.put_aside(handle(0), b".nfs".to_vec());
        assert_eq!((inode.close(), inode.close()), (None, None));
        assert!(inode.close().is_some() && !inode.is_open());
    }
}
