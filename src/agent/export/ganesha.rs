//! The programs that export the disk: NFS-Ganesha, which sees nothing else while it serves, and rpcbind, without which it does not speak
//! version 3.

use std::fmt::Write;
use std::fs::{File, Permissions};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::view;
use crate::domain::bootstrap::Store;
use crate::domain::door::Service;

/// The programs, as Debian calls them.
const SERVER: &str = "ganesha.nfsd";
const PORTS: &str = "rpcbind";

/// Where they are looked for.
const FOLDERS: [&str; 4] = ["/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin"];

/// Where Ganesha has what it needs of disks of its own: without this it starts and exports nothing.
const PLUGINS: [&str; 2] = ["/usr/lib/ganesha/libfsalvfs.so", "/usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so"];

/// Longest time until it serves.
const BEGIN: Duration = Duration::from_secs(60);

/// Time between two looks whether it does, and whether it still runs.
const LOOK: Duration = Duration::from_millis(20);

/// Time between an end and the next start: the first, and the longest as ends repeat.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A server that ran this long did not fail at its start.
const SETTLED: Duration = Duration::from_secs(30);

/// Lines of its log that are told where it does not serve.
const TOLD: usize = 5;

/// Longest log. Unit: bytes.
const MAX_LOG: u64 = 1 << 20;

/// Keeps the programs running for ever. `serves` tells whether anybody may be let in; `say` hears when it serves for the first time, and
/// why it does not.
///
/// # Errors
/// Never but where the file server's folder cannot be used.
pub(super) fn keep(store: &Store, serves: &AtomicBool, mut say: impl FnMut(Result<(), String>)) -> io::Result<()> {
    let Some((server, ports)) = find_program(SERVER).zip(find_program(PORTS)) else {
        say(Err(format!("The host has no {SERVER} or no {PORTS}: install nfs-ganesha, nfs-ganesha-vfs and rpcbind.")));
        return Ok(());
    };
    if Path::new("/usr/lib").is_dir() && !PLUGINS.iter().any(|path| Path::new(path).exists()) {
        say(Err(format!("The host's {SERVER} cannot export disks: install nfs-ganesha-vfs.")));
        return Ok(());
    }
    let settings = store.run.join("ganesha.conf");
    let place = store.run.join("view");
    std::fs::write(&settings, write_settings(store, &view::shown(&store.data, &place)))?;
    for folder in ["/run/rpcbind", "/run/ganesha"] {
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    let mut pause = BACK_OFF.0;
    let mut said = false;
    let mut mapper: Option<Child> = None;
    end_earlier(&store.run, PORTS);
    loop {
        let began = Instant::now();
        if mapper.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) {
            mapper = Some(start(Command::new(&ports).args(["-f", "-w"]), &store.run, PORTS)?);
        }
        end_earlier(&store.run, SERVER);
        let log = log_of(&store.run, SERVER);
        if log.metadata().is_ok_and(|meta| meta.len() > MAX_LOG) {
            let _ = std::fs::remove_file(&log);
        }
        let mut command = Command::new(&server);
        command.args(["-F", "-N", "NIV_EVENT", "-L", "STDERR", "-f"]).arg(&settings).arg("-p").arg(store.run.join("ganesha.pid"));
        let mut child = view::start(&store.data, &place, || start(&mut command, &store.run, SERVER))?;
        let answers = || [Service::Files, Service::Mount].iter().all(|service| is_served(store, *service));
        while matches!(child.try_wait(), Ok(None)) {
            if answers() {
                match view::shut(&child, &place) {
                    Ok(()) => {
                        serves.store(true, Ordering::Release);
                        if !said {
                            said = true;
                            say(Ok(()));
                        }
                    }
                    Err(error) => {
                        let _ = child.kill();
                        // One that ended by itself meanwhile has no view any more, and another is started.
                        if child.wait().is_ok_and(|ended| ended.signal().is_some_and(|signal| signal == Signal::KILL.as_raw())) {
                            say(Err(format!("{SERVER} cannot be kept to its disk: {error}")));
                        }
                    }
                }
                // Nothing is to be done until it ends.
                let _ = child.wait();
                serves.store(false, Ordering::Release);
            } else if began.elapsed() > BEGIN {
                if !said {
                    say(Err(format!("{SERVER} does not serve within {} s: {}", BEGIN.as_secs(), last_words(&log))));
                }
                let _ = child.kill();
            } else {
                std::thread::sleep(LOOK);
            }
        }
        eprintln!("{SERVER} ended after {:?}", began.elapsed());
        pause = if began.elapsed() > SETTLED { BACK_OFF.0 } else { pause };
        std::thread::sleep(pause);
        pause = (pause * 2).min(BACK_OFF.1);
    }
}

fn find_program(name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

fn is_served(store: &Store, service: Service) -> bool {
    let at = SocketAddr::new(store.address, service.port());
    TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_ok()
}

/// Starts a program, and writes down which process it is.
fn start(command: &mut Command, run: &Path, name: &str) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(log_of(run, name))?;
    let child = command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start {name}: {error}")))?;
    std::fs::write(run.join(format!("{name}.pid")), child.id().to_string())?;
    Ok(child)
}

/// What a program says.
fn log_of(run: &Path, name: &str) -> PathBuf {
    run.join(format!("{name}.log"))
}

/// Ends the one that a keeper before this one started: its port is in its hands.
fn end_earlier(run: &Path, name: &str) {
    let number = std::fs::read_to_string(run.join(format!("{name}.pid"))).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let Some(pid) = number.and_then(Pid::from_raw) else { return };
    let is_it = || {
        let called = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
        name.starts_with(called.trim()) && !called.trim().is_empty()
    };
    let until = Instant::now() + BACK_OFF.1;
    while is_it() && Instant::now() < until {
        let _ = kill_process(pid, Signal::KILL);
        std::thread::sleep(LOOK);
    }
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TOLD)..).unwrap_or_default().join("; ")
}

/// Ganesha's settings: version 3 over TCP alone, at the ports that the door knows; all of the disk, which Ganesha sees at `shown`, to this
/// very node, from where the door connects. Locks are none of it.
///
/// Root is root, as on the file servers of the original: setup tasks make folders for their jobs. A node's root is whoever it says anyhow.
fn write_settings(store: &Store, shown: &Path) -> String {
    let Store { data, address, run, .. } = store;
    let (data, shown, run) = (data.display(), shown.display(), run.display());
    let clients = match store.door {
        Some(_) => format!("Access_Type = NONE; CLIENT {{ Clients = {address}; Access_Type = RW; Squash = No_Root_Squash; }}"),
        None => "Access_Type = RW;".to_owned(),
    };
    let mut text = String::new();
    let _ = write!(
        text,
        "NFS_CORE_PARAM {{ NFS_Port = {files}; MNT_Port = {mount}; Protocols = 3; Enable_NLM = false; Enable_RQUOTA = false; \
         Enable_UDP = false; Mount_Path_Pseudo = true; }}\n\
         NFSV4 {{ Graceless = true; RecoveryBackend = fs; RecoveryRoot = {run}/recovery; }}\n\
         EXPORT {{ Export_Id = 1; Path = {shown}; Pseudo = {data}; {clients} Squash = No_Root_Squash; SecType = sys; Protocols = 3; \
         Transports = TCP; Filesystem_Id = 1.1; FSAL {{ Name = VFS; }} }}\n",
        files = Service::Files.port(),
        mount = Service::Mount.port(),
    );
    text
}
