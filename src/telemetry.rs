//! What a server counts of itself, for Prometheus.
//!
//! In: calls from where something happens, which cost an atomic addition. Out: one text, when it is asked for. All names are here, with
//! what they mean; labels take their values from lists of this program, never from callers, so that their number is bounded. Refuses to
//! know rows, HTTP and drivers: what is counted in rows is handed in as a [`Census`] each time.
//!
//! Until [`Telemetry::of_process`] was called nothing is counted: the simulation and the client never do.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::clock::Timestamp;
use crate::domain::census::Census;

/// Time after which what was observed is put into its buckets. It waits in memory before.
const UPKEEP: Duration = Duration::from_secs(5);

/// Bounds of the buckets of times. Unit: seconds. From a get by its index to a call of a driver that hangs.
const TIMES: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0];

const REQUESTS: &str = "batchyard_http_requests_total";
const REQUEST_SECONDS: &str = "batchyard_http_request_duration_seconds";
const AGENT_REQUESTS: &str = "batchyard_agent_requests_total";
const AGENTS: &str = "batchyard_agents_connected";
const LEADER: &str = "batchyard_reconcile_leader";
const PASSES: &str = "batchyard_reconcile_passes_total";
const PASS_SECONDS: &str = "batchyard_reconcile_pass_duration_seconds";
const LAST_PASS: &str = "batchyard_reconcile_last_pass_timestamp_seconds";
const WAITING: &str = "batchyard_waiting";
const DRIVER_CALLS: &str = "batchyard_driver_calls_total";
const DRIVER_SECONDS: &str = "batchyard_driver_call_duration_seconds";
const JOBS: &str = "batchyard_jobs";
const NODES: &str = "batchyard_nodes";
const OPERATIONS: &str = "batchyard_operations_running";
const OLDEST_OPERATION: &str = "batchyard_operation_oldest_seconds";
const CONNECTIONS: &str = "batchyard_database_connections";
const CONNECTION_LIMIT: &str = "batchyard_database_connections_limit";
const BUILD: &str = "batchyard_build_info";

/// The counts of this process, once it counts.
static COUNTS: Mutex<Option<Telemetry>> = Mutex::new(None);

/// What a process counted.
#[derive(Clone)]
pub struct Telemetry(PrometheusHandle);

impl Telemetry {
    /// The counts of this process, which counts from the first call on.
    ///
    /// # Errors
    /// Something else counts in this process.
    pub fn of_process() -> Result<Telemetry, BuildError> {
        let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(telemetry) = &*counts {
            return Ok(telemetry.clone());
        }
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), &TIMES)?
            .install_recorder()?;
        describe();
        gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1);
        leads(false);
        Ok(counts.insert(Telemetry(handle)).clone())
    }

    /// All counts, in Prometheus's text format.
    pub fn render(&self, census: &Census) -> String {
        for (phase, count) in &census.jobs {
            gauge!(JOBS, "state" => *phase).set(*count as f64);
        }
        for (state, count) in &census.nodes {
            gauge!(NODES, "state" => *state).set(*count as f64);
        }
        gauge!(OPERATIONS).set(census.operations as f64);
        gauge!(OLDEST_OPERATION).set(census.oldest_operation_s);
        gauge!(CONNECTIONS, "state" => "used").set(census.connections.used);
        gauge!(CONNECTIONS, "state" => "idle").set(census.connections.idle);
        gauge!(CONNECTION_LIMIT).set(census.connections.limit);
        self.0.render()
    }

    /// Keeps memory from growing while nobody asks.
    pub async fn keep(self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.0.run_upkeep();
        }
    }
}

