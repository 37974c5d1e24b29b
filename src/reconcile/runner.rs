//! The loop: wake (event or tick) → lease → observe → decide → apply → ask the driver.
//!
//! Calls of the driver run beside the loop, each with a deadline, and come back as something seen; a pass never waits for one.
//! Dropping the loop at any await is the same as a crash: rows say what was decided, and the next leader sees the rest.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::{Clock, Timestamp};
use crate::domain::snapshot::Change;
use crate::driver::{Listing, SharedDriver};
use crate::error::{Error, ErrorCode};
use crate::id::MachineUid;
use crate::reconcile::cluster::act;
use crate::reconcile::decide::decide;
use crate::reconcile::lease::Held;
use crate::reconcile::limits::{Catalog, Limits};
use crate::reconcile::memory::{Answer, Memory};
use crate::reconcile::mint::Entropy;
use crate::reconcile::plan::{Effect, Plan, Reason};
use crate::reconcile::runtime::Runtime;
use crate::reconcile::world::World;
use crate::store::{Applied, Rows};
use crate::telemetry;
use crate::wake::{Topic, Wake};

/// What a reconciler is made of.
#[derive(Clone)]
pub struct Parts {
    /// The rows.
    pub rows: Arc<dyn Rows>,
    /// The cloud.
    pub driver: SharedDriver,
    /// The time that rows are written with.
    pub clock: Arc<dyn Clock>,
    /// Hints in, and hints to agents out.
    pub wake: Wake,
    /// Bounds and patience.
    pub limits: Limits,
    /// Begins the name of each machine of this installation.
    pub prefix: String,
    /// This server process.
    pub holder: Uuid,
    /// Where new identities and join tokens come from.
    pub entropy: Arc<dyn Entropy>,
    /// What runs the calls of the driver.
    pub runtime: Arc<dyn Runtime>,
}

/// Makes the world as the rows say, while this process holds the lease.
pub struct Reconciler {
    parts: Parts,
    catalog: Catalog,
}

/// What a leader has while it leads.
struct Leader {
    held: Held,
    memory: Memory,
    events: mpsc::UnboundedReceiver<Event>,
    report: mpsc::UnboundedSender<Event>,
    listing: bool,
    list_at: Duration,
    /// Passes in a row whose changes did not apply.
    refused: u32,
    reasons: Vec<Reason>,
    /// Whether the last pass left a node free.
    takes_jobs: bool,
    /// A pass that something wakes begins no earlier.
    rests_until: Duration,
    /// When rows were read last.
    moment: Moment,
}

/// One moment by both clocks.
#[derive(Clone, Copy, Debug)]
struct Moment {
    wall: Timestamp,
    monotonic: Duration,
}

impl Moment {
    /// The wall clock's time at a later moment, unless it was set in between.
    fn later(self, monotonic: Duration) -> Timestamp {
        self.wall + monotonic.saturating_sub(self.monotonic)
    }

    /// By how much the wall clock was set between this moment and a later one, if it was.
    fn set_by(self, later: Moment) -> Option<time::Duration> {
        let by = later.wall - self.later(later.monotonic);
        (by.abs() > CLOCK_SET).then_some(by)
    }
}

/// What tells that the rows have moved.
struct Wakes {
    changes: watch::Receiver<u64>,
    submissions: watch::Receiver<u64>,
}

/// Something that a call of the driver brought.
enum Event {
    Called { uid: MachineUid, answer: Answer },
    Listed { began: u64, machines: Option<Listing> },
}

/// What follows a pass.
enum Next {
    /// Something was written: what follows from it is decided at once.
    Again,
    /// Nothing to do until something happens, or until then.
    Wait(Option<Timestamp>),
    /// The rows are away.
    Away,
    /// Another leads.
    Lost,
    /// The clock was set by so much.
    Anew(time::Duration),
}

/// Passes refused in a row after which changes are written one resource at a time, so that one alone cannot hold up all.
const REFUSALS: u32 = 2;

/// How many times as long as a pass took the next one is held back, where something else is to be looked at at once.
const REST: u32 = 3;

/// Between two passes clocks go apart by less, and hosts are held up for less.
const CLOCK_SET: time::Duration = time::Duration::seconds(5);

/// Refusals of one resource after which it is said loudly.
const LOUD: u32 = 8;

