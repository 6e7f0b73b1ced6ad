//! Samples of a stored fragment, from bytes that nobody has checked.

use std::ops::Range;

use super::CmafError;
use super::boxes::{Boxes, Found, child, u32_at, u64_at};
use super::write::{TFHD_FLAGS, TRUN_DATA_OFFSET, TRUN_DURATION, TRUN_FIRST_FLAGS, TRUN_FLAGS, TRUN_OFFSET, TRUN_SIZE};
use crate::FragmentTrack;

/// The flag that makes a sample one at which decoding cannot start (`sample_is_non_sync_sample`).
const IS_NOT_SYNC: u32 = 0x0001_0000;

/// One sample of a stored fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Decode time on the stream's timeline, in ticks of the track.
    pub dts: i64,
    /// Presentation time on the stream's timeline, in ticks of the track.
    pub pts: i64,
    /// Until the next sample's decode time, in ticks of the track.
    pub duration: u32,
    /// Decoding can start here.
    pub sync: bool,
    /// Where its bytes lie in what was read.
    pub range: Range<usize>,
}

/// The samples of `part` of a fragment's body, in decode order; their ranges count from the body's start.
///
/// # Errors
/// When the bytes are not what our writer writes, or not what `part` says.
pub fn samples(body: &[u8], part: &FragmentTrack) -> Result<Vec<Sample>, CmafError> {
    let start = part.offset as usize;
    let bytes = start.checked_add(part.len as usize).and_then(|end| body.get(start..end));
    let bytes = bytes.ok_or(CmafError::Length { at: start })?;
    let mut samples = part_samples(bytes)?;
    if samples.len() != part.samples as usize {
        return Err(CmafError::Unknown { name: "trun", what: "not as many samples as the header says" });
    }
    for sample in &mut samples {
        sample.range = sample.range.start + start..sample.range.end + start;
    }
    Ok(samples)
}

/// The samples of one track's `moof` and `mdat`, in decode order; their ranges count from the start of `bytes`.
///
/// # Errors
/// When the bytes are not what our writer writes.
pub fn part_samples(bytes: &[u8]) -> Result<Vec<Sample>, CmafError> {
    let mut boxes = Boxes::new(bytes, 0);
    let moof = expect(&mut boxes, "moof")?;
    let mdat = expect(&mut boxes, "mdat")?;
    read_moof(&moof, mdat.at + (mdat.whole.len() - mdat.content.len())..mdat.at + mdat.whole.len())
}

/// The samples that the `moof` box in `bytes` lists, in decode order, of a part of `part_len` bytes of which the
/// `mdat` is not read: their ranges count from the start of the `moof`.
///
/// # Errors
/// When the bytes are not what our writer writes.
pub fn moof_samples(bytes: &[u8], part_len: u32) -> Result<Vec<Sample>, CmafError> {
    let moof = expect(&mut Boxes::new(bytes, 0), "moof")?;
    read_moof(&moof, moof.whole.len() + 8..(part_len as usize).max(moof.whole.len() + 8))
}

