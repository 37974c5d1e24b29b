//! What tests of store and service stand on: a database of their own, a service over it, and short ways to make things.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use batchyard::auth::Caller;
use batchyard::clock::{Clock, ManualClock, Timestamp};
use batchyard::domain::attempt::{Assignment, AssignmentState, Attempt, AttemptState};
use batchyard::domain::cluster::{ClusterSpec, Deallocation, ImageReference, Scale, UserAccount, VmPriority};
use batchyard::domain::container::PullLimits;
use batchyard::domain::job::{Framework, JobSpec, JobStatus, Phase, Priority};
use batchyard::domain::machine::{Bootstrap, Machine, MachineSpec, Size};
use batchyard::domain::output::{OutputEntry, OutputFile, OutputPlace};
use batchyard::domain::snapshot::{Change, JobRow, Snapshot};
use batchyard::error::Error;
use batchyard::id::{AttemptUid, Kind, MachineUid, PrincipalId, ResourceId, ResourceUid, SubscriptionId, TenantId};
use batchyard::secret::{Sealer, SecretText};
use batchyard::service::{Limits, NewCluster, NewJob, OutputStore, Parts, Service};
use batchyard::sign::Signer;
use batchyard::store::{Applied, Lease, Rows, SealedRows, Settings, Store};
use batchyard::task::Tasks;
use batchyard::wake::Wake;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use sqlx::PgPool;
use uuid::Uuid;

use crate::postgres::empty_database;

/// Connections that requests of a [`Bed`] share.
pub(crate) const CONNECTIONS: u32 = 8;

/// A service over a database of its own.
pub(crate) struct Bed {
    pub(crate) url: String,
    pub(crate) pool: PgPool,
    store: Store,
    pub(crate) rows: SealedRows,
    pub(crate) service: Service,
    pub(crate) wake: Wake,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) caller: Caller,
    pub(crate) subscription: SubscriptionId,
    pub(crate) lease: Lease,
}

/// A database with our schema.
pub(crate) async fn database() -> String {
    let url = empty_database().await;
    connect(&url, 1).await.migrate().await.expect("migrates");
    url
}

pub(crate) async fn connect(url: &str, connections: u32) -> Store {
    Store::connect(&Settings { url: url.to_owned(), connections, wait: Duration::from_secs(10) }).await.expect("connects")
}

fn sealer() -> Sealer {
    Sealer::new(vec![("key-1".into(), [7; 32])])
}

pub(crate) fn size() -> Size {
    Size { name: "STANDARD_D1".into(), cores: 1, memory_mib: 3584, gpus: 0 }
}

