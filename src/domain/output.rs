//! What jobs write, as the service keeps and lists it.

use crate::clock::Timestamp;
use crate::domain::sas::StorageService;
use crate::domain::secret::SecretText;
use crate::domain::storage::Endpoint;

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
    /// On a storage account that the server lists by itself, and that gives out files by links of its own.
    Storage(StoragePlace),
    /// With the server, under an attempt and a directory id.
    Archive {
        /// The attempt.
        attempt: crate::id::AttemptUid,
        /// The directory's id; `stdouterr` for the standard one.
        directory: String,
    },
}

/// A directory on a storage account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoragePlace {
    /// Which of the account's services it is on.
    pub service: StorageService,
    /// The base URL of that service of the account.
    pub base: Endpoint,
    /// The account.
    pub account: String,
    /// Its key.
    pub key: SecretText,
    /// The container or share.
    pub container: String,
    /// The path in it: segments joined by `/`; none of them is `.`, `..` or empty.
    pub path: String,
}

/// Longest id of an output directory. Unit: bytes.
pub const MAX_DIRECTORY_ID: usize = 128;

/// Longest path of a file below its output directory. Unit: bytes. An index row of the store holds the path.
pub const MAX_PATH: usize = 1024;

/// Longest segment of such a path. Unit: bytes.
///
/// Source: NAME_MAX of Linux.
pub const MAX_SEGMENT: usize = 255;

/// Checks a path below an output directory.
///
/// # Errors
/// The rule that it breaks, as text that completes "The path ...".
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > MAX_PATH {
        return Err("is longer than 1024 bytes");
    }
    if path.contains('\0') {
        return Err("holds a zero byte");
    }
    for segment in path.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err("has a segment that is empty, '.' or '..'");
        }
        if segment.len() > MAX_SEGMENT {
            return Err("has a segment that is longer than 255 bytes");
        }
    }
    Ok(())
}

/// A piece of a file on its way into the store. Pieces of one content of a file come in order and without holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPiece {
    /// The attempt that wrote it.
    pub attempt: crate::id::AttemptUid,
    /// The directory's id; `stdouterr` for the standard one.
    pub directory: String,
    /// The file's path below the directory; see [`check_path`].
    pub path: String,
    /// Counts the contents that the file had, from 1; a greater one replaces what was there.
    pub generation: u32,
    /// Offset of the first byte.
    pub start: u64,
    /// When the file was last written, on its node's clock.
    pub modified_at: Timestamp,
    /// The bytes.
    pub content: PieceContent,
}

/// The bytes of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceContent {
    /// Few: they go into the database. None where the file is empty so far.
    Inline(bytes::Bytes),
    /// Many: they were kept as the object of [`OutputPiece::object_name`].
    Object {
        /// How many.
        length: u64,
    },
}

impl OutputPiece {
    /// Bytes.
    pub fn length(&self) -> u64 {
        match &self.content {
            PieceContent::Inline(bytes) => bytes.len() as u64,
            PieceContent::Object { length } => *length,
        }
    }

    /// The archive's name for this piece. Pieces of one content that begin at the same place but differ in length have different
    /// names, so that a repeated piece never cuts one that is in use.
    pub fn object_name(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        hash.update((self.directory.len() as u64).to_be_bytes());
        hash.update(self.directory.as_bytes());
        hash.update(self.path.as_bytes());
        let file: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("{}/{file}/{}-{}-{}", self.attempt, self.generation, self.start, self.length())
    }

    /// Checks what an agent chose: id, path and numbers.
    ///
    /// # Errors
    /// The rule that is broken, as a sentence.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.directory.is_empty() || self.directory.len() > MAX_DIRECTORY_ID || self.directory.contains('\0') {
            return Err("The directory's id is empty, too long or holds a zero byte.");
        }
        check_path(&self.path).map_err(|_| "The path of an output file is not allowed.")?;
        if self.generation == 0 || i32::try_from(self.generation).is_err() {
            return Err("The generation of an output file is out of range.");
        }
        if self.start.checked_add(self.length()).is_none_or(|end| i64::try_from(end).is_err()) {
            return Err("An output file is too large.");
        }
        Ok(())
    }
}

/// The offset in its file at which an object begins, by its name. A row may refer to the object's later part only, where the earlier one
/// was known already.
pub fn object_start(name: &str) -> Option<u64> {
    name.rsplit('/').next()?.split('-').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_their_directory() {
        for allowed in ["a", "stdout.txt", "a/b/c", "a b/..c", "...", "ü/名", "a\\b", "-rf", &"a".repeat(255)] {
            assert!(check_path(allowed).is_ok(), "{allowed}");
        }
        let (long, deep) = ("a".repeat(256), "a/".repeat(600));
        for refused in ["", "/", "/etc/passwd", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a/..", "a\0b", &long, &deep]
        {
            assert!(check_path(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn an_object_tells_where_it_begins() {
        let piece = OutputPiece {
            attempt: crate::id::AttemptUid(uuid::Uuid::from_u128(1)),
            directory: "stdouterr".into(),
            path: "a/b-c".into(),
            generation: 2,
            start: 4096,
            modified_at: Timestamp::UNIX_EPOCH,
            content: PieceContent::Object { length: 70_000 },
        };
        assert!(piece.check().is_ok());
        assert_eq!(object_start(&piece.object_name()), Some(4096));
        let longer = OutputPiece { content: PieceContent::Object { length: 70_001 }, ..piece.clone() };
        assert_ne!(longer.object_name(), piece.object_name(), "a repeated piece of another length is another object");
        assert!(OutputPiece { start: u64::MAX, ..piece.clone() }.check().is_err());
        assert!(OutputPiece { generation: 0, ..piece.clone() }.check().is_err());
        assert!(OutputPiece { path: "../x".into(), ..piece }.check().is_err());
    }
}
