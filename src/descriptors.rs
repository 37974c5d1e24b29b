//! Open files, handed from one process to another over a unix socket with the words that say what they are.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// Most that are handed over at once.
const MOST: usize = 4;

/// Room for them.
const ROOM: usize = rustix::cmsg_space!(ScmRights(MOST));

/// Hands over `descriptors`, [`MOST`] at most, with `words`, which are not empty.
///
/// # Errors
/// The socket takes no more, or too many are given.
pub(crate) fn send(socket: &UnixStream, words: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); ROOM];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors"));
    }
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(words)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == words.len() { Ok(()) } else { Err(io::Error::other("the words were not sent as one")) }
}

/// Takes what was handed over: so many bytes of words, and the descriptors that came with the first of them.
///
/// # Errors
/// Nothing comes in time.
pub(crate) fn receive(socket: &UnixStream, words: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); ROOM];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(words)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok((received.bytes, rights.flatten().collect()))
}

/// Takes a line, without its end and not a byte more, and the first descriptor that came with it.
///
/// # Errors
/// It does not come whole, or is longer than `most` bytes.
pub(crate) fn receive_line(socket: &UnixStream, most: usize) -> io::Result<(String, Option<OwnedFd>)> {
    let (mut line, mut descriptor) = (Vec::new(), None);
    let mut piece = [0];
    while !line.ends_with(b"\n") {
        let (length, received) = receive(socket, &mut piece)?;
        if length == 0 || line.len() + length > most {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend(piece.iter().take(length));
        descriptor = descriptor.or(received.into_iter().next());
    }
    line.pop();
    Ok((String::from_utf8_lossy(&line).into_owned(), descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn descriptors_outlive_a_sender_that_died() {
        let (ours, theirs) = UnixStream::pair().expect("made");
        let (kept, other) = UnixStream::pair().expect("made");
        send(&ours, b"open\n", &[kept.as_fd()]).expect("sent");
        drop((ours, kept));
        let (line, received) = receive_line(&theirs, 100).expect("received");
        assert_eq!(line, "open");
        let mut kept = UnixStream::from(received.expect("one"));
        kept.write_all(b"x").expect("open");
        let mut heard = [0; 1];
        (&other).read_exact(&mut heard).expect("open");
    }
}
