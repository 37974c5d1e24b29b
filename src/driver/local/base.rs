//! What nodes have of the host's `/etc`: a copy of what programs need to run, and nothing that is a secret.
//!
//! Made once for all nodes, below which each has a layer of its own. Named by what it holds, so that a changed host gives new
//! nodes a new one and running nodes keep theirs.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::driver::local::layout::at;
use crate::driver::local::lock::make_folder;

/// Names below `/etc` that nodes have; one that ends in `*` stands for all that begin so. What is not here is not there.
const ALLOWED: &[&str] = &[
    "alternatives",
    "bash.bashrc",
    "debian_version",
    "dpkg",
    "fonts",
    "gai.conf",
    "glvnd",
    "host.conf",
    "ImageMagick*",
    "inputrc",
    "issue",
    "java*",
    "jvm*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "libibverbs.d",
    "locale.alias",
    "localtime",
    "login.defs",
    "lsb-release",
    "magic*",
    "manpath.config",
    "matplotlib*",
    "mime.types",
    "mpi*",
    "netconfig",
    "OpenCL",
    "openmpi*",
    "os-release",
    "perl",
    "profile",
    "profile.d",
    "protocols",
    "python*",
    "R",
    "rpc",
    "services",
    "shells",
    "skel",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
    "ucx",
    "vulkan",
];

/// Larger files are left out. Unit: bytes.
const MAX_FILE: u64 = 8 << 20;

/// Folders below folders, at most.
const MAX_DEPTH: usize = 8;

/// Makes the copy below `folder` where it is missing. Answers its path.
///
/// # Errors
/// The host's `/etc` cannot be read, or the copy not written.
pub(super) fn ensure_base(folder: &Path) -> io::Result<PathBuf> {
    let entries = list_allowed(Path::new("/etc"))?;
    let base = folder.join(key(&entries));
    if base.is_dir() {
        return Ok(base);
    }
    let draft = folder.join(format!(".draft-{}", uuid::Uuid::now_v7()));
    make_folder(folder, 0o700)?;
    make_folder(&draft, 0o755)?;
    for (name, meta) in &entries {
        copy(&Path::new("/etc").join(name), &draft.join(name), meta)?;
    }
    match std::fs::rename(&draft, &base) {
        // Another server was quicker with the same.
        Err(_) if base.is_dir() => crate::driver::local::remove::remove_tree(&draft)?,
        other => other.map_err(at("make", &base))?,
    }
    Ok(base)
}

/// Removes copies that neither `keep` nor any node is on.
pub(super) fn remove_unused(folder: &Path, keep: &[PathBuf]) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_draft = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_draft && !keep.contains(&entry.path()) {
            let _ = crate::driver::local::remove::remove_tree(&entry.path());
        }
    }
}

/// Copies all of a copy into a folder that is there.
///
/// # Errors
/// Something cannot be read or written.
pub(super) fn copy_tree(base: &Path, target: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(base).map_err(at("read", base))? {
        let (from, name) = entry.map(|e| (e.path(), e.file_name())).map_err(at("read", base))?;
        let (to, meta) = (target.join(name), from.symlink_metadata().map_err(at("read", &from))?);
        copy(&from, &to, &meta)?;
        if meta.is_dir() {
            copy_tree(&from, &to)?;
        }
    }
    Ok(())
}

type Entry = (PathBuf, Metadata);

/// Everything below `etc` that is allowed, parents before what is in them, in the order of names.
fn list_allowed(etc: &Path) -> io::Result<Vec<Entry>> {
    let mut names: Vec<String> =
        std::fs::read_dir(etc).map_err(at("read", etc))?.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort_unstable();
    let mut found = Vec::new();
    for allowed in ALLOWED {
        let matching: Vec<PathBuf> = match (allowed.strip_suffix('*'), allowed.split_once('/')) {
            (Some(start), _) => names.iter().filter(|n| n.starts_with(start)).map(PathBuf::from).collect(),
            (None, Some((parent, _))) => vec![PathBuf::from(parent), PathBuf::from(allowed)],
            (None, None) => vec![PathBuf::from(allowed)],
        };
        for name in matching {
            // A parent of something allowed is made, but not filled.
            let fill = !ALLOWED.iter().any(|a| a.split_once('/').is_some_and(|(parent, _)| Path::new(parent) == name));
            if found.iter().all(|(known, _)| *known != name) {
                add(etc, name, if fill { MAX_DEPTH } else { 0 }, &mut found);
            }
        }
    }
    Ok(found)
}

/// What is not readable by everyone on the host is not for nodes either.
fn add(etc: &Path, name: PathBuf, depth: usize, found: &mut Vec<Entry>) {
    let path = etc.join(&name);
    let Ok(meta) = path.symlink_metadata() else { return };
    let public = meta.mode() & 0o004 != 0;
    if meta.is_symlink() || (meta.is_file() && public && meta.len() <= MAX_FILE) {
        found.push((name, meta));
    } else if meta.is_dir() && public {
        found.push((name.clone(), meta));
        if depth == 0 {
            return;
        }
        let mut inner: Vec<_> = std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        inner.sort_unstable();
        for entry in inner {
            add(etc, name.join(entry), depth - 1, found);
        }
    }
}

fn key(entries: &[Entry]) -> String {
    let mut hash = Sha256::new();
    for (name, meta) in entries {
        hash.update(name.as_os_str().as_encoded_bytes());
        hash.update([0]);
        for number in [u64::from(meta.mode()), meta.len(), meta.mtime().unsigned_abs(), meta.ino()] {
            hash.update(number.to_be_bytes());
        }
    }
    hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

fn copy(from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
    if meta.is_symlink() {
        let target = std::fs::read_link(from).map_err(at("read", from))?;
        symlink(target, to).map_err(at("make", to))
    } else if meta.is_dir() {
        make_folder(to, 0o755)
    } else {
        std::fs::copy(from, to).map_err(at("copy", from))?;
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(meta.mode() & 0o755)).map_err(at("make", to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_the_host_are_not_copied() {
        let folder = std::env::temp_dir().join(format!("batchyard-base-{}", uuid::Uuid::now_v7()));
        let base = ensure_base(&folder).expect("made");
        assert_eq!(ensure_base(&folder).expect("made once"), base);
        for secret in ["shadow", "gshadow", "ssl/private", "ssh", "sudoers", "krb5.keytab", "passwd", "resolv.conf", "fstab"] {
            assert!(!base.join(secret).exists(), "{secret}");
        }
        assert!(base.join("ld.so.cache").is_file());
        let copy = folder.join("copy");
        std::fs::create_dir(&copy).expect("made");
        copy_tree(&base, &copy).expect("copied");
        assert!(copy.join("alternatives").is_dir() && copy.join("ssl/certs").is_dir());
        crate::driver::local::remove::remove_tree(&copy).expect("removed");
        remove_unused(&folder, std::slice::from_ref(&base));
        assert!(base.is_dir());
        remove_unused(&folder, &[]);
        assert!(!base.exists());
        std::fs::remove_dir(&folder).expect("nothing else in it");
    }
}
