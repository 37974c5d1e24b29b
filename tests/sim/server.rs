//! A server: the real reconciler on a host that may be killed or held, its store and its driver seen through faults.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use batchyard::domain::machine::{MachineSpec, Observed, Presence, Size};
use batchyard::domain::snapshot::{Change, Snapshot};
use batchyard::driver::faulty::{Call, Faults, Faulty};
use batchyard::driver::{Capabilities, Driver, DriverError, Listing};
use batchyard::error::{Error, ErrorCode};
use batchyard::reconcile::{Entropy, Limits, Parts, Reconciler, Runtime};
use batchyard::store::{Applied, Lease, Rows};
use batchyard::wake::Wake;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::executor::{Host, Shared};
use crate::model::Commit;
use crate::world::{Canary, World};

/// Patience and pauses, short enough that a run of a minute sees them end.
pub(crate) fn limits() -> Limits {
    Limits {
        queue: 3,
        changes: 12,
        ask: 3,
        effects: 4,
        platform_retries: 1,
        boot_deadline: Duration::from_secs(15),
        stop_patience: Duration::from_secs(4),
        silence: Duration::from_secs(4),
        deaf_patience: Duration::from_secs(12),
        scale_down_after: Duration::from_secs(3),
        unusable_for: Duration::from_secs(2),
        repair_pause: Duration::from_millis(500),
        stranger_grace: Duration::from_secs(2),
        retry_first: Duration::from_millis(200),
        retry_most: Duration::from_secs(5),
        quota_retry: Duration::from_secs(2),
        effect_deadline: Duration::from_secs(3),
        rows_deadline: Duration::from_secs(2),
        ..Limits::default()
    }
}

/// How long a node hears no server before it ends what runs on it, where nodes do that.
pub(crate) const FENCE: Duration = Duration::from_secs(4);

/// When a node that was not heard has surely done so: for what takes a moment, and for rows that were read a while ago.
const FENCED_AFTER: Duration = Duration::from_secs(7);

/// Starts a server's life on `host`.
pub(crate) fn start(world: &Arc<World>, host: Host, shutdown: CancellationToken) {
    let wake = Wake::default();
    world.state().servers.insert(host, wake.clone());
    if world.mix.clocks && world.shared.chance(500) {
        world.shared.set_clock(host, world.draw_clock());
    }
    world.log(|| format!("server {host} starts, its clock {} ms ahead", world.shared.ahead_ms(host)));
    let seen = Arc::new(Seen { world: world.clone(), host, listings: AtomicU64::new(0), before: Mutex::default() });
    let parts = Parts {
        rows: Arc::new(ModelRows { world: world.clone(), host }),
        driver: Arc::new(Watched { inner: Faulty::new(world.fake.clone(), seen.clone()), seen }),
        clock: world.clock_of(host),
        wake,
        limits: Limits { fenced_after: world.mix.fence.then_some(FENCED_AFTER), ..limits() },
        prefix: "by".into(),
        holder: Uuid::from_u128(u128::from(host)),
        entropy: Arc::new(SimEntropy { shared: world.shared.clone(), repeats: world.canary == Some(Canary::NameReuse) }),
        runtime: Arc::new(HostRuntime {
            world: world.clone(),
            host,
            no_tick: world.canary == Some(Canary::NoTick),
            is_set: world.canary == Some(Canary::SetMonotonic),
            sleeps: AtomicU64::new(0),
        }),
    };
    let world_of_task = world.clone();
    world.shared.spawn(host, async move {
        Reconciler::new(parts).run(shutdown).await;
        world_of_task.state().servers.remove(&host);
        world_of_task.sometimes("a server stopped in order");
    });
}

struct HostRuntime {
    world: Arc<World>,
    host: Host,
    no_tick: bool,
    is_set: bool,
    sleeps: AtomicU64,
}

impl Runtime for HostRuntime {
    fn spawn(&self, _: &'static str, mut task: BoxFuture<'static, ()>) {
        // A call is judged by what was known when it was decided, however late it is begun.
        let (world, host) = (self.world.clone(), self.host);
        let unseen = world.state().unseen_at_read.get(&host).cloned().unwrap_or_default();
        let judged = std::future::poll_fn(move |context| {
            world.state().unseen_of_call.insert(host, unseen.clone());
            task.as_mut().poll(context)
        });
        self.world.shared.spawn(self.host, judged);
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        // Only what is about as long as a tick is missed: deadlines of calls still come.
        if self.no_tick && time <= Duration::from_secs(1) && self.sleeps.fetch_add(1, Ordering::Relaxed) > 40 {
            return Box::pin(std::future::pending());
        }
        Box::pin(self.world.shared.sleep_ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4).max(1)))
    }

    fn monotonic(&self) -> Duration {
        let ahead_ms = if self.is_set { self.world.shared.ahead_ms(self.host) } else { 0 };
        // Far enough from zero that no clock comes before it.
        Duration::from_millis((4_000_000 + self.world.shared.now_ms()).saturating_add_signed(ahead_ms))
    }
}

