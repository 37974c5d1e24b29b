//! The procedures of the protocol, each as a function: arguments in, the result or the kernel's number of an error out.
//!
//! A call that was sent twice may have been done by the first: what then says that it is done already is what was asked for.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use fuser::Errno;
use nfs3_types::mount::{MOUNT_PROGRAM, dirpath, mountres3, mountstat3};
use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::{Opaque, Pack, Unpack};

use super::attributes::refusal;
use super::dial::Way;
use super::link::{Link, Patience};
use crate::domain::door::Service;

/// A file's handle: the server's name for it, for good.
pub(super) type Handle = nfs_fh3;

/// Pause before a server is asked again that is too busy to answer.
const BUSY: Duration = Duration::from_millis(200);

/// Most that is read or written at once. Unit: bytes.
pub(super) const MOST: u32 = 1 << 20;

/// What a folder lists at once. Unit: bytes.
const LISTED: u32 = 256 * 1024;

/// What is made, if the server said so: asked for where it did not.
pub(super) struct Made {
    pub(super) handle: Option<Handle>,
    pub(super) attributes: Option<fattr3>,
}

/// The procedures.
pub(super) struct Calls {
    link: Link,
}

pub(super) fn some<T: Pack + Unpack>(option: Nfs3Option<T>) -> Option<T> {
    match option {
        Nfs3Option::Some(value) => Some(value),
        Nfs3Option::None => None,
    }
}

fn at<'a>(folder: &Handle, name: &'a [u8]) -> diropargs3<'a> {
    diropargs3 { dir: folder.clone(), name: filename3(Opaque::borrowed(name)) }
}

impl Calls {
    pub(super) fn new(link: Link) -> Calls {
        Calls { link }
    }

    /// Makes a call. The flag says whether it may have been done before.
    fn ask<T: Unpack, E: Unpack>(&self, procedure: NFS_PROGRAM, arguments: &impl Pack) -> Result<T, (Errno, bool)> {
        let until = Instant::now() + self.link.patience();
        let mut again = false;
        loop {
            let answer = match self.link.call(PROGRAM, VERSION, procedure as u32, arguments) {
                Ok(answer) => answer,
                Err(_) => return Err((Errno::EIO, true)),
            };
            again |= answer.again;
            let mut body = answer.body.get(answer.at..).unwrap_or_default();
            match Nfs3Result::<T, E>::unpack(&mut body) {
                Ok((Nfs3Result::Ok(result), _)) => return Ok(result),
                Ok((Nfs3Result::Err((nfsstat3::NFS3ERR_JUKEBOX, _)), _)) if Instant::now() < until => std::thread::sleep(BUSY),
                Ok((Nfs3Result::Err((status, _)), _)) => return Err((refusal(status), again)),
                Err(_) => return Err((Errno::EIO, again)),
            }
        }
    }

    fn plain<T: Unpack, E: Unpack>(&self, procedure: NFS_PROGRAM, arguments: &impl Pack) -> Result<T, Errno> {
        self.ask::<T, E>(procedure, arguments).map_err(|(error, _)| error)
    }

    pub(super) fn attributes(&self, file: &Handle) -> Result<fattr3, Errno> {
        let arguments = GETATTR3args { object: file.clone() };
        let found: GETATTR3resok = self.plain::<_, nfs3_types::xdr_codec::Void>(NFS_PROGRAM::NFSPROC3_GETATTR, &arguments)?;
        Ok(found.obj_attributes)
    }

    pub(super) fn change(&self, file: &Handle, new: sattr3) -> Result<fattr3, Errno> {
        let arguments = SETATTR3args { object: file.clone(), new_attributes: new, guard: Nfs3Option::None };
        let done: SETATTR3resok = self.plain::<_, SETATTR3resfail>(NFS_PROGRAM::NFSPROC3_SETATTR, &arguments)?;
        some(done.obj_wcc.after).map_or_else(|| self.attributes(file), Ok)
    }

