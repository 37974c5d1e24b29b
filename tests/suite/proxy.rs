//! Between a client and its Postgres: passes bytes, notes what is executed, and breaks at a commit on order, as a network does.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Where a connection breaks at a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server never hears of it.
    Before,
    /// The server has done it; its answer is lost.
    After,
}

/// What a client had executed.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    /// Whether a transaction was open. Else it is one of its own.
    pub(crate) in_transaction: bool,
}

impl Statement {
    /// Whether it writes. All that writes here keeps an account of it, and so inserts.
    pub(crate) fn is_write(&self) -> bool {
        self.sql.contains("insert into")
    }

    fn is_commit(&self) -> bool {
        if self.in_transaction { self.sql == "COMMIT" } else { self.is_write() }
    }
}

#[derive(Default)]
struct Watch {
    cut: Option<Cut>,
    cuts: u32,
    statements: Vec<Statement>,
}

/// What is passed through.
pub(crate) struct Proxy {
    /// The URL of the same database through the proxy.
    pub(crate) url: String,
    folder: PathBuf,
    watch: Arc<Mutex<Watch>>,
    stop: CancellationToken,
}

impl Proxy {
    /// Listens in a folder of its own for the server that `url` names by its socket's folder.
    pub(crate) async fn start(url: &str) -> Proxy {
        let (base, real) = url.split_once("?host=").expect("a server on a unix socket");
        let real = PathBuf::from(real).join(".s.PGSQL.5432");
        let folder = std::env::temp_dir().join(format!("batchyard-proxy-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).expect("a folder");
        let listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).expect("binds");
        let (watch, stop) = (Arc::<Mutex<Watch>>::default(), CancellationToken::new());
        let proxy = Proxy { url: format!("{base}?host={}", folder.display()), folder, watch: watch.clone(), stop: stop.clone() };
        tokio::spawn(async move {
            while let Some(Ok((client, _))) = stop.run_until_cancelled(listener.accept()).await {
                let server = UnixStream::connect(&real).await.expect("connects");
                let pass = pass(client, server, watch.clone());
                let stop = stop.clone();
                tokio::spawn(async move { stop.run_until_cancelled(pass).await });
            }
        });
        proxy
    }

    /// The connection of the next commit breaks.
    pub(crate) fn cut_next_commit(&self, cut: Cut) {
        self.watch.lock().expect("whole").cut = Some(cut);
    }

    /// Connections that broke so far.
    pub(crate) fn cuts(&self) -> u32 {
        self.watch.lock().expect("whole").cuts
    }

    /// What was executed since the last time this was asked.
    pub(crate) fn take_statements(&self) -> Vec<Statement> {
        std::mem::take(&mut self.watch.lock().expect("whole").statements)
    }

    /// Nothing passes any more.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        let _ = std::fs::remove_file(self.folder.join(".s.PGSQL.5432"));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What one client has sent, as far as it is understood.
#[derive(Default)]
struct Script {
    /// What follows the last whole message.
    rest: Vec<u8>,
    has_begun: bool,
    /// Prepared statements by name.
    prepared: HashMap<Vec<u8>, String>,
    in_transaction: bool,
}

impl Script {
    /// What is executed by these bytes.
    ///
    /// Source: the PostgreSQL manual, "Message Formats".
    fn read(&mut self, bytes: &[u8]) -> Vec<Statement> {
        self.rest.extend(bytes);
        let mut executed = Vec::new();
        loop {
            // All messages but those at the start have a letter before their length.
            let head = usize::from(self.has_begun);
            let Some(length) = self.rest.get(head..head + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
            else {
                return executed;
            };
            let end = head + length as usize;
            if self.rest.len() < end {
                return executed;
            }
            let message: Vec<u8> = self.rest.drain(..end).collect();
            if !self.has_begun {
                // Whether the server speaks TLS is asked before, in eight bytes. It does not.
                self.has_begun = length != 8;
            } else {
                let mut words = message[5..].split(|byte| *byte == 0);
                let mut word = || words.next().unwrap_or_default().to_vec();
                let sql = match message[0] {
                    b'P' => {
                        let (name, sql) = (word(), word());
                        self.prepared.insert(name, String::from_utf8(sql).expect("text"));
                        continue;
                    }
                    b'Q' => String::from_utf8(word()).expect("text"),
                    b'B' => {
                        let (_portal, name) = (word(), word());
                        self.prepared.get(&name).cloned().expect("prepared")
                    }
                    _ => continue,
                };
                executed.push(Statement { sql, in_transaction: self.in_transaction });
            }
        }
    }
}

/// How a server ends its answer: `Z`, the length, and whether a transaction is open.
const READY: [u8; 5] = [b'Z', 0, 0, 0, 5];

async fn pass(mut client: UnixStream, mut server: UnixStream, watch: Arc<Mutex<Watch>>) {
    let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
    let mut script = Script::default();
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let executed = script.read(&asked[..length]);
                let cut = {
                    let mut watch = watch.lock().expect("whole");
                    let cut = executed.iter().any(Statement::is_commit).then(|| watch.cut.take()).flatten();
                    watch.statements.extend(executed);
                    watch.cuts += u32::from(cut.is_some());
                    cut
                };
                if cut == Some(Cut::Before) || server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
                if cut == Some(Cut::After) {
                    let _ = server.read(&mut answered).await;
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if let Some((status, before)) = answered[..length].split_last() && before.ends_with(&READY) {
                    script.in_transaction = *status != b'I';
                }
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
