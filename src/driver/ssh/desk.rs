//! Where a machine that calls in and the thread that speaks with it meet: a question waits here until the machine fetches it, and the
//! thread waits here for its answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::domain::pool::{Answer, Question};
use crate::driver::ssh::session::{Program, Trouble};
use crate::driver::ssh::words::{Ask, Hello, Seen, Told};

/// Longest time until a machine fetches a question: it calls again at once when it was answered, and pauses no longer after a fault
/// that passes.
const FETCH: Duration = Duration::from_secs(5);

/// Longest time that a call waits for a question. Shorter than proxies and routers keep a connection on which nothing happens.
const HELD: Duration = Duration::from_secs(25);

/// A server that asked nothing for longer does not lead: longer than any pause of one that does.
const LEADS: Duration = Duration::from_secs(30);

/// Longest time that a call waits where the server does not lead, as when it has only just begun.
const BRIEF: Duration = Duration::from_secs(2);

/// Tells which machines have joined. One that has not has no node: every server would have asked it here.
#[async_trait::async_trait]
pub trait Roster: Send + Sync {
    /// Whether the machine of that name has joined, and was not removed since; so too where nobody can tell.
    async fn has_joined(&self, name: &str) -> bool;
}

/// The roster, and where its answers are waited for.
type Asked = Arc<OnceLock<(Handle, Arc<dyn Roster>)>>;

/// The machines that call, and the program that they are to be.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    desks: BTreeMap<String, Arc<Desk>>,
    program: Option<Arc<Program>>,
    roster: Asked,
}

/// This server asks machines nothing: another leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaderless;

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.known().desks.keys()).finish()
    }
}

impl Calls {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, name: &str) -> Arc<Desk> {
        let mut known = self.known();
        let desk = Desk { name: name.to_owned(), roster: Arc::clone(&known.roster), ..Desk::default() };
        Arc::clone(known.desks.entry(name.to_owned()).or_insert_with(|| Arc::new(desk)))
    }

    /// Asks that roster from now on. Once, on a runtime of tokio's.
    pub fn set_roster(&self, roster: Arc<dyn Roster>) {
        let _ = self.known().roster.set((Handle::current(), roster));
    }

    pub(super) fn set_program(&self, program: &Arc<Program>) {
        self.known().program = Some(Arc::clone(program));
    }

    /// Whether the pool has a machine of that name that calls.
    pub fn is_known(&self, name: &str) -> bool {
        self.known().desks.contains_key(name)
    }

    /// The file and the digest of the program that machines are to be; `None` before there is a driver.
    pub fn program(&self) -> Option<(PathBuf, String)> {
        self.known().program.as_ref().map(|program| (program.file.clone(), program.digest.clone()))
    }

    /// Takes the answer of a machine. One to a question that nobody waits for is passed over.
    pub fn answer(&self, name: &str, answer: Answer) {
        let desk = self.known().desks.get(name).cloned();
        if let Some(desk) = desk {
            desk.answer(answer);
        }
    }

    /// Waits for a question to a machine; `None` when there was none for a while, or the machine called again.
    ///
    /// # Errors
    /// [`Leaderless`].
    pub async fn question(&self, name: &str) -> Result<Option<Question>, Leaderless> {
        let desk = self.known().desks.get(name).cloned();
        desk.ok_or(Leaderless)?.question().await
    }
}

/// Of one machine.
#[derive(Default)]
pub(super) struct Desk {
    name: String,
    roster: Asked,
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Default)]
struct Inner {
    /// When something was asked last.
    asked: Option<Instant>,
    open: Option<Open>,
    /// Counts calls: the last one alone is answered, as those before it may be of a connection that is gone.
    calls: u64,
}

struct Open {
    question: Question,
    events: Sender<Event>,
}

enum Event {
    Fetched,
    Answered(serde_json::Value),
}

