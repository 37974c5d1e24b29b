//! What the nodes of a gang have of each other for the time of one attempt: ssh among them, a folder that all see, and a look whether
//! everyone is there before anything of the user's starts.
//!
//! The supervisor itself opens the door and hands each guest to an `sshd` of the guest's own, which runs as the job does, in its
//! namespaces and with its limits: nobody else can come in, and what a session starts ends with the part. Keys are those of the
//! attempt; they are in memory that the part alone sees. A node that runs one part alone opens nothing.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::User;
use rustix::fs::{AtFlags, Mode, symlinkat, unlinkat};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::net::{RecvFlags, recv};
use serde::{Deserialize, Serialize};

use crate::agent::beneath::{Owner, make_file, make_folders, open_folder, open_trusted};
use crate::agent::expand::is_name;
use crate::agent::isolate;
use crate::agent::layout::{Place, Variables};
use crate::agent::protocol::{Host, Session};
use crate::agent::session::{SUBCOMMAND, Sessions};
use crate::domain::bootstrap::{Isolation, JobUser, host_name, hosts_file};
use crate::domain::resource::EntityError;
use crate::own_file::own_file;

/// Where nodes of a job reach each other.
///
/// Source: documented port of jobs that run on the host.
const PORT: u16 = 22;

/// The same of jobs that run in containers.
///
/// Source: recorded output of such a job.
const CONTAINER_PORT: u16 = 23;

/// Where root of a container has its keys. It is in memory.
pub(super) const CONTAINER_KEYS: &str = "/root/.ssh";

/// Where the program is that serves a session.
const SSHD: &str = "/usr/sbin/sshd";

/// Longest time until a node of the gang answers another.
const MEETING: Duration = Duration::from_secs(5);

/// Guests who were let in and have not said anything yet; more are sent away.
const SILENT_GUESTS: usize = 64;

/// What the shell of a session reads: with a command the first, without one the second.
const SHELL_FILES: [&str; 2] = [".bashrc", ".bash_profile"];

/// The code of a job's error where its nodes do not reach each other.
const UNREACHABLE: &str = "JobNodesUnreachable";

/// In the account's `.ssh`, where the job runs in containers: this program, and where it finds the supervisor.
const PROGRAM: &str = "batchyard";
const DOOR: &str = "door";

/// The name of the folder of all nodes in the job's temporary folder.
pub(super) const SHARED: &str = "shared";

/// The nodes of one attempt. Holds a secret.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Gang {
    /// All nodes, by rank.
    pub(super) hosts: Vec<Host>,
    /// The place of this one.
    pub(super) rank: u32,
    /// The keys.
    pub(super) session: Session,
    /// The attempt's folder in that of the cluster, where the node has one.
    pub(super) folder: Option<PathBuf>,
    /// The account that lets guests in; `None` where the node has no account of its own for jobs, nor a port.
    pub(super) user: Option<JobUser>,
    /// Whether the job runs in containers.
    pub(super) in_container: bool,
    /// The file to tell the nodes' names in, where nobody else does: they are in networks of their hosts, which have ssh servers of their own.
    pub(super) names: Option<PathBuf>,
}

impl Gang {
    fn port(&self) -> u16 {
        if self.in_container || self.names.is_some() { CONTAINER_PORT } else { PORT }
    }

