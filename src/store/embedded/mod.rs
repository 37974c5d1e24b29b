//! The private Postgres of `batchyard up`.
//!
//! In: a data folder whose lock the caller holds. Out: a running Postgres on a unix socket, and its URL. Refuses to know the schema.
//!
//! The database is made once in `{folder}/postgres`, as an account that is not root, with durable settings. Nobody but the server
//! can reach it: it listens on no network; its socket is in a folder of mode 0700 inside a data folder of mode 0700; and Postgres
//! asks the kernel who is at the other end (`peer`) and takes the server's account alone. So there is no password to keep.
//!
//! Its life is the server's: it stops with it, and where the server is killed, the kernel tells it to stop. Where even that did not
//! happen, the next start ends what is left and goes on. Postgres itself recovers its files.

mod account;
mod error;
mod files;
mod launch;
mod programs;
mod remains;

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::process::{Child, Command};

use account::Account;
pub use error::EmbeddedError;
pub use launch::Launch;
use programs::Programs;

/// Where and how the private Postgres runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data folder. Exists, belongs to this process's account, and is locked by the caller.
    pub folder: PathBuf,
    /// The folder of the socket; made where it is absent. Its path is at most 85 bytes long, as a socket's path has room for 107.
    pub socket: PathBuf,
    /// The folder of the Postgres programs; else the well-known ones and `path` are searched.
    pub programs: Option<PathBuf>,
    /// The search path of programs.
    pub path: Option<OsString>,
    /// This binary with the name of its hidden command that runs a [`Launch`].
    pub launcher: Vec<OsString>,
    /// Most connections that the server opens.
    pub connections: u32,
    /// Memory that Postgres keeps pages in. Unit: bytes, at least 1 MiB.
    pub memory: u64,
    /// How long Postgres may take until it takes connections; recovery after a crash is within.
    pub ready_within: Duration,
}

/// The role and the database of the server.
const NAME: &str = "batchyard";

/// Connections beside the server's own: a listener, migrations, people with `psql`, the bounds of the benchmark.
const SPARE_CONNECTIONS: u32 = 30;

/// Longest time that `initdb` may take.
const INITDB: Duration = Duration::from_secs(120);

/// Time between two starts where Postgres ended by itself.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Time that a stop has: a clean one, then one without, then none.
const STOP: &[(Signal, Duration)] =
    &[(Signal::INT, Duration::from_secs(25)), (Signal::QUIT, Duration::from_secs(5)), (Signal::KILL, Duration::from_secs(5))];

/// The URL of a private Postgres whose socket is in this folder, whoever runs it.
pub fn url(socket: &Path) -> String {
    let host = percent_encoding::percent_encode(socket.as_os_str().as_encoded_bytes(), percent_encoding::NON_ALPHANUMERIC);
    format!("postgres://{NAME}@localhost/{NAME}?host={host}")
}

/// A running private Postgres.
#[derive(Debug)]
pub struct Embedded {
    settings: Settings,
    account: Account,
    programs: Programs,
    child: Child,
}

impl Embedded {
    /// Starts the database of the folder, making it first where there is none. Call and keep it on the main thread: the kernel ties
    /// the life of Postgres to the thread that started it.
    ///
    /// # Errors
    /// [`EmbeddedError`]; nothing runs then.
    pub async fn start(settings: Settings) -> Result<Embedded, EmbeddedError> {
        let data = files::data(&settings.folder);
        let account = Account::choose(&data)?;
        let needed = files::version(&data);
        let programs =
            programs::find(settings.programs.as_deref(), settings.path.as_deref(), needed.as_deref(), &settings.folder)?;
        files::make_folder(&settings.socket, account)?;
        remains::clear(&data, &settings.socket).await?;
        if needed.is_none() {
            initialise(&settings, account, &programs).await?;
        }
        files::write_access(&data, account, &account::own_name()?)?;
        let child = spawn(&settings, account, &programs)?;
        let mut embedded = Embedded { settings, account, programs, child };
        match embedded.prepare().await {
            Ok(()) => Ok(embedded),
            Err(error) => {
                embedded.stop().await;
                Err(error)
            }
        }
    }

