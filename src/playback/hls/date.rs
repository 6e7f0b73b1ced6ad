//! Numbers and dates appended to a text without an allocation: a playlist of a day has some hundred thousand.

use media::ProducerTime;

/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59.999Z, in microseconds: what RFC 3339 can say.
const FIRST_US: i64 = -62_167_219_200_000_000;
const LAST_US: i64 = 253_402_300_799_999_000;

const DAY_US: i64 = 86_400_000_000;

/// Appends `value` in decimal digits.
pub(super) fn push_number(text: &mut String, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    push_ascii(text, &digits[at..]);
}

/// Appends microseconds as seconds with six decimals: `2.002000`.
pub(super) fn push_seconds(text: &mut String, micros: u64) {
    push_number(text, micros / 1_000_000);
    text.push('.');
    push_padded(text, (micros % 1_000_000) as u32, 6);
}

/// Appends a time as `2026-11-20T11:38:39.123Z`, to the nearest millisecond (RFC 8216 section 4.3.2.6).
pub(super) fn push_date_millis(text: &mut String, time: ProducerTime) {
    let rounded = time.micros().clamp(FIRST_US, LAST_US - 500).saturating_add(500);
    push_date(text, rounded, 3);
}

/// Appends a time as `2026-11-20T11:38:39.123456Z`.
pub(super) fn push_date_micros(text: &mut String, micros: i64) {
    push_date(text, micros.clamp(FIRST_US, LAST_US), 6);
}

fn push_date(text: &mut String, micros: i64, decimals: usize) {
    let (year, month, day) = civil(micros.div_euclid(DAY_US));
    let of_day = micros.rem_euclid(DAY_US);
    let seconds = (of_day / 1_000_000) as u32;
    push_padded(text, year, 4);
    text.push('-');
    push_padded(text, month, 2);
    text.push('-');
    push_padded(text, day, 2);
    text.push('T');
    push_padded(text, seconds / 3600, 2);
    text.push(':');
    push_padded(text, seconds / 60 % 60, 2);
    text.push(':');
    push_padded(text, seconds % 60, 2);
    text.push('.');
    let fraction = (of_day % 1_000_000) as u32;
    push_padded(text, if decimals == 3 { fraction / 1000 } else { fraction }, decimals);
    text.push('Z');
}

/// Year, month and day of a count of days since 1970-01-01, in the proleptic Gregorian calendar.
///
/// Counts years from March, so that a leap day is the last of its year (Howard Hinnant, "chrono-compatible low-level
/// date algorithms").
fn civil(days: i64) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

fn push_padded(text: &mut String, mut value: u32, width: usize) {
    let mut digits = [b'0'; 10];
    let field = &mut digits[..width];
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    push_ascii(text, field);
}

fn push_ascii(text: &mut String, digits: &[u8]) {
    text.push_str(std::str::from_utf8(digits).expect("digits are ASCII"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn date(micros: i64) -> String {
        let mut text = String::new();
        push_date_millis(&mut text, ProducerTime::from_micros(micros));
        text
    }

    #[test]
    fn dates_outside_of_four_digit_years_are_held_at_the_ends() {
        assert_eq!(date(i64::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(date(i64::MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(date(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(date(-1), "1970-01-01T00:00:00.000Z");
        assert_eq!(date(951_827_696_789_500), "2000-02-29T12:34:56.790Z");
    }

    proptest! {
        #[test]
        fn dates_are_those_of_another_implementation(micros in FIRST_US..LAST_US) {
            let mut text = String::new();
            push_date_micros(&mut text, micros);
            let theirs: jiff::Timestamp = text.parse().expect("RFC 3339");
            prop_assert_eq!(theirs.as_microsecond(), micros);
        }

        #[test]
        fn numbers_are_those_of_the_standard_library(value: u64) {
            let mut text = String::new();
            push_number(&mut text, value);
            prop_assert_eq!(text, value.to_string());
            let mut text = String::new();
            push_seconds(&mut text, value);
            prop_assert_eq!(text, format!("{}.{:06}", value / 1_000_000, value % 1_000_000));
        }
    }
}
