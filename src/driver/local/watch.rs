//! The first processes of nodes that are known to this server: whether each lives, at the cost of one system call for all, and a
//! hint at once when one ends.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd, poll};
use tokio::sync::watch;

/// What is known of a node whose first process lived when it was last seen.
struct Known {
    /// Readable once the process has ended.
    process: OwnedFd,
    address: Ipv4Addr,
    /// The process, where it is this server's child, to be reaped.
    child: Option<Child>,
}

/// First processes by machine name.
pub(super) struct Processes {
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
}

struct Shared {
    known: Mutex<HashMap<String, Known>>,
    ended: OwnedFd,
    stop: OwnedFd,
}

/// The number under which `stop` is watched; processes are all watched under 0.
const STOP: u64 = 1;

impl Processes {
    /// Knows none yet. A thread waits for ends until this is dropped.
    ///
    /// # Errors
    /// No descriptor or no thread may be had.
    pub(super) fn new() -> io::Result<Processes> {
        let shared = Arc::new(Shared {
            known: Mutex::default(),
            ended: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            stop: eventfd(0, EventfdFlags::CLOEXEC)?,
        });
        epoll::add(&shared.ended, &shared.stop, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)?;
        let (sender, changes) = watch::channel(0);
        let watched = Arc::clone(&shared);
        // A thread of its own: it sleeps in the kernel, and the driver works without a runtime around it.
        std::thread::Builder::new().name("node-ends".into()).spawn(move || watched.tell_ends(&sender))?;
        Ok(Processes { shared, changes })
    }

    /// Counts ends.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Takes in a first process.
    ///
    /// # Errors
    /// It cannot be watched; then it is not known.
    pub(super) fn add(&self, machine: &str, process: OwnedFd, address: Ipv4Addr, child: Option<Child>) -> io::Result<()> {
        // Told once: a process that has ended stays readable.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        epoll::add(&self.shared.ended, &process, epoll::EventData::new_u64(0), flags)?;
        let mut known = self.shared.lock();
        // Whoever found the process without having started it does not take it from its parent.
        let child = child.or_else(|| known.remove(machine).and_then(|old| old.child));
        known.insert(machine.to_owned(), Known { process, address, child });
        Ok(())
    }

    /// Forgets a first process, and reaps it where it is a child.
    pub(super) fn remove(&self, machine: &str) {
        let known = self.shared.lock().remove(machine);
        if let Some(Known { child: Some(mut child), .. }) = known {
            let _ = child.try_wait();
        }
    }

    /// The address of a node whose first process lives, if it is known here.
    pub(super) fn find_live(&self, machine: &str) -> Option<Ipv4Addr> {
        let known = self.shared.lock();
        let known = known.get(machine)?;
        let mut fd = [PollFd::new(&known.process, PollFlags::IN)];
        poll(&mut fd, Some(&rustix::event::Timespec::default())).is_ok_and(|ended| ended == 0).then_some(known.address)
    }

    /// The machines whose first processes are known here and live, with their addresses.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub(super) fn list_live(&self) -> io::Result<HashMap<String, Ipv4Addr>> {
        let known = self.shared.lock();
        let mut fds: Vec<PollFd<'_>> = known.values().map(|k| PollFd::new(&k.process, PollFlags::IN)).collect();
        if !fds.is_empty() {
            poll(&mut fds, Some(&rustix::event::Timespec::default()))?;
        }
        let live = known.iter().zip(&fds).filter(|(_, fd)| fd.revents().is_empty());
        Ok(live.map(|((machine, known), _)| (machine.clone(), known.address)).collect())
    }

    /// Forgets those that are not in `machines`: another server removed them.
    pub(super) fn retain(&self, machines: &HashSet<String>) {
        self.shared.lock().retain(|machine, _| machines.contains(machine));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_ends(&self, sender: &watch::Sender<u64>) {
        let mut events = [MaybeUninit::uninit(); 32];
        loop {
            let stop = match epoll::wait(&self.ended, &mut events, None) {
                Ok((events, _)) => events.iter().any(|event| event.data.u64() == STOP),
                Err(rustix::io::Errno::INTR) => false,
                Err(error) => {
                    tracing::error!(error = %error, "ends of nodes are no longer seen at once");
                    return;
                }
            };
            if stop {
                return;
            }
            for known in self.lock().values_mut() {
                if let Some(child) = &mut known.child {
                    let _ = child.try_wait();
                }
            }
            sender.send_modify(|n| *n += 1);
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.shared.stop, &1u64.to_ne_bytes());
    }
}
