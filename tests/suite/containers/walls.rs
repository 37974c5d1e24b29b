//! What stands between containers, jobs and the engine; and nodes that have none.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind_recursive, mount_change, unmount};
use serde_json::{Value, json};

use super::registry::{Elsewhere, Registry};
use super::{Ground, Node, able, error, image};
use crate::harness::{Server, Settings, Site, until};

#[tokio::test]
async fn a_container_has_the_default_rights_and_the_jobs_folders_alone() {
    let server = Server::shared();
    let Some(ground) = Ground::new(server).await else { return };
    let mark = format!("looked-{}", ground.site.group);
    let command = format!(
        "grep -E 'CapEff|CapBnd|Seccomp:' /proc/self/status; ls -A /run /var/run /var/lib 2>/dev/null; ls /dev; ls /mnt/batch/tasks; \
         awk '$4 == \"00010000\" && /@/' /proc/net/unix; : > $AZ_BATCHAI_MOUNT_ROOT/shared/{mark}; \
         until [ -e $AZ_BATCHAI_MOUNT_ROOT/shared/{mark}.go ]; do sleep 0.05; done"
    );
    let over = json!({ "secrets": [{ "name": "TOKEN", "value": "canary-in-a-container" }] });
    ground.submit("j", &command, over).await;
    until("the job runs", || async { server.share().join(&mark).exists() }, |there| *there).await;
    let name = ground.node.containers().pop().expect("one");
    let seen: Value = serde_json::from_str(&ground.node.docker(&["inspect", &name])).expect("JSON");
    let host = &seen[0]["HostConfig"];
    for (member, wanted) in [
        ("Privileged", json!(false)),
        ("CapAdd", json!(null)),
        ("Devices", json!(null)),
        ("SecurityOpt", json!(null)),
        ("PidMode", json!("")),
        ("Binds", json!(null)),
    ] {
        assert!(host[member] == wanted || host[member] == json!([]), "{member}: {}", host[member]);
    }
    let mut mounts: Vec<&str> = host["Mounts"].as_array().expect("a list").iter().filter_map(|m| m["Source"].as_str()).collect();
    mounts.sort_unstable();
    assert_eq!(mounts, ["/etc/hosts", "/etc/resolv.conf", "/mnt/batch/tasks/shared/LS_root"]);
    assert!(!seen.to_string().contains("canary-in-a-container"), "secrets are not in what engines keep");
    let kept = ground
        .node
        .within(&["-m"], &["grep", "-rlF", "canary-in-a-container", "/var/lib/docker/containers", "/run/batchyard/engine"]);
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "", "nor anywhere else on the node");
    std::fs::write(server.share().join(format!("{mark}.go")), "").expect("written");
    let job = ground.site.ended("j").await;
    ground.assert_succeeded("j", &job).await;
    let stdout = ground.site.stdout("j").await;
    assert!(stdout.contains("CapEff:\t00000000a80425fb") && stdout.contains("CapBnd:\t00000000a80425fb"), "{stdout}");
    assert!(stdout.contains("Seccomp:\t2"), "{stdout}");
    let devices: Vec<&str> = stdout.lines().skip_while(|line| *line != "fd").collect();
    let expected =
        ["fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"];
    assert_eq!(devices[..expected.len()], expected, "{stdout}");
    assert_eq!(devices[expected.len()..], ["shared"], "no other folder, and no abstract socket of the engine: {stdout}");
}

#[tokio::test]
async fn a_job_on_the_node_does_not_reach_the_engine() {
    let server = Server::shared();
    let Some(ground) = Ground::new(server).await else { return };
    let job = ground.run("first", "true", json!({})).await;
    ground.assert_succeeded("first", &job).await;
    let command = "ls /run/batchyard; docker -H unix:///run/batchyard/engine/socket ps; ls -A /run/containerd; ls /var/lib/docker; \
                   ls /sys/fs/cgroup; true";
    ground.site.submit("j", "c", command, json!({})).await;
    let job = ground.site.ended("j").await;
    ground.assert_succeeded("j", &job).await;
    assert_eq!(ground.site.stdout("j").await, "", "{}", ground.everything("j").await);
}

#[tokio::test]
async fn a_node_without_an_engine_says_so() {
    if !able() {
        return;
    }
    let server = Server::start(Settings { config: "[driver]\nengine = \"none\"\n".into(), ..Settings::default() });
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    let container = json!({ "containerSettings": { "imageSourceRegistry": { "image": "ubuntu" } } });
    let job = site.run("j", "c", "true", container).await;
    assert_eq!(job["executionState"], "failed");
    let told = error(&job);
    assert_eq!(told["code"], "JobSettingsNotSupported", "{job}");
    assert_eq!(told["message"], "The job needs what its node cannot do: containerSettings. The node has no container engine.");
    assert_eq!(told["details"][0], json!({ "name": "property", "value": "containerSettings" }));
    assert!(job["executionInfo"].get("exitCode").is_none(), "{job}");
    assert_eq!(site.run("plain", "c", "true", json!({})).await["executionState"], "succeeded", "the node takes the next job");
}

