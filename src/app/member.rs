//! `batchyard agent join`, and what runs on a machine that joined: it calls a server, and does what it is asked.
//!
//! In: a one-time token as standard input, and what was kept when it was spent. Out: calls to the server over TLS that the installation's own
//! authority signed; nobody calls the machine. What it is asked is the driver's affair ([`Callee`]).

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::RngExt;
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::pool::{Answer, CALL_PATH, Call, JOIN_PATH, Joined, PROGRAM_PATH, Reply};
use crate::driver::ssh::{Callee, FOLDER, PROGRAMS};
use crate::own_file::own_file;

/// In the folder: where the server is, whom to believe, and the credential. Mode 0600.
const MEMBERSHIP: &str = "member.json";

/// There: held by the process that calls.
const LOCK: &str = "member.lock";

/// There: a link to the program that calls.
const PROGRAM: &str = "program";

/// There: what is said where nothing else keeps it.
const LOG: &str = "member.log";

/// The hidden subcommand that calls.
pub(super) const SUBCOMMAND: &str = "pool-member";

/// Where systemd keeps units of the machine's own.
const UNIT: &str = "/etc/systemd/system/batchyard-machine.service";

/// Longest time until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest time until a call is answered: longer than servers hold one.
const ANSWER: Duration = Duration::from_secs(45);

/// Longest time that the program may take to get here.
const COPYING: Duration = Duration::from_secs(600);

/// Longest token. Unit: bytes.
const MAX_TOKEN: u64 = 256;

/// Pause after a call that was not answered: the first, and the longest as that repeats. Half of it is by chance.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Pause before a process that ended is started again, where systemd does not do it.
const AGAIN: Duration = Duration::from_secs(2);

/// What a machine keeps of its joining.
#[derive(Serialize, Deserialize)]
struct Membership {
    /// Base URL.
    server: String,
    /// PEM.
    authority: String,
    name: String,
    /// Secret.
    credential: String,
}

fn at(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    crate::tls::install_provider();
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")
}

/// A client that believes that authority alone, and goes where it is sent and nowhere else.
fn client(authority: &str) -> Result<reqwest::Client> {
    let authority = reqwest::Certificate::from_pem_bundle(authority.as_bytes()).context("the authority is no certificate")?;
    let client = reqwest::Client::builder().connect_timeout(CONNECT).redirect(reqwest::redirect::Policy::none()).https_only(true);
    client.tls_certs_only(authority).build().context("cannot speak TLS")
}

async fn post(client: &reqwest::Client, url: String, secret: &str, body: &impl Serialize) -> reqwest::Result<Response> {
    client.post(url).bearer_auth(secret).json(body).send().await
}

/// `batchyard agent join`: this machine becomes one of the pool.
///
/// # Errors
/// One sentence with the remedy. Once the token is spent, another is needed.
pub fn join(server: &str, authority: &Path) -> Result<String> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root can make this machine one of a pool: run the whole line as root");
    }
    if at(MEMBERSHIP).exists() {
        bail!(
            "this machine is one of a pool already: `batchyard pool remove` on the server's host takes it out, or else end {SUBCOMMAND} \
             here and remove {}",
            at(MEMBERSHIP).display()
        );
    }
    let mut token = String::new();
    std::io::stdin().take(MAX_TOKEN).read_to_string(&mut token).context("cannot read the token from standard input")?;
    let authority = fs::read_to_string(authority).with_context(|| format!("cannot read {}", authority.display()))?;
    let server = server.trim_end_matches('/').to_owned();
    // All that can fail here does so before the token is spent.
    let program = keep_program()?;
    let joined = runtime()?.block_on(async {
        let answer = post(&client(&authority)?, format!("{server}{JOIN_PATH}"), token.trim(), &()).await;
        let answer = answer.with_context(|| format!("{server} is not reached"))?;
        match answer.status() {
            StatusCode::OK => answer.json::<Joined>().await.context("the server's answer does not read"),
            StatusCode::UNAUTHORIZED => bail!("the token was spent or has ended: make another with `batchyard pool token`"),
            status => bail!("{server} answers {status}"),
        }
    })?;
    let Joined { name, credential } = joined;
    let membership = Membership { server, authority, name, credential };
    write_secret(&at(MEMBERSHIP), &serde_json::to_vec(&membership)?)?;
    point_to(&program)?;
    let kept = start(&membership.name)?;
    Ok(format!("this machine is {} of the pool at {}; {kept}", membership.name, membership.server))
}

