//! Live views: a cluster and its nodes, a job and its nodes. Each is a text of its facts, drawn again when they change.

use std::time::Duration;

use console::Term;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::MissedTickBehavior;

use super::cluster::counts;
use super::node::logins;
use super::output::{Answer, print};
use super::session::Session;
use super::terminal::visible;
use super::views::{self, Look, at, size, span};
use crate::client::{BATCH_AI, Held, Kind, OWN, Patience, Place, Result};

/// How far back is looked for what a job uses: longer than a sample is late.
const LATELY: time::Duration = time::Duration::minutes(1);

/// Draws a text in place of the one before, within the window.
struct Screen {
    term: Term,
    lines: usize,
    last: String,
    is_terminal: bool,
}

impl Screen {
    fn new(session: &Session) -> Screen {
        Screen { term: Term::stdout(), lines: 0, last: String::new(), is_terminal: session.terminal().out }
    }

    fn draw(&mut self, text: &str) -> Result<()> {
        if text == self.last {
            return Ok(());
        }
        self.last = text.to_owned();
        if !self.is_terminal {
            return print(&format!("{text}\n"));
        }
        // A line that wraps would be counted wrongly, and one below the window cannot be taken away.
        let (rows, columns) = self.term.size();
        let (rows, columns) = (usize::from(rows).max(2), usize::from(columns).max(20));
        let mut lines: Vec<String> =
            text.lines().map(|line| console::truncate_str(line, columns - 1, "…").into_owned()).collect();
        if lines.len() >= rows {
            let hidden = lines.len() - rows + 2;
            lines.truncate(rows - 2);
            lines.push(format!("… {hidden} more lines"));
        }
        let _ = self.term.clear_last_lines(self.lines);
        self.lines = lines.len();
        print(&(lines.join("\n") + "\n"))
    }
}

