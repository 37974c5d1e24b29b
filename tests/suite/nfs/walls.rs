//! What a file server's walls hold back: what is beside its disk, and nodes that are gone.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use batchyard::domain::door::{Knock, Service};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::raw::{Line, pass, question};
use super::{may_serve, processes, put_cluster, put_server, run};
use crate::harness::{Server, Site, until};

/// The whole name that each path has for its kernel, which root of a file server could ask for: path, number of the file system, device,
/// kind of the handle, and the handle.
const NAMES: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for path in sys.argv[1:]:
    handle, mount = ctypes.create_string_buffer((128).to_bytes(4, 'little'), 136), ctypes.c_int()
    if libc.name_to_handle_at(-100, path.encode(), handle, ctypes.byref(mount), 0) == 0:
        length, kind = (int.from_bytes(handle.raw[at:at + 4], 'little') for at in (0, 4))
        print(path, os.statvfs(path).f_fsid, os.stat(path).st_dev, kind, handle.raw[8:8 + length].hex())
";

/// A file as its file system knows it: its number, how large it is, and when it was changed.
type Known = (u64, u64, i64, i64);

/// All that there is in a folder.
fn walk(folder: &Path, into: &mut BTreeSet<Known>) {
    let meta = folder.symlink_metadata().expect("there");
    into.insert((meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec()));
    for entry in meta.is_dir().then(|| std::fs::read_dir(folder).expect("readable")).into_iter().flatten().flatten() {
        walk(&entry.path(), into);
    }
}

/// A handle as NFS-Ganesha makes it, for one of its exports: its head, with the length of what names the file.
fn handle(export: u8, name: &[u8]) -> Vec<u8> {
    let mut handle = [&[0x43, 0, 0, export, u8::try_from(name.len()).expect("short")], name].concat();
    handle.resize(handle.len().next_multiple_of(4), 0);
    handle
}

/// What names a file in it: how its file system is told, which it is, and the kernel's own name for the file with its kind.
fn name(told: u8, system: u64, kind: u8, file: &[u8]) -> Vec<u8> {
    [&[told], &system.to_le_bytes()[..], &[kind], file].concat()
}

/// What names a file in a handle.
fn named(handle: &[u8]) -> &[u8] {
    &handle[5..5 + usize::from(handle[4])]
}

/// The handle of a file of this inode in the file system of `beside`.
fn inode(beside: &[u8], number: u32, generation: u32) -> Vec<u8> {
    handle(1, &[&named(beside)[..10], &number.to_le_bytes(), &generation.to_le_bytes()].concat())
}

/// Handles that are nearly this one: each byte another one, a few bits turned, cut, longer.
fn neighbours(right: &[u8], random: &mut StdRng) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    for at in 0..right.len() {
        found.extend((0..=255).map(|byte| [&right[..at], &[byte], &right[at + 1..]].concat()));
        found.push(right[..at].to_vec());
    }
    for _ in 0..1_000 {
        let mut turned = right.to_vec();
        for _ in 0..random.random_range(2..6) {
            let at = random.random_range(0..turned.len());
            turned[at] ^= 1 << random.random_range(0..8);
        }
        found.push(turned);
    }
    // With a length that says so.
    let name = named(right);
    found.extend((0..name.len()).map(|length| handle(1, &name[..length])));
    found.extend((1..40).map(|more| {
        let more: Vec<u8> = (0..more).map(|_| random.random()).collect();
        handle(1, &[name, &more].concat())
    }));
    found
}

/// How a file system is told by the number that `statfs` has for it, where handles are of kinds below 256.
const BY_NUMBER: u8 = 0x44;

