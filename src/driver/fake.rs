//! A cloud in memory, with time, quota, capacity, deaths and requests that take effect late: for tests and the simulation.
//!
//! In: what any driver is asked, and from tests what befalls machines. Out: what any driver tells, and to tests the truth. Time is
//! a clock's; nothing waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, Timestamp};
use crate::domain::machine::{MachineSpec, Observed, Presence, Size};
use crate::driver::{Capabilities, Driver, DriverError, LONGEST_BOOT, Listing};

/// What a fake cloud is like.
#[derive(Clone, Debug)]
pub struct FakeSettings {
    /// Machines that it has room for.
    pub capacity: usize,
    /// Time from a request to a machine that is on.
    pub boot: Duration,
    /// Sizes that it offers.
    pub sizes: Vec<Size>,
}

impl Default for FakeSettings {
    fn default() -> Self {
        let size = |name: &str, cores, memory_mib| Size { name: name.into(), cores, memory_mib, gpus: 0 };
        FakeSettings {
            capacity: usize::MAX,
            boot: Duration::ZERO,
            sizes: vec![size("LOCAL", 1, 1024), size("STANDARD_D1", 1, 3584)],
        }
    }
}

/// A machine as it truly is.
#[derive(Clone, Debug)]
pub struct FakeMachine {
    /// What was asked for.
    pub spec: MachineSpec,
    /// Differs for each machine that was ever made, also of one name.
    pub incarnation: u64,
    /// Its address.
    pub address: String,
    /// From when on it is on.
    pub on_at: Timestamp,
    /// Whether it died; what is left of it is still listed.
    pub dead: bool,
    /// When it is taken away, or was.
    pub evict_at: Option<Timestamp>,
}

impl FakeMachine {
    /// Whether it was taken away by `now`.
    fn is_taken(&self, now: Timestamp) -> bool {
        self.evict_at.is_some_and(|at| at <= now)
    }
}

/// A cloud in memory.
pub struct Fake {
    clock: Arc<dyn Clock>,
    settings: FakeSettings,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    machines: BTreeMap<String, FakeMachine>,
    made: u64,
    late: Vec<(Timestamp, Late)>,
    capacity: Option<usize>,
    problem: Option<String>,
}

enum Late {
    Ensure(Box<MachineSpec>),
    Delete(String),
}

