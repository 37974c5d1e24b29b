//! Spans of what a server did, told to a collector that speaks OTLP.
//!
//! In: requests that were answered, and what rows tell of attempts of jobs. Out: spans, many in one post, by a thread of their own. What a
//! collector does not take is dropped: nothing waits for it. A job's row keeps the span that made it; spans of an attempt are made of its
//! rows, and their ids of its id, so that it does not matter which server tells of it, or how often. Refuses to know HTTP's front door and
//! SQL. Without a collector a [`Tracer`] is nothing, and costs a look at that.
//!
//! Attributes hold numbers, ids that this server made, and words of its own; nothing that a user wrote.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceState};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample, SpanData, SpanEvents, SpanLinks,
    SpanProcessor,
};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio_util::context::TokioContext;
use tokio_util::sync::CancellationToken;

use crate::clock::moment;
use crate::domain::attempt::End;
use crate::domain::trace::Part;
use crate::id::AttemptUid;

/// Longest time of one post to a collector.
const DEADLINE: Duration = Duration::from_secs(5);

/// Time that the last spans have when a server stops.
const LAST: Duration = Duration::from_secs(1);

/// The header, and the field of rows, that carries a span from one process to another.
pub const TRACEPARENT: &str = "traceparent";

/// Where spans go.
#[derive(Clone, Debug)]
pub struct Collector {
    /// The whole address that spans are posted to, `/v1/traces` by custom.
    pub endpoint: String,
    /// The certificate authority to believe, a PEM file; `None` for those that the system knows.
    pub authority: Option<PathBuf>,
    /// Of traces that begin here, how many are told. Unit: percent.
    pub percent: u32,
}

/// Why a collector cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file of authorities cannot be read.
    #[error("traces.authority: {} cannot be read", path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No client can be made with it.
    #[error("traces.authority: no client of a collector can be made with it")]
    Client(#[from] reqwest::Error),
    /// The address is none.
    #[error("traces.endpoint: spans cannot be posted there")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Tells spans, or nothing where there is no collector.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    processor: BatchSpanProcessor,
    sampler: Sampler,
    scope: InstrumentationScope,
    stop: CancellationToken,
}

/// A request that is told once it is answered.
#[derive(Debug)]
pub struct Asking {
    inner: Arc<Inner>,
    parent: SpanContext,
    own: SpanContext,
    began: SystemTime,
}

impl Tracer {
    /// Tells spans to `collector` from now on. Blocks for the file of authorities.
    ///
    /// # Errors
    /// [`TraceError`] where the settings cannot be used. Whether the collector is there is not looked at.
    pub fn new(collector: &Collector, runtime: Handle) -> Result<Tracer, TraceError> {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(DEADLINE).no_proxy();
        let builder = match &collector.authority {
            None => builder,
            Some(path) => {
                let pem = std::fs::read(path).map_err(|source| TraceError::Authority { path: path.clone(), source })?;
                builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?)
            }
        };
        let stop = CancellationToken::new();
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Post { http: builder.build()?, runtime, stop: stop.clone() })
            .with_endpoint(&collector.endpoint)
            .with_timeout(DEADLINE)
            .build()?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let about = [("service.name", env!("CARGO_PKG_NAME")), ("service.version", env!("CARGO_PKG_VERSION"))];
        let about = about.map(|(name, value)| KeyValue::new(name, value));
        processor.set_resource(&Resource::builder_empty().with_attributes(about).build());
        Ok(Tracer(Some(Arc::new(Inner {
            processor,
            sampler: Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(f64::from(collector.percent) / 100.0))),
            scope: InstrumentationScope::builder(env!("CARGO_PKG_NAME")).with_version(env!("CARGO_PKG_VERSION")).build(),
            stop,
        }))))
    }

    /// Whether anything is told at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A request came, with what its caller said of a trace. `None` where it is not told.
    pub fn ask(&self, traceparent: Option<&str>) -> Option<Asking> {
        let inner = self.0.as_ref()?;
        let parent = traceparent.map_or(SpanContext::NONE, read);
        let ids = RandomIdGenerator::default();
        let trace = if parent.is_valid() { parent.trace_id() } else { ids.new_trace_id() };
        // A parent that is none would count as one that is not sampled.
        let above = parent.is_valid().then(|| Context::new().with_remote_span_context(parent.clone()));
        let sampled = inner.sampler.should_sample(above.as_ref(), trace, "", &SpanKind::Server, &[], &[]);
        if sampled.decision != SamplingDecision::RecordAndSample {
            return None;
        }
        let own = SpanContext::new(trace, ids.new_span_id(), TraceFlags::SAMPLED, false, TraceState::NONE);
        Some(Asking { inner: Arc::clone(inner), parent, own, began: moment() })
    }

    /// The attempt of `part` was placed, by a pass that began and was written at these times.
    pub fn placed(&self, part: &Part, pass: (SystemTime, SystemTime)) {
        let (Some(inner), Some(above)) = (&self.0, above(part)) else { return };
        let own = within(&above, attempt_span(part));
        inner.tell("reconcile place", SpanKind::Internal, (&above, &own), pass, about(part), Status::Unset);
    }

    /// The attempt of `part` ended: what the agent of its node did for it, and what its processes did.
    pub fn ended(&self, part: &Part) {
        let (Some(inner), Some(above)) = (&self.0, above(part)) else { return };
        let placed = within(&above, attempt_span(part));
        let start = within(&above, part_span("start", part));
        let ended = part.ended_at.or(part.started_at).unwrap_or(part.placed_at);
        let (word, code) = part.end.as_ref().map_or(("unknown", None), word);
        let status = if code == Some(0) { Status::Ok } else { Status::error(word) };
        let mut attributes = about(part);
        attributes.push(KeyValue::new("batchyard.rank", i64::from(part.rank)));
        let mut last = attributes.clone();
        last.push(KeyValue::new("batchyard.end", word));
        last.extend(code.map(|code| KeyValue::new("process.exit.code", i64::from(code))));
        let Some(started) = part.started_at else {
            let span = (part.placed_at.into(), ended.into());
            return inner.tell("agent start", SpanKind::Internal, (&placed, &start), span, last, status);
        };
        let span = (part.placed_at.into(), started.into());
        inner.tell("agent start", SpanKind::Internal, (&placed, &start), span, attributes, Status::Ok);
        let process = within(&above, part_span("process", part));
        inner.tell("process", SpanKind::Internal, (&start, &process), (started.into(), ended.into()), last, status);
    }

    /// Tells what is left, for a moment, and nothing more. Blocks.
    pub fn stop(&self) {
        let Some(inner) = &self.0 else { return };
        if let Err(error) = inner.processor.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
        inner.stop.cancel();
    }
}

