//! Simulated nodes: an agent for each machine that is on, with a state that outlives it, on a network that loses, delays and
//! copies what is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use batchyard::domain::attempt::{AssignmentState, End};
use batchyard::domain::machine::Setup;
use batchyard::domain::report::{Report, Seen};
use batchyard::domain::resource::EntityError;
use batchyard::driver::fake::FakeMachine;
use batchyard::id::{AttemptUid, MachineUid};
use batchyard::wake::Topic;
use uuid::Uuid;

use crate::executor::WORLD;
use crate::model::{Desired, Step};
use crate::server::FENCE;
use crate::world::{Process, World};

/// What a machine keeps on its disk: it outlives the agent, not the machine.
struct Disk {
    setup: Setup,
    setup_ends_ms: u64,
    parts: BTreeMap<AttemptUid, Part>,
    /// Times that the machine started.
    boots: u32,
    /// When the last report was sent that was answered.
    renewed_ms: u64,
}

#[derive(Clone, Debug)]
struct Part {
    rank: i32,
    state: AssignmentState,
    end: Option<End>,
    prepared_ms: u64,
    preparation: i32,
    /// When its processes end, once they started.
    ends_ms: Option<u64>,
    code: i32,
    stopping_ms: Option<u64>,
    released: bool,
}

/// Starts an agent on every machine that comes on.
pub(crate) async fn inhabit(world: Arc<World>) {
    let mut inhabited = BTreeSet::new();
    loop {
        for machine in world.fake.machines() {
            if !machine.dead && machine.on_at <= world.now() && inhabited.insert(machine.incarnation) {
                world.shared.spawn(WORLD, live(world.clone(), machine));
            }
        }
        let pause = world.shared.between(100, 300);
        world.shared.sleep_ms(pause).await;
    }
}

fn is_on(world: &World, machine: &FakeMachine) -> bool {
    world.fake.find_alive(&machine.spec.name).is_some_and(|found| found.incarnation == machine.incarnation)
}

/// Whether the node and the servers cannot talk.
fn is_cut(world: &World, machine: &FakeMachine) -> bool {
    let state = world.state();
    state.cut.contains(&machine.spec.name) || state.rows_away
}

/// The life of one machine's agent, through all its restarts.
async fn live(world: Arc<World>, machine: FakeMachine) {
    let now = world.shared.now_ms();
    let disk = Arc::new(Mutex::new(Disk {
        setup: Setup::Pending,
        setup_ends_ms: now + world.shared.between(50, 1_500),
        parts: BTreeMap::new(),
        boots: 1,
        renewed_ms: now,
    }));
    let setup_fails = world.strikes(world.mix.setup_fails);
    let (mut joined, mut is_refused) = (None, false);
    let mut session = new_id(&world);
    let mut seq = 0;
    loop {
        let pause = world.shared.between(80, 700);
        world.shared.sleep_ms(pause).await;
        if !is_on(&world, &machine) {
            return;
        }
        if world.strikes(2) {
            // The agent's process dies and is started again; what runs goes on.
            session = new_id(&world);
            seq = 0;
            world.sometimes("an agent was restarted");
        }
        if world.strikes(2) {
            reboot(&world, &machine, &mut disk.lock().unwrap());
            session = new_id(&world);
            seq = 0;
        }
        if world.mix.fence && world.shared.now_ms() - disk.lock().unwrap().renewed_ms >= FENCE.as_millis() as u64 {
            fence(&world, &machine, &mut disk.lock().unwrap());
        }
        go_on(&world, &machine, &disk, setup_fails);
        if is_refused || is_cut(&world, &machine) {
            continue;
        }
        let Some(uid) = joined else {
            let at = world.time_of_any_server();
            let found = world.model().join(&machine.spec.name, &machine.spec.bootstrap.join_token, machine.incarnation, at);
            if found.is_none() && world.model().machines.values().all(|node| node.row.name != machine.spec.name) {
                world.violation("S6: a machine is there that never had a row");
            }
            if world.model().machines.values().any(|node| node.row.name == machine.spec.name && node.row.quarantined) {
                world.sometimes("a machine was quarantined");
            }
            // The answer may be lost: the same key may come again.
            if !world.strikes(world.mix.lose) {
                joined = found;
            }
            world.wake(Topic::Reconcile);
            continue;
        };
        seq += 1;
        if !report(&world, &machine, &disk, uid, session, seq).await {
            world.sometimes("an agent was refused");
            is_refused = true;
        }
    }
}

