//! Where a chunked body ends: pure. Extensions and trailers, which no client of this API sends, are refused: they are what parsers
//! disagree about.

/// How far a chunked body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the line that gives a chunk's size: the size so far, and how many digits it has.
    Size(u64, u8),
    /// Before the LF of such a line.
    SizeEnd(u64),
    /// In a chunk: bytes left.
    Data(u64),
    /// Before the CR LF after a chunk: `true` where the CR was seen.
    DataEnd(bool),
    /// Before the CR LF after the last chunk: `true` where the CR was seen.
    LastEnd(bool),
    /// Over.
    Done,
}

/// The bytes are no chunked body as this server reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Chunks {
    /// Before the first chunk.
    pub(super) const START: Chunks = Chunks::Size(0, 0);

    /// Most digits of a size: chunks of up to 4 GiB.
    const DIGITS: u8 = 8;

    /// Goes through `bytes`; answers how many of them belong to the body. Fewer than all only where the body is over.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            *self = match (*self, byte) {
                (Chunks::Done, _) => break,
                (Chunks::Data(left), _) => {
                    let here = left.min((bytes.len() - at) as u64);
                    at += usize::try_from(here).map_err(|_| Malformed)?;
                    *self = if left == here { Chunks::DataEnd(false) } else { Chunks::Data(left - here) };
                    continue;
                }
                (Chunks::Size(size, digits), b'\r') if digits > 0 => Chunks::SizeEnd(size),
                (Chunks::Size(size, digits), _) if digits < Self::DIGITS => {
                    let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                    Chunks::Size(size * 16 + u64::from(digit), digits + 1)
                }
                (Chunks::SizeEnd(0), b'\n') => Chunks::LastEnd(false),
                (Chunks::SizeEnd(size), b'\n') => Chunks::Data(size),
                (Chunks::DataEnd(false), b'\r') => Chunks::DataEnd(true),
                (Chunks::DataEnd(true), b'\n') => Chunks::START,
                (Chunks::LastEnd(false), b'\r') => Chunks::LastEnd(true),
                (Chunks::LastEnd(true), b'\n') => Chunks::Done,
                _ => return Err(Malformed),
            };
            at += 1;
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(body: &[u8]) -> Result<(usize, Chunks), Malformed> {
        let mut chunks = Chunks::START;
        chunks.pass(body).map(|length| (length, chunks))
    }

    #[test]
    fn a_body_ends_after_its_last_chunk_however_it_is_cut() {
        let body = b"4\r\nWiki\r\n00B\r\npedia in it\r\n0\r\n\r\n";
        let mut more = body.to_vec();
        more.extend(b"GET /");
        assert_eq!(pass(&more), Ok((body.len(), Chunks::Done)));
        for cut in 0..body.len() {
            let mut chunks = Chunks::START;
            let (first, second) = body.split_at(cut);
            assert_eq!(chunks.pass(first), Ok(cut));
            assert_eq!(chunks.pass(second), Ok(second.len()), "cut at {cut}");
            assert_eq!(chunks, Chunks::Done);
        }
    }

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        for body in
            ["\r\n", "x\r\n", "4;a=b\r\n", "4 \r\n", "4\n", "0x4\r\n", "123456789\r\n", "1\r\nab", "0\r\nX: y\r\n", "-1\r\n"]
        {
            assert_eq!(pass(body.as_bytes()), Err(Malformed), "{body:?}");
        }
    }
}
