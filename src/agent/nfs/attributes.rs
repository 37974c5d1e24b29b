//! What the server says of a file as the kernel wants it, and its errors. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};
use nfs3_types::nfs3::{Nfs3Option, fattr3, ftype3, nfsstat3, nfstime3, sattr3, set_atime, set_mtime};

/// Bytes that are read and written at once, as programs are told. Unit: bytes.
const PREFERRED: u32 = 1 << 20;

/// The bit of a mode by which what is made in a folder has the folder's group.
pub(super) const SET_GROUP: u32 = 0o2000;

/// A file's attributes under the number `ino`.
pub(super) fn known_as(ino: u64, seen: &fattr3) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: seen.size,
        blocks: seen.used.div_ceil(512),
        atime: time(seen.atime),
        mtime: time(seen.mtime),
        ctime: time(seen.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(seen.type_),
        perm: u16::try_from(seen.mode & 0o7777).unwrap_or_default(),
        nlink: seen.nlink,
        uid: seen.uid,
        gid: seen.gid,
        rdev: 0,
        blksize: PREFERRED,
        flags: 0,
    }
}

pub(super) fn kind(kind: ftype3) -> FileType {
    match kind {
        ftype3::NF3REG => FileType::RegularFile,
        ftype3::NF3DIR => FileType::Directory,
        ftype3::NF3BLK => FileType::BlockDevice,
        ftype3::NF3CHR => FileType::CharDevice,
        ftype3::NF3LNK => FileType::Symlink,
        ftype3::NF3SOCK => FileType::Socket,
        ftype3::NF3FIFO => FileType::NamedPipe,
    }
}

fn time(seen: nfstime3) -> SystemTime {
    // More than a second of nanoseconds is none of theirs.
    UNIX_EPOCH + Duration::from_secs(seen.seconds.into()) + Duration::from_nanos(u64::from(seen.nseconds).min(999_999_999))
}

/// What is to be changed of a file.
pub(super) fn changed(
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    size: Option<u64>,
    atime: Option<TimeOrNow>,
    mtime: Option<TimeOrNow>,
) -> sattr3 {
    let atime = match atime {
        None => set_atime::DONT_CHANGE,
        Some(TimeOrNow::Now) => set_atime::SET_TO_SERVER_TIME,
        Some(TimeOrNow::SpecificTime(at)) => set_atime::SET_TO_CLIENT_TIME(stamp(at)),
    };
    let mtime = match mtime {
        None => set_mtime::DONT_CHANGE,
        Some(TimeOrNow::Now) => set_mtime::SET_TO_SERVER_TIME,
        Some(TimeOrNow::SpecificTime(at)) => set_mtime::SET_TO_CLIENT_TIME(stamp(at)),
    };
    sattr3 { mode: maybe(mode.map(|mode| mode & 0o7777)), uid: maybe(uid), gid: maybe(gid), size: maybe(size), atime, mtime }
}

/// Times before 1970 and after 2106 are not known to this version of the protocol: the nearest is taken.
fn stamp(at: SystemTime) -> nfstime3 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    match u32::try_from(since.as_secs()) {
        Ok(seconds) => nfstime3 { seconds, nseconds: since.subsec_nanos() },
        Err(_) => nfstime3 { seconds: u32::MAX, nseconds: 0 },
    }
}

fn maybe<T: nfs3_types::xdr_codec::Pack + nfs3_types::xdr_codec::Unpack>(value: Option<T>) -> Nfs3Option<T> {
    value.map_or(Nfs3Option::None, Nfs3Option::Some)
}

/// The server's refusal as the kernel's.
pub(super) fn refusal(status: nfsstat3) -> Errno {
    match status {
        nfsstat3::NFS3ERR_PERM => Errno::EPERM,
        nfsstat3::NFS3ERR_NOENT => Errno::ENOENT,
        nfsstat3::NFS3ERR_NXIO => Errno::ENXIO,
        nfsstat3::NFS3ERR_ACCES => Errno::EACCES,
        nfsstat3::NFS3ERR_EXIST => Errno::EEXIST,
        nfsstat3::NFS3ERR_XDEV => Errno::EXDEV,
        nfsstat3::NFS3ERR_NODEV => Errno::ENODEV,
        nfsstat3::NFS3ERR_NOTDIR => Errno::ENOTDIR,
        nfsstat3::NFS3ERR_ISDIR => Errno::EISDIR,
        nfsstat3::NFS3ERR_INVAL | nfsstat3::NFS3ERR_BADTYPE => Errno::EINVAL,
        nfsstat3::NFS3ERR_FBIG => Errno::EFBIG,
        nfsstat3::NFS3ERR_NOSPC => Errno::ENOSPC,
        nfsstat3::NFS3ERR_ROFS => Errno::EROFS,
        nfsstat3::NFS3ERR_MLINK => Errno::EMLINK,
        nfsstat3::NFS3ERR_NAMETOOLONG => Errno::ENAMETOOLONG,
        nfsstat3::NFS3ERR_NOTEMPTY => Errno::ENOTEMPTY,
        nfsstat3::NFS3ERR_DQUOT => Errno::EDQUOT,
        nfsstat3::NFS3ERR_STALE | nfsstat3::NFS3ERR_BADHANDLE => Errno::ESTALE,
        nfsstat3::NFS3ERR_NOTSUPP => Errno::EOPNOTSUPP,
        _ => Errno::EIO,
    }
}