/// The machine starts again: nothing runs any more, and it is set up anew.
fn reboot(world: &World, machine: &FakeMachine, disk: &mut Disk) {
    let now = world.shared.now_ms();
    disk.boots += 1;
    disk.setup = Setup::Pending;
    disk.setup_ends_ms = now + world.shared.between(50, 1_500);
    for (attempt, part) in disk.parts.iter_mut().filter(|(_, part)| part.end.is_none() && part.state > AssignmentState::Assigned)
    {
        kill(world, machine, *attempt, now);
        part.state = AssignmentState::Ended;
        part.end = Some(End::Lost { why: "the machine started again".into() });
    }
    let uid = machine.spec.uid;
    world.state().blamed.insert(uid);
    world.log(|| format!("{} starts again", machine.spec.node_id));
    world.sometimes("a node was set up anew after a restart");
}

/// The node has heard no server for so long that another may have its job: nothing goes on.
fn fence(world: &World, machine: &FakeMachine, disk: &mut Disk) {
    let now = world.shared.now_ms();
    // Also where something ended before, of which nobody heard.
    world.state().blamed.insert(machine.spec.uid);
    for (attempt, part) in disk.parts.iter_mut().filter(|(_, part)| part.end.is_none()) {
        kill(world, machine, *attempt, now);
        part.state = AssignmentState::Ended;
        part.end = Some(End::Lost { why: "no server was heard".into() });
        world.log(|| format!("{} ends itself", machine.spec.node_id));
        world.sometimes("a node ended itself");
    }
}

fn new_id(world: &World) -> Uuid {
    Uuid::from_u128(u128::from(world.shared.below(u64::MAX)) << 64 | u128::from(world.shared.below(u64::MAX)))
}

/// Says what the disk says, and does as the answer says. `false` where the node is not wanted any more.
async fn report(
    world: &Arc<World>,
    machine: &FakeMachine,
    disk: &Arc<Mutex<Disk>>,
    uid: MachineUid,
    session: Uuid,
    seq: u64,
) -> bool {
    let sent_ms = world.shared.now_ms();
    let (setup, assignments) = {
        let disk = disk.lock().unwrap();
        let seen = |(attempt, part): (&AttemptUid, &Part)| Seen {
            attempt: *attempt,
            state: part.state,
            started_at: None,
            ended_at: None,
            end: part.end.clone(),
        };
        (disk.setup.clone(), disk.parts.iter().map(seen).collect::<Vec<_>>())
    };
    let boot = format!("boot-{}-{}", machine.incarnation, disk.lock().unwrap().boots);
    let is_lost = world.strikes(world.mix.lose);
    if world.strikes(world.mix.copy) {
        let (world, boot, setup, assignments) = (world.clone(), boot.clone(), setup.clone(), assignments.clone());
        let (key, late) = (machine.incarnation, world.shared.between(1, 20_000));
        world.clone().shared.spawn(WORLD, async move {
            world.shared.sleep_ms(late).await;
            let report = Report { session, seq, boot_id: &boot, setup: &setup, health: &[], assignments: &assignments };
            let at = world.time_of_any_server();
            let taken = world.model().sync(uid, key, &report, at);
            world.sometimes(if is_lost { "a report came late" } else { "a report came twice" });
            if taken.is_some_and(|(_, changed)| changed) {
                world.wake(Topic::Reconcile);
            }
        });
    }
    world.shared.yield_now().await;
    if is_lost {
        return true;
    }
    let answer = {
        let report = Report { session, seq, boot_id: &boot, setup: &setup, health: &[], assignments: &assignments };
        let at = world.time_of_any_server();
        world.model().sync(uid, machine.incarnation, &report, at)
    };
    let Some((desired, changed)) = answer else { return false };
    if changed {
        world.log(|| format!("{} reports {setup:?} {assignments:?}", machine.spec.node_id));
        world.wake(Topic::Reconcile);
    }
    world.shared.yield_now().await;
    if !world.strikes(world.mix.lose) && is_on(world, machine) {
        let disk = &mut disk.lock().unwrap();
        disk.renewed_ms = sent_ms;
        obey(world, disk, desired);
    }
    true
}

