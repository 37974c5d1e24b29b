//! Agents, and whoever passes for one.

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use batchyard::agent::protocol::{JOIN_PATH, OUTPUT_PATH, SYNC_PATH, Sync, VERSION};
use batchyard::domain::attempt::{AssignmentState, End};
use batchyard::domain::bootstrap::{AgentBootstrap, Isolation, ServerAddress};
use batchyard::domain::machine::Setup;
use batchyard::domain::report::Seen;
use batchyard::http::openapi;
use batchyard::store::Applied;
use batchyard::wire::ApiVersion;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use crate::bed::{Bed, join};
use crate::harness::guard::Guard;
use crate::harness::privileged;
use crate::harness::server::{Server, Settings};
use crate::harness::site::Site;
use crate::harness::wait::{PATIENCE, until};

/// What is in a file of the agent of the only node that has it.
fn agents_file(server: &Server, node: &str, name: &str) -> Value {
    let path = server.dir().join("data/nodes/nodes").join(node).join("state").join(name);
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).expect("JSON")
}

fn machines(server: &Server) -> Vec<String> {
    let folder = std::fs::read_dir(server.dir().join("data/nodes/nodes")).expect("there");
    folder.flatten().map(|entry| entry.file_name().into_string().expect("a name")).collect()
}

#[tokio::test]
async fn a_stolen_credential_gets_its_own_alone() {
    let server = Server::start(Settings { config: "[driver]\nisolation = \"process-groups\"\n".into(), ..Settings::default() });
    let site = Site::new(server.api()).await;
    site.cluster("mine", 1).await;
    let [thief] = machines(&server).try_into().expect("one");
    site.cluster("theirs", 1).await;
    let victim = machines(&server).into_iter().find(|name| *name != thief).expect("another");
    for (job, cluster) in [("own", "mine"), ("other", "theirs")] {
        let over = json!({ "secrets": [{ "name": "S", "value": format!("canary-of-{job}") }] });
        site.submit(job, cluster, "sleep 300", over).await;
        site.wait_state(job, "running").await;
    }
    let credential = agents_file(&server, &thief, "credential.json")["credential"].as_str().expect("a text").to_owned();
    let folder = server.dir().join("data/run/agents");
    let socket = std::fs::read_dir(&folder).expect("there").flatten().next().expect("a socket").path();
    let http = reqwest::Client::builder().unix_socket(socket.as_path()).build().expect("builds");
    let post = async |path: &str, body: Value, bearer: &str| {
        let request = http.post(format!("http://agent{path}")).bearer_auth(bearer).json(&body);
        let answer = request.send().await.expect("answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let report = |assignments: Value| {
        json!({ "protocol": VERSION, "session": Uuid::new_v4(), "boot_id": "stolen", "seq": 1, "have": 0, "wait_ms": 0,
            "setup": "done", "assignments": assignments })
    };
    // Nothing of the API: every operation of the contract, in every version.
    let mut asked = 0;
    let api = reqwest::Client::new();
    for version in ApiVersion::ALL {
        let document = openapi(version);
        for (path, methods) in document["paths"].as_object().expect("paths") {
            let filled = path.replace("{subscriptionId}", server.value("BATCHYARD_SUBSCRIPTION")).replace(['{', '}'], "");
            for (method, about) in methods.as_object().expect("methods") {
                if about["security"].as_array().is_some_and(Vec::is_empty) {
                    continue;
                }
                let method = reqwest::Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method");
                let url = format!("{}{filled}?api-version={}", server.value("BATCHYARD_ENDPOINT"), version.as_str());
                let answer = api.request(method, &url).bearer_auth(&credential).send().await.expect("answers");
                assert_eq!(answer.status().as_u16(), 401, "{url}");
                asked += 1;
            }
        }
    }
    assert!(asked > 100, "{asked}");
    // Nor does a user's token open the agents' routes.
    let (status, _) = post(SYNC_PATH, report(json!([])), server.value("BATCHYARD_TOKEN")).await;
    assert_eq!(status, 401);
    // Of the agents' routes its own node's state.
    let (status, own) = post(SYNC_PATH, report(json!([])), &credential).await;
    assert_eq!(status, 200, "{own}");
    assert!(own.contains("canary-of-own") && !own.contains("canary-of-other") && !own.contains(&victim), "{own}");
    // Another's part: its attempt's id is on its node.
    let others = server.dir().join("data/nodes/nodes").join(&victim).join("state/assignments");
    let attempt = std::fs::read_dir(others).expect("there").flatten().next().expect("one").file_name();
    let attempt = attempt.to_str().and_then(|name| name.split('.').next()).expect("an id").to_owned();
    let lie = json!([{ "attempt": attempt, "state": "ended", "end": { "exited": { "code": 0 } } }]);
    let (status, told) = post(SYNC_PATH, report(lie), &credential).await;
    assert!(status == 200 && !told.contains("canary-of-other"), "acknowledged, and ignored: {status} {told}");
    let at = format!("{OUTPUT_PATH}?attempt={attempt}&directory=stdouterr&path=stdout.txt&generation=1&offset=0&modified_at=1");
    assert_eq!(post(&at, json!("forged"), &credential).await.0, 401);
    for (machine, token) in [(&victim, credential.as_str()), (&victim, ""), (&thief, credential.as_str())] {
        let join = json!({ "protocol": VERSION, "machine": machine, "token": token, "key_hash": "00".repeat(32), "boot_id": "b",
            "isolation": "i" });
        assert_eq!(post(JOIN_PATH, join, &credential).await.0, 401, "{machine}");
    }
    for path in ["/agent", "/agent/sync/..", "/agent/nodes", "/subscriptions", "/metrics", "/readyz"] {
        assert_eq!(post(path, json!({}), &credential).await.0, 404, "{path}");
    }
    assert_eq!(site.get_job("other").await["executionState"], "running", "nothing befell it");
}

/// A report or a join with something odd in it.
fn twist(dice: &mut rand::rngs::StdRng, value: &mut Value) {
    let odd = |dice: &mut rand::rngs::StdRng| match dice.random_range(0..14) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(u64::MAX),
        3 => json!(1e308),
        4 => json!("\u{0}\u{1b}[31m\u{202e}"),
        5 => json!("x".repeat(70_000)),
        6 => json!([[[[[[]]]]]]),
        7 => json!({ "exited": { "code": i64::MAX } }),
        8 => json!(true),
        9 => json!(""),
        10 => json!("9999-12-31T23:59:60Z"),
        11 => json!("-0001-01-01T00:00:00Z"),
        12 => json!(Uuid::new_v4()),
        _ => {
            json!({ "failed": { "code": "\u{0}", "message": "y".repeat(9_000), "details": [{ "name": "\u{7}", "value": "" }] } })
        }
    };
    match value {
        Value::Object(members) if !members.is_empty() && dice.random_range(0..4) > 0 => {
            let at = dice.random_range(0..members.len());
            let name = members.keys().nth(at).expect("there").clone();
            match dice.random_range(0..8) {
                0 => drop(members.remove(&name)),
                1 => drop(members.insert(format!("{name}x"), odd(dice))),
                _ => twist(dice, members.get_mut(&name).expect("there")),
            }
        }
        Value::Array(items) if !items.is_empty() && dice.random_range(0..4) > 0 => {
            let at = dice.random_range(0..items.len());
            match dice.random_range(0..6) {
                0 => items.extend(vec![items[at].clone(); 300]),
                _ => twist(dice, &mut items[at]),
            }
        }
        value => *value = odd(dice),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_reports_break_nothing() {
    let bed = Bed::new().await;
    let machines = bed.ready(2).await;
    bed.put_job("a").await;
    bed.put_job("b").await;
    let rows = bed.snapshot().await.jobs;
    let (own, place) = bed.place(&rows[0], &[&machines[0]]);
    let (other, place_other) = bed.place(&rows[1], &[&machines[1]]);
    assert_eq!(bed.apply(&[place, place_other]).await, Applied::All);
    let token = |ordinal: i32| format!("token-{ordinal}");
    let liar = bed.service.join(join(&machines[0].name, &token(1), 1)).await.expect("joins").credential;
    let router = batchyard::http::agent_router(bed.service.clone());
    let seed: u64 = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("FUZZ_SEED={seed}");
    let mut dice = rand::rngs::StdRng::seed_from_u64(seed);
    let seen = |attempt, state, end| Seen { attempt, state, started_at: Some(bed.now()), end, ended_at: None };
    let mut answers = std::collections::BTreeMap::<u16, usize>::new();
    for round in 0..3_000u64 {
        let mut report = serde_json::to_value(Sync {
            protocol: VERSION,
            session: Uuid::from_u128(u128::from(round / 50)),
            boot_id: format!("boot-{}", round / 500),
            seq: round,
            have: 0,
            wait_ms: 0,
            setup: Setup::Done,
            health: vec![],
            assignments: vec![
                seen(own, AssignmentState::Running, None),
                seen(other, AssignmentState::Ended, Some(End::Exited { code: 0 })),
            ],
            output: vec![],
            samples: vec![],
        })
        .expect("writes");
        report["output"] = json!([{ "attempt": own, "directory": "stdouterr", "path": "o", "generation": 1, "offset": 0,
            "modified_at": 1, "data": "AAAA" }]);
        let is_join = round % 10 == 0;
        if is_join {
            report = serde_json::to_value(join(&machines[0].name, &token(1), 1)).expect("writes");
        }
        // The key stays: another one is what quarantine is for, and is played elsewhere.
        let key = report["key_hash"].clone();
        for _ in 0..dice.random_range(1..4) {
            twist(&mut dice, &mut report);
        }
        if is_join && report.is_object() {
            report["key_hash"] = key.clone();
        }
        let mut bytes = serde_json::to_vec(&report).expect("writes");
        if dice.random_range(0..8) == 0 {
            let at = dice.random_range(0..bytes.len());
            let was = std::mem::replace(&mut bytes[at], dice.random());
            let key = key.as_str().unwrap_or_default().as_bytes();
            if is_join && !bytes.windows(key.len()).any(|part| part == key) {
                bytes[at] = was;
            }
        }
        // No wait is asked for by accident.
        let request = Request::post(if is_join { JOIN_PATH } else { SYNC_PATH })
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {liar}"))
            .body(Body::from(bytes))
            .expect("a request");
        let answered = tokio::time::timeout(PATIENCE, router.clone().oneshot(request)).await.expect("in time").expect("answers");
        assert!(!answered.status().is_server_error(), "FUZZ_SEED={seed}, round {round}: {} to {report}", answered.status());
        *answers.entry(answered.status().as_u16()).or_default() += 1;
    }
    assert!(answers.len() > 1 && answers.get(&StatusCode::OK.as_u16()).is_some_and(|count| *count > 100), "{answers:?}");
    let now = bed.snapshot().await;
    let part = |attempt| now.attempts.iter().find(|a| a.uid == attempt).map(|a| a.assignments[0].clone());
    assert_eq!(part(other).map(|part| part.state), Some(AssignmentState::Assigned), "another's part is as it was");
    assert_eq!(now.machines.len(), 2);
    // What it said of its own was taken at most as far as it goes, and its row reads.
    assert!(part(own).is_none_or(|part| part.state >= AssignmentState::Running));
    let sane = Sync {
        protocol: VERSION,
        session: Uuid::new_v4(),
        boot_id: "last".into(),
        seq: 1,
        have: 0,
        wait_ms: 0,
        setup: Setup::Done,
        health: vec![],
        assignments: vec![],
        output: vec![],
        samples: vec![],
    };
    bed.service.sync(machines[0].uid, sane).await.expect("an honest report is taken");
}

/// An agent, as a process, that is to come home to `https://localhost:PORT`, of an authority.
struct Agent {
    child: Child,
    _guard: Guard,
}

impl Agent {
    fn start(port: u16, ca: &str) -> Agent {
        let guard = Guard::new();
        let state = guard.dir().join("state");
        std::fs::create_dir(&state).expect("made");
        let bootstrap = AgentBootstrap {
            login: None,
            store: None,
            machine: "m".into(),
            node_id: "tvm-1".into(),
            join_token: "canary-join-token".into(),
            server: ServerAddress::Https { url: format!("https://localhost:{port}"), ca: ca.into() },
            isolation: Isolation::ProcessGroup,
            state_dir: state,
            tasks_root: guard.dir().join("tasks"),
            shares: vec![],
            job_user: None,
            job_groups: vec![],
            gangs: None,
            names: None,
            fence: None,
            engine: None,
            gate: None,
            mount_commands: false,
            gpus: vec![],
            gpu_library: None,
        };
        let file = guard.dir().join("bootstrap.json");
        std::fs::write(&file, serde_json::to_vec(&bootstrap).expect("writes")).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchyard"));
        let child = command.arg("agent").arg(file).stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        Agent { child, _guard: guard }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Listens, and tells what each connection says once TLS stands: nothing where it does not. Without `identity` it speaks plainly.
fn listen(identity: Option<(&rcgen::CertifiedKey<rcgen::KeyPair>,)>) -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("localhost:0").expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let (sender, receiver) = channel();
    let config = identity.map(|(identity,)| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(identity.signing_key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![identity.cert.der().clone()], key)
            .expect("fits");
        Arc::new(config)
    });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(2)));
            let mut said = vec![0; 4096];
            let length = match &config {
                None => stream.read(&mut said).unwrap_or(0),
                Some(config) => {
                    let mut session = rustls::ServerConnection::new(config.clone()).expect("a session");
                    rustls::Stream::new(&mut session, &mut stream).read(&mut said).unwrap_or(0)
                }
            };
            said.truncate(length);
            if sender.send(said).is_err() {
                break;
            }
        }
    });
    (port, receiver)
}

