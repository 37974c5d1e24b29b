//! Where a job's files are on its node and what its variables say: the documented paths and names.
//!
//! In: the roots of the node and a task as the server sent it. Out: places, file names and variables. Pure; it makes nothing.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::agent::beneath::normal;
use crate::agent::expand::{Unknown, expand, expand_known, is_name};
use crate::agent::protocol::{Mount, SetupTask, Task};
use crate::domain::bootstrap::AgentBootstrap;
use crate::domain::gpu::Gpu;
use crate::domain::process::Process;
use crate::domain::resource::{EntityError, NameValue};

/// The code of an entity's error where a job cannot be set up on a node.
pub(super) const SETUP_FAILED: &str = "JobSetupFailed";

/// The id of the standard output directory.
pub(super) const STANDARD: &str = "stdouterr";

/// The port of the successor's `AZ_BATCH_MASTER_NODE`.
///
/// Source: documented value of the Azure Batch variable.
const MASTER_PORT: u16 = 6000;

/// The roots of the documented paths of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Roots {
    /// What the two below have in common: all that a job has of the node's files in a container, too.
    pub(super) base: PathBuf,
    /// `AZ_BATCHAI_MOUNT_ROOT`.
    pub(super) mounts: PathBuf,
    /// `AZ_BATCHAI_JOB_TEMP_DIR`: below it is what goes when the next job starts.
    pub(super) jobs: PathBuf,
    /// Where a setup task works.
    pub(super) startup: PathBuf,
    /// Names below `mounts` that the server reads by itself.
    pub(super) shares: Vec<String>,
    /// How many GPUs the node has.
    #[serde(default)]
    pub(super) gpus: usize,
    /// Which of them programs may use: all of the node's own, and no others of its host.
    #[serde(default)]
    pub(super) visible_gpus: String,
}

impl Roots {
    /// The roots of the node that starts from `bootstrap`.
    pub(super) fn new(bootstrap: &AgentBootstrap) -> Roots {
        let base = bootstrap.tasks_root.join("shared/LS_root");
        Roots {
            mounts: base.join("mounts"),
            jobs: base.join("jobs"),
            base,
            startup: bootstrap.tasks_root.join("startup"),
            shares: bootstrap.shares.clone(),
            gpus: bootstrap.gpus.len(),
            visible_gpus: Gpu::visible(&bootstrap.gpus),
        }
    }

    /// What programs are told of GPUs.
    fn gpu_variables(&self) -> [(&'static str, String); 3] {
        let count = self.gpus.to_string();
        [
            ("AZ_BATCHAI_NUM_GPUS", count.clone()),
            ("AZ_BATCHAI_NUM_GPUS_PER_NODE", count),
            ("CUDA_VISIBLE_DEVICES", self.visible_gpus.clone()),
        ]
    }

    /// The place that a path means, if it is one that a job may have made for it. What is mounted hides what is below.
    fn find_place(&self, path: &str, mounted: &[Mounted]) -> Option<Place> {
        for mount in mounted {
            let Some(below) = path.strip_prefix(mount.at.to_str()?) else { continue };
            if below.is_empty() || below.starts_with('/') {
                let home = if mount.listed { Home::Listed } else { Home::Storage };
                return Some(Place { root: mount.at.clone(), below: normal(below.trim_start_matches('/'))?, home });
            }
        }
        for (root, trusted) in [(&self.mounts, Trusted::Mounts), (&self.jobs, Trusted::Jobs)] {
            let Some(below) = path.strip_prefix(root.to_str()?) else { continue };
            if !below.is_empty() && !below.starts_with('/') {
                continue;
            }
            let relative = normal(below.trim_start_matches('/'))?;
            let share = self.shares.iter().find(|share| trusted == Trusted::Mounts && relative.starts_with(share.as_str()));
            return Some(match share {
                Some(share) => {
                    Place { root: root.join(share), below: relative.strip_prefix(share).ok()?.to_owned(), home: Home::Listed }
                }
                None => Place { root: root.clone(), below: relative, home: Home::Node },
            });
        }
        None
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trusted {
    Mounts,
    Jobs,
}

/// A folder that is made for a job: a root that is trusted and the path below it, which is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// A folder of the node, or the mount point of a share.
    pub(super) root: PathBuf,
    /// Below it.
    pub(super) below: PathBuf,
    /// What it is on.
    pub(super) home: Home,
}

/// What a folder is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Home {
    /// The node's own disk: what is there goes with the job, and to the server before.
    Node,
    /// Storage that the server reads by itself.
    Listed,
    /// Storage that it does not: what is there stays, and goes to the server as well.
    Storage,
}

/// A storage that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mounted {
    at: PathBuf,
    listed: bool,
}

