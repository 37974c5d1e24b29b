//! A Postgres of a test's own, with durable settings, that the test may stop and start.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::harness::guard::Guard;

/// A database server in the folder of a guard, which ends it.
pub struct Database {
    guard: Arc<Guard>,
    programs: PathBuf,
}

impl Database {
    /// Makes and starts one.
    pub fn start_new(guard: Arc<Guard>) -> Database {
        Database::start_at(guard, None)
    }

    /// The same in a file system of its own, of so many MiB: to be filled.
    pub fn start_in_room(guard: Arc<Guard>, mebibytes: u32) -> Database {
        Database::start_at(guard, Some(mebibytes))
    }

    fn start_at(guard: Arc<Guard>, mebibytes: Option<u32>) -> Database {
        let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .expect("the package postgresql is installed")
            .map(|entry| entry.expect("readable").path().join("bin"))
            .collect();
        found.sort();
        let programs = found.pop().expect("the package postgresql is installed");
        let database = Database { guard, programs };
        let folder = database.folder();
        std::fs::create_dir(&folder).expect("made");
        if let Some(mebibytes) = mebibytes {
            let size = std::ffi::CString::new(format!("size={mebibytes}m")).expect("has no zero byte");
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("tmpfs", &folder, "tmpfs", flags, size.as_c_str()).expect("mounted");
        }
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).expect("closed");
        if rustix::process::geteuid().is_root() {
            let given = Command::new("chown").arg("postgres").arg(&folder).status().expect("runs");
            assert!(given.success(), "the account postgres exists");
        }
        database.program("initdb", &["-U", "postgres", "-A", "trust", "-N"]);
        database.start();
        database
    }

    /// Where all of it is.
    pub fn folder(&self) -> PathBuf {
        self.guard.dir().join("pg")
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("postgres://postgres@localhost/postgres?host={}", self.folder().display())
    }

    /// Starts it, and waits until it takes connections.
    pub fn start(&self) {
        let folder = self.folder();
        let options = format!("-c listen_addresses= -c unix_socket_directories={} -c max_connections=100", folder.display());
        let log = folder.join("log").display().to_string();
        self.program("pg_ctl", &["start", "-w", "-t", "60", "-l", &log, "-o", &options]);
    }

    /// Starts it, where it has ended by itself.
    pub fn ensure_started(&self) {
        if UnixStream::connect(self.folder().join(".s.PGSQL.5432")).is_err() {
            self.start();
        }
    }

    /// Stops it at once, as a crash would: what was committed is in its log, and nowhere else.
    pub fn stop_at_once(&self) {
        self.program("pg_ctl", &["stop", "-m", "immediate", "-w", "-t", "60"]);
    }

    /// Writes all that it holds to a file, as it is at one moment.
    pub fn dump(&self, file: &Path) {
        self.client("pg_dump", &["--format=custom", "--file", &file.display().to_string(), &self.url()]);
    }

    /// Takes in what another wrote by [`dump`](Self::dump).
    pub fn load(&self, file: &Path) {
        self.client("pg_restore", &["--exit-on-error", "--dbname", &self.url(), &file.display().to_string()]);
    }

    /// Runs a program that speaks with it.
    fn client(&self, name: &str, arguments: &[&str]) {
        let done = Command::new(self.programs.join(name)).args(arguments).stdin(Stdio::null()).status().expect("runs");
        assert!(done.success(), "{name} {arguments:?} failed");
    }

    /// Runs one of its programs as the account that may.
    fn program(&self, name: &str, arguments: &[&str]) {
        let program = self.programs.join(name);
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let data = self.folder().join("data");
        let done = command
            .args(arguments)
            .arg("-D")
            .arg(&data)
            .current_dir(Path::new("/"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .expect("runs");
        assert!(done.success(), "{name} {arguments:?} failed");
    }
}
