//! Which programs mount a storage, and with what. Pure: a storage and a node become arguments and variables.
//!
//! Secrets are in variables and in memory that root alone can look into, never among arguments. Options of users are taken from lists of
//! known ones. One kind of storage is one function; a client for a kind that has none yet is a branch of [`server`].

use std::path::Path;

use percent_encoding::percent_decode_str;

use crate::agent::nfs::{self, Options, Order, Way as ServerWay};
use crate::agent::protocol::Source;
use crate::domain::bootstrap::JobUser;
use crate::domain::door::{Knock, Pass, Service};
use crate::domain::mount::{COMMAND_FAILED, CONTAINER_FAILED, SERVER_FAILED, SHARE_FAILED};
use crate::domain::storage::{Endpoint, HostPort, ShareAt};

/// The kernel's client of NFS, of version 4, among file systems.
const NFS: &str = "nfs4";

/// What the storage is called among rclone's remotes.
const REMOTE: &str = "store";

/// What every rclone is told: it gives up on what does not answer, and says little.
const PATIENCE: [&str; 8] = [
    "--contimeout=10s",
    "--timeout=60s",
    "--low-level-retries=3",
    "--retries=2",
    "--log-level=NOTICE",
    "--stats=0",
    "--transfers=4",
    "--ask-password=false",
];

/// How rclone shows a storage: files that are written are kept on the node until they are closed, then written to the storage; what
/// others write is seen after a second.
const VIEW: [&str; 9] = [
    "--allow-other",
    // What is there without it is hidden: the server's own share.
    "--allow-non-empty",
    "--default-permissions",
    "--vfs-cache-mode=writes",
    "--vfs-write-back=100ms",
    "--vfs-cache-max-age=10m",
    "--dir-cache-time=1s",
    "--attr-timeout=1s",
    "--poll-interval=0",
];

/// The node, as far as mounting depends on it.
pub(super) struct Site<'a> {
    /// Where the storage is to be.
    pub(super) target: &'a Path,
    /// Where a program may keep what it needs.
    pub(super) cache: &'a Path,
    /// The account that jobs run as.
    pub(super) user: Option<&'a JobUser>,
    /// File systems of this kernel, as `/proc/filesystems` has them.
    pub(super) kernel: &'a str,
    /// Whether mount commands of users may run.
    pub(super) commands: bool,
    /// The node's gate.
    pub(super) gate: Option<&'a Path>,
}

/// Where a directory of a file server is.
struct ServerAt<'a> {
    address: &'a str,
    directory: &'a str,
    pass: Option<&'a Pass>,
}

/// How storage is reached that the node's network does not lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Where it ends.
    pub(super) to: To,
    /// Whether it is asked as a proxy of HTTP is, for connections that are encrypted end to end; else all bytes go there.
    pub(super) proxy: bool,
}

/// Where a way ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// At a storage.
    Storage(HostPort),
    /// At a file server, which is asked to let the node in. Holds a secret.
    Server(Knock),
}

impl To {
    /// What the gate is asked.
    pub(super) fn line(&self) -> String {
        match self {
            To::Storage(at) => at.to_string(),
            To::Server(knock) => knock.line(),
        }
    }
}

/// A program to run.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// Its name.
    pub(super) name: &'static str,
    /// Its arguments; for a command of a user's the one that the shell is given.
    pub(super) arguments: Vec<String>,
    /// Variables beside the usual ones. Secret.
    pub(super) variables: Vec<(String, String)>,
    /// The file of settings that rclone reads: in memory alone. Secret.
    pub(super) settings: Option<String>,
}

impl Program {
    /// For people. Holds no secret: those are in variables.
    pub(super) fn shown(&self) -> String {
        match self.name {
            SHELL => self.arguments.join(" "),
            name => std::iter::once(name).chain(self.arguments.iter().map(String::as_str)).collect::<Vec<_>>().join(" "),
        }
    }
}

/// In place of a program's name: this one.
pub(super) const SELF: &str = "batchyard";

/// In place of a program's name: a line for a shell.
pub(super) const SHELL: &str = "sh";

/// How a mount lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// As long as its program.
    Program,
    /// In the kernel, once its program has ended well.
    Kernel,
}

