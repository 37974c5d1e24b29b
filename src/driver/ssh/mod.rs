//! Machines that are there already, reached by ssh or calling in by themselves: each becomes a node of one cluster at a time, and a
//! machine again.
//!
//! In: a machine that should exist, and a pool. Out: one of the pool, made a node of the `local` driver by this program's own copy on it,
//! in the machine's own network. The agent calls home by https; nothing calls it. Which machine is which node is on the machines alone,
//! where whoever asks first has it: servers that follow each other, or are of other installations, learn it there.
//!
//! Refuses to know jobs, rows and the API, and how a node is made: that is `local`.

mod desk;
mod machine;
mod member;
mod session;
mod words;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::domain::bootstrap::ServerAddress;
use crate::domain::machine::{MachineSpec, Observed, Presence, Role, Size};
use crate::driver::ssh::member::{Member, View};
use crate::driver::ssh::session::{Program, Trouble};
use crate::driver::ssh::words::{Ask, Hello, Told};
use crate::driver::{Capabilities, Driver, DriverError, LONGEST_BOOT, Listing, sizes};

pub use desk::{Calls, Leaderless, Roster};
pub use machine::{Callee, PROGRAMS, pool_machine};
pub use session::authorized_key;
pub use words::FOLDER;

/// What the driver is built from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which installation this is: 1 to 32 lower-case letters, digits and dashes.
    pub owner: String,
    /// How agents on the machines reach a server.
    pub server: ServerAddress,
    /// The time after which a node ends itself where no server answers its agent.
    pub fence: Duration,
    /// The pool, by names of their own.
    pub machines: Vec<Machine>,
    /// The program that machines are given; `None` for this one.
    pub binary: Option<PathBuf>,
    /// Where machines that call are heard.
    pub calls: Calls,
}

/// How the server goes to a machine by ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Where its ssh server is.
    pub host: String,
    /// At which port.
    pub port: u16,
    /// Who logs in: root, or someone who may become root by `sudo` without a password.
    pub user: String,
    /// The file of the private key that lets the server in.
    pub key: PathBuf,
    /// The machine's own public key, such as `ssh-ed25519 AAAA…`.
    pub host_key: String,
}

/// A machine of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its name in the pool: letters, digits, dots and dashes.
    pub name: String,
    /// How the server goes to it; `None` where it calls the server.
    pub login: Option<Login>,
    /// Its address among the others of the pool.
    pub address: Ipv4Addr,
    /// VM sizes that it has by names of the operator's, beside those that everyone knows.
    pub labels: Vec<String>,
    /// Processors.
    pub cores: u32,
    /// Memory. Unit: MiB.
    pub memory_mib: u64,
    /// GPUs.
    pub gpus: u32,
}

impl Machine {
    /// Whether a machine of that size may be this one.
    fn fits(&self, size: &Size) -> bool {
        let is_enough = self.cores >= size.cores && self.memory_mib >= size.memory_mib && self.gpus >= size.gpus;
        is_enough && (sizes::is_known(&size.name) || self.labels.iter().any(|label| label.eq_ignore_ascii_case(&size.name)))
    }
}

/// The state of one machine of the pool, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineState {
    /// Its name in the pool.
    pub name: String,
    /// `free`, or why it cannot be had.
    pub state: String,
}

/// Makes nodes of the machines of a pool.
pub struct SshDriver {
    members: Vec<Member>,
    sizes: Vec<Size>,
    fence: Duration,
    /// Held while a machine is chosen.
    turn: tokio::sync::Mutex<()>,
}

impl SshDriver {
    /// Reads this program, which machines are given, and begins to speak with none yet. Blocks for up to a second.
    ///
    /// # Errors
    /// [`DriverError::Permanent`]: the program cannot be read, or there are no threads to be had.
    pub fn new(settings: Settings) -> Result<SshDriver, DriverError> {
        SshDriver::build(settings).map_err(|error| DriverError::Permanent(error.into()))
    }