fn read_moof(moof: &Found<'_>, data: Range<usize>) -> Result<Vec<Sample>, CmafError> {
    let traf = child(moof, "traf")?;
    let tfhd = child(&traf, "tfhd")?.content;
    let tfdt = child(&traf, "tfdt")?.content;
    let trun = child(&traf, "trun")?.content;

    let short = |name| CmafError::Unknown { name, what: "too short" };
    if u32_at(tfhd, 0) != Some(TFHD_FLAGS) {
        return Err(CmafError::Unknown { name: "tfhd", what: "flags that we do not write" });
    }
    let default_duration = u32_at(tfhd, 8).ok_or(short("tfhd"))?;
    let default_flags = u32_at(tfhd, 12).ok_or(short("tfhd"))?;

    if u32_at(tfdt, 0) != Some(1 << 24) {
        return Err(CmafError::Unknown { name: "tfdt", what: "version that we do not write" });
    }
    let first_dts = u64_at(tfdt, 4).ok_or(short("tfdt"))?;
    // Half the range, so that no sum below can leave it.
    let mut dts = i64::try_from(first_dts)
        .ok()
        .filter(|dts| *dts < i64::MAX / 2)
        .ok_or(CmafError::Unknown { name: "tfdt", what: "time beyond all reason" })?;

    let flags = u32_at(trun, 0).ok_or(short("trun"))?;
    let known = TRUN_DATA_OFFSET | TRUN_FIRST_FLAGS | TRUN_DURATION | TRUN_SIZE | TRUN_FLAGS | TRUN_OFFSET;
    if flags & !known != 0 || flags & TRUN_DATA_OFFSET == 0 || flags & TRUN_SIZE == 0 {
        return Err(CmafError::Unknown { name: "trun", what: "version or flags that we do not write" });
    }
    let count = u32_at(trun, 4).ok_or(short("trun"))? as usize;
    let data_offset = u32_at(trun, 8).ok_or(short("trun"))? as usize;
    let mut at = 12;
    let mut field = || {
        let value = u32_at(trun, at);
        at += 4;
        value.ok_or(short("trun"))
    };
    let first_flags = if flags & TRUN_FIRST_FLAGS == 0 { None } else { Some(field()?) };
    // Each sample takes at least its size field, so the box bounds the count.
    let mut samples = Vec::with_capacity(count.min(trun.len() / 4));
    let mut start = data_offset;
    if start < data.start {
        return Err(CmafError::Unknown { name: "trun", what: "data before the mdat" });
    }
    for index in 0..count {
        let duration = if flags & TRUN_DURATION == 0 { default_duration } else { field()? };
        let size = field()? as usize;
        let own_flags = if flags & TRUN_FLAGS == 0 { default_flags } else { field()? };
        let offset = if flags & TRUN_OFFSET == 0 { 0 } else { field()? };
        let sample_flags = if index == 0 { first_flags.unwrap_or(own_flags) } else { own_flags };
        let end = start.checked_add(size).filter(|end| *end <= data.end);
        let end = end.ok_or(CmafError::Unknown { name: "trun", what: "samples beyond the mdat" })?;
        samples.push(Sample {
            dts,
            pts: dts + i64::from(offset),
            duration,
            sync: sample_flags & IS_NOT_SYNC == 0,
            range: start..end,
        });
        start = end;
        dts += i64::from(duration);
    }
    Ok(samples)
}

/// Gives the `moof` at the start of `bytes` another first decode time and sequence number: what a clip
/// that starts at zero needs. Samples and payload stay.
///
/// # Errors
/// When the bytes are not what our writer writes; they are unchanged then.
pub fn rebase(bytes: &mut [u8], first_dts: u64, sequence_number: u32) -> Result<(), CmafError> {
    let (mfhd, tfdt) = {
        let moof = expect(&mut Boxes::new(bytes, 0), "moof")?;
        let mfhd = child(&moof, "mfhd")?;
        let traf = child(&moof, "traf")?;
        let tfdt = child(&traf, "tfdt")?;
        if mfhd.whole.len() != 16 || tfdt.whole.len() != 20 {
            return Err(CmafError::Unknown { name: "moof", what: "layout that we do not write" });
        }
        (mfhd.at, tfdt.at)
    };
    bytes[mfhd + 12..mfhd + 16].copy_from_slice(&sequence_number.to_be_bytes());
    bytes[tfdt + 12..tfdt + 20].copy_from_slice(&first_dts.to_be_bytes());
    Ok(())
}

fn expect<'a>(boxes: &mut Boxes<'a>, name: &'static str) -> Result<Found<'a>, CmafError> {
    match boxes.next() {
        Some(Ok(found)) if found.kind == name.as_bytes() => Ok(found),
        Some(Err(error)) => Err(error),
        _ => Err(CmafError::Missing { name }),
    }
}
