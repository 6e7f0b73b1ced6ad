//! Sample tables of a progressive file (section 8.5 to 8.7).

use super::boxes::{self, Fields};
use super::{Mp4Error, Sample};
use crate::TrackId;

/// A table of runs, handed out one sample at a time; after its end the last value goes on.
struct Runs<'a> {
    fields: Fields<'a>,
    entries: usize,
    left: u32,
    value: u32,
}

impl<'a> Runs<'a> {
    /// The table in box `kind`, each entry a count and a value; none when the box is not there.
    fn find(stbl: &'a [u8], kind: &[u8; 4], name: &'static str) -> Result<Option<(u8, Runs<'a>)>, Mp4Error> {
        let Some(body) = boxes::find(stbl, kind)? else { return Ok(None) };
        let mut fields = Fields::new(body, name);
        let version = fields.full()?.0;
        let entries = fields.count(8)?;
        Ok(Some((version, Runs { fields, entries, left: 0, value: 0 })))
    }

    fn next(&mut self) -> Result<u32, Mp4Error> {
        while self.left == 0 && self.entries > 0 {
            self.entries -= 1;
            self.left = self.fields.u32()?;
            self.value = self.fields.u32()?;
        }
        self.left = self.left.saturating_sub(1);
        Ok(self.value)
    }
}

/// The samples of a `stbl`, times in ticks of the media; none when its tables are empty.
pub fn read(id: TrackId, stbl: &[u8], file_len: u64, budget: &mut usize) -> Result<Vec<Sample>, Mp4Error> {
    let Some(stsz) = boxes::find(stbl, b"stsz")? else { return Ok(Vec::new()) };
    let mut sizes = Fields::new(stsz, "stsz");
    sizes.full()?;
    let fixed_size = sizes.u32()?;
    let count = if fixed_size == 0 { sizes.count(4)? } else { sizes.u32()? as usize };
    if count == 0 {
        return Ok(Vec::new());
    }
    *budget = budget.checked_sub(count).ok_or(Mp4Error::TooManySamples)?;
    let (_, mut durations) = Runs::find(stbl, b"stts", "stts")?.ok_or(Mp4Error::Missing("stts"))?;
    let mut offsets = Runs::find(stbl, b"ctts", "ctts")?.map(|(_, runs)| runs);
    let mut syncs = Syncs::find(stbl)?;
    let mut chunks = Chunks::find(stbl)?;
    let mut samples = Vec::with_capacity(count.min(1 << 16));
    let mut dts = 0i64;
    for number in 1..=count as u32 {
        let len = if fixed_size == 0 { sizes.u32()? } else { fixed_size };
        let offset = chunks.place(len)?;
        if offset.checked_add(len.into()).is_none_or(|end| end > file_len) {
            return Err(Mp4Error::Truncated("sample"));
        }
        let duration = durations.next()?;
        // Version 0 says unsigned; writers of version 0 with negative offsets exist, and none with ones above 2^31.
        let later = match &mut offsets {
            Some(offsets) => i64::from(offsets.next()? as i32),
            None => 0,
        };
        let sync = syncs.contains(number)?;
        samples.push(Sample { track: id, dts, pts: dts.saturating_add(later), duration, sync, offset, len });
        dts = dts.saturating_add(duration.into());
    }
    Ok(samples)
}

/// Sync sample numbers in rising order; without the box every sample is one.
struct Syncs<'a> {
    table: Option<(Fields<'a>, usize)>,
    next: u32,
}

impl<'a> Syncs<'a> {
    fn find(stbl: &'a [u8]) -> Result<Syncs<'a>, Mp4Error> {
        let Some(stss) = boxes::find(stbl, b"stss")? else { return Ok(Syncs { table: None, next: 0 }) };
        let mut fields = Fields::new(stss, "stss");
        fields.full()?;
        let count = fields.count(4)?;
        Ok(Syncs { table: Some((fields, count)), next: 0 })
    }

    fn contains(&mut self, number: u32) -> Result<bool, Mp4Error> {
        let Some((fields, left)) = &mut self.table else { return Ok(true) };
        while self.next < number && *left > 0 {
            *left -= 1;
            self.next = fields.u32()?;
        }
        Ok(self.next == number)
    }
}

/// Where chunks start, and how many samples each has.
struct Chunks<'a> {
    runs: Fields<'a>,
    runs_left: usize,
    /// The chunk, counted from 1, at which the next run begins, its samples per chunk and description.
    coming: Option<(u32, u32, u32)>,
    samples_per_chunk: u32,
    offsets: Fields<'a>,
    chunks_left: usize,
    wide: bool,
    chunk: u32,
    at: u64,
    samples_left: u32,
}

impl<'a> Chunks<'a> {
    fn find(stbl: &'a [u8]) -> Result<Chunks<'a>, Mp4Error> {
        let mut runs = Fields::new(boxes::find(stbl, b"stsc")?.ok_or(Mp4Error::Missing("stsc"))?, "stsc");
        runs.full()?;
        let runs_left = runs.count(12)?;
        let (body, wide) = match boxes::find(stbl, b"stco")? {
            Some(body) => (body, false),
            None => (boxes::find(stbl, b"co64")?.ok_or(Mp4Error::Missing("stco"))?, true),
        };
        let mut offsets = Fields::new(body, "stco");
        offsets.full()?;
        let chunks_left = offsets.count(if wide { 8 } else { 4 })?;
        let mut chunks = Chunks {
            runs,
            runs_left,
            coming: None,
            samples_per_chunk: 0,
            offsets,
            chunks_left,
            wide,
            chunk: 0,
            at: 0,
            samples_left: 0,
        };
        chunks.read_run()?;
        Ok(chunks)
    }

    fn read_run(&mut self) -> Result<(), Mp4Error> {
        self.coming = None;
        if self.runs_left > 0 {
            self.runs_left -= 1;
            self.coming = Some((self.runs.u32()?, self.runs.u32()?, self.runs.u32()?));
        }
        Ok(())
    }

    /// The place of the next sample, of `len` bytes.
    fn place(&mut self, len: u32) -> Result<u64, Mp4Error> {
        while self.samples_left == 0 {
            self.chunks_left = self.chunks_left.checked_sub(1).ok_or(Mp4Error::Truncated("stco"))?;
            self.chunk += 1;
            self.at = if self.wide { self.offsets.u64()? } else { self.offsets.u32()?.into() };
            while let Some((first, samples, description)) = self.coming.filter(|(first, ..)| *first <= self.chunk) {
                if description != 1 || first == 0 {
                    return Err(Mp4Error::Malformed("stsc: only one sample description is read"));
                }
                self.samples_per_chunk = samples;
                self.read_run()?;
            }
            self.samples_left = self.samples_per_chunk;
        }
        self.samples_left -= 1;
        let at = self.at;
        self.at = at.checked_add(len.into()).ok_or(Mp4Error::Malformed("stco"))?;
        Ok(at)
    }
}
