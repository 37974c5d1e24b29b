//! The table of what users asked for: reading, making, changing, and marking for deletion.

mod change;
mod create;
mod delete;
mod flat;
mod history;
mod queue;
mod read;
mod row;
mod search;
mod select;
mod server;
mod submit;

pub(crate) use change::{Change, GroupChange, Patched, Terminated, change, terminate, upsert_group};
pub(crate) use create::{Created, New, SealedSecret, create, create_limited};
pub(crate) use delete::{Marked, mark};
pub(crate) use flat::{active_jobs, find_flat, list_flat};
pub(crate) use history::attempts;
pub(crate) use queue::ahead;
pub(crate) use read::{Children, Login, cluster_logins, find, find_by_uid, job_logins, known, last_attempt, list};
pub(crate) use search::{count_jobs, search_jobs};
pub(crate) use server::{KnownServer, servers, users};
pub(crate) use submit::{Submission, Submitted, submit};
