//! What a request's head said about its framing, before the HTTP parser tidied it up.
//!
//! hyper drops a `Content-Length` that stands beside a `Transfer-Encoding`, merges repeated equal
//! ones, takes bare line feeds and cuts fragments off, so none of that can be judged from the
//! parsed head. [`HeadScan`] watches the bytes go by and remembers just that. It decides nothing:
//! `proxy::door` does.
//!
//! It knows where the next head begins as long as bodies are counted. After anything else (chunks,
//! a length it cannot read) it looks no further, and the connection ends with that request.

use std::collections::VecDeque;

use memchr::memchr;

/// As much of a line as is kept: enough for the two framing headers and a length.
const LINE_MAX: usize = 128;

/// How many heads may lie between the parser and the service; only pipelining makes more than one.
const HEADS_MAX: usize = 16;

/// What one request's head said about its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// How many `Content-Length` lines there were.
    pub lengths: u32,
    /// How many `Transfer-Encoding` lines there were.
    pub encodings: u32,
    /// Whether a line ended without a carriage return.
    pub bare_line_feed: bool,
    /// Whether the request line had a `#` in it.
    pub fragment: bool,
    /// Whether the next request on this connection can be told from this one's body.
    pub reusable: bool,
}

impl Framing {
    const NONE: Self =
        Self { lengths: 0, encodings: 0, bare_line_feed: false, fragment: false, reusable: true };

    /// What is said of a request whose head was not seen: nothing good.
    pub(super) const UNSEEN: Self =
        Self { lengths: 0, encodings: 0, bare_line_feed: true, fragment: false, reusable: false };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Between requests.
    Before,
    RequestLine,
    Fields,
    /// In a body with this many bytes to come.
    Body(u64),
    /// Nobody can tell any more.
    Lost,
}

/// Watches the bytes that a caller sends.
#[derive(Debug)]
pub(super) struct HeadScan {
    at: At,
    /// The line so far, without its line feed, cut at [`LINE_MAX`].
    line: Vec<u8>,
    line_is_cut: bool,
    last: Option<u8>,
    /// What the last `Content-Length` line said, if it was a number.
    length: Option<u64>,
    framing: Framing,
    complete: VecDeque<Framing>,
    heads: u64,
}

impl HeadScan {
    pub(super) fn new() -> Self {
        Self {
            at: At::Before,
            line: Vec::with_capacity(LINE_MAX),
            line_is_cut: false,
            last: None,
            length: None,
            framing: Framing::NONE,
            complete: VecDeque::new(),
            heads: 0,
        }
    }

    /// Looks at bytes as they arrived.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.at {
                At::Before | At::RequestLine | At::Fields => bytes = self.push_line(bytes),
                At::Body(left) => {
                    let here = left.min(bytes.len() as u64);
                    bytes = &bytes[usize::try_from(here).unwrap_or(bytes.len())..];
                    self.at = if here == left { At::Before } else { At::Body(left - here) };
                }
                At::Lost => return,
            }
        }
    }

    /// Takes the framing of the oldest complete head.
    pub(super) fn take(&mut self) -> Option<Framing> {
        self.complete.pop_front()
    }

    /// Whether a head has begun and is not complete.
    pub(super) const fn within_head(&self) -> bool {
        matches!(self.at, At::RequestLine | At::Fields)
    }

    /// Whether everything that has come belongs to requests that came whole.
    pub(super) fn is_between_requests(&self) -> bool {
        self.at == At::Before
    }

    /// Whether more has come than the requests that were taken.
    pub(super) fn is_ahead(&self) -> bool {
        self.within_head() || !self.complete.is_empty()
    }

    /// How many heads have begun so far.
    pub(super) const fn heads(&self) -> u64 {
        self.heads
    }

    fn push_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        // The parser skips empty lines before a request.
        if self.at == At::Before && part.iter().any(|&byte| byte != b'\r') {
            self.at = At::RequestLine;
            self.heads += 1;
        }
        self.framing.fragment |= self.at == At::RequestLine && memchr(b'#', part).is_some();
        let room = LINE_MAX - self.line.len();
        self.line_is_cut |= part.len() > room;
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.last = part.last().copied().or(self.last);
        let Some(end) = end else { return &[] };
        self.end_line();
        &bytes[end + 1..]
    }

    fn end_line(&mut self) {
        self.framing.bare_line_feed |= self.last != Some(b'\r');
        let is_empty = self.line.is_empty() || self.line == b"\r";
        match self.at {
            At::RequestLine => self.at = At::Fields,
            At::Fields if is_empty => self.end_head(),
            At::Fields => self.note_field(),
            At::Before | At::Body(_) | At::Lost => {}
        }
        self.line.clear();
        self.line_is_cut = false;
        self.last = None;
    }

    fn note_field(&mut self) {
        let Some(colon) = memchr(b':', &self.line) else { return };
        let (name, value) = (&self.line[..colon], self.line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            self.framing.lengths += 1;
            self.length = if self.line_is_cut { None } else { decimal(value) };
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.framing.encodings += 1;
        }
    }

    fn end_head(&mut self) {
        let mut framing = std::mem::replace(&mut self.framing, Framing::NONE);
        self.at = match (framing.encodings, framing.lengths, self.length.take()) {
            (0, 0, _) | (0, 1, Some(0)) => At::Before,
            (0, 1, Some(length)) => At::Body(length),
            _ => At::Lost,
        };
        if self.complete.len() == HEADS_MAX {
            self.at = At::Lost;
            return;
        }
        framing.reusable = self.at != At::Lost;
        self.complete.push_back(framing);
    }
}

