//! The servers: an emulator of blob containers, and Samba with one share for each test.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use batchyard::clock::Timestamp;
use batchyard::domain::sas::{Scope, StorageService, sign};
use reqwest::{Client, Method};

use crate::harness::guard::Guard;

/// Shares that are there: Samba names them in its settings.
const SHARES: usize = 12;

/// Where the emulator is installed, if it is.
pub(crate) fn emulator() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/azurite/node_modules/azurite/dist/src/blob/main.js");
    folder.exists().then_some(folder)
}

/// Both servers, with one account `team`.
pub(crate) struct Storage {
    guard: Arc<Guard>,
    blob_port: u16,
    smb_port: u16,
    /// A port at which nobody listens.
    away_port: u16,
    /// A port at which somebody listens and never answers.
    silent: TcpListener,
    pub(crate) key: String,
    children: Vec<Child>,
}

impl Storage {
    pub(crate) fn start(guard: &Arc<Guard>) -> Storage {
        // 64 bytes, as keys of accounts have; what reads it as base64 finds the characters that need escaping.
        let bytes: Vec<u8> = (0..4).flat_map(|_| *uuid::Uuid::new_v4().as_bytes()).chain([0xff, 0xfb]).collect();
        let key = base64::engine::general_purpose::STANDARD.encode(bytes);
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
        // Held at once, so that they differ.
        let (silent, blob, smb, away) = (listen(), listen(), listen(), listen());
        let mut storage = Storage {
            guard: Arc::clone(guard),
            blob_port: port(&blob),
            smb_port: port(&smb),
            away_port: port(&away),
            silent,
            key,
            children: Vec::new(),
        };
        drop((blob, smb, away));
        storage.start_emulator();
        storage.start_samba();
        storage
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.guard.dir().join("storage").join(name);
        std::fs::create_dir_all(&folder).expect("made");
        folder
    }

    fn start_emulator(&mut self) {
        let child = Command::new("node")
            .arg(emulator().expect("installed"))
            .args(["--disableTelemetry", "--skipApiVersionCheck", "--silent", "--blobHost", "127.0.0.1"])
            .args(["--blobPort", &self.blob_port.to_string(), "--location"])
            .arg(self.folder("blobs"))
            .env("AZURITE_ACCOUNTS", format!("team:{}", self.key))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("node runs");
        self.children.push(child);
        wait_for(self.blob_port);
    }