    pub(super) fn find(&self, folder: &Handle, name: &[u8]) -> Result<(Handle, fattr3), Errno> {
        let arguments = LOOKUP3args { what: at(folder, name) };
        let found: LOOKUP3resok = self.plain::<_, LOOKUP3resfail>(NFS_PROGRAM::NFSPROC3_LOOKUP, &arguments)?;
        let attributes = some(found.obj_attributes).map_or_else(|| self.attributes(&found.object), Ok)?;
        Ok((found.object, attributes))
    }

    pub(super) fn read_link(&self, link: &Handle) -> Result<Vec<u8>, Errno> {
        let arguments = READLINK3args { symlink: link.clone() };
        let read: READLINK3resok<'static> = self.plain::<_, READLINK3resfail>(NFS_PROGRAM::NFSPROC3_READLINK, &arguments)?;
        Ok(read.data.0.into_owned())
    }

    /// Reads so many bytes at most, and says whether they are the last.
    pub(super) fn read(&self, file: &Handle, offset: u64, count: u32) -> Result<(Vec<u8>, bool), Errno> {
        let arguments = READ3args { file: file.clone(), offset, count };
        let read: READ3resok<'static> = self.plain::<_, READ3resfail>(NFS_PROGRAM::NFSPROC3_READ, &arguments)?;
        let mut data = read.data.into_owned();
        // The kernel takes no more than it asked for.
        data.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        Ok((data, read.eof))
    }

    /// Writes, not necessarily all: answers how much, by which run of the server, and whether it is on its disk.
    pub(super) fn write(&self, file: &Handle, offset: u64, data: &[u8]) -> Result<(usize, writeverf3, bool), Errno> {
        let count = u32::try_from(data.len()).map_err(|_| Errno::EINVAL)?;
        let arguments =
            WRITE3args { file: file.clone(), offset, count, stable: stable_how::UNSTABLE, data: Opaque::borrowed(data) };
        let done: WRITE3resok = self.plain::<_, WRITE3resfail>(NFS_PROGRAM::NFSPROC3_WRITE, &arguments)?;
        let written = usize::try_from(done.count.min(count)).unwrap_or_default();
        Ok((written, done.verf, done.committed != stable_how::UNSTABLE))
    }

    /// Has all that was written on the server's disk. Answers by which run of the server, and the file's attributes then.
    pub(super) fn commit(&self, file: &Handle) -> Result<(writeverf3, Option<fattr3>), Errno> {
        let arguments = COMMIT3args { file: file.clone(), offset: 0, count: 0 };
        let done: COMMIT3resok = self.plain::<_, COMMIT3resfail>(NFS_PROGRAM::NFSPROC3_COMMIT, &arguments)?;
        Ok((done.verf, some(done.file_wcc.after)))
    }

    fn made(&self, handle: post_op_fh3, attributes: post_op_attr) -> Made {
        Made { handle: some(handle), attributes: some(attributes) }
    }

    /// What there is under a name, where a call that says so was sent twice and it was there by the first.
    fn made_before(&self, (error, again): (Errno, bool), folder: &Handle, name: &[u8]) -> Result<Made, Errno> {
        if !again || error != Errno::EEXIST {
            return Err(error);
        }
        let (handle, attributes) = self.find(folder, name)?;
        Ok(Made { handle: Some(handle), attributes: Some(attributes) })
    }

    pub(super) fn create(&self, folder: &Handle, name: &[u8], new: sattr3) -> Result<Made, Errno> {
        let arguments = CREATE3args { where_: at(folder, name), how: createhow3::GUARDED(new) };
        match self.ask::<CREATE3resok, CREATE3resfail>(NFS_PROGRAM::NFSPROC3_CREATE, &arguments) {
            Ok(done) => Ok(self.made(done.obj, done.obj_attributes)),
            Err(refused) => self.made_before(refused, folder, name),
        }
    }

