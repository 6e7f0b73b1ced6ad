//! Durations, byte sizes and listen addresses as people write them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not what its key wants. The message says what would be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadUnit(String);

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// A length of time: `250ms`, `90s`, `5m`, `24h`, `30d`, `1w`, and sums of them such as `1h30m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

/// Longest first: the first unit that divides a span without rest writes it.
const SPAN_UNITS: [(&str, u64); 7] = [
    ("w", 604_800_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// A hundred years: more is a typing error, and later arithmetic in microseconds survives it.
const SPAN_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

impl Span {
    pub(crate) const fn secs(secs: u64) -> Span {
        Span(Duration::from_secs(secs))
    }

    pub(crate) const fn millis(millis: u64) -> Span {
        Span(Duration::from_millis(millis))
    }
}

impl FromStr for Span {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Span, BadUnit> {
        let bad = || BadUnit(format!("{text:?} is not a duration: write 250ms, 90s, 5m, 24h or 30d"));
        let mut rest = text.trim();
        let mut micros: u64 = 0;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let count: u64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let unit = SPAN_UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(bad)?;
            rest = &rest[letters..];
            micros = count.checked_mul(unit.1).and_then(|part| micros.checked_add(part)).ok_or_else(bad)?;
        }
        let span = Duration::from_micros(micros);
        if span > SPAN_MAX {
            return Err(BadUnit(format!("{text:?} is longer than a hundred years")));
        }
        Ok(Span(span))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        if micros == 0 {
            return f.write_str("0s");
        }
        let (name, unit) = SPAN_UNITS
            .iter()
            .find(|(_, unit)| micros.is_multiple_of(*unit))
            .expect("every count is a multiple of one microsecond");
        write!(f, "{}{name}", micros / unit)
    }
}

as_text!(Span);

/// A count of bytes: `512KiB`, `64MiB`, `10GB`, or a bare number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

const SIZE_UNITS: [(&str, u64); 11] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];

impl Size {
    pub(crate) const fn mib(count: u64) -> Size {
        Size(count << 20)
    }

    pub(crate) const fn kib(count: u64) -> Size {
        Size(count << 10)
    }
}

impl FromStr for Size {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Size, BadUnit> {
        let bad = || BadUnit(format!("{text:?} is not a size: write 512KiB, 64MiB or 10GB"));
        let trimmed = text.trim();
        let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count: u64 = trimmed[..digits].parse().map_err(|_| bad())?;
        let name = trimmed[digits..].trim();
        let (_, unit) = SIZE_UNITS.iter().find(|(unit, _)| *unit == name).ok_or_else(bad)?;
        let bytes = count.checked_mul(*unit).ok_or_else(bad)?;
        // Databases and media times count in i64.
        if i64::try_from(bytes).is_err() {
            return Err(bad());
        }
        Ok(Size(bytes))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(unit.1);
        let shortest = SIZE_UNITS[..10].iter().filter(fits).min_by_key(|(_, unit)| self.0 / unit);
        let (name, unit) = shortest.unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        struct TextOrNumber;

        impl serde::de::Visitor<'_> for TextOrNumber {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 64MiB, or a count of bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
                self.visit_str(&bytes.to_string())
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
                self.visit_str(&bytes.to_string())
            }
        }

        deserializer.deserialize_any(TextOrNumber)
    }
}

/// Where to listen: `:8080`, `127.0.0.1:0`, `[::1]:8080`; empty or `off` for nowhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) Option<SocketAddr>);

impl Listen {
    /// All addresses, both families, at `port`.
    pub(crate) const fn any(port: u16) -> Listen {
        Listen(Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)))
    }

    /// This address, which nobody set, beside a door that somebody may have set: on the same interface, and on any free
    /// port when that one is, so that servers side by side do not meet on a port that none of them asked for.
    pub(super) fn beside(self, door: Listen) -> Listen {
        match (self.0, door.0) {
            (Some(own), Some(door)) => {
                Listen(Some(SocketAddr::new(door.ip(), if door.port() == 0 { 0 } else { own.port() })))
            }
            _ => self,
        }
    }
}

