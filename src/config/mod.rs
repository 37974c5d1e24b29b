//! Every setting, parsed and checked once.
//!
//! In: a TOML file and, for secrets alone, the environment. Out: a [`Config`], or everything that is wrong at once. Nothing else reads
//! the environment. `docs/configuration.md` is the same tree for people.

mod access;
mod environment;
mod pool;
mod print;
mod read;
mod storage;
mod value;
mod vault;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::container::PullLimits;
use crate::domain::quota::{CoreQuota, CoreQuotas, FAMILIES};
use crate::domain::storage::Storages;
use crate::driver::ssh;
use toml::Value;

use crate::passage::Rules;
use crate::secret::SecretText;
use crate::trace::Collector;
use crate::vault::Vault;

pub use access::{HeldRole, Issuer, IssuerPrincipal, Principal, PrincipalSecret};
pub use environment::Environment;
use read::Section;
pub use value::{Bytes, Span};

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the API listens and what it is called.
    pub listen: Listen,
    /// The database.
    pub database: Database,
    /// Folders on this host.
    pub folders: Folders,
    /// What keeps the output of jobs that wrote to no mounted storage.
    pub archive: Archive,
    /// Where nodes come from.
    pub driver: Driver,
    /// What nodes mount.
    pub storage: Storage,
    /// What may be asked for.
    pub limits: Limits,
    /// How many requests a caller may send.
    pub throttle: Throttle,
    /// What is told of the running server.
    pub log: Log,
    /// `[traces]`: the collector that spans are told to. Default: none.
    pub traces: Option<Collector>,
    /// Who may sign in beside those that are made by command. Default: nobody.
    pub principals: Vec<Principal>,
    /// Issuers elsewhere whose tokens are taken. Default: none.
    pub issuers: Vec<Issuer>,
    /// Key vaults that jobs and clusters may name secrets of. Default: none.
    pub vaults: Vec<Vault>,
}

/// `[listen]`: where the API listens and what it is called.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Addresses of plain http. Port 0 takes a free one. Default: `127.0.0.1:8080`.
    pub http: Vec<SocketAddr>,
    /// Addresses of https. Default: `127.0.0.1:8443`.
    pub https: Vec<SocketAddr>,
    /// Whether plain http may listen beyond loopback, where tokens travel in the clear. Default: no.
    pub allow_http: bool,
    /// Names and addresses, without ports, that the server answers for beside loopback, this host's name and the addresses that it
    /// listens on. Requests for any other are refused. Default: none.
    pub host_names: Vec<String>,
    /// Scheme, host and port of URLs in answers, where clients reach the server through something else. Default: those of each
    /// request.
    pub public_url: Option<String>,
    /// The certificate chain and the key of https, as PEM files; read again when they change. Default: a certificate of the
    /// installation's own authority.
    pub certificate: Option<Certificate>,
    /// Most connections at once. Default: 4096.
    pub connections: u32,
    /// Most connections at once of one address. Default: 1024.
    pub connections_per_address: u32,
}

/// A certificate that someone else keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, the server's own first.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// `[database]`: the database.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its URL, from `DATABASE_URL` alone: it may hold a password. `up` has a database of its own and takes none.
    pub url: Option<SecretText>,
    /// Most connections of one server, but for the two of its reconciler. Default: 20.
    pub connections: u32,
    /// How long a start waits for the database. Default: 60 s.
    pub wait: Span,
    /// Whether `serve` brings the schema to its own version, or only checks it. Default: apply.
    pub migrations: Migrations,
    /// The folder of the Postgres programs that `up` uses. Default: the newest found.
    pub programs: Option<PathBuf>,
    /// Memory that the private Postgres of `up` keeps pages in. Default: 128 MiB.
    pub memory: Bytes,
}

/// What `serve` does about the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrations {
    /// Brings it to this version.
    Apply,
    /// Ends with a message where it is not of this version.
    Check,
}