    pub(super) fn make_folder(&self, folder: &Handle, name: &[u8], new: sattr3) -> Result<Made, Errno> {
        let arguments = MKDIR3args { where_: at(folder, name), attributes: new };
        match self.ask::<MKDIR3resok, MKDIR3resfail>(NFS_PROGRAM::NFSPROC3_MKDIR, &arguments) {
            Ok(done) => Ok(self.made(done.obj, done.obj_attributes)),
            Err(refused) => self.made_before(refused, folder, name),
        }
    }

    pub(super) fn make_link(&self, folder: &Handle, name: &[u8], to: &[u8], new: sattr3) -> Result<Made, Errno> {
        let symlink = symlinkdata3 { symlink_attributes: new, symlink_data: nfspath3(Opaque::borrowed(to)) };
        let arguments = SYMLINK3args { where_: at(folder, name), symlink };
        match self.ask::<SYMLINK3resok, SYMLINK3resfail>(NFS_PROGRAM::NFSPROC3_SYMLINK, &arguments) {
            Ok(done) => Ok(self.made(done.obj, done.obj_attributes)),
            Err(refused) => self.made_before(refused, folder, name),
        }
    }

    pub(super) fn make_node(&self, folder: &Handle, name: &[u8], what: mknoddata3) -> Result<Made, Errno> {
        let arguments = MKNOD3args { where_: at(folder, name), what };
        match self.ask::<MKNOD3resok, MKNOD3resfail>(NFS_PROGRAM::NFSPROC3_MKNOD, &arguments) {
            Ok(done) => Ok(self.made(done.obj, done.obj_attributes)),
            Err(refused) => self.made_before(refused, folder, name),
        }
    }

    pub(super) fn remove(&self, folder: &Handle, name: &[u8]) -> Result<(), Errno> {
        let arguments = REMOVE3args { object: at(folder, name) };
        let done = self.ask::<REMOVE3resok, REMOVE3resfail>(NFS_PROGRAM::NFSPROC3_REMOVE, &arguments);
        done.map(drop).or_else(gone_before)
    }

    pub(super) fn remove_folder(&self, folder: &Handle, name: &[u8]) -> Result<(), Errno> {
        let arguments = RMDIR3args { object: at(folder, name) };
        let done = self.ask::<RMDIR3resok, RMDIR3resfail>(NFS_PROGRAM::NFSPROC3_RMDIR, &arguments);
        done.map(drop).or_else(gone_before)
    }

    pub(super) fn rename(&self, from: (&Handle, &[u8]), to: (&Handle, &[u8])) -> Result<(), Errno> {
        let arguments = RENAME3args { from: at(from.0, from.1), to: at(to.0, to.1) };
        match self.ask::<RENAME3resok, RENAME3resfail>(NFS_PROGRAM::NFSPROC3_RENAME, &arguments) {
            Ok(_) => Ok(()),
            // It is away from there: by the first of two calls where it has arrived.
            Err((error, true)) if error == Errno::ENOENT => self.find(to.0, to.1).map(drop),
            Err((error, _)) => Err(error),
        }
    }

    pub(super) fn link(&self, file: &Handle, folder: &Handle, name: &[u8]) -> Result<fattr3, Errno> {
        let arguments = LINK3args { file: file.clone(), link: at(folder, name) };
        match self.ask::<LINK3resok, LINK3resfail>(NFS_PROGRAM::NFSPROC3_LINK, &arguments) {
            Ok(done) => some(done.file_attributes).map_or_else(|| self.attributes(file), Ok),
            Err(refused) => {
                let made = self.made_before(refused, folder, name)?;
                if made.handle.as_ref() == Some(file) { self.attributes(file) } else { Err(Errno::EEXIST) }
            }
        }
    }

