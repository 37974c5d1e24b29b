//! What jobs wrote and the server keeps: files and the pieces that they are made of.

use std::collections::BTreeMap;
use std::ops::Range;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::output::{OutputEntry, OutputFile, OutputPiece, PieceContent};
use crate::id::AttemptUid;
use crate::store::{Store, StoreError};

/// Most files that one attempt may have here; pieces of more are ignored.
pub const MAX_FILES: i64 = 100_000;

/// A piece as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPiece {
    /// Offset of its first byte in the file.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Where they are.
    pub content: StoredContent,
}

/// Where the bytes of a stored piece are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredContent {
    /// Here.
    Inline(Vec<u8>),
    /// In that object of the archive.
    Object(String),
}

/// Adds pieces to the files of attempts, inside the caller's transaction, in two statements for any number. A piece that is known, is of
/// an earlier content of its file, or would leave a hole is ignored; a later content replaces the one before. Pieces have passed
/// [`OutputPiece::check`]. Answers the archive's objects that nothing refers to any more: they may be removed after the commit.
///
/// # Errors
/// `Constraint` (`output_file_attempt_fkey`) where an attempt does not exist; `Unavailable`.
pub(crate) async fn append_output(connection: &mut PgConnection, pieces: &[OutputPiece]) -> Result<Vec<String>, StoreError> {
    let mut files: BTreeMap<Key<'_>, File> = BTreeMap::new();
    for piece in pieces {
        files.entry(key(piece)).or_default();
    }
    if files.is_empty() {
        return Ok(Vec::new());
    }
    find_files(connection, &mut files).await?;
    let added = add(&mut files, pieces);
    if files.values().any(|file| file.changed) {
        write(connection, &files, &added).await?;
    }
    if files.values().any(|file| file.replaced) { delete_replaced(connection, &files).await } else { Ok(Vec::new()) }
}

/// The file that a piece is of: attempt, directory, path.
type Key<'a> = (Uuid, &'a str, &'a str);

fn key(piece: &OutputPiece) -> Key<'_> {
    (piece.attempt.0, &piece.directory, &piece.path)
}

/// A file as it is known; generation 0 where it is not.
#[derive(Default)]
struct File {
    generation: u32,
    size: u64,
    modified_at: Option<Timestamp>,
    /// The attempt has as many files as it may, and this would be another.
    refused: bool,
    changed: bool,
    replaced: bool,
}

/// Bytes that are new: what of which piece.
struct Added<'a> {
    piece: &'a OutputPiece,
    generation: u32,
    start: u64,
    length: u64,
}

/// Takes the pieces one after another, as they would have come alone. Pure.
fn add<'a>(files: &mut BTreeMap<Key<'a>, File>, pieces: &'a [OutputPiece]) -> Vec<Added<'a>> {
    let mut added = Vec::new();
    for piece in pieces {
        let Some(file) = files.get_mut(&key(piece)) else { continue };
        if file.refused || piece.generation < file.generation || (piece.generation > file.generation && piece.start > 0) {
            continue;
        }
        if piece.generation > file.generation {
            file.replaced |= file.generation > 0;
            (file.generation, file.size, file.modified_at, file.changed) = (piece.generation, 0, None, true);
        }
        let end = piece.start.saturating_add(piece.length());
        if piece.start > file.size || end < file.size {
            continue;
        }
        if file.modified_at.is_none_or(|at| at < piece.modified_at) {
            (file.modified_at, file.changed) = (Some(piece.modified_at), true);
        }
        if end > file.size {
            // What was there is not written again: rows of one content do not overlap.
            added.push(Added { piece, generation: file.generation, start: file.size, length: end - file.size });
            (file.size, file.changed) = (end, true);
        }
    }
    // A content that was replaced within the same list leaves nothing.
    added.retain(|new| files.get(&key(new.piece)).is_some_and(|file| file.generation == new.generation));
    added
}

