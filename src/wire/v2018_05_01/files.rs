//! Output files, as 2018-05-01 writes them.

use serde::Serialize;

use crate::domain::output::OutputEntry;
use crate::wire::times::whole;

/// One entry of a file list. Directories carry neither link nor properties.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileBody {
    name: String,
    file_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    download_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<FileProperties>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileProperties {
    last_modified: String,
    content_length: u64,
}

impl FileBody {
    /// As the wire writes an entry; `link` makes the URL of a file.
    pub fn of(entry: OutputEntry, link: impl FnOnce(&str) -> String) -> FileBody {
        match entry.file {
            None => FileBody { name: entry.name, file_type: "directory", download_url: None, properties: None },
            Some(file) => FileBody {
                download_url: Some(link(&entry.name)),
                name: entry.name,
                file_type: "file",
                properties: Some(FileProperties { last_modified: whole(file.modified_at), content_length: file.size }),
            },
        }
    }
}
