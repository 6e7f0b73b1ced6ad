//! The packed fragment index: all fragments of a block in some 25 bytes each.
//!
//! It is what a sealed block's row in the index and its footer carry, so that a playlist of a day is made without
//! opening a block. Every field of every fragment comes back exactly.
//!
//! ```text
//! version: 1 byte (1) | count: varint | count * entry | CRC-32C of all before: 4 bytes, little endian
//! ```
//!
//! An entry says how it differs from what the entry before it lets one expect (the first: from zeros):
//!
//! ```text
//! flags: 1 byte   bits 0-1 start (0 dependent, 1 closed, 2 open), 2 end of session, 3 damaged, 4 break before,
//!                 5 numbers explicit, 6 clock explicit, 7 tracks explicit
//! [reason: 1 byte]                                                    when bit 4
//! [epoch, sequence, ordinal, discontinuities, track set: differences] when bit 5; else same, +1, +1, +bit 4, same
//! [clock source: 1 byte, clock error: varint]                         when bit 6; else same
//! [count of tracks: 1 byte, ids: varints]                             when bit 7; else same
//! gap before the body, compared with the gap before the last body
//! producer time, compared with the end of the last; server time likewise; duration, compared with the last
//! per track: offset (with the end of the track before), moof length (last), length (itself), samples (last),
//!            first decode time (end of the last), first presentation minus decode time (last), duration (last)
//! body length, compared with the end of the last track
//! ```
//!
//! Varints are LEB128; differences are wrapping and zigzag-coded. "Last" for a track is its part in the nearest
//! entry before with the same list of tracks, and zeros right after a new list.

use bytes::Bytes;
use media::track::MAX_TRACKS;
use media::{
    ClockSource, Epoch, FragmentInfo, FragmentTrack, GapReason, Ordinal, Position, ProducerTime, Sequence, ServerTime,
    StartKind, TrackId, TrackSetId,
};

/// The version written.
const VERSION: u8 = 1;
/// Length of the checksum at the end.
const CHECKSUM: usize = 4;
/// The shortest entry: flags, four differences of position and time, body length.
const ENTRY_MIN: usize = 6;

const END_OF_SESSION: u8 = 1 << 2;
const DAMAGED: u8 = 1 << 3;
const BREAK_BEFORE: u8 = 1 << 4;
const NUMBERS: u8 = 1 << 5;
const CLOCK: u8 = 1 << 6;
const TRACKS: u8 = 1 << 7;

/// One fragment of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What it is.
    pub info: FragmentInfo,
    /// Byte offset of its body (after the `uuid` header) in the block file.
    pub body_offset: u64,
}

/// Why bytes are not a packed index. Whoever meets it reads the block instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PackedError {
    /// Written by a newer version, or by nobody.
    #[error("packed index: version {0} is not known")]
    Version(u8),
    /// It ends before it is complete, or goes on after.
    #[error("packed index: wrong length")]
    Length,
    /// The checksum does not fit.
    #[error("packed index: damaged")]
    Checksum,
    /// A value that cannot be.
    #[error("packed index: {0} out of range")]
    Range(&'static str),
    /// Fragments out of order.
    #[error("packed index: fragments out of order")]
    Order,
}

/// Packs `entries`, which are in stream order and have at most [`MAX_TRACKS`] tracks each.
pub fn encode(entries: &[Entry]) -> Bytes {
    let mut out = Vec::with_capacity(16 + entries.len() * 40);
    out.push(VERSION);
    put_varint(&mut out, entries.len() as u64);
    let mut last = Last::default();
    for entry in entries {
        debug_assert!(entry.info.tracks.len() <= MAX_TRACKS, "a track set has no more");
        debug_assert!(last.count == 0 || last.entry.info.position < entry.info.position, "in stream order");
        encode_entry(&mut out, &last, entry);
        last.follow(entry);
    }
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.into()
}

