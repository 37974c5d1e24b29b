//! Going along with a job until it ends: its states by held requests, its output while it is written.

use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use super::Reading;
use crate::cli::cluster::counts;
use crate::cli::output::{Answer, print_bytes};
use crate::cli::progress::Progress;
use crate::cli::session::Session;
use crate::cli::views::{self, at, span};
use crate::client::{Client, Exit, Failure, Held, Kind, OWN, Output, Patience, Place, Result};

/// Time between two looks at output, of which nothing tells when it grows.
const LOOK: Duration = Duration::from_millis(400);

/// Longest wait for the server's word about a termination that an interrupt asks for.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What an interrupt does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OnInterrupt {
    /// The job goes on.
    #[default]
    Detach,
    /// The job is terminated, as pipelines want it.
    Terminate,
}

/// Which job, and how far.
pub(super) struct Follow<'a> {
    /// The job.
    pub(super) place: &'a Place,
    /// Whether its output is printed.
    pub(super) logs: bool,
    /// Whether that is printed as it is.
    pub(super) raw: bool,
    /// Longest wait. Unit: seconds.
    pub(super) timeout: Option<u64>,
    /// `done` or a state that is enough.
    pub(super) until: &'a str,
    /// What an interrupt does.
    pub(super) on_interrupt: OnInterrupt,
}

/// Both outputs of a job, as they come.
struct Streams {
    out: Output,
    err: Output,
    filter: [Filter; 2],
}

impl Streams {
    fn new(place: &Place, raw: bool) -> Streams {
        let of = |file| Output::new(place.clone(), "stdouterr", file);
        Streams { out: of("stdout.txt"), err: of("stderr.txt"), filter: [Filter::new(raw), Filter::new(raw)] }
    }

    /// Another attempt may write other files.
    async fn find_again(&mut self, client: &Client) -> Result<bool> {
        let out = self.out.find(client).await?;
        let err = self.err.find(client).await?;
        Ok(out || err)
    }

    /// Prints what is new; answers whether there was anything.
    async fn print(&mut self, client: &Client, progress: &mut Progress) -> Result<bool> {
        let [out, err] = &mut self.filter;
        let mut first = true;
        let mut clear = || {
            if std::mem::take(&mut first) {
                progress.clear();
            }
        };
        let new = self.out.read(client, |bytes| {
            clear();
            print_bytes(&out.pass(bytes))
        });
        let new = new.await?;
        let more = self.err.read(client, |bytes| {
            use std::io::Write;
            clear();
            let _ = std::io::stderr().write_all(&err.pass(bytes));
            Ok(())
        });
        Ok(new + more.await? > 0)
    }
}