/// `[folders]`: folders on this host. Relative ones do not exist.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The data folder, mode 0700; the others are in it unless set. Default: `/var/lib/batchyard` for root, else
    /// `$XDG_DATA_HOME/batchyard` or `~/.local/share/batchyard`.
    pub data: PathBuf,
    /// Keys and the own authority; the same for all servers of an installation. Default: `{data}/keys`.
    pub keys: PathBuf,
    /// Sockets; short, as a socket's path has room for 107 bytes. Servers of an installation on one host share it. Default: `{data}/run`.
    pub run: PathBuf,
}

/// `[archive]`: what keeps output.
#[derive(Clone, Debug)]
pub struct Archive {
    /// A folder, `s3://bucket/prefix`, `az://container/prefix` or `gs://bucket/prefix`. Default: `{data}/archive`.
    pub url: String,
    /// Options of the cloud, such as `aws_region`; secret ones come from the environment as `BATCHYARD_ARCHIVE_…`.
    pub options: Vec<(String, String)>,
    /// Options from the environment.
    pub secrets: Vec<(String, SecretText)>,
}

/// `[driver]`: where nodes come from, by `kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `local`: nodes on this host. The default.
    Local(Local),
    /// `qemu`: virtual machines on this host.
    Qemu(Qemu),
    /// `ssh`: machines that are there already.
    Ssh(Ssh),
    /// `none`: no nodes; for a server beside others that have them.
    None,
}

/// `[driver]` with `kind = "local"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Where the driver keeps its nodes; servers of an installation on one host share it. Default: `{data}/nodes`.
    pub folder: PathBuf,
    /// The host folder that every node has at `$AZ_BATCHAI_MOUNT_ROOT/shared`. Default: `{data}/share`.
    pub share: PathBuf,
    /// How nodes are separated. Default: as well as this host allows.
    pub isolation: Isolation,
    /// The address of this host at which users log in to nodes by ssh, as they type it. Default: `127.0.0.1`.
    pub login_address: Option<IpAddr>,
    /// What runs containers on nodes. Default: an engine of each node's own.
    pub engine: Engine,
    /// Where nodes' own engines may pull from through the server, beside their cluster's network. Default: what is public.
    pub registries: Rules,
    /// Whether users' mount commands run on nodes, which takes rights that reach the host's kernel. Default: no.
    pub mount_commands: bool,
    /// GPUs that do not exist, for trying what is done with GPUs: in place of those of this host. Default: 0.
    pub simulated_gpus: u32,
    /// The library that tells of GPUs. Default: `libnvidia-ml.so.1`, where the driver installed it.
    pub gpu_library: Option<PathBuf>,
    /// Whether VM sizes with more GPUs than this host has are refused, rather than given with those that it has. Default: no.
    pub refuse_missing_gpus: bool,
}

/// `[driver]` with `kind = "qemu"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    /// Where the driver keeps its machines; servers of an installation on one host share it. Default: `{data}/nodes`.
    pub folder: PathBuf,
    /// The address of this host at which users log in to machines by ssh, as they type it. Default: `127.0.0.1`.
    pub login_address: Option<IpAddr>,
    /// A bridge of this host that machines are plugged into, with what they have there. Default: each cluster has a network of its own.
    pub bridge: Option<Bridge>,
    /// The disk that machines start from, raw or qcow2. No default.
    pub image: PathBuf,
    /// A kernel to start in place of the disk's boot loader. Default: none.
    pub kernel: Option<PathBuf>,
    /// The kernel's first file system. Default: none.
    pub initrd: Option<PathBuf>,
    /// What the kernel is told. Default: what fits images of `script/images`.
    pub kernel_line: String,
    /// What executes machines. Default: `kvm`.
    pub accelerator: Accelerator,
    /// Longest time from the start of a machine to the first word of its agent. Default: 5 min.
    pub boot_deadline: Span,
}

/// `[driver]` with `kind = "ssh"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// How agents on the machines reach this installation. Default: `listen.public_url` where that is https, else the first of
    /// `listen.https`.
    pub server_url: Option<String>,
    /// The certificate authority that agents are to believe, a PEM file. Default: the installation's own.
    pub server_authority: Option<PathBuf>,
    /// How long a node lives without an answer of a server. A job on a machine that is not reached is given to another node once that has
    /// surely passed. Default: 15 min.
    pub fence: Span,
    /// The pool.
    pub machines: Vec<ssh::Machine>,
}

