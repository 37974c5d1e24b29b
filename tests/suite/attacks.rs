//! Attacks on the API, on ids, roles, links and cursors, each of which is refused. Where an attack is played elsewhere, the table says
//! where.
//!
//! | attack | refused by | played in |
//! |---|---|---|
//! | slow or idle sockets, huge heads, ambiguous framing | the edge | `edge::` |
//! | a strange host name, a page of another site | one list of names, before routing | `cases: routing/32..34`, `http::host` |
//! | bodies: depth, size, duplicates, U+0000, huge numbers, compressed | one reader of JSON | `cases: bodies`, `http::json` |
//! | line breaks in names, echoed ids | one canonicaliser; ids of a few harmless letters | [`names_never_split_a_header`], `cases: routing/36` |
//! | telling what exists from what is foreign | the order of checks | [`foreign_and_absent_look_alike`], `cases: order-of-checks` |
//! | no token, another scheme, garbage, an expired one | sign-in before anything | [`anonymous_is_refused_everywhere`], `cases: tokens` |
//! | guessing secrets | a bucket for each name and address | `auth::guessing_is_slow_and_cheap` |
//! | a retired key, a revoked token, another tenant's | keys and principals are asked each time | `auth::` |
//! | forged identity headers | they are never read | `cases: access/39` |
//! | a route or a verb without a check | the permission is a column of the route table | [`roles_hold_on_all_routes`], `http::routes` |
//! | another tenant's subscription | the subscription's tenant is the token's | [`another_tenants_subscription_is_absent_everywhere`] |
//! | foreign ids in bodies | resolved for the caller, else as if absent | `cases: access/37, job-bodies, roles/foreign-role` |
//! | two spellings of one path | one canonicaliser for routing, authorisation and the log | `http::path`, `cases: routing` |
//! | look-alike names | ASCII names, keys folded in one place | `id::`, `cases: routing` |
//! | ids as rights: operations of others, grants that outlive what they hung on | authorised like their resource; they go with it | `cases: access/29, roles-old` |
//! | giving more than one holds | one function for every way to give | `cases: roles-escalation`, `domain::role` (property) |
//! | readers that reach secrets | actions are no reads; secrets are never told | [`readers_see_no_secret`] |
//! | counts, pages and totals that tell of others | lists hold what may be seen, pages follow that | [`others_leave_no_trace`], `cases: resources` |
//! | members of bodies that are the server's | the shapes of requests lack them | [`members_of_the_server_are_ignored`] |
//! | locks passed by a parent's delete, an action, another route | one check before every handler | [`locks_hold_on_all_routes_that_change_anything`], `cases: locks` |
//! | an altered cursor, another's | signed, bound to caller, list and filter | [`an_altered_cursor_is_refused`], `cases: paging, resources` |
//! | an altered or expired link, one of a job that is gone | signed, bound to job, attempt and path | `http::links`, `cases: files, files-end` |
//! | filters that are code | a grammar of our own; values are parameters | `wire::filter` (property), `cases: resources, activity` |
//! | too many requests | a bucket for each caller and kind | `cases: throttle`, `http::throttle` |
//! | a right or lock that changed on another server | hints; a few seconds without them | [`other_servers_learn_of_locks_and_roles`] |

use std::collections::BTreeMap;
use std::time::Duration;

use batchyard::domain::lock::{Deed, Level, NewLock};
use batchyard::domain::scope::Scope;
use batchyard::error::ErrorCode;
use batchyard::http::openapi;
use batchyard::task::Tasks;
use batchyard::wake::{Topic, Wake};
use batchyard::wire::ApiVersion;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::bed::{Bed, connect, service};
use crate::cases::world::World;

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A route as the contract's document tells it.
struct Route {
    operation: String,
    method: String,
    /// The path with every name filled in, and the version.
    url: String,
    /// What it asks for; `None` where a token is enough, or nothing is asked.
    permission: Option<String>,
    /// Whether anyone may use it.
    is_open: bool,
    /// Whether the path names a subscription: others ask for their permission at all of them.
    in_subscription: bool,
}

