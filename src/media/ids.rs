//! Ids, each a type of its own. The doc line says who mints it and how long it is unique.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

macro_rules! counter_id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

counter_id! {
    /// Number of a track inside its stream: 1, 2, 3 ... Minted at ingest, fixed for a [`crate::TrackSet`].
    TrackId(u32)
}
counter_id! {
    /// Number of a track set inside its stream: 1, 2, 3 ... Minted by the publisher, never reused in the stream.
    TrackSetId(u32)
}
counter_id! {
    /// A life of the store: taken anew at each start (or change of owner), never reused. Below 2^24.
    Epoch(u32)
}
counter_id! {
    /// Count of fragments within an epoch of a stream, from 1. Below 2^40.
    Sequence(u64)
}
counter_id! {
    /// Dense count of a stream's fragments from 0, across restarts: what HLS sequence numbers are made of.
    Ordinal(u64)
}

/// Identity of a stream: minted at creation, never reused, survives everything but deletion.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub Uuid);

impl StreamId {
    /// A new random id.
    pub fn random() -> StreamId {
        StreamId(Uuid::new_v4())
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl FromStr for StreamId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<StreamId, uuid::Error> {
        Uuid::parse_str(text).map(StreamId)
    }
}

/// The name people give a stream: `[A-Za-z0-9_.-]{1,256}`, case-sensitive, not `.` or `..`, immutable.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

/// Why a text is not a stream name. The message says what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadStreamName {
    /// Empty, or more than 256 characters.
    #[error("a stream name has 1 to 256 characters")]
    Length,
    /// A slash.
    #[error("a stream name has no '/': use '-', '_' or '.' to group streams, as in site-gate")]
    Slash,
    /// Any other character that is not allowed.
    #[error("a stream name is made of A-Z a-z 0-9 _ . - only")]
    Character,
    /// `.` or `..`.
    #[error("'.' and '..' are not stream names")]
    Dots,
}