/// An engine of the host, which ends with this.
struct Engine(Child);

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Starts a program with a network and a view of files of its own, which this thread then has as well.
///
/// The view's own root is the root that is seen here, which by itself is so in no chroot. An engine runs commands in containers by way of it.
fn spawn_apart(program: &mut Command, root: &Path) -> Child {
    std::fs::create_dir(root).expect("made");
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("has privilege");
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("changed");
    mount_bind_recursive("/", root).expect("bound");
    let root = File::open(root).expect("opened");
    setns(File::open("/proc/thread-self/ns/mnt").expect("opened"), CloneFlags::CLONE_NEWNS).expect("entered");
    rustix::process::fchdir(root).expect("entered");
    rustix::process::pivot_root(".", ".").expect("exchanged");
    unmount(".", UnmountFlags::DETACH).expect("let go of");
    std::env::set_current_dir("/").expect("entered");
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip runs").success());
    program.spawn().expect("runs")
}

#[tokio::test]
async fn nodes_without_walls_use_the_engine_that_the_settings_name() {
    if !able() {
        return;
    }
    let folder = Server::shared().dir().join("engine");
    let socket = folder.join("socket");
    std::fs::create_dir(&folder).expect("made");
    let mut engine = Command::new("dockerd");
    engine
        .args(["--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
        .arg("--data-root")
        .arg(folder.join("data"))
        .arg("--exec-root")
        .arg(folder.join("state"))
        .arg("--pidfile")
        .arg(folder.join("pid"))
        .arg("-H")
        .arg(format!("unix://{}", socket.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("log")).expect("made"));
    let root = folder.join("root");
    let engine = Engine(std::thread::spawn(move || spawn_apart(&mut engine, &root)).join().expect("started"));
    let config = format!("[driver]\nisolation = \"process-groups\"\nengine = \"{}\"\n", socket.display());
    let server = Server::start(Settings { config, ..Settings::default() });
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    let docker = |arguments: &[&str]| {
        let output = Command::new("docker").arg("-H").arg(format!("unix://{}", socket.display())).args(arguments).output();
        String::from_utf8(output.expect("docker runs").stdout).expect("text")
    };
    let began = Instant::now();
    while docker(&["version", "--format", "{{.Server.Version}}"]).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "the engine does not answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let container = json!({ "containerSettings": { "imageSourceRegistry": { "image": image::PUBLIC } } });
    // Nobody serves an image there yet: what the engine says is told.
    let job = site.run("early", "c", "true", container.clone()).await;
    assert_eq!(error(&job)["code"], "FailedPullingImage", "{job}");
    assert!(error(&job)["message"].as_str().expect("text").contains("connection refused"), "{job}");
    let _registry = Registry::start(engine.0.id());
    let job = site.run("j", "c", "echo $OF_THE_IMAGE > $AZ_BATCHAI_JOB_TEMP/x; cat $AZ_BATCHAI_JOB_TEMP/x; pwd", container).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    let stdout = site.stdout("j").await;
    assert!(stdout.starts_with("yes\n/") && stdout.contains("/tasks/shared/LS_root/jobs/w/e/j"), "{stdout}");
    assert_eq!(docker(&["ps", "-aq"]), "");
}

#[tokio::test]
async fn an_image_from_elsewhere_comes_through_the_server_where_it_lets_it() {
    if !able() {
        return;
    }
    let elsewhere = Elsewhere::start("registry.test");
    let config = format!("[driver]\nregistries = [\"registry.test:5443={}\"]\n", elsewhere.address);
    let server = Server::start(Settings { config, ..Settings::default() });
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    let node = Node::find_all(&server, &site, 1).await.remove(0);
    let trust = format!(
        "mkdir -p /etc/docker/certs.d/registry.test:5443; cat >/etc/docker/certs.d/registry.test:5443/ca.crt <<'END'\n{}END\n",
        elsewhere.authority
    );
    assert!(node.within(&["-m"], &["sh", "-c", &trust]).status.success());
    let image = |name: &str| json!({ "containerSettings": { "imageSourceRegistry": { "image": name } } });
    let job = site.run("let", "c", "echo $OF_THE_IMAGE", image("registry.test:5443/tools/busybox:1")).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("let").await, "yes\n");
    for (name, other) in [("other", "other.test/x:1"), ("loopback", "localhost.test:443/x:1")] {
        let job = site.run(name, "c", "true", image(other)).await;
        assert_eq!(error(&job)["code"], "FailedPullingImage", "{job}");
        let message = error(&job)["message"].as_str().expect("text");
        assert!(
            message.contains("nodes may not reach this registry: it is neither public nor in the server's settings"),
            "{message}"
        );
    }
    // Jobs of the node have the same loopback, and no password.
    let look = "for port in $(awk '$4 == \"0A\" && $2 ~ /^0100007F:/ { print substr($2, 10) }' /proc/net/tcp); do \
                exec 3<>/dev/tcp/127.0.0.1/$((16#$port)); printf 'CONNECT registry.test:5443 HTTP/1.1\\r\\n\\r\\n' >&3; head -n 1 <&3; done";
    site.submit("job", "c", look, json!({})).await;
    let job = site.ended("job").await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("job").await.trim_end(), "HTTP/1.1 407 for the engine alone");
}
