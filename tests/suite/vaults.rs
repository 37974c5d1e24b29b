//! Secrets in key vaults, through real processes: a stand-in on loopback speaks the vault's REST API and gives its tokens.

mod vault;

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::server::Settings;
use crate::harness::{Server, Site, until};
use vault::Vault;

/// The vault's resource id: of the first subscription unless a test says otherwise.
fn id(subscription: &str) -> String {
    format!("/subscriptions/{subscription}/resourceGroups/keys/providers/Microsoft.KeyVault/vaults/team")
}

fn reference(id: &str, secret: &str) -> Value {
    json!({ "sourceVault": { "id": id }, "secretUrl": format!("https://team.vault.azure.net/secrets/{secret}") })
}

/// A server that knows the vault, for everything of its subscriptions.
async fn start(vault: &Vault) -> (Server, Site, String) {
    // The subscription's id is made by the first start.
    let mut server = Server::up();
    let subscription = server.value("BATCHYARD_SUBSCRIPTION").to_owned();
    server.terminate();
    let id = id(&subscription);
    let secret = server.dir().join("vault-secret");
    std::fs::write(&secret, format!("{}\n", vault.client_secret)).expect("writes");
    let config = format!(
        "[[vault]]\nid = {id:?}\nurl = \"https://team.vault.azure.net\"\nendpoint = {url:?}\ntoken_url = \"{url}/token\"\n\
         client_id = \"yard\"\nclient_secret_file = {secret:?}\n",
        url = vault.url,
    );
    let server = Server::start_in(server.guard(), "2", Settings { config, database: None, ..Settings::default() });
    let site = Site::new(server.api()).await;
    (server, site, id)
}

fn error(job: &Value) -> &Value {
    &job["executionInfo"]["errors"][0]
}

#[tokio::test]
async fn a_secret_of_a_vault_reaches_the_job_that_names_it_and_nothing_else() {
    let vault = Vault::start().await;
    let canary = format!("canary-{}", uuid::Uuid::new_v4());
    vault.keep("api-key", &canary);
    vault.keep("setup/0a1b", "of the setup");
    let (server, site, id) = start(&vault).await;
    let mut body = Site::cluster_body(1);
    body["properties"]["nodeSetup"] = json!({ "setupTask": {
        "commandLine": "test \"$KEY\" = 'of the setup'",
        "secrets": [{ "name": "KEY", "valueSecretReference": reference(&id, "setup/0a1b") }],
        "stdOutErrPathPrefix": crate::harness::site::SHARE } });
    site.put_cluster("c", &body).await;
    site.wait_idle("c", 1).await;
    let over = json!({ "secrets": [{ "name": "KEY", "valueSecretReference": reference(&id, "api-key") }] });
    let job = site.run("j", "c", "printf %s $KEY | tr a-z A-Z", over).await;
    assert_eq!(job["executionState"], "succeeded", "{job}");
    assert_eq!(site.stdout("j").await, canary.to_uppercase());
    let asked = vault.asked();
    assert!(asked.iter().all(|line| line == "POST /token" || line.ends_with("?api-version=7.4")), "{asked:?}");
    assert_eq!(asked.iter().filter(|line| *line == "POST /token").count(), 1, "a token is kept: {asked:?}");
    assert_eq!(asked.iter().filter(|line| line.contains("/secrets/api-key?")).count(), 1, "{asked:?}");
    // The job has it; no answer, no log and no file of the server has.
    assert!(!job.to_string().contains(&canary) && !server.log().contains(&canary));
    let mut grep = std::process::Command::new("grep");
    grep.args(["-rlaF", "--devices=skip", "-e", &canary, "-e", &vault.client_secret]).arg(server.dir().join("data"));
    let found = String::from_utf8_lossy(&grep.output().expect("grep runs").stdout).into_owned();
    assert_eq!(found, "", "it is kept somewhere");
    assert!(!server.log().contains(&vault.client_secret));
}

