//! Drivers turn "this machine should exist" into a machine with our agent on it. Nothing else: no policy, no retries, no state of
//! their own beyond what they need to find their machines again.

pub mod conformance;
mod counted;
pub mod fake;
pub mod faulty;
pub mod local;
pub mod qemu;
pub mod sizes;
pub mod ssh;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::machine::{MachineSpec, Observed, Size};

/// A cloud, as far as reconcilers need one.
#[async_trait::async_trait]
pub trait Driver: Send + Sync {
    /// Makes the machine `spec.name` if it is not there. Safe to repeat with the same spec at any time, also while an earlier call
    /// is under way. Returns once the machine is surely made or under way; its agent comes home by itself.
    ///
    /// # Errors
    /// After any error the machine may or may not exist: [`list`](Driver::list) tells. What the caller does next is the variant.
    async fn ensure(&self, spec: &MachineSpec) -> Result<Observed, DriverError>;

    /// Everything that carries this owner's tag, known to the caller or not, in one batch. What is not listed is gone, unless the listing
    /// is partial.
    ///
    /// # Errors
    /// Nothing was changed. An error says nothing about any machine: all are unknown.
    async fn list(&self) -> Result<Listing, DriverError>;

    /// Unmakes the machine `name` with all its processes, mounts, interfaces and folders. Safe to repeat; succeeds where nothing
    /// of that name is. Returns once it is surely gone.
    ///
    /// # Errors
    /// After any error the machine may or may not exist: [`list`](Driver::list) tells.
    async fn delete(&self, name: &str) -> Result<(), DriverError>;

    /// Hints that some machine may have come or gone, so that [`list`](Driver::list) is worth a call before its next tick; `None`
    /// where the driver cannot tell. A hint may be lost.
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// The last that the machine `name` is known to have written, for people: a few lines of its log or console. `None` where there is
    /// nothing to be had. Asked of machines whose agent does not say what is wrong.
    async fn evidence(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }

    /// What exists here.
    fn sizes(&self) -> &[Size];

    /// What this driver can do.
    fn capabilities(&self) -> Capabilities;
}

/// What a driver sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// What there is, each once.
    pub machines: Vec<Observed>,
    /// Whether a part of the far end could not be asked and what it has is not remembered either: what is not listed may be there.
    pub is_partial: bool,
}

impl From<Vec<Observed>> for Listing {
    fn from(machines: Vec<Observed>) -> Listing {
        Listing { machines, is_partial: false }
    }
}

/// What a driver can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The driver's name in configuration and messages.
    pub name: &'static str,
    /// What separates its machines, for people: `namespaces`, `process group`, `simulated`.
    pub isolation: String,
    /// Whether its machines see the share at `$AZ_BATCHAI_MOUNT_ROOT/shared`.
    pub share: bool,
    /// Whether a machine can be a file server.
    pub file_servers: bool,
    /// Where the end of a machine that is not reached cannot be seen: the time after which one ends itself, from when its agent last asked a
    /// server that answered. `None` where the driver sees all ends.
    pub fence: Option<Duration>,
    /// Longest time from a machine's being there to the first word of its agent, with what the driver itself tries again; a machine
    /// that needs longer is given up. Most have [`LONGEST_BOOT`].
    pub longest_boot: Duration,
}

/// How long machines may take to come home where their driver knows no better.
pub const LONGEST_BOOT: Duration = Duration::from_secs(600);

/// Why a driver did not do as asked, sorted by what the caller does next. The far end's own words are in `source`.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The name is taken by something else. Ask a person.
    #[error("the name is taken")]
    Conflict(#[source] BoxedError),
    /// No more of this may be had. Wait until something is released or the limit is raised.
    #[error("the quota or capacity is used up")]
    Quota(#[source] BoxedError),
    /// Asked too often. Come back after the given time.
    #[error("asked too often")]
    Throttled(Duration, #[source] BoxedError),
    /// It may work next time. Try again with back-off.
    #[error("a passing fault")]
    Transient(#[source] BoxedError),
    /// It will not work however often it is tried, until someone mends it.
    #[error("a lasting fault")]
    Permanent(#[source] BoxedError),
}

/// The far end's own words.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync>;

impl DriverError {
    /// What kind of error it is, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            DriverError::Conflict(_) => "conflict",
            DriverError::Quota(_) => "quota",
            DriverError::Throttled(..) => "throttled",
            DriverError::Transient(_) => "transient",
            DriverError::Permanent(_) => "permanent",
        }
    }

    /// The error with its causes, for an entity's `errors` and the log.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

/// Which driver makes an installation's machines, and what it is built from.
#[derive(Clone, Debug)]
pub enum Settings {
    /// Nodes on this host.
    Local(local::Settings),
    /// Virtual machines on this host.
    Qemu(qemu::Settings),
    /// Machines that are there already.
    Ssh(ssh::Settings),
}

/// Builds the driver that the settings name: the one place that knows them all. Blocks for some milliseconds.
///
/// # Errors
/// [`DriverError::Permanent`]: what the settings ask for cannot be had here, with the reason.
pub fn build(settings: Settings) -> Result<SharedDriver, DriverError> {
    let driver: SharedDriver = match settings {
        Settings::Local(settings) => Arc::new(local::LocalDriver::new(settings)?),
        Settings::Qemu(settings) => Arc::new(qemu::QemuDriver::new(settings)?),
        Settings::Ssh(settings) => Arc::new(ssh::SshDriver::new(settings)?),
    };
    Ok(Arc::new(counted::Counted::new(driver)))
}

/// A driver that many parts hold.
pub type SharedDriver = Arc<dyn Driver>;
