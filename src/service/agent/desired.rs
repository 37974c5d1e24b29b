//! What a node should be, made from rows: the step from the attempt's state, the task from the job's spec with its secrets opened.

use std::sync::Arc;
use std::time::Duration;

use super::mounts::Level;
use super::{refused, unmet};
use crate::agent::protocol::{
    Account, Assignment, Container, Desired, Export, Host, Mount, OutputDirectory, RegistryLogin, SetupTask, Step, Task,
    TaskNames,
};
use crate::domain::account::{PASSWORD, UserAccount};
use crate::domain::attempt::{AttemptState, Stop};
use crate::domain::container::{ContainerSettings, PullLimits, REGISTRY_PASSWORD};
use crate::domain::job::SECRETS;
use crate::domain::machine::Setup;
use crate::domain::node_setup::SETUP_SECRETS;
use crate::domain::resource::{EntityError, NameValue};
use crate::domain::vault;
use crate::error::Error;
use crate::id::{AttemptUid, MachineUid, ResourceId, ResourceUid};
use crate::launch::{self, Plan};
use crate::secret::Sealer;
use crate::service::Service;
use crate::store::machine::{self, Gang, SealedAccount, SealedSetup, SealedTask};

/// Longest time that the other parts of a gang have once one has ended. Unit: milliseconds.
const GANG_GRACE_MS: u32 = 1_000;

/// What of a notice is left for saying how the job ended, before its node is taken away: the job has the rest of it.
const EVICTION_MARGIN: Duration = Duration::from_secs(2);

/// Tasks of attempts, by attempt and rank: constant while the attempt lives, so that a change of the step alone reads no spec again.
pub(crate) type Tasks = moka::sync::Cache<(AttemptUid, i32), Arc<Task>>;

/// What the nodes of clusters mount: constant while the cluster lives.
pub(crate) type Mounts = moka::sync::Cache<ResourceUid, Arc<Result<Vec<Mount>, EntityError>>>;

impl Service {
    /// What `machine` should be and its number; no state where the number is `have`.
    pub(super) async fn desired(&self, machine: MachineUid, have: i64) -> Result<(i64, Option<Desired>), Error> {
        // What follows may wait for a vault, and is asked for by few at once: those whose node is to be something else.
        let turn = self.inner.turns.take().await?;
        let held = machine::held(self.pool(), machine).await?.ok_or_else(refused)?;
        drop(turn);
        if held.desired == have {
            return Ok((have, None));
        }
        if held.is_file_server {
            let sealed = match held.setup {
                Setup::Pending => machine::file_server(self.pool(), held.cluster).await?,
                Setup::Done | Setup::Failed(_) => None,
            };
            let open = |sealed: SealedAccount| {
                let account = account(&self.inner.sealer, held.cluster, &sealed.account, &sealed.secrets)?;
                Ok::<_, Error>(Account { from: sealed.allowed_ranges, ..account })
            };
            let account = sealed.map(open).transpose()?;
            let export = Some(Export { key: self.door_key(held.cluster) });
            return Ok((held.desired, Some(Desired { account, export, ..Desired::default() })));
        }
        // A setup that is reported needs its secrets no more, but what is mounted is mounted again should it break.
        let Prepared { unmet, account, mounts, setup } = match held.setup {
            Setup::Pending => self.setup(held.cluster).await?,
            // One that broke afterwards keeps what its job uses.
            Setup::Failed(_) if held.gang.is_none() => Prepared::default(),
            Setup::Done | Setup::Failed(_) => {
                let mounts = self.cluster_mounts(held.cluster).await?.as_ref().clone().unwrap_or_default();
                Prepared { mounts, ..Prepared::default() }
            }
        };
        let assignments = match &held.gang {
            None => Vec::new(),
            Some(gang) => self.assignment(held.cluster, gang).await?.into_iter().collect(),
        };
        Ok((held.desired, Some(Desired { unmet, account, export: None, mounts, setup, assignments })))
    }

    async fn setup(&self, cluster: ResourceUid) -> Result<Prepared, Error> {
        let Some(mut sealed) = machine::setup(self.pool(), cluster).await? else { return Ok(Prepared::default()) };
        // A node that cannot be set up is looked at all the more.
        let account = Some(account(&self.inner.sealer, cluster, &sealed.spec.user_account, &sealed.secrets)?);
        if let Some(error) = unmet::of_cluster(&sealed.spec) {
            return Ok(Prepared { unmet: Some(error), account, ..Prepared::default() });
        }
        match self.cluster_mounts(cluster).await?.as_ref() {
            Err(error) => Ok(Prepared { unmet: Some(error.clone()), account, ..Prepared::default() }),
            Ok(mounts) => {
                let members = vault::of_cluster(&sealed.spec);
                if let Err(error) = self.fetch_vaulted((cluster, &sealed.path), members, &mut sealed.secrets).await? {
                    return Ok(Prepared { unmet: Some(error), account, ..Prepared::default() });
                }
                let setup = setup_task(&self.inner.sealer, cluster, sealed)?;
                Ok(Prepared { unmet: None, account, mounts: mounts.clone(), setup })
            }
        }
    }

