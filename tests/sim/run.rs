//! One run: the world of a seed, its two phases, and what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::executor::{Befell, Executor, Shared, WORLD};
use crate::world::{Canary, Mix, World};
use crate::{agents, server, users};

/// How long anything may fail.
const SAFETY_MS: u64 = 40_000;

/// How long it may take afterwards until all has settled.
const LIVENESS_MS: u64 = 300_000;

/// How long nothing may be written once all has settled.
const QUIET_MS: u64 = 15_000;

/// What became of a run.
pub(crate) struct Outcome {
    pub(crate) result: Result<(), String>,
    pub(crate) hash: u64,
    pub(crate) steps: u64,
    pub(crate) sometimes: BTreeMap<&'static str, u64>,
    pub(crate) log: Vec<String>,
}

fn draw_mix(shared: &Shared) -> Mix {
    // Each kind of fault is absent in some runs, common in others.
    let rate = |most: u64| if shared.chance(400) { 0 } else { shared.below(most + 1) };
    // Nodes end themselves where their driver often cannot see them.
    let fence = shared.chance(500);
    Mix {
        servers: if shared.chance(600) { 2 } else { 1 },
        slow: rate(120),
        rows_fail: rate(60),
        driver_fail: rate(200),
        late: rate(120),
        blind: rate(if fence { 700 } else { 200 }),
        lose: rate(250),
        copy: rate(150),
        supervisor_dies: rate(200),
        setup_fails: rate(120),
        deaf: shared.chance(250),
        chaos: shared.chance(850),
        poison: shared.chance(150),
        clocks: shared.chance(500),
        fence,
        capacity: 12,
    }
}

/// Runs a seed.
pub(crate) fn run(seed: u64, canary: Option<Canary>, logging: bool) -> Outcome {
    let shared = Shared::new(seed);
    let mut mix = draw_mix(&shared);
    // What brings a mistake out is made likelier, so that finding it takes seconds.
    match canary {
        Some(Canary::NoRevisions) => mix.slow = 400,
        Some(Canary::NoTick) => mix.chaos = false,
        Some(Canary::SetMonotonic) => (mix.clocks, mix.fence, mix.blind) = (true, true, 300),
        _ => {}
    }
    let world = World::new(shared.clone(), mix, canary, logging);
    world.log(|| format!("{:?}", world.mix));
    let mut executor = Executor::new(shared.clone());
    let servers: Vec<_> = (1..=world.mix.servers).map(|host| (host, CancellationToken::new())).collect();
    for (host, token) in &servers {
        server::start(&world, *host, token.clone());
    }
    shared.spawn(WORLD, agents::inhabit(world.clone()));
    shared.spawn(WORLD, users::use_it(world.clone(), SAFETY_MS));
    shared.spawn(WORLD, users::wreak(world.clone(), SAFETY_MS, servers));
    let result = both_phases(&world, &mut executor);
    let (hash, steps) = (world.hash(), executor.steps);
    let mut state = world.state();
    Outcome { result, hash, steps, sometimes: std::mem::take(&mut state.sometimes), log: std::mem::take(&mut state.log) }
}

fn both_phases(world: &Arc<World>, executor: &mut Executor) -> Result<(), String> {
    // Some of the world's tasks go on a little longer than the phase: what they began, they heal.
    let end = SAFETY_MS + 8_000;
    while executor.step(end) {
        seen(world, executor)?;
    }
    world.log(|| "faults end".into());
    executor.release_all();
    {
        let mut state = world.state();
        state.faults = false;
        state.rows_away = false;
        state.cut.clear();
    }
    world.fake.set_capacity(None);
    let give_up = end + LIVENESS_MS;
    loop {
        let pause = world.shared.now_ms() + 1_000;
        while executor.step(pause) {
            seen(world, executor)?;
        }
        let Some(rule) = world.unsettled() else { break };
        if pause >= give_up {
            return Err(rule);
        }
    }
    // All has settled: nothing is written any more.
    let (settled, commits) = (world.shared.now_ms(), world.model().commits);
    while executor.step(settled + QUIET_MS) {
        seen(world, executor)?;
    }
    if world.model().commits != commits {
        return Err(format!("L5: {} commits while nothing happened", world.model().commits - commits));
    }
    world.unsettled().map_or(Ok(()), Err)
}

/// Steps after which a run is taken for a storm.
const STORM: u64 = 400_000;

fn seen(world: &World, executor: &mut Executor) -> Result<(), String> {
    for befell in executor.befell.drain(..) {
        match befell {
            Befell::Killed(host) => {
                world.log(|| format!("server {host} is killed"));
                world.sometimes("a server was killed");
            }
            Befell::Held(host) => {
                world.log(|| format!("server {host} is held"));
                world.sometimes("a server was held");
            }
            Befell::ClockSet(host, ahead_ms) => {
                world.log(|| format!("the clock of server {host} is {ahead_ms} ms ahead"));
                world.sometimes("a server's clock was set");
            }
        }
    }
    if executor.steps > STORM {
        return Err(format!("L5: a storm of {} steps", executor.steps));
    }
    world.state().violation.take().map_or(Ok(()), Err)
}
