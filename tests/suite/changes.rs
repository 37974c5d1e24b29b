//! Waiting for a change, and following all of them: through the router, and on the use cases where rows must be late.

use std::future::Future;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::Response;
use batchyard::service::{Followed, Follower};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::cases::world::World;

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

const OWN: &str = "api-version=2026-11-01-preview";

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes too long")
}

/// A server with a cluster of no nodes and a job that waits for one.
struct Site {
    world: World,
    workspace: String,
}

impl Site {
    async fn new() -> Site {
        let world = World::new().await;
        let variables = world.variables();
        let site = Site { workspace: variables["WS"].clone(), world };
        site.put(&format!("{}?api-version=2021-04-01", variables["RG"]), json!({"location": "eastus"})).await;
        site.put(&site.at(""), json!({"location": "eastus"})).await;
        site.put(&site.at("/experiments/e"), Value::Null).await;
        let cluster = json!({"properties": {
            "vmSize": "Standard_D1", "scaleSettings": {"manual": {"targetNodeCount": 0}},
            "userAccountSettings": {"adminUserName": "ops", "adminUserPassword": "Secret-1"},
        }});
        site.put(&site.at("/clusters/c"), cluster).await;
        let job = json!({"properties": {
            "cluster": {"id": format!("{}/clusters/c", site.workspace)}, "nodeCount": 1,
            "stdOutErrPathPrefix": "$AZ_BATCHAI_MOUNT_ROOT/x", "customToolkitSettings": {"commandLine": "true"},
        }});
        site.put(&site.at("/experiments/e/jobs/j"), job).await;
        site
    }

    fn at(&self, below: &str) -> String {
        format!("{}{below}?{OWN}", self.workspace)
    }

    async fn put(&self, url: &str, body: Value) {
        let answer = self.world.send(&json!({"method": "PUT", "url": url, "body": body})).await;
        assert!(answer.status < 300, "{url}: {} {}", answer.status, answer.text());
    }

