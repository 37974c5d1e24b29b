//! Logging in to nodes, as a user does: with a real ssh client, at the address that the API lists, as the cluster's user account.

#[path = "login/settings.rs"]
mod settings;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::{Server, Site};

const PASSWORD: &str = "pass word%$'\"";

/// What these tests need beside the right to make nodes.
const PROGRAMS: [&str; 4] = ["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/sshpass", "/usr/bin/sudo"];

/// Whether they can run. Where they must and cannot, that is a failure.
fn is_here() -> bool {
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|path| !Path::new(path).exists()).collect();
    let demanded = std::env::var("BATCHYARD_TEST_PRIVILEGE").is_ok_and(|value| value == "required");
    let allowed = crate::harness::privileged();
    assert!(!demanded || missing.is_empty(), "{missing:?} are demanded here");
    if !missing.is_empty() {
        eprintln!("skipped: needs {missing:?}");
    }
    allowed && missing.is_empty()
}

/// A key pair of a test.
struct Key(PathBuf);

impl Key {
    fn new() -> Key {
        let path = std::env::temp_dir().join(format!("batchyard-key-{}", uuid::Uuid::new_v4()));
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status().expect("runs");
        assert!(made.success());
        Key(path)
    }

    fn public(&self) -> String {
        std::fs::read_to_string(self.0.with_extension("pub")).expect("there").trim().to_owned()
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_file(self.0.with_extension("pub"));
    }
}

