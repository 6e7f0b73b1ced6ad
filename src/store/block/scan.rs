//! Walks the records of a block file, past damage too, in time that grows with its length alone.

use std::io;

use media::{GapReason, Position, StreamId};

use super::record::{Kind, MAGIC_LEN, MAX_HEADER, NotRecord, Record, USER_TYPE};
use crate::blobs::Blob;
use crate::packed::Entry;

/// What a scan found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Scan {
    /// Whole, right fragments.
    pub entries: Vec<Entry>,
    /// Ranges of bytes that are no right records.
    pub bad: Vec<std::ops::Range<u64>>,
    /// Highest `synced_upto` of any right record.
    pub synced_upto: u64,
    /// End of the last right record; of the head when there is none.
    pub end: u64,
    /// What the last gap record says, when nothing follows it.
    pub ended: Option<GapReason>,
    /// Where a footer box starts, right or not.
    pub footer_at: Option<u64>,
    /// Each record's `synced_upto` is at least the one before's, and its `previous` is the record before.
    pub synced_never_falls: bool,
}

/// How to scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// The stream the block belongs to: records of another are damage.
    pub stream: StreamId,
    /// Where the head ends.
    pub head_len: u64,
    /// Bodies that end at or before this offset are taken as right.
    pub trust_bodies_before: u64,
}

/// Walks the records from the head's end to the file's.
///
/// # Errors
/// What the disk refused.
pub(crate) fn scan(blob: &dyn Blob, options: Options) -> io::Result<Scan> {
    let len = blob.len()?;
    let mut found = Scan { end: options.head_len, synced_never_falls: true, ..Scan::default() };
    // Records do not overlap: of those that were written no more bodies can be wrong than the file is long. What goes beyond
    // are headers within bodies, made by somebody to keep us busy.
    let mut file = Walk { blob, len, options, window: Vec::new(), window_at: 0, wrong_bodies_left: len };
    let mut previous = 0;
    let mut at = options.head_len;
    let mut last: Option<Position> = None;
    while at < len {
        match file.record_at(at)? {
            Found::Record(record) if file.is_right(&record, at, last)? => {
                let in_chain = record.synced_upto >= found.synced_upto && record.previous == previous;
                found.synced_never_falls &= in_chain || !found.bad.is_empty();
                previous = at;
                found.synced_upto = found.synced_upto.max(record.synced_upto);
                at += record.total_len();
                found.end = at;
                found.ended = None;
                match record.kind {
                    Kind::Fragment => {
                        last = Some(record.info.position);
                        let body_offset = at - u64::from(record.info.body_len);
                        found.entries.push(Entry { info: record.info, body_offset });
                    }
                    Kind::Gap => found.ended = record.info.break_before,
                    Kind::Clock | Kind::Other(_) => {}
                }
            }
            Found::Footer => {
                found.footer_at = Some(at);
                break;
            }
            Found::Record(_) | Found::Nothing => {
                let next = file.next_magic(at + 1)?;
                match found.bad.last_mut() {
                    Some(bad) if bad.end == at => bad.end = next,
                    _ => found.bad.push(at..next),
                }
                at = next;
            }
        }
    }
    Ok(found)
}

enum Found {
    Record(Box<Record>),
    Footer,
    Nothing,
}

/// The file, on the way through it.
struct Walk<'a> {
    blob: &'a dyn Blob,
    len: u64,
    options: Options,
    /// Bytes that were read in search of a magic, and where they lie.
    window: Vec<u8>,
    window_at: u64,
    /// Bytes of bodies that may still turn out to be wrong. A body beyond is not read, and not believed.
    wrong_bodies_left: u64,
}

