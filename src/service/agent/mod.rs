//! What agents ask: to join, what their node should be, and to keep large output.

mod credential;
mod desired;
mod join;
mod mounts;
mod session;
mod sync;
mod turns;
mod unmet;
mod waiters;

pub(super) use credential::RENEW;
pub(super) use desired::{Mounts as CachedMounts, Tasks as CachedTasks};
pub(super) use mounts::Level;
pub(super) use turns::Turns;
pub(super) use waiters::Waiters;

use crate::agent::protocol::VERSION;
use crate::error::{Error, ErrorCode};

/// What an agent whose word is not trusted reads: the same for all causes.
fn refused() -> Error {
    Error::new(ErrorCode::AuthenticationFailed, "The agent's token or credential is not valid.")
}

fn check_version(protocol: u32) -> Result<(), Error> {
    if protocol == VERSION {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::InvalidRequestContent,
        format!("The agent speaks version {protocol} of the protocol, this server version {VERSION}."),
    ))
}