    /// Makes the nodes' names known on this one, where nobody else does.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn tell_names(&self) -> io::Result<()> {
        let Some(file) = &self.names else { return Ok(()) };
        // In place: containers have this very file.
        std::fs::write(file, hosts_file(self.hosts.iter().map(|host| (host.address.as_str(), host.node_id.as_str()))))
    }

    /// What a container of the job has in [`CONTAINER_KEYS`], by name.
    pub(super) fn container_files(&self) -> Vec<(String, String)> {
        let user = self.user.as_ref().map_or("root", |user| user.name.as_str());
        let names: Vec<String> = self.hosts.iter().flat_map(names_of).collect();
        let client = format!(
            "Host {}\n  User {user}\n  Port {CONTAINER_PORT}\n  IdentityFile {CONTAINER_KEYS}/id_ecdsa\n  \
             UserKnownHostsFile {CONTAINER_KEYS}/known_hosts\n  StrictHostKeyChecking accept-new\n  LogLevel ERROR\n",
            names.join(" ")
        );
        let key = &self.session.public_key;
        let known = names.iter().map(|name| format!("[{name}]:{CONTAINER_PORT} {key}\n")).collect();
        [("id_ecdsa", self.session.private_key.clone()), ("known_hosts", known), ("config", client)]
            .map(|(name, content)| (name.to_owned(), content))
            .to_vec()
    }

    fn own(&self) -> io::Result<&Host> {
        self.hosts.get(self.rank as usize).ok_or_else(|| io::Error::other("this node is not one of the job's"))
    }

    /// Makes the folder that all nodes of the attempt share, once for all of them.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn make_folder(&self, owner: Owner) -> io::Result<Option<OwnedFd>> {
        let Some((root, name)) = self.folder.as_deref().and_then(|folder| Some((folder.parent()?, folder.file_name()?))) else {
            return Ok(None);
        };
        make_folders(open_trusted(root)?.as_fd(), Path::new(name), owner).map(Some)
    }

    /// Puts that folder where the job finds it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn show_folder(&self, folder: &OwnedFd, temp: &Place, isolation: Isolation) -> io::Result<()> {
        let parent = open_folder(open_trusted(&temp.root)?.as_fd(), &temp.below)?;
        match isolation {
            Isolation::Namespaces | Isolation::VirtualMachine => {
                let target = open_folder(parent.as_fd(), Path::new(SHARED))?;
                isolate::show(folder, &target)?;
            }
            Isolation::ProcessGroup => {
                unlinkat(&parent, SHARED, AtFlags::REMOVEDIR)?;
                symlinkat(self.folder.as_deref().unwrap_or(Path::new("/")), &parent, SHARED)?;
            }
        }
        Ok(())
    }

    /// Looks whether every other node of the gang is known by name and answers, were it by a refusal.
    ///
    /// # Errors
    /// The first that is not or does not, with both nodes named.
    pub(super) fn meet(&self) -> Result<(), EntityError> {
        let own = self.own().map(|host| host.node_id.as_str()).unwrap_or_default();
        for (_, peer) in self.hosts.iter().enumerate().filter(|(rank, _)| *rank != self.rank as usize) {
            reach(peer, self.port()).map_err(|why| {
                EntityError::new(UNREACHABLE, format!("Node {own} cannot reach node {} of the same job: {why}.", peer.node_id))
                    .with_detail("nodeId", own)
                    .with_detail("peerNodeId", peer.node_id.clone())
            })?;
        }
        Ok(())
    }
}

/// What a node is called: its id, the host name that is made of it, and its address.
fn names_of(host: &Host) -> [String; 3] {
    [host.node_id.clone(), host_name(&host.node_id), host.address.clone()]
}

fn reach(peer: &Host, port: u16) -> Result<(), String> {
    let address: IpAddr = peer.address.parse().map_err(|_| format!("'{}' is no address", peer.address))?;
    let mut known =
        (peer.node_id.as_str(), port).to_socket_addrs().map_err(|error| format!("its name is not known ({error})"))?;
    if !known.any(|known| known.ip() == address) {
        return Err(format!("its name does not lead to {address}"));
    }
    match TcpStream::connect_timeout(&SocketAddr::new(address, port), MEETING) {
        Ok(_) => Ok(()),
        // It is there and its part is over already: all parts listened before any was released. What became of it is its own to report.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(format!("{address}, port {port}: {error}")),
    }
}

/// Where the other nodes of the gang come in.
pub(super) struct Door {
    listener: TcpListener,
    silent: Vec<TcpStream>,
    config: PathBuf,
    user: JobUser,
    /// Where guests of a container go on to it.
    sessions: Option<Sessions>,
}

