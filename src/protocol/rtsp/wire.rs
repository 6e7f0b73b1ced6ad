//! Messages on the wire: requests, and RTP packets between them (RFC 2326 sections 4, 6 and 10.12).
//!
//! `rtsp-types` parses a message whose limits were checked here first; on its own it knows none, takes the first of two
//! lengths, and joins folded lines. Headers are taken from the text here: it takes a name that another begins with for the
//! same (`Accept` and `Accept-Language`, `C` and `CSeq`), and gives the values of both under one of them.

use rtsp_types::{Message, ParseError};

/// Most bytes of a request line and headers together.
pub(crate) const MAX_HEAD: usize = 16 << 10;
/// Most lines of them.
const MAX_LINES: usize = 100;
/// Most bytes of one line.
const MAX_LINE: usize = 8 << 10;
/// Most bytes of a body.
pub(crate) const MAX_BODY: usize = 64 << 10;

/// A request, checked and owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    /// As sent, upper case for those that exist.
    pub method: String,
    /// `rtsp://...`, or `*`.
    pub uri: String,
    /// Names and values, folded lines refused.
    pub headers: Vec<(String, String)>,
    /// At most [`MAX_BODY`].
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What comes over a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Item<'a> {
    /// An interleaved packet.
    Data { channel: u8, payload: &'a [u8] },
    /// A request.
    Request(Request),
    /// A request of another version than RTSP/1.0, such as RTSP/2.0 (RFC 7826): only its headers are known.
    OtherVersion(Request),
    /// An answer to nothing that we asked.
    Response,
}

/// Why a connection cannot go on: where the next message starts is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("not an RTSP message: {0}")]
    Malformed(&'static str),
    #[error("request line and headers are longer than 16 KiB, 100 lines, or 8 KiB a line")]
    LongHead,
    #[error("body is longer than 64 KiB")]
    LongBody,
}

impl WireError {
    /// The status to answer with before closing.
    pub(crate) fn status(self) -> u16 {
        match self {
            WireError::Malformed(_) => 400,
            WireError::LongHead => 431,
            WireError::LongBody => 413,
        }
    }
}

/// The first item in `buffer` and the bytes it takes; none when more bytes are needed.
///
/// # Errors
/// When the bytes are no message, or one beyond the limits; the connection is to be closed then.
pub(crate) fn next(buffer: &[u8]) -> Result<Option<(Item<'_>, usize)>, WireError> {
    // Empty lines between messages are allowed (section 4.1).
    let blank = buffer.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2;
    if blank > MAX_HEAD {
        return Err(WireError::LongHead);
    }
    let rest = &buffer[blank..];
    match rest.first() {
        None => Ok(None),
        Some(b'$') => Ok(data(rest).map(|(item, taken)| (item, blank + taken))),
        Some(_) => Ok(message(rest)?.map(|(item, taken)| (item, blank + taken))),
    }
}

/// Whether `buffer` starts with bytes that look like the beginning of a packet and are none: not RTP or RTCP, both of version 2
/// (RFC 3550 section 5.1), and nothing begins where it would end. A packet that lies inside of a right frame is a packet.
pub(crate) fn is_no_packet(buffer: &[u8]) -> bool {
    let [b'$', _, high, low, payload @ ..] = buffer else { return false };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let lies = length > 0 && payload.first().is_some_and(|first| first >> 6 != 2);
    lies && payload.get(length..).is_some_and(|rest| !rest.is_empty() && !may_begin(rest))
}

/// Whether a packet or a request may begin here, as far as can be seen.
fn may_begin(rest: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 10] = [
        b"$",
        b"\r\n",
        b"RTSP/",
        b"OPTIONS ",
        b"TEARDOWN ",
        b"RECORD ",
        b"PAUSE ",
        b"GET_PARAMETER ",
        b"SET_PARAMETER ",
        b"ANNOUNCE ",
    ];
    BEGINNINGS.iter().any(|beginning| rest.iter().zip(*beginning).all(|(byte, wanted)| byte == wanted))
}