/// What is run.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Run first: it fails where the storage cannot be used, and writes something or ends well where it can.
    pub(super) check: Option<Program>,
    /// Mounts it.
    pub(super) mount: Program,
    /// How long the mount is there.
    pub(super) life: Life,
}

/// What a kind of storage is called where it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The code of the error.
    pub(super) code: &'static str,
    /// Its message.
    pub(super) message: &'static str,
    /// Which storage, for people.
    pub(super) what: String,
}

/// What a storage is called.
pub(super) fn named(source: &Source) -> Named {
    let named = |(code, message): (&'static str, &'static str), what: String| Named { code, message, what };
    match source {
        Source::Share { at, .. } => named(SHARE_FAILED, format!("Azure File Share {}", share_name(at))),
        Source::Container { container, account, .. } => {
            named(CONTAINER_FAILED, format!("Azure Blob Container '{container}' of the storage account '{account}'"))
        }
        Source::Server { address, directory, .. } => named(SERVER_FAILED, format!("file server {address}:{directory}")),
        Source::Command { line } => named(COMMAND_FAILED, format!("what is mounted by: {line}")),
    }
}

fn share_name(at: &ShareAt) -> String {
    let below = if at.directory.is_empty() { String::new() } else { format!("/{}", at.directory) };
    format!("//{}/{}{below}", at.smb.host, at.share)
}

/// Values that no text may hold.
pub(super) fn secrets(source: &Source) -> Vec<String> {
    match source {
        Source::Share { key, .. } => vec![key.clone()],
        Source::Container { access, .. } => {
            let proof = access.split('&').find_map(|part| part.strip_prefix("sig=")).unwrap_or_default().to_owned();
            vec![access.clone(), percent_decode_str(&proof).decode_utf8_lossy().into_owned(), proof]
        }
        Source::Server { pass, .. } => pass.iter().map(|pass| pass.proof.clone()).collect(),
        Source::Command { .. } => Vec::new(),
    }
}

/// The way that a storage needs where the node's network does not lead there. The client of NFS in this binary has one of its own.
pub(super) fn way(source: &Source, kernel: &str) -> Option<Way> {
    match source {
        Source::Share { at, .. } => Some(Way { to: To::Storage(at.smb.clone()), proxy: false }),
        Source::Container { at, .. } => Some(Way { to: To::Storage(at.at.clone()), proxy: at.tls }),
        Source::Server { pass: Some(pass), .. } if has(kernel, NFS) => {
            Some(Way { to: To::Server(Knock { pass: pass.clone(), service: Service::Files }), proxy: false })
        }
        Source::Server { .. } | Source::Command { .. } => None,
    }
}

/// Plans a mount. `way` is where the way begins, where there is one. `hide` makes of a password what rclone takes for one.
///
/// # Errors
/// Why it cannot be done on this node, for people.
pub(super) fn plan(
    source: &Source,
    site: &Site<'_>,
    way: Option<&HostPort>,
    hide: impl FnOnce(&str) -> Result<String, String>,
) -> Result<Plan, String> {
    match source {
        Source::Share { at, account, key, file_mode, directory_mode } => {
            let modes = (file_mode.as_str(), directory_mode.as_str());
            if has(site.kernel, "cifs") {
                Ok(share_by_kernel(at, account, key, modes, site, way))
            } else {
                share_by_rclone(at, account, &hide(key)?, modes, site, way)
            }
        }
        Source::Container { at, container, access, options, .. } => {
            container_by_rclone(at, container, access, options.as_deref(), site, way)
        }
        Source::Server { address, directory, options, pass } => {
            server(&ServerAt { address, directory, pass: pass.as_ref() }, options.as_deref(), site, way)
        }
        Source::Command { line } => command(line, site),
    }
}

fn has(kernel: &str, name: &str) -> bool {
    kernel.lines().any(|line| line.split_whitespace().last() == Some(name))
}

