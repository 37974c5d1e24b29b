//! What a program that holds a mount has not written to its storage yet.
//!
//! It keeps files that jobs wrote in its cache until they are with the storage, and says of each in a file beside it whether it is.
//! These are read here: the only way to learn of it that needs no port.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// In the cache: a file for each file.
///
/// Source: rclone's cache of files, as versions since 1.53 lay it out.
const RECORDS: &str = "vfsMeta";

/// Time between two looks: the first and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "Dirty", default)]
    dirty: bool,
}

/// Files that are not with the storage yet.
fn unwritten(cache: &Path) -> usize {
    let mut count = 0;
    let mut folders = vec![cache.join(RECORDS)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
                continue;
            }
            // One that is being written is not whole: what it says is not known yet.
            match std::fs::read(entry.path()) {
                Ok(text) => count += usize::from(serde_json::from_slice::<Record>(&text).map_or(true, |record| record.dirty)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) => count += 1,
            }
        }
    }
    count
}

/// Waits until all is with the storage. Blocks.
///
/// # Errors
/// How many files are not at the end of the time.
pub(super) fn wait_written(cache: &Path, time: Duration) -> Result<(), usize> {
    let until = Instant::now() + time;
    let mut pause = LOOKS.0;
    loop {
        match unwritten(cache) {
            0 => return Ok(()),
            count if Instant::now() >= until => return Err(count),
            _ => {}
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOKS.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_or_torn_or_not_is_told() {
        let cache = std::env::temp_dir().join(format!("cache-{}", uuid::Uuid::new_v4()));
        let record = |name: &str, text: &str| {
            let path = cache.join(RECORDS).join("store/data").join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        assert_eq!(wait_written(&cache, Duration::ZERO), Ok(()));
        record("a/b", r#"{"ModTime":"2026-01-01T00:00:00Z","Size":1,"Dirty":false}"#);
        assert_eq!(wait_written(&cache, Duration::ZERO), Ok(()));
        record("a/c", r#"{"Size":1,"Dirty":true}"#);
        record("d", "{\"Si");
        assert_eq!(wait_written(&cache, Duration::from_millis(20)), Err(2));
        std::fs::remove_dir_all(&cache).expect("removed");
    }
}
