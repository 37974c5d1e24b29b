//! What a leader remembers between passes: what the driver was seen to have, and how long some things have lasted. All of it may
//! be lost at any time: it is gathered again, and until then less is known, so less is done.
//!
//! In: listings, answers of driver calls, snapshots, each stamped in the order in which they came. Out: one [`Sight`] of each
//! machine. The care is in the order: a listing says nothing of what happened after it began.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::domain::machine::{Machine, MachineState, Observed, Presence};
use crate::domain::snapshot::Snapshot;
use crate::driver;
use crate::id::{AttemptUid, MachineUid, ResourceUid};
use crate::reconcile::limits::{Limits, machine_of};

/// What is known of a machine now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight<'a> {
    /// Nothing: nothing is made or unmade.
    Unknown,
    /// It is there, at this address.
    Present(Option<&'a str>),
    /// It is dead, but something of it is left at the driver. Proof of death.
    Remains,
    /// Nothing of it is there. Proof of death.
    Absent,
}

/// How a driver call ended.
#[derive(Clone, Debug)]
pub enum Answer {
    /// `ensure` succeeded.
    Made(Observed),
    /// `ensure` failed: what to show, and when to ask again.
    NotMade(Failure),
    /// `delete` succeeded: surely gone.
    Deleted,
    /// `delete` failed or did not answer in time.
    NotDeleted,
    /// What the machine wrote last, if that is to be had.
    Explained(Option<String>),
}

/// Why a machine was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Decides what is shown and when it is tried again.
    pub kind: FailureKind,
    /// The driver's own words.
    pub text: String,
}

/// Sorts failures by what is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No capacity or quota.
    Quota,
    /// It will not work until someone mends it.
    Lasting,
    /// It may work next time.
    Passing,
    /// Asked too often: the driver names the pause.
    Throttled(std::time::Duration),
}

/// What a leader remembers.
#[derive(Debug)]
pub struct Memory {
    since: Timestamp,
    stamp: u64,
    listing: Option<Listing>,
    words: BTreeMap<MachineUid, Word>,
    failures: BTreeMap<MachineUid, Failure>,
    in_flight: BTreeSet<MachineUid>,
    undeleted: BTreeMap<MachineUid, Aside>,
    /// What machines wrote last; empty where nothing is to be had.
    evidence: BTreeMap<MachineUid, String>,
    known_made: BTreeMap<MachineUid, u64>,
    watched: BTreeMap<MachineUid, Watched>,
    strangers: BTreeMap<MachineUid, Stranger>,
    stopping: BTreeMap<AttemptUid, Timestamp>,
    /// By how much the clock was set while an attempt went on.
    set_by: BTreeMap<AttemptUid, time::Duration>,
    losses: BTreeMap<ResourceUid, Losses>,
    aside: BTreeMap<ResourceUid, Refused>,
}

#[derive(Debug)]
struct Listing {
    began: u64,
    machines: BTreeMap<MachineUid, Observed>,
    is_partial: bool,
}

#[derive(Debug)]
struct Word {
    stamp: u64,
    said: Said,
}

#[derive(Debug)]
enum Said {
    Present(Option<String>),
    Absent,
    Nothing,
}

/// Since when a machine is as it is, by the clock of whoever remembers.
#[derive(Debug)]
struct Watched {
    heard: Noticed,
    state_changed: Noticed,
}

/// A time in a row, by the clock of whichever server wrote it, and when it was first read so: what has lasted for less is never taken
/// for more, however clocks differ.
#[derive(Clone, Copy, Debug)]
struct Noticed {
    written: Option<Timestamp>,
    at: Timestamp,
}

impl Noticed {
    fn again(before: Option<Noticed>, written: Option<Timestamp>, now: Timestamp) -> Noticed {
        before.filter(|before| before.written == written).unwrap_or(Noticed { written, at: now })
    }
}

#[derive(Debug)]
struct Stranger {
    name: String,
    first_seen: Timestamp,
    proven: bool,
}

#[derive(Debug)]
struct Losses {
    count: u32,
    last: Timestamp,
}

#[derive(Debug)]
struct Aside {
    tries: u32,
    until: Timestamp,
}

/// A resource whose changes were refused in pass after pass.
#[derive(Debug)]
struct Refused {
    passes: u32,
    /// The stamp of the last of them: each reads rows anew.
    last: Option<u64>,
    until: Timestamp,
}

