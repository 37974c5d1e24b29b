//! Joining two connections by threads, where there is no runtime.
//!
//! In: two streams. Out: what each says, to the other. Refuses to know what is said, and who may say it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread::Builder;

/// A connection whose two directions end by themselves.
pub(crate) trait Stream: Read + Write + Send + Sized + 'static {
    /// Another handle of the same connection.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    fn another(&self) -> io::Result<Self>;

    /// Ends a direction, or both.
    ///
    /// # Errors
    /// It is not connected any more.
    fn end(&self, how: Shutdown) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn another(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn end(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
}

impl Stream for UnixStream {
    fn another(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn end(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
}

/// Copies both ways until both have ended: one way by this thread, the other by one named `name` with a stack of `stack` bytes.
///
/// # Errors
/// There is no descriptor or thread to be had.
pub(crate) fn splice(guest: impl Stream, host: impl Stream, name: &str, stack: usize) -> io::Result<()> {
    let (mut from, mut to) = (guest.another()?, host.another()?);
    let out = Builder::new().name(name.into()).stack_size(stack).spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.end(Shutdown::Write);
    })?;
    let (mut from, mut to) = (host, guest);
    let copied = io::copy(&mut from, &mut to);
    let _ = to.end(Shutdown::Write);
    if copied.is_err() {
        let _ = from.end(Shutdown::Both);
    }
    let _ = out.join();
    Ok(())
}
