//! What operators watch an installation with: counts, alert rules and a dashboard, loaded by the Prometheus that they would use.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Server, Site, until, until_within};

const PROMETHEUS: &str = "/usr/bin/prometheus";
const PROMTOOL: &str = "/usr/bin/promtool";

/// Time for Prometheus to start and to scrape twice.
const SCRAPED: Duration = Duration::from_secs(30);

/// Whether there is a Prometheus here. Where there is none and it is not demanded, says so.
fn able() -> bool {
    let there = Path::new(PROMETHEUS).exists() && Path::new(PROMTOOL).exists();
    let demanded = std::env::var("BATCHYARD_TEST_PRIVILEGE").is_ok_and(|value| value == "required");
    assert!(there || !demanded, "{PROMETHEUS} and {PROMTOOL} are demanded here");
    if !there {
        eprintln!("skipped: needs {PROMETHEUS} and {PROMTOOL}");
    }
    there
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The number of a series in the text that a server answers.
fn number(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().expect("a number")
}

#[tokio::test]
async fn what_happens_is_counted() {
    let server = Server::up();
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    site.run("j", "c", "true", json!({})).await;
    let scrape = || async { server.api().get("/metrics").await.expect(200).text };
    // A pass, and a report of an agent, may come later than what a client sees.
    let is_quiet = |text: &String| {
        ["batchyard_nodes{state=\"idle\"}", "batchyard_agents_connected"].iter().all(|series| number(text, series) == 1.0)
    };
    let text = until("the node is idle, and its agent waits", scrape, is_quiet).await;
    assert_eq!(number(&text, "batchyard_reconcile_leader"), 1.0);
    assert_eq!(number(&text, "batchyard_jobs{state=\"queued\"}"), 0.0);
    assert_eq!(number(&text, "batchyard_operations_running"), 0.0);
    for series in [
        "batchyard_http_requests_total{operation=\"Jobs_Create\",code=\"202\"}",
        "batchyard_http_request_duration_seconds_count{operation=\"Jobs_Create\"}",
        "batchyard_agent_requests_total{kind=\"join\",code=\"200\"}",
    ] {
        assert_eq!(number(&text, series), 1.0, "{series}");
    }
    for series in [
        "batchyard_reconcile_passes_total{result=\"done\"}",
        "batchyard_driver_calls_total{call=\"ensure\",result=\"ok\"}",
        "batchyard_driver_calls_total{call=\"list\",result=\"ok\"}",
    ] {
        assert!(number(&text, series) >= 1.0, "{series}");
    }
    // More jobs than nodes: which wait, and for what.
    for name in ["long", "next", "last"] {
        site.submit(name, "c", "sleep 60", json!({})).await;
    }
    until("a queue waits", scrape, |text| number(text, "batchyard_waiting{cause=\"nodes\"}") == 1.0).await;
    // The first is placed by then, and runs when its node has started it.
    let states = |text: &str| {
        ["queued", "running", "terminating"].map(|state| number(text, &format!("batchyard_jobs{{state=\"{state}\"}}")))
    };
    let text = until("one runs, two are queued", scrape, |text| states(text) == [2.0, 1.0, 0.0]).await;
    assert!(!text.contains(&site.group_path()), "no name of anybody's");
    site.delete().await;
    until("nothing waits", scrape, |text| number(text, "batchyard_waiting{cause=\"nodes\"}") == 0.0).await;
}

#[test]
fn alerts_come_when_they_should_and_only_then() {
    if !able() {
        return;
    }
    for arguments in [["check", "rules", "docs/operations/alerts.yml"], ["test", "rules", "tests/suite/metrics/alerts.yml"]] {
        let output = Command::new(PROMTOOL).args(arguments).current_dir(root()).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}");
    }
}

/// A Prometheus that scrapes one server as the page for operators says, with the rules in this repository.
struct Prometheus {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    fn start(server: &Server) -> Prometheus {
        let folder = tempfile::tempdir().expect("a folder");
        let listen = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let address = server.value("BATCHYARD_TLS_ENDPOINT").trim_start_matches("https://");
        std::fs::write(folder.path().join("secret"), server.value("BATCHYARD_CLIENT_SECRET")).expect("written");
        let page = std::fs::read_to_string(root().join("docs/operations.md")).expect("read");
        let settings = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("settings");
        let settings = settings
            .replace("batchyard.example.org", address)
            .replace("/etc/prometheus/batchyard-ca.pem", server.value("BATCHYARD_CA"))
            .replace("/etc/prometheus/batchyard-secret", &folder.path().join("secret").display().to_string())
            .replace("/etc/prometheus/batchyard-alerts.yml", &root().join("docs/operations/alerts.yml").display().to_string())
            .replace("TENANT", server.value("BATCHYARD_TENANT"))
            .replace("CLIENT_ID", server.value("BATCHYARD_CLIENT_ID"))
            .replace("scrape_interval: 15s", "scrape_interval: 1s");
        std::fs::write(folder.path().join("prometheus.yml"), settings).expect("written");
        let log = std::fs::File::create(folder.path().join("log")).expect("made");
        let process = Command::new(PROMETHEUS)
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={listen}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starts");
        Prometheus { process, url: format!("http://{listen}"), _folder: folder }
    }

    /// What it answers; nothing while it starts.
    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let answer = reqwest::Client::new().get(format!("{}{path}", self.url)).query(query).send().await;
        match answer {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    /// The series that an expression has now.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let answer = self.get("/api/v1/query", &[("query", expression)]).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }
}

/// All expressions of the dashboard, as Grafana would ask.
fn expressions() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs/operations/dashboard.json")).expect("read");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    targets.map(|target| target["expr"].as_str().expect("an expression").replace("$__rate_interval", "1m")).collect()
}

#[tokio::test]
async fn the_rules_and_the_dashboard_work_as_the_page_for_operators_says() {
    if !able() {
        return;
    }
    let server = Server::up();
    let prometheus = Prometheus::start(&server);
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    site.submit("j", "c", "sleep 60", json!({})).await;
    site.submit("next", "c", "true", json!({})).await;
    until_within(
        SCRAPED,
        "it was scraped",
        || prometheus.get("/api/v1/query", &[("query", "batchyard_waiting{cause=\"nodes\"} > 0 and on (instance) up == 1")]),
        |answer| answer["data"]["result"].as_array().is_some_and(|series| !series.is_empty()),
    )
    .await;
    let expressions = expressions();
    assert!(expressions.len() > 10, "{expressions:?}");
    for expression in expressions {
        // A rate needs two scrapes.
        let look = || prometheus.query(&expression);
        if !expression.contains("5..") {
            until_within(SCRAPED, &expression, look, |series| !series.is_empty()).await;
        } else {
            assert!(look().await.is_empty(), "nothing failed");
        }
    }
    let rules = prometheus.get("/api/v1/rules", &[]).await;
    let rules = rules["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
    assert!(rules.len() > 8, "{rules:?}");
    for rule in rules {
        assert_eq!((&rule["lastError"], &rule["state"]), (&Value::Null, &json!("inactive")), "{rule}");
    }
    site.delete().await;
}
