//! Machines that call in: by one line, once, from behind a router, and to nobody but their own server.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::pool::{SERVER, is_within, wait, wait_within};
use super::{Pool, START};
use crate::harness::database::Database;
use crate::harness::{Server, Site, until_within};

/// `batchyard pool …` on the server's host: whether it went well, and what it said.
fn pool_command(server: &Server, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batchyard"));
    command.arg("pool").args(words).arg("--data").arg(server.dir().join("data"));
    finish(command, server)
}

fn finish(mut command: Command, server: &Server) -> (bool, String) {
    let done = command.arg("--config").arg(server.dir().join("config1.toml")).output().expect("runs");
    let said = if done.status.success() { done.stdout } else { done.stderr };
    (done.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
}

fn token(server: &Server, more: &[&str]) -> String {
    let (is_made, line) = pool_command(server, &[&["token", "m1"], more].concat());
    assert!(is_made && line.lines().count() == 1, "{line}");
    line
}

/// What the pool says of its one machine.
fn state(server: &Server) -> String {
    let (is_listed, list) = pool_command(server, &["list"]);
    assert!(is_listed, "{list}");
    let list: Value = serde_json::from_str(&list).expect("a list");
    assert_eq!(list[0]["name"], "m1", "{list}");
    list[0]["state"].as_str().expect("a state").to_owned()
}

/// Someone between a machine and its server, who shows a certificate of their own with the server's address.
struct Middle {
    process: Child,
}

const MIDDLE: u16 = 9443;

impl Middle {
    fn start(dir: &Path) -> Middle {
        let files = ["-keyout", "middle.key", "-out", "middle.pem"];
        let mut make = Command::new("openssl");
        make.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=batchyard",
        ]);
        make.args(["-addext", &format!("subjectAltName=IP:{SERVER}")]).args(files).current_dir(dir).stderr(Stdio::null());
        assert!(make.status().expect("openssl runs").success());
        let log = std::fs::File::create(dir.join("middle.log")).expect("made");
        let mut serve = Command::new("openssl");
        serve.args(["s_server", "-accept", &MIDDLE.to_string(), "-key", "middle.key", "-cert", "middle.pem"]).current_dir(dir);
        // It ends with its input.
        serve.stdin(Stdio::piped()).stdout(log.try_clone().expect("a file")).stderr(log);
        let middle = Middle { process: serve.spawn().expect("openssl runs") };
        wait("someone in the middle", || TcpStream::connect((SERVER, MIDDLE)).is_ok());
        middle
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_good_once_for_a_time_and_at_its_own_server() {
    if !is_within("ssh::join::a_line_is_good_once_for_a_time_and_at_its_own_server") {
        return;
    }
    let pool = Pool::start_behind_router();
    let host = &pool.hosts[0];
    let server = pool.server();
    assert_eq!(state(&server), "not joined");
    let has_joined = || host.path("var/lib/batchyard-machine/member.json").exists();
    let refused = |line: &str, why: &str| {
        let (is_done, said) = host.run(line);
        assert!(!is_done && said.contains(why), "{said}");
        assert!(!has_joined());
    };
    let (is_made, why) = pool_command(&server, &["token", "m2"]);
    assert!(!is_made && why.contains("has no machine 'm2' with calls = true"), "{why}");

    let ended = token(&server, &["--expires", "1s"]);
    wait("the token ends", || state(&server).starts_with("not joined: its token ended at "));
    refused(&ended, "401");
    let replaced = token(&server, &[]);
    let line = token(&server, &[]);
    refused(&replaced, "401");

    // Whoever is in the middle is told nothing, and the line is as good as before.
    let middle = Middle::start(server.dir());
    host.mislead(Some(MIDDLE));
    refused(&line, "certificate");
    host.mislead(None);
    drop(middle);
    let heard = std::fs::read_to_string(server.dir().join("middle.log")).expect("there");
    assert!(heard.contains("unknown ca") && !heard.contains("Bearer"), "{heard}");

    let (is_done, said) = host.run(&line);
    assert!(is_done && said.contains(&format!("this machine is m1 of the pool at https://{SERVER}:8443")), "{said}");
    assert!(has_joined());
    let (is_done, said) = host.run(&line);
    assert!(!is_done && said.contains("401"), "{said}");
    let (is_made, why) = pool_command(&server, &["token", "m1"]);
    assert!(!is_made && why.contains("m1 has joined already"), "{why}");
    wait("it calls", || state(&server) == "free");

    // Neither what it joined with nor what it calls with is told by anyone.
    let kept = std::fs::read(host.path("var/lib/batchyard-machine/member.json")).expect("there");
    let kept: Value = serde_json::from_slice(&kept).expect("read");
    let token = line.split("t=").nth(1).and_then(|rest| rest.split(';').next()).expect("a token");
    for secret in [token, kept["credential"].as_str().expect("a credential")] {
        assert!(secret.len() == 64 && !server.log().contains(secret));
        assert!(!host.runs_with(secret), "it is an argument");
    }

    // What an operator tells it it does, and it is told to go.
    assert!(pool_command(&server, &["quarantine", "m1", "a loose cable"]).0);
    wait_within(START, "it is in quarantine", || state(&server) == "in quarantine: a loose cable");
    assert!(pool_command(&server, &["release", "m1"]).0);
    wait_within(START, "it is free", || state(&server) == "free");
    assert!(pool_command(&server, &["remove", "m1"]).0);
    wait_within(START, "it has gone", || !has_joined() && !host.runs_with("pool-member"));
    assert_eq!(state(&server), "not joined");

    // The program that joins believes that authority alone, as what fetched it did.
    let middle = Middle::start(server.dir());
    host.mislead(Some(MIDDLE));
    std::fs::copy(server.dir().join("data/keys/ca.pem"), host.path("ca.pem")).expect("copied");
    let (is_done, said) =
        host.run(&format!("echo secret | /var/lib/batchyard-machine/program agent join https://{SERVER}:8443 /ca.pem"));
    assert!(!is_done && said.contains("is not reached") && !has_joined(), "{said}");
    drop(middle);
    let heard = std::fs::read_to_string(server.dir().join("middle.log")).expect("there");
    assert!(heard.contains("alert") && !heard.contains("Bearer"), "{heard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_behind_a_router_joins_runs_jobs_and_is_cleaned() {
    if !is_within("ssh::join::a_machine_behind_a_router_joins_runs_jobs_and_is_cleaned") {
        return;
    }
    let pool = Pool::start_behind_router();
    let host = &pool.hosts[0];
    let mut server = pool.server();
    let ssh = SocketAddr::from((host.machine.address, 22));
    assert!(TcpStream::connect_timeout(&ssh, Duration::from_secs(2)).is_err(), "nobody comes in");
    let (is_done, said) = host.run(&token(&server, &[]));
    assert!(is_done, "{said}");

    let site = Site::new(server.api()).await;
    site.put_cluster("c", &Site::cluster_body(1)).await;
    let idle = |cluster: &Value| cluster["nodeStateCounts"]["idleNodeCount"] == 1;
    until_within(START, "an idle node", || site.get_cluster("c"), idle).await;
    assert!(state(&server).starts_with("leased by installation by"), "{}", state(&server));
    let output = || json!({ "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT" });
    site.submit("first", "c", "id -un", output()).await;
    assert_eq!(site.ended_within(START, "first").await["executionState"], "succeeded");
    assert_eq!(site.stdout("first").await, "batch\n");

    // A server that starts again is called again; one of another version makes machine and agent its own, and the job goes on.
    site.submit("long", "c", "until [ -e /var/tmp/go ]; do sleep 0.1; done; echo went on", output()).await;
    site.wait_state("long", "running").await;
    server.kill();
    let size = pool.change_program();
    server.restart();
    wait_within(START, "the agent is of that version", || host.agents() == [size]);
    let site = Site { api: server.api(), group: site.group };
    assert_eq!(site.get_job("long").await["executionState"], "running");
    for node in std::fs::read_dir(host.path("var/lib/batchyard-machine/nodes/nodes")).into_iter().flatten().flatten() {
        let _ = std::fs::write(node.path().join("root/var/tmp/go"), "");
    }
    assert_eq!(site.ended_within(START, "long").await["executionState"], "succeeded");
    assert_eq!(site.stdout("long").await, "went on\n");

    site.delete().await;
    assert_eq!(pool.remains(), Vec::<String>::new());
    wait_within(START, "it is free", || state(&server) == "free");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_the_one_that_leads_is_called() {
    if !is_within("ssh::join::of_two_servers_the_one_that_leads_is_called") {
        return;
    }
    let pool = Pool::start_behind_router();
    let host = &pool.hosts[0];
    let database = Database::start_new(Arc::clone(&pool.guard));
    let mut first = pool.server_of(&database, "1", 8443);
    let mut second = pool.server_of(&database, "2", 8444);
    host.balance(8444);
    let mut command = Command::new(env!("CARGO_BIN_EXE_batchyard"));
    command.args(["pool", "token", "m1"]).env("DATABASE_URL", database.url());
    let (is_made, line) = finish(command, &first);
    assert!(is_made, "{line}");
    let (is_done, said) = host.run(&line);
    assert!(is_done, "{said}");

    let site = Site::new(second.api()).await;
    site.put_cluster("c", &Site::cluster_body(1)).await;
    let idle = |cluster: &Value| cluster["nodeStateCounts"]["idleNodeCount"] == 1;
    until_within(START, "an idle node", || site.get_cluster("c"), idle).await;
    // Half of what is called has nobody there from now on, and the other leads.
    first.kill();
    site.submit("j", "c", "id -un", json!({ "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT" })).await;
    assert_eq!(site.ended_within(START, "j").await["executionState"], "succeeded");
    assert_eq!(site.stdout("j").await, "batch\n");
    site.delete().await;
    assert_eq!(pool.remains(), Vec::<String>::new());
    // A call that waits holds up no server that is to stop.
    assert!(second.terminate().success());
    assert!(!second.log().contains("some requests did not end in time"), "{}", second.log());
}
