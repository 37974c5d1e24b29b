//! Output files of jobs: what there is, downloads that go on where they stopped, and output while it is written.
//!
//! Names come from jobs and are hostile: one that would leave the folder that it is saved in is refused.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use reqwest::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{BATCH_AI, Client, Exit, Failure, Place, Result, encode};

/// How long links are asked for. Unit: minutes. Source: `linkexpiryinminutes`, openapi 2018-05-01.
pub(super) const LONGEST_LINK_MINUTES: u32 = 600;

/// One file or folder.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path below the output directory.
    pub path: String,
    /// As the server tells of it.
    pub document: Value,
    /// How to read it; `None` for a folder.
    pub link: Option<Link>,
}

/// How to read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The address, which is good for everybody who has it.
    pub url: String,
    /// Its size. Unit: bytes.
    pub size: u64,
    /// When it was written.
    pub modified: String,
}

impl Client {
    /// What is in a folder of an output directory.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn files(&self, job: &Place, directory: &str, folder: &str, minutes: u32) -> Result<Vec<Entry>> {
        let path = format!(
            "{}/listOutputFiles?outputdirectoryid={}&directory={}&linkexpiryinminutes={minutes}&maxresults=1000",
            job.path(),
            encode(directory),
            encode(folder)
        );
        let mut entries = Vec::new();
        self.pages(Method::POST, &path, BATCH_AI, |items| {
            entries.extend(items.into_iter().filter_map(|document| Entry::of(folder, document)));
            true
        })
        .await?;
        Ok(entries)
    }

    /// All files below a folder of an output directory.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn all_files(&self, job: &Place, directory: &str, folder: &str) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in self.files(job, directory, &folder, LONGEST_LINK_MINUTES).await? {
                match entry.link {
                    Some(_) => found.push(entry),
                    None => folders.push(entry.path),
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// One file; `None` while it is not there.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn find_file(&self, job: &Place, directory: &str, path: &str) -> Result<Option<Link>> {
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
        let path = format!(
            "{}/listOutputFiles?outputdirectoryid={}&directory={}&linkexpiryinminutes={LONGEST_LINK_MINUTES}",
            job.path(),
            encode(directory),
            encode(folder)
        );
        let mut found = None;
        self.pages(Method::POST, &path, BATCH_AI, |items| {
            found = items
                .into_iter()
                .filter_map(|item| Entry::of(folder, item))
                .find(|entry| entry.name() == name && entry.link.is_some());
            found.is_none()
        })
        .await?;
        Ok(found.and_then(|entry| entry.link))
    }

    /// Saves a file at `to`, and answers how many bytes came. Where a part of the same version of it is there already, the rest alone is
    /// asked for; where all of it is, nothing.
    ///
    /// # Errors
    /// As of [`fetch`](Client::fetch); what this machine refuses; `Away` where less came than the file has.
    pub async fn download(&self, link: &Link, to: &Path, mut came: impl FnMut(u64)) -> Result<u64> {
        let cannot = |error: std::io::Error| Failure::local(&format!("cannot write {}", to.display()), error);
        if is_whole(to, link) {
            came(link.size);
            return Ok(0);
        }
        let part = part_of(to, link);
        let mut file = OpenOptions::new().create(true).append(true).open(&part).map_err(cannot)?;
        let mut at = file.metadata().map_err(cannot)?.len().min(link.size);
        if file.metadata().map_err(cannot)?.len() > link.size {
            file.set_len(0).map_err(cannot)?;
            at = 0;
        }
        came(at);
        let mut new = 0;
        while at < link.size {
            let mut answer = self.fetch(&link.url, at).await?;
            match answer.status().as_u16() {
                206 => {}
                200 if at == 0 => {}
                status => {
                    let text = answer.text().await.unwrap_or_default();
                    return Err(Failure::of(status, &serde_json::from_str(&text).unwrap_or_default(), &text, ""));
                }
            }
            let before = at;
            // A connection that breaks is taken up again where it ended, as long as something comes.
            while let Ok(Some(bytes)) = answer.chunk().await {
                let room = usize::try_from(link.size - at).unwrap_or(usize::MAX);
                let bytes = bytes.get(..bytes.len().min(room)).unwrap_or_default();
                file.write_all(bytes).map_err(cannot)?;
                at += bytes.len() as u64;
                new += bytes.len() as u64;
                came(bytes.len() as u64);
                if at == link.size {
                    break;
                }
            }
            if at == before {
                let message = format!("{} ended after {at} of {} bytes", to.display(), link.size);
                return Err(
                    Failure::new(Exit::Away, "DownloadBroken", message).or_try("the same command goes on where it stopped")
                );
            }
        }
        file.sync_all().map_err(cannot)?;
        if let Some(modified) = moment(&link.modified) {
            file.set_modified(modified.into()).map_err(cannot)?;
        }
        fs::rename(&part, to).map_err(cannot)?;
        Ok(new)
    }
}

impl Entry {
    fn of(folder: &str, document: Value) -> Option<Entry> {
        let word = |name: &str| document.get(name).and_then(Value::as_str);
        let name = word("name").filter(|name| is_plain(name))?;
        let path = if matches!(folder, "." | "") { name.to_owned() } else { format!("{folder}/{name}") };
        let link = word("downloadUrl").filter(|_| word("fileType") == Some("file")).map(|url| Link {
            url: url.to_owned(),
            size: document.pointer("/properties/contentLength").and_then(Value::as_u64).unwrap_or_default(),
            modified: document.pointer("/properties/lastModified").and_then(Value::as_str).unwrap_or_default().to_owned(),
        });
        Some(Entry { path, link, document })
    }

