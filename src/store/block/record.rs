//! The `uuid` header box that stands before every fragment, and alone for gap and clock records.

use media::{
    ClockSource, Epoch, FragmentInfo, FragmentTrack, GapReason, Ordinal, Position, ProducerTime, Sequence, ServerTime,
    StartKind, StreamId, TrackId, TrackSetId,
};
use uuid::Uuid;

/// The extended type of record headers.
pub(crate) const USER_TYPE: [u8; 16] = *b"kinora.recordbox";
/// Version of the layout.
pub(crate) const VERSION: u8 = 1;
/// Length of a header without tracks: no fragment is shorter.
pub(crate) const FIXED_LEN: usize = 162;
/// Length that each track adds.
const TRACK_LEN: usize = 52;
/// The longest header.
pub(crate) const MAX_HEADER: usize = FIXED_LEN + TRACK_LEN * media::track::MAX_TRACKS;
/// The longest body: four times what a fragment of 20 s at 400 Mbit/s has.
pub(crate) const MAX_BODY: u32 = 1 << 30;
/// Where box size, `uuid` and extended type end.
pub(crate) const MAGIC_LEN: usize = 24;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A fragment: its body follows.
    Fragment,
    /// The stream pauses here, for the reason in the header.
    Gap,
    /// Nothing but times and `synced_upto`, after a quiet time.
    Clock,
    /// Reserved (4 part, 5 annotation, 6 session) or of a later version: skipped as a gap.
    Other(u8),
}

impl Kind {
    fn from_u8(value: u8) -> Kind {
        match value {
            1 => Kind::Fragment,
            2 => Kind::Gap,
            3 => Kind::Clock,
            other => Kind::Other(other),
        }
    }

    fn as_u8(self) -> u8 {
        match self {
            Kind::Fragment => 1,
            Kind::Gap => 2,
            Kind::Clock => 3,
            Kind::Other(other) => other,
        }
    }
}

/// A record header. For kinds other than fragment, `info` has times and, for a gap, `break_before`; the rest repeats the
/// fragment before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    pub kind: Kind,
    pub stream: StreamId,
    pub info: FragmentInfo,
    /// Offset in this file known to be on disk when this was written.
    pub synced_upto: u64,
    /// Offset of the record before; 0 when this is the first.
    pub previous: u64,
    /// CRC-32C of the body.
    pub body_crc: u32,
    /// Per track, where in the body its `tfdt` value lies; 0 when there is none.
    pub tfdt_offsets: Vec<u32>,
}

/// Why bytes are not a record header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotRecord {
    /// There is no `uuid` box of ours here.
    Magic,
    /// It ends before it is complete: how many bytes it needs.
    Short(usize),
    /// It says so itself, but is not what was written.
    Damaged,
}

impl Record {
    /// A fragment's header.
    pub(crate) fn fragment(
        stream: StreamId,
        info: FragmentInfo,
        body: &[u8],
        synced_upto: u64,
        previous: u64,
    ) -> Record {
        let tfdt_offsets = info.tracks.iter().map(|part| tfdt_value(body, part).unwrap_or(0)).collect();
        Record {
            kind: Kind::Fragment,
            stream,
            synced_upto,
            previous,
            body_crc: crc32c::crc32c(body),
            tfdt_offsets,
            info,
        }
    }

    /// A gap or clock record after the fragment `last`.
    pub(crate) fn mark(
        kind: Kind,
        stream: StreamId,
        last: &FragmentInfo,
        why: Option<GapReason>,
        now: ServerTime,
        synced_upto: u64,
        previous: u64,
    ) -> Record {
        let info = FragmentInfo {
            break_before: why,
            server_time: now,
            duration_us: 0,
            tracks: Vec::new(),
            body_len: 0,
            end_of_session: false,
            damaged: false,
            ..last.clone()
        };
        Record { kind, stream, info, synced_upto, previous, body_crc: 0, tfdt_offsets: Vec::new() }
    }