    async fn get(&self, url: String) -> (u16, Value) {
        let answer = self.world.send(&json!({ "url": url })).await;
        (answer.status, answer.json().unwrap_or_default())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_when_the_state_changes() {
    let site = Site::new().await;
    let waiting = site.get(site.at("/experiments/e/jobs/j") + "&wait=60");
    let terminate = async {
        let request = json!({"method": "POST", "url": site.at("/experiments/e/jobs/j/terminate")});
        assert_eq!(site.world.send(&request).await.status, 202);
    };
    let ((status, job), ()) = soon(async { tokio::join!(waiting, terminate) }).await;
    // Whichever of the two came first: the wait does not outlast the end.
    assert_eq!((status, &job["properties"]["executionState"]), (200, &json!("Failed")));
    site.world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_when_what_is_waited_for_goes_away() {
    let site = Site::new().await;
    let waiting = site.get(site.at("/clusters/c") + "&wait=60");
    let delete = async {
        let request = json!({"method": "DELETE", "url": site.at("/clusters/c")});
        assert_eq!(site.world.send(&request).await.status, 202);
    };
    let ((status, first), ()) = soon(async { tokio::join!(waiting, delete) }).await;
    assert!(status == 404 || first["properties"]["provisioningState"] == "Deleting" || status == 200, "{status} {first}");
    // Until it is gone, as a client would.
    soon(async {
        loop {
            if site.get(site.at("/clusters/c") + "&wait=60").await.0 == 404 {
                break;
            }
        }
    })
    .await;
    site.world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_and_streams_end_with_the_server() {
    let site = Site::new().await;
    let mut listener = Listener::new(site.world.open(&json!({"url": site.at("/events")})).await);
    let waiting = site.get(site.at("/experiments/e/jobs/j") + "&wait=60");
    let stop = async {
        listener.first().await;
        assert!(site.world.stop_parts().await, "all parts end");
        assert!(listener.next().await.is_none(), "the stream ends");
    };
    let ((status, job), ()) = soon(async { tokio::join!(waiting, stop) }).await;
    assert_eq!((status, &job["properties"]["executionState"]), (200, &json!("Queued")));
}

/// A stream of events as its client reads it.
struct Listener {
    body: BodyDataStream,
    text: String,
}

impl Listener {
    fn new(response: Response<Body>) -> Listener {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Listener { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next block of lines.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let piece = self.body.next().await?.expect("a piece");
            self.text.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    /// What a stream begins with: where it begins.
    async fn first(&mut self) -> String {
        let block = self.block().await.expect("a first block");
        let (retry, id) = block.split_once("\nid: ").expect("two lines");
        assert_eq!(retry, "retry: 1000");
        id.to_owned()
    }

    /// The next event's id and document.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            let block = soon(self.block()).await?;
            if block.starts_with(':') {
                continue;
            }
            let line = |name: &str| {
                block
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_else(|| panic!("no {name} in {block}"))
                    .to_owned()
            };
            let document: Value = serde_json::from_str(&line("data: ")).expect("JSON");
            assert_eq!((&document["id"], &document["what"]), (&json!(line("id: ")), &json!(line("event: "))));
            return Some((line("id: "), document));
        }
    }

    async fn until(&mut self, what: &str, name: &str) -> String {
        loop {
            let (id, document) = self.next().await.expect("an event");
            if document["what"] == what && document["resourceId"].as_str().is_some_and(|path| path.ends_with(name)) {
                return id;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_where_it_was() {
    let site = Site::new().await;
    let mut listener = Listener::new(site.world.open(&json!({"url": site.at("/events"), "as": "reader"})).await);
    listener.first().await;
    site.put(&site.at("/experiments/one"), Value::Null).await;
    let last = listener.until("created", "/experiments/one").await;
    drop(listener);

    site.put(&site.at("/experiments/two"), Value::Null).await;
    site.put(&site.at("/experiments/three"), Value::Null).await;
    let request = json!({"url": site.at("/events"), "as": "reader", "headers": {"last-event-id": last}});
    let mut listener = Listener::new(site.world.open(&request).await);
    assert_eq!(listener.first().await, last);
    for name in ["/experiments/two", "/experiments/three"] {
        let (_, document) = listener.next().await.expect("an event");
        assert!(document["resourceId"].as_str().is_some_and(|path| path.ends_with(name)), "{document}");
        assert_eq!(
            (&document["what"], &document["resourceType"]),
            (&json!("created"), &json!("Microsoft.BatchAI/workspaces/experiments"))
        );
        assert!(document["caller"].is_string() && document["time"].is_string());
    }
    drop(listener);
    site.world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_tells_of_its_scope_alone() {
    let site = Site::new().await;
    let mut listener = Listener::new(site.world.open(&json!({"url": site.at("/experiments/e/jobs/j/events")})).await);
    listener.first().await;
    site.put(&site.at("/experiments/other"), Value::Null).await;
    let request = json!({"method": "POST", "url": site.at("/experiments/e/jobs/j/terminate")});
    assert_eq!(site.world.send(&request).await.status, 202);
    let (_, document) = listener.next().await.expect("an event");
    assert!(document["resourceId"].as_str().is_some_and(|path| path.ends_with("/jobs/j")), "{document}");
    drop(listener);
    site.world.stop().await;
}

/// What the next event is called. What the bed made is left out: a follower begins where everything before is complete, and in a Postgres
/// that other tests share that may be a little earlier than now.
async fn next_name(follower: &mut Follower) -> String {
    loop {
        match soon(follower.next()).await {
            Followed::Event(recorded) if recorded.event.what == "created" => {}
            Followed::Event(recorded) => return recorded.event.what.clone(),
            other => panic!("{other:?}"),
        }
    }
}

const INSERT: &str = "insert into batchyard.event (at, resource_uid, path, what, why)
    select now(), gen_random_uuid(), '/subscriptions/' || id || '/resourceGroups/late', $1, 'test' from batchyard.subscription";

/// An id is drawn before its commit: a follower must not pass one that comes late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_that_becomes_visible_late_is_passed() {
    let bed = Bed::new().await;
    let tasks = batchyard::task::Tasks::new();
    bed.service.run(&tasks);
    let scope = format!("/subscriptions/{}", bed.subscription);
    let mut live = bed.service.follow(bed.subscription, scope.clone(), None).await.expect("follows");
    let start = live.place();

    let mut slow = bed.pool.begin().await.expect("begins");
    sqlx::query(INSERT).bind("first").execute(&mut *slow).await.expect("inserts");
    sqlx::query(INSERT).bind("second").execute(&bed.pool).await.expect("inserts");
    let mut behind = bed.service.follow(bed.subscription, scope, Some(start)).await.expect("follows");
    let commit = async {
        // Both followers have looked at the record by now, or will after the commit: either way the order is the same.
        tokio::task::yield_now().await;
        slow.commit().await.expect("commits");
    };
    let (a, b, ()) = tokio::join!(next_name(&mut live), next_name(&mut behind), commit);
    assert_eq!((a.as_str(), b.as_str()), ("first", "first"));
    let (a, b) = tokio::join!(next_name(&mut live), next_name(&mut behind));
    assert_eq!((a.as_str(), b.as_str()), ("second", "second"));
    tasks.stop(Duration::from_secs(5)).await;
}

/// Whether it is cut off depends on who is quicker; either way it hears everything once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_falls_behind_goes_on_where_it_was() {
    let bed = Bed::new().await;
    let tasks = batchyard::task::Tasks::new();
    bed.service.run(&tasks);
    let scope = format!("/subscriptions/{}", bed.subscription);
    let mut follower = bed.service.follow(bed.subscription, scope.clone(), None).await.expect("follows");
    sqlx::query(INSERT).bind("begin").execute(&bed.pool).await.expect("inserts");
    assert_eq!(next_name(&mut follower).await, "begin");
    let many = format!("{INSERT}, generate_series(1, 3000)");
    sqlx::query(sqlx::AssertSqlSafe(many)).bind("many").execute(&bed.pool).await.expect("inserts");
    sqlx::query(INSERT).bind("end").execute(&bed.pool).await.expect("inserts");
    let (mut heard, mut last) = (0, follower.place());
    loop {
        match soon(follower.next()).await {
            Followed::Event(recorded) if recorded.event.what == "end" => break,
            Followed::Event(recorded) => {
                let place = recorded.event.place;
                assert!(place > last, "{place} after {last}");
                (heard, last) = (heard + 1, place);
            }
            Followed::TooSlow => {
                follower = bed.service.follow(bed.subscription, scope.clone(), Some(last)).await.expect("follows");
            }
            Followed::Over => panic!("the record can be read"),
        }
    }
    assert_eq!(heard, 3000);
    tasks.stop(Duration::from_secs(5)).await;
}