fn mounted(root: &Path, mounts: &[Mount]) -> impl Iterator<Item = Mounted> {
    mounts.iter().map(|mount| Mounted { at: root.join(&mount.place), listed: mount.listed })
}

/// Below a job's temporary folder: where its mounts are.
pub(super) const MOUNTS: &str = "mounts";

impl Place {
    /// The whole path.
    pub(super) fn path(&self) -> PathBuf {
        if self.below.as_os_str().is_empty() { self.root.clone() } else { self.root.join(&self.below) }
    }

    fn join(&self, below: &Path) -> Place {
        Place { below: self.below.join(below), ..self.clone() }
    }
}

/// Names of the files in the standard output directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileNames {
    /// Of the job preparation.
    pub(super) preparation: (String, String),
    /// What was done on this node.
    pub(super) log: String,
}

/// Where everything of one part of a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    /// `AZ_BATCHAI_JOB_TEMP`, below the root of all jobs.
    pub(super) temp: Place,
    /// `AZ_BATCHAI_STDOUTERR_DIR`.
    pub(super) standard: Place,
    /// Output directories by id.
    pub(super) outputs: Vec<(String, Place)>,
    /// The job's own folders, one for each prefix: outputs are below them.
    pub(super) own: Vec<Place>,
    /// Files in `standard`.
    pub(super) files: FileNames,
}

/// The name of the host file in the job's temporary folder.
pub(super) const HOST_FILE: &str = "hostfile";

/// Which node of which gang.
#[derive(Clone, Debug)]
pub(super) struct Rank<'a> {
    /// Its place in the gang.
    pub(super) rank: u32,
    /// The node's id.
    pub(super) node_id: &'a str,
}

