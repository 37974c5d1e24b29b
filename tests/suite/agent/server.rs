//! A server in memory that speaks the agents' protocol over a unix socket, and checks what every report must keep.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use batchyard::agent::protocol::{
    Chunk, Desired, JOIN_PATH, Join, Joined, MAX_OUTPUT_BODY, OUTPUT_PATH, OutputQuery, SYNC_PATH, Sync, Synced,
};
use batchyard::domain::attempt::{AssignmentState, End};
use batchyard::domain::machine::Setup;
use batchyard::domain::report::Seen;
use batchyard::id::{AttemptUid, MachineUid};
use tokio::sync::watch;
use uuid::Uuid;

/// Longest time that anything here may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// A file: its directory and path.
pub(super) type Name = (String, String);

/// What the server knows.
#[derive(Default)]
pub(super) struct Known {
    pub(super) desired: Option<Desired>,
    pub(super) revision: u64,
    pub(super) joins: Vec<Join>,
    pub(super) session: Option<Uuid>,
    pub(super) seq: u64,
    pub(super) setup: Setup,
    /// Every change of a part, in order.
    pub(super) seen: BTreeMap<AttemptUid, Vec<Seen>>,
    /// What was sent, by attempt and file: the generation and the bytes.
    pub(super) files: HashMap<AttemptUid, HashMap<Name, (u32, Vec<u8>)>>,
    /// What was there when the end was told.
    pub(super) at_end: HashMap<AttemptUid, HashMap<Name, Vec<u8>>>,
    /// Reports that counted.
    pub(super) reports: usize,
    /// Answers to leave out: the request is heard, the answer lost.
    pub(super) lose: usize,
    /// While set, everything is answered with 503.
    pub(super) is_away: bool,
    pub(super) credential: String,
}

/// The server.
#[derive(Clone)]
pub(super) struct Server {
    known: Arc<Mutex<Known>>,
    changed: watch::Sender<u64>,
}

impl Server {
    /// A server on a socket in `folder`.
    pub(super) fn start(folder: &Path) -> Server {
        let known = Known { credential: "first".into(), revision: 1, ..Known::default() };
        let server = Server { known: Arc::new(Mutex::new(known)), changed: watch::channel(0).0 };
        server.listen(&folder.join("1.sock"));
        server
    }

    /// Listens on one more socket.
    pub(super) fn listen(&self, socket: &Path) -> tokio::task::JoinHandle<()> {
        let listener = tokio::net::UnixListener::bind(socket).expect("a socket");
        let router = Router::new()
            .route(JOIN_PATH, post(join))
            .route(SYNC_PATH, post(sync))
            .route(OUTPUT_PATH, post(output))
            .layer(DefaultBodyLimit::max(MAX_OUTPUT_BODY))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("served") })
    }

    /// Looks at, or changes, what is known.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().expect("not poisoned"))
    }

    /// Sets what the node should be.
    pub(super) fn want(&self, desired: Desired) {
        self.with(|known| {
            known.desired = Some(desired);
            known.revision += 1;
        });
        self.changed.send_modify(|count| *count += 1);
    }

    /// Waits until `found` finds something.
    pub(super) async fn until<T>(&self, what: &str, mut found: impl FnMut(&mut Known) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                if let Some(found) = self.with(&mut found) {
                    return found;
                }
                changed.changed().await.expect("the server lives");
            }
        };
        match tokio::time::timeout(DEADLINE, wait).await {
            Ok(found) => found,
            Err(_) => panic!("never happened: {what}; seen: {:?}", self.with(|known| known.seen.clone())),
        }
    }

    /// Waits until a part is as far as `state`.
    pub(super) async fn until_state(&self, attempt: AttemptUid, state: AssignmentState) {
        self.until(&format!("{state:?}"), |known| known.seen.get(&attempt)?.iter().any(|seen| seen.state >= state).then_some(()))
            .await;
    }

    /// Waits for the end of a part.
    pub(super) async fn until_end(&self, attempt: AttemptUid) -> End {
        self.until("an end", |known| known.seen.get(&attempt)?.last()?.end.clone()).await
    }

    /// What the server has of a file.
    pub(super) fn file(&self, attempt: AttemptUid, directory: &str, path: &str) -> Option<Vec<u8>> {
        self.with(|known| Some(known.files.get(&attempt)?.get(&(directory.to_owned(), path.to_owned()))?.1.clone()))
    }

    /// What the server had of a file when it was told of the end.
    pub(super) fn file_at_end(&self, attempt: AttemptUid, directory: &str, path: &str) -> Option<String> {
        let name = (directory.to_owned(), path.to_owned());
        self.with(|known| Some(String::from_utf8_lossy(known.at_end.get(&attempt)?.get(&name)?).into_owned()))
    }
}

