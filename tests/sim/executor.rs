//! Polls tasks one at a time in an order drawn from the seed. Time stands still while a task is ready and jumps to the next timer
//! when none is. Tasks belong to hosts: a host is killed by dropping its tasks wherever they wait, and held by not polling them.

use std::collections::{BTreeMap, BinaryHeap};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::rng::Rng;

/// Which host a task belongs to: 0 is the world itself, others are servers, one number for each life of one.
pub(crate) type Host = u32;

/// The world's own tasks: agents, users, chaos.
pub(crate) const WORLD: Host = 0;

/// What tasks may ask of the executor. Shared by all.
pub(crate) struct Shared {
    now_ms: AtomicU64,
    pub(crate) rng: Mutex<Rng>,
    timers: Mutex<BinaryHeap<Timer>>,
    timer_ids: AtomicU64,
    spawned: Mutex<Vec<(Host, BoxFuture<'static, ()>)>>,
    orders: Mutex<BTreeMap<Host, Order>>,
    clocks: Mutex<BTreeMap<Host, i64>>,
}

/// What is to befall a host after some more of its polls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// All its tasks are dropped where they wait.
    Kill { after_polls: u32 },
    /// None of its tasks is polled for a while.
    Hold { after_polls: u32, time: Duration },
    /// Its wall clock is set to be so far ahead of the true time; negative for behind.
    SetClock { after_polls: u32, ahead_ms: i64 },
}

struct Timer {
    at_ms: u64,
    id: u64,
    waker: Waker,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ms, self.id) == (other.at_ms, other.id)
    }
}
impl Eq for Timer {}
impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at_ms, other.id).cmp(&(self.at_ms, self.id))
    }
}

impl Shared {
    pub(crate) fn new(seed: u64) -> Arc<Shared> {
        Arc::new(Shared {
            now_ms: AtomicU64::new(0),
            rng: Mutex::new(Rng::new(seed)),
            timers: Mutex::default(),
            timer_ids: AtomicU64::new(0),
            spawned: Mutex::default(),
            orders: Mutex::default(),
            clocks: Mutex::default(),
        })
    }

    /// Time since the run began.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn spawn(&self, host: Host, task: impl Future<Output = ()> + Send + 'static) {
        self.spawned.lock().unwrap().push((host, Box::pin(task)));
    }

    pub(crate) fn order(&self, host: Host, order: Order) {
        self.orders.lock().unwrap().insert(host, order);
    }

    /// Sets a host's wall clock.
    pub(crate) fn set_clock(&self, host: Host, ahead_ms: i64) {
        self.clocks.lock().unwrap().insert(host, ahead_ms);
    }

    /// How far a host's wall clock is ahead of the true time; negative where it is behind.
    pub(crate) fn ahead_ms(&self, host: Host) -> i64 {
        self.clocks.lock().unwrap().get(&host).copied().unwrap_or(0)
    }

    pub(crate) fn sleep_ms(self: &Arc<Self>, ms: u64) -> Sleep {
        Sleep { shared: self.clone(), at_ms: self.now_ms() + ms, registered: false }
    }

    /// Lets others go first.
    pub(crate) fn yield_now(&self) -> Yield {
        Yield(false)
    }

    pub(crate) fn below(&self, n: u64) -> u64 {
        self.rng.lock().unwrap().below(n)
    }

    pub(crate) fn between(&self, from: u64, to: u64) -> u64 {
        self.rng.lock().unwrap().between(from, to)
    }

    pub(crate) fn chance(&self, per_mille: u64) -> bool {
        per_mille > 0 && self.rng.lock().unwrap().chance(per_mille)
    }
}

/// Ends at its time.
pub(crate) struct Sleep {
    shared: Arc<Shared>,
    at_ms: u64,
    registered: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.now_ms() >= self.at_ms {
            return Poll::Ready(());
        }
        if !self.registered {
            let id = self.shared.timer_ids.fetch_add(1, Ordering::Relaxed);
            let timer = Timer { at_ms: self.at_ms, id, waker: context.waker().clone() };
            self.shared.timers.lock().unwrap().push(timer);
            self.registered = true;
        }
        Poll::Pending
    }
}

