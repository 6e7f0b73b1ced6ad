//! Byte ranges and entity tags of immutable bodies (RFC 9110 sections 13 and 14).
//!
//! Not here: several ranges in one request. No player asks for them; such a request gets the whole body, as the
//! RFC allows.

use std::ops::Range;

use http::{HeaderMap, header};

/// What of a body a request wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// All of it: 200.
    Whole,
    /// A part: 206.
    Part(Range<u32>),
    /// A part that lies outside: 416.
    Outside,
    /// Nothing, the client has it: 304.
    Known,
}

/// What a GET or HEAD with these headers wants of a body of `len` bytes with this entity tag, quotes included.
pub(super) fn wanted(headers: &HeaderMap, len: u32, etag: &str) -> Wanted {
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
fn parse(text: &str, len: u32) -> Option<Wanted> {
    let (unit, set) = text.split_once('=')?;
    let (first, last) = set.trim().split_once('-')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let range = match (number(first)?, number(last)?) {
        (None, None) => return None,
        (None, Some(suffix)) => u64::from(len).saturating_sub(suffix)..u64::from(len),
        (Some(first), None) => first..u64::from(len),
        (Some(first), Some(last)) if last < first => return None,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(u64::from(len)),
    };
    if range.start >= range.end {
        return Some(Wanted::Outside);
    }
    let within = "a part of a body whose length is a u32";
    Some(Wanted::Part(u32::try_from(range.start).expect(within)..u32::try_from(range.end).expect(within)))
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

    fn ask(len: u32, lines: &[(header::HeaderName, &str)]) -> Wanted {
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
}
