//! Outputs on storage accounts: listed over the storage's own REST, and linked by its own signatures.
//!
//! In: a place with the account's key. Out: listings, and links that need no more of this server. Built for containers, which are proven
//! against an emulator, and for shares, which are built against the published reference. The storage is not trusted: its answers have
//! bounds, and no redirect is followed.

mod listing;

use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::OnceCell;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::domain::output::{OutputEntry, StoragePlace};
use crate::domain::sas::{Scope, StorageService, sign};
use crate::error::Error;
use crate::files::too_many;
use listing::Page;

/// Longest time until a storage has answered.
const DEADLINE: Duration = Duration::from_secs(10);

/// Most bytes of one page.
const MAX_PAGE: usize = 16 << 20;

/// Entries that are asked for at once.
///
/// Source: the most that both services give.
const PAGE: u32 = 5000;

/// Most entries of one directory.
const MAX_ENTRIES: usize = 100_000;

/// Most pages of one directory: services may end one before it is full, and one that means ill never ends the last.
const MAX_PAGES: usize = 200;

/// Longest time that all pages together may take.
const WHOLE: Duration = Duration::from_secs(60);

/// How long what a listing is signed with is good.
const LISTING: Duration = Duration::from_secs(600);

/// The version of the services that is asked for: the first whose shares tell when files were written.
///
/// Source: versions of Azure Files, `include=Timestamps`.
const VERSION: &str = "2020-04-08";

/// What stands in a path as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Speaks to storage. Nothing is set up before it is needed.
#[derive(Clone, Default)]
pub(super) struct Azure(Arc<OnceCell<reqwest::Client>>);

/// The link to the file at `path` below `place`; `None` where the account's key is no key.
pub(super) fn link(place: &StoragePlace, path: &str, expires: Timestamp) -> Option<String> {
    let whole = joined(&place.path, path);
    let query = signed(place, Scope::File(&whole), expires)?;
    Some(format!("{}/{}/{}?{query}", place.base, place.container, encoded(&whole)))
}

impl Azure {
    /// What is in `directory` below `place`; empty where there is none.
    pub(super) async fn list(&self, place: &StoragePlace, directory: &str) -> Result<Vec<OutputEntry>, Error> {
        let late = |_| Error::unavailable(std::io::Error::other("the storage does not come to an end of its list"));
        tokio::time::timeout(WHOLE, self.all_pages(place, directory)).await.map_err(late)?
    }

    async fn all_pages(&self, place: &StoragePlace, directory: &str) -> Result<Vec<OutputEntry>, Error> {
        let folder = joined(&place.path, directory);
        let expires = SystemClock.now() + LISTING;
        let signed = signed(place, Scope::List, expires)
            .ok_or_else(|| Error::unavailable(std::io::Error::other("the key of the storage account is no key")))?;
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let (path, query) = match place.service {
            StorageService::Blob => {
                (String::new(), format!("restype=container&comp=list&delimiter=%2F&prefix={}", text(&prefix)))
            }
            StorageService::File => {
                let path = if folder.is_empty() { String::new() } else { format!("/{}", encoded(&folder)) };
                (path, "restype=directory&comp=list&include=Timestamps".to_owned())
            }
        };
        let url = format!("{}/{}{path}?{query}&maxresults={PAGE}&{signed}", place.base, place.container);
        let mut entries = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let url = next.map_or_else(|| url.clone(), |marker| format!("{url}&marker={}", text(&marker)));
            let Some(page) = self.page(&url).await? else { return Ok(sorted(entries)) };
            // Containers name entries from their root on, and directories with a `/` at their end.
            entries.extend(page.entries.into_iter().filter_map(|entry| {
                let name = entry.name.strip_prefix(match place.service {
                    StorageService::Blob => prefix.as_str(),
                    StorageService::File => "",
                })?;
                let name = name.strip_suffix('/').unwrap_or(name);
                let shown = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
                shown.then(|| OutputEntry { name: name.to_owned(), file: entry.file })
            }));
            if entries.len() > MAX_ENTRIES {
                return Err(too_many(MAX_ENTRIES));
            }
            next = page.next;
            if next.is_none() {
                return Ok(sorted(entries));
            }
        }
        Err(Error::unavailable(std::io::Error::other("the storage's list has too many pages")))
    }

    /// One page; `None` where there is no such directory.
    async fn page(&self, url: &str) -> Result<Option<Page>, Error> {
        let failed = |error: reqwest::Error| Error::unavailable(error.without_url());
        let client = self.0.get_or_try_init(|| async {
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(DEADLINE).no_proxy().build()
        });
        let mut answer = client.await.map_err(failed)?.get(url).header("x-ms-version", VERSION).send().await.map_err(failed)?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if answer.status() != reqwest::StatusCode::OK {
            return Err(Error::unavailable(std::io::Error::other(format!("the storage answers {}", answer.status()))));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_PAGE {
                return Err(Error::unavailable(std::io::Error::other("the storage's answer is too long")));
            }
            body.extend_from_slice(&chunk);
        }
        listing::parse(&body).map(Some).map_err(Error::unavailable)
    }
}