/// A job's layout and its variables. `node` is what the node has mounted.
///
/// # Errors
/// What of the job's spec cannot be, for people: a prefix that is not below a mount or the job's own folders, an unknown variable.
pub(super) fn job(roots: &Roots, node: &[Mount], task: &Task, rank: &Rank<'_>) -> Result<(Layout, Variables), EntityError> {
    let names = &task.names;
    let temp_below = [&names.workspace, &names.experiment, &names.job].into_iter().collect::<PathBuf>();
    let temp = Place { root: roots.jobs.clone(), below: checked(&temp_below)?, home: Home::Node };
    let temp_path = text(&temp.path());
    let own_mounts = temp.path().join(MOUNTS);
    let mounted: Vec<Mounted> = mounted(&own_mounts, &task.mounts).chain(mounted(&roots.mounts, node)).collect();

    let mut service = Variables::default();
    let master = task.hosts.first().map_or("", |host| host.address.as_str());
    for (name, value) in [
        ("AZ_BATCHAI_MOUNT_ROOT", text(&roots.mounts)),
        ("AZ_BATCHAI_JOB_MOUNT_ROOT", text(&own_mounts)),
        ("AZ_BATCHAI_JOB_TEMP", temp_path.clone()),
        ("AZ_BATCHAI_JOB_TEMP_DIR", text(&roots.jobs)),
        ("AZ_BATCHAI_SHARED_JOB_TEMP", format!("{temp_path}/shared")),
        ("AZ_BATCHAI_JOB_WORK_DIR", temp_path.clone()),
        ("AZ_BATCHAI_MPI_HOST_FILE", format!("{temp_path}/{HOST_FILE}")),
        ("AZ_BATCH_HOST_LIST", task.hosts.iter().map(|host| host.address.as_str()).collect::<Vec<_>>().join(",")),
        ("AZ_BATCHAI_TASK_INDEX", rank.rank.to_string()),
        ("AZ_BATCHAI_CLUSTER_NAME", names.cluster.clone()),
        ("AZ_BATCHAI_JOB_MASTER_NODE_IP", master.to_owned()),
        ("AZ_BATCHAI_MPI_MASTER_NODE", master.to_owned()),
        ("AZ_BATCH_MASTER_NODE", format!("{master}:{MASTER_PORT}")),
        ("AZ_BATCH_NODE_ID", rank.node_id.to_owned()),
    ] {
        service.set(name, value);
    }
    for (name, value) in roots.gpu_variables() {
        service.set(name, value);
    }

    // Paths may name variables of the user, whose values may name paths: the values as they are before outputs are known serve here.
    let early = Variables::of_user(&service, &task.environment)?;
    let segment = normal(&task.output_segment).ok_or_else(|| failure("The job's output path is not allowed."))?;
    let own_folder = |what: &str, prefix: &str| -> Result<Place, EntityError> {
        Ok(place_of(roots, &mounted, &early, what, prefix)?.join(&segment))
    };

    let mut own = vec![own_folder("stdOutErrPathPrefix", &task.std_out_err_path_prefix)?];
    let standard = own.first().map(|own| own.join(Path::new(STANDARD))).ok_or_else(|| failure("The job has no output path."))?;
    service.set("AZ_BATCHAI_STDOUTERR_DIR", text(&standard.path()));
    let mut outputs = Vec::new();
    for output in &task.output_directories {
        let what = format!("pathPrefix of output directory '{}'", output.id);
        let folder = own_folder(&what, &output.path_prefix)?;
        let suffix = output.path_suffix.as_deref().unwrap_or_default();
        let suffix = normal(suffix.trim_matches('/'))
            .ok_or_else(|| failure(format!("The pathSuffix '{suffix}' of output directory '{}' is not allowed.", output.id)))?;
        let place = if suffix.as_os_str().is_empty() {
            folder.join(Path::new("outputs"))
        } else {
            folder.join(&Path::new("outputs").join(suffix))
        };
        service.set(format!("AZ_BATCHAI_OUTPUT_{}", output.id), text(&place.path()));
        outputs.push((output.id.clone(), place));
        if !own.contains(&folder) {
            own.push(folder);
        }
    }
    for (id, path) in &task.input_directories {
        let path =
            expand(path, |name| early.find(name)).map_err(|unknown| unknown_variable("an input directory", path, &unknown))?;
        service.set(format!("AZ_BATCHAI_INPUT_{id}"), path);
    }

    let layout = Layout { temp, standard, outputs, own, files: FileNames::of_job(task, rank) };
    let variables = Variables::of_user(&service, &task.environment)?;
    Ok((layout, variables))
}

/// Where a setup task's output goes, and its variables.
///
/// # Errors
/// As for [`job`].
pub(super) fn setup(
    roots: &Roots,
    node: &[Mount],
    task: &SetupTask,
    node_id: &str,
) -> Result<(Place, FileNames, Variables), EntityError> {
    let mut service = Variables::default();
    service.set("AZ_BATCHAI_MOUNT_ROOT", text(&roots.mounts));
    service.set("AZ_BATCH_NODE_ID", node_id.to_owned());
    for (name, value) in roots.gpu_variables() {
        service.set(name, value);
    }
    let early = Variables::of_user(&service, &task.environment)?;
    let suffix = normal(&task.std_out_err_path_suffix).ok_or_else(|| failure("The setup task's output path is not allowed."))?;
    let mounted: Vec<Mounted> = mounted(&roots.mounts, node).collect();
    let what = "stdOutErrPathPrefix of the setup task";
    let place = place_of(roots, &mounted, &early, what, &task.std_out_err_path_prefix)?.join(&suffix);
    service.set("AZ_BATCHAI_STDOUTERR_DIR", text(&place.path()));
    let files = FileNames { preparation: (String::new(), String::new()), log: format!("execution-{node_id}.log") };
    Ok((place, files, Variables::of_user(&service, &task.environment)?))
}

impl FileNames {
    /// Source: recorded listings of jobs on one node, on two, and with a preparation.
    fn of_job(task: &Task, rank: &Rank<'_>) -> FileNames {
        let node = if task.hosts.len() > 1 { format!("-{}", rank.node_id) } else { String::new() };
        FileNames {
            preparation: (format!("stdout-job_prep{node}.txt"), format!("stderr-job_prep{node}.txt")),
            log: format!("execution{node}.log"),
        }
    }
}

/// A process's own variables, which stand above those of the job and may name them.
pub(super) fn own_of(process: &Process, job: &Variables) -> Variables {
    let mut own = Variables::default();
    for NameValue { name, value } in &process.environment {
        own.set(name.as_str(), expand_known(value, |name| job.find(name)));
    }
    own
}

