//! Sending a script or a folder to the share that nodes mount, for a job that is yet to be made.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::cli::progress::Progress;
use crate::cli::session::Session;
use crate::client::{Failure, OWN, Place, Result, encode};

/// The id under which the job finds what was sent: `$AZ_BATCHAI_INPUT_CODE`.
const ID: &str = "CODE";

/// Most files of one folder: what is more is data, and is mounted.
const MOST: usize = 2_000;

/// Longest file. Unit: bytes. The server takes no longer one.
const LONGEST: u64 = 32 << 20;

/// Sends a file, or all files of a folder. Links are followed where they lead to files; what begins with a dot stays here.
///
/// # Errors
/// There is nothing to send, or too much; this machine refuses; as of the client.
pub(super) async fn send(session: &Session, job: &Place, path: &Path) -> Result<()> {
    let mut files = Vec::new();
    gather(path, path, &mut files)?;
    files.sort();
    let cannot = |file: &Path, error: std::io::Error| Failure::local(&format!("cannot read {}", file.display()), error);
    if files.is_empty() {
        return Err(Failure::usage(format!("{} holds no file to send", path.display())));
    }
    let mut total = 0;
    for (file, _) in &files {
        let size = std::fs::metadata(file).map_err(|error| cannot(file, error))?.len();
        if size > LONGEST {
            let message = format!("{} is larger than 32 MiB: data is not sent with a job", file.display());
            return Err(Failure::usage(message).or_try("put it on the share or on storage, and mount that"));
        }
        total += size;
    }
    let mut progress = Progress::bytes(session.terminal(), total);
    for (file, name) in &files {
        let bytes = std::fs::read(file).map_err(|error| cannot(file, error))?;
        let size = bytes.len() as u64;
        let name: Vec<String> = name.split('/').map(encode).collect();
        let url = format!("{}/inputs/{}?api-version={OWN}", job.path(), name.join("/"));
        session.client.deliver(Method::PUT, &url, Some(("application/octet-stream", bytes)), &[]).await?;
        progress.came(size);
    }
    progress.done(&format!(
        "sent {} {}, {}",
        files.len(),
        if files.len() == 1 { "file" } else { "files" },
        crate::cli::views::size(total)
    ));
    Ok(())
}

/// Adds what was sent to the input directories of a job.
pub(super) fn name(job: &Place, properties: &mut Map<String, Value>) {
    let names: Vec<&str> = job.names.iter().map(String::as_str).collect();
    let [group, workspace, experiment, job_name] = names.as_slice() else { return };
    let path = format!(
        "$AZ_BATCHAI_MOUNT_ROOT/shared/inputs/{}/{}/workspaces/{workspace}/experiments/{experiment}/jobs/{job_name}",
        job.subscription,
        group.to_ascii_lowercase()
    );
    let entry = json!({ "id": ID, "path": path });
    match properties.entry("inputDirectories").or_insert_with(|| json!([])) {
        Value::Array(entries) => {
            entries.retain(|entry| entry.get("id").and_then(Value::as_str) != Some(ID));
            entries.push(entry);
        }
        other => *other = json!([entry]),
    }
}

/// Files below `path` with their names below `root`; a file itself has its own name.
fn gather(root: &Path, path: &Path, into: &mut Vec<(PathBuf, String)>) -> Result<()> {
    let cannot = |error: std::io::Error| Failure::local(&format!("cannot read {}", path.display()), error);
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if metadata.is_file() {
        let below = path.strip_prefix(root).ok().filter(|below| !below.as_os_str().is_empty());
        let name = below.or_else(|| path.file_name().map(Path::new)).and_then(Path::to_str);
        let name = name.ok_or_else(|| Failure::usage(format!("{} has a name that is no text", path.display())))?;
        into.push((path.to_owned(), name.to_owned()));
        if into.len() > MOST {
            return Err(Failure::usage(format!("{} holds more than {MOST} files", root.display()))
                .or_try("pack them, or put them on the share"));
        }
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let is_link_to_folder = entry.file_type().is_ok_and(|kind| kind.is_symlink()) && entry.path().is_dir();
        // A link to a folder may lead back here.
        if !entry.file_name().to_string_lossy().starts_with('.') && !is_link_to_folder {
            gather(root, &entry.path(), into)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Kind;

    #[test]
    fn a_folder_is_sent_with_its_folders_and_without_what_is_hidden() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["train.py", "lib/a.py", ".git/config", "lib/.cache"] {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().expect("a parent")).expect("makes");
            std::fs::write(file, "x").expect("writes");
        }
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).expect("links");
        let names = |path: &Path| {
            let mut found = Vec::new();
            gather(path, path, &mut found).expect("gathers");
            let mut names: Vec<String> = found.into_iter().map(|(_, name)| name).collect();
            names.sort();
            names
        };
        assert_eq!(names(folder.path()), ["lib/a.py", "train.py"]);
        assert_eq!(names(&folder.path().join("train.py")), ["train.py"]);
    }

    #[test]
    fn the_job_finds_what_was_sent() {
        let job = Place::new("s", Kind::Job, ["G", "w", "e", "j"].map(str::to_owned).to_vec()).expect("a place");
        let mut properties = Map::new();
        name(&job, &mut properties);
        name(&job, &mut properties);
        assert_eq!(
            Value::Object(properties),
            json!({"inputDirectories": [
                {"id": "CODE", "path": "$AZ_BATCHAI_MOUNT_ROOT/shared/inputs/s/g/workspaces/w/experiments/e/jobs/j"}]})
        );
    }
}
