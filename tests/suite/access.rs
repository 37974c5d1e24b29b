//! Who may sign in, with the real binary: principals by command and by the settings, keys, and an issuer elsewhere.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::api::Api;
use crate::harness::database::Database;
use crate::harness::guard::Guard;
use crate::harness::{Server, Settings, until};
use crate::issuer::{IssuerKey, LoopbackIssuer, unsigned};

/// Runs a command of the binary to its end.
fn run(arguments: &[&str], database: Option<&str>, input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batchyard"));
    command.args(arguments).env_remove("DATABASE_URL").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(url) = database {
        command.env("DATABASE_URL", url);
    }
    let mut child = command.spawn().expect("runs");
    child.stdin.take().expect("is piped").write_all(input.as_bytes()).expect("writes");
    child.wait_with_output().expect("ends")
}

/// What a command printed.
#[track_caller]
fn printed(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// The sentence in which a command ended.
#[track_caller]
fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().find_map(|line| line.strip_prefix("batchyard: ")).unwrap_or_else(|| panic!("no sentence in: {text}")).to_owned()
}

/// Tries to get a token as a client would.
async fn sign_in(server: &Server, client_id: &str, secret: &str) -> Result<Api, String> {
    let form = [("grant_type", "client_credentials"), ("client_id", client_id), ("client_secret", secret)];
    let address = format!("{}/{}/oauth2/token", server.value("BATCHYARD_ENDPOINT"), server.value("BATCHYARD_TENANT"));
    let answer = reqwest::Client::new().post(address).form(&form).send().await.expect("answers");
    let answer: Value = answer.json().await.expect("JSON");
    match answer["access_token"].as_str() {
        Some(token) => Ok(bearer(server, token)),
        None => Err(answer["error"].as_str().expect("an error").to_owned()),
    }
}

