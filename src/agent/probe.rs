//! What a node looks at before it takes work: one function a probe. To add one, its function and a line in [`all`].
//!
//! In: the node as it is, and what the server's clock says. Out: what was found, and whether it will do. Nothing here waits for long: what
//! may not answer, such as storage elsewhere, is not touched. Which nodes of a job reach each other is looked at when a job of several is
//! prepared, and whether the engine runs when a job needs it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::statvfs;

use crate::agent::engine;
use crate::agent::exec::SHELLS;
use crate::agent::start::Starter;
use crate::domain::bootstrap::Engine;
use crate::domain::health::{Probe, UNHEALTHY};
use crate::domain::resource::EntityError;
use crate::domain::runc;

/// Least room on the disk that jobs write to. Unit: mebibytes.
const LEAST_DISK_MIB: u64 = 64;

/// Least memory that is to be had. Unit: mebibytes.
const LEAST_MEMORY_MIB: u64 = 64;

/// Where the names of the cluster's nodes are.
const HOSTS: &str = "/etc/hosts";

/// Other nodes that are asked, at which port, and how long for each at once.
const MOST_PEERS: usize = 8;
const PEER_PORT: u16 = 22;
const PEER_PATIENCE: Duration = Duration::from_millis(100);

/// Most that the node's clock may differ from the server's. Times of outputs and signed links of storage are held against each other.
/// Unit: seconds.
const MOST_SKEW_S: u64 = 60;

/// What a probe found, or why it will not do.
type Found = Result<String, String>;

/// Looks at all of it. `mounts` are mounted by now.
pub(super) fn all(starter: &Starter, mounts: usize) -> Vec<Probe> {
    let probe = |name: &str, found: Found| Probe {
        name: name.to_owned(),
        passed: found.is_ok(),
        found: found.unwrap_or_else(|problem| problem),
    };
    let probes = vec![
        probe("disk", disk(&starter.bootstrap.tasks_root)),
        probe("memory", memory(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())),
        probe("clock", clock(starter.server_ahead)),
        probe("shell", shell(&SHELLS.map(Path::new))),
        probe("mounts", Ok(format!("{mounts} mounted"))),
    ];
    let peers = starter.bootstrap.isolation.has_root().then(|| {
        let peers = peers(&std::fs::read_to_string(HOSTS).unwrap_or_default(), &host_name());
        probe("peers", Ok(reached(&peers)))
    });
    // An engine of the host's is the host's matter.
    let own_engine = matches!(starter.bootstrap.engine, Some(Engine::Own { .. }));
    let containers = own_engine.then(|| probe("containers", Ok(containers(engine::find_runtime_version().as_deref()))));
    probes.into_iter().chain(peers).chain(containers).collect()
}

/// Why a node is of no use, if it is not.
pub(super) fn failure(probes: &[Probe], node_id: &str) -> Option<EntityError> {
    let failed: Vec<&Probe> = probes.iter().filter(|probe| !probe.passed).collect();
    if failed.is_empty() {
        return None;
    }
    let told: Vec<String> = failed.iter().map(|probe| format!("{}: {}", probe.name, probe.found)).collect();
    let message = format!("The node {node_id} cannot be used: {}.", told.join("; "));
    let error = EntityError::new(UNHEALTHY, message).with_detail("nodeId", node_id);
    Some(failed.iter().fold(error, |error, probe| error.with_detail(&probe.name, probe.found.clone())))
}

fn disk(root: &Path) -> Found {
    let said = |doing: &str, error: io::Error| format!("{doing} {} fails: {error}", root.display());
    let stat = statvfs(root).map_err(|error| said("looking at", error.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
    if free < LEAST_DISK_MIB {
        return Err(format!("{free} MiB are free, and {LEAST_DISK_MIB} are needed"));
    }
    if stat.f_files > 0 && stat.f_favail == 0 {
        return Err("no file can be made any more".to_owned());
    }
    let file = root.join(".probe");
    std::fs::write(&file, [0; 4096]).map_err(|error| said("writing to", error))?;
    std::fs::remove_file(&file).map_err(|error| said("removing from", error))?;
    Ok(format!("{free} MiB are free"))
}

fn memory(meminfo: &str) -> Found {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok());
    match kib.map(|kib| kib >> 10) {
        Some(free) if free < LEAST_MEMORY_MIB => Err(format!("{free} MiB are free, and {LEAST_MEMORY_MIB} are needed")),
        Some(free) => Ok(format!("{free} MiB are free")),
        None => Err("the kernel does not tell how much there is".to_owned()),
    }
}

fn clock(server_ahead: Option<time::Duration>) -> Found {
    let Some(ahead) = server_ahead else { return Ok("the server's time is not known".to_owned()) };
    let seconds = ahead.whole_seconds();
    let side = if seconds < 0 { "before" } else { "behind" };
    let skew = seconds.unsigned_abs();
    let text = format!("{skew} s {side} the server's");
    if skew > MOST_SKEW_S { Err(format!("{text}, and {MOST_SKEW_S} s are the most")) } else { Ok(text) }
}

fn shell(shells: &[&Path]) -> Found {
    let runs = |path: &&&Path| std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    match shells.iter().find(runs) {
        Some(path) => Ok(path.display().to_string()),
        None => Err("there is none to run commands".to_owned()),
    }
}

/// The addresses of other nodes in a file of names, as many as are asked.
fn peers(hosts: &str, own: &str) -> Vec<IpAddr> {
    let lines = hosts.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        (!address.is_loopback() && words.all(|name| name != own)).then_some(address)
    });
    lines.take(MOST_PEERS).collect()
}