    fn build(settings: Settings) -> io::Result<SshDriver> {
        let program = Arc::new(Program::read(settings.binary.unwrap_or_else(|| PathBuf::from("/proc/self/exe")))?);
        let sizes = sizes_of(&settings.machines);
        let start = |machine: Machine| {
            let hello = Hello {
                owner: settings.owner.clone(),
                address: machine.address,
                server: settings.server.clone(),
                fence: settings.fence,
            };
            Member::start(machine, &program, &settings.calls, hello)
        };
        settings.calls.set_program(&program);
        let members = settings.machines.into_iter().map(start).collect::<io::Result<_>>()?;
        Ok(SshDriver { members, sizes, fence: settings.fence, turn: tokio::sync::Mutex::default() })
    }

    /// The pool's state, machine by machine.
    pub async fn pool(&self) -> Vec<MachineState> {
        let state = |(member, view): (&Member, View)| MachineState {
            name: member.machine.name.clone(),
            state: view.obstacle.unwrap_or_else(|| "free".to_owned()),
        };
        self.look().await.into_iter().map(state).collect()
    }

    /// Makes a machine nobody's from now on; a node that it is stays.
    ///
    /// # Errors
    /// There is no such machine, or it does not answer.
    pub async fn quarantine(&self, name: &str, why: &str) -> Result<(), DriverError> {
        self.tell(name, Ask::Quarantine(why.to_owned())).await
    }

    /// Ends the quarantine of a machine.
    ///
    /// # Errors
    /// As [`quarantine`](Self::quarantine).
    pub async fn release(&self, name: &str) -> Result<(), DriverError> {
        self.tell(name, Ask::Release).await
    }

    async fn tell(&self, name: &str, ask: Ask) -> Result<(), DriverError> {
        let member = self.members.iter().find(|member| member.machine.name == name);
        let member = member.ok_or_else(|| DriverError::Permanent(format!("there is no machine '{name}' in the pool").into()))?;
        done(&member.machine, member.ask(ask).await)
    }

    /// Looks at all machines at once.
    async fn look(&self) -> Vec<(&Member, View)> {
        join_all(self.members.iter().map(async |member| (member, member.look().await))).await
    }
}

/// Of machines that were looked at, the one that is this node already, or else the smallest that fits and is nobody's.
fn choose(views: &[(&Member, View)], spec: &MachineSpec) -> Result<usize, DriverError> {
    if let Some(at) = views.iter().position(|(_, view)| view.nodes.iter().any(|node| node.name == spec.name)) {
        return Ok(at);
    }
    let fitting: Vec<_> = views.iter().enumerate().filter(|(_, (member, _))| member.machine.fits(&spec.size)).collect();
    if fitting.is_empty() {
        let Size { name, cores, memory_mib, gpus } = &spec.size;
        let why = format!("no machine of the pool has {cores} cores, {memory_mib} MiB and {gpus} GPUs, as size {name} is");
        return Err(DriverError::Permanent(why.into()));
    }
    // One that another server took since it was looked at says so itself; one that this server keeps busy need not be asked.
    let free = fitting.iter().filter(|(_, (member, view))| view.obstacle.is_none() && !member.is_changing());
    let smallest =
        free.min_by_key(|(_, (Member { machine, .. }, _))| (machine.gpus, machine.cores, machine.memory_mib, &machine.name));
    smallest.map(|(at, _)| *at).ok_or_else(|| {
        let why = |(_, (member, view)): &(usize, &(&Member, View))| {
            format!("{} is {}", member.machine.name, view.obstacle.as_deref().unwrap_or("taken by another just now"))
        };
        let all: Vec<String> = fitting.iter().map(why).collect();
        DriverError::Quota(format!("no machine of the pool that fits is free: {}", all.join("; ")).into())
    })
}