impl Reconciler {
    /// A reconciler; nothing happens until [`run`](Self::run).
    pub fn new(parts: Parts) -> Reconciler {
        let catalog = Catalog::new(parts.prefix.clone(), parts.driver.sizes());
        Reconciler { parts, catalog }
    }

    /// Leads whenever the lease can be had, until `shutdown`; then gives it back.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut wakes = Wakes {
            changes: self.parts.wake.subscribe(Topic::Reconcile),
            submissions: self.parts.wake.subscribe(Topic::Submission),
        };
        let mut hints = self.parts.driver.changes();
        let mut leader: Option<Leader> = None;
        let mut told = false;
        while !shutdown.is_cancelled() {
            self.keep_lease(&mut leader).await;
            if told != leader.is_some() {
                told = leader.is_some();
                tell_leader(told);
            }
            let Some(leading) = &mut leader else {
                select(Box::pin(shutdown.cancelled()), self.parts.runtime.sleep(self.parts.limits.lease_poll)).await;
                continue;
            };
            // What wakes from here on may be about what this pass does not read any more.
            wakes.changes.borrow_and_update();
            wakes.submissions.borrow_and_update();
            let began = self.parts.runtime.monotonic();
            let next = AssertUnwindSafe(self.pass(leading)).catch_unwind().await;
            let took = self.parts.runtime.monotonic().saturating_sub(began);
            telemetry::passed(result(&next), took, self.parts.clock.now());
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Wait(until)) => {
                    leading.rests_until = began + took + (took * REST).min(self.parts.limits.rest);
                    self.wait(leading, until, &mut wakes, &mut hints, &shutdown).await;
                }
                Ok(Next::Away) => {
                    select(Box::pin(shutdown.cancelled()), self.parts.runtime.sleep(self.parts.limits.lease_poll)).await;
                }
                Ok(Next::Lost) => {
                    tracing::info!("the lease was lost; another server leads");
                    leader = None;
                }
                Ok(Next::Anew(by)) => {
                    let by_s = by.whole_seconds();
                    tracing::warn!(by_s, "this server's clock was set: what was waited for is waited for anew");
                    let memory = leading.memory.anew(leading.moment.wall, by);
                    // Calls that are under way tell the one that was before.
                    leader = Some(Leader { memory, ..self.lead(leading.held.clone()) });
                }
                Err(_) => {
                    tracing::error!("a pass panicked; it begins anew with nothing remembered");
                    leader = None;
                    select(Box::pin(shutdown.cancelled()), self.parts.runtime.sleep(self.parts.limits.tick)).await;
                }
            }
        }
        if let Some(leading) = leader {
            let release = self.parts.rows.release_lease(&leading.held.lease);
            if !matches!(self.within(self.parts.limits.tick, release).await, Some(Ok(()))) {
                tracing::debug!("the lease was not given back; it ends by itself");
            }
        }
    }

    /// Takes the lease, or renews it when that is due. Afterwards `leader` is there only if this process leads.
    async fn keep_lease(&self, leader: &mut Option<Leader>) {
        let limits = &self.parts.limits;
        let now = self.parts.runtime.monotonic();
        if leader.as_ref().is_some_and(|leading| now < leading.held.renew_at(limits)) {
            return;
        }
        let take = Held::take(&*self.parts.rows, self.parts.holder, now, limits);
        match self.within(limits.rows_deadline, take).await {
            Some(Ok(Some(held))) => match leader {
                Some(leading) if leading.held.lease.token == held.lease.token => leading.held = held,
                // A new grant: others may have acted in between, so nothing that is remembered counts.
                _ => {
                    tracing::info!(lease.token = held.lease.token, "this server leads");
                    *leader = Some(self.lead(held));
                }
            },
            Some(Ok(None)) => {
                if leader.take().is_some() {
                    tracing::info!("the lease was lost; another server leads");
                }
            }
            failed => {
                if let Some(Err(error)) = &failed {
                    tracing::debug!(error = %error, "the lease cannot be asked for");
                }
                if leader.as_ref().is_some_and(|leading| !leading.held.may_act(self.parts.runtime.monotonic(), limits)) {
                    tracing::warn!("the lease could not be renewed in time");
                    *leader = None;
                }
            }
        }
    }

    fn lead(&self, held: Held) -> Leader {
        let (report, events) = mpsc::unbounded_channel();
        let moment = self.moment();
        Leader {
            held,
            memory: Memory::new(moment.wall),
            events,
            report,
            listing: false,
            list_at: moment.monotonic,
            refused: 0,
            reasons: Vec::new(),
            takes_jobs: true,
            rests_until: Duration::ZERO,
            moment,
        }
    }

    fn moment(&self) -> Moment {
        Moment { wall: self.parts.clock.now(), monotonic: self.parts.runtime.monotonic() }
    }

    /// Waits until something may have changed.
    async fn wait(
        &self,
        leader: &mut Leader,
        until: Option<Timestamp>,
        wakes: &mut Wakes,
        hints: &mut Option<watch::Receiver<u64>>,
        shutdown: &CancellationToken,
    ) {
        let limits = &self.parts.limits;
        let now = self.parts.runtime.monotonic();
        let mut pause = limits.tick.min(leader.held.renew_at(limits).saturating_sub(now));
        if let Some(until) = until {
            let left = Duration::try_from(until - self.parts.clock.now()).unwrap_or_default();
            pause = pause.min(left.max(Duration::from_millis(1)));
        }
        if !leader.listing {
            pause = pause.min(leader.list_at.saturating_sub(now));
        }
        let hint = async {
            let told = match hints {
                Some(hints) => hints.changed().await.is_ok(),
                None => false,
            };
            if !told {
                std::future::pending().await
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            Some(event) = leader.events.recv() => self.fold(leader, event),
            Ok(()) = wakes.changes.changed() => self.rest(leader).await,
            // Where no node is free, a job waits for one, and that is told.
            Ok(()) = wakes.submissions.changed(), if leader.takes_jobs => self.rest(leader).await,
            () = hint => leader.list_at = leader.list_at.min(now + limits.list_gap),
            () = self.parts.runtime.sleep(pause) => {}
        }
    }

    /// Where rows move all the time, passes take a quarter of it at most: what comes meanwhile is decided together.
    async fn rest(&self, leader: &Leader) {
        let left = leader.rests_until.saturating_sub(self.parts.runtime.monotonic());
        if !left.is_zero() {
            self.parts.runtime.sleep(left).await;
        }
    }

    /// Reads, decides, writes, and asks the driver.
    async fn pass(&self, leader: &mut Leader) -> Next {
        let limits = &self.parts.limits;
        while let Ok(event) = leader.events.try_recv() {
            self.fold(leader, event);
        }
        self.list(leader);
        let snapshot = match self.within(limits.rows_deadline, self.parts.rows.snapshot(limits.queue)).await {
            Some(Ok(snapshot)) => snapshot,
            Some(Err(error)) => return away(&error),
            None => return Next::Away,
        };
        // By a clock that was set, nodes that were heard a moment ago have been silent for hours. It may be set while rows are read, so
        // what follows goes by the moment that was looked at here.
        let moment = self.moment();
        if let Some(by) = std::mem::replace(&mut leader.moment, moment).set_by(moment) {
            return Next::Anew(by);
        }
        let now = moment.wall;
        leader.memory.read(&snapshot, now);
        let plan = decide(&World::new(&snapshot, &leader.memory, now, limits, &self.catalog), &*self.parts.entropy);
        if plan.reasons != leader.reasons {
            for reason in &plan.reasons {
                tracing::debug!("{reason}");
            }
            tell_waiting(&plan.reasons);
            leader.reasons.clone_from(&plan.reasons);
        }
        leader.takes_jobs = plan.takes_jobs;
        let mut all = true;
        if !plan.groups.is_empty() {
            match self.write(leader, &plan, now).await {
                Ok(written) => all = written == plan.groups.len(),
                Err(next) => return next,
            }
        }
        self.ask_driver(leader, plan.effects);
        // What is cut off a plan, and what follows from it, is decided from the rows as they are then.
        if !all || !plan.groups.is_empty() && plan.goes_on { Next::Again } else { Next::Wait(plan.look_again) }
    }

    /// Writes a plan's changes, as far as they fit into one commit; answers how many groups did. An error says what follows
    /// instead of going on.
    async fn write(&self, leader: &mut Leader, plan: &Plan, now: Timestamp) -> Result<usize, Next> {
        let mut changes = Vec::new();
        let mut taken = 0;
        for group in &plan.groups {
            if !changes.is_empty() && changes.len() + group.changes.len() > self.parts.limits.changes {
                break;
            }
            changes.extend(group.changes.iter().cloned());
            taken += 1;
        }
        match self.apply(leader, &changes).await {
            Ok(Applied::All) => {
                leader.refused = 0;
                for group in plan.groups.iter().take(taken) {
                    leader.memory.took(group.about);
                }
                self.written(leader, &changes);
                plan.losses.iter().for_each(|cluster| leader.memory.lost(*cluster, now));
                Ok(taken)
            }
            Ok(Applied::LeaseLost) => Err(Next::Lost),
            Ok(Applied::Stale) => {
                leader.refused += 1;
                if leader.refused >= REFUSALS {
                    self.write_each(leader, plan, now).await?;
                }
                Err(Next::Again)
            }
            Err(error) if is_away(&error) => Err(away(&error)),
            Err(error) => {
                tracing::error!(error = %error, cause = ?error.context().map(ToString::to_string), "changes were refused");
                self.write_each(leader, plan, now).await?;
                Err(Next::Again)
            }
        }
    }

    /// Writes one resource's changes at a time: what cannot be written puts its resource aside, the others go on.
    async fn write_each(&self, leader: &mut Leader, plan: &Plan, now: Timestamp) -> Result<(), Next> {
        leader.refused = 0;
        for group in &plan.groups {
            let refusal = match self.apply(leader, &group.changes).await {
                Ok(Applied::All) => {
                    leader.memory.took(group.about);
                    self.written(leader, &group.changes);
                    continue;
                }
                Ok(Applied::LeaseLost) => return Err(Next::Lost),
                Ok(Applied::Stale) => "its rows had moved on".to_owned(),
                Err(error) if is_away(&error) => return Err(away(&error)),
                Err(error) => error.to_string(),
            };
            let tries = leader.memory.put_aside(group.about, now, &self.parts.limits);
            match tries {
                0 => tracing::debug!(resource.uid = %group.about, refusal, "a resource's changes were refused"),
                1..LOUD => tracing::warn!(resource.uid = %group.about, tries, refusal, "a resource is put aside for a while"),
                _ => {
                    tracing::error!(resource.uid = %group.about, tries, refusal, "a resource's changes are refused again and again")
                }
            }
        }
        Ok(())
    }

    async fn apply(&self, leader: &Leader, changes: &[Change]) -> Result<Applied, Error> {
        match self.within(self.parts.limits.rows_deadline, self.parts.rows.apply(&leader.held.lease, changes)).await {
            Some(result) => result,
            None => Err(Error::unavailable("the commit did not answer in time; its outcome is unknown")),
        }
    }

    /// Changes are committed: agents are woken, and what waited for the commit is forgotten.
    fn written(&self, leader: &mut Leader, changes: &[Change]) {
        for change in changes {
            if let Change::MachineNotMade { uid, .. } = change {
                leader.memory.failure_recorded(*uid);
            }
        }
        self.parts.wake.changed(Topic::Desired);
    }

    /// Sends out as many calls as may be under way at once. What does not fit is decided again in a later pass.
    fn ask_driver(&self, leader: &mut Leader, mut effects: Vec<Effect>) {
        if effects.is_empty() || !leader.held.may_act(self.parts.runtime.monotonic(), &self.parts.limits) {
            return;
        }
        // Deleting first: it frees what making needs.
        effects.sort_by_key(|effect| matches!(effect, Effect::Ensure(_)));
        for effect in effects {
            if leader.memory.calls() >= self.parts.limits.effects {
                break;
            }
            let uid = effect.uid();
            if leader.memory.is_in_flight(uid) {
                continue;
            }
            leader.memory.call_begins(uid);
            let (driver, report, runtime) = (self.parts.driver.clone(), leader.report.clone(), self.parts.runtime.clone());
            let deadline = self.parts.limits.effect_deadline;
            let call = async move {
                let acting = AssertUnwindSafe(act::act(&*driver, &effect)).catch_unwind();
                let answer = match select(Box::pin(acting), runtime.sleep(deadline)).await {
                    Either::Left((Ok(answer), _)) => answer,
                    Either::Left((Err(_), _)) | Either::Right(_) => act::no_answer(&effect),
                };
                // A leader that is gone does not listen.
                let _ = report.send(Event::Called { uid, answer });
            };
            self.parts.runtime.spawn("driver call", Box::pin(call));
        }
    }

    /// Starts a listing of the driver's machines where one is due.
    fn list(&self, leader: &mut Leader) {
        if leader.listing || self.parts.runtime.monotonic() < leader.list_at {
            return;
        }
        leader.listing = true;
        let began = leader.memory.listing_begins();
        let (driver, report, runtime) = (self.parts.driver.clone(), leader.report.clone(), self.parts.runtime.clone());
        let deadline = self.parts.limits.effect_deadline;
        let call = async move {
            let listing = AssertUnwindSafe(driver.list()).catch_unwind();
            let machines = match select(Box::pin(listing), runtime.sleep(deadline)).await {
                Either::Left((Ok(Ok(machines)), _)) => Some(machines),
                Either::Left((Ok(Err(error)), _)) => {
                    tracing::warn!(error = %error.chain(), "machines cannot be listed; nothing is known of them");
                    None
                }
                Either::Left((Err(_), _)) | Either::Right(_) => {
                    tracing::warn!("listing machines did not end; nothing is known of them");
                    None
                }
            };
            let _ = report.send(Event::Listed { began, machines });
        };
        self.parts.runtime.spawn("driver listing", Box::pin(call));
    }

    /// Takes in what a call of the driver brought.
    fn fold(&self, leader: &mut Leader, event: Event) {
        let (limits, now) = (&self.parts.limits, self.parts.runtime.monotonic());
        let at = leader.moment.later(now);
        match event {
            Event::Called { uid, answer } => {
                if matches!(answer, Answer::NotMade(_) | Answer::NotDeleted) {
                    leader.list_at = leader.list_at.min(now + limits.list_gap);
                }
                leader.memory.call_ended(uid, answer, at, limits);
            }
            Event::Listed { began, machines } => {
                leader.listing = false;
                leader.list_at = now + limits.list_every;
                if let Some(machines) = machines {
                    leader.memory.listed(began, machines, at, limits);
                }
            }
        }
    }

    /// The future's result, or `None` where it did not come within `time`.
    async fn within<T>(&self, time: Duration, future: impl Future<Output = T>) -> Option<T> {
        match select(std::pin::pin!(future), self.parts.runtime.sleep(time)).await {
            Either::Left((result, _)) => Some(result),
            Either::Right(_) => None,
        }
    }
}