impl Desk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and waits for the answer. Blocks.
    ///
    /// # Errors
    /// The machine does not call or does not answer: what was asked for may or may not be done.
    pub(super) fn ask(&self, hello: &Hello, ask: &Ask, within: Duration) -> Result<Told, Trouble> {
        let has_called = self.inner().calls > 0;
        if !has_called && !self.has_joined() {
            self.inner().asked = Some(Instant::now());
            return Ok(absent(ask));
        }
        match self.ask_it(hello, ask, within) {
            Err(_) if !self.has_joined() => Ok(absent(ask)),
            told => told,
        }
    }

    fn has_joined(&self) -> bool {
        self.roster.get().is_none_or(|(runtime, roster)| runtime.block_on(roster.has_joined(&self.name)))
    }

    fn ask_it(&self, hello: &Hello, ask: &Ask, within: Duration) -> Result<Told, Trouble> {
        let odd = |error: serde_json::Error| Trouble::passing(error.to_string());
        let (hello, ask) = (serde_json::to_value(hello).map_err(odd)?, serde_json::to_value(ask).map_err(odd)?);
        let (events, happened) = channel();
        {
            let mut inner = self.inner();
            inner.asked = Some(Instant::now());
            inner.open = Some(Open { question: Question { id: Uuid::now_v7(), hello, ask }, events });
        }
        self.news.notify_waiters();
        let mut until = Instant::now() + FETCH;
        let mut is_fetched = false;
        let told = loop {
            match happened.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Answered(told)) => break serde_json::from_value(told).map_err(odd),
                Ok(Event::Fetched) if !is_fetched => (is_fetched, until) = (true, Instant::now() + within),
                Ok(Event::Fetched) => {}
                Err(RecvTimeoutError::Timeout) if is_fetched => {
                    break Err(Trouble::passing(format!("it does not answer within {within:?}")));
                }
                Err(_) => break Err(Trouble::passing("it does not call")),
            }
        };
        self.inner().open = None;
        told
    }

    fn answer(&self, answer: Answer) {
        if let Some(open) = self.inner().open.take_if(|open| open.question.id == answer.id) {
            let _ = open.events.send(Event::Answered(answer.told));
        }
    }

    async fn question(&self) -> Result<Option<Question>, Leaderless> {
        let began = Instant::now();
        let call = {
            let mut inner = self.inner();
            inner.calls += 1;
            inner.calls
        };
        self.news.notify_waiters();
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // What happens from here on is not missed.
            news.as_mut().enable();
            let leads = {
                let inner = self.inner();
                if inner.calls != call {
                    return Ok(None);
                }
                if let Some(open) = &inner.open {
                    let _ = open.events.send(Event::Fetched);
                    return Ok(Some(open.question.clone()));
                }
                inner.asked.is_some_and(|asked| asked.elapsed() < LEADS)
            };
            let until = began + if leads { HELD } else { BRIEF };
            if tokio::time::timeout_at(until.into(), news).await.is_err() {
                return if leads { Ok(None) } else { Err(Leaderless) };
            }
        }
    }
}

/// What is said in place of a machine that has not joined: it has nothing, and cannot be had.
fn absent(ask: &Ask) -> Told {
    let why = || "it has not joined".to_owned();
    match ask {
        Ask::Look => Told::Seen(Seen { quarantine: Some(why()), ..Seen::default() }),
        Ask::Ensure(_) => Told::Taken(why()),
        Ask::Evidence(_) => Told::Evidence(None),
        Ask::Delete(_) | Ask::Quarantine(_) | Ask::Release => Told::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::bootstrap::ServerAddress;

    fn hello() -> Hello {
        let server = ServerAddress::Https { url: String::new(), ca: String::new() };
        Hello { owner: "o".into(), address: [10, 0, 0, 7].into(), server, fence: Duration::from_secs(60) }
    }

    fn ask(desk: &Arc<Desk>) -> std::thread::JoinHandle<Result<Told, Trouble>> {
        let desk = Arc::clone(desk);
        std::thread::spawn(move || desk.ask(&hello(), &Ask::Look, Duration::from_secs(20)))
    }

    #[tokio::test]
    async fn a_question_reaches_the_last_call_and_its_own_answer_alone_counts() {
        let calls = Calls::default();
        let desk = calls.open("m");
        let asked = ask(&desk);
        let first = calls.question("m").await.expect("it leads").expect("a question");
        // The connection broke on the way: it is asked the same again.
        let again = calls.question("m").await.expect("it leads").expect("a question");
        assert_eq!(first.id, again.id);
        calls.answer("m", Answer { id: Uuid::now_v7(), told: serde_json::json!("Done") });
        calls.answer("m", Answer { id: first.id, told: serde_json::json!({ "Taken": "by me" }) });
        assert!(matches!(asked.join().expect("ends"), Ok(Told::Taken(by)) if by == "by me"));

        // Of two calls that wait the last is asked: the other may be of a connection that is gone.
        let reached = async |calls: u64| {
            while desk.inner().calls < calls {
                tokio::task::yield_now().await;
            }
        };
        let last = async {
            reached(3).await;
            calls.question("m").await
        };
        let asked = async {
            reached(4).await;
            ask(&desk)
        };
        let (old, last, asked) = tokio::join!(calls.question("m"), last, asked);
        assert!(old.expect("it leads").is_none());
        let question = last.expect("it leads");
        calls.answer("m", Answer { id: question.expect("a question").id, told: serde_json::json!("Done") });
        assert!(matches!(asked.join().expect("ends"), Ok(Told::Done)));
    }

    #[tokio::test]
    async fn a_server_that_asks_nothing_does_not_lead_and_a_machine_that_does_not_call_is_not_reached() {
        let calls = Calls::default();
        let desk = calls.open("m");
        assert_eq!(calls.question("m").await.expect_err("nobody asks"), Leaderless);
        assert_eq!(calls.question("other").await.expect_err("no such machine"), Leaderless);
        let trouble = ask(&desk).join().expect("ends").expect_err("nobody calls");
        assert_eq!(trouble, Trouble::passing("it does not call"));
    }

    struct Nobody;

    #[async_trait::async_trait]
    impl Roster for Nobody {
        async fn has_joined(&self, _: &str) -> bool {
            false
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_machine_that_has_not_joined_has_nothing_and_cannot_be_had() {
        let calls = Calls::default();
        let desk = calls.open("m");
        calls.set_roster(Arc::new(Nobody));
        match ask(&desk).join().expect("ends") {
            Ok(Told::Seen(Seen { holder: None, nodes, quarantine: Some(why) })) => {
                assert!(nodes.is_empty() && why == "it has not joined", "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
}