impl Aside {
    fn again(&mut self, now: Timestamp, limits: &Limits) {
        self.tries += 1;
        self.until = now + limits.back_off(self.tries);
    }
}

impl Memory {
    /// Nothing is known yet; all waiting begins now: time in which nobody watched is nobody's silence.
    pub fn new(now: Timestamp) -> Memory {
        Memory {
            since: now,
            stamp: 0,
            listing: None,
            words: BTreeMap::new(),
            failures: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            undeleted: BTreeMap::new(),
            evidence: BTreeMap::new(),
            known_made: BTreeMap::new(),
            watched: BTreeMap::new(),
            strangers: BTreeMap::new(),
            stopping: BTreeMap::new(),
            set_by: BTreeMap::new(),
            losses: BTreeMap::new(),
            aside: BTreeMap::new(),
        }
    }

    /// What is left of a memory whose clock was set by `by`, and shows `now`: how long attempts go on.
    pub fn anew(&self, now: Timestamp, by: time::Duration) -> Memory {
        let set_by = self.set_by.iter().map(|(attempt, before)| (*attempt, *before + by)).collect();
        Memory { set_by, ..Memory::new(now) }
    }

    fn next(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    /// When watching began.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// When a machine was noticed to be heard last, or may have been before anybody watched; `None` where it never was.
    pub fn heard_at(&self, machine: &Machine) -> Option<Timestamp> {
        let heard_at = machine.heard_at?;
        Some(self.watched.get(&machine.uid).map_or(heard_at.max(self.since), |watched| watched.heard.at))
    }

    /// Since when a machine was noticed to be in its state.
    pub fn in_state_since(&self, machine: &Machine) -> Timestamp {
        self.watched.get(&machine.uid).map_or(machine.state_changed_at.max(self.since), |watched| watched.state_changed.at)
    }

    /// A listing begins; the stamp goes back in with its result.
    pub fn listing_begins(&mut self) -> u64 {
        self.next()
    }

    /// A listing that began at `began` is complete.
    pub fn listed(&mut self, began: u64, listing: impl Into<driver::Listing>, now: Timestamp, limits: &Limits) {
        let driver::Listing { machines, is_partial } = listing.into();
        let machines: BTreeMap<MachineUid, Observed> =
            machines.into_iter().filter_map(|seen| machine_of(&seen.name).map(|uid| (uid, seen))).collect();
        // Whatever is not listed any more was no stranger, or is gone.
        self.strangers.retain(|uid, _| machines.contains_key(uid));
        for (uid, seen) in &machines {
            if seen.presence == Presence::Unknown {
                self.strangers.remove(uid);
                continue;
            }
            let stranger = self.strangers.entry(*uid).or_insert_with(|| Stranger {
                name: seen.name.clone(),
                first_seen: now,
                proven: false,
            });
            stranger.proven = now - stranger.first_seen >= limits.stranger_grace;
        }
        self.listing = Some(Listing { began, machines, is_partial });
        self.words.retain(|_, word| word.stamp > began);
    }

    /// A call about a machine goes out: until it ends nothing is known of it.
    pub fn call_begins(&mut self, uid: MachineUid) {
        self.in_flight.insert(uid);
    }

    /// A call about a machine ended.
    pub fn call_ended(&mut self, uid: MachineUid, answer: Answer, now: Timestamp, limits: &Limits) {
        self.in_flight.remove(&uid);
        if let Answer::Explained(evidence) = answer {
            // It says nothing of whether it is there.
            self.evidence.insert(uid, evidence.unwrap_or_default());
            return;
        }
        let stamp = self.next();
        let said = match answer {
            Answer::Made(seen) => match seen.presence {
                Presence::Present => Said::Present(seen.address),
                Presence::Absent | Presence::Unknown => Said::Nothing,
            },
            Answer::NotMade(failure) => {
                self.failures.insert(uid, failure);
                Said::Nothing
            }
            Answer::Deleted => {
                self.strangers.remove(&uid);
                self.undeleted.remove(&uid);
                Said::Absent
            }
            Answer::Explained(_) => Said::Nothing,
            Answer::NotDeleted => {
                self.undeleted.entry(uid).or_insert(Aside { tries: 0, until: now }).again(now, limits);
                Said::Nothing
            }
        };
        self.words.insert(uid, Word { stamp, said });
    }

    /// Whether a call about the machine is under way.
    pub fn is_in_flight(&self, uid: MachineUid) -> bool {
        self.in_flight.contains(&uid)
    }

    /// Until when a machine that could not be deleted is let be.
    pub fn delete_paused_until(&self, uid: MachineUid, now: Timestamp) -> Option<Timestamp> {
        self.undeleted.get(&uid).map(|aside| aside.until).filter(|until| *until > now)
    }

    /// How many calls are under way.
    pub fn calls(&self) -> usize {
        self.in_flight.len()
    }

    /// Rows were read: remembers since when some things are so, and forgets what is about nothing any more.
    pub fn read(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let stamp = self.next();
        let mut known = BTreeMap::new();
        let mut alive = BTreeSet::new();
        let mut watched = BTreeMap::new();
        for machine in &snapshot.machines {
            alive.insert(machine.uid);
            let before = self.watched.get(&machine.uid);
            let heard = Noticed::again(before.map(|before| before.heard), machine.heard_at, now);
            let changed = before.map(|before| before.state_changed);
            let state_changed = Noticed::again(changed, Some(machine.state_changed_at), now);
            watched.insert(machine.uid, Watched { heard, state_changed });
            if machine.state != MachineState::Asked {
                known.insert(machine.uid, self.known_made.get(&machine.uid).copied().unwrap_or(stamp));
            }
            self.strangers.remove(&machine.uid);
        }
        for server in snapshot.file_servers.iter().map(|server| server.uid).chain(snapshot.unreadable_servers.iter().copied()) {
            // Its disk is called by its name.
            self.strangers.remove(&MachineUid(server.0));
            alive.insert(MachineUid(server.0));
        }
        for machine in &snapshot.unreadable {
            if let Some(uid) = machine_of(&machine.name) {
                self.strangers.remove(&uid);
            }
        }
        self.known_made = known;
        self.watched = watched;
        self.failures.retain(|uid, _| alive.contains(uid));
        self.evidence.retain(|uid, _| alive.contains(uid));
        self.undeleted.retain(|uid, _| alive.contains(uid) || self.strangers.contains_key(uid));
        self.stopping = snapshot
            .attempts
            .iter()
            .filter(|attempt| attempt.stop.is_some())
            .map(|attempt| (attempt.uid, self.stopping.get(&attempt.uid).copied().unwrap_or(now)))
            .collect();
        let set_by = |attempt: AttemptUid| self.set_by.get(&attempt).copied().unwrap_or_default();
        self.set_by = snapshot.attempts.iter().map(|attempt| (attempt.uid, set_by(attempt.uid))).collect();
    }

    /// What is known of a machine whose row was read.
    pub fn sight(&self, machine: &Machine) -> Sight<'_> {
        if self.in_flight.contains(&machine.uid) {
            return Sight::Unknown;
        }
        if let Some(word) = self.words.get(&machine.uid) {
            // Words older than the listing were forgotten when it came in.
            return match &word.said {
                Said::Present(address) => Sight::Present(address.as_deref()),
                Said::Absent => Sight::Absent,
                Said::Nothing => Sight::Unknown,
            };
        }
        let Some(listing) = &self.listing else { return Sight::Unknown };
        match listing.machines.get(&machine.uid) {
            Some(seen) => match seen.presence {
                Presence::Present => Sight::Present(seen.address.as_deref()),
                Presence::Absent => Sight::Remains,
                Presence::Unknown => Sight::Unknown,
            },
            None if machine.state == MachineState::Asked => Sight::Absent,
            None if listing.is_partial => Sight::Unknown,
            // Another server may have made it while the listing ran: only one that began after its row was read as made counts.
            None if self.known_made.get(&machine.uid).is_some_and(|known| *known < listing.began) => Sight::Absent,
            None => Sight::Unknown,
        }
    }