/// By the kernel's own client.
///
/// Source: mount.cifs(8). Built against that page: the machines of the project's tests have no such kernel.
fn share_by_kernel(
    at: &ShareAt,
    account: &str,
    key: &str,
    (file_mode, directory_mode): (&str, &str),
    site: &Site<'_>,
    way: Option<&HostPort>,
) -> Plan {
    let mut options = vec![
        "rw".to_owned(),
        format!("file_mode=0{}", file_mode.trim_start_matches('0')),
        format!("dir_mode=0{}", directory_mode.trim_start_matches('0')),
        format!("port={}", way.map_or(at.smb.port, |way| way.port)),
        "serverino".into(),
        "mfsymlinks".into(),
    ];
    options.extend(way.map(|way| format!("ip={}", way.host)));
    options.extend(site.user.map(|user| format!("uid={},gid={}", user.uid, user.gid)));
    options.extend(["nosuid".into(), "nodev".into()]);
    let target = site.target.display().to_string();
    let variables = vec![("USER".into(), account.into()), ("PASSWD".into(), key.into())];
    let mount = Program {
        name: "mount.cifs",
        arguments: vec![share_name(at), target, "-o".into(), options.join(",")],
        variables,
        settings: None,
    };
    Plan { check: None, mount, life: Life::Kernel }
}

/// The file that describes the storage to rclone. Values are ours, or of a form without line breaks.
fn remote(settings: &[(&str, &str)]) -> String {
    let lines: Vec<String> =
        settings.iter().map(|(name, value)| format!("{name} = {}\n", value.replace(['\n', '\r'], ""))).collect();
    format!("[{REMOTE}]\n{}", lines.concat())
}

fn by_rclone(path: &str, options: Vec<String>, settings: String, proxy: Option<&HostPort>, site: &Site<'_>) -> Plan {
    let remote = format!("{REMOTE}:{path}");
    let patience = || PATIENCE.iter().map(|&word| word.to_owned());
    let check = ["lsf".to_owned(), remote.clone(), "--max-depth=1".into()].into_iter().chain(patience()).collect();
    let mut mount = vec!["mount".to_owned(), remote, site.target.display().to_string()];
    mount.extend(VIEW.iter().map(|&word| word.to_owned()).chain(patience()));
    mount.push(format!("--cache-dir={}", site.cache.display()));
    if let Some(user) = site.user {
        mount.extend([format!("--uid={}", user.uid), format!("--gid={}", user.gid)]);
    }
    // What is said later counts.
    mount.extend(options);
    let variables: Vec<(String, String)> = proxy.map(|way| ("HTTPS_PROXY".into(), format!("http://{way}"))).into_iter().collect();
    let program =
        |arguments| Program { name: "rclone", arguments, variables: variables.clone(), settings: Some(settings.clone()) };
    Plan { check: Some(program(check)), mount: program(mount), life: Life::Program }
}

fn share_by_rclone(
    at: &ShareAt,
    account: &str,
    password: &str,
    (file_mode, directory_mode): (&str, &str),
    site: &Site<'_>,
    way: Option<&HostPort>,
) -> Result<Plan, String> {
    let HostPort { host, port } = way.unwrap_or(&at.smb);
    let port = port.to_string();
    let settings = remote(&[("type", "smb"), ("host", host), ("port", &port), ("user", account), ("pass", password)]);
    let path = if at.directory.is_empty() { at.share.clone() } else { format!("{}/{}", at.share, at.directory) };
    let options = vec![format!("--file-perms={file_mode}"), format!("--dir-perms={directory_mode}"), "--umask=0".into()];
    Ok(by_rclone(&path, options, settings, None, site))
}

fn container_by_rclone(
    at: &Endpoint,
    container: &str,
    access: &str,
    options: Option<&str>,
    site: &Site<'_>,
    way: Option<&HostPort>,
) -> Result<Plan, String> {
    let mut all = vec!["--file-perms=0777".to_owned(), "--dir-perms=0777".into(), "--umask=0".into()];
    all.extend(container_options(options.unwrap_or_default())?);
    // What is encrypted end to end goes through a proxy under its own name, all else to where the way begins.
    let url = match way {
        Some(way) if !at.tls => at.through(way.clone()),
        _ => at.clone(),
    };
    let settings = remote(&[("type", "azureblob"), ("sas_url", &format!("{url}/{container}?{access}"))]);
    Ok(by_rclone(container, all, settings, way.filter(|_| at.tls), site))
}