/// Shows `text` of what `place` is, when that changes and every `interval` seconds, until it is gone or `is_over`.
async fn live<F: Future<Output = Result<String>>>(
    session: &Session,
    place: &Place,
    once: bool,
    interval: u64,
    text: impl Fn(Value) -> F,
    is_over: impl Fn(&Value) -> bool,
) -> Result<Answer> {
    let mut screen = Screen::new(session);
    let mut held = Held::new(place.path());
    let mut tick = tokio::time::interval(Duration::from_secs(interval.max(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = session.client.get(&place.path(), OWN).await?.body;
    let gone = || {
        session.terminal().say(&format!("the {} {} was deleted", place.kind.noun(), place.name()));
        Ok(Answer::Nothing)
    };
    loop {
        match text(shown.clone()).await {
            // It went while it was looked at.
            Err(failure) if failure.is_absence() => return gone(),
            text => screen.draw(&text?)?,
        }
        if once || is_over(&shown) {
            return Ok(Answer::Nothing);
        }
        let mut changed = std::pin::pin!(session.client.changed(&mut held, Patience::of(None)));
        loop {
            tokio::select! {
                biased;
                changed = &mut changed => match changed? {
                    Some(document) => {
                        shown = document;
                        break;
                    }
                    None => return gone(),
                },
                _ = tick.tick() => match text(shown.clone()).await {
                    Err(failure) if failure.is_absence() => return gone(),
                    text => screen.draw(&text?)?,
                },
            }
        }
    }
}

/// `cluster watch`.
///
/// # Errors
/// It does not exist; as of the client.
pub(super) async fn cluster(session: &Session, place: &Place, once: bool, interval: u64) -> Result<Answer> {
    live(session, place, once, interval, |cluster| cluster_text(session, place, cluster), |_| false).await
}

async fn cluster_text(session: &Session, place: &Place, cluster: Value) -> Result<String> {
    let terminal = session.terminal();
    let state = views::state(&cluster, "allocationState");
    let mut lines = vec![format!(
        "{}  {}  {} {state}  {}",
        terminal.strong(place.name()),
        at(&cluster, "/properties/vmSize"),
        terminal.sign(&state),
        counts(&cluster)
    )];
    for error in cluster.pointer("/properties/errors").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!(
            "  {} {}: {}",
            terminal.sign("unusable"),
            visible(&at(error, "/code")),
            visible(&at(error, "/message"))
        ));
    }
    let jobs = jobs_on(session, place).await?;
    let look = Look { people: true, ..Look::now() };
    for (index, node) in session.client.list(&format!("{}/nodes", place.path()), OWN).await?.iter().enumerate() {
        let state = at(node, "/state").to_ascii_lowercase();
        // What it works on, or what is wrong with it.
        let about = match Place::parse(&at(node, "/job"), Kind::Job) {
            Some(job) => format!("{}/{}", job.above(Kind::Experiment).name(), job.name()),
            None => at(node, "/errors/0/code"),
        };
        lines.push(format!(
            "  n{:<3} {} {state:<9} {:<28} {}",
            index + 1,
            terminal.sign(&state),
            visible(&about),
            terminal.dim(&format!("{}  {}", visible(&at(node, "/nodeId")), look.moment(&at(node, "/stateTransitionTime"))))
        ));
    }
    let queued: Vec<&Value> = jobs.iter().filter(|job| views::state(job, "executionState") == "queued").collect();
    let wanted: u64 = queued.iter().filter_map(|job| job.pointer("/properties/nodeCount").and_then(Value::as_u64)).sum();
    lines.push(match queued.len() {
        0 => "queue: empty".to_owned(),
        1 => format!("queue: 1 job needs {wanted} nodes"),
        many => format!("queue: {many} jobs need {wanted} nodes"),
    });
    for job in queued.iter().take(10) {
        let submitted = look.moment(&at(job, "/properties/creationTime"));
        lines.push(format!(
            "  {} {} needs {}, {submitted}",
            terminal.sign("queued"),
            visible(&at(job, "/name")),
            at(job, "/properties/nodeCount")
        ));
    }
    Ok(lines.join("\n"))
}

/// Jobs of a cluster that wait or run, of its own workspace, the oldest first.
async fn jobs_on(session: &Session, cluster: &Place) -> Result<Vec<Value>> {
    let experiments = session.client.list(&cluster.above(Kind::Workspace).list(Kind::Experiment), BATCH_AI).await?;
    let mut found = Vec::new();
    for experiment in experiments {
        let Some(experiment) = Place::parse(&at(&experiment, "/id"), Kind::Experiment) else { continue };
        let jobs = session.client.list(&experiment.list(Kind::Job), BATCH_AI).await?;
        found.extend(jobs.into_iter().filter(|job| {
            let here = Place::parse(&at(job, "/properties/cluster/id"), Kind::Cluster)
                .is_some_and(|on| on.path().eq_ignore_ascii_case(&cluster.path()));
            here && matches!(views::state(job, "executionState").as_str(), "queued" | "running")
        }));
    }
    found.sort_by_key(|job| at(job, "/properties/creationTime"));
    Ok(found)
}

/// `job top`.
///
/// # Errors
/// It does not exist; as of the client.
pub(super) async fn job(session: &Session, place: &Place, once: bool, interval: u64) -> Result<Answer> {
    let is_over = |job: &Value| matches!(views::state(job, "executionState").as_str(), "succeeded" | "failed");
    live(session, place, once, interval, |job| job_text(session, place, job), is_over).await
}

/// What the nodes of a job used lately, as series of the API.
async fn used_lately(session: &Session, place: &Place, now: OffsetDateTime) -> Result<Vec<Value>> {
    let from = (now - LATELY).format(&Rfc3339).unwrap_or_default();
    let path = format!("{}/samples?from={from}&step={}", place.path(), LATELY.whole_seconds());
    let body = session.client.get(&path, OWN).await?.body;
    Ok(body.get("series").and_then(Value::as_array).cloned().unwrap_or_default())
}

/// Processors, memory, GPUs, network and disks of a point; empty where it does not tell.
fn cells(point: &Value) -> [String; 5] {
    let mean = |name: &str| point.pointer(&format!("/{name}/mean")).and_then(Value::as_f64);
    let bytes = |name: &str| mean(name).map(|bytes| size(bytes as u64));
    let pair = |one: &str, other: &str| match (bytes(one), bytes(other)) {
        (Some(one), Some(other)) => format!("{one}/s {other}/s"),
        _ => String::new(),
    };
    let gpu = [mean("gpuPercent").map(|percent| format!("{percent:.0} %")), bytes("gpuMemoryInBytes")];
    [
        mean("cores").map(|cores| format!("{:.0} %", cores * 100.0)).unwrap_or_default(),
        bytes("memoryInBytes").unwrap_or_default(),
        gpu.into_iter().flatten().collect::<Vec<_>>().join(" "),
        pair("networkInBytesPerSecond", "networkOutBytesPerSecond"),
        pair("diskReadBytesPerSecond", "diskWrittenBytesPerSecond"),
    ]
}

async fn job_text(session: &Session, place: &Place, job: Value) -> Result<String> {
    let terminal = session.terminal();
    let look = Look { people: true, ..Look::now() };
    let state = views::state(&job, "executionState");
    let attempts = session.client.list(&format!("{}/attempts", place.path()), OWN).await?;
    let latest = attempts.first();
    let mut head = format!("{} {} {state}", terminal.strong(place.name()), terminal.sign(&state));
    let took = views::duration(&job, &look);
    if !took.is_empty() {
        head.push_str(&format!(" {took}"));
    }
    if let Some(attempt) = latest {
        head.push_str(&format!(", attempt {}", at(attempt, "/number")));
    }
    let outputs = session.client.files(place, "stdouterr", ".", 5).await.unwrap_or_default();
    let written = |name: &str| outputs.iter().find(|entry| entry.name() == name).and_then(|entry| entry.link.clone());
    for name in ["stdout.txt", "stderr.txt"] {
        if let Some(link) = written(name).filter(|link| link.size > 0) {
            head.push_str(&format!(", {name} {} {}", size(link.size), look.moment(&link.modified)));
        }
    }
    let logins = logins(session, place).await.unwrap_or_default();
    // A server before samples were kept has none, and the rest of the table is as good.
    let used = used_lately(session, place, look.now).await.unwrap_or_default();
    let rows: Vec<Vec<String>> = latest
        .and_then(|attempt| attempt.get("nodes").and_then(Value::as_array))
        .into_iter()
        .flatten()
        .map(|node| {
            let id = at(node, "/nodeId");
            let login = logins.iter().find(|login| at(login, "/nodeId") == id);
            let moment = |pointer: &str| {
                use time::format_description::well_known::Rfc3339;
                time::OffsetDateTime::parse(&at(node, pointer), &Rfc3339).ok()
            };
            let ran = moment("/startTime").map(|start| span((moment("/endTime").unwrap_or(look.now) - start).whole_seconds()));
            let ended =
                [at(node, "/end"), at(node, "/exitCode"), at(node, "/message")].into_iter().filter(|part| !part.is_empty());
            let used = used
                .iter()
                .find(|series| at(series, "/nodeId") == id)
                .and_then(|series| series.pointer("/points")?.as_array()?.last());
            let [cpu, memory, gpu, network, disk] = used.map(cells).unwrap_or_default();
            vec![
                at(node, "/rank"),
                visible(&id),
                at(node, "/state").to_ascii_lowercase(),
                cpu,
                memory,
                gpu,
                network,
                disk,
                ran.unwrap_or_default(),
                login.map(|login| format!("{}:{}", at(login, "/ipAddress"), at(login, "/port"))).unwrap_or_default(),
                visible(&ended.collect::<Vec<_>>().join(" ")),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(format!("{head}\n{}", if state == "queued" { "no nodes yet" } else { "no nodes" }));
    }
    let table = session
        .output
        .table(&["Rank", "Node", "State", "CPU", "Mem", "GPU", "Net in/out", "Disk r/w", "Ran", "SSH", "End"], rows);
    Ok(format!("{head}\n{}", table.trim_end()))
}
