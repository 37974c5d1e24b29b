//! Signing in: profiles, secrets in their file, the environment, and what is said where nobody is signed in.

use std::os::unix::fs::PermissionsExt;

use super::Shell;
use crate::harness::Server;

#[test]
fn the_file_of_up_signs_in_over_tls_and_secrets_stay_in_one_private_file() {
    let server = Server::shared();
    let shell = Shell::new();
    let ran = shell.run(&format!("login --env-file {}/env1 -o json", server.dir().display())).expect(0);
    assert_eq!(ran.json()[0]["subscriptionId"], server.value("BATCHYARD_SUBSCRIPTION"));
    assert!(ran.err.contains("signed in to https://"), "{}", ran.err);
    let file = shell.folder.path().join(".config/batchyard/profiles.toml");
    assert_eq!(std::fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
    let secret = server.value("BATCHYARD_CLIENT_SECRET");
    for words in ["profile list -o json", "profile show -o json", "status -o json", "group list --debug -o json", "config list"] {
        let ran = shell.run(words).expect(0);
        assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "{words}");
    }
    let token = std::fs::metadata(file.with_file_name("tokens.json")).expect("a token is kept");
    assert_eq!(token.permissions().mode() & 0o777, 0o600);

    shell.run("config set defaults.group=lab").expect(0);
    assert_eq!(shell.run("config get defaults.group -o json").expect(0).json()["value"], "lab");
    shell.run("config set wrong=1").expect(2);

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("opens");
    let ran = shell.run("group list").expect(2);
    assert!(ran.err.contains("chmod 600"), "{}", ran.err);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("closes");

    shell.run("logout").expect(0);
    assert!(!std::fs::read_to_string(&file).expect("reads").contains(secret));
    assert!(!std::fs::read_to_string(file.with_file_name("tokens.json")).expect("reads").contains("eyJ"));
    shell.run("group list").expect(4);
}

#[test]
fn several_profiles_are_kept_and_one_is_used() {
    let server = Server::shared();
    let shell = Shell::new();
    let login = format!(
        "login --server {} --ca-file {} --service-principal -u {} --password-stdin -t {}",
        server.value("BATCHYARD_TLS_ENDPOINT"),
        server.value("BATCHYARD_CA"),
        server.value("BATCHYARD_CLIENT_ID"),
        server.value("BATCHYARD_TENANT")
    );
    let secret = format!("{}\n", server.value("BATCHYARD_CLIENT_SECRET"));
    shell.run_with(&format!("{login} --profile one"), &secret).expect(0);
    shell.run_with(&format!("{login} --profile two"), &secret).expect(0);
    let current = |shell: &Shell| shell.run("profile list --query '[?current].name' -o tsv").expect(0).out;
    assert_eq!(current(&shell), "two\n");
    shell.run("profile use one").expect(0);
    assert_eq!(current(&shell), "one\n");
    let ran = shell.run("profile use three").expect(2);
    assert!(ran.err.contains("one, two"), "{}", ran.err);
    shell.run("group list --profile two").expect(0);
    shell.run("profile delete one").expect(0);
    shell.run("group list").expect(4);

    let ran = shell.run_with(&login, "wrong\n").expect(4);
    assert!(ran.err.contains("the issuer refuses"), "{}", ran.err);
    assert_eq!(shell.run("profile list --query '[].name' -o tsv").expect(0).out, "two\n", "nothing is kept of what did not work");
}

#[test]
fn a_pipeline_needs_no_profile() {
    let server = Server::shared();
    let mut shell = Shell::pipeline(server);
    shell.run("group list").expect(0);
    assert!(!shell.folder.path().join(".config").exists(), "nothing is written where all is in the environment");
    let token = shell.run("account get-access-token --query accessToken -o tsv").expect(0).out;
    shell.variables.retain(|(name, _)| !name.starts_with("BATCHYARD_CLIENT"));
    shell.set("BATCHYARD_TOKEN", token.trim());
    shell.run("group list").expect(0);
    shell.set("BATCHYARD_TOKEN", "not.a.token");
    let ran = shell.run("group list").expect(4);
    assert!(ran.err.contains("BATCHYARD_CLIENT_SECRET"), "{}", ran.err);
    let ran = shell.run("group list -o json").expect(4);
    let line: serde_json::Value = serde_json::from_str(&ran.err).expect("one line of JSON");
    assert_eq!((line["exitCode"].as_u64(), line["code"].as_str()), (Some(4), Some("InvalidAuthenticationToken")));
}

#[test]
fn where_nobody_is_signed_in_it_is_said_what_to_do() {
    let mut shell = Shell::new();
    let ran = shell.run("job list").expect(4);
    assert!(ran.err.contains("batchyard login"), "{}", ran.err);
    shell.set("BATCHYARD_ENDPOINT", "http://192.0.2.1:1");
    shell.set("BATCHYARD_TOKEN", "t");
    let ran = shell.run("group list").expect(2);
    assert!(ran.err.contains("plain http"), "{}", ran.err);
    shell.set("BATCHYARD_ENDPOINT", "http://127.0.0.1:1");
    let ran = shell.run("group list").expect(8);
    assert!(ran.err.contains("is not reached"), "{}", ran.err);
    shell.set("BATCHYARD_ENDPOINT", Server::shared().value("BATCHYARD_TLS_ENDPOINT"));
    let ran = shell.run("group list").expect(8);
    assert!(ran.err.contains("--ca-file"), "{}", ran.err);
}
