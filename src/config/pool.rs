//! `[driver]` with `kind = "ssh"`, and `[[driver.machine]]`: machines that are there already.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::read::Section;
use super::{Bytes, Span, Ssh};
use crate::driver::sizes;
use crate::driver::ssh::{Login, Machine};

/// Shorter times end nodes that are well: agents wait for up to half a minute for an answer.
const LEAST_FENCE: Duration = Duration::from_secs(60);

pub(super) fn read(section: &mut Section<'_>) -> Ssh {
    let server_url = section.take("server_url", None, "an https URL such as \"https://10.0.0.1:8443\"", |value| {
        let url = value.as_str()?.trim_end_matches('/');
        url.strip_prefix("https://").is_some_and(is_host_and_port).then(|| Some(url.to_owned()))
    });
    let server_authority = section.path("server_authority");
    let fence = section.span("fence", Span(Duration::from_secs(15 * 60)));
    if fence.0 < LEAST_FENCE {
        section
            .problem("fence", &format!("is shorter than {} s, in which an agent may just not have asked", LEAST_FENCE.as_secs()));
    }
    let machines = section.each("machine", machine);
    if machines.is_empty() {
        section.problem("machine", "is missing: the pool has a [[driver.machine]] for each of its machines");
    }
    for (index, machine) in machines.iter().enumerate() {
        if machines.iter().take(index).any(|other| other.name == machine.name) {
            section.problem("machine", &format!("has '{}' twice", machine.name));
        }
        if machines.iter().take(index).any(|other| other.address == machine.address) {
            section.problem("machine", &format!("has two machines at {}", machine.address));
        }
    }
    Ssh { server_url, server_authority, fence, machines }
}

fn machine(mut section: Section<'_>) -> Machine {
    let name = section.needed("name", "the machine's name in the pool");
    if !name.is_empty() && !is_plain(&name) {
        section.problem("name", "has other characters than letters, digits, dots and dashes");
    }
    let calls = section.flag("calls", false);
    let login = (!calls).then(|| login(&mut section));
    let host = login.as_ref().and_then(|login| login.host.parse().ok());
    let address = section.take("address", host, "an IPv4 address", |value| value.as_str()?.parse().ok().map(Some));
    if address.is_none() && login.as_ref().is_none_or(|login| !login.host.is_empty()) {
        section.problem("address", "is missing: the IPv4 address at which the pool's other machines reach it");
    }
    let labels = section.texts("labels", Vec::new());
    if let Some(odd) = labels.iter().find(|label| !is_plain(label) || sizes::is_known(label)) {
        section
            .problem("labels", &format!("has '{odd}': labels are letters, digits, dots and dashes, and no VM size of Azure's"));
    }
    let machine = Machine {
        cores: section.number("cores", 0, 1..=4_096),
        memory_mib: section.bytes("memory", Bytes(0), Bytes(64 << 20)).0 >> 20,
        gpus: section.number("gpus", 0, 0..=64),
        address: address.unwrap_or(Ipv4Addr::UNSPECIFIED),
        name,
        login,
        labels,
    };
    if machine.cores == 0 {
        section.problem("cores", "is missing: how many processors it has");
    }
    if machine.memory_mib == 0 {
        section.problem("memory", "is missing: how much memory it has, such as \"64GiB\"");
    }
    section.end();
    machine
}

fn login(section: &mut Section<'_>) -> Login {
    let host = section.needed("host", "the name or address of its ssh server, or else calls = true");
    if !host.is_empty() && !is_host(&host) {
        section.problem("host", "is no name or address");
    }
    let key = section.path("key");
    if key.is_none() {
        section.problem("key", "is missing: the file of the private key by which it lets the server in");
    }
    let host_key = section.needed("host_key", "its own public key, a line such as /etc/ssh/ssh_host_ed25519_key.pub has");
    // What follows in such a file is a remark.
    let host_key = host_key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    if !host_key.is_empty() && !is_public_key(&host_key) {
        section.problem("host_key", "is no public key such as \"ssh-ed25519 AAAA…\"");
    }
    let user = section.take("user", "root".to_owned(), "the name of an account", |value| {
        value.as_str().filter(|user| is_plain(user)).map(str::to_owned)
    });
    let port = u16::try_from(section.number("port", 22, 1..=65_535)).unwrap_or(22);
    Login { host, port, user, key: key.unwrap_or_default(), host_key }
}