/// Waits once.
pub(crate) struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    host: Host,
    future: BoxFuture<'static, ()>,
    ready: Arc<Flag>,
    waker: Waker,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Befell {
    Killed(Host),
    Held(Host),
    ClockSet(Host, i64),
}

/// All tasks of a run.
pub(crate) struct Executor {
    pub(crate) shared: Arc<Shared>,
    tasks: Vec<Task>,
    held: BTreeMap<Host, u64>,
    /// Polls so far.
    pub(crate) steps: u64,
    /// What befell hosts since it was last taken.
    pub(crate) befell: Vec<Befell>,
}

impl Executor {
    pub(crate) fn new(shared: Arc<Shared>) -> Executor {
        Executor { shared, tasks: Vec::new(), held: BTreeMap::new(), steps: 0, befell: Vec::new() }
    }

    /// Lets all held hosts go on.
    pub(crate) fn release_all(&mut self) {
        self.held.clear();
        self.shared.orders.lock().unwrap().clear();
    }

    /// Drops all tasks of a host.
    pub(crate) fn kill(&mut self, host: Host) {
        self.tasks.retain(|task| task.host != host);
        self.shared.spawned.lock().unwrap().retain(|(of, _)| *of != host);
        self.held.remove(&host);
    }

    /// Polls one task, or moves time on. `false` where nothing is left that could ever happen, or nothing before `until_ms`.
    pub(crate) fn step(&mut self, until_ms: u64) -> bool {
        for (host, future) in std::mem::take(&mut *self.shared.spawned.lock().unwrap()) {
            let ready = Arc::new(Flag(AtomicBool::new(true)));
            let waker = Waker::from(ready.clone());
            self.tasks.push(Task { host, future, ready, waker });
        }
        let now = self.shared.now_ms();
        self.held.retain(|_, until| *until > now);
        let held = &self.held;
        let is_ready = |task: &Task| task.ready.0.load(Ordering::Relaxed) && !held.contains_key(&task.host);
        let ready = self.tasks.iter().filter(|task| is_ready(task)).count();
        if ready == 0 {
            return self.advance(until_ms);
        }
        let pick = usize::try_from(self.shared.below(ready as u64)).unwrap();
        let index = self.tasks.iter().enumerate().filter(|(_, task)| is_ready(task)).nth(pick).map(|(index, _)| index).unwrap();
        let task = &mut self.tasks[index];
        let host = task.host;
        task.ready.0.store(false, Ordering::Relaxed);
        self.steps += 1;
        let waker = task.waker.clone();
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(self.tasks.remove(index));
        }
        self.carry_out(host);
        true
    }

    fn carry_out(&mut self, host: Host) {
        let mut orders = self.shared.orders.lock().unwrap();
        let Some(order) = orders.get_mut(&host) else { return };
        match order {
            Order::Kill { after_polls: 0 } => {
                orders.remove(&host);
                drop(orders);
                self.kill(host);
                self.befell.push(Befell::Killed(host));
            }
            Order::Hold { after_polls: 0, time } => {
                let until = self.shared.now_ms() + time.as_millis() as u64;
                orders.remove(&host);
                self.held.insert(host, until);
                self.befell.push(Befell::Held(host));
            }
            Order::SetClock { after_polls: 0, ahead_ms } => {
                self.shared.set_clock(host, *ahead_ms);
                self.befell.push(Befell::ClockSet(host, *ahead_ms));
                orders.remove(&host);
            }
            Order::Kill { after_polls } | Order::Hold { after_polls, .. } | Order::SetClock { after_polls, .. } => {
                *after_polls -= 1
            }
        }
    }

    fn advance(&mut self, until_ms: u64) -> bool {
        let mut timers = self.shared.timers.lock().unwrap();
        let next = timers.peek().map(|timer| timer.at_ms).into_iter().chain(self.held.values().copied()).min();
        let Some(next) = next.filter(|at| *at <= until_ms) else {
            self.shared.now_ms.store(until_ms, Ordering::Relaxed);
            return false;
        };
        self.shared.now_ms.store(next.max(self.shared.now_ms()), Ordering::Relaxed);
        while timers.peek().is_some_and(|timer| timer.at_ms <= next) {
            if let Some(timer) = timers.pop() {
                timer.waker.wake();
            }
        }
        true
    }
}