struct SimEntropy {
    shared: Arc<Shared>,
    repeats: bool,
}

impl Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes.iter_mut() {
            *byte = if self.repeats { 7 } else { self.shared.below(256) as u8 };
        }
    }
}

struct ModelRows {
    world: Arc<World>,
    host: Host,
}

impl ModelRows {
    /// The way to the database or back: others go first, sometimes for long.
    async fn hop(&self) {
        self.world.shared.yield_now().await;
        if self.world.strikes(self.world.mix.slow) {
            let ms = self.world.shared.between(1, 400);
            self.world.shared.sleep_ms(ms).await;
        }
    }

    fn fails(&self) -> bool {
        self.world.state().rows_away || self.world.strikes(self.world.mix.rows_fail)
    }

    /// A call with its way there and back. `effect` happens at one moment in between.
    async fn call<T>(&self, effect: impl FnOnce(&World) -> Result<T, Error>) -> Result<T, Error> {
        self.hop().await;
        if self.fails() {
            return Err(Error::unavailable("the model is away"));
        }
        let result = effect(&self.world);
        self.hop().await;
        if self.fails() {
            return Err(Error::unavailable("the model's answer was lost"));
        }
        result
    }
}

#[async_trait::async_trait]
impl Rows for ModelRows {
    async fn take_lease(&self, name: &str, holder: Uuid, ttl: Duration) -> Result<Option<Lease>, Error> {
        let ttl = u64::try_from(ttl.as_millis()).unwrap();
        self.call(|world| {
            let now = world.shared.now_ms();
            let before = world.model().last_token;
            let lease = world.model().take_lease(name, holder, ttl, now);
            if let Some(lease) = &lease
                && lease.token != before
            {
                world.log(|| format!("server {} leads with token {}", self.host, lease.token));
                world.see(lease.token as u128);
            }
            Ok(lease)
        })
        .await
    }

    async fn release_lease(&self, lease: &Lease) -> Result<(), Error> {
        self.call(|world| {
            world.model().release_lease(lease);
            Ok(())
        })
        .await
    }

    async fn snapshot(&self, queue: u32) -> Result<Snapshot, Error> {
        {
            let mut state = self.world.state();
            let unseen = state.unseen.get(&self.host).cloned().unwrap_or_default();
            state.unseen_at_read.insert(self.host, unseen);
        }
        self.call(|world| Ok(world.model().snapshot(queue))).await
    }

    async fn apply(&self, lease: &Lease, changes: &[Change]) -> Result<Applied, Error> {
        let outcome = self
            .call(|world| {
                let commit = world.model().apply(lease, changes, world.shared.now_ms());
                match commit {
                    Commit::Applied(Applied::All) => {
                        world.log(|| {
                            format!("server {} commits {}", self.host, changes.iter().map(brief).collect::<Vec<_>>().join("; "))
                        });
                        world.committed(changes);
                        Ok(Applied::All)
                    }
                    Commit::Applied(refused) => {
                        world.sometimes(if refused == Applied::Stale { "a commit was stale" } else { "a commit was fenced" });
                        Ok(refused)
                    }
                    Commit::Broken => {
                        world.sometimes("a commit broke on a poisoned row");
                        Err(Error::new(ErrorCode::InternalServerError, "a constraint does not hold"))
                    }
                    Commit::Violation(rule) => {
                        world.violation(rule);
                        Err(Error::new(ErrorCode::InternalServerError, "a violation"))
                    }
                }
            })
            .await;
        if outcome.as_ref().is_err_and(|error| error.code == ErrorCode::ServiceUnavailable) {
            self.world.sometimes("a commit's outcome was unknown");
        }
        outcome
    }
}

/// A change in a few words.
fn brief(change: &Change) -> String {
    let text = format!("{change:?}");
    text.chars().take(260).collect()
}

/// Draws what befalls a driver call, and remembers what this server could not see.
struct Seen {
    world: Arc<World>,
    host: Host,
    /// Listings begun: one that another followed was asked for by a leader that is no more, and nobody hears it.
    listings: AtomicU64,
    /// The listing before the present one, for a canary.
    before: Mutex<Vec<Observed>>,
}

impl Seen {
    /// Nothing may be asked about a machine that could not be seen when the rows were read.
    fn check_seen(&self, call: Call<'_>) {
        let Some(name) = call.name() else { return };
        if self.world.state().unseen_of_call.get(&self.host).is_some_and(|unseen| unseen.contains(name)) {
            self.world.violation(format!("S10: {} of {name}, which could not be seen", word(call)));
        }
    }

    /// Rows come first: before a machine is made, and before it is deleted.
    fn check_row(&self, call: Call<'_>) {
        use batchyard::domain::machine::MachineState;
        let Some(name) = call.name() else { return };
        let state = self.world.model().machines.values().find(|node| node.row.name == name).map(|node| node.row.state);
        match (call, state) {
            (Call::Ensure(_), None) => self.world.violation(format!("S6: {name} is made without a row")),
            (Call::Delete(_), Some(state)) if !matches!(state, MachineState::Leaving | MachineState::Gone) => {
                self.world.violation(format!("S7: {name} is deleted while its row says {state:?}"));
            }
            (Call::Delete(_), Some(MachineState::Gone)) => self.world.sometimes("a stranger was swept"),
            _ => {}
        }
    }

