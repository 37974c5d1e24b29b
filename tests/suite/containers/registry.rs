//! Debian's registry, in the network of a node: at port 5000 for everyone, at port 5001 for one user.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::image;

/// Who may pull from the private one, and with what.
pub(crate) const USER: (&str, &str) = ("puller", "right-horse");

/// The same for the registry: bcrypt.
const PASSWORDS: &str = "puller:$2y$05$fRJwjnuZHb9/E8dmScdR5ORFSHFEeHjumNZdU7m4FCwWK.inWe7ja\n";

/// Longest time until a registry answers.
const START: Duration = Duration::from_secs(20);

/// The two registries of a node, which end with this.
pub(crate) struct Registry(Vec<Child>);

impl Registry {
    /// Starts them in the network of a process and waits until they answer.
    pub(crate) fn start(pid: u32) -> Registry {
        let store = store();
        let mut registry = Registry(Vec::new());
        for (port, settings) in [("5000", &store.public), ("5001", &store.private)] {
            let target = pid.to_string();
            let mut command = Command::new("nsenter");
            command.args(["-n", "-t", &target, "docker-registry", "serve"]).arg(settings);
            registry.0.push(quiet(&mut command).spawn().expect("nsenter runs"));
            let deadline = Instant::now() + START;
            let look = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
            let answers = || quiet(Command::new("nsenter").args(["-n", "-t", &target, "bash", "-c", &look])).status();
            while !answers().expect("nsenter runs").success() {
                assert!(Instant::now() < deadline, "the registry at {port} does not answer");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        registry
    }

    /// Starts one in this process's own network and waits until it answers.
    fn here(settings: &Path, address: &str) -> Registry {
        let mut registry = Registry(vec![
            quiet(Command::new("docker-registry").arg("serve").arg(settings)).spawn().expect("docker-registry runs"),
        ]);
        let deadline = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            assert!(registry.0[0].try_wait().expect("waits").is_none(), "the registry ended");
            assert!(Instant::now() < deadline, "the registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What all registries of this process serve.
struct Store {
    public: PathBuf,
    private: PathBuf,
}

/// Made once. It is below the folder of the shared installation, with which it goes.
fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| {
        let folder = crate::harness::Server::shared().dir().join("registry");
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(folder.join("passwords"), PASSWORDS).expect("written");
        let passwords = folder.join("passwords");
        let auth = format!("auth: {{ htpasswd: {{ realm: private, path: {} }} }}\n", passwords.display());
        let store = Store {
            public: settings(&folder, "public", "127.0.0.1:5000", ""),
            private: settings(&folder, "private", "127.0.0.1:5001", &auth),
        };
        // In this process's own network, only to take the image in.
        let address = free_address();
        let _taking = Registry::here(&settings(&folder, "taking", &address, ""), &address);
        image::push_all(&folder, &address);
        store
    })
}

/// Puts the image with Open MPI among those that are served.
pub(crate) fn add_mpi() {
    let folder = store().public.parent().expect("a folder");
    let address = free_address();
    let _taking = Registry::here(&settings(folder, "taking-mpi", &address, ""), &address);
    image::push_mpi(folder, &address);
}

/// The same images over https in this process's own network, with a certificate for `name` of an authority of its own.
pub(crate) struct Elsewhere {
    _registry: Registry,
    /// Where it is.
    pub(crate) address: String,
    /// The authority's certificate, as PEM.
    pub(crate) authority: String,
}

impl Elsewhere {
    /// Starts it and waits until it answers.
    pub(crate) fn start(name: &str) -> Elsewhere {
        let folder = store().public.parent().expect("a folder").to_owned();
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate =
            rcgen::CertificateParams::new(vec![name.to_owned()]).and_then(|params| params.self_signed(&key)).expect("signed");
        let (chain, private) = (folder.join("elsewhere.pem"), folder.join("elsewhere.key"));
        std::fs::write(&chain, certificate.pem()).expect("written");
        std::fs::write(&private, key.serialize_pem()).expect("written");
        let address = free_address();
        let tls = format!("  tls: {{ certificate: {}, key: {} }}\n", chain.display(), private.display());
        let settings = settings(&folder, "elsewhere", &address, "");
        let text = std::fs::read_to_string(&settings)
            .expect("reads")
            .replace(&format!("http: {{ addr: {address} }}\n"), &format!("http:\n  addr: {address}\n{tls}"));
        std::fs::write(&settings, text).expect("written");
        Elsewhere { _registry: Registry::here(&settings, &address), address, authority: certificate.pem() }
    }
}

/// An address of this process's own network that nobody has.
fn free_address() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    format!("127.0.0.1:{port}")
}

fn settings(folder: &Path, name: &str, address: &str, auth: &str) -> PathBuf {
    let path = folder.join(format!("{name}.yml"));
    let images = folder.join("images");
    let text = format!(
        "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: {address} }}\n{auth}",
        images.display()
    );
    std::fs::write(&path, text).expect("written");
    path
}

fn quiet(command: &mut Command) -> &mut Command {
    command.env("OTEL_TRACES_EXPORTER", "none").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}