impl StreamName {
    /// Checks `text` and takes it as a name.
    ///
    /// # Errors
    /// When `text` breaks the rule above.
    pub fn new(text: &str) -> Result<StreamName, BadStreamName> {
        if text.contains('/') {
            return Err(BadStreamName::Slash);
        }
        if text.is_empty() || text.chars().count() > 256 {
            return Err(BadStreamName::Length);
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
            return Err(BadStreamName::Character);
        }
        if text == "." || text == ".." {
            return Err(BadStreamName::Dots);
        }
        Ok(StreamName(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamName {
    type Err = BadStreamName;

    fn from_str(text: &str) -> Result<StreamName, BadStreamName> {
        StreamName::new(text)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Where a fragment stands in its stream's order: epoch first, then sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position {
    /// The life of the store that recorded it.
    pub epoch: Epoch,
    /// Its count within that life.
    pub sequence: Sequence,
}

/// The public number of a fragment: 47 decimal digits, strictly increasing in a stream, never reused.
///
/// The 157-bit layout that Kinesis Video Streams uses: a set bit, 64 bits of counter
/// (`epoch * 2^40 + sequence`), 64 bits of server time in milliseconds, 28 bits of a keyed hash.
/// Order never depends on the clock bits, since no two fragments of a stream share a counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentNumber {
    counter: u64,
    server_ms: u64,
    check: u32,
}

impl FragmentNumber {
    /// The number of the fragment at `position`, taken at `server_ms` milliseconds since the epoch;
    /// `check` is a keyed hash of which the low 28 bits are used.
    pub fn new(position: Position, server_ms: u64, check: u32) -> FragmentNumber {
        let counter = (u64::from(position.epoch.0) << 40) | (position.sequence.0 & ((1 << 40) - 1));
        FragmentNumber { counter, server_ms, check: check & 0x0fff_ffff }
    }

    /// Epoch and sequence, as the number says them.
    pub fn position(self) -> Position {
        Position { epoch: Epoch((self.counter >> 40) as u32), sequence: Sequence(self.counter & ((1 << 40) - 1)) }
    }

    /// The server time inside, milliseconds since the epoch.
    pub fn server_ms(self) -> u64 {
        self.server_ms
    }

    /// The 157 bits as 32-bit limbs, least significant first.
    fn limbs(self) -> [u32; 5] {
        let low = u128::from(self.check) | (u128::from(self.server_ms) << 28) | (u128::from(self.counter) << 92);
        let high = (self.counter >> 36) as u32 | (1 << 28);
        [low as u32, (low >> 32) as u32, (low >> 64) as u32, (low >> 96) as u32, high]
    }
}

impl fmt::Display for FragmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut limbs = self.limbs();
        let mut digits = [b'0'; 47];
        for digit in digits.iter_mut().rev() {
            let mut rest = 0u64;
            for limb in limbs.iter_mut().rev() {
                let value = (rest << 32) | u64::from(*limb);
                *limb = (value / 10) as u32;
                rest = value % 10;
            }
            *digit = b'0' + rest as u8;
        }
        f.write_str(std::str::from_utf8(&digits).expect("digits are ASCII"))
    }
}

impl fmt::Debug for FragmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a fragment number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a fragment number has 47 decimal digits, as the server gave them")]
pub struct BadFragmentNumber;

impl FromStr for FragmentNumber {
    type Err = BadFragmentNumber;

    fn from_str(text: &str) -> Result<FragmentNumber, BadFragmentNumber> {
        if text.len() != 47 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadFragmentNumber);
        }
        let mut limbs = [0u32; 5];
        for digit in text.bytes() {
            let mut carry = u64::from(digit - b'0');
            for limb in &mut limbs {
                let value = u64::from(*limb) * 10 + carry;
                *limb = value as u32;
                carry = value >> 32;
            }
        }
        if limbs[4] >> 28 != 1 {
            return Err(BadFragmentNumber);
        }
        let low = limbs[..4].iter().rev().fold(0u128, |sum, limb| (sum << 32) | u128::from(*limb));
        let counter = (u64::from(limbs[4] & 0x0fff_ffff) << 36) | ((low >> 92) as u64 & 0xf_ffff_ffff);
        Ok(FragmentNumber { counter, server_ms: (low >> 28) as u64, check: (low as u32) & 0x0fff_ffff })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragment_number_of_the_service_is_read_and_written_back() {
        // A published sample of the service: counter 122001, 2023-07-30T08:54:49.209Z.
        let text = "91343852333182036507421233921329142742245756394";
        let number: FragmentNumber = text.parse().expect("a number of the service");
        assert_eq!(number.counter, 122_001);
        assert_eq!(number.server_ms(), 1_690_707_289_209);
        assert_eq!(number.to_string(), text);
    }

    #[test]
    fn fragment_numbers_sort_alike_as_values_and_as_text() {
        let at = |epoch, sequence, ms| {
            FragmentNumber::new(Position { epoch: Epoch(epoch), sequence: Sequence(sequence) }, ms, 7)
        };
        let numbers = [at(1, 1, 900), at(1, 2, 5), at(1, (1 << 40) - 1, 5), at(2, 0, 1), at(2, 1, 0), at(9, 1, 0)];
        for pair in numbers.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].to_string() < pair[1].to_string());
            assert_eq!(pair[1].to_string().parse(), Ok(pair[1]));
        }
    }

    #[test]
    fn stream_name_with_a_slash_is_refused_with_a_hint() {
        assert_eq!(StreamName::new("a/b"), Err(BadStreamName::Slash));
        assert_eq!(StreamName::new(".."), Err(BadStreamName::Dots));
        assert_eq!(StreamName::new(""), Err(BadStreamName::Length));
        assert_eq!(StreamName::new(&"a".repeat(257)), Err(BadStreamName::Length));
        assert_eq!(StreamName::new("a b"), Err(BadStreamName::Character));
        assert_eq!(StreamName::new("<img>"), Err(BadStreamName::Character));
        assert!(StreamName::new("Gate_1.north-2").is_ok());
    }
}
