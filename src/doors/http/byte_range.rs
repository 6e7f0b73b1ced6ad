//! Byte ranges and entity tags of immutable bodies (RFC 9110 sections 13 and 14).
//!
//! Not here: several ranges in one request. No player asks for them; such a request gets the whole body, as the
//! RFC allows.

use std::ops::Range;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::error::{ApiError, Code};

/// What of a body a request wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// All of it: 200.
    Whole,
    /// A part: 206.
    Part(Range<u64>),
    /// A part that lies outside: 416.
    Outside,
    /// Nothing, the client has it: 304.
    Known,
}

/// What a GET or HEAD with these headers wants of a body of `len` bytes with this entity tag, quotes included.
pub(super) fn wanted(headers: &HeaderMap, len: u64, etag: &str) -> Wanted {
    if is_known(headers, etag) {
        return Wanted::Known;
    }
    let single = |name: header::HeaderName| {
        let mut lines = headers.get_all(name).iter();
        let first = lines.next()?.to_str().ok()?;
        lines.next().is_none().then_some(first.trim())
    };
    let Some(range) = single(header::RANGE) else { return Wanted::Whole };
    // If-Range compares strongly, and we have no dates (section 13.1.5).
    let same_body = !headers.contains_key(header::IF_RANGE) || single(header::IF_RANGE) == Some(etag);
    if !same_body {
        return Wanted::Whole;
    }
    parse(range, len).unwrap_or(Wanted::Whole)
}

/// Whether If-None-Match names this tag. Weak comparison (section 13.1.2).
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

/// The one range of `bytes=...`; none when it is not one that we take, and so is ignored (section 14.2).
fn parse(text: &str, len: u64) -> Option<Wanted> {
    let (unit, set) = text.split_once('=')?;
    let (first, last) = set.trim().split_once('-')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let range = match (number(first)?, number(last)?) {
        (None, None) => return None,
        (None, Some(suffix)) => len.saturating_sub(suffix)..len,
        (Some(first), None) => first..len,
        (Some(first), Some(last)) if last < first => return None,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(len),
    };
    Some(if range.start >= range.end { Wanted::Outside } else { Wanted::Part(range) })
}

/// An immutable body of which a part may be wanted.
pub(super) struct Answer {
    /// Quotes included.
    pub(super) etag: String,
    pub(super) content_type: &'static str,
    pub(super) len: u64,
}

impl Answer {
    /// The bytes to be read for this request, if any.
    pub(super) fn part(&self, headers: &HeaderMap) -> Option<Range<u64>> {
        match wanted(headers, self.len, &self.etag) {
            Wanted::Whole => Some(0..self.len),
            Wanted::Part(part) => Some(part),
            Wanted::Outside | Wanted::Known => None,
        }
    }

    /// The response with `body`, which is what [`Answer::part`] said, or nothing for HEAD.
    pub(super) fn response(&self, headers: &HeaderMap, method: &Method, body: Option<Body>) -> Response {
        let wanted = wanted(headers, self.len, &self.etag);
        let (status, part) = match wanted {
            Wanted::Outside => {
                let message = format!("the byte range lies outside of these {} bytes", self.len);
                let mut response = ApiError::new(Code::RangeNotSatisfiable, message).into_response();
                let len = header_value(&format!("bytes */{}", self.len));
                response.headers_mut().insert(header::CONTENT_RANGE, len);
                return response;
            }
            Wanted::Known => (StatusCode::NOT_MODIFIED, None),
            Wanted::Whole => (StatusCode::OK, Some(0..self.len)),
            Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, Some(part)),
        };
        let body = match body {
            Some(body) if *method != Method::HEAD => body,
            _ => Body::empty(),
        };
        let mut response = (status, body).into_response();
        let fields = response.headers_mut();
        fields.insert(header::ETAG, header_value(&self.etag));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=86400, immutable"));
        if let Some(part) = part {
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
            fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
            if status == StatusCode::PARTIAL_CONTENT {
                let range = format!("bytes {}-{}/{}", part.start, part.end - 1, self.len);
                fields.insert(header::CONTENT_RANGE, header_value(&range));
            }
        }
        response
    }
}

