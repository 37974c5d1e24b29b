//! Writes what reconcilers decided: one transaction, a handful of statements however many changes there are.
//!
//! Changes of one sort are written by one statement. The sorts follow each other so that any list in which the changes of a machine
//! come before those of the attempt that has it ends as if written one by one: machines; parts and attempts; jobs that end; new
//! attempts; clusters, file servers, operations and removals. Each statement says how many rows it changed: fewer than asked means that one had moved
//! on, and the whole transaction is undone. Each writes the events of its changes too.

mod attempt;
mod job;
mod machine;
mod place;
mod resource;

use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;

use super::{Applied, Lease, StoreError, lease, role};
use crate::domain::snapshot::Change;
use crate::id::ResourceUid;
use crate::secret::Sealer;

/// Constraints that a list of changes breaks when it was decided from rows that have moved on.
const STALE: &[&str] = &[
    "attempt_alive_idx",
    "attempt_number_key",
    "attempt_pkey",
    "assignment_machine_idx",
    "machine_cluster_fkey",
    "machine_name_key",
    "machine_ordinal_key",
    "machine_pkey",
    "resource_parent_fkey",
];

/// What a list of changes did, while its transaction lasts.
type Written = Result<bool, StoreError>;

pub(super) async fn apply(
    pool: &PgPool,
    sealer: &Sealer,
    revoked: &watch::Sender<u64>,
    held: &Lease,
    changes: &[Change],
) -> Result<Applied, StoreError> {
    if changes.is_empty() {
        return Ok(Applied::All);
    }
    let mut tx = pool.begin().await?;
    if !lease::fence(&mut tx, held).await? {
        return Ok(Applied::LeaseLost);
    }
    // What hangs on resources that go is taken away first, so that it is counted.
    let gone = removed(changes);
    let taken = if gone.is_empty() { 0 } else { role::revoke(&mut tx, &gone).await? };
    match write(&mut tx, sealer, changes).await {
        Ok(true) => {
            tx.commit().await?;
            if taken > 0 {
                revoked.send_modify(|count| *count += 1);
            }
            Ok(Applied::All)
        }
        Ok(false) => {
            tx.rollback().await?;
            Ok(Applied::Stale)
        }
        Err(error) if error.constraint().is_some_and(|name| STALE.contains(&name)) => {
            tracing::debug!(constraint = error.constraint(), "changes were decided from rows that had moved on");
            tx.rollback().await?;
            Ok(Applied::Stale)
        }
        Err(error) => Err(error),
    }
}

/// The resources that go.
fn removed(changes: &[Change]) -> Vec<ResourceUid> {
    let gone = |change: &Change| match change {
        Change::Remove { uid, .. } => Some(*uid),
        _ => None,
    };
    changes.iter().filter_map(gone).collect()
}

async fn write(connection: &mut PgConnection, sealer: &Sealer, changes: &[Change]) -> Written {
    let mut sorted = Sorted::default();
    for change in changes {
        sorted.add(change);
    }
    Ok(machine::ask(connection, sealer, &sorted.ask).await?
        && machine::change(connection, &sorted.machine).await?
        && attempt::lose(connection, &sorted.lose).await?
        && attempt::steer(connection, &sorted.steer).await?
        && attempt::end(connection, &sorted.end).await?
        && job::status(connection, &sorted.job).await?
        && place::place(connection, &sorted.place).await?
        && resource::cluster_status(connection, &sorted.cluster).await?
        && resource::file_server_status(connection, &sorted.file_server).await?
        && resource::finish(connection, &sorted.finish).await?
        && resource::remove(connection, &sorted.remove).await?)
}

/// The changes by what writes them.
#[derive(Default)]
struct Sorted<'a> {
    ask: Vec<&'a Change>,
    machine: Vec<&'a Change>,
    lose: Vec<&'a Change>,
    steer: Vec<&'a Change>,
    end: Vec<&'a Change>,
    job: Vec<&'a Change>,
    place: Vec<&'a Change>,
    cluster: Vec<&'a Change>,
    file_server: Vec<&'a Change>,
    finish: Vec<&'a Change>,
    remove: Vec<&'a Change>,
}

impl<'a> Sorted<'a> {
    fn add(&mut self, change: &'a Change) {
        let list = match change {
            Change::AskMachine { .. } => &mut self.ask,
            Change::MachinePresent { .. }
            | Change::MachineNotMade { .. }
            | Change::MachineReady { .. }
            | Change::MachineUnusable { .. }
            | Change::MachineLeaving { .. }
            | Change::MachineGone { .. } => &mut self.machine,
            Change::LosePart { .. } => &mut self.lose,
            Change::Release { .. } | Change::StopAttempt { .. } => &mut self.steer,
            Change::EndAttempt { .. } => &mut self.end,
            Change::JobStatus { .. } => &mut self.job,
            Change::Place { .. } => &mut self.place,
            Change::ClusterStatus { .. } => &mut self.cluster,
            Change::FileServerStatus { .. } => &mut self.file_server,
            Change::FinishOperations { .. } => &mut self.finish,
            Change::Remove { .. } => &mut self.remove,
        };
        list.push(change);
    }
}

/// Whether as many rows were changed as asked.
fn all(changed: i64, asked: usize) -> bool {
    usize::try_from(changed).is_ok_and(|changed| changed == asked)
}
