//! Spans, as a collector gets them: one trace from the request that makes a job to the end of its process.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use batchyard::trace::{Collector, Tracer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Given;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use serde_json::json;

use crate::harness::{Server, Settings, Site, until};

/// Far more than a stop waits for spans, on a busy machine too; less than their queue would take at a collector that hangs.
const SOON: Duration = Duration::from_secs(10);

/// A collector on loopback.
#[derive(Clone, Debug, Default)]
struct Receiver(Arc<Mutex<Received>>);

#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    texts: String,
    keys: Vec<String>,
}

impl Receiver {
    async fn start() -> (Receiver, String) {
        let receiver = Receiver::default();
        let router = Router::new().fallback(take).with_state(receiver.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        (receiver, endpoint(address))
    }

    /// The spans of a trace so far.
    fn spans(&self, trace: &str) -> Vec<Span> {
        let received = self.0.lock().expect("whole");
        received.spans.iter().filter(|span| hex(&span.trace_id) == trace).cloned().collect()
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) {
    let message = ExportTraceServiceRequest::decode(body).expect("the published protobuf");
    let mut received = receiver.0.lock().expect("whole");
    received.texts += &format!("{message:?}");
    received.keys.extend(headers.get("authorization").map(|value| value.to_str().expect("text").to_owned()));
    let spans = message.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans);
    received.spans.extend(spans);
}

fn endpoint(address: SocketAddr) -> String {
    format!("http://{address}/v1/traces")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    match (found.next(), found.next()) {
        (Some(span), None) => span,
        _ => panic!("not one span '{name}' among {spans:#?}"),
    }
}

fn code(span: &Span) -> StatusCode {
    span.status.as_ref().map_or(StatusCode::Unset, |status| status.code())
}

fn number(span: &Span, key: &str) -> Option<i64> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Given::IntValue(number) => Some(*number),
        _ => None,
    }
}

/// Puts a job as a client does that is traced itself.
async fn put(server: &Server, site: &Site, name: &str, command: &str, traceparent: &str) {
    let mut body = site.job_body("c", command);
    body["properties"]["secrets"] = json!([{ "name": "WORD", "value": "quiet-canary" }]);
    let url = format!("{}{}/{}?api-version=2018-05-01", site.api.base(), site.api.scope(), site.job_path(name));
    let request = reqwest::Client::new().put(url).bearer_auth(server.value("BATCHYARD_TOKEN"));
    let answer = request.header("traceparent", traceparent).json(&body).send().await.expect("answered");
    assert_eq!(answer.status(), 202);
}

