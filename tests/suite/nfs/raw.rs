//! Calls to a file server as root of a node may make them, without the client of its mounts.

use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use batchyard::domain::door::{Knock, Pass, Service};
use nfs3_types::mount::{self, MOUNT_PROGRAM, dirpath, mountres3};
use nfs3_types::nfs3::{self, *};
use nfs3_types::rpc::{RPC_VERSION_2, auth_unix, call_body, msg_body, opaque_auth, rpc_msg};
use nfs3_types::xdr_codec::{Opaque, Pack, Unpack, Void};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::harness::wait::PATIENCE;
use crate::harness::{Server, descends};

/// A procedure: program, version, number.
pub(super) type Procedure = (u32, u32, u32);

/// What a node's root has of a service of a file server: connections that the node's gate hands over, one at a time.
pub(super) struct Line<'a> {
    node: u32,
    pass: &'a Pass,
    service: Service,
    stream: Option<TcpStream>,
}

impl<'a> Line<'a> {
    pub(super) fn new(node: u32, pass: &'a Pass, service: Service) -> Line<'a> {
        Line { node, pass, service, stream: None }
    }

    fn connect(&self) -> TcpStream {
        let mut gate = UnixStream::connect(format!("/proc/{}/root/run/batchyard/gate", self.node)).expect("a gate");
        gate.set_read_timeout(Some(PATIENCE)).expect("set");
        writeln!(gate, "{}", Knock { pass: self.pass.clone(), service: self.service }.line()).expect("asked");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut said = [0; 300];
        let received = rustix::net::recvmsg(&gate, &mut [IoSliceMut::new(&mut said)], &mut control, RecvFlags::empty());
        let connection = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let stream = TcpStream::from(connection.unwrap_or_else(|| panic!("{received:?} {}", String::from_utf8_lossy(&said))));
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        stream
    }

    /// The result of a call, or why there is none. An answer that does not come within [`PATIENCE`] is a failure of the test.
    fn call<T: Unpack>(&mut self, procedure: Procedure, arguments: &impl Pack) -> io::Result<T> {
        let mut stream = self.stream.take().unwrap_or_else(|| self.connect());
        stream.write_all(&frame(procedure, arguments))?;
        let mut read = |bytes: &mut [u8]| {
            let read = stream.read_exact(bytes);
            assert!(!read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock), "answered in time");
            read
        };
        let mut mark = [0; 4];
        read(&mut mark)?;
        let mut body = vec![0; (u32::from_be_bytes(mark) & !(1 << 31)) as usize];
        read(&mut body)?;
        // One that the server has not closed.
        self.stream = Some(stream);
        // Its number, that it is an answer, accepted, without proof, and done.
        if body.get(4..24) != Some(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) {
            return Err(io::Error::other("refused"));
        }
        T::unpack(&mut &body[24..]).map(|(result, _)| result).map_err(io::Error::other)
    }

    fn files<T: Unpack, E: Unpack>(&mut self, procedure: NFS_PROGRAM, arguments: &impl Pack) -> Option<T> {
        match self.call::<Nfs3Result<T, E>>((nfs3::PROGRAM, nfs3::VERSION, procedure as u32), arguments) {
            Ok(Nfs3Result::Ok(result)) => Some(result),
            _ => None,
        }
    }

    /// What is told of what a handle is a name of.
    pub(super) fn attributes(&mut self, handle: &[u8]) -> Option<fattr3> {
        let found: GETATTR3resok = self.files::<_, Void>(NFS_PROGRAM::NFSPROC3_GETATTR, &object(handle))?;
        Some(found.obj_attributes)
    }

    /// What has a name in a folder.
    pub(super) fn find(&mut self, folder: &[u8], name: &[u8]) -> Option<Vec<u8>> {
        let dir = nfs_fh3 { data: Opaque::owned(folder.to_vec()) };
        let arguments = LOOKUP3args { what: diropargs3 { dir, name: filename3(Opaque::borrowed(name)) } };
        let found: LOOKUP3resok = self.files::<_, LOOKUP3resfail>(NFS_PROGRAM::NFSPROC3_LOOKUP, &arguments)?;
        Some(found.object.data.into_owned())
    }

    /// The handles that a folder lists.
    pub(super) fn list(&mut self, folder: &[u8]) -> Vec<Vec<u8>> {
        let dir = nfs_fh3 { data: Opaque::owned(folder.to_vec()) };
        let arguments = READDIRPLUS3args { dir, cookie: 0, cookieverf: cookieverf3::default(), dircount: 4096, maxcount: 32768 };
        let call = NFS_PROGRAM::NFSPROC3_READDIRPLUS;
        let listed: READDIRPLUS3resok = self.files::<_, READDIRPLUS3resfail>(call, &arguments).expect("a folder");
        let handles = listed.reply.entries.0.into_iter().filter_map(|entry| match entry.name_handle {
            Nfs3Option::Some(handle) => Some(handle.data.into_owned()),
            Nfs3Option::None => None,
        });
        handles.collect()
    }