    /// Length of its header box.
    pub(crate) fn header_len(&self) -> usize {
        FIXED_LEN + TRACK_LEN * self.info.tracks.len()
    }

    /// Length of header and body.
    pub(crate) fn total_len(&self) -> u64 {
        self.header_len() as u64 + u64::from(self.info.body_len)
    }

    /// The header box.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let len = self.header_len();
        let info = &self.info;
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&u32::try_from(len).expect("at most MAX_HEADER").to_be_bytes());
        out.extend_from_slice(b"uuid");
        out.extend_from_slice(&USER_TYPE);
        out.extend_from_slice(&[
            VERSION,
            self.kind.as_u8(),
            info.start as u8,
            info.break_before.map_or(0, |reason| reason as u8),
            info.clock_source as u8,
            u8::from(info.end_of_session) | (u8::from(info.damaged) << 1),
            u8::try_from(info.tracks.len()).expect("at most MAX_TRACKS"),
            0,
        ]);
        out.extend_from_slice(self.stream.0.as_bytes());
        out.extend_from_slice(&info.position.epoch.0.to_be_bytes());
        out.extend_from_slice(&info.track_set.0.to_be_bytes());
        out.extend_from_slice(&info.position.sequence.0.to_be_bytes());
        out.extend_from_slice(&info.ordinal.0.to_be_bytes());
        out.extend_from_slice(&info.discontinuities.to_be_bytes());
        out.extend_from_slice(&info.producer_time.micros().to_be_bytes());
        out.extend_from_slice(&info.server_time.micros().to_be_bytes());
        out.extend_from_slice(&info.duration_us.to_be_bytes());
        out.extend_from_slice(&info.clock_error_us.to_be_bytes());
        out.extend_from_slice(&self.synced_upto.to_be_bytes());
        out.extend_from_slice(&self.previous.to_be_bytes());
        out.extend_from_slice(&(self.total_len()).to_be_bytes());
        out.extend_from_slice(&info.body_len.to_be_bytes());
        out.extend_from_slice(&self.body_crc.to_be_bytes());
        // Reserved for encryption at rest: key number and record counter.
        out.extend_from_slice(&[0; 16]);
        for (part, tfdt) in info.tracks.iter().zip(self.tfdt_offsets.iter().chain(std::iter::repeat(&0))) {
            for value in [part.track.0, part.offset, part.moof_len, part.len, part.samples, *tfdt] {
                out.extend_from_slice(&value.to_be_bytes());
            }
            out.extend_from_slice(&part.first_dts.to_be_bytes());
            out.extend_from_slice(&part.first_pts.to_be_bytes());
            out.extend_from_slice(&part.duration.to_be_bytes());
            out.extend_from_slice(&[0; 4]);
        }
        out.extend_from_slice(&u16::try_from(len).expect("at most MAX_HEADER").to_be_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        debug_assert_eq!(out.len(), len);
        out
    }

    /// Reads the header at the start of `bytes`. Its CRC is judged before any of its lengths is believed.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Record, NotRecord> {
        let Some(magic) = bytes.get(..MAGIC_LEN) else { return Err(NotRecord::Short(MAGIC_LEN)) };
        if &magic[4..8] != b"uuid" || magic[8..24] != USER_TYPE {
            return Err(NotRecord::Magic);
        }
        let len = u32::from_be_bytes(magic[..4].try_into().expect("four bytes")) as usize;
        if !(FIXED_LEN..=MAX_HEADER).contains(&len) || !(len - FIXED_LEN).is_multiple_of(TRACK_LEN) {
            return Err(NotRecord::Damaged);
        }
        let Some(header) = bytes.get(..len) else { return Err(NotRecord::Short(len)) };
        let (covered, crc) = header.split_at(len - 4);
        if crc32c::crc32c(covered).to_be_bytes() != crc {
            return Err(NotRecord::Damaged);
        }
        let mut fields = Fields(&covered[MAGIC_LEN..]);
        parse(&mut fields, len).ok_or(NotRecord::Damaged)
    }

    /// Reads the header that ends where `bytes` ends.
    pub(crate) fn decode_before(bytes: &[u8]) -> Result<Record, NotRecord> {
        let Some(tail) = bytes.len().checked_sub(6) else { return Err(NotRecord::Short(MAGIC_LEN)) };
        let len = usize::from(u16::from_be_bytes(bytes[tail..tail + 2].try_into().expect("two bytes")));
        let start = bytes.len().checked_sub(len).ok_or(NotRecord::Damaged)?;
        let record = Record::decode(&bytes[start..])?;
        if record.header_len() == len { Ok(record) } else { Err(NotRecord::Damaged) }
    }
}

