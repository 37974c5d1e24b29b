//! The connection to a file server: calls side by side, answered in any order, sent again over another connection when one breaks.
//!
//! In: a call as bytes. Out: its answer as bytes, or that the server did not answer within the patience there is. While a server is known
//! to be away a call fails soon, so that whoever makes many of them does not wait for each.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use nfs3_types::rpc::{RPC_VERSION_2, auth_unix, call_body, msg_body, opaque_auth, rpc_msg};
use nfs3_types::xdr_codec::Pack;

use super::dial::Way;
use crate::domain::door::Service;

/// Longest answer. Unit: bytes.
const MAX_ANSWER: usize = 4 << 20;

/// Pause after a connection that could not be made: the first, and the longest as that goes on.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// How long a call waits while the server is known to be away.
const AWAY: Duration = Duration::from_millis(1_000);

/// How a flag of a record says that it is the last of a message.
const LAST: u32 = 1 << 31;

/// How long a server that is away is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// Until a call is answered before it is sent again.
    pub(super) reply: Duration,
    /// Until it fails.
    pub(super) whole: Duration,
}

/// An answer.
pub(super) struct Answer {
    /// What follows the head.
    pub(super) body: Vec<u8>,
    /// Where in it the result begins.
    pub(super) at: usize,
    /// Whether the call may have been done before: it was sent more than once.
    pub(super) again: bool,
}

/// The connection.
pub(super) struct Link {
    way: Way,
    patience: Patience,
    name: String,
    line: Mutex<Option<Arc<Line>>>,
    number: AtomicU32,
    away: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub(super) fn new(way: Way, patience: Patience, name: String) -> Link {
        Link { way, patience, name, line: Mutex::new(None), number: AtomicU32::new(rand::random()), away: AtomicBool::new(false) }
    }

    /// How long a call may take in all.
    pub(super) fn patience(&self) -> Duration {
        self.patience.whole
    }

    /// Makes a call.
    ///
    /// # Errors
    /// It was not answered in time, or not as a call is.
    pub(super) fn call(&self, program: u32, version: u32, procedure: u32, arguments: &impl Pack) -> io::Result<Answer> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let frame = frame(number, (program, version, procedure), arguments)?;
        let whole = if self.away.load(Ordering::Relaxed) { AWAY.min(self.patience.whole) } else { self.patience.whole };
        let until = Instant::now() + whole;
        let (mut pause, mut sent) = (PAUSE.0, 0);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let asked = self.line().and_then(|line| {
                sent += 1;
                line.ask(number, &frame, left.min(self.patience.reply)).inspect_err(|_| line.end())
            });
            let error = match asked {
                Ok(body) => {
                    if self.away.swap(false, Ordering::Relaxed) {
                        eprintln!("the file server {} answers again", self.name);
                    }
                    let at = result_of(&body)?;
                    return Ok(Answer { body, at, again: sent > 1 });
                }
                Err(error) => error,
            };
            if Instant::now() + pause >= until {
                if !self.away.swap(true, Ordering::Relaxed) {
                    eprintln!(
                        "the file server {} did not answer within {whole:?}: {error}. What needs it fails until it does",
                        self.name
                    );
                }
                return Err(io::Error::new(io::ErrorKind::TimedOut, error));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// The connection that there is, or another one.
    fn line(&self) -> io::Result<Arc<Line>> {
        let mut line = lock(&self.line);
        if let Some(line) = line.as_ref().filter(|line| !line.ended.load(Ordering::Acquire)) {
            return Ok(Arc::clone(line));
        }
        let made = Line::open(self.way.connect(Service::Files)?, self.patience.reply)?;
        *line = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// A call as it is sent: as root, to whom the server denies nothing.
pub(super) fn frame(number: u32, (prog, vers, proc): (u32, u32, u32), arguments: &impl Pack) -> io::Result<Vec<u8>> {
    let cred = opaque_auth::auth_unix(&auth_unix::default());
    let call = call_body { rpcvers: RPC_VERSION_2, prog, vers, proc, cred, verf: opaque_auth::default() };
    let head = rpc_msg { xid: number, body: msg_body::CALL(call) };
    let length = head.packed_size() + arguments.packed_size();
    let mark = u32::try_from(length).map_err(io::Error::other)? | LAST;
    let mut frame = Vec::with_capacity(length + 4);
    frame.extend(mark.to_be_bytes());
    head.pack(&mut frame).and_then(|_| arguments.pack(&mut frame)).map_err(io::Error::other)?;
    Ok(frame)
}

/// Where the result begins in an answer.
///
/// # Errors
/// The server refused the call.
pub(super) fn result_of(body: &[u8]) -> io::Result<usize> {
    let word = |at: usize| body.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "the file server's answer is none");
    // Number, that it is an answer, that it is accepted, the kind and length of its proof, and that it was done.
    let proof = word(16).and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= 400).ok_or_else(bad)?;
    let done = 20 + proof.next_multiple_of(4);
    match (word(4), word(8), word(done)) {
        (Some(1), Some(0), Some(0)) => Ok(done + 4),
        (Some(1), Some(refused), Some(why)) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, format!("the file server refuses the call ({refused}, {why})")))
        }
        _ => Err(bad()),
    }
}

