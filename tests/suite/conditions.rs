//! Conditions of requests hold when writers race: of many that saw the same version, one goes through.

use std::time::Duration;

use batchyard::auth::Caller;
use batchyard::domain::activity::{Asked, RequestFacts, Subject};
use batchyard::domain::resource::Expected;
use batchyard::domain::workspace::Workspace;
use batchyard::error::ErrorCode;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::bed::{Bed, new_cluster};
use crate::cases::world::World;

const V: &str = "api-version=2018-05-01";

/// Writers at once.
const WRITERS: usize = 8;

async fn statuses(world: &World, step: &Value) -> Vec<u16> {
    let mut found: Vec<u16> = join_all((0..WRITERS).map(|_| world.send(step))).await.iter().map(|answer| answer.status).collect();
    found.sort_unstable();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_writers_goes_through() {
    let world = World::new().await;
    let variables = world.variables();
    let (group, workspace) = (&variables["RG"], &variables["WS"]);
    let cluster = json!({"properties": {
        "vmSize": "STANDARD_D1", "scaleSettings": {"manual": {"targetNodeCount": 0}},
        "userAccountSettings": {"adminUserName": "ops", "adminUserPassword": "x"},
    }});
    let resources = [
        (format!("{group}?{V}"), json!({"location": "eastus"}), 201, json!({"tags": {"a": "1"}})),
        (format!("{workspace}?{V}"), json!({"location": "eastus"}), 200, json!({"tags": {"a": "1"}})),
        (
            format!("{workspace}/clusters/c?{V}"),
            cluster,
            202,
            json!({"properties": {"scaleSettings": {"manual": {"targetNodeCount": 0}}}}),
        ),
    ];
    let one = |status: u16| std::iter::once(status).chain(std::iter::repeat_n(412, WRITERS - 1)).collect::<Vec<u16>>();
    for (url, body, made, patch) in &resources {
        let new = json!({"method": "PUT", "url": url, "body": body, "headers": {"if-none-match": "*"}});
        assert_eq!(statuses(&world, &new).await, one(*made), "made: {url}");
        let answer = world.send(&json!({"url": url})).await;
        let tag = answer.headers["etag"][0].clone();
        let change = json!({"method": "PATCH", "url": url, "body": patch, "headers": {"if-match": tag}});
        assert_eq!(statuses(&world, &change).await, one(200), "changed: {url}");
    }
    for (url, ..) in resources.iter().rev() {
        let tag = world.send(&json!({"url": url})).await.headers["etag"][0].clone();
        let delete = json!({"method": "DELETE", "url": url, "headers": {"if-match": tag}});
        let found = statuses(&world, &delete).await;
        // Once it is gone, there is none, which is no conflict.
        let gone = if url == &resources[0].0 { 404 } else { 204 };
        assert_eq!(found.iter().filter(|status| **status == 202).count(), 1, "deleted: {url}: {found:?}");
        assert!(found.iter().all(|status| [202, 412, gone].contains(status)), "{url}: {found:?}");
    }
    world.stop().await;
}

/// What was looked at and has moved on when it is written is not written.
#[tokio::test]
async fn what_moved_on_is_not_written() {
    let bed = Bed::new().await;
    let read = bed.service.get::<Workspace>(&bed.workspace()).await.expect("there");
    let caller = |expected: Expected| {
        let id = bed.workspace();
        let subject = Subject { subscription: bed.subscription, action: "a/b/write".into(), key: id.key(), path: id.path() };
        let asked = Asked::new(bed.now(), bed.caller.principal, "c".into(), subject, RequestFacts::default());
        asked.expect(expected);
        Caller { asked: Some(asked.into()), ..bed.caller.clone() }
    };
    let this = Expected::Is { uid: read.uid, generation: read.generation };
    let tags = |value: &str| Some([("a".to_owned(), value.to_owned())].into());
    bed.clock.advance(Duration::from_secs(1));
    bed.service.patch_workspace(&caller(this), &bed.workspace(), tags("1")).await.expect("as it was read");
    for expected in [this, Expected::Absent] {
        let caller = caller(expected);
        let changed = bed.service.patch_workspace(&caller, &bed.workspace(), tags("2")).await.map(|_| ());
        let group = bed.service.put_group(&caller, &bed.group(), "eastus".into(), None, None).await.map(|_| ());
        let deleted = bed.service.delete(&caller, &bed.workspace()).await.map(|_| ());
        for refused in [changed, group, deleted] {
            assert_eq!(refused.expect_err("it moved on").code, ErrorCode::PreconditionFailed, "{expected:?}");
        }
    }
    // What was there and is gone is not made again by who wanted to change it.
    let made = bed.service.put_cluster(&caller(this), &bed.cluster(), new_cluster(0)).await.map(|_| ());
    assert_eq!(made.expect_err("nothing is made").code, ErrorCode::Conflict);
    let stored = bed.service.get::<Workspace>(&bed.workspace()).await.expect("there");
    assert_eq!((stored.generation, stored.tags), (2, tags("1")));
    let count = "select count(*) from batchyard.activity where action = 'a/b/write'";
    assert_eq!(bed.count(count).await, 1, "what was refused is recorded by whoever refuses it");
}