    /// Its own name.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// Whether a name stays in its folder.
fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\\', '\0'])
}

fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// Whether the very file is there: of the same size and time.
fn is_whole(to: &Path, link: &Link) -> bool {
    let Ok(metadata) = fs::metadata(to) else { return false };
    let modified = metadata.modified().ok().map(OffsetDateTime::from);
    metadata.is_file() && metadata.len() == link.size && modified.is_some() && modified == moment(&link.modified)
}

/// Where the part of a download is: the name holds which version of the file it is of.
fn part_of(to: &Path, link: &Link) -> std::path::PathBuf {
    let digest = Sha256::digest(format!("{} {}", link.size, link.modified));
    let version: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    to.with_file_name(format!(".{}.{version}.part", to.file_name().unwrap_or_default().to_string_lossy()))
}

/// Output while it is written: what was not read yet, in order, each byte once.
#[derive(Debug)]
pub struct Output {
    job: Place,
    directory: String,
    path: String,
    link: Option<Link>,
    at: u64,
}

impl Output {
    /// The file at `path` of an output directory, from its beginning.
    pub fn new(job: Place, directory: &str, path: &str) -> Output {
        Output { job, directory: directory.to_owned(), path: path.to_owned(), link: None, at: 0 }
    }

    /// How many bytes were read.
    pub fn read_so_far(&self) -> u64 {
        self.at
    }

    /// Begins so many bytes before the present end.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn skip_to_last(&mut self, client: &Client, bytes: u64) -> Result<()> {
        self.find(client).await?;
        self.at = self.link.as_ref().map_or(0, |link| link.size.saturating_sub(bytes));
        Ok(())
    }

    /// Looks for the file again: another attempt writes another one. Answers whether it is another.
    ///
    /// # Errors
    /// As of [`send`](Client::send).
    pub async fn find(&mut self, client: &Client) -> Result<bool> {
        let found = client.find_file(&self.job, &self.directory, &self.path).await?;
        let address = |link: &Option<Link>| link.as_ref().map(|link| link.url.split('?').next().unwrap_or_default().to_owned());
        let attempt = |link: &Option<Link>| {
            link.as_ref().and_then(|link| Some(link.url.split("&a=").nth(1)?.split('&').next()?.to_owned()))
        };
        let is_other = self.link.is_some()
            && found.is_some()
            && (address(&found) != address(&self.link)
                || attempt(&found) != attempt(&self.link)
                || found.as_ref().is_some_and(|link| link.size < self.at));
        if is_other {
            self.at = 0;
        }
        self.link = found.or(self.link.take());
        Ok(is_other)
    }

    /// Hands what is new to `take`, and answers how much that was.
    ///
    /// # Errors
    /// As of [`fetch`](Client::fetch); what `take` fails with.
    pub async fn read(&mut self, client: &Client, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        if self.link.is_none() {
            self.find(client).await?;
        }
        let Some(link) = &self.link else { return Ok(0) };
        let mut answer = client.fetch(&link.url, self.at).await?;
        let before = self.at;
        match answer.status().as_u16() {
            206 => {}
            200 if self.at == 0 => {}
            // Nothing new.
            200 | 416 => return Ok(0),
            // The link ended, or what it led to is gone.
            403 | 404 | 410 => {
                self.link = None;
                return Ok(0);
            }
            status => {
                let text = answer.text().await.unwrap_or_default();
                return Err(Failure::of(status, &serde_json::from_str(&text).unwrap_or_default(), &text, ""));
            }
        }
        while let Ok(Some(bytes)) = answer.chunk().await {
            take(&bytes)?;
            self.at += bytes.len() as u64;
        }
        Ok(self.at - before)
    }
}

/// Makes the folder of a file, and opens nothing.
///
/// # Errors
/// This machine refuses.
pub fn make_folder(to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|error| Failure::local(&format!("cannot make the folder {}", folder.display()), error))
}

/// Whether a file can be opened for reading, told with its name.
///
/// # Errors
/// This machine refuses.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Failure::local(&format!("cannot read {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_that_leave_their_folder_do_not_exist() {
        let entry = |name: &str| Entry::of("a", json!({"name": name, "fileType": "file", "downloadUrl": "u"}));
        assert_eq!(entry("b.txt").expect("plain").path, "a/b.txt");
        for hostile in ["..", ".", "", "/etc/passwd", "a/b", "a\\b", "a\0b"] {
            assert!(entry(hostile).is_none(), "{hostile:?}");
        }
    }

    #[test]
    fn a_part_is_of_one_version_of_a_file() {
        let link = |size, modified: &str| Link { url: String::new(), size, modified: modified.into() };
        let to = Path::new("x/model.bin");
        let part = part_of(to, &link(1, "t"));
        assert_eq!(part.parent(), to.parent());
        assert_eq!(part, part_of(to, &link(1, "t")));
        assert_ne!(part, part_of(to, &link(2, "t")));
        assert_ne!(part, part_of(to, &link(1, "u")));
    }
}
