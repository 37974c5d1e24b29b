//! Between a client and its Postgres: passes bytes, and loses an answer on order, as a network that breaks after the commit does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// What is passed through.
pub(crate) struct Proxy {
    /// The URL of the same database through the proxy.
    pub(crate) url: String,
    folder: PathBuf,
    armed: Arc<AtomicBool>,
    lost: Arc<AtomicU32>,
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
        let (armed, lost, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)), CancellationToken::new());
        let proxy = Proxy {
            url: format!("{base}?host={}", folder.display()),
            folder,
            armed: armed.clone(),
            lost: lost.clone(),
            stop: stop.clone(),
        };
        tokio::spawn(async move {
            while let Some(Ok((client, _))) = stop.run_until_cancelled(listener.accept()).await {
                let server = UnixStream::connect(&real).await.expect("connects");
                let pass = pass(client, server, armed.clone(), lost.clone());
                let stop = stop.clone();
                tokio::spawn(async move { stop.run_until_cancelled(pass).await });
            }
        });
        proxy
    }

    /// The next thing that a client sends reaches the server; its answer is thrown away and the connection closed.
    pub(crate) fn lose_next_answer(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Answers lost so far.
    pub(crate) fn lost(&self) -> u32 {
        self.lost.load(Ordering::SeqCst)
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

async fn pass(mut client: UnixStream, mut server: UnixStream, armed: Arc<AtomicBool>, lost: Arc<AtomicU32>) {
    let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                if server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
                // A ping after use is five bytes; what is to be lost is the answer to a statement.
                if length > 5 && armed.swap(false, Ordering::SeqCst) {
                    let _ = server.read(&mut answered).await;
                    lost.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