    /// What the nodes of a cluster mount.
    async fn cluster_mounts(&self, cluster: ResourceUid) -> Result<Arc<Result<Vec<Mount>, EntityError>>, Error> {
        if let Some(mounts) = self.inner.mounts.get(&cluster) {
            return Ok(mounts);
        }
        let mut sealed = machine::setup(self.pool(), cluster).await?;
        let mounts = match &mut sealed {
            Some(sealed) => {
                let members = vault::of_cluster(&sealed.spec);
                if let Err(error) = self.fetch_vaulted((cluster, &sealed.path), members, &mut sealed.secrets).await? {
                    // Not remembered: for the next node the vault may be there.
                    return Ok(Arc::new(Err(error)));
                }
                let volumes = sealed.spec.node_setup.as_ref().and_then(|setup| setup.mount_volumes.as_ref());
                self.mounts(Level::Cluster, cluster, cluster, volumes, &sealed.secrets).await?
            }
            None => Ok(Vec::new()),
        };
        let mounts = Arc::new(mounts);
        self.inner.mounts.insert(cluster, Arc::clone(&mounts));
        Ok(mounts)
    }

    async fn assignment(&self, cluster: ResourceUid, gang: &Gang) -> Result<Option<Assignment>, Error> {
        let key = (gang.attempt, gang.rank);
        let task = match self.inner.tasks.get(&key) {
            Some(task) => task,
            None => {
                let Some(mut sealed) = machine::task(self.pool(), gang.attempt).await? else { return Ok(None) };
                let session = match sealed.nodes.len() {
                    0 | 1 => None,
                    _ => self.session(gang.attempt).await?,
                };
                let members = vault::of_job(&sealed.spec);
                let mounts = match self.fetch_vaulted((sealed.job, &sealed.path), members, &mut sealed.secrets).await? {
                    Ok(()) => {
                        let volumes = sealed.spec.mount_volumes.as_ref();
                        self.mounts(Level::Job, sealed.job, cluster, volumes, &sealed.secrets).await?
                    }
                    Err(error) => Err(error),
                };
                let task =
                    Arc::new(Task { session, ..task(&self.inner.sealer, sealed, gang.rank, mounts, self.inner.limits.pull)? });
                self.inner.tasks.insert(key, task.clone());
                task
            }
        };
        let grace = match (gang.stop, gang.evict_at) {
            (Some(Stop::Preempted), Some(at)) => Duration::try_from(at - EVICTION_MARGIN - self.now()).unwrap_or_default(),
            _ => self.inner.limits.stop_grace,
        };
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        Ok(Some(Assignment {
            attempt: gang.attempt,
            number: gang.number,
            rank: u32::try_from(gang.rank).unwrap_or(0),
            step: step(gang, grace_ms),
            task: (*task).clone(),
        }))
    }
}

/// What is done on a node before any job.
#[derive(Default)]
struct Prepared {
    unmet: Option<EntityError>,
    account: Option<Account>,
    mounts: Vec<Mount>,
    setup: Option<SetupTask>,
}

fn account(
    sealer: &Sealer,
    owner: ResourceUid,
    account: &UserAccount,
    secrets: &[crate::store::SecretRow],
) -> Result<Account, Error> {
    let password = secrets.iter().find(|secret| secret.field == PASSWORD);
    Ok(Account {
        name: account.name.clone(),
        ssh_public_key: account.ssh_public_key.clone(),
        password: password.map(|secret| open(sealer, owner, secret)).transpose()?,
        from: None,
    })
}

/// What a part should be doing follows from the attempt's state alone.
fn step(gang: &Gang, grace_ms: u32) -> Step {
    match (gang.stop, gang.state) {
        // The others of a gang whose job has ended have nothing left to do: they go soon.
        (Some(why @ Stop::Gang), _) => Step::Stop { why, grace_ms: grace_ms.min(GANG_GRACE_MS) },
        (Some(why), _) => Step::Stop { why, grace_ms },
        (None, AttemptState::Placed) => Step::Prepare,
        (None, AttemptState::Released | AttemptState::Ended) => Step::Run,
    }
}

pub(super) fn open(sealer: &Sealer, owner: ResourceUid, secret: &crate::store::SecretRow) -> Result<String, Error> {
    let plain = sealer.open(owner.0, &secret.field, &secret.sealed).map_err(Error::internal)?;
    String::from_utf8(plain).map_err(Error::internal)
}

