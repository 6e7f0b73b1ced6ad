//! Fuzz targets: what clients say of ranges and times, see `crate::fuzz`.

use http::{HeaderMap, HeaderValue, header};

use super::byte_range::{Wanted, wanted};
use super::time::{format_micros, parse_micros, parse_range};

/// Range, If-Range and If-None-Match, one a line: a part lies in the body and is not empty.
pub(crate) fn byte_ranges(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for (line, name) in data.split(|byte| *byte == b'\n').zip([header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH])
    {
        let Ok(value) = HeaderValue::from_bytes(line) else { continue };
        if !line.is_empty() {
            headers.append(name, value);
        }
    }
    for len in [0, 1, 1_000, u64::MAX] {
        if let Wanted::Part(part) = wanted(&headers, len, "\"tag\"") {
            assert!(part.start < part.end && part.end <= len);
            assert!(headers.contains_key(header::RANGE), "nobody asked");
        }
    }
}

/// Times and ranges of them: what is read is written, and read alike.
pub(crate) fn times(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(micros) = parse_micros("from", text) {
        let written = format_micros(micros);
        assert_eq!(parse_micros("from", &written).ok(), Some(micros), "{written}");
    }
    let (from, to) = text.split_once('/').unwrap_or((text, ""));
    if let Ok((from, to)) = parse_range(Some(from), Some(to).filter(|to| !to.is_empty())) {
        assert!(from <= to);
    }
}