/// A bridge of this host, and the part of its network that machines may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// The first address and the last.
    pub addresses: (Ipv4Addr, Ipv4Addr),
    /// Length of the network part of them.
    pub prefix: u8,
    /// Where other networks are reached. Default: nowhere.
    pub gateway: Option<Ipv4Addr>,
    /// Who knows names. Default: nobody.
    pub nameservers: Vec<IpAddr>,
}

/// What executes virtual machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, by the host's kernel.
    Kvm,
    /// QEMU itself.
    Tcg,
}

/// What runs containers on local nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// An engine of each node's own, made of the host's `dockerd`; none where nodes are process groups.
    Own,
    /// Nothing: jobs in containers fail, and say so.
    None,
    /// The host's, by its socket; for process groups alone.
    Socket(PathBuf),
}

/// `[storage]`: storage that nodes mount, and that the server lists outputs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Where accounts are. Default: those of Azure's public cloud.
    pub known: Storages,
    /// Longest time that mounting may take. Default: 60 s.
    pub deadline: Span,
}

/// How local nodes are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Namespaces where this process may make them, else process groups.
    Best,
    /// Namespaces, or the server does not start.
    Namespaces,
    /// Process groups alone.
    ProcessGroups,
}

/// `[limits]`: what may be asked for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most clusters of one subscription in one region. Default: 20.
    ///
    /// Source: the published default quota of Batch AI clusters a region.
    pub clusters: u32,
    /// Most file servers of one subscription in one region. Default: 20.
    pub file_servers: u32,
    /// Most cores of the dedicated nodes of one subscription in one region: `total`, and by the names of families. Default: no limit.
    pub dedicated_cores: Vec<(&'static str, u32)>,
    /// The same of low-priority nodes.
    pub low_priority_cores: Vec<(&'static str, u32)>,
    /// How long a cluster that scales by its queue stays larger than its jobs need. Default: 5 m.
    pub scale_down_after: Span,
    /// How long a node that cannot be used stays, to be looked at, before another one takes its place. Default: 60 s.
    pub unusable_for: Span,
    /// Pause before another node is tried where as many could not be used as the cluster is to have; doubles with each. Default: 30 s.
    pub repair_pause: Span,
    /// Time between the polite signal and the last one when a job is stopped. Default: 10 s.
    pub stop_grace: Span,
    /// Most room on a node's disk that the pull of an image may take. Default: 64 GiB.
    pub image_size: Bytes,
    /// Longest time that a pull may take. Default: 6 h.
    pub image_time: Span,
    /// Longest time of a pull in which nothing comes. Default: 5 m.
    pub image_silence: Span,
    /// Time that a stopping server has for requests in flight. Default: 15 s.
    pub drain: Span,
    /// How long the activity log is kept. Default: 90 d.
    pub record: Span,
    /// How long it is kept what nodes used. Default: 14 d.
    pub samples: Span,
    /// The regions that are offered, by the names that people read; the first is the default.
    pub locations: Vec<String>,
}

/// `[throttle]`: how many requests a caller may send in one subscription, by kind. Each server counts for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Whether requests are counted at all. Default: yes.
    pub enabled: bool,
    /// What changes nothing. Default: 25000 in a row, 2500 a second.
    ///
    /// Source of the defaults: a hundred times what Azure allows.
    pub reads: Rate,
    /// What makes, changes or acts. Default: 20000 in a row, 1000 a second.
    pub writes: Rate,
    /// What deletes. Default: 20000 in a row, 1000 a second.
    pub deletes: Rate,
}

/// How many requests may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In a row.
    pub burst: u32,
    /// And how many of them are given back each second.
    pub per_second: u32,
}

/// `[log]`: what is told of the running server, on standard error.
#[derive(Clone, Debug)]
pub struct Log {
    /// Which messages, as `level` or `target=level,…`. Default: `info`.
    pub filter: String,
    /// How they are written. Default: text on a terminal, else JSON.
    pub format: LogFormat,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// A line of text each.
    Text,
    /// A JSON object a line.
    Json,
}

