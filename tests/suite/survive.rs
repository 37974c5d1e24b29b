//! It survives: kills and cuts of every part, while jobs queue and run.
//!
//! Each job writes a line to a file of its own on the share when it starts, so that what ran, and how often, is counted outside of
//! what is killed.

#[path = "survive/backup.rs"]
mod backup;
#[path = "survive/database.rs"]
mod database;
#[path = "survive/full.rs"]
mod full;
#[path = "survive/kills.rs"]
mod kills;
#[path = "survive/node.rs"]
mod node;
#[path = "survive/server.rs"]
mod server;
#[path = "survive/strays.rs"]
mod strays;
#[path = "survive/two.rs"]
mod two;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Server, Site, until_within};

/// Longest time from a kill until everything that was accepted has ended.
const RECOVERY: Duration = Duration::from_secs(90);

/// The folder on the share in which jobs leave their marks.
struct Marks {
    folder: PathBuf,
}

impl Marks {
    fn new(server: &Server) -> Marks {
        let folder = server.share().join("marks");
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777)).expect("opened");
        Marks { folder }
    }

    /// A command that leaves its mark, then does `then`.
    fn command(name: &str, then: &str) -> String {
        format!("echo start >> $AZ_BATCHAI_MOUNT_ROOT/shared/marks/{name}; {then}")
    }

    /// How often each job started, by its name.
    fn starts(&self) -> BTreeMap<String, usize> {
        let mut starts = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder).expect("readable") {
            let entry = entry.expect("readable");
            let lines = std::fs::read_to_string(entry.path()).expect("reads").lines().filter(|l| *l == "start").count();
            if lines > 0 {
                starts.insert(entry.file_name().into_string().expect("UTF-8"), lines);
            }
        }
        starts
    }

    fn starts_of(&self, name: &str) -> usize {
        self.starts().get(name).copied().unwrap_or(0)
    }

    /// Waits until so many jobs have started.
    async fn wait_started(&self, count: usize) {
        until_within(RECOVERY, &format!("{count} jobs have started"), || async { self.starts().len() }, |n| *n >= count).await;
    }

    /// Makes the file that commands wait for.
    fn tell(&self, name: &str) {
        std::fs::write(self.folder.join(format!(".{name}")), "").expect("writes");
    }

    /// A command that waits for [`tell`](Self::tell).
    fn until_told(name: &str) -> String {
        format!("until [ -e $AZ_BATCHAI_MOUNT_ROOT/shared/marks/.{name} ]; do sleep 0.02; done")
    }
}

/// All jobs of the site's experiment by name, whatever number of pages they take.
async fn jobs(site: &Site) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let mut next = Some(format!("{}/jobs", site.experiment()));
    while let Some(path) = next {
        let page = site.api.get(&path).await.expect(200).body;
        for job in page["value"].as_array().expect("a list") {
            all.insert(job["name"].as_str().expect("named").to_owned(), job["properties"].clone());
        }
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    all
}

/// Waits until no job of the site is queued or running, and answers all of them.
async fn all_ended(site: &Site) -> BTreeMap<String, Value> {
    all_ended_within(site, RECOVERY).await
}

/// The same with a deadline of its own.
async fn all_ended_within(site: &Site, deadline: Duration) -> BTreeMap<String, Value> {
    let began = Instant::now();
    loop {
        let jobs = jobs(site).await;
        let open: Vec<_> = jobs
            .iter()
            .filter(|(_, job)| !matches!(job["executionState"].as_str(), Some("succeeded" | "failed")))
            .map(|(name, job)| format!("{name}: {}", job["executionState"]))
            .collect();
        if open.is_empty() {
            return jobs;
        }
        assert!(began.elapsed() < deadline, "{} jobs did not end: {open:?}", open.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The names `{prefix}0` to `{prefix}{count - 1}`, each once.
fn once(prefix: &str, count: usize) -> BTreeMap<String, usize> {
    (0..count).map(|n| (format!("{prefix}{n}"), 1)).collect()
}
