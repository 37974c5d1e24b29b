//! Simulated users, and what befalls the world beside them.

use std::sync::Arc;
use std::time::Duration;

use batchyard::domain::cluster::{Deallocation, Scale};
use batchyard::domain::job::JobStatus;
use batchyard::domain::retry::{Category, RetryRule};
use batchyard::domain::snapshot::JobRow;
use batchyard::id::{Kind, MachineUid, ResourceUid};
use batchyard::wake::Topic;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::executor::{Host, Order, WORLD};
use crate::server;
use crate::world::World;

fn new_uid(world: &World) -> ResourceUid {
    ResourceUid(Uuid::from_u128(u128::from(world.shared.below(u64::MAX)) << 64 | u128::from(world.shared.below(u64::MAX))))
}

/// Makes, resizes, submits, terminates and deletes until `until_ms`.
pub(crate) async fn use_it(world: Arc<World>, until_ms: u64) {
    let workspace = new_uid(&world);
    let mut experiments = vec![new_uid(&world), new_uid(&world)];
    let mut clusters = Vec::new();
    let mut jobs = Vec::new();
    {
        let mut model = world.model();
        model.put_container(workspace, Kind::Workspace, None);
        for experiment in &experiments {
            model.put_container(*experiment, Kind::Experiment, Some(workspace));
        }
    }
    while world.shared.now_ms() < until_ms {
        let pause = world.shared.between(50, 1_800);
        world.shared.sleep_ms(pause).await;
        if world.state().rows_away {
            continue;
        }
        let before = jobs.len();
        act(&world, &mut experiments, &mut clusters, &mut jobs, workspace);
        world.wake(if jobs.len() > before { Topic::Submission } else { Topic::Reconcile });
    }
    // Every other run ends with all being deleted.
    if world.shared.chance(300) {
        let all: Vec<ResourceUid> = clusters.iter().chain(&experiments).copied().collect();
        let mut model = world.model();
        for uid in all {
            model.delete(uid);
        }
        drop(model);
        world.sometimes("all was deleted in the end");
        world.wake(Topic::Reconcile);
    }
}

fn pick<T: Copy>(world: &World, of: &[T]) -> Option<T> {
    if of.is_empty() { None } else { of.get(world.shared.below(of.len() as u64) as usize).copied() }
}

fn act(
    world: &World,
    experiments: &mut Vec<ResourceUid>,
    clusters: &mut Vec<ResourceUid>,
    jobs: &mut Vec<ResourceUid>,
    workspace: ResourceUid,
) {
    let now = world.time_of_any_server();
    let draw = world.shared.below(100);
    if clusters.is_empty() || draw < 5 && clusters.len() < 3 {
        let (uid, scale) = (new_uid(world), scale(world));
        world.model().put_cluster(uid, scale, now);
        world.log(|| format!("user: cluster {uid} of {scale:?}"));
        clusters.push(uid);
    } else if draw < 18 {
        let Some(uid) = pick(world, clusters) else { return };
        let scale = scale(world);
        world.log(|| format!("user: cluster {uid} to {scale:?}"));
        world.model().resize(uid, scale, now);
    } else if draw < 20 {
        let machines: Vec<MachineUid> = world.model().machines.keys().copied().collect();
        let Some(uid) = pick(world, &machines) else { return };
        let evict_at = now + Duration::from_millis(world.shared.below(2) * world.shared.between(100, 6_000));
        world.log(|| format!("user: {uid} is taken away at {evict_at}"));
        world.model().evict(uid, evict_at);
    } else if draw < 24 {
        let Some(uid) = pick(world, clusters) else { return };
        world.log(|| format!("user: delete cluster {uid}"));
        world.model().delete(uid);
    } else if draw < 30 {
        let Some(uid) = pick(world, jobs) else { return };
        world.log(|| format!("user: terminate {uid}"));
        world.model().terminate(uid, now);
    } else if draw < 36 {
        let Some(uid) = pick(world, jobs) else { return };
        world.log(|| format!("user: delete job {uid}"));
        world.model().delete(uid);
    } else if draw < 38 {
        let Some(uid) = pick(world, experiments) else { return };
        world.log(|| format!("user: delete experiment {uid}"));
        let fresh = new_uid(world);
        let mut model = world.model();
        model.delete(uid);
        model.put_container(fresh, Kind::Experiment, Some(workspace));
        experiments.push(fresh);
    } else {
        submit(world, experiments, clusters, jobs);
    }
}

/// By hand or by the queue.
fn scale(world: &World) -> Scale {
    let most = world.shared.below(5) as u32;
    if world.shared.chance(350) {
        return Scale::Auto { minimum: most.min(world.shared.below(3) as u32), maximum: most, initial: most.min(1) };
    }
    let deallocation = match world.shared.below(3) {
        0 => Deallocation::Requeue,
        1 => Deallocation::Terminate,
        _ => Deallocation::WaitForJobCompletion,
    };
    Scale::Manual { target: most, deallocation }
}

/// What of a job's failures is tried again: of most nothing.
fn rules(world: &World) -> Vec<RetryRule> {
    if !world.shared.chance(400) {
        return Vec::new();
    }
    let backoff_s = world.shared.below(3);
    let codes = RetryRule { exit_codes: (1..=255).collect(), limit: 2, backoff_s, avoid_nodes: true, ..RetryRule::default() };
    let time = RetryRule { categories: vec![Category::Time, Category::NodeLost], limit: 1, ..RetryRule::default() };
    vec![codes, time]
}