/// Reads what follows the magic. None when a value is one that we never write.
fn parse(fields: &mut Fields<'_>, len: usize) -> Option<Record> {
    let [version, kind, start, reason, source, flags, tracks, _reserved] = fields.take::<8>()?;
    if version != VERSION || len != FIXED_LEN + TRACK_LEN * usize::from(tracks) {
        return None;
    }
    let stream = StreamId(Uuid::from_bytes(fields.take()?));
    let epoch = Epoch(fields.u32()?);
    let track_set = TrackSetId(fields.u32()?);
    let position = Position { epoch, sequence: Sequence(fields.u64()?) };
    let ordinal = Ordinal(fields.u64()?);
    let discontinuities = fields.u64()?;
    let producer_time = ProducerTime::from_micros(fields.i64()?);
    let server_time = ServerTime::from_micros(fields.i64()?);
    let duration_us = fields.u64()?;
    let clock_error_us = fields.u32()?;
    let synced_upto = fields.u64()?;
    let previous = fields.u64()?;
    let total = fields.u64()?;
    let body_len = fields.u32()?;
    let body_crc = fields.u32()?;
    let _encryption: [u8; 16] = fields.take()?;
    if body_len > MAX_BODY || total != len as u64 + u64::from(body_len) {
        return None;
    }
    let mut parts = Vec::with_capacity(usize::from(tracks));
    let mut tfdt_offsets = Vec::with_capacity(usize::from(tracks));
    for _ in 0..tracks {
        let track = TrackId(fields.u32()?);
        let (offset, moof_len, part_len, samples) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let tfdt = fields.u32()?;
        let (first_dts, first_pts, duration) = (fields.i64()?, fields.i64()?, fields.u64()?);
        let _reserved: [u8; 4] = fields.take()?;
        let inside = offset.checked_add(part_len)? <= body_len && moof_len <= part_len && tfdt <= body_len;
        if !inside {
            return None;
        }
        parts.push(FragmentTrack { track, offset, moof_len, len: part_len, samples, first_dts, first_pts, duration });
        tfdt_offsets.push(tfdt);
    }
    if usize::from(u16::from_be_bytes(fields.take()?)) != len || !fields.0.is_empty() {
        return None;
    }
    let break_before = match reason {
        0 => None,
        reason => Some(GapReason::from_u8(reason)?),
    };
    let info = FragmentInfo {
        position,
        ordinal,
        discontinuities,
        track_set,
        start: StartKind::from_u8(start)?,
        break_before,
        end_of_session: flags & 1 != 0,
        damaged: flags & 2 != 0,
        producer_time,
        clock_source: ClockSource::from_u8(source)?,
        clock_error_us,
        server_time,
        duration_us,
        tracks: parts,
        body_len,
    };
    Some(Record { kind: Kind::from_u8(kind), stream, info, synced_upto, previous, body_crc, tfdt_offsets })
}

/// Big-endian fields, read in order.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }
}

