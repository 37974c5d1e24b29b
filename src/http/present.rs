//! Stored resources as the version shows them that the client asked for.

use axum::http::StatusCode;
use axum::http::header::{ETAG, LAST_MODIFIED};
use axum::response::Response;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::resource::Envelope;
use crate::error::Error;
use crate::http::call::{Answer, Call};
use crate::http::etag;
use crate::http::respond::{header, json};
use crate::wire::v2018_05_01::Encode;
use crate::wire::v2018_05_01::files::FileBody;
use crate::wire::v2026_11_01_preview as own;
use crate::wire::{ApiVersion, shapes::ListPage, v2017_09_01_preview, v2018_03_01};

/// One resource as an answer, with its tag.
pub(crate) async fn one<K: Encode>(call: &Call, status: StatusCode, stored: &Envelope<K>) -> Answer {
    match call.contract {
        ApiVersion::V2018_05_01 => {
            let mut response = json(status, &K::encode(stored))?;
            etag::write(response.headers_mut(), stored)?;
            Ok(response)
        }
        ApiVersion::V2018_03_01 | ApiVersion::V2017_09_01Preview => {
            let mut response = json(status, &older_document(call, stored)?)?;
            etag::write(response.headers_mut(), stored)?;
            Ok(response)
        }
        ApiVersion::V2026_11_01Preview => {
            let document = own_document(call, stored).await?;
            let mut response = json(status, &document)?;
            let headers = response.headers_mut();
            headers.insert(ETAG, header(&tag_of(&document)?)?);
            headers.insert(LAST_MODIFIED, header(&httpdate::fmt_http_date(stored.updated_at.into()))?);
            Ok(response)
        }
    }
}

/// A page of a list.
pub(crate) async fn many<K: Encode>(call: &Call, stored: &[Envelope<K>], next_link: Option<String>) -> Result<Response, Error> {
    match call.contract {
        ApiVersion::V2018_05_01 => json(StatusCode::OK, &ListPage { value: stored.iter().map(K::encode).collect(), next_link }),
        ApiVersion::V2018_03_01 | ApiVersion::V2017_09_01Preview => {
            let value: Vec<Value> = stored.iter().map(|item| older_document(call, item)).collect::<Result<_, _>>()?;
            json(StatusCode::OK, &ListPage { value, next_link })
        }
        ApiVersion::V2026_11_01Preview => {
            let uids: Vec<_> = stored.iter().map(|item| item.uid).collect();
            let authors = call.parts.service.authors(&uids).await?;
            let document =
                |item: &Envelope<K>| own::resource(K::encode(item), item, &authors.get(&item.uid).cloned().unwrap_or_default());
            let value: Vec<Value> = stored.iter().map(document).collect::<Result<_, _>>()?;
            json(StatusCode::OK, &ListPage { value, next_link })
        }
    }
}

/// The tag that a resource has at the version of the call.
pub(crate) async fn tag<K: Encode>(call: &Call, stored: &Envelope<K>) -> Result<String, Error> {
    match call.contract {
        ApiVersion::V2018_05_01 | ApiVersion::V2018_03_01 | ApiVersion::V2017_09_01Preview => Ok(etag::of(stored)),
        ApiVersion::V2026_11_01Preview => tag_of(&own_document(call, stored).await?),
    }
}

fn older_document<K: Encode>(call: &Call, stored: &Envelope<K>) -> Result<Value, Error> {
    let document = v2018_03_01::resource(K::encode(stored), stored, K::older(&stored.spec))?;
    Ok(if call.contract == ApiVersion::V2017_09_01Preview { v2017_09_01_preview::resource(document) } else { document })
}

/// The entries of a list of files.
pub(crate) fn files(call: &Call, entries: Vec<FileBody>, next_link: Option<String>) -> Answer {
    if !call.contract.is_flat() {
        return json(StatusCode::OK, &ListPage { value: entries, next_link });
    }
    let older: Vec<Value> = entries.into_iter().map(v2018_03_01::file).collect::<Result<_, _>>()?;
    let value: Vec<Value> = match call.contract {
        ApiVersion::V2017_09_01Preview => older.into_iter().filter_map(v2017_09_01_preview::file).collect(),
        _ => older,
    };
    json(StatusCode::OK, &ListPage { value, next_link })
}

async fn own_document<K: Encode>(call: &Call, stored: &Envelope<K>) -> Result<Value, Error> {
    let mut authors = call.parts.service.authors(&[stored.uid]).await?;
    own::resource(K::encode(stored), stored, &authors.remove(&stored.uid).unwrap_or_default())
}

/// A tag that is another whenever anything is that clients see, node counts and states among it.
pub(crate) fn tag_of(document: &Value) -> Result<String, Error> {
    let bytes = serde_json::to_vec(document).map_err(Error::internal)?;
    let digits: String = Sha256::digest(&bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("\"{digits}\""))
}
