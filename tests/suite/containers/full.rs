//! An engine without room.

use serde_json::json;

use super::{Ground, error, image};
use crate::harness::Server;

#[tokio::test]
async fn an_image_that_has_no_room_says_so_and_one_that_has_runs_next() {
    let Some(ground) = Ground::new(Server::shared()).await else { return };
    // Before its first start: what the engine keeps is on a file system of this size.
    let room = "mkdir -p /var/lib/docker && mount -t tmpfs -o size=24m room /var/lib/docker";
    assert!(ground.node.within(&["-m"], &["sh", "-c", room]).status.success());
    let over = json!({ "containerSettings": { "imageSourceRegistry": { "image": image::LARGE } } });
    let job = ground.run("large", "echo never", over).await;
    let told = error(&job);
    assert_eq!(told["code"], "FailedPullingImage", "{}", ground.everything("large").await);
    let message = told["message"].as_str().expect("text");
    assert!(message.contains(image::LARGE) && message.contains("no space left on device"), "{message}");
    let details = told["details"].as_array().expect("a list");
    let answer = details.iter().find(|detail| detail["name"] == "answer").and_then(|detail| detail["value"].as_str());
    assert!(answer.is_some_and(|answer| answer.contains("no space left on device")), "the engine's own words: {told}");
    assert_eq!(ground.site.names("large", "stdouterr").await, ["execution.log"], "nothing was run");
    assert_eq!(ground.node.containers(), [""; 0]);
    // Nothing of it takes the room of the next.
    let job = ground.run("small", "echo fits", json!({})).await;
    ground.assert_succeeded("small", &job).await;
    assert_eq!(ground.site.stdout("small").await, "fits\n");
}