impl Walk<'_> {
    fn record_at(&self, at: u64) -> io::Result<Found> {
        let have = (self.len - at).min(MAX_HEADER as u64) as usize;
        let mut bytes = [0; MAX_HEADER];
        match self.in_window(at, have) {
            Some(known) => bytes[..have].copy_from_slice(known),
            None => self.blob.read_at(&mut bytes[..have], at)?,
        }
        Ok(match Record::decode(&bytes[..have]) {
            Ok(record) => Found::Record(Box::new(record)),
            Err(NotRecord::Magic) if have >= MAGIC_LEN && bytes[8..MAGIC_LEN] == super::footer::USER_TYPE => {
                Found::Footer
            }
            Err(_) => Found::Nothing,
        })
    }

    fn is_right(&mut self, record: &Record, at: u64, last: Option<Position>) -> io::Result<bool> {
        let end = at + record.total_len();
        let in_place = record.stream == self.options.stream
            && end <= self.len
            && record.synced_upto <= at
            && record.previous < at
            && (record.kind != Kind::Fragment || last.is_none_or(|last| last < record.info.position));
        if !in_place {
            return Ok(false);
        }
        let body_len = u64::from(record.info.body_len);
        if end <= self.options.trust_bodies_before || body_len == 0 {
            return Ok(true);
        }
        if body_len > self.wrong_bodies_left {
            return Ok(false);
        }
        let right = body_crc(self.blob, end - body_len, end)? == record.body_crc;
        if !right {
            self.wrong_bodies_left -= body_len;
        }
        Ok(right)
    }

    /// Where the next record or footer could start, from `from` on; the file's end when nowhere.
    fn next_magic(&mut self, from: u64) -> io::Result<u64> {
        let mut at = from;
        while at + MAGIC_LEN as u64 <= self.len {
            if self.in_window(at, MAGIC_LEN).is_none() {
                self.window.resize((self.len - at).min(PIECE as u64) as usize, 0);
                self.window_at = at;
                self.blob.read_at(&mut self.window, at)?;
            }
            let bytes = &self.window[(at - self.window_at) as usize..];
            let place = bytes.windows(MAGIC_LEN).position(|window| {
                &window[4..8] == b"uuid" && (window[8..] == USER_TYPE || window[8..] == super::footer::USER_TYPE)
            });
            if let Some(place) = place {
                return Ok(at + place as u64);
            }
            at += (bytes.len() - (MAGIC_LEN - 1)) as u64;
        }
        Ok(self.len)
    }

    fn in_window(&self, at: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(at.checked_sub(self.window_at)?).ok()?;
        self.window.get(start..start.checked_add(len)?)
    }
}

/// CRC-32C of a range of the file, read in pieces.
pub(crate) fn body_crc(blob: &dyn Blob, start: u64, end: u64) -> io::Result<u32> {
    let mut crc = 0;
    let mut bytes = vec![0; PIECE.min((end - start) as usize)];
    let mut at = start;
    while at < end {
        let part = ((end - at) as usize).min(PIECE);
        blob.read_at(&mut bytes[..part], at)?;
        crc = crc32c::crc32c_append(crc, &bytes[..part]);
        at += part as u64;
    }
    Ok(crc)
}

const PIECE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::testing::{Feed, stream};

    /// A file that counts what is read of it.
    struct Counted {
        bytes: Vec<u8>,
        read: AtomicU64,
    }

    impl Blob for Counted {
        fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
            self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let start = offset as usize;
            let known = self.bytes.get(start..start + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            bytes.copy_from_slice(known);
            Ok(())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }
    }

    /// Scans `bad` with a right record behind it, and reads each byte `most` times at most; what was found.
    fn check(bad: &[u8], most: u64) -> Scan {
        let fragment = Feed::new(1).next();
        let record = Record::fragment(stream(1), fragment.info.clone(), &fragment.body, 0, 0);
        let bytes = [bad, &record.encode(), &fragment.body].concat();
        let file = Counted { bytes, read: AtomicU64::new(0) };
        let found = scan(&file, Options { stream: stream(1), head_len: 0, trust_bodies_before: 0 }).expect("reads");
        let read = file.read.into_inner();
        assert!(read <= most * file.bytes.len() as u64, "{read} bytes read of {}", file.bytes.len());
        found
    }

    #[test]
    fn damage_full_of_magics_is_read_a_few_times_at_most() {
        let magic = [&[0, 0, 0, 200], &b"uuid"[..], &USER_TYPE].concat();
        let found = check(&magic.repeat(10_000), 3);
        assert_eq!(found.bad, std::slice::from_ref(&(0..240_000)));
        assert_eq!(found.entries.len(), 1, "what is right behind it is found");
    }

    #[test]
    fn headers_within_bodies_do_not_have_their_bodies_read_for_ever() {
        let mut fragment = Feed::new(1).next();
        let header_len = Record::fragment(stream(1), fragment.info.clone(), &fragment.body, 0, 0).header_len();
        let count = 1_000;
        let mut bad = vec![0; 24];
        for n in 0..count {
            // All of them end where the damage ends, and none has the right body.
            let left = (count - n - 1) * header_len;
            fragment.info.body_len = left as u32 + 1_000;
            let mut record = Record::fragment(stream(1), fragment.info.clone(), &fragment.body, 0, 0);
            record.info.body_len = fragment.info.body_len;
            bad.extend_from_slice(&record.encode());
        }
        bad.extend_from_slice(&[0; 1_000]);
        // Most are given up, and so is what comes after.
        let found = check(&bad, 5);
        assert_eq!((found.entries.len(), found.bad.len()), (0, 1));
    }
}
