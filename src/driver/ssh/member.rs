//! One machine of the pool, as a server sees it: a thread that speaks with it, one question after the other, and what was last seen there.
//!
//! What was asked is finished, whether or not someone still waits for the answer.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::driver::ssh::desk::{Calls, Desk};
use crate::driver::ssh::session::{Program, Session, Trouble};
use crate::driver::ssh::words::{Ask, Hello, Node, Seen, Told};
use crate::driver::ssh::{Login, Machine};

/// Longest time until a machine has said what is there.
const LOOK: Duration = Duration::from_secs(10);

/// Longest time until a machine is a node or is none any more. Shorter than the reconciler waits.
const CHANGE: Duration = Duration::from_secs(110);

/// Pause after a machine did not answer: the first, and the longest as that repeats.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Failures in a row after which a machine is put in quarantine.
const FAILURES: u32 = 3;

/// A machine of the pool.
pub(super) struct Member {
    pub(super) machine: Machine,
    known: Arc<Mutex<Known>>,
    questions: Mutex<Sender<Question>>,
}

struct Question {
    ask: Ask,
    reply: oneshot::Sender<Result<Told, Trouble>>,
}

#[derive(Default)]
struct Known {
    /// What was there last; `None` where nobody was told since this server runs.
    seen: Option<Seen>,
    /// Nodes that are being made or unmade, one for each question.
    under_way: Vec<String>,
}

/// What is known of a machine now.
pub(super) struct View {
    /// Its nodes.
    pub(super) nodes: Vec<Node>,
    /// Whether there are surely no others.
    pub(super) is_whole: bool,
    /// Whether the machine answers.
    pub(super) is_heard: bool,
    /// Why it cannot be had; `None` where it can.
    pub(super) obstacle: Option<String>,
}

impl Member {
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(machine: Machine, program: &Arc<Program>, calls: &Calls, hello: Hello) -> std::io::Result<Member> {
        let known = Arc::<Mutex<Known>>::default();
        let (sender, questions) = channel();
        let way = match &machine.login {
            Some(login) => Way::Ssh(login.clone(), Arc::clone(program)),
            None => Way::Calls(calls.open(&machine.name)),
        };
        let line = Line { machine: machine.clone(), way, hello, known: Arc::clone(&known) };
        std::thread::Builder::new().name(format!("pool-{}", machine.name)).spawn(move || line.serve(&questions))?;
        Ok(Member { machine, known, questions: Mutex::new(sender) })
    }

