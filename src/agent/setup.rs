//! The node's setup: the setup task, once a boot.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::agent::beneath::{open_file, open_folder, open_trusted, remove_tree};
use crate::agent::layout::{self, Place};
use crate::agent::part::{Happening, Kind, Running};
use crate::agent::probe;
use crate::agent::protocol::{Mount, SetupTask};
use crate::agent::record::{Folder, Record, find_private, name_once, write_private};
use crate::agent::start::Starter;
use crate::domain::attempt::End;
use crate::domain::health::Probe;
use crate::domain::machine::Setup as State;
use crate::domain::resource::EntityError;

/// The code of a node's error where its setup task failed.
const FAILED: &str = "NodeSetupFailed";

/// Most bytes, and lines, of what the task wrote last that are told with its failure.
const EVIDENCE: (u64, usize) = (2_048, 10);

/// Begins the names of its supervisor's folders.
const FOLDER: &str = "setup";
const BOOT: &str = "setup-boot.json";

/// The setup of this boot.
pub(super) struct Setup {
    state: State,
    /// What the node proved of itself when the state became what it is.
    health: Vec<Probe>,
    path: PathBuf,
    boot_path: PathBuf,
    running: Option<Running>,
    began: bool,
    /// What the node has mounted.
    mounts: Vec<Mount>,
}

impl Setup {
    /// The setup as an earlier agent left it. Its supervisor is taken out of those that are `running`, where it is one of them.
    ///
    /// # Errors
    /// The agent's own folder cannot be read or written.
    pub(super) fn recover(state_dir: &Path, boot_id: &str, running: &mut BTreeMap<PathBuf, Running>) -> io::Result<Setup> {
        let mut found = None;
        for entry in std::fs::read_dir(state_dir)? {
            let path = entry?.path();
            if path.file_name().and_then(|name| name.to_str()?.split_once('.')).is_some_and(|(what, _)| what == FOLDER) {
                found = Some(path);
            }
        }
        let began = found.is_some();
        let path = found.unwrap_or_else(|| state_dir.join(name_once(FOLDER)));
        let running = running.remove(&path);
        let mut setup = Setup {
            state: State::Pending,
            health: vec![],
            boot_path: state_dir.join(BOOT),
            began,
            running,
            path,
            mounts: vec![],
        };
        let same_boot = find_private::<String>(&setup.boot_path).is_some_and(|boot| boot == boot_id);
        if setup.began && !same_boot && setup.running.is_none() {
            setup.remove()?;
        }
        Ok(setup)
    }

    /// Removes what there is of a task that never began, or that ran in an earlier boot.
    fn remove(&mut self) -> io::Result<()> {
        let parent = self.path.parent().unwrap_or(&self.path).to_owned();
        remove_tree(open_trusted(&parent)?.as_fd(), self.path.file_name().unwrap_or_default())?;
        self.path = parent.join(name_once(FOLDER));
        self.began = false;
        Ok(())
    }

    /// The folder of the setup task's supervisor.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How far it is.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// What the node proved of itself, once that is over.
    pub(super) fn health(&self) -> &[Probe] {
        &self.health
    }

    /// It is over. What was set up has to be of use as well; what could not be set up is looked at all the more.
    fn over(&mut self, result: Result<(), EntityError>, starter: &Starter) {
        let node_id = starter.bootstrap.node_id.as_str();
        self.health = probe::all(starter, self.mounts.len());
        let error = result.err().map(|error| {
            let named = error.details.iter().any(|detail| detail.name == "nodeId");
            if named { error } else { error.with_detail("nodeId", node_id) }
        });
        self.state = match error.or_else(|| probe::failure(&self.health, node_id)) {
            None => State::Done,
            Some(error) => State::Failed(error),
        };
    }

    /// Its supervisor.
    pub(super) fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// It cannot be done.
    pub(super) fn fail(&mut self, error: EntityError, starter: &Starter) {
        if self.state == State::Pending {
            self.over(Err(error), starter);
        }
    }

