//! The root that a node sees: a folder of its own, host folders below layers of its own, a few devices, and nothing else.
//!
//! What is not named here is not there. Devices work in `/dev` alone. The mounts are in a namespace that ends with the node.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount};

use crate::driver::local::base;
use crate::driver::local::disk;
use crate::driver::local::init::account;
use crate::driver::local::layout::{self, Device, NodeFolder, NodeSpec, Shell, at};
use crate::driver::local::lock::make_folder;
use crate::own_file::own_file;

/// Folders of the node's own, with their modes.
const FOLDERS: [(&str, u32); 20] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/local", 0o755),
    ("var/log", 0o755),
    ("var/mail", 0o755),
    ("var/opt", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
    ("mnt/batch", 0o755),
];

/// Devices of the host that a node has.
/// Whoever opens `fuse` needs the right to mount to use it, which jobs and setup tasks have not.
const DEVICES: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "fuse"];

/// What of `/proc` and `/sys` tells of, or reaches, more than the node: files show nothing, folders are empty.
///
/// Source: the default masked paths of container runtimes.
const MASKED: [&str; 13] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
    "sys/kernel",
];

/// What of `/proc` is there to read and not to write.
///
/// Source: the default read-only paths of container runtimes.
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// Makes the node's root and enters it. From then on nothing else of the host is in reach.
///
/// # Errors
/// What could not be made, in the host's words.
pub(super) fn enter_root(spec: &NodeSpec, folder: &NodeFolder) -> io::Result<()> {
    // Nothing that is mounted here is seen elsewhere, and nothing that the host mounts later is seen here.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let root = folder.root();
    make_folder(&root, 0o755)?;
    bind(&root, &root, MountFlags::NODEV)?;
    for (name, mode) in FOLDERS {
        make_with_mode(&root.join(name), mode)?;
    }
    for shown in &spec.layered {
        make_place(shown, &root)?;
    }
    let mut layers = Layers::new(folder);
    for shown in spec.layered.iter().filter(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_dir())) {
        layers.show(shown, &inside(&root, shown))?;
    }
    let etc = root.join("etc");
    if !layers.show(&spec.base_etc, &etc)? {
        unmount(&etc, UnmountFlags::DETACH).map_err(at("unmount", &etc))?;
        base::copy_tree(&spec.base_etc, &etc)?;
    }
    hide(spec, &root)?;
    account::write_etc(spec, &etc)?;
    account::make_homes(spec, &root)?;
    mount_devices(&root, &spec.devices)?;
    mount_kernel(&root)?;
    mount_run(spec, folder, &root)?;
    let tasks = root.join(layout::TASKS_ROOT.trim_start_matches('/'));
    make_tasks(spec, &tasks)?;
    bind(&tasks, &tasks, MountFlags::NODEV)?;
    if let Some(share) = &spec.share {
        let target = root.join(layout::TASKS_ROOT.trim_start_matches('/')).join(layout::MOUNTS).join(layout::SHARE);
        bind(share, &target, MountFlags::NOSUID | MountFlags::NODEV)?;
    }
    if spec.disk.is_some() && spec.shell.is_none() {
        let data = inside(&root, Path::new(layout::DATA));
        make_folder(&data, 0o755)?;
        mount_bind(folder.disk(), &data).map_err(at("mount", &data))?;
    }
    let state = inside(&root, Path::new(layout::STATE));
    make_with_mode(&state, 0o700)?;
    bind(&state, &state, MountFlags::NOSUID | MountFlags::NODEV)?;

    // Where this process's root is not its namespace's, as in a chroot, whoever joins the namespace would come out at the latter: it is that
    // one that is exchanged.
    let root = File::open(&root).map_err(at("enter", &root))?;
    setns(File::open("/proc/self/ns/mnt")?, CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::process::fchdir(&root)?;
    // The old root lands on top of the new one and is taken away at once: there is no folder to put it in, nor a need for one.
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    // What is mounted below these later is seen by the node's container engine too, which has a view of its own.
    for shared in [layout::TASKS_ROOT, layout::STATE] {
        mount_change(shared, MountPropagationFlags::SHARED | MountPropagationFlags::REC)?;
    }
    Ok(())
}

