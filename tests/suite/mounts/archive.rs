//! Output that is on no mount, kept in objects of a cloud: emulators of Azure's blobs and of S3's buckets.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};

use batchyard::files::archive;
use futures_util::TryStreamExt;
use serde_json::json;

use super::shared;
use super::storage::wait_for;
use crate::harness::guard::Guard;
use crate::harness::{Server, Settings, Site, until};

#[tokio::test]
async fn outputs_are_kept_in_blobs_and_go_with_their_job() {
    let Some((yard, _)) = shared().await else { return };
    yard.storage.make_container("kept").await;
    let endpoint = yard.storage.blob_endpoint();
    let options = [("azure_storage_account_name", "team"), ("azure_storage_endpoint", &endpoint), ("allow_http", "true")];
    are_kept_and_go("az://kept/outputs", &options, ("azure_storage_account_key", &yard.storage.key)).await;
}

#[tokio::test]
async fn outputs_are_kept_in_buckets_and_go_with_their_job() {
    if shared().await.is_none() {
        return;
    }
    let guard = Guard::new();
    let (mut emulator, endpoint) = start_buckets(&guard);
    let made = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().expect("a client");
    let made = made.put(format!("{endpoint}/kept")).header("content-length", "0").send().await.expect("answers");
    assert_eq!(made.status(), 200);
    let options =
        [("aws_access_key_id", "team"), ("aws_region", "us-east-1"), ("aws_endpoint", &endpoint), ("allow_http", "true")];
    are_kept_and_go("s3://kept/outputs", &options, ("aws_secret_access_key", "not-for-any-log")).await;
    emulator.kill().and_then(|()| emulator.wait()).expect("ends");
}

/// Starts an emulator of S3, which ends with `guard` at the latest, and answers where it is.
fn start_buckets(guard: &Guard) -> (Child, String) {
    let packages = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("target/moto");
    assert!(packages.join("moto").exists(), "moto is installed by script/test");
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("bound").port();
    let child = Command::new("/usr/bin/python3")
        .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
        .env("PYTHONPATH", packages)
        .current_dir(guard.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("python runs");
    wait_for(port);
    (child, format!("http://127.0.0.1:{port}"))
}

/// Runs a job whose outputs are kept at `url`, by `options` and one that is secret.
async fn are_kept_and_go(url: &str, options: &[(&str, &str)], secret: (&str, &str)) {
    let named: Vec<String> = options.iter().map(|(name, value)| format!("{name} = \"{value}\"")).collect();
    let config = format!("[archive]\nurl = \"{url}\"\noptions = {{ {} }}\n", named.join(", "));
    let environment = vec![(format!("BATCHYARD_ARCHIVE_{}", secret.0.to_uppercase()), secret.1.to_owned())];
    let all: Vec<(String, String)> = options.iter().chain([&secret]).map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let objects = archive(url, &all).expect("opens");
    let list =
        async || objects.list(None).map_ok(|object| object.location.to_string()).try_collect::<Vec<_>>().await.expect("lists");
    let mut server = Server::start(Settings { config, environment, ..Settings::default() });
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    let own = json!({
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT",
        "outputDirectories": [{ "id": "BIG", "pathPrefix": "$AZ_BATCHAI_MOUNT_ROOT" }] });
    let command = "head -c 5000001 /dev/urandom > $AZ_BATCHAI_OUTPUT_BIG/x; sha256sum < $AZ_BATCHAI_OUTPUT_BIG/x; \
                   mkdir $AZ_BATCHAI_OUTPUT_BIG/deep; echo small > $AZ_BATCHAI_OUTPUT_BIG/deep/y";
    let job = site.run("j", "c", command, own).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    let sum = site.stdout("j").await;
    assert!(!list().await.is_empty(), "large pieces are objects");

    // The node is gone, and what it wrote is not.
    site.resize("c", 0, "requeue").await;
    site.wait_idle("c", 0).await;
    let link = site.link("j", "BIG", "x").await;
    let fetched = site.download(&link, None).await;
    assert_eq!(fetched.bytes.len(), 5_000_001);
    assert_eq!(format!("{}  -\n", sha256(&fetched.bytes)), sum);
    let part = site.download(&link, Some("bytes=4999990-4999999")).await;
    assert_eq!((part.status, part.bytes.as_slice()), (206, &fetched.bytes[4_999_990..5_000_000]));
    assert_eq!(site.read("j", "BIG", "deep/y").await, "small\n");

    let accepted = site.api.delete(&site.job_path("j")).await.expect(202);
    site.api.finish(accepted).await;
    // What nothing refers to is searched for when a server starts, and every half an hour.
    server.terminate();
    server.restart();
    until("no object is left", &list, Vec::is_empty).await;
    assert!(!server.log().contains(secret.1));
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