/// Options of the documented FUSE client as rclone has them. Those that only tune that client mean nothing here, and are taken.
///
/// Source: documented default options of blob mounts, and the client's own list.
fn container_options(text: &str) -> Result<Vec<String>, String> {
    const TUNING: [&str; 16] = [
        "allow_other",
        "big_writes",
        "default_permissions",
        "direct_io",
        "entry_timeout",
        "fsname",
        "kernel_cache",
        "max_read",
        "max_write",
        "negative_timeout",
        "nodev",
        "nonempty",
        "nosuid",
        "rw",
        "auto_cache",
        "noatime",
    ];
    const FLAGS: [&str; 9] = [
        "--file-cache-timeout-in-seconds",
        "--log-level",
        "--max-concurrency",
        "--tmp-path",
        "--use-attr-cache",
        "--use-https",
        "--pre-mount-validate",
        "--empty-dir-check",
        "--upload-modified-only",
    ];
    let mut found = Vec::new();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let of_mount = match word.strip_prefix("-o") {
            Some("") => words.next().ok_or("The mountOptions end with '-o'.")?,
            Some(options) => options,
            None => {
                let (name, value) = word.split_once('=').unwrap_or((word, ""));
                match (name, value.parse::<u32>()) {
                    ("--cache-size-mb", Ok(size)) => found.push(format!("--vfs-cache-max-size={size}M")),
                    _ if FLAGS.contains(&name) => {}
                    _ => return Err(unknown(word)),
                }
                continue;
            }
        };
        for option in of_mount.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let octal = !value.is_empty() && value.len() <= 4 && value.bytes().all(|b| (b'0'..=b'7').contains(&b));
            match (name, value.parse::<u32>()) {
                ("ro", _) => found.push("--read-only".into()),
                ("attr_timeout", Ok(seconds)) => found.push(format!("--attr-timeout={seconds}s")),
                ("uid" | "gid", Ok(id)) => found.push(format!("--{name}={id}")),
                // Of modes that are open to all.
                ("umask", _) if octal => found.push(format!("--umask={value}")),
                _ if TUNING.contains(&name) => {}
                _ => return Err(unknown(option)),
            }
        }
    }
    Ok(found)
}

fn unknown(word: &str) -> String {
    format!("the mountOptions hold '{word}', which this node does not know")
}

/// By the kernel's client, where there is one; else by the client of this binary. Where the network does not lead to the server, one goes
/// over the way that was opened for it, and the other is handed connections by the node's gate.
fn server(at: &ServerAt<'_>, options: Option<&str>, site: &Site<'_>, over: Option<&HostPort>) -> Result<Plan, String> {
    let options = options.unwrap_or_default();
    let known = Options::parse(options).map_err(|option| unknown(&option))?;
    let way = match (site.gate, at.pass) {
        _ if has(site.kernel, NFS) => return server_by_kernel(at, options, site, over),
        (Some(socket), Some(pass)) => ServerWay::Gate { socket: socket.to_owned(), pass: pass.clone() },
        _ => ServerWay::Network(at.address.parse().map_err(|_| format!("'{}' is no address", at.address))?),
    };
    if !has(site.kernel, "fuse") {
        return Err("this node cannot mount NFS: its kernel has neither a client for it nor FUSE".into());
    }
    let order = Order {
        way,
        name: at.address.to_owned(),
        directory: at.directory.to_owned(),
        target: site.target.to_owned(),
        options: known,
    };
    let order = serde_json::to_string(&order).map_err(|error| error.to_string())?;
    let mount = Program {
        name: SELF,
        arguments: vec![nfs::SUBCOMMAND.to_owned()],
        variables: vec![(nfs::VARIABLE.to_owned(), order)],
        settings: None,
    };
    Ok(Plan { check: None, mount, life: Life::Program })
}