/// Variables and, after them, those whose values are sealed below `prefix`.
fn environment(
    sealer: &Sealer,
    owner: ResourceUid,
    plain: &[NameValue],
    secrets: &[crate::store::SecretRow],
    prefix: &str,
) -> Result<Vec<NameValue>, Error> {
    let mut variables = plain.to_vec();
    for secret in secrets {
        if let Some(name) = secret.field.strip_prefix(prefix) {
            variables.push(NameValue { name: name.to_owned(), value: open(sealer, owner, secret)? });
        }
    }
    Ok(variables)
}

fn setup_task(sealer: &Sealer, cluster: ResourceUid, sealed: SealedSetup) -> Result<Option<SetupTask>, Error> {
    let Some(task) = sealed.spec.node_setup.and_then(|setup| setup.setup_task) else { return Ok(None) };
    let id = ResourceId::parse(&sealed.path).map_err(Error::internal)?;
    Ok(Some(SetupTask {
        command_line: task.command_line,
        environment: environment(sealer, cluster, &task.environment, &sealed.secrets, SETUP_SECRETS)?,
        std_out_err_path_prefix: task.std_out_err_path_prefix,
        std_out_err_path_suffix: format!("{}/{}", id.output_segment(), sealed.status.output_uuid),
    }))
}

/// The job's container, with the password of its registry opened.
fn container(
    sealer: &Sealer,
    owner: ResourceUid,
    settings: &ContainerSettings,
    secrets: &[crate::store::SecretRow],
    limits: PullLimits,
) -> Result<Container, Error> {
    let password = secrets.iter().find(|secret| secret.field == REGISTRY_PASSWORD);
    let login = match (&settings.credentials, password) {
        (Some(credentials), Some(password)) => Some(RegistryLogin {
            registry: settings.registry.clone(),
            username: credentials.username.clone(),
            password: open(sealer, owner, password)?,
        }),
        _ => None,
    };
    Ok(Container { image: settings.reference(), login, shm_size: settings.shm_bytes(), limits })
}

fn task(
    sealer: &Sealer,
    sealed: SealedTask,
    rank: i32,
    mounts: Result<Vec<Mount>, EntityError>,
    pull: PullLimits,
) -> Result<Task, Error> {
    let SealedTask { job, path, spec, nodes, secrets } = sealed;
    let id = ResourceId::parse(&path).map_err(Error::internal)?;
    let cluster = ResourceId::parse(&spec.cluster).map_err(Error::internal)?;
    let own = usize::try_from(rank).ok().and_then(|rank| nodes.get(rank));
    let (_, _, size) = own.cloned().ok_or_else(|| Error::internal("an attempt has a part without a node"))?;
    let [workspace, experiment, name] = id.names() else {
        return Err(Error::internal("a job's path has other names than workspace, experiment and job"));
    };
    // What cannot be done is not prepared either, and its secrets stay sealed.
    let (unmet, mounts) = match mounts {
        Ok(mounts) => (None, mounts),
        Err(error) => (Some(error), Vec::new()),
    };
    let addresses = nodes.iter().map(|(_, address, _)| address.as_deref().unwrap_or_default()).collect();
    let Plan { parts, host_file } = launch::plan(&spec.framework, &launch::Gang { addresses, gpus: size.gpus });
    let processes = usize::try_from(rank).ok().and_then(|rank| parts.into_iter().nth(rank)).unwrap_or_default();
    let secrets = if unmet.is_none() { secrets } else { Vec::new() };
    let directory = |directory: crate::domain::job::OutputDirectory| OutputDirectory {
        id: directory.id,
        path_prefix: directory.path_prefix,
        path_suffix: directory.path_suffix,
    };
    Ok(Task {
        unmet,
        names: TaskNames {
            workspace: workspace.clone(),
            experiment: experiment.clone(),
            job: name.clone(),
            cluster: cluster.name().to_owned(),
        },
        output_segment: format!("{}/{job}", id.output_segment()),
        hosts: nodes.into_iter().map(|(node_id, address, _)| Host { node_id, address: address.unwrap_or_default() }).collect(),
        size,
        processes,
        host_file,
        container: spec.container.as_ref().map(|settings| container(sealer, job, settings, &secrets, pull)).transpose()?,
        mounts,
        preparation: spec.preparation,
        std_out_err_path_prefix: spec.std_out_err_path_prefix,
        input_directories: spec.input_directories.unwrap_or_default().into_iter().map(|input| (input.id, input.path)).collect(),
        output_directories: spec.output_directories.unwrap_or_default().into_iter().map(directory).collect(),
        environment: environment(sealer, job, spec.environment.as_deref().unwrap_or_default(), &secrets, SECRETS)?,
        session: None,
    })
}
