//! Walks the records of a block file, past damage too.

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
    let mut previous = 0;
    let mut at = options.head_len;
    let mut last: Option<Position> = None;
    while at < len {
        match record_at(blob, at, len)? {
            Found::Record(record) if is_right(blob, &record, at, len, options, last)? => {
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
                let next = next_magic(blob, at + 1, len)?;
                found.bad.push(at..next);
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

fn record_at(blob: &dyn Blob, at: u64, len: u64) -> io::Result<Found> {
    let have = (len - at).min(MAX_HEADER as u64) as usize;
    let mut bytes = [0; MAX_HEADER];
    blob.read_at(&mut bytes[..have], at)?;
    Ok(match Record::decode(&bytes[..have]) {
        Ok(record) => Found::Record(Box::new(record)),
        Err(NotRecord::Magic) if have >= MAGIC_LEN && bytes[8..MAGIC_LEN] == super::footer::USER_TYPE => Found::Footer,
        Err(_) => Found::Nothing,
    })
}

fn is_right(
    blob: &dyn Blob,
    record: &Record,
    at: u64,
    len: u64,
    options: Options,
    last: Option<Position>,
) -> io::Result<bool> {
    let end = at + record.total_len();
    let in_place = record.stream == options.stream
        && end <= len
        && record.synced_upto <= at
        && record.previous < at
        && (record.kind != Kind::Fragment || last.is_none_or(|last| last < record.info.position));
    if !in_place {
        return Ok(false);
    }
    if end <= options.trust_bodies_before || record.info.body_len == 0 {
        return Ok(true);
    }
    Ok(body_crc(blob, end - u64::from(record.info.body_len), end)? == record.body_crc)
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

/// Where the next record or footer could start, from `from` on; the file's end when nowhere.
fn next_magic(blob: &dyn Blob, from: u64, len: u64) -> io::Result<u64> {
    let mut bytes = vec![0; PIECE.min((len - from.min(len)) as usize)];
    let mut at = from;
    while at + MAGIC_LEN as u64 <= len {
        let part = ((len - at) as usize).min(bytes.len());
        blob.read_at(&mut bytes[..part], at)?;
        let starts = bytes[..part].windows(MAGIC_LEN);
        let place = starts.into_iter().position(|window| {
            &window[4..8] == b"uuid" && (window[8..] == USER_TYPE || window[8..] == super::footer::USER_TYPE)
        });
        if let Some(place) = place {
            return Ok(at + place as u64);
        }
        at += (part - (MAGIC_LEN - 1)) as u64;
    }
    Ok(len)
}
