//! What requests make the server do elsewhere: nothing. What they name is fetched by nodes, once there is something to run.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::site::Site;
use crate::harness::{Server, Settings};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_checked_or_waits_opens_no_connection() {
    // Whatever is named below is here, and nobody may come.
    let far = TcpListener::bind("127.0.0.1:0").expect("bound");
    far.set_nonblocking(true).expect("set");
    let address = far.local_addr().expect("bound");
    let config = format!(
        "[[storage.account]]\nname = \"team\"\nblob = \"http://{address}/team\"\nsmb = \"{address}\"\nfile = \"http://{address}\"\n"
    );
    let server = Server::start(Settings { config, ..Settings::default() });
    let site = Site::new(server.api()).await;
    let key = json!({ "accountKey": "Y2FuYXJ5" });
    let mounts = json!({
        "azureFileShares": [{ "accountName": "team", "azureFileUrl": "https://team.file.core.windows.net/s", "credentials": key,
            "relativeMountPath": "afs" }],
        "azureBlobFileSystems": [{ "accountName": "team", "containerName": "c", "credentials": key, "relativeMountPath": "bfs" }],
    });
    let mut cluster = Site::cluster_body(0);
    cluster["properties"]["nodeSetup"] = json!({ "mountVolumes": mounts });
    let mut job = site.job_body("c", "true");
    let properties = job["properties"].as_object_mut().expect("an object");
    properties.insert(
        "mountVolumes".into(),
        json!({ "azureBlobFileSystems": [{ "accountName": "team", "containerName": "d",
        "credentials": key, "relativeMountPath": "own" }] }),
    );
    let checked = validate(&site, &site.cluster_path("c"), &cluster).await;
    assert_eq!(checked["outcome"], "Create", "{checked}");
    site.put_cluster("c", &cluster).await;
    site.wait_idle("c", 0).await;
    // A name that a program would take for an option, or for a command of a transport, is a name.
    for (number, image) in [format!("{address}/x:1"), "ext::sh".into(), "--help".into()].into_iter().enumerate() {
        let mut job = job.clone();
        job["properties"]["containerSettings"] = json!({ "imageSourceRegistry": { "image": image, "serverUrl": address.to_string(),
            "credentials": { "username": "u", "password": "canary" } } });
        let checked = validate(&site, &site.job_path(&format!("j{number}")), &job).await;
        assert!(number > 0 || checked["outcome"] == "Create", "{checked}");
    }
    job["properties"]["containerSettings"] = json!({ "imageSourceRegistry": { "image": format!("{address}/x:1") } });
    site.put_job("waits", &job).await;
    site.wait_state("waits", "queued").await;
    let came = far.accept();
    assert!(came.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "somebody came");
}

/// What our own version's check of a body says.
async fn validate(site: &Site, path: &str, body: &Value) -> Value {
    let path = format!("{path}/validate?api-version=2026-11-01-preview");
    let answer = site.api.send(reqwest::Method::POST, &path, Some(body)).await;
    assert!([200, 400].contains(&answer.status.as_u16()), "{}", answer.text);
    answer.body
}