/// How a client says who it is.
enum By<'a> {
    Key(&'a Key),
    Password(&'a str),
}

/// What makes a client ask nothing, and read nothing of whoever runs the test.
const QUIET: [&str; 12] = [
    "-F",
    "none",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
    "-o",
    "ConnectTimeout=10",
    "-o",
    "NumberOfPasswordPrompts=1",
];

/// A program of ssh's client, `ssh` or `sftp`, without a place yet.
fn client(program: &str, by: &By<'_>) -> Command {
    let mut client = match by {
        By::Key(key) => {
            let mut client = Command::new(program);
            client.args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"]).arg(&key.0);
            client
        }
        By::Password(password) => {
            let mut client = Command::new("sshpass");
            client.args(["-p", password, program, "-o", "PubkeyAuthentication=no"]);
            client
        }
    };
    client.args(QUIET).env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY").stdin(Stdio::null());
    client
}

/// Who and where, as clients write it.
fn at(place: &Value, user: &str) -> String {
    format!("{user}@{}", place["ipAddress"].as_str().expect("an address"))
}

/// Runs `ssh` as a user would type it, at the place that a list names.
fn ssh(place: &Value, user: &str, by: &By<'_>, command: &str) -> Output {
    ssh_with(place, user, by, &[], command)
}

/// The same with more options.
fn ssh_with(place: &Value, user: &str, by: &By<'_>, options: &[&str], command: &str) -> Output {
    let mut client = client("ssh", by);
    client.args(options).arg("-p").arg(place["port"].to_string());
    client.arg(at(place, user)).arg(command).output().expect("a client runs")
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a command says that must do well.
#[track_caller]
fn said(place: &Value, by: &By<'_>, command: &str) -> String {
    let output = ssh(place, "ops", by, command);
    assert!(output.status.success(), "{command}: {}", told(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn logins(site: &Site, path: &str) -> Vec<Value> {
    let listed = site.api.post(&format!("{path}/listRemoteLoginInformation")).await.expect(200);
    listed.body["value"].as_array().expect("a list").clone()
}

async fn cluster(site: &Site, name: &str, nodes: u32, account: Value) {
    let mut body = Site::cluster_body(nodes);
    body["properties"]["userAccountSettings"] = account;
    site.put_cluster(name, &body).await;
    site.wait_idle(name, nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_log_in_where_the_list_says() {
    if !is_here() {
        return;
    }
    let site = Site::new(Server::shared().api()).await;
    let key = Key::new();
    let account = json!({ "adminUserName": "ops", "adminUserSshPublicKey": key.public(), "adminUserPassword": PASSWORD });
    cluster(&site, "c", 2, account).await;
    let places = logins(&site, &site.cluster_path("c")).await;
    assert_eq!(places.len(), 2, "{places:?}");
    assert_ne!(places[0]["port"], places[1]["port"]);
    for place in &places {
        let host = place["nodeId"].as_str().expect("named").replace('_', "-");
        for by in [By::Key(&key), By::Password(PASSWORD)] {
            assert_eq!(said(place, &by, "id -un; hostname; pwd"), format!("ops\n{host}\n/home/ops\n"));
        }
        let wrong = ssh(place, "ops", &By::Password("wrong"), "true");
        assert!(!wrong.status.success() && told(&wrong).contains("denied"), "{}", told(&wrong));
        for name in ["root", "batch", "sshd"] {
            assert!(!ssh(place, name, &By::Key(&key), "true").status.success(), "{name} is not the account");
        }
    }
    // The exit code and binary output come back; a terminal is given.
    assert_eq!(ssh(&places[0], "ops", &By::Key(&key), "exit 7").status.code(), Some(7));
    let bytes = ssh(&places[0], "ops", &By::Key(&key), "head -c 3000000 /dev/zero").stdout;
    assert_eq!(bytes.len(), 3_000_000);
    // The account administers the node, and reaches nothing beyond it.
    let by = By::Key(&key);
    assert_eq!(said(&places[0], &by, "sudo -n id -u"), "0\n");
    let held = said(&places[0], &by, "sudo -n grep CapBnd /proc/self/status");
    assert!(held.trim().ends_with("a80425fb"), "root as root of a container: {held}");
    assert_eq!(said(&places[0], &by, "sudo -n sh -c 'ls -A /run/batchyard' 2>&1 | grep -v ':$' | grep .; true"), "");
    let server = Server::shared().value("BATCHYARD_ENDPOINT").rsplit(':').next().expect("a port").trim_matches('/').to_owned();
    for target in [format!("127.0.0.1/{server}"), "169.254.169.254/80".to_owned()] {
        let tried = ssh(&places[0], "ops", &by, &format!("timeout 3 bash -c 'exec 3<>/dev/tcp/{target}'"));
        assert!(!tried.status.success(), "{target} is reached");
    }

    // What lets users in is no part of the node: nothing in it listens.
    assert_eq!(said(&places[0], &by, "cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 0A 00000000'; true"), "0\n");

    // While a job runs its node is among its own, and its variables are not the session's.
    let over = json!({ "secrets": [{ "name": "SECRET", "value": "canary-of-the-job" }] });
    site.submit("j", "c", "sleep 86400", over).await;
    site.wait_state("j", "running").await;
    let own = logins(&site, &site.job_path("j")).await;
    assert_eq!(own.len(), 1);
    assert!(places.contains(&own[0]), "{own:?}");
    assert!(!said(&own[0], &by, "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'").contains("canary-of-the-job"));

    // The password is nowhere in the clear.
    assert!(!Server::shared().log().contains(PASSWORD));
    let grep =
        Command::new("grep").args(["-rlaF", "--devices=skip", PASSWORD]).arg(Server::shared().dir()).output().expect("runs");
    assert!(grep.stdout.is_empty(), "{}", String::from_utf8_lossy(&grep.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_opens_its_own_nodes_alone_and_without_a_password_takes_none() {
    if !is_here() {
        return;
    }
    let site = Site::new(Server::shared().api()).await;
    let (own, other) = (Key::new(), Key::new());
    cluster(&site, "own", 1, json!({ "adminUserName": "ops", "adminUserSshPublicKey": own.public() })).await;
    cluster(&site, "other", 1, json!({ "adminUserName": "ops", "adminUserSshPublicKey": other.public() })).await;
    let place = logins(&site, &site.cluster_path("own")).await.remove(0);
    assert_eq!(said(&place, &By::Key(&own), "id -un"), "ops\n");
    let refused = ssh(&place, "ops", &By::Key(&other), "true");
    assert!(told(&refused).contains("Permission denied (publickey)"), "{}", told(&refused));
    let refused = ssh(&place, "ops", &By::Password(PASSWORD), "true");
    assert!(told(&refused).contains("Permission denied (publickey)"), "{}", told(&refused));
    // A node that is gone is not listed, and nobody answers in its place.
    site.resize("own", 0, "requeue").await;
    site.wait_idle("own", 0).await;
    assert!(logins(&site, &site.cluster_path("own")).await.is_empty());
    assert!(!ssh(&place, "ops", &By::Key(&own), "true").status.success());
}