#[test]
fn an_agent_speaks_to_its_own_server_alone() {
    let make = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("makes");
    let (own, strange, misnamed) = (make("localhost"), make("localhost"), make("elsewhere.example"));
    let hear = |from: &Receiver<Vec<u8>>| from.recv_timeout(PATIENCE).expect("it comes");
    // Its own is told the token.
    let (port, said) = listen(Some((&own,)));
    let agent = Agent::start(port, &own.cert.pem());
    let first = String::from_utf8_lossy(&hear(&said)).into_owned();
    assert!(first.starts_with("POST /agent/join"), "{first}");
    drop(agent);
    // Others hear nothing, however often it comes: not one of another authority, not one of another name, not one without TLS.
    for (case, identity, ca) in [
        ("another authority", Some((&strange,)), own.cert.pem()),
        ("another name", Some((&misnamed,)), misnamed.cert.pem()),
        ("no TLS", None, own.cert.pem()),
    ] {
        let (port, said) = listen(identity);
        let _agent = Agent::start(port, &ca);
        for _ in 0..3 {
            let heard = hear(&said);
            let is_hello = identity.is_none() && heard.first() == Some(&0x16);
            let text = String::from_utf8_lossy(&heard);
            assert!((heard.is_empty() || is_hello) && !text.contains("canary"), "{case}: {text}");
        }
    }
    // And there is no way to tell it to speak plainly.
    let guard = Guard::new();
    let agent = Agent::start(1, "no authority");
    let mut child = agent;
    let ended = (0..600).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        child.child.try_wait().expect("waits")
    });
    assert!(ended.is_some_and(|status| !status.success()), "without an authority it does not start");
    drop(guard);
}