/// The files of a setup task's output.
pub(super) fn setup_output(node_id: &str) -> (String, String) {
    (format!("stdout-{node_id}.txt"), format!("stderr-{node_id}.txt"))
}

fn place_of(roots: &Roots, mounted: &[Mounted], variables: &Variables, what: &str, prefix: &str) -> Result<Place, EntityError> {
    let path = expand(prefix, |name| variables.find(name)).map_err(|unknown| unknown_variable(what, prefix, &unknown))?;
    roots.find_place(&path, mounted).ok_or_else(|| {
        failure(format!(
            "The {what} '{prefix}' is not a path below $AZ_BATCHAI_MOUNT_ROOT, $AZ_BATCHAI_JOB_MOUNT_ROOT or $AZ_BATCHAI_JOB_TEMP_DIR."
        ))
    })
}

fn unknown_variable(what: &str, text: &str, unknown: &Unknown) -> EntityError {
    failure(format!("The {what} '{text}' names the variable '{}', which does not exist on the node.", unknown.0))
}

fn failure(message: impl Into<String>) -> EntityError {
    EntityError::new(SETUP_FAILED, message)
}

/// A path of names that came from outside.
fn checked(path: &Path) -> Result<PathBuf, EntityError> {
    let wrong = || failure("The names of the job are not allowed as a path.");
    let plain = path.to_str().and_then(normal).ok_or_else(wrong)?;
    if plain.iter().count() == 3 { Ok(plain) } else { Err(wrong()) }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Variables in the order in which they were set.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Variables(Vec<(String, String)>);

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Variables(..)")
    }
}