/// By the kernel's client: of version 4 over a way, which is one port; of any version by the network, as its user wishes.
///
/// Source: nfs(5).
fn server_by_kernel(at: &ServerAt<'_>, options: &str, site: &Site<'_>, over: Option<&HostPort>) -> Result<Plan, String> {
    let mut all: Vec<String> = Vec::new();
    for option in options.split([',', ' ']).filter(|option| !option.is_empty()) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "=._-".contains(c);
        if !option.chars().all(plain) {
            return Err(unknown(option));
        }
        let name = option.split('=').next().unwrap_or_default();
        if over.is_none() || !OF_THE_WAY.contains(&name) {
            all.push(option.to_owned());
        }
    }
    let (kind, host) = match over {
        Some(way) => {
            // A server that is away for longer is an error, not a wait without end.
            if !all.iter().any(|option| option == "hard") {
                all.extend(["soft", "timeo=100", "retrans=3"].map(str::to_owned));
            }
            all.extend(["vers=4.2".into(), "proto=tcp".into(), format!("port={}", way.port)]);
            ("nfs4", way.host.as_str())
        }
        None => ("nfs", at.address),
    };
    all.extend(["nosuid".into(), "nodev".into()]);
    let arguments = vec![
        "-t".into(),
        kind.into(),
        "-o".into(),
        all.join(","),
        format!("{host}:{}", at.directory),
        site.target.display().to_string(),
    ];
    Ok(Plan { check: None, mount: Program { name: "mount", arguments, variables: vec![], settings: None }, life: Life::Kernel })
}

/// Options of the kernel's client that say where a server is and how it is spoken to: known where it is reached over a way.
const OF_THE_WAY: [&str; 9] = ["vers", "nfsvers", "minorversion", "port", "proto", "tcp", "udp", "mountport", "mountproto"];