#[tokio::test]
async fn handle_guessing_stays_inside() {
    if !may_serve() {
        return;
    }
    let server = Server::up();
    let site = Site::new(server.api()).await;
    put_server(&site, "nfs").await;
    let before = server.node_processes();
    let [machine] = before[..] else { panic!("the file server's: {before:?}") };
    put_cluster(&site, "c", "nfs", "rw").await;
    let node = server.node_processes().into_iter().find(|node| !before.contains(node)).expect("the cluster's");
    run(&site, "made", "c", "mkdir -p folder/deep; echo inside | tee file folder/deep/file; ln -s / root; ln -s ../.. up").await;
    let pass = pass(&server);
    let mut mounts = Line::new(node, &pass, Service::Mount);
    let mut line = Line::new(node, &pass, Service::Files);
    let root = mounts.mount(b"/data").expect("exported");
    let file = line.find(&root, b"file").expect("made");
    let folder = line.find(&root, b"folder").expect("made");
    let link = line.find(&root, b"root").expect("made");

    // All that there is to reach, and what is beside it.
    let own = format!("/proc/{machine}/root");
    let mut known = BTreeSet::new();
    let [daemon] = processes(&server, "ganesha.nfsd")[..] else { panic!("one") };
    let view = Path::new("/proc").join(daemon.to_string()).join("root");
    walk(&view.join("."), &mut known);
    assert!(known.len() < 20, "it sees little more than was made");
    let canary = Path::new(&own).join("canary");
    std::fs::write(&canary, "outside").expect("written");
    let mounted = std::fs::read_to_string(format!("/proc/{machine}/mountinfo")).expect("readable");
    let mounted: Vec<Vec<&str>> = mounted.lines().map(|line| line.split(' ').collect()).collect();
    let disk = mounted.iter().find(|words| words[4] == "/data").expect("mounted");
    assert!(disk[3] == "/" && disk[5].contains("nosuid,nodev,noexec"), "all of a file system, and data alone: {disk:?}");
    let places = mounted.iter().map(|words| words[4]).chain(["/data/file", "/canary", "/etc/passwd", "/usr/bin/python3"]);
    let told = Command::new("nsenter")
        .args(["-m", "-t", &machine.to_string(), "/usr/bin/python3", "-c", NAMES])
        .args(places)
        .output()
        .expect("nsenter runs");
    let told = String::from_utf8(told.stdout).expect("text");
    let names: Vec<(&str, u64, u64, u8, Vec<u8>)> = told
        .lines()
        .filter_map(|line| {
            let [path, number, device, kind, inner] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            let bytes = (0..inner.len()).step_by(2).map(|at| u8::from_str_radix(&inner[at..at + 2], 16).expect("hex"));
            Some((path, number.parse().ok()?, device.parse().ok()?, kind.parse().ok()?, bytes.collect::<Vec<u8>>()))
        })
        .filter(|(.., inner)| inner.len() <= 48)
        .collect();
    let by_number = |path: &str| {
        let (_, number, _, kind, inner) = names.iter().find(|name| name.0 == path).unwrap_or_else(|| panic!("{path}: {told}"));
        handle(1, &name(BY_NUMBER, *number, *kind, inner))
    };
    // Handles can be guessed: by who knows what they are made of, and also without a file's generation.
    assert_eq!((by_number("/data"), by_number("/data/file")), (root.clone(), file.clone()), "a handle is made so");
    let blank = inode(&root, u32::from_le_bytes(named(&file)[10..14].try_into().expect("four")), 0);
    assert!(line.attributes(&blank).is_some(), "a file without its generation");

    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut guesses: Vec<Vec<u8>> =
        [&root, &file, &folder, &link].into_iter().flat_map(|right| neighbours(right, &mut random)).collect();
    // Inodes that have no name, as a journal's.
    let numbers = (0..64).chain([u32::MAX]);
    guesses.extend(numbers.flat_map(|number| [0, 1, u32::MAX].map(|generation| inode(&root, number, generation))));
    // What is beside it, by its right name and told in every way.
    for (_, number, device, kind, inner) in &names {
        let (major, minor) = (rustix::fs::major(*device), rustix::fs::minor(*device));
        let numbers = [*number, *device, u64::from(major) | u64::from(minor) << 32, u64::from(minor) | u64::from(major) << 32];
        for (number, told) in numbers.into_iter().flat_map(|number| (0x40..0x60).map(move |told| (number, told))) {
            guesses.extend([0, 1, 2].map(|export| handle(export, &name(told, number, *kind, inner))));
        }
    }
    guesses.push(by_number("/canary"));
    // What is answered with, of which there is more than was guessed.
    for (at, name) in [&root, &folder, &file, &link].into_iter().flat_map(|at| NAMES_OF_ELSEWHERE.map(|name| (at, name))) {
        guesses.extend(line.find(at, name.as_bytes()));
    }
    guesses.extend(NAMES_OF_ELSEWHERE.iter().filter_map(|path| mounts.mount(path.as_bytes())));
    guesses.extend(NAMES_OF_ELSEWHERE.iter().filter_map(|path| mounts.mount(format!("/data/{path}").as_bytes())));
    for at in [&root, &folder] {
        guesses.extend(line.list(at));
    }

    let mut reached = 0;
    for guess in &guesses {
        let Some(found) = line.attributes(guess) else { continue };
        reached += 1;
        let changed = found.ctime;
        let found = (found.fileid, found.size, changed.seconds.into(), changed.nseconds.into());
        assert!(known.contains(&found), "{guess:02x?} is {found:?}, which it does not see");
    }
    eprintln!("{} handles were tried, {reached} of them are of something that it sees", guesses.len());
    assert!(reached > 10, "names and right handles are among them");
    assert!(line.find(&root, b"..").is_none_or(|above| above == root), "nothing is above the root");

    let beside = || {
        let folders = ["", "etc", "run"].map(|folder| std::fs::read_dir(format!("{own}/{folder}")).expect("readable"));
        folders.into_iter().flatten().flatten().map(|entry| entry.path()).collect::<BTreeSet<_>>()
    };
    let there = beside();
    for name in ["../canary", "../etc/passwd", "../run/x", "root/canary", "up/canary", "/canary"] {
        assert_eq!(line.change(&root, &file, name), [], "{name}");
    }
    assert_eq!(beside(), there, "nothing came or went");
    assert_eq!(std::fs::read_to_string(canary).expect("there"), "outside");

    assert_eq!(run(&site, "after", "c", "cat file").await, "inside\n");
}

