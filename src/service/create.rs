//! Making a resource below a group: what the kinds but jobs share.

use std::collections::BTreeMap;

use super::activity::{carried_out, is_recorded, status_of_making};
use super::expect::makes_nothing;
use super::operation::{asked_by, begin};
use super::{Put, Service};
use crate::auth::Caller;
use crate::clock::Timestamp;
use crate::domain::operation::{Operation, State, Verb};
use crate::domain::resource::{EntityError, Envelope, Provisioning, Resource};
use crate::error::Error;
use crate::id::{ResourceId, ResourceUid};
use crate::secret::SecretText;
use crate::store::resource::{self, Created, New, SealedSecret};
use crate::store::{Document, StoreError};
use crate::wake::Topic;

/// What is to be made.
pub(super) struct Wanted<'a, K: Resource> {
    pub(super) id: &'a ResourceId,
    pub(super) location: Option<&'a str>,
    pub(super) tags: Option<BTreeMap<String, String>>,
    pub(super) spec: K::Spec,
    pub(super) status: K::Status,
    pub(super) secrets: &'a BTreeMap<String, SecretText>,
    /// File servers that it mounts.
    pub(super) servers: &'a [ResourceUid],
    pub(super) begun: Begun,
    /// Most resources of the kind in the subscription and region, where that is limited.
    pub(super) most: Option<u32>,
    pub(super) at: Timestamp,
}

/// How far the making is with the commit.
pub(super) enum Begun {
    /// Done.
    Done,
    /// Others do it.
    Promised,
    /// It cannot be done, for this reason.
    Failed(EntityError),
}

/// What became of it.
pub(super) enum Making<K: Resource> {
    /// It was made.
    Made(Box<Envelope<K>>, Box<Operation>),
    /// It exists, or something that it needs is absent or being deleted.
    Refused,
    /// The limit is reached: so many are there.
    Full(i64),
}

impl<K: Resource> Making<K> {
    /// As what a PUT answers, where it was made.
    pub(super) fn made(self) -> Option<Put<K>> {
        match self {
            Making::Made(envelope, operation) => Some(Put::Created(*envelope, operation)),
            Making::Refused | Making::Full(_) => None,
        }
    }
}

impl Service {
    /// Makes a resource in one commit, with its sealed secrets, its operation and its event.
    ///
    /// Where nothing of the making is left to do afterwards, the operation has succeeded with the commit: clients see that on their
    /// first poll. Source: recorded 2018-05-01 answers, where a cluster's operation ended before any node existed.
    pub(super) async fn make<K: Resource>(&self, caller: &Caller, wanted: Wanted<'_, K>) -> Result<Making<K>, Error> {
        let Wanted { id, location, tags, spec, status, secrets, servers, begun, most, at } = wanted;
        if makes_nothing(caller) {
            return Ok(Making::Refused);
        }
        let uid = ResourceUid(uuid::Uuid::now_v7());
        let (provisioning, state, error) = match begun {
            Begun::Done => (Provisioning::Succeeded, State::Succeeded, None),
            Begun::Promised => (Provisioning::Creating, State::Running, None),
            Begun::Failed(error) => (Provisioning::Failed, State::Failed, Some(error)),
        };
        let mut operation = Operation { error, ..begin(caller, id, uid, Verb::Create, state, at) };
        let secrets = self.seal(uid, secrets)?;
        let why = asked_by(caller);
        let new = New {
            uid,
            id,
            location,
            tags: Document::maybe(tags.as_ref())?,
            spec: Document::of(&spec)?,
            status: Document::of(&status)?,
            secrets: &secrets,
            provisioning,
            servers,
            operation: &operation,
            at,
            why: &why,
            activity: carried_out(caller, at, status_of_making(id), Some(&operation)),
        };
        let written = match most {
            Some(most) => match resource::create_limited(self.pool(), &new, most).await {
                Ok(Err(count)) => return Ok(Making::Full(count)),
                Ok(Ok(created)) => Ok(created),
                Err(error) => Err(error),
            },
            None => match self.pool().acquire().await {
                Ok(mut connection) => resource::create(&mut connection, &new).await,
                // Nothing was sent.
                Err(error) => return Err(StoreError::from(error).into()),
            },
        };
        let location = match written {
            Ok(Created::Made { location }) => location,
            Ok(Created::Refused) => return Ok(Making::Refused),
            // The commit may have happened: the operation tells.
            Err(error) if error.is_unavailable() => match self.find_committed(&operation).await {
                Some(committed) => {
                    let found = resource::find_by_uid::<K>(self.pool(), uid).await?.ok_or(error)?;
                    is_recorded(caller);
                    self.inner.wake.changed(Topic::Reconcile);
                    return Ok(Making::Made(Box::new(found), Box::new(committed)));
                }
                None => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        is_recorded(caller);
        self.inner.wake.changed(Topic::Reconcile);
        operation.location.clone_from(&location);
        let envelope = Envelope { tags, provisioning, ..Envelope::made(uid, id, location, spec, status, at) };
        Ok(Making::Made(Box::new(envelope), Box::new(operation)))
    }

    pub(super) fn seal(&self, owner: ResourceUid, secrets: &BTreeMap<String, SecretText>) -> Result<Vec<SealedSecret>, Error> {
        secrets
            .iter()
            .map(|(field, text)| {
                let sealed = self.inner.sealer.seal(owner.0, field, text.0.as_bytes()).map_err(Error::internal)?;
                Ok(SealedSecret { field: field.clone(), sealed })
            })
            .collect()
    }
}
