//! `moof` and `mdat` of one track's samples.

use super::boxes::{boxed, full_box, put32, put64};
use crate::{FragmentTrack, TrackId};

/// Flags of a sample at which decoding can start (ISO/IEC 14496-12 section 8.8.3.1).
pub(super) const SYNC: u32 = 0x0200_0000;
/// Flags of any other sample.
pub(super) const NOT_SYNC: u32 = 0x0101_0000;

/// default-base-is-moof, default sample duration, default sample flags.
pub(super) const TFHD_FLAGS: u32 = 0x02_0028;
pub(super) const TRUN_DATA_OFFSET: u32 = 0x001;
pub(super) const TRUN_FIRST_FLAGS: u32 = 0x004;
pub(super) const TRUN_DURATION: u32 = 0x100;
pub(super) const TRUN_SIZE: u32 = 0x200;
pub(super) const TRUN_FLAGS: u32 = 0x400;
pub(super) const TRUN_OFFSET: u32 = 0x800;

/// One sample as the writer needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Until the next sample's decode time, in ticks of the track.
    pub duration: u32,
    /// Presentation time minus decode time, in ticks of the track.
    pub offset: u32,
    /// Length of its payload in bytes.
    pub size: u32,
    /// Decoding can start here.
    pub sync: bool,
}

/// A fragment that does not fit the 32-bit lengths of its boxes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("fragment is larger than 4 GiB")]
pub struct TooLarge;

/// Which per-sample fields a `trun` needs.
#[derive(Clone, Copy)]
struct Shape {
    default_duration: u32,
    default_flags: u32,
    flags: u32,
}

impl Shape {
    fn of(entries: &[Entry]) -> Shape {
        let default_duration = entries.first().map_or(0, |first| first.duration);
        let first_sync = entries.first().is_some_and(|first| first.sync);
        let syncs = entries.iter().filter(|entry| entry.sync).count();
        let default_flags = if syncs == entries.len() { SYNC } else { NOT_SYNC };
        let mut flags = TRUN_DATA_OFFSET | TRUN_SIZE;
        if entries.iter().any(|entry| entry.duration != default_duration) {
            flags |= TRUN_DURATION;
        }
        if syncs == entries.len() || syncs == 0 {
            // The default says it all.
        } else if syncs == 1 && first_sync {
            flags |= TRUN_FIRST_FLAGS;
        } else {
            flags |= TRUN_FLAGS;
        }
        if entries.iter().any(|entry| entry.offset != 0) {
            flags |= TRUN_OFFSET;
        }
        Shape { default_duration, default_flags, flags }
    }

    fn moof_len(&self, samples: usize) -> usize {
        let fields = (self.flags & (TRUN_DURATION | TRUN_SIZE | TRUN_FLAGS | TRUN_OFFSET)).count_ones() as usize;
        let first_flags = if self.flags & TRUN_FIRST_FLAGS == 0 { 0 } else { 4 };
        // moof, mfhd, traf, tfhd, tfdt, trun up to its samples.
        8 + 16 + 8 + 24 + 20 + 20 + first_flags + samples * fields * 4
    }
}

/// Length in bytes of the `moof` that [`append`] writes for these samples.
pub fn moof_len(entries: &[Entry]) -> usize {
    Shape::of(entries).moof_len(entries.len())
}

/// Appends one `moof` and one `mdat` with the samples of one track, and says what was written.
///
/// `first_dts` is the first sample's decode time; `payloads` gives the bytes of `entries`, in the same order
/// and of the lengths that these say. Offsets in the answer count from `body_start` in `out`. Nothing is
/// allocated when `out` has the room.
///
/// # Errors
/// When a length does not fit in 32 bits; `out` is unchanged then.
///
/// # Panics
/// When `payloads` are not what `entries` say: our own mistake.
pub fn append<'a>(
    out: &mut Vec<u8>,
    body_start: usize,
    track: TrackId,
    sequence_number: u32,
    first_dts: u64,
    entries: &[Entry],
    payloads: impl Iterator<Item = &'a [u8]>,
) -> Result<FragmentTrack, TooLarge> {
    let shape = Shape::of(entries);
    let moof_len = shape.moof_len(entries.len());
    let payload_len: u64 = entries.iter().map(|entry| u64::from(entry.size)).sum();
    let len = u32::try_from(moof_len as u64 + 8 + payload_len).map_err(|_| TooLarge)?;
    let offset = u32::try_from(out.len() - body_start).map_err(|_| TooLarge)?;
    offset.checked_add(len).ok_or(TooLarge)?;
    let samples = u32::try_from(entries.len()).map_err(|_| TooLarge)?;
    // Both fit since `len` does.
    let (moof_len, mdat_len) = (moof_len as u32, payload_len as u32 + 8);

    let start = out.len();
    boxed(out, b"moof", |out| {
        full_box(out, b"mfhd", 0, 0, |out| put32(out, sequence_number));
        boxed(out, b"traf", |out| {
            full_box(out, b"tfhd", 0, TFHD_FLAGS, |out| {
                put32(out, track.0);
                put32(out, shape.default_duration);
                put32(out, shape.default_flags);
            });
            full_box(out, b"tfdt", 1, 0, |out| put64(out, first_dts));
            full_box(out, b"trun", 0, shape.flags, |out| {
                put32(out, samples);
                put32(out, moof_len + 8);
                if shape.flags & TRUN_FIRST_FLAGS != 0 {
                    put32(out, SYNC);
                }
                for entry in entries {
                    if shape.flags & TRUN_DURATION != 0 {
                        put32(out, entry.duration);
                    }
                    put32(out, entry.size);
                    if shape.flags & TRUN_FLAGS != 0 {
                        put32(out, if entry.sync { SYNC } else { NOT_SYNC });
                    }
                    if shape.flags & TRUN_OFFSET != 0 {
                        put32(out, entry.offset);
                    }
                }
            });
        });
    });
    assert_eq!(out.len() - start, moof_len as usize, "the length that data offsets were made from");
    put32(out, mdat_len);
    out.extend_from_slice(b"mdat");
    for payload in payloads {
        out.extend_from_slice(payload);
    }
    assert_eq!(out.len() - start, len as usize, "payloads are as long as their entries say");

    let first_dts = i64::try_from(first_dts).map_err(|_| TooLarge)?;
    let mut dts = first_dts;
    let mut first_pts = i64::MAX;
    for entry in entries {
        first_pts = first_pts.min(dts + i64::from(entry.offset));
        dts += i64::from(entry.duration);
    }
    Ok(FragmentTrack {
        track,
        offset,
        moof_len,
        len,
        samples,
        first_dts,
        first_pts: if entries.is_empty() { first_dts } else { first_pts },
        duration: (dts - first_dts) as u64,
    })
}
