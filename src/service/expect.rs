//! Conditions of a request (`If-Match`, `If-None-Match`), kept to by the statement that carries it out: what was read before may have
//! moved on.

use crate::auth::Caller;
use crate::domain::resource::Expected;
use crate::error::{Error, ErrorCode};
use crate::id::ResourceId;

/// What the request expects of its resource; `None` where it sets no condition.
pub(super) fn expected(caller: &Caller) -> Option<Expected> {
    caller.asked.as_ref().and_then(|asked| asked.expected())
}

/// Whether the request may only change what is there, so that nothing is made.
pub(super) fn makes_nothing(caller: &Caller) -> bool {
    matches!(expected(caller), Some(Expected::Is { .. }))
}

/// The failure of a request whose resource has moved on.
pub(super) fn moved(id: &ResourceId) -> Error {
    let message = "The condition in the request's If-Match or If-None-Match header does not hold.";
    Error::new(ErrorCode::PreconditionFailed, message).with_target(id.path())
}
