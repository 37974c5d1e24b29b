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
        loop {
            let url = next.map_or_else(|| url.clone(), |marker| format!("{url}&marker={}", text(&marker)));
            let Some(page) = self.page(&url).await? else { break };
            // Containers name entries from their root on, and directories with a `/` at their end.
            entries.extend(page.entries.into_iter().filter_map(|entry| {
                let name = entry.name.strip_prefix(match place.service {
                    StorageService::Blob => prefix.as_str(),
                    StorageService::File => "",
                })?;
                let name = name.strip_suffix('/').unwrap_or(name);
                let shown = !name.is_empty() && !name.contains('/');
                shown.then(|| OutputEntry { name: name.to_owned(), file: entry.file })
            }));
            if entries.len() > MAX_ENTRIES {
                return Err(too_many(MAX_ENTRIES));
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        entries.sort_by(|a, b| (a.name.as_bytes(), a.file.is_none()).cmp(&(b.name.as_bytes(), b.file.is_none())));
        Ok(entries)
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