/// One connection.
struct Line {
    stream: TcpStream,
    /// Held by whoever writes.
    writing: Mutex<()>,
    waiting: Mutex<HashMap<u32, SyncSender<Vec<u8>>>>,
    ended: AtomicBool,
}

impl Line {
    fn open(stream: TcpStream, patience: Duration) -> io::Result<Arc<Line>> {
        stream.set_write_timeout(Some(patience))?;
        let line = Arc::new(Line { stream, writing: Mutex::default(), waiting: Mutex::default(), ended: AtomicBool::new(false) });
        let reader = Arc::clone(&line);
        Builder::new().name("answers".into()).stack_size(256 * 1024).spawn(move || {
            let _ = reader.read();
            reader.end();
        })?;
        Ok(line)
    }

    fn ask(&self, number: u32, frame: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
        let (sender, answer) = sync_channel(1);
        lock(&self.waiting).insert(number, sender);
        // Whoever ends it takes those away that wait: one that comes later sees that it has ended.
        let sent = if self.ended.load(Ordering::Acquire) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            let _writing = lock(&self.writing);
            (&self.stream).write_all(frame)
        };
        let answered = sent.and_then(|()| match answer.recv_timeout(patience) {
            Ok(body) => Ok(body),
            Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::ConnectionReset.into()),
        });
        lock(&self.waiting).remove(&number);
        answered
    }

    fn read(&self) -> io::Result<()> {
        let mut stream = &self.stream;
        loop {
            let mut message = Vec::new();
            loop {
                let mut mark = [0; 4];
                stream.read_exact(&mut mark)?;
                let mark = u32::from_be_bytes(mark);
                let length = usize::try_from(mark & !LAST).unwrap_or(usize::MAX);
                if message.len().saturating_add(length) > MAX_ANSWER {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let from = message.len();
                message.resize(from + length, 0);
                stream.read_exact(message.get_mut(from..).unwrap_or_default())?;
                if mark & LAST != 0 {
                    break;
                }
            }
            let number = message.get(..4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
            let waits = number.and_then(|number| lock(&self.waiting).remove(&number));
            if let Some(waits) = waits {
                let _ = waits.send(message);
            }
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let _ = self.stream.shutdown(Shutdown::Both);
        lock(&self.waiting).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    fn patience() -> Patience {
        Patience { reply: Duration::from_secs(2), whole: Duration::from_secs(4) }
    }

    fn line(serve: impl FnOnce(TcpStream) + Send + 'static) -> Arc<Line> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let at = listener.local_addr().expect("bound");
        std::thread::spawn(move || serve(listener.accept().expect("comes").0));
        Line::open(TcpStream::connect(at).expect("connected"), patience().reply).expect("open")
    }

    #[test]
    fn answers_find_who_waits_in_any_order_and_in_pieces() {
        let line = line(|mut stream| {
            let mut asked = [0; 8];
            stream.read_exact(&mut asked).expect("asked");
            for number in [2_u32, 1] {
                for (piece, last) in [(number.to_be_bytes(), 0), (7_u32.to_be_bytes(), LAST)] {
                    stream.write_all(&(4 | last).to_be_bytes()).expect("written");
                    stream.write_all(&piece).expect("written");
                }
            }
            let _ = stream.read(&mut asked);
        });
        let other = Arc::clone(&line);
        let first = std::thread::spawn(move || other.ask(1, b"aaaa", patience().reply).expect("answered"));
        assert_eq!(line.ask(2, b"bbbb", patience().reply).expect("answered"), [0, 0, 0, 2, 0, 0, 0, 7]);
        assert_eq!(first.join().expect("ends"), [0, 0, 0, 1, 0, 0, 0, 7]);
    }

    #[test]
    fn a_hostile_answer_ends_the_connection() {
        let line = line(|mut stream| {
            stream.write_all(&u32::MAX.to_be_bytes()).expect("written");
            let _ = stream.read(&mut [0; 16]);
        });
        assert!(line.ask(1, b"aaaa", patience().reply).is_err());
        assert!(line.ended.load(Ordering::Acquire));
        for bad in [&[][..], &[0; 8], &[0xff; 64], &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]] {
            assert!(result_of(bad).is_err());
        }
    }

    #[test]
    fn a_server_that_is_away_is_waited_for_once() {
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        drop(gone);
        let patience = Patience { reply: Duration::from_millis(300), whole: Duration::from_millis(1_500) };
        let link = Link::new(Way::Network(IpAddr::V4(Ipv4Addr::new(127, 255, 255, 254))), patience, "s".into());
        let began = Instant::now();
        assert!(link.call(1, 1, 0, &nfs3_types::xdr_codec::Void).is_err());
        let first = began.elapsed();
        assert!(link.call(1, 1, 0, &nfs3_types::xdr_codec::Void).is_err());
        assert!(first < Duration::from_secs(3) && began.elapsed() - first < first, "{first:?}");
    }
}
