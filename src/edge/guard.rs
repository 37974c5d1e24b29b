//! What stands between a socket and the HTTP library: it lets through only bytes that have one reading, and keeps time.
//!
//! It follows HTTP/1 requests from head to head. A head that is refused is kept back; a harmless request is passed on in its place, and
//! the service answers that one with the refusal ([`Activity::refusal`]). HTTP/2 frames are unambiguous: of it only the time is kept.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Refusal;
use super::chunk::Chunks;
use super::deadline::Deadline;
use super::head::{self, Framing};

/// Time for a whole head, from its first byte, or from the start of the connection.
const HEAD: Duration = Duration::from_secs(10);

/// Time that a connection may be without a request.
const IDLE: Duration = Duration::from_secs(75);

/// Time in which a client must take some of an answer.
const WRITE: Duration = Duration::from_secs(60);

/// Time that a client has to stop sending after it was answered early: closing at once would throw away the answer on its way.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes of one read.
const READ: usize = 16 * 1024;

/// The first bytes of an HTTP/2 connection. Source: RFC 9113, 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is passed on in place of a refused head.
const IN_PLACE: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// What the guard and the service of one connection know of each other.
#[derive(Debug, Default)]
pub(super) struct Activity {
    in_flight: AtomicU64,
    begun: AtomicU64,
    /// Requests before the refused one, and why it was.
    refused: OnceLock<(u64, Refusal)>,
}

impl Activity {
    /// A request begins.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::AcqRel);
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    /// A request is over.
    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Why the request that began last is refused, if it is.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let (before, refusal) = self.refused.get()?;
        (self.begun.load(Ordering::Acquire) > *before).then_some(*refusal)
    }
}

#[derive(Debug)]
enum State {
    /// Before or in a head.
    Head,
    /// In a body with this many bytes left.
    Length(u64),
    /// In a chunked body.
    Chunked(Chunks),
    /// HTTP/2.
    Through,
    /// After a refused head: nothing more is passed on.
    Refused,
}

/// A socket under guard.
pub(super) struct Guard<I> {
    io: I,
    activity: Arc<Activity>,
    state: State,
    /// Received and not yet passed on.
    buffer: BytesMut,
    /// How many of the first bytes of the buffer may be passed on.
    ready: usize,
    /// Heads passed on.
    heads: u64,
    /// When the head under way began; the connection's start for the first.
    head_since: Option<Instant>,
    /// Since when there is no request, and how many had begun by then.
    idle_since: Option<(Instant, u64)>,
    reading: Deadline,
    writing: Deadline,
    write_since: Option<Instant>,
    linger_since: Option<Instant>,
}

impl<I> Guard<I> {
    /// A guard over a fresh connection.
    pub(super) fn new(io: I, activity: Arc<Activity>) -> Guard<I> {
        Guard {
            io,
            activity,
            state: State::Head,
            buffer: BytesMut::new(),
            ready: 0,
            heads: 0,
            head_since: Some(Instant::now()),
            idle_since: None,
            reading: Deadline::default(),
            writing: Deadline::default(),
            write_since: None,
            linger_since: None,
        }
    }

    /// Finds out how much of the buffer may be passed on.
    fn examine(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        match &mut self.state {
            State::Head => self.examine_head(),
            State::Length(left) => {
                let here = (*left).min(self.buffer.len() as u64);
                *left -= here;
                if *left == 0 {
                    self.state = State::Head;
                }
                self.ready = usize::try_from(here).map_err(io::Error::other)?;
                Ok(())
            }
            State::Chunked(chunks) => {
                let malformed = |_| io::Error::new(io::ErrorKind::InvalidData, "the body is not chunked as announced");
                self.ready = chunks.pass(&self.buffer).map_err(malformed)?;
                if *chunks == Chunks::Done {
                    self.state = State::Head;
                }
                Ok(())
            }
            State::Through => {
                self.ready = self.buffer.len();
                Ok(())
            }
            State::Refused => {
                self.buffer.clear();
                Ok(())
            }
        }
    }