/// Everything that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("the settings are not right:\n{}", .0.iter().map(|problem| format!("  - {problem}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Regions that clients of the original service name.
const LOCATIONS: &[&str] = &[
    "East US",
    "East US 2",
    "West US",
    "West US 2",
    "Central US",
    "North Central US",
    "South Central US",
    "West Central US",
    "North Europe",
    "West Europe",
    "UK South",
    "France Central",
    "Southeast Asia",
    "East Asia",
    "Japan East",
    "Australia East",
    "Canada Central",
    "Central India",
    "Korea Central",
];

impl Config {
    /// The settings of `file`, or the defaults without one; secrets and defaults of folders from the environment.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem: the file cannot be read, is no TOML, has unknown settings or values that do not fit.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Config, ConfigError> {
        let text = match file {
            None => String::new(),
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| ConfigError(vec![format!("the file {} cannot be read: {error}", file.display())]))?,
        };
        Config::parse(&text, environment)
    }

    /// The settings in `text`.
    ///
    /// # Errors
    /// As of [`load`](Self::load).
    pub fn parse(text: &str, environment: &Environment) -> Result<Config, ConfigError> {
        let table =
            text.parse().map_err(|error: toml::de::Error| ConfigError(vec![format!("it is no TOML: {}", error.message())]))?;
        let mut problems = Vec::new();
        let mut root = Section::root(table, &mut problems);
        let folders = folders(root.section("folders"), environment);
        let config = Config {
            listen: listen(root.section("listen")),
            database: database(root.section("database"), environment),
            archive: archive(root.section("archive"), &folders, environment),
            driver: driver(root.section("driver"), &folders),
            storage: storage::read(root.section("storage")),
            limits: limits(root.section("limits")),
            throttle: throttle(root.section("throttle")),
            log: log(root.section("log")),
            traces: traces(root.section("traces")),
            principals: access::principals(&mut root, environment),
            issuers: access::issuers(&mut root),
            vaults: vault::read(&mut root),
            folders,
        };
        root.end();
        if problems.is_empty() { Ok(config) } else { Err(ConfigError(problems)) }
    }

    /// Moves the data folder, and with it every folder that was not set apart.
    pub fn move_data(&mut self, data: PathBuf) {
        let old = std::mem::replace(&mut self.folders.data, data.clone());
        let moved = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(&old) {
                *path = data.join(rest);
            }
        };
        moved(&mut self.folders.keys);
        moved(&mut self.folders.run);
        let mut archive = PathBuf::from(&self.archive.url);
        moved(&mut archive);
        self.archive.url = archive.to_string_lossy().into_owned();
        match &mut self.driver {
            Driver::Local(local) => {
                moved(&mut local.folder);
                moved(&mut local.share);
            }
            Driver::Qemu(qemu) => moved(&mut qemu.folder),
            Driver::Ssh(_) | Driver::None => {}
        }
    }
}

fn listen(mut section: Section<'_>) -> Listen {
    let local = |port| vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
    let http = section.addresses("http", local(8080));
    let https = section.addresses("https", local(8443));
    let allow_http = section.flag("allow_http", false);
    if http.is_empty() && https.is_empty() {
        section.problem("http", "and listen.https are both empty: the server would listen nowhere");
    }
    if let Some(address) = http.iter().find(|address| !allow_http && !crate::edge::is_loopback(address.ip())) {
        section.problem(
            "http",
            &format!("has {address}, where tokens would travel in the clear: set listen.allow_http = true to allow that"),
        );
    }
    let public_url = section.take("public_url", None, "a URL such as \"https://batch.example.org\", without a path", |value| {
        let url = value.as_str()?.trim_end_matches('/').to_owned();
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
        (!host.is_empty() && host.bytes().all(plain)).then_some(Some(url))
    });
    let certificate = match (section.path("certificate"), section.path("key")) {
        (Some(chain), Some(key)) => Some(Certificate { chain, key }),
        (None, None) => None,
        (Some(_), None) => {
            section.problem("certificate", "is set without listen.key");
            None
        }
        (None, Some(_)) => {
            section.problem("key", "is set without listen.certificate");
            None
        }
    };
    let listen = Listen {
        http,
        https,
        allow_http,
        host_names: section.texts("host_names", Vec::new()),
        public_url,
        certificate,
        connections: section.number("connections", 4096, 1..=1_000_000),
        connections_per_address: section.number("connections_per_address", 1024, 1..=1_000_000),
    };
    section.end();
    listen
}

