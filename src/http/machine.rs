//! The routes of machines of a pool that call in: join, program, call. Who a machine is comes from its token or credential alone.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use axum::http::{Method, Response, StatusCode};
use bytes::Bytes;
use futures_util::stream;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::domain::pool::{CALL_PATH, JOIN_PATH, PROGRAM_PATH};
use crate::error::{Error, ErrorCode};
use crate::http::call::{Answer, read};
use crate::http::respond::json;
use crate::service::Service;

/// Longest call. Unit: bytes. An answer holds the end of a node's log.
const MAX_CALL: usize = 1 << 20;

/// Size of the pieces in which the program is sent. Unit: bytes.
const PIECE: usize = 64 << 10;

/// Whether a path is one of the machines'.
pub(crate) fn is_machines(path: &str) -> bool {
    [JOIN_PATH, PROGRAM_PATH, CALL_PATH].contains(&path)
}

/// Answers one request of a machine.
pub(crate) async fn answer(service: &Service, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        return Err(Error::new(ErrorCode::MethodNotAllowed, "Machines use POST."));
    }
    let secret = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|text| {
        let (scheme, secret) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
    });
    let missing = || Error::new(ErrorCode::AuthenticationFailed, "The machine's token or credential is missing.");
    let secret = secret.ok_or_else(missing)?;
    match head.uri.path() {
        JOIN_PATH => json(StatusCode::OK, &service.join_pool(secret).await?),
        PROGRAM_PATH => program(File::open(service.pool_program(secret).await?).await.map_err(Error::internal)?).await,
        _ => {
            let call = serde_json::from_slice(&read(body, &head.headers, MAX_CALL).await?);
            let odd = |problem| Error::new(ErrorCode::InvalidRequestContent, format!("The call does not read: {problem}."));
            json(StatusCode::OK, &service.call_pool(secret, call.map_err(odd)?).await?)
        }
    }
}

async fn program(file: File) -> Answer {
    let size = file.metadata().await.map_err(Error::internal)?.len();
    let pieces = stream::try_unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE];
        let length = file.read(&mut piece).await?;
        piece.truncate(length);
        Ok::<_, std::io::Error>((length > 0).then(|| (Bytes::from(piece), file)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}