fn submit(world: &World, experiments: &[ResourceUid], clusters: &[ResourceUid], jobs: &mut Vec<ResourceUid>) {
    let (Some(cluster), Some(experiment)) = (pick(world, clusters), pick(world, experiments)) else { return };
    let (uid, now) = (new_uid(world), world.time_of_any_server());
    let node_count = if world.shared.chance(700) { 1 } else { world.shared.between(2, 3) as u32 };
    let row = JobRow {
        leaders: 1,
        uid,
        path: format!("/jobs/{uid}"),
        cluster: Some(cluster),
        rank: world.shared.below(3) as i16 - 1,
        created_at: now,
        node_count,
        max_wall_clock_s: if world.shared.chance(150) { 3 } else { 600 },
        retries: rules(world),
        status: JobStatus::queued(now),
        attempts: 0,
        deleting: false,
        revision: 1,
    };
    let rank = row.rank;
    if world.model().put_job(row, experiment) {
        world.log(|| format!("user: job {uid} on {node_count} of {cluster}, rank {rank}"));
        jobs.push(uid);
        let poison = world.mix.poison && world.model().poisoned.is_empty() && world.shared.chance(200);
        if poison {
            world.model().poisoned.insert(uid);
        }
    }
}

/// Kills and holds servers, sets their clocks, kills machines, cuts the network, takes the store away, until `until_ms`.
pub(crate) async fn wreak(world: Arc<World>, until_ms: u64, first: Vec<(Host, CancellationToken)>) {
    let mut servers = first;
    let mut next_host = servers.len() as Host + 1;
    while world.shared.now_ms() < until_ms {
        let pause = world.shared.between(100, 3_000);
        world.shared.sleep_ms(pause).await;
        if !world.mix.chaos {
            continue;
        }
        let machines: Vec<String> = world.fake.machines().into_iter().map(|machine| machine.spec.name).collect();
        match world.shared.below(if world.mix.clocks { 14 } else { 11 }) {
            0..=2 => {
                let index = world.shared.below(servers.len() as u64) as usize;
                let (host, shutdown) = servers.remove(index);
                let after_polls = world.shared.below(25) as u32;
                if world.shared.chance(250) {
                    shutdown.cancel();
                } else {
                    world.log(|| format!("chaos: kill server {host} after {after_polls} polls"));
                    world.shared.order(host, Order::Kill { after_polls });
                    world.state().servers.remove(&host);
                }
                let token = CancellationToken::new();
                servers.push((next_host, token.clone()));
                let (later, host) = (world.shared.between(10, 4_000), next_host);
                next_host += 1;
                let reborn = world.clone();
                world.shared.spawn(WORLD, async move {
                    reborn.shared.sleep_ms(later).await;
                    server::start(&reborn, host, token);
                });
            }
            3 => {
                if let Some((host, _)) = servers.get(world.shared.below(servers.len() as u64) as usize) {
                    let (after_polls, ms) = (world.shared.below(25) as u32, world.shared.between(500, 15_000));
                    world.log(|| format!("chaos: hold server {host} after {after_polls} polls for {ms} ms"));
                    world.shared.order(*host, Order::Hold { after_polls, time: Duration::from_millis(ms) });
                }
            }
            4 | 5 => {
                let Some(name) = pick_name(&world, &machines) else { continue };
                let uid = world.model().machines.values().find(|node| node.row.name == name).map(|node| node.row.uid);
                world.state().blamed.extend(uid);
                world.log(|| format!("chaos: machine {name} dies"));
                if world.shared.chance(500) { world.fake.kill(&name) } else { world.fake.vanish(&name) }
            }
            6 | 7 => {
                let Some(name) = pick_name(&world, &machines) else { continue };
                let ms = world.shared.between(500, 20_000);
                world.log(|| format!("chaos: machine {name} is cut off for {ms} ms"));
                world.state().cut.insert(name.clone());
                let healed = world.clone();
                world.shared.spawn(WORLD, async move {
                    healed.shared.sleep_ms(ms).await;
                    healed.state().cut.remove(&name);
                });
            }
            8 => {
                let Some(name) = pick_name(&world, &machines) else { continue };
                let notice = world.shared.below(2) * world.shared.between(100, 6_000);
                let uid = world.model().machines.values().find(|node| node.row.name == name).map(|node| node.row.uid);
                // Where it is gone before anybody heard of it, it is a lost node like any other.
                world.state().blamed.extend(uid);
                world.log(|| format!("chaos: machine {name} is taken away in {notice} ms"));
                world.fake.evict(&name, world.now() + Duration::from_millis(notice));
            }
            9 => {
                world.log(|| "chaos: the store is away".into());
                world.state().rows_away = true;
                let ms = world.shared.between(100, 6_000);
                world.shared.sleep_ms(ms).await;
                world.state().rows_away = false;
            }
            11.. => {
                let Some((host, _)) = servers.get(world.shared.below(servers.len() as u64) as usize) else { continue };
                // It goes wrong, or is right again.
                let ahead_ms = if world.shared.chance(300) { 0 } else { world.draw_clock() };
                world.shared.order(*host, Order::SetClock { after_polls: world.shared.below(25) as u32, ahead_ms });
            }
            _ => {
                let room = world.shared.below(4) as usize;
                world.fake.set_capacity(Some(room));
                let ms = world.shared.between(500, 5_000);
                world.shared.sleep_ms(ms).await;
                world.fake.set_capacity(None);
            }
        }
    }
}

fn pick_name(world: &World, names: &[String]) -> Option<String> {
    if names.is_empty() { None } else { names.get(world.shared.below(names.len() as u64) as usize).cloned() }
}
