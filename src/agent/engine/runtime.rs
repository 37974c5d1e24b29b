//! The runtime of a node's own engine: `runc`, with what the engine asks for fitted to what a node is.
//!
//! In: the arguments that engines give to a runtime. Out: `runc` itself, on the same bundle. The engine has no right to make networks, and
//! the node has one already: a container stays in it. Settings of the kernel that belong to a network of one's own go with it, and so
//! do devices: a node has those that every container has.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::agent::engine::find_program;

/// Becomes `runc` with these arguments.
///
/// # Errors
/// The bundle cannot be read or written, or there is no `runc`.
pub fn become_runtime(arguments: Vec<OsString>) -> io::Result<()> {
    if let Some(bundle) = find_bundle(&arguments) {
        let path = bundle.join("config.json");
        let mut spec: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        fit(&mut spec);
        std::fs::write(&path, serde_json::to_vec(&spec)?)?;
    }
    let program = find_program("runc").ok_or_else(|| io::Error::other("the program 'runc' is not installed"))?;
    Err(Command::new(program).args(arguments).exec())
}

/// The bundle of a container that is to be made.
fn find_bundle(arguments: &[OsString]) -> Option<PathBuf> {
    arguments.iter().find(|word| *word == "create" || *word == "run")?;
    let at = arguments.iter().position(|word| *word == "--bundle" || *word == "-b")?;
    arguments.get(at + 1).map(|bundle| Path::new(bundle).to_owned())
}

fn fit(spec: &mut Value) {
    let Some(linux) = spec.get_mut("linux").and_then(Value::as_object_mut) else { return };
    if let Some(namespaces) = linux.get_mut("namespaces").and_then(Value::as_array_mut) {
        namespaces.retain(|namespace| namespace.get("type").and_then(Value::as_str) != Some("network"));
    }
    linux.remove("sysctl");
    if let Some(resources) = linux.get_mut("resources").and_then(Value::as_object_mut) {
        // The runtime itself adds those that every container has.
        resources.insert("devices".to_owned(), json!([{ "allow": false, "access": "rwm" }]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_stays_in_the_nodes_network() {
        let mut spec = json!({ "process": {"args": ["x"]}, "linux": {
            "namespaces": [{"type": "mount"}, {"type": "network"}, {"type": "pid"}],
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "resources": {"devices": [{"allow": true, "access": "rwm", "type": "c", "major": 5, "minor": 1}], "memory": {"limit": 1}},
        }});
        fit(&mut spec);
        let fitted = json!({ "process": {"args": ["x"]}, "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}],
            "resources": {"devices": [{"allow": false, "access": "rwm"}], "memory": {"limit": 1}},
        }});
        assert_eq!(spec, fitted);
        fit(&mut json!({}));
    }

    #[test]
    fn only_what_makes_a_container_has_a_bundle() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let create = "--root /r --log-format json create --bundle /b --pid-file /p id";
        assert_eq!(find_bundle(&words(create)), Some(PathBuf::from("/b")));
        assert_eq!(find_bundle(&words("--root /r exec --process /p id")), None);
    }
}