#[async_trait::async_trait]
impl Driver for SshDriver {
    async fn ensure(&self, spec: &MachineSpec) -> Result<Observed, DriverError> {
        if spec.role != Role::Node {
            return Err(DriverError::Permanent("machines of a pool cannot be file servers".into()));
        }
        let mut turn = self.turn.lock().await;
        let mut views = self.look().await;
        loop {
            let (member, _) = views.swap_remove(choose(&views, spec)?);
            // It is the machine's before another is chosen.
            let answer = member.ask(Ask::Ensure(Box::new(spec.clone())));
            drop(turn);
            let obstacle = match answer.await {
                Ok(Told::Made(node)) => return Ok(node.into()),
                // Another was quicker.
                Ok(Told::Taken(by)) => Some(format!("taken: {by}")),
                other => done(&member.machine, other).map(|()| Some("odd: it answers something else".to_owned()))?,
            };
            // What the others were seen to be still holds. Each is asked at most once, so that this ends.
            views.push((member, View { nodes: Vec::new(), is_whole: true, is_heard: true, obstacle }));
            turn = self.turn.lock().await;
        }
    }

    async fn list(&self) -> Result<Listing, DriverError> {
        let mut machines: BTreeMap<String, Observed> = BTreeMap::new();
        let mut is_partial = false;
        for (_, view) in self.look().await {
            is_partial |= !view.is_whole;
            for node in view.nodes {
                let seen = Observed::from(node);
                match machines.get(&seen.name) {
                    Some(other) if rank(other.presence) >= rank(seen.presence) => {}
                    _ => drop(machines.insert(seen.name.clone(), seen)),
                }
            }
        }
        Ok(Listing { machines: machines.into_values().collect(), is_partial })
    }

    async fn delete(&self, name: &str) -> Result<(), DriverError> {
        let views = self.look().await;
        let holders: Vec<_> = views.iter().filter(|(_, view)| view.nodes.iter().any(|node| node.name == name)).collect();
        let answers =
            holders.iter().map(|(member, _)| async { done(&member.machine, member.ask(Ask::Delete(name.to_owned())).await) });
        for answer in join_all(answers).await {
            answer?;
        }
        // It may have come to a machine that answers nobody now.
        let hidden = views.iter().find(|(_, view)| !view.is_heard);
        match (holders.is_empty(), hidden) {
            (true, Some((member, view))) => {
                let why = view.obstacle.as_deref().unwrap_or_default();
                Err(DriverError::Transient(format!("{} may have it, and is {why}", member.machine.name).into()))
            }
            _ => Ok(()),
        }
    }

    async fn evidence(&self, name: &str) -> Option<String> {
        let views = self.look().await;
        let (member, _) = views.iter().find(|(_, view)| view.nodes.iter().any(|node| node.name == name))?;
        match member.ask(Ask::Evidence(name.to_owned())).await {
            Ok(Told::Evidence(evidence)) => evidence,
            _ => None,
        }
    }

    fn sizes(&self) -> &[Size] {
        &self.sizes
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "ssh",
            isolation: "namespaces".to_owned(),
            share: false,
            file_servers: false,
            fence: Some(self.fence),
            longest_boot: LONGEST_BOOT,
        }
    }
}

/// Of two sights of one name the one that counts: what may run is not gone.
fn rank(presence: Presence) -> u8 {
    match presence {
        Presence::Absent => 0,
        Presence::Unknown => 1,
        Presence::Present => 2,
    }
}

/// Sorts an answer by what the caller does next.
fn done(machine: &Machine, told: Result<Told, Trouble>) -> Result<(), DriverError> {
    let name = &machine.name;
    match told {
        Ok(Told::Failed { passing: false, why }) => Err(DriverError::Permanent(format!("{name}: {why}").into())),
        Ok(Told::Failed { passing: true, why }) => Err(DriverError::Transient(format!("{name}: {why}").into())),
        Ok(_) => Ok(()),
        Err(trouble) => Err(DriverError::Transient(format!("{name}: {}", trouble.why).into())),
    }
}