    fn clear(&self, name: &str) {
        if let Some(unseen) = self.world.state().unseen.get_mut(&self.host) {
            unseen.remove(name);
        }
    }
}

fn word(call: Call<'_>) -> &'static str {
    match call {
        Call::Ensure(_) => "ensure",
        Call::List => "list",
        Call::Delete(_) => "delete",
    }
}

#[async_trait::async_trait]
impl Faults for Seen {
    async fn before(&self, call: Call<'_>) -> Option<DriverError> {
        self.check_seen(call);
        let world = &self.world;
        world.shared.yield_now().await;
        let slow = if world.strikes(world.mix.slow) { world.shared.between(1, 4_000) } else { world.shared.between(1, 60) };
        world.shared.sleep_ms(slow).await;
        if world.strikes(world.mix.late) {
            let at = world.now() + Duration::from_millis(world.shared.between(1, 8_000));
            match call {
                Call::Ensure(spec) => world.fake.ensure_late(spec, at),
                // A machine that nobody asked for again may go late; one that was made anew under its name does not exist.
                Call::Delete(name) => world.fake.delete_late(name, at),
                Call::List => {}
            }
            world.sometimes("a request took effect late");
            return Some(DriverError::Transient("no answer, but the request is on its way".into()));
        }
        if world.strikes(world.mix.driver_fail) {
            return Some(match world.shared.below(4) {
                0 => DriverError::Throttled(Duration::from_millis(700), "slowly".into()),
                1 => DriverError::Permanent("for good".into()),
                _ => DriverError::Transient("before the effect".into()),
            });
        }
        self.check_row(call);
        None
    }

    async fn after(&self, call: Call<'_>) -> Option<DriverError> {
        let world = &self.world;
        world.log(|| format!("server {} had the driver do {} {:?}", self.host, word(call), call.name()));
        if let Some(name) = call.name() {
            world.see(name.bytes().fold(0, |sum, byte| (sum << 5) ^ (sum >> 120) ^ u128::from(byte)));
        }
        world.shared.yield_now().await;
        if world.strikes(world.mix.slow) {
            world.shared.sleep_ms(world.shared.between(1, 2_000)).await;
        }
        world.strikes(world.mix.driver_fail).then(|| DriverError::Transient("after the effect".into()))
    }

    fn is_blind(&self, _: &str) -> bool {
        self.world.strikes(self.world.mix.blind)
    }
}

/// The faulty driver, with what its listings could not see written down, and the mistakes of some canaries.
struct Watched {
    inner: Faulty<batchyard::driver::fake::Fake>,
    seen: Arc<Seen>,
}

#[async_trait::async_trait]
impl Driver for Watched {
    async fn ensure(&self, spec: &MachineSpec) -> Result<Observed, DriverError> {
        let result = self.inner.ensure(spec).await;
        self.seen.clear(&spec.name);
        result
    }

    async fn list(&self) -> Result<Listing, DriverError> {
        let number = self.seen.listings.fetch_add(1, Ordering::Relaxed) + 1;
        let Listing { mut machines, is_partial } = self.inner.list().await?;
        let world = &self.seen.world;
        if self.seen.listings.load(Ordering::Relaxed) == number {
            let unseen =
                machines.iter().filter(|seen| seen.presence == Presence::Unknown).map(|seen| seen.name.clone()).collect();
            world.state().unseen.insert(self.seen.host, unseen);
        }
        match world.canary {
            Some(Canary::DeleteOnUnknown) => {
                for seen in machines.iter_mut().filter(|seen| seen.presence == Presence::Unknown) {
                    seen.presence = Presence::Absent;
                }
            }
            Some(Canary::RequeueOnSilence) => {
                let cut = world.state().cut.clone();
                machines.retain(|seen| !cut.contains(&seen.name));
            }
            Some(Canary::StaleListing) => {
                std::mem::swap(&mut machines, &mut self.seen.before.lock().unwrap());
            }
            _ => {}
        }
        Ok(Listing { machines, is_partial })
    }

    async fn delete(&self, name: &str) -> Result<(), DriverError> {
        if self.seen.world.canary == Some(Canary::DeletedTooEarly) {
            let world = &self.seen.world;
            world.fake.delete_late(name, world.now() + Duration::from_secs(5));
            return Ok(());
        }
        let uid = self.seen.world.model().machines.values().find(|node| node.row.name == name).map(|node| node.row.uid);
        self.seen.world.state().blamed.extend(uid);
        let result = self.inner.delete(name).await;
        self.seen.clear(name);
        result
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        if self.seen.world.mix.deaf { None } else { self.inner.changes() }
    }

    fn sizes(&self) -> &[Size] {
        self.inner.sizes()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