impl Fake {
    /// A cloud without machines.
    pub fn new(clock: Arc<dyn Clock>, settings: FakeSettings) -> Fake {
        Fake { clock, settings, state: Mutex::default(), changes: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        while let Some(due) = state.late.iter().position(|(at, _)| *at <= now) {
            match state.late.remove(due).1 {
                Late::Ensure(spec) => {
                    // Nobody is there to hear a refusal.
                    let _ = self.make(&mut state, &spec);
                }
                Late::Delete(name) => {
                    state.machines.remove(&name);
                }
            }
        }
        state
    }

    fn make(&self, state: &mut State, spec: &MachineSpec) -> Result<Observed, DriverError> {
        if let Some(machine) = state.machines.get(&spec.name) {
            return Ok(self.observe(machine));
        }
        if let Some(problem) = &state.problem {
            return Err(DriverError::Permanent(problem.clone().into()));
        }
        if state.machines.len() >= state.capacity.unwrap_or(self.settings.capacity) {
            return Err(DriverError::Quota(format!("there is room for {} machines", state.machines.len()).into()));
        }
        if !self.settings.sizes.contains(&spec.size) {
            return Err(DriverError::Permanent(format!("there is no size {}", spec.size.name).into()));
        }
        state.made += 1;
        let number = state.made;
        let machine = FakeMachine {
            spec: spec.clone(),
            incarnation: number,
            address: format!("10.{}.{}.{}", (number >> 16) & 255, (number >> 8) & 255, number & 255),
            on_at: self.clock.now() + self.settings.boot,
            dead: false,
            evict_at: None,
        };
        let seen = self.observe(&machine);
        state.machines.insert(spec.name.clone(), machine);
        self.changes.send_modify(|n| *n += 1);
        Ok(seen)
    }

    fn observe(&self, machine: &FakeMachine) -> Observed {
        let presence = if machine.dead || machine.is_taken(self.clock.now()) {
            Presence::Absent
        } else if machine.on_at <= self.clock.now() {
            Presence::Present
        } else {
            Presence::Unknown
        };
        Observed {
            evict_at: machine.evict_at,
            ..Observed::new(machine.spec.name.clone(), presence, Some(machine.address.clone()))
        }
    }

    /// All machines as they truly are, by name, dead ones too.
    pub fn machines(&self) -> Vec<FakeMachine> {
        self.state().machines.values().cloned().collect()
    }

    /// A machine that is on.
    pub fn find_alive(&self, name: &str) -> Option<FakeMachine> {
        let now = self.clock.now();
        self.state().machines.get(name).filter(|machine| !machine.dead && !machine.is_taken(now) && machine.on_at <= now).cloned()
    }

    /// A machine dies; what is left of it is listed as absent until it is deleted.
    pub fn kill(&self, name: &str) {
        if let Some(machine) = self.state().machines.get_mut(name) {
            machine.dead = true;
        }
        self.changes.send_modify(|n| *n += 1);
    }

    /// The cloud takes a machine away at `at`, and says so from now on; what is left of it is listed as absent from then on.
    pub fn evict(&self, name: &str, at: Timestamp) {
        if let Some(machine) = self.state().machines.get_mut(name) {
            machine.evict_at = Some(machine.evict_at.map_or(at, |before| before.min(at)));
        }
        self.changes.send_modify(|n| *n += 1);
    }

    /// A machine vanishes with all that it was.
    pub fn vanish(&self, name: &str) {
        self.state().machines.remove(name);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Room for machines from now on; `None` for what the settings say.
    pub fn set_capacity(&self, capacity: Option<usize>) {
        self.state().capacity = capacity;
    }

    /// Refuses to make any machine with a lasting fault of this text, until `None`.
    pub fn set_problem(&self, problem: Option<String>) {
        self.state().problem = problem;
    }

    /// A request to make a machine takes effect at `at`, whoever asked being long gone.
    pub fn ensure_late(&self, spec: &MachineSpec, at: Timestamp) {
        self.state().late.push((at, Late::Ensure(Box::new(spec.clone()))));
    }

    /// A request to unmake a machine takes effect at `at`.
    pub fn delete_late(&self, name: &str, at: Timestamp) {
        self.state().late.push((at, Late::Delete(name.to_owned())));
    }

    /// Whether requests are still to take effect.
    pub fn has_late(&self) -> bool {
        !self.state().late.is_empty()
    }
}

#[async_trait::async_trait]
impl Driver for Fake {
    async fn ensure(&self, spec: &MachineSpec) -> Result<Observed, DriverError> {
        self.make(&mut self.state(), spec)
    }

    async fn list(&self) -> Result<Listing, DriverError> {
        Ok(self.state().machines.values().map(|machine| self.observe(machine)).collect::<Vec<_>>().into())
    }

    async fn delete(&self, name: &str) -> Result<(), DriverError> {
        self.state().machines.remove(name);
        self.changes.send_modify(|n| *n += 1);
        Ok(())
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.changes.subscribe())
    }

    fn sizes(&self) -> &[Size] {
        &self.settings.sizes
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "fake",
            isolation: "simulated".into(),
            share: false,
            file_servers: false,
            fence: None,
            longest_boot: LONGEST_BOOT,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use uuid::Uuid;

    use super::*;
    use crate::clock::ManualClock;
    use crate::domain::machine::Bootstrap;
    use crate::driver::conformance::Trial;
    use crate::driver::faulty::{Call, Faulty, Script, ScriptedFault};
    use crate::id::{MachineUid, ResourceUid};

    fn spec(n: u128) -> MachineSpec {
        MachineSpec {
            uid: MachineUid(Uuid::from_u128(n)),
            name: format!("t-{}", Uuid::from_u128(n).simple()),
            node_id: format!("tvm-{n}"),
            size: FakeSettings::default().sizes.remove(0),
            cluster: ResourceUid(Uuid::from_u128(9)),
            admin_user: "user".into(),
            role: Default::default(),
            bootstrap: Bootstrap { join_token: "token".into() },
        }
    }

    fn fake() -> (Arc<ManualClock>, Fake) {
        let clock = Arc::new(ManualClock::new(time::macros::datetime!(2026-11-01 00:00 UTC)));
        let settings = FakeSettings { capacity: 1, boot: Duration::from_secs(5), ..FakeSettings::default() };
        (clock.clone(), Fake::new(clock, settings))
    }

    #[tokio::test]
    async fn has_time_and_room() {
        let (clock, fake) = fake();
        assert_eq!(fake.ensure(&spec(1)).await.expect("room").presence, Presence::Unknown);
        assert!(matches!(fake.ensure(&spec(2)).await, Err(DriverError::Quota(_))));
        clock.advance(Duration::from_secs(5));
        assert_eq!(fake.list().await.expect("lists").machines[0].presence, Presence::Present);
        fake.kill(&spec(1).name);
        assert_eq!(fake.list().await.expect("lists").machines[0].presence, Presence::Absent);
        fake.delete(&spec(1).name).await.expect("deletes");
        fake.ensure(&spec(2)).await.expect("room again");
    }

    async fn conforms(driver: &dyn Driver) -> Result<(), String> {
        let number = AtomicU64::new(1);
        let next = || spec(number.fetch_add(1, Ordering::Relaxed).into());
        let large = MachineSpec { size: Size { name: "LARGE".into(), cores: 64, memory_mib: 1 << 20, gpus: 0 }, ..next() };
        // Nothing of it would outlive a server.
        let trial = Trial { driver, successor: driver, spec: &next, beyond: vec![large], deadline: Duration::from_secs(30) };
        crate::driver::conformance::check(&trial).await
    }

    #[tokio::test]
    async fn keeps_what_every_driver_must_keep() {
        let clock = Arc::new(ManualClock::new(time::macros::datetime!(2026-11-01 00:00 UTC)));
        let fake = Arc::new(Fake::new(clock, FakeSettings::default()));
        conforms(&*fake).await.expect("the fake conforms");
        let faulty = Faulty::new(fake.clone(), Arc::new(Script::default()));
        conforms(&faulty).await.expect("so does one without faults");
        // What breaks a rule is found.
        let faulty = Faulty::new(fake.clone(), Arc::new(Script::new([ScriptedFault::None, ScriptedFault::Before])));
        assert!(conforms(&faulty).await.is_err_and(|broken| broken.starts_with("deleting what never was")));
        fake.set_capacity(Some(0));
        assert!(conforms(&*fake).await.is_err_and(|broken| broken.starts_with("making: the quota")));
    }

    #[tokio::test]
    async fn an_eviction_is_told_before_it_happens() {
        let (clock, fake) = fake();
        fake.ensure(&spec(1)).await.expect("room");
        clock.advance(Duration::from_secs(5));
        let at = clock.now() + Duration::from_secs(30);
        fake.evict(&spec(1).name, at);
        let seen = |fake: &Fake| fake.observe(&fake.machines()[0]);
        assert_eq!((seen(&fake).presence, seen(&fake).evict_at), (Presence::Present, Some(at)));
        clock.advance(Duration::from_secs(30));
        assert_eq!((seen(&fake).presence, seen(&fake).evict_at), (Presence::Absent, Some(at)));
        assert!(fake.find_alive(&spec(1).name).is_none());
    }

    #[tokio::test]
    async fn a_late_request_takes_effect_without_its_caller() {
        let (clock, fake) = fake();
        fake.ensure_late(&spec(1), clock.now() + Duration::from_secs(9));
        assert!(fake.machines().is_empty() && fake.has_late());
        clock.advance(Duration::from_secs(9));
        assert_eq!(fake.machines().len(), 1);
        assert!(!fake.has_late());
    }

    #[tokio::test]
    async fn scripted_faults_strike_before_and_after_the_effect() {
        let (_, fake) = fake();
        let script = Script::new([ScriptedFault::Before, ScriptedFault::After, ScriptedFault::Blind, ScriptedFault::None]);
        let faulty = Faulty::new(Arc::new(fake), Arc::new(script));
        assert!(faulty.ensure(&spec(1)).await.is_err());
        assert!(faulty.inner().machines().is_empty());
        assert!(faulty.ensure(&spec(1)).await.is_err());
        assert_eq!(faulty.inner().machines().len(), 1);
        assert_eq!(faulty.list().await.expect("lists").machines[0].presence, Presence::Unknown);
        assert_eq!(faulty.list().await.expect("lists").machines.len(), 1);
        assert_eq!(Call::List.name(), None);
    }
}