fn describe() {
    describe_counter!(REQUESTS, "Requests answered, by operation and status; those of agents apart.");
    describe_histogram!(REQUEST_SECONDS, "Time from a request's head to its answer's; of a long poll that includes the wait.");
    describe_counter!(AGENT_REQUESTS, "Requests of agents answered, by kind and status.");
    describe_gauge!(AGENTS, "Requests of agents that are held until something changes: one for each agent that is well.");
    describe_gauge!(LEADER, "1 while this server reconciles; of all servers on a database one does.");
    describe_counter!(PASSES, "Passes of the reconciler, by what came of them.");
    describe_histogram!(PASS_SECONDS, "Time of a pass: reading, deciding, writing.");
    describe_gauge!(LAST_PASS, "When this server last ended a pass. Unix time.");
    describe_gauge!(
        WAITING,
        "Causes of waiting that the last pass of the server that leads saw: for nodes one for each cluster whose queue waits."
    );
    describe_counter!(DRIVER_CALLS, "Calls of the driver, by call and result.");
    describe_histogram!(DRIVER_SECONDS, "Time of a call of the driver.");
    describe_gauge!(JOBS, "Jobs that have not ended, by state.");
    describe_gauge!(NODES, "Machines, by state: of clusters and file servers, of all subscriptions.");
    describe_gauge!(OPERATIONS, "Long-running operations that have not ended.");
    describe_gauge!(OLDEST_OPERATION, "Age of the oldest operation that has not ended.");
    describe_gauge!(CONNECTIONS, "Connections of this server to its database, by state.");
    describe_gauge!(CONNECTION_LIMIT, "Most connections of this server to its database.");
    describe_gauge!(BUILD, "The version of this server, as a label.");
}

/// A request was answered.
pub fn answered(operation: &'static str, status: u16, took: Duration) {
    // Before a route was found there is no operation.
    let operation = if operation.is_empty() { "None" } else { operation };
    counter!(REQUESTS, "operation" => operation, "code" => status.to_string()).increment(1);
    histogram!(REQUEST_SECONDS, "operation" => operation).record(took);
}

/// A request of an agent was answered.
pub fn answered_agent(kind: &'static str, status: u16) {
    counter!(AGENT_REQUESTS, "kind" => kind, "code" => status.to_string()).increment(1);
}

/// Counts a request of an agent that is held, until it is dropped.
#[derive(Debug)]
pub struct HeldAgent(());

impl HeldAgent {
    /// From now on.
    pub fn begin() -> HeldAgent {
        gauge!(AGENTS).increment(1);
        HeldAgent(())
    }
}

impl Drop for HeldAgent {
    fn drop(&mut self) {
        gauge!(AGENTS).decrement(1);
    }
}

/// Whether this server reconciles from now on.
pub fn leads(is_leader: bool) {
    gauge!(LEADER).set(if is_leader { 1 } else { 0 });
}

/// A pass ended at `at`.
pub fn passed(result: &'static str, took: Duration, at: Timestamp) {
    counter!(PASSES, "result" => result).increment(1);
    histogram!(PASS_SECONDS).record(took);
    gauge!(LAST_PASS).set(at.unix_timestamp() as f64);
}

/// How many things wait for this cause now.
pub fn waiting(cause: &'static str, count: usize) {
    gauge!(WAITING, "cause" => cause).set(count as f64);
}

/// A call of the driver that is under way. One that is dropped before its [`end`](DriverCall::end) was cut off.
#[derive(Debug)]
pub struct DriverCall {
    call: &'static str,
    began: Instant,
    result: &'static str,
}

impl DriverCall {
    /// From now on.
    pub fn begin(call: &'static str) -> DriverCall {
        DriverCall { call, began: Instant::now(), result: "cut_off" }
    }

    /// It answered.
    pub fn end(mut self, result: &'static str) {
        self.result = result;
    }
}

impl Drop for DriverCall {
    fn drop(&mut self) {
        counter!(DRIVER_CALLS, "call" => self.call, "result" => self.result).increment(1);
        histogram!(DRIVER_SECONDS, "call" => self.call).record(self.began.elapsed());
    }
}
