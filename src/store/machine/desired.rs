//! What machines should be, as their agents ask for it.

use sqlx::PgPool;

use crate::clock::Timestamp;
use crate::domain::account::UserAccount;
use crate::domain::attempt::{AttemptState, Stop};
use crate::domain::cluster::{ClusterSpec, ClusterStatus};
use crate::domain::file_server::FileServerSpec;
use crate::domain::job::JobSpec;
use crate::domain::machine::{Setup, Size};
use crate::id::{AttemptUid, MachineUid, ResourceUid};
use crate::secret::Sealed;
use crate::store::StoreError;
use crate::store::document::Document;
use crate::store::secret::{self, SecretRow};
use crate::store::snapshot::word;

/// The number of what each machine should be.
pub(crate) type Numbers = Vec<(MachineUid, i64)>;

/// The numbers of all machines that are not gone: one query for all agents that wait.
pub(crate) async fn numbers(pool: &PgPool) -> Result<Numbers, StoreError> {
    let rows = sqlx::query!("select uid, desired from machine where state <> 'gone'").fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (MachineUid(row.uid), row.desired)).collect())
}

/// What a machine should be, without the parts that stay the same for an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The number of it.
    pub(crate) desired: i64,
    /// The cluster or file server.
    pub(crate) cluster: ResourceUid,
    /// Whether that is a file server.
    pub(crate) is_file_server: bool,
    /// Whether the setup is done.
    pub(crate) setup: Setup,
    /// Its part of an attempt, if it has one.
    pub(crate) gang: Option<Gang>,
}

/// A machine's part of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Gang {
    /// The attempt.
    pub(crate) attempt: AttemptUid,
    /// Counts the attempts of the job.
    pub(crate) number: i32,
    /// The part's place.
    pub(crate) rank: i32,
    /// How far the attempt is.
    pub(crate) state: AttemptState,
    /// Why it is to stop, if it is.
    pub(crate) stop: Option<Stop>,
    /// When the first of the attempt's nodes is taken away, if one is.
    pub(crate) evict_at: Option<Timestamp>,
}

