//! JSON documents in columns: text until someone says what it is, so that a document that cannot be read spoils its own row alone.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

use super::StoreError;

/// The version of the binary form of `jsonb` that Postgres speaks; it precedes the text.
const JSONB_VERSION: u8 = 1;

/// The text of one JSON document.
#[derive(Clone, Debug)]
pub(crate) struct Document(String);

impl Document {
    /// The document of `value`.
    pub(crate) fn of<T: Serialize>(value: &T) -> Result<Document, StoreError> {
        serde_json::to_string(value).map(Document).map_err(|error| StoreError::unreadable("document", error))
    }

    /// The document of a value that may be absent.
    pub(crate) fn maybe<T: Serialize>(value: Option<&T>) -> Result<Option<Document>, StoreError> {
        value.map(Document::of).transpose()
    }

    /// The value that the document is of; `what` names it in the error.
    pub(crate) fn read<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(&self.0).map_err(|error| StoreError::unreadable(what, error))
    }
}

impl Type<Postgres> for Document {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("jsonb")
    }
}

impl PgHasArrayType for Document {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("_jsonb")
    }
}

impl Encode<'_, Postgres> for Document {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.push(JSONB_VERSION);
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl<'r> Decode<'r, Postgres> for Document {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let bytes = value.as_bytes()?;
        let text = match value.format() {
            PgValueFormat::Text => bytes,
            PgValueFormat::Binary => match bytes.split_first() {
                Some((&JSONB_VERSION, text)) => text,
                _ => return Err("jsonb of an unknown version".into()),
            },
        };
        Ok(Document(std::str::from_utf8(text)?.to_owned()))
    }
}