impl Follow<'_> {
    /// Goes along until the wished state or any end, and answers the job as our own version shows it.
    ///
    /// # Errors
    /// `Absent` where it is deleted; `Late`; `Interrupted`; as of the client.
    pub(super) async fn run(&self, session: &Session) -> Result<Value> {
        let mut interrupt = Interrupt::listen()?;
        tokio::select! {
            ended = self.go_along(session) => ended,
            () = interrupt.comes() => Err(self.interrupted(session).await),
        }
    }

    async fn go_along(&self, session: &Session) -> Result<Value> {
        let client = &session.client;
        let patience = Patience::of(self.timeout);
        let mut progress = Progress::new(session.terminal());
        let mut streams = self.logs.then(|| Streams::new(self.place, self.raw));
        let mut held = Held::new(self.place.path());
        let mut seen = Seen::default();
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let changed = {
                let mut changed = std::pin::pin!(client.changed(&mut held, patience));
                loop {
                    tokio::select! {
                        biased;
                        changed = &mut changed => break changed?,
                        _ = tick.tick() => {
                            progress.tick();
                            if let Some(streams) = streams.as_mut().filter(|_| seen.state == "running" || seen.state == "terminating") {
                                streams.print(client, &mut progress).await?;
                            }
                        }
                    }
                }
            };
            let Some(job) = changed else {
                let message = format!("the job {} was deleted", self.place.name());
                return Err(Failure::new(Exit::Absent, "JobNotFound", message));
            };
            let is_other_start = seen.takes(&job, self, session, &mut progress).await;
            if let Some(streams) = streams.as_mut() {
                // A state that came may mean that another attempt writes.
                if is_other_start && streams.find_again(client).await? {
                    progress.done("another attempt: its output begins anew");
                }
            }
            let state = views::state(&job, "executionState");
            let is_final = matches!(state.as_str(), "succeeded" | "failed");
            // A state that was passed through counts as reached.
            let is_reached = self.until == state || (self.until == "running" && state == "terminating") || self.until == "queued";
            if is_final || is_reached {
                if let Some(streams) = streams.as_mut().filter(|_| is_final) {
                    // All output is there before a job shows its end.
                    streams.find_again(client).await?;
                    while streams.print(client, &mut progress).await? {}
                }
                progress.clear();
                return Ok(job);
            }
        }
    }

    async fn interrupted(&self, session: &Session) -> Failure {
        let names = &self.place.names;
        let flags: Vec<String> =
            ["-g", "-w", "-e", "-j"].iter().zip(names).map(|(flag, name)| format!("{flag} {name}")).collect();
        let flags = flags.join(" ");
        let failure = Failure::new(Exit::Interrupted, "Interrupted", format!("the job {} goes on", self.place.name()))
            .or_try(format!("batchyard job logs -f {flags}"))
            .or_try(format!("batchyard job terminate {flags}"));
        if self.on_interrupt == OnInterrupt::Detach {
            return failure;
        }
        let path = format!("{}/terminate", self.place.path());
        match tokio::time::timeout(LAST_WORD, session.client.post(&path, OWN, None)).await {
            Ok(Ok(_)) => {
                Failure::new(Exit::Interrupted, "Interrupted", format!("the job {} is being terminated", self.place.name()))
            }
            _ => failure.or_try("the server did not take the termination"),
        }
    }
}

/// What was said of a job so far.
#[derive(Default)]
struct Seen {
    state: String,
    started: String,
    since: Option<Instant>,
}

impl Seen {
    /// Takes a new document, and says what is new. Answers whether it was started (again).
    async fn takes(&mut self, job: &Value, follow: &Follow<'_>, session: &Session, progress: &mut Progress) -> bool {
        let state = views::state(job, "executionState");
        let started = at(job, "/properties/executionInfo/startTime");
        let is_other_start = started != self.started;
        if state != self.state {
            let took = self.since.map(|since| span(i64::try_from(since.elapsed().as_secs()).unwrap_or(i64::MAX)));
            if let Some(took) = took.filter(|_| !self.state.is_empty() && !matches!(state.as_str(), "succeeded" | "failed")) {
                progress.done(&format!("{} {} {took}", session.terminal().sign(&self.state), self.state));
            }
            self.since = Some(Instant::now());
        }
        match state.as_str() {
            "queued" => {
                let why = missing(session, job).await;
                progress.now(&format!("{} queued{}", follow.place.name(), why.map(|why| format!(": {why}")).unwrap_or_default()));
            }
            "running" if state != self.state && follow.logs => progress.done(&format!(
                "{} running{}",
                session.terminal().sign("running"),
                if session.terminal().err { "            Ctrl-C stops watching, the job goes on" } else { "" }
            )),
            "running" | "terminating" => progress.now(&format!("{} {state}", follow.place.name())),
            _ => {}
        }
        self.state = state;
        self.started = started;
        is_other_start
    }
}

/// What a waiting job's cluster lacks.
async fn missing(session: &Session, job: &Value) -> Option<String> {
    let cluster = Place::parse(&at(job, "/properties/cluster/id"), Kind::Cluster)?;
    let cluster = session.client.get(&cluster.path(), OWN).await.ok()?.body;
    let needs = at(job, "/properties/nodeCount");
    Some(format!("needs {needs} nodes together; {} has {}", at(&cluster, "/name"), counts(&cluster)))
}

