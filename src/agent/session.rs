//! Sessions of other nodes of a gang in this node's container, whose image needs nothing for it.
//!
//! `sshd` lets a guest in on the node, as ever, and starts [`session`] in place of what the guest asked for. That hands its standard streams
//! and the guest's command to the supervisor ([`Sessions`]), which runs it in the container, and ends as the command did.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The hidden subcommand of this binary that stands for a guest's command.
pub(super) const SUBCOMMAND: &str = "session";

/// Where `sshd` leaves what the guest asked for.
const COMMAND: &str = "SSH_ORIGINAL_COMMAND";

/// What a guest gets who asked for nothing.
const SHELL: &str = "exec /bin/sh -l";

/// Longest command. Unit: bytes.
const LONGEST: u64 = 256 * 1024;

/// Longest time until a session that has come says what it wants.
const SAYING: Duration = Duration::from_secs(1);

/// Exit code of a session that the container is gone before.
const BROKEN: u8 = 255;

/// Standard streams of a session.
const STREAMS: usize = 3;

/// Has the guest's command run by the supervisor that listens at `door`. Answers its exit code.
///
/// # Errors
/// The supervisor does not listen.
pub fn session(door: &Path) -> io::Result<u8> {
    let mut supervisor = UnixStream::connect(door)?;
    #[allow(clippy::disallowed_methods)] // not a setting: it is how sshd says what the guest asked for
    let command = std::env::var_os(COMMAND).unwrap_or_else(|| OsString::from(SHELL));
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    let streams = [input.as_fd(), output.as_fd(), errors.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
    let mut handed = SendAncillaryBuffer::new(&mut space);
    handed.push(SendAncillaryMessage::ScmRights(&streams));
    // One byte takes the streams along; the command follows.
    sendmsg(&supervisor, &[IoSlice::new(b"+")], &mut handed, SendFlags::empty())?;
    supervisor.write_all(command.as_bytes())?;
    supervisor.shutdown(Shutdown::Write)?;
    let mut code = [BROKEN];
    // Without a word it is gone.
    let _ = supervisor.read(&mut code)?;
    Ok(code.first().copied().unwrap_or(BROKEN))
}

/// Where sessions come in.
pub(super) struct Sessions {
    listener: UnixListener,
    running: Vec<(i32, UnixStream)>,
}

/// A session that has said what it wants.
pub(super) struct Wanted {
    /// The command line.
    pub(super) line: OsString,
    /// Its streams: input, output, errors.
    pub(super) streams: [OwnedFd; STREAMS],
    stream: UnixStream,
}

impl Sessions {
    /// Listens at `door`.
    ///
    /// # Errors
    /// It cannot.
    pub(super) fn open(door: &Path) -> io::Result<Sessions> {
        let listener = UnixListener::bind(door)?;
        listener.set_nonblocking(true)?;
        Ok(Sessions { listener, running: Vec::new() })
    }

    /// What becomes readable when a session comes.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The next session that has come. One that does not say what it wants is not heard.
    pub(super) fn next(&self) -> Option<Wanted> {
        loop {
            let (stream, _) = self.listener.accept().ok()?;
            if let Ok(wanted) = hear(stream) {
                return Some(wanted);
            }
        }
    }

    /// A session's command runs as this process.
    pub(super) fn started(&mut self, pid: i32, wanted: Wanted) {
        self.running.push((pid, wanted.stream));
    }

    /// A process has ended: its session, if it is one, ends alike.
    pub(super) fn ended(&mut self, pid: i32, code: i32) {
        if let Some(place) = self.running.iter().position(|(running, _)| *running == pid) {
            let (_, mut stream) = self.running.remove(place);
            // The guest may be gone.
            let _ = stream.write_all(&[u8::try_from(code).unwrap_or(BROKEN)]);
        }
    }
}

fn hear(mut stream: UnixStream) -> io::Result<Wanted> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SAYING))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
    let mut handed = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(&stream, &mut [IoSliceMut::new(&mut byte)], &mut handed, RecvFlags::CMSG_CLOEXEC)?;
    let streams = handed.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors.collect::<Vec<OwnedFd>>()),
        _ => None,
    });
    let streams = streams.and_then(|streams| <[OwnedFd; STREAMS]>::try_from(streams).ok());
    let streams = streams.ok_or_else(|| io::Error::other("a session without its streams"))?;
    let mut line = Vec::new();
    Read::by_ref(&mut stream).take(LONGEST).read_to_end(&mut line)?;
    Ok(Wanted { line: OsString::from_vec(line), streams, stream })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_hands_over_its_streams_and_hears_how_it_ended() {
        let door = std::env::temp_dir().join(format!("sessions-{}", uuid::Uuid::new_v4()));
        let mut sessions = Sessions::open(&door).expect("listens");
        assert!(sessions.next().is_none());
        let guest = {
            let door = door.clone();
            std::thread::spawn(move || session(&door))
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        let wanted = loop {
            assert!(std::time::Instant::now() < deadline, "nobody came");
            if let Some(wanted) = sessions.next() {
                break wanted;
            }
            std::thread::yield_now();
        };
        assert_eq!(wanted.line, SHELL);
        sessions.started(7, wanted);
        sessions.ended(8, 1);
        sessions.ended(7, 3);
        assert_eq!(guest.join().expect("ends").expect("was heard"), 3);
        std::fs::remove_file(door).expect("removed");
    }
}