fn database(mut section: Section<'_>, environment: &Environment) -> Database {
    let database = Database {
        url: environment.database_url.clone(),
        connections: section.number("connections", crate::store::DEFAULT_CONNECTIONS, 4..=1000),
        wait: section.span("wait", Span(Duration::from_secs(60))),
        migrations: section.take("migrations", Migrations::Apply, "\"apply\" or \"check\"", |value| match value.as_str()? {
            "apply" => Some(Migrations::Apply),
            "check" => Some(Migrations::Check),
            _ => None,
        }),
        programs: section.path("programs"),
        memory: section.bytes("memory", Bytes(128 << 20), Bytes(1 << 20)),
    };
    section.end();
    database
}

fn folders(mut section: Section<'_>, environment: &Environment) -> Folders {
    let data = section.path("data").unwrap_or_else(|| environment.data_folder());
    let folders = Folders {
        keys: section.path("keys").unwrap_or_else(|| data.join("keys")),
        run: section.path("run").unwrap_or_else(|| data.join("run")),
        data,
    };
    section.end();
    folders
}

fn archive(mut section: Section<'_>, folders: &Folders, environment: &Environment) -> Archive {
    let default = folders.data.join("archive").to_string_lossy().into_owned();
    let archive = Archive {
        url: section.take("url", default, "an absolute folder or a URL of s3://, az:// or gs://", |value| {
            let url = value.as_str()?;
            let known = url.starts_with('/') || ["s3://", "az://", "gs://"].iter().any(|scheme| url.starts_with(scheme));
            known.then(|| url.to_owned())
        }),
        options: section.options("options"),
        secrets: environment.archive.clone(),
    };
    section.end();
    archive
}

fn driver(mut section: Section<'_>, folders: &Folders) -> Driver {
    let kind = section.take("kind", "local", "\"local\", \"qemu\", \"ssh\" or \"none\"", |value| {
        ["local", "qemu", "ssh", "none"].into_iter().find(|kind| value.as_str() == Some(kind))
    });
    let driver = match kind {
        "local" => Driver::Local(local(&mut section, folders)),
        "qemu" => Driver::Qemu(qemu(&mut section, folders)),
        "ssh" => Driver::Ssh(pool::read(&mut section)),
        _ => Driver::None,
    };
    section.end();
    driver
}

fn local(section: &mut Section<'_>, folders: &Folders) -> Local {
    Local {
        folder: section.path("folder").unwrap_or_else(|| folders.data.join("nodes")),
        share: section.path("share").unwrap_or_else(|| folders.data.join("share")),
        isolation: section.take("isolation", Isolation::Best, "\"best\", \"namespaces\" or \"process-groups\"", |value| {
            match value.as_str()? {
                "best" => Some(Isolation::Best),
                "namespaces" => Some(Isolation::Namespaces),
                "process-groups" => Some(Isolation::ProcessGroups),
                _ => None,
            }
        }),
        login_address: login_address(section),
        engine: section.take("engine", Engine::Own, "\"own\", \"none\" or the path of a socket", |value| {
            match value.as_str()? {
                "own" => Some(Engine::Own),
                "none" => Some(Engine::None),
                path => path.starts_with('/').then(|| Engine::Socket(path.into())),
            }
        }),
        registries: registries(section),
        mount_commands: section.flag("mount_commands", false),
        simulated_gpus: section.number("simulated_gpus", 0, 0..=64),
        gpu_library: section.path("gpu_library"),
        refuse_missing_gpus: section.flag("refuse_missing_gpus", false),
    }
}

