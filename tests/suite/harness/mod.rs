//! What tests with real processes stand on: servers of the real binary, a client of the public API, and surely nothing left behind.
//!
//! In: settings of a server. Out: a running one, an [`Api`](api::Api) that speaks to it, and a [`Site`](site::Site) to run jobs in.
//! Tests wait for states, each with a deadline; where one passes, the panic says what was seen last.

#![allow(dead_code, unreachable_pub)]

pub mod api;
pub mod database;
pub mod guard;
pub mod process;
pub mod server;
pub mod site;
pub mod wait;

pub use process::descends;
pub use server::{Server, Settings};
pub use site::Site;
pub use wait::{until, until_within};

/// Whether nodes with walls can be made here. Where they cannot and are not demanded, says so; the test then ends.
pub fn privileged() -> bool {
    let allowed = std::process::Command::new("unshare")
        .args(["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "true"])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let required = std::env::var("BATCHYARD_TEST_PRIVILEGE").is_ok_and(|v| v == "required");
    assert!(allowed || !required, "nodes in namespaces are demanded here, and this process may not make any");
    if !allowed {
        eprintln!("skipped: this process may not make namespaces");
    }
    allowed
}
