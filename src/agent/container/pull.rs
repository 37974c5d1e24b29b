//! Having an image: what its registry sends is bounded in room, in time and in silence, as a registry may be anyone's.
//!
//! The engine is asked for the image and tells how it comes on. It ends a pull that nobody listens to any more, and gives back the room that
//! it had. What describes an image it reads into memory though, to the end or its own: so one of the node's own is started afresh then.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures_util::{Stream, StreamExt};

use crate::agent::container::Container;
use crate::agent::container::carry::say;
use crate::agent::engine::restart;
use crate::domain::container::PullLimits;

/// Longest time between two looks at the clock and at the disk, where those cost little.
const LOOK: Duration = Duration::from_millis(500);

/// Looking at the disk takes no larger part of the time than this.
const SHARE: u32 = 10;

/// Longest time until an engine has given back the room of a pull that was ended.
const GIVING_BACK: Duration = Duration::from_secs(10);

/// So deep below the engine's folder a folder is a layer's own, or above one.
///
/// Source: `overlay2/ID/diff` and `vfs/dir/ID` of Docker's engine.
const LAYERS: usize = 3;

/// What an engine may keep of a pull that was ended: its notes. Unit: bytes.
const LEFT: u64 = 1 << 20;

/// Unit of the blocks that files are counted in. Source: stat(2).
const BLOCK: u64 = 512;

/// Why there is no image.
#[derive(Debug)]
pub(super) enum NotPulled {
    /// What the engine or the registry said.
    Answer(Error),
    /// What was too much: the end of a sentence.
    TooMuch(String),
}

impl From<Error> for NotPulled {
    fn from(error: Error) -> NotPulled {
        NotPulled::Answer(error)
    }
}

/// Asks the registry for the image, each time: what the node has of it is not pulled again, and whoever may not have it does not get it
/// from what others left here. Answers the image's digest, where the registry names one.
///
/// # Errors
/// It cannot be had, or takes more than the container's limits.
pub(super) async fn pull(engine: &Docker, container: &Container) -> Result<Option<String>, NotPulled> {
    let limits = container.limits;
    // The engine says nothing before the registry does: that is silence as any other.
    let engine = engine.clone().with_timeout(limits.silence.saturating_mul(2));
    let disk = match container.own_engine {
        true => engine.info().await?.docker_root_dir.map(|folder| Disk::new(folder.into())),
        // Its folder may be elsewhere, or closed.
        false => None,
    };
    let login = container.login.as_ref().map(|login| DockerCredentials {
        username: Some(login.username.clone()),
        password: Some(login.password.clone()),
        serveraddress: login.registry.clone(),
        ..DockerCredentials::default()
    });
    let options = CreateImageOptions { from_image: Some(container.image.clone()), ..CreateImageOptions::default() };
    let mut pull = Pull::new(limits, disk);
    let steps = engine.create_image(Some(options), None, login);
    let done = pull.follow(steps).await;
    if let (Err(NotPulled::TooMuch(_)), Some(disk)) = (&done, &pull.disk) {
        disk.await_room().await;
        if let Err(error) = restart(&container.name.socket) {
            say(&format!("the container engine cannot be started afresh: {error}"));
        }
    }
    done.map(|()| pull.digest)
}

/// A pull as it goes.
struct Pull {
    limits: PullLimits,
    began: Instant,
    heard: Instant,
    /// What was downloaded, by layer.
    downloaded: HashMap<String, u64>,
    digest: Option<String>,
    disk: Option<Disk>,
    next_look: Instant,
}

impl Pull {
    fn new(limits: PullLimits, disk: Option<Disk>) -> Pull {
        let now = Instant::now();
        Pull { limits, began: now, heard: now, downloaded: HashMap::new(), digest: None, disk, next_look: now }
    }

    /// Listens until the image is there.
    async fn follow(&mut self, steps: impl Stream<Item = Result<CreateImageInfo, Error>>) -> Result<(), NotPulled> {
        let mut steps = std::pin::pin!(steps);
        loop {
            match tokio::time::timeout(LOOK, steps.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(step)) => self.hear(step?),
                Err(_) => {}
            }
            self.look()?;
        }
    }

    /// Takes in what the engine tells.
    fn hear(&mut self, step: CreateImageInfo) {
        self.heard = Instant::now();
        let status = step.status.unwrap_or_default();
        if let Some(digest) = status.strip_prefix("Digest: ") {
            self.digest = Some(digest.to_owned());
        }
        let current = step.progress_detail.and_then(|detail| detail.current).and_then(|bytes| u64::try_from(bytes).ok());
        if let (Some(layer), Some(current), "Downloading") = (step.id, current, status.as_str()) {
            let most = self.downloaded.entry(layer).or_default();
            *most = current.max(*most);
        }
    }

    /// Whether it may go on.
    fn look(&mut self) -> Result<(), NotPulled> {
        let PullLimits { most_bytes, time, silence } = self.limits;
        let now = Instant::now();
        if now.duration_since(self.began) > time {
            return Err(NotPulled::TooMuch(format!("it was not there after {}", seconds(time))));
        }
        if now.duration_since(self.heard) > silence {
            return Err(NotPulled::TooMuch(format!("nothing of it came for {}", seconds(silence))));
        }
        if self.downloaded.values().sum::<u64>() > most_bytes {
            return Err(too_large(most_bytes));
        }
        if let Some(disk) = &self.disk
            && now >= self.next_look
        {
            if disk.taken() > most_bytes {
                return Err(too_large(most_bytes));
            }
            self.next_look = Instant::now() + LOOK.max(now.elapsed() * SHARE);
        }
        Ok(())
    }
}