fn qemu(section: &mut Section<'_>, folders: &Folders) -> Qemu {
    let image = section.path("image");
    if image.is_none() {
        section.problem("image", "is missing: the disk that virtual machines start from, as `script/images` makes one");
    }
    Qemu {
        folder: section.path("folder").unwrap_or_else(|| folders.data.join("nodes")),
        login_address: login_address(section),
        bridge: bridge(section),
        image: image.unwrap_or_default(),
        kernel: section.path("kernel"),
        initrd: section.path("initrd"),
        kernel_line: section.take("kernel_line", KERNEL_LINE.to_owned(), "a text", |value| value.as_str().map(str::to_owned)),
        accelerator: section.take("accelerator", Accelerator::Kvm, "\"kvm\" or \"tcg\"", |value| match value.as_str()? {
            "kvm" => Some(Accelerator::Kvm),
            "tcg" => Some(Accelerator::Tcg),
            _ => None,
        }),
        boot_deadline: section.span("boot_deadline", Span(Duration::from_secs(300))),
    }
}

fn bridge(section: &mut Section<'_>) -> Option<Bridge> {
    let name = section.take("bridge", None, "the name of a bridge", |value| {
        let name = value.as_str()?;
        // Source: the kernel's limit of the names of interfaces.
        (1..=15).contains(&name.len()).then(|| Some(name.to_owned()))
    });
    let wanted = "the first address, the last and the length of their network's part, such as \"192.168.7.100-192.168.7.199/24\"";
    let addresses = section.take("bridge_addresses", None, wanted, |value| Some(Some(address_span(value.as_str()?)?)));
    let gateway = section.take("bridge_gateway", None, "an IPv4 address", |value| Some(Some(value.as_str()?.parse().ok()?)));
    let nameservers = section.take("bridge_nameservers", Vec::new(), "a list of IP addresses", |value| {
        value.as_array()?.iter().map(|server| server.as_str()?.parse().ok()).collect()
    });
    match (name, addresses) {
        (Some(name), Some((first, last, prefix))) => {
            Some(Bridge { name, addresses: (first, last), prefix, gateway, nameservers })
        }
        (Some(_), None) => {
            section.problem("bridge_addresses", "is missing: the addresses that machines may have on the bridge");
            None
        }
        (None, None) if gateway.is_none() && nameservers.is_empty() => None,
        (None, _) => {
            section.problem("bridge", "is missing, and other settings of one are there");
            None
        }
    }
}

/// Two addresses of one network, in order, and the length of its part of them.
fn address_span(text: &str) -> Option<(Ipv4Addr, Ipv4Addr, u8)> {
    let (span, prefix) = text.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last, prefix): (Ipv4Addr, Ipv4Addr, u8) = (first.parse().ok()?, last.parse().ok()?, prefix.parse().ok()?);
    let of_network = |address: Ipv4Addr| address.to_bits().checked_shr(32 - u32::from(prefix));
    ((1..=30).contains(&prefix) && first <= last && of_network(first) == of_network(last)).then_some((first, last, prefix))
}

/// What a kernel is told where `driver.kernel_line` says nothing: where its root is in images of `script/images`, and which console the
/// driver keeps.
const KERNEL_LINE: &str = "root=LABEL=batchyard rw console=ttyS0 quiet";

fn login_address(section: &mut Section<'_>) -> Option<IpAddr> {
    section.take("login_address", Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), "an IP address or \"none\"", |value| {
        match value.as_str()? {
            "none" => Some(None),
            text => text.parse().ok().filter(|address: &IpAddr| !address.is_unspecified()).map(Some),
        }
    })
}

fn registries(section: &mut Section<'_>) -> Rules {
    let mut rules = Rules::default();
    for word in section.texts("registries", vec!["public".to_owned()]) {
        if !rules.add(&word) {
            section.problem(
                "registries",
                &format!("has '{word}': words are \"public\", \"host:port\" and \"host:port=address:port\""),
            );
        }
    }
    rules
}

