//! Virtual machines on this host: each a QEMU in a node of the `local` driver, which is its shell.
//!
//! In: a machine that should exist, and an image with cloud-init. Out: a node whose one program is the machine, with the agent in it.
//! The shell is what separates machines, gives each an address in its cluster's network, limits it to its size, ends it, and is found
//! again by another server. Between the two is a link that is theirs alone, by which the agent comes home and users log in.
//!
//! Refuses to know jobs, rows and the API, and how a node is made: that is `local`.

mod command;
mod guest;
mod link;
mod monitor;
mod names;
mod seed;
mod shell;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::domain::machine::{MachineSpec, Observed, Size};
use crate::driver::local::layout::PRIVATE;
use crate::driver::local::{self, GpuChoice, HostBridge, LocalDriver, NodeNetwork, Privilege};
use crate::driver::{Capabilities, Driver, DriverError, LONGEST_BOOT, Listing};

pub use guest::vm_guest;
pub use shell::vm_shell;

/// The hidden subcommand of this binary that runs a machine in its shell.
const SHELL_SUBCOMMAND: &str = "vm-shell";

/// The hidden subcommand of this binary that runs the agent in a machine.
const GUEST_SUBCOMMAND: &str = "vm-guest";

/// Programs without which there are no machines, and the packages that Debian has them in.
const PROGRAMS: [(&str, &str); 3] = [(command::PROGRAM, "qemu-system-x86"), ("qemu-img", "qemu-utils"), ("ip", "iproute2")];

/// Where they are looked for.
const FOLDERS: [&str; 5] = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// What the driver is built from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the driver keeps its machines; made with mode 0700 where it is missing.
    pub dir: PathBuf,
    /// The folder in which each server of the installation has the socket that its agents speak to.
    pub sockets: PathBuf,
    /// Which installation this is: 1 to 32 lower-case letters, digits and dashes.
    pub owner: String,
    /// Where storage is that machines may reach.
    pub storage: crate::domain::storage::Storages,
    /// Folders that no shell may see.
    pub hidden: Vec<PathBuf>,
    /// The program that shells and machines run; `None` for this one.
    pub binary: Option<PathBuf>,
    /// The address of this host at which users log in to machines, each at a port of its own; `None` where they cannot.
    pub login: Option<IpAddr>,
    /// A bridge of the host's for all machines, in place of networks of their clusters' own.
    pub bridge: Option<HostBridge>,
    /// What machines start from.
    pub image: Image,
    /// What executes them.
    pub accelerator: Accelerator,
    /// Longest time from the start of a machine to the first word of its agent.
    pub boot_deadline: Duration,
    /// What a kernel beside the disk is told.
    pub kernel_line: String,
}

/// What machines start from: a disk with a system on it that has cloud-init and systemd, and a libc that is no older than this host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The disk, raw or qcow2. Never written to.
    pub disk: PathBuf,
    /// A kernel to start in place of the disk's boot loader, with its first file system, if it needs one.
    pub kernel: Option<(PathBuf, Option<PathBuf>)>,
}

/// What a shell is told of all machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    accelerator: Accelerator,
    boot_deadline: Duration,
    format: Format,
    kernel_line: String,
}

/// What executes machines. A setting: that a host has `/dev/kvm` does not say that machines run by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// The processor, by the host's kernel.
    Kvm,
    /// QEMU itself, by translating each instruction: everywhere, and ten times slower.
    Tcg,
}

/// Formats of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// The bytes of the disk.
    Raw,
    /// QEMU's own.
    Qcow2,
}

impl Format {
    /// The format of a file, by how it begins.
    ///
    /// Source: the header of qcow2 images.
    fn of(path: &Path) -> io::Result<Format> {
        use std::io::Read;
        let mut head = [0; 4];
        let read = std::fs::File::open(path)?.read(&mut head)?;
        Ok(if read == head.len() && &head == b"QFI\xfb" { Format::Qcow2 } else { Format::Raw })
    }
}

/// Makes machines on this host.
pub struct QemuDriver {
    shells: LocalDriver,
    longest_boot: Duration,
}

impl QemuDriver {
    /// Finds out what this host allows and makes the driver's folders. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`DriverError::Permanent`]: a program or the image is missing, or nodes cannot be separated here.
    pub fn new(settings: Settings) -> Result<QemuDriver, DriverError> {
        // One that is late is started again, which is to have its chance.
        let longest_boot = LONGEST_BOOT.max(settings.boot_deadline.saturating_mul(2));
        let shells = shells(settings).map_err(|error| DriverError::Permanent(error.into()))?;
        Ok(QemuDriver { shells: LocalDriver::new(shells)?, longest_boot })
    }
}

fn shells(settings: Settings) -> io::Result<local::Settings> {
    for (program, package) in PROGRAMS {
        if !FOLDERS.iter().any(|folder| Path::new(folder).join(program).is_file()) {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no {program} here: install {package}")));
        }
    }
    let file = |path: &Path| {
        let found = path.canonicalize().and_then(|path| std::fs::File::open(&path).map(|_| path));
        found.map_err(|error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display())))
    };
    let disk = file(&settings.image.disk)?;
    let Settings { accelerator, boot_deadline, kernel_line, .. } = &settings;
    let (accelerator, boot_deadline, kernel_line) = (*accelerator, *boot_deadline, kernel_line.clone());
    let run = Run { accelerator, boot_deadline, format: Format::of(&disk)?, kernel_line };
    let mut machine_files = vec![(command::IMAGE.to_owned(), disk)];
    if let Some((kernel, first)) = &settings.image.kernel {
        machine_files.push((command::KERNEL.to_owned(), file(kernel)?));
        if let Some(first) = first {
            machine_files.push((command::INITRD.to_owned(), file(first)?));
        }
    }
    let program = vec![format!("{PRIVATE}/batchyard"), SHELL_SUBCOMMAND.to_owned(), serde_json::to_string(&run)?];
    Ok(local::Settings {
        dir: settings.dir,
        sockets: settings.sockets,
        registries: None,
        share: None,
        storage: settings.storage,
        mount_commands: true,
        owner: settings.owner,
        privilege: Privilege::VirtualMachines,
        hidden: settings.hidden,
        binary: settings.binary,
        login: settings.login,
        program: Some(program),
        engine: None,
        gpus: GpuChoice::default(),
        machine_files,
        network: settings.bridge.map_or(NodeNetwork::OfCluster, NodeNetwork::Bridge),
        server: None,
        fence: None,
    })
}

#[async_trait::async_trait]
impl Driver for QemuDriver {
    async fn ensure(&self, spec: &MachineSpec) -> Result<Observed, DriverError> {
        self.shells.ensure(spec).await
    }

    async fn list(&self) -> Result<Listing, DriverError> {
        self.shells.list().await
    }

    async fn delete(&self, name: &str) -> Result<(), DriverError> {
        self.shells.delete(name).await
    }

    async fn evidence(&self, name: &str) -> Option<String> {
        self.shells.evidence(name).await
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.shells.changes()
    }

    fn sizes(&self) -> &[Size] {
        self.shells.sizes()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { name: "qemu", longest_boot: self.longest_boot, ..self.shells.capabilities() }
    }
}