/// Takes in what the node should be.
fn obey(world: &World, disk: &mut Disk, desired: Desired) {
    let now = world.shared.now_ms();
    let wanted = desired.part.map(|(attempt, ..)| attempt);
    // What is not listed any more is forgotten; it had ended, or the server knows better, and then nothing of it may go on.
    disk.parts.retain(|attempt, part| Some(*attempt) == wanted || part.end.is_none() && part.ends_ms.is_some());
    for (attempt, part) in &mut disk.parts {
        if Some(*attempt) != wanted {
            part.stopping_ms.get_or_insert(now);
        }
    }
    let Some((attempt, rank, step)) = desired.part else { return };
    let part = disk.parts.entry(attempt).or_insert_with(|| Part {
        rank,
        state: AssignmentState::Assigned,
        end: None,
        prepared_ms: now + world.shared.between(20, 800),
        preparation: i32::from(world.strikes(world.mix.setup_fails)),
        ends_ms: None,
        code: 0,
        stopping_ms: None,
        released: false,
    });
    match step {
        Step::Prepare => {}
        Step::Run => part.released = true,
        Step::Stop => {
            let stops = now + world.shared.between(10, 1_500);
            part.stopping_ms.get_or_insert(stops);
        }
    }
}

/// Time passes on the node.
fn go_on(world: &World, machine: &FakeMachine, disk: &Arc<Mutex<Disk>>, setup_fails: bool) {
    let now = world.shared.now_ms();
    let disk = &mut *disk.lock().unwrap();
    if disk.setup == Setup::Pending && disk.setup_ends_ms <= now {
        disk.setup = if setup_fails { Setup::Failed(EntityError::new("NodeSetupTaskFailed", "it failed")) } else { Setup::Done };
    }
    for (attempt, part) in disk.parts.iter_mut().filter(|(_, part)| part.end.is_none()) {
        if let Some(ends) = part.ends_ms {
            let killed = part.stopping_ms.filter(|stops| *stops < ends);
            if world.strikes(world.mix.supervisor_dies / 20) && ends > now {
                kill(world, machine, *attempt, now);
                let uid = machine.spec.uid;
                world.state().blamed.insert(uid);
                world.sometimes("a supervisor died");
                part.end = Some(End::Lost { why: "the supervisor is gone".into() });
            } else if let Some(stops) = killed {
                if stops <= now {
                    kill(world, machine, *attempt, now);
                    part.end = Some(End::Stopped);
                }
            } else if ends <= now {
                part.end = Some(End::Exited { code: part.code });
            }
        } else if part.stopping_ms.is_some_and(|stops| stops <= now) {
            part.end = Some(End::Stopped);
        } else if part.prepared_ms <= now && part.stopping_ms.is_none() {
            if part.preparation != 0 {
                part.end = Some(End::PreparationFailed { code: part.preparation });
            } else if part.released {
                start(world, machine, *attempt, part, now);
            } else {
                part.state = AssignmentState::Ready;
            }
        }
        if part.end.is_some() {
            part.state = AssignmentState::Ended;
        }
    }
}

fn start(world: &World, machine: &FakeMachine, attempt: AttemptUid, part: &mut Part, now: u64) {
    let job = world.model().attempts.get(&attempt).map(|past| past.attempt.job);
    let Some(job) = job else { return };
    // A job runs alike each time: how long and with which end follows from its identity.
    let draw = job.0.as_u128();
    let runs = if draw % 17 == 0 { 20_000 } else { 50 + (draw % 4_000) as u64 };
    let code = if draw % 5 == 0 { 3 } else { 0 };
    // A rank without a command runs until it is told to stop.
    let ends = if part.rank == 0 { now + runs } else { u64::MAX };
    part.ends_ms = Some(ends);
    part.code = code;
    part.state = AssignmentState::Running;
    if part.rank == 0 {
        world.state().exits.insert(attempt, code);
    }
    world.log(|| format!("{} starts rank {} of {attempt} until {ends}", machine.spec.node_id, part.rank));
    world.starts(Process { attempt, job, machine: machine.spec.name.clone(), incarnation: machine.incarnation, ends_ms: ends });
}

fn kill(world: &World, machine: &FakeMachine, attempt: AttemptUid, now: u64) {
    for process in world.state().processes.iter_mut() {
        if process.attempt == attempt && process.incarnation == machine.incarnation {
            process.ends_ms = process.ends_ms.min(now);
        }
    }
}
