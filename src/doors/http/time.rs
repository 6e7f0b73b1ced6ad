//! Times and durations as the API reads and writes them.
//!
//! In: RFC 3339 (`2026-08-01T12:00:00Z`, any offset) or epoch milliseconds. Out: RFC 3339 in UTC with microseconds.

use jiff::Timestamp;
use media::{ProducerTime, ServerTime};

use super::error::{ApiError, Code};

/// Microseconds since the epoch from a parameter called `name`.
pub(crate) fn parse_micros(name: &str, text: &str) -> Result<i64, ApiError> {
    let bad = || {
        let message = format!(
            "{name}={text:?} is not a time: give RFC 3339 such as 2026-08-01T12:00:00Z, or milliseconds since the epoch"
        );
        ApiError::new(Code::BadTime, message)
    };
    if text.len() > 64 {
        return Err(ApiError::new(Code::BadTime, format!("{name} is too long for a time")));
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        let millis: i64 = text.parse().map_err(|_| bad())?;
        let stamp = Timestamp::from_millisecond(millis).map_err(|_| bad())?;
        return Ok(stamp.as_microsecond());
    }
    // A `+` of an offset that was not percent-encoded in a query has become a space.
    let text = text.replace(' ', "+");
    let stamp: Timestamp = text.parse().map_err(|_| bad())?;
    Ok(stamp.as_microsecond())
}

/// `[from, to)` in microseconds of two optional parameters; an absent end is open.
///
/// # Errors
/// When one is not a time, or `from` is after `to`.
pub(crate) fn parse_range(from: Option<&str>, to: Option<&str>) -> Result<(i64, i64), ApiError> {
    let from = from.map(|text| parse_micros("from", text)).transpose()?.unwrap_or(i64::MIN);
    let to = to.map(|text| parse_micros("to", text)).transpose()?.unwrap_or(i64::MAX);
    if from > to {
        return Err(ApiError::new(Code::BadTime, "from is after to; a range is [from, to)"));
    }
    Ok((from, to))
}

/// RFC 3339 in UTC with microseconds. What no calendar has is shown as its nearest end.
pub(crate) fn format_micros(micros: i64) -> String {
    let stamp = Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 { Timestamp::MIN } else { Timestamp::MAX });
    format!("{stamp:.6}")
}

/// See [`format_micros`].
pub(crate) fn format_server(time: ServerTime) -> String {
    format_micros(time.micros())
}

/// See [`format_micros`].
pub(crate) fn format_producer(time: ProducerTime) -> String {
    format_micros(time.micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms_and_written_in_one() {
        let check = |text: &str, out: &str| {
            assert_eq!(format_micros(parse_micros("from", text).expect(text)), out);
        };
        check("2026-08-01T12:00:00Z", "2026-08-01T12:00:00.000000Z");
        check("2026-08-01T14:00:00.123456+02:00", "2026-08-01T12:00:00.123456Z");
        check("2026-08-01T14:00:00 02:00", "2026-08-01T12:00:00.000000Z");
        check("1785585600123", "2026-08-01T12:00:00.123000Z");
        check("0", "1970-01-01T00:00:00.000000Z");
        check("-1", "1969-12-31T23:59:59.999000Z");
    }

    #[test]
    fn what_is_not_a_time_is_refused_by_name() {
        for text in ["", "yesterday", "2026-13-01T00:00:00Z", "99999999999999999999", "9223372036854775807", "-", "1e9"]
        {
            let error = parse_micros("from", text).expect_err(text);
            assert_eq!(error.code, Code::BadTime);
            assert!(error.message.starts_with("from="), "{}", error.message);
        }
        assert!(parse_micros("from", &"1".repeat(1_000_000)).is_err());
    }

    #[test]
    fn from_after_to_is_refused() {
        assert_eq!(parse_range(Some("2000"), Some("1000")).expect_err("reversed").code, Code::BadTime);
        assert_eq!(parse_range(Some("1000"), Some("1000")).expect("empty is a range"), (1_000_000, 1_000_000));
        assert_eq!(parse_range(None, None).expect("everything"), (i64::MIN, i64::MAX));
    }
}