/// Names and paths that would lead out.
const NAMES_OF_ELSEWHERE: [&str; 15] = [
    "..",
    ".",
    "",
    "/",
    "../..",
    "../canary",
    "../etc",
    "folder/../..",
    "root",
    "root/etc",
    "root/canary",
    "up",
    "up/etc",
    "/etc",
    "//",
];

/// What holds a connection to a file server for as long as it lives, and uses it: told the line for the gate and a call, prints a line for
/// each answer.
const HOLD: &str = "
import array, socket, sys
gate = socket.socket(socket.AF_UNIX); gate.connect('/run/batchyard/gate'); gate.sendall(sys.argv[1].encode() + b'\\n')
_, fds, _, _ = socket.recv_fds(gate, 300, 1)
server, call = socket.socket(fileno=fds[0]), bytes.fromhex(sys.argv[2])
while server.sendall(call) is None and server.recv(4096):
    print('answered', flush=True)
";

/// Longest time that a node which is deleted may still reach a file server.
const ACCESS_ENDS: Duration = Duration::from_secs(5);

#[tokio::test]
async fn deleted_node_loses_access() {
    if !may_serve() {
        return;
    }
    let server = Server::up();
    let site = Site::new(server.api()).await;
    put_server(&site, "nfs").await;
    let before = server.node_processes();
    put_cluster(&site, "c", "nfs", "rw").await;
    let node = server.node_processes().into_iter().find(|node| !before.contains(node)).expect("the cluster's");
    let pass = pass(&server);
    let root = Line::new(node, &pass, Service::Mount).mount(b"/data").expect("exported");
    let [daemon] = processes(&server, "ganesha.nfsd")[..] else { panic!("one") };
    assert!(connections(daemon) > 0, "that of the mount");

    // Root of the node keeps a connection of its own busy, out of sight of the agent.
    let knock = Knock { pass, service: Service::Files }.line();
    let question = question(&root).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let mut holder = Command::new("nsenter")
        .args(["-a", "-t", &node.to_string(), "/usr/bin/setsid", "/usr/bin/python3", "-c", HOLD, &knock, &question])
        .stdout(Stdio::piped())
        .spawn()
        .expect("nsenter runs");
    let mut answers = BufReader::new(holder.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert_eq!(answers.next().as_deref(), Some("answered"));

    let deleted = site.api.delete(&site.cluster_path("c")).await.expect(202);
    let began = Instant::now();
    let answered = tokio::task::spawn_blocking(move || answers.count()).await.expect("ends");
    let last = began.elapsed();
    until("no connection", || async { connections(daemon) }, |count| *count == 0).await;
    let ended = began.elapsed();
    eprintln!(
        "the last of {answered} answers came {last:?} after the node was to be deleted, its connections ended after {ended:?}"
    );
    assert!(ended < ACCESS_ENDS, "{ended:?}");
    let _ = holder.wait();
    site.api.finish(deleted).await;
}

/// Connections to a server of files.
fn connections(daemon: u32) -> usize {
    let tables = ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/{daemon}/net/{name}")).unwrap_or_default());
    let port = format!(":{:04X}", Service::Files.port());
    let lines = tables.iter().flat_map(|table| table.lines()).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // The server's end, in the state "established".
    lines.filter(|words| words.get(1).is_some_and(|own| own.ends_with(&port)) && words.get(3) == Some(&"01")).count()
}