fn is_plain(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..=64).contains(&text.len()) && !text.starts_with(['-', '.']) && text.bytes().all(plain)
}

fn is_host(text: &str) -> bool {
    !text.starts_with('-') && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'))
}

fn is_host_and_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
}

/// A kind and base64, without a remark.
fn is_public_key(text: &str) -> bool {
    let kind = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'@');
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    text.split_once(' ').is_some_and(|(name, key)| name.bytes().all(kind) && !key.is_empty() && key.bytes().all(base64))
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Driver, Environment};

    const POOL: &str = r#"
        [driver]
        kind = "ssh"
        server_url = "https://10.0.0.1:8443/"
        [[driver.machine]]
        name = "m1"
        host = "10.0.0.7"
        key = "/etc/batchyard/pool"
        host_key = "ssh-ed25519 AAAAC3Nz root@m1"
        labels = ["cuda"]
        cores = 8
        memory = "32GiB"
        gpus = 1
        [[driver.machine]]
        name = "m2"
        host = "m2.example.org"
        address = "10.0.0.8"
        port = 2222
        user = "ops"
        key = "/etc/batchyard/pool"
        host_key = "ssh-ed25519 AAAAC3Ny"
        cores = 4
        memory = "16GiB"
        [[driver.machine]]
        name = "m3"
        calls = true
        address = "192.168.1.9"
        cores = 2
        memory = "8GiB"
    "#;

    #[test]
    fn a_pool_is_read_and_printed() {
        let config = Config::parse(POOL, &Environment::default()).expect("right");
        let Driver::Ssh(pool) = &config.driver else { panic!("a pool") };
        assert_eq!(pool.server_url.as_deref(), Some("https://10.0.0.1:8443"));
        let login = pool.machines[0].login.as_ref().expect("by ssh");
        assert_eq!((pool.machines[0].address.to_string().as_str(), login.port), ("10.0.0.7", 22));
        assert_eq!((login.host_key.as_str(), pool.machines[0].memory_mib), ("ssh-ed25519 AAAAC3Nz", 32_768));
        assert_eq!((&pool.machines[2].login, pool.machines[2].cores), (&None, 2));
        let printed = config.to_toml();
        assert_eq!(Config::parse(&printed, &Environment::default()).expect("right").to_toml(), printed);
    }

    #[test]
    fn what_is_wrong_with_a_pool_is_told() {
        let wrong = POOL
            .replace("https://10", "http://10")
            .replace("10.0.0.8", "10.0.0.7")
            .replace("[\"cuda\"]", "[\"Standard_D1\"]")
            .replace("m2.example.org", "-oProxyCommand=x")
            .replace("ssh-ed25519 AAAAC3Ny", "AAAA")
            .replace("cores = 4", "")
            .replace("calls = true", "calls = true\nhost_key = \"ssh-ed25519 AAAA\"")
            .replace("192.168.1.9", "nowhere");
        let error = Config::parse(&wrong, &Environment::default()).expect_err("wrong").to_string();
        for part in [
            "driver.server_url = \"http://10.0.0.1:8443/\" is not an https URL",
            "driver.machine has two machines at 10.0.0.7",
            "driver.machine[0].labels has 'Standard_D1'",
            "driver.machine[1].host is no name or address",
            "driver.machine[1].host_key is no public key",
            "driver.machine[1].cores is missing",
            "driver.machine[2].host_key",
            "driver.machine[2].address = \"nowhere\" is not an IPv4 address",
        ] {
            assert!(error.contains(part), "{part} is missing in:\n{error}");
        }
        let empty = Config::parse("[driver]\nkind = \"ssh\"", &Environment::default()).expect_err("wrong").to_string();
        assert!(empty.contains("driver.machine is missing"), "{empty}");
    }
}
