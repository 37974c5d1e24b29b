//! What the head of an HTTP/1 request says about where the request ends: pure.
//!
//! Every rule here exists so that a request has one reading only, also for a proxy before this server: what could be read in two ways
//! is refused, whichever way the HTTP library would read it.

use super::Refusal;

/// Longest head: request line and headers. Unit: bytes.
pub(super) const MAX_HEAD: usize = 32 * 1024;

/// Longest request target: path and query. Unit: bytes.
pub(super) const MAX_TARGET: usize = 8 * 1024;

/// Most header lines.
pub(super) const MAX_HEADERS: usize = 100;

/// Room beside the target in a request line: the longest method, the version and the spaces.
const LINE_SLACK: usize = 64;

/// Where the body of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// The length of the head that `bytes` begins with, the empty line included; `None` while it is not complete.
///
/// # Errors
/// [`Refusal::HeadTooLarge`], [`Refusal::TargetTooLong`] as soon as no more bytes can mend it.
pub(super) fn find_end(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    if let Some(end) = find(bytes, b"\r\n\r\n") {
        return if end + 4 > MAX_HEAD { Err(too_large(bytes)) } else { Ok(Some(end + 4)) };
    }
    let line = find(bytes, b"\r\n").unwrap_or(bytes.len());
    if line > MAX_TARGET + LINE_SLACK {
        return Err(Refusal::TargetTooLong);
    }
    if bytes.len() > MAX_HEAD { Err(Refusal::HeadTooLarge) } else { Ok(None) }
}

fn too_large(bytes: &[u8]) -> Refusal {
    match find(bytes, b"\r\n") {
        Some(line) if line > MAX_TARGET + LINE_SLACK => Refusal::TargetTooLong,
        _ => Refusal::HeadTooLarge,
    }
}

/// Where the body after `head` ends.
///
/// # Errors
/// The head can be read in more than one way, is not HTTP/1.0 or 1.1, or is too large.
pub(super) fn read(head: &[u8]) -> Result<Framing, Refusal> {
    let head = head.strip_suffix(b"\r\n\r\n").ok_or(Refusal::Malformed("it has no end"))?;
    let mut lines = Lines(Some(head));
    let is_http_11 = request_line(lines.next().unwrap_or_default())?;
    let mut count = 0;
    let mut hosts = 0;
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        count += 1;
        if count > MAX_HEADERS {
            return Err(Refusal::HeadTooLarge);
        }
        let (name, value) = header(line)?;
        if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
            if value.is_empty() {
                return Err(Refusal::Malformed("its Host is empty"));
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if length.is_some() {
                return Err(Refusal::Malformed("it has more than one Content-Length"));
            }
            length = Some(content_length(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || !is_http_11 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::Malformed("its Transfer-Encoding is not 'chunked' alone"));
            }
            chunked = true;
        }
    }
    if hosts != 1 {
        return Err(Refusal::Malformed("it has not exactly one Host"));
    }
    match (length, chunked) {
        (Some(_), true) => Err(Refusal::Malformed("it has both a Content-Length and a Transfer-Encoding")),
        (_, true) => Ok(Framing::Chunked),
        (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

/// Whether the line is of HTTP/1.1 (else 1.0).
fn request_line(line: &[u8]) -> Result<bool, Refusal> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(Refusal::Malformed("its first line is not a method, a target and a version"));
    };
    if method.is_empty() || method.len() > 32 || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::Malformed("its method is not one"));
    }
    if target.len() > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    if target.first() != Some(&b'/') {
        return Err(Refusal::Malformed("its target does not begin with '/'"));
    }
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Refusal::Malformed("its target has characters that must be percent-encoded"));
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        _ => Err(Refusal::Malformed("its version is not HTTP/1.1")),
    }
}

fn header(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Refusal::Malformed("a header has no colon"))?;
    let (name, value) = line.split_at(colon);
    // A space before the colon and a folded line fail here, as a space is not part of a name.
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::Malformed("a header's name is not one"));
    }
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
        return Err(Refusal::Malformed("a header's value has control characters"));
    }
    Ok((name, value))
}

fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    let bad = Refusal::Malformed("its Content-Length is not a number");
    if value.is_empty() || value.len() > 15 || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad);
    }
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(bad)
}

/// Source: RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The lines of a head. A line end that is not CR LF stays inside its line, where it is refused as a control character.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.take()?;
        match find(rest, b"\r\n") {
            Some(end) => {
                let (line, after) = rest.split_at(end);
                self.0 = after.get(2..);
                Some(line)
            }
            None => Some(rest),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(head: &str) -> Result<Framing, Refusal> {
        read(head.as_bytes())
    }

    #[test]
    fn plain_requests_have_one_reading() {
        assert_eq!(framing("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Framing::Length(0)));
        assert_eq!(framing("GET /x?y=%20 HTTP/1.0\r\nhost: a:80\r\nX: \t b \r\n\r\n"), Ok(Framing::Length(0)));
        assert_eq!(framing("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n"), Ok(Framing::Length(12)));
        assert_eq!(framing("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"), Ok(Framing::Chunked));
        assert_eq!(framing("GET / HTTP/1.1\r\nHost: a\r\nX: caf\u{e9}\r\nEmpty:\r\n\r\n"), Ok(Framing::Length(0)));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            "GET /\r\nHost: a\r\n\r\n",
        ] {
            assert!(matches!(framing(head), Err(Refusal::Malformed(_))), "{head:?}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let path = "x".repeat(MAX_TARGET);
        assert_eq!(framing(&format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")), Err(Refusal::TargetTooLong));
        let many = "X: y\r\n".repeat(MAX_HEADERS);
        assert_eq!(framing(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")), Err(Refusal::HeadTooLarge));
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest"), Ok(Some(27)));
        assert_eq!(find_end(&vec![b'x'; MAX_TARGET + 100]), Err(Refusal::TargetTooLong));
        let mut head = b"GET / HTTP/1.1\r\n".to_vec();
        head.extend(vec![b'x'; MAX_HEAD]);
        assert_eq!(find_end(&head), Err(Refusal::HeadTooLarge));
        head.extend(b"\r\n\r\n");
        assert_eq!(find_end(&head), Err(Refusal::HeadTooLarge));
    }
}