/// Reads digits and nothing else, as the parser does.
fn decimal(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> Vec<Framing> {
        let mut scan = HeadScan::new();
        scan.push(bytes);
        std::iter::from_fn(|| scan.take()).collect()
    }

    const PLAIN: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n";

    #[test]
    fn what_the_parser_tidies_up_is_seen() {
        let head = |fields: &str| {
            let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            scan(bytes.as_bytes())[0]
        };

        let both = head("Content-Length: 2\r\nTRANSFER-ENCODING: chunked\r\n");
        let other_way = head("Transfer-Encoding: chunked\r\ncontent-length:2\r\n");
        let twice = head("Content-Length: 2\r\nContent-Length: 2\r\n");
        let bare = head("Accept: */*\n");

        assert_eq!((both.lengths, both.encodings, both.reusable), (1, 1, false));
        assert_eq!((other_way.lengths, other_way.encodings), (1, 1));
        assert_eq!((twice.lengths, twice.reusable), (2, false));
        assert!(bare.bare_line_feed && bare.reusable);
        assert_eq!(scan(PLAIN), [Framing { lengths: 1, ..Framing::NONE }]);
        assert!(scan(b"GET /a#b HTTP/1.1\r\n\r\n")[0].fragment);
        assert!(!scan(b"GET /a HTTP/1.1\r\nX: #\r\n\r\n")[0].fragment);
    }

    #[test]
    fn a_body_is_never_read_as_a_head() {
        let body = b"{}\r\n\r\nGET / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n";
        let mut bytes =
            format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(PLAIN);

        let seen = scan(&bytes);

        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|framing| framing.encodings == 0 && framing.lengths == 1));
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_were_cut() {
        let mut bytes = b"\r\n".to_vec();
        bytes.extend_from_slice(PLAIN);
        bytes.extend_from_slice(b"{}GET /b#c HTTP/1.1\r\nHost: a\n\r\n");
        let whole = scan(&bytes);

        for cut in 1..bytes.len() {
            let mut scan = HeadScan::new();
            bytes.chunks(cut).for_each(|part| scan.push(part));
            let parts: Vec<_> = std::iter::from_fn(|| scan.take()).collect();

            assert_eq!(parts, whole, "in parts of {cut}");
        }
        assert_eq!(whole.len(), 2);
    }

    #[test]
    fn after_chunks_or_an_unreadable_length_nothing_is_believed() {
        for fields in ["Transfer-Encoding: chunked", "Content-Length: 99999999999999999999999"] {
            let bytes = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\nGET / HTTP/1.1\r\n\r\n");

            let seen = scan(bytes.as_bytes());

            assert_eq!(seen.len(), 1, "{fields}");
            assert!(!seen[0].reusable, "{fields}");
        }
    }

    #[test]
    fn lines_and_heads_without_end_take_no_memory() {
        let mut scan = HeadScan::new();
        for _ in 0..1000 {
            scan.push(&[b'a'; 1000]);
        }
        assert!(scan.line.capacity() <= LINE_MAX);
        assert!(scan.within_head());

        let mut scan = HeadScan::new();
        for _ in 0..1000 {
            scan.push(b"GET / HTTP/1.1\r\n\r\n");
        }
        assert_eq!(scan.complete.len(), HEADS_MAX);
    }
}