    /// The URL of the database. Holds no secret: the kernel proves who connects.
    pub fn url(&self) -> String {
        url(&self.settings.socket)
    }

    /// The process id of the postmaster, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Keeps Postgres running until `shutdown`: one that ended by itself is started again. Cancelling it loses nothing.
    pub async fn keep(&mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                ended = self.child.wait() => tracing::error!(status = ?ended.ok(), "the private Postgres ended; starting it again"),
            }
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(RESTART_PAUSE) => {}
            }
            let data = files::data(&self.settings.folder);
            let again = match remains::clear(&data, &self.settings.socket).await {
                Ok(()) => spawn(&self.settings, self.account, &self.programs),
                Err(error) => Err(error),
            };
            match again {
                Ok(child) => self.child = child,
                Err(error) => tracing::error!(%error, "the private Postgres does not start; it is tried again"),
            }
        }
    }

    /// Stops Postgres: cleanly if it can be had in time. Answers once no process of it runs.
    pub async fn stop(mut self) {
        for (signal, patience) in STOP {
            let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) else { return };
            // The last step is for its whole group; the others are the postmaster's to pass on.
            let _ = if *signal == Signal::KILL {
                rustix::process::kill_process_group(pid, *signal)
            } else {
                rustix::process::kill_process(pid, *signal)
            };
            if tokio::time::timeout(*patience, self.child.wait()).await.is_ok() {
                return;
            }
            tracing::warn!(signal = ?signal, "the private Postgres does not stop");
        }
    }

    /// Waits for connections, then makes role and database where they are absent.
    async fn prepare(&mut self) -> Result<(), EmbeddedError> {
        let within = self.settings.ready_within;
        let mut admin = match tokio::time::timeout(within, self.first_connection()).await {
            Ok(connection) => connection?,
            Err(_) => {
                return Err(EmbeddedError::Silent { seconds: within.as_secs(), log: files::log(&self.settings.folder) });
            }
        };
        make_database(&mut admin).await.map_err(EmbeddedError::Refused)?;
        admin.close().await.map_err(EmbeddedError::Refused)
    }

    /// Postgres tells nobody that it is ready, so that connections are tried until one opens or the process ends.
    async fn first_connection(&mut self) -> Result<PgConnection, EmbeddedError> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(&self.settings.socket)
            .username("postgres")
            .database("postgres")
            .disable_statement_logging();
        let mut pause = Duration::from_millis(5);
        loop {
            match PgConnection::connect_with(&options).await {
                Ok(connection) => return Ok(connection),
                Err(error) => tracing::trace!(%error, "the private Postgres is not ready"),
            }
            match tokio::time::timeout(pause, self.child.wait()).await {
                Ok(_) => return Err(self.last_words()),
                Err(_) => pause = (pause * 2).min(Duration::from_millis(200)),
            }
        }
    }

    fn last_words(&self) -> EmbeddedError {
        EmbeddedError::failed("postgres", &files::log_tail(&self.settings.folder), self.settings.folder.clone())
    }
}

/// Makes the database's files. A start that is killed in the middle leaves a folder that the next start removes: the real name
/// appears only when all is there.
async fn initialise(settings: &Settings, account: Account, programs: &Programs) -> Result<(), EmbeddedError> {
    let making = settings.folder.join("postgres.making");
    match std::fs::remove_dir_all(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(EmbeddedError::io("remove", making)(error)),
        _ => {}
    }
    files::make_folder(&making, account)?;
    let mut command: Vec<OsString> = vec![programs.bin.join("initdb").into()];
    command.extend(
        ["-D", launch::DATA, "-U", "postgres", "--auth=peer", "--encoding=UTF8", "--locale=C", "--data-checksums"]
            .map(OsString::from),
    );
    let mut child = launcher(settings, account, making.clone(), command);
    let child = child.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = child.spawn().map_err(EmbeddedError::io("run", &programs.bin))?;
    let failed = |words: &str| EmbeddedError::failed("initdb", words, settings.folder.clone());
    let output = match tokio::time::timeout(INITDB, child.wait_with_output()).await {
        Ok(output) => output.map_err(EmbeddedError::io("run", &programs.bin))?,
        Err(_) => return Err(failed("it took more than two minutes")),
    };
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr)));
    }
    let data = files::data(&settings.folder);
    std::fs::rename(&making, &data).map_err(EmbeddedError::io("make", data))?;
    std::fs::File::open(&settings.folder)
        .and_then(|folder| folder.sync_all())
        .map_err(EmbeddedError::io("write", &settings.folder))
}

