//! A client of the public API: what the command line stands on.
//!
//! In: a profile or the environment, and requests. Out: answers, or failures that say what to do. Refuses to know the terminal and
//! everything of the server: it sees what any client sees, with the caller's own rights.

mod environment;
mod failure;
mod files;
mod path;
mod profile;
mod send;
mod token;
mod wait;

pub use environment::Environment;
pub use failure::{Exit, Failure, Found};
pub use files::{Entry, Link, Output, make_folder, open};
pub use path::{Kind, Place, encode};
pub use profile::{DEFAULT, Defaults, Profile, Profiles, Secret, read_authority};
pub use send::{BATCH_AI, Client, OWN, RESOURCES, Reply, Trace};
pub use token::Token;
pub use wait::{Held, Patience};

/// What a client's call gives.
pub type Result<T> = std::result::Result<T, Failure>;