/// The last line about a job, and its exit code: 9 where it ended badly and has none.
pub(crate) fn outcome(name: &str, job: &Value) -> (String, u8) {
    let state = views::state(job, "executionState");
    let look = views::Look::now();
    let took = match views::duration(job, &look) {
        took if took.is_empty() => String::new(),
        took => format!(", {took}"),
    };
    let code = job.pointer("/properties/executionInfo/exitCode").and_then(Value::as_i64);
    if state == "succeeded" {
        return (format!("{name} succeeded exit 0{took}"), 0);
    }
    let errors = job.pointer("/properties/executionInfo/errors").and_then(Value::as_array);
    let error = errors.and_then(|errors| errors.first());
    let cause = error.map(|error| format!(": {}: {}", at(error, "/code"), at(error, "/message"))).unwrap_or_default();
    match code.filter(|code| *code != 0) {
        // An exit code is one byte: what a signal made of it is kept, and nothing bad looks like 0.
        Some(code) => (format!("{name} {state} exit {code}{took}{cause}"), u8::try_from(code & 0xff).unwrap_or(1).max(1)),
        None => (format!("{name} {state} without an exit code{took}{cause}"), Exit::JobEnded.code()),
    }
}

/// Ctrl-C, or a pipeline's wish to end.
struct Interrupt {
    int: tokio::signal::unix::Signal,
    term: tokio::signal::unix::Signal,
}

impl Interrupt {
    fn listen() -> Result<Interrupt> {
        let listen = |kind| signal(kind).map_err(|error| Failure::local("signals cannot be heard", error));
        Ok(Interrupt { int: listen(SignalKind::interrupt())?, term: listen(SignalKind::terminate())? })
    }

    async fn comes(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}

impl Reading {
    /// Prints what a job wrote, and writes.
    ///
    /// # Errors
    /// `Absent` where there is no such job or, where it has ended, file.
    pub(super) async fn print(&self, session: &Session, place: &Place) -> Result<Answer> {
        let client = &session.client;
        let mut filter = Filter::new(self.raw || !session.terminal().out);
        let mut output = Output::new(place.clone(), &self.directory, &self.file);
        if let Some(lines) = self.tail {
            // Lines are counted in the last part of the file: one that has longer lines than this shows fewer.
            output.skip_to_last(client, 4 << 20).await?;
            let mut tail = Vec::new();
            output
                .read(client, |bytes| {
                    tail.extend_from_slice(bytes);
                    Ok(())
                })
                .await?;
            print_bytes(&filter.pass(last_lines(&tail, lines)))?;
        }
        if !self.follow {
            let job = client.get(&place.path(), OWN).await?.body;
            let any = read_all(client, &mut output, &mut filter).await?;
            let is_over = matches!(views::state(&job, "executionState").as_str(), "succeeded" | "failed");
            if any == 0
                && output.read_so_far() == 0
                && is_over
                && client.find_file(place, &self.directory, &self.file).await?.is_none()
            {
                return Err(Failure::new(
                    Exit::Absent,
                    "FileNotFound",
                    format!("the job {} wrote no {}", place.name(), self.file),
                )
                .or_try(format!("batchyard job file list -j {}", place.name())));
            }
            return Ok(self.status(place, &job));
        }
        let mut interrupt = Interrupt::listen()?;
        let mut held = Held::new(place.path());
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let job = {
                let mut changed = std::pin::pin!(client.changed(&mut held, Patience::of(None)));
                loop {
                    tokio::select! {
                        biased;
                        () = interrupt.comes() => {
                            let failure = Failure::new(Exit::Interrupted, "Interrupted", format!("the job {} goes on", place.name()));
                            return Err(failure);
                        }
                        changed = &mut changed => break changed?,
                        _ = tick.tick() => { read_all(client, &mut output, &mut filter).await?; }
                    }
                }
            };
            let Some(job) = job else { return Ok(Answer::Nothing) };
            output.find(client).await?;
            if matches!(views::state(&job, "executionState").as_str(), "succeeded" | "failed") {
                while read_all(client, &mut output, &mut filter).await? > 0 {}
                return Ok(self.status(place, &job));
            }
        }
    }