/// Where in `body` the value of the part's `tfdt` (version 1) lies: `moof > traf > tfdt`.
fn tfdt_value(body: &[u8], part: &FragmentTrack) -> Option<u32> {
    let start = part.offset as usize;
    let moof = start..start.checked_add(part.moof_len as usize)?;
    let traf = child(body, moof.start + 8..moof.end, b"traf")?;
    let tfdt = child(body, traf.start + 8..traf.end, b"tfdt")?;
    let version_one = *body.get(tfdt.start + 8)? == 1 && tfdt.len() == 20;
    version_one.then(|| u32::try_from(tfdt.start + 12).ok()).flatten()
}

/// The first box of this type inside `range`.
pub(crate) fn child(bytes: &[u8], range: std::ops::Range<usize>, kind: &[u8; 4]) -> Option<std::ops::Range<usize>> {
    let mut at = range.start;
    while at + 8 <= range.end {
        let head = bytes.get(at..at + 8)?;
        let len = u32::from_be_bytes(head[..4].try_into().expect("four bytes")) as usize;
        if len < 8 || at + len > range.end {
            return None;
        }
        if &head[4..] == kind {
            return Some(at..at + len);
        }
        at += len;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Feed, stream};

    fn sample() -> (Record, Vec<u8>) {
        let mut feed = Feed::new(3);
        feed.break_next = Some(GapReason::DiskFull);
        feed.next();
        let fragment = feed.next();
        let record = Record::fragment(stream(7), fragment.info, &fragment.body, 4000, 3000);
        (record, fragment.body.to_vec())
    }

    #[test]
    fn header_comes_back_from_either_end() {
        let (record, body) = sample();
        let mut bytes = record.encode();
        assert_eq!(bytes.len(), record.header_len());
        assert_eq!(Record::decode_before(&[&[1, 2, 3], &bytes[..]].concat()), Ok(record.clone()));
        bytes.extend_from_slice(&body);
        assert_eq!(bytes.len() as u64, record.total_len());
        assert_eq!(Record::decode(&bytes), Ok(record.clone()));
        let mark = Record::mark(
            Kind::Gap,
            stream(7),
            &record.info,
            Some(GapReason::Overload),
            ServerTime::from_micros(5),
            9,
            8,
        );
        assert_eq!(Record::decode(&mark.encode()), Ok(mark));
    }

    #[test]
    fn tfdt_value_is_where_the_header_says() {
        let (record, body) = sample();
        for (part, at) in record.info.tracks.iter().zip(&record.tfdt_offsets) {
            let value = body[*at as usize..*at as usize + 8].try_into().expect("eight bytes");
            assert_eq!(i64::from_be_bytes(value), part.first_dts);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = sample().0.encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Record::decode(&bytes[..len]).is_err(), "{len} bytes");
            assert!(Record::decode_before(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn kind_of_a_later_version_is_skipped_by_its_length() {
        let mut bytes = sample().0.encode();
        bytes[MAGIC_LEN + 1] = 6;
        let end = bytes.len() - 4;
        let crc = crc32c::crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_be_bytes());
        let record = Record::decode(&bytes).expect("readable");
        assert_eq!((record.kind, record.total_len()), (Kind::Other(6), sample().0.total_len()));
    }

    proptest! {
        #[test]
        fn hostile_bytes_behind_a_right_checksum_never_panic(
            mut bytes in prop::collection::vec(any::<u8>(), FIXED_LEN..MAX_HEADER),
            tracks in 0..9usize,
        ) {
            let len = (FIXED_LEN + TRACK_LEN * tracks).min(MAX_HEADER);
            bytes.resize(len, 1);
            bytes[..4].copy_from_slice(&(len as u32).to_be_bytes());
            bytes[4..8].copy_from_slice(b"uuid");
            bytes[8..24].copy_from_slice(&USER_TYPE);
            bytes[24] = VERSION;
            bytes[30] = tracks as u8;
            let crc = crc32c::crc32c(&bytes[..len - 4]);
            bytes[len - 4..].copy_from_slice(&crc.to_be_bytes());
            let _ = Record::decode(&bytes);
            let _ = crate::block::footer::Footer::decode(&bytes);
        }
    }
}