    fn examine_head(&mut self) -> io::Result<()> {
        if self.heads == 0 {
            let seen = self.buffer.len().min(PREFACE.len());
            if self.buffer.get(..seen) == PREFACE.get(..seen) {
                if seen == PREFACE.len() {
                    self.state = State::Through;
                    self.ready = self.buffer.len();
                }
                return Ok(());
            }
        }
        // Empty lines before a request are allowed. Source: RFC 9112, 2.2.
        while self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.head_since.get_or_insert_with(Instant::now);
        let framing = match head::find_end(&self.buffer) {
            Ok(None) => return Ok(()),
            Ok(Some(end)) => head::read(self.buffer.get(..end).unwrap_or_default()).map(|framing| (end, framing)),
            Err(refusal) => Err(refusal),
        };
        match framing {
            Ok((end, framing)) => {
                self.ready = end;
                self.state = match framing {
                    Framing::Length(0) => State::Head,
                    Framing::Length(length) => State::Length(length),
                    Framing::Chunked => State::Chunked(Chunks::START),
                };
            }
            Err(refusal) => {
                let _ = self.activity.refused.set((self.heads, refusal));
                self.buffer.clear();
                self.buffer.extend_from_slice(IN_PLACE);
                self.ready = IN_PLACE.len();
                self.state = State::Refused;
            }
        }
        self.heads += 1;
        self.head_since = None;
        Ok(())
    }

    /// The time until which the client must send, where it must.
    fn read_deadline(&mut self) -> Option<Instant> {
        let in_head = matches!(self.state, State::Head);
        if in_head && let Some(since) = self.head_since {
            return Some(since + HEAD);
        }
        if !in_head && !matches!(self.state, State::Through) {
            return None;
        }
        let begun = self.activity.begun.load(Ordering::Acquire);
        if self.activity.in_flight.load(Ordering::Acquire) > 0 {
            self.idle_since = None;
            return None;
        }
        match self.idle_since {
            Some((since, before)) if before == begun => Some(since + IDLE),
            _ => {
                let now = Instant::now();
                self.idle_since = Some((now, begun));
                Some(now + IDLE)
            }
        }
    }

    /// Whether the client may still be sending something that nobody will read.
    fn is_mid_request(&self) -> bool {
        !matches!(self.state, State::Head) || !self.buffer.is_empty()
    }
}

impl<I: AsyncRead + Unpin> Guard<I> {
    /// Reads into the buffer. `Ok(false)` at the end.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [0u8; READ];
        let mut space = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(context, &mut space))?;
        self.buffer.extend_from_slice(space.filled());
        Poll::Ready(Ok(!space.filled().is_empty()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guard<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.ready == 0 {
                this.examine()?;
            }
            if this.ready > 0 {
                let count = this.ready.min(out.remaining());
                out.put_slice(this.buffer.get(..count).unwrap_or_default());
                this.buffer.advance(count);
                this.ready -= count;
                return Poll::Ready(Ok(()));
            }
            if matches!(this.state, State::Refused) {
                // The answer is on its way, and closes the connection.
                return Poll::Pending;
            }
            match this.poll_fill(context) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let Some(at) = this.read_deadline() else { return Poll::Pending };
                    return this.reading.poll(context, at).map(|()| Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> Guard<I> {
    /// Passes on what a write did, unless it waits for too long.
    fn poll_written<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_since = None;
            return written;
        }
        let since = *self.write_since.get_or_insert_with(Instant::now);
        self.writing.poll(context, since + WRITE).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.poll_written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, parts);
        self.poll_written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.io).poll_flush(context);
        self.poll_written(context, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger_since.is_none() {
            let closed = Pin::new(&mut this.io).poll_shutdown(context);
            ready!(this.poll_written(context, closed))?;
            if !this.is_mid_request() {
                return Poll::Ready(Ok(()));
            }
        }
        let until = *this.linger_since.get_or_insert_with(Instant::now) + LINGER;
        while let Poll::Ready(read) = this.poll_fill(context) {
            this.buffer.clear();
            if !matches!(read, Ok(true)) || Instant::now() >= until {
                return Poll::Ready(Ok(()));
            }
        }
        this.reading.poll(context, until).map(Ok)
    }
}