impl Bed {
    pub(crate) async fn new() -> Bed {
        let url = database().await;
        let pool = PgPool::connect(&url).await.expect("connects");
        let subscription = SubscriptionId(Uuid::new_v4());
        let tenant = TenantId(Uuid::new_v4());
        sqlx::query("insert into batchyard.subscription (id, tenant_id, display_name, created_at) values ($1, $2, 'S', now())")
            .bind(subscription.0)
            .bind(tenant.0)
            .execute(&pool)
            .await
            .expect("inserts");
        let store = connect(&url, CONNECTIONS).await;
        // The database's clock decides about leases alone, so that this one may stand.
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_timestamp(1_790_000_000).expect("a time")));
        let wake = Wake::default();
        let caller = Caller { principal: PrincipalId(Uuid::new_v4()), tenant, client_id: "tester".into(), asked: None };
        let rows = store.rows(sealer());
        let lease = rows.take_lease("test", Uuid::new_v4(), Duration::from_secs(600)).await.expect("asks").expect("free");
        let service = service(store.clone(), clock.clone(), wake.clone());
        let bed = Bed { url, pool, store, rows, service, wake, clock, caller, subscription, lease };
        bed.service.put_group(&bed.caller, &bed.group(), "eastus".into(), None, None).await.expect("a group");
        bed.service.put_workspace(&bed.caller, &bed.workspace(), "eastus".into(), None).await.expect("a workspace");
        bed.service.put_experiment(&bed.caller, &bed.experiment()).await.expect("an experiment");
        bed
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn group(&self) -> ResourceId {
        ResourceId::group(self.subscription, "RG")
    }

    pub(crate) fn id(&self, kind: Kind, names: &[&str]) -> ResourceId {
        ResourceId::below_group(self.subscription, "RG", kind, names.iter().map(|name| (*name).to_owned()).collect())
            .expect("an id")
    }

    pub(crate) fn workspace(&self) -> ResourceId {
        self.id(Kind::Workspace, &["ws"])
    }

    pub(crate) fn experiment(&self) -> ResourceId {
        self.id(Kind::Experiment, &["ws", "exp"])
    }

    pub(crate) fn cluster(&self) -> ResourceId {
        self.id(Kind::Cluster, &["ws", "Cluster"])
    }

    pub(crate) fn job(&self, name: &str) -> ResourceId {
        self.id(Kind::Job, &["ws", "exp", name])
    }

    /// A job of one node and a secret, as a request describes it.
    pub(crate) fn new_job(&self) -> NewJob {
        NewJob {
            spec: JobSpec {
                priority: Priority::Normal,
                cluster: self.cluster().path(),
                node_count: 1,
                mount_volumes: None,
                container: None,
                framework: Framework::Custom { command_line: Some("true".into()) },
                preparation: None,
                std_out_err_path_prefix: "$AZ_BATCHAI_JOB_TEMP".into(),
                input_directories: None,
                output_directories: None,
                environment: None,
                secrets: Some(vec!["TOKEN".into()]),
                max_wall_clock_s: 3600,
                retries: vec![],
                older: None,
            },
            secrets: BTreeMap::from([("secrets.TOKEN".to_owned(), SecretText("canary-value".into()))]),
        }
    }

    pub(crate) async fn put_cluster(&self, target: u32) -> ResourceUid {
        let new = new_cluster(target);
        match self.service.put_cluster(&self.caller, &self.cluster(), new).await.expect("a cluster") {
            batchyard::service::Put::Created(cluster, _) | batchyard::service::Put::Existing(cluster) => cluster.uid,
        }
    }

    pub(crate) async fn put_job(&self, name: &str) -> ResourceUid {
        match self.service.put_job(&self.caller, &self.job(name), self.new_job()).await.expect("a job") {
            batchyard::service::Put::Created(job, _) | batchyard::service::Put::Existing(job) => job.uid,
        }
    }

    /// What a leader reads that has read before: the same as one that reads for the first time.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let snapshot = self.rows.snapshot(100).await.expect("reads");
        let anew = self.store.rows(sealer()).snapshot(100).await.expect("reads");
        assert_eq!(format!("{snapshot:?}"), format!("{anew:?}"));
        snapshot
    }

    pub(crate) async fn apply(&self, changes: &[Change]) -> Applied {
        self.rows.apply(&self.lease, changes).await.expect("applies")
    }

    /// Applies one change after whoever else runs has had its turn.
    pub(crate) async fn rows_apply(&self, change: &Change) -> Applied {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        self.apply(std::slice::from_ref(change)).await
    }

    /// The change that asks for a machine of `cluster`, with the token `token-{ordinal}`.
    pub(crate) fn ask(&self, cluster: ResourceUid, cluster_revision: i64, ordinal: i32) -> Change {
        let uid = MachineUid(Uuid::now_v7());
        Change::AskMachine {
            cluster_revision,
            spec: MachineSpec {
                uid,
                name: format!("m-{}", uid.0.simple()),
                node_id: format!("tvm-1_{ordinal}"),
                size: size(),
                cluster,
                admin_user: "ops".into(),
                role: Default::default(),
                bootstrap: Bootstrap { join_token: format!("token-{ordinal}") },
            },
            ordinal,
            at: self.now(),
        }
    }

    /// A cluster with `count` machines whose agents have joined and reported: ready for jobs.
    pub(crate) async fn ready(&self, count: i32) -> Vec<Machine> {
        let cluster = self.put_cluster(u32::try_from(count).expect("a count")).await;
        let revision = self.snapshot().await.clusters[0].revision;
        let asked: Vec<Change> = (1..=count).map(|ordinal| self.ask(cluster, revision, ordinal)).collect();
        assert_eq!(self.apply(&asked).await, Applied::All);
        for machine in self.snapshot().await.machines {
            let token = machine.bootstrap.expect("not spent").join_token;
            self.service.join(join(&machine.name, &token, 1)).await.expect("joins");
        }
        let at = self.now();
        let changes: Vec<Change> = self
            .snapshot()
            .await
            .machines
            .iter()
            .map(|machine| Change::MachinePresent {
                uid: machine.uid,
                revision: machine.revision,
                address: Some(format!("10.0.0.{}", machine.ordinal + 3)),
                at,
            })
            .collect();
        assert_eq!(self.apply(&changes).await, Applied::All);
        let changes: Vec<Change> = self
            .snapshot()
            .await
            .machines
            .iter()
            .map(|machine| Change::MachineReady { uid: machine.uid, revision: machine.revision, at })
            .collect();
        assert_eq!(self.apply(&changes).await, Applied::All);
        self.snapshot().await.machines
    }

    /// The change that gives `job` these machines.
    pub(crate) fn place(&self, job: &JobRow, machines: &[&Machine]) -> (AttemptUid, Change) {
        let at = self.now();
        let uid = AttemptUid(Uuid::now_v7());
        let attempt = Attempt {
            uid,
            job: job.uid,
            number: job.attempts + 1,
            state: if machines.len() == 1 { AttemptState::Released } else { AttemptState::Placed },
            created_at: at,
            released_at: (machines.len() == 1).then_some(at),
            stop: None,
            assignments: machines
                .iter()
                .zip(0..)
                .map(|(machine, rank)| Assignment {
                    machine: machine.uid,
                    rank,
                    state: AssignmentState::Assigned,
                    end: None,
                    started_at: None,
                    ended_at: None,
                })
                .collect(),
            revision: 1,
        };
        let status = JobStatus { phase: Phase::Running, phase_changed_at: at, started_at: Some(at), ..job.status.clone() };
        (uid, Change::Place { attempt, job_revision: job.revision, status })
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.expect("counts")
    }
}

