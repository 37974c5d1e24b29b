//! An agent's post: what it sees goes into the rows, what it should be comes back, at once or when it changes.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::{check_version, refused};
use crate::agent::protocol::{Chunk, MAX_INLINE_OUTPUT, MAX_OUTPUT_BODY, MAX_WAIT_MS, OutputQuery, Sync, Synced};
use crate::clock::Timestamp;
use crate::domain::output::{OutputPiece, PieceContent};
use crate::domain::report::Report;
use crate::domain::sample::Sample;
use crate::error::{Error, ErrorCode};
use crate::id::MachineUid;
use crate::service::Service;
use crate::store::machine::{self, Reported};
use crate::wake::Topic;

impl Service {
    /// Takes a report and answers what the node should be, once that is something else than the agent has or the wait is over.
    ///
    /// # Errors
    /// `AuthenticationFailed` where the machine is not trusted any more; `InvalidRequestContent` where the report is not well-formed:
    /// then nothing of it was taken; `TooManyRequests`; `ServiceUnavailable`.
    pub async fn sync(&self, machine: MachineUid, sync: Sync) -> Result<Synced, Error> {
        check_version(sync.protocol)?;
        let pieces = sync.output.into_iter().map(piece).collect::<Result<Vec<_>, _>>()?;
        if pieces.iter().map(OutputPiece::length).sum::<u64>() > MAX_INLINE_OUTPUT as u64 {
            return Err(malformed("The report holds too much output."));
        }
        let report = Report {
            session: sync.session,
            seq: sync.seq,
            boot_id: &sync.boot_id,
            setup: &sync.setup,
            health: &sync.health,
            assignments: &sync.assignments,
        };
        // Whoever waits listens before the number is read, so that no change falls between.
        let mut numbers = self.inner.waiters.wait(machine);
        let turn = self.inner.turns.take().await?;
        let reported = machine::report(self.pool(), machine, &report, &pieces, self.now()).await?;
        drop(turn);
        let desired = match reported {
            Reported::Stranger => return Err(refused()),
            Reported::Taken { changed, desired, unused } => {
                self.inner.samples.add(machine, Sample::sane(sync.samples, self.now()));
                if !unused.is_empty() {
                    self.output.discard(unused).await;
                }
                if changed {
                    self.inner.wake.changed(Topic::Reconcile);
                }
                desired
            }
        };
        let credential = self.renew_credential(machine);
        let have = i64::try_from(sync.have).unwrap_or(0);
        if desired == have && credential.is_none() {
            let wait = Duration::from_millis(u64::from(sync.wait_ms.min(MAX_WAIT_MS)));
            let stopped = self.inner.stopping.clone();
            // The first numbers may be older than what was just read: only greater ones are news.
            let news = numbers.wait_for(|number| *number > have);
            let told = tokio::select! {
                told = timeout(wait, news) => matches!(told, Ok(Ok(_))),
                () = stopped.cancelled() => false,
            };
            if !told {
                return Ok(Synced { revision: sync.have, desired: None, credential, now: Some(self.now()) });
            }
        }
        let (revision, desired) = self.desired(machine, have).await?;
        Ok(Synced { revision: u64::try_from(revision).unwrap_or(0), desired, credential, now: Some(self.now()) })
    }

    /// Keeps a large piece of output of one of the node's own parts.
    ///
    /// # Errors
    /// `AuthenticationFailed` where the attempt has no living part on the machine; `InvalidRequestContent`; `ServiceUnavailable`.
    pub async fn put_output(&self, machine: MachineUid, at: OutputQuery, data: Bytes) -> Result<(), Error> {
        if data.len() > MAX_OUTPUT_BODY {
            return Err(Error::new(ErrorCode::RequestEntityTooLarge, "The piece of output is too large."));
        }
        let mut piece = piece_of(at, data.clone())?;
        if !machine::is_own_part(self.pool(), machine, piece.attempt).await? {
            return Err(refused());
        }
        if data.len() > MAX_INLINE_OUTPUT {
            piece.content = PieceContent::Object { length: data.len() as u64 };
            // The bytes first: what the row names exists.
            self.output.keep(&piece.object_name(), data).await?;
        }
        let unused = self.inner.store.append_output(std::slice::from_ref(&piece)).await?;
        if !unused.is_empty() {
            self.output.discard(unused).await;
        }
        Ok(())
    }
}

fn piece(chunk: Chunk) -> Result<OutputPiece, Error> {
    piece_of(chunk.at, Bytes::from(chunk.data))
}

fn piece_of(at: OutputQuery, data: Bytes) -> Result<OutputPiece, Error> {
    let piece = OutputPiece {
        attempt: at.attempt,
        directory: at.directory,
        path: at.path,
        generation: at.generation,
        start: at.offset,
        modified_at: Timestamp::from_unix_timestamp(at.modified_at)
            .map_err(|_| malformed("The time of an output file is out of range."))?,
        content: PieceContent::Inline(data),
    };
    piece.check().map_err(malformed)?;
    Ok(piece)
}

fn malformed(rule: &str) -> Error {
    Error::new(ErrorCode::InvalidRequestContent, rule)
}