impl Route {
    /// Whether it is authorised where what it is about is read: to others it does not exist.
    fn is_poll(&self) -> bool {
        let operation = self.operation.as_str();
        ["Operations_GetResult", "Operations_GetStatus", "ResourceGroups_GetResult"].contains(&operation)
    }

    fn is_read(&self) -> bool {
        self.permission.as_deref().is_none_or(|permission| permission.ends_with("/read"))
    }
}

/// All routes of all versions, in `subscription`, with names that nothing has.
fn routes(subscription: &str) -> Vec<Route> {
    named(subscription, &|name| match name {
        "resourceGroupName" => "absent-rg".into(),
        "scope" => format!("subscriptions/{subscription}/resourceGroups/absent-rg"),
        _ => "absent".into(),
    })
}

fn named(subscription: &str, fill: &dyn Fn(&str) -> String) -> Vec<Route> {
    let mut routes = Vec::new();
    for version in ApiVersion::ALL {
        let document = openapi(version);
        for (path, methods) in document["paths"].as_object().expect("paths") {
            let filled: Vec<String> = path
                .split('/')
                .map(|segment| match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    None => segment.to_owned(),
                    Some("subscriptionId") => subscription.to_owned(),
                    Some("operationId" | "jobUid" | "roleAssignmentName" | "roleDefinitionId") => Uuid::nil().to_string(),
                    Some("namespace") => "Microsoft.BatchAI".to_owned(),
                    Some(name) => fill(name),
                })
                .collect();
            for (method, about) in methods.as_object().expect("methods") {
                routes.push(Route {
                    operation: about["operationId"].as_str().expect("an id").to_owned(),
                    method: method.to_ascii_uppercase(),
                    url: format!("{}?api-version={}", filled.join("/"), version.as_str()),
                    permission: about["x-permission"].as_str().map(str::to_owned),
                    is_open: about["security"].as_array().is_some_and(Vec::is_empty),
                    in_subscription: path.contains("{subscriptionId}") || path.contains("{scope}"),
                });
            }
        }
    }
    assert!(routes.len() > 100, "the documents were read");
    routes
}