/// What came of a pass, in one word.
fn result<P>(next: &Result<Next, P>) -> &'static str {
    match next {
        Ok(Next::Again | Next::Wait(_)) => "done",
        Ok(Next::Anew(_)) => "clock_set",
        Ok(Next::Away) => "database_away",
        Ok(Next::Lost) => "lease_lost",
        Err(_) => "panicked",
    }
}

fn tell_leader(leads: bool) {
    telemetry::leads(leads);
    // Whoever leads knows what waits.
    tell_waiting(&[]);
}

fn tell_waiting(reasons: &[Reason]) {
    for &cause in Reason::CAUSES {
        telemetry::waiting(cause, reasons.iter().filter(|reason| reason.cause() == cause).count());
    }
}

fn is_away(error: &Error) -> bool {
    error.code == ErrorCode::ServiceUnavailable
}

fn away(error: &Error) -> Next {
    tracing::debug!(error = %error, "the rows are away");
    Next::Away
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_known_from_one_that_goes() {
        let at = |wall: i64, monotonic: u64| Moment {
            wall: Timestamp::UNIX_EPOCH + time::Duration::seconds(wall),
            monotonic: Duration::from_secs(monotonic),
        };
        let set_by = |from: Moment, to: Moment| from.set_by(to).map(time::Duration::whole_seconds);
        assert_eq!(set_by(at(1_000, 10), at(1_000, 10)), None);
        assert_eq!(set_by(at(1_000, 10), at(4_600, 3_610)), None, "nothing was looked at for an hour");
        assert_eq!(set_by(at(1_000, 10), at(1_004, 11)), None, "it is brought nearer to the right time");
        assert_eq!(set_by(at(1_000, 10), at(4_600, 11)), Some(3_599), "forward");
        assert_eq!(set_by(at(4_600, 10), at(1_000, 11)), Some(-3_601), "back");
        assert_eq!(set_by(at(1_000, 10), at(4_600, 10)), Some(3_600), "while the host was asleep");
    }
}