    fn start_samba(&mut self) {
        let base = self.folder("smb");
        let mut text = String::from("[global]\nserver role = standalone server\nbind interfaces only = yes\ninterfaces = lo\n");
        for name in ["private", "state", "cache", "lock", "pid", "ncalrpc"] {
            let key = match name {
                "private" | "lock" | "pid" => format!("{name} dir"),
                "ncalrpc" => "ncalrpc dir".into(),
                _ => format!("{name} directory"),
            };
            text.push_str(&format!("{key} = {}\n", self.folder(&format!("smb/{name}")).display()));
        }
        std::fs::write(base.join("users"), "root = team\n").expect("written");
        text.push_str(&format!(
            "smb ports = {}\nlog file = {base}/log\npassdb backend = smbpasswd:{base}/passwd\nusername map = {base}/users\n\
             disable netbios = yes\nload printers = no\nserver min protocol = SMB3\nserver smb encrypt = required\n",
            self.smb_port,
            base = base.display()
        ));
        for number in 0..SHARES {
            let folder = self.share(number);
            text.push_str(&format!("[share{number}]\npath = {}\nread only = no\n", folder.display()));
        }
        let settings = base.join("smb.conf");
        std::fs::write(&settings, text).expect("written");
        let mut password = Command::new("smbpasswd")
            .arg("-c")
            .arg(&settings)
            .args(["-s", "-a", "root"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("smbpasswd runs");
        use std::io::Write;
        write!(password.stdin.take().expect("piped"), "{}\n{}\n", self.key, self.key).expect("written");
        assert!(password.wait().expect("ends").success(), "the password is set");
        let child = Command::new("smbd")
            .args(["-F", "--no-process-group", "-s"])
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("smbd runs");
        self.children.push(child);
        wait_for(self.smb_port);
    }

    /// The folder of a share, on the server's side.
    pub(crate) fn share(&self, number: usize) -> PathBuf {
        self.folder(&format!("smb/share{number}"))
    }

    /// What the server's settings say of it. The account `silent` never answers, the account `away` is nowhere.
    pub(crate) fn settings(&self) -> String {
        let silent = self.silent.local_addr().expect("bound").port();
        let away = self.away_port;
        format!(
            "[driver]\nmount_commands = true\n[storage]\nsuffixes = [\"core.windows.net\"]\ndeadline = \"8s\"\n\
             [[storage.account]]\nname = \"team\"\nblob = \"http://127.0.0.1:{}/team\"\nsmb = \"127.0.0.1:{}\"\n\
             [[storage.account]]\nname = \"silent\"\nblob = \"http://127.0.0.1:{silent}/silent\"\nsmb = \"127.0.0.1:{silent}\"\n\
             [[storage.account]]\nname = \"away\"\nblob = \"http://127.0.0.1:{away}/away\"\nsmb = \"127.0.0.1:{away}\"\n",
            self.blob_port, self.smb_port
        )
    }

    /// Where the account's containers are.
    pub(crate) fn blob_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/team", self.blob_port)
    }

    /// Makes a container.
    pub(crate) async fn make_container(&self, name: &str) {
        let answer = self.blob(Method::PUT, name, "", "restype=container", Vec::new()).await;
        assert_eq!(answer.0, 201, "{}", answer.1);
    }

    /// The content of a blob; none where there is none.
    pub(crate) async fn find_blob(&self, container: &str, path: &str) -> Option<String> {
        let (status, text) = self.blob(Method::GET, container, path, "", Vec::new()).await;
        (status == 200).then_some(text)
    }

    /// Puts a blob.
    pub(crate) async fn put_blob(&self, container: &str, path: &str, content: &str) {
        let (status, text) = self.blob(Method::PUT, container, path, "", content.as_bytes().to_vec()).await;
        assert_eq!(status, 201, "{text}");
    }

    async fn blob(&self, method: Method, container: &str, path: &str, query: &str, body: Vec<u8>) -> (u16, String) {
        let expires = Timestamp::from_unix_timestamp(4_000_000_000).expect("a time");
        let signed = if query.is_empty() {
            sign(StorageService::Blob, "team", &self.key, container, Scope::Use, expires).expect("signed")
        } else {
            String::new()
        };
        let separator = if path.is_empty() { "" } else { "/" };
        let url = format!("http://127.0.0.1:{}/team/{container}{separator}{path}?{query}{signed}", self.blob_port);
        let mut request = Client::builder().tls_certs_only([]).no_proxy().build().expect("a client").request(method.clone(), url);
        request = request.header("x-ms-version", "2020-10-02").header("x-ms-blob-type", "BlockBlob");
        if !query.is_empty() {
            let (date, proof) = self.shared_key(container);
            request = request.header("x-ms-date", date).header("authorization", proof).header("content-length", "0");
        }
        let answer = request.body(body).send().await.expect("answers");
        (answer.status().as_u16(), answer.text().await.expect("whole"))
    }

    /// What the account's owner makes a container with: no signed URL may.
    fn shared_key(&self, container: &str) -> (String, String) {
        use hmac::{Hmac, KeyInit, Mac};
        let date = httpdate::fmt_http_date(std::time::SystemTime::now());
        let text = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-blob-type:BlockBlob\nx-ms-date:{date}\nx-ms-version:2020-10-02\n/team/team/{container}\nrestype:container"
        );
        let engine = base64::engine::general_purpose::STANDARD;
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&engine.decode(&self.key).expect("base64")).expect("a key");
        mac.update(text.as_bytes());
        (date, format!("SharedKey team:{}", engine.encode(mac.finalize().into_bytes())))
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until somebody listens.
pub(super) fn wait_for(port: u16) {
    let until = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(Instant::now() < until, "nobody listens at port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