impl Door {
    /// Gives the job's account a home that this part alone sees, with the attempt's keys in it, and begins to listen.
    /// To be called while this process may still mount.
    ///
    /// # Errors
    /// What could not be done.
    pub(super) fn open(gang: &Gang, user: &JobUser, environment: &Variables) -> io::Result<Door> {
        let account = User::from_name(&user.name)?.ok_or_else(|| io::Error::other("the job's account is not known"))?;
        let home = account.dir;
        let options = format!("mode=0755,size=64m,uid={},gid={}", user.uid, user.gid);
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        mount("home", &home, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))?;
        let owner = Some((user.uid, user.gid));
        let folder = make_folders(open_trusted(&home)?.as_fd(), Path::new(".ssh"), owner)?;
        rustix::fs::fchmod(&folder, Mode::RWXU)?;
        let below = home.join(".ssh");
        let shell_files = if gang.in_container { &[][..] } else { &SHELL_FILES };
        for name in shell_files {
            make_file(open_trusted(&home)?.as_fd(), name, owner)?
                .write_all(format!(". {}/environment\n", below.display()).as_bytes())?;
        }
        for (name, content) in files(gang, user, &below, environment) {
            let mut file = make_file(folder.as_fd(), name, owner)?;
            rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
            file.write_all(content.as_bytes())?;
        }
        let sessions = gang.in_container.then(|| open_sessions(&folder, &below, user)).transpose()?;
        let address: IpAddr = gang.own()?.address.parse().map_err(io::Error::other)?;
        let listener = TcpListener::bind((address, gang.port()))?;
        listener.set_nonblocking(true)?;
        Ok(Door { listener, silent: Vec::new(), config: below.join("sshd_config"), user: user.clone(), sessions })
    }

    /// What becomes readable when there is something to do.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let sessions = self.sessions.iter().map(Sessions::descriptor);
        std::iter::once(self.listener.as_fd()).chain(self.silent.iter().map(AsFd::as_fd)).chain(sessions)
    }

    /// What guests of the container want that have come this far.
    pub(super) fn sessions_mut(&mut self) -> Option<&mut Sessions> {
        self.sessions.as_mut()
    }

    /// Lets in who is there. Whoever only looked whether someone answers is not served.
    ///
    /// # Errors
    /// A session could not be started.
    pub(super) fn answer(&mut self) -> io::Result<()> {
        while let Ok((guest, _)) = self.listener.accept() {
            if self.silent.len() < SILENT_GUESTS && guest.set_nonblocking(true).is_ok() {
                self.silent.push(guest);
            }
        }
        let mut result = Ok(());
        for guest in std::mem::take(&mut self.silent) {
            match recv(&guest, &mut [0u8; 1][..], RecvFlags::PEEK) {
                Ok((_, 1..)) => result = result.and(self.serve(guest)),
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => self.silent.push(guest),
                Err(_) => {}
            }
        }
        result
    }

    fn serve(&self, guest: TcpStream) -> io::Result<()> {
        guest.set_nonblocking(false)?;
        let guest = OwnedFd::from(guest);
        // Reaped by number, with all others.
        Command::new(SSHD)
            .arg("-i")
            .arg("-f")
            .arg(&self.config)
            .current_dir("/")
            .env_clear()
            .stdin(Stdio::from(guest.try_clone()?))
            .stdout(Stdio::from(guest))
            .stderr(Stdio::null())
            .process_group(0)
            .uid(self.user.uid)
            .gid(self.user.gid)
            .spawn()
            .map(drop)
            .map_err(|error| io::Error::new(error.kind(), format!("{SSHD}: {error}")))
    }
}

/// Puts in the account's `.ssh` what a guest of a container is handed on with: this program, and the way back to this process.
fn open_sessions(folder: &OwnedFd, below: &Path, user: &JobUser) -> io::Result<Sessions> {
    make_file(folder.as_fd(), PROGRAM, None)?;
    mount_bind(own_file()?, below.join(PROGRAM))?;
    let door = below.join(DOOR);
    let sessions = Sessions::open(&door)?;
    std::os::unix::fs::chown(&door, Some(user.uid), Some(user.gid))?;
    Ok(sessions)
}

