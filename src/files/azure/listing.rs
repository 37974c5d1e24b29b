//! One page of a listing of storage, as XML. Pure: names and sizes come from outside and are data.

use percent_encoding::percent_decode_str;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

use crate::clock::Timestamp;
use crate::domain::output::{OutputEntry, OutputFile};

/// A page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// What is on it; names as the storage has them.
    pub(super) entries: Vec<OutputEntry>,
    /// Where the next begins, if there is one.
    pub(super) next: Option<String>,
}

/// What is being read of one entry.
#[derive(Default)]
struct Draft {
    name: String,
    encoded: bool,
    size: Option<u64>,
    modified: Option<Timestamp>,
}

/// Reads a page of containers or shares: both name their entries alike.
///
/// # Errors
/// It is no such page.
pub(super) fn parse(text: &[u8]) -> Result<Page, quick_xml::Error> {
    let mut reader = Reader::from_reader(text);
    let mut page = Page::default();
    let mut path: Vec<Vec<u8>> = Vec::new();
    let mut draft = Draft::default();
    let mut content = String::new();
    loop {
        match reader.read_event()? {
            Event::Start(tag) => {
                let name = tag.name().as_ref().to_vec();
                match name.as_slice() {
                    b"Blob" | b"BlobPrefix" | b"File" | b"Directory" => draft = Draft::default(),
                    b"Name" => {
                        draft.encoded =
                            tag.attributes().flatten().any(|one| one.key.as_ref() == b"Encoded" && &*one.value == b"true")
                    }
                    _ => {}
                }
                path.push(name);
                content.clear();
            }
            Event::Text(text) => content.push_str(&text.decode()?),
            Event::CData(text) => content.push_str(&text.decode()?),
            Event::GeneralRef(reference) => match (reference.resolve_char_ref()?, reference.decode()?) {
                (Some(character), _) => content.push(character),
                (None, name) => content.push_str(resolve_predefined_entity(&name).unwrap_or_default()),
            },
            Event::End(tag) => {
                let inner = path.iter().rev().nth(1).map(Vec::as_slice);
                let text = content.trim();
                match (tag.name().as_ref(), inner) {
                    (b"Name", Some(b"Blob" | b"BlobPrefix" | b"File" | b"Directory")) => draft.name = content.clone(),
                    (b"Content-Length", _) => draft.size = text.parse().ok(),
                    (b"Last-Modified", _) => draft.modified = httpdate::parse_http_date(text).ok().map(Timestamp::from),
                    (b"LastWriteTime", _) if draft.modified.is_none() => {
                        draft.modified = Timestamp::parse(text, &time::format_description::well_known::Rfc3339).ok();
                    }
                    (b"NextMarker", _) => page.next = Some(text.to_owned()).filter(|next| !next.is_empty()),
                    (b"Blob" | b"File", _) => page.entries.extend(draft.entry(true)),
                    (b"BlobPrefix" | b"Directory", _) => page.entries.extend(draft.entry(false)),
                    _ => {}
                }
                path.pop();
                content.clear();
            }
            Event::Eof => return Ok(page),
            _ => {}
        }
    }
}

impl Draft {
    fn entry(&mut self, is_file: bool) -> Option<OutputEntry> {
        let Draft { name, encoded, size, modified } = std::mem::take(self);
        let name = if encoded { percent_decode_str(&name).decode_utf8().ok()?.into_owned() } else { name };
        let file = OutputFile { size: size.unwrap_or(0), modified_at: modified.unwrap_or(Timestamp::UNIX_EPOCH) };
        Some(OutputEntry { name, file: is_file.then_some(file) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(page: &Page) -> Vec<(&str, Option<u64>)> {
        page.entries.iter().map(|entry| (entry.name.as_str(), entry.file.as_ref().map(|file| file.size))).collect()
    }

    #[test]
    fn containers_and_shares_are_read() {
        let container =
            br#"<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="http://h/a" ContainerName="c">
            <Prefix>runs/</Prefix><Delimiter>/</Delimiter><Blobs>
            <Blob><Name>runs/a &amp; b&#x41;.txt</Name><Properties><Last-Modified>Thu, 26 Nov 2026 18:00:05 GMT</Last-Modified>
              <Content-Length>42</Content-Length><Content-MD5/></Properties></Blob>
            <Blob><Name Encoded="true">runs/line%0Abreak</Name><Properties><Content-Length>0</Content-Length></Properties></Blob>
            <BlobPrefix><Name>runs/more/</Name></BlobPrefix></Blobs><NextMarker>2!abc==</NextMarker></EnumerationResults>"#;
        let page = parse(container).expect("a page");
        assert_eq!(told(&page), [("runs/a & bA.txt", Some(42)), ("runs/line\nbreak", Some(0)), ("runs/more/", None)]);
        assert_eq!(page.next.as_deref(), Some("2!abc=="));
        let modified = page.entries[0].file.as_ref().expect("a file").modified_at;
        assert_eq!(modified.unix_timestamp(), 1_795_716_005);
        let share =
            br#"<EnumerationResults ShareName="logs"><DirectoryPath /><Entries><File><Name>execution.log</Name><Properties>
            <Content-Length>15593</Content-Length><LastWriteTime>2026-11-26T18:00:05.0000000Z</LastWriteTime></Properties></File>
            <Directory><Name>afs</Name></Directory></Entries><NextMarker /></EnumerationResults>"#;
        let page = parse(share).expect("a page");
        assert_eq!((told(&page), page.next.clone()), (vec![("execution.log", Some(15593)), ("afs", None)], None));
        assert_eq!(page.entries[0].file.as_ref().expect("a file").modified_at.unix_timestamp(), 1_795_716_005);
    }

    #[test]
    fn what_is_no_page_is_none_or_an_error() {
        for odd in ["", "{}", "<a><b></a>", "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><Blobs>&x;</Blobs>"] {
            if let Ok(page) = parse(odd.as_bytes()) {
                assert_eq!(page, Page::default(), "{odd}");
            }
        }
    }
}