    /// One that answers as told, without a machine.
    #[cfg(test)]
    pub(super) fn answered(machine: Machine, mut answer: impl FnMut(&Ask) -> Told + Send + 'static) -> Member {
        let (sender, questions) = channel::<Question>();
        std::thread::spawn(move || {
            for Question { ask, reply } in questions {
                let _ = reply.send(Ok(answer(&ask)));
            }
        });
        Member { machine, known: Arc::default(), questions: Mutex::new(sender) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks; from now on it is under way, whoever waits.
    pub(super) fn ask(&self, ask: Ask) -> impl Future<Output = Result<Told, Trouble>> + use<> {
        if let Some(name) = changes(&ask) {
            self.known().under_way.push(name.to_owned());
        }
        let (reply, answer) = oneshot::channel();
        let sent = self.questions.lock().unwrap_or_else(PoisonError::into_inner).send(Question { ask, reply });
        async move {
            let gone = || Trouble::passing("nobody speaks with it any more");
            sent.map_err(|_| gone())?;
            answer.await.unwrap_or_else(|_| Err(gone()))
        }
    }

    /// Looks at it. While something is under way there, only what was known before is.
    pub(super) async fn look(&self) -> View {
        if let Some(view) = self.view_under_way() {
            return view;
        }
        let told = tokio::time::timeout(LOOK, self.ask(Ask::Look)).await;
        let trouble = match told.unwrap_or_else(|_| Err(Trouble::passing(format!("it does not answer within {LOOK:?}")))) {
            Ok(Told::Seen(seen)) => {
                let obstacle = match (&seen.holder, &seen.quarantine, seen.nodes.first()) {
                    (Some(holder), ..) => Some(format!("leased by installation {holder}")),
                    (None, _, Some(node)) => Some(format!("leased: it is {}", node.name)),
                    (None, Some(why), None) => Some(format!("in quarantine: {why}")),
                    (None, None, None) => None,
                };
                // Something may have begun meanwhile.
                return self.view_under_way().unwrap_or(View { nodes: seen.nodes, is_whole: true, is_heard: true, obstacle });
            }
            Ok(Told::Failed { why, .. }) => Trouble::passing(why),
            Ok(other) => Trouble::passing(format!("it answers {other:?}")),
            Err(trouble) => trouble,
        };
        let state = if trouble.is_lasting { "unusable" } else { "not reached" };
        let known = self.known();
        let nodes = known.seen.iter().flat_map(|seen| &seen.nodes).map(|node| Node::unknown(&node.name)).collect();
        View { nodes, is_whole: known.seen.is_some(), is_heard: false, obstacle: Some(format!("{state}: {}", trouble.why)) }
    }

    /// Whether it becomes a node, or a machine again, by this server's asking.
    pub(super) fn is_changing(&self) -> bool {
        !self.known().under_way.is_empty()
    }

    fn view_under_way(&self) -> Option<View> {
        let known = self.known();
        let name = known.under_way.first()?;
        let seen = known.seen.iter().flat_map(|seen| &seen.nodes).map(|node| &node.name);
        let mut names: Vec<&String> = seen.chain(&known.under_way).collect();
        names.sort_unstable();
        names.dedup();
        let nodes = names.into_iter().map(|name| Node::unknown(name)).collect();
        let obstacle = Some(format!("leased: it becomes {name}, or a machine again"));
        Some(View { nodes, is_whole: known.seen.is_some(), is_heard: true, obstacle })
    }
}

/// The node that a question makes or unmakes.
fn changes(ask: &Ask) -> Option<&str> {
    match ask {
        Ask::Ensure(spec) => Some(&spec.name),
        Ask::Delete(name) => Some(name),
        Ask::Look | Ask::Evidence(_) | Ask::Quarantine(_) | Ask::Release => None,
    }
}

/// The thread's end of a member.
struct Line {
    machine: Machine,
    way: Way,
    hello: Hello,
    known: Arc<Mutex<Known>>,
}

/// How a machine is spoken with.
enum Way {
    /// The server goes to it, with this program.
    Ssh(Login, Arc<Program>),
    /// It calls the server.
    Calls(Arc<Desk>),
}

/// How it is with the machine.
struct Contact {
    session: Option<Session>,
    trouble: Option<(Trouble, Instant)>,
    pause: Duration,
    failures: u32,
}

impl Line {
    fn serve(&self, questions: &Receiver<Question>) {
        let mut contact = Contact { session: None, trouble: None, pause: BACK_OFF.0, failures: 0 };
        for Question { ask, reply } in questions {
            let told = self.ask(&mut contact, &ask);
            if let Some(name) = changes(&ask) {
                self.changed(&mut contact, &ask, name, &told);
            }
            let _ = reply.send(told);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a node was to be made or unmade.
    fn changed(&self, contact: &mut Contact, ask: &Ask, name: &str, told: &Result<Told, Trouble>) {
        match (ask, told) {
            (Ask::Ensure(_), Ok(Told::Made(_))) => contact.failures = 0,
            (Ask::Ensure(_), Ok(Told::Failed { why, .. })) => {
                contact.failures += 1;
                tracing::warn!(machine.name = self.machine.name, node = name, why, "a machine of the pool cannot be a node");
                if contact.failures >= FAILURES {
                    let _ = self.ask(contact, &Ask::Quarantine(format!("{FAILURES} failures in a row, the last: {why}")));
                    contact.failures = 0;
                }
            }
            _ => {}
        }
        let _ = self.ask(contact, &Ask::Look);
        let mut known = self.known();
        if let Some(at) = known.under_way.iter().position(|other| other == name) {
            known.under_way.remove(at);
        }
        // Whether it is there the next look tells.
        if let (Err(_), Some(seen)) = (told, &mut known.seen)
            && contact.trouble.is_some()
            && seen.nodes.iter().all(|node| node.name != name)
        {
            seen.nodes.push(Node::unknown(name));
        }
    }

    fn ask(&self, contact: &mut Contact, ask: &Ask) -> Result<Told, Trouble> {
        if let Some((trouble, until)) = &contact.trouble
            && (trouble.is_lasting || *until > Instant::now())
        {
            return Err(trouble.clone());
        }
        let within = if changes(ask).is_some() { CHANGE } else { LOOK };
        match self.converse(contact, ask, within) {
            Ok(told) => {
                if contact.trouble.take().is_some() {
                    tracing::info!(machine.name = self.machine.name, "a machine of the pool answers again");
                }
                contact.pause = BACK_OFF.0;
                if let Told::Seen(seen) = &told {
                    self.known().seen = Some(seen.clone());
                }
                Ok(told)
            }
            Err(trouble) => {
                contact.session = None;
                let is_news = contact.trouble.as_ref().is_none_or(|(known, _)| *known != trouble);
                if trouble.is_lasting {
                    tracing::error!(machine.name = self.machine.name, why = trouble.why, "a machine of the pool is unusable");
                } else if is_news {
                    tracing::warn!(machine.name = self.machine.name, why = trouble.why, "a machine of the pool is not reached");
                }
                contact.trouble = Some((trouble.clone(), Instant::now() + contact.pause));
                contact.pause = (contact.pause * 2).min(BACK_OFF.1);
                Err(trouble)
            }
        }
    }

    fn converse(&self, contact: &mut Contact, ask: &Ask, within: Duration) -> Result<Told, Trouble> {
        let (login, program) = match &self.way {
            Way::Ssh(login, program) => (login, program),
            Way::Calls(desk) => return desk.ask(&self.hello, ask, within),
        };
        let session = match contact.session.take() {
            Some(session) => session,
            None => Session::open(&self.machine, login, program, &self.hello)?,
        };
        contact.session.insert(session).ask(ask, within)
    }
}