fn bearer(server: &Server, token: &str) -> Api {
    Api::new(server.value("BATCHYARD_ENDPOINT"), server.value("BATCHYARD_SUBSCRIPTION"), token)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// No test here makes a node.
const NO_NODES: &str = "[driver]\nisolation = \"process-groups\"\n";

#[tokio::test]
async fn principals_are_made_listed_reset_and_deleted() {
    let mut server = Server::start(Settings { config: NO_NODES.into(), ..Settings::default() });
    let data = server.dir().join("data");
    let data = data.to_str().expect("text");
    let principal = |arguments: &[&str], input: &str| run(&[&["principal"], arguments, &["--data", data]].concat(), None, input);
    server.api().put("resourceGroups/vision", &json!({ "location": "eastus" })).await.expect(201);

    // Made while the server runs; its secret works at once, and its role where it was given.
    let made = printed(&principal(&["create", "ci", "--role", "Contributor", "--scope", "resourceGroups/vision"], ""));
    assert_eq!(text(&made, "appId"), "ci");
    assert_eq!(text(&made, "tenant"), server.value("BATCHYARD_TENANT"));
    let ci = sign_in(&server, "ci", text(&made, "password")).await.expect("signs in");
    let workspace = "resourceGroups/vision/providers/Microsoft.BatchAI/workspaces/w";
    server.api().post("providers/Microsoft.BatchAI/register").await.expect(200);
    ci.put(workspace, &json!({ "location": "eastus" })).await.expect(200);
    assert_eq!(ci.put("resourceGroups/other", &json!({ "location": "eastus" })).await.expect(403).code(), "AuthorizationFailed");

    // A chosen secret comes from standard input, is hashed with argon2, and must not be short.
    let chosen = printed(&principal(&["create", "ops", "--role", "reader", "--secret-file", "-"], "correct horse battery\n"));
    assert!(chosen.get("password").is_none(), "what was chosen is not told");
    let ops = sign_in(&server, "ops", "correct horse battery").await.expect("signs in");
    ops.get(workspace).await.expect(200);
    ops.delete(workspace).await.expect(403);
    assert!(refusal(&principal(&["create", "x", "--secret-file", "-"], "short")).contains("at least 12 characters"));
    assert!(refusal(&principal(&["create", "ops"], "")).contains("'ops' exists already"));
    assert!(refusal(&principal(&["create", "y", "--role", "reader", "--scope", "/else"], "")).contains("a subscription"));

    // Nothing that was printed or stored tells a secret.
    let listed = principal(&["list"], "");
    let all = printed(&listed);
    let names: Vec<&str> = all.as_array().expect("a list").iter().map(|principal| text(principal, "appId")).collect();
    assert!(names.contains(&"ci") && names.contains(&"ops") && names.contains(&server.value("BATCHYARD_CLIENT_ID")), "{names:?}");
    let shown = String::from_utf8_lossy(&listed.stdout).into_owned();
    for secret in [text(&made, "password"), "correct horse battery", server.value("BATCHYARD_CLIENT_SECRET"), "argon2", "sha256"]
    {
        assert!(!shown.contains(secret) && !server.log().contains(secret), "{secret} is told");
    }

    // Another secret, and the tokens of the former one are refused within seconds.
    let reset = printed(&principal(&["reset", "ci"], ""));
    let former = sign_in(&server, "ci", text(&made, "password")).await;
    assert_eq!(former.expect_err("refuses"), "invalid_client");
    sign_in(&server, "ci", text(&reset, "password")).await.expect("signs in");
    until("the former token is refused", || ci.get(workspace), |answer| answer.status == 401).await;
    printed(&principal(&["delete", "ops"], ""));
    assert!(sign_in(&server, "ops", "correct horse battery").await.is_err());
    until("the token of who was deleted is refused", || ops.get(workspace), |answer| answer.status == 401).await;
    assert!(refusal(&principal(&["delete", "ops"], "")).contains("no principal 'ops'"));

    // The first owner stays, and may get another secret, which its file has.
    let owner = server.value("BATCHYARD_CLIENT_ID").to_owned();
    assert!(refusal(&principal(&["delete", &owner], "")).contains("first owner"));
    let renewed = printed(&principal(&["reset", &owner], ""));
    let file = std::fs::read_to_string(Path::new(data).join("keys/owner.json")).expect("reads");
    assert!(file.contains(text(&renewed, "password")));
    assert!(sign_in(&server, &owner, server.value("BATCHYARD_CLIENT_SECRET")).await.is_err());

    // The same without the server: its database runs for as long as the command takes.
    server.terminate();
    let made = printed(&principal(&["create", "night", "--role", "reader"], ""));
    server.restart();
    sign_in(&server, "night", text(&made, "password")).await.expect("signs in").get(workspace).await.expect(200);
    sign_in(&server, "ci", text(&reset, "password")).await.expect("is kept");

    let nowhere = tempfile::tempdir().expect("makes");
    let nowhere = nowhere.path().join("none");
    let refused = run(&["principal", "list", "--data", nowhere.to_str().expect("text")], None, "");
    assert!(refusal(&refused).contains("nothing is installed") && !nowhere.exists());
}

#[tokio::test]
async fn principals_of_serve_are_made_through_its_database() {
    let guard = Arc::new(Guard::new());
    let database = Database::start_new(Arc::clone(&guard));
    let url = database.url();
    let refused = run(&["principal", "list"], Some(&url), "");
    assert!(!refusal(&refused).is_empty(), "nothing is installed yet");
    let server =
        Server::start_in(guard, "1", Settings { config: NO_NODES.into(), database: Some(url.clone()), ..Settings::default() });
    let made = printed(&run(&["principal", "create", "ci", "--role", "owner"], Some(&url), ""));
    let ci = sign_in(&server, "ci", text(&made, "password")).await.expect("signs in");
    ci.put("resourceGroups/g", &json!({ "location": "eastus" })).await.expect(201);
    assert_eq!(printed(&run(&["principal", "list"], Some(&url), "")).as_array().expect("a list").len(), 2);
}

#[tokio::test]
async fn settings_name_principals_and_an_issuer_elsewhere() {
    let key = IssuerKey::rsa("rsa");
    let idp = LoopbackIssuer::start(&[&key]).await;
    let guard = Arc::new(Guard::new());
    let secret = guard.dir().join("ops.secret");
    std::fs::write(&secret, "a secret of operators\n").expect("writes");
    let config = format!(
        r#"{NO_NODES}
[[principal]]
client_id = "ops"
secret_file = "{}"
roles = [{{ role = "owner" }}]
[[principal]]
client_id = "ci"
roles = [{{ role = "contributor", scope = "resourceGroups/vision" }}]
[[issuer]]
issuer = "{}"
audience = ["batchyard"]
[[issuer.principal]]
claims = {{ repository = "me/train", ref = "refs/heads/main" }}
principal = "ci"
"#,
        secret.display(),
        idp.issuer(),
    );
    let server = Server::start_in(guard, "1", Settings { config, ..Settings::default() });
    let ops = sign_in(&server, "ops", "a secret of operators").await.expect("signs in");
    ops.put("resourceGroups/vision", &json!({ "location": "eastus" })).await.expect(201);
    ops.post("providers/Microsoft.BatchAI/register").await.expect(200);

    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let token = |branch: &str| {
        key.token(&json!({
            "iss": idp.issuer(), "aud": "batchyard", "sub": format!("repo:me/train:ref:{branch}"), "iat": now, "exp": now + 300,
            "repository": "me/train", "ref": branch,
        }))
    };
    let ci = bearer(&server, &token("refs/heads/main"));
    ci.put("resourceGroups/vision/providers/Microsoft.BatchAI/workspaces/w", &json!({ "location": "eastus" })).await.expect(200);
    ci.put("resourceGroups/other", &json!({ "location": "eastus" })).await.expect(403);
    let branch = bearer(&server, &token("refs/heads/a-stranger")).get("resourceGroups/vision").await.expect(401);
    assert_eq!(branch.code(), "InvalidAuthenticationToken");

    let data = server.dir().join("data");
    let refused = run(&["principal", "reset", "ci", "--data", data.to_str().expect("text")], None, "");
    assert!(refusal(&refused).contains("is in the settings"));
}

#[tokio::test]
async fn keys_are_rotated_and_retired_by_command() {
    let server = Server::start(Settings { config: NO_NODES.into(), ..Settings::default() });
    let data = server.dir().join("data");
    let keys = |arguments: &[&str]| run(&[&["keys"], arguments, &["--data", data.to_str().expect("text")]].concat(), None, "");
    let published = async || {
        let answer = server.api().anonymous().get("/common/discovery/v2.0/keys").await.expect(200);
        answer.body["keys"].as_array().expect("a list").iter().map(|key| text(key, "kid").to_owned()).collect::<Vec<_>>()
    };
    let listed = printed(&keys(&["list"]));
    let first = text(&listed[0], "id").to_owned();
    assert_eq!(published().await, std::slice::from_ref(&first));
    assert!(refusal(&keys(&["retire", &first])).contains("the only token key"));
    let second = text(&printed(&keys(&["rotate"]))[1], "id").to_owned();
    assert_eq!(printed(&keys(&["retire", &first])).as_array().expect("a list").len(), 1);
    assert!(refusal(&keys(&["retire", &first])).contains("no token key"));
    // The server reads its key folder within a minute, and sooner where a token is of a key that it does not know.
    let former = server.api();
    let unknown = unsigned(&json!({ "alg": "ES256", "kid": "unknown", "typ": "at+jwt" }), &json!({}));
    let stranger = bearer(&server, &format!("{unknown}.AAAA"));
    let look = async || {
        stranger.get("resourceGroups").await.expect(401);
        former.get("resourceGroups").await
    };
    until("the token of a retired key is refused", look, |answer| answer.status == 401).await;
    until("the new key is published", published, |keys| *keys == [second.as_str()]).await;
    let owner = sign_in(&server, server.value("BATCHYARD_CLIENT_ID"), server.value("BATCHYARD_CLIENT_SECRET")).await;
    owner.expect("signs in").get("resourceGroups").await.expect(200);
}

/// What anyone may ask for: discovery, sign-in, health and the pages that describe the API. Links to files carry their own right.
const OPEN: &[&str] = &[
    "/metadata/endpoints",
    "/healthz",
    "/readyz",
    "/.well-known/",
    "/oauth2/",
    "/discovery/",
    "/openapi/",
    "/docs",
    "/adfs/",
    "/files/",
];

#[tokio::test]
async fn fresh_server_refuses_anonymous_everywhere() {
    let server = Server::start(Settings { config: NO_NODES.into(), ..Settings::default() });
    let anonymous = server.api().anonymous();
    let document: Value = serde_json::from_slice(&run(&["openapi"], None, "").stdout).expect("JSON");
    let mut refused = 0;
    let subscription = server.value("BATCHYARD_SUBSCRIPTION");
    let scope = format!("subscriptions/{subscription}");
    for (path, methods) in document["paths"].as_object().expect("paths") {
        if OPEN.iter().any(|open| path.contains(open)) {
            continue;
        }
        let mut filled = String::new();
        for segment in path.split('/').skip(1) {
            filled.push('/');
            filled.push_str(match segment {
                "{subscriptionId}" => subscription,
                "{scope}" => &scope,
                name if name.starts_with('{') => "x",
                literal => literal,
            });
        }
        let methods: BTreeMap<&str, &Value> =
            methods.as_object().expect("methods").iter().map(|(m, o)| (m.as_str(), o)).collect();
        for method in methods.keys().filter(|m| ["get", "put", "post", "patch", "delete", "head"].contains(*m)) {
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method");
            let answer = anonymous.send(method.clone(), &filled, None).await;
            assert_eq!(answer.status, 401, "{method} {filled}: {}", answer.text);
            // A default password, or a name alone, is none.
            let guessed = bearer(&server, "admin").send(method.clone(), &filled, None).await;
            assert_eq!(guessed.status, 401, "{method} {filled}: {}", guessed.text);
            refused += 1;
        }
    }
    assert!(refused > 25, "{refused} routes were tried");
    for (name, secret) in [("admin", "admin"), ("", ""), ("batchyard", "batchyard"), (server.value("BATCHYARD_CLIENT_ID"), "")] {
        assert!(sign_in(&server, name, secret).await.is_err());
    }
}