fn limits(mut section: Section<'_>) -> Limits {
    let locations = section.texts("locations", LOCATIONS.iter().map(|&name| name.to_owned()).collect());
    if locations.is_empty() {
        section.problem("locations", "is empty: at least one region must be offered");
    }
    if let Some(bad) = locations.iter().find(|name| !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ')) {
        section.problem("locations", &format!("has '{bad}': names are letters, digits and blanks"));
    }
    let pull = PullLimits::default();
    let limits = Limits {
        clusters: section.number("clusters", 20, 0..=100_000),
        file_servers: section.number("file_servers", 20, 0..=100_000),
        dedicated_cores: cores(&mut section, "dedicated_cores"),
        low_priority_cores: cores(&mut section, "low_priority_cores"),
        scale_down_after: section.span("scale_down_after", Span(Duration::from_secs(300))),
        unusable_for: section.span("unusable_for", Span(Duration::from_secs(60))),
        repair_pause: section.span("repair_pause", Span(Duration::from_secs(30))),
        stop_grace: section.span("stop_grace", Span(Duration::from_secs(10))),
        image_size: section.bytes("image_size", Bytes(pull.most_bytes), Bytes(1 << 20)),
        image_time: section.span("image_time", Span(pull.time)),
        image_silence: section.span("image_silence", Span(pull.silence)),
        drain: section.span("drain", Span(Duration::from_secs(15))),
        record: section.span("record", Span(Duration::from_secs(90 * 24 * 3600))),
        samples: section.span("samples", Span(Duration::from_secs(14 * 24 * 3600))),
        locations,
    };
    section.end();
    limits
}

/// The key of the quota on all families together.
const TOTAL: &str = "total";

fn cores(section: &mut Section<'_>, key: &'static str) -> Vec<(&'static str, u32)> {
    let wanted = format!("a table of numbers by '{TOTAL}' and families of VM sizes ({})", FAMILIES.join(", "));
    section.take(key, Vec::new(), &wanted, |value| {
        let toml::Value::Table(table) = value else { return None };
        let entry = |(name, value): (String, toml::Value)| {
            let name = FAMILIES.into_iter().chain([TOTAL]).find(|known| known.eq_ignore_ascii_case(&name))?;
            Some((name, u32::try_from(value.as_integer()?).ok()?))
        };
        table.into_iter().map(entry).collect()
    })
}

impl Limits {
    /// What the pull of an image may take of a node.
    pub fn pull(&self) -> PullLimits {
        PullLimits { most_bytes: self.image_size.0, time: self.image_time.0, silence: self.image_silence.0 }
    }

    /// The quotas on cores.
    pub fn cores(&self) -> CoreQuotas {
        let quota = |entries: &[(&'static str, u32)]| CoreQuota {
            total: entries.iter().find(|(name, _)| *name == TOTAL).map(|(_, most)| *most),
            families: entries.iter().copied().filter(|(name, _)| *name != TOTAL).collect(),
        };
        CoreQuotas { dedicated: quota(&self.dedicated_cores), low_priority: quota(&self.low_priority_cores) }
    }
}

fn throttle(mut section: Section<'_>) -> Throttle {
    let mut rate = |burst: &'static str, per_second: &'static str, most: u32, speed: u32| Rate {
        burst: section.number(burst, most, 1..=1_000_000_000),
        per_second: section.number(per_second, speed, 1..=1_000_000_000),
    };
    let reads = rate("reads", "reads_per_second", 25_000, 2_500);
    let writes = rate("writes", "writes_per_second", 20_000, 1_000);
    let deletes = rate("deletes", "deletes_per_second", 20_000, 1_000);
    let throttle = Throttle { enabled: section.flag("enabled", true), reads, writes, deletes };
    section.end();
    throttle
}

fn log(mut section: Section<'_>) -> Log {
    let log = Log {
        filter: section.take("filter", "info".into(), "a filter such as \"info\" or \"batchyard=debug\"", |value| {
            let filter = value.as_str()?;
            tracing_subscriber::EnvFilter::try_new(filter).ok()?;
            Some(filter.to_owned())
        }),
        format: section.take("format", LogFormat::Auto, "\"auto\", \"text\" or \"json\"", |value: Value| {
            match value.as_str()? {
                "auto" => Some(LogFormat::Auto),
                "text" => Some(LogFormat::Text),
                "json" => Some(LogFormat::Json),
                _ => None,
            }
        }),
    };
    section.end();
    log
}

fn traces(mut section: Section<'_>) -> Option<Collector> {
    let wanted = "a whole URL such as \"http://127.0.0.1:4318/v1/traces\"";
    let endpoint = section.take("endpoint", None, wanted, |value| {
        let url = reqwest::Url::parse(value.as_str()?).ok()?;
        // A password in it would be printed and logged.
        let plain = url.username().is_empty() && url.password().is_none();
        (matches!(url.scheme(), "http" | "https") && url.has_host() && plain).then(|| Some(url.to_string()))
    });
    let authority = section.path("authority");
    let percent = section.number("percent", 100, 0..=100);
    section.end();
    endpoint.map(|endpoint| Collector { endpoint, authority, percent })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment { root: true, ..Environment::default() }
    }