async fn find_files(connection: &mut PgConnection, files: &mut BTreeMap<Key<'_>, File>) -> Result<(), StoreError> {
    let (attempts, directories, paths) = columns(files);
    let rows = sqlx::query!(
        r#"with wanted as (
            select attempt_uid, directory, path, n
            from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as w (attempt_uid, directory, path, n)
        ), known as (
            select w.n, w.attempt_uid, f.generation, f.size, f.modified_at
            from wanted w
            left join batchyard.output_file f
                on f.attempt_uid = w.attempt_uid and f.directory = w.directory and f.path = w.path
        ), counted as (
            select a.attempt_uid, (
                select count(*)
                from (select 1 from batchyard.output_file o where o.attempt_uid = a.attempt_uid limit $4) as first
            ) as files
            from (select distinct k.attempt_uid from known k where k.generation is null) as a
        )
        select k.attempt_uid as "attempt_uid!", k.generation as "generation?", k.size as "size?", k.modified_at as "modified_at?",
            c.files as "files?"
        from known k
        left join counted c on c.attempt_uid = k.attempt_uid
        order by k.n"#,
        &attempts,
        &directories as _,
        &paths as _,
        MAX_FILES,
    )
    .fetch_all(connection)
    .await?;
    let mut room: BTreeMap<Uuid, i64> = BTreeMap::new();
    for (file, row) in files.values_mut().zip(rows) {
        match (row.generation, row.size) {
            (Some(generation), Some(size)) => {
                file.generation = u32::try_from(generation).map_err(|e| StoreError::unreadable("generation", e))?;
                file.size = u64::try_from(size).map_err(|e| StoreError::unreadable("size", e))?;
                file.modified_at = row.modified_at;
            }
            _ => {
                let room = room.entry(row.attempt_uid).or_insert(MAX_FILES - row.files.unwrap_or_default());
                file.refused = *room <= 0;
                *room -= 1;
            }
        }
    }
    Ok(())
}

async fn write(connection: &mut PgConnection, files: &BTreeMap<Key<'_>, File>, added: &[Added<'_>]) -> Result<(), StoreError> {
    let files: Vec<_> = files.iter().filter(|(_, file)| file.changed).collect();
    let attempts: Vec<Uuid> = files.iter().map(|((attempt, _, _), _)| *attempt).collect();
    let directories: Vec<&str> = files.iter().map(|((_, directory, _), _)| *directory).collect();
    let paths: Vec<&str> = files.iter().map(|((_, _, path), _)| *path).collect();
    let generations: Vec<i32> = files.iter().map(|(_, file)| file.generation.cast_signed()).collect();
    let sizes: Vec<i64> = files.iter().map(|(_, file)| file.size.cast_signed()).collect();
    let times: Vec<Timestamp> = files.iter().map(|(_, file)| file.modified_at.unwrap_or(Timestamp::UNIX_EPOCH)).collect();

    let piece_attempts: Vec<Uuid> = added.iter().map(|new| new.piece.attempt.0).collect();
    let piece_directories: Vec<&str> = added.iter().map(|new| new.piece.directory.as_str()).collect();
    let piece_paths: Vec<&str> = added.iter().map(|new| new.piece.path.as_str()).collect();
    let piece_generations: Vec<i32> = added.iter().map(|new| new.generation.cast_signed()).collect();
    let starts: Vec<i64> = added.iter().map(|new| new.start.cast_signed()).collect();
    let lengths: Vec<i64> = added.iter().map(|new| new.length.cast_signed()).collect();
    let data: Vec<Option<&[u8]>> = added.iter().map(Added::bytes).collect();
    let objects: Vec<Option<String>> = added.iter().map(Added::object).collect();
    // Two transactions may add to one file where an agent gave up waiting and sent again: the longer of two equal beginnings stays.
    sqlx::query!(
        "with file as (
            insert into batchyard.output_file (attempt_uid, directory, path, generation, size, modified_at)
            select * from unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::timestamptz[])
            on conflict on constraint output_file_pkey do update
            set generation = excluded.generation,
                size = case
                    when excluded.generation > output_file.generation then excluded.size
                    else greatest(excluded.size, output_file.size)
                end,
                modified_at = case
                    when excluded.generation > output_file.generation then excluded.modified_at
                    else greatest(excluded.modified_at, output_file.modified_at)
                end
            where excluded.generation >= output_file.generation
        )
        insert into batchyard.output_chunk (attempt_uid, directory, path, generation, start, length, data, object)
        select * from unnest($7::uuid[], $8::text[], $9::text[], $10::integer[], $11::bigint[], $12::bigint[], $13::bytea[], $14::text[])
        on conflict on constraint output_chunk_pkey do update
        set length = excluded.length, data = excluded.data, object = excluded.object
        where excluded.length > output_chunk.length",
        &attempts,
        &directories as _,
        &paths as _,
        &generations,
        &sizes,
        &times,
        &piece_attempts,
        &piece_directories as _,
        &piece_paths as _,
        &piece_generations,
        &starts,
        &lengths,
        &data as _,
        &objects as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

impl<'a> Added<'a> {
    fn bytes(&self) -> Option<&'a [u8]> {
        match &self.piece.content {
            PieceContent::Inline(bytes) => {
                let known = usize::try_from(self.start - self.piece.start).unwrap_or(usize::MAX);
                Some(bytes.get(known..).unwrap_or_default())
            }
            PieceContent::Object { .. } => None,
        }
    }

    fn object(&self) -> Option<String> {
        match &self.piece.content {
            PieceContent::Inline(_) => None,
            PieceContent::Object { .. } => Some(self.piece.object_name()),
        }
    }
}

