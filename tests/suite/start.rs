//! `batchyard up` from its first start to its last, with the real binary: what a person or a script sees of it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::harness::guard::Guard;
use crate::harness::{Server, until};

/// The assignments that scripts rely on.
const ASSIGNMENTS: &[&str] = &[
    "BATCHYARD_ENDPOINT",
    "BATCHYARD_TLS_ENDPOINT",
    "BATCHYARD_CA",
    "BATCHYARD_SUBSCRIPTION",
    "BATCHYARD_TENANT",
    "BATCHYARD_CLIENT_ID",
    "BATCHYARD_CLIENT_SECRET",
    "BATCHYARD_TOKEN",
];

/// Runs `up`, which is expected to end by itself.
fn up(arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_batchyard"))
        .arg("up")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let began = Instant::now();
    while child.try_wait().expect("waits").is_none() {
        if began.elapsed() > Duration::from_secs(30) {
            let _ = child.kill();
            panic!("it does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().expect("ended")
}

/// The one sentence in which a start that cannot be ends.
#[track_caller]
fn refusal(arguments: &[&str]) -> String {
    let output = up(arguments);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).expect("text");
    let sentence =
        text.lines().find_map(|line| line.strip_prefix("batchyard: ")).unwrap_or_else(|| panic!("no sentence in: {text}"));
    sentence.to_owned()
}

/// Processes that have the database of `data` as their working folder.
fn postgres_of(data: &Path) -> usize {
    let folder = data.join("postgres");
    let processes = std::fs::read_dir("/proc").expect("readable").flatten();
    processes.filter(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == folder)).count()
}

#[tokio::test]
async fn state_survives_restarts_and_nothing_is_left_running() {
    let mut server = Server::up();
    let data = server.dir().join("data");
    let mode = |path: &Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&server.dir().join("env1")), 0o600);
    for name in ASSIGNMENTS {
        assert!(!server.value(name).is_empty(), "{name} has a value");
    }

    // Both endpoints speak of one state, and the CA file makes https trusted under both its names.
    let group = format!("/subscriptions/{}/resourceGroups/kept?api-version=2019-10-01", server.value("BATCHYARD_SUBSCRIPTION"));
    server.api().put(&group, &json!({ "location": "eastus" })).await.expect(201);
    let ca = std::fs::read(server.value("BATCHYARD_CA")).expect("reads");
    let ca = reqwest::Certificate::from_pem(&ca).expect("PEM");
    let trusting = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().expect("builds");
    let tls = server.value("BATCHYARD_TLS_ENDPOINT").to_owned();
    for base in [tls.clone(), tls.replace("localhost", "127.0.0.1")] {
        let answer = trusting.get(format!("{base}{group}")).bearer_auth(server.value("BATCHYARD_TOKEN")).send().await;
        assert_eq!(answer.expect("trusted").status(), 200);
    }

    // Another cannot have the folder.
    let said = refusal(&["--data", &data.display().to_string(), "--port", "0", "--tls-port", "0"]);
    assert!(said.contains(&format!("held by process {}", server.pid())) && said.contains("--data"), "{said}");

    // An orderly end, and everything is there again.
    let names = ["BATCHYARD_SUBSCRIPTION", "BATCHYARD_TENANT", "BATCHYARD_CLIENT_ID", "BATCHYARD_CLIENT_SECRET", "BATCHYARD_CA"];
    let before = names.map(|name| server.value(name).to_owned());
    assert!(server.terminate().success());
    assert_eq!(postgres_of(&data), 0, "Postgres ended before the server did");
    server.restart();
    assert_eq!(names.map(|name| server.value(name).to_owned()), before);
    server.api().get(&group).await.expect(200);

    // A crash: the kernel ends Postgres, and the next start goes on, also where it comes first.
    server.kill();
    server.restart();
    server.api().get(&group).await.expect(200);
    server.kill();
    until("Postgres ends with its killed server", || async { postgres_of(&data) }, |count| *count == 0).await;
}

#[test]
fn a_start_that_cannot_be_is_one_sentence_with_the_remedy() {
    let guard = Guard::new();
    let (data, config) = (guard.dir().join("data").display().to_string(), guard.dir().join("config.toml"));
    let config_argument = config.display().to_string();

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = taken.local_addr().expect("bound").port().to_string();
    let said = refusal(&["--data", &data, "--port", &port, "--tls-port", "0"]);
    assert!(said.contains(&format!("127.0.0.1:{port} is taken")) && said.contains("--port"), "{said}");

    std::fs::write(&config, "[database]\nprograms = \"/nonexistent\"\n").expect("writes");
    let said = refusal(&["--data", &data, "--port", "0", "--tls-port", "0", "--config", &config_argument]);
    assert!(said.contains("no Postgres programs") && said.contains("apt-get install postgresql"), "{said}");

    std::fs::write(&config, "[database]\nprogrammes = \"/x\"\n").expect("writes");
    let output = up(&["--data", &data, "--config", &config_argument]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("database.programmes is not a setting"), "{said}");

    std::fs::set_permissions(guard.dir(), std::fs::Permissions::from_mode(0o755)).expect("opens");
    let said = refusal(&["--data", &guard.dir().display().to_string(), "--port", "0", "--tls-port", "0"]);
    assert!(said.contains("holds other files") && said.contains("--data"), "{said}");
}

#[test]
fn a_full_disk_is_told() {
    let guard = Guard::new();
    let small = guard.dir().join("small");
    std::fs::create_dir(&small).expect("makes");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=20m", "tmpfs"]).arg(&small).stderr(Stdio::null()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this process may not mount");
        return;
    }
    let said = refusal(&["--data", &small.join("data").display().to_string(), "--port", "0", "--tls-port", "0"]);
    assert!(said.contains("is full") && said.contains("--data"), "{said}");
}

#[tokio::test]
async fn a_folder_of_a_later_version_is_left_alone() {
    let mut server = Server::up();
    let data = server.dir().join("data");
    let url = format!("postgres://batchyard@localhost/batchyard?host={}", data.join("run/db").display());
    let mut connection = PgConnection::connect(&url).await.expect("the server's account may connect");
    sqlx::raw_sql("insert into batchyard._sqlx_migrations values (99999, 'later', now(), true, '', 0)")
        .execute(&mut connection)
        .await
        .expect("inserts");
    drop(connection);
    assert!(server.terminate().success());
    let said = refusal(&["--data", &data.display().to_string(), "--port", "0", "--tls-port", "0"]);
    assert!(said.contains("99999") && said.contains("use a newer batchyard"), "{said}");
    assert_eq!(postgres_of(&data), 0, "a refused start leaves nothing running");
}

#[tokio::test]
async fn up_opens_no_database_port() {
    let server = Server::up();
    let data = server.dir().join("data");
    let ids: Vec<String> = std::fs::read_dir("/proc")
        .expect("readable")
        .flatten()
        .filter(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == data.join("postgres")))
        .flat_map(|process| std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten())
        .filter_map(|fd| {
            std::fs::read_link(fd.path()).ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned)
        })
        .collect();
    assert!(!ids.is_empty(), "Postgres has a socket");
    for table in ["/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        // Postgres speaks to its own statistics over a connected datagram socket before version 15; listening is what counts.
        let listening = text.lines().filter(|line| line.split_whitespace().nth(3) == Some("0A"));
        for line in listening {
            let inode = line.split_whitespace().nth(9).unwrap_or_default();
            assert!(!ids.iter().any(|id| id == inode), "Postgres listens: {line}");
        }
    }
}
