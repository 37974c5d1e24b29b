//! Outputs that are not what one would expect: any bytes, any names, very many, and links that lead elsewhere.

use serde_json::json;

use super::{KEPT, site};
use crate::harness::site::SHARE;
use crate::harness::{Server, Site, until};

#[tokio::test]
async fn bytes_come_back_as_they_were_written() {
    let site = site().await;
    site.cluster("c", 1).await;
    let command = "python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 300 + b\"half of \\xc3\")'; printf '\\377\\376\\000' >&2";
    let wanted = [&(0..=255).cycle().take(256 * 300).collect::<Vec<u8>>()[..], b"half of \xc3"].concat();
    for (name, prefix) in [("shared", SHARE), ("kept", KEPT)] {
        site.run(name, "c", command, json!({ "stdOutErrPathPrefix": prefix })).await;
        let link = site.find_link(name, "stdouterr", "stdout.txt").await.expect("listed");
        assert!(site.download(&link, None).await.bytes == wanted, "{name}");
        let end = site.download(&link, Some("bytes=76800-")).await;
        assert_eq!((end.status, end.bytes.as_slice()), (206, &b"half of \xc3"[..]), "{name}: a range may end within a character");
        let link = site.find_link(name, "stdouterr", "stderr.txt").await.expect("listed");
        assert_eq!(site.download(&link, None).await.bytes, b"\xff\xfe\0", "{name}");
    }
}

/// Names that mean something to shells, URLs, terminals or paths.
const NAMES: [&str; 14] = [
    "a b",
    "new\nline",
    "tab\there",
    "quote'\"",
    "-rf",
    "%2e%2e",
    "q?x=1#y&z",
    "ünï",
    "semi;colon",
    "back\\slash",
    "..a",
    "$HOME",
    "\u{1b}[31mred",
    "\u{202e}rtl",
];

fn outputs(prefix: &str) -> serde_json::Value {
    json!({ "outputDirectories": [{ "id": "OUT", "pathPrefix": prefix }] })
}

#[tokio::test]
async fn odd_names_are_listed_and_their_files_read() {
    let site = site().await;
    site.cluster("c", 1).await;
    let names = serde_json::to_string(&NAMES).expect("written");
    let script = format!(
        "cat > names <<'EOT'\n{names}\nEOT\npython3 -c 'import json, os\nfor n in json.load(open(\"names\")):\n  open(os.environ[\"AZ_BATCHAI_OUTPUT_OUT\"] + \"/\" + n, \"w\").write(\"in \" + n)'"
    );
    for (name, prefix) in [("shared", SHARE), ("kept", KEPT)] {
        let job = site.run(name, "c", &script, outputs(prefix)).await;
        assert_eq!(job["executionState"], "succeeded", "{}", site.read(name, "stdouterr", "stderr.txt").await);
        let mut wanted = NAMES.to_vec();
        wanted.sort_unstable();
        assert_eq!(site.names(name, "OUT").await, wanted, "{name}");
        for file in NAMES {
            assert_eq!(site.read(name, "OUT", file).await, format!("in {file}"), "{name}: {file:?}");
        }
    }
}

/// All names of a directory, page by page.
async fn all_names(site: &Site, job: &str) -> Vec<String> {
    let mut path = format!("{}/listOutputFiles?outputdirectoryid=OUT&directory=.&maxresults=1000", site.job_path(job));
    let mut found = Vec::new();
    loop {
        let page = site.api.post(&path).await.expect(200);
        let entries = page.body["value"].as_array().expect("a list");
        assert!(entries.len() <= 1_000);
        found.extend(entries.iter().map(|entry| entry["name"].as_str().expect("named").to_owned()));
        let Some(next) = page.body["nextLink"].as_str() else { return found };
        path = next.to_owned();
    }
}

#[tokio::test]
async fn thousands_of_files_are_listed_page_by_page() {
    let site = site().await;
    site.cluster("c", 1).await;
    for (name, prefix) in [("shared", SHARE), ("kept", KEPT)] {
        let command = "cd $AZ_BATCHAI_OUTPUT_OUT; for i in $(seq -w 3500); do echo $i > f$i; done";
        let job = site.run(name, "c", command, outputs(prefix)).await;
        assert_eq!(job["executionState"], "succeeded", "{job}");
        let wanted: Vec<String> = (1..=3_500).map(|i| format!("f{i:04}")).collect();
        assert_eq!(all_names(&site, name).await, wanted, "{name}");
        assert_eq!(site.read(name, "OUT", "f0999").await, "0999\n");
    }
}

#[tokio::test]
async fn links_out_of_the_output_directory_are_not_followed() {
    let site = site().await;
    site.cluster("c", 1).await;
    for (name, prefix) in [("shared", SHARE), ("kept", KEPT)] {
        let told = format!("swap-{}-{name}", site.group);
        let command = format!(
            "set -e; cd $AZ_BATCHAI_OUTPUT_OUT; echo mine > file; mkdir inside; echo deep > inside/deep
             ln -s /etc/passwd passwd; ln -s /etc etc; ln -s ../../../../../../../.. up; ln -s file beside; mkfifo pipe; ln -s /dev/zero zero
             echo ready; until [ -e $AZ_BATCHAI_MOUNT_ROOT/shared/{told} ]; do sleep 0.02; done
             rm file; ln -s /etc/passwd file; rm -r inside; ln -s /etc inside; echo swapped"
        );
        site.submit(name, "c", &command, outputs(prefix)).await;
        until("it is ready", || site.find_link(name, "OUT", "inside/deep"), Option::is_some).await;
        let file = site.link(name, "OUT", "file").await;
        let deep = site.link(name, "OUT", "inside/deep").await;
        assert_eq!(site.names(name, "OUT").await, ["file", "inside"], "{name}: links and pipes are not there");
        for directory in ["etc", "up", "passwd"] {
            assert!(site.list(name, "OUT", directory).await.is_empty(), "{name}: {directory}");
        }
        std::fs::write(Server::shared().share().join(&told), "").expect("writes to the share");
        let job = site.ended(name).await;
        assert_eq!(job["executionState"], "succeeded", "{}", site.read(name, "stdouterr", "stderr.txt").await);
        for link in [file, deep] {
            let answer = site.download(&link, None).await;
            // What the server keeps is what was there; what it reads on a share is not there any more.
            let kept = name == "kept" && answer.status == 200 && matches!(answer.text().as_str(), "mine\n" | "deep\n");
            assert!(kept || answer.status == 404, "{name}: {} {}", answer.status, answer.text());
        }
        let job = site.api.get(&site.job_path(name)).await;
        assert!(!job.text.contains("root:"), "{}", job.text);
    }
}
