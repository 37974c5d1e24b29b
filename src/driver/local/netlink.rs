//! The few things that a node's network needs of the kernel, said by rtnetlink.
//!
//! A socket belongs to the network namespace of the thread that opened it, for good. Refuses to know addresses plans and nodes.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const ERROR: u16 = 2;

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;

const UP: u32 = 0x1;

const ATTR_NAME: u16 = 3;
const ATTR_MASTER: u16 = 10;
const ATTR_LINK_INFO: u16 = 18;
const ATTR_NAMESPACE_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
/// Marks an attribute that holds attributes.
const NESTED: u16 = 1 << 15;

/// Longest wait for an answer. The kernel answers while it is asked; it may first wait for another's change to end.
const DEADLINE: Duration = Duration::from_secs(10);

/// A connection to the network namespace that the thread was in.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Connects to the present namespace of this thread.
    ///
    /// # Errors
    /// No socket may be had.
    pub(super) fn open() -> io::Result<Netlink> {
        // Protocol 0 is rtnetlink.
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(DEADLINE))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// The number of an interface.
    ///
    /// # Errors
    /// There is none of that name.
    pub(super) fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.socket, name)?)
    }

    /// Makes a bridge and turns it on.
    ///
    /// # Errors
    /// The kernel has no bridges, the name is taken, or the right is missing.
    pub(super) fn add_bridge(&mut self, name: &str) -> io::Result<()> {
        let mut message = Message::new(NEW_LINK, CREATE | EXCLUSIVE);
        message.link(0, UP, UP);
        message.text(ATTR_NAME, name);
        message.nested(ATTR_LINK_INFO, |info| info.text(INFO_KIND, "bridge"));
        self.send(message)
    }

    /// Makes a pair of interfaces: one here, on and plugged into the bridge `master`; its peer in another namespace, off:
    /// it cannot be on before the pair is whole.
    ///
    /// # Errors
    /// A name is taken, or the right is missing.
    pub(super) fn add_pair(&mut self, name: &str, master: u32, peer: &str, peer_namespace: BorrowedFd<'_>) -> io::Result<()> {
        let mut message = Message::new(NEW_LINK, CREATE | EXCLUSIVE);
        message.link(0, UP, UP);
        message.text(ATTR_NAME, name);
        message.number(ATTR_MASTER, master);
        message.nested(ATTR_LINK_INFO, |info| {
            info.text(INFO_KIND, "veth");
            info.nested(INFO_DATA, |data| {
                data.nested(VETH_PEER, |end| {
                    end.link(0, 0, 0);
                    end.text(ATTR_NAME, peer);
                    end.number(ATTR_NAMESPACE_FD, peer_namespace.as_raw_fd().unsigned_abs());
                });
            });
        });
        self.send(message)
    }

    /// Plugs an interface into the bridge `master`, and turns it on.
    ///
    /// # Errors
    /// There is none of that number.
    pub(super) fn plug(&mut self, index: u32, master: u32) -> io::Result<()> {
        let mut message = Message::new(NEW_LINK, 0);
        message.link(index, UP, UP);
        message.number(ATTR_MASTER, master);
        self.send(message)
    }

    /// Turns an interface on.
    ///
    /// # Errors
    /// There is none of that number.
    pub(super) fn turn_on(&mut self, index: u32) -> io::Result<()> {
        let mut message = Message::new(NEW_LINK, 0);
        message.link(index, UP, UP);
        self.send(message)
    }

    /// Gives an interface an address.
    ///
    /// # Errors
    /// There is no such interface, or it has the address.
    pub(super) fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut message = Message::new(NEW_ADDRESS, CREATE | EXCLUSIVE);
        message.bytes.extend([2, prefix, 0, 0]); // AF_INET, prefix, no flags, global
        message.bytes.extend(index.to_ne_bytes());
        message.attribute(ADDRESS_LOCAL, &address.octets());
        message.attribute(ADDRESS, &address.octets());
        self.send(message)
    }

    /// Removes an interface, and its peer with it. None of that name is no error.
    ///
    /// # Errors
    /// The right is missing.
    pub(super) fn delete(&mut self, name: &str) -> io::Result<()> {
        let mut message = Message::new(DELETE_LINK, 0);
        message.link(0, 0, 0);
        message.text(ATTR_NAME, name);
        match self.send(message) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(()),
            other => other,
        }
    }

    fn send(&mut self, message: Message) -> io::Result<()> {
        self.sequence += 1;
        rustix::net::send(&self.socket, &message.finish(self.sequence), SendFlags::empty())?;
        let mut buffer = [0u8; 4096];
        loop {
            let (_, length) = rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty())?;
            let answer = buffer.get(..length).unwrap_or_default();
            if number_at(answer, 8) == Some(self.sequence) && answer.get(4..6) == Some(&ERROR.to_ne_bytes()) {
                return match number_at(answer, 16).map(|code| i32::from_ne_bytes(code.to_ne_bytes())) {
                    Some(0) => Ok(()),
                    Some(code) => Err(io::Error::from_raw_os_error(-code)),
                    None => Err(io::Error::other("the kernel's answer is cut short")),
                };
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn number_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// A request being written: header, fixed part, attributes.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: u16) -> Message {
        let mut bytes = vec![0; 4]; // the length, known at the end
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST | ACKNOWLEDGE).to_ne_bytes());
        bytes.extend([0; 8]); // sequence, sender
        Message { bytes }
    }

    /// The fixed part that describes an interface.
    fn link(&mut self, index: u32, flags: u32, change: u32) {
        self.bytes.extend([0; 4]); // family, padding, type
        for number in [index, flags, change] {
            self.bytes.extend(number.to_ne_bytes());
        }
    }

    fn text(&mut self, kind: u16, text: &str) {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.attribute(kind, &value);
    }

    fn number(&mut self, kind: u16, number: u32) {
        self.attribute(kind, &number.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend(length(value.len() + 4).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Message)) {
        let mut inner = Message { bytes: Vec::new() };
        fill(&mut inner);
        self.attribute(kind | NESTED, &inner.bytes);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let total = u32::from(length(self.bytes.len()));
        self.bytes.splice(0..4, total.to_ne_bytes());
        self.bytes.splice(8..12, sequence.to_ne_bytes());
        self.bytes
    }
}

/// Lengths of these messages are far below the field's limit.
fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_its_length_and_pads_its_attributes() {
        let mut message = Message::new(NEW_LINK, 0);
        message.link(7, UP, UP);
        message.text(ATTR_NAME, "eth0");
        let bytes = message.finish(3);
        assert_eq!(bytes.len(), 16 + 16 + 12, "header, fixed part, name with its end padded to four");
        assert_eq!(number_at(&bytes, 0), Some(44));
        assert_eq!(number_at(&bytes, 8), Some(3));
        assert_eq!(bytes.get(32..34), Some(&9u16.to_ne_bytes()[..]), "the attribute's length is without padding");
    }
}