/// Puts a copy of this program among those that are kept, under its digest.
fn keep_program() -> Result<PathBuf> {
    let own = fs::read(own_file()?).context("cannot read this program")?;
    let program = at(PROGRAMS).join(digest(&Sha256::digest(&own)));
    fs::create_dir_all(at(PROGRAMS))?;
    fs::set_permissions(FOLDER, fs::Permissions::from_mode(0o700))?;
    let coming = program.with_extension("new");
    fs::write(&coming, own)?;
    place(&coming, &program)?;
    Ok(program)
}

fn digest(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn place(coming: &Path, program: &Path) -> Result<()> {
    fs::set_permissions(coming, fs::Permissions::from_mode(0o700))?;
    fs::rename(coming, program).with_context(|| format!("cannot make {}", program.display()))
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let coming = path.with_extension("new");
    let _ = fs::remove_file(&coming);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&coming)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&coming, path).with_context(|| format!("cannot write {}", path.display()))
}

/// From now on that program calls.
fn point_to(program: &Path) -> Result<()> {
    let coming = at(PROGRAM).with_extension("new");
    let _ = fs::remove_file(&coming);
    symlink(program, &coming)?;
    fs::rename(&coming, at(PROGRAM)).context("cannot point to the program")
}

/// Starts what calls, and tells what keeps it.
fn start(name: &str) -> Result<String> {
    if !Path::new("/run/systemd/system").is_dir() {
        let log = File::options().append(true).create(true).mode(0o600).open(at(LOG))?;
        let mut keeper = Command::new(at(PROGRAM));
        keeper.args([SUBCOMMAND, "keep"]).current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        keeper.spawn().context("cannot start what calls")?;
        let command = at(PROGRAM);
        return Ok(format!(
            "it has no systemd: a process calls, and `{} {SUBCOMMAND} keep` is to be run whenever the machine starts",
            command.display()
        ));
    }
    fs::write(UNIT, unit(name)).with_context(|| format!("cannot write {UNIT}"))?;
    for arguments in [&["daemon-reload"][..], &["enable", "--now", "batchyard-machine"]] {
        let done = Command::new("systemctl").args(arguments).status().context("cannot run systemctl")?;
        if !done.success() {
            bail!("`systemctl {}` failed: {UNIT} is to be started by hand", arguments.join(" "));
        }
    }
    Ok("systemd keeps batchyard-machine.service".to_owned())
}

/// Nodes are other processes of the unit, and outlive what calls: it may start anew as another version while they run.
fn unit(name: &str) -> String {
    format!(
        "[Unit]\nDescription=Machine {name} of a batchyard pool\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nExecStart={} {SUBCOMMAND}\nRestart=on-failure\nRestartSec=5\nKillMode=process\nDelegate=yes\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        at(PROGRAM).display()
    )
}

/// Keeps the process that calls running, until the machine is no member any more.
///
/// # Errors
/// Never: what fails is tried again.
pub fn keep() -> Result<()> {
    // Whoever leads a group of processes has been given one of its own.
    let _ = nix::unistd::setsid();
    loop {
        match Command::new(at(PROGRAM)).arg(SUBCOMMAND).status() {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => tracing::error!(%status, "what calls the server ended"),
            Err(error) => tracing::error!(%error, "what calls the server cannot be started"),
        }
        std::thread::sleep(AGAIN);
    }
}

/// Calls the server, and does what it asks, until the machine is no member any more.
///
/// # Errors
/// The machine has not joined, or it calls already.
pub fn call() -> Result<()> {
    let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(at(LOCK))?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => bail!("this machine calls already"),
        locked => locked.context("cannot lock")?,
    }
    let kept = fs::read(at(MEMBERSHIP)).context("this machine has not joined a pool")?;
    let member = Member::new(serde_json::from_slice(&kept).context("what it keeps of its joining does not read")?)?;
    runtime()?.block_on(member.call())
}

/// A machine of the pool.
struct Member {
    kept: Membership,
    client: reqwest::Client,
    program: String,
    callee: Callee,
}