/// Files of the account's `.ssh`, which is at `below`. One key pair is who a node is and who may come in: all nodes of the attempt hold it,
/// and nobody else.
fn files(gang: &Gang, user: &JobUser, below: &Path, environment: &Variables) -> Vec<(&'static str, String)> {
    let Session { private_key, public_key } = &gang.session;
    let below = below.display();
    // As ssh writes names of hosts at other ports than the usual one.
    let known_as = |name: &String| if gang.port() == PORT { name.clone() } else { format!("[{name}]:{}", gang.port()) };
    let names_of = |host| names_of(host).iter().map(known_as).collect::<Vec<_>>().join(",");
    let known = gang.hosts.iter().map(|host| format!("{} {public_key}\n", names_of(host))).collect();
    let forced = match gang.in_container {
        true => format!("ForceCommand {below}/{PROGRAM} {SUBCOMMAND} {below}/{DOOR}\n"),
        false => String::new(),
    };
    let client = format!(
        "Host *\n  Port {port}\n  IdentityFile {below}/id_ecdsa\n  UserKnownHostsFile {below}/known_hosts\n  StrictHostKeyChecking accept-new\n  \
         LogLevel ERROR\n",
        port = gang.port(),
    );
    let server = format!(
        "HostKey {below}/id_ecdsa\nAuthorizedKeysFile {below}/authorized_keys\nAuthenticationMethods publickey\nAllowUsers {}\n\
         StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxAuthTries 3\nAllowAgentForwarding no\n\
         AllowTcpForwarding no\nAllowStreamLocalForwarding no\nX11Forwarding no\nPermitTunnel no\nPrintMotd no\nPidFile none\n\
         Subsystem sftp internal-sftp\n{forced}",
        user.name
    );
    let variables: String = environment
        .iter()
        .filter(|(name, _)| is_name(name))
        .map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', r"'\''")))
        .collect();
    vec![
        ("id_ecdsa", private_key.clone()),
        ("id_ecdsa.pub", format!("{public_key}\n")),
        ("authorized_keys", format!("{public_key}\n")),
        ("known_hosts", known),
        ("config", client),
        ("sshd_config", server),
        ("environment", variables),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(node_id: &str, address: &str) -> Host {
        Host { node_id: node_id.into(), address: address.into() }
    }

    #[test]
    fn both_nodes_of_a_pair_that_does_not_meet_are_named() {
        let session = Session { private_key: String::new(), public_key: String::new() };
        let hosts = vec![host("localhost", "127.9.9.9"), host("tvm-2", "127.9.9.8")];
        let gang = Gang { hosts, rank: 1, session, folder: None, user: None, in_container: false, names: None };
        let error = gang.meet().expect_err("the name leads elsewhere");
        assert_eq!(error.code, UNREACHABLE);
        assert_eq!(error.message, "Node tvm-2 cannot reach node localhost of the same job: its name does not lead to 127.9.9.9.");
        assert_eq!(error.details.iter().map(|detail| detail.value.as_str()).collect::<Vec<_>>(), ["tvm-2", "localhost"]);
    }

    #[test]
    fn a_node_answers_or_is_not_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let peer = host("localhost", "127.0.0.1");
        assert_eq!(reach(&peer, port), Ok(()));
        drop(listener);
        assert_eq!(reach(&peer, port), Ok(()), "its part is over");
        // An address that the kernel itself sends nothing to.
        let nowhere = host("255.255.255.255", "255.255.255.255");
        assert!(reach(&nowhere, port).expect_err("nobody is there").contains(&format!("255.255.255.255, port {port}: ")));
    }

    #[test]
    fn a_container_finds_its_neighbours_at_their_own_port() {
        let session = Session { private_key: "PRIVATE".into(), public_key: "ecdsa AAAA".into() };
        let user = JobUser { name: "batch".into(), uid: 61_000, gid: 61_000 };
        let hosts = vec![host("tvm-1_1", "10.0.0.4")];
        let gang = Gang { hosts, rank: 0, session, folder: None, user: Some(user), in_container: true, names: None };
        let files = gang.container_files();
        let file =
            |name: &str| files.iter().find(|(known, _)| known == name).map(|(_, content)| content.as_str()).expect("there");
        assert!(file("config").starts_with("Host tvm-1_1 tvm-1-1 10.0.0.4\n  User batch\n  Port 23\n"), "{}", file("config"));
        assert_eq!(file("known_hosts"), "[tvm-1_1]:23 ecdsa AAAA\n[tvm-1-1]:23 ecdsa AAAA\n[10.0.0.4]:23 ecdsa AAAA\n");
        assert_eq!(file("id_ecdsa"), "PRIVATE");
    }
}
