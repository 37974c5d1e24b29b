//! The private Postgres, with real processes.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use batchyard::store::embedded::{Embedded, EmbeddedError, Settings};
use rustix::process::{Pid, Signal};
use sqlx::{Connection, PgConnection};

/// A data folder that its owner alone can enter, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("batchyard-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::DirBuilder::new().mode(0o700).create(&path).expect("makes a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn settings(folder: &Path) -> Settings {
    Settings {
        folder: folder.to_owned(),
        socket: folder.join("socket"),
        programs: None,
        path: None,
        launcher: vec![env!("CARGO_BIN_EXE_batchyard").into(), "postgres".into()],
        connections: 5,
        memory: 32 << 20,
        ready_within: Duration::from_secs(60),
    }
}

async fn connect(embedded: &Embedded) -> PgConnection {
    PgConnection::connect(&embedded.url()).await.expect("connects")
}

#[tokio::test]
async fn what_was_committed_is_there_after_stop_kill_and_orphanage() {
    let folder = Folder::new("embedded");
    let first = Embedded::start(settings(&folder.0)).await.expect("starts in a new folder");
    let mut connection = connect(&first).await;
    sqlx::raw_sql("create table kept (n int)").execute(&mut connection).await.expect("creates");
    let fsync: String = sqlx::query_scalar("show fsync").fetch_one(&mut connection).await.expect("asks");
    let checksums: String = sqlx::query_scalar("show data_checksums").fetch_one(&mut connection).await.expect("asks");
    let superuser: String = sqlx::query_scalar("show is_superuser").fetch_one(&mut connection).await.expect("asks");
    assert_eq!((fsync.as_str(), checksums.as_str(), superuser.as_str()), ("on", "on", "off"));
    let files = std::fs::metadata(folder.0.join("postgres")).expect("is there");
    assert_eq!(files.mode() & 0o777, 0o700);
    assert_ne!(files.uid(), 0, "Postgres is not root");
    drop(connection);
    first.stop().await;

    // A postmaster that was killed: its files are as a crash leaves them.
    let second = Embedded::start(settings(&folder.0)).await.expect("starts again");
    let mut connection = connect(&second).await;
    sqlx::query("insert into kept values (1)").execute(&mut connection).await.expect("inserts");
    let pid = Pid::from_raw(i32::try_from(second.pid().expect("runs")).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, Signal::KILL).expect("kills");
    drop((connection, second));

    // An orphan that still runs: a forgotten child is what a killed server leaves.
    let third = Embedded::start(settings(&folder.0)).await.expect("starts after a crash");
    let mut connection = connect(&third).await;
    sqlx::query("insert into kept values (2)").execute(&mut connection).await.expect("inserts");
    drop((connection, third));
    let fourth = Embedded::start(settings(&folder.0)).await.expect("takes over from an orphan");
    let mut connection = connect(&fourth).await;
    let kept: i64 = sqlx::query_scalar("select count(*) from kept").fetch_one(&mut connection).await.expect("asks");
    assert_eq!(kept, 2);
    drop(connection);
    fourth.stop().await;
}

#[tokio::test]
async fn a_postgres_that_dies_is_started_again() {
    let folder = Folder::new("embedded-keep");
    let mut embedded = Embedded::start(settings(&folder.0)).await.expect("starts");
    let url = embedded.url();
    let pid = Pid::from_raw(i32::try_from(embedded.pid().expect("runs")).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, Signal::QUIT).expect("kills");
    let back = async {
        // Until the first one is gone a connection may still open.
        while embedded_alive(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        while PgConnection::connect(&url).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let keep = embedded.keep(std::future::pending());
    tokio::select! {
        () = keep => unreachable!("never asked to end"),
        back = tokio::time::timeout(Duration::from_secs(30), back) => back.expect("comes back"),
    }
    embedded.stop().await;
}

fn embedded_alive(pid: Pid) -> bool {
    rustix::process::test_kill_process(pid).is_ok()
}

#[tokio::test]
async fn a_start_that_cannot_be_says_why() {
    let folder = Folder::new("embedded-errors");
    let none = Settings { programs: Some("/nonexistent".into()), ..settings(&folder.0) };
    let error = Embedded::start(none).await.expect_err("no programs");
    assert!(error.to_string().contains("apt-get install postgresql"), "{error}");

    std::fs::create_dir(folder.0.join("postgres")).expect("makes");
    std::fs::write(folder.0.join("postgres/PG_VERSION"), "9999\n").expect("writes");
    let error = Embedded::start(settings(&folder.0)).await.expect_err("a newer version");
    assert!(matches!(error, EmbeddedError::WrongVersion { .. }), "{error}");
    assert!(error.to_string().contains("apt-get install postgresql-9999"), "{error}");
}