/// Bytes to leave out until something follows that looks like a packet on one of these channels, or a request; at least one.
pub(crate) fn garbage(buffer: &[u8], is_channel: impl Fn(u8) -> bool) -> usize {
    let starts = |at: &usize| {
        let rest = &buffer[*at..];
        match rest {
            [b'$', channel, _, _, first, ..] => is_channel(*channel) && first >> 6 == 2,
            [b'$', channel, ..] => is_channel(*channel),
            _ => may_begin(rest) && !rest.starts_with(b"\r"),
        }
    };
    (1..buffer.len()).find(starts).unwrap_or(buffer.len())
}

fn data(rest: &[u8]) -> Option<(Item<'_>, usize)> {
    let (header, after) = rest.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let payload = after.get(..length)?;
    Some((Item::Data { channel: header[1], payload }, 4 + length))
}

fn message(rest: &[u8]) -> Result<Option<(Item<'_>, usize)>, WireError> {
    let Some(head) = head(rest)? else { return Ok(None) };
    let total = head.len() + body_length(head)?;
    let Some(whole) = rest.get(..total) else { return Ok(None) };
    if let Some(method) = method_of_other_version(head) {
        let (method, uri) = (method.to_owned(), "*".to_owned());
        let request = Request { method, uri, headers: headers(head), body: Vec::new() };
        return Ok(Some((Item::OtherVersion(request), total)));
    }
    let parsed = match Message::<Vec<u8>>::parse(whole) {
        Ok((parsed, taken)) if taken == total => parsed,
        Ok(_) | Err(ParseError::Incomplete(_)) => return Err(WireError::Malformed("lengths do not agree")),
        Err(ParseError::Error) => return Err(WireError::Malformed("no RTSP request line or header")),
    };
    let item = match parsed {
        Message::Request(request) => Item::Request(Request {
            method: <&str>::from(request.method()).to_owned(),
            uri: request.request_uri().map_or("*", |uri| uri.as_str()).to_owned(),
            headers: headers(head),
            body: request.into_body(),
        }),
        Message::Response(_) => Item::Response,
        Message::Data(_) => return Err(WireError::Malformed("a packet inside a message")),
    };
    Ok(Some((item, total)))
}

/// The method of a request line that ends with `RTSP/x.y` and not with `RTSP/1.0`.
fn method_of_other_version(head: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    let (method, _uri, version) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = version.strip_prefix("RTSP/")?.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_version = words.next().is_none() && is_number(major) && is_number(minor);
    (is_version && (major, minor) != ("1", "0")).then_some(method)
}

/// Request line and headers with the empty line behind them; none when they are not all here yet.
fn head(rest: &[u8]) -> Result<Option<&[u8]>, WireError> {
    let seen = &rest[..rest.len().min(MAX_HEAD)];
    let (mut line_start, mut lines) = (0, 0);
    for (at, &byte) in seen.iter().enumerate() {
        let malformed = match byte {
            b'\n' => at == 0 || seen[at - 1] != b'\r',
            b'\r' => seen.get(at + 1).is_some_and(|next| *next != b'\n'),
            b'\t' => at == line_start,
            b' ' => at == line_start,
            _ => byte < b' ' || byte == 0x7f,
        };
        if malformed {
            return Err(WireError::Malformed("a control character, a bare line end or a folded line"));
        }
        if at - line_start > MAX_LINE {
            return Err(WireError::LongHead);
        }
        if byte == b'\n' {
            if at - line_start == 1 {
                return Ok(Some(&rest[..=at]));
            }
            lines += 1;
            line_start = at + 1;
            if lines > MAX_LINES {
                return Err(WireError::LongHead);
            }
        }
    }
    if rest.len() >= MAX_HEAD { Err(WireError::LongHead) } else { Ok(None) }
}

/// The headers of a head that was parsed; values of one name are one list (RFC 2326 section 4.2, RFC 2068 section 4.2).
fn headers(head: &[u8]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some((name, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':')) else {
            continue;
        };
        let (name, value) = (name.trim_ascii(), value.trim_ascii());
        match found.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(name)) {
            // Said twice, and found equal: it is one number and not a list.
            Some(_) if name.eq_ignore_ascii_case("content-length") => {}
            Some((_, before)) => {
                before.push_str(", ");
                before.push_str(value);
            }
            None => found.push((name.to_owned(), value.to_owned())),
        }
    }
    found
}

