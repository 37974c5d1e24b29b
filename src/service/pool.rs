//! Machines of a pool that call in: one-time tokens, calls, and the program that they are to be.

use std::path::PathBuf;

use crate::auth::new_secret;
use crate::domain::pool::{Answer, Call, Joined, Question, Reply};
use crate::error::{Error, ErrorCode};
use crate::service::Service;

/// What machines that call are asked. Implemented by the driver that has them.
#[async_trait::async_trait]
pub trait Calls: Send + Sync {
    /// Whether the pool has a machine of that name that calls.
    fn is_known(&self, name: &str) -> bool;

    /// The file and the digest of the program that machines are to be.
    fn program(&self) -> Option<(PathBuf, String)>;

    /// Takes an answer.
    fn answer(&self, name: &str, answer: Answer);

    /// Waits for a question, for less than half a minute. `Err` where another server leads, and asks.
    async fn question(&self, name: &str) -> Result<Option<Question>, ()>;
}

fn refused() -> Error {
    Error::new(ErrorCode::AuthenticationFailed, "The machine's token or credential is not valid, or not any more.")
}

impl Service {
    /// Takes calls of machines from now on. Once.
    pub fn take_calls(&self, calls: std::sync::Arc<dyn Calls>) {
        let _ = self.inner.calls.set(calls);
    }

    fn calls(&self) -> Result<&dyn Calls, Error> {
        let absent = || Error::new(ErrorCode::NotFound, "There is nothing at this address.");
        self.inner.calls.get().map(AsRef::as_ref).ok_or_else(absent)
    }

    /// Spends a machine's one-time token.
    ///
    /// # Errors
    /// `AuthenticationFailed` where it is none, was spent or has ended; `NotFound` where the server has no pool.
    pub async fn join_pool(&self, token: &str) -> Result<Joined, Error> {
        self.calls()?;
        let credential = new_secret().0.clone();
        let name = self.inner.store.join_member(token, &credential, self.now()).await?.ok_or_else(refused)?;
        tracing::info!(machine.name = name, "a machine joined the pool");
        Ok(Joined { name, credential })
    }

    /// The file of the program that machines are to be, for a token that is good, or a credential.
    ///
    /// # Errors
    /// As of [`join_pool`](Self::join_pool).
    pub async fn pool_program(&self, secret: &str) -> Result<PathBuf, Error> {
        let calls = self.calls()?;
        if !self.inner.store.knows_member(secret, self.now()).await? {
            return Err(refused());
        }
        calls.program().map(|(file, _)| file).ok_or_else(|| Error::unavailable("the driver has not begun"))
    }

    /// A machine calls; waits for something that it is to do, for less than half a minute.
    ///
    /// # Errors
    /// `AuthenticationFailed` where nobody has that credential; `ServiceUnavailable` where another server leads.
    pub async fn call_pool(&self, credential: &str, call: Call) -> Result<Reply, Error> {
        let calls = self.calls()?;
        let state: String = call.state.chars().filter(|c| *c != '\0').take(500).collect();
        let done = call.done.as_deref().filter(|done| !done.contains('\0'));
        let caller = self.inner.store.hear_member(credential, &state, done, self.now()).await?.ok_or_else(refused)?;
        if caller.is_removed {
            return Ok(Reply { is_removed: true, ..Reply::default() });
        }
        if let Some(answer) = call.answer {
            calls.answer(&caller.name, answer);
        }
        if caller.word.is_some() {
            return Ok(Reply { word: caller.word, ..Reply::default() });
        }
        if !calls.is_known(&caller.name) {
            tracing::warn!(machine.name = caller.name, "a machine calls that the settings do not have");
        }
        let asked = tokio::select! {
            asked = calls.question(&caller.name) => asked,
            // The next server asks it.
            () = self.inner.leaving.cancelled() => Err(()),
        };
        let question = asked
            .map_err(|()| Error::unavailable("this server stops or does not lead, or its settings do not have the machine"))?;
        // Those that are asked are of this server's version. One that does not lead turns nobody into its own.
        let program = calls.program().map(|(_, digest)| digest).filter(|digest| *digest != call.program);
        Ok(if program.is_some() { Reply { program, ..Reply::default() } } else { Reply { question, ..Reply::default() } })
    }
}