    /// Tries to change what has this name in a folder, or to have more beside it, in every way that there is. Answers what was done.
    pub(super) fn change(&mut self, folder: &[u8], file: &[u8], name: &str) -> Vec<NFS_PROGRAM> {
        let at = |name: &str| diropargs3 {
            dir: nfs_fh3 { data: Opaque::owned(folder.to_vec()) },
            name: filename3(Opaque::owned(name.as_bytes().to_vec())),
        };
        let (new, attributes) = (format!("{name}-new"), sattr3::default);
        let create = CREATE3args { where_: at(&new), how: createhow3::GUARDED(attributes()) };
        let make_folder = MKDIR3args { where_: at(&new), attributes: attributes() };
        let symlink = symlinkdata3 { symlink_attributes: attributes(), symlink_data: nfspath3(Opaque::borrowed(b"x")) };
        let make_symlink = SYMLINK3args { where_: at(&new), symlink };
        let make_node = MKNOD3args { where_: at(&new), what: mknoddata3::NF3FIFO(attributes()) };
        let link = LINK3args { file: nfs_fh3 { data: Opaque::owned(file.to_vec()) }, link: at(&new) };
        let (away, here) = (RENAME3args { from: at(name), to: at(&new) }, RENAME3args { from: at(name), to: at("here") });
        let (remove, remove_folder) = (REMOVE3args { object: at(name) }, RMDIR3args { object: at(name) });
        use NFS_PROGRAM::*;
        let done = [
            (NFSPROC3_CREATE, self.files::<CREATE3resok, CREATE3resfail>(NFSPROC3_CREATE, &create).is_some()),
            (NFSPROC3_MKDIR, self.files::<MKDIR3resok, MKDIR3resfail>(NFSPROC3_MKDIR, &make_folder).is_some()),
            (NFSPROC3_SYMLINK, self.files::<SYMLINK3resok, SYMLINK3resfail>(NFSPROC3_SYMLINK, &make_symlink).is_some()),
            (NFSPROC3_MKNOD, self.files::<MKNOD3resok, MKNOD3resfail>(NFSPROC3_MKNOD, &make_node).is_some()),
            (NFSPROC3_LINK, self.files::<LINK3resok, LINK3resfail>(NFSPROC3_LINK, &link).is_some()),
            (NFSPROC3_RENAME, self.files::<RENAME3resok, RENAME3resfail>(NFSPROC3_RENAME, &away).is_some()),
            (NFSPROC3_RENAME, self.files::<RENAME3resok, RENAME3resfail>(NFSPROC3_RENAME, &here).is_some()),
            (NFSPROC3_REMOVE, self.files::<REMOVE3resok, REMOVE3resfail>(NFSPROC3_REMOVE, &remove).is_some()),
            (NFSPROC3_RMDIR, self.files::<RMDIR3resok, RMDIR3resfail>(NFSPROC3_RMDIR, &remove_folder).is_some()),
        ];
        done.into_iter().filter_map(|(procedure, is_done)| is_done.then_some(procedure)).collect()
    }

    /// The root of an export, or of a directory in it.
    pub(super) fn mount(&mut self, directory: &[u8]) -> Option<Vec<u8>> {
        let call = (mount::PROGRAM, mount::VERSION, MOUNT_PROGRAM::MOUNTPROC3_MNT as u32);
        match self.call::<mountres3>(call, &dirpath(Opaque::borrowed(directory))) {
            Ok(mountres3::Ok(found)) => Some(found.fhandle.0.into_owned()),
            _ => None,
        }
    }
}

fn object(handle: &[u8]) -> GETATTR3args {
    GETATTR3args { object: nfs_fh3 { data: Opaque::owned(handle.to_vec()) } }
}

/// A call for the attributes of what a handle is a name of, as it is sent.
pub(super) fn question(handle: &[u8]) -> Vec<u8> {
    frame((nfs3::PROGRAM, nfs3::VERSION, NFS_PROGRAM::NFSPROC3_GETATTR as u32), &object(handle))
}

/// A call as it is sent, as root.
fn frame((prog, vers, proc): Procedure, arguments: &impl Pack) -> Vec<u8> {
    let cred = opaque_auth::auth_unix(&auth_unix::default());
    let call = call_body { rpcvers: RPC_VERSION_2, prog, vers, proc, cred, verf: opaque_auth::default() };
    let mut frame = vec![0; 4];
    rpc_msg { xid: 1, body: msg_body::CALL(call) }.pack(&mut frame).expect("packed");
    arguments.pack(&mut frame).expect("packed");
    let length = u32::try_from(frame.len() - 4).expect("small") | 1 << 31;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// The pass that a node's client of a file server was started with: its root can read it.
pub(super) fn pass(server: &Server) -> Pass {
    let nodes = server.node_processes();
    let entries = std::fs::read_dir("/proc").expect("readable").flatten();
    let mut orders = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let variables = descends(pid, &nodes).then(|| std::fs::read(entry.path().join("environ")).ok())??;
        let order = variables.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"BATCHYARD_NFS="))?;
        serde_json::from_slice::<serde_json::Value>(order).ok()
    });
    let mut order = orders.next().expect("a mount");
    serde_json::from_value(order["way"]["gate"]["pass"].take()).expect("a pass")
}