fn refuse(headers: &HeaderMap, known: &Known) -> Option<Response> {
    if known.is_away {
        return Some(StatusCode::SERVICE_UNAVAILABLE.into_response());
    }
    let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    (given != format!("Bearer {}", known.credential)).then(|| StatusCode::UNAUTHORIZED.into_response())
}

fn lost(known: &mut Known) -> Option<Response> {
    let is_lost = known.lose > 0;
    known.lose = known.lose.saturating_sub(1);
    is_lost.then(|| StatusCode::BAD_GATEWAY.into_response())
}

async fn join(State(server): State<Server>, Json(join): Json<Join>) -> Response {
    let answer = server.with(|known| {
        known.joins.push(join);
        if let Some(response) = lost(known) {
            return response;
        }
        let joined = Joined { machine: MachineUid(Uuid::from_u128(9)), credential: known.credential.clone(), expires_in_s: 3600 };
        Json(joined).into_response()
    });
    server.changed.send_modify(|count| *count += 1);
    answer
}

async fn sync(State(server): State<Server>, headers: HeaderMap, Json(sync): Json<Sync>) -> Response {
    if let Some(response) = server.with(|known| refuse(&headers, known)) {
        return response;
    }
    server.with(|known| take(known, &sync));
    server.changed.send_modify(|count| *count += 1);
    if let Some(response) = server.with(|known| if sync.wait_ms == 0 { lost(known) } else { None }) {
        return response;
    }
    let mut changed = server.changed.subscribe();
    let is_news = |known: &mut Known| (known.revision != sync.have).then_some(());
    let wait = async {
        while server.with(|known| is_news(known)).is_none() {
            changed.changed().await.expect("the server lives");
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(sync.wait_ms.into()), wait).await;
    server.with(|known| {
        let desired = known.desired.clone().filter(|_| known.revision != sync.have);
        Json(Synced { revision: known.revision, desired, credential: None, now: None }).into_response()
    })
}

/// Reports count once and in order; output before the states that come with it.
fn take(known: &mut Known, sync: &Sync) {
    if known.session != Some(sync.session) {
        known.session = Some(sync.session);
        known.seq = 0;
    }
    if sync.seq <= known.seq {
        return;
    }
    known.seq = sync.seq;
    known.reports += 1;
    for Chunk { at, data } in &sync.output {
        append(known, at, data);
    }
    if sync.setup != Setup::Pending {
        known.setup = sync.setup.clone();
    }
    for seen in &sync.assignments {
        let history = known.seen.entry(seen.attempt).or_default();
        if history.last().is_some_and(|last| last.state == AssignmentState::Ended) {
            assert_eq!(history.last(), Some(seen), "an end never changes");
            continue;
        }
        if history.last() != Some(seen) {
            history.push(seen.clone());
        }
        if seen.state == AssignmentState::Ended {
            assert!(seen.end.is_some());
            let files = known.files.get(&seen.attempt).cloned().unwrap_or_default();
            known.at_end.insert(seen.attempt, files.into_iter().map(|(name, (_, bytes))| (name, bytes)).collect());
        }
    }
}

fn append(known: &mut Known, at: &OutputQuery, data: &[u8]) {
    let is_ended = known.at_end.contains_key(&at.attempt);
    let files = known.files.entry(at.attempt).or_default();
    let (generation, bytes): &mut (u32, Vec<u8>) = files.entry((at.directory.clone(), at.path.clone())).or_default();
    if at.generation > *generation {
        assert_eq!(at.offset, 0, "a content begins at its beginning");
        *generation = at.generation;
        bytes.clear();
    }
    // What is known or leaves a hole is ignored.
    if at.generation == *generation && at.offset == bytes.len() as u64 && !data.is_empty() {
        assert!(!is_ended, "nothing new comes after the end");
        bytes.extend(data);
    }
}

async fn output(State(server): State<Server>, headers: HeaderMap, Query(at): Query<OutputQuery>, body: Bytes) -> Response {
    let answer = server.with(|known| {
        if let Some(response) = refuse(&headers, known) {
            return response;
        }
        append(known, &at, &body);
        lost(known).unwrap_or_else(|| StatusCode::NO_CONTENT.into_response())
    });
    server.changed.send_modify(|count| *count += 1);
    answer
}