impl Member {
    fn new(kept: Membership) -> Result<Member> {
        let own = own_file()?;
        let program = own.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Member { client: client(&kept.authority)?, kept, program, callee: Callee::default() })
    }

    async fn call(mut self) -> Result<()> {
        let mut pause = BACK_OFF.0;
        let mut call = Call::default();
        let mut trouble = String::new();
        loop {
            call.program.clone_from(&self.program);
            call.state = self.callee.state();
            match self.ask(&call).await {
                Ok(reply) if reply.is_removed => return self.leave().await,
                Ok(reply) => {
                    if !std::mem::take(&mut trouble).is_empty() {
                        tracing::info!("the server answers again");
                    }
                    pause = BACK_OFF.0;
                    call = match self.obey(reply).await {
                        Ok(call) => call,
                        Err(error) => {
                            tracing::error!(error = format!("{error:#}"), "cannot do what the server asks");
                            rest(&mut pause).await;
                            Call::default()
                        }
                    };
                }
                // The answer is kept: it may not have been heard. Another connection may lead to the server that leads.
                Err(error) => {
                    self.client = client(&self.kept.authority)?;
                    let now = format!("{error:#}");
                    if now != trouble {
                        tracing::warn!(error = now, "the server does not answer");
                        trouble = now;
                    }
                    rest(&mut pause).await;
                }
            }
        }
    }

    async fn ask(&self, call: &Call) -> Result<Reply> {
        let url = format!("{}{CALL_PATH}", self.kept.server);
        let answered = async {
            let answer = post(&self.client, url, &self.kept.credential, call).await?;
            match answer.status() {
                StatusCode::OK => Ok(answer.json::<Reply>().await?),
                // This server does not lead: the next connection may lead to one that does.
                StatusCode::SERVICE_UNAVAILABLE => bail!("it does not lead"),
                status => bail!("it answers {status}"),
            }
        };
        tokio::time::timeout(ANSWER, answered).await.context("no answer in time")?
    }

    /// Does what the server asks; answers the next call.
    async fn obey(&mut self, reply: Reply) -> Result<Call> {
        let mut call = Call::default();
        if let Some(program) = reply.program {
            self.become_program(&program).await?;
        }
        if let Some(word) = reply.word {
            self.callee.obey(&word)?;
            call.done = Some(word);
        }
        if let Some(question) = reply.question {
            let told = self.callee.answer(&question.hello, &question.ask).await;
            call.answer = Some(Answer { id: question.id, told });
        }
        Ok(call)
    }

    /// Becomes the server's program. Nodes, and the jobs in them, go on meanwhile.
    async fn become_program(&self, wanted: &str) -> Result<()> {
        if wanted.len() != 64 || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            bail!("the server's program has no digest");
        }
        let program = at(PROGRAMS).join(wanted);
        let coming = program.with_extension("new");
        let url = format!("{}{PROGRAM_PATH}", self.kept.server);
        let copied = async {
            let mut answer = post(&self.client, url, &self.kept.credential, &()).await?.error_for_status()?;
            let (mut file, mut hash) = (File::create(&coming)?, Sha256::new());
            while let Some(piece) = answer.chunk().await? {
                hash.update(&piece);
                file.write_all(&piece)?;
            }
            file.sync_all()?;
            match digest(&hash.finalize()) == wanted {
                true => Ok(()),
                false => bail!("what came is not the program that the server told of"),
            }
        };
        if let Err(error) = tokio::time::timeout(COPYING, copied).await.context("the program did not come in time")? {
            let _ = fs::remove_file(&coming);
            return Err(error);
        }
        place(&coming, &program)?;
        // One that does not run here must not take the place of one that does.
        let runs = Command::new(&program).arg("--version").stdout(Stdio::null()).status();
        if !runs.is_ok_and(|status| status.success()) {
            let _ = fs::remove_file(&program);
            bail!("the server's program does not run here: is this machine's libc older than the server's?");
        }
        point_to(&program)?;
        tracing::info!(program = wanted, "becomes the server's version");
        Err(Command::new(&program).arg(SUBCOMMAND).exec()).context("cannot become the server's program")
    }

    /// Ends what it is, and forgets that it was a member.
    async fn leave(&mut self) -> Result<()> {
        tracing::info!("the machine was taken out of the pool");
        self.callee.leave().await.map_err(|error| anyhow::anyhow!("cannot be cleaned: {}", error.chain()))?;
        fs::remove_file(at(MEMBERSHIP))?;
        if Path::new(UNIT).exists() {
            let _ = Command::new("systemctl").args(["disable", "batchyard-machine"]).status();
            let _ = fs::remove_file(UNIT);
        }
        Ok(())
    }
}

/// Waits, and makes the next time longer.
async fn rest(pause: &mut Duration) {
    let part = rand::rng().random_range(0.5..1.0);
    tokio::time::sleep(pause.mul_f64(part)).await;
    *pause = (*pause * 2).min(BACK_OFF.1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_outlives_its_main_process_with_the_nodes() {
        let unit = unit("m1");
        for line in [
            "ExecStart=/var/lib/batchyard-machine/program pool-member",
            "KillMode=process",
            "Restart=on-failure",
            "WantedBy=multi-user.target",
        ] {
            assert!(unit.lines().any(|other| other == line), "{line} is missing in {unit}");
        }
    }
}