    #[test]
    fn nothing_set_is_right() {
        let config = Config::parse("", &environment()).expect("defaults are right");
        assert_eq!(config.folders.keys, Path::new("/var/lib/batchyard/keys"));
        assert_eq!(config.archive.url, "/var/lib/batchyard/archive");
        assert!(matches!(config.driver, Driver::Local(ref local) if local.share == Path::new("/var/lib/batchyard/share")));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = r#"
            unknown = 1
            [listen]
            http = ["0.0.0.0:80"]
            htps = []
            public_url = "ftp://x"
            key = "/k"
            [database]
            wait = 30
            migrations = "maybe"
            url = "postgres://secret"
            [folders]
            data = "relative"
            [driver]
            kind = "cloud"
            [limits]
            clusters = -1
            locations = ["East_US"]
        "#;
        let error = Config::parse(text, &environment()).expect_err("much is wrong").to_string();
        for part in [
            "unknown is not a setting",
            "listen.htps is not a setting; [listen] has http, https",
            "listen.http has 0.0.0.0:80, where tokens would travel in the clear",
            "listen.public_url = \"ftp://x\" is not a URL",
            "listen.key is set without listen.certificate",
            "database.wait = 30 is not a time",
            "database.migrations = \"maybe\" is not \"apply\" or \"check\"",
            "database.url is not a setting",
            "folders.data = \"relative\" is not an absolute path",
            "driver.kind = \"cloud\" is not \"local\", \"qemu\", \"ssh\" or \"none\"",
            "limits.clusters = -1 is not a number",
            "limits.locations has 'East_US'",
        ] {
            assert!(error.contains(part), "{part} is missing in:\n{error}");
        }
    }

    #[test]
    fn moving_the_data_folder_leaves_what_was_set_apart() {
        let mut config = Config::parse("[folders]\nkeys = \"/etc/keys\"", &environment()).expect("right");
        config.move_data("/srv/yard".into());
        assert_eq!(config.folders.keys, Path::new("/etc/keys"));
        assert_eq!(config.folders.run, Path::new("/srv/yard/run"));
        assert_eq!(config.archive.url, "/srv/yard/archive");
    }

    #[test]
    fn what_is_printed_reads_the_same_and_has_no_secret() {
        let environment = Environment {
            database_url: Some(SecretText("postgres://u:canary@h/d".into())),
            archive: vec![("aws_secret_access_key".into(), SecretText("canary".into()))],
            ..environment()
        };
        let text =
            "[archive]\nurl = \"s3://b\"\noptions = { aws_region = \"x\" }\n[listen]\nhttps = []\n[driver]\nkind = \"none\"\n";
        let config = Config::parse(text, &environment).expect("right");
        let printed = config.to_toml();
        assert!(!printed.contains("canary"), "{printed}");
        assert!(printed.contains("aws_secret_access_key"), "says that it is set: {printed}");
        let again = Config::parse(&printed, &environment).expect("what is printed is right");
        assert_eq!(again.to_toml(), printed);
    }

    #[test]
    fn the_example_is_right_and_says_the_defaults() {
        let example = include_str!("../../examples/batchyard.toml");
        let config = Config::parse(example, &environment()).expect("the example is right");
        let defaults = Config::parse("", &environment()).expect("defaults are right");
        assert_eq!(config.to_toml(), defaults.to_toml());
    }
}