    /// What a folder holds from a place on.
    pub(super) fn list(
        &self,
        folder: &Handle,
        cookie: u64,
        cookieverf: cookieverf3,
    ) -> Result<READDIRPLUS3resok<'static>, Errno> {
        let arguments = READDIRPLUS3args { dir: folder.clone(), cookie, cookieverf, dircount: LISTED / 4, maxcount: LISTED };
        self.plain::<_, READDIRPLUS3resfail>(NFS_PROGRAM::NFSPROC3_READDIRPLUS, &arguments)
    }

    pub(super) fn room(&self, root: &Handle) -> Result<FSSTAT3resok, Errno> {
        self.plain::<_, FSSTAT3resfail>(NFS_PROGRAM::NFSPROC3_FSSTAT, &FSSTAT3args { fsroot: root.clone() })
    }

    /// Most that may be read, and written, at once.
    pub(super) fn limits(&self, root: &Handle) -> Result<(u32, u32), Errno> {
        let arguments = FSINFO3args { fsroot: root.clone() };
        let info: FSINFO3resok = self.plain::<_, FSINFO3resfail>(NFS_PROGRAM::NFSPROC3_FSINFO, &arguments)?;
        Ok((info.rtmax.clamp(4096, MOST), info.wtmax.clamp(4096, MOST)))
    }
}

/// What is not there is what was asked for, where the call was sent twice.
fn gone_before((error, again): (Errno, bool)) -> Result<(), Errno> {
    if again && error == Errno::ENOENT { Ok(()) } else { Err(error) }
}

/// Finds the handle of a directory that a server exports, or that is below one that it exports.
///
/// # Errors
/// There is none, or the server does not answer within the patience there is, for people.
pub(super) fn find_directory(way: &Way, calls: &Calls, directory: &str, patience: Patience) -> io::Result<Handle> {
    let (mut path, mut below) = (directory, Vec::new());
    let mut handle = loop {
        match find_root(way, path, patience) {
            // Not every server tells what is not there from what is not allowed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => match path.rsplit_once('/') {
                Some((parent, name)) if !parent.is_empty() => {
                    below.push(name);
                    path = parent;
                }
                _ => return Err(error),
            },
            other => break other?,
        }
    };
    for name in below.into_iter().rev().filter(|name| !name.is_empty()) {
        let found = calls.find(&handle, name.as_bytes()).map_err(|error| match error {
            Errno::ENOENT => io::Error::new(io::ErrorKind::NotFound, "the file server has no such directory"),
            other => io::Error::from_raw_os_error(other.into()),
        })?;
        handle = found.0;
    }
    Ok(handle)
}

fn find_root(way: &Way, directory: &str, patience: Patience) -> io::Result<Handle> {
    let until = Instant::now() + patience.whole;
    loop {
        match ask_root(way, directory, patience) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && Instant::now() < until => std::thread::sleep(BUSY),
            other => return other,
        }
    }
}

