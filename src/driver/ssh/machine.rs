//! The machine's end: it makes the machine a node of the `local` driver, in the machine's own network, and a machine again.
//!
//! In: a server's questions as standard input, or as answers to calls. Out: its answers as standard output, or as calls. It remembers nothing: who has the machine is in a
//! file on it, and which node there is `local` finds, so that any server learns it here. What was begun is finished when the server is
//! gone.

use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::domain::bootstrap::ServerAddress;
use crate::domain::machine::MachineSpec;
use crate::driver::local::layout::write_whole;
use crate::driver::local::lock::{FolderLock, make_folder};
use crate::driver::local::{EngineChoice, GpuChoice, LocalDriver, NodeNetwork, Privilege, Settings};
use crate::driver::ssh::words::{Ask, FOLDER, Hello, Node, Seen, Told};
use crate::driver::{Driver, DriverError};
use crate::own_file::own_file;

/// Below [`FOLDER`]: copies of this program, by their digests.
pub const PROGRAMS: &str = "bin";

/// There: the installation that has the machine.
const HOLDER: &str = "holder";

/// There: why it is to be nobody's.
const QUARANTINE: &str = "quarantine";

/// Answers a server until it is gone.
///
/// # Errors
/// What came is no server, or it listens no more.
pub fn pool_machine() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut lines = io::stdin().lock().lines();
    let Some(hello) = lines.next().transpose()? else { return Ok(()) };
    let say = |told: &Told| {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, told)?;
        writeln!(out)?;
        out.flush()
    };
    let machine = match Machine::new(serde_json::from_str(&hello)?) {
        Ok(machine) => machine,
        Err(error) => return say(&failed(&error)),
    };
    say(&Told::Done)?;
    for line in lines {
        let ask = serde_json::from_str(&line?)?;
        say(&runtime.block_on(machine.answer(ask)))?;
    }
    Ok(())
}

/// The end of a machine that calls in: it is asked the same, by whoever it calls.
#[derive(Default)]
pub struct Callee {
    /// Whom it speaks with, and the machine as that has it.
    machine: Option<(Value, Machine)>,
}

impl Callee {
    /// Answers a question of a driver.
    pub async fn answer(&mut self, hello: &Value, ask: &Value) -> Value {
        let told = match self.machine(hello) {
            Ok(machine) => match serde_json::from_value(ask.clone()) {
                Ok(ask) => machine.answer(ask).await,
                Err(error) => failed(&DriverError::Transient(error.into())),
            },
            Err(error) => failed(&error),
        };
        serde_json::to_value(&told).unwrap_or_default()
    }

    fn machine(&mut self, hello: &Value) -> Result<&Machine, DriverError> {
        let made = match self.machine.take() {
            Some((known, machine)) if known == *hello => machine,
            _ => Machine::new(serde_json::from_value(hello.clone()).map_err(|error| DriverError::Transient(error.into()))?)?,
        };
        Ok(&self.machine.insert((hello.clone(), made)).1)
    }

    /// How the machine is, for people.
    pub fn state(&self) -> String {
        let folder = Path::new(FOLDER);
        let state = || -> io::Result<String> {
            Ok(match (read(&folder.join(HOLDER))?, read(&folder.join(QUARANTINE))?) {
                (Some(holder), _) => format!("leased by installation {holder}"),
                (None, Some(why)) => format!("in quarantine: {why}"),
                (None, None) => "free".to_owned(),
            })
        };
        state().unwrap_or_else(|error| format!("unusable: {error}"))
    }

    /// Does an operator's word: the reason of a quarantine, or nothing for its end.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn obey(&self, word: &str) -> io::Result<()> {
        let quarantine = Path::new(FOLDER).join(QUARANTINE);
        if word.is_empty() { remove(&quarantine) } else { write_whole(&quarantine, word.as_bytes(), 0o600) }
    }

    /// Ends every node, whosever they are.
    ///
    /// # Errors
    /// One could not be ended.
    pub async fn leave(&mut self) -> Result<(), DriverError> {
        let Some(owner) = read(&Path::new(FOLDER).join(HOLDER)).map_err(passing)? else { return Ok(()) };
        let server = ServerAddress::Https { url: String::new(), ca: String::new() };
        let hello = Hello { owner, address: Ipv4Addr::UNSPECIFIED, server, fence: Duration::from_secs(60) };
        let machine = Machine::new(hello)?;
        for node in machine.list().await? {
            machine.delete(&node.name).await?;
        }
        Ok(())
    }
}

struct Machine {
    owner: String,
    folder: PathBuf,
    nodes: LocalDriver,
}