impl FromStr for Listen {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Listen, BadUnit> {
        let text = text.trim();
        if text.is_empty() || text == "off" {
            return Ok(Listen(None));
        }
        let full = match text.strip_prefix(':') {
            Some(port) => format!("[::]:{port}"),
            None => text.replace("localhost:", "127.0.0.1:"),
        };
        let bad = || BadUnit(format!("{text:?} is not an address: write :8080, 127.0.0.1:8080, [::1]:8080 or off"));
        full.parse().map(|address| Listen(Some(address))).map_err(|_| bad())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("off"),
            // Nothing but the port was said: an address with a scope says more.
            Some(address) if Listen::any(address.port()) == *self => write!(f, ":{}", address.port()),
            Some(address) => write!(f, "{address}"),
        }
    }
}

as_text!(Listen);

/// An address by which the world reaches a port of ours: `203.0.113.7`, or with a port where that is another one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublicAddress {
    pub(crate) ip: IpAddr,
    pub(crate) port: Option<u16>,
}

impl FromStr for PublicAddress {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<PublicAddress, BadUnit> {
        let text = text.trim();
        if let Ok(ip) = text.parse() {
            return Ok(PublicAddress { ip, port: None });
        }
        let with_port = text.parse::<SocketAddr>().ok().filter(|address| address.port() > 0);
        let address = with_port.ok_or_else(|| {
            BadUnit(format!("{text:?} is not an IP address: write 203.0.113.7, 203.0.113.7:8189 or [2001:db8::7]:8189"))
        })?;
        Ok(PublicAddress { ip: address.ip(), port: Some(address.port()) })
    }
}

impl fmt::Display for PublicAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => write!(f, "{}", self.ip),
            Some(port) => write!(f, "{}", SocketAddr::new(self.ip, port)),
        }
    }
}

as_text!(PublicAddress);

/// Ports from the first to the last: `20000-20999`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl FromStr for PortRange {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<PortRange, BadUnit> {
        let bad = || BadUnit(format!("{text:?} is not a range of two ports or more: write 20000-20999"));
        let (first, last) = text.split_once('-').ok_or_else(bad)?;
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        let range = PortRange { first: port(first).ok_or_else(bad)?, last: port(last).ok_or_else(bad)? };
        if range.first < range.last { Ok(range) } else { Err(bad()) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

as_text!(PortRange);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_in_the_largest_unit_that_fits() {
        let check = |text: &str, micros: u64, out: &str| {
            let span: Span = text.parse().expect(text);
            assert_eq!(span.0, Duration::from_micros(micros));
            assert_eq!(span.to_string(), out);
        };
        check("90s", 90_000_000, "90s");
        check("24h", 86_400_000_000, "1d");
        check("1h30m", 5_400_000_000, "90m");
        check("250ms", 250_000, "250ms");
        check("0s", 0, "0s");
        for text in ["", "s", "1", "1.5h", "-1s", "1x", "99999999999w", "18446744073709551615w", "200w 3"] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
        assert!("5300w".parse::<Span>().is_err(), "more than a hundred years");
    }

    #[test]
    fn sizes_are_read_in_both_kinds_of_units() {
        let check = |text: &str, bytes: u64, out: &str| {
            let size: Size = text.parse().expect(text);
            assert_eq!((size.0, size.to_string().as_str()), (bytes, out));
        };
        check("64MiB", 64 << 20, "64MiB");
        check("10GB", 10_000_000_000, "10GB");
        check("1024", 1024, "1KiB");
        check("0", 0, "0B");
        check("7 B", 7, "7B");
        for text in ["", "MiB", "1.5GiB", "-1", "1mb", "99999999TiB", "9223372036854775808"] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn port_ranges_have_two_ends_in_order() {
        assert_eq!("20000-20999".parse::<PortRange>().expect("a range").to_string(), "20000-20999");
        for text in ["", "20000", "0-5", "5-5", "9-5", "1-70000", "a-b"] {
            assert!(text.parse::<PortRange>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn listen_addresses_have_short_forms() {
        let check = |text: &str, out: &str| assert_eq!(text.parse::<Listen>().expect(text).to_string(), out);
        check(":8080", ":8080");
        check("127.0.0.1:0", "127.0.0.1:0");
        check("localhost:80", "127.0.0.1:80");
        check("[::1]:80", "[::1]:80");
        check("off", "off");
        check("", "off");
        for text in ["8080", ":99999", "example.org:80", "1.2.3.4"] {
            assert!(text.parse::<Listen>().is_err(), "{text:?}");
        }
    }
}