fn encode_entry(out: &mut Vec<u8>, last: &Last, entry: &Entry) {
    let (info, before) = (&entry.info, &last.entry.info);
    let expected = last.numbers(info.break_before.is_some());
    let same_numbers = expected == Numbers::of(info);
    let same_clock = (info.clock_source, info.clock_error_us) == (before.clock_source, before.clock_error_us);
    let same_tracks = info.tracks.iter().map(|part| part.track).eq(before.tracks.iter().map(|part| part.track));

    let mut flags = match info.start {
        StartKind::Dependent => 0,
        StartKind::Closed => 1,
        StartKind::Open => 2,
    };
    let mut set = |on: bool, bit: u8| flags |= if on { bit } else { 0 };
    set(info.end_of_session, END_OF_SESSION);
    set(info.damaged, DAMAGED);
    set(info.break_before.is_some(), BREAK_BEFORE);
    set(!same_numbers, NUMBERS);
    set(!same_clock, CLOCK);
    set(!same_tracks, TRACKS);

    out.push(flags);
    if let Some(reason) = info.break_before {
        out.push(reason as u8);
    }
    if !same_numbers {
        let numbers = Numbers::of(info);
        for (value, expected) in numbers.0.iter().zip(expected.0) {
            put_difference(out, *value, expected);
        }
    }
    if !same_clock {
        out.push(info.clock_source as u8);
        put_varint(out, u64::from(info.clock_error_us));
    }
    if !same_tracks {
        out.push(info.tracks.len() as u8);
        for part in &info.tracks {
            put_varint(out, u64::from(part.track.0));
        }
    }
    put_difference(out, entry.body_offset, last.body_end().wrapping_add(last.gap));
    put_difference(out, info.producer_time.micros() as u64, before.producer_end().micros() as u64);
    put_difference(out, info.server_time.micros() as u64, before.server_end().micros() as u64);
    put_difference(out, info.duration_us, before.duration_us);
    let mut end = 0u64;
    for (index, part) in info.tracks.iter().enumerate() {
        let was = if same_tracks { before.tracks[index].clone() } else { no_part(part.track) };
        put_difference(out, u64::from(part.offset), end);
        put_difference(out, u64::from(part.moof_len), u64::from(was.moof_len));
        put_varint(out, u64::from(part.len));
        put_difference(out, u64::from(part.samples), u64::from(was.samples));
        put_difference(out, part.first_dts as u64, (was.first_dts as u64).wrapping_add(was.duration));
        put_difference(
            out,
            part.first_pts.wrapping_sub(part.first_dts) as u64,
            was.first_pts.wrapping_sub(was.first_dts) as u64,
        );
        put_difference(out, part.duration, was.duration);
        end = u64::from(part.offset) + u64::from(part.len);
    }
    put_difference(out, u64::from(info.body_len), end);
}

/// Unpacks all fragments.
///
/// # Errors
/// When the bytes are not what [`encode`] made, in any way: they come from a disk.
pub fn decode(bytes: &[u8]) -> Result<Vec<Entry>, PackedError> {
    decode_where(bytes, |_| true)
}

/// Unpacks those fragments that `keep` wants; the others cost no allocation.
///
/// # Errors
/// As [`decode`]: all bytes are looked at, whatever is kept.
pub fn decode_where(bytes: &[u8], mut keep: impl FnMut(&Entry) -> bool) -> Result<Vec<Entry>, PackedError> {
    match bytes.first() {
        Some(&VERSION) => {}
        Some(other) => return Err(PackedError::Version(*other)),
        None => return Err(PackedError::Length),
    }
    let Some((content, checksum)) = bytes.split_last_chunk::<CHECKSUM>() else {
        return Err(PackedError::Length);
    };
    if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
        return Err(PackedError::Checksum);
    }
    let mut input = Input { rest: content.get(1..).ok_or(PackedError::Length)? };
    let count = input.varint()?;
    // A lying count must not make us reserve more than the bytes could hold.
    let count = usize::try_from(count).ok().filter(|count| *count <= input.rest.len() / ENTRY_MIN);
    let count = count.ok_or(PackedError::Length)?;
    let mut entries = Vec::with_capacity(count);
    let mut last = Last::default();
    for _ in 0..count {
        last.decode_next(&mut input)?;
        if keep(&last.entry) {
            entries.push(last.entry.clone());
        }
    }
    if input.rest.is_empty() { Ok(entries) } else { Err(PackedError::Length) }
}

/// Epoch, sequence, ordinal, discontinuities, track set: what counts up by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Numbers([u64; 5]);

impl Numbers {
    fn of(info: &FragmentInfo) -> Numbers {
        Numbers([
            u64::from(info.position.epoch.0),
            info.position.sequence.0,
            info.ordinal.0,
            info.discontinuities,
            u64::from(info.track_set.0),
        ])
    }
}

/// The entry before, from which the next is expected.
struct Last {
    entry: Entry,
    /// Bytes between the end of the body before it and its own.
    gap: u64,
    count: usize,
}

impl Default for Last {
    fn default() -> Last {
        let info = FragmentInfo {
            position: Position::default(),
            ordinal: Ordinal(0),
            discontinuities: 0,
            track_set: TrackSetId(0),
            start: StartKind::Dependent,
            break_before: None,
            end_of_session: false,
            damaged: false,
            producer_time: ProducerTime::default(),
            clock_source: ClockSource::Arrival,
            clock_error_us: 0,
            server_time: ServerTime::default(),
            duration_us: 0,
            tracks: Vec::new(),
            body_len: 0,
        };
        Last { entry: Entry { info, body_offset: 0 }, gap: 0, count: 0 }
    }
}

impl Last {
    fn body_end(&self) -> u64 {
        self.entry.body_offset.wrapping_add(u64::from(self.entry.info.body_len))
    }

    /// The numbers of an entry that continues this one.
    fn numbers(&self, breaks: bool) -> Numbers {
        let [epoch, sequence, ordinal, discontinuities, track_set] = Numbers::of(&self.entry.info).0;
        Numbers([
            epoch,
            sequence.wrapping_add(1),
            ordinal.wrapping_add(1),
            discontinuities.wrapping_add(u64::from(breaks)),
            track_set,
        ])
    }