impl Machine {
    fn new(hello: Hello) -> Result<Machine, DriverError> {
        let folder = PathBuf::from(FOLDER);
        let settings = Settings {
            dir: folder.join("nodes"),
            // Nobody is there: agents reach their servers from here as anybody does.
            sockets: folder.join("sockets"),
            registries: None,
            share: None,
            storage: Default::default(),
            mount_commands: false,
            owner: hello.owner.clone(),
            privilege: Privilege::Namespaces,
            hidden: vec![folder.clone()],
            binary: None,
            login: Some(IpAddr::V4(hello.address)),
            program: None,
            engine: Some(EngineChoice::Own),
            gpus: GpuChoice::default(),
            machine_files: Vec::new(),
            network: NodeNetwork::OfHost(hello.address),
            server: Some(hello.server),
            fence: Some(hello.fence),
        };
        Ok(Machine { owner: hello.owner, nodes: LocalDriver::new(settings)?, folder })
    }

    async fn answer(&self, ask: Ask) -> Told {
        let done = match ask {
            Ask::Look => self.look().await.map(Told::Seen),
            Ask::Ensure(spec) => self.ensure(&spec).await,
            Ask::Delete(name) => self.delete(&name).await.map(|()| Told::Done),
            Ask::Evidence(name) => Ok(Told::Evidence(self.nodes.evidence(&name).await)),
            Ask::Quarantine(why) => {
                write_whole(&self.folder.join(QUARANTINE), why.as_bytes(), 0o600).map(|()| Told::Done).map_err(passing)
            }
            Ask::Release => remove(&self.folder.join(QUARANTINE)).map(|()| Told::Done).map_err(passing),
        };
        done.unwrap_or_else(|error| failed(&error))
    }

    async fn look(&self) -> Result<Seen, DriverError> {
        let quarantine = read(&self.folder.join(QUARANTINE)).map_err(passing)?;
        match self.other_holder().map_err(passing)? {
            Some(holder) => Ok(Seen { holder: Some(holder), nodes: Vec::new(), quarantine }),
            None => Ok(Seen { holder: None, nodes: self.list().await?, quarantine }),
        }
    }

    async fn list(&self) -> Result<Vec<Node>, DriverError> {
        Ok(self.nodes.list().await?.machines.into_iter().map(Node::from).collect())
    }

    async fn ensure(&self, spec: &MachineSpec) -> Result<Told, DriverError> {
        let _held = self.hold().map_err(passing)?;
        if let Some(holder) = self.other_holder().map_err(passing)? {
            return Ok(Told::Taken(format!("installation {holder} has it")));
        }
        let there = self.list().await?;
        if let Some(other) = there.iter().find(|node| node.name != spec.name) {
            return Ok(Told::Taken(format!("it is {}", other.name)));
        }
        if let (true, Some(why)) = (there.is_empty(), read(&self.folder.join(QUARANTINE)).map_err(passing)?) {
            return Ok(Told::Taken(format!("it is in quarantine: {why}")));
        }
        write_whole(&self.folder.join(HOLDER), self.owner.as_bytes(), 0o600).map_err(passing)?;
        let made = self.nodes.ensure(spec).await;
        if made.is_err() && self.list().await?.is_empty() {
            self.give_back().map_err(passing)?;
        }
        Ok(Told::Made(made?.into()))
    }

    async fn delete(&self, name: &str) -> Result<(), DriverError> {
        let _held = self.hold().map_err(passing)?;
        if self.other_holder().map_err(passing)?.is_some() {
            return Ok(());
        }
        self.nodes.delete(name).await?;
        if self.list().await?.is_empty() {
            self.give_back().map_err(passing)?;
        }
        Ok(())
    }

    /// Nobody else changes whose the machine is until this is dropped.
    fn hold(&self) -> io::Result<FolderLock> {
        FolderLock::make(&self.folder.join("turn"))
    }

    fn other_holder(&self) -> io::Result<Option<String>> {
        Ok(read(&self.folder.join(HOLDER))?.filter(|holder| *holder != self.owner))
    }

    /// The machine is nobody's, and has no program of ours but this one.
    fn give_back(&self) -> io::Result<()> {
        let this = own_file()?;
        for entry in std::fs::read_dir(self.folder.join(PROGRAMS)).into_iter().flatten().flatten() {
            // One that is only just coming has another ending.
            if entry.path() != this && entry.path().extension().is_none() {
                remove(&entry.path())?;
            }
        }
        make_folder(&self.folder, 0o700)?;
        remove(&self.folder.join(HOLDER))
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn passing(error: io::Error) -> DriverError {
    DriverError::Transient(error.into())
}

fn failed(error: &DriverError) -> Told {
    let passing = !matches!(error, DriverError::Permanent(_) | DriverError::Conflict(_));
    Told::Failed { passing, why: error.chain() }
}
