//! A registry that means ill, or is broken: what it sends has no end, no size, or is far larger than it looks. Each time the job says so, its
//! node gives the room back, and goes on.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Ground, error};
use crate::harness::{Server, Settings, until};

/// Most room of a pull in these tests. Unit: MiB.
const MOST: u64 = 128;

/// Where the registry listens on the node's loopback, which engines speak plain HTTP to.
const ADDRESS: &str = "127.0.0.1:5007";

/// Where one listens that asks who comes.
const PRIVATE: &str = "127.0.0.1:5006";

/// Where that one sends whoever wants a layer: another host, which is its friend.
const ELSEWHERE: &str = "127.0.0.2:5008";

/// What the registry says of any image's layer: small, as it would have it.
const TOLD: u64 = 1 << 20;

const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn digest(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    format!("sha256:{}", sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut program = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip runs");
    let mut input = program.stdin.take().expect("piped");
    std::thread::scope(|threads| {
        threads.spawn(move || input.write_all(bytes).expect("written"));
        program.wait_with_output().expect("ends").stdout
    })
}

/// A layer of 8 MiB that unpacks to one file of 8 GiB.
fn bomb() -> Vec<u8> {
    const PIECE: usize = 64 << 20;
    const PIECES: usize = 128;
    let size = PIECE * PIECES;
    let mut head = [0_u8; 512];
    head[..4].copy_from_slice(b"file");
    head[100..108].copy_from_slice(b"0000644\0");
    for place in [108, 116] {
        head[place..place + 8].copy_from_slice(b"0000000\0");
    }
    // More than octal digits have room for.
    head[124] = 0x80;
    head[128..136].copy_from_slice(&(size as u64).to_be_bytes());
    head[136..148].copy_from_slice(b"00000000000\0");
    head[148..156].copy_from_slice(b"        ");
    head[156] = b'0';
    head[257..265].copy_from_slice(b"ustar  \0");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let piece = gzip(&vec![0; PIECE]);
    // Pieces in a row are one, to whoever unpacks.
    [gzip(&head)].into_iter().chain(std::iter::repeat_n(piece, PIECES)).chain([gzip(&[0; 1024])]).flatten().collect()
}

/// The registry. It serves as long as its node's network is there.
struct Hostile {
    bomb: Vec<u8>,
    /// Whether it wants to know who asks.
    asks: bool,
    /// What it was asked, with the lines that say who asks.
    heard: Mutex<Vec<String>>,
}

impl Hostile {
    /// Listens in the network of process `pid`.
    fn start(pid: u32, address: &'static str, asks: bool) -> Arc<Hostile> {
        let listen = move || {
            setns(std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("it runs"), CloneFlags::CLONE_NEWNET)
                .expect("root may");
            TcpListener::bind(address).expect("nobody else has it")
        };
        let listener = std::thread::spawn(listen).join().expect("listens");
        let registry = Arc::new(Hostile { bomb: bomb(), asks, heard: Mutex::default() });
        let serving = Arc::clone(&registry);
        std::thread::spawn(move || {
            for guest in listener.incoming().flatten() {
                let registry = Arc::clone(&serving);
                // That the engine goes away is what is wanted of it.
                std::thread::spawn(move || _ = registry.serve(guest));
            }
        });
        registry
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("whole").clone()
    }

    fn serve(&self, mut guest: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(guest.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        let mut who = String::new();
        while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
            if line.to_ascii_lowercase().starts_with("authorization:") {
                who = line;
            }
        }
        self.heard.lock().expect("whole").push(format!("{request} {who}"));
        if self.asks && who.is_empty() {
            let head =
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close";
            return write!(guest, "{head}\r\n\r\n");
        }
        let (method, path) = request.split_once(' ').unwrap_or_default();
        let path = path.split(' ').next().unwrap_or_default().trim_start_matches("/v2/");
        if path.is_empty() {
            return answer(&mut guest, "application/json", b"{}");
        }
        let (name, rest) = path.split_once('/').unwrap_or_default();
        let config = json!({ "architecture": "amd64", "os": "linux", "config": {}, "rootfs": { "type": "layers",
            "diff_ids": [digest(name.as_bytes())] } });
        let config = config.to_string().into_bytes();
        let layer = if name == "bomb" { digest(&self.bomb) } else { digest(name.as_bytes()) };
        if rest.starts_with("manifests/") {
            match name {
                "manifest" => return endless(&mut guest, MANIFEST, Duration::ZERO),
                "broken" => return broken(&mut guest),
                _ => {}
            }
            let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
                "config": { "mediaType": CONFIG, "size": config.len(), "digest": digest(&config) },
                "layers": [{ "mediaType": LAYER, "size": TOLD, "digest": layer }] });
            let body = if method == "HEAD" { String::new() } else { manifest.to_string() };
            return answer(&mut guest, MANIFEST, body.as_bytes());
        }
        if rest.ends_with(&digest(&config)) {
            if name == "config" {
                return endless(&mut guest, CONFIG, Duration::ZERO);
            }
            return answer(&mut guest, CONFIG, &config);
        }
        match name {
            "bomb" => answer(&mut guest, LAYER, &self.bomb),
            "endless" => endless(&mut guest, LAYER, Duration::ZERO),
            "slow" => endless(&mut guest, LAYER, Duration::from_millis(200)),
            // Says that it is large, too.
            "large" => {
                write!(guest, "HTTP/1.1 200 OK\r\nContent-Type: {LAYER}\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40)?;
                let piece = vec![b'x'; 1 << 20];
                loop {
                    guest.write_all(&piece)?;
                }
            }
            "elsewhere" => {
                write!(
                    guest,
                    "HTTP/1.1 307 Go\r\nLocation: http://{ELSEWHERE}/v2/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            }
            // Begins, and says no more.
            "silent" => {
                write!(guest, "HTTP/1.1 200 OK\r\nContent-Type: {LAYER}\r\nContent-Length: {TOLD}\r\n\r\nx")?;
                while lines.next().transpose()?.is_some() {}
                Ok(())
            }
            _ => write!(guest, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        }
    }
}

fn answer(guest: &mut TcpStream, kind: &str, body: &[u8]) -> std::io::Result<()> {
    write!(guest, "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    guest.write_all(body)
}

/// Sends until the other side goes, with a pause after each piece.
fn endless(guest: &mut TcpStream, kind: &str, pause: Duration) -> std::io::Result<()> {
    write!(guest, "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let piece = vec![b' '; if pause.is_zero() { 1 << 20 } else { 256 << 10 }];
    loop {
        write!(guest, "{:x}\r\n", piece.len())?;
        guest.write_all(&piece)?;
        guest.write_all(b"\r\n")?;
        std::thread::sleep(pause);
    }
}

/// Sends much of a manifest, and goes.
fn broken(guest: &mut TcpStream) -> std::io::Result<()> {
    const SIZE: usize = 512 << 20;
    write!(guest, "HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nContent-Length: {}\r\n\r\n", 2 * SIZE)?;
    let piece = vec![b' '; 1 << 20];
    (0..SIZE / piece.len()).try_for_each(|_| guest.write_all(&piece))
}

/// Memory of the node's engine. Unit: MiB.
fn memory(ground: &Ground) -> u64 {
    let told = ground.node.within(&["-m", "-p"], &["ps", "-C", "dockerd", "-o", "rss="]).stdout;
    String::from_utf8_lossy(&told).split_whitespace().filter_map(|text| text.parse::<u64>().ok()).sum::<u64>() >> 10
}

/// Room that the node's engine takes. Unit: MiB.
fn room(ground: &Ground) -> u64 {
    let told = ground.node.within(&["-m"], &["du", "-sm", "--one-file-system", "/var/lib/docker"]).stdout;
    String::from_utf8_lossy(&told).split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number")
}

#[tokio::test]
async fn a_pull_without_end_is_ended_and_its_node_goes_on() {
    if !super::able() {
        return;
    }
    let limits = format!("image_size = \"{MOST}MiB\"\nimage_time = \"10s\"\nimage_silence = \"4s\"\n");
    let server = Server::start(Settings { limits, ..Settings::default() });
    let Some(ground) = Ground::new(&server).await else { return };
    Hostile::start(ground.node.pid, ADDRESS, false);
    let job = ground.run("first", "echo good", json!({})).await;
    ground.assert_succeeded("first", &job).await;
    let log = ground.site.read("first", "stdouterr", "execution.log").await;
    assert!(log.contains(" s: sha256:"), "which image it is is told: {log}");
    let before = room(&ground);
    let most = format!("it takes more than the {MOST} MiB of its node's disk that an image may take");
    for (name, why) in [
        ("endless", most.as_str()),
        ("large", &most),
        ("bomb", &most),
        ("slow", "it was not there after 10 s"),
        ("silent", "nothing of it came for 4 s"),
        // What describes an image the engine keeps in memory, and reads on when nobody wants it any more.
        ("manifest", ""),
        ("config", ""),
        ("broken", ""),
    ] {
        let began = Instant::now();
        let image = format!("127.0.0.1:5007/{name}:1");
        let over = json!({ "containerSettings": { "imageSourceRegistry": { "image": image } } });
        ground.submit(name, "echo never", over).await;
        let job: Value = ground.site.ended(name).await;
        let told = error(&job);
        eprintln!("{name}: after {:?}, with {} MiB where {before} were: {told}", began.elapsed(), room(&ground));
        assert_eq!((&job["executionState"], &told["code"]), (&json!("failed"), &json!("FailedPullingImage")), "{job}");
        let message = told["message"].as_str().expect("text");
        assert!(message.starts_with(&format!("The image '{image}' could not be pulled: {why}")), "{message}");
        assert!(job["executionInfo"].get("exitCode").is_none(), "{job}");
        assert_eq!(ground.site.names(name, "stdouterr").await, ["execution.log"], "nothing was run");
        let most_left = before + 2;
        until("its room is given back", || async { room(&ground) }, |room| *room <= most_left).await;
        until("its memory is given back", || async { memory(&ground) }, |memory| *memory < 400).await;
        let job = ground.run(&format!("after-{name}"), "echo good", json!({})).await;
        ground.assert_succeeded(&format!("after-{name}"), &job).await;
    }
}

#[tokio::test]
async fn a_password_goes_to_the_registry_that_was_named_and_not_where_that_leads() {
    let Some(ground) = Ground::new(Server::shared()).await else { return };
    let named = Hostile::start(ground.node.pid, PRIVATE, true);
    let elsewhere = Hostile::start(ground.node.pid, ELSEWHERE, false);
    let source = json!({ "image": "elsewhere:1", "serverUrl": PRIVATE,
        "credentials": { "username": "puller", "password": "canary-for-one-host" } });
    let job = ground.run("j", "echo never", json!({ "containerSettings": { "imageSourceRegistry": source } })).await;
    assert_eq!(error(&job)["code"], "FailedPullingImage", "{job}");
    let (named, elsewhere) = (named.heard(), elsewhere.heard());
    assert!(named.iter().any(|request| request.contains("/blobs/") && request.contains("Basic ")), "{named:?}");
    assert!(!elsewhere.is_empty(), "it was followed: {named:?}");
    assert!(elsewhere.iter().all(|request| !request.to_ascii_lowercase().contains("authorization")), "{elsewhere:?}");
    assert!(!ground.everything("j").await.contains("canary-for-one-host"), "nor is it told");
}
