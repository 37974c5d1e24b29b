//! No input makes a failure of ours: thousands of requests made of our own OpenAPI documents, against the real router.
//!
//! Every operation of every version is asked in turn. The seed is new each time and printed; `FUZZ_SEED` plays one again, `FUZZ_REQUESTS`
//! says how many requests it takes.

mod generate;

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request};
use batchyard::error::Error;
use batchyard::wire::{ApiVersion, v2017_09_01_preview, v2018_03_01, v2018_05_01};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::cases::world::World;
use generate::{Contract, Dice, Names, bytes, text};

/// Requests of one run where nothing else is said.
const REQUESTS: usize = 20_000;

/// Requests under way at once: fewer than the server has connections to its database.
const AT_ONCE: usize = 6;

/// How long a request may take. A wait for a change is asked for one second at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests after which what others need is made again.
const MAKE_AGAIN: usize = 400;

struct Operation {
    version: usize,
    method: Method,
    template: String,
    about: Value,
}

fn operations(documents: &[Value]) -> Vec<Operation> {
    let mut all = Vec::new();
    for (version, document) in documents.iter().enumerate() {
        for (template, methods) in document["paths"].as_object().expect("paths") {
            for (method, about) in methods.as_object().expect("methods") {
                let method: Method = method.to_uppercase().parse().expect("a method");
                all.push(Operation { version, method, template: template.clone(), about: about.clone() });
            }
        }
    }
    all
}

/// One request, and what it is in words for whoever reads of a failure.
fn request(dice: &mut Dice, operation: &Operation, contract: &Contract<'_>, tokens: &[String]) -> (Request<Body>, String) {
    let mut uri = contract.path(dice, &operation.template);
    let query = contract.query(dice, &operation.about);
    if !query.is_empty() {
        uri = format!("{uri}?{query}");
    }
    uri.truncate(30_000);
    let method = if dice.once_in(60) { Method::from_bytes(b"PROPFIND").expect("a method") } else { operation.method.clone() };
    let mut request = Request::builder().method(method.clone()).uri(&uri).header("host", "batch.test:8443");
    match dice.below(30) {
        0 => {}
        1 => request = request.header("authorization", format!("Bearer {}", "x".repeat(dice.below(9000)))),
        2 => request = request.header("authorization", "Basic b3BzOm9wcw=="),
        n => request = request.header("authorization", format!("Bearer {}", tokens[if n < 6 { 1 } else { 0 }])),
    }
    for (name, oftenness) in [
        ("if-match", 20),
        ("if-none-match", 20),
        ("last-event-id", 20),
        ("range", 20),
        ("x-ms-correlation-request-id", 15),
        ("x-ms-client-request-id", 15),
        ("content-encoding", 60),
        ("sec-fetch-site", 60),
        ("accept-language", 30),
    ] {
        if dice.once_in(oftenness) {
            let known = ["*", "\"0x8D5D6EFBC0AAABA\"", "W/\"x\"", "1-1", "bytes=0-", "gzip", "cross-site"];
            let value = if dice.once_in(2) { (*dice.pick(&known)).to_owned() } else { text(dice) };
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                request = request.header(HeaderName::from_static(name), value);
            }
        }
    }
    let mut told = format!("{method} {uri}");
    let content = operation.about["requestBody"]["content"].as_object().and_then(|content| content.iter().next());
    let body = match content {
        Some((media_type, media)) if !dice.once_in(40) => {
            let oddness = *dice.pick(&[0, 0, 4, 12, 30]);
            let document = contract.body(dice, &media["schema"], "", oddness, 0);
            let kind = if dice.once_in(40) { text(dice) } else { media_type.clone() };
            if let Ok(kind) = HeaderValue::from_bytes(kind.as_bytes()) {
                request = request.header("content-type", kind);
            }
            bytes(dice, &document)
        }
        _ if dice.once_in(30) => bytes(dice, &json!({"location": "eastus"})),
        _ => Vec::new(),
    };
    told += &format!(" {}", String::from_utf8_lossy(&body).chars().take(2_000).collect::<String>());
    (request.body(Body::from(body)).unwrap_or_else(|_| Request::new(Body::empty())), told)
}

fn takes_away(operation: &Operation) -> bool {
    operation.method == Method::DELETE && !operation.template.contains("/jobs/")
}

