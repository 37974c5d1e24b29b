//! Folders that are being read: what the server listed last, and where it goes on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fuser::Errno;
use nfs3_types::nfs3::{cookieverf3, entryplus3, fattr3, nfs_fh3};

use super::calls::{Calls, Handle, some};
use super::inodes::lock;

/// One entry.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) name: Vec<u8>,
    /// Where the folder goes on after it.
    pub(super) cookie: u64,
    pub(super) handle: Option<Handle>,
    pub(super) seen: Option<fattr3>,
}

/// A folder that somebody reads.
pub(super) struct Reading {
    folder: Handle,
    batch: Mutex<Batch>,
}

#[derive(Default)]
struct Batch {
    /// Where it begins.
    from: u64,
    entries: Vec<Entry>,
    is_last: bool,
    verifier: cookieverf3,
}

impl Batch {
    /// The place of what follows a cookie, where that is known.
    fn after(&self, cookie: u64) -> Option<usize> {
        if self.from == cookie && !self.entries.is_empty() {
            return Some(0);
        }
        self.entries.iter().position(|entry| entry.cookie == cookie).map(|at| at + 1)
    }
}

/// All that are read.
#[derive(Default)]
pub(super) struct Folders {
    open: Mutex<HashMap<u64, Arc<Reading>>>,
    next: AtomicU64,
}

impl Folders {
    pub(super) fn open(&self, folder: Handle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(number, Arc::new(Reading { folder, batch: Mutex::default() }));
        number
    }

    pub(super) fn find(&self, number: u64) -> Option<Arc<Reading>> {
        lock(&self.open).get(&number).cloned()
    }

    pub(super) fn close(&self, number: u64) {
        lock(&self.open).remove(&number);
    }
}

impl Reading {
    /// Gives entries from `cookie` on to `take`, until it says that it takes no more, or there are none.
    ///
    /// # Errors
    /// The server's; `EIO` where it goes in circles, or lists what is no name.
    pub(super) fn each(&self, calls: &Calls, cookie: u64, mut take: impl FnMut(&Entry) -> bool) -> Result<(), Errno> {
        let mut batch = lock(&self.batch);
        let mut cookie = cookie;
        // A folder that is read from its beginning again is listed anew.
        if cookie == 0 || batch.after(cookie).is_none() {
            *batch = self.fetch(calls, cookie, batch.verifier)?;
        }
        loop {
            let from = cookie;
            for entry in batch.after(from).and_then(|at| batch.entries.get(at..)).unwrap_or_default() {
                if !take(entry) {
                    return Ok(());
                }
                cookie = entry.cookie;
            }
            // One batch is enough for an answer: the kernel asks on.
            if cookie != from || batch.is_last || batch.entries.is_empty() {
                return Ok(());
            }
            *batch = self.fetch(calls, cookie, batch.verifier)?;
        }
    }

    fn fetch(&self, calls: &Calls, from: u64, verifier: cookieverf3) -> Result<Batch, Errno> {
        let verifier = if from == 0 { cookieverf3::default() } else { verifier };
        let listed = calls.list(&self.folder, from, verifier)?;
        let entries: Vec<Entry> = listed.reply.entries.into_inner().into_iter().map(entry).collect();
        let is_sound = |entry: &Entry| entry.cookie != from && is_name(&entry.name);
        if !entries.iter().all(is_sound) {
            return Err(Errno::EIO);
        }
        let is_last = listed.reply.eof;
        Ok(Batch { from, entries, is_last, verifier: listed.cookieverf })
    }
}

fn entry(listed: entryplus3<'static>) -> Entry {
    Entry {
        id: listed.fileid,
        name: listed.name.0.into_owned(),
        cookie: listed.cookie,
        handle: some(listed.name_handle).filter(|handle: &nfs_fh3| !handle.data.is_empty()),
        seen: some(listed.name_attributes),
    }
}

/// Whether the kernel may be told of such a name.
fn is_name(name: &[u8]) -> bool {
    (1..=255).contains(&name.len()) && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_elsewhere_is_no_name() {
        assert!(is_name(b"a b") && is_name("ä".as_bytes()) && is_name(b".."));
        for bad in [&b""[..], b"/", b"a/b", b"a\0", &[b'x'; 256]] {
            assert!(!is_name(bad));
        }
    }
}
