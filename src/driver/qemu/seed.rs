//! What a machine finds when it starts, as cloud-init's NoCloud reads it: its name, its network, and a service that runs the agent.
//!
//! Source: cloud-init's pages on NoCloud, network configuration version 2 and `write_files`.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::driver::local::layout::{Told, write_whole};
use crate::driver::local::network::{GUEST_ADDRESS, LINK_PREFIX};
use crate::driver::qemu::GUEST_SUBCOMMAND;
use crate::driver::qemu::command::{PROGRAM_DISK, hardware};

/// In the machine: what its agent starts from, and what it is told besides. Root of the machine alone may enter the folder.
pub(super) const FOLDER: &str = "/etc/batchyard";
pub(super) const BOOTSTRAP: &str = "bootstrap.json";
pub(super) const GUEST: &str = "guest.json";

/// In the machine: the program, copied from a disk of the host's at each start, so that it is always the server's own version.
const PROGRAM: &str = "/usr/local/sbin/batchyard";

/// What the machine is told besides its agent's document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Guest {
    /// The account that the user asked for.
    pub(super) admin: Option<String>,
    /// Whether it has a disk of data.
    pub(super) data: bool,
}

/// Writes the seed of a machine into `folder`, for root alone: it holds the agent's token.
///
/// # Errors
/// A file cannot be written.
pub(super) fn write(folder: &Path, machine: &str, told: &Told, bootstrap: &str) -> io::Result<()> {
    let guest = Guest { admin: told.admin.clone(), data: told.disk.is_some() };
    let files = [
        ("meta-data", json!({ "instance-id": machine, "local-hostname": told.host_name }).to_string()),
        ("network-config", network(told).to_string()),
        ("user-data", format!("#cloud-config\n{}\n", user_data(&guest, bootstrap)?)),
    ];
    for (name, content) in files {
        write_whole(&folder.join(name), content.as_bytes(), 0o600)?;
    }
    Ok(())
}

fn network(told: &Told) -> Value {
    let link = |address, prefix, routes: &[Value], nameservers: &[IpAddr]| {
        json!({ "match": { "macaddress": hardware(address) }, "addresses": [format!("{address}/{prefix}")], "dhcp4": false,
            "link-local": [], "routes": routes, "nameservers": { "addresses": nameservers } })
    };
    let routes: Vec<Value> = told.gateway.iter().map(|gateway| json!({ "to": "0.0.0.0/0", "via": gateway })).collect();
    json!({ "version": 2, "ethernets": {
        "cluster": link(told.address, told.prefix, &routes, &told.nameservers),
        "shell": link(GUEST_ADDRESS, LINK_PREFIX, &[], &[]),
    } })
}

fn user_data(guest: &Guest, bootstrap: &str) -> io::Result<Value> {
    let unit = format!(
        "[Unit]\nDescription=batchyard agent\nAfter=network.target\n\
         [Service]\nExecStartPre=/bin/sh -c 'install -m 0755 /dev/disk/by-id/{PROGRAM_DISK} {PROGRAM}'\n\
         ExecStart={PROGRAM} {GUEST_SUBCOMMAND}\nRestart=always\nRestartSec=1\n\
         KillMode=process\nDelegate=yes\nTasksMax=infinity\nLimitNOFILE=1048576\nStandardOutput=journal+console\nStandardError=journal+console\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    let file = |path: String, mode: &str, content: String| json!({ "path": path, "permissions": mode, "content": content });
    Ok(json!({
        "write_files": [
            file(format!("{FOLDER}/{BOOTSTRAP}"), "0600", bootstrap.to_owned()),
            file(format!("{FOLDER}/{GUEST}"), "0600", serde_json::to_string(guest)?),
            file("/etc/systemd/system/batchyard.service".into(), "0644", unit),
        ],
        "runcmd": [
            ["chmod", "0700", FOLDER],
            ["systemctl", "daemon-reload"],
            ["systemctl", "enable", "--now", "--no-block", "batchyard.service"],
        ],
    }))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_seed_is_what_cloud_init_reads() {
        let folder = std::env::temp_dir().join(format!("batchyard-seed-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).expect("made");
        let told = Told {
            host_name: "tvm-1".into(),
            address: Ipv4Addr::new(10, 96, 0, 4),
            prefix: 24,
            gateway: None,
            nameservers: vec![],
            cores: 1,
            memory_mib: 512,
            admin: Some("ops".into()),
            disk: None,
        };
        write(&folder, "by-1", &told, "{\"join_token\":\"t\"}").expect("written");
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("there");
        let user = read("user-data");
        let user: Value =
            serde_json::from_str(user.strip_prefix("#cloud-config\n").expect("its first line")).expect("YAML that is JSON");
        assert_eq!(user["write_files"][0]["content"], "{\"join_token\":\"t\"}");
        assert_eq!(user["write_files"][0]["permissions"], "0600");
        let network: Value = serde_json::from_str(&read("network-config")).expect("JSON");
        assert_eq!(network["ethernets"]["cluster"]["addresses"][0], "10.96.0.4/24");
        assert_eq!(network["ethernets"]["cluster"]["match"]["macaddress"], "52:54:00:60:00:04");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