#[tokio::test]
async fn one_trace_leads_from_the_request_to_the_end_of_the_process() {
    let (receiver, endpoint) = Receiver::start().await;
    let server = Server::start(Settings {
        config: format!("[traces]\nendpoint = {endpoint:?}\n"),
        environment: vec![("OTEL_EXPORTER_OTLP_HEADERS".into(), "authorization=Bearer%20opener".into())],
        ..Settings::default()
    });
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    let trace = |digit: &str| digit.repeat(32);
    let caller = "00f067aa0ba902b7";
    put(&server, &site, "unsampled", "true", &format!("00-{}-{caller}-00", trace("a"))).await;
    site.ended("unsampled").await;
    put(&server, &site, "fails", "exit 3", &format!("00-{}-{caller}-01", trace("b"))).await;
    site.ended("fails").await;
    put(&server, &site, "well", "echo loud-canary", &format!("00-{}-{caller}-01", trace("c"))).await;
    site.ended("well").await;

    let all = || async { [trace("b"), trace("c")].map(|trace| receiver.spans(&trace)) };
    let has = |spans: &Vec<Span>, name: &str| spans.iter().any(|span| span.name == name);
    let names = ["Jobs_Create", "reconcile place", "agent start", "process"];
    let is_whole = |traces: &[Vec<Span>; 2]| traces.iter().all(|spans| names.iter().all(|name| has(spans, name)));
    let [fails, well] = until("both traces are whole", all, is_whole).await;
    for spans in [&fails, &well] {
        let [request, place, start, process] = names.map(|name| named(spans, name));
        assert_eq!(hex(&request.parent_span_id), caller);
        for (above, below) in [(request, place), (place, start), (start, process)] {
            assert_eq!(hex(&above.span_id), hex(&below.parent_span_id), "{} is in {}", below.name, above.name);
        }
        assert!(start.end_time_unix_nano == process.start_time_unix_nano, "the process begins where its start ends");
        assert!(spans.iter().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano));
        assert_eq!(number(request, "http.response.status_code"), Some(202));
        assert_eq!(code(start), StatusCode::Ok);
    }
    let end = |spans: &[Span]| (number(named(spans, "process"), "process.exit.code"), code(named(spans, "process")));
    assert_eq!(end(&well), (Some(0), StatusCode::Ok));
    assert_eq!(end(&fails), (Some(3), StatusCode::Error));
    assert!(receiver.spans(&trace("a")).is_empty(), "what its caller does not sample is not told");

    let received = receiver.0.lock().expect("whole");
    assert!(received.spans.iter().any(|span| span.name == "Clusters_Create" && span.parent_span_id.is_empty()));
    assert!(received.keys.iter().all(|key| key == "Bearer opener") && !received.keys.is_empty(), "the collector is signed in to");
    for word in ["canary", "WORD", "well", site.group.as_str(), server.value("BATCHYARD_TOKEN")] {
        assert!(!received.texts.contains(word), "'{word}' is told");
    }
}

#[tokio::test]
async fn a_collector_that_hangs_or_is_gone_holds_up_nothing() {
    // One takes connections and never answers; the other takes none.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    batchyard::tls::install_provider();
    for address in [hanging.local_addr().expect("bound"), gone] {
        let collector = Collector { endpoint: endpoint(address), authority: None, percent: 100 };
        let tracer = Tracer::new(&collector, tokio::runtime::Handle::current()).expect("made");
        let began = Instant::now();
        let told = tokio::task::spawn_blocking(move || {
            // Several times what the queue holds.
            for _ in 0..20_000 {
                tracer.ask(None).expect("told").answered("GET", "Jobs_Get", 200);
            }
            tracer.stop();
        });
        told.await.expect("no panic");
        assert!(began.elapsed() < SOON, "spans were waited for: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn jobs_run_and_servers_stop_without_their_collector() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let config = format!("[traces]\nendpoint = {:?}\n", endpoint(hanging.local_addr().expect("bound")));
    let mut server = Server::start(Settings { config, ..Settings::default() });
    let site = Site::new(server.api()).await;
    site.cluster("c", 1).await;
    assert_eq!(site.run("j", "c", "true", json!({})).await["executionState"], "succeeded");
    let _ = server.terminate();
    assert!(!server.log().contains("panicked"), "{}", server.tail());
}

#[test]
fn traces_are_told_in_the_share_that_is_asked_for() {
    batchyard::tls::install_provider();
    let runtime = tokio::runtime::Runtime::new().expect("made");
    let tracer = |percent| {
        let collector = Collector { endpoint: "http://127.0.0.1:9/v1/traces".into(), authority: None, percent };
        Tracer::new(&collector, runtime.handle().clone()).expect("made")
    };
    let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let none = tracer(0);
    assert!(none.ask(None).is_none());
    assert!(none.ask(Some(sampled)).is_some(), "a caller's trace goes on");
    let all = tracer(100);
    for odd in ["", "00-0-0-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "é"] {
        let own = all.ask(Some(odd)).expect("a trace of its own").traceparent();
        assert!(own.starts_with("00-") && own.len() == sampled.len(), "{own}");
    }
    assert!(Tracer::default().ask(Some(sampled)).is_none());
    for tracer in [none, all] {
        tracer.stop();
    }
}