async fn make(world: &World, names: &Names) {
    let group = format!("/subscriptions/{}/resourceGroups/{}", names.subscription, names.group);
    let nested = format!("{group}/providers/Microsoft.BatchAI/workspaces/w0");
    let cluster = json!({"properties": {
        "vmSize": "Standard_D1", "scaleSettings": {"manual": {"targetNodeCount": 1}},
        "userAccountSettings": {"adminUserName": "ops", "adminUserPassword": "Secret-1"},
    }});
    for (url, body) in [
        (format!("{group}?api-version=2021-04-01"), json!({"location": "eastus"})),
        (format!("{nested}?api-version=2018-05-01"), json!({"location": "eastus"})),
        (format!("{nested}/experiments/e0?api-version=2018-05-01"), Value::Null),
        (format!("{nested}/clusters/c0?api-version=2018-05-01"), cluster),
    ] {
        // While what was there is on its way out, it is refused: then the next time.
        world.send(&json!({"method": "PUT", "url": url, "body": body})).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_makes_a_failure_of_ours() {
    let set = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed =
        set("FUZZ_SEED").unwrap_or_else(|| u64::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..8].try_into().expect("8 bytes")));
    let count = set("FUZZ_REQUESTS").map_or(REQUESTS, |count| usize::try_from(count).expect("a count"));
    println!("FUZZ_SEED={seed} FUZZ_REQUESTS={count}");

    let world = World::unthrottled().await;
    let subscription = world.variables()["subscription"].clone();
    let group = "Fuzz-RG".to_owned();
    let path = format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.BatchAI");
    let names = Names {
        subscription,
        group,
        cluster: format!("{path}/workspaces/w0/clusters/c0"),
        old_cluster: format!("{path}/clusters/c0"),
    };
    let tokens = [world.token("owner").await, world.token("reader").await];
    let documents: Vec<Value> = ApiVersion::ALL.iter().map(|version| batchyard::http::openapi(*version)).collect();
    let operations = operations(&documents);
    let statuses: Mutex<BTreeMap<u16, usize>> = Mutex::default();
    let failures: Mutex<Vec<String>> = Mutex::default();

    futures_util::stream::iter(0..count)
        .for_each_concurrent(AT_ONCE, |index| {
            let (world, names, tokens, statuses, failures) = (&world, &names, &tokens, &statuses, &failures);
            let (documents, operations) = (&documents, &operations);
            async move {
                if index % MAKE_AGAIN == 0 {
                    make(world, names).await;
                }
                let mut dice = Dice::new(seed.wrapping_add(index as u64));
                let mut operation = &operations[index % operations.len()];
                // What everything else is in is not deleted each time it comes up.
                if takes_away(operation) && !dice.once_in(6) {
                    let others: Vec<&Operation> = operations.iter().filter(|operation| !takes_away(operation)).collect();
                    operation = *dice.pick(&others);
                }
                let contract = Contract { document: &documents[operation.version], names };
                let (request, told) = request(&mut dice, operation, &contract, tokens);
                match tokio::time::timeout(PATIENCE, answer(world, request)).await {
                    Ok((status, problem)) => {
                        *statuses.lock().expect("not poisoned").entry(status).or_default() += 1;
                        if let Some(problem) = problem {
                            failures.lock().expect("not poisoned").push(format!("[{index}] {told}\n    {status}: {problem}"));
                        }
                    }
                    Err(_) => failures.lock().expect("not poisoned").push(format!("[{index}] {told}\n    no answer")),
                }
            }
        })
        .await;

    let statuses = statuses.into_inner().expect("not poisoned");
    assert!(
        statuses.values().sum::<usize>() + failures.lock().expect("not poisoned").len() >= count,
        "all were sent: {statuses:?}"
    );
    println!("answers by status: {statuses:?}");
    let failures = failures.into_inner().expect("not poisoned");
    let shown: Vec<&String> = failures.iter().take(20).collect();
    assert!(failures.is_empty(), "{} failures of seed {seed}:\n{shown:#?}", failures.len());
    // A run that is refused at the door proves nothing.
    let good: usize = statuses.iter().filter(|(status, _)| (200..300).contains(*status)).map(|(_, count)| count).sum();
    assert!(good * 20 > statuses.values().sum::<usize>(), "hardly a request was a good one: {statuses:?}");
    world.stop().await;
}