/// A value of letters, digits and punctuation of ours.
pub(super) fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("made of letters, digits and punctuation of ours")
}

/// Digits as a number, held at the largest; `Some(None)` for none at all, none for anything else.
fn number(text: &str) -> Option<Option<u64>> {
    match text {
        "" => Some(None),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(Some(digits.parse().unwrap_or(u64::MAX))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ask(len: u64, lines: &[(header::HeaderName, &str)]) -> Wanted {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.clone(), HeaderValue::from_str(value).expect("a header value"));
        }
        wanted(&headers, len, "\"tag\"")
    }

    fn range(text: &str) -> Wanted {
        ask(1000, &[(header::RANGE, text)])
    }

    #[test]
    fn one_range_is_served_and_held_to_the_body() {
        assert_eq!(range("bytes=0-0"), Wanted::Part(0..1));
        assert_eq!(range("bytes=10-19"), Wanted::Part(10..20));
        assert_eq!(range("bytes=990-"), Wanted::Part(990..1000));
        assert_eq!(range("bytes=-10"), Wanted::Part(990..1000));
        assert_eq!(range("bytes=-5000"), Wanted::Part(0..1000));
        assert_eq!(range("Bytes=0-99999999999999999999999"), Wanted::Part(0..1000));
        assert_eq!(range("bytes=1000-"), Wanted::Outside);
        assert_eq!(range("bytes=-0"), Wanted::Outside);
        assert_eq!(range("bytes=99999999999999999999999-"), Wanted::Outside);
        assert_eq!(ask(0, &[(header::RANGE, "bytes=0-0")]), Wanted::Outside);
    }

    #[test]
    fn what_is_no_single_range_is_ignored() {
        for text in
            ["", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2", "bytes=a-b"]
        {
            assert_eq!(range(text), Wanted::Whole, "{text}");
        }
        assert_eq!(ask(9, &[(header::RANGE, "bytes=0-1"), (header::RANGE, "bytes=2-3")]), Wanted::Whole);
        assert_eq!(ask(9, &[]), Wanted::Whole);
    }

    #[test]
    fn tags_decide_before_ranges() {
        let one = (header::RANGE, "bytes=0-1");
        assert_eq!(ask(9, &[one.clone(), (header::IF_NONE_MATCH, "\"a\", W/\"tag\"")]), Wanted::Known);
        assert_eq!(ask(9, &[one.clone(), (header::IF_NONE_MATCH, "*")]), Wanted::Known);
        assert_eq!(ask(9, &[one.clone(), (header::IF_NONE_MATCH, "\"a\"")]), Wanted::Part(0..2));
        assert_eq!(ask(9, &[one.clone(), (header::IF_RANGE, "\"tag\"")]), Wanted::Part(0..2));
        assert_eq!(ask(9, &[one.clone(), (header::IF_RANGE, "W/\"tag\"")]), Wanted::Whole);
        assert_eq!(ask(9, &[one, (header::IF_RANGE, "Sat, 01 Aug 2026 12:00:00 GMT")]), Wanted::Whole);
    }

    #[test]
    fn immutable_bodies_answer_ranges_and_tags() {
        let check = |lines: &[(header::HeaderName, &str)], status: u16, range: Option<&str>| {
            let headers = lines.iter().map(|(name, value)| (name.clone(), header_value(value))).collect();
            let answer = Answer { etag: "\"t\"".to_owned(), content_type: "video/mp4", len: 100 };
            let body = answer.part(&headers).map(|part| Body::from(vec![0; (part.end - part.start) as usize]));
            let response = answer.response(&headers, &Method::GET, body);
            assert_eq!(response.status().as_u16(), status);
            let given = response.headers().get(header::CONTENT_RANGE).map(|value| value.to_str().expect("text"));
            assert_eq!(given, range);
        };
        check(&[], 200, None);
        check(&[(header::RANGE, "bytes=10-19")], 206, Some("bytes 10-19/100"));
        check(&[(header::RANGE, "bytes=100-")], 416, Some("bytes */100"));
        check(&[(header::IF_NONE_MATCH, "\"t\"")], 304, None);
    }
}
