//! Rows that an earlier snapshot read, kept so that the next one reads only those that were written since.
//!
//! A row is known by the transactions that wrote it (`xmin`, of the row and of what is read with it): a committed transaction leaves one version of a row,
//! so that one that names the same transactions says the same. Nothing needs to tell that a row has moved: whoever wrote it, and however,
//! was another transaction.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::domain::attempt::Attempt;
use crate::domain::machine::Machine;
use crate::domain::snapshot::{JobRow, UnreadableMachine};

/// The transactions that wrote a row and what is read with it.
pub(super) type Version = Vec<i64>;

/// Rows that were each written by one transaction.
pub(super) fn versions(uids: Vec<Uuid>, writers: Vec<i64>) -> Vec<(Uuid, Version)> {
    uids.into_iter().zip(writers.into_iter().map(|writer| vec![writer])).collect()
}

/// What a leader's last snapshot read.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The grant under which it was read: a new leader reads all anew.
    pub(super) token: i64,
    pub(super) machines: Read<Result<Machine, UnreadableMachine>>,
    pub(super) attempts: Read<Option<Attempt>>,
    pub(super) jobs: Read<Option<JobRow>>,
}

impl Known {
    /// Forgets what was read under another grant of the lease.
    pub(crate) fn granted(&mut self, token: i64) {
        if self.token != token {
            *self = Known { token, ..Known::default() };
        }
    }
}

/// Rows of one table, each as its version says.
#[derive(Debug)]
pub(super) struct Read<T>(BTreeMap<Uuid, (Version, T)>);

impl<T> Default for Read<T> {
    fn default() -> Read<T> {
        Read(BTreeMap::new())
    }
}

impl<T> Read<T> {
    /// Those of `heads` that are not known as they are now.
    pub(super) fn unread(&self, heads: &[(Uuid, Version)]) -> Vec<Uuid> {
        let is_known = |(uid, version): &&(Uuid, Version)| self.0.get(uid).is_some_and(|(known, _)| known == version);
        heads.iter().filter(|head| !is_known(head)).map(|(uid, _)| *uid).collect()
    }

    /// Takes in the rows that were read, and forgets all that is not among `heads`. Answers what is known then.
    pub(super) fn take(
        &mut self,
        heads: Vec<(Uuid, Version)>,
        rows: impl IntoIterator<Item = (Uuid, T)>,
    ) -> impl Iterator<Item = &T> {
        let mut rows: BTreeMap<Uuid, T> = rows.into_iter().collect();
        let mut known = std::mem::take(&mut self.0);
        let kept = |(uid, version): (Uuid, Version)| {
            let row = rows.remove(&uid).or_else(|| known.remove(&uid).map(|(_, row)| row))?;
            Some((uid, (version, row)))
        };
        self.0 = heads.into_iter().filter_map(kept).collect();
        self.0.values().map(|(_, row)| row)
    }
}