fn command(line: &str, site: &Site<'_>) -> Result<Plan, String> {
    if !site.commands {
        return Err(
            "mount commands run with rights that reach the host's kernel, and this server's operator has not allowed them \
                    (driver.mount_commands)"
                .into(),
        );
    }
    // The documented form: the place is the last argument. It is a path of ours.
    let line = format!("{line} '{}'", site.target.display());
    Ok(Plan {
        check: None,
        mount: Program { name: SHELL, arguments: vec![line], variables: vec![], settings: None },
        life: Life::Kernel,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "nodev\tsysfs\nnodev\tfuse\n\text4\n";

    fn user() -> JobUser {
        JobUser { name: "batch".into(), uid: 61_000, gid: 61_000 }
    }

    fn planned(source: &Source, kernel: &str, way: Option<&str>) -> Result<Plan, String> {
        let user = user();
        let way = way.map(|way| HostPort::parse(way, 1).expect("a host"));
        let site =
            Site { target: Path::new("/m/afs"), cache: Path::new("/c"), user: Some(&user), kernel, commands: false, gate: None };
        plan(source, &site, way.as_ref(), |password| Ok(format!("hidden({})", password.len())))
    }

    fn share() -> Source {
        Source::Share {
            at: ShareAt {
                smb: HostPort { host: "acct.file.core.windows.net".into(), port: 445 },
                rest: None,
                share: "logs".into(),
                directory: "runs".into(),
            },
            account: "acct".into(),
            key: "canary".into(),
            file_mode: "0640".into(),
            directory_mode: "0750".into(),
        }
    }

    fn container(url: &str, options: Option<&str>) -> Source {
        Source::Container {
            at: Endpoint::parse(url).expect("a URL"),
            account: "acct".into(),
            container: "data".into(),
            access: "sv=1&sig=canary%3D".into(),
            options: options.map(Into::into),
        }
    }

    fn settings(program: &Program) -> &str {
        program.settings.as_deref().unwrap_or_default()
    }

    #[test]
    fn no_secret_is_an_argument() {
        for source in [share(), container("https://acct.blob.core.windows.net", None), container("http://h:1/acct", None)] {
            for kernel in [KERNEL, "nodev\tcifs\n"] {
                let plan = planned(&source, kernel, Some("127.0.0.1:9")).expect("possible");
                for program in plan.check.iter().chain([&plan.mount]) {
                    assert!(!program.shown().contains("canary"), "{}", program.shown());
                }
                assert!(!named(&source).what.contains("canary"));
            }
        }
    }

    #[test]
    fn modes_and_the_jobs_account_are_honoured() {
        let plan = planned(&share(), KERNEL, Some("127.0.0.1:9")).expect("possible");
        let shown = plan.mount.shown();
        for word in
            ["rclone mount store:logs/runs /m/afs ", "--file-perms=0640", "--dir-perms=0750", "--uid=61000", "--allow-other"]
        {
            assert!(shown.contains(word), "{word} in {shown}");
        }
        let wanted = "[store]\ntype = smb\nhost = 127.0.0.1\nport = 9\nuser = acct\npass = hidden(6)\n";
        assert_eq!(settings(&plan.mount), wanted);
        let plan = planned(&share(), "nodev\tcifs\n", None).expect("possible");
        let wanted = "mount.cifs //acct.file.core.windows.net/logs/runs /m/afs -o rw,file_mode=0640,dir_mode=0750,port=445,serverino,\
                      mfsymlinks,uid=61000,gid=61000,nosuid,nodev";
        assert_eq!(plan.mount.shown(), wanted);
        assert!(plan.mount.variables.contains(&("PASSWD".into(), "canary".into())));
    }

    #[test]
    fn a_container_is_reached_by_its_name_or_by_its_path() {
        for (url, way, seen, proxy) in [
            (
                "https://acct.blob.core.windows.net",
                Some("127.0.0.1:9"),
                "https://acct.blob.core.windows.net",
                Some("http://127.0.0.1:9"),
            ),
            ("https://acct.blob.core.windows.net", None, "https://acct.blob.core.windows.net", None),
            ("http://10.0.0.1:10000/acct", Some("127.0.0.1:9"), "http://127.0.0.1:9/acct", None),
            ("http://10.0.0.1:10000/acct", None, "http://10.0.0.1:10000/acct", None),
        ] {
            let plan = planned(&container(url, None), KERNEL, way).expect("possible");
            let wanted = format!("[store]\ntype = azureblob\nsas_url = {seen}/data?sv=1&sig=canary%3D\n");
            assert_eq!(settings(&plan.mount), wanted);
            assert_eq!(plan.mount.variables.first().map(|(_, value)| value.as_str()), proxy);
        }
    }

    #[test]
    fn options_are_taken_from_a_list() {
        let documented = "--use-https=true -o big_writes -o max_read=131072 -o max_write=131072 -o attr_timeout=240 -o fsname=blobfuse \
                          -o kernel_cache -o entry_timeout=240 -o negative_timeout=120 -o allow_other";
        assert_eq!(container_options(documented), Ok(vec!["--attr-timeout=240s".to_owned()]));
        assert_eq!(
            container_options("-o ro,umask=027 -ouid=7"),
            Ok(vec!["--read-only".into(), "--umask=027".into(), "--uid=7".into()])
        );
        assert_eq!(container_options("--cache-size-mb=500"), Ok(vec!["--vfs-cache-max-size=500M".to_owned()]));
        for bad in
            ["-o suid", "-o dev", "--config-file=/etc/shadow", "-x", "-o", "--log-file=/x", "-o umask=--x", "a;b", "-o uid=$(id)"]
        {
            assert!(container_options(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_this_node_cannot_mount_says_so() {
        let nfs = |options: Option<&str>| Source::Server {
            address: "10.0.0.4".into(),
            directory: "/data".into(),
            options: options.map(Into::into),
            pass: None,
        };
        assert!(planned(&nfs(None), "nodev\tproc\n", None).err().expect("impossible").contains("cannot mount NFS"));
        let plan = planned(&nfs(Some("timeo=20")), KERNEL, None).expect("possible");
        assert_eq!((plan.mount.shown().as_str(), plan.life), ("batchyard mount-nfs", Life::Program));
        let plan = planned(&nfs(Some("rw,vers=4.2")), "nodev\tnfs4\n\text4\n", None).expect("possible");
        assert_eq!(plan.mount.shown(), "mount -t nfs -o rw,vers=4.2,nosuid,nodev 10.0.0.4:/data /m/afs");
        assert!(planned(&nfs(Some("dev")), "nodev\tnfs\n", None).is_err());
        let command = Source::Command { line: "mount -t glusterfs 10.0.0.4:/gv0".into() };
        assert!(planned(&command, KERNEL, None).err().expect("forbidden").contains("driver.mount_commands"));
    }
}
