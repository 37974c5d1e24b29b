//! What is said in a command line, and what must not be said anywhere.

use serde_json::json;

use super::{KEPT, error, site};
use crate::harness::{Server, site::SHARE};

#[tokio::test]
async fn a_command_line_means_what_it_says() {
    let site = site().await;
    site.cluster("c", 1).await;
    let hostile = "a 'b' \"c\" `d` $e ${f} $(g) \\ ;|&<>(){}[]*?!#~ %s\n\ttab\u{1b}[31m é \u{202e}\r\nend";
    let long = "0123456789 $HOME '\"\n".repeat(5_200);
    assert!(long.len() > 100_000);
    let command = format!("cat <<'EOT'\n{hostile}\n{long}EOT\nprintf '%s' 'it'\"'\"'s' \"$AZ_BATCHAI_TASK_INDEX\"");
    let job = site.run("j", "c", &command, json!({})).await;
    assert_eq!(job["executionState"], "succeeded", "{}", site.read("j", "stdouterr", "stderr.txt").await);
    assert_eq!(site.stdout("j").await, format!("{hostile}\n{long}it's0"));
    assert_eq!(job["customToolkitSettings"]["commandLine"], json!(command), "it is shown as it was given");

    let mut body = site.job_body("c", "");
    body["properties"]["customToolkitSettings"]["commandLine"] = json!("x".repeat(130_000));
    let refused = site.api.put(&site.job_path("longer"), &body).await.expect(400);
    assert!(refused.text.contains("commandLine"), "{}", refused.text);
}

#[tokio::test]
async fn what_a_job_says_of_its_secrets_is_in_its_own_output_alone() {
    let site = site().await;
    site.cluster("c", 1).await;
    for (name, prefix) in [("shared", SHARE), ("kept", KEPT)] {
        let canary = format!("canary-{}-{name}", site.group);
        let over = json!({
            "stdOutErrPathPrefix": prefix,
            "secrets": [{ "name": "SECRET", "value": canary }],
            "jobPreparation": { "commandLine": "echo $SECRET; echo $SECRET >&2" },
        });
        let job = site.run(name, "c", "echo $SECRET; echo $SECRET >&2; no-such-program $SECRET; exit 5", over).await;
        assert_eq!(error(&job).0, "JobFailed", "{job}");
        assert!(site.stdout(name).await.contains(&canary), "its own output is its own");
        assert!(!job.to_string().contains(&canary), "{job}");
        assert!(!site.read(name, "stdouterr", "execution.log").await.contains(&canary));
        assert!(!Server::shared().log().contains(&canary), "the server's log tells it");
        let mut grep = std::process::Command::new("grep");
        grep.args(["-rlaF", "--devices=skip", &canary]).arg(Server::shared().dir().join("data"));
        let found = String::from_utf8_lossy(&grep.output().expect("grep runs").stdout).into_owned();
        // What the server keeps for it is with its database and in its archive: that is its own output, and so is what the node had.
        let others: Vec<&str> = found.lines().filter(|path| name == "shared" || path.ends_with("/log")).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}