/// Starts the postmaster. Its settings are given here and not in a file, so that each start has those of this version.
fn spawn(settings: &Settings, account: Account, programs: &Programs) -> Result<Child, EmbeddedError> {
    let connections = settings.connections + SPARE_CONNECTIONS;
    let options = [
        "listen_addresses=".into(),
        format!("unix_socket_directories={}", launch::SOCKET),
        "port=5432".into(),
        format!("max_connections={connections}"),
        format!("shared_buffers={}kB", settings.memory / 1024),
        "fsync=on".into(),
        "synchronous_commit=on".into(),
        "full_page_writes=on".into(),
        // Short statements alone run here: compiling them costs more than it gains.
        "jit=off".into(),
        "log_destination=stderr".into(),
        "logging_collector=off".into(),
        "timezone=UTC".into(),
        "log_timezone=UTC".into(),
    ];
    let mut command: Vec<OsString> = vec![programs.bin.join("postgres").into(), "-D".into(), launch::DATA.into()];
    command.extend(options.into_iter().flat_map(|option| ["-c".into(), OsString::from(option)]));
    let (out, err) = files::open_log(&settings.folder)?;
    let mut child = launcher(settings, account, files::data(&settings.folder), command);
    child.stdout(out).stderr(err).spawn().map_err(EmbeddedError::io("run", &programs.bin))
}

/// The hidden command that becomes `command`: in a process group of its own, so that Ctrl-C at a terminal is the server's alone,
/// and without the server's environment, which may hold secrets.
fn launcher(settings: &Settings, account: Account, data: PathBuf, command: Vec<OsString>) -> Command {
    let launch = Launch {
        uid: account.uid,
        gid: account.gid,
        parent: i32::try_from(std::process::id()).unwrap_or_default(),
        data,
        socket: settings.socket.clone(),
        command,
    };
    let mut words = settings.launcher.iter();
    let mut child = Command::new(words.next().map_or("batchyard".as_ref(), |word| word.as_os_str()));
    child.args(words).args(launch.arguments());
    child.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C");
    child.stdin(Stdio::null()).process_group(0);
    child
}

/// Makes what every start needs. The role owns its database and nothing else. Built at run time: there is no schema to check it
/// against, and the names are constants.
async fn make_database(admin: &mut PgConnection) -> Result<(), sqlx::Error> {
    let role: bool =
        sqlx::query_scalar("select exists (select 1 from pg_roles where rolname = $1)").bind(NAME).fetch_one(&mut *admin).await?;
    if !role {
        sqlx::raw_sql(AssertSqlSafe(format!("create role {NAME} login"))).execute(&mut *admin).await?;
    }
    let database: bool = sqlx::query_scalar("select exists (select 1 from pg_database where datname = $1)")
        .bind(NAME)
        .fetch_one(&mut *admin)
        .await?;
    if !database {
        sqlx::raw_sql(AssertSqlSafe(format!("create database {NAME} owner {NAME}"))).execute(&mut *admin).await?;
    }
    Ok(())
}

impl Account {
    /// Whether a file or folder is this account's.
    fn owns(self, metadata: &std::fs::Metadata) -> bool {
        metadata.uid() == self.uid && metadata.gid() == self.gid
    }
}
