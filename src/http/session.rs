//! The page's session: the caller's own token in a cookie that no script can read, so that a reload does not sign out.
//!
//! PUT with a token keeps it, GET gives it to the page, DELETE ends it. The browser sends the cookie to this address alone, and no other
//! route reads one: another site's page can make a browser ask for nothing in the caller's name. Over https alone, as a cookie knows no
//! port: over plain http, whoever serves another port of this host would be sent it. The server keeps nothing, and the token's own end
//! is the session's.

use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use axum::http::{Method, StatusCode, request};
use serde_json::json;

use crate::error::{Error, ErrorCode};
use crate::http::call::Answer;
use crate::http::host::FETCH_SITE;
use crate::http::respond::{empty, header, json};

/// Where it is.
const PATH: &str = "/ui/session";

/// The cookie. By this form of its name, browsers take it over https alone.
const NAME: &str = "__Secure-batchyard";

/// Where browsers send it, and who may see it.
const BOUNDS: &str = "Path=/ui/session; Secure; HttpOnly; SameSite=Strict";

/// Longest token that is kept: browsers drop longer cookies without a word. Unit: bytes.
/// Source: RFC 6265, 6.1: 4096 bytes with name and attributes.
const LONGEST: usize = 3_900;

/// What may be asked of it.
pub(crate) const METHODS: [Method; 3] = [Method::GET, Method::PUT, Method::DELETE];

/// Whether a request is for the session.
pub(crate) fn is_session(head: &request::Parts) -> bool {
    head.uri.path() == PATH
}

/// Answers one of [`METHODS`]. Whose token a PUT is for was looked at before; `base` is what the client calls this server.
///
/// # Errors
/// `CrossSiteRequest` where another origin's page asks; `BadRequest` where a token would be kept over plain http, or is too long.
pub(crate) fn answer(head: &request::Parts, base: &str) -> Answer {
    if head.headers.get_all(FETCH_SITE).iter().any(|site| site != "same-origin") {
        return Err(Error::new(ErrorCode::CrossSiteRequest, "The session answers this server's own page alone."));
    }
    let mut response = match kept(&head.headers) {
        Some(token) if head.method == Method::GET => json(StatusCode::OK, &json!({ "access_token": token }))?,
        _ => empty(StatusCode::NO_CONTENT),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if head.method == Method::PUT {
        response.headers_mut().insert(SET_COOKIE, keep(&head.headers, base)?);
    } else if head.method == Method::DELETE {
        response.headers_mut().insert(SET_COOKIE, header(&format!("{NAME}=; Max-Age=0; {BOUNDS}"))?);
    }
    Ok(response)
}

/// The cookie with the token of the request. Without an age it ends with the browser.
fn keep(headers: &HeaderMap, base: &str) -> Result<HeaderValue, Error> {
    if !base.starts_with("https://") {
        return Err(Error::new(ErrorCode::BadRequest, "A session is kept over https alone: without it, keep the token."));
    }
    let token =
        headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' ')).map_or("", |(_, token)| token.trim());
    if token.len() > LONGEST {
        let message = format!("The token is longer than the {LONGEST} bytes that a browser keeps: sign in with it again.");
        return Err(Error::new(ErrorCode::BadRequest, message));
    }
    header(&format!("{NAME}={token}; {BOUNDS}"))
}

/// The token that the browser holds.
fn kept(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    cookies.filter_map(|cookie| cookie.trim().strip_prefix(NAME)?.strip_prefix('=')).find(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, Response};

    use super::*;

    fn ask(method: Method, headers: &[(&str, &str)], base: &str) -> Result<Response<axum::body::Body>, Error> {
        let mut request = Request::builder().method(method).uri(PATH);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(&request.body(()).expect("a request").into_parts().0, base)
    }

    fn cookie(answer: &Response<axum::body::Body>) -> Option<&str> {
        answer.headers().get(SET_COOKIE).and_then(|value| value.to_str().ok())
    }

    #[test]
    fn a_token_is_kept_where_no_script_and_no_other_route_sees_it() {
        let kept = ask(Method::PUT, &[("authorization", "Bearer a.b-c.d_e")], "https://yard").expect("is kept");
        assert_eq!(
            cookie(&kept),
            Some("__Secure-batchyard=a.b-c.d_e; Path=/ui/session; Secure; HttpOnly; SameSite=Strict"),
            "it ends with the browser"
        );
        assert_eq!(kept.headers()[CACHE_CONTROL], "no-store");
        let ended = ask(Method::DELETE, &[], "https://yard").expect("is ended");
        assert_eq!(cookie(&ended), Some("__Secure-batchyard=; Max-Age=0; Path=/ui/session; Secure; HttpOnly; SameSite=Strict"));
    }

    #[test]
    fn what_a_browser_would_drop_or_give_away_is_refused() {
        let code = |headers: &[(&str, &str)], base| ask(Method::PUT, headers, base).map(|_| ()).map_err(|error| error.code);
        assert_eq!(code(&[("authorization", "Bearer a.b.c")], "http://localhost:8080"), Err(ErrorCode::BadRequest));
        let long = format!("Bearer {}", "a".repeat(LONGEST + 1));
        assert_eq!(code(&[("authorization", &long)], "https://yard"), Err(ErrorCode::BadRequest));
        assert_eq!(code(&[("authorization", &long[..long.len() - 1])], "https://yard"), Ok(()));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let of = |cookies: &[&str]| {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(COOKIE, cookie.parse().expect("a header"));
            }
            kept(&headers).map(str::to_owned)
        };
        assert_eq!(of(&["a=b; __Secure-batchyard=x.y.z; c=d"]), Some("x.y.z".to_owned()));
        assert_eq!(of(&["a=b", "__Secure-batchyard=x"]), Some("x".to_owned()), "HTTP/2 sends them apart");
        assert_eq!(of(&["__Secure-batchyard=; __Secure-batchyards=x; batchyard=y"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn pages_of_other_origins_are_refused_those_of_this_host_too() {
        for site in ["cross-site", "same-site", "none"] {
            let headers = [("sec-fetch-site", site), ("cookie", "__Secure-batchyard=x")];
            assert_eq!(
                ask(Method::GET, &headers, "https://yard").map_err(|error| error.code).err(),
                Some(ErrorCode::CrossSiteRequest)
            );
        }
        let headers = [("sec-fetch-site", "same-origin"), ("cookie", "__Secure-batchyard=x")];
        assert_eq!(ask(Method::GET, &headers, "https://yard").map(|answer| answer.status()).ok(), Some(StatusCode::OK));
        assert_eq!(
            ask(Method::GET, &headers[..1], "https://yard").map(|answer| answer.status()).ok(),
            Some(StatusCode::NO_CONTENT)
        );
    }
}
