//! What jobs wrote and the server keeps: files and the pieces that they are made of.

use sqlx::PgConnection;

use crate::domain::output::OutputPiece;
use crate::store::StoreError;

/// Most files that one attempt may have here; pieces of more are ignored.
pub const MAX_FILES: i64 = 100_000;

/// Adds pieces to the files of attempts, inside the caller's transaction. A piece that is known, is of an earlier content of its file,
/// or would leave a hole is ignored; a later content replaces the one before. Pieces have passed [`OutputPiece::check`].
///
/// # Errors
/// `Constraint` (`output_file_attempt_fkey`) where an attempt does not exist; `Unavailable`.
#[allow(unused_variables, clippy::unimplemented)]
pub(crate) async fn append_output(connection: &mut PgConnection, pieces: &[OutputPiece]) -> Result<(), StoreError> {
    unimplemented!()
}
