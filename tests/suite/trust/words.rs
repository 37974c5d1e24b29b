//! Values that would mean something to a shell, to a file of ours, or to a terminal.

use serde_json::{Value, json};

use crate::harness::Server;
use crate::harness::site::{SHARE, Site};

/// What shells, formats and paths are broken by.
const PIECES: [&str; 20] = [
    "$(touch /tmp/pwned)",
    "`touch /tmp/pwned`",
    "; touch /tmp/pwned;",
    "| touch /tmp/pwned",
    "& touch /tmp/pwned &",
    "> /tmp/pwned",
    "' touch /tmp/pwned '",
    "\" touch /tmp/pwned \"",
    "\n touch /tmp/pwned \n",
    "\\",
    "%s%n%d",
    "-rf",
    "--help",
    "${IFS}",
    "*",
    "~root",
    "{a,b}",
    "!!",
    "#",
    "\u{1b}[31m\u{202e}",
];

#[tokio::test]
async fn values_stay_values() {
    let server = Server::shared();
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    let values: Vec<String> = (0..200).map(|at| format!("{}{}x", PIECES[at % 20], PIECES[(at / 20 + at) % 20])).collect();
    let variable = |(at, value): (usize, &String)| json!({ "name": format!("V{at}"), "value": value });
    let (plain, secret): (Vec<Value>, Vec<Value>) = {
        let all: Vec<Value> = values.iter().enumerate().map(variable).collect();
        (all[..100].to_vec(), all[100..].to_vec())
    };
    let over = json!({
        "environmentVariables": plain,
        "secrets": secret,
        "jobPreparation": { "commandLine": "test -n \"$V0$V199\"" },
        "outputDirectories": [{ "id": "O", "pathPrefix": SHARE, "pathSuffix": "a b; touch x $(id)" }],
        "inputDirectories": [{ "id": "I", "path": format!("{SHARE}/in '; touch \\ $(id)") }] });
    let command = "for i in $(seq 0 199); do n=V$i; printf '%s\\0' \"${!n}\"; done; printf '%s\\0' \"$AZ_BATCHAI_INPUT_I\"; \
                   ls /tmp/pwned 2>/dev/null; echo o > \"$AZ_BATCHAI_OUTPUT_O/file\"";
    let job = site.run("j", "c", command, over).await;
    assert_eq!(job["executionState"], "succeeded", "{job}\n{}", site.read("j", "stdouterr", "execution.log").await);
    let stdout = site.stdout("j").await;
    let told: Vec<&str> = stdout.split('\0').collect();
    assert_eq!(told.len(), 202);
    for (at, value) in values.iter().enumerate() {
        assert_eq!(told[at], value, "V{at}");
    }
    assert!(told[200].ends_with("/shared/in '; touch \\ $(id)"), "{}", told[200]);
    assert_eq!(told[201], "", "nothing of them was run");
    assert_eq!(site.names("j", "O").await, ["file"]);
    // Shown as they were given.
    assert_eq!(job["environmentVariables"][3]["value"], json!(values[3]));
}