pub(crate) fn service(store: Store, clock: Arc<dyn Clock>, wake: Wake) -> Service {
    let service = Service::new(Parts {
        store,
        clock,
        wake,
        sealer: sealer(),
        signer: Signer::new(&[9; 32]),
        output: Arc::new(NoOutput),
        sizes: vec![size()],
        shares: vec!["shared".into()],
        file_servers: true,
        storages: Default::default(),
        mount_deadline: Duration::from_secs(60),
        vaults: Arc::new(batchyard::service::NoVaults),
        limits: Limits {
            clusters: 2,
            file_servers: 2,
            cores: Default::default(),
            stop_grace: Duration::from_secs(10),
            pull: PullLimits::default(),
            record_for: Duration::from_secs(90 * 86_400),
            samples_for: Duration::from_secs(14 * 86_400),
        },
    });
    service.run_submissions(&Tasks::new());
    service
}

pub(crate) fn new_cluster(target: u32) -> NewCluster {
    NewCluster {
        spec: ClusterSpec {
            vm_size: "STANDARD_D1".into(),
            vm_priority: VmPriority::Dedicated,
            scale: Scale::Manual { target, deallocation: Deallocation::Requeue },
            image: ImageReference::default(),
            node_setup: None,
            user_account: UserAccount { name: "ops".into(), ssh_public_key: None },
            subnet: None,
            older: None,
        },
        secrets: BTreeMap::new(),
    }
}

/// A join of the machine `name` with a key of its own.
pub(crate) fn join(name: &str, token: &str, key: u8) -> batchyard::agent::protocol::Join {
    batchyard::agent::protocol::Join {
        login: Default::default(),
        protocol: batchyard::agent::protocol::VERSION,
        machine: name.to_owned(),
        token: token.to_owned(),
        key_hash: format!("{key:02x}").repeat(32),
        boot_id: "boot".into(),
        isolation: "simulated".into(),
        gpus: vec![],
    }
}

/// Keeps nothing.
struct NoOutput;

#[async_trait::async_trait]
impl OutputStore for NoOutput {
    async fn keep(&self, _: &str, _: Bytes) -> Result<(), Error> {
        Ok(())
    }

    async fn discard(&self, _: Vec<String>) {}

    async fn list(&self, _: &OutputPlace, _: &str) -> Result<Vec<OutputEntry>, Error> {
        Ok(Vec::new())
    }

    fn link(&self, _: &OutputPlace, _: &str, _: Timestamp) -> Option<String> {
        None
    }

    async fn stat(&self, _: &OutputPlace, _: &str) -> Result<OutputFile, Error> {
        Err(Error::internal("nothing is kept"))
    }

    async fn read(&self, _: &OutputPlace, _: &str, _: Range<u64>) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        Err(Error::internal("nothing is kept"))
    }
}
