//! The files that say who and where a node is: accounts, host name, where names come from.
//!
//! Names come from users: each is checked before it becomes part of a line.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::driver::local::layout::{self, NodeSpec, at};

/// The account that the user asked for. Source: the first id that Debian gives to people.
const ADMIN_ID: u32 = 1_000;

/// Writes them below `etc`.
///
/// # Errors
/// One cannot be written.
pub(super) fn write_etc(spec: &NodeSpec, etc: &Path) -> io::Result<()> {
    let job = layout::job_user();
    let mut passwd = String::from(
        "root:x:0:0:root:/root:/bin/bash\n\
         daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
         bin:x:2:2:bin:/bin:/usr/sbin/nologin\n\
         sys:x:3:3:sys:/dev:/usr/sbin/nologin\n\
         sshd:x:22:65534:sshd:/run/sshd:/usr/sbin/nologin\n\
         _rpc:x:23:65534:rpcbind:/run/rpcbind:/usr/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    );
    let mut group = String::from(
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\ntty:x:5:\ndisk:x:6:\nutmp:x:43:\nstaff:x:50:\nnogroup:x:65534:\n",
    );
    let mut add = |name: &str, id: u32| {
        passwd.push_str(&format!("{name}:x:{id}:{id}:{name}:/home/{name}:/bin/bash\n"));
        group.push_str(&format!("{name}:x:{id}:\n"));
    };
    add(&job.name, job.uid);
    if let Some(admin) = layout::admin_name(&spec.admin_user) {
        add(admin, ADMIN_ID);
    }
    let machine_id: String = spec
        .cluster
        .0
        .as_bytes()
        .iter()
        .zip(spec.address.octets().iter().cycle())
        .map(|(a, b)| format!("{:02x}", a ^ b))
        .collect();
    let (names, resolvers) = match spec.in_host_network {
        true => ("files dns", std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
        // There is nobody to ask: all names that a node can reach are in its hosts file.
        false => ("files", String::new()),
    };
    let files: [(&str, u32, &str); 9] = [
        ("passwd", 0o644, &passwd),
        ("group", 0o644, &group),
        ("shadow", 0o600, "root:*:17000:0:99999:7:::\n"),
        ("hostname", 0o644, &format!("{}\n", layout::host_name(&spec.node_id))),
        ("machine-id", 0o444, &format!("{machine_id}\n")),
        ("resolv.conf", 0o644, &resolvers),
        (
            "nsswitch.conf",
            0o644,
            &format!(
                "passwd: files\ngroup: files\nshadow: files\nhosts: {names}\nnetworks: files\nprotocols: files\nservices: files\n"
            ),
        ),
        ("environment", 0o644, ""),
        ("fstab", 0o644, ""),
    ];
    let administrators = sudoers(layout::admin_name(&spec.admin_user));
    let files = files.into_iter().chain([
        // As where there is sudo: nobody else becomes another account in a node.
        ("sudoers", 0o440, administrators.as_str()),
        ("pam.d/other", 0o644, PAM),
    ]);
    crate::driver::local::lock::make_folder(&etc.join("pam.d"), 0o755)?;
    for (name, mode, content) in files {
        let path = etc.join(name);
        std::fs::write(&path, content).map_err(at("write", &path))?;
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(at("write", &path))?;
    }
    for (name, target) in [("hosts", format!("{}/hosts", layout::CLUSTER)), ("mtab", "/proc/mounts".to_owned())] {
        let path = etc.join(name);
        symlink(target, &path).map_err(at("make", &path))?;
    }
    Ok(())
}

/// Nobody signs in by PAM; whoever is let in otherwise has what the account has.
const PAM: &str =
    "auth required pam_deny.so\naccount required pam_permit.so\npassword required pam_deny.so\nsession required pam_permit.so\n";

/// Who may do what: the user's account administers its node.
fn sudoers(admin: Option<&str>) -> String {
    let admin = admin.map(|name| format!("{name} ALL=(ALL:ALL) NOPASSWD: ALL\n")).unwrap_or_default();
    format!("root ALL=(ALL:ALL) ALL\n{admin}")
}

/// Makes the homes of the accounts below `root`.
///
/// # Errors
/// One cannot be made.
pub(super) fn make_homes(spec: &NodeSpec, root: &Path) -> io::Result<()> {
    let job = layout::job_user();
    let homes = [Some((job.name.as_str(), job.uid)), layout::admin_name(&spec.admin_user).map(|name| (name, ADMIN_ID))];
    for (name, id) in homes.into_iter().flatten() {
        let home = root.join("home").join(name);
        crate::driver::local::lock::make_folder(&home, 0o755)?;
        std::os::unix::fs::chown(&home, Some(id), Some(id)).map_err(at("make", &home))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(admin_user: &str) -> NodeSpec {
        NodeSpec { admin_user: admin_user.into(), ..layout::sample_spec() }
    }

    #[test]
    fn each_account_is_one_line() {
        let etc = std::env::temp_dir().join(format!("batchyard-etc-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&etc).expect("made");
        write_etc(&spec("alice"), &etc).expect("written");
        let passwd = std::fs::read_to_string(etc.join("passwd")).expect("there");
        assert!(passwd.lines().all(|line| line.split(':').count() == 7), "{passwd}");
        assert!(passwd.contains("alice:x:1000:1000:") && passwd.contains("batch:x:61000:61000:"));
        assert_eq!(std::fs::read_to_string(etc.join("machine-id")).expect("there").trim().len(), 32);
        std::fs::remove_dir_all(&etc).expect("removed");
    }
}