#[tokio::test]
async fn an_agent_listens_nowhere() {
    if !privileged() {
        return;
    }
    let server = Server::up();
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    let [init] = server.node_processes().try_into().expect("one node");
    let listening = || {
        let mut ports = Vec::new();
        for table in ["tcp", "tcp6", "udp", "udp6"] {
            let text = std::fs::read_to_string(format!("/proc/{init}/net/{table}")).unwrap_or_default();
            for line in text.lines().skip(1) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let port = words[1].rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok()).expect("a port");
                // 0A is LISTEN; a datagram socket that is bound is 07.
                if words[3] == "0A" || words[3] == "07" {
                    ports.push((table, port));
                }
            }
        }
        ports
    };
    let listens = until("the node is what it will be", async || listening(), |ports| ports.len() <= 2).await;
    assert!(listens.iter().all(|(table, port)| table.starts_with("tcp") && *port == 22), "sshd alone: {listens:?}");
}

/// The program that takes the server's place: it says so where it is run.
fn impostor(path: &Path, mark: &Path) {
    std::fs::remove_file(path).expect("removed");
    std::fs::write(path, format!("#!/bin/sh\ntouch {}\n", mark.display())).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("set");
}

#[tokio::test]
async fn a_program_in_the_servers_place_is_not_run() {
    let guard = Arc::new(Guard::new());
    let binary: PathBuf = guard.dir().join("batchyard");
    std::fs::copy(env!("CARGO_BIN_EXE_batchyard"), &binary).expect("copied");
    let settings = Settings { binary: Some(binary.clone()), ..Settings::default() };
    let server = Server::start_in(guard.clone(), "1", settings);
    let site = Site::new(server.api()).await;
    let mark = guard.dir().join("it-ran");
    impostor(&binary, &mark);
    site.cluster("c", 1).await;
    let job = site.run("j", "c", "echo well", json!({})).await;
    assert_eq!(job["executionState"], "succeeded", "the node's agent is the server's own: {job}");
    assert!(!mark.exists(), "another program was run");
    // An agent of another version is told so, and is not heard.
    let folder = server.dir().join("data/run/agents");
    let socket = std::fs::read_dir(&folder).expect("there").flatten().next().expect("a socket").path();
    let http = reqwest::Client::builder().unix_socket(socket.as_path()).build().expect("builds");
    let old = json!({ "protocol": VERSION - 1, "machine": "m", "token": "t", "key_hash": "00".repeat(32), "boot_id": "b",
        "isolation": "i" });
    let answer = http.post(format!("http://agent{JOIN_PATH}")).json(&old).send().await.expect("answers");
    assert_eq!(answer.status().as_u16(), 400);
    let text = answer.text().await.expect("text");
    assert!(text.contains("speaks version"), "{text}");
}