fn ask_root(way: &Way, directory: &str, patience: Patience) -> io::Result<Handle> {
    // One call on a connection of its own.
    let mut stream = way.connect(Service::Mount)?;
    stream.set_read_timeout(Some(patience.reply))?;
    stream.set_write_timeout(Some(patience.reply))?;
    let arguments = dirpath(Opaque::borrowed(directory.as_bytes()));
    let program = (nfs3_types::mount::PROGRAM, nfs3_types::mount::VERSION, MOUNT_PROGRAM::MOUNTPROC3_MNT as u32);
    stream.write_all(&super::link::frame(1, program, &arguments)?)?;
    let mut mark = [0; 4];
    stream.read_exact(&mut mark)?;
    let length = u64::from(u32::from_be_bytes(mark) & 0xffff).min(64 * 1024);
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body)?;
    let at = super::link::result_of(&body)?;
    match mountres3::unpack(&mut body.get(at..).unwrap_or_default()) {
        Ok((mountres3::Ok(found), _)) => Ok(nfs_fh3 { data: Opaque::owned(found.fhandle.0.into_owned()) }),
        Ok((mountres3::Err(status), _)) => {
            let why = match status {
                mountstat3::MNT3ERR_NOENT => "the file server has no such directory".to_owned(),
                mountstat3::MNT3ERR_NOTDIR => "this is no directory on the file server".to_owned(),
                mountstat3::MNT3ERR_ACCES | mountstat3::MNT3ERR_PERM => "the file server does not let this node in".to_owned(),
                other => format!("the file server refuses: {other}"),
            };
            Err(io::Error::new(io::ErrorKind::NotFound, why))
        }
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    /// Answers each call as done, with words that mean nothing, too much, or nearly what they should.
    fn serve(listener: &TcpListener, mut random: StdRng) {
        for mut guest in listener.incoming().flatten() {
            guest.set_nodelay(true).expect("set");
            let mut mark = [0; 4];
            while guest.read_exact(&mut mark).is_ok() {
                let mut call = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
                guest.read_exact(&mut call).expect("whole");
                // Its number; an answer, accepted, without proof, done.
                let mut answer = call[..4].to_vec();
                answer.extend([1, 0, 0, 0, 0_u32].into_iter().flat_map(u32::to_be_bytes));
                if call[20..24] == [0, 0, 0, 6] && random.random_bool(0.2) {
                    // More than was asked of a file.
                    answer.extend([0, 0, 8192, 0, 8192_u32].into_iter().flat_map(u32::to_be_bytes).chain([7; 8192]));
                }
                for at in 0..random.random_range(0..60) {
                    let word = match random.random_range(0..8) {
                        _ if at == 0 && random.random_bool(0.8) => 0,
                        0..=2 => random.random_range(0..3),
                        3 => u32::MAX,
                        4 => 1 << 31,
                        5 => random.random_range(0..300),
                        _ => random.random(),
                    };
                    answer.extend(word.to_be_bytes());
                }
                answer.truncate(answer.len() - random.random_range(0..4));
                let length = u32::try_from(answer.len()).expect("small") | 1 << 31;
                if guest.write_all(&length.to_be_bytes()).and_then(|()| guest.write_all(&answer)).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn whatever_a_server_answers_is_data_or_an_error() {
        let seed: u64 = rand::random();
        eprintln!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        // The port is the protocol's; the address nobody else's.
        let address = Ipv4Addr::new(127, 88, random.random(), random.random_range(1..255));
        let listener = TcpListener::bind((address, Service::Files.port())).expect("nobody has it");
        let theirs = StdRng::seed_from_u64(seed ^ 1);
        std::thread::spawn(move || serve(&listener, theirs));
        let patience = Patience { reply: Duration::from_secs(2), whole: Duration::from_secs(3) };
        let calls = Calls::new(Link::new(Way::Network(IpAddr::V4(address)), patience, "s".into()));
        let file = nfs_fh3 { data: Opaque::owned(vec![7; 16]) };
        let began = Instant::now();
        let mut right = 0;
        for round in 0..4_000 {
            let done = match round % 12 {
                0 => calls.attributes(&file).map(drop),
                1 => calls.change(&file, sattr3::default()).map(drop),
                2 => calls.find(&file, b"a").map(drop),
                3 => calls.read_link(&file).map(|to| assert!(to.len() < 1 << 20)),
                4 => calls.read(&file, 0, 4096).map(|(data, _)| assert!(data.len() <= 4096, "no more than was asked for")),
                5 => calls.write(&file, 0, &[1; 64]).map(|(count, ..)| assert!(count <= 64, "no more than there was")),
                6 => calls.commit(&file).map(drop),
                7 => calls.create(&file, b"a", sattr3::default()).map(drop),
                8 => calls.list(&file, 0, cookieverf3::default()).map(drop),
                9 => calls.room(&file).map(drop),
                10 => calls.limits(&file).map(|(read, write)| assert!(read.max(write) <= MOST && read.min(write) >= 4096)),
                _ => calls.rename((&file, b"a"), (&file, b"b")),
            };
            right += u32::from(done.is_ok());
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        assert!(right > 0, "some of it was as it should be");
    }
}
