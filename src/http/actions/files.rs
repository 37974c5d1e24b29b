//! `listOutputFiles`: what a job wrote to one of its directories, one folder at a time.

use std::time::Duration;

use crate::domain::job::{Job, STDOUTERR};
use crate::domain::output::OutputEntry;
use crate::error::Error;
use crate::http::call::{Answer, Call};
use crate::http::links::Maker;
use crate::http::query::{Query, invalid};
use crate::http::{cursor, present, verbs};
use crate::wire::v2018_05_01::files::FileBody;

/// How long links are good for. Unit: minutes. Source: `linkexpiryinminutes`, openapi 2018-05-01.
const EXPIRY_MINUTES: (u32, u32, u32) = (5, 600, 60);

/// POST, and GET for clients that continue any list so.
pub(crate) async fn list(call: Call) -> Answer {
    let directory = directory_id(&call.query)?;
    let folder = folder(call.query.get("directory").unwrap_or("."))?;
    let (low, high, default) = EXPIRY_MINUTES;
    let minutes = call.query.number("linkexpiryinminutes", low, high, default)?;
    let limit = call.query.number("maxresults", 1, verbs::MAX_RESULTS, verbs::MAX_RESULTS)?;
    let filter = format!("{directory}\n{folder}");
    let after = cursor::position(&call, &filter)?;

    let service = &call.parts.service;
    let stored = service.get::<Job>(call.id()?).await?;
    let Some(place) = service.output_place(call.id()?, &directory).await? else {
        return present::files(&call, Vec::new(), None);
    };
    let mut entries = service.output.list(&place, &folder).await?;
    if let Some(after) = &after {
        entries.retain(|entry| position(entry) > *after);
    }
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next_link = match entries.last() {
        Some(last) if more => Some(cursor::next_link(&call, &filter, &position(last))?),
        _ => None,
    };

    let expires = call.parts.clock.now() + Duration::from_secs(u64::from(minutes) * 60);
    let maker = Maker::new(&call.parts.signer, &call.base, &stored, &directory, &place, expires)?;
    let link = |name: &str| {
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        service.output.link(&place, &path, expires).unwrap_or_else(|| maker.link(&path))
    };
    present::files(&call, entries.into_iter().map(|entry| FileBody::of(entry, link)).collect(), next_link)
}

/// The id of the directory. The standard one is found in any case, as a published notebook writes it oddly.
fn directory_id(query: &Query) -> Result<String, Error> {
    match query.get("outputdirectoryid").filter(|id| !id.is_empty()) {
        Some(id) if id.eq_ignore_ascii_case(STDOUTERR) => Ok(STDOUTERR.to_owned()),
        Some(id) => Ok(id.to_owned()),
        None => {
            let message = "The query parameter 'outputdirectoryid' is required: 'stdouterr', or the id of an output directory.";
            Err(invalid("outputdirectoryid", message.to_owned()))
        }
    }
}

/// The folder below the directory, `""` for its root.
fn folder(text: &str) -> Result<String, Error> {
    let inner = text.strip_suffix('/').unwrap_or(text);
    let segments: Vec<&str> = inner.split('/').filter(|segment| *segment != ".").collect();
    let is_root = inner.is_empty() || segments.is_empty();
    let wrong = |segment: &&str| segment.is_empty() || *segment == ".." || segment.chars().any(|c| c == '\0');
    if !is_root && segments.iter().any(wrong) {
        let message =
            "The query parameter 'directory' must be a path below the output directory, without '..' and empty segments.";
        return Err(invalid("directory", message.to_owned()));
    }
    Ok(if is_root { String::new() } else { segments.join("/") })
}

/// Where an entry stands in a list: by name, a file before a directory of the same name.
fn position(entry: &OutputEntry) -> String {
    // No name holds U+0000, so that it ends one before any that continues it.
    format!("{}\0{}", entry.name, if entry.file.is_some() { 'a' } else { 'b' })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_stay_below_their_directory() {
        for (text, wanted) in [(".", ""), ("", ""), ("./", ""), ("a", "a"), ("./a/b/", "a/b"), ("a/./b", "a/b"), ("/", "")] {
            assert_eq!(folder(text).ok().as_deref(), Some(wanted), "{text}");
        }
        for text in ["..", "a/../b", "/etc", "a//b", "../x", "a/.."] {
            assert!(folder(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_sort_ordinally_and_files_first() {
        let entry = |name: &str, file: bool| OutputEntry {
            name: name.into(),
            file: file.then_some(crate::domain::output::OutputFile { size: 0, modified_at: time::OffsetDateTime::UNIX_EPOCH }),
        };
        let order = [entry("B", true), entry("a", true), entry("a", false), entry("a.txt", true), entry("b", false)];
        let positions: Vec<String> = order.iter().map(position).collect();
        assert!(positions.is_sorted(), "{positions:?}");
    }
}