async fn delete_replaced(connection: &mut PgConnection, files: &BTreeMap<Key<'_>, File>) -> Result<Vec<String>, StoreError> {
    let (attempts, directories, paths) = columns(files);
    let generations: Vec<i32> = files.values().map(|file| file.generation.cast_signed()).collect();
    let objects = sqlx::query_scalar!(
        "delete from batchyard.output_chunk c
        using unnest($1::uuid[], $2::text[], $3::text[], $4::integer[]) as f (attempt_uid, directory, path, generation)
        where c.attempt_uid = f.attempt_uid
            and c.directory = f.directory
            and c.path = f.path
            and c.generation < f.generation
        returning c.object",
        &attempts,
        &directories as _,
        &paths as _,
        &generations,
    )
    .fetch_all(connection)
    .await?;
    Ok(objects.into_iter().flatten().collect())
}

fn columns<'a>(files: &BTreeMap<Key<'a>, File>) -> (Vec<Uuid>, Vec<&'a str>, Vec<&'a str>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for (attempt, directory, path) in files.keys() {
        columns.0.push(*attempt);
        columns.1.push(*directory);
        columns.2.push(*path);
    }
    columns
}

impl Store {
    /// Adds pieces to files in a transaction of its own, as `append_output` does within another. Answers the archive's objects that
    /// nothing refers to any more.
    ///
    /// # Errors
    /// `Constraint` (`output_file_attempt_fkey`) where an attempt does not exist; `Unavailable`.
    pub async fn append_output(&self, pieces: &[OutputPiece]) -> Result<Vec<String>, StoreError> {
        let mut transaction = self.pool().begin().await?;
        let unused = append_output(&mut transaction, pieces).await?;
        transaction.commit().await?;
        Ok(unused)
    }

    /// The entries of one directory of an attempt, at most `limit` of them, sorted by name as bytes, a file before a directory of the
    /// same name. `below` is a path, or empty for the root.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_output(
        &self,
        attempt: AttemptUid,
        directory: &str,
        below: &str,
        limit: u32,
    ) -> Result<Vec<OutputEntry>, StoreError> {
        let prefix = if below.is_empty() { String::new() } else { format!("{below}/") };
        let rows = sqlx::query!(
            r#"select e.name as "name!", e.is_directory as "is_directory!", max(e.size) as "size!", max(e.modified_at) as "modified_at!"
            from (
                select split_part(f.rest, '/', 1) as name, position('/' in f.rest) > 0 as is_directory, f.size, f.modified_at
                from (
                    select substr(path, length($3) + 1) as rest, size, modified_at
                    from batchyard.output_file
                    where attempt_uid = $1 and directory = $2 and starts_with(path, $3)
                ) as f
            ) as e
            group by e.name, e.is_directory
            order by e.name collate "C", e.is_directory
            limit $4"#,
            attempt.0,
            directory,
            prefix,
            i64::from(limit),
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter()
            .map(|row| {
                let file = if row.is_directory { None } else { Some(file(row.size, row.modified_at)?) };
                Ok(OutputEntry { name: row.name, file })
            })
            .collect()
    }

    /// A file of an attempt, and which of its contents is kept.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn find_output(
        &self,
        attempt: AttemptUid,
        directory: &str,
        path: &str,
    ) -> Result<Option<(OutputFile, u32)>, StoreError> {
        let row = sqlx::query!(
            "select generation, size, modified_at
            from batchyard.output_file
            where attempt_uid = $1 and directory = $2 and path = $3",
            attempt.0,
            directory,
            path,
        )
        .fetch_optional(self.pool())
        .await?;
        row.map(|row| {
            let generation = u32::try_from(row.generation).map_err(|e| StoreError::unreadable("generation", e))?;
            Ok((file(row.size, row.modified_at)?, generation))
        })
        .transpose()
    }

    /// Pieces of one content of a file that together hold `range` from its beginning on, in order, at most `limit` of them. Neighbours
    /// may overlap. Empty where that content is not kept any more.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn read_output(
        &self,
        attempt: AttemptUid,
        directory: &str,
        path: &str,
        generation: u32,
        range: Range<u64>,
        limit: u32,
    ) -> Result<Vec<StoredPiece>, StoreError> {
        let rows = sqlx::query!(
            "select start, length, data, object
            from batchyard.output_chunk
            where attempt_uid = $1
                and directory = $2
                and path = $3
                and generation = $4
                and start < $6
                and start + length > $5
                and start >= (
                    select c.start
                    from batchyard.output_chunk c
                    where c.attempt_uid = $1
                        and c.directory = $2
                        and c.path = $3
                        and c.generation = $4
                        and c.start <= $5
                        and c.start + c.length > $5
                    order by c.start desc
                    limit 1
                )
            order by start
            limit $7",
            attempt.0,
            directory,
            path,
            generation.cast_signed(),
            range.start.cast_signed(),
            range.end.cast_signed(),
            i64::from(limit),
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter()
            .map(|row| {
                let bytes = |n: i64| u64::try_from(n).map_err(|e| StoreError::unreadable("piece", e));
                let content = match (row.data, row.object) {
                    (Some(data), _) => StoredContent::Inline(data),
                    (None, Some(object)) => StoredContent::Object(object),
                    (None, None) => return Err(StoreError::unreadable("piece", "it is nowhere")),
                };
                Ok(StoredPiece { start: bytes(row.start)?, length: bytes(row.length)?, content })
            })
            .collect()
    }

    /// Those of `objects`, which are of `attempts`, that a piece refers to.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn referenced_objects(&self, attempts: &[Uuid], objects: &[String]) -> Result<Vec<String>, StoreError> {
        let found = sqlx::query_scalar!(
            r#"select object as "object!"
            from batchyard.output_chunk
            where attempt_uid = any($1) and object = any($2)"#,
            attempts,
            objects,
        );
        Ok(found.fetch_all(self.pool()).await?)
    }

    /// Those of `attempts` that exist.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn existing_attempts(&self, attempts: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        Ok(sqlx::query_scalar!("select uid from batchyard.attempt where uid = any($1)", attempts).fetch_all(self.pool()).await?)
    }
}

