//! An image, made of one program that is in Debian, and pushed as clients push.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What everyone may pull.
pub(crate) const PUBLIC: &str = "127.0.0.1:5000/tools/busybox:1";

/// What [`super::registry::USER`] alone may pull: the same image.
pub(crate) const PRIVATE: &str = "127.0.0.1:5001/tools/busybox:1";

/// An image without a program.
pub(crate) const EMPTY: &str = "127.0.0.1:5000/tools/empty:1";

/// The same with a client of ssh.
pub(crate) const SSH: &str = "127.0.0.1:5000/tools/ssh:1";

/// An image of 40 MB that cannot be made smaller.
pub(crate) const LARGE: &str = "127.0.0.1:5000/tools/large:1";

/// An image with Open MPI, Python and what joins them.
pub(crate) const MPI: &str = "127.0.0.1:5000/tools/mpi:1";

/// What that needs of this host.
pub(crate) const MPI_NEEDED: [&str; 3] = ["/usr/bin/mpirun", "/usr/bin/python3", "/usr/lib/python3/dist-packages/mpi4py"];

/// Makes the images below `folder` and pushes them to the registry at `address`.
pub(crate) fn push_all(folder: &Path, address: &str) {
    let root = folder.join("busybox");
    for name in ["bin", "etc", "root", "tmp"] {
        std::fs::create_dir_all(root.join(name)).expect("made");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("copied");
    let listed = Command::new("/bin/busybox").arg("--list").output().expect("runs").stdout;
    for name in String::from_utf8(listed).expect("text").lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(name)).expect("linked");
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("written");
    push(&root, address, "tools/busybox");
    if Path::new("/usr/bin/ssh").exists() {
        add_program(&root, "/usr/bin/ssh");
        push(&root, address, "tools/ssh");
    }
    let large = folder.join("large");
    std::fs::create_dir_all(&large).expect("made");
    let noise: Vec<u64> = (0..5_000_000).map(|_| rand::random()).collect();
    std::fs::write(large.join("noise"), noise.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>()).expect("written");
    push(&large, address, "tools/large");
    let empty = folder.join("empty");
    std::fs::create_dir_all(empty.join("nothing")).expect("made");
    push(&empty, address, "tools/empty");
}

/// Pushes the image with Open MPI, whose root is made below `folder` of that with a client of ssh.
pub(crate) fn push_mpi(folder: &Path, address: &str) {
    let root = folder.join("busybox");
    let library = "/usr/lib/x86_64-linux-gnu";
    for program in ["mpirun", "orted", "python3"] {
        add_program(&root, &format!("/usr/bin/{program}"));
    }
    let version = std::fs::canonicalize("/usr/bin/python3").expect("there");
    let version = version.file_name().expect("a name").to_string_lossy().into_owned();
    add_program(&root, &format!("/usr/bin/{version}"));
    let mut trees = vec![
        format!("/usr/lib/{version}"),
        "/usr/lib/python3/dist-packages/mpi4py".to_owned(),
        "/usr/share/openmpi".to_owned(),
        "/etc/openmpi".to_owned(),
    ];
    for folder in ["openmpi", "pmix2", "hwloc"] {
        trees.push(format!("{library}/{folder}"));
    }
    let trees: Vec<String> = trees.into_iter().filter(|tree| Path::new(tree).is_dir()).collect();
    // Links as they are, but for those that leave what is taken.
    let list: Vec<&str> = trees.iter().map(|tree| tree.trim_start_matches('/')).collect();
    let copy =
        format!("tar -C / --exclude=__pycache__ --exclude=test -cf - {} | tar -C {} -xf -", list.join(" "), root.display());
    assert!(Command::new("bash").args(["-c", &copy]).status().expect("bash runs").success());
    let find = format!("find {} -name '*.so*' -type f", trees.join(" "));
    let modules = Command::new("bash").args(["-c", &find]).output().expect("find runs").stdout;
    for module in String::from_utf8(modules).expect("text").lines() {
        add_libraries(&root, module);
    }
    push(&root, address, "tools/mpi");
}

/// Puts a program of this host in `root`, with the libraries that it is linked to.
fn add_program(root: &Path, program: &str) {
    add_libraries(root, program);
    add_file(root, program);
    // Found where the image says that programs are.
    let name = Path::new(program).file_name().expect("a name");
    symlink(program, root.join("bin").join(name)).expect("linked");
}

/// The libraries that a program or a library is linked to.
fn add_libraries(root: &Path, of: &str) {
    let listed = Command::new("ldd").arg(of).output().expect("ldd runs").stdout;
    let listed = String::from_utf8(listed).expect("text");
    for path in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        add_file(root, path.trim_end_matches(':'));
    }
}

fn add_file(root: &Path, path: &str) {
    let target = root.join(path.trim_start_matches('/'));
    if !target.exists() {
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("made");
        std::fs::copy(path, target).expect("copied");
    }
}

/// Pushes what is in `root` as `name:1`.
fn push(root: &Path, address: &str, name: &str) {
    let layer = root.with_extension("tar");
    let tar = Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&layer).arg(".").status().expect("tar runs");
    assert!(tar.success());

    let layer = std::fs::read(layer).expect("reads");
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Env": ["PATH=/bin", "OF_THE_IMAGE=yes"], "Entrypoint": ["/bin/false"], "User": "1000" },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] } });
    let config = serde_json::to_vec(&config).expect("JSON");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": part("application/vnd.docker.container.image.v1+json", &config),
        "layers": [part("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer)] });
    for blob in [&layer, &config] {
        let began = curl(&["-X", "POST", "-D", "-", &format!("http://{address}/v2/{name}/blobs/uploads/")], &[]);
        let location = began.lines().find_map(|line| line.strip_prefix("Location: ")).expect("a place").trim().to_owned();
        curl(
            &["-X", "PUT", "-H", "Content-Type: application/octet-stream", &format!("{location}&digest={}", digest(blob))],
            blob,
        );
    }
    let kind = "Content-Type: application/vnd.docker.distribution.manifest.v2+json";
    let manifest = serde_json::to_vec(&manifest).expect("JSON");
    curl(&["-X", "PUT", "-H", kind, &format!("http://{address}/v2/{name}/manifests/1")], &manifest);
}

fn part(kind: &str, content: &[u8]) -> Value {
    json!({ "mediaType": kind, "size": content.len(), "digest": digest(content) })
}

fn digest(content: &[u8]) -> String {
    let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hash}")
}

fn curl(arguments: &[&str], body: &[u8]) -> String {
    use std::io::Write;
    let mut child = Command::new("curl")
        .args(["-sSf", "-m", "20", "--data-binary", "@-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl runs");
    child.stdin.take().expect("piped").write_all(body).expect("takes it");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
