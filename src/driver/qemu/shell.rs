//! The one program of a shell: it runs the machine, keeps what the machine's console says, and answers it.
//!
//! In: what the shell shows of the image, the machine's document and its size. Out: a QEMU that lives as long as this process, whose guest
//! reaches servers, the gate and the door of the shell, and is logged in to, over the link. A machine that does not speak in time is
//! ended, with the reason; the shell starts it again.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::Builder;

use crate::domain::bootstrap::AgentBootstrap;
use crate::driver::local::layout::{DOOR, DOOR_SOCKET, GATE, PRIVATE, TOLD, Told, read_json};
use crate::driver::qemu::command::{self, IMAGE, MONITOR, OWN_DISK, SEED, part};
use crate::driver::qemu::{Accelerator, Format, Run, link, monitor, names, seed};
use crate::server_sockets;

/// Longest log of a machine's console. What is before the last of it is given up. Unit: bytes.
const MAX_LOG: u64 = 4 << 20;

/// Runs the machine until it has ended. `run` is [`Run`] as JSON.
///
/// # Errors
/// It cannot be started, or it ended.
pub fn vm_shell(run: &str) -> io::Result<()> {
    let run: Run = serde_json::from_str(run)?;
    let told: Told = read_json(&part(TOLD)).ok_or_else(|| io::Error::other("this is no machine's shell"))?;
    let document = std::fs::read_to_string(Path::new(PRIVATE).join("bootstrap.json"))?;
    let bootstrap: AgentBootstrap = serde_json::from_str(&document)?;
    std::fs::create_dir_all(part(SEED))?;
    seed::write(&part(SEED), &bootstrap.machine, &told, &document)?;
    make_disk(run.format)?;
    // A word of its agent, or its end: the first is what is waited for.
    let (sender, signs) = sync_channel(1);
    answer(sender.clone())?;
    let mut machine = start(&run, &told)?;
    let console = machine.stdout.take().ok_or_else(|| io::Error::other("the machine has no console"))?;
    Builder::new().name("console".into()).spawn(move || {
        keep_console(console);
        let _ = sender.try_send(());
    })?;
    if let Err(error) = monitor::listen(&part(MONITOR), |event| eprintln!("the machine: {event}")) {
        eprintln!("what happens to the machine will not be told: {error}");
    }
    if let Err(RecvTimeoutError::Timeout) = signs.recv_timeout(run.boot_deadline) {
        machine.kill()?;
        let by = match run.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        };
        let seconds = run.boot_deadline.as_secs();
        let late = format!(
            "the machine's agent did not speak within {seconds} s (accelerator {by}), and the machine is ended: its console is above"
        );
        return Err(io::Error::new(io::ErrorKind::TimedOut, late));
    }
    let status = machine.wait()?;
    Err(io::Error::other(format!("the machine ended ({status})")))
}

/// Makes the machine's own disk, over the image, where it has none yet.
fn make_disk(format: Format) -> io::Result<()> {
    let disk = Path::new(OWN_DISK);
    if disk.exists() {
        return Ok(());
    }
    let folder = disk.parent().unwrap_or(disk);
    std::fs::create_dir_all(folder)?;
    let beside = folder.join("new");
    let format = match format {
        Format::Raw => "raw",
        Format::Qcow2 => "qcow2",
    };
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
        .arg(part(IMAGE))
        .arg(&beside)
        .stdin(Stdio::null())
        .output()?;
    if !made.status.success() {
        return Err(io::Error::other(format!("qemu-img: {}", String::from_utf8_lossy(&made.stderr).trim())));
    }
    std::fs::rename(beside, disk)
}

fn start(run: &Run, told: &Told) -> io::Result<Child> {
    let _ = std::fs::remove_file(part(MONITOR));
    Command::new(command::PROGRAM)
        .args(command::arguments(run, told, Path::exists))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start {}: {error}", command::PROGRAM)))
}

/// Answers the machine's questions, and lets in who logs in to it or knocks at its door. Tells when it asks for a server.
fn answer(signs: SyncSender<()>) -> io::Result<()> {
    link::serve(link::incoming(TcpListener::bind(link::SERVERS)?), move |guest| {
        if !link::is_root(&guest) {
            return Ok(());
        }
        let _ = signs.try_send(());
        guest.set_nodelay(true)?;
        link::join(guest, server_sockets::connect(&Path::new(PRIVATE).join("sockets"))?)
    })?;
    let gate = Path::new(PRIVATE).join(GATE);
    link::serve(link::incoming(TcpListener::bind(link::GATE)?), move |guest| match link::is_root(&guest) {
        true => link::ask_socket(guest, &gate),
        false => Ok(()),
    })?;
    link::serve(link::incoming(TcpListener::bind(link::NAMES)?), |guest| match link::is_root(&guest) {
        true => names::tell(guest),
        false => Ok(()),
    })?;
    let door = Path::new(PRIVATE).join(DOOR);
    if door.is_dir() {
        let door = door.join(DOOR_SOCKET);
        // Of a program before this one.
        let _ = std::fs::remove_file(&door);
        let listener = UnixListener::bind(&door)?;
        let incoming = std::iter::from_fn(move || Some(listener.accept().map(|(guest, _)| guest)));
        link::serve(incoming, |guest: UnixStream| link::ask_link(guest, || link::connect_in_time(link::DOOR)))?;
    }
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    if rustix::net::sockopt::socket_acceptconn(&input).unwrap_or(false) {
        link::serve(link::incoming(TcpListener::from(input)), |guest| {
            let from = guest.peer_addr()?.ip();
            let machine = link::connect_in_time(link::LOGIN)?;
            // The agent lets in by where guests come from, and sees nobody but the shell.
            writeln!(&machine, "{from}")?;
            link::join(guest, machine)
        })?;
    }
    Ok(())
}

/// Copies the console to the log that is this process's output, and keeps that short.
fn keep_console(mut console: impl Read) {
    let log = io::stdout();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = console.read(&mut piece) {
        let size = rustix::fs::fstat(&log).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or_default());
        if size > MAX_LOG {
            let _ = rustix::fs::ftruncate(&log, 0);
        }
        let _ = (&log).write_all(piece.get(..length).unwrap_or_default());
        let _ = (&log).flush();
    }
}