/// Every size that users know, cut to the machine of the pool that has most of it; and for each label what all machines with it have.
fn sizes_of(machines: &[Machine]) -> Vec<Size> {
    let mut all: Vec<Size> = Vec::new();
    for machine in machines {
        let cut = sizes::for_host(machine.cores, machine.memory_mib, machine.gpus);
        let worth = |size: &Size| (size.gpus, size.cores, size.memory_mib);
        match all.is_empty() {
            true => all = cut,
            false => {
                let better = all.iter_mut().zip(cut).filter(|(known, size)| worth(size) > worth(known));
                better.for_each(|(known, size)| *known = size);
            }
        }
    }
    let known = all.len();
    for (machine, label) in machines.iter().flat_map(|machine| machine.labels.iter().map(move |label| (machine, label))) {
        let name = label.to_ascii_uppercase();
        match all.iter_mut().skip(known).find(|size| size.name == name) {
            Some(size) => {
                size.cores = size.cores.min(machine.cores);
                size.memory_mib = size.memory_mib.min(machine.memory_mib);
                size.gpus = size.gpus.min(machine.gpus);
            }
            None => all.push(Size { name, cores: machine.cores, memory_mib: machine.memory_mib, gpus: machine.gpus }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, cores: u32, gpus: u32, labels: &[&str]) -> Machine {
        Machine {
            name: name.into(),
            login: None,
            address: Ipv4Addr::new(10, 0, 0, 7),
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            cores,
            memory_mib: 65_536,
            gpus,
        }
    }

    #[test]
    fn every_size_fits_a_machine_and_a_label_all_that_have_it() {
        let pool = [machine("a", 32, 0, &["big"]), machine("b", 8, 2, &["big", "cuda"])];
        let sizes = sizes_of(&pool);
        for size in &sizes {
            assert!(pool.iter().any(|machine| machine.fits(size)), "{size:?}");
        }
        let find = |name: &str| sizes.iter().find(|size| size.name == name).expect("there");
        assert_eq!((find("STANDARD_NC6").cores, find("STANDARD_NC6").gpus), (6, 1));
        assert_eq!((find("STANDARD_NC24").cores, find("STANDARD_NC24").gpus), (8, 2), "what there is of it");
        assert_eq!(find("STANDARD_D5_V2").cores, 16);
        assert_eq!((find("BIG").cores, find("BIG").gpus), (8, 0));
        assert!(!pool[0].fits(find("CUDA")) && pool[1].fits(find("CUDA")));
    }

    #[tokio::test]
    async fn machines_that_refuse_are_asked_once_each_after_one_look() {
        let said = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
        let answered = |name: &str| {
            let (said, name) = (std::sync::Arc::clone(&said), name.to_owned());
            Member::answered(machine(&name, 8, 0, &[]), move |ask| {
                let (word, told) = match ask {
                    Ask::Look => ("look", Told::Seen(Default::default())),
                    Ask::Ensure(_) => ("ensure", Told::Taken("it is another".into())),
                    _ => ("other", Told::Done),
                };
                said.lock().expect("no panic").push(format!("{name} {word}"));
                told
            })
        };
        let members = ["a", "b", "c"].map(answered).into();
        let driver = SshDriver { members, sizes: Vec::new(), fence: Duration::from_secs(60), turn: Default::default() };
        let uid = uuid::Uuid::now_v7();
        let spec = MachineSpec {
            uid: crate::id::MachineUid(uid),
            name: "n".into(),
            node_id: "tvm-1".into(),
            size: Size { name: "STANDARD_D1".into(), cores: 1, memory_mib: 512, gpus: 0 },
            cluster: crate::id::ResourceUid(uid),
            admin_user: "ops".into(),
            role: Role::Node,
            bootstrap: crate::domain::machine::Bootstrap { join_token: "token".into() },
        };
        let refusal = driver.ensure(&spec).await.expect_err("nobody takes it").chain();
        assert!(refusal.contains("b is taken: it is another"), "{refusal}");
        let mut said = said.lock().expect("no panic").clone();
        // The looks are at once, in any order.
        said.get_mut(..3).expect("three looks").sort();
        assert_eq!(said, ["a look", "b look", "c look", "a ensure", "b ensure", "c ensure"]);
    }
}