#[tokio::test]
async fn a_secret_that_cannot_be_had_is_told_with_its_member_and_the_reason() {
    let vault = Vault::start().await;
    vault.keep("good", "x");
    let (_server, site, id) = start(&vault).await;
    site.cluster("c", 1).await;
    let stranger = crate::vaults::id("11111111-1111-1111-1111-111111111111");
    let mut elsewhere = reference(&id, "good");
    elsewhere["secretUrl"] = json!(format!("{}/secrets/good", vault.url.replace("http:", "https:")));
    for (name, reference, why) in [
        ("missing", reference(&id, "none"), "the vault has no such secret"),
        ("refused", reference(&id, "forbidden"), "does not let this server read it (status 403)"),
        ("stranger", reference(&stranger, "good"), "the operator names vaults in [[vault]]"),
        ("elsewhere", elsewhere, "secretUrl is not 'https://VAULT/secrets/NAME'"),
        ("odd", reference(&id, "odd"), "its answer is not one of a vault"),
        ("endless", reference(&id, "endless"), "its answer is too long"),
        ("broken", reference(&id, "broken"), "it answers with a failure of its own"),
        ("moved", reference(&id, "moved"), "it answers with a failure of its own"),
    ] {
        let over =
            json!({ "secrets": [{ "name": "PLAIN", "value": "v" }, { "name": "KEY", "valueSecretReference": reference }] });
        let job = site.run(name, "c", "echo ran", over).await;
        let told = error(&job);
        assert_eq!((&job["executionState"], &told["code"]), (&json!("failed"), &json!("KeyVaultSecretFailed")), "{job}");
        let message = told["message"].as_str().expect("a text");
        assert!(message.contains(why) && message.contains("'secrets[1].valueSecretReference'"), "{name}: {message}");
        assert_eq!(told["details"][0], json!({ "name": "property", "value": "secrets[1].valueSecretReference" }));
        assert!(site.find_stdout(name).await.is_empty(), "nothing of it ran");
    }
    let asked = vault.asked();
    assert!(!asked.iter().any(|line| line.contains("/moved-to")), "no redirect is followed: {asked:?}");
    // Other members say which they are, and the node stays.
    let over = json!({ "containerSettings": { "imageSourceRegistry": { "image": "a",
        "credentials": { "username": "u", "passwordSecretReference": reference(&id, "none") } } } });
    let job = site.run("contained", "c", "true", over).await;
    let member = "containerSettings.imageSourceRegistry.credentials.passwordSecretReference";
    assert_eq!(error(&job)["details"][0]["value"], member, "{job}");
    assert_eq!(site.run("next", "c", "true", json!({})).await["executionState"], "succeeded");
    // Of a cluster it is a node's error.
    let mut body = Site::cluster_body(1);
    body["properties"]["nodeSetup"] = json!({ "mountVolumes": { "azureBlobFileSystems": [{ "accountName": "a",
        "containerName": "c", "relativeMountPath": "m",
        "credentials": { "accountKeySecretReference": reference(&id, "none") } }] } });
    site.put_cluster("n", &body).await;
    let broken = until("an unusable node", || site.get_cluster("n"), |cluster| cluster["errors"][0].is_object()).await;
    let told = broken["errors"][0]["details"].to_string();
    assert!(told.contains("nodeSetup.mountVolumes.azureBlobFileSystems[0].credentials.accountKeySecretReference"), "{broken}");
}

#[tokio::test]
async fn a_vault_that_is_away_ends_the_job_in_time_and_a_refused_token_is_asked_for_anew() {
    let vault = Vault::start().await;
    vault.keep("good", "x");
    let (_server, site, id) = start(&vault).await;
    site.cluster("c", 1).await;
    let over = |secret: &str| json!({ "secrets": [{ "name": "KEY", "valueSecretReference": reference(&id, secret) }] });
    let began = std::time::Instant::now();
    let job = site.run("hanging", "c", "true", over("hanging")).await;
    assert!(error(&job)["message"].as_str().is_some_and(|text| text.contains("it does not answer")), "{job}");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    // The far end forgot its tokens: the first one fails, the next is let in.
    vault.forget_tokens();
    let first = site.run("first", "c", "true", over("good")).await;
    assert!(error(&first)["message"].as_str().is_some_and(|text| text.contains("(status 401)")), "{first}");
    let second = site.run("second", "c", "echo $KEY", over("good")).await;
    assert_eq!(second["executionState"], "succeeded", "{second}");
}
