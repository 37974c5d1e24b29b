//! What jobs write, as the service keeps and lists it.

use crate::clock::Timestamp;

/// A file or directory in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputEntry {
    /// Its name within the listed directory.
    pub name: String,
    /// `None` for a directory.
    pub file: Option<OutputFile>,
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFile {
    /// Bytes.
    pub size: u64,
    /// When it was last written, on its node's clock.
    pub modified_at: Timestamp,
}

/// Where a job's directory is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputPlace {
    /// On the share that every local node mounts: a path below the share's root.
    Share {
        /// Segments joined by `/`; none of them is `.`, `..` or empty.
        path: String,
    },
    /// With the server, under an attempt and a directory id.
    Archive {
        /// The attempt.
        attempt: crate::id::AttemptUid,
        /// The directory's id; `stdouterr` for the standard one.
        directory: String,
    },
}