/// Mounts a file server's disk in its folder, in a view of this process's own. Its root is open to all jobs, each its own files. Answers
/// what holds it.
///
/// # Errors
/// As [`disk::mount`].
pub(super) fn mount_disk(disk: &Path, folder: &NodeFolder) -> io::Result<File> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let place = folder.disk();
    make_folder(&place, 0o700)?;
    let held = disk::mount(disk, &place)?;
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o1777)).map_err(at("open to jobs", &place))?;
    // Made again when something is found that belongs there.
    let _ = std::fs::remove_dir(place.join("lost+found"));
    Ok(held)
}

/// The folders of a node without a root of its own.
///
/// # Errors
/// One cannot be made.
pub(super) fn make_plain_folders(spec: &NodeSpec, folder: &NodeFolder) -> io::Result<()> {
    make_folder(&folder.state(), 0o700)?;
    make_folder(&folder.tasks().join(layout::MOUNTS), 0o755)?;
    make_folder(&folder.tasks().join("shared/LS_root/jobs"), 0o755)?;
    make_folder(&folder.tasks().join("startup"), 0o755)?;
    match &spec.share {
        Some(share) => {
            let link = folder.tasks().join(layout::MOUNTS).join(layout::SHARE);
            symlink(share, &link).map_err(at("make", &link))
        }
        None => Ok(()),
    }
}

/// A path of the node, as it is before the root is entered.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn make_with_mode(path: &Path, mode: u32) -> io::Result<()> {
    make_folder(path, 0o755)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(at("make", path))
}

/// Makes the place of a host folder, or the same link as on the host. One that is not there is not there.
fn make_place(shown: &Path, root: &Path) -> io::Result<()> {
    let target = inside(root, shown);
    match shown.symlink_metadata() {
        Ok(meta) if meta.is_symlink() => symlink(std::fs::read_link(shown)?, &target).map_err(at("make", &target)),
        Ok(meta) if meta.is_dir() => make_folder(&target, 0o755),
        _ => Ok(()),
    }
}

/// Where what the node writes below host folders goes: into its folder; into memory, where the folder is on a file system that
/// cannot hold layers, or is itself below the host folder; nowhere, where this kernel has no layers.
struct Layers {
    folder: PathBuf,
    memory: PathBuf,
    has_memory: bool,
}

impl Layers {
    fn new(folder: &NodeFolder) -> Layers {
        Layers { folder: folder.layers(), memory: folder.memory(), has_memory: false }
    }

    /// Shows `lower` at `target`. Answers whether the node can write there.
    fn show(&mut self, lower: &Path, target: &Path) -> io::Result<bool> {
        let Err(first) = overlay(lower, target, &self.folder) else { return Ok(true) };
        if !self.has_memory {
            make_folder(&self.memory, 0o700)?;
            mount("tmpfs", &self.memory, "tmpfs", MountFlags::NODEV, Some(c"mode=700")).map_err(at("mount", &self.memory))?;
            self.has_memory = true;
        }
        let Err(second) = overlay(lower, target, &self.memory) else {
            eprintln!("what the node writes below {} is in memory: {first}", lower.display());
            return Ok(true);
        };
        eprintln!("the node cannot write below {}: {first}; in memory: {second}", lower.display());
        bind(lower, target, MountFlags::NODEV | MountFlags::RDONLY)?;
        Ok(false)
    }
}

fn overlay(lower: &Path, target: &Path, place: &Path) -> io::Result<()> {
    let place = place.join(target.file_name().unwrap_or_default());
    let (upper, work) = (place.join("upper"), place.join("work"));
    make_folder(&upper, 0o755)?;
    make_folder(&work, 0o700)?;
    let mut options = Vec::new();
    for (name, path) in [("lowerdir=", lower), (",upperdir=", &upper), (",workdir=", &work)] {
        options.extend(name.as_bytes());
        options.extend(escape(path));
    }
    let options = CString::new(options).map_err(io::Error::other)?;
    mount("overlay", target, "overlay", MountFlags::NODEV, Some(options.as_c_str())).map_err(at("layer", target))
}