/// Content-Length of a head, 0 without one.
fn body_length(head: &[u8]) -> Result<usize, WireError> {
    let mut length: Option<usize> = None;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if !line[..colon].trim_ascii().eq_ignore_ascii_case(b"content-length") {
            continue;
        }
        let digits = line[colon + 1..].trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(WireError::Malformed("Content-Length is not a number"));
        }
        // More digits than any number below the limit: too long, whatever they say.
        let value = digits.iter().try_fold(0usize, |sum, digit| {
            let value = sum * 10 + usize::from(digit - b'0');
            (value <= MAX_BODY).then_some(value).ok_or(WireError::LongBody)
        })?;
        if length.is_some_and(|before| before != value) {
            return Err(WireError::Malformed("two different Content-Lengths"));
        }
        length = Some(value);
    }
    Ok(length.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_another_version_is_known_by_its_headers() {
        for version in ["RTSP/2.0", "RTSP/1.1", "RTSP/11.0"] {
            let text = format!("PLAY rtsp://h/x {version}\r\nCSeq: 7\r\nContent-Length: 2\r\n\r\nab$");
            let Ok(Some((Item::OtherVersion(request), taken))) = next(text.as_bytes()) else { panic!("{version}") };
            assert_eq!((request.method.as_str(), request.header("CSeq"), taken), ("PLAY", Some("7"), text.len() - 1));
        }
        for line in ["PLAY rtsp://h/x RTSP/x.0", "PLAY rtsp://h/x HTTP/1.1", "PLAY x RTSP/2.0 x"] {
            let text = format!("{line}\r\nCSeq: 7\r\n\r\n");
            assert!(matches!(next(text.as_bytes()), Err(WireError::Malformed(_))), "{line}");
        }
    }

    #[test]
    fn garbage_ends_where_a_packet_or_a_request_begins() {
        let known = |channel: u8| channel < 2;
        let check = |bytes: &[u8], expected: usize| assert_eq!(garbage(bytes, known), expected, "{bytes:?}");
        check(b"xx$\x00\x00\x04\x80\x60ab", 2);
        // Another channel, another version, and then a packet.
        check(b"$\x09\x00\x04\x80$\x00\x00\x04\x20ab$\x01\x00\x01\x80", 12);
        check(b"\xffTEARDOWN rtsp://h/s RTSP/1.0\r\n", 1);
        // What may become one when more bytes come is kept.
        check(b"\xff\xffTEAR", 2);
        check(b"\xff\xff$", 2);
        check(b"$\x00\x00", 3);
        assert!(is_no_packet(b"$\x00\x00\x01\x20zz") && is_no_packet(b"$\x00\x00\x01\x20OPTICS"));
        // Right frames, whatever is in them, and what cannot be judged yet.
        for packet in
            [&b"$\x00\x00\x01\x20$\x00"[..], b"$\x00\x00\x01\x20OPTIONS *", b"$\x00\x00\x04\x20", b"$\x00\x00\x00z"]
        {
            assert!(!is_no_packet(packet), "{packet:?}");
        }
    }

    /// Items of `bytes` when they come in two parts, cut at `cut`.
    fn items(bytes: &[u8], cut: usize) -> (Vec<String>, Option<WireError>) {
        let (mut found, mut buffer) = (Vec::new(), Vec::new());
        for part in [&bytes[..cut], &bytes[cut..]] {
            buffer.extend_from_slice(part);
            loop {
                match next(&buffer) {
                    Ok(Some((item, taken))) => {
                        found.push(format!("{item:?}"));
                        buffer.drain(..taken);
                    }
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    }

    /// ANNOUNCE to RECORD of `ffmpeg` 5.1.9 (cut), then packets as they stand between requests.
    fn sample() -> Vec<u8> {
        let mut bytes = b"OPTIONS rtsp://127.0.0.1:18554/gate RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: Lavf59.27.100\r\n\r\n\
            ANNOUNCE rtsp://127.0.0.1:18554/gate RTSP/1.0\r\nContent-Type: application/sdp\r\nCSeq: 2\r\n\
            User-Agent: Lavf59.27.100\r\nSession: abc\r\nContent-Length: 10\r\n\r\nv=0\r\ns=N\r\n\r\n\r\n"
            .to_vec();
        bytes.extend_from_slice(b"$\x00\x00\x05hello$\x01\x00\x00");
        bytes.extend_from_slice(
            b"RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\nTEARDOWN * RTSP/1.0\r\nCSeq: 3\r\n\r\n$\x02\x00\x01\r",
        );
        bytes
    }

    #[test]
    fn same_items_whatever_the_split() {
        let bytes = sample();
        let (whole, error) = items(&bytes, 0);
        assert_eq!((whole.len(), error), (7, None));
        assert!(whole[1].contains("body: [118, 61, 48"), "{}", whole[1]);
        assert!(whole[2].contains("channel: 0"), "{}", whole[2]);
        for cut in 0..bytes.len() {
            assert_eq!(items(&bytes, cut), (whole.clone(), None), "cut at {cut}");
        }
    }

    #[test]
    fn a_name_that_another_begins_with_is_another_name() {
        let bytes = b"OPTIONS * RTSP/1.0\r\nC: 2\r\naccept: a\r\nCSeq: 7\r\nAccept-Language: b\r\nAccept: c\r\n\r\n";
        let Ok(Some((Item::Request(request), _))) = next(bytes) else { panic!("a request") };
        let header = |name| request.header(name);
        assert_eq!(
            [header("C"), header("CSeq"), header("Accept"), header("accept-language"), header("Acc")],
            [Some("2"), Some("7"), Some("a, c"), Some("b"), None]
        );
    }

    #[test]
    fn hostile_messages_get_their_status() {
        let check = |bytes: &[u8], status: u16| {
            let error = next(bytes).map(|item| item.map(|_| ())).expect_err("hostile");
            assert_eq!(error.status(), status, "{error} {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(80)]));
        };
        let announce = |headers: &str| format!("ANNOUNCE rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\n{headers}\r\n").into_bytes();
        check(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400);
        check(b"hello\n\n", 400);
        check(b"OPTIONS * RTSP/1.0\nCSeq: 1\n\n", 400);
        check(b"OPTIONS * RTSP/1.0\rCSeq: 1\r\n\r\n", 400);
        check(b"\x16\x03\x01\x02\x00", 400);
        check(b"OPTIONS * RTSP/1.0\r\nCSeq 1\r\n\r\n", 400);
        check(&announce("X: a\r\n b\r\n"), 400);
        check(&announce("Content-Length: -1\r\n"), 400);
        check(&announce("Content-Length: +1\r\n"), 400);
        check(&announce("Content-Length: \r\n"), 400);
        check(&announce("Content-Length: 1\r\nContent-Length: 2\r\n"), 400);
        check(&announce("Content-Length: 4294967296\r\n"), 413);
        check(&announce("Content-Length: 65537\r\n"), 413);
        check(&announce(&format!("Content-Length: {}\r\n", "9".repeat(4_000))), 413);
        check(&announce(&"X: y\r\n".repeat(100)), 431);
        check(&announce(&format!("X: {}\r\n", "y".repeat(9_000))), 431);
        check(&vec![b'a'; MAX_HEAD], 431);
        check(format!("OPTIONS * RTSP/1.0\r\n{}", "X: yyyyyyyyyyyyyyyy\r\n".repeat(2_000)).as_bytes(), 431);
        check(&[&b"\r\n".repeat(9_000)[..], b"O"].concat(), 431);
        // Nothing may wait in the buffer without a bound.
        check(&b"\r\n".repeat(9_000), 431);
        let at_limit = announce("Content-Length: 65536\r\nContent-Length: 65536\r\n");
        assert_eq!(next(&at_limit), Ok(None));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = next(&bytes);
            let mut later = b"OPTIONS * RTSP/1.0\r\n".to_vec();
            later.extend_from_slice(&bytes);
            later.extend_from_slice(b"\r\n\r\n");
            let _ = next(&later);
        }
    }
}