fn sorted(mut entries: Vec<OutputEntry>) -> Vec<OutputEntry> {
    entries.sort_by(|a, b| (a.name.as_bytes(), a.file.is_none()).cmp(&(b.name.as_bytes(), b.file.is_none())));
    entries
}

fn signed(place: &StoragePlace, scope: Scope<'_>, expires: Timestamp) -> Option<String> {
    sign(place.service, &place.account, &place.key.0, &place.container, scope, expires)
}

fn joined(above: &str, below: &str) -> String {
    match (above, below) {
        ("", path) | (path, "") => path.to_owned(),
        (above, below) => format!("{above}/{below}"),
    }
}

fn text(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

fn encoded(path: &str) -> String {
    path.split('/').map(text).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::SecretText;
    use crate::domain::storage::Endpoint;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Mutex;

    /// A storage that means ill. Its containers are named after what they do.
    struct Hostile {
        base: String,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Hostile {
        /// `elsewhere` is where it would send those who ask.
        fn start(elsewhere: &str) -> Hostile {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
            let base = format!("http://{}", listener.local_addr().expect("bound"));
            let asked = Arc::new(Mutex::new(Vec::new()));
            let (log, elsewhere) = (Arc::clone(&asked), elsewhere.to_owned());
            std::thread::spawn(move || {
                for guest in listener.incoming().flatten() {
                    let (log, elsewhere) = (Arc::clone(&log), elsewhere.clone());
                    std::thread::spawn(move || _ = serve(guest, &log, &elsewhere));
                }
            });
            Hostile { base, asked }
        }

        fn place(&self, container: &str) -> StoragePlace {
            StoragePlace {
                service: StorageService::Blob,
                base: Endpoint::parse(&self.base).expect("an address"),
                account: "team".into(),
                key: SecretText("Y2FuYXJ5".into()),
                container: container.into(),
                path: "runs".into(),
            }
        }

        fn asked(&self) -> usize {
            self.asked.lock().expect("whole").len()
        }
    }

    fn serve(mut guest: TcpStream, log: &Mutex<Vec<String>>, elsewhere: &str) -> std::io::Result<()> {
        let mut lines = BufReader::new(guest.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        log.lock().expect("whole").push(request.clone());
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let page = |entries: &str, next: &str| {
            format!("<EnumerationResults><Blobs>{entries}</Blobs><NextMarker>{next}</NextMarker></EnumerationResults>")
        };
        let blob =
            |name: &str| format!("<Blob><Name>{name}</Name><Properties><Content-Length>1</Content-Length></Properties></Blob>");
        let body = match request.split(['/', '?']).nth(1).unwrap_or_default() {
            "again" => page("", "again"),
            "full" => page(&(0..PAGE).map(|at| blob(&format!("runs/{at}"))).collect::<String>(), "more"),
            "names" => page(
                &[
                    "runs/../../etc/passwd",
                    "/etc/passwd",
                    "else/x",
                    "runs/",
                    "runs/a/b",
                    "runs/..",
                    "runs/&#27;[31m",
                    "runs/plain",
                ]
                .map(blob)
                .concat(),
                "",
            ),
            "entities" => {
                "<!DOCTYPE a [<!ENTITY b \"bbbbbbbbbb\"><!ENTITY c \"&b;&b;&b;&b;\">]>".to_owned()
                    + &page(&blob("runs/x&c;y"), "")
            }
            "redirect" => {
                return write!(
                    guest,
                    "HTTP/1.1 307 Go\r\nLocation: {elsewhere}/taken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
            // Larger than it may be, one name alone.
            "large" => page(&blob(&"x".repeat(MAX_PAGE)), ""),
            "slow" => {
                write!(guest, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
                loop {
                    guest.write_all(b" ")?;
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            _ => String::new(),
        };
        write!(guest, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_storage_that_means_ill_costs_little_and_learns_nothing() {
        let other = Hostile::start("");
        let storage = Hostile::start(&other.base);
        let azure = Azure::default();
        let list = async |container: &str| azure.list(&storage.place(container), "").await;
        let shown = async |container: &str| -> Vec<String> {
            list(container).await.expect("a list").into_iter().map(|entry| entry.name).collect()
        };
        // Names are what they are below the directory, and nothing else is shown.
        assert_eq!(shown("names").await, ["\u{1b}[31m", "plain"]);
        assert_eq!(shown("entities").await, ["xy"], "entities of its own mean nothing");
        for container in ["again", "full", "large", "redirect", "nothing"] {
            let (began, before) = (std::time::Instant::now(), storage.asked());
            let list = list(container).await;
            assert!(list.is_err() || container == "nothing", "{container}: {list:?}");
            assert!(storage.asked() - before <= MAX_PAGES, "{container}: {} requests", storage.asked() - before);
            assert!(began.elapsed() < WHOLE, "{container}: {:?}", began.elapsed());
        }
        assert_eq!(other.asked(), 0, "nobody is sent elsewhere with a signature of the account");
        let began = std::time::Instant::now();
        assert!(list("slow").await.is_err());
        assert!(began.elapsed() < DEADLINE * 2, "{:?}", began.elapsed());
        assert!(
            storage.asked.lock().expect("whole").iter().all(|line| !line.contains("Y2FuYXJ5")),
            "the key itself goes nowhere"
        );
    }
}