/// A path as an option of layers: what would end it is escaped.
fn escape(path: &Path) -> Vec<u8> {
    let mut escaped = Vec::new();
    for &byte in path.as_os_str().as_encoded_bytes() {
        if matches!(byte, b',' | b':' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}

/// Puts nothing over what must not be seen, where it is below a host folder that is.
fn hide(spec: &NodeSpec, root: &Path) -> io::Result<()> {
    for hidden in &spec.hidden {
        if spec.layered.iter().any(|shown| shown.canonicalize().is_ok_and(|shown| hidden.starts_with(shown))) {
            let target = inside(root, hidden);
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("tmpfs", &target, "tmpfs", flags, Some(c"mode=000,size=4k")).map_err(at("hide", &target))?;
        }
    }
    Ok(())
}

fn mount_devices(root: &Path, more: &[Device]) -> io::Result<()> {
    let dev = root.join("dev");
    mount("tmpfs", &dev, "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, Some(c"mode=755,size=64k"))
        .map_err(at("mount", &dev))?;
    for name in DEVICES.into_iter().chain(more.iter().map(|device| device.name.as_str())) {
        let (source, target) = (Path::new("/dev").join(name), dev.join(name));
        if source.exists() {
            make_folder(target.parent().unwrap_or(&dev), 0o755)?;
            std::fs::write(&target, "").map_err(at("make", &target))?;
            mount_bind(&source, &target).map_err(at("mount", &target))?;
        }
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        symlink(target, dev.join(name)).map_err(at("make", &dev.join(name)))?;
    }
    let (pts, shm) = (dev.join("pts"), dev.join("shm"));
    make_folder(&pts, 0o755)?;
    make_folder(&shm, 0o755)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", &pts, "devpts", flags, Some(c"newinstance,ptmxmode=0666,mode=0620,gid=5")).map_err(at("mount", &pts))?;
    mount("shm", &shm, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=1777")).map_err(at("mount", &shm))?;
    // Its own devices are bound one by one; no other may be made in it.
    mount_remount(&dev, MountFlags::BIND | MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV, c"")
        .map_err(at("mount", &dev))
}

fn mount_kernel(root: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let (proc, sys) = (root.join("proc"), root.join("sys"));
    // Accounts see their own processes alone.
    mount("proc", &proc, "proc", flags, Some(c"hidepid=2")).map_err(at("mount", &proc))?;
    mount("sysfs", &sys, "sysfs", flags | MountFlags::RDONLY, None).map_err(at("mount", &sys))?;
    for name in READ_ONLY {
        let path = root.join(name);
        if path.exists() {
            bind(&path, &path, flags | MountFlags::RDONLY)?;
        }
    }
    for name in MASKED {
        let path = root.join(name);
        match path.metadata() {
            Ok(meta) if meta.is_dir() => {
                mount("tmpfs", &path, "tmpfs", flags | MountFlags::RDONLY, Some(c"mode=555,size=4k"))
                    .map_err(at("mask", &path))?;
            }
            Ok(_) => mount_bind("/dev/null", &path).map_err(at("mask", &path))?,
            Err(_) => {}
        }
    }
    Ok(())
}

/// What the node's root has of us, out of reach for its other accounts.
fn mount_run(spec: &NodeSpec, folder: &NodeFolder, root: &Path) -> io::Result<()> {
    let run = root.join("run");
    mount("run", &run, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755")).map_err(at("mount", &run))?;
    make_with_mode(&run.join("lock"), 0o1777)?;
    let cluster = inside(root, Path::new(layout::CLUSTER));
    make_folder(&cluster, 0o755)?;
    let read = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    // Where nobody outside keeps it, the agent does.
    let kept = if spec.in_host_network { read.difference(MountFlags::RDONLY) } else { read };
    bind(&spec.cluster_folder, &cluster, kept)?;

    let private = inside(root, Path::new(layout::PRIVATE));
    make_with_mode(&private, 0o700)?;
    make_folder(&private.join("sockets"), 0o700)?;
    bind(&spec.sockets, &private.join("sockets"), read)?;
    if let Some(registries) = &spec.registries {
        make_folder(&private.join("registries"), 0o700)?;
        bind(registries, &private.join("registries"), read)?;
    }
    if let Some(library) = &spec.gpu_library {
        let target = private.join(layout::GPU_LIBRARY);
        std::fs::write(&target, "").map_err(at("make", &target))?;
        bind(library, &target, MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY)?;
    }
    if spec.disk.is_some() {
        let door = private.join(layout::DOOR);
        make_folder(&door, 0o700)?;
        bind(&spec.doors, &door, MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC)?;
    }
    let gangs = private.join("gangs");
    make_folder(&gangs, 0o700)?;
    bind(&spec.gangs, &gangs, MountFlags::NOSUID | MountFlags::NODEV)?;
    let binary = private.join("batchyard");
    std::fs::write(&binary, "").map_err(at("make", &binary))?;
    bind(&find_program(folder)?, &binary, MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY)?;
    for group in &spec.groups {
        let target = private.join("cgroup").join(&group.name);
        make_folder(&target, 0o700)?;
        bind(&group.jobs(), &target, MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC)?;
    }
    if let Some(shell) = &spec.shell {
        show_machine(shell, spec.disk.as_deref(), &private.join(layout::MACHINE))?;
    }
    // Into memory, and away from the disk: it holds a token.
    let secret = std::fs::read(folder.bootstrap()).map_err(at("read", &folder.bootstrap()))?;
    layout::write_whole(&private.join("bootstrap.json"), &secret, 0o600)?;
    std::fs::remove_file(folder.bootstrap()).map_err(at("remove", &folder.bootstrap()))
}

/// What a virtual machine is made of.
fn show_machine(shell: &Shell, disk: Option<&Path>, target: &Path) -> io::Result<()> {
    make_folder(target, 0o700)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (name, source) in &shell.files {
        let target = target.join(name);
        std::fs::write(&target, "").map_err(at("make", &target))?;
        bind(source, &target, flags | MountFlags::RDONLY)?;
    }
    if let Some(disk) = disk {
        let target = target.join(layout::DISK);
        make_folder(&target, 0o700)?;
        bind(disk, &target, flags)?;
    }
    layout::write_json(&target.join(layout::TOLD), &shell.told)
}

/// The file of this very program; a copy where its file was replaced since the server started, so that the agent is always the
/// server's own version.
fn find_program(folder: &NodeFolder) -> io::Result<PathBuf> {
    match own_file() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let (this, copy) = (Path::new("/proc/self/exe"), folder.path().join("batchyard"));
    std::fs::copy(this, &copy).map_err(at("copy", this))?;
    Ok(copy)
}

fn make_tasks(spec: &NodeSpec, tasks: &Path) -> io::Result<()> {
    make_folder(&tasks.join(layout::MOUNTS), 0o755)?;
    make_folder(&tasks.join("shared/LS_root/jobs"), 0o755)?;
    make_folder(&tasks.join("startup"), 0o755)?;
    if spec.share.is_some() {
        make_folder(&tasks.join(layout::MOUNTS).join(layout::SHARE), 0o755)?;
    }
    Ok(())
}

/// Shows `source` at `target` as well. A bind takes its flags in a second step.
fn bind(source: &Path, target: &Path, flags: MountFlags) -> io::Result<()> {
    mount_bind(source, target).map_err(at("mount", target))?;
    mount_remount(target, MountFlags::BIND | flags, c"").map_err(at("mount", target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_one_option() {
        assert_eq!(escape(Path::new("/a,b:c\\d")), b"/a\\,b\\:c\\\\d");
    }
}