    fn status(&self, place: &Place, job: &Value) -> Answer {
        let (_, code) = outcome(place.name(), job);
        if self.exit_status && matches!(views::state(job, "executionState").as_str(), "succeeded" | "failed") {
            return Answer::Exit(code);
        }
        Answer::Nothing
    }
}

async fn read_all(client: &Client, output: &mut Output, filter: &mut Filter) -> Result<u64> {
    output.read(client, |bytes| print_bytes(&filter.pass(bytes))).await
}

/// The last lines of a text.
fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    let end = if text.last() == Some(&b'\n') { text.len() - 1 } else { text.len() };
    let mut breaks = text.iter().take(end).enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    match lines.checked_sub(1) {
        None => &[],
        Some(skip) => breaks.nth(skip).and_then(|(at, _)| text.get(at + 1..)).unwrap_or(text),
    }
}

/// Makes bytes visible that would drive a terminal.
struct Filter {
    raw: bool,
    /// The first byte of a character whose second decides: controls beyond ASCII have two.
    held: bool,
}

impl Filter {
    fn new(raw: bool) -> Filter {
        Filter { raw, held: false }
    }

    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.raw {
            return bytes.to_vec();
        }
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if std::mem::take(&mut self.held) {
                match byte {
                    0x80..=0x9f => {
                        passed.extend_from_slice(format!("\\u{{{byte:x}}}").as_bytes());
                        continue;
                    }
                    _ => passed.push(0xc2),
                }
            }
            match byte {
                0xc2 => self.held = true,
                b'\n' | b'\t' | b'\r' => passed.push(*byte),
                0..=0x1f | 0x7f => passed.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
                byte => passed.push(*byte),
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(state: &str, code: Value, error: &str) -> Value {
        json!({"properties": {"executionState": state, "executionInfo": {
            "exitCode": code, "errors": [{"code": error, "message": "m"}],
            "startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-01T00:03:12Z"}}})
    }

    #[test]
    fn a_job_ends_with_its_own_exit_code() {
        assert_eq!(outcome("a", &job("Succeeded", json!(0), "")), ("a succeeded exit 0, 3 min 12 s".to_owned(), 0));
        assert_eq!(
            outcome("a", &job("Failed", json!(3), "JobFailed")),
            ("a failed exit 3, 3 min 12 s: JobFailed: m".to_owned(), 3)
        );
        assert_eq!(outcome("a", &job("failed", Value::Null, "JobTerminated")).1, 9);
        assert_eq!(outcome("a", &job("failed", json!(256), "JobFailed")).1, 1, "what failed never ends with 0");
        assert_eq!(outcome("a", &job("failed", json!(-9), "JobFailed")).1, 247);
    }

    #[test]
    fn what_drives_a_terminal_is_made_visible_also_across_pieces() {
        let mut filter = Filter::new(false);
        let mut all = filter.pass("a\u{1b}[2J\tä\r\n".as_bytes());
        all.extend(filter.pass(&[b'x', 0xc2]));
        all.extend(filter.pass(&[0x9b, b'y', 0xc2]));
        all.extend(filter.pass(&[0xa9]));
        assert_eq!(String::from_utf8_lossy(&all), "a\\x1b[2J\tä\r\nx\\u{9b}y©");
        assert_eq!(Filter::new(true).pass(&[0x1b, 0xc2]), [0x1b, 0xc2]);
    }

    #[test]
    fn the_last_lines_are_counted_from_the_end() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb\nc", 1), b"c");
        assert_eq!(last_lines(b"a\nb", 9), b"a\nb");
        assert_eq!(last_lines(b"a\nb\n", 0), b"");
    }
}
