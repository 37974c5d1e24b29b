//! What a machine of a pool that calls in and a server say to each other, as JSON over https: what it is asked is in the driver's words.
//!
//! A machine may be of another version than the server that it calls, until it has become that server's: members are added, none is
//! renamed, and what is not known is passed over.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Spends a one-time token, which is the bearer token, for a [`Joined`]. POST.
pub const JOIN_PATH: &str = "/machine/join";

/// The server's own program, for whoever may join or has joined. POST.
pub const PROGRAM_PATH: &str = "/machine/program";

/// Takes a [`Call`], waits for a question, and answers a [`Reply`]. POST.
pub const CALL_PATH: &str = "/machine/call";

/// What a machine gets for its token.
#[derive(Clone, Serialize, Deserialize)]
pub struct Joined {
    /// Its name in the pool.
    pub name: String,
    /// The bearer token that it calls with. Secret.
    pub credential: String,
}

/// A machine calls.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Call {
    /// The digest of the program that it runs: 64 hexadecimal digits.
    pub program: String,
    /// How it is, for people.
    pub state: String,
    /// The operator's word that it has done.
    #[serde(default)]
    pub done: Option<String>,
    /// The answer to what it was asked last.
    #[serde(default)]
    pub answer: Option<Answer>,
}

/// What a machine is to do before it calls again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    /// It is no member any more: it is to clean itself and be silent.
    #[serde(default)]
    pub is_removed: bool,
    /// The digest of the program that it is to become.
    #[serde(default)]
    pub program: Option<String>,
    /// An operator's word: the reason of a quarantine, or nothing for its end.
    #[serde(default)]
    pub word: Option<String>,
    /// What it is asked.
    #[serde(default)]
    pub question: Option<Question>,
}

/// A question of a driver.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    /// Which answer is its own.
    pub id: Uuid,
    /// Who asks.
    pub hello: Value,
    /// What.
    pub ask: Value,
}

/// The answer to a question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Of the question.
    pub id: Uuid,
    /// What.
    pub told: Value,
}