/// How many of the other nodes answer, were it by a refusal. It never makes a node useless: who does not answer may be the one that is gone, and
/// the nodes of a job prove to reach each other before it starts.
fn reached(peers: &[IpAddr]) -> String {
    let asking = peers.iter().map(|peer| {
        let at = SocketAddr::new(*peer, PEER_PORT);
        std::thread::spawn(move || match TcpStream::connect_timeout(&at, PEER_PATIENCE) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        })
    });
    // Asked at once, then heard one after the other.
    let asking: Vec<_> = asking.collect();
    let answered = asking.into_iter().filter_map(|one| one.join().ok()).filter(|answered| *answered).count();
    format!("{answered} of {} that were asked answer", peers.len())
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What makes containers, with the ways out of them that it is not known to have closed. It never makes a node useless: jobs without containers
/// need none of it, and what distributions have is what most hosts can have.
fn containers(told: Option<&str>) -> String {
    let Some(runc) = told.and_then(runc::read) else { return "there is no runc, or its version is not known".to_owned() };
    if runc.escapes.is_empty() {
        return format!("runc {}", runc.version);
    }
    let text = format!("runc {}, which is not known to have the fixes of {}", runc.version, runc.escapes.join(", "));
    tracing::warn!("what runs in containers of this node may get out of them into it: {text}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_can_be_had() {
        assert_eq!(memory("MemTotal: 900 kB\nMemAvailable:   204800 kB\n"), Ok("200 MiB are free".into()));
        assert!(memory("MemAvailable: 2048 kB").is_err_and(|text| text.starts_with("2 MiB")));
        assert!(memory("").is_err());
    }

    #[test]
    fn clocks_may_differ_a_little() {
        for (seconds, passes) in [(0, true), (60, true), (61, false), (-60, true), (-61, false)] {
            assert_eq!(clock(Some(time::Duration::seconds(seconds))).is_ok(), passes, "{seconds}");
        }
        assert!(clock(Some(time::Duration::seconds(-90))).is_err_and(|text| text.starts_with("90 s before the server's")));
        assert!(clock(None).is_ok());
    }

    #[test]
    fn a_disk_is_written_to() {
        let folder = std::env::temp_dir().join(format!("by-probe-{}", uuid::Uuid::new_v4()));
        assert!(disk(&folder).is_err_and(|text| text.starts_with("looking at")));
        std::fs::create_dir(&folder).expect("made");
        assert!(disk(&folder).is_ok_and(|text| text.ends_with("MiB are free")));
        assert_eq!(std::fs::read_dir(&folder).expect("readable").count(), 0, "nothing is left");
        std::fs::remove_dir(&folder).expect("removed");
    }

    #[test]
    fn a_shell_runs() {
        assert!(shell(&[Path::new("/nonexistent"), Path::new("/etc/passwd")]).is_err());
        assert_eq!(shell(&[Path::new("/nonexistent"), Path::new("/bin/sh")]), Ok("/bin/sh".into()));
    }

    #[test]
    fn peers_are_the_others_in_the_file_of_names() {
        let hosts = "127.0.0.1 localhost\n::1 localhost\n10.96.0.4 a a_1\n10.96.0.5 b\n\n10.96.0.6 c\n";
        let found: Vec<String> = peers(hosts, "a").iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.96.0.5", "10.96.0.6"]);
        assert!(peers("# nothing\n", "a").is_empty());
        // Nobody listens there, which is an answer.
        let closed = std::net::TcpListener::bind("127.0.0.2:0").expect("bound").local_addr().expect("bound");
        assert!(TcpStream::connect_timeout(&closed, PEER_PATIENCE).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused));
        assert_eq!(reached(&[]), "0 of 0 that were asked answer");
    }

    #[test]
    fn an_old_runtime_is_told_and_is_no_reason_against_a_node() {
        let debian = "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\n";
        let told = containers(Some(debian));
        assert!(told.starts_with("runc 1.1.5+ds1-1+deb12u1, which is not known to have the fixes of CVE-2025-31133, "), "{told}");
        assert!(!told.contains("CVE-2024-21626"), "Debian's package has that fix: {told}");
        assert_eq!(containers(Some("runc version 1.3.3\n")), "runc 1.3.3");
        assert_eq!(containers(None), containers(Some("what?")));
    }

    #[test]
    fn what_failed_is_the_error() {
        let probe = |name: &str, passed| Probe { name: name.into(), passed, found: format!("{name} found") };
        assert_eq!(failure(&[probe("disk", true)], "tvm-1"), None);
        let error = failure(&[probe("disk", true), probe("clock", false), probe("shell", false)], "tvm-1").expect("failed");
        assert_eq!(error.code, UNHEALTHY);
        assert_eq!(error.message, "The node tvm-1 cannot be used: clock: clock found; shell: shell found.");
        let names: Vec<&str> = error.details.iter().map(|detail| detail.name.as_str()).collect();
        assert_eq!(names, ["nodeId", "clock", "shell"]);
    }
}