    fn follow(&mut self, entry: &Entry) {
        self.gap = entry.body_offset.wrapping_sub(self.body_end());
        self.entry.clone_from(entry);
        self.count += 1;
    }

    /// Turns this entry into the next one, in place: nothing is allocated but for a new list of tracks.
    fn decode_next(&mut self, input: &mut Input<'_>) -> Result<(), PackedError> {
        let flags = input.byte()?;
        let breaks = flags & BREAK_BEFORE != 0;
        let break_before = if breaks {
            Some(GapReason::from_u8(input.byte()?).ok_or(PackedError::Range("gap reason"))?)
        } else {
            None
        };
        let before = self.entry.info.position;
        let Numbers(mut numbers) = self.numbers(breaks);
        if flags & NUMBERS != 0 {
            for number in &mut numbers {
                *number = input.difference(*number)?;
            }
        }
        let [epoch, sequence, ordinal, discontinuities, track_set] = numbers;
        let body_end = self.body_end();
        let (producer_end, server_end) = (self.entry.info.producer_end(), self.entry.info.server_end());

        let info = &mut self.entry.info;
        info.start = match flags & 3 {
            0 => StartKind::Dependent,
            1 => StartKind::Closed,
            2 => StartKind::Open,
            _ => return Err(PackedError::Range("start kind")),
        };
        info.end_of_session = flags & END_OF_SESSION != 0;
        info.damaged = flags & DAMAGED != 0;
        info.break_before = break_before;
        info.position = Position { epoch: Epoch(narrow(epoch, "epoch")?), sequence: Sequence(sequence) };
        info.ordinal = Ordinal(ordinal);
        info.discontinuities = discontinuities;
        info.track_set = TrackSetId(narrow(track_set, "track set")?);
        if self.count > 0 && info.position <= before {
            return Err(PackedError::Order);
        }
        if flags & CLOCK != 0 {
            info.clock_source = ClockSource::from_u8(input.byte()?).ok_or(PackedError::Range("clock source"))?;
            info.clock_error_us = narrow(input.varint()?, "clock error")?;
        }
        if flags & TRACKS != 0 {
            let count = usize::from(input.byte()?);
            if count > MAX_TRACKS {
                return Err(PackedError::Range("count of tracks"));
            }
            info.tracks.clear();
            for _ in 0..count {
                info.tracks.push(no_part(TrackId(narrow(input.varint()?, "track")?)));
            }
        }
        self.entry.body_offset = input.difference(body_end.wrapping_add(self.gap))?;
        self.gap = self.entry.body_offset.wrapping_sub(body_end);
        info.producer_time = ProducerTime::from_micros(input.difference(producer_end.micros() as u64)? as i64);
        info.server_time = ServerTime::from_micros(input.difference(server_end.micros() as u64)? as i64);
        info.duration_us = input.difference(info.duration_us)?;
        let mut end = 0u64;
        for part in &mut info.tracks {
            part.offset = narrow(input.difference(end)?, "track offset")?;
            part.moof_len = narrow(input.difference(u64::from(part.moof_len))?, "moof length")?;
            part.len = narrow(input.varint()?, "track length")?;
            part.samples = narrow(input.difference(u64::from(part.samples))?, "count of samples")?;
            let delay = part.first_pts.wrapping_sub(part.first_dts) as u64;
            part.first_dts = input.difference((part.first_dts as u64).wrapping_add(part.duration))? as i64;
            part.first_pts = part.first_dts.wrapping_add(input.difference(delay)? as i64);
            part.duration = input.difference(part.duration)?;
            end = u64::from(part.offset) + u64::from(part.len);
        }
        info.body_len = narrow(input.difference(end)?, "body length")?;
        self.count += 1;
        Ok(())
    }
}

fn no_part(track: TrackId) -> FragmentTrack {
    FragmentTrack { track, offset: 0, moof_len: 0, len: 0, samples: 0, first_dts: 0, first_pts: 0, duration: 0 }
}

fn narrow(value: u64, what: &'static str) -> Result<u32, PackedError> {
    u32::try_from(value).map_err(|_| PackedError::Range(what))
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_difference(out: &mut Vec<u8>, value: u64, expected: u64) {
    let difference = value.wrapping_sub(expected) as i64;
    put_varint(out, ((difference << 1) ^ (difference >> 63)) as u64);
}

/// Bytes not yet read.
struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, PackedError> {
        let (byte, rest) = self.rest.split_first().ok_or(PackedError::Length)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn varint(&mut self) -> Result<u64, PackedError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(PackedError::Range("number"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(PackedError::Range("number"))
    }

    fn difference(&mut self, expected: u64) -> Result<u64, PackedError> {
        let coded = self.varint()?;
        let difference = (coded >> 1) ^ (coded & 1).wrapping_neg();
        Ok(expected.wrapping_add(difference))
    }
}

#[cfg(test)]
mod tests;