/// The status, and what is wrong with the answer.
async fn answer(world: &World, request: Request<Body>) -> (u16, Option<String>) {
    let response = world.ask(request).await;
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (kind, id) = (header("content-type"), header("x-ms-request-id"));
    if id.is_empty() {
        return (status, Some("it has no request id".to_owned()));
    }
    let mut body = response.into_body();
    if kind == "text/event-stream" {
        // It does not end by itself.
        let first = body.frame().await.is_some();
        return (status, (!first).then(|| "a stream without a beginning".to_owned()));
    }
    let bytes = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => return (status, Some(format!("its body breaks off: {error}"))),
    };
    if status >= 500 {
        return (status, Some(String::from_utf8_lossy(&bytes).into_owned()));
    }
    let is_json = kind.starts_with("application/json");
    if is_json && !bytes.is_empty() && serde_json::from_slice::<Value>(&bytes).is_err() {
        return (status, Some("its body is no JSON".to_owned()));
    }
    let refusal = || serde_json::from_slice::<Value>(&bytes).ok().filter(|body| !body["error"].is_null());
    let wants_refusal = status >= 400 && !bytes.is_empty();
    (status, (wants_refusal && refusal().is_none()).then(|| "a refusal without an error".to_owned()))
}

type Decoder = fn(&Value) -> Result<(), Error>;

/// What reads bodies, by schema.
const DECODERS: [(&str, Decoder); 6] = [
    ("WorkspaceCreateParameters", |body| v2018_05_01::workspace::decode_create(body).map(drop)),
    ("WorkspaceUpdateParameters", |body| v2018_05_01::workspace::decode_update(body).map(drop)),
    ("ClusterCreateParameters", |body| v2018_05_01::cluster::decode_create(body).map(drop)),
    ("ClusterUpdateParameters", |body| v2018_05_01::cluster::decode_update(body).map(drop)),
    ("FileServerCreateParameters", |body| v2018_05_01::file_server::decode_create(body).map(drop)),
    ("JobCreateParameters", |body| v2018_05_01::job::decode_create(body).map(drop)),
];

static NEWER: LazyLock<Value> = LazyLock::new(|| batchyard::http::openapi(ApiVersion::V2018_05_01));

static OLDER: LazyLock<Value> = LazyLock::new(|| batchyard::http::openapi(ApiVersion::V2018_03_01));

fn names() -> Names {
    let path = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/g/providers/Microsoft.BatchAI";
    Names {
        subscription: "11111111-2222-3333-4444-555555555555".into(),
        group: "g".into(),
        cluster: format!("{path}/workspaces/w/clusters/c"),
        old_cluster: format!("{path}/clusters/c"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    /// Whatever a body holds, it is read, or refused with what is wrong with it: never a failure of ours, and each fault with its place.
    #[test]
    fn every_body_is_read_or_refused(seed: u64) {
        let names = names();
        let mut dice = Dice::new(seed);
        let contract = Contract { document: &NEWER, names: &names };
        for (schema, decode) in DECODERS {
            let oddness = *dice.pick(&[0, 4, 12, 40]);
            let body = contract.body(&mut dice, &json!({"$ref": format!("#/components/schemas/{schema}")}), "", oddness, 0);
            if let Err(error) = decode(&body) {
                prop_assert!(error.context().is_none(), "{schema}: {error:?}");
                let all_placed = error.details.iter().all(|fault| !fault.target.is_empty());
                prop_assert!(error.target.is_some() || !error.details.is_empty() && all_placed, "{schema}: {error:?}");
            }
        }
    }

    /// The bodies of older versions are turned without a failure, and what is turned reads as any other.
    #[test]
    fn every_older_body_is_turned(seed: u64) {
        let names = names();
        let mut dice = Dice::new(seed);
        let contract = Contract { document: &OLDER, names: &names };
        let body = contract.body(&mut dice, &json!({"$ref": "#/components/schemas/JobCreateParameters"}), "", 10, 0);
        for read in [v2018_03_01::read, v2017_09_01_preview::read] {
            let mut found = batchyard::error::Violations::new();
            let turned = read(batchyard::id::Kind::Job, &body, &mut found);
            prop_assert!(found.iter().all(|fault| !fault.target.is_empty()));
            if let Err(error) = v2018_05_01::job::decode_create(&turned.document) {
                prop_assert!(error.context().is_none(), "{error:?}");
            }
        }
    }
}
