//! What goes wrong between this process and the database, sorted by what the caller can do.

use sqlx::migrate::MigrateError;

use crate::error::{Error, ErrorCode};

/// Why a store method did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, refuses for now, or did not answer in time. A write may or may not have happened.
    #[error("the database is away")]
    Unavailable(#[source] sqlx::Error),
    /// A named constraint refused the write. Callers match on the name.
    #[error("constraint {0} is violated")]
    Constraint(String, #[source] sqlx::Error),
    /// A row does not hold what this version can read.
    #[error("a stored {what} cannot be read")]
    Unreadable {
        /// Which document or column.
        what: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database has no schema of ours yet.
    #[error("the database has no schema of batchyard yet: run `batchyard migrate`")]
    SchemaAbsent,
    /// The schema is of an earlier version than this binary.
    #[error("the database's schema has version {found}, this binary needs {known}: run `batchyard migrate`")]
    SchemaOlder {
        /// The newest migration applied.
        found: i64,
        /// The newest that this binary has.
        known: i64,
    },
    /// The schema is of a later version than this binary.
    #[error("the database's schema has version {found}, this binary knows {known} at most: use a newer batchyard")]
    SchemaNewer {
        /// The newest migration applied.
        found: i64,
        /// The newest that this binary has.
        known: i64,
    },
    /// Anything unexpected.
    #[error("the database refused a statement")]
    Unexpected(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// A row that cannot be read.
    pub(crate) fn unreadable(what: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        StoreError::Unreadable { what, source: source.into() }
    }

    /// The name of the constraint that refused the write, if one did.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            StoreError::Constraint(name, _) => Some(name),
            _ => None,
        }
    }

    /// Whether the database undid the transaction because it and another waited for each other.
    pub(crate) fn is_deadlock(&self) -> bool {
        match self {
            StoreError::Unavailable(sqlx::Error::Database(error)) => error.code().as_deref() == Some("40P01"),
            _ => false,
        }
    }

    /// Whether coming back later may help; a write that ended so may have happened.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }
}

/// Classes and codes of SQLSTATE after which the same request may succeed later: connection exceptions, serialisation failures and
/// deadlocks, insufficient resources (a full disk among them), lock not available, operator intervention (shutdown, statement
/// timeout), system errors.
///
/// Source: PostgreSQL 15, appendix A.
const PASSING: &[&str] = &["08", "40", "53", "55P03", "57", "58"];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        match &error {
            sqlx::Error::Database(database) => {
                if let Some(name) = database.constraint() {
                    return StoreError::Constraint(name.to_owned(), error);
                }
                let code = database.code();
                let code = code.as_deref().unwrap_or_default();
                if PASSING.iter().any(|class| code.starts_with(class)) {
                    StoreError::Unavailable(error)
                } else {
                    StoreError::Unexpected(error.into())
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => StoreError::Unavailable(error),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::unreadable("row", error),
            _ => StoreError::Unexpected(error.into()),
        }
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> StoreError {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            error => StoreError::Unexpected(error.into()),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        match error {
            StoreError::Unavailable(_)
            | StoreError::SchemaAbsent
            | StoreError::SchemaOlder { .. }
            | StoreError::SchemaNewer { .. } => Error::unavailable(error),
            // Callers that know a constraint match it before this; what is left are races of writers.
            StoreError::Constraint(ref name, _) if name.ends_with("_key") => {
                Error::new(ErrorCode::Conflict, "Another request changed the resource at the same time. Please try again.")
            }
            error => Error::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_database_is_worth_another_try() {
        let error = Error::from(StoreError::from(sqlx::Error::PoolTimedOut));
        assert_eq!(error.code, ErrorCode::ServiceUnavailable);
        assert!(error.retry_after.is_some());
        assert_eq!(Error::from(StoreError::from(sqlx::Error::RowNotFound)).code, ErrorCode::InternalServerError);
    }
}