fn too_large(most: u64) -> NotPulled {
    let most = match most {
        most if most.is_multiple_of(1 << 30) => format!("{} GiB", most >> 30),
        most if most.is_multiple_of(1 << 20) => format!("{} MiB", most >> 20),
        most => format!("{most} bytes"),
    };
    NotPulled::TooMuch(format!("it takes more than the {most} of its node's disk that an image may take"))
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// What an engine keeps, looked at from outside.
struct Disk {
    folder: PathBuf,
    /// What is in layers that were there before is not counted: it is there for good, and much.
    known: HashSet<PathBuf>,
    before: u64,
}

impl Disk {
    fn new(folder: PathBuf) -> Disk {
        let mut known = HashSet::new();
        find_layers(&folder, LAYERS, &mut known);
        let mut disk = Disk { folder, known, before: 0 };
        disk.before = disk.size_of(&disk.folder);
        disk
    }

    /// What has come since. Unit: bytes.
    fn taken(&self) -> u64 {
        self.size_of(&self.folder).saturating_sub(self.before)
    }

    /// Waits until an engine that nobody listens to any more has given back most of what it took: one that ends before keeps it for good.
    async fn await_room(&self) {
        let deadline = Instant::now() + GIVING_BACK;
        while self.taken() > LEFT && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn size_of(&self, folder: &Path) -> u64 {
        let mut sum = 0;
        // What goes meanwhile takes nothing.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(seen) = entry.metadata() else { continue };
            sum += seen.blocks() * BLOCK;
            if seen.is_dir() && !self.known.contains(&entry.path()) {
                sum += self.size_of(&entry.path());
            }
        }
        sum
    }
}

/// Folders that are exactly so deep below `folder`.
fn find_layers(folder: &Path, depth: usize, found: &mut HashSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        match depth {
            1 => _ = found.insert(entry.path()),
            _ => find_layers(&entry.path(), depth - 1, found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> PullLimits {
        PullLimits { most_bytes: 3 << 20, time: Duration::from_secs(60), silence: Duration::from_secs(20) }
    }

    fn step(layer: &str, current: i64) -> CreateImageInfo {
        let detail = bollard::models::ProgressDetail { current: Some(current), total: None };
        CreateImageInfo {
            id: Some(layer.into()),
            status: Some("Downloading".into()),
            progress_detail: Some(detail),
            ..CreateImageInfo::default()
        }
    }

    fn refused(pull: &mut Pull) -> String {
        match pull.look() {
            Err(NotPulled::TooMuch(why)) => why,
            other => panic!("it goes on: {other:?}"),
        }
    }

    #[test]
    fn layers_are_counted_together_and_each_once() {
        let mut pull = Pull::new(limits(), None);
        for (layer, current) in [("a", 1 << 20), ("b", 1 << 20), ("a", 2 << 20), ("a", 1 << 20)] {
            pull.hear(step(layer, current));
        }
        assert!(pull.look().is_ok(), "no more than is allowed");
        pull.hear(step("c", 1));
        assert_eq!(refused(&mut pull), "it takes more than the 3 MiB of its node's disk that an image may take");
    }

    #[test]
    fn time_and_silence_end_it() {
        let mut pull = Pull::new(limits(), None);
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).expect("the host runs for longer");
        pull.began = ago(50);
        assert!(pull.look().is_ok());
        pull.heard = ago(21);
        assert_eq!(refused(&mut pull), "nothing of it came for 20 s");
        pull.hear(step("a", 1));
        assert!(pull.look().is_ok(), "something came");
        pull.began = ago(61);
        assert_eq!(refused(&mut pull), "it was not there after 60 s");
    }

    #[test]
    fn what_comes_is_counted_and_what_was_there_is_not() {
        let root = std::env::temp_dir().join(format!("pull-{}", uuid::Uuid::new_v4()));
        let layer = |id: &str| root.join("overlay2").join(id).join("diff");
        let fill = |path: PathBuf, mib: usize| {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, vec![1; mib << 20]).expect("written");
        };
        fill(layer("old").join("usr/large"), 4);
        let disk = Disk::new(root.clone());
        assert_eq!(disk.taken(), 0);
        fill(root.join("tmp/GetImageBlob1"), 1);
        fill(layer("new").join("usr/some"), 1);
        let taken = disk.taken();
        assert!((2 << 20..3 << 20).contains(&taken), "{taken}");
        fill(layer("new").join("usr/bin/deep/more"), 2);
        assert!(disk.taken() >= 4 << 20);
        let mut pull = Pull::new(limits(), Some(disk));
        assert!(refused(&mut pull).contains("3 MiB of its node's disk"));
        std::fs::remove_dir_all(&root).expect("removed");
    }
}