fn file(size: i64, modified_at: Timestamp) -> Result<OutputFile, StoreError> {
    let size = u64::try_from(size).map_err(|e| StoreError::unreadable("size", e))?;
    Ok(OutputFile { size, modified_at })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn piece(generation: u32, start: u64, text: &'static str) -> OutputPiece {
        OutputPiece {
            attempt: AttemptUid(Uuid::from_u128(1)),
            directory: "stdouterr".into(),
            path: "stdout.txt".into(),
            generation,
            start,
            modified_at: Timestamp::UNIX_EPOCH,
            content: PieceContent::Inline(Bytes::from_static(text.as_bytes())),
        }
    }

    /// What is added to a file of `size` bytes of content 1: generation, start and text of each row, and the size afterwards.
    fn added(size: u64, pieces: &[OutputPiece]) -> (Vec<(u32, u64, String)>, u64) {
        let mut files = BTreeMap::new();
        for piece in pieces {
            let generation = u32::from(size > 0);
            let file = File { generation, size, modified_at: Some(Timestamp::UNIX_EPOCH), ..File::default() };
            files.entry(key(piece)).or_insert(file);
        }
        let rows = add(&mut files, pieces);
        let rows = rows.iter().map(|row| {
            let text = String::from_utf8(row.bytes().expect("inline").to_vec()).expect("text");
            (row.generation, row.start, text)
        });
        (rows.collect(), files.values().next().expect("has one").size)
    }

    #[test]
    fn pieces_are_added_once_in_order_and_without_holes() {
        let row = |generation, start, text: &str| (generation, start, text.to_owned());
        assert_eq!(added(0, &[piece(1, 0, "abc"), piece(1, 3, "de")]), (vec![row(1, 0, "abc"), row(1, 3, "de")], 5));
        assert_eq!(added(3, &[piece(1, 0, "abc")]), (vec![], 3), "known");
        assert_eq!(added(3, &[piece(1, 1, "bcde")]), (vec![row(1, 3, "de")], 5), "known in part");
        assert_eq!(added(3, &[piece(1, 4, "x")]), (vec![], 3), "a hole");
        assert_eq!(
            added(3, &[piece(1, 3, "de"), piece(1, 3, "de"), piece(1, 5, "f")]),
            (vec![row(1, 3, "de"), row(1, 5, "f")], 6)
        );
        assert_eq!(added(0, &[piece(1, 0, "")]), (vec![], 0), "an empty file has no piece");
        assert_eq!(added(3, &[piece(2, 0, "new")]), (vec![row(2, 0, "new")], 3));
        assert_eq!(added(3, &[piece(2, 0, "")]), (vec![], 0), "truncated");
        assert_eq!(added(3, &[piece(2, 1, "ew")]), (vec![], 3), "the beginning of a later content is missing");
        assert_eq!(added(0, &[piece(2, 0, "new"), piece(1, 0, "old")]), (vec![row(2, 0, "new")], 3), "late");
        assert_eq!(added(3, &[piece(1, 3, "de"), piece(2, 0, "n")]), (vec![row(2, 0, "n")], 1), "replaced at once");
    }
}
