//! What the ssh server of a node lets guests do and what not, asked of it by real clients: no line of its settings is read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{By, Key, PASSWORD, at, client, cluster, is_here, logins, said, ssh, ssh_with, told};
use crate::harness::{Server, Site};

/// Longest time that a test waits for one thing.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node whose account has a key, and a password too.
async fn node(key: &Key) -> Value {
    let site = Site::new(Server::shared().api()).await;
    let account = json!({ "adminUserName": "ops", "adminUserSshPublicKey": key.public(), "adminUserPassword": PASSWORD });
    cluster(&site, "c", 1, account).await;
    logins(&site, &site.cluster_path("c")).await.remove(0)
}

#[track_caller]
fn assert_refused(place: &Value, user: &str, by: &By<'_>, options: &[&str]) {
    let output = ssh_with(place, user, by, options, "echo in");
    assert!(!output.status.success() && !told(&output).contains("in\n"), "{user}: {}", told(&output));
    assert!(told(&output).contains("Permission denied (publickey,password)"), "{user}: {}", told(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_alone_comes_in_and_never_without_a_secret() {
    if !is_here() {
        return;
    }
    let key = Key::new();
    let place = node(&key).await;
    let by = By::Key(&key);
    // Root of the node and another account have all that a login needs.
    let give = "sudo -n env PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c 'useradd -m other || exit; \
         secret=$(grep ^ops: /etc/shadow | cut -d : -f 2); \
         for user in root other; do home=$(eval echo ~$user); usermod -p \"$secret\" $user; mkdir -p $home/.ssh; \
         cp ~ops/.ssh/authorized_keys $home/.ssh/; chown -R $user: $home/.ssh; done; cat ~root/.ssh/authorized_keys'";
    assert!(said(&place, &by, give).contains(&key.public()), "the key is where servers of ssh look for it");
    for user in ["root", "other", "nobody", "absent"] {
        assert_refused(&place, user, &by, &[]);
        assert_refused(&place, user, &By::Password(PASSWORD), &[]);
    }
    // A dialogue is another way for the same password, and is none here.
    let dialogue = ["-o", "PreferredAuthentications=keyboard-interactive"];
    assert_refused(&place, "ops", &By::Password(PASSWORD), &dialogue);
    assert!(ssh(&place, "ops", &By::Password(PASSWORD), "true").status.success());
    // Not even where root of the node takes the password away.
    let take = "sudo -n env PATH=/usr/sbin:/usr/bin:/bin sh -c 'usermod -p \"\" ops; grep -c ^ops:: /etc/shadow'";
    assert_eq!(said(&place, &by, take), "1\n");
    assert_refused(&place, "ops", &By::Password(""), &[]);
    assert_refused(&place, "ops", &By::Password(PASSWORD), &[]);
    assert_eq!(said(&place, &by, "id -un"), "ops\n", "the key opens as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_cut_short_and_silence_too() {
    if !is_here() {
        return;
    }
    let key = Key::new();
    let place = node(&key).await;
    let silent = std::thread::spawn({
        let (address, port) = (place["ipAddress"].as_str().expect("an address").to_owned(), place["port"].as_u64());
        move || {
            let began = Instant::now();
            let port = u16::try_from(port.expect("a number")).expect("a port");
            let mut guest = TcpStream::connect((address.as_str(), port)).expect("someone answers");
            guest.set_read_timeout(Some(2 * PATIENCE)).expect("set");
            let mut heard = Vec::new();
            let end = guest.read_to_end(&mut heard);
            (began.elapsed(), String::from_utf8_lossy(&heard).into_owned(), end.map_err(|error| error.kind()))
        }
    });
    // Each wrong key is a guess: the right one as the third opens, and as the fourth it comes too late.
    let wrong = [Key::new(), Key::new(), Key::new()];
    let with = |count: usize| {
        let mut client = Command::new("ssh");
        client.args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]).args(super::QUIET).stdin(Stdio::null());
        for key in wrong.iter().take(count).chain([&key]) {
            client.arg("-i").arg(&key.0);
        }
        client.env_remove("SSH_AUTH_SOCK").arg("-p").arg(place["port"].to_string()).arg(at(&place, "ops"));
        client.arg("echo in").output().expect("a client runs")
    };
    assert_eq!(told(&with(2)), "in\n");
    let refused = with(3);
    assert!(!refused.status.success() && told(&refused).contains("Too many authentication failures"), "{}", told(&refused));
    // A guest who says nothing is sent away.
    let (took, heard, end) = silent.join().expect("ends");
    assert!(heard.starts_with("SSH-2.0-"), "the server was there: {heard}");
    assert!(end.is_ok() || end == Err(std::io::ErrorKind::ConnectionReset), "{end:?} after {took:?}");
    assert!(took > Duration::from_secs(20) && took < Duration::from_secs(45), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_guests_comes_along_but_language() {
    if !is_here() {
        return;
    }
    let key = Key::new();
    let place = node(&key).await;
    let by = By::Key(&key);
    // Variables: what language messages are in, and nothing that programs obey.
    let mut sent = client("ssh", &by);
    for (name, value) in
        [("LANG", "eo.UTF-8"), ("LC_MARK", "eo"), ("MARK", "x"), ("BASH_ENV", "/tmp/x"), ("LD_PRELOAD_", "/tmp/x")]
    {
        sent.env(name, value).args(["-o", &format!("SendEnv={name}")]);
    }
    sent.args(["-o", "SetEnv=SET=x", "-p"]).arg(place["port"].to_string()).arg(at(&place, "ops"));
    let seen = told(&sent.arg("env").output().expect("a client runs"));
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines.contains(&"LANG=eo.UTF-8") && lines.contains(&"LC_MARK=eo"), "{seen}");
    let kept = |name: &&str| lines.iter().any(|line| line.starts_with(&format!("{name}=")));
    let others: Vec<&str> = ["MARK", "BASH_ENV", "LD_PRELOAD_", "SET"].into_iter().filter(kept).collect();
    assert!(others.is_empty(), "{others:?}: {seen}");
    // Nor what the account keeps for later.
    let keep = "echo KEPT=x > ~/.ssh/environment; sudo -n sed 's/^/environment=\"OF_THE_KEY=x\" /' -i ~/.ssh/authorized_keys; \
                cat ~/.ssh/authorized_keys";
    let keys = said(&place, &by, keep);
    assert!(keys.starts_with("environment="), "{keys}");
    let seen = said(&place, &by, "env");
    assert!(!seen.contains("KEPT=") && !seen.contains("OF_THE_KEY="), "{seen}");

    // The guest's other keys: root of the node could use them meanwhile.
    let agent = Agent::start(&key);
    let output = client("ssh", &by)
        .env("SSH_AUTH_SOCK", &agent.socket)
        .args(["-A", "-p"])
        .arg(place["port"].to_string())
        .arg(at(&place, "ops"))
        .arg("echo \"agent=$SSH_AUTH_SOCK\"; ssh-add -l; ls -d /tmp/ssh-* 2>/dev/null")
        .output()
        .expect("a client runs");
    let seen = told(&output);
    assert!(seen.starts_with("agent=\n") && !seen.contains("ED25519") && !seen.contains("/tmp/ssh-"), "{seen}");

    // The guest's screen and keyboard.
    let output = client("ssh", &by)
        .env("DISPLAY", "127.0.0.1:9")
        .args(["-o", "LogLevel=INFO", "-Y", "-p"])
        .arg(place["port"].to_string())
        .arg(at(&place, "ops"))
        .arg("echo \"display=$DISPLAY\"")
        .output()
        .expect("a client runs");
    let seen = told(&output);
    assert!(seen.contains("display=\n") && seen.contains("X11 forwarding request failed"), "{seen}");

    // The guest's network as a whole. Where this host has no device for it, the client ends before it asks.
    let tunnel = ssh_with(&place, "ops", &by, &["-v", "-o", "LogLevel=DEBUG1", "-w", "any:any"], "echo in");
    let seen = told(&tunnel);
    assert!(
        seen.contains("Tunnel device open failed") || seen.contains("Server has rejected tunnel device forwarding"),
        "{seen}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_and_ports_are_forwarded_within_the_nodes_reach() {
    if !is_here() {
        return;
    }
    let key = Key::new();
    let place = node(&key).await;
    let by = By::Key(&key);
    let port = place["port"].to_string();
    // Both ways, with the client that people use.
    let folder = std::env::temp_dir().join(format!("batchyard-sftp-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).expect("made");
    std::fs::write(folder.join("there"), vec![7; 3_000_000]).expect("written");
    let mut sftp = client("sftp", &by)
        .args(["-P", &port, "-b", "-"])
        .arg(at(&place, "ops"))
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a client runs");
    sftp.stdin.take().expect("piped").write_all(b"put there\nget there back\nls -l there\n").expect("written");
    let output = sftp.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(std::fs::read(folder.join("back")).expect("there"), vec![7; 3_000_000]);
    assert_eq!(said(&place, &by, "stat -c '%U %s' there"), "ops 3000000\n");
    std::fs::remove_dir_all(&folder).expect("removed");

    // A service of this host is lent to the node, and reached through the node: forwarding goes both ways.
    let service = TcpListener::bind("127.0.0.1:0").expect("bound");
    let local = service.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut guest in service.incoming().flatten() {
            let _ = guest.write_all(b"well met\n");
        }
    });
    let lent = format!("0.0.0.0:7007:127.0.0.1:{local}");
    let mut lending = Ended(
        client("ssh", &by)
            .args(["-o", "ExitOnForwardFailure=yes", "-R", &lent, "-p", &port])
            .arg(at(&place, "ops"))
            .arg("echo lent; exec sleep 600")
            .stdout(Stdio::piped())
            .spawn()
            .expect("a client runs"),
    );
    let mut line = String::new();
    BufReader::new(lending.0.stdout.take().expect("piped")).read_line(&mut line).expect("read");
    assert_eq!(line, "lent\n");
    let through = |target: &str| told(&ssh_to(&place, &by, &["-W", target]));
    assert_eq!(through("127.0.0.1:7007"), "well met\n");
    // Neighbours do not find it: it is at the node's own loopback, whatever was asked for. 7007 is 1B5F.
    let listening = said(&place, &by, "cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == \"0A\" && /:1B5F / { print $2 }' | sort");
    assert!(listening.contains("0100007F:1B5F") && !listening.contains("00000000:1B5F"), "{listening}");
    // A node's reach is no larger through a forwarded port: not the host's loopback, nor what clouds have at theirs.
    for target in [format!("127.0.0.1:{local}"), "169.254.169.254:80".to_owned(), "168.63.129.16:80".to_owned()] {
        let began = Instant::now();
        let answer = through(&target);
        assert!(!answer.contains("well met") && answer.contains("failed"), "{target}: {answer}");
        assert!(began.elapsed() < PATIENCE, "{target}: {:?}", began.elapsed());
    }
}

/// A client that runs no command.
fn ssh_to(place: &Value, by: &By<'_>, options: &[&str]) -> std::process::Output {
    let mut client = client("ssh", by);
    client.args(options).arg("-p").arg(place["port"].to_string()).arg(at(place, "ops")).output().expect("a client runs")
}

/// A program that ends with this.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent of ssh's that holds one key, and ends with this.
struct Agent {
    socket: String,
    _program: Ended,
}

impl Agent {
    fn start(key: &Key) -> Agent {
        let socket = format!("{}-agent", key.0.display());
        let program = Command::new("ssh-agent").args(["-D", "-a", &socket]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let agent = Agent { socket, _program: Ended(program.expect("ssh-agent runs")) };
        let began = Instant::now();
        let add = || Command::new("ssh-add").env("SSH_AUTH_SOCK", &agent.socket).arg("-q").arg(&key.0).output().expect("runs");
        while !add().status.success() {
            assert!(began.elapsed() < PATIENCE, "the agent takes no key: {}", told(&add()));
            std::thread::sleep(Duration::from_millis(20));
        }
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Guests at once of one node.
const GUESTS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_the_door_is_bounded_and_goes_again() {
    if !is_here() {
        return;
    }
    let key = Key::new();
    let place = node(&key).await;
    let port = place["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let come = || {
        let guest = TcpStream::connect((place["ipAddress"].as_str().expect("an address"), port)).expect("someone answers");
        guest.set_read_timeout(Some(PATIENCE)).expect("set");
        guest
    };
    // Each has a server of its own by the time that it is greeted.
    let greeting = |mut guest: &TcpStream| {
        let mut greeting = [0; 8];
        guest.read_exact(&mut greeting).map(|()| greeting == *b"SSH-2.0-").unwrap_or(false)
    };
    let crowd: Vec<TcpStream> = (0..GUESTS).map(|_| come()).collect();
    assert!(crowd.iter().all(greeting), "all are let in");
    assert!(!greeting(&come()), "one more is sent away");
    drop(crowd);
    let began = Instant::now();
    while !ssh(&place, "ops", &By::Key(&key), "true").status.success() {
        assert!(began.elapsed() < PATIENCE, "the door stays closed when they have gone");
        std::thread::sleep(Duration::from_millis(100));
    }
}