/// The status and the error code of an answer; its body is read where it is a refusal alone, as some never end.
async fn ask(world: &World, route: &Route, who: &str) -> (u16, String) {
    let step = json!({"method": route.method, "url": route.url, "as": who, "text": "{"});
    let response = world.open(&step).await;
    let status = response.status().as_u16();
    if status < 400 || route.method == "HEAD" {
        return (status, String::new());
    }
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a whole body");
    let code = serde_json::from_slice::<Value>(&body).map(|body| body["error"]["code"].as_str().unwrap_or_default().to_owned());
    (status, code.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_is_refused_everywhere() {
    let world = World::new().await;
    let subscription = world.variables()["subscription"].clone();
    for route in routes(&subscription) {
        let (status, _) = ask(&world, &route, "anonymous").await;
        assert_eq!(status == 401, !route.is_open, "{} {}: {status}", route.method, route.url);
    }
    world.stop().await;
}

/// Who may do what, on every route: nothing without a role, reads with one, everything but giving roles and setting locks for
/// contributors.
#[tokio::test(flavor = "multi_thread")]
async fn roles_hold_on_all_routes() {
    let world = World::new().await;
    let subscription = world.variables()["subscription"].clone();
    for route in routes(&subscription).iter().filter(|route| route.permission.is_some()) {
        let permission = route.permission.as_deref().unwrap_or_default();
        let gives = permission.starts_with("Microsoft.Authorization/") && !route.is_read();
        let here = route.in_subscription;
        for (who, may) in
            [("nobody", false), ("other", false), ("reader", here && route.is_read()), ("contributor", here && !gives)]
        {
            if may && route.operation == "Providers_Unregister" {
                // It would do so.
                continue;
            }
            let (status, code) = ask(&world, route, who).await;
            let told = format!("{who}: {} {}: {status} {code}", route.method, route.url);
            if route.is_poll() {
                assert_eq!((status, code.as_str()), (404, "NotFound"), "{told}");
            } else if may {
                assert!(status != 401 && status != 403 && status < 500, "{told}");
            } else {
                assert_eq!(status, 403, "{told}");
                assert!(code.is_empty() || code == "AuthorizationFailed", "{told}");
            }
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_subscription_is_absent_everywhere() {
    let world = World::new().await;
    let foreign = world.variables()["foreign_subscription"].clone();
    for route in routes(&foreign).iter().filter(|route| route.permission.is_some() && route.in_subscription) {
        let (status, code) = ask(&world, route, "owner").await;
        assert_eq!(status, 404, "{} {}: {code}", route.method, route.url);
        assert!(code.is_empty() || code == "SubscriptionNotFound", "{} {}: {code}", route.method, route.url);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_hold_on_all_routes_that_change_anything() {
    let world = World::new().await;
    let variables = world.variables();
    let (subscription, scope) = (&variables["subscription"], &variables["S"]);
    let lock = format!("{scope}/providers/Microsoft.Authorization/locks/all?api-version=2016-09-01");
    let set = json!({"method": "PUT", "url": lock, "body": {"properties": {"level": "ReadOnly"}}});
    assert_eq!(world.send(&set).await.status, 201);
    let mut refused = 0;
    for route in routes(subscription).iter().filter(|route| !route.is_read()) {
        let (status, code) = ask(&world, route, "owner").await;
        if route.permission.as_deref().unwrap_or_default().starts_with("Microsoft.Authorization/locks/") {
            assert_ne!(code, "ScopeLocked", "a lock can be taken away: {} {}", route.method, route.url);
        } else {
            assert_eq!((status, code.as_str()), (409, "ScopeLocked"), "{} {}", route.method, route.url);
            refused += 1;
        }
    }
    assert!(refused > 25, "{refused} routes change something");
    world.stop().await;
}

const V: &str = "api-version=2018-05-01";

/// A workspace with a cluster and a job, whose every secret is a canary.
async fn furnish(world: &World, group: &str) {
    let at = |below: &str| format!("{group}/providers/Microsoft.BatchAI/workspaces/w{below}?{V}");
    let job = json!({"properties": {
        "cluster": {"id": format!("{group}/providers/Microsoft.BatchAI/workspaces/w/clusters/c")}, "nodeCount": 1,
        "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/shared", "customToolkitSettings": {"commandLine": "true"},
        "secrets": [{"name": "TOKEN", "value": "canary-job"}],
    }});
    let cluster = json!({"properties": {
        "vmSize": "STANDARD_D1", "scaleSettings": {"manual": {"targetNodeCount": 0}},
        "userAccountSettings": {"adminUserName": "ops", "adminUserPassword": "canary-password"},
    }});
    for (url, body) in [
        (format!("{group}?{V}"), json!({"location": "eastus"})),
        (at(""), json!({"location": "eastus"})),
        (at("/experiments/e"), Value::Null),
        (at("/clusters/c"), cluster),
        (at("/experiments/e/jobs/j"), job),
    ] {
        let answer = world.send(&json!({"method": "PUT", "url": url, "body": body})).await;
        assert!(answer.status < 300, "{url}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_no_secret() {
    let world = World::new().await;
    let variables = world.variables();
    furnish(&world, &format!("{}/resourceGroups/g", variables["S"])).await;
    let subscription = variables["subscription"].clone();
    let scope = format!("subscriptions/{subscription}/resourceGroups/g");
    let routes = named(&subscription, &|name| match name {
        "resourceGroupName" => "g".into(),
        "workspaceName" => "w".into(),
        "experimentName" => "e".into(),
        "clusterName" => "c".into(),
        "jobName" => "j".into(),
        "location" => "eastus".into(),
        "scope" => scope.clone(),
        _ => "x".into(),
    });
    let mut seen = 0;
    for route in routes.iter().filter(|route| route.method == "GET" && route.is_read() && !route.operation.starts_with("Events_"))
    {
        let log =
            if route.operation == "ActivityLogs_List" { "&$filter=eventTimestamp%20ge%20'2020-01-01T00:00:00Z'" } else { "" };
        for who in ["reader", "owner"] {
            let answer = world.send(&json!({"url": format!("{}{log}", route.url), "as": who})).await;
            let told = format!("{:?}{}", answer.headers, answer.text());
            assert!(!told.contains("canary"), "{who}: {}: {told}", route.url);
            seen += usize::from(answer.status == 200);
        }
    }
    assert!(seen > 60, "{seen} answers were looked through");
    // What is not a read is refused: files and logins are actions.
    for action in ["listOutputFiles?outputdirectoryid=stdouterr&", "listRemoteLoginInformation?"] {
        let url = format!("/{scope}/providers/Microsoft.BatchAI/workspaces/w/experiments/e/jobs/j/{action}{V}");
        for method in ["GET", "POST"] {
            assert_eq!(world.send(&json!({"method": method, "url": url, "as": "reader"})).await.status, 403, "{method} {url}");
        }
    }
    world.stop().await;
}

/// What the owner of one group is told does not change with what others have.
#[tokio::test(flavor = "multi_thread")]
async fn others_leave_no_trace() {
    let world = World::new().await;
    let variables = world.variables();
    let scope = variables["S"].clone();
    furnish(&world, &format!("{scope}/resourceGroups/their-rg")).await;
    let theirs = format!("{scope}/resourceGroups/their-rg");
    let workspace = format!("{theirs}/providers/Microsoft.BatchAI/workspaces/w");
    let log = "&$filter=eventTimestamp%20ge%20'2020-01-01T00:00:00Z'%20and%20resourceGroupName%20eq%20'their-rg'";
    let urls = [
        "/subscriptions?api-version=2022-12-01".to_owned(),
        "/tenants?api-version=2022-12-01".to_owned(),
        format!("{scope}/resourceGroups?{V}"),
        format!("{scope}/resourceGroups?{V}&$top=1"),
        format!("{scope}/resources?{V}"),
        format!("{scope}/resources?{V}&$top=1"),
        format!("{theirs}/resources?{V}"),
        format!("{theirs}/providers/Microsoft.Authorization/locks?{V}"),
        format!("{theirs}/providers/Microsoft.Authorization/permissions?{V}"),
        format!("{scope}/providers/Microsoft.BatchAI/workspaces?{V}"),
        format!("{scope}/providers/Microsoft.BatchAI/locations/eastus/usages?{V}"),
        format!("{scope}/tagNames?{V}"),
        format!("{scope}/providers/Microsoft.Insights/eventtypes/management/values?api-version=2015-04-01{log}"),
        format!("{workspace}/clusters?{V}"),
        format!("{workspace}/experiments/e/jobs?{V}"),
        format!("{workspace}/experiments/e/jobs?{V}&maxresults=1"),
        format!("{scope}/resourceGroups/others?{V}"),
        format!("{scope}/resourceGroups/others/providers/Microsoft.BatchAI/workspaces/w?{V}"),
        format!("{scope}/resourceGroups/others/providers/Microsoft.BatchAI/workspaces/w/experiments/e/jobs/j?{V}"),
    ];
    let transcript = async || {
        let mut told = Vec::new();
        for url in &urls {
            let answer = world.send(&json!({"url": url, "as": "grouped"})).await;
            told.push((url.clone(), answer.status, answer.text()));
        }
        told
    };
    let before = transcript().await;
    furnish(&world, &format!("{scope}/resourceGroups/others")).await;
    furnish(&world, &format!("{scope}/resourceGroups/a-first")).await;
    let lock = format!("{scope}/resourceGroups/others/providers/Microsoft.Authorization/locks/l?api-version=2016-09-01");
    world.send(&json!({"method": "PUT", "url": lock, "body": {"properties": {"level": "ReadOnly"}}})).await;
    for (before, after) in before.into_iter().zip(transcript().await) {
        assert_eq!(before, after);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_absent_look_alike() {
    let world = World::new().await;
    let variables = world.variables();
    furnish(&world, &format!("{}/resourceGroups/g", variables["S"])).await;
    let answer = async |url: &str, who: &str, name: &str| {
        let answer = world.send(&json!({"url": url, "as": who})).await;
        let volatile = ["x-ms-request-id", "request-id", "x-ms-correlation-request-id", "x-ms-routing-request-id"];
        let mut headers: BTreeMap<String, Vec<String>> = answer.headers.clone();
        headers.retain(|name, _| !volatile.contains(&name.as_str()) && !name.contains("ratelimit") && name != "content-length");
        (answer.status, format!("{headers:?} {}", answer.text()).replace(name, "NAME").replace(&name.to_lowercase(), "NAME"))
    };
    let (foreign, random) = (variables["foreign_subscription"].clone(), Uuid::new_v4().to_string());
    for below in ["", "/resourceGroups/g", "/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w"] {
        let url = |subscription: &str| format!("/subscriptions/{subscription}{below}?{V}");
        assert_eq!(answer(&url(&foreign), "owner", &foreign).await, answer(&url(&random), "owner", &random).await);
    }
    let scope = &variables["S"];
    for (there, absent) in [
        (format!("{scope}/resourceGroups/g"), format!("{scope}/resourceGroups/x")),
        (
            format!("{scope}/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w"),
            format!("{scope}/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/x"),
        ),
    ] {
        for who in ["nobody", "other"] {
            let seen = answer(&format!("{there}?{V}"), who, &there).await;
            assert_eq!(seen, answer(&format!("{absent}?{V}"), who, &absent).await, "{who} {there}");
            assert_eq!(seen.0, 403);
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_never_split_a_header() {
    let world = World::new().await;
    let path = format!("{}/experiments/e/jobs/j", world.variables()["WS"]);
    let segments: Vec<&str> = path.split('/').collect();
    for at in 1..segments.len() {
        for trick in ["%0d%0aX-Split:%201", "%0aX-Split:%201", "%00", "%E2%80%A8"] {
            let mut tricked: Vec<String> = segments.iter().map(|segment| (*segment).to_owned()).collect();
            tricked[at].push_str(trick);
            for method in ["GET", "PUT", "DELETE"] {
                let url = format!("{}?{V}", tricked.join("/"));
                let answer = world.send(&json!({"method": method, "url": url, "body": {}})).await;
                assert!((400..500).contains(&answer.status), "{method} {url}: {}", answer.status);
                assert!(!answer.headers.contains_key("x-split"), "{method} {url}");
            }
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_the_server_are_ignored() {
    let world = World::new().await;
    let variables = world.variables();
    let (group, workspace) = (&variables["RG"], &variables["WS"]);
    let body = json!({
        "id": "/subscriptions/x", "name": "other", "type": "Microsoft.Evil/things", "location": "eastus", "uid": "x", "owner": "me",
        "properties": {"provisioningState": "failed", "creationTime": "1970-01-01T00:00:00Z"}, "etag": "x", "generation": 9,
        "systemData": {"createdBy": "someone"},
    });
    let made = world.send(&json!({"method": "PUT", "url": format!("{group}?{V}"), "body": body})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json().expect("JSON");
    assert_eq!((made["id"].as_str(), made["name"].as_str()), (Some(group.as_str()), Some("Case-RG")));
    assert_eq!(made["properties"], json!({"provisioningState": "Succeeded"}));
    let made = world.send(&json!({"method": "PUT", "url": format!("{workspace}?{V}"), "body": body})).await.json().expect("JSON");
    assert_eq!(made["id"], variables["ws"].as_str());
    assert_eq!((made["name"].as_str(), made["type"].as_str()), (Some("Vision"), Some("Microsoft.BatchAI/workspaces")));
    assert_eq!(made["properties"]["provisioningState"], "succeeded");
    assert_ne!(made["properties"]["creationTime"], "1970-01-01T00:00:00Z");
    assert!(made.get("systemData").is_none() && made.get("owner").is_none());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_cursor_is_refused() {
    let world = World::new().await;
    let scope = world.variables()["S"].clone();
    for group in ["a", "b"] {
        let url = format!("{scope}/resourceGroups/{group}?{V}");
        world.send(&json!({"method": "PUT", "url": url, "body": {"location": "eastus"}})).await;
    }
    let first = world.send(&json!({"url": format!("{scope}/resourceGroups?{V}&$top=1")})).await.json().expect("JSON");
    let next = first["nextLink"].as_str().expect("a link").to_owned();
    assert_eq!(world.send(&json!({"url": next})).await.status, 200);
    let (before, token) = next.split_once("$skiptoken=").expect("a token");
    for (at, letter) in token.char_indices() {
        // Another letter whose bits all count: the last of a group of base64 letters may carry bits that do not.
        let other = if letter == 'A' { 'Q' } else { 'A' };
        let mut altered = token.to_owned();
        altered.replace_range(at..=at, &other.to_string());
        let answer = world.send(&json!({"url": format!("{before}$skiptoken={altered}")})).await;
        assert_eq!(answer.status, 400, "letter {at} of {token}: {}", answer.text());
    }
    for altered in ["", "x", "..", &token.repeat(2), &token[1..], &format!("{token}A")] {
        let answer = world.send(&json!({"url": format!("{before}$skiptoken={altered}")})).await;
        assert_eq!(answer.status, 400, "{altered}: {}", answer.text());
    }
    // Of another list, another filter, another caller.
    for (url, who) in [
        (format!("{scope}/resources?{V}&$skiptoken={token}"), "owner"),
        (format!("{scope}/resourceGroups?{V}&$filter=tagName%20eq%20'a'&$skiptoken={token}"), "owner"),
        (next.clone(), "reader"),
    ] {
        assert_eq!(world.send(&json!({"url": url, "as": who})).await.status, 400, "{who}: {url}");
    }
    world.stop().await;
}

/// A lock that one server sets is kept to by another as soon as it heard of it.
#[tokio::test]
async fn other_servers_learn_of_locks_and_roles() {
    let bed = Bed::new().await;
    let (tasks, there) = (Tasks::new(), Wake::default());
    bed.service.run(&tasks);
    let other = service(connect(&bed.url, 8).await, bed.clock.clone(), there.clone());
    other.run(&tasks);
    let group = Scope::Resource(bed.group());
    other.check_locks(&group, Deed::Delete).await.expect("no lock yet, and remembered");
    let mut hints = there.subscribe(Topic::Access);
    let lock = NewLock { name: "l".into(), level: Level::CanNotDelete, notes: None, owners: None };
    let set = async {
        // A hint is sent where somebody listens: the other server may be about to.
        loop {
            hints.borrow_and_update();
            bed.service.put_lock(&bed.caller, &group, &lock).await.expect("sets");
            if timeout(Duration::from_millis(500), hints.changed()).await.is_ok() {
                break;
            }
        }
        // What was remembered is forgotten right after the hint.
        while other.check_locks(&group, Deed::Delete).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, set).await.expect("the other server hears of it");
    let refused = other.check_locks(&group, Deed::Delete).await.expect_err("locked");
    assert_eq!(refused.code, ErrorCode::ScopeLocked);
    let workspace = Scope::Resource(bed.workspace());
    assert!(other.check_locks(&workspace, Deed::Delete).await.is_err(), "it is inherited");
    other.check_locks(&workspace, Deed::Write).await.expect("changes are allowed");
    tasks.stop(Duration::from_secs(5)).await;
}