    /// When a machine is taken away, or was, as far as its driver has told.
    pub fn evicted_at(&self, machine: MachineUid) -> Option<Timestamp> {
        self.listing.as_ref()?.machines.get(&machine)?.evict_at
    }

    /// What a machine wrote last, once that was asked for; empty where nothing is to be had.
    pub fn evidence(&self, machine: MachineUid) -> Option<&str> {
        self.evidence.get(&machine).map(String::as_str)
    }

    /// What is known of a disk, by the name of its file server.
    pub fn sight_of_disk(&self, server: ResourceUid) -> Sight<'_> {
        let uid = MachineUid(server.0);
        if self.in_flight.contains(&uid) {
            return Sight::Unknown;
        }
        match (self.words.get(&uid).map(|word| &word.said), &self.listing) {
            (Some(Said::Absent), _) => Sight::Absent,
            (Some(_), _) | (None, None) => Sight::Unknown,
            (None, Some(listing)) if listing.machines.contains_key(&uid) => Sight::Remains,
            // A machine that was to have it may be made by a call that began before: only a delete tells.
            (None, Some(_)) => Sight::Unknown,
        }
    }

    /// Why a machine was last not made, until it was written down.
    pub fn failure(&self, uid: MachineUid) -> Option<&Failure> {
        self.failures.get(&uid)
    }

    /// A failure was written down.
    pub fn failure_recorded(&mut self, uid: MachineUid) {
        self.failures.remove(&uid);
    }

    /// Machines that two complete listings a grace apart showed and that no row knew in between.
    pub fn strangers(&self) -> impl Iterator<Item = (MachineUid, &str)> {
        self.strangers.iter().filter(|(_, stranger)| stranger.proven).map(|(uid, stranger)| (*uid, stranger.name.as_str()))
    }

    /// Since when an attempt is known to be told to stop.
    pub fn stopping_since(&self, attempt: AttemptUid) -> Option<Timestamp> {
        self.stopping.get(&attempt).copied()
    }

    /// By how much the clock was set since an attempt was first read: what its row tells of its start is so much too early, or too late
    /// where that is negative.
    pub fn set_by(&self, attempt: AttemptUid) -> time::Duration {
        self.set_by.get(&attempt).copied().unwrap_or_default()
    }

    /// A cluster lost a machine that nobody had asked to go.
    pub fn lost(&mut self, cluster: ResourceUid, now: Timestamp) {
        let losses = self.losses.entry(cluster).or_insert(Losses { count: 0, last: now });
        if now - losses.last > REPAIR_WINDOW {
            losses.count = 0;
        }
        losses.count += 1;
        losses.last = now;
    }

    /// Until when no machine is asked for in place of lost ones: at once while there are no more losses than `target` in the
    /// window, then with pauses that double.
    pub fn repair_paused_until(&self, cluster: ResourceUid, target: u32, now: Timestamp, limits: &Limits) -> Option<Timestamp> {
        let losses = self.losses.get(&cluster)?;
        let beyond = losses.count.checked_sub(target.max(1)).filter(|beyond| *beyond > 0)?;
        let until = losses.last + limits.back_off(beyond);
        (until > now && now - losses.last <= REPAIR_WINDOW).then_some(until)
    }

    /// Whether a resource is put aside for now.
    pub fn is_aside(&self, about: ResourceUid, now: Timestamp) -> bool {
        self.aside.get(&about).is_some_and(|aside| aside.until > now)
    }

    /// What was decided for a resource could not be written. Rows that move while they are decided about are nothing odd; one that
    /// is refused again and again is put aside, longer each time. Answers for how many times in a row that was so.
    pub fn put_aside(&mut self, about: ResourceUid, now: Timestamp, limits: &Limits) -> u32 {
        let aside = self.aside.entry(about).or_insert(Refused { passes: 0, last: None, until: now });
        // Each machine of a cluster is a group of its own: however many of them a pass could not write, it is one that was refused.
        if aside.last.replace(self.stamp) != Some(self.stamp) {
            aside.passes += 1;
        }
        let beyond = aside.passes.saturating_sub(FREE_REFUSALS);
        if beyond > 0 {
            aside.until = now + limits.back_off(beyond);
        }
        beyond
    }

    /// What was decided for a resource was written.
    pub fn took(&mut self, about: ResourceUid) {
        self.aside.remove(&about);
    }

    /// When the first of those put aside is tried again.
    pub fn aside_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.aside.values().map(|aside| aside.until).filter(|until| *until > now).min()
    }
}

/// Refusals in a row after which a resource is put aside.
const FREE_REFUSALS: u32 = 4;

/// Losses further apart than this have nothing to do with each other.
const REPAIR_WINDOW: std::time::Duration = std::time::Duration::from_secs(600);