impl Asking {
    /// This request's span, for what it leads to.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.own.trace_id(), self.own.span_id())
    }

    /// It was answered.
    pub fn answered(self, method: &str, operation: &'static str, status: u16) {
        let name = if operation.is_empty() { "request" } else { operation };
        // Methods that are none are callers' words.
        let known = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"].into_iter().find(|known| *known == method);
        let attributes = vec![
            KeyValue::new("http.request.method", known.unwrap_or("_OTHER")),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        let result = if status >= 500 { Status::error("") } else { Status::Unset };
        let between = (&self.parent, &self.own);
        self.inner.tell(name, SpanKind::Server, between, (self.began, moment()), attributes, result);
    }
}

impl Inner {
    fn tell(
        &self,
        name: &'static str,
        span_kind: SpanKind,
        (parent, own): (&SpanContext, &SpanContext),
        (start_time, end_time): (SystemTime, SystemTime),
        attributes: Vec<KeyValue>,
        status: Status,
    ) {
        self.processor.on_end(SpanData {
            span_context: own.clone(),
            parent_span_id: parent.span_id(),
            parent_span_is_remote: parent.is_remote(),
            span_kind,
            name: name.into(),
            start_time,
            // Clocks of nodes may be behind.
            end_time: end_time.max(start_time),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        });
    }
}

/// The span that a header or a row names; an invalid one where it names none.
fn read(traceparent: &str) -> SpanContext {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    context.span().span_context().clone()
}

/// The request that made the job.
fn above(part: &Part) -> Option<SpanContext> {
    Some(read(&part.trace)).filter(SpanContext::is_valid)
}

fn within(above: &SpanContext, span: SpanId) -> SpanContext {
    SpanContext::new(above.trace_id(), span, TraceFlags::SAMPLED, false, TraceState::NONE)
}

fn attempt_span(part: &Part) -> SpanId {
    derive("place", part.attempt, 0)
}

fn part_span(what: &str, part: &Part) -> SpanId {
    derive(what, part.attempt, part.rank)
}

/// The same id for the same thing, whichever server tells of it.
fn derive(what: &str, attempt: AttemptUid, rank: i32) -> SpanId {
    let hash = Sha256::new().chain_update(what).chain_update(attempt.0).chain_update(rank.to_be_bytes()).finalize();
    let mut id = [0; 8];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    SpanId::from_bytes(id)
}

fn about(part: &Part) -> Vec<KeyValue> {
    vec![
        KeyValue::new("batchyard.job", part.job.0.to_string()),
        KeyValue::new("batchyard.attempt", part.attempt.0.to_string()),
        KeyValue::new("batchyard.attempt_number", i64::from(part.number)),
    ]
}

/// The sort of an end, and its exit code. Its texts may be a user's, and are left out.
fn word(end: &End) -> (&'static str, Option<i32>) {
    match end {
        End::Exited { code } => ("exited", Some(*code)),
        End::PreparationFailed { code } => ("preparation_failed", Some(*code)),
        End::OutOf { code, .. } => ("out_of_resources", Some(*code)),
        End::Stopped => ("stopped", None),
        End::SetupFailed { .. } => ("setup_failed", None),
        End::Lost { .. } => ("lost", None),
    }
}

/// Posts by this server's own HTTP client. The thread that posts is none of the runtime's, which the client's sockets and timers are of.
#[derive(Debug)]
struct Post {
    http: reqwest::Client,
    runtime: Handle,
    stop: CancellationToken,
}

#[async_trait::async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let post = async {
            let answer = self.http.execute(request.try_into()?).await?;
            let head = Response::builder().status(answer.status());
            Ok::<_, HttpError>(head.body(answer.bytes().await?)?)
        };
        let post = TokioContext::new(post, self.runtime.clone());
        self.stop.run_until_cancelled(post).await.unwrap_or_else(|| Err("the server stops".into()))
    }
}