/// What a machine should be. `None` where it is gone.
pub(crate) async fn held(pool: &PgPool, machine: MachineUid) -> Result<Option<Held>, StoreError> {
    let row = sqlx::query!(
        r#"
        select m.desired, m.cluster_uid, r.kind = 'file_server' as "is_file_server!", m.setup as "setup: Document",
            a.uid as "attempt_uid?", a.number as "number?", a.state as "state?", a.stop, s.rank as "rank?",
            (
                select min(other.evict_at)
                from assignment part
                join machine other on other.uid = part.machine_uid
                where part.attempt_uid = a.uid
            ) as evict_at
        from machine m
        join resource r on r.uid = m.cluster_uid
        left join (attempt a join assignment s on s.attempt_uid = a.uid)
            on a.uid = m.attempt_uid and s.machine_uid = m.uid and a.state <> 'ended'
        where m.uid = $1 and m.state <> 'gone'
        "#,
        machine.0,
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let gang = match (row.attempt_uid, row.number, row.state, row.rank) {
        (Some(attempt), Some(number), Some(state), Some(rank)) => Some(Gang {
            attempt: AttemptUid(attempt),
            number,
            rank,
            state: word("attempt's state", &state, AttemptState::find)?,
            stop: row.stop.as_deref().map(|stop| word("attempt's stop", stop, Stop::find)).transpose()?,
            evict_at: row.evict_at,
        }),
        _ => None,
    };
    Ok(Some(Held {
        desired: row.desired,
        cluster: ResourceUid(row.cluster_uid),
        is_file_server: row.is_file_server,
        setup: row.setup.read("machine's setup")?,
        gang,
    }))
}

/// A cluster's setup task with its secrets sealed.
#[derive(Clone, Debug)]
pub(crate) struct SealedSetup {
    /// The cluster's canonical path.
    pub(crate) path: String,
    /// What was asked for.
    pub(crate) spec: ClusterSpec,
    /// What was recorded.
    pub(crate) status: ClusterStatus,
    /// Its secrets.
    pub(crate) secrets: Vec<SecretRow>,
}

/// The setup of a cluster's nodes. `None` where the cluster is gone.
pub(crate) async fn setup(pool: &PgPool, cluster: ResourceUid) -> Result<Option<SealedSetup>, StoreError> {
    let row = sqlx::query!(
        r#"
        select path, spec as "spec: Document", status as "status: Document"
        from resource
        where uid = $1 and kind = 'cluster'
        "#,
        cluster.0,
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(SealedSetup {
        path: row.path,
        spec: row.spec.read("cluster's spec")?,
        status: row.status.read("cluster's status")?,
        secrets: secret::list(pool, cluster).await?,
    }))
}

/// Who logs in to a file server, and from where, with the secrets sealed.
#[derive(Clone, Debug)]
pub(crate) struct SealedAccount {
    /// The account.
    pub(crate) account: UserAccount,
    /// Ranges of addresses that may come; `None` for all.
    pub(crate) allowed_ranges: Option<Vec<String>>,
    /// Its secrets.
    pub(crate) secrets: Vec<SecretRow>,
}

/// What a file server's machine needs of it. `None` where `owner` is none, or is gone.
pub(crate) async fn file_server(pool: &PgPool, owner: ResourceUid) -> Result<Option<SealedAccount>, StoreError> {
    let row = sqlx::query!(r#"select spec as "spec: Document" from resource where uid = $1 and kind = 'file_server'"#, owner.0,)
        .fetch_optional(pool)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let spec: FileServerSpec = row.spec.read("file server's spec")?;
    let FileServerSpec { user_account: account, allowed_ranges, .. } = spec;
    Ok(Some(SealedAccount { account, allowed_ranges, secrets: secret::list(pool, owner).await? }))
}

/// What an attempt runs, with its secrets sealed: all that stays the same while it lives.
#[derive(Clone, Debug)]
pub(crate) struct SealedTask {
    /// The job.
    pub(crate) job: ResourceUid,
    /// The job's canonical path.
    pub(crate) path: String,
    /// What was asked for.
    pub(crate) spec: JobSpec,
    /// Node id, address and size of each node of the gang, by rank.
    pub(crate) nodes: Vec<(String, Option<String>, Size)>,
    /// The job's secrets.
    pub(crate) secrets: Vec<SecretRow>,
}

/// The sealed keys of an attempt: those that it has, else `new`, from now on. `None` where it is over.
pub(crate) async fn ensure_session(pool: &PgPool, attempt: AttemptUid, new: &Sealed) -> Result<Option<Sealed>, StoreError> {
    let row = sqlx::query!(
        r#"
        update attempt
        set session_key_id = coalesce(session_key_id, $2), session_sealed = coalesce(session_sealed, $3)
        where uid = $1 and state <> 'ended'
        returning session_key_id as "key_id!", session_sealed as "sealed!"
        "#,
        attempt.0,
        new.key_id,
        new.bytes,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Sealed { key_id: row.key_id, bytes: row.sealed }))
}

/// What an attempt runs. `None` where it is gone.
pub(crate) async fn task(pool: &PgPool, attempt: AttemptUid) -> Result<Option<SealedTask>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select job.uid, job.path, job.spec as "spec: Document", m.node_id, m.address, m.size as "size: Document"
        from attempt a
        join resource job on job.uid = a.job_uid
        join assignment s on s.attempt_uid = a.uid
        join machine m on m.uid = s.machine_uid
        where a.uid = $1
        order by s.rank
        "#,
        attempt.0,
    )
    .fetch_all(pool)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let job = ResourceUid(first.uid);
    let spec: JobSpec = first.spec.read("job's spec")?;
    let has_login = spec.container.as_ref().is_some_and(|container| container.credentials.is_some());
    let secrets = match (&spec.secrets, &spec.mount_volumes) {
        (None, None) if !has_login => Vec::new(),
        _ => secret::list(pool, job).await?,
    };
    let path = first.path.clone();
    let nodes = rows
        .into_iter()
        .map(|row| Ok((row.node_id, row.address, row.size.read("machine's size")?)))
        .collect::<Result<_, StoreError>>()?;
    Ok(Some(SealedTask { job, path, spec, nodes, secrets }))
}