impl Variables {
    /// Sets one; a value that it had is replaced.
    pub(super) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    /// The value of one.
    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `service` with the user's variables. Where both have one, the service's value stands. A value may name any of the service's
    /// variables and the user's before it; any other `$` is kept.
    fn of_user(service: &Variables, user: &[NameValue]) -> Result<Variables, EntityError> {
        let mut all = service.clone();
        for NameValue { name, value } in user {
            if !is_name(name) && (name.is_empty() || name.contains(['=', '\0'])) || value.contains('\0') {
                return Err(failure(format!("The environment variable '{}' cannot be set.", name.replace('\0', ""))));
            }
            if service.find(name).is_none() {
                let value = expand_known(value, |name| all.find(name));
                all.set(name.as_str(), value);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol::{Host, OutputDirectory, TaskNames};
    use crate::domain::machine::Size;

    fn roots() -> Roots {
        Roots {
            base: "/mnt/batch/tasks/shared/LS_root".into(),
            mounts: "/mnt/batch/tasks/shared/LS_root/mounts".into(),
            jobs: "/mnt/batch/tasks/shared/LS_root/jobs".into(),
            startup: "/mnt/batch/tasks/startup".into(),
            shares: vec!["shared".into()],
            gpus: 1,
            visible_gpus: "GPU-1".into(),
        }
    }

    fn task(prefix: &str) -> Task {
        Task {
            unmet: None,
            names: TaskNames { workspace: "w".into(), experiment: "e".into(), job: "j".into(), cluster: "c".into() },
            output_segment: "sub/rg/workspaces/w/experiments/e/jobs/j/uid".into(),
            hosts: vec![Host { node_id: "tvm-1".into(), address: "10.0.0.4".into() }],
            size: Size { name: "STANDARD_NC6".into(), cores: 6, memory_mib: 1024, gpus: 1 },
            processes: vec![],
            host_file: String::new(),
            mounts: vec![],
            preparation: None,
            container: None,
            std_out_err_path_prefix: prefix.into(),
            input_directories: vec![],
            output_directories: vec![],
            environment: vec![],
            session: None,
        }
    }

    fn rank() -> Rank<'static> {
        Rank { rank: 0, node_id: "tvm-1" }
    }

    fn variable(name: &str, value: &str) -> NameValue {
        NameValue { name: name.into(), value: value.into() }
    }

    #[test]
    fn a_job_on_a_share_has_the_documented_paths() {
        let mut task = task("$AZ_BATCHAI_MOUNT_ROOT/shared/runs/");
        task.output_directories = vec![
            OutputDirectory {
                id: "MODEL".into(),
                path_prefix: "$AZ_BATCHAI_MOUNT_ROOT/shared".into(),
                path_suffix: Some("models".into()),
            },
            OutputDirectory { id: "LOCAL".into(), path_prefix: "$AZ_BATCHAI_JOB_TEMP".into(), path_suffix: None },
        ];
        task.input_directories = vec![("DATA".into(), "$AZ_BATCHAI_MOUNT_ROOT/shared/data".into())];
        let (layout, variables) = job(&roots(), &[], &task, &rank()).expect("allowed");
        let mounts = "/mnt/batch/tasks/shared/LS_root/mounts";
        let segment = "sub/rg/workspaces/w/experiments/e/jobs/j/uid";
        for (name, value) in [
            ("AZ_BATCHAI_MOUNT_ROOT", mounts.to_owned()),
            ("AZ_BATCHAI_STDOUTERR_DIR", format!("{mounts}/shared/runs/{segment}/stdouterr")),
            ("AZ_BATCHAI_OUTPUT_MODEL", format!("{mounts}/shared/{segment}/outputs/models")),
            ("AZ_BATCHAI_OUTPUT_LOCAL", format!("/mnt/batch/tasks/shared/LS_root/jobs/w/e/j/{segment}/outputs")),
            ("AZ_BATCHAI_INPUT_DATA", format!("{mounts}/shared/data")),
            ("AZ_BATCHAI_JOB_TEMP", "/mnt/batch/tasks/shared/LS_root/jobs/w/e/j".into()),
            ("AZ_BATCHAI_JOB_MOUNT_ROOT", "/mnt/batch/tasks/shared/LS_root/jobs/w/e/j/mounts".into()),
            ("AZ_BATCHAI_MPI_HOST_FILE", "/mnt/batch/tasks/shared/LS_root/jobs/w/e/j/hostfile".into()),
            ("AZ_BATCHAI_NUM_GPUS", "1".into()),
            ("CUDA_VISIBLE_DEVICES", "GPU-1".into()),
            ("AZ_BATCH_HOST_LIST", "10.0.0.4".into()),
        ] {
            assert_eq!(variables.find(name), Some(value.as_str()), "{name}");
        }
        assert_eq!(layout.standard.root, PathBuf::from(format!("{mounts}/shared")));
        assert_eq!((layout.standard.home, layout.outputs[1].1.home), (Home::Listed, Home::Node));
        assert_eq!(layout.own.len(), 3);
        assert_eq!(layout.files.log, "execution.log");
    }

    #[test]
    fn what_is_mounted_is_where_its_outputs_are() {
        let mount = |place: &str, listed| Mount {
            place: place.into(),
            source: crate::agent::protocol::Source::Command { line: "m".into() },
            listed,
            deadline_ms: 1,
        };
        let node = [mount("nfs", false), mount("shared", true)];
        let mut task = task("$AZ_BATCHAI_MOUNT_ROOT/nfs/runs");
        task.mounts = vec![mount("a/bfs", true)];
        let output = |prefix: &str| OutputDirectory { id: "O".into(), path_prefix: prefix.into(), path_suffix: None };
        let own = "/mnt/batch/tasks/shared/LS_root/jobs/w/e/j/mounts";
        for (prefix, root, home) in [
            ("$AZ_BATCHAI_JOB_MOUNT_ROOT/a/bfs", format!("{own}/a/bfs"), Home::Listed),
            ("$AZ_BATCHAI_JOB_MOUNT_ROOT/a/bfsx", "/mnt/batch/tasks/shared/LS_root/jobs".into(), Home::Node),
            ("$AZ_BATCHAI_MOUNT_ROOT/shared/x", "/mnt/batch/tasks/shared/LS_root/mounts/shared".into(), Home::Listed),
        ] {
            task.output_directories = vec![output(prefix)];
            let (layout, _) = job(&roots(), &node, &task, &rank()).expect("allowed");
            assert_eq!(layout.standard.root, PathBuf::from("/mnt/batch/tasks/shared/LS_root/mounts/nfs"));
            assert!(layout.standard.home == Home::Storage && layout.standard.below.starts_with("runs/sub"));
            assert_eq!((layout.outputs[0].1.root.clone(), layout.outputs[0].1.home), (PathBuf::from(root), home), "{prefix}");
        }
        task.output_directories = vec![output("$AZ_BATCHAI_JOB_MOUNT_ROOT/a/bfs/../../../x")];
        assert!(job(&roots(), &node, &task, &rank()).is_err());
    }

    #[test]
    fn a_gang_has_a_log_and_preparation_of_each_node_and_one_standard_output() {
        let mut task = task("$AZ_BATCHAI_MOUNT_ROOT");
        task.hosts.push(Host { node_id: "tvm-2".into(), address: "10.0.0.5".into() });
        let (layout, variables) = job(&roots(), &[], &task, &Rank { rank: 1, node_id: "tvm-2" }).expect("allowed");
        assert_eq!(layout.files.log, "execution-tvm-2.log");
        assert_eq!(layout.files.preparation.0, "stdout-job_prep-tvm-2.txt");
        assert_eq!(variables.find("AZ_BATCH_HOST_LIST"), Some("10.0.0.4,10.0.0.5"));
        assert_eq!(layout.standard.home, Home::Node, "the mount root itself is no share");
    }

    #[test]
    fn prefixes_stay_below_the_documented_roots() {
        for bad in [
            "/etc",
            "/",
            "",
            "relative",
            "$AZ_BATCHAI_MOUNT_ROOT/../jobs",
            "$AZ_BATCHAI_MOUNT_ROOT/../../../../../etc",
            "$AZ_BATCHAI_MOUNT_ROOTx",
            "$AZ_BATCHAI_MOUNT_ROOT-x/y",
            "$NOBODY/x",
            "$(id)",
            "$EVIL",
        ] {
            let mut task = task(bad);
            task.environment = vec![variable("EVIL", "$AZ_BATCHAI_MOUNT_ROOT/a/../../..")];
            let error = job(&roots(), &[], &task, &rank()).expect_err(bad);
            assert_eq!(error.code, SETUP_FAILED);
            assert!(error.message.contains(bad), "{}", error.message);
        }
        for good in ["$AZ_BATCHAI_MOUNT_ROOT", "${AZ_BATCHAI_JOB_MOUNT_ROOT}/afs", "$AZ_BATCHAI_JOB_TEMP_DIR", "$MINE/x"] {
            let mut task = task(good);
            task.environment = vec![variable("MINE", "$AZ_BATCHAI_MOUNT_ROOT/a")];
            job(&roots(), &[], &task, &rank()).expect(good);
        }
    }

    #[test]
    fn suffixes_stay_below_outputs() {
        let mut task = task("$AZ_BATCHAI_MOUNT_ROOT");
        task.output_directories = vec![OutputDirectory {
            id: "O".into(),
            path_prefix: "$AZ_BATCHAI_MOUNT_ROOT".into(),
            path_suffix: Some("../../x".into()),
        }];
        assert!(job(&roots(), &[], &task, &rank()).is_err());
    }

    #[test]
    fn the_services_value_wins_and_other_dollars_are_kept() {
        let mut task = task("$AZ_BATCHAI_MOUNT_ROOT");
        task.environment = vec![
            variable("AZ_BATCHAI_MOUNT_ROOT", "/evil"),
            variable("AZ_BATCHAI_STDOUTERR_DIR", "/evil"),
            variable("DATA", "$AZ_BATCHAI_MOUNT_ROOT/d"),
            variable("DEEP", "${DATA}/x:$LATER"),
            variable("LATER", "1"),
            variable("SECRET", "p$$w$(x)rd$"),
            variable("LOGS", "$AZ_BATCHAI_STDOUTERR_DIR"),
            variable("PATH", "/opt/bin"),
        ];
        let (layout, variables) = job(&roots(), &[], &task, &rank()).expect("allowed");
        let mounts = "/mnt/batch/tasks/shared/LS_root/mounts";
        assert_eq!(variables.find("AZ_BATCHAI_MOUNT_ROOT"), Some(mounts));
        assert_eq!(variables.find("DEEP"), Some(format!("{mounts}/d/x:$LATER").as_str()));
        assert_eq!(variables.find("SECRET"), Some("p$$w$(x)rd$"));
        assert_eq!(variables.find("LOGS"), layout.standard.path().to_str());
        assert_eq!(variables.find("AZ_BATCHAI_STDOUTERR_DIR"), layout.standard.path().to_str());
        assert_eq!(variables.find("PATH"), Some("/opt/bin"));
    }
}