    /// Does what is wanted, once; what the node mounts is there.
    pub(super) fn want(&mut self, task: Option<&SetupTask>, mounts: &[Mount], starter: &Starter) -> io::Result<()> {
        if self.state != State::Pending {
            return Ok(());
        }
        self.mounts = mounts.to_vec();
        let Some(task) = task else {
            self.over(Ok(()), starter);
            return Ok(());
        };
        if self.running.is_some() {
            // An earlier agent may have started it, and it may have ended while what it started in the background goes on.
            if let Some(end) = Folder::open(&self.path)?.find_record().and_then(|record| record.end) {
                self.ended(&end, Some(task), starter);
            }
            return Ok(());
        }
        if self.began {
            // It is not running: either it ended, or it never began, or it was lost.
            let folder = Folder::open(&self.path)?;
            match folder.find_record() {
                Some(Record { end: Some(end), .. }) => self.ended(&end, Some(task), starter),
                _ if folder.take_ticket()? => self.remove()?,
                _ => self.lost(starter),
            }
            if self.began {
                return Ok(());
            }
        }
        match layout::setup(&starter.roots, mounts, task, &starter.bootstrap.node_id) {
            Err(mut error) => {
                error.code = FAILED.into();
                self.over(Err(error), starter);
            }
            Ok((place, files, variables)) => {
                write_private(&self.boot_path, &starter.boot_id)?;
                Folder::create(&self.path)?;
                self.began = true;
                let work = starter.setup_work(task, place, files, &variables);
                self.running = Some(Running::start(Kind::Supervisor, work.isolation, &self.path, &work)?);
            }
        }
        Ok(())
    }

    /// Takes in what happened to its supervisor. `task` is known once the server has said it.
    pub(super) fn happened(&mut self, happening: Happening, task: Option<&SetupTask>, starter: &Starter) {
        let gone = happening == Happening::Gone;
        let end = match happening {
            Happening::Record(record) => record.end,
            Happening::Gone => {
                Folder::open(&self.path).ok().and_then(|folder| folder.find_record()).and_then(|record| record.end)
            }
        };
        if gone && let Some(running) = self.running.take() {
            running.reap();
        }
        if self.state == State::Pending {
            match end {
                Some(end) => self.ended(&end, task, starter),
                None if gone => self.lost(starter),
                None => {}
            }
        }
    }

    fn lost(&mut self, starter: &Starter) {
        self.over(Err(EntityError::new(FAILED, "The setup task was ended from outside before it was done.")), starter);
    }

    fn ended(&mut self, end: &End, task: Option<&SetupTask>, starter: &Starter) {
        let node_id = &starter.bootstrap.node_id;
        let error = match end {
            End::Exited { code: 0 } => {
                self.over(Ok(()), starter);
                return;
            }
            End::Exited { code } => {
                EntityError::new(FAILED, format!("The setup task of node {node_id} ended with exit code {code}."))
                    .with_detail("exitCode", code.to_string())
            }
            End::OutOf { what, code } => {
                EntityError::new(FAILED, format!("The setup task of node {node_id} ran out of {}.", what.as_str()))
                    .with_detail("exitCode", code.to_string())
            }
            End::SetupFailed { error } => EntityError { code: FAILED.into(), ..error.clone() },
            _ => EntityError::new(FAILED, "The setup task was ended from outside before it was done."),
        };
        let mut error = error.with_detail("nodeId", node_id.clone());
        if let Some(task) = task
            && let Ok((place, ..)) = layout::setup(&starter.roots, &self.mounts, task, node_id)
        {
            error = with_evidence(error, task, &place, &layout::setup_output(node_id));
        }
        self.over(Err(error), starter);
    }
}

/// The error with the path of the log and the last lines that the task wrote, without its secrets.
fn with_evidence(error: EntityError, task: &SetupTask, place: &Place, (stdout, stderr): &(String, String)) -> EntityError {
    let mut error = error.with_detail("log", place.path().join(stderr).display().to_string());
    for (what, name) in [("stderr", stderr), ("stdout", stdout)] {
        if let Ok(text) = last_lines(place, name)
            && !text.is_empty()
        {
            error = error.with_detail(what, without_secrets(text, task));
            break;
        }
    }
    error
}

fn last_lines(place: &Place, name: &str) -> io::Result<String> {
    let root = open_trusted(&place.root)?;
    let mut file = open_file(open_folder(root.as_fd(), &place.below)?.as_fd(), Path::new(name))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(EVIDENCE.0)))?;
    let mut bytes = Vec::new();
    file.take(EVIDENCE.0).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: VecDeque<&str> = text.lines().collect();
    while lines.len() > EVIDENCE.1 {
        lines.pop_front();
    }
    Ok(lines.into_iter().collect::<Vec<_>>().join("\n"))
}

/// Values of the task's variables are taken out: which of them are secret is not known here.
fn without_secrets(text: String, task: &SetupTask) -> String {
    let long = task.environment.iter().filter(|variable| variable.value.len() >= 4);
    long.fold(text, |text, variable| text.replace(&variable.value, "***"))
}
